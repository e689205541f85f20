//! The leader of an ensemble with other servers: the steps between the leader's machine, its learners' handlers, the disk and
//! the requests that learners forward. Mirrors `Leader.lead` and `LearnerHandler.run`.

use std::collections::VecDeque;

use super::learners::{Learners, replicated};
use super::{Leading, Sweep};
use crate::peer::close;
use crate::peer::disk::{DiskAnswer, DiskDone, DiskJob};
use crate::peer::ensemble::Ensemble;
use crate::peer::feed::{FeedAnswer, FeedWant};
use crate::peer::learning::Over;
use crate::peer::net::{QuorumEvent, QuorumWant};
use crate::peer::role_status::ObserverStatus;
use crate::peer::shared::{Shared, Step};
use crate::pipeline::messages::{Service, ToPeer, touch_interval_ms};
use crate::pipeline::prep::{Prep, WriteRequest};
use crate::session::tracker::SessionTracker;
use crate::types::{ConnId, Epoch, Op, Origin, PEER_LOG, ServerId, SessionId, Term, Zxid};
use crate::zab::election::Looker;
use crate::zab::handler;
use crate::zab::leader::{Introduction, Leader, SyncKind, Want};
use crate::zab::state::{LeaderFigures, ZabState};
use crate::zab::sync_plan::Plan;

/// What the leader of others has besides what every leader has.
pub(super) struct Member {
    pub(super) learners: Learners,
    term: Term,
    /// What the machine wants, in order.
    todo: VecDeque<Want>,
    /// Whether this server's own clients are served (`leaderServes`).
    serves: bool,
}

/// The leader of others.
impl Leading {
    /// An election has chosen this server. All of its history is durable and applied. Nothing is served before a quorum has
    /// taken it over.
    pub(in crate::peer) fn of_others(term: Term, ensemble: &Ensemble, step: &mut Step<'_>) -> Leading {
        let options = step.shared.options.clone();
        let last = step.shared.commits.committed();
        assert!(step.shared.commits.is_durable(), "this server leads and its history is not durable");
        assert_eq!(last, step.tree.last_zxid(), "this server leads and its history is not applied");
        let learners = Learners::new(term, ensemble);
        let mut wants = Vec::new();
        let zab = Leader::new(
            step.now.mono_ms,
            ensemble.me(),
            ensemble.leader_options(),
            ensemble.electorate(),
            ensemble.leader_history(last),
            &mut wants,
        );
        let member = Member { learners, term, todo: VecDeque::new(), serves: ensemble.leader_serves() };
        member.learners.net(QuorumWant::Listen, step);
        Leading {
            zab,
            wants,
            prep: Prep::new(options.prep),
            tracker: SessionTracker::new(options.me, step.now, options.tick_ms),
            sweep: Sweep::new(options.sweep, step.now),
            touch_lag_ms: touch_interval_ms(options.tick_ms),
            member: Some(Box::new(member)),
        }
    }

    /// Whether a server without an ensemble leads, which only obeys its own disk.
    #[inline]
    pub(in crate::peer) fn is_alone(&self) -> bool {
        self.member.is_none()
    }

    /// How far the term has come.
    pub(in crate::peer) fn state(&self) -> ZabState {
        self.zab.state()
    }

    /// The epoch that it leads, or will.
    pub(in crate::peer) fn epoch(&self) -> Epoch {
        self.zab.epoch()
    }

    /// Who learns from this leader.
    pub(in crate::peer) fn figures(&self) -> LeaderFigures {
        self.zab.figures()
    }

    /// The observers among them.
    pub(in crate::peer) fn observers(&self, figures: &LeaderFigures) -> Vec<ObserverStatus> {
        let Some(member) = &self.member else { return Vec::new() };
        let status = |(conn, server): &(ConnId, ServerId)| member.learners.observer_status(*conn, *server);
        figures.observers.iter().filter_map(status).collect()
    }

    /// `orst`.
    pub(in crate::peer) fn reset_observers(&mut self) {
        let observers = self.zab.figures().observers;
        if let Some(member) = &mut self.member {
            member.learners.reset_traffic(observers.into_iter().map(|(conn, _)| conn));
        }
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_deref_mut().expect("a standalone server has no learners")
    }

    fn learners(&mut self) -> &mut Learners {
        &mut self.member().learners
    }

    /// A message of a shard. See [`Leading::hear_shard`].
    pub(in crate::peer) fn hear_shard_among_others(
        &mut self,
        message: ToPeer,
        ensemble: &mut Ensemble,
        step: &mut Step<'_>,
    ) -> Over {
        // Before that its clients are disconnected.
        if self.zab.is_established() {
            self.hear_shard(step, message);
        }
        self.go_on(ensemble, step)
    }

