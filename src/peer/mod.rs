//! The core of one server that makes decisions: it has the requests of shards validated and proposed, commits what a
//! quorum has logged, applies it, and sends the results to the shards. Mirrors `ZooKeeperServer` and `QuorumPeer`.
//!
//! [`Peer`] owns the server's role and what every role shares: the transactions between log and tree (`commit`), the requests
//! that wait for them (`local`), their application (`apply`), the session table and the snapshots. What only a leader has is in
//! `leading`. A standalone server is the leader of an ensemble of one.
//!
//! It has two entry points: [`Peer::handle`] only reads the tree, and [`Peer::apply`] is the only code that writes it.
//! Nothing is applied, and so nothing is answered, before [`Input::Synced`] has reported that it is durable.

pub mod apply;
mod commit;
mod container_manager;
mod leading;
mod local;
mod snapshot;
pub mod snapshot_requests;
pub mod status;
#[cfg(test)]
mod tests;
pub mod turn;

use std::sync::Arc;

use bytes::Bytes;

use crate::pipeline::messages::{Event, ToPeer, ToShard};
use crate::pipeline::prep::PrepOptions;
use crate::session::table::SessionTable;
use crate::tree::Tree;
use crate::txnlog::log::LogEvent;
use crate::types::{Now, Origin, ServerId, SessionId, ShardId, Zxid};
use crate::watch::interest::MAX_SHARDS;
pub use commit::AfterSync;
use commit::{CommitQueue, Said};
pub use container_manager::SweepOptions;
use leading::Leading;
use local::LocalRequests;
use snapshot::Imaging;
pub use snapshot::{SnapshotAnswer, SnapshotPart, SnapshotRefused, SnapshotTicket};
use status::PeerStats;

/// Settings of the peer core.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The id of this server; 1 if it is standalone.
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

/// An input of the peer core.
#[derive(Debug)]
pub enum Input {
    /// A message from a shard.
    FromShard(ToPeer),
    /// Everything appended up to here is durable.
    Synced {
        /// The newest durable one.
        zxid: Zxid,
        /// How long the sync took, in nanoseconds.
        sync_ns: u64,
        /// Number of records that it was for.
        records: u64,
        /// It took longer than `fsync.warningthresholdms`.
        slow: bool,
    },
    /// The log asks for a snapshot, because there were enough transactions or bytes since the last one.
    SnapshotDue,
    /// An administrator asks for a snapshot of all that is applied: answered with a [`SnapshotAnswer`] once one is durable.
    SnapshotAsked(SnapshotTicket),
    /// The snapshot's last part is durable under its name.
    SnapshotDone {
        /// The zxid of the snapshot.
        zxid: Zxid,
        /// Milliseconds from begin to end.
        took_ms: i64,
    },
    /// The snapshot's writer took this many bytes of it.
    SnapshotTook(usize),
    /// No event; only the time has changed.
    Tick,
}

impl Input {
    /// The input that an event of the log thread means for the peer, if any.
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
    /// The zxid.
    pub zxid: Zxid,
    /// Header, body and digest: a PROPOSAL's bytes.
    pub payload: Bytes,
}

/// What the peer core wants done. The caller empties the public lists after each step and does not touch the rest.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Records for the log, in order, to be synced as soon as possible.
    pub append: Vec<Append>,
    /// Messages for the shards, in order.
    pub to_shards: Vec<(ShardId, ToShard)>,
    /// Parts for the writer of snapshots, in order.
    pub snapshot: Vec<SnapshotPart>,
    /// Answers to requests for a snapshot.
    pub snapshot_answers: Vec<SnapshotAnswer>,
    /// What may be sent only when something is durable; kept here until [`Input::Synced`].
    after_sync: AfterSync,
}

/// The role of this server in its ensemble.
enum Role {
    /// The leader; a standalone server always is.
    Leading(Leading),
}

/// The state machine of the peer core.
pub struct Peer {
    options: PeerOptions,
    role: Role,
    commits: CommitQueue,
    /// Requests of this server's clients whose transactions are among the `commits`.
    local: LocalRequests,
    /// Sessions whose createSession is applied and whose closeSession is not.
    sessions: SessionTable,
    /// Answers to resumed sessions. Each waits until the session's own writes up to a zxid are applied: what the
    /// session sent on its old connection must be done before it can read on the new one.
    resumed: Vec<(Zxid, ShardId, ToShard)>,
    /// For each shard, the newest zxid of which it was sent an outcome.
    told: Vec<Zxid>,
    imaging: Imaging,
    stats: PeerStats,
    no_events: Arc<[Event]>,
}

