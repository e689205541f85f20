//! One turn of a client core: connects a [`Shard`] with its stream, its sockets and the other cores, in the order that
//! rules S1 to S6 require (`src/ORDERING.md`). It uses no threads, sockets or locks itself: the server, the simulator,
//! the tests, the benches and the fuzzers run this same code with their own [`Sockets`] and [`Links`]. Mirrors the
//! loops of `NIOServerCnxnFactory`'s selector threads and of `CommitProcessor`.

use std::net::SocketAddr;
use std::ops::Deref;

use super::{CloseHow, Input, Outbox, Shard};
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::tree::Tree;
use crate::types::{ConnId, Now, Zxid};

/// The connections of one core.
pub trait Sockets {
    /// Passes everything that arrived since the last call to `f`, without waiting. Bytes of one connection come in order.
    /// What a paused connection sends comes after it is resumed.
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>));
    /// The buffer to which bytes for a connection are appended. If the connection is gone, a buffer that is discarded.
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8>;
    /// Number of appended bytes that the operating system has not taken.
    fn queued(&self, conn: ConnId) -> usize;
    /// Asks for one [`SocketEvent::Writable`] when everything appended so far was taken.
    fn want_writable(&mut self, conn: ConnId);
    /// Stops reading from a connection (`true`) or resumes it (`false`).
    fn pause(&mut self, conn: ConnId, paused: bool);
    /// Closes a connection; no further events come for it.
    fn close(&mut self, conn: ConnId, how: CloseHow);
    /// Starts sending what was appended.
    fn flush(&mut self);
}

/// An event of a socket.
#[derive(Debug)]
pub enum SocketEvent<'a> {
    /// A client connected.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// The client's address.
        peer: SocketAddr,
    },
    /// Bytes from a client.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes, in stream order.
        bytes: &'a [u8],
    },
    /// The client has closed its sending side; it may still read.
    Eof {
        /// The connection.
        conn: ConnId,
    },
    /// The connection broke.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The answer to [`Sockets::want_writable`].
    Writable {
        /// The connection.
        conn: ConnId,
    },
}

/// How a shard reaches the other cores and threads.
pub trait Links {
    /// Takes the oldest message that has arrived. Only called while the tree cannot change.
    fn next(&mut self) -> Option<Letter>;
    /// Rule S6: every reply up to `cursor` was passed to the sockets. A peer core that waits for this shard may
    /// continue.
    fn moved_on(&mut self, cursor: Zxid);
    /// Takes all messages for the peer core, in order.
    fn submit(&mut self, messages: &mut Vec<ToPeer>);
    /// A client sent a four-letter word; the argument is that of stmk.
    fn word(&mut self, conn: ConnId, word: &'static str, argument: i64);
}

/// A message to a shard.
#[derive(Debug)]
pub enum Letter {
    /// A message of the peer core; they keep their order.
    Stream(ToShard),
    /// The answer to a four-letter word.
    WordAnswer {
        /// The connection that sent the word.
        conn: ConnId,
        /// The answer.
        text: Vec<u8>,
    },
}

/// A shard and the state that lasts from one turn to the next.
pub struct ShardTurn {
    shard: Shard,
    out: Outbox,
    /// The zxid as of which the last turn answered.
    cursor: Zxid,
    /// The newest zxid that came on the stream.
    streamed: Zxid,
    /// Turns since the invariants were last checked; only in debug builds.
    unchecked: usize,
}

impl ShardTurn {
    /// A new shard that has made no turn yet.
    pub fn new(shard: Shard) -> ShardTurn {
        assert_eq!(shard.weight(), 0, "a shard that has done something already");
        ShardTurn { shard, out: Outbox::default(), cursor: Zxid::NONE, streamed: Zxid::NONE, unchecked: 0 }
    }

    /// Runs one turn. While `tree` lives, the tree cannot change. It must be taken before the first message is, so that
    /// no read sees a transaction that is not on the stream yet, and it is released after the cursor has moved.
    ///
    /// Returns whether there is work left that no socket, message or timer will announce. Then the next turn must follow
    /// without sleeping.
    pub fn turn<T: Deref<Target = Tree>>(
        &mut self,
        now: Now,
        tree: T,
        sockets: &mut impl Sockets,
        links: &mut impl Links,
    ) -> bool {
        let target = tree.last_zxid();
        if self.shard.is_suspended() {
            // It has no clients, and everything on the stream was taken before the tree was replaced.
            (self.cursor, self.streamed) = (self.cursor.min(target), self.streamed.min(target));
        }
        assert!(target >= self.cursor, "the tree fell from {} to {target}", self.cursor);
        self.drain(now, &tree, links);
        self.shard.handle(now, Input::Drained, &tree, &mut self.out);
        self.hear_sockets(now, &tree, sockets);
        if self.shard.deadline().is_some_and(|at| at <= now.mono_ms) {
            self.shard.handle(now, Input::Tick, &tree, &mut self.out);
        }
        self.send(now, &tree, sockets);
        self.end(now, &tree, sockets);
        assert_eq!(tree.last_zxid(), target, "the tree changed during a turn");
        assert!(self.streamed <= target, "{} was told of, {target} is what is answered at", self.streamed);
        // Moved before the tree is released, so that the peer core, which locks it next, sees how far this shard is.
        self.cursor = target;
        links.moved_on(target);
        drop(tree);
        self.hand_over(sockets, links);
        self.check_now_and_then();
        self.shard.has_ready()
    }

