//! One server's deciding core: it takes what shards submit, has it validated and proposed, commits what a quorum has on its
//! log, applies it, and tells the shards. Standalone it is the leader of an ensemble of one. Mirrors `ZooKeeperServer`,
//! `LeaderZooKeeperServer` and the writing half of `FinalRequestProcessor`.
//!
//! Two doors: [`Peer::handle`] needs the tree only for reading, [`Peer::apply`] is the tree's only writer. Nothing is applied
//! (so nothing is answered) before [`Input::Synced`] told that it is durable.

pub mod apply;
mod container_manager;
mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::pipeline::messages::{Event, ToPeer, ToShard, touch_interval_ms};
use crate::pipeline::prep::{Prep, PrepOptions, Proposal, WriteRequest};
use crate::quorum::{Majority, Verifier};
use crate::session::table::SessionTable;
use crate::session::throttle::Admitted;
use crate::session::tracker::SessionTracker;
use crate::tree::Tree;
use crate::txnlog::log::LogEvent;
use crate::types::{CLIENT_LOG, Cxid, Now, Origin, ServerId, SessionId, ShardId, Zxid, op};
use crate::zab::Leader;
use container_manager::Sweep;
pub use container_manager::SweepOptions;
use snapshot::Imaging;
pub use snapshot::SnapshotPart;
use status::PeerStats;

/// Settings of the peer core.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// This server; 1 when standalone.
    pub me: ServerId,
    /// `tickTime`, milliseconds: the width of an expiry bucket.
    pub tick_ms: i32,
    /// Settings of validation.
    pub prep: PrepOptions,
    /// Settings of the container and TTL sweep.
    pub sweep: container_manager::SweepOptions,
    /// Number of shards.
    pub shards: usize,
}

/// What the world does to the peer core.
#[derive(Debug)]
pub enum Input {
    /// From a shard.
    FromShard(ToPeer),
    /// Everything appended up to here is durable.
    Synced {
        /// The newest durable one.
        zxid: Zxid,
        /// How long the sync took, nanoseconds.
        sync_ns: u64,
        /// Records it was for.
        records: u64,
        /// It took longer than `fsync.warningthresholdms`.
        slow: bool,
    },
    /// The log asks for a snapshot (enough transactions or bytes since the last).
    SnapshotDue,
    /// The snapshot's last part is durable under its name.
    SnapshotDone {
        /// Of which zxid.
        zxid: Zxid,
        /// Milliseconds from begin to end.
        took_ms: i64,
    },
    /// The snapshot's writer took this many bytes of it.
    SnapshotTook(usize),
    /// Nothing but the clock.
    Tick,
}

impl Input {
    /// What the log's thread told, if it is anything to the peer.
    pub fn from_log(event: LogEvent) -> Option<Input> {
        match event {
            LogEvent::Synced { zxid, sync_ns, records, slow, .. } => {
                Some(Input::Synced { zxid, sync_ns, records, slow })
            }
            LogEvent::SnapshotDue => Some(Input::SnapshotDue),
            LogEvent::Restarted { .. } | LogEvent::Stopped => None,
        }
    }
}

/// A proposal for the log.
#[derive(Debug)]
pub struct Append {
    /// Which.
    pub zxid: Zxid,
    /// Header, body and digest: a PROPOSAL's bytes.
    pub payload: Bytes,
}

/// What the peer core wants done. The caller empties it after each step.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the log, in order; synced as soon as possible.
    pub append: Vec<Append>,
    /// To the shards, in order.
    pub to_shards: Vec<(ShardId, ToShard)>,
    /// To the snapshot's writer, in order.
    pub snapshot: Vec<SnapshotPart>,
}

/// A proposal that waits to be committed and applied.
struct Waiting {
    proposal: Proposal,
    behind_read: bool,
    /// Dropped with this, when the write was applied.
    _large: Option<Admitted>,
}

/// The machine.
pub struct Peer {
    options: PeerOptions,
    prep: Prep,
    leader: Leader,
    tracker: SessionTracker,
    sessions: SessionTable,
    waiting: VecDeque<Waiting>,
    /// Answers to resumptions, each once the session's own writes up to a zxid are applied: what the session asked on the
    /// connection it left is done before it can ask for the outcome on the new one.
    resumed: Vec<(Zxid, ShardId, ToShard)>,
    /// For each shard, the newest zxid whose outcome it was sent.
    told: Vec<Zxid>,
    sweep: Sweep,
    imaging: Imaging,
    stats: PeerStats,
    no_events: Arc<[Event]>,
}

