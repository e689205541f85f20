//! What every role of a server shares: the transactions between log and tree, the requests that wait for them, the session
//! table, the snapshots and the figures. A role decides what is appended and committed; from there on the way is the same.
//! Mirrors the parts of `ZooKeeperServer` that leaders, followers and observers inherit.

use std::sync::Arc;

use super::commit::CommitQueue;
use super::local::LocalRequests;
use super::snapshot::Imaging;
use super::status::PeerStats;
use super::{Outbox, PeerOptions};
use crate::pipeline::messages::{Event, ToShard};
use crate::pipeline::prep::Proposal;
use crate::session::table::SessionTable;
use crate::tree::Tree;
use crate::types::{Now, SessionId, ShardId, Zxid};

/// What a step of a role works on.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) tree: &'a Tree,
    pub(super) shared: &'a mut Shared,
    pub(super) out: &'a mut Outbox,
}

/// The part of a server that outlives its roles.
pub(super) struct Shared {
    pub(super) options: PeerOptions,
    pub(super) commits: CommitQueue,
    /// Requests of this server's clients whose transactions are among the `commits`.
    pub(super) local: LocalRequests,
    /// Sessions whose createSession is applied and whose closeSession is not.
    pub(super) sessions: SessionTable,
    /// Answers to resumed sessions. Each waits until the session's own writes up to a zxid are applied: what the
    /// session sent on its old connection must be done before it can read on the new one.
    pub(super) resumed: Vec<(Zxid, ShardId, ToShard)>,
    /// For each shard, the newest zxid of which it was sent an outcome.
    pub(super) told: Vec<Zxid>,
    pub(super) imaging: Imaging,
    pub(super) stats: PeerStats,
    pub(super) no_events: Arc<[Event]>,
}

impl Shared {
    /// Continues where recovery ended.
    pub(super) fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Shared {
        Shared {
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

    /// A proposal goes to the log, and waits here until it may be applied.
    // Inlined: a proposal is large, and would be copied once more.
    #[inline(always)]
    pub(super) fn append(&mut self, proposal: Proposal, out: &mut Outbox) {
        self.stats.proposed(proposal.record.len());
        out.append.push(self.commits.append(proposal));
    }

    /// Whether something could be applied, or a snapshot be continued, now.
    pub(super) fn has_work(&self) -> bool {
        self.imaging.has_work() || self.commits.ready().is_some()
    }

    /// Asserts the invariants.
    pub(super) fn check(&self, applied: Zxid) {
        self.commits.check(applied);
        self.local.check(self.commits.headers());
        assert!(self.local.len() <= self.commits.len());
        assert!(self.told.iter().all(|told| *told <= applied), "a shard was told what is not applied");
        for (zxid, shard, _) in &self.resumed {
            assert!(*zxid > applied, "an answer to {shard:?} waits for {zxid}, which is applied");
        }
        self.imaging.check(applied);
    }
}
