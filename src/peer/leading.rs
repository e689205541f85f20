//! The leader's part of a server: sessions are made, tracked and expired, writes validated and proposed. A standalone server
//! leads an ensemble of one. Mirrors `LeaderZooKeeperServer`, `PrepRequestProcessor` and `ProposalRequestProcessor`.

mod learners;
mod local_sessions;
mod member;
mod send_queue;

use bytes::Bytes;

use self::member::Member;
use super::container_manager::Sweep;
use super::local::LocalRequest;
use super::local_sessions::LeaderSessions;
use super::shared::{Shared, Step};
use super::{PeerOptions, close};
use crate::jute::Put;
use crate::pipeline::messages::{ToPeer, ToShard, touch_interval_ms};
use crate::pipeline::prep::{Prep, PrepStatus, WriteRequest};
use crate::session::large_requests::Admitted;
use crate::session::tracker::SessionTracker;
use crate::txn::TxnHeader;
use crate::types::{CLIENT_LOG, ConnId, Cxid, Epoch, Now, Op, Origin, SessionId, ShardId, Zxid, earliest};
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
    /// What the leader of others has. `None`: a standalone server.
    member: Option<Box<Member>>,
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
            member: None,
        };
        leading.renew_epoch();
        leading
    }

    /// The request became the transaction with this header; `zxid` is what it was to have.
    #[inline]
    fn proposed(&mut self, request: &WriteRequest, zxid: Zxid, header: &TxnHeader) {
        assert_eq!(header.zxid, zxid, "a proposal has another zxid than it was given");
        assert!(header.session == request.session && header.cxid == request.cxid, "{zxid} names another request");
        if request.op == Op::CLOSE_SESSION {
            self.tracker.mark_closing(request.session);
        }
    }

    /// Begins the next epoch when the zxids of this one are used up. This is a step of its own, between two proposals.
    /// Only a leader that is a quorum by itself can do so; a leader of others must step down, and the election begins
    /// the epoch.
    fn renew_epoch(&mut self) {
        if self.zab.is_exhausted() && self.is_alone() {
            let epoch = self.zab.begin_epoch();
            tracing::info!(epoch = epoch.0, "the zxids of the last epoch are used up: a new one begins");
        }
    }

    /// This server's own log has everything up to `zxid`: that is the leader's own ack.
    pub(super) fn synced(&mut self, zxid: Zxid, shared: &mut Shared) {
        self.zab.synced(zxid, &mut self.wants);
        for want in self.wants.drain(..) {
            match want {
                Want::Commit { upto } => shared.commit(upto),
                other => unreachable!("a leader without learners wants {other:?}"),
            }
        }
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
        let own = earliest([expiry, self.sweep.deadline()]);
        match self.zab.deadline_ms() {
            None => own,
            Some(at) if self.zab.is_established() => Some(own.map_or(at, |own| own.min(at))),
            // Sessions are not tracked yet.
            Some(at) => Some(at),
        }
    }

    /// The epoch, once a quorum has taken over this server's history.
    pub(super) fn epoch_led(&self) -> Option<Epoch> {
        self.zab.is_established().then(|| self.zab.epoch())
    }

    pub(super) fn prep_status(&self) -> PrepStatus {
        self.prep.status()
    }

    /// `srst`.
    pub(super) fn reset_counts(&mut self) {
        self.prep.reset_counts();
    }

    /// Asserts the invariants.
    pub(super) fn check(&self, shared: &Shared) {
        self.zab.check();
        self.tracker.check();
        self.prep.check();
        if self.is_alone() {
            assert!(!self.zab.is_exhausted(), "nothing more can be proposed");
            let committed = shared.commits.committed();
            assert_eq!(self.zab.last_committed(), committed, "the leader has committed something else");
        }
        self.check_among_others(shared);
        if !self.zab.is_established() {
            return;
        }
        for (session, _) in shared.sessions.iter() {
            assert!(self.tracker.is_known(session), "{session} is applied but not tracked");
        }
    }
}

