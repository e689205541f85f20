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
mod disk_queue;
mod ensemble;
pub mod feed;
mod image_turn;
mod leading;
mod learning;
mod local;
mod local_sessions;
mod looking;
pub mod net;
mod read_only;
mod replicated;
pub mod role_status;
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
use crate::types::{Epoch, Now, Origin, ServerId, SessionId, ShardId, Term, Zxid, earliest};
use crate::watch::interest::{Interest, MAX_SHARDS};
use apply::Cursors;
pub use container_manager::SweepOptions;
use disk::{DiskAnswer, DiskRequest};
use ensemble::Ensemble;
pub use ensemble::{EnsembleOptions, Found};
use feed::{FeedAnswer, FeedWant};
use leading::Leading;
use learning::Learning;
pub use local_sessions::LocalSessionOptions;
use local_sessions::LocalSessions;
use looking::Looking;
use net::{NetEvent, NetWant};
use read_only::ReadOnly;
use replicated::Replicated;
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
        /// Number of records that it was for; 0 if the log keeps nothing.
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
    /// The snapshot's writer has forgotten what it had, as it was told.
    SnapshotAbandoned,
    /// The disk did what it was asked for.
    Disk(DiskAnswer),
    /// News of a connection to another member.
    Net(NetEvent),
    /// The reader of the disk answers a question.
    Fed(FeedAnswer),
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
    /// Requests to the disk, in order, after the records.
    pub disk: Vec<DiskRequest>,
    /// What is wanted of connections to other members, in order.
    pub net: Vec<NetWant>,
    /// What is wanted of the reader of the disk, in order.
    pub feed: Vec<FeedWant>,
    /// Messages for the shards, in order.
    pub to_shards: Vec<(ShardId, ToShard)>,
    /// Parts for the writer of snapshots, in order.
    pub snapshot: Vec<SnapshotPart>,
    /// Answers to requests for a snapshot.
    pub snapshot_answers: Vec<SnapshotAnswer>,
}

/// The role of this server in its ensemble.
#[expect(clippy::large_enum_variant, reason = "there is one role, and each write goes through the leader's")]
enum Role {
    /// It takes part in an election, or will when its disk has answered for what an earlier role asked of it.
    Looking(Looking),
    /// The leader; a standalone server always is.
    Leading(Leading),
    /// A follower or an observer.
    Learning(Box<Learning>),
    /// It takes part in an election, and lets clients read meanwhile.
    ReadOnly(ReadOnly),
}

impl Role {
    /// Tree and session table show `zxid` and all before it.
    fn applied(&mut self, zxid: Zxid, shared: &mut Shared, out: &mut Outbox) {
        match self {
            Role::Leading(leading) => {
                leading.applied(zxid);
                leading.end_local_sessions(zxid, shared, out);
            }
            Role::Learning(learning) => learning.applied(zxid, shared, out),
            Role::Looking(_) | Role::ReadOnly(_) => {}
        }
    }

    /// Whether it is measured how old transactions are when they are applied.
    fn measures(&self) -> bool {
        match self {
            Role::Leading(_) => true,
            Role::Learning(learning) => learning.is_serving(),
            Role::Looking(_) | Role::ReadOnly(_) => false,
        }
    }

    /// A session was created.
    fn session_created(&mut self, session: SessionId, timeout_ms: i32) {
        match self {
            Role::Learning(learning) => learning.session_created(session, timeout_ms),
            Role::Leading(_) | Role::Looking(_) | Role::ReadOnly(_) => {}
        }
    }

    /// The session is closed. Returns the connection that owned it, if one did.
    fn session_closed(&mut self, session: SessionId) -> Option<Origin> {
        match self {
            Role::Leading(leading) => leading.session_closed(session),
            Role::Learning(learning) => learning.session_closed(session),
            Role::Looking(_) | Role::ReadOnly(_) => None,
        }
    }
}

/// The state machine of the peer core: the owner of the server's role.
pub struct Peer {
    term: Term,
    role: Role,
    shared: Shared,
    /// `None`: a standalone server.
    ensemble: Option<Ensemble>,
    /// What the disk loaded in place of the tree, until the tree may be replaced.
    loaded: Option<DiskAnswer>,
}

