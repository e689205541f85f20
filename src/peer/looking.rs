//! How the owner of a member's role changes it: a role is left in one step, and the next one begins when the disk has answered
//! for everything that the last one asked of it. Mirrors the loop of `QuorumPeer.run`.

use super::disk::{DiskAnswer, DiskDone};
use super::feed::FeedAnswer;
use super::leading::Leading;
use super::learning::{Learning, Over};
use super::net::{ElectionEvent, NetWant, QuorumEvent, QuorumWant};
use super::read_only::ReadOnly;
use super::shared::{Doubt, Step};
use super::{Outbox, Peer, Role, SnapshotPart, member};
use crate::pipeline::messages::ToPeer;
use crate::tree::Tree;
use crate::txnlog::snapshotter::Replaced;
use crate::types::{Now, PEER_LOG, Term};
use crate::zab::vote::{Held, ServerState};

/// A server without a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    /// The disk has not answered for everything, or not all of it is applied: the vote is not known.
    Settling,
    /// It takes part in an election.
    Electing,
}

/// Changes of the role.
impl Peer {
    /// Leaves the role: writes are refused, clients and other members are disconnected, and whatever the disk still says to it
    /// is not heard. What it appended goes on to the disk: it may have been acknowledged, so the next vote counts it.
    pub(super) fn leave(&mut self, why: &str, out: &mut Outbox) {
        assert!(!matches!(self.role, Role::Looking(_)), "no role is left twice: {why}");
        tracing::warn!(target: PEER_LOG, why, "looking for a leader again");
        out.net.push(NetWant::Quorum { term: self.term, want: QuorumWant::End });
        if let Role::Leading(leading) = &mut self.role {
            leading.end(&mut out.feed);
        }
        self.begin_term(Looking::Settling, out);
        self.settle();
    }

    /// No client and no other member is heard any more that this server heard until now.
    fn begin_term(&mut self, looking: Looking, out: &mut Outbox) {
        self.term = Term(self.term.0 + 1);
        self.role = Role::Looking(looking);
        self.shared.forget_clients();
        self.shared.suspend(out);
    }

    /// After a step of the role: it may be over.
    pub(super) fn go_on(&mut self, over: Over, out: &mut Outbox) {
        if let Some(why) = over {
            self.leave(&why, out);
        }
    }

    /// If the disk has answered for everything that earlier roles appended, all of it is to be applied: it may be committed.
    /// What is not will be cut off by the next leader.
    pub(super) fn settle(&mut self) {
        if matches!(self.role, Role::Looking(Looking::Settling)) && self.shared.commits.is_durable() {
            self.shared.commit_all();
        }
    }

    /// Whether the vote can be computed.
    pub(super) fn may_look(&self) -> bool {
        matches!(self.role, Role::Looking(Looking::Settling))
            && self.shared.commits.is_durable()
            && self.shared.commits.len() == 0
            && self.loaded.is_none()
            && self.ensemble.as_ref().is_some_and(|ensemble| ensemble.is_settled())
    }

    /// Whether this learner's tree was found to be another one than its leader's.
    pub(super) fn doubts_itself(&self) -> bool {
        matches!((self.shared.doubts, &self.role), (Doubt::New(_), Role::Learning(_)))
    }

    /// Leaves the leader, to come again as a server that has lost its state: it is sent a snapshot then. Its votes still count
    /// what its log has.
    pub(super) fn give_up_tree(&mut self, out: &mut Outbox) {
        let Doubt::New(zxid) = self.shared.doubts else { panic!("{:?}", self.shared.doubts) };
        self.shared.doubts = Doubt::Known;
        self.leave(&format!("the tree after {zxid} is not the leader's: a snapshot is needed"), out);
    }

