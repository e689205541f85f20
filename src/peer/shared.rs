//! What every role of a server shares: the transactions between log and tree, the requests that wait for them, the session
//! table, the snapshots and the figures. A role decides what is appended and committed; from there on the way is the same.
//! Mirrors the parts of `ZooKeeperServer` that leaders, followers and observers inherit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::commit::CommitQueue;
use super::local::LocalRequests;
use super::local_sessions::LocalSessions;
use super::replicated::Replicated;
use super::snapshot::Imaging;
use super::status::{PeerStats, TxnLatencies, arrived};
use super::{Outbox, PeerOptions, close};
use crate::pipeline::messages::{Event, Service, ToPeer, ToShard, touch_interval_ms};
use crate::pipeline::prep::Proposal;
use crate::session::table::SessionTable;
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, Now, Origin, ServerId, SessionId, ShardId, Zxid};

/// What a step of a role works on.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) tree: &'a Tree,
    pub(super) shared: &'a mut Shared,
    pub(super) out: &'a mut Outbox,
}

/// Whether the tree is what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Nothing is known to be wrong.
    None,
    /// After this transaction the tree was another one than its proposer's.
    New(Zxid),
    /// The same, and the role that noticed it is over. Only a leader's snapshot makes this good.
    Known,
    /// A leader that has all that was ever committed has nothing of this history behind this transaction, and the history
    /// cannot be cut there. Only a leader's snapshot makes this good, or an election in which this history wins.
    Uncut(Zxid),
}

/// The part of a server that outlives its roles.
pub(super) struct Shared {
    pub(super) options: PeerOptions,
    pub(super) commits: CommitQueue,
    /// What a member of an ensemble keeps of them for others. `None`: a standalone server.
    pub(super) replicated: Option<Box<Replicated>>,
    pub(super) doubts: Doubt,
    /// Requests of this server's clients whose transactions are among the `commits`.
    pub(super) local: LocalRequests,
    /// Sessions whose createSession is applied and whose closeSession is not.
    pub(super) sessions: SessionTable,
    /// Answers to resumed sessions. Each waits until the session's own writes up to a zxid are applied: what the
    /// session sent on its old connection must be done before it can read on the new one.
    pub(super) resumed: Vec<(Zxid, ShardId, ToShard)>,
    /// Local sessions; `None` if there are none here.
    pub(super) local_sessions: Option<Box<LocalSessions>>,
    /// Syncs of this server's clients: each is done once everything up to a zxid is applied. Oldest first.
    syncs: VecDeque<(Zxid, ShardId, ConnId)>,
    /// For each shard, the newest zxid of which it was sent an outcome.
    pub(super) told: Vec<Zxid>,
    pub(super) imaging: Imaging,
    pub(super) stats: PeerStats,
    pub(super) no_events: Arc<[Event]>,
    /// For each shard, how often it was suspended and has not said that it is. What it said before is of clients that are
    /// disconnected.
    deaf: Vec<u32>,
}

impl Shared {
    /// Continues where recovery ended.
    pub(super) fn new(options: PeerOptions, tree: &Tree, sessions: &[(SessionId, i32)], now: Now) -> Shared {
        Shared {
            commits: CommitQueue::new(tree.last_zxid()),
            replicated: None,
            doubts: Doubt::None,
            local: LocalRequests::default(),
            sessions: sessions.iter().copied().collect(),
            resumed: Vec::new(),
            local_sessions: None,
            syncs: VecDeque::new(),
            told: vec![Zxid::NONE; options.shards],
            imaging: Imaging::default(),
            stats: PeerStats::new(now),
            no_events: Arc::new([]),
            deaf: vec![0; options.shards],
            options,
        }
    }

    /// A proposal goes to the log, and waits here until it may be applied.
    // Inlined: a proposal is large, and would be copied once more.
    #[inline(always)]
    pub(super) fn append(&mut self, proposal: Proposal, out: &mut Outbox) {
        self.stats.proposed(proposal.record.len());
        if let Some(replicated) = &mut self.replicated {
            replicated.proposed(proposal.header.zxid, proposal.record.clone());
        }
        out.append.push(self.commits.append(proposal));
    }

