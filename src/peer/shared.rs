//! What every role of a server shares: the transactions between log and tree, the requests that wait for them, the session
//! table, the snapshots and the figures. A role decides what is appended and committed; from there on the way is the same.
//! Mirrors the parts of `ZooKeeperServer` that leaders, followers and observers inherit.

use std::collections::HashMap;
use std::sync::Arc;

use super::commit::CommitQueue;
use super::local::LocalRequests;
use super::snapshot::Imaging;
use super::status::PeerStats;
use super::{Outbox, PeerOptions};
use crate::pipeline::messages::{Event, ToPeer, ToShard};
use crate::pipeline::prep::Proposal;
use crate::session::table::SessionTable;
use crate::tree::Tree;
use crate::types::{Now, Origin, SessionId, ShardId, Zxid};

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
    /// For each shard, how often it was suspended and has not said that it is. What it said before is of clients that are
    /// disconnected.
    deaf: Vec<u32>,
    /// The shards that are not heard for that reason.
    deaf_count: usize,
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
            deaf: vec![0; options.shards],
            deaf_count: 0,
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

    /// The role is over: disconnects all clients. Until [`Shared::serve`] none is let in.
    pub(super) fn suspend(&mut self, out: &mut Outbox) {
        for (index, deaf) in self.deaf.iter_mut().enumerate() {
            self.deaf_count += usize::from(*deaf == 0);
            *deaf += 1;
            out.to_shards.push((ShardId(index as u32), ToShard::Suspend));
        }
    }

    /// A shard has disconnected its clients: what it says from now on is of others.
    pub(super) fn suspended(&mut self, shard: ShardId) {
        let deaf = &mut self.deaf[shard.index()];
        assert!(*deaf > 0, "{shard:?} was not suspended");
        *deaf -= 1;
        self.deaf_count -= usize::from(*deaf == 0);
    }

    /// Clients are let in.
    pub(super) fn serve(&self, out: &mut Outbox) {
        let shards = (0..self.options.shards as u32).map(ShardId);
        out.to_shards.extend(shards.map(|shard| (shard, ToShard::Serve)));
    }

    /// Whether messages of every shard are heard.
    pub(super) fn hears_all(&self) -> bool {
        self.deaf_count == 0
    }

    /// Whether this message is of a client that was not disconnected by [`Shared::suspend`].
    pub(super) fn hears(&self, message: &ToPeer) -> bool {
        let shard = match message {
            ToPeer::Write { request, .. } => match request.origin {
                Origin::Local { shard, .. } => shard,
                Origin::Server => panic!("{request:?} comes from no shard"),
            },
            ToPeer::NewSession { shard, .. } | ToPeer::Resume { shard, .. } => *shard,
            // It says only that a client was alive, which it was.
            ToPeer::Touch { .. } | ToPeer::Suspended { .. } => return true,
        };
        self.deaf[shard.index()] == 0
    }

    /// Nobody waits for a reply any more.
    pub(super) fn forget_clients(&mut self) {
        self.local.clear();
        self.resumed.clear();
    }

    /// The tree is another one.
    pub(super) fn replaced(&mut self, tree: &Tree, sessions: &HashMap<SessionId, i32>) {
        assert_eq!(self.commits.len(), 0, "transactions that belong to another history");
        assert!(self.commits.is_durable(), "a history was replaced before it was durable");
        assert!(self.local.len() == 0 && self.resumed.is_empty(), "clients saw the history that was replaced");
        self.commits = CommitQueue::new(tree.last_zxid());
        self.sessions = sessions.iter().map(|(session, timeout_ms)| (*session, *timeout_ms)).collect();
        self.told.fill(Zxid::ZERO);
        self.stats.digests.clear();
        self.imaging.replaced(tree.last_zxid());
    }

    /// Whether something could be applied, or a snapshot be continued, now.
    pub(super) fn has_work(&self) -> bool {
        self.imaging.has_work() || self.commits.ready().is_some()
    }

    /// Asserts the invariants. `leads`: whether this server proposes its clients' requests itself, at once.
    pub(super) fn check(&self, applied: Zxid, leads: bool) {
        self.commits.check(applied);
        if leads {
            self.local.check(self.commits.headers());
            assert!(self.local.len() <= self.commits.len());
        }
        assert_eq!(self.deaf.iter().filter(|deaf| **deaf > 0).count(), self.deaf_count, "shards that are not heard");
        assert!(self.told.iter().all(|told| *told <= applied), "a shard was told what is not applied");
        for (zxid, shard, _) in &self.resumed {
            assert!(*zxid > applied, "an answer to {shard:?} waits for {zxid}, which is applied");
        }
        self.imaging.check(applied);
    }
}