    /// Takes part in an election.
    pub(super) fn look(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        assert!(self.may_look(), "a vote for a history that is not known");
        let last = tree.last_zxid();
        assert_eq!(last, self.shared.commits.appended(), "the vote is for what was appended");
        self.role = Role::Looking(Looking::Electing);
        let elected = member(&mut self.ensemble).start(now, last, out);
        elected.into_iter().for_each(|held| self.become_what(held, now, tree, out));
    }

    /// When clients may read, if this server looks for a leader and is to serve them without one. It never shows a tree that is
    /// known not to be the leader's.
    pub(super) fn reads_from(&self) -> Option<i64> {
        let may = matches!(self.role, Role::Looking(Looking::Electing)) && self.shared.doubts == Doubt::None;
        self.ensemble.as_ref().filter(|_| may)?.reads_from()
    }

    /// A read-only server has another role from now on: its clients are disconnected, as on Apache.
    fn end_reads(&mut self, out: &mut Outbox) {
        let looking = Role::Looking(Looking::Electing);
        if let Role::ReadOnly(reading) = std::mem::replace(&mut self.role, looking) {
            self.begin_term(Looking::Electing, out);
            reading.end(&mut self.shared);
        }
    }

    /// An election is over.
    pub(super) fn become_what(&mut self, held: Held, now: Now, tree: &Tree, out: &mut Outbox) {
        if matches!(self.role, Role::ReadOnly(_)) {
            self.end_reads(out);
        }
        assert!(matches!(self.role, Role::Looking(Looking::Electing)), "{held:?} is elected outside an election");
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        let ensemble = member(&mut self.ensemble);
        tracing::info!(target: PEER_LOG, leader = held.vote.leader.0, state = ?held.state, "the election is over");
        self.role = match held.state {
            ServerState::Following | ServerState::Observing => {
                Role::Learning(Box::new(Learning::begin(self.term, held.vote.leader, ensemble, step)))
            }
            ServerState::Leading => {
                if matches!(step.shared.doubts, Doubt::Uncut(_)) {
                    // A quorum prefers this history as it is.
                    step.shared.doubts = Doubt::None;
                }
                Role::Leading(Leading::of_others(self.term, ensemble, step))
            }
            ServerState::Looking => panic!("an election ends with {held:?}"),
        };
        if let Role::Leading(leading) = &mut self.role {
            let over = leading.go_on(ensemble, step);
            self.go_on(over, out);
        }
    }

    /// News of a connection for elections.
    pub(super) fn hear_election(&mut self, now: Now, event: ElectionEvent, tree: &Tree, out: &mut Outbox) {
        let ensemble = member(&mut self.ensemble);
        let elected = ensemble.hear_net(now, event, out);
        let lookers = ensemble.take_lookers();
        // The bytes that ended the election may contain the message of one that looks again.
        elected.into_iter().for_each(|held| self.become_what(held, now, tree, out));
        for looker in lookers {
            // It leads no longer since the one before, or the disk has not answered yet.
            let Role::Leading(leading) = &mut self.role else { return };
            let step = &mut Step { now, tree, shared: &mut self.shared, out };
            let over = leading.looks(&looker, member(&mut self.ensemble), step);
            self.go_on(over, out);
        }
    }

