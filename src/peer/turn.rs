//! One turn of the peer core: what ties a [`Peer`] to the tree, the shards' streams and the log, in the order that rules W1 to W5
//! ask for (DESIGN section 7). No thread, lock or file is named here: the server, the simulator, the tests, the benches and the
//! fuzzers run this same code over their own [`TreeAccess`], [`Links`] and [`Streams`]. Mirrors the loops of
//! `PrepRequestProcessor` and of `CommitProcessor`'s writing half.

use std::ops::{Deref, DerefMut};

use super::apply::Cursors;
use super::{Append, Input, Outbox, Peer, SnapshotAnswer, SnapshotPart};
use crate::limits;
use crate::pipeline::messages::ToShard;
use crate::tree::Tree;
use crate::types::{Now, ShardId, Zxid};
use crate::watch::interest::Interest;

/// How much is done at a time. The defaults are those of [`limits`]; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Inputs taken in one turn.
    pub submit_burst: usize,
    /// Proposals handed to the log at once.
    pub append_burst: usize,
    /// Transactions applied while readers wait.
    pub apply_burst: usize,
    /// Messages on a shard's stream that make the writer wait for room (W5). One burst more may stand there.
    pub stream_high_water: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            submit_burst: limits::SUBMIT_BURST,
            append_burst: limits::APPEND_BURST,
            apply_burst: limits::APPLY_BURST,
            stream_high_water: limits::STREAM_HIGH_WATER,
        }
    }
}

/// The tree and what readers and writer tell each other about it.
pub trait TreeAccess: Cursors {
    /// The tree, standing still for as long as the guard lives.
    fn read(&self) -> impl Deref<Target = Tree>;
    /// The tree, to change.
    fn write(&self) -> impl DerefMut<Target = Tree>;
    /// Which shards watch what.
    fn interest(&self) -> &Interest;
    /// The peer core says whether it waits for a shard to move on. Returns whether that is news: then it has to look once more
    /// before it sleeps, for the shard may have moved on just before it was told to say so.
    fn peer_waits(&self, waits: bool) -> bool;
}

/// The way to and from the log, the snapshot's writer and whoever has a request.
pub trait Links {
    /// The oldest input that has come and was not taken.
    fn next(&mut self) -> Option<Input>;
    /// Takes proposals for the log, in order.
    fn append(&mut self, batch: &mut Vec<Append>);
    /// Takes a piece of a snapshot for its writer.
    fn snapshot(&mut self, part: SnapshotPart);
    /// Tells whoever asked for a snapshot what became of it.
    fn snapshot_answer(&mut self, answer: SnapshotAnswer);
}

/// The way to the shards.
pub trait Streams {
    /// Whether every stream has fewer than `high_water` messages that its shard has not taken.
    fn has_room(&self, high_water: usize) -> bool;
    /// Puts a message on a stream. The tree may be held: nobody is woken yet.
    fn push(&mut self, shard: ShardId, message: ToShard);
    /// Wakes the shards that were sent something since the last time. The tree is not held.
    fn ring(&mut self);
}

/// A peer with what its turns carry from one to the next.
pub struct PeerTurn {
    peer: Peer,
    out: Outbox,
    bounds: Bounds,
    /// The newest zxid handed to the log.
    appended: Zxid,
    /// The newest zxid that the log said is durable.
    durable: Zxid,
    /// The newest zxid put on any stream.
    published: Zxid,
    /// Turns since the invariants were looked at: debug builds only.
    unchecked: usize,
}

impl PeerTurn {
    /// Around a peer over a tree whose last transaction, which is durable, is `last`.
    pub fn new(peer: Peer, last: Zxid, bounds: Bounds) -> PeerTurn {
        assert!(bounds.submit_burst > 0 && bounds.append_burst > 0 && bounds.apply_burst > 0);
        assert!(bounds.stream_high_water > 0, "a stream without room stands still");
        PeerTurn { peer, out: Outbox::default(), bounds, appended: last, durable: last, published: last, unchecked: 0 }
    }

    /// The first step, before any turn: see [`Peer::start`].
    pub fn start(&mut self, now: Now, tree: &impl TreeAccess, links: &mut impl Links) {
        self.peer.start(now, &tree.read(), &mut self.out);
        self.append(links);
    }

    /// One turn: hears what has come, then applies what is committed. Returns whether there was work, or the turn must be
    /// repeated before anybody sleeps.
    pub fn turn<L: Links + Streams>(&mut self, now: Now, tree: &impl TreeAccess, links: &mut L) -> bool {
        let heard = self.hear(now, tree, links);
        let applied = self.apply(tree, links);
        links.ring();
        let made = self.out.snapshot.len();
        for part in self.out.snapshot.drain(..) {
            links.snapshot(part);
        }
        self.out.snapshot_answers.drain(..).for_each(|answer| links.snapshot_answer(answer));
        let busy = heard + applied + made > 0;
        // What is committed and still not applied waits for a shard.
        let waits = !busy && self.peer.has_work();
        self.check_now_and_then(tree);
        tree.peer_waits(waits) || busy
    }