impl Peer {
    /// A standalone server that continues where recovery ended: `tree` and `sessions` come from log and snapshot. Every
    /// session's full timeout starts now.
    ///
    /// # Panics
    /// If there are no shards or more than an [`Interest`](crate::watch::Interest) can tell apart.
    pub fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Peer {
        let role = Role::Leading(Leading::alone(&options, tree.last_zxid(), sessions, now));
        Peer::with(role, Shared::new(options, tree, sessions, now), None)
    }

    /// A member of an ensemble that continues where recovery ended. It serves nobody before it leads or follows.
    ///
    /// # Panics
    /// As [`Peer::new`] does.
    pub fn member(
        options: PeerOptions,
        ensemble: EnsembleOptions,
        found: Found,
        tree: &Tree,
        sessions: &[(SessionId, i32)],
        now: Now,
    ) -> Peer {
        let Found { epochs, recent, chain } = found;
        let replicated = Replicated::recovered(ensemble.history, chain, recent, tree.last_zxid());
        let ensemble = Ensemble::new(options.me, ensemble, epochs);
        let mut shared = Shared::new(options, tree, sessions, now);
        shared.replicated = Some(Box::new(replicated));
        Peer::with(Role::Looking(Looking::Settling), shared, Some(ensemble))
    }

    fn with(role: Role, shared: Shared, ensemble: Option<Ensemble>) -> Peer {
        let shards = shared.options.shards;
        assert!((1..=MAX_SHARDS).contains(&shards), "{shards} shards of at most {MAX_SHARDS}");
        Peer { term: Term::default(), role, shared, ensemble, loaded: None }
    }

    /// A member's local sessions; `None` if it has none (`localSessionsEnabled`). To be called before the first step.
    ///
    /// # Panics
    /// If it is a standalone server, whose sessions are all global.
    pub fn with_local_sessions(mut self, options: Option<LocalSessionOptions>, now: Now) -> Peer {
        assert!(self.ensemble.is_some(), "a standalone server has no local sessions");
        assert_eq!(self.term, Term::default(), "a server that has done something already");
        let PeerOptions { me, tick_ms, .. } = self.shared.options;
        self.shared.local_sessions = options.map(|options| Box::new(LocalSessions::new(options, me, tick_ms, now)));
        self
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
        let shared = &mut self.shared;
        match input {
            Input::FromShard(message) => match &mut self.role {
                Role::Leading(leading) if leading.is_alone() => {
                    leading.hear_shard(&mut Step { now, tree, shared, out }, message);
                }
                _ => self.hear_shard(now, message, tree, out),
            },
            Input::Synced { term, zxid, sync_ns, records, slow } => {
                // A log that keeps nothing has made nothing durable.
                if records > 0 {
                    shared.stats.synced(sync_ns, records, slow);
                }
                match &self.role {
                    Role::Learning(learning) if learning.is_serving() && learning.votes() => {
                        shared.measure_sync(zxid, now);
                    }
                    Role::Leading(leading) if !leading.is_alone() => {
                        shared.measure_sync(zxid, now);
                        shared.measure_acks(shared.options.me, shared.commits.durable(), zxid, now);
                    }
                    _ => {}
                }
                shared.commits.synced(zxid);
                self.synced(now, term, zxid, tree, out);
            }
            Input::SnapshotDue => shared.imaging.due(),
            Input::SnapshotAsked(ticket) => shared.imaging.ask(ticket, tree.last_zxid(), out),
            Input::SnapshotDone { zxid, took_ms } => {
                shared.stats.snapshot_ms.record(took_ms.max(0) as u64);
                shared.imaging.done(zxid, took_ms, now, out);
                if let Role::Leading(leading) = &mut self.role {
                    leading.snapshot_taken(zxid, &mut Step { now, tree, shared, out });
                }
            }
            Input::SnapshotTook(bytes) => shared.imaging.took(bytes),
            Input::SnapshotAbandoned => {
                shared.imaging.abandoned();
                member(&mut self.ensemble).may_replace(out);
            }
            Input::Disk(answer) => self.hear_disk(now, answer, tree, out),
            Input::Fed(answer) => self.hear_feed(now, answer, tree, out),
            Input::Net(NetEvent::Quorum { term, event }) => self.hear_quorum(now, term, event, tree, out),
            Input::Net(NetEvent::Election(event)) => self.hear_election(now, event, tree, out),
            Input::Tick => self.tick(now, tree, out),
        }
    }

