//! A learner's part of a server: it forwards the writes of its clients to the leader, appends what the leader proposes, and has
//! applied what the leader commits. Followers and observers are the same. Mirrors `LearnerZooKeeperServer`,
//! `FollowerRequestProcessor`, `LearnerSessionTracker` and the part of `Follower` that is not the protocol.
//!
//! Its clients' requests come back as transactions, in the order in which they were forwarded: `local` finds them again.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::Outbox;
use super::close;
use super::disk::{DiskAnswer, DiskDone, DiskJob};
use super::ensemble::Ensemble;
use super::local::LocalRequest;
use super::local_sessions::Needs;
use super::net::{NetWant, QuorumEvent, QuorumWant};
use super::shared::{Doubt, Shared, Step};
use super::status::arrived;
use crate::jute::Reader;
use crate::pipeline::forward;
use crate::pipeline::messages::{Service, ToPeer, ToShard};
use crate::pipeline::prep::{Proposal, WriteRequest};
use crate::proto::Request;
use crate::quorum::Role;
use crate::session::ids::SessionIds;
use crate::session::large_requests::Admitted;
use crate::txn::Txn;
use crate::txnlog::record::Record;
use crate::types::{ConnId, Cxid, ErrorCode, Op, Origin, PEER_LOG, ServerId, SessionId, ShardId, Term, Zxid, earliest};
use crate::zab::learner::{Install, Learner, Want};
use crate::zab::message::Forwarded;
use crate::zab::state::ZabState;

/// How often a leader that cannot be reached is dialled, as on Apache.
const DIALS: u32 = 5;

/// Milliseconds between two dials (`leaderConnectDelayDuringRetryMs`), also behind the end of a term in which there was no leader: the
/// others elect the same one at once. (Apache dials then without a pause, some hundred times a second.)
const DIAL_AGAIN_MS: i64 = 100;

/// The connection to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// It is being dialled, for the so manieth time.
    Dialing(u32),
    /// It will be dialled again, for the so manieth time, at this moment.
    Waiting(u32, i64),
    /// It is there.
    Open(ConnId),
}

/// A session whose client is connected to this server.
#[derive(Debug)]
struct Mine {
    origin: Origin,
    timeout_ms: i32,
    /// It was heard from since the leader's last PING.
    is_touched: bool,
}

/// A session that the leader was asked for.
#[derive(Debug)]
struct Revalidating {
    session: SessionId,
    timeout_ms: i32,
    shard: ShardId,
    conn: ConnId,
}

/// A sync that the leader was sent.
#[derive(Debug)]
struct Syncing {
    session: SessionId,
    cxid: Cxid,
    origin: Origin,
}

/// What only a learner has.
pub(super) struct Learning {
    term: Term,
    leader: ServerId,
    /// It is no observer.
    votes: bool,
    zab: Learner,
    link: Link,
    /// Whether the connection was last said to be read.
    reads: bool,
    ids: SessionIds,
    mine: HashMap<SessionId, Mine>,
    /// Heard from since the leader's last PING, in that order, with their timeouts in milliseconds.
    touched: Vec<(SessionId, i32)>,
    /// Oldest first, as the leader answers.
    revalidating: VecDeque<Revalidating>,
    /// Syncs without an answer, oldest first, as the leader answers.
    syncing: VecDeque<Syncing>,
    /// Answers to resumed sessions that wait until what the session sent before is applied.
    resumed: Vec<(SessionId, ShardId, ToShard)>,
    wants: Vec<Want>,
}

/// Why the role is over, for the log.
pub(super) type Over = Option<String>;

impl Learning {
    /// A term with this leader, which is dialled at once unless the last one was none.
    pub(super) fn begin(term: Term, leader: ServerId, ensemble: &Ensemble, step: &mut Step<'_>) -> Learning {
        assert!(leader != ensemble.me(), "{leader:?} learns from itself");
        let last = match step.shared.doubts {
            Doubt::None => step.shared.commits.committed(),
            // Whoever has nothing is sent everything.
            Doubt::New(_) | Doubt::Known | Doubt::Uncut(_) => Zxid::NONE,
        };
        let zab = Learner::new(ensemble.learner_options(), ensemble.history(last));
        let mut ids = SessionIds::new(ensemble.me(), step.now);
        step.shared.sessions.iter().for_each(|(session, _)| ids.skip(session));
        let link = match ensemble.dials_from_ms() {
            at_ms if at_ms > step.now.mono_ms => Link::Waiting(1, at_ms),
            _ => Link::Dialing(1),
        };
        let learning = Learning {
            term,
            leader,
            votes: ensemble.role() == Role::Participant,
            zab,
            link,
            reads: false,
            ids,
            mine: HashMap::new(),
            touched: Vec::new(),
            revalidating: VecDeque::new(),
            syncing: VecDeque::new(),
            resumed: Vec::new(),
            wants: Vec::new(),
        };
        if matches!(link, Link::Dialing(_)) {
            learning.net(QuorumWant::Dial { leader }, step);
        }
        learning
    }

