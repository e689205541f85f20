//! What a member's turns run on: `oracle::memory`, with everything that goes through it written to the journal.

use std::ops::{Deref, DerefMut};

use zabra::oracle::memory::{self, Mail, MemorySockets, MemoryTree};
use zabra::peer::apply::Cursors;
use zabra::peer::disk::DiskRequest;
use zabra::peer::feed::FeedWant;
use zabra::peer::net::NetWant;
use zabra::peer::turn::{Streams, TreeAccess};
use zabra::peer::{self, Append, SnapshotAnswer, SnapshotPart};
use zabra::pipeline::messages::{ToPeer, ToShard};
use zabra::shard::turn::{Letter, SocketEvent, Sockets};
use zabra::shard::{self, CloseHow};
use zabra::tree::Tree;
use zabra::types::{ConnId, Origin, ShardId, Term, Zxid};
use zabra::watch::Interest;

use super::journal::Journal;
use super::show;

/// The names of connections.
pub type Names = std::collections::BTreeMap<ConnId, String>;

fn name(names: &Names, conn: ConnId) -> String {
    names.get(&conn).cloned().unwrap_or_else(|| format!("connection {conn}"))
}

/// The tree, and the cores' coordination about it.
pub struct TracedTree {
    pub tree: MemoryTree,
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

impl TracedTree {
    /// For a shard's turn.
    pub fn hold(&self, shard: ShardId) -> impl Deref<Target = Tree> + '_ {
        Held::new(self.tree.read(), format!("shard {}", shard.0), "read", &self.journal)
    }
}

impl Cursors for TracedTree {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.tree.cursor(shard)
    }
}

impl TreeAccess for TracedTree {
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.read()
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        Held::new(self.tree.write(), "peer".into(), "write", &self.journal)
    }

    fn interest(&self) -> &Interest {
        self.tree.interest()
    }

    fn peer_waits(&self, waits: bool) -> bool {
        if waits {
            self.journal.say("peer waits for a shard".into());
        }
        self.tree.peer_waits(waits)
    }
}

/// A shard's connections.
pub struct TracedSockets<'a> {
    pub sockets: &'a mut MemorySockets,
    pub names: &'a Names,
    pub journal: Journal,
}

impl Sockets for TracedSockets<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) {
        let mut count = 0;
        self.sockets.reap(&mut |event| {
            count += 1;
            f(event);
        });
        self.journal.step(|| format!("sockets bring {count}"));
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.journal.sent(conn);
        self.sockets.out(conn)
    }

    fn queued(&self, conn: ConnId) -> usize {
        self.sockets.queued(conn)
    }

    fn want_writable(&mut self, conn: ConnId) {
        self.journal.say(format!("{} has much to read", name(self.names, conn)));
        self.sockets.want_writable(conn);
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        let how = if paused { "is not read any more" } else { "is read again" };
        self.journal.say(format!("{} {how}", name(self.names, conn)));
        self.sockets.pause(conn, paused);
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let said = match how {
            CloseHow::Flush => "closed",
            CloseHow::Abort => "reset",
        };
        self.journal.say(format!("{} is {said}", name(self.names, conn)));
        self.sockets.close(conn, how);
    }

    fn flush(&mut self) {
        self.journal.step(|| "sockets are flushed".into());
        self.sockets.flush();
    }
}

/// How a shard reaches the other cores.
pub struct TracedLinks<'a> {
    pub number: ShardId,
    pub links: memory::ShardLinks<'a>,
    pub names: &'a Names,
    pub journal: Journal,
}

