//! What a member of an ensemble has besides its role: its part in elections, its epochs, and what it asked of its disk. Mirrors
//! the fields of `QuorumPeer` that outlive `Leader` and `Follower`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Outbox;
use super::disk::{DiskAnswer, DiskDone, DiskJob};
use super::disk_queue::DiskQueue;
use super::net::{ElectionEvent, NetWant};
use super::role_status::ElectionStats;
use super::shared::Step;
use crate::quorum::{self, Members};
use crate::tree::Tree;
use crate::txnlog::epoch::Epochs;
use crate::txnlog::recovery::Logged;
use crate::types::{Epoch, Now, ServerId, Term, Zxid};
use crate::zab::election::{Candidate, Electorate, Looker, Timing};
use crate::zab::handler::LearnerRoom;
use crate::zab::history::HistoryLimits;
use crate::zab::leader::{self, LeaderOptions};
use crate::zab::learner::{self, History};
use crate::zab::messenger::{Messenger, Want};
use crate::zab::sync_plan::SyncPolicy;
use crate::zab::vote::Held;

/// Settings of a member of an ensemble.
#[derive(Clone, Debug)]
pub struct EnsembleOptions {
    /// Whether it votes (`peerType`).
    pub role: quorum::Role,
    /// The configuration.
    pub electorate: Electorate,
    /// The waiting times of elections.
    pub timing: Timing,
    /// Whether the election connections name all addresses (`multiAddress.enabled`).
    pub all_addresses: bool,
    /// How long a connection for elections may be silent until it has said who it is, in milliseconds.
    pub hello_timeout_ms: i64,
    /// `tickTime` × `initLimit`, in milliseconds.
    pub init_ms: i64,
    /// `tickTime` × `syncLimit`, in milliseconds.
    pub sync_ms: i64,
    /// Most bytes of a packet's data (`jute.maxbuffer` plus `zookeeper.jute.maxbuffer.extrasize`).
    pub packet_limit: usize,
    /// How it leads.
    pub leader: LeaderOptions,
    /// How learners are brought up to date.
    pub sync: SyncPolicy,
    /// How many bytes wait for each of them.
    pub room: LearnerRoom,
    /// How many of the newest transactions are kept for that in memory.
    pub history: HistoryLimits,
    /// Whether clients are served while this server leads (`leaderServes`).
    pub leader_serves: bool,
    /// After so many milliseconds without a leader it serves clients that only read (`readonlymode.enabled`). `None`: never.
    pub read_only_after_ms: Option<i64>,
}

/// What a member found on its disk when it started, besides tree and sessions.
#[derive(Debug)]
pub struct Found {
    /// The epoch files.
    pub epochs: Epochs,
    /// The newest transactions, oldest first, without a gap, as recovery kept them.
    pub recent: VecDeque<Logged>,
    /// The zxid of the snapshot that recovery began with: only behind it the log is known to have every committed transaction
    /// and no others.
    pub chain: Zxid,
}

/// A member's part in its ensemble, whatever its role is.
pub(super) struct Ensemble {
    me: ServerId,
    options: EnsembleOptions,
    messenger: Messenger,
    /// Of the history in memory. They are durable, except `currentEpoch` of an observer whose log keeps nothing.
    epochs: Epochs,
    disk: DiskQueue,
    /// The text of the newest configuration that a leader sent.
    seen_config: Option<Bytes>,
    /// When the next leader may be dialled, on the monotonic clock in milliseconds.
    dials_from_ms: i64,
    wants: Vec<Want>,
    /// Voters that were heard to look for a leader while this server leads, until the leader is told.
    lookers: Vec<Looker>,
    pub(super) elections: ElectionStats,
}

impl Ensemble {
    pub(super) fn new(me: ServerId, options: EnsembleOptions, epochs: Epochs) -> Ensemble {
        assert!(epochs.current <= epochs.accepted, "{epochs:?}");
        let EnsembleOptions { timing, all_addresses, hello_timeout_ms, .. } = options;
        let electorate = options.electorate.clone();
        let messenger = Messenger::new(me, timing, electorate, false, all_addresses, hello_timeout_ms);
        let (disk, seen_config) = (DiskQueue::default(), None);
        let (wants, lookers) = (Vec::new(), Vec::new());
        let elections = ElectionStats::default();
        let dials_from_ms = i64::MIN;
        Ensemble { me, options, messenger, epochs, disk, seen_config, dials_from_ms, wants, lookers, elections }
    }

