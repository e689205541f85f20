//! What a member's turns run on: a tree for a single thread, and sockets and mailboxes in memory. Each writes what
//! happens to the journal.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use zabra::peer::apply::Cursors;
use zabra::peer::turn::{Streams, TreeAccess};
use zabra::peer::{self, Append, SnapshotAnswer, SnapshotPart};
use zabra::pipeline::messages::{ToPeer, ToShard};
use zabra::shard::turn::{Letter, SocketEvent, Sockets};
use zabra::shard::{self, CloseHow};
use zabra::tree::Tree;
use zabra::txnlog::log::Batch;
use zabra::types::{ConnId, Origin, ShardId, Zxid};
use zabra::watch::Interest;

use super::journal::Journal;
use super::show;

/// The names of connections.
pub type Names = std::collections::BTreeMap<ConnId, String>;

fn name(names: &Names, conn: ConnId) -> String {
    names.get(&conn).cloned().unwrap_or_else(|| format!("connection {conn}"))
}

/// The tree, and the cores' coordination about it.
pub struct SharedTree {
    pub tree: RefCell<Tree>,
    pub cursors: Vec<Cell<Zxid>>,
    pub interest: Arc<Interest>,
    pub journal: Journal,
}

/// A lock guard that writes to the journal when it is dropped.
pub struct Held<G> {
    guard: G,
    who: String,
    journal: Journal,
}

impl<G> Held<G> {
    fn new(guard: G, who: String, how: &str, journal: &Journal) -> Held<G> {
        journal.step(|| format!("{who} takes the tree to {how}"));
        Held { guard, who, journal: journal.clone() }
    }
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {
        self.journal.step(|| format!("{} lets the tree go", self.who));
    }
}

impl<G: Deref<Target = Tree>> Deref for Held<G> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.guard
    }
}

impl<G: DerefMut<Target = Tree>> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut Tree {
        &mut self.guard
    }
}

impl SharedTree {
    /// For a shard's turn.
    pub fn hold(&self, shard: usize) -> impl Deref<Target = Tree> + '_ {
        Held::new(self.tree.borrow(), format!("shard {shard}"), "read", &self.journal)
    }
}

impl Cursors for SharedTree {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.cursors[shard.index()].get()
    }
}

impl TreeAccess for SharedTree {
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.borrow()
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        Held::new(self.tree.borrow_mut(), "peer".into(), "write", &self.journal)
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn peer_waits(&self, waits: bool) -> bool {
        if waits {
            self.journal.say("peer waits for a shard".into());
        }
        false
    }
}

/// What happened to a connection since its shard's last turn.
pub enum Arrival {
    Accepted(ConnId),
    Bytes(ConnId, Vec<u8>),
    Eof(ConnId),
    Gone(ConnId),
}

/// A shard's connections.
pub struct Wires<'a> {
    pub arrivals: Vec<Arrival>,
    /// Bytes for clients, in order.
    pub sent: Vec<(ConnId, Vec<u8>)>,
    pub names: &'a Names,
    pub journal: Journal,
}

impl Sockets for Wires<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) {
        self.journal.step(|| format!("sockets bring {}", self.arrivals.len()));
        for arrival in &self.arrivals {
            f(match arrival {
                Arrival::Accepted(conn) => SocketEvent::Accepted { conn: *conn, peer: ([10, 0, 0, 1], 5000).into() },
                Arrival::Bytes(conn, bytes) => SocketEvent::Data { conn: *conn, bytes },
                Arrival::Eof(conn) => SocketEvent::Eof { conn: *conn },
                Arrival::Gone(conn) => SocketEvent::Closed { conn: *conn },
            });
        }
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.journal.sent(self.sent.len());
        self.sent.push((conn, Vec::new()));
        &mut self.sent.last_mut().expect("one was pushed").1
    }

    /// Clients read at once.
    fn queued(&self, _: ConnId) -> usize {
        0
    }

    fn want_writable(&mut self, conn: ConnId) {
        panic!("{} has nothing queued", name(self.names, conn));
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        let how = if paused { "is not read any more" } else { "is read again" };
        self.journal.say(format!("{} {how}", name(self.names, conn)));
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let how = match how {
            CloseHow::Flush => "closed",
            CloseHow::Abort => "reset",
        };
        self.journal.say(format!("{} is {how}", name(self.names, conn)));
    }

    fn flush(&mut self) {
        self.journal.step(|| "sockets are flushed".into());
    }
}

/// How a shard reaches the other cores.
pub struct ShardLinks<'a> {
    pub number: usize,
    pub stream: &'a mut VecDeque<ToShard>,
    pub tree: &'a SharedTree,
    pub to_peer: &'a mut VecDeque<ToPeer>,
    pub names: &'a Names,
}