    /// S3: everything the tree shows was put on the stream before the writer let go of it (W2).
    fn drain(&mut self, now: Now, tree: &Tree, links: &mut impl Links) {
        while let Some(letter) = links.next() {
            match letter {
                Letter::Stream(message) => {
                    if let ToShard::Applied(entry) = &message {
                        assert!(entry.zxid > self.streamed, "{} comes after {}", entry.zxid, self.streamed);
                        assert!(entry.zxid > self.cursor, "{} comes to a shard that is at {}", entry.zxid, self.cursor);
                        assert!(entry.zxid <= tree.last_zxid(), "{} came before it was applied", entry.zxid);
                        self.streamed = entry.zxid;
                    }
                    if let ToShard::Synced { zxid, .. } | ToShard::Closed { zxid, .. } = message {
                        assert!(zxid >= self.streamed, "something is done at {zxid}, {} was told of", self.streamed);
                        assert!(zxid <= tree.last_zxid(), "something was done at {zxid} before it was applied");
                    }
                    self.shard.handle(now, Input::Stream(message), tree, &mut self.out);
                }
                Letter::WordAnswer { conn, text } => {
                    self.shard.handle(now, Input::WordAnswer { conn, text }, tree, &mut self.out);
                }
            }
        }
    }

    fn hear_sockets(&mut self, now: Now, tree: &Tree, sockets: &mut impl Sockets) {
        let ShardTurn { shard, out, .. } = self;
        sockets.reap(&mut |event| {
            let input = match event {
                SocketEvent::Data { conn, bytes } => Input::Data { conn, bytes },
                SocketEvent::Accepted { conn, peer } => Input::Accepted { conn, peer },
                SocketEvent::Eof { conn } => Input::Eof { conn },
                SocketEvent::Closed { conn } => Input::Disconnected { conn },
                SocketEvent::Writable { conn } => Input::Backlog { conn, bytes: 0 },
            };
            shard.handle(now, input, tree, out);
        });
    }

    /// Passes the replies to the sockets. A client that does not read gets no further replies until it does.
    fn send(&mut self, now: Now, tree: &Tree, sockets: &mut impl Sockets) {
        let ShardTurn { shard, out, .. } = self;
        let mut dirty = std::mem::take(&mut out.dirty);
        for conn in dirty.drain(..) {
            shard.take_output(conn, sockets.out(conn));
            let queued = sockets.queued(conn);
            if queued > shard.options().bounds.out_high_water {
                sockets.want_writable(conn);
                shard.handle(now, Input::Backlog { conn, bytes: queued }, tree, out);
            }
        }
        assert!(out.dirty.is_empty(), "a report of a backlog caused a reply");
        out.dirty = dirty;
    }

    /// Closes the connections that the shard has finished with, after the bytes that are still for them.
    fn end(&mut self, now: Now, tree: &Tree, sockets: &mut impl Sockets) {
        let ShardTurn { shard, out, .. } = self;
        let mut close = std::mem::take(&mut out.close);
        for (conn, how) in close.drain(..) {
            sockets.close(conn, how);
            shard.handle(now, Input::Disconnected { conn }, tree, out);
        }
        assert!(out.close.is_empty() && out.dirty.is_empty(), "the end of a connection caused a reply or another end");
        out.close = close;
    }

    /// The part of a turn that does not need the tree.
    fn hand_over(&mut self, sockets: &mut impl Sockets, links: &mut impl Links) {
        sockets.flush();
        for (conn, paused) in self.out.pause.drain(..) {
            sockets.pause(conn, paused);
        }
        for (conn, word, argument) in self.out.words.drain(..) {
            links.word(conn, word, argument);
        }
        if !self.out.to_peer.is_empty() {
            links.submit(&mut self.out.to_peer);
            assert!(self.out.to_peer.is_empty(), "a message for the peer core was not taken");
        }
    }

    /// In debug builds, checks the invariants from time to time: often enough to cost about as much as the turns
    /// themselves.
    fn check_now_and_then(&mut self) {
        self.shard.check_counts();
        if cfg!(debug_assertions) {
            self.unchecked += 1;
            if self.unchecked * 64 > self.shard.weight() {
                self.unchecked = 0;
                self.check();
            }
        }
    }

    /// Checks the invariants; to be called between turns.
    pub fn check(&self) {
        assert!(self.streamed <= self.cursor, "{} was sent to a shard that is at {}", self.streamed, self.cursor);
        let Outbox { dirty, to_peer, close, pause, words } = &self.out;
        assert!(dirty.is_empty() && close.is_empty(), "a turn left {dirty:?} to be sent and {close:?} to be ended");
        assert!(to_peer.is_empty(), "a turn left {} messages for the peer core", to_peer.len());
        assert!(pause.is_empty() && words.is_empty(), "a turn left {pause:?} and {words:?}");
        self.shard.check();
    }

    /// The shard, for reading its state.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard, for changes that are not part of a turn: resets of its statistics.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The zxid as of which the last turn answered.
    pub fn cursor(&self) -> Zxid {
        self.cursor
    }

    /// When a turn is needed because of a timer, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        self.shard.deadline()
    }
}