impl shard::turn::Links for TracedLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        let letter = self.links.next()?;
        self.journal.step(|| match &letter {
            Letter::Stream(ToShard::Applied(entry)) => {
                format!("shard {} hears of {}", self.number.0, show::zxid(entry.zxid))
            }
            other => format!("shard {} hears {other:?}", self.number.0),
        });
        Some(letter)
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.journal.step(|| format!("shard {} has its cursor at {}", self.number.0, show::zxid(cursor)));
        self.links.moved_on(cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        for message in messages.iter() {
            let shard = self.number.0;
            let said = match message {
                ToPeer::Write { request, behind_read, .. } => {
                    let Origin::Local { conn, .. } = request.origin else { panic!("{request:?} of no client") };
                    let behind = if *behind_read { ", behind a read" } else { "" };
                    let what = show::write(request);
                    format!("request {} of {}: {what}{behind}", request.cxid.0, name(self.names, conn))
                }
                ToPeer::Sync(request) => {
                    let Origin::Local { conn, .. } = request.origin else { panic!("{request:?} of no client") };
                    format!("sync {} of {}", request.cxid.0, name(self.names, conn))
                }
                ToPeer::NewSession { conn, timeout_ms, .. } => {
                    format!("a session of {timeout_ms} ms for {}", name(self.names, *conn))
                }
                ToPeer::Resume { conn, session, timeout_ms, passwd_matches, .. } => {
                    let passwd = if *passwd_matches { "" } else { ", wrong password" };
                    format!("session {session} with {timeout_ms} ms for {}{passwd}", name(self.names, *conn))
                }
                ToPeer::Touch { session, heard_ms } => {
                    self.journal
                        .step(|| format!("shard {shard} -> peer: session {session} was heard of at {heard_ms}"));
                    continue;
                }
                ToPeer::Suspended { .. } => "its clients are disconnected".into(),
            };
            self.journal.say(format!("shard {shard} -> peer: {said}"));
        }
        self.links.submit(messages);
    }

    fn word(&mut self, conn: ConnId, word: &'static str, argument: i64) {
        self.journal.say(format!("shard {} -> admin: the word {word} of {}", self.number.0, name(self.names, conn)));
        self.links.word(conn, word, argument);
    }
}

/// How the peer core reaches all others.
pub struct TracedMail<'a> {
    pub mail: &'a mut Mail,
    pub names: &'a Names,
    pub journal: Journal,
    /// Streams that were sent something since the shards were last woken.
    pub rung: Vec<bool>,
}

impl peer::turn::Links for TracedMail<'_> {
    fn next(&mut self) -> Option<peer::Input> {
        self.mail.next()
    }

    fn append(&mut self, term: Term, appends: &mut Vec<Append>) {
        for append in appends.iter() {
            self.journal.say(format!("peer -> log: {}", show::append(append)));
        }
        self.mail.append(term, appends);
    }

    fn disk(&mut self, request: DiskRequest) {
        self.journal.say(format!("peer -> disk: {:?}", request.job));
        self.mail.disk(request);
    }

    fn net(&mut self, want: NetWant) {
        self.journal.say(format!("peer -> net: {want:?}"));
        self.mail.net(want);
    }

    fn feed(&mut self, want: FeedWant) {
        self.journal.say(format!("peer -> feeder: {want:?}"));
        self.mail.feed(want);
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        self.journal.say(format!("peer -> snapshot: {}", show::part(&part)));
        self.mail.snapshot(part);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        let what = match answer.result {
            Ok(zxid) => format!("a snapshot as of {} is durable", show::zxid(zxid)),
            Err(why) => why.to_string(),
        };
        self.journal.say(format!("peer -> who asked as {}: {what}", answer.ticket.0));
        self.mail.snapshot_answer(answer);
    }
}

impl Streams for TracedMail<'_> {
    fn has_room(&self, high_water: usize) -> bool {
        let has_room = self.mail.has_room(high_water);
        if !has_room {
            let full = self.mail.shards.iter().position(|shard| shard.letters.len() >= high_water);
            self.journal.say(format!("the stream of shard {} is full", full.expect("one is full")));
        }
        has_room
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        let said = match &message {
            ToShard::Applied(entry) => show::entry(entry, |conn| name(self.names, conn)),
            ToShard::Resumed { conn, session: Some((session, timeout_ms)) } => {
                format!("{} has session {session} with {timeout_ms} ms", name(self.names, *conn))
            }
            ToShard::Resumed { conn, session: None } => format!("{} may not have its session", name(self.names, *conn)),
            ToShard::Close { conn } => format!("close {}", name(self.names, *conn)),
            ToShard::Suspend => "disconnect all clients".into(),
            ToShard::Serve(service) => format!("serve clients: {service:?}"),
            ToShard::Closed { conn, zxid } => {
                format!("{} has closed its session at {}", name(self.names, *conn), show::zxid(*zxid))
            }
            ToShard::Synced { conn, zxid } => {
                format!("a sync of {} is done at {}", name(self.names, *conn), show::zxid(*zxid))
            }
        };
        self.journal.say(format!("peer -> shard {}: {said}", shard.0));
        self.rung[shard.index()] = true;
        self.mail.push(shard, message);
    }

    fn ring(&mut self) {
        for (shard, rung) in self.rung.iter_mut().enumerate() {
            if std::mem::take(rung) {
                self.journal.step(|| format!("shard {shard} is woken"));
            }
        }
        self.mail.ring();
    }
}