impl Peer {
    /// Continues where recovery ended: `tree` and `sessions` come from log and snapshot. Every session's full timeout
    /// starts now.
    ///
    /// # Panics
    /// If there are no shards or more than an [`Interest`](crate::watch::Interest) can tell apart.
    pub fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Peer {
        assert!((1..=MAX_SHARDS).contains(&options.shards), "{} shards of at most {MAX_SHARDS}", options.shards);
        Peer {
            role: Role::Leading(Leading::alone(&options, tree.last_zxid(), sessions, now)),
            commits: CommitQueue::new(tree.last_zxid()),
            local: LocalRequests::default(),
            sessions: sessions.iter().copied().collect(),
            resumed: Vec::new(),
            told: vec![Zxid::ZERO; options.shards],
            imaging: Imaging::default(),
            stats: PeerStats::new(now),
            no_events: Arc::new([]),
            options,
        }
    }

    /// Digests from the replay of the log, oldest first, for the `hash` word.
    pub fn remember_digests(&mut self, digests: &[(Zxid, u64)]) {
        self.stats.recovered(digests);
    }

    /// Handles one input. The [`Outbox`] must be the same one each time, since it also keeps what waits for a sync.
    pub fn handle(&mut self, now: Now, input: Input, tree: &Tree, out: &mut Outbox) {
        match input {
            Input::FromShard(message) => self.hear_shard(now, message, tree, out),
            Input::Synced { zxid, sync_ns, records, slow } => {
                self.stats.synced(sync_ns, records, slow);
                self.synced(zxid, out);
            }
            Input::SnapshotDue => self.imaging.due(),
            Input::SnapshotAsked(ticket) => self.imaging.ask(ticket, tree.last_zxid(), out),
            Input::SnapshotDone { zxid, took_ms } => {
                self.stats.snapshot_ms.record(took_ms.max(0) as u64);
                self.imaging.done(zxid, took_ms, now, out);
            }
            Input::SnapshotTook(bytes) => self.imaging.took(bytes),
            Input::Tick => self.tick(now, tree, out),
        }
    }

    /// Everything up to `zxid` is durable on this server: sends what waited for that.
    fn synced(&mut self, zxid: Zxid, out: &mut Outbox) {
        self.commits.synced(zxid);
        let mut own_ack = None;
        while let Some((zxid, said)) = out.after_sync.due(zxid) {
            match said {
                // Acks are cumulative: the last one stands for all of this sync.
                Said::OwnAck => own_ack = Some(zxid),
            }
        }
        let Role::Leading(leading) = &mut self.role;
        if let Some(committed) = own_ack.and_then(|zxid| leading.own_ack(zxid)) {
            self.commits.commit(committed);
        }
    }

    /// When the next [`Input::Tick`] is needed, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        let Role::Leading(leading) = &self.role;
        leading.deadline()
    }

    /// Whether [`Peer::apply`] has work it could do now.
    pub fn has_work(&self) -> bool {
        self.imaging.has_work() || self.commits.ready().is_some()
    }

    /// The newest zxid a quorum has.
    pub fn committed(&self) -> Zxid {
        self.commits.committed()
    }

    /// Whether everything proposed was applied.
    pub fn is_idle(&self) -> bool {
        self.commits.len() == 0 && !self.imaging.is_running()
    }

    /// The approximate number of items that [`Peer::check`] looks at.
    pub fn weight(&self) -> usize {
        self.commits.len() + self.sessions.len()
    }

    /// Checks the invariants. Walks through all sessions and everything that is not applied.
    pub fn check(&self, tree: &Tree) {
        let applied = tree.last_zxid();
        self.commits.check(applied);
        self.local.check(self.commits.headers());
        assert!(self.local.len() <= self.commits.len());
        assert!(self.told.iter().all(|told| *told <= applied), "a shard was told what is not applied");
        for (zxid, shard, _) in &self.resumed {
            assert!(*zxid > applied, "an answer to {shard:?} waits for {zxid}, which is applied");
        }
        self.imaging.check(applied);
        let Role::Leading(leading) = &self.role;
        leading.check(self.commits.committed());
        for (session, _) in self.sessions.iter() {
            assert!(leading.tracker.is_known(session), "{session} is applied but not tracked");
        }
    }
}

/// Ends a connection whose session has ended or moved elsewhere.
fn close(owner: Origin, out: &mut Outbox) {
    match owner {
        Origin::Local { shard, conn } => out.to_shards.push((shard, ToShard::Close { conn })),
        Origin::Server => {}
    }
}