    /// Everything up to `zxid`, appended in `term`, is durable.
    fn synced(&mut self, now: Now, term: Term, zxid: Zxid, tree: &Tree, out: &mut Outbox) {
        assert!(term <= self.term, "records of {term:?} are durable in {:?}", self.term);
        let is_of_role = term == self.term;
        let mut step = Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Leading(leading) if leading.is_alone() => leading.synced(zxid, step.shared),
            Role::Leading(leading) if is_of_role => {
                let over = leading.synced_among_others(zxid, member(&mut self.ensemble), &mut step);
                self.go_on(over, out);
            }
            Role::Learning(learning) if is_of_role => {
                let over = learning.synced(zxid, member(&mut self.ensemble), &mut step);
                self.go_on(over, out);
            }
            _ => self.settle(),
        }
    }

    /// The first step after the start.
    pub fn start(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let step = &mut Step { now, tree, shared: &mut self.shared, out };
        match &mut self.role {
            Role::Leading(leading) => leading.start(step),
            Role::Looking(_) => step.shared.suspend(step.out),
            Role::Learning(_) | Role::ReadOnly(_) => panic!("a start in a role that comes of an election"),
        }
    }

    /// Applies a run of at most `most` committed transactions; the caller holds the tree for writing. Stops early before a write
    /// whose session still has an earlier read to be answered (rule S3a).
    ///
    /// Returns how many were applied.
    pub fn apply(
        &mut self,
        now: Now,
        tree: &mut Tree,
        cursors: &impl Cursors,
        interest: &Interest,
        most: usize,
        out: &mut Outbox,
    ) -> usize {
        self.shared.apply(&mut self.role, tree, (cursors, interest), most, now, out)
    }

    /// When the next [`Input::Tick`] is needed, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        let role = match &self.role {
            Role::Leading(leading) => leading.deadline(),
            Role::Learning(learning) => learning.deadline(),
            Role::Looking(_) => self.reads_from(),
            Role::ReadOnly(_) => None,
        };
        let ensemble = self.ensemble.as_ref().and_then(Ensemble::deadline);
        earliest([role, ensemble, self.shared.deadline()])
    }

    /// Whether there is work for the next turn that no input will announce.
    pub fn has_work(&self) -> bool {
        self.shared.has_work() || self.loaded.is_some() || self.may_look() || self.doubts_itself()
    }

    /// The epoch of which this server is the established leader.
    pub fn leads(&self) -> Option<Epoch> {
        match &self.role {
            Role::Leading(leading) => leading.epoch_led(),
            Role::Learning(_) | Role::Looking(_) | Role::ReadOnly(_) => None,
        }
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
        self.shared.check(tree.last_zxid(), matches!(self.role, Role::Leading(_)));
        self.ensemble.iter().for_each(Ensemble::check);
        match &self.role {
            Role::Leading(leading) => leading.check(&self.shared),
            Role::Learning(learning) => learning.check(&self.shared),
            Role::Looking(_) => assert_eq!(self.shared.local.len(), 0, "requests of clients that are gone"),
            Role::ReadOnly(reading) => reading.check(&self.shared),
        }
    }
}

/// The part of a member of an ensemble. Only a member has learners, elections and jobs for its disk.
fn member(ensemble: &mut Option<Ensemble>) -> &mut Ensemble {
    ensemble.as_mut().expect("a standalone server hears of no other member")
}

/// Ends a connection whose session has ended or moved elsewhere.
fn close(owner: Origin, out: &mut Outbox) {
    match owner {
        Origin::Local { shard, conn } => out.to_shards.push((shard, ToShard::Close { conn })),
        // A learner closes its clients' connections itself.
        Origin::Server | Origin::Learner { .. } => {}
    }
}
