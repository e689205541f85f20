//! The statistics of the peer core, for the four-letter words, the admin commands and the metrics. Mirrors the parts of
//! `ServerStats`, `ZKDatabase` and `SessionTracker` that are shown there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::local_sessions::LocalSessions;
use super::role_status::RoleStatus;
pub use super::snapshot::Finished;
use super::{Peer, Role};
use crate::pipeline::prep::PrepStatus;
use crate::session::tracker::ExpiryPlace;
use crate::tree::{QuotaState, Tree};
use crate::txn::{SubTxn, Txn, TxnHeader};
use crate::txnlog::replay::{DIGEST_LOG_INTERVAL, DIGEST_LOG_LIMIT};
use crate::types::{Distribution, Latencies, Namespaces, Now, ServerId, SessionId, Tally, Zxid};

/// One remembered digest, as the `hash` word lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ZxidDigest {
    pub zxid: Zxid,
    pub version: i32,
    pub digest: u64,
}

/// How far transactions were on their way, and how long after their creation. The leader's wall clock says when that was: between two
/// hosts this is as exact as their clocks agree. Mirrors `Request.logLatency`.
#[derive(Clone, Debug, Default)]
pub struct TxnLatencies {
    /// A follower got its proposal.
    pub proposed: Latencies,
    /// It was durable on this voter.
    pub durable: Latencies,
    /// A learner might apply it: it was committed, and durable there.
    pub committed: Latencies,
    /// The leader knew that a quorum has it.
    pub quorum: Latencies,
    /// It was applied. The only one that a standalone server measures.
    pub applied: Latencies,
}

/// What a leader measures of one learner, or of itself. Mirrors `ServerMetrics.ACK_LATENCY` and the metrics of `LearnerHandler`.
#[derive(Clone, Debug, Default)]
pub struct LearnerStats {
    /// How long after its creation a proposal that was not committed yet was acknowledged; `None`: none was.
    pub acks: Option<Latencies>,
    /// What is sent to it; `None`: nothing was.
    pub queue: Option<QueueStats>,
}

/// What a leader measures of the packets for one learner.
#[derive(Clone, Debug, Default)]
pub struct QueueStats {
    /// When a packet left, how many waited behind it.
    pub len: Distribution,
    /// How long packets waited until they left.
    pub time: Latencies,
}

impl LearnerStats {
    /// The same without values.
    fn emptied(self) -> LearnerStats {
        let LearnerStats { acks, queue } = self;
        LearnerStats { acks: acks.map(|_| Latencies::default()), queue: queue.map(|_| QueueStats::default()) }
    }
}

/// Most servers of which something is measured. Anybody may come with any id; what further ones do is not measured.
const MEASURED_LEARNERS: usize = 100;

/// Records that these transactions have come so far. One that comes from the future, because the clocks differ, is not counted.
pub(super) fn arrived<'a>(now: Now, headers: impl IntoIterator<Item = &'a TxnHeader>, latencies: &mut Latencies) {
    for header in headers {
        if let Ok(ms) = u64::try_from(now.wall_ms.saturating_sub(header.time_ms)) {
            latencies.record(ms.saturating_mul(1000));
        }
    }
}

/// Counters since the start.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PeerStats {
    pub started: Now,
    pub proposals: u64,
    pub commits: u64,
    pub proposal_bytes: Tally,
    pub last_proposal_bytes: u64,
    /// Those of the proposals that came from a leader.
    pub learner_proposals: u64,
    /// Commits that came from a leader.
    pub learner_commits: u64,
    /// Learners that were sent a snapshot.
    pub snaps_sent: u64,
    /// Learners that were sent the transactions they missed.
    pub diffs_sent: u64,
    /// How many learners were sent a snapshot at the same time, recorded at the begin and at the end of each.
    pub inflight_snaps: Distribution,
    /// The same of those that were sent the transactions they missed.
    pub inflight_diffs: Distribution,
    /// By server.
    pub learners: BTreeMap<ServerId, LearnerStats>,
    pub txns: TxnLatencies,
    /// Sessions of which learners asked whether they exist.
    pub revalidations: u64,
    pub sessions_expired: u64,
    pub digest_mismatches: u64,
    /// Microseconds.
    pub fsync_us: Distribution,
    /// Records per sync.
    pub batches: Distribution,
    /// Syncs that took longer than the warning threshold.
    pub slow_syncs: u64,
    /// Milliseconds that writing a snapshot took.
    pub snapshot_ms: Distribution,
    /// Bytes of paths and data written, by namespace.
    pub writes: Namespaces,
    /// The newest is at the back.
    pub digests: VecDeque<ZxidDigest>,
}