impl Peer {
    /// Goes on where recovery ended: `tree` and `sessions` are what log and snapshot gave; every session's full timeout
    /// starts now.
    pub fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Peer {
        let mut tracker = SessionTracker::new(options.me, now, options.tick_ms);
        let mut table = SessionTable::new();
        for (session, timeout_ms) in sessions {
            tracker.insert(*session, *timeout_ms, now);
            table.commit(*session, *timeout_ms);
        }
        let alone = Majority::new([options.me].into()).expect("one voter is there");
        Peer {
            prep: Prep::new(options.prep.clone()),
            leader: Leader::new(Verifier::Majority(alone), tree.last_zxid()),
            tracker,
            sessions: table,
            waiting: VecDeque::new(),
            resumed: Vec::new(),
            told: vec![Zxid::ZERO; options.shards],
            sweep: Sweep::new(options.sweep.clone(), now),
            imaging: Imaging::default(),
            stats: PeerStats::new(now),
            no_events: Arc::new([]),
            options,
        }
    }

    /// Digests that recovery came by, oldest first, for the `hash` word.
    pub fn remember_digests(&mut self, digests: &[(Zxid, u64)]) {
        self.stats.recovered(digests);
    }

    /// First step after the start: sessions that own ephemerals but are not known any more are closed, by transaction.
    pub fn start(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let mut orphans: Vec<SessionId> = tree.ephemeral_owners().filter(|s| !self.sessions.contains(*s)).collect();
        orphans.sort_unstable();
        orphans.dedup();
        for session in orphans {
            tracing::warn!(%session, "closing a session that owns ephemerals but is in neither snapshot nor log");
            self.close_session(now, session, tree, out);
        }
    }

    /// One step.
    pub fn handle(&mut self, now: Now, input: Input, tree: &Tree, out: &mut Outbox) {
        match input {
            Input::FromShard(message) => self.hear_shard(now, message, tree, out),
            Input::Synced { zxid, sync_ns, records, slow } => {
                self.stats.synced(sync_ns, records, slow);
                self.leader.ack(self.options.me, zxid);
            }
            Input::SnapshotDue => self.begin_snapshot(tree),
            Input::SnapshotDone { zxid, took_ms } => {
                self.stats.snapshot_ms.record(took_ms.max(0) as u64);
                self.imaging.done(zxid, took_ms, now);
            }
            Input::SnapshotTook(bytes) => self.imaging.took(bytes),
            Input::Tick => self.tick(now, tree, out),
        }
    }