    fn net(&self, want: QuorumWant, step: &mut Step<'_>) {
        step.out.net.push(NetWant::Quorum { term: self.term, want });
    }

    /// The leader of this term.
    pub(super) fn leader(&self) -> ServerId {
        self.leader
    }

    /// How far the term has come.
    pub(super) fn state(&self) -> ZabState {
        self.zab.state()
    }

    /// Whether this server acknowledges what is proposed.
    pub(super) fn votes(&self) -> bool {
        self.votes
    }

    /// Whether clients are served.
    pub(super) fn is_serving(&self) -> bool {
        self.zab.is_serving()
    }

    /// News of the connection to the leader.
    pub(super) fn hear_net(&mut self, event: QuorumEvent, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        let now_ms = step.now.mono_ms;
        match (event, self.link) {
            (QuorumEvent::Dialed { conn }, Link::Dialing(_)) => {
                self.link = Link::Open(conn);
                self.zab.connected(now_ms, &mut self.wants);
            }
            (QuorumEvent::DialFailed, Link::Dialing(DIALS)) => self.zab.closed(&mut self.wants),
            (QuorumEvent::DialFailed, Link::Dialing(times)) => {
                self.link = Link::Waiting(times + 1, now_ms + DIAL_AGAIN_MS);
            }
            (QuorumEvent::Bytes { conn, bytes }, Link::Open(ours)) if conn == ours => {
                self.zab.bytes(now_ms, &bytes, &mut self.wants);
            }
            (QuorumEvent::Closed { conn }, Link::Open(ours)) if conn == ours => self.zab.closed(&mut self.wants),
            (QuorumEvent::Left { .. }, Link::Open(_)) => {}
            (QuorumEvent::Accepted { conn, .. }, _) => self.net(QuorumWant::Close { conn }, step),
            (event, link) => panic!("{event:?} of a connection that is {link:?}"),
        }
        self.go_on(ensemble, step)
    }

    /// The log has everything up to `zxid`.
    pub(super) fn synced(&mut self, zxid: Zxid, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        self.zab.synced(step.now.mono_ms, zxid, &mut self.wants);
        self.go_on(ensemble, step)
    }

    /// The disk did what this role asked for. If the tree had to be replaced, it is.
    pub(super) fn hear_disk(&mut self, answer: &DiskAnswer, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        let (now_ms, wants) = (step.now.mono_ms, &mut self.wants);
        match &answer.done {
            DiskDone::SavedAccepted(epoch) => self.zab.saved_accepted(now_ms, *epoch, wants),
            DiskDone::SavedCurrent(epoch) | DiskDone::UnsavedCurrent(epoch) => {
                self.zab.saved_current(now_ms, *epoch, wants)
            }
            DiskDone::Truncated(_) => self.zab.truncated(now_ms, step.tree.last_zxid(), wants),
            DiskDone::Installed(_) => self.zab.installed(now_ms, step.tree.last_zxid(), wants),
            DiskDone::Stored(bytes) => self.zab.stored(now_ms, *bytes),
            DiskDone::Damaged(why) => self.zab.leave(format!("the leader's snapshot is damaged: {why}"), wants),
            DiskDone::Uncut { to, why } => {
                step.shared.doubts = Doubt::Uncut(*to);
                self.zab.leave(format!("{why}: a snapshot is needed"), wants);
            }
            DiskDone::Receiving | DiskDone::Abandoned => {}
        }
        self.go_on(ensemble, step)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        if let Link::Waiting(times, at_ms) = self.link
            && step.now.mono_ms >= at_ms
        {
            self.link = Link::Dialing(times);
            self.net(QuorumWant::Dial { leader: self.leader }, step);
        }
        self.zab.tick(step.now.mono_ms, &mut self.wants);
        step.shared.expire_local_sessions(step.now, step.out);
        self.go_on(ensemble, step)
    }