impl PeerStats {
    /// Statistics without any counts.
    pub fn new(started: Now) -> PeerStats {
        PeerStats {
            started,
            proposals: 0,
            commits: 0,
            proposal_bytes: Tally::default(),
            last_proposal_bytes: 0,
            learner_proposals: 0,
            learner_commits: 0,
            snaps_sent: 0,
            diffs_sent: 0,
            inflight_snaps: Distribution::default(),
            inflight_diffs: Distribution::default(),
            learners: BTreeMap::new(),
            txns: TxnLatencies::default(),
            revalidations: 0,
            sessions_expired: 0,
            digest_mismatches: 0,
            fsync_us: Distribution::default(),
            batches: Distribution::default(),
            slow_syncs: 0,
            snapshot_ms: Distribution::default(),
            writes: Namespaces::default(),
            digests: VecDeque::new(),
        }
    }

    /// The digests from the replay of the log, oldest first.
    pub(super) fn recovered(&mut self, digests: &[(Zxid, u64)]) {
        let version = crate::txn::TxnDigest::VERSION;
        self.digests.extend(digests.iter().map(|(zxid, digest)| ZxidDigest { zxid: *zxid, version, digest: *digest }));
    }

    /// What is measured of a server, unless that is of too many already.
    pub(super) fn of_learner(&mut self, server: ServerId) -> Option<&mut LearnerStats> {
        let room = self.learners.len() < MEASURED_LEARNERS;
        match self.learners.entry(server) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => room.then(|| new.insert(LearnerStats::default())),
        }
    }

    pub(super) fn proposed(&mut self, bytes: usize) {
        self.proposals += 1;
        self.proposal_bytes.record(bytes as u64);
        self.last_proposal_bytes = bytes as u64;
    }

    /// Bytes of the last, smallest and largest proposal.
    pub(super) fn proposal_sizes(&self) -> Option<(u64, u64, u64)> {
        let Tally { min, max, count, .. } = self.proposal_bytes;
        let last = self.last_proposal_bytes;
        assert!(
            count == 0 || (min <= last && last <= max),
            "the last of {count} proposals of {min} to {max} bytes has {last}"
        );
        (count > 0).then_some((last, min, max))
    }

    pub(super) fn synced(&mut self, sync_ns: u64, records: u64, slow: bool) {
        self.slow_syncs += u64::from(slow);
        self.batches.record(records);
        self.fsync_us.record(sync_ns / 1000);
    }

    /// `learns`: another server has committed it.
    pub(super) fn applied(&mut self, zxid: Zxid, txn: &Txn, tree: &Tree, learns: bool) {
        self.commits += u64::from(!learns);
        self.count_writes(txn);
        if zxid.0 % DIGEST_LOG_INTERVAL == 0 {
            if self.digests.len() == DIGEST_LOG_LIMIT {
                self.digests.pop_front();
            }
            self.digests.push_back(ZxidDigest { zxid, version: crate::txn::TxnDigest::VERSION, digest: tree.digest() });
        }
    }

    fn count_writes(&mut self, txn: &Txn) {
        let (path, data) = match txn {
            Txn::Create(c) => (&c.path, c.data.as_ref()),
            Txn::SetData { path, data, .. } => (path, data.as_ref()),
            Txn::Delete { path } => (path, None),
            Txn::Multi(subs) => return subs.iter().for_each(|SubTxn { txn, .. }| self.count_writes(txn)),
            _ => return,
        };
        self.writes.record(path, (path.len() + data.map_or(0, |d| d.len())) as u64);
    }
}

/// Where a list of sessions goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionPlace {
    /// The sessions that the ensemble knows: those after this one, or all.
    Global(Option<SessionId>),
    /// The sessions that only this server knows: from this place on.
    Local(ExpiryPlace),
}

/// A piece of the list of all sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPiece {
    /// When each session expires, in monotonic milliseconds, and its id. Of global ones only a leader knows that: another server
    /// gives the session's timeout instead, in milliseconds.
    pub sessions: Vec<(i64, SessionId)>,
    /// Where the next piece begins; `None`: there is none.
    pub next: Option<SessionPlace>,
}