    /// Measures how long the transactions took that a quorum is known to have now. `leads`: this server has counted it.
    pub(super) fn measure_commit(&mut self, upto: Zxid, leads: bool, now: Now) {
        let TxnLatencies { quorum, committed, .. } = &mut self.stats.txns;
        let headers = self.commits.between(self.commits.committed(), upto);
        arrived(now, headers, if leads { quorum } else { committed });
    }

    /// Measures how long the transactions took that are durable on this voter now.
    pub(super) fn measure_sync(&mut self, upto: Zxid, now: Now) {
        arrived(now, self.commits.between(self.commits.durable(), upto), &mut self.stats.txns.durable);
    }

    /// Measures how long the transactions between these took that a server has acknowledged now, unless a quorum had them before.
    pub(super) fn measure_acks(&mut self, server: ServerId, after: Zxid, upto: Zxid, now: Now) {
        let Some(stats) = self.stats.of_learner(server) else { return };
        arrived(
            now,
            self.commits.between(after.max(self.commits.committed()), upto),
            stats.acks.get_or_insert_default(),
        );
    }

    /// A quorum has everything up to `upto`.
    pub(super) fn commit(&mut self, upto: Zxid) {
        self.commits.commit(upto);
        if let Some(replicated) = &mut self.replicated {
            replicated.committed(upto);
        }
    }

    /// A role is over: all that is durable is this server's history, which it votes for.
    pub(super) fn commit_all(&mut self) {
        self.commits.commit_all();
        if let Some(replicated) = &mut self.replicated {
            replicated.committed(self.commits.committed());
        }
    }

    /// This server leads the epoch of this zeroth zxid.
    pub(super) fn begin_epoch(&mut self, zeroth: Zxid) {
        self.replicated.iter_mut().for_each(|replicated| replicated.begin_epoch(zeroth));
    }

    /// The role is over: disconnects all clients. Until [`Shared::serve`] none is let in.
    pub(super) fn suspend(&mut self, out: &mut Outbox) {
        for (index, deaf) in self.deaf.iter_mut().enumerate() {
            *deaf += 1;
            out.to_shards.push((ShardId(index as u32), ToShard::Suspend));
        }
    }

    /// A shard has disconnected its clients: what it says from now on is of others.
    pub(super) fn suspended(&mut self, shard: ShardId) {
        let deaf = &mut self.deaf[shard.index()];
        assert!(*deaf > 0, "{shard:?} was not suspended");
        *deaf -= 1;
    }

    /// Clients are let in.
    pub(super) fn serve(&self, service: Service, out: &mut Outbox) {
        let shards = (0..self.options.shards as u32).map(ShardId);
        out.to_shards.extend(shards.map(|shard| (shard, ToShard::Serve(service))));
    }

