//! The leader: agrees on a new epoch with a quorum (discovery), has a quorum take over its history (synchronisation), then
//! hands out zxids and commits in their order what a quorum has durably logged (broadcast). Mirrors `Leader`, and the order of
//! steps in `LearnerHandler`. A standalone server is a leader that is a quorum by itself.
//!
//! # Who does what
//!
//! This machine knows zxids and learners, no bytes and no sockets. Each learner's connection has a handler, which reads its
//! packets and calls the methods here, and the handlers' owner does what is [wanted](Want). Inputs of connections that are
//! not known (any more) are passed over, so a handler need not know whether it was dropped in the same moment.
//!
//! | a learner's connection | is answered by |
//! |---|---|
//! | [`Leader::connected`] | |
//! | FOLLOWERINFO, OBSERVERINFO: [`Leader::info`] | [`Want::LeaderInfo`], once a quorum has come and the new epoch is durable here |
//! | ACKEPOCH: [`Leader::epoch_ack`] | [`Want::Synchronise`], once a quorum has accepted the epoch |
//! | the plan of its synchronisation is known: [`Leader::sync_begins`] | |
//! | it was sent NEWLEADER: [`Leader::new_leader_sent`] | |
//! | ACK: [`Leader::ack`] | [`Want::UpToDate`] for NEWLEADER's, once the leader is established; [`Want::Commit`] for a proposal's |
//! | PING, REQUEST, REVALIDATE, any progress: [`Leader::heard`] | |
//! | REQUEST with a sync: [`Leader::sync_asked`] | [`Want::SyncDone`], behind the proposals outstanding now |
//! | [`Leader::closed`] | |
//!
//! A server that looks for a leader while this one leads is told by [`Leader::looks`].
//!
//! # Time
//!
//! Time is counted in half ticks, and [`Leader::tick`] counts one at most. So after a pause of this process (or of the whole
//! host) nobody is given up for a silence that only the pause has caused. Inputs that have arrived are to be given before `tick`.

mod broadcast;
mod figures;
mod learners;
mod quorum;
mod strays;
#[cfg(test)]
mod tests;
mod want;

use std::collections::VecDeque;

use self::learners::{Learner, Learners, Stage};
use self::quorum::Quorums;
use self::strays::Strays;
use super::election::Electorate;
use crate::quorum::{Members, Servers};
use crate::types::{ConnId, Epoch, ServerId, Zxid};
pub use want::{DropReason, History, Introduction, LeaderOptions, StepDownReason, SyncKind, Want};

/// What a leader waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// That a quorum introduces itself.
    Discovery,
    /// That its own promise to the new epoch is durable.
    SavingAccepted,
    /// That a quorum accepts the epoch.
    Accepting,
    /// That a quorum has taken over its history.
    Synchronisation,
    /// For nothing: it is established.
    Broadcast,
    /// It has stepped down.
    Over,
}

/// One server's term as leader.
#[derive(Debug)]
pub struct Leader {
    me: ServerId,
    phase: Phase,
    last_proposed: Zxid,
    last_committed: Zxid,
    /// The last counter of an epoch that is handed out.
    last_counter: u32,
    /// False once another server is designated: it commits what is left.
    may_commit: bool,
    quorums: Quorums,
    learners: Learners,
    strays: Strays,
    /// Sync requests that wait for the commit of a zxid, oldest first.
    syncs: VecDeque<(Zxid, ConnId)>,
    history: History,
    /// The new epoch; while a quorum has not come, the newest that anybody has accepted, and one.
    epoch: Epoch,
    /// Who counts in the phase that lasts. Also those that have gone since: what they did is on their disks.
    supporters: Servers,
    options: LeaderOptions,
    /// When it was elected, in milliseconds of the monotonic clock.
    began_ms: i64,
    half_ticks: i64,
    /// When the next half tick ends, in milliseconds of the monotonic clock.
    next_ms: i64,
    /// The half tick in which the present phase must end.
    phase_until: i64,
}