    /// A message of a shard to a server that is no leader, or that does not hear every shard.
    pub(super) fn hear_shard(&mut self, now: Now, message: ToPeer, tree: &Tree, out: &mut Outbox) {
        if let ToPeer::Suspended { shard } = message {
            return self.shared.suspended(shard);
        }
        if !self.shared.hears(&message) {
            return;
        }
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Leading(leading) => {
                let over = leading.hear_shard_among_others(message, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::Learning(learning) => {
                let over = learning.hear_shard(message, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::ReadOnly(reading) => reading.hear_shard(message, step),
            // Its clients were disconnected.
            Role::Looking(_) => {}
        }
    }

    /// News of a connection to a leader or a learner.
    pub(super) fn hear_quorum(&mut self, now: Now, term: Term, event: QuorumEvent, tree: &Tree, out: &mut Outbox) {
        assert!(term <= self.term, "{event:?} of {term:?} in {:?}", self.term);
        if term < self.term {
            return;
        }
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Learning(learning) => {
                let over = learning.hear_net(event, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::Leading(leading) => {
                let over = leading.hear_net(event, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::Looking(_) | Role::ReadOnly(_) => panic!("{event:?} of a server without a role"),
        }
    }

    /// The disk did what it was asked for. A tree that it loaded has to wait until nobody reads the old one.
    pub(super) fn hear_disk(&mut self, now: Now, answer: DiskAnswer, tree: &Tree, out: &mut Outbox) {
        member(&mut self.ensemble).hear_disk(&answer);
        match answer.done {
            DiskDone::Truncated(_) | DiskDone::Installed(_) => {
                assert!(self.loaded.is_none(), "two trees are loaded at once");
                self.loaded = Some(answer);
            }
            _ => {
                if matches!(answer.done, DiskDone::Damaged(_) | DiskDone::Uncut { .. }) {
                    self.shared.imaging.replaced(tree.last_zxid());
                }
                self.answered(now, &answer, tree, out);
            }
        }
    }

    /// Whether the tree is to be replaced before anything else is applied.
    pub fn replaces_tree(&self) -> bool {
        self.loaded.is_some()
    }

    /// Replaces the tree by what the disk loaded. Every shard has taken everything that it was sent. The old tree goes to the
    /// writer of snapshots, whose thread drops it.
    pub fn replace(&mut self, now: Now, tree: &mut Tree, out: &mut Outbox) {
        let mut answer = self.loaded.take().expect("another tree was loaded");
        let (DiskDone::Truncated(loaded) | DiskDone::Installed(loaded)) = &mut answer.done else {
            panic!("{answer:?} is no tree")
        };
        std::mem::swap(tree, &mut loaded.tree);
        member(&mut self.ensemble).show_config(tree, now);
        self.shared.replaced(tree, &loaded.sessions);
        self.answered(now, &answer, tree, out);
        if let DiskDone::Truncated(old) | DiskDone::Installed(old) = answer.done {
            assert!(!self.replaces_tree(), "a tree is replaced, and another one is loaded");
            out.snapshot.push(SnapshotPart::Forget(Replaced(old.tree.into())));
        }
    }

    fn answered(&mut self, now: Now, answer: &DiskAnswer, tree: &Tree, out: &mut Outbox) {
        assert!(answer.term <= self.term, "{answer:?} in {:?}", self.term);
        let is_of_role = answer.term == self.term;
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Learning(learning) if is_of_role => {
                let over = learning.hear_disk(answer, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::Leading(leading) if is_of_role => {
                let over = leading.hear_disk(answer, member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            _ => self.settle(),
        }
    }

    /// The reader of the disk answers. What it read for a role that is over is for nobody.
    pub(super) fn hear_feed(&mut self, now: Now, answer: FeedAnswer, tree: &Tree, out: &mut Outbox) {
        if let Role::Leading(leading) = &mut self.role {
            let step = &mut Step { now, tree, shared: &mut self.shared, out };
            let over = leading.hear_feed(answer, member(&mut self.ensemble), step);
            self.go_on(over, out);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Leading(leading) if leading.is_alone() => leading.tick(step),
            Role::Leading(leading) => {
                let over = leading.tick_among_others(member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::Learning(learning) => {
                let over = learning.tick(member(&mut self.ensemble), step);
                self.go_on(over, out);
            }
            Role::ReadOnly(reading) => reading.tick(step),
            Role::Looking(_) => {}
        }
        if let Some(ensemble) = &mut self.ensemble {
            let elected = ensemble.tick(now, out);
            elected.into_iter().for_each(|held| self.become_what(held, now, tree, out));
        }
        if self.reads_from().is_some_and(|at| at <= now.mono_ms) {
            let step = &mut Step { now, tree, shared: &mut self.shared, out };
            self.role = Role::ReadOnly(ReadOnly::begin(step));
        }
    }
}