    /// Whether this message is of a client that was not disconnected by [`Shared::suspend`].
    pub(super) fn hears(&self, message: &ToPeer) -> bool {
        let shard = match message {
            ToPeer::Write { request, .. } | ToPeer::Sync(request) => match request.origin {
                Origin::Local { shard, .. } => shard,
                Origin::Server | Origin::Learner { .. } => panic!("{request:?} comes from no shard"),
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
        self.syncs.clear();
        self.local_sessions.iter_mut().for_each(|sessions| sessions.clear());
    }

    /// A sync that this connection asked for is done when everything up to `upto` is applied.
    pub(super) fn sync(&mut self, upto: Zxid, origin: Origin, applied: Zxid, out: &mut Outbox) {
        let Origin::Local { shard, conn } = origin else { panic!("the server itself asks for a sync") };
        assert!(shard.index() < self.options.shards, "a sync of {shard:?}, which there is not");
        assert!(self.syncs.back().is_none_or(|(last, ..)| *last <= upto), "syncs are done in order");
        self.syncs.push_back((upto, shard, conn));
        self.answer_syncs(applied, out);
    }

    /// The connection of a local session.
    pub(super) fn local_owner(&self, session: SessionId) -> Option<Origin> {
        self.local_sessions.as_ref()?.owner(session)
    }

    /// Whether a local session's client has closed it. What it sends behind that has no effect.
    pub(super) fn is_closing_local(&self, session: SessionId) -> bool {
        self.local_sessions.as_ref().is_some_and(|sessions| sessions.is_closing(session))
    }

    /// A client was heard from. Returns whether its session is a local one.
    pub(super) fn touch_local(&mut self, session: SessionId, heard_ms: i64) -> bool {
        self.local_sessions.as_mut().is_some_and(|sessions| sessions.touch(session, heard_ms))
    }

    /// Whether this connection waits for the answer to a sync.
    pub(super) fn is_syncing(&self, conn: ConnId) -> bool {
        self.syncs.iter().any(|(.., syncing)| *syncing == conn)
    }

    /// Ends the local sessions whose clients have closed them and are answered everything before that.
    pub(super) fn end_local_sessions(
        &mut self,
        applied: Zxid,
        out: &mut Outbox,
        waits: impl Fn(&Shared, SessionId, ConnId) -> bool,
    ) {
        let Some(mut sessions) = self.local_sessions.take() else { return };
        sessions.end_closed(|session, conn| waits(self, session, conn), applied, out);
        self.local_sessions = Some(sessions);
    }

    /// Ends the local sessions that have expired, and their connections.
    pub(super) fn expire_local_sessions(&mut self, now: Now, out: &mut Outbox) {
        let touch_lag_ms = touch_interval_ms(self.options.tick_ms);
        let Some(sessions) = &mut self.local_sessions else { return };
        let heard = Now { mono_ms: now.mono_ms - touch_lag_ms, ..now };
        for (session, owner) in sessions.expire(heard) {
            tracing::info!(target: CLIENT_LOG, %session, "local session expired");
            self.stats.sessions_expired += 1;
            owner.into_iter().for_each(|owner| close(owner, out));
        }
    }

    /// When a local session may expire, on the monotonic clock in milliseconds.
    pub(super) fn deadline(&self) -> Option<i64> {
        let at = self.local_sessions.as_ref()?.deadline()?;
        Some(at + touch_interval_ms(self.options.tick_ms))
    }

    /// Answers the syncs that are done. To be called after each transaction: behind a sync its session may have a write, which
    /// comes after it on the stream.
    pub(super) fn answer_syncs(&mut self, applied: Zxid, out: &mut Outbox) {
        while let Some((_, shard, conn)) = self.syncs.pop_front_if(|(upto, ..)| *upto <= applied) {
            out.to_shards.push((shard, ToShard::Synced { conn, zxid: applied }));
        }
    }

    /// The tree is another one.
    pub(super) fn replaced(&mut self, tree: &Tree, sessions: &HashMap<SessionId, i32>) {
        assert_eq!(self.commits.len(), 0, "transactions that belong to another history");
        assert!(self.commits.is_durable(), "a history was replaced before it was durable");
        assert!(
            self.local.len() == 0 && self.resumed.is_empty() && self.syncs.is_empty(),
            "clients saw the history that was replaced"
        );
        self.commits = CommitQueue::new(tree.last_zxid());
        self.replicated.iter_mut().for_each(|replicated| replicated.replaced(tree.last_zxid()));
        self.sessions = sessions.iter().map(|(session, timeout_ms)| (*session, *timeout_ms)).collect();
        self.told.fill(Zxid::NONE);
        self.doubts = Doubt::None;
        self.stats.digests.clear();
        self.imaging.replaced(tree.last_zxid());
    }

    /// Whether something could be applied, or a snapshot be continued, now.
    pub(super) fn has_work(&self) -> bool {
        self.imaging.has_work() || self.commits.ready(0).is_some()
    }

    /// Asserts the invariants. `leads`: whether this server proposes its clients' requests itself, at once.
    pub(super) fn check(&self, applied: Zxid, leads: bool) {
        self.commits.check(applied);
        if let Some(replicated) = &self.replicated {
            replicated.check(self.commits.committed(), self.commits.appended());
        }
        if leads {
            self.local.check(self.commits.headers());
            assert!(self.local.len() <= self.commits.len());
        }
        assert!(self.told.iter().all(|told| *told <= applied), "a shard was told what is not applied");
        for (zxid, shard, _) in &self.resumed {
            assert!(*zxid > applied, "an answer to {shard:?} waits for {zxid}, which is applied");
        }
        assert!(self.syncs.iter().is_sorted_by_key(|(upto, ..)| upto), "syncs are out of order");
        assert!(self.syncs.front().is_none_or(|(upto, ..)| *upto > applied), "a sync waits for what is applied");
        self.local_sessions.iter().for_each(|sessions| sessions.check());
        self.imaging.check(applied);
    }
}
