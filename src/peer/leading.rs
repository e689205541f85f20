//! The leader's part of a server: sessions are made, tracked and expired, writes validated and proposed. A standalone server
//! leads an ensemble of one. Mirrors `LeaderZooKeeperServer`, `PrepRequestProcessor` and `ProposalRequestProcessor`.

use bytes::Bytes;

use super::commit::Said;
use super::container_manager::Sweep;
use super::local::LocalRequest;
use super::{Outbox, Peer, PeerOptions, Role, close};
use crate::jute::Put;
use crate::pipeline::messages::{ToPeer, ToShard, touch_interval_ms};
use crate::pipeline::prep::{Prep, PrepStatus, Proposal, WriteRequest};
use crate::session::large_requests::Admitted;
use crate::session::tracker::SessionTracker;
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, Cxid, Now, Op, Origin, SessionId, ShardId, Zxid};
use crate::zab::{self, leader::Want};

/// What only a leader has.
pub(super) struct Leading {
    zab: zab::Leader,
    /// What `zab` wants; empty between the steps.
    wants: Vec<Want>,
    prep: Prep,
    /// Every global session of the ensemble.
    pub(super) tracker: SessionTracker,
    sweep: Sweep,
    /// A session is expired this many milliseconds later than its timeout says, because shards report only from time to
    /// time whom they heard from.
    touch_lag_ms: i64,
}

impl Leading {
    /// The leader of an ensemble of one, whose history ends at `last`. Each session's full timeout starts now.
    pub(super) fn alone(options: &PeerOptions, last: Zxid, sessions: &[(SessionId, i32)], now: Now) -> Leading {
        let mut tracker = SessionTracker::new(options.me, now, options.tick_ms);
        for (session, timeout_ms) in sessions {
            assert!(tracker.insert(*session, *timeout_ms, now), "{session} was recovered twice");
        }
        let mut leading = Leading {
            zab: zab::Leader::alone(options.me, last),
            wants: Vec::new(),
            prep: Prep::new(options.prep.clone()),
            tracker,
            sweep: Sweep::new(options.sweep.clone(), now),
            touch_lag_ms: touch_interval_ms(options.tick_ms),
        };
        leading.renew_epoch();
        leading
    }

    /// Validates a write. The transaction has the next zxid, also when it says that the write is refused.
    // Inlined: a proposal is large, and would be copied once more.
    #[inline(always)]
    fn propose(&mut self, now: Now, request: &WriteRequest, tree: &Tree) -> Proposal {
        let zxid = self.zab.propose(&mut self.wants).expect("an epoch without zxids ended with the step before");
        let proposal = self.prep.handle(tree, &self.tracker, now, zxid, request);
        let header = &proposal.header;
        assert_eq!(header.zxid, zxid, "a proposal has another zxid than it was given");
        assert!(header.session == request.session && header.cxid == request.cxid, "{zxid} names another request");
        if request.op == Op::CLOSE_SESSION {
            self.tracker.mark_closing(request.session);
        }
        proposal
    }

    /// Begins the next epoch when the zxids of this one are used up. This is a step of its own, between two proposals.
    /// Only a leader that is a quorum by itself can do so; a leader of others must step down, and the election begins
    /// the epoch.
    fn renew_epoch(&mut self) {
        if self.zab.is_exhausted() {
            let epoch = self.zab.begin_epoch();
            tracing::info!(epoch = epoch.0, "the zxids of the last epoch are used up: a new one begins");
        }
    }

    /// This server's own log has everything up to `zxid`. The new commit point, if it moved.
    pub(super) fn own_ack(&mut self, zxid: Zxid) -> Option<Zxid> {
        self.zab.synced(zxid, &mut self.wants);
        let mut committed = None;
        for want in self.wants.drain(..) {
            match want {
                Want::Commit { upto } => committed = Some(upto),
                other => unreachable!("a leader without learners wants {other:?}"),
            }
        }
        committed
    }

    /// Tree and session table show `zxid` and all before it.
    pub(super) fn applied(&mut self, zxid: Zxid) {
        self.prep.applied(zxid);
    }

    /// The session is closed. Returns its owner, if it had one.
    pub(super) fn session_closed(&mut self, session: SessionId) -> Option<Origin> {
        let owner = self.tracker.owner(session);
        self.tracker.remove(session);
        owner
    }

    /// When the next tick is needed, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        let expiry = self.tracker.deadline().map(|at| at + self.touch_lag_ms);
        [expiry, self.sweep.deadline()].into_iter().flatten().min()
    }

    pub(super) fn prep_status(&self) -> PrepStatus {
        self.prep.status()
    }

    /// `srst`.
    pub(super) fn reset_counts(&mut self) {
        self.prep.reset_counts();
    }

    /// Asserts the invariants; `committed` is the server's commit point.
    pub(super) fn check(&self, committed: Zxid) {
        self.zab.check();
        self.tracker.check();
        self.prep.check();
        assert!(!self.zab.is_exhausted(), "nothing more can be proposed");
        assert_eq!(self.zab.last_committed(), committed, "the leader has committed something else");
    }
}