impl Leader {
    /// Server `me` begins to lead: an election has chosen it. `history` is what it has on its disk.
    ///
    /// # Panics
    /// If `me` is not one of the voters: nobody else can be elected.
    pub fn new(
        now_ms: i64,
        me: ServerId,
        options: LeaderOptions,
        electorate: &Electorate,
        history: History,
        wants: &mut Vec<Want>,
    ) -> Leader {
        let History { accepted, current, last } = history;
        assert!(electorate.members.voters().contains(&me), "{me:?} leads, but is not one of the voters");
        assert!(last >= Zxid::ZERO && current <= accepted, "a leader with {history:?}");
        assert!(last.epoch() <= accepted, "a history until {last} of a server that accepted {accepted:?} only");
        assert!(options.tick_ms > 1 && options.init_limit > 0 && options.sync_limit > 0, "{options:?}");
        let mut leader = Leader::begin(me, electorate, last);
        leader.options = options;
        leader.history = history;
        leader.phase = Phase::Discovery;
        leader.last_committed = Zxid::ZERO;
        // One less than the counter holds, as on Apache: members of both kinds agree where an epoch ends.
        leader.last_counter = u32::MAX - 1;
        leader.epoch = accepted;
        leader.began_ms = now_ms;
        leader.next_ms = now_ms + leader.half_tick_ms();
        leader.phase_until = 2 * options.init_limit;
        leader.came(me, accepted, true, wants);
        leader
    }

    /// The leader of an ensemble of one, established at once, whose history ends, committed, at `last`. It keeps no epoch files.
    pub fn alone(me: ServerId, last: Zxid) -> Leader {
        assert!(last >= Zxid::ZERO, "a history ends at {last}");
        let electorate = Electorate { members: Members::standalone(me).into(), next: None };
        let leader = Leader::begin(me, &electorate, last);
        assert!(leader.is_alone(), "{me:?} is no quorum of itself");
        leader
    }

    fn begin(me: ServerId, electorate: &Electorate, last: Zxid) -> Leader {
        Leader {
            me,
            phase: Phase::Broadcast,
            last_proposed: last,
            last_committed: last,
            last_counter: u32::MAX,
            may_commit: true,
            quorums: Quorums::new(electorate, last),
            learners: Learners::default(),
            strays: Strays::default(),
            syncs: VecDeque::new(),
            history: History { accepted: last.epoch(), current: last.epoch(), last },
            epoch: last.epoch(),
            supporters: Servers::new(),
            options: LeaderOptions::default(),
            began_ms: 0,
            half_ticks: 0,
            next_ms: i64::MAX,
            phase_until: i64::MAX,
        }
    }

    /// This leader's epoch. Until a quorum has come it is not settled.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a quorum has taken over this server's history.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// Whether this server is a quorum of itself.
    pub fn is_alone(&self) -> bool {
        self.quorums.current().verifier().contains_quorum_by(|server| server == self.me)
    }

    /// The learners that have introduced themselves, and whether each was sent UPTODATE.
    pub fn learners(&self) -> impl Iterator<Item = (ConnId, ServerId, bool)> {
        self.learners.introduced().map(|(conn, learner)| (conn, learner.server, learner.stage == Stage::Follows))
    }

    /// When [`Leader::tick`] must be called, in milliseconds of the monotonic clock.
    pub fn deadline_ms(&self) -> Option<i64> {
        (self.phase != Phase::Over && self.next_ms != i64::MAX).then_some(self.next_ms)
    }

    /// Somebody has connected to the quorum port. `conn` is new. Whoever stays silent for `initLimit` is dropped.
    pub fn connected(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        if self.phase == Phase::Over {
            return;
        }
        assert!(self.next_ms != i64::MAX, "{conn:?} comes to a server without an ensemble");
        if let Some(oldest) = self.learners.connected(conn, self.half_ticks) {
            self.close(oldest, DropReason::TooManyUnknown, wants);
        }
    }

    /// The connection is closed, by the other side or by itself. After [`Want::Drop`] this changes nothing.
    pub fn closed(&mut self, conn: ConnId) {
        if let Some(gone) = self.learners.remove(conn) {
            self.forget(conn, &gone);
        }
    }