/// The state of the peer core.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PeerStatus {
    pub stats: PeerStats,
    pub role: RoleStatus,
    pub prep: PrepStatus,
    pub last_zxid: Zxid,
    /// Number of transactions proposed and not applied.
    pub outstanding: usize,
    pub znode_count: usize,
    pub ephemerals_count: usize,
    pub approximate_data_size: u64,
    pub digest: u64,
    pub global_sessions: usize,
    /// The number of local sessions; `None` where there can be none.
    pub local_sessions: Option<usize>,
    pub last_snapshot: Option<Finished>,
    pub quotas: Vec<QuotaState>,
}

impl Peer {
    /// The word `srst`, for the counters that it resets. The remembered digests stay.
    pub fn reset_stats(&mut self) {
        let stats = &mut self.shared.stats;
        let fresh = PeerStats::new(stats.started);
        let before = std::mem::replace(stats, fresh);
        stats.digests = before.digests;
        stats.slow_syncs = before.slow_syncs;
        stats.writes = before.writes.emptied();
        // As in ZooKeeper the names stay.
        stats.learners = before.learners.into_iter().map(|(server, stats)| (server, stats.emptied())).collect();
        match &mut self.role {
            Role::Leading(leading) => leading.reset_counts(),
            Role::Learning(_) | Role::Looking(_) | Role::ReadOnly(_) => {}
        }
        self.ensemble.iter_mut().for_each(|ensemble| ensemble.elections.reset_counts());
    }

    /// The command `orst`: what went over the connections of observers is counted from now on.
    pub fn reset_observers(&mut self) {
        if let Role::Leading(leading) = &mut self.role {
            leading.reset_observers();
        }
    }

    /// A piece of the list of global or local sessions: at most `most` from a place on.
    pub fn list_sessions(&self, place: SessionPlace, most: usize) -> SessionPiece {
        match place {
            SessionPlace::Global(last) => self.list_global_sessions(last, most),
            SessionPlace::Local(place) => {
                let list = |sessions: &LocalSessions| sessions.list(place, most);
                let (sessions, next) = self.shared.local_sessions.as_deref().map(list).unwrap_or_default();
                SessionPiece { sessions, next: next.map(SessionPlace::Local) }
            }
        }
    }

    fn list_global_sessions(&self, after: Option<SessionId>, most: usize) -> SessionPiece {
        let ids: Vec<SessionId> = self.shared.sessions.after(after).take(most).collect();
        let time = |id: SessionId| match &self.role {
            Role::Leading(leading) => leading.tracker.expires_ms(id),
            Role::Learning(_) | Role::Looking(_) | Role::ReadOnly(_) => {
                self.shared.sessions.timeout_of(id).map(i64::from)
            }
        };
        let sessions = ids.iter().filter_map(|id| Some((time(*id)?, *id))).collect();
        assert!(
            ids.is_sorted() && ids.first().is_none_or(|first| after.is_none_or(|after| after < *first)),
            "listed twice"
        );
        let next = ids.last().filter(|_| ids.len() >= most).map(|last| SessionPlace::Global(Some(*last)));
        SessionPiece { sessions, next }
    }

    /// The figures as they are now.
    pub fn status(&self, tree: &Tree) -> PeerStatus {
        let shared = &self.shared;
        // Only a leader validates writes.
        let prep = match &self.role {
            Role::Leading(leading) => leading.prep_status(),
            Role::Learning(_) | Role::Looking(_) | Role::ReadOnly(_) => PrepStatus::default(),
        };
        PeerStatus {
            stats: shared.stats.clone(),
            role: self.role_status(),
            prep,
            last_zxid: tree.last_zxid().max(self.epoch_begin()),
            outstanding: shared.commits.len(),
            znode_count: tree.node_count(),
            ephemerals_count: tree.ephemerals_count(),
            approximate_data_size: tree.approximate_data_size(),
            digest: tree.digest(),
            global_sessions: shared.sessions.len(),
            local_sessions: shared.local_sessions.as_ref().map(|sessions| sessions.len()),
            last_snapshot: shared.imaging.last,
            quotas: tree.all_quotas().collect(),
        }
    }
}