/// The steps of a leader.
impl Peer {
    pub(super) fn hear_shard(&mut self, now: Now, message: ToPeer, tree: &Tree, out: &mut Outbox) {
        let Role::Leading(leading) = &mut self.role;
        match message {
            ToPeer::Write { request, behind_read, large } => self.write(now, request, behind_read, large, tree, out),
            ToPeer::NewSession { shard, conn, timeout_ms, auth } => {
                let session = leading.tracker.create(now, timeout_ms);
                assert!(!self.sessions.contains(session), "the id of a new session, {session}, is in use");
                let origin = Origin::Local { shard, conn };
                leading.tracker.set_owner(session, origin).expect("a new session is not closing");
                let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
                let request =
                    WriteRequest { session, cxid: Cxid(0), op: Op::CREATE_SESSION, body, auth, moved: false, origin };
                self.submit(now, request, false, None, tree, out);
            }
            ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches } => {
                let last = self.commits.last_of(session);
                let session = self.resume(now, (shard, conn), session, timeout_ms, passwd_matches, out);
                let answer = ToShard::Resumed { conn, session };
                match last.filter(|_| session.is_some()) {
                    Some(zxid) => self.resumed.push((zxid, shard, answer)),
                    None => out.to_shards.push((shard, answer)),
                }
            }
            ToPeer::Touch { session, heard_ms } => {
                leading.tracker.touch(session, heard_ms);
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
        let Role::Leading(leading) = &self.role;
        // The session moved to another connection: this one is closed and its requests have no effect (SESSIONMOVED).
        if leading.tracker.owner(request.session).is_some_and(|owner| owner != request.origin) {
            close(request.origin, out);
            return;
        }
        self.submit(now, request, behind_read, large, tree, out);
    }

    /// The session and its timeout, if the connection may have it.
    fn resume(
        &mut self,
        now: Now,
        (shard, conn): (ShardId, ConnId),
        session: SessionId,
        timeout_ms: i32,
        passwd_matches: bool,
        out: &mut Outbox,
    ) -> Option<(SessionId, i32)> {
        let Role::Leading(Leading { tracker, .. }) = &mut self.role;
        if !self.sessions.contains(session) || tracker.is_closing(session) {
            return None;
        }
        let origin = Origin::Local { shard, conn };
        if let Some(old) = tracker.owner(session).filter(|old| *old != origin) {
            close(old, out);
        }
        if !passwd_matches {
            return None;
        }
        tracker.set_owner(session, origin).expect("a session that can be resumed can have an owner");
        let is_new = tracker.insert(session, timeout_ms, now);
        assert!(!is_new, "{session} is in the session table, but was not tracked");
        Some((session, timeout_ms))
    }

    /// The first step after the start: closes, by transactions, the sessions that own ephemerals but are not known any more.
    pub fn start(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let mut orphans: Vec<SessionId> = tree.ephemeral_owners().filter(|s| !self.sessions.contains(*s)).collect();
        orphans.sort_unstable();
        orphans.dedup();
        for session in orphans {
            tracing::warn!(%session, "closing a session that owns ephemerals but is in neither snapshot nor log");
            self.submit_own(now, session, Op::CLOSE_SESSION, Bytes::new(), tree, out);
        }
    }

    /// Expires sessions and looks for containers and TTL nodes to delete.
    pub(super) fn tick(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        let Role::Leading(leading) = &mut self.role;
        let heard = Now { mono_ms: now.mono_ms - leading.touch_lag_ms, ..now };
        let expired = leading.tracker.expire(heard);
        let paths = leading.sweep.due(now, tree);
        for session in expired {
            tracing::info!(target: CLIENT_LOG, %session, "session expired");
            self.stats.sessions_expired += 1;
            self.submit_own(now, session, Op::CLOSE_SESSION, Bytes::new(), tree, out);
        }
        for path in paths {
            let mut body = Vec::new();
            body.put_string(&path);
            self.submit_own(now, SessionId::NONE, Op::DELETE_CONTAINER, body.into(), tree, out);
        }
    }

    /// Submits a request of the server itself.
    fn submit_own(&mut self, now: Now, session: SessionId, op: Op, body: Bytes, tree: &Tree, out: &mut Outbox) {
        let (cxid, auth, origin) = (Cxid(0), [].into(), Origin::Server);
        let request = WriteRequest { session, cxid, op, body, auth, moved: false, origin };
        self.submit(now, request, false, None, tree, out);
    }

    /// Every write becomes exactly one proposal with the next zxid, a refused one too.
    fn submit(
        &mut self,
        now: Now,
        request: WriteRequest,
        behind_read: bool,
        large: Option<Admitted>,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let Role::Leading(leading) = &mut self.role;
        let proposal = leading.propose(now, &request, tree);
        leading.renew_epoch();
        if let Origin::Local { shard, conn } = request.origin {
            assert!(shard.index() < self.options.shards, "a request of {shard:?}, which there is not");
            let WriteRequest { session, cxid, op, .. } = request;
            self.local.push(LocalRequest { session, cxid, op, shard, conn, behind_read, _large: large });
        }
        self.stats.proposed(proposal.record.len());
        let append = self.commits.append(proposal);
        out.after_sync.hold(append.zxid, Said::OwnAck);
        out.append.push(append);
    }
}