    /// News of a learner's connection.
    pub(in crate::peer) fn hear_net(
        &mut self,
        event: QuorumEvent,
        ensemble: &mut Ensemble,
        step: &mut Step<'_>,
    ) -> Over {
        match event {
            QuorumEvent::Accepted { conn, from } => {
                self.learners().connected(conn, from, step);
                self.zab.connected(conn, &mut self.wants);
            }
            QuorumEvent::Bytes { conn, bytes } => {
                self.learners().tell(conn, |handler, wants| handler.heard(&bytes, wants));
            }
            QuorumEvent::Left { conn, bytes } => self.learners().left(conn, bytes, step),
            QuorumEvent::Closed { conn } => {
                if self.learners().forget(conn, step) {
                    self.zab.closed(conn);
                }
            }
            QuorumEvent::Dialed { .. } | QuorumEvent::DialFailed => panic!("{event:?} of a leader"),
        }
        self.go_on(ensemble, step)
    }

    /// A voter looks for a leader. See [`Leader::looks`].
    pub(in crate::peer) fn looks(&mut self, looker: &Looker, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        let Looker { server, ref vote, supports } = *looker;
        self.zab.looks(step.now.mono_ms, server, vote, supports, &mut self.wants);
        self.go_on(ensemble, step)
    }

    /// The disk did what was wanted of it.
    pub(in crate::peer) fn hear_disk(
        &mut self,
        answer: &DiskAnswer,
        ensemble: &mut Ensemble,
        step: &mut Step<'_>,
    ) -> Over {
        match answer.done {
            DiskDone::SavedAccepted(epoch) => self.zab.accepted_saved(epoch, &mut self.wants),
            DiskDone::SavedCurrent(epoch) => self.zab.current_saved(epoch, &mut self.wants),
            _ => panic!("{answer:?} to a leader"),
        }
        self.go_on(ensemble, step)
    }

    /// The reader of the disk answers.
    pub(in crate::peer) fn hear_feed(
        &mut self,
        answer: FeedAnswer,
        ensemble: &mut Ensemble,
        step: &mut Step<'_>,
    ) -> Over {
        if let Some((conn, plan, kind)) = self.learners().read(answer, step) {
            self.synchronise(conn, plan, kind, step);
        }
        self.go_on(ensemble, step)
    }

    /// A snapshot is durable.
    pub(in crate::peer) fn snapshot_taken(&mut self, zxid: Zxid, step: &mut Step<'_>) {
        if let Some(member) = &mut self.member {
            member.learners.snapshot_taken(zxid, step);
        }
    }

    /// This server's log has more. See [`Leading::synced`].
    pub(in crate::peer) fn synced_among_others(
        &mut self,
        zxid: Zxid,
        ensemble: &mut Ensemble,
        step: &mut Step<'_>,
    ) -> Over {
        assert!(zxid <= self.zab.last_proposed(), "{zxid} is durable and was not proposed");
        self.zab.synced(zxid, &mut self.wants);
        self.learners().synced(step);
        self.go_on(ensemble, step)
    }

    /// Time has passed. See [`Leading::tick`].
    pub(in crate::peer) fn tick_among_others(&mut self, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        for conn in self.learners().served_from_disk() {
            self.zab.heard(conn);
        }
        if self.zab.deadline_ms().is_some_and(|at| step.now.mono_ms - at >= i64::from(step.shared.options.tick_ms)) {
            // This server stood still. Whom its learners heard from meanwhile, they tell when they are asked now.
            self.tracker.hold(step.now);
        }
        self.zab.tick(step.now.mono_ms, &mut self.wants);
        if self.zab.is_established() {
            self.tick(step);
        }
        self.go_on(ensemble, step)
    }

    /// The term is over.
    pub(in crate::peer) fn end(&mut self, feed: &mut Vec<FeedWant>) {
        self.learners().end(feed);
    }

    /// Does what the machine and the handlers want, until nothing is wanted.
    pub(in crate::peer) fn go_on(&mut self, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        loop {
            if let Some((conn, want)) = self.learners().next_want() {
                self.fulfil_handler(conn, want, step);
                continue;
            }
            let Leading { wants, member, .. } = self;
            let member = member.as_deref_mut()?;
            member.todo.extend(wants.drain(..));
            let want = member.todo.pop_front()?;
            if let Want::StepDown(why) = want {
                return Some(format!("this server leads no longer: {why}"));
            }
            self.fulfil(want, ensemble, step);
        }
    }