impl shard::turn::Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        let message = self.stream.pop_front()?;
        self.tree.journal.step(|| match &message {
            ToShard::Applied(entry) => format!("shard {} hears of {}", self.number, show::zxid(entry.zxid)),
            other => format!("shard {} hears {other:?}", self.number),
        });
        Some(Letter::Stream(message))
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.tree.journal.step(|| format!("shard {} has its cursor at {}", self.number, show::zxid(cursor)));
        self.tree.cursors[self.number].set(cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        for message in messages.drain(..) {
            if let ToPeer::Touch { session, heard_ms } = &message {
                self.tree
                    .journal
                    .step(|| format!("shard {} -> peer: session {session} was heard of at {heard_ms}", self.number));
                self.to_peer.push_back(message);
                continue;
            }
            let said = match &message {
                ToPeer::Write { request, behind_read, .. } => {
                    let Origin::Local { conn, .. } = request.origin else { panic!("{request:?} of no client") };
                    let behind = if *behind_read { ", behind a read" } else { "" };
                    let what = show::write(request);
                    format!("request {} of {}: {what}{behind}", request.cxid.0, name(self.names, conn))
                }
                ToPeer::NewSession { conn, timeout_ms, .. } => {
                    format!("a session of {timeout_ms} ms for {}", name(self.names, *conn))
                }
                ToPeer::Resume { conn, session, timeout_ms, passwd_matches, .. } => {
                    let passwd = if *passwd_matches { "" } else { ", wrong password" };
                    format!("session {session} with {timeout_ms} ms for {}{passwd}", name(self.names, *conn))
                }
                ToPeer::Touch { .. } => continue,
            };
            self.tree.journal.say(format!("shard {} -> peer: {said}", self.number));
            self.to_peer.push_back(message);
        }
    }

    fn word(&mut self, conn: ConnId, word: &'static str, _: i64) {
        panic!("{} sent the word {word}", name(self.names, conn));
    }
}

/// How the peer core reaches all others.
pub struct PeerLinks<'a> {
    /// Events of the log and of the writer of snapshots.
    pub events: &'a mut VecDeque<peer::Input>,
    pub to_peer: &'a mut VecDeque<ToPeer>,
    pub streams: &'a mut Vec<VecDeque<ToShard>>,
    pub log: &'a mut VecDeque<Batch>,
    pub parts: &'a mut VecDeque<SnapshotPart>,
    pub names: &'a Names,
    pub journal: Journal,
    /// Streams that were sent something since the shards were last woken.
    pub rung: Vec<bool>,
}

impl peer::turn::Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<peer::Input> {
        self.events.pop_front().or_else(|| self.to_peer.pop_front().map(peer::Input::FromShard))
    }

    fn append(&mut self, appends: &mut Vec<Append>) {
        let mut batch = Batch::default();
        for append in appends.drain(..) {
            self.journal.say(format!("peer -> log: {}", show::append(&append)));
            batch.push(append.zxid, &append.payload);
        }
        self.log.push_back(batch);
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        self.journal.say(format!("peer -> snapshot: {}", show::part(&part)));
        self.parts.push_back(part);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        let what = match answer.result {
            Ok(zxid) => format!("a snapshot as of {} is durable", show::zxid(zxid)),
            Err(why) => why.to_string(),
        };
        self.journal.say(format!("peer -> who asked as {}: {what}", answer.ticket.0));
    }
}

impl Streams for PeerLinks<'_> {
    fn has_room(&self, high_water: usize) -> bool {
        let full = self.streams.iter().position(|stream| stream.len() >= high_water);
        if let Some(shard) = full {
            self.journal.say(format!("the stream of shard {shard} is full"));
        }
        full.is_none()
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        let said = match &message {
            ToShard::Applied(entry) => show::entry(entry, |conn| name(self.names, conn)),
            ToShard::Resumed { conn, session: Some((session, timeout_ms)) } => {
                format!("{} has session {session} with {timeout_ms} ms", name(self.names, *conn))
            }
            ToShard::Resumed { conn, session: None } => format!("{} may not have its session", name(self.names, *conn)),
            ToShard::Close { conn } => format!("close {}", name(self.names, *conn)),
        };
        self.journal.say(format!("peer -> shard {}: {said}", shard.0));
        self.streams[shard.index()].push_back(message);
        self.rung[shard.index()] = true;
    }

    fn ring(&mut self) {
        for (shard, rung) in self.rung.iter_mut().enumerate() {
            if std::mem::take(rung) {
                self.journal.step(|| format!("shard {shard} is woken"));
            }
        }
    }
}