    fn hear_shard(&mut self, now: Now, message: ToPeer, tree: &Tree, out: &mut Outbox) {
        match message {
            ToPeer::Write { request, behind_read, large } => {
                self.write(now, request, behind_read, large, tree, out);
            }
            ToPeer::NewSession { shard, conn, timeout_ms, auth } => {
                let origin = Origin::Local { shard, conn };
                let session = self.tracker.create(now, timeout_ms);
                self.own(session, origin);
                let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
                let request =
                    WriteRequest { session, cxid: Cxid(0), op: op::CREATE_SESSION, body, auth, moved: false, origin };
                self.propose(now, request, false, None, tree, out);
            }
            ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches } => {
                let origin = Origin::Local { shard, conn };
                let under_way = self.waiting.iter().rev().find(|w| w.proposal.header.session == session);
                let last = under_way.map(|w| w.proposal.header.zxid);
                let session = self.resume(now, origin, session, timeout_ms, passwd_matches, out);
                let answer = ToShard::Resumed { conn, session };
                match last.filter(|_| session.is_some()) {
                    Some(zxid) => self.resumed.push((zxid, shard, answer)),
                    None => out.to_shards.push((shard, answer)),
                }
            }
            ToPeer::Touch { session, heard_ms } => {
                self.tracker.touch(session, heard_ms);
            }
        }
    }

    fn write(
        &mut self,
        now: Now,
        request: WriteRequest,
        behind_read: bool,
        large: Option<Admitted>,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let origin = request.origin;
        // The session moved to another connection: this one is closed and its requests have no effect (SESSIONMOVED).
        if self.tracker.owner(request.session).is_some_and(|owner| owner != origin) {
            close(origin, out);
            return;
        }
        self.propose(now, request, behind_read, large, tree, out);
    }

    /// Every write becomes exactly one proposal with the next zxid, a refused one too.
    fn propose(
        &mut self,
        now: Now,
        request: WriteRequest,
        behind_read: bool,
        large: Option<Admitted>,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let zxid = match self.leader.propose() {
            Ok(zxid) => zxid,
            Err(_) => {
                // A quorum of one needs no election for a new epoch.
                self.leader.begin_epoch();
                self.leader.propose().expect("a new epoch has zxids")
            }
        };
        let closes = request.op == op::CLOSE_SESSION;
        let session = request.session;
        let mut proposal = self.prep.handle(tree, &self.tracker, now, zxid, &request);
        if closes {
            self.tracker.mark_closing(session);
        }
        self.stats.proposed(proposal.record.len());
        // Applying needs the decoded transaction only; a second owner would cost an allocation.
        out.append.push(Append { zxid, payload: std::mem::take(&mut proposal.record) });
        self.waiting.push_back(Waiting { proposal, behind_read, _large: large });
    }

    fn tick(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let heard = Now { mono_ms: now.mono_ms - self.touch_lag_ms(), ..now };
        for session in self.tracker.expire(heard) {
            tracing::info!(target: CLIENT_LOG, %session, "session expired");
            self.stats.sessions_expired += 1;
            self.close_session(now, session, tree, out);
        }
        let paths = self.sweep.due(now, tree);
        for path in paths {
            let mut body = Vec::new();
            crate::jute::Put::put_string(&mut body, &path);
            let request = WriteRequest {
                session: SessionId::NONE,
                cxid: Cxid(0),
                op: op::DELETE_CONTAINER,
                body: body.into(),
                auth: [].into(),
                moved: false,
                origin: Origin::Server,
            };
            self.propose(now, request, false, None, tree, out);
        }
    }

    fn close_session(&mut self, now: Now, session: SessionId, tree: &Tree, out: &mut Outbox) {
        let request = WriteRequest {
            session,
            cxid: Cxid(0),
            op: op::CLOSE_SESSION,
            body: Bytes::new(),
            auth: [].into(),
            moved: false,
            origin: Origin::Server,
        };
        self.propose(now, request, false, None, tree, out);
    }

    fn begin_snapshot(&mut self, tree: &Tree) {
        if self.imaging.is_running() {
            tracing::warn!("too busy to snapshot: the previous one is still being written");
            return;
        }
        self.imaging.ask(tree.last_zxid());
    }

    /// When [`Input::Tick`] is wanted next, on the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        let expiry = self.tracker.deadline().map(|at| at + self.touch_lag_ms());
        [expiry, self.sweep.deadline()].into_iter().flatten().min()
    }

    /// What is heard of a session may be known here only so much later.
    fn touch_lag_ms(&self) -> i64 {
        touch_interval_ms(self.options.tick_ms)
    }

    /// Whether [`Peer::apply`] has work it could do now.
    pub fn has_work(&self) -> bool {
        self.imaging.has_work() || self.waiting.front().is_some_and(|w| w.proposal.header.zxid <= self.committed())
    }

    /// The newest zxid a quorum has.
    pub fn committed(&self) -> Zxid {
        self.leader.last_committed()
    }

    /// Whether everything proposed was applied.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.imaging.is_running()
    }

    /// Its invariants.
    pub fn check(&self, tree: &Tree) {
        self.leader.check();
        self.tracker.check();
        self.prep.check();
        let mut last = tree.last_zxid();
        for w in &self.waiting {
            assert!(last.precedes(w.proposal.header.zxid), "{last} then {}", w.proposal.header.zxid);
            last = w.proposal.header.zxid;
        }
        assert!(self.resumed.iter().all(|(zxid, ..)| *zxid > tree.last_zxid()), "an answer waits for what is applied");
        for (session, _) in self.sessions.iter() {
            assert!(self.tracker.is_known(session), "{session} is applied but not tracked");
        }
    }

    fn own(&mut self, session: SessionId, origin: Origin) {
        // A session that is closing has no use for an owner any more.
        let _ = self.tracker.set_owner(session, origin);
    }

    /// The session and its timeout, if the connection may have it.
    fn resume(
        &mut self,
        now: Now,
        origin: Origin,
        session: SessionId,
        timeout_ms: i32,
        passwd_matches: bool,
        out: &mut Outbox,
    ) -> Option<(SessionId, i32)> {
        if !self.sessions.contains(session) || self.tracker.is_closing(session) {
            return None;
        }
        if let Some(old) = self.tracker.owner(session).filter(|old| *old != origin) {
            close(old, out);
        }
        if !passwd_matches {
            return None;
        }
        self.own(session, origin);
        self.tracker.insert(session, timeout_ms, now);
        Some((session, timeout_ms))
    }
}

/// Ends the connection of a session that is not its any more.
fn close(owner: Origin, out: &mut Outbox) {
    match owner {
        Origin::Local { shard, conn } => out.to_shards.push((shard, ToShard::Close { conn })),
        Origin::Server => {}
    }
}