    /// Takes a burst of inputs, with the tree held for reading. Proposals go to the log as they gather: the disk works while the
    /// next are prepared.
    fn hear(&mut self, now: Now, access: &impl TreeAccess, links: &mut impl Links) -> usize {
        let mut heard = 0;
        let tree = access.read();
        while heard < self.bounds.submit_burst {
            let Some(input) = links.next() else {
                if self.peer.deadline().is_some_and(|at| at <= now.mono_ms) {
                    // Only after everything that was heard was counted: a session that was heard of in time is not expired
                    // because this process stood still meanwhile.
                    self.peer.handle(now, Input::Tick, &tree, &mut self.out);
                }
                break;
            };
            heard += 1;
            if let Input::Synced { zxid, .. } = input {
                assert!(zxid <= self.appended, "{zxid} is durable, but only {} was appended", self.appended);
                assert!(zxid >= self.durable, "what is durable fell from {} to {zxid}", self.durable);
                self.durable = zxid;
            }
            self.peer.handle(now, input, &tree, &mut self.out);
            if self.out.append.len() >= self.bounds.append_burst {
                self.append(links);
            }
        }
        drop(tree);
        self.append(links);
        heard
    }

    /// Hands what was proposed to the log.
    fn append(&mut self, links: &mut impl Links) {
        if self.out.append.is_empty() {
            return;
        }
        for append in &self.out.append {
            assert!(self.appended.precedes(append.zxid), "{} is proposed behind {}", append.zxid, self.appended);
            self.appended = append.zxid;
        }
        links.append(&mut self.out.append);
        assert!(self.out.append.is_empty(), "a proposal was left");
    }

    /// Applies a burst of what is committed, if every stream has room for its entries (W5).
    fn apply<L: Streams>(&mut self, access: &impl TreeAccess, links: &mut L) -> usize {
        if !self.peer.has_work() || !links.has_room(self.bounds.stream_high_water) {
            // What a resumption or a moved session has to say.
            self.publish(self.published, links);
            return 0;
        }
        let mut tree = access.write();
        let before = tree.last_zxid();
        let count = self.peer.apply(&mut tree, access, access.interest(), self.bounds.apply_burst, &mut self.out);
        let last = tree.last_zxid();
        assert!(count <= self.bounds.apply_burst, "{count} transactions in one burst");
        assert_eq!(last > before, count > 0, "{count} transactions brought the tree from {before} to {last}");
        assert!(last <= self.peer.committed(), "{last} is applied, but not committed");
        assert!(last <= self.durable, "{last} is applied, but only {} is durable", self.durable);
        // W2: the entries are on their way before the tree is let go.
        self.publish(last, links);
        count
    }

    fn publish<L: Streams>(&mut self, applied: Zxid, links: &mut L) {
        for (shard, message) in self.out.to_shards.drain(..) {
            if let ToShard::Applied(entry) = &message {
                // Several shards may get the same one.
                assert!(entry.zxid >= self.published, "{} is published behind {}", entry.zxid, self.published);
                assert!(entry.zxid <= applied, "{} is published, {applied} is applied", entry.zxid);
                self.published = entry.zxid;
            }
            links.push(shard, message);
        }
    }

    /// In debug builds, looks at the invariants so often that this costs as much as the turns themselves, not more.
    fn check_now_and_then(&mut self, access: &impl TreeAccess) {
        if cfg!(debug_assertions) {
            self.unchecked += 1;
            if self.unchecked * 64 > self.peer.weight() {
                self.unchecked = 0;
                self.check(&access.read());
            }
        }
    }

    /// Its invariants, between turns.
    pub fn check(&self, tree: &Tree) {
        let last = tree.last_zxid();
        assert!(last <= self.durable && self.durable <= self.appended, "{last}, {}, {}", self.durable, self.appended);
        assert!(self.published <= last, "{} is published, {last} is applied", self.published);
        assert!(self.out.append.is_empty() && self.out.to_shards.is_empty());
        assert!(self.out.snapshot.is_empty() && self.out.snapshot_answers.is_empty());
        self.peer.check(tree);
    }

    /// The peer, to look at.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The peer, for what is no step of its: resets of its statistics.
    pub fn peer_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// When a turn is wanted for the clock's sake, on the monotonic clock, milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        self.peer.deadline()
    }
}