/// The steps of a leader.
impl Leading {
    // Inlined, and requests are passed by reference: they are large, and would be copied at each call.
    #[inline(always)]
    pub(super) fn hear_shard(&mut self, step: &mut Step<'_>, message: ToPeer) {
        match message {
            ToPeer::Write { ref request, behind_read, large } => self.write(step, request, behind_read, large),
            ToPeer::Sync(ref request) => self.sync(step, request),
            ToPeer::NewSession { shard, conn, timeout_ms, auth } => {
                if self.new_local_session(step, (shard, conn), timeout_ms) {
                    return;
                }
                let session = self.tracker.create(step.now, timeout_ms);
                assert!(!step.shared.sessions.contains(session), "the id of a new session, {session}, is in use");
                let origin = Origin::Local { shard, conn };
                self.tracker.set_owner(session, origin).expect("a new session is not closing");
                let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
                let request =
                    WriteRequest { session, cxid: Cxid(0), op: Op::CREATE_SESSION, body, auth, moved: false, origin };
                self.submit(step, &request, false, None);
            }
            ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches } => {
                let last = step.shared.commits.last_of(session);
                let session = self.resume(step, (shard, conn), session, timeout_ms, passwd_matches);
                let answer = ToShard::Resumed { conn, session };
                match last.filter(|_| session.is_some()) {
                    Some(zxid) => step.shared.resumed.push((zxid, shard, answer)),
                    None => step.out.to_shards.push((shard, answer)),
                }
            }
            ToPeer::Touch { session, heard_ms } => {
                if !step.shared.touch_local(session, heard_ms) {
                    self.tracker.touch(session, heard_ms);
                }
            }
            ToPeer::Suspended { shard } => panic!("{shard:?} is suspended and served"),
        }
    }

    fn write(&mut self, step: &mut Step<'_>, request: &WriteRequest, behind_read: bool, large: Option<Admitted>) {
        // The session moved to another connection: this one is closed and its requests have no effect (SESSIONMOVED).
        if self.tracker.owner(request.session).is_some_and(|owner| owner != request.origin) {
            close(request.origin, step.out);
            return;
        }
        if step.shared.local_sessions.is_some() && !self.before_local_write(step, request) {
            return;
        }
        self.submit(step, request, behind_read, large);
    }

    /// A sync of a client of this server is done when all is applied that was proposed before it.
    fn sync(&mut self, step: &mut Step<'_>, request: &WriteRequest) {
        let session = request.session;
        if step.shared.is_closing_local(session) {
            return;
        }
        let owner = step.shared.local_owner(session).or(self.tracker.owner(session));
        if owner.is_some_and(|owner| owner != request.origin) {
            return close(request.origin, step.out);
        }
        let upto = step.shared.commits.appended();
        step.shared.sync(upto, request.origin, step.tree.last_zxid(), step.out);
    }

    /// The session and its timeout, if the connection may have it.
    fn resume(
        &mut self,
        step: &mut Step<'_>,
        (shard, conn): (ShardId, ConnId),
        session: SessionId,
        timeout_ms: i32,
        passwd_matches: bool,
    ) -> Option<(SessionId, i32)> {
        let origin = Origin::Local { shard, conn };
        if let Some(goes_on) = self.resume_local(step, origin, session, timeout_ms, passwd_matches) {
            return goes_on.then_some((session, timeout_ms));
        }
        let tracker = &mut self.tracker;
        if !step.shared.sessions.contains(session) || tracker.is_closing(session) {
            return None;
        }
        if let Some(old) = tracker.owner(session).filter(|old| *old != origin) {
            close(old, step.out);
        }
        if !passwd_matches {
            return None;
        }
        tracker.set_owner(session, origin).expect("a session that can be resumed can have an owner");
        let is_new = tracker.insert(session, timeout_ms, step.now);
        assert!(!is_new, "{session} is in the session table, but was not tracked");
        Some((session, timeout_ms))
    }

    /// The first step after the start: closes, by transactions, the sessions that own ephemerals but are not known any more.
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        let mut orphans: Vec<SessionId> =
            step.tree.ephemeral_owners().filter(|s| !step.shared.sessions.contains(*s)).collect();
        orphans.sort_unstable();
        orphans.dedup();
        for session in orphans {
            tracing::warn!(%session, "closing a session that owns ephemerals but is in neither snapshot nor log");
            self.submit_own(step, session, Op::CLOSE_SESSION, Bytes::new());
        }
    }

    /// Expires sessions and looks for containers and TTL nodes to delete.
    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        let heard = Now { mono_ms: step.now.mono_ms - self.touch_lag_ms, ..step.now };
        step.shared.expire_local_sessions(step.now, step.out);
        let expired = self.tracker.expire(heard);
        let paths = self.sweep.due(step.now, step.tree);
        for session in expired {
            tracing::info!(target: CLIENT_LOG, %session, "session expired");
            step.shared.stats.sessions_expired += 1;
            self.submit_own(step, session, Op::CLOSE_SESSION, Bytes::new());
        }
        for path in paths {
            let mut body = Vec::new();
            body.put_string(&path);
            self.submit_own(step, SessionId::NONE, Op::DELETE_CONTAINER, body.into());
        }
    }

    /// Submits a request of the server itself.
    fn submit_own(&mut self, step: &mut Step<'_>, session: SessionId, op: Op, body: Bytes) {
        let (cxid, auth, origin) = (Cxid(0), [].into(), Origin::Server);
        let request = WriteRequest { session, cxid, op, body, auth, moved: false, origin };
        self.submit(step, &request, false, None);
    }

    /// Every write becomes exactly one proposal with the next zxid, a refused one too.
    fn submit(&mut self, step: &mut Step<'_>, request: &WriteRequest, behind_read: bool, large: Option<Admitted>) {
        let Some(zxid) = self.zab.propose(&mut self.wants) else {
            assert!(!self.is_alone(), "an epoch without zxids ended with the step before");
            // It steps down: an election begins the next epoch, and everybody who waits for an answer is disconnected.
            return;
        };
        let sessions = LeaderSessions { global: &self.tracker, local: step.shared.local_sessions.as_deref() };
        let proposal = self.prep.handle(step.tree, &sessions, step.now, zxid, request);
        self.proposed(request, zxid, &proposal.header);
        self.renew_epoch();
        if let Origin::Local { shard, conn } = request.origin {
            assert!(shard.index() < step.shared.options.shards, "a request of {shard:?}, which there is not");
            let WriteRequest { session, cxid, op, .. } = *request;
            step.shared.local.push(LocalRequest {
                session,
                cxid,
                op,
                shard,
                conn,
                behind_read,
                refusal: None,
                _large: large,
            });
        }
        step.shared.append(proposal, step.out);
        if let (Some(member), Some(replicated)) = (&mut self.member, &step.shared.replicated) {
            member.learners.propose(replicated);
        }
    }
}