    pub(super) fn me(&self) -> ServerId {
        self.me
    }

    /// What this server enters its next role with; its history ends at `last`, all of which is durable and applied.
    pub(super) fn history(&self, last: Zxid) -> History {
        History { last, accepted: self.epochs.accepted, current: self.epochs.current }
    }

    /// What this server begins to lead with; its history ends at `last`, all of which is durable and applied.
    pub(super) fn leader_history(&self, last: Zxid) -> leader::History {
        leader::History { last, accepted: self.epochs.accepted, current: self.epochs.current }
    }

    pub(super) fn leader_options(&self) -> LeaderOptions {
        self.options.leader
    }

    pub(super) fn leader_serves(&self) -> bool {
        self.options.leader_serves
    }

    pub(super) fn sync_policy(&self) -> SyncPolicy {
        self.options.sync
    }

    pub(super) fn room(&self) -> LearnerRoom {
        self.options.room
    }

    pub(super) fn packet_limit(&self) -> usize {
        self.options.packet_limit
    }

    pub(super) fn electorate(&self) -> &Electorate {
        &self.options.electorate
    }

    /// Whether it votes (`peerType`).
    pub(super) fn role(&self) -> quorum::Role {
        self.options.role
    }

    /// The configuration in force.
    pub(super) fn members(&self) -> Arc<Members> {
        self.options.electorate.members.clone()
    }

    /// Writes the configuration in force into the tree, where clients read it. That is no transaction: every server does it for
    /// itself.
    pub(super) fn show_config(&self, tree: &mut Tree, now: Now) {
        let members = &self.options.electorate.members;
        // Watches are left alone: no client is served while a tree is replaced.
        tree.set_config(members.text().as_bytes(), members.version(), now.wall_ms, &mut |_| {});
    }

    /// The configuration in force, as text.
    pub(super) fn config_text(&self) -> Bytes {
        self.options.electorate.members.text().into()
    }

    pub(super) fn learner_options(&self) -> learner::Options {
        let EnsembleOptions { role, ref electorate, init_ms, sync_ms, packet_limit, .. } = self.options;
        let config_version = electorate.members.version();
        learner::Options { me: self.me, role, config_version, init_ms, sync_ms, packet_limit }
    }

    /// Asks the disk for a job of a role of this term.
    pub(super) fn ask(&mut self, term: Term, job: DiskJob, step: &mut Step<'_>) {
        if self.disk.ask(term, job, step.out) {
            step.shared.imaging.abandon(step.out);
        }
    }

    /// Nothing of the tree is being written to a snapshot any more.
    pub(super) fn may_replace(&mut self, out: &mut Outbox) {
        self.disk.may_replace(out);
    }

    /// The disk answers, whoever asked.
    pub(super) fn hear_disk(&mut self, answer: &DiskAnswer) {
        self.disk.answered(answer);
        match answer.done {
            DiskDone::SavedAccepted(epoch) => self.epochs.accepted = epoch,
            DiskDone::SavedCurrent(epoch) | DiskDone::UnsavedCurrent(epoch) => self.epochs.current = epoch,
            // Installing raises it, since no server starts whose history is of a later epoch.
            DiskDone::Installed(ref loaded) => {
                self.epochs.current = self.epochs.current.max(loaded.tree.last_zxid().epoch());
            }
            _ => {}
        }
        assert!(self.epochs.current <= self.epochs.accepted, "{:?}", self.epochs);
    }

    /// Whether the disk has answered for everything.
    pub(super) fn is_settled(&self) -> bool {
        self.disk.is_idle()
    }

    /// The newest configuration that a leader has seen, from NEWLEADER.
    pub(super) fn seen_config(&mut self, text: Bytes) {
        self.seen_config = Some(text);
    }