    /// A learner introduces itself: FOLLOWERINFO or OBSERVERINFO. Returns its id, which is negative if it has none of its own.
    pub fn info(&mut self, conn: ConnId, said: Introduction, wants: &mut Vec<Want>) -> Option<ServerId> {
        let learner = self.learners.get(conn)?;
        if learner.stage != Stage::Unknown {
            self.close(conn, DropReason::OutOfTurn("FOLLOWERINFO"), wants);
            return None;
        }
        if let Some(why) = self.refuses(&said) {
            self.close(conn, why, wants);
            if let (DropReason::NewerEpoch { theirs, .. }, Some(server)) = (why, said.server) {
                self.strays(server, theirs, wants);
            }
            return None;
        }
        let server = said.server.unwrap_or_else(|| self.learners.next_nameless());
        if let Some(old) = self.learners.of_server(server) {
            self.close(old, DropReason::Replaced, wants);
        }
        self.learners.introduce(conn, server, said.observer, self.half_ticks);
        self.came(server, said.accepted, !said.observer, wants);
        if self.has_epoch() {
            self.tell_epoch(conn, wants);
        }
        Some(server)
    }

    /// Why a learner cannot follow this leader, if it cannot.
    fn refuses(&self, said: &Introduction) -> Option<DropReason> {
        let ours = self.quorums.current().version();
        match said {
            _ if said.server == Some(self.me) => Some(DropReason::OwnId),
            Introduction { config_version: Some(theirs), .. } if *theirs > ours => {
                Some(DropReason::NewerConfig { theirs: *theirs, ours })
            }
            // -1: a server without a history.
            Introduction { accepted, .. } if !(-1..i64::from(i32::MAX)).contains(&accepted.0) => {
                Some(DropReason::NoEpoch(*accepted))
            }
            // An observer's promise binds nobody: it may follow, if it does.
            Introduction { accepted, observer: false, .. }
                if self.phase != Phase::Discovery && *accepted > self.epoch =>
            {
                Some(DropReason::NewerEpoch { theirs: *accepted, ours: self.epoch })
            }
            _ => None,
        }
    }

    /// A server has come that has accepted no newer epoch than this. Observers and servers that are in no configuration raise
    /// the new epoch too, so that they can follow, but do not count.
    fn came(&mut self, server: ServerId, accepted: Epoch, may_count: bool, wants: &mut Vec<Want>) {
        if self.phase != Phase::Discovery {
            return;
        }
        self.epoch = self.epoch.max(accepted);
        if may_count && self.quorums.current().voters().contains(&server) {
            self.supporters.insert(server);
        }
        if !self.quorums.current().contains_quorum(&self.supporters) {
            return;
        }
        if self.epoch.0 >= i64::from(i32::MAX) {
            let last = self.epoch;
            return self.step_down(StepDownReason::NoEpochLeft(last), wants);
        }
        assert!(self.supporters.contains(&self.me), "{:?} leads without coming itself", self.me);
        self.epoch = Epoch(self.epoch.0 + 1);
        assert!(self.epoch > self.history.accepted, "{:?} is not new: {:?}", self.epoch, self.history);
        self.enter(Phase::SavingAccepted);
        wants.push(Want::SaveAccepted(self.epoch));
    }

    /// [`Want::SaveAccepted`] is done: this server follows nobody of an older epoch any more, so others may be told of the
    /// new one.
    ///
    /// # Panics
    /// If that was not wanted.
    pub fn accepted_saved(&mut self, epoch: Epoch, wants: &mut Vec<Want>) {
        if self.phase == Phase::Over {
            return;
        }
        assert!(self.phase == Phase::SavingAccepted && epoch == self.epoch, "{epoch:?} is saved in {:?}", self.phase);
        self.enter(Phase::Accepting);
        for conn in self.learners.at(Stage::Came) {
            self.tell_epoch(conn, wants);
        }
        self.accepted_by(self.me, wants);
    }

    fn tell_epoch(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        assert!(self.has_epoch(), "{conn:?} is told of an epoch that is not durable");
        self.learners.advance(conn, Stage::Came, Stage::Told, self.half_ticks);
        wants.push(Want::LeaderInfo { conn, epoch: self.epoch });
    }