    /// When the next tick is needed, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        let dial = match self.link {
            Link::Waiting(_, at_ms) => Some(at_ms),
            Link::Dialing(_) | Link::Open(_) => None,
        };
        earliest([dial, self.zab.deadline_ms()])
    }

    /// Does what the machine wants, until it wants nothing.
    fn go_on(&mut self, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        let mut over = None;
        while !self.wants.is_empty() {
            for want in std::mem::take(&mut self.wants) {
                assert!(over.is_none(), "{want:?} is wanted after the end of the role");
                over = self.fulfil(want, ensemble, step);
            }
        }
        if let Link::Open(conn) = self.link
            && self.zab.is_reading() != self.reads
            && over.is_none()
        {
            self.reads = !self.reads;
            self.net(QuorumWant::Read { conn, reads: self.reads }, step);
        }
        if over.is_some() && self.zab.epoch().is_none() {
            ensemble.dial_from(step.now.mono_ms + DIAL_AGAIN_MS);
        }
        over
    }

    fn fulfil(&mut self, want: Want, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        match want {
            Want::Write(bytes) => {
                let Link::Open(conn) = self.link else { panic!("{bytes:?} is said to a leader that is not there") };
                self.net(QuorumWant::Write { conn, bytes }, step);
            }
            Want::SaveAccepted(epoch) => ensemble.ask(self.term, DiskJob::SaveAccepted(epoch), step),
            Want::SaveCurrent(epoch) => ensemble.ask(self.term, DiskJob::SaveCurrent(epoch), step),
            Want::Truncate { to } => {
                tracing::info!(target: PEER_LOG, leader = self.leader.0, %to, "cutting off what the leader does not have");
                ensemble.ask(self.term, DiskJob::Truncate(to), step);
            }
            Want::Install(Install::Begin { zxid }) => {
                tracing::info!(target: PEER_LOG, leader = self.leader.0, %zxid, "receiving the leader's snapshot");
                ensemble.ask(self.term, DiskJob::Receive(zxid), step);
                // What this server has acknowledged and may be committed must not be missing in its log, not even for a moment.
                // An observer's ACKs count for nothing.
                let is_counted = ensemble.role() == Role::Participant;
                let least = match step.shared.doubts {
                    Doubt::New(_) | Doubt::Known if is_counted => step.shared.commits.appended(),
                    Doubt::Uncut(to) if is_counted => to,
                    Doubt::None | Doubt::New(_) | Doubt::Known | Doubt::Uncut(_) => Zxid::NONE,
                };
                if zxid < least {
                    let why = format!("the leader's snapshot is of {zxid}, and {least} was acknowledged here");
                    self.zab.leave(why, &mut self.wants);
                }
            }
            Want::Install(Install::Chunk(bytes)) => ensemble.ask(self.term, DiskJob::Chunk(bytes), step),
            Want::Install(Install::End) => ensemble.ask(self.term, DiskJob::Install, step),
            Want::Install(Install::Abandon) => ensemble.ask(self.term, DiskJob::Abandon, step),
            Want::Append { zxid, txn, exact } => self.append(zxid, txn, exact, ensemble, step),
            Want::Commit { upto } => {
                step.shared.stats.learner_commits += 1;
                if upto > step.shared.commits.committed() {
                    if self.zab.is_serving() {
                        step.shared.measure_commit(upto, false, step.now);
                    }
                    step.shared.commit(upto);
                }
            }
            Want::SeenConfig(text) => ensemble.seen_config(text),
            Want::Activate { zxid, .. } => {
                self.zab.leave(format!("the configuration of {zxid} takes effect"), &mut self.wants);
            }
            Want::Serve { epoch } => {
                let (leader, caught_up) = (self.leader.0, self.zab.caught_up());
                tracing::info!(target: PEER_LOG, leader, epoch = epoch.0, %caught_up, "in step with the leader: serving clients");
                ensemble.established(step.now, epoch, true);
                step.shared.serve(Service::Ensemble, step.out);
            }
            Want::Ping { zxid } => {
                let touched = std::mem::take(&mut self.touched);
                touched.iter().for_each(|(session, _)| {
                    self.mine.get_mut(session).into_iter().for_each(|mine| mine.is_touched = false);
                });
                self.zab.pong(zxid, touched, &mut self.wants);
            }
            Want::Revalidated { session, valid } => self.revalidated(session, valid, step),
            Want::SyncDone { session, cxid } => self.sync_done(session, cxid, step),
            Want::Rejoin { why } => return Some(why.to_string()),
        }
        None
    }

    /// The leader proposes this.
    fn append(&mut self, zxid: Zxid, payload: Bytes, exact: bool, ensemble: &mut Ensemble, step: &mut Step<'_>) {
        match self.decode(payload, exact) {
            Ok(proposal) => {
                assert_eq!(proposal.header.zxid, zxid, "a proposal has another zxid than its packet");
                step.shared.stats.learner_proposals += 1;
                // What a synchronisation brings may be of any age.
                if self.zab.is_serving() && self.votes {
                    arrived(step.now, [&proposal.header], &mut step.shared.stats.txns.proposed);
                }
                step.shared.append(proposal, step.out);
            }
            Err(why) => {
                tracing::error!(%zxid, why, "a proposal of the leader is refused");
                self.zab.refuse(zxid, format!("the proposal of {zxid} {why}"), &mut self.wants);
                // The leader is to notice that this server is gone.
                ensemble.dial_from(step.now.mono_ms + DIAL_AGAIN_MS);
            }
        }
    }

    /// A proposal as the leader sent it, or what is wrong with it. If the tree is not exactly the leader's, the digest says nothing.
    fn decode(&self, payload: Bytes, exact: bool) -> Result<Proposal, String> {
        let undecodable = |e: &dyn std::fmt::Display| format!("cannot be decoded: {e}");
        let record = Record::parse(&payload).map_err(|e| undecodable(&e))?;
        let txn = Txn::read(record.header.op, &mut Reader::new(record.body)).map_err(|e| undecodable(&e))?;
        // A leader that lives has not committed it. What an earlier one has committed is history.
        if self.zab.epoch() == Some(record.header.zxid.epoch()) && !txn.is_applicable() {
            return Err("would stop every Apache server".to_owned());
        }
        let (header, digest) = (record.header, record.digest.filter(|_| exact));
        Ok(Proposal { header, txn, digest, prefix_crc: None, record: payload, op: header.op })
    }

    /// A message of a shard.
    pub(super) fn hear_shard(&mut self, message: ToPeer, ensemble: &mut Ensemble, step: &mut Step<'_>) -> Over {
        if !self.zab.is_serving() {
            // Its connections are closed.
            return None;
        }
        match message {
            ToPeer::Write { request, behind_read, large } => self.write(request, behind_read, large, step),
            ToPeer::Sync(request) => self.sync(&request, step),
            ToPeer::NewSession { shard, conn, timeout_ms, .. } => self.new_session(shard, conn, timeout_ms, step),
            ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches } => {
                let asked = Revalidating { session, timeout_ms, shard, conn };
                self.resume(asked, passwd_matches, step);
            }
            ToPeer::Touch { session, heard_ms } => {
                // Of local sessions the leader knows nothing.
                if !step.shared.touch_local(session, heard_ms) {
                    self.touch(session);
                }
            }
            ToPeer::Suspended { shard } => panic!("{shard:?} is suspended and served"),
        }
        self.go_on(ensemble, step)
    }

    fn write(&mut self, request: WriteRequest, behind_read: bool, large: Option<Admitted>, step: &mut Step<'_>) {
        let WriteRequest { session, cxid, op, ref body, ref auth, origin, .. } = request;
        if step.shared.is_closing_local(session) {
            return;
        }
        if !self.owns(origin, session, step.shared) {
            return close(origin, step.out);
        }
        let decoded = Request::read(op, body).ok().flatten();
        let Origin::Local { shard, conn } = origin else { panic!("{session} of this server's clients is {origin:?}") };
        assert!(shard.index() < step.shared.options.shards, "a request of {shard:?}, which there is not");
        let mut refusal = decoded.is_none().then_some(ErrorCode::MarshallingError);
        if let Some(sessions) = step.shared.local_sessions.as_mut().filter(|sessions| sessions.has(session)) {
            if op == Op::CLOSE_SESSION {
                sessions.close(session, shard, conn);
                return self.end_local_sessions(step.tree.last_zxid(), step.shared, step.out);
            }
            match decoded.as_ref().map_or(Needs::Nothing, |decoded| sessions.before_write(session, op, decoded)) {
                Needs::Nothing => {}
                Needs::Refusal => refusal = Some(ErrorCode::EphemeralOnLocalSession),
                Needs::Upgrade { timeout_ms } => {
                    assert!(!self.mine.contains_key(&session), "{session} is global and local");
                    assert!(!step.shared.sessions.contains(session), "{session} is made a global session twice");
                    self.own(session, origin, timeout_ms);
                    self.forward_session(session, timeout_ms);
                }
            }
        }
        let request = LocalRequest { session, cxid, op, shard, conn, behind_read, refusal, _large: large };
        step.shared.local.push(request);
        let (op, body) = forward::in_place_of(op, body, decoded);
        let forwarded = Forwarded { session, cxid, op, body: &body, identities: Some(auth.to_vec()) };
        self.zab.forward(forwarded, &mut self.wants);
    }

    fn forward_session(&mut self, session: SessionId, timeout_ms: i32) {
        let (body, op) = (&timeout_ms.to_be_bytes(), Op::CREATE_SESSION);
        self.zab.forward(Forwarded { session, cxid: Cxid(0), op, body, identities: None }, &mut self.wants);
    }

    /// Ends the local sessions that wait only for their end.
    fn end_local_sessions(&self, applied: Zxid, shared: &mut Shared, out: &mut Outbox) {
        shared.end_local_sessions(applied, out, |shared, session, conn| {
            let syncs = self.syncing.iter().any(|syncing| syncing.session == session);
            syncs || shared.is_syncing(conn) || shared.local.has(session)
        });
    }

    /// Whether the session is this connection's. If it moved to another one, this one is closed and its requests have no effect
    /// (SESSIONMOVED).
    fn owns(&self, origin: Origin, session: SessionId, shared: &Shared) -> bool {
        let owner = shared.local_owner(session).or(self.mine.get(&session).map(|mine| mine.origin));
        owner == Some(origin)
    }

    /// The leader knows what a sync has to wait for.
    fn sync(&mut self, request: &WriteRequest, step: &mut Step<'_>) {
        let WriteRequest { session, cxid, op, ref body, ref auth, origin, .. } = *request;
        if step.shared.is_closing_local(session) {
            return;
        }
        if !self.owns(origin, session, step.shared) {
            return close(origin, step.out);
        }
        self.syncing.push_back(Syncing { session, cxid, origin });
        self.zab.forward(Forwarded { session, cxid, op, body, identities: Some(auth.to_vec()) }, &mut self.wants);
    }

    /// Everything that the sync has to wait for is committed, and will be applied here.
    fn sync_done(&mut self, session: SessionId, cxid: Cxid, step: &mut Step<'_>) {
        let done = self.syncing.pop_front().unwrap_or_else(|| panic!("a sync of {session} was never forwarded"));
        assert!((done.session, done.cxid) == (session, cxid), "a sync of {session} is done before {done:?}");
        let upto = step.shared.commits.committed();
        let applied = step.tree.last_zxid();
        step.shared.sync(upto, done.origin, applied, step.out);
        self.end_local_sessions(applied, step.shared, step.out);
    }

    /// The session gets its id here. A global one exists once the leader's createSession is applied, a local one at once.
    fn new_session(&mut self, shard: ShardId, conn: ConnId, timeout_ms: i32, step: &mut Step<'_>) {
        let session = loop {
            let session = self.ids.next_id();
            let is_local = step.shared.local_owner(session).is_some();
            if !is_local && !step.shared.sessions.contains(session) && !self.mine.contains_key(&session) {
                break session;
            }
        };
        let origin = Origin::Local { shard, conn };
        if let Some(sessions) = &mut step.shared.local_sessions {
            sessions.create(session, origin, timeout_ms, step.now);
            let answer = ToShard::Resumed { conn, session: Some((session, timeout_ms)) };
            return step.out.to_shards.push((shard, answer));
        }
        let (cxid, op) = (Cxid(0), Op::CREATE_SESSION);
        self.own(session, origin, timeout_ms);
        let (behind_read, refusal, _large) = (false, None, None);
        step.shared.local.push(LocalRequest { session, cxid, op, shard, conn, behind_read, refusal, _large });
        self.forward_session(session, timeout_ms);
    }

    fn own(&mut self, session: SessionId, origin: Origin, timeout_ms: i32) -> Option<Origin> {
        let mine = Mine { origin, timeout_ms, is_touched: false };
        let before = self.mine.insert(session, mine).map(|mine| mine.origin);
        self.touch(session);
        before
    }

    /// The leader decides whether the session exists. Its connection here is closed at once, also if the password is wrong.
    fn resume(&mut self, asked: Revalidating, passwd_matches: bool, step: &mut Step<'_>) {
        let Revalidating { session, timeout_ms, shard, conn } = asked;
        let origin = Origin::Local { shard, conn };
        let owner = step.shared.local_owner(session).or(self.mine.get(&session).map(|mine| mine.origin));
        owner.into_iter().filter(|owner| *owner != origin).for_each(|owner| close(owner, step.out));
        if !passwd_matches {
            return step.out.to_shards.push((shard, ToShard::Resumed { conn, session: None }));
        }
        if let Some(sessions) = step.shared.local_sessions.as_mut().filter(|sessions| sessions.has(session)) {
            let goes_on = sessions.resume(session, origin, timeout_ms, step.now);
            let answer = ToShard::Resumed { conn, session: goes_on.then_some((session, timeout_ms)) };
            return self.answer_resumed(session, shard, answer, step);
        }
        // What its older connection here still sends has no effect from now on: the client may have written elsewhere meanwhile.
        self.mine.get_mut(&session).into_iter().for_each(|mine| mine.origin = origin);
        self.zab.revalidate(session, timeout_ms, &mut self.wants);
        self.revalidating.push_back(asked);
    }

    fn revalidated(&mut self, session: SessionId, valid: bool, step: &mut Step<'_>) {
        // The leader answers in order, and answers nothing that was not asked.
        let Some(asked) = self.revalidating.pop_front_if(|asked| asked.session == session) else {
            let oldest = self.revalidating.front().map(|asked| asked.session);
            let why = format!("the leader says of {session} whether it exists, and was asked for {oldest:?}");
            return self.zab.leave(why, &mut self.wants);
        };
        let Revalidating { timeout_ms, shard, conn, .. } = asked;
        let answer = ToShard::Resumed { conn, session: valid.then_some((session, timeout_ms)) };
        if valid {
            let origin = Origin::Local { shard, conn };
            if self.revalidating.iter().any(|later| later.session == session) {
                // Its client has left this one too.
                return close(origin, step.out);
            }
            if let Some(before) = self.own(session, origin, timeout_ms).filter(|before| *before != origin) {
                close(before, step.out);
            }
        }
        self.answer_resumed(session, shard, answer, step);
    }

    /// What the session sent before is applied before it goes on.
    fn answer_resumed(&mut self, session: SessionId, shard: ShardId, answer: ToShard, step: &mut Step<'_>) {
        let goes_on = matches!(answer, ToShard::Resumed { session: Some(_), .. });
        if goes_on && step.shared.local.has(session) {
            self.resumed.push((session, shard, answer));
        } else {
            step.out.to_shards.push((shard, answer));
        }
    }

    fn touch(&mut self, session: SessionId) {
        if let Some(mine) = self.mine.get_mut(&session)
            && !std::mem::replace(&mut mine.is_touched, true)
        {
            self.touched.push((session, mine.timeout_ms));
        }
    }

    /// What was just applied may be what a resumed session waited for.
    pub(super) fn applied(&mut self, zxid: Zxid, shared: &mut Shared, out: &mut Outbox) {
        let due = self.resumed.extract_if(.., |(session, ..)| !shared.local.has(*session));
        out.to_shards.extend(due.map(|(_, shard, answer)| (shard, answer)));
        self.end_local_sessions(zxid, shared, out);
    }

    /// The session was created, by a client of any server: like every learner this one says that it was heard from.
    pub(super) fn session_created(&mut self, session: SessionId, timeout_ms: i32) {
        self.ids.skip(session);
        if !self.mine.contains_key(&session) {
            self.touched.push((session, timeout_ms));
        }
    }

    /// The session is closed. Returns the connection that owned it, if it is one of this server's.
    pub(super) fn session_closed(&mut self, session: SessionId) -> Option<Origin> {
        self.mine.remove(&session).map(|mine| mine.origin)
    }

    /// Asserts the invariants.
    pub(super) fn check(&self, shared: &Shared) {
        self.zab.check();
        assert!(self.wants.is_empty(), "left undone: {:?}", self.wants);
        assert!(self.zab.is_serving() || self.mine.is_empty(), "sessions of a server that does not serve");
        assert!(self.revalidating.is_empty() || self.zab.is_serving(), "{:?} is never answered", self.revalidating);
        let (ours, theirs) = (shared.commits.committed(), self.zab.committed());
        // Until the leader's snapshot is there, when this server has lost its state.
        let is_blank = self.zab.last() == Zxid::NONE;
        assert!(is_blank || ours <= theirs, "{ours} may be applied, and the leader has committed only {theirs}");
        assert!(is_blank || shared.commits.appended() == self.zab.last(), "the end is {}", self.zab.last());
        for (session, ..) in &self.resumed {
            assert!(shared.local.has(*session), "the answer to {session} waits for nothing");
        }
    }
}
