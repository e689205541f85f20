//! One turn of a client core: what ties a [`Shard`] to its stream, its sockets and the other cores, in the order that rules S1
//! to S6 ask for (DESIGN section 7). No thread, socket or lock is named here: the server, the simulator, the tests, the benches
//! and the fuzzers run this same code over their own [`Sockets`] and [`Links`]. Mirrors the loops of `NIOServerCnxnFactory`'s
//! selector threads and of `CommitProcessor`.

use std::net::SocketAddr;
use std::ops::Deref;

use super::{CloseHow, Input, Outbox, Shard};
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::tree::Tree;
use crate::types::{ConnId, Now, Zxid};

/// The connections of one core.
pub trait Sockets {
    /// Tells `f` what arrived since the last time, without waiting, and returns how much that was. Bytes of one connection come
    /// in order. What a paused connection sends comes after it is read again.
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) -> usize;
    /// Where bytes for a connection are appended. For one that is gone, a buffer that goes nowhere.
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8>;
    /// Bytes appended that the client's side has not taken.
    fn queued(&self, conn: ConnId) -> usize;
    /// Asks for one [`SocketEvent::Writable`] once everything appended so far is taken.
    fn want_writable(&mut self, conn: ConnId);
    /// Stops reading from a connection, or reads on.
    fn pause(&mut self, conn: ConnId, paused: bool);
    /// Ends a connection: nothing more is told of it.
    fn close(&mut self, conn: ConnId, how: CloseHow);
    /// Begins to send what was appended.
    fn flush(&mut self);
}

/// What a socket did.
#[derive(Debug)]
pub enum SocketEvent<'a> {
    /// A client connected.
    Accepted {
        /// Its number.
        conn: ConnId,
        /// Its address.
        peer: SocketAddr,
    },
    /// A client's bytes.
    Data {
        /// From whom.
        conn: ConnId,
        /// In stream order.
        bytes: &'a [u8],
    },
    /// The client sends no more; it may still read.
    Eof {
        /// Which.
        conn: ConnId,
    },
    /// The connection broke.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// See [`Sockets::want_writable`].
    Writable {
        /// Which.
        conn: ConnId,
    },
}

/// The way to the other cores and threads.
pub trait Links {
    /// The oldest letter that has come and was not taken. Asked only while the tree stands still.
    fn next(&mut self) -> Option<Letter>;
    /// Every answer up to `cursor` is with the sockets: S6. Whoever waits for this shard may go on.
    fn moved_on(&mut self, cursor: Zxid);
    /// Takes all messages for the peer core, in order.
    fn submit(&mut self, messages: &mut Vec<ToPeer>);
    /// A client sent a four-letter word; the argument is stmk's.
    fn word(&mut self, conn: ConnId, word: &'static str, argument: i64);
}

/// What a shard hears from elsewhere.
#[derive(Debug)]
pub enum Letter {
    /// From the peer core, in order.
    Stream(ToShard),
    /// A four-letter word's text.
    WordAnswer {
        /// Who asked.
        conn: ConnId,
        /// What to send.
        text: Vec<u8>,
    },
}

/// A shard with what its turns carry from one to the next.
pub struct ShardTurn {
    shard: Shard,
    out: Outbox,
    /// The zxid of the last turn's answers.
    cursor: Zxid,
    /// The newest zxid that came on the stream.
    streamed: Zxid,
    /// Turns since the invariants were looked at: debug builds only.
    unchecked: usize,
}

impl ShardTurn {
    /// Around a shard that has done nothing yet.
    pub fn new(shard: Shard) -> ShardTurn {
        ShardTurn { shard, out: Outbox::default(), cursor: Zxid::NONE, streamed: Zxid::NONE, unchecked: 0 }
    }