    /// A learner has accepted the epoch: ACKEPOCH. `last` is the last zxid of its history, `current` the epoch of it; `None` if
    /// it had accepted the epoch before: then it has promised nothing new, and counts for no quorum.
    pub fn epoch_ack(&mut self, conn: ConnId, current: Option<Epoch>, last: Zxid, wants: &mut Vec<Want>) {
        let Some(learner) = self.learners.get(conn) else { return };
        let (server, observer) = (learner.server, learner.observer);
        if learner.stage != Stage::Told {
            return self.close(conn, DropReason::OutOfTurn("ACKEPOCH"), wants);
        }
        assert!(self.has_epoch(), "{server:?} was told of an epoch in {:?}", self.phase);
        // Not even a history that was never committed can be newer than what this epoch has proposed, or be of this epoch
        // without its promise.
        let proposed = self.last_proposed.max(Zxid::new(self.epoch, 0));
        if last > proposed {
            return self.close(conn, DropReason::NeverProposed { claimed: last, proposed }, wants);
        }
        if let Some(theirs) = current.filter(|current| *current >= self.epoch) {
            return self.close(conn, DropReason::NewerEpoch { theirs, ours: self.epoch }, wants);
        }
        if let Some(current) = current.filter(|_| self.phase == Phase::Accepting)
            && (current, last) > (self.history.current, self.history.last)
        {
            return self.is_ahead(conn, current, last, wants);
        }
        self.learners.accepted(conn, last, self.half_ticks);
        // A server without a history has nothing that this leader's could be newer than.
        if current.is_some() && last != Zxid::NONE && !observer {
            self.accepted_by(server, wants);
        }
        if self.phase > Phase::Accepting && self.learners.get(conn).is_some_and(|l| l.stage == Stage::Accepted) {
            self.synchronise(conn, wants);
        }
    }

    /// A learner has a newer history. A voter should lead itself; nobody else can.
    fn is_ahead(&mut self, conn: ConnId, current: Epoch, last: Zxid, wants: &mut Vec<Want>) {
        let Some(learner) = self.learners.get(conn) else { return };
        let (server, observer) = (learner.server, learner.observer);
        let members = self.quorums.current();
        if !observer && members.voters().contains(&server) && members.verifier().weight(server) > 0 {
            return self.step_down(StepDownReason::Ahead { server, current, last }, wants);
        }
        self.close(conn, DropReason::Ahead { current, last }, wants);
    }

    /// A server has promised to follow nobody of an older epoch, and its history is not newer than this server's.
    fn accepted_by(&mut self, server: ServerId, wants: &mut Vec<Want>) {
        if self.phase != Phase::Accepting {
            return;
        }
        if self.quorums.current().voters().contains(&server) {
            self.supporters.insert(server);
        }
        if !self.quorums.current().contains_quorum(&self.supporters) {
            return;
        }
        assert!(self.supporters.contains(&self.me), "{:?} leads without its own promise", self.me);
        let zeroth = Zxid::new(self.epoch, 0);
        assert!(zeroth > self.history.last, "epoch {:?} begins inside {:?}", self.epoch, self.history);
        self.last_proposed = zeroth;
        self.quorums.begin(zeroth);
        self.enter(Phase::Synchronisation);
        wants.push(Want::SaveCurrent(self.epoch));
        for conn in self.learners.at(Stage::Accepted) {
            self.synchronise(conn, wants);
        }
    }

    fn synchronise(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        assert!(self.phase > Phase::Accepting, "{conn:?} is brought up to date without a quorum of promises");
        self.learners.advance(conn, Stage::Accepted, Stage::Syncing, self.half_ticks);
        if let Some(&Learner { server, observer, last, .. }) = self.learners.get(conn) {
            wants.push(Want::Synchronise { conn, server, observer, last });
        }
    }

    /// [`Want::SaveCurrent`] is done: this server's own ack of NEWLEADER.
    ///
    /// # Panics
    /// If that was not wanted.
    pub fn current_saved(&mut self, epoch: Epoch, wants: &mut Vec<Want>) {
        if self.phase == Phase::Over {
            return;
        }
        assert!(self.phase == Phase::Synchronisation && epoch == self.epoch, "{epoch:?} is saved in {:?}", self.phase);
        self.synced_by(self.me, wants);
    }

