//! One turn of the peer core: connects a [`Peer`] with the tree, the shards' streams and the log, in the order that
//! rules W1 to W5 require (`src/ORDERING.md`). It uses no threads, locks or files itself: the server, the simulator,
//! the tests, the benches and the fuzzers run this same code with their own [`TreeAccess`], [`Links`] and [`Streams`].
//! Mirrors the loops of `PrepRequestProcessor` and of the part of `CommitProcessor` that handles writes.

use std::ops::{Deref, DerefMut};

use super::apply::Cursors;
use super::disk::DiskRequest;
use super::feed::FeedWant;
use super::net::NetWant;
use super::{Append, Input, Outbox, Peer, SnapshotAnswer, SnapshotPart};
use crate::limits;
use crate::pipeline::messages::ToShard;
use crate::tree::Tree;
use crate::types::{Now, ShardId, Term, Zxid};
use crate::watch::interest::Interest;

/// How much is done at a time. The defaults are those of [`limits`]; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Inputs taken in one turn.
    pub submit_burst: usize,
    /// Proposals handed to the log at once.
    pub append_burst: usize,
    /// Transactions applied while readers wait.
    pub apply_burst: usize,
    /// Messages on a shard's stream above which the peer core waits for room (W5). One burst more may be added.
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

/// The tree, and how its readers and its writer coordinate.
pub trait TreeAccess: Cursors {
    /// The tree for reading; it does not change while the guard lives.
    fn read(&self) -> impl Deref<Target = Tree>;
    /// The tree for writing.
    fn write(&self) -> impl DerefMut<Target = Tree>;
    /// The map of which shards watch which paths.
    fn interest(&self) -> &Interest;
    /// The peer core says whether it waits for a shard to move its cursor. Returns true if it did not wait before: then
    /// it must look once more before it sleeps, since the shard may have moved its cursor just before.
    fn peer_waits(&self, waits: bool) -> bool;
}

/// How the peer reaches the log, the writer of snapshots and those who send requests.
pub trait Links {
    /// Takes the oldest input that has arrived.
    fn next(&mut self) -> Option<Input>;
    /// Takes proposals of a term for the log, in order.
    fn append(&mut self, term: Term, batch: &mut Vec<Append>);
    /// Takes another request for the disk, which comes after the proposals.
    fn disk(&mut self, request: DiskRequest);
    /// Takes what is wanted of a connection to another member.
    fn net(&mut self, want: NetWant);
    /// Takes what is wanted of the reader of the disk.
    fn feed(&mut self, want: FeedWant);
    /// Takes a piece of a snapshot for its writer.
    fn snapshot(&mut self, part: SnapshotPart);
    /// Answers a request for a snapshot.
    fn snapshot_answer(&mut self, answer: SnapshotAnswer);
}

/// How the peer reaches the shards.
pub trait Streams {
    /// Whether every stream has fewer than `high_water` messages that its shard has not taken.
    fn has_room(&self, high_water: usize) -> bool;
    /// Puts a message on a stream. The tree may be locked, so nobody is woken yet.
    fn push(&mut self, shard: ShardId, message: ToShard);
    /// Wakes the shards that were sent something since the last call. The tree is not locked.
    fn ring(&mut self);
}

/// A peer and the state that lasts from one turn to the next.
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
    /// Turns since the invariants were last checked; only in debug builds.
    unchecked: usize,
}

impl PeerTurn {
    /// The turns of a peer whose tree's last transaction is `last`, which is durable.
    pub fn new(peer: Peer, last: Zxid, bounds: Bounds) -> PeerTurn {
        assert!(bounds.submit_burst > 0 && bounds.append_burst > 0 && bounds.apply_burst > 0);
        assert!(bounds.stream_high_water > 0, "a stream without room would block for ever");
        PeerTurn { peer, out: Outbox::default(), bounds, appended: last, durable: last, published: last, unchecked: 0 }
    }

