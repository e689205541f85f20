//! The core of one server that makes decisions: it has the requests of shards validated and proposed, commits what a
//! quorum has logged, applies it, and sends the results to the shards. Mirrors `ZooKeeperServer` and `QuorumPeer`.
//!
//! [`Peer`] owns the server's role and what every role shares (`shared`): the transactions between log and tree (`commit`), the
//! requests that wait for them (`local`), their application (`apply`), the session table and the snapshots. What only a leader
//! has is in `leading`. A standalone server is the leader of an ensemble of one.
//!
//! It has two entry points: [`Peer::handle`] only reads the tree, and [`Peer::apply`] is the only code that writes it.
//! Nothing is applied, and so nothing is answered, before [`Input::Synced`] has reported that it is durable.

pub mod apply;
mod commit;
mod container_manager;
pub mod disk;
mod leading;
mod local;
mod shared;
mod snapshot;
pub mod snapshot_requests;
pub mod status;
#[cfg(test)]
mod tests;
pub mod turn;

use bytes::Bytes;

use crate::pipeline::messages::{ToPeer, ToShard};
use crate::pipeline::prep::PrepOptions;
use crate::tree::Tree;
use crate::txnlog::log::LogEvent;
use crate::types::{Now, Origin, ServerId, SessionId, ShardId, Term, Zxid};
use crate::watch::interest::{Interest, MAX_SHARDS};
use apply::Cursors;
pub use container_manager::SweepOptions;
use leading::Leading;
use shared::{Shared, Step};
pub use snapshot::{SnapshotAnswer, SnapshotPart, SnapshotRefused, SnapshotTicket};

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
        /// The term in which it was appended. Only a role of this term hears of it.
        term: Term,
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
            LogEvent::Synced { term, zxid, sync_ns, records, slow, .. } => {
                Some(Input::Synced { term, zxid, sync_ns, records, slow })
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

/// What the peer core wants done. The caller empties the lists after each step.
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
}

/// The role of this server in its ensemble.
enum Role {
    /// The leader; a standalone server always is.
    Leading(Leading),
}

impl Role {
    /// Tree and session table show `zxid` and all before it.
    fn applied(&mut self, zxid: Zxid) {
        match self {
            Role::Leading(leading) => leading.applied(zxid),
        }
    }

    /// The session is closed. Returns the connection that owned it, if one did.
    fn session_closed(&mut self, session: SessionId) -> Option<Origin> {
        match self {
            Role::Leading(leading) => leading.session_closed(session),
        }
    }

    /// What it was asked to do is done: the log has everything up to `zxid`.
    fn synced(&mut self, zxid: Zxid, shared: &mut Shared) {
        match self {
            Role::Leading(leading) => leading.synced(zxid, shared),
        }
    }
}

/// The state machine of the peer core: the owner of the server's role.
pub struct Peer {
    term: Term,
    role: Role,
    shared: Shared,
}

impl Peer {
    /// Continues where recovery ended: `tree` and `sessions` come from log and snapshot. Every session's full timeout
    /// starts now.
    ///
    /// # Panics
    /// If there are no shards or more than an [`Interest`](crate::watch::Interest) can tell apart.
    pub fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Peer {
        assert!((1..=MAX_SHARDS).contains(&options.shards), "{} shards of at most {MAX_SHARDS}", options.shards);
        let role = Role::Leading(Leading::alone(&options, tree.last_zxid(), sessions, now));
        Peer { term: Term::default(), role, shared: Shared::new(options, tree, sessions, now) }
    }

    /// Digests from the replay of the log, oldest first, for the `hash` word.
    pub fn remember_digests(&mut self, digests: &[(Zxid, u64)]) {
        self.shared.stats.recovered(digests);
    }

    /// How often this server has changed its role. What is appended now carries it.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Handles one input. The caller passes the same [`Outbox`] each time, with its lists emptied.
    pub fn handle(&mut self, now: Now, input: Input, tree: &Tree, out: &mut Outbox) {
        let Peer { term, role, shared } = self;
        match input {
            Input::FromShard(message) => match role {
                Role::Leading(leading) => leading.hear_shard(&mut Step { now, tree, shared, out }, message),
            },
            Input::Synced { term: of, zxid, sync_ns, records, slow } => {
                shared.stats.synced(sync_ns, records, slow);
                shared.commits.synced(zxid);
                assert!(of <= *term, "records of {of:?} are durable in {term:?}");
                if of == *term {
                    role.synced(zxid, shared);
                }
            }
            Input::SnapshotDue => shared.imaging.due(),
            Input::SnapshotAsked(ticket) => shared.imaging.ask(ticket, tree.last_zxid(), out),
            Input::SnapshotDone { zxid, took_ms } => {
                shared.stats.snapshot_ms.record(took_ms.max(0) as u64);
                shared.imaging.done(zxid, took_ms, now, out);
            }
            Input::SnapshotTook(bytes) => shared.imaging.took(bytes),
            Input::Tick => match role {
                Role::Leading(leading) => leading.tick(&mut Step { now, tree, shared, out }),
            },
        }
    }

    /// The first step after the start.
    pub fn start(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        match &mut self.role {
            Role::Leading(leading) => leading.start(&mut Step { now, tree, shared: &mut self.shared, out }),
        }
    }

    /// Applies a run of at most `most` committed transactions; the caller holds the tree for writing. Stops early before a write
    /// whose session still has an earlier read to be answered (rule S3a).
    ///
    /// Returns how many were applied.
    pub fn apply(
        &mut self,
        tree: &mut Tree,
        cursors: &impl Cursors,
        interest: &Interest,
        most: usize,
        out: &mut Outbox,
    ) -> usize {
        self.shared.apply(&mut self.role, tree, (cursors, interest), most, out)
    }

    /// When the next [`Input::Tick`] is needed, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        match &self.role {
            Role::Leading(leading) => leading.deadline(),
        }
    }

    /// Whether [`Peer::apply`] has work it could do now.
    pub fn has_work(&self) -> bool {
        self.shared.has_work()
    }

    /// The newest zxid a quorum has.
    pub fn committed(&self) -> Zxid {
        self.shared.commits.committed()
    }

    /// Whether everything proposed was applied.
    pub fn is_idle(&self) -> bool {
        self.shared.commits.len() == 0 && !self.shared.imaging.is_running()
    }

    /// The approximate number of items that [`Peer::check`] looks at.
    pub fn weight(&self) -> usize {
        self.shared.commits.len() + self.shared.sessions.len()
    }

    /// Checks the invariants. Walks through all sessions and everything that is not applied.
    pub fn check(&self, tree: &Tree) {
        self.shared.check(tree.last_zxid());
        match &self.role {
            Role::Leading(leading) => leading.check(&self.shared),
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