    /// When the next leader may be dialled, on the monotonic clock in milliseconds.
    pub(super) fn dials_from_ms(&self) -> i64 {
        self.dials_from_ms
    }

    /// The next leader may be dialled from this moment on.
    pub(super) fn dial_from(&mut self, at_ms: i64) {
        assert!(at_ms >= self.dials_from_ms, "the clock falls from {} to {at_ms}", self.dials_from_ms);
        self.dials_from_ms = at_ms;
    }

    /// The leader is established and this server serves: from now on its votes name the leader's epoch. `learns`: another
    /// server leads.
    pub(super) fn established(&mut self, now: Now, epoch: Epoch, learns: bool) {
        self.elections.serves(now, learns);
        self.messenger.established(epoch);
    }

    /// When clients may read if the election is not over by then, on the monotonic clock in milliseconds. `None`: never.
    pub(super) fn reads_from(&self) -> Option<i64> {
        Some(self.elections.began_ms + self.options.read_only_after_ms?)
    }

    /// A history that ends at `last` takes part in an election.
    pub(super) fn start(&mut self, now: Now, last: Zxid, out: &mut Outbox) -> Option<Held> {
        self.elections.looks(now);
        let candidate = Candidate { role: self.options.role, last, epoch: self.epochs.current };
        self.messenger.start(now.mono_ms, candidate, &mut self.wants);
        self.go_on(now, out)
    }

    /// News of a connection for elections. Returns the result of an election that is over.
    pub(super) fn hear_net(&mut self, now: Now, event: ElectionEvent, out: &mut Outbox) -> Option<Held> {
        let (now_ms, wants) = (now.mono_ms, &mut self.wants);
        match event {
            ElectionEvent::Accepted { conn, from } => self.messenger.accepted(now_ms, conn, from, wants),
            ElectionEvent::Dialed { to, conn } => self.messenger.dialed(to, conn, wants),
            ElectionEvent::DialFailed { to } => self.messenger.dial_failed(to),
            ElectionEvent::Bytes { conn, bytes } => self.messenger.bytes(now_ms, conn, &bytes, wants),
            ElectionEvent::Written { conn } => self.messenger.written(conn, wants),
            ElectionEvent::Closed { conn } => self.messenger.closed(conn),
        }
        self.go_on(now, out)
    }

    /// Voters that have looked for a leader while this server leads, since the last call.
    pub(super) fn take_lookers(&mut self) -> Vec<Looker> {
        std::mem::take(&mut self.lookers)
    }

    /// Time has passed. Returns the result of an election that is over.
    pub(super) fn tick(&mut self, now: Now, out: &mut Outbox) -> Option<Held> {
        if self.deadline().is_some_and(|at| at <= now.mono_ms) {
            self.messenger.tick(now.mono_ms, &mut self.wants);
        }
        self.go_on(now, out)
    }

    /// When the next tick is needed, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.messenger.deadline_ms()
    }

    fn go_on(&mut self, now: Now, out: &mut Outbox) -> Option<Held> {
        let mut elected = None::<Held>;
        while !self.wants.is_empty() {
            for want in std::mem::take(&mut self.wants) {
                match want {
                    Want::Net(want) => out.net.push(NetWant::Election(want)),
                    Want::Elected(held) => {
                        assert!(elected.is_none(), "two servers are elected at once: {elected:?}, {held:?}");
                        elected = Some(held);
                        self.elections.elected(now, self.options.role == quorum::Role::Participant);
                    }
                    Want::Looks(looker) => self.lookers.push(looker),
                    // Configurations change only by leaders so far, never by votes.
                    Want::Adopt { from, mut said } => {
                        said.config = None;
                        self.messenger.heard(now.mono_ms, from, &said, &mut self.wants);
                    }
                }
            }
        }
        elected
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        self.messenger.check();
        assert!(self.wants.is_empty(), "left undone: {:?}", self.wants);
        assert!(self.lookers.is_empty(), "the leader is not told of {:?}", self.lookers);
        assert!(self.epochs.current <= self.epochs.accepted, "{:?}", self.epochs);
    }
}