    fn fulfil(&mut self, want: Want, ensemble: &mut Ensemble, step: &mut Step<'_>) {
        match want {
            Want::SaveAccepted(epoch) => ensemble.ask(self.member().term, DiskJob::SaveAccepted(epoch), step),
            Want::SaveCurrent(epoch) => ensemble.ask(self.member().term, DiskJob::SaveCurrent(epoch), step),
            Want::LeaderInfo { conn, epoch } => {
                self.learners().tell(conn, |handler, wants| handler.lead(epoch, wants));
            }
            Want::Synchronise { conn, last, .. } => {
                let epoch = self.zab.epoch();
                if let Some((plan, kind)) = self.learners().synchronise(conn, last, epoch, step) {
                    self.synchronise(conn, plan, kind, step);
                }
            }
            Want::UpToDate { conn } => self.learners().tell(conn, |handler, wants| handler.up_to_date(wants)),
            Want::Established(epoch) => self.established(epoch, ensemble, step),
            Want::Commit { upto } => {
                self.learners().commit(upto, replicated(step.shared));
                step.shared.measure_commit(upto, true, step.now);
                step.shared.commit(upto);
            }
            Want::Activate { zxid, .. } => panic!("{zxid} is in force, and no reconfig was proposed"),
            Want::SyncDone { conn, behind } => {
                self.learners().tell(conn, |handler, wants| handler.sync_done(behind, wants));
            }
            Want::Ping { last_proposed } => {
                self.learners().tell_all(|handler, wants| handler.ping(last_proposed, wants));
            }
            Want::Drop { conn, why } => {
                tracing::warn!(target: PEER_LOG, ?conn, %why, "a learner is disconnected");
                self.learners().close(conn, step);
            }
            Want::StepDown(why) => unreachable!("{why} is seen before"),
        }
    }

    /// A quorum has taken over this server's history: all of it is committed, and writes are proposed from now on.
    fn established(&mut self, epoch: Epoch, ensemble: &mut Ensemble, step: &mut Step<'_>) {
        tracing::info!(epoch = epoch.0, "a quorum follows: leading");
        assert_eq!(epoch, self.zab.epoch(), "another epoch is established than is led");
        assert_eq!(step.shared.commits.len(), 0, "a history that is not applied is led");
        assert!(step.shared.local.len() == 0 && self.tracker.count() == 0, "clients before the epoch");
        ensemble.established(step.now, epoch, false);
        self.learners().established(epoch);
        step.shared.begin_epoch(Zxid::new(epoch, 0));
        let Step { now, shared, .. } = step;
        self.tracker = SessionTracker::new(shared.options.me, *now, shared.options.tick_ms);
        for (session, timeout_ms) in shared.sessions.iter() {
            assert!(self.tracker.insert(session, timeout_ms, *now), "{session} is in the table twice");
        }
        self.sweep = Sweep::new(shared.options.sweep.clone(), *now);
        self.start(step);
        if self.member().serves {
            step.shared.serve(Service::Ensemble, step.out);
        }
    }

    /// It is known how a learner is brought up to date.
    fn synchronise(&mut self, conn: ConnId, plan: Plan, kind: SyncKind, step: &mut Step<'_>) {
        if !matches!(plan, Plan::Locate { .. }) {
            let server = self.zab.learners().find_map(|(of, server, _)| (of == conn).then_some(server.0));
            tracing::info!(target: PEER_LOG, ?conn, server, "a learner is brought up to date by {plan}");
            let stats = &mut step.shared.stats;
            match kind {
                SyncKind::Snap => stats.snaps_sent += 1,
                SyncKind::Diff => stats.diffs_sent += 1,
            }
            self.zab.sync_begins(conn, kind, &mut self.wants);
            if self.zab.sync_of(conn).is_some() {
                self.measure_syncs(kind, step);
            }
        }
        self.learners().tell(conn, |handler, wants| handler.sync(plan, wants));
    }