    /// It is known how the learner will be brought up to date. To be called again when that changes. An observer too many is
    /// dropped: it comes again.
    ///
    /// # Panics
    /// If that was not wanted.
    pub fn sync_begins(&mut self, conn: ConnId, kind: SyncKind, wants: &mut Vec<Want>) {
        let most = match kind {
            SyncKind::Diff => self.options.max_diffs,
            SyncKind::Snap => self.options.max_snaps,
        };
        let others = self.learners.syncing(kind, conn);
        let Some(learner) = self.learners.get_mut(conn) else { return };
        assert!(learner.stage == Stage::Syncing, "{conn:?} is not to be brought up to date: {learner:?}");
        if learner.observer && others >= most {
            return self.close(conn, DropReason::TooManySyncs(others), wants);
        }
        learner.syncing = Some(kind);
    }

    /// The learner has joined the broadcast and was sent NEWLEADER. What was proposed until now it got before that.
    ///
    /// # Panics
    /// If that was not wanted.
    pub fn new_leader_sent(&mut self, conn: ConnId) {
        let sent = self.last_proposed;
        let Some(learner) = self.learners.get_mut(conn) else { return };
        learner.sent = sent;
        self.learners.advance(conn, Stage::Syncing, Stage::Sent, self.half_ticks);
    }

    /// The learner has acknowledged NEWLEADER.
    fn new_leader_acked(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        self.learners.advance(conn, Stage::Sent, Stage::Synced, self.half_ticks);
        let Some(learner) = self.learners.get_mut(conn) else { return };
        learner.syncing = None;
        let (server, observer, early) = (learner.server, learner.observer, learner.acked);
        match self.phase {
            Phase::Broadcast => {
                self.follows(conn, wants);
                self.count(server, observer, early, wants);
            }
            _ if observer => {}
            _ => self.synced_by(server, wants),
        }
    }

    /// A server has taken over this server's history durably, and the epoch.
    fn synced_by(&mut self, server: ServerId, wants: &mut Vec<Want>) {
        assert!(self.phase == Phase::Synchronisation, "{server:?} has the history in {:?}", self.phase);
        self.supporters.insert(server);
        // This server's own epoch must be durable too.
        if !self.supporters.contains(&self.me) || !self.quorums.all_have(&self.supporters) {
            return;
        }
        let next = self.quorums.pending().map(|_| self.quorums.designated(self.me, &self.supporters));
        self.enter(Phase::Broadcast);
        self.last_committed = self.last_proposed;
        assert_eq!(self.last_committed, Zxid::new(self.epoch, 0), "a history that does not end with the epoch before");
        wants.push(Want::Established(self.epoch));
        if let Some(designated) = next {
            self.activate(self.last_committed, designated, wants);
        }
        for conn in self.learners.at(Stage::Synced) {
            self.follows(conn, wants);
        }
    }

    fn follows(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        assert!(self.phase == Phase::Broadcast, "{conn:?} may serve before the leader is established");
        self.learners.advance(conn, Stage::Synced, Stage::Follows, self.half_ticks);
        wants.push(Want::UpToDate { conn });
    }

    /// The learner lives: a packet came from it, or, while it is brought up to date, it took bytes that were sent to it.
    pub fn heard(&mut self, conn: ConnId) {
        if let Some(learner) = self.learners.get_mut(conn) {
            learner.heard = self.half_ticks;
        }
    }