    /// One turn. `tree` keeps the tree still for as long as it lives: it is taken before the first letter is, so that nothing is
    /// read that the stream did not tell of, and let go once the cursor has moved.
    ///
    /// Returns whether there was work or there is some that no socket, letter or clock will announce: then the next turn must
    /// not be waited for.
    pub fn turn<T: Deref<Target = Tree>>(
        &mut self,
        now: Now,
        tree: T,
        sockets: &mut impl Sockets,
        links: &mut impl Links,
    ) -> bool {
        let target = tree.last_zxid();
        assert!(target >= self.cursor, "the tree fell from {} to {target}", self.cursor);
        let letters = self.drain(now, &tree, links);
        self.shard.handle(now, Input::Drained, &tree, &mut self.out);
        let events = self.hear_sockets(now, &tree, sockets);
        if self.shard.deadline().is_some_and(|at| at <= now.mono_ms) {
            self.shard.handle(now, Input::Tick, &tree, &mut self.out);
        }
        self.send(now, &tree, sockets);
        self.end(now, &tree, sockets);
        debug_assert_eq!(tree.last_zxid(), target, "the tree moved inside a turn");
        // Before the tree is let go: the writer that takes it next sees how far this shard is.
        self.cursor = target;
        links.moved_on(target);
        drop(tree);
        self.hand_over(sockets, links);
        self.check_now_and_then();
        letters || events > 0 || self.shard.has_ready()
    }

    /// S3: everything the tree shows was put on the stream before the writer let go of it (W2).
    fn drain(&mut self, now: Now, tree: &Tree, links: &mut impl Links) -> bool {
        let mut any = false;
        while let Some(letter) = links.next() {
            any = true;
            match letter {
                Letter::Stream(message) => {
                    if let ToShard::Applied(entry) = &message {
                        assert!(entry.zxid > self.streamed, "{} comes behind {}", entry.zxid, self.streamed);
                        assert!(entry.zxid > self.cursor, "{} comes to a shard at {}", entry.zxid, self.cursor);
                        assert!(entry.zxid <= tree.last_zxid(), "{} is told before it is applied", entry.zxid);
                        self.streamed = entry.zxid;
                    }
                    self.shard.handle(now, Input::Stream(message), tree, &mut self.out);
                }
                Letter::WordAnswer { conn, text } => {
                    self.shard.handle(now, Input::WordAnswer { conn, text: &text }, tree, &mut self.out);
                }
            }
        }
        any
    }

    fn hear_sockets(&mut self, now: Now, tree: &Tree, sockets: &mut impl Sockets) -> usize {
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
        })
    }

    /// Hands what was answered to the sockets; a client that does not read is answered no more until it does.
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
        assert!(out.dirty.is_empty(), "a backlog was answered");
        out.dirty = dirty;
    }

    /// Ends the connections that the shard is done with, behind what it had to say to them.
    fn end(&mut self, now: Now, tree: &Tree, sockets: &mut impl Sockets) {
        let ShardTurn { shard, out, .. } = self;
        let mut close = std::mem::take(&mut out.close);
        for (conn, how) in close.drain(..) {
            sockets.close(conn, how);
            shard.handle(now, Input::Disconnected { conn }, tree, out);
        }
        assert!(out.close.is_empty() && out.dirty.is_empty(), "an ended connection was answered");
        out.close = close;
    }

    /// What needs no tree.
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
            assert!(self.out.to_peer.is_empty(), "a message for the peer core was left");
        }
    }

    /// In debug builds, looks at the invariants so often that this costs as much as the turns themselves, not more.
    fn check_now_and_then(&mut self) {
        if cfg!(debug_assertions) {
            self.unchecked += 1;
            if self.unchecked * 64 > self.shard.weight() {
                self.unchecked = 0;
                self.check();
            }
        }
    }

    /// Its invariants, between turns.
    pub fn check(&self) {
        assert!(self.streamed <= self.cursor, "{} was told to a shard at {}", self.streamed, self.cursor);
        let Outbox { dirty, to_peer, close, pause, words } = &self.out;
        assert!(dirty.is_empty() && to_peer.is_empty() && close.is_empty() && pause.is_empty() && words.is_empty());
        self.shard.check();
    }

    /// The shard, to look at.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard, for what is no step of its: resets of its statistics.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The zxid that the last turn answered at.
    pub fn cursor(&self) -> Zxid {
        self.cursor
    }

    /// When a turn is wanted for the clock's sake, on the monotonic clock, milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        self.shard.deadline()
    }
}