    /// The first step, before any turn: see [`Peer::start`].
    pub fn start<L: Links + Streams>(&mut self, now: Now, tree: &impl TreeAccess, links: &mut L) {
        self.peer.start(now, &tree.read(), &mut self.out);
        self.append(links);
        self.publish(self.published, links);
        links.ring();
    }

    /// Runs one turn: handles what has arrived, then applies what is committed. Returns whether there is work left that the
    /// links will not announce. Then the turn must be repeated without sleeping.
    pub fn turn<L: Links + Streams>(&mut self, now: Now, tree: &impl TreeAccess, links: &mut L) -> bool {
        let heard = self.hear(now, tree, links);
        let applied =
            if self.peer.replaces_tree() { self.replace(now, tree, links) } else { self.apply(now, tree, links) };
        links.ring();
        let made = self.out.snapshot.len();
        for part in self.out.snapshot.drain(..) {
            links.snapshot(part);
        }
        self.out.snapshot_answers.drain(..).for_each(|answer| links.snapshot_answer(answer));
        let went_on = heard + applied + made > 0;
        let more = self.peer.has_work();
        self.check_now_and_then(tree);
        // If something is committed but nothing was done in this turn, it waits for a shard.
        tree.peer_waits(more && !went_on) || (more && went_on)
    }

    /// Handles a burst of inputs while the tree is locked for reading. Proposals go to the log in groups: the disk
    /// works while the next are prepared.
    fn hear(&mut self, now: Now, access: &impl TreeAccess, links: &mut impl Links) -> usize {
        let mut heard = 0;
        let tree = access.read();
        while heard < self.bounds.submit_burst {
            let Some(input) = links.next() else {
                if self.peer.deadline().is_some_and(|at| at <= now.mono_ms) {
                    // Only after everything that has arrived was counted. Otherwise, after a pause of this process,
                    // sessions would be expired although their pings had arrived in time.
                    self.handle(now, Input::Tick, &tree, links);
                }
                break;
            };
            heard += 1;
            if let Input::Synced { zxid, .. } = input {
                assert!(zxid <= self.appended, "{zxid} is durable, but only {} was appended", self.appended);
                assert!(zxid >= self.durable, "the durable zxid went back from {} to {zxid}", self.durable);
                self.durable = zxid;
            }
            self.handle(now, input, &tree, links);
            if self.out.append.len() >= self.bounds.append_burst {
                self.append(links);
            }
        }
        let term = self.peer.term();
        if self.peer.doubts_itself() {
            self.peer.give_up_tree(&mut self.out);
            heard += 1;
        }
        if self.peer.may_look() {
            self.peer.look(now, &tree, &mut self.out);
            heard += 1;
        }
        self.append_of(term, links);
        drop(tree);
        self.append(links);
        heard
    }

    fn handle(&mut self, now: Now, input: Input, tree: &Tree, links: &mut impl Links) {
        let term = self.peer.term();
        self.peer.handle(now, input, tree, &mut self.out);
        self.append_of(term, links);
    }

    /// If the role of this term was left in the last step, what it had for the log goes there as its own: the next term's
    /// records come only when these are durable.
    fn append_of(&mut self, term: Term, links: &mut impl Links) {
        if self.peer.term() != term {
            self.append_proposals(term, links);
        }
    }

    /// Hands what was proposed, and what else is asked of the disk and of other members, to them.
    fn append(&mut self, links: &mut impl Links) {
        self.append_proposals(self.peer.term(), links);
        let Outbox { disk, net, feed, .. } = &mut self.out;
        // Only a member wants anything else, and to drain a list costs more than to see that it is empty.
        if disk.is_empty() && net.is_empty() && feed.is_empty() {
            return;
        }
        disk.drain(..).for_each(|request| links.disk(request));
        net.drain(..).for_each(|want| links.net(want));
        feed.drain(..).for_each(|want| links.feed(want));
    }