    /// Time has passed. Everything that has arrived is to be given before.
    pub fn tick(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        if self.deadline_ms().is_none_or(|at| now_ms < at) {
            return;
        }
        self.half_ticks += 1;
        self.next_ms = now_ms + self.half_tick_ms();
        assert!(self.next_ms > now_ms, "a half tick of {} ms", self.half_tick_ms());
        let (init, sync) = (self.options.init_limit, self.options.sync_limit);
        for (conn, why) in self.learners.late(self.half_ticks, self.last_proposed, init, sync) {
            self.close(conn, why, wants);
        }
        let is_late = self.half_ticks > self.phase_until;
        let supporters = || self.supporters.iter().copied().collect();
        match self.phase {
            Phase::Discovery if is_late => self.step_down(StepDownReason::NoQuorumCame(supporters()), wants),
            Phase::Accepting if is_late => self.step_down(StepDownReason::NoQuorumAccepted(supporters()), wants),
            // Whoever is on its way gets the time it needs, as long as it goes on. Who comes again and again does not.
            Phase::Synchronisation if is_late && !self.quorums.all_have(&self.present(self.phase_until)) => {
                self.step_down(StepDownReason::NoQuorumSynced(supporters()), wants);
            }
            // Once a tick.
            Phase::Broadcast if self.half_ticks % 2 == 0 && !self.quorums.all_have(&self.present(i64::MAX)) => {
                let present = self.present(i64::MAX).into_iter().collect();
                self.step_down(StepDownReason::QuorumLost(present), wants);
            }
            Phase::Synchronisation | Phase::Broadcast => wants.push(Want::Ping { last_proposed: self.last_proposed }),
            Phase::Discovery | Phase::SavingAccepted | Phase::Accepting | Phase::Over => {}
        }
    }

    /// This server, and those that are connected since before a half tick.
    fn present(&self, before: i64) -> Servers {
        let learners = self.learners.introduced().map(|(_, learner)| learner);
        let mut present: Servers =
            learners.filter(|l| !l.observer && l.since <= before).map(|learner| learner.server).collect();
        present.insert(self.me);
        present
    }

    fn has_epoch(&self) -> bool {
        matches!(self.phase, Phase::Accepting | Phase::Synchronisation | Phase::Broadcast)
    }

    fn enter(&mut self, phase: Phase) {
        assert!(phase > self.phase, "{phase:?} behind {:?}", self.phase);
        self.phase = phase;
        self.supporters.clear();
        self.phase_until = self.half_ticks + 2 * self.options.init_limit;
    }

    fn half_tick_ms(&self) -> i64 {
        (self.options.tick_ms / 2).max(1)
    }

    /// Closes a connection, from this side.
    fn close(&mut self, conn: ConnId, why: DropReason, wants: &mut Vec<Want>) {
        let Some(gone) = self.learners.remove(conn) else { return };
        self.forget(conn, &gone);
        wants.push(Want::Drop { conn, why });
    }

    /// What a learner acknowledged counts as long as its connection lasts: the next one may begin with a TRUNC.
    fn forget(&mut self, conn: ConnId, gone: &Learner) {
        self.syncs.retain(|(_, asked)| *asked != conn);
        if gone.stage > Stage::Sent && !gone.observer {
            self.quorums.forget(gone.server);
        }
    }

    fn step_down(&mut self, why: StepDownReason, wants: &mut Vec<Want>) {
        assert!(self.phase != Phase::Over, "a leader steps down twice: {why}");
        self.phase = Phase::Over;
        self.learners.clear();
        self.syncs.clear();
        wants.push(Want::StepDown(why));
    }

    /// Its invariants.
    pub fn check(&self) {
        self.quorums.check(self.last_proposed);
        self.learners.check();
        let (committed, proposed) = (self.last_committed, self.last_proposed);
        assert!(committed >= Zxid::ZERO && committed <= proposed, "{committed} is committed, {proposed} proposed");
        assert!(!self.has_epoch() || self.epoch >= self.history.accepted, "{:?} {:?}", self.epoch, self.history);
        assert!(self.phase == Phase::Broadcast || self.syncs.is_empty(), "a sync in {:?}", self.phase);
        for (zxid, conn) in &self.syncs {
            assert!(*zxid > committed && *zxid <= proposed, "a sync of {conn:?} waits for {zxid}");
            assert!(self.learners.get(*conn).is_some(), "a sync waits whose learner {conn:?} has gone");
        }
        let furthest = self.learners.introduced().map(|(_, learner)| learner.stage).max();
        assert!(furthest < Some(Stage::Told) || self.has_epoch(), "a learner is {furthest:?} in {:?}", self.phase);
        assert!(furthest < Some(Stage::Follows) || self.is_established(), "a learner follows in {:?}", self.phase);
        if self.is_established() && self.may_commit {
            let held = self.quorums.commit_point(committed);
            assert!(held <= committed, "a quorum has {held}, which is not committed");
        }
    }
}