    fn fulfil_handler(&mut self, conn: ConnId, want: handler::Want, step: &mut Step<'_>) {
        use handler::Want;
        match want {
            Want::Write(bytes) => self.learners().write(conn, bytes, step),
            Want::Close(why) => {
                tracing::warn!(target: PEER_LOG, ?conn, %why, "closing a learner's connection");
                self.zab.closed(conn);
                self.learners().close(conn, step);
            }
            Want::Feed(feed) => self.learners().feed(conn, feed, step),
            Want::Info { server, observer, accepted, config_version } => {
                let said = Introduction { server, observer, accepted, config_version };
                if let Some(server) = self.zab.info(conn, said, &mut self.wants) {
                    self.learners().introduced(conn, server);
                }
            }
            Want::EpochAck { current, last } => {
                self.learners().has_state_of(conn, current);
                self.zab.epoch_ack(conn, current, last, &mut self.wants);
            }
            Want::NewLeaderSent => self.zab.new_leader_sent(conn),
            Want::Ack(zxid) => self.acknowledged(conn, zxid, step),
            Want::Heard => self.zab.heard(conn),
            Want::Request(request) => self.forwarded(conn, request, step),
            Want::SyncAsked { .. } => self.zab.sync_asked(conn, &mut self.wants),
            Want::Touch { session, .. } => {
                self.tracker.touch(session, step.now.mono_ms);
            }
            Want::Revalidate { session, .. } => {
                step.shared.stats.revalidations += 1;
                let valid = self.revalidate(conn, session, step);
                self.learners().tell(conn, |handler, wants| handler.revalidated(session, valid, wants));
            }
        }
    }

    fn measure_syncs(&self, kind: SyncKind, step: &mut Step<'_>) {
        let in_progress = self.zab.syncs_in_progress(kind) as u64;
        assert!(
            in_progress <= self.zab.learners().count() as u64,
            "more learners are brought up to date than there are"
        );
        match kind {
            SyncKind::Snap => step.shared.stats.inflight_snaps.record(in_progress),
            SyncKind::Diff => step.shared.stats.inflight_diffs.record(in_progress),
        }
    }

    /// A learner acknowledges a proposal, or with the epoch's zeroth zxid NEWLEADER or UPTODATE.
    fn acknowledged(&mut self, conn: ConnId, zxid: Zxid, step: &mut Step<'_>) {
        assert!(zxid >= Zxid::ZERO, "an ack of {zxid}, which is no transaction");
        if zxid.counter() > 0 {
            if let Some(server) = self.learners().server(conn) {
                step.shared.measure_acks(server, Zxid(zxid.0 - 1), zxid, step.now);
            }
            return self.zab.ack(conn, zxid, &mut self.wants);
        }
        let syncing = self.zab.sync_of(conn);
        self.zab.ack(conn, zxid, &mut self.wants);
        if let Some(kind) = syncing.filter(|_| self.zab.sync_of(conn).is_none()) {
            self.measure_syncs(kind, step);
        }
    }

    /// A client of a learner resumes its session there, if it exists: from now on its writes come from that learner.
    fn revalidate(&mut self, conn: ConnId, session: SessionId, step: &mut Step<'_>) -> bool {
        let origin = Origin::Learner { conn };
        let before = self.tracker.owner(session);
        if !self.tracker.touch(session, step.now.mono_ms) || self.tracker.set_owner(session, origin).is_err() {
            return false;
        }
        if let Some(before) = before.filter(|before| *before != origin) {
            close(before, step.out);
        }
        true
    }

    /// A request of a learner's client. It becomes a transaction in any case: the learner waits for one.
    fn forwarded(&mut self, conn: ConnId, request: handler::Request, step: &mut Step<'_>) {
        let handler::Request { session, cxid, op, body, identities } = request;
        assert!(self.zab.is_established(), "a request of {session} is forwarded to a leader without a quorum");
        let origin = Origin::Learner { conn };
        if op == Op::CREATE_SESSION
            && let Some(timeout_ms) = body.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
        {
            self.tracker.insert(session, timeout_ms, step.now);
        }
        // Whoever writes first after a change of the leader has the session.
        let owner = self.tracker.owner(session);
        if owner.is_none() || op == Op::CREATE_SESSION {
            // One that is closing or unknown gets none, and is refused.
            let _ = self.tracker.set_owner(session, origin);
        }
        let moved = op != Op::CREATE_SESSION && owner.is_some_and(|owner| owner != origin);
        let auth = identities.unwrap_or_default().into();
        self.submit(step, &WriteRequest { session, cxid, op, body, auth, moved, origin }, false, None);
    }

    /// Asserts the invariants of a leader of others.
    pub(super) fn check_among_others(&self, shared: &Shared) {
        let Some(member) = &self.member else { return };
        member.learners.check();
        assert!(self.wants.is_empty(), "left undone: {:?}", self.wants);
        assert!(member.todo.is_empty(), "left undone: {:?}", member.todo);
        let (ours, theirs) = (shared.commits.committed(), self.zab.last_committed());
        let is_begun = theirs.counter() > 0 && self.zab.is_established();
        assert!(!is_begun || ours == theirs, "{theirs} is committed by the leader, and {ours} by this server");
    }
}