    fn append_proposals(&mut self, term: Term, links: &mut impl Links) {
        if self.out.append.is_empty() {
            return;
        }
        for append in &self.out.append {
            assert!(self.appended.precedes(append.zxid), "{} is proposed after {}", append.zxid, self.appended);
            self.appended = append.zxid;
        }
        links.append(term, &mut self.out.append);
        assert!(self.out.append.is_empty(), "a proposal was left");
    }

    /// Applies a burst of what is committed, if every stream has room for its entries (W5).
    fn apply<L: Streams>(&mut self, now: Now, access: &impl TreeAccess, links: &mut L) -> usize {
        if !self.peer.has_work() || !links.has_room(self.bounds.stream_high_water) {
            // The answers to resumed sessions.
            self.publish(self.published, links);
            return 0;
        }
        let mut tree = access.write();
        let before = tree.last_zxid();
        let count = self.peer.apply(now, &mut tree, access, access.interest(), self.bounds.apply_burst, &mut self.out);
        let last = tree.last_zxid();
        assert!(count <= self.bounds.apply_burst, "{count} transactions in one burst");
        assert_eq!(last > before, count > 0, "{count} transactions brought the tree from {before} to {last}");
        assert!(last <= self.peer.committed(), "{last} is applied, but not committed");
        assert!(last <= self.durable, "{last} is applied, but only {} is durable", self.durable);
        // Rule W2: the entries are on the streams before the tree is released.
        self.publish(last, links);
        count
    }

    /// Replaces the tree, once every shard has taken all that it was sent: none has a client or an entry of the old one then.
    fn replace<L: Links + Streams>(&mut self, now: Now, access: &impl TreeAccess, links: &mut L) -> usize {
        self.publish(self.published, links);
        let mut tree = access.write();
        if !links.has_room(1) {
            return 0;
        }
        let term = self.peer.term();
        self.peer.replace(now, &mut tree, &mut self.out);
        let last = tree.last_zxid();
        (self.appended, self.durable, self.published) = (last, last, last);
        self.append_of(term, links);
        // The role may have ended at what the leader sent behind that.
        self.publish(last, links);
        drop(tree);
        self.append(links);
        1
    }

    fn publish<L: Streams>(&mut self, applied: Zxid, links: &mut L) {
        for (shard, message) in self.out.to_shards.drain(..) {
            if let ToShard::Applied(entry) = &message {
                // Several shards may get an entry for the same transaction.
                assert!(entry.zxid >= self.published, "{} is published after {}", entry.zxid, self.published);
                assert!(entry.zxid <= applied, "{} is published, {applied} is applied", entry.zxid);
                self.published = entry.zxid;
            }
            links.push(shard, message);
        }
    }

    /// In debug builds, checks the invariants from time to time: often enough to cost about as much as the turns
    /// themselves.
    fn check_now_and_then(&mut self, access: &impl TreeAccess) {
        if cfg!(debug_assertions) {
            self.unchecked += 1;
            if self.unchecked * 64 > self.peer.weight() {
                self.unchecked = 0;
                self.check(&access.read());
            }
        }
    }

    /// Checks the invariants; to be called between turns.
    pub fn check(&self, tree: &Tree) {
        let last = tree.last_zxid();
        assert!(last <= self.durable && self.durable <= self.appended, "{last}, {}, {}", self.durable, self.appended);
        assert!(self.published <= last, "{} is published, {last} is applied", self.published);
        assert!(self.out.append.is_empty() && self.out.to_shards.is_empty());
        assert!(self.out.disk.is_empty() && self.out.net.is_empty() && self.out.feed.is_empty());
        assert!(self.out.snapshot.is_empty() && self.out.snapshot_answers.is_empty());
        self.peer.check(tree);
    }

    /// The peer, for reading its state.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The peer, for changes that are not part of a turn: resets of its statistics.
    pub fn peer_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// When a turn is needed because of a timer, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        self.peer.deadline()
    }
}
