//! A whole term of a leader: its learners' bytes, its disk, its clients and the time are the input's choice. The leader is a
//! whole member (`zabra::oracle::memory::MemoryMember`: the shipped turn, log, snapshots and reader of the disk).
//!
//! Whatever learners say, each of them is sent a history without a gap or a repeat, everything at its place; nothing is
//! committed that no other voter has acknowledged; and what was committed is there after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use zabra::oracle::memory::{MemberSettings, MemoryMember};
use zabra::oracle::test_disk::TestDisk;
use zabra::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use zabra::peer::turn::TreeAccess;
use zabra::peer::{Input as PeerInput, SnapshotTicket};
use zabra::pipeline::WriteRequest;
use zabra::pipeline::messages::{Entry, Outcome, ToPeer, ToShard};
use zabra::proto::{CreateRequest, Request};
use zabra::quorum::{Member, Members, Role};
use zabra::types::{Acl, ConnId, Cxid, Epoch, Id, Now, Op, Origin, ServerId, SessionId, ShardId, Term, Zxid};
use zabra::zab::hello::Hello;
use zabra::zab::message::{Forwarded, FromLearner, LearnerInfo, Touched};
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{Held, ServerState};

use crate::input::Input;
use crate::leader_judge::{LIMIT, Learner};

const ME: ServerId = ServerId(3);
const SHARD: ShardId = ShardId(0);
/// The leader's own client.
const CLIENT: ConnId = ConnId(1);
/// Connections that are open at a time.
const MOST: usize = 8;

/// Input: the leader's history, then steps.
pub fn run(data: &[u8]) {
    conversation(data);
}

/// Inputs of learners that make no mistakes: a follower, and then another one or an observer, while a client writes.
pub fn by_hand() -> Vec<Vec<u8>> {
    const SETTLE: u8 = 23;
    let polite = |conn: u8| [1, conn, SETTLE].repeat(6);
    let writes = |conn: u8| [[22, conn, SETTLE, 1, 0, SETTLE], [22, 9, SETTLE, 1, 0, SETTLE]].concat();
    let new_session = [21, SETTLE, 1, 0, SETTLE];
    let one = |history: u8, other: u8| {
        let first = [0, 0, 0, history.min(1), 0, SETTLE];
        let second = [0, other, 0, 1, 1, SETTLE];
        [&[history][..], &first, &polite(0), &new_session, &writes(3), &second, &polite(1), &writes(4)].concat()
    };
    (0..3).flat_map(|history| [one(history, 1), one(history, 2)]).collect()
}

/// Returns what was committed last.
fn conversation(data: &[u8]) -> Zxid {
    let mut input = Input::new(data);
    let mut world = World::new();
    world.elect();
    let history = input.below(4);
    if history > 0 {
        world.write_history(history > 1);
        world.elect();
    }
    while !input.is_empty() && world.term.is_some() {
        world.step(&mut input);
    }
    world.settle();
    let committed = world.committed;
    world.restart();
    committed
}

/// A connection.
struct Conn {
    learner: Learner,
    /// On the way to the leader; it says when it reads.
    arriving: VecDeque<Bytes>,
    reads: bool,
    /// On the way to the learner.
    leaving: VecDeque<Bytes>,
}

struct World {
    now: Now,
    disk: TestDisk,
    member: MemoryMember,
    /// The term in which it accepts learners.
    term: Option<Term>,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    /// What the two other voters last heard of its vote, and the connections for that.
    elections: Vec<ConnId>,
    vote: Option<Held>,
    said: BTreeMap<ConnId, Vec<u8>>,
    session: Option<SessionId>,
    serves: bool,
    cxid: i32,
    proposed: BTreeMap<Zxid, Vec<u8>>,
    /// The newest ACK of each other voter, the voters that gave a promise that counts, and what was committed when last looked.
    acks: BTreeMap<ServerId, Vec<Zxid>>,
    promised: Vec<ServerId>,
    committed: Zxid,
}

fn settings() -> MemberSettings {
    let line = |id: i64| format!("host{id}:1:2{}", if id > 3 { ":observer" } else { "" });
    let member = |id| (ServerId(id), Member::parse(&line(id)).expect("a member"));
    let members = Members::majority((1..=5).map(member).collect(), Zxid::ZERO).expect("members");
    let mut settings = MemberSettings::new(ME, Arc::new(members), LIMIT);
    settings.ensemble.history.count = 4;
    settings
}

fn create(path: &str) -> Vec<u8> {
    let acl = vec![Acl::world_all()].into();
    let create = CreateRequest { path: path.into(), data: Some(b"data"), acl, flags: 0, ttl_ms: None };
    Request::Create(create).body(Op::CREATE)
}

/// The leader's term, from the election to the restart.
impl World {
    fn new() -> World {
        let now = Now { mono_ms: 100_000, wall_ms: 1_700_000_000_000, mono_ns: 0 };
        let disk = TestDisk::new();
        let member = MemoryMember::start(settings(), &disk, now);
        let mut world = World {
            now,
            disk,
            member,
            term: None,
            conns: BTreeMap::new(),
            next_conn: 10,
            elections: Vec::new(),
            vote: None,
            said: BTreeMap::new(),
            session: None,
            serves: false,
            cxid: 0,
            proposed: BTreeMap::new(),
            acks: BTreeMap::new(),
            promised: Vec::new(),
            committed: Zxid::ZERO,
        };
        world.after_turn();
        world
    }

    /// Both other voters vote as this server does.
    fn elect(&mut self) {
        self.vote = None;
        for _ in 0..20 {
            self.settle();
            if let (Some(held), None) = (self.vote, self.term) {
                let conns = self.elections.clone();
                for conn in conns {
                    let mut bytes = Vec::new();
                    Notification::put(&mut bytes, &held.vote, held.election_epoch, ServerState::Looking, "version=0");
                    self.election(ElectionEvent::Bytes { conn, bytes: bytes.into() });
                }
            }
            if self.term.is_some() {
                return;
            }
            // Each vote that comes makes it wait a little longer.
            (0..10).for_each(|_| self.pass(50));
        }
        panic!("it is never elected");
    }

    /// A term with one learner and some writes; then the leader loses its quorum.
    fn write_history(&mut self, snapshot: bool) {
        let conn = self.connect(ServerId(1), Role::Participant, Epoch(0), Zxid::ZERO).expect("the first one");
        self.politely(conn);
        assert!(self.serves, "a quorum follows");
        self.ask_client(ToPeer::NewSession { shard: SHARD, conn: CLIENT, timeout_ms: 30_000, auth: [].into() });
        self.politely(conn);
        for i in 0..8 {
            self.write(&format!("/n{i}"));
            self.politely(conn);
        }
        if snapshot {
            self.tell(PeerInput::SnapshotAsked(SnapshotTicket(1)));
            self.settle();
        }
        self.close(conn);
        while self.term.is_some() {
            self.pass(1000);
        }
        self.session = None;
    }

    /// Everybody works, and this learner says what it should, until there is nothing to say.
    fn politely(&mut self, conn: ConnId) {
        self.settle();
        while let Some(bytes) = self.conns.get_mut(&conn).and_then(|conn| conn.learner.to_say.pop_front()) {
            self.say(conn, &bytes);
            self.settle();
        }
    }

    /// What was committed is there after a restart.
    fn restart(self) {
        let (committed, digest) = (self.member.tree.read().last_zxid(), self.member.tree.read().digest());
        let World { disk, member, now, .. } = self;
        drop(member);
        disk.restart();
        let member = MemoryMember::start(settings(), &disk, now);
        let tree = member.tree.read();
        assert!(tree.last_zxid() >= committed, "{committed} was committed, and {} is left", tree.last_zxid());
        assert!(tree.last_zxid() > committed || tree.digest() == digest, "another tree after a restart");
    }
}

/// Who works.
impl World {
    fn tell(&mut self, input: PeerInput) {
        self.member.mail.inbox.push_back(input);
    }

    fn turn(&mut self) -> bool {
        let is_busy = self.member.turn(self.now);
        self.after_turn();
        is_busy
    }

    fn after_turn(&mut self) {
        for message in self.member.take_stream() {
            match message {
                ToShard::Suspend => {
                    self.serves = false;
                    self.session = None;
                    self.tell(PeerInput::FromShard(ToPeer::Suspended { shard: SHARD }));
                }
                ToShard::Serve(_) => {
                    self.serves = true;
                    let epoch = self.member.turn.peer().leads().expect("it leads");
                    let begin = Zxid::new(epoch, 0);
                    // They need not be the same: one may have promised, and the other one acknowledged.
                    let is_acked = self.acks.values().any(|acks| acks.contains(&begin));
                    assert!(is_acked && !self.promised.is_empty(), "it leads {epoch:?} without a quorum");
                }
                ToShard::Applied(Entry { outcome: Some((_, Outcome::SessionCreated { session, .. })), .. }) => {
                    self.session = Some(session);
                }
                _ => {}
            }
        }
        let wants = self.member.take_net();
        wants.into_iter().for_each(|want| self.net(want));
        let committed = self.member.turn.peer().committed();
        let is_of_term = committed.counter() > 0 && self.member.turn.peer().leads() == Some(committed.epoch());
        if committed > self.committed && is_of_term {
            let has = |acks: &Vec<Zxid>| acks.iter().any(|ack| *ack >= committed && ack.epoch() == committed.epoch());
            assert!(self.acks.values().any(has), "{committed} is committed, and nobody else has it");
            self.committed = committed;
        }
    }

    fn log_step(&mut self) {
        self.member.log_step(self.now).expect("this disk has no faults");
    }

    fn pass(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.turn();
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_busy = self.turn();
            while !self.member.log_is_idle() {
                self.log_step();
            }
            while !self.member.disk_is_idle() {
                self.member.disk_step(self.now);
            }
            let conns: Vec<ConnId> = self.conns.keys().copied().collect();
            conns.into_iter().for_each(|conn| while self.arrive(conn) || self.leave(conn, usize::MAX) {});
            is_busy |= self.member.mail.is_for_peer();
            if !is_busy {
                return;
            }
        }
        panic!("it never ends");
    }
}

/// The network.
impl World {
    fn election(&mut self, event: ElectionEvent) {
        self.tell(PeerInput::Net(NetEvent::Election(event)));
    }

    fn quorum(&mut self, event: QuorumEvent) {
        let Some(term) = self.term else { return };
        self.tell(PeerInput::Net(NetEvent::Quorum { term, event }));
    }

    fn net(&mut self, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, .. }) if to.0 < ME.0 && to.0 > 0 => {
                self.next_conn += 1;
                let conn = ConnId(self.next_conn);
                self.elections.push(conn);
                self.election(ElectionEvent::Dialed { to, conn });
            }
            NetWant::Election(ElectionWant::Dial { to, .. }) => self.election(ElectionEvent::DialFailed { to }),
            NetWant::Election(ElectionWant::Write { conn, bytes }) => {
                self.hear_vote(conn, &bytes);
                self.election(ElectionEvent::Written { conn });
            }
            NetWant::Election(ElectionWant::Close { conn }) => self.elections.retain(|other| *other != conn),
            NetWant::Quorum { term, want } => match want {
                QuorumWant::Listen => self.term = Some(term),
                QuorumWant::Dial { .. } => panic!("it follows"),
                QuorumWant::Write { conn, bytes } => {
                    self.conns.get_mut(&conn).into_iter().for_each(|conn| conn.leaving.push_back(bytes.clone()));
                }
                QuorumWant::Read { conn, reads } => {
                    self.conns.get_mut(&conn).into_iter().for_each(|conn| conn.reads = reads);
                }
                QuorumWant::Close { conn } => _ = self.conns.remove(&conn),
                QuorumWant::End => {
                    self.term = None;
                    self.conns.clear();
                    (self.acks, self.promised) = (BTreeMap::new(), Vec::new());
                }
            },
        }
    }

    fn hear_vote(&mut self, conn: ConnId, bytes: &[u8]) {
        let is_first = !self.said.contains_key(&conn);
        let unread = self.said.entry(conn).or_default();
        unread.extend_from_slice(bytes);
        if is_first && let Ok(Some((_, taken))) = Hello::read(unread) {
            unread.drain(..taken);
        }
        while let Ok(Some((message, taken))) = notification::split(unread) {
            self.vote = Some(Notification::read(message).expect("a notification").held);
            unread.drain(..taken);
        }
    }

    fn connect(&mut self, server: ServerId, role: Role, accepted: Epoch, last: Zxid) -> Option<ConnId> {
        if self.conns.len() >= MOST || self.term.is_none() {
            return None;
        }
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let learner = Learner::new(server, role, accepted, last);
        let (arriving, leaving) = (VecDeque::new(), VecDeque::new());
        self.conns.insert(conn, Conn { learner, arriving, reads: false, leaving });
        let from = ([10, 0, 0, 1], conn.0 as u16).into();
        self.quorum(QuorumEvent::Accepted { conn, from });
        Some(conn)
    }

    fn close(&mut self, conn: ConnId) {
        if self.conns.remove(&conn).is_some() {
            self.quorum(QuorumEvent::Closed { conn });
        }
    }

    /// A learner says something.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(Conn { learner, arriving, .. }) = self.conns.get_mut(&conn).filter(|_| !bytes.is_empty()) else {
            return;
        };
        learner.says(bytes);
        arriving.push_back(Bytes::copy_from_slice(bytes));
        if learner.is_voter && [1, 2].contains(&learner.server.0) {
            self.acks.entry(learner.server).or_default().extend(learner.acks.iter().copied());
            if learner.claimed.is_some_and(|(_, counts)| counts) && !self.promised.contains(&learner.server) {
                self.promised.push(learner.server);
            }
        }
    }

    /// What a learner said arrives; whether something did.
    fn arrive(&mut self, conn: ConnId) -> bool {
        let Some(end) = self.conns.get_mut(&conn).filter(|end| end.reads) else { return false };
        let Some(bytes) = end.arriving.pop_front() else { return false };
        self.quorum(QuorumEvent::Bytes { conn, bytes });
        true
    }

    /// So many bytes of what the leader wrote reach the learner; whether any did.
    fn leave(&mut self, conn: ConnId, most: usize) -> bool {
        let Some(end) = self.conns.get_mut(&conn) else { return false };
        let Some(mut bytes) = end.leaving.pop_front() else { return false };
        if most < bytes.len() {
            end.leaving.push_front(bytes.split_off(most.max(1)));
        }
        end.learner.hears(&bytes, &mut self.proposed);
        self.quorum(QuorumEvent::Left { conn, bytes: bytes.len() });
        true
    }
}

/// The input's choices.
impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(26) {
            0 => self.somebody_connects(input),
            1..=8 => {
                if let Some(conn) = self.pick(input) {
                    let next = self.conns.get_mut(&conn).and_then(|end| end.learner.to_say.pop_front());
                    next.into_iter().for_each(|bytes| self.say(conn, &bytes));
                }
            }
            9 => {
                if let Some(conn) = self.pick(input) {
                    self.say(conn, input.piece());
                }
            }
            10 | 11 => {
                if let Some(conn) = self.pick(input) {
                    let bytes = self.packet(conn, input);
                    self.say(conn, &bytes);
                }
            }
            12 => _ = self.pick(input).map(|conn| self.close(conn)),
            13 | 14 => _ = self.pick(input).map(|conn| self.arrive(conn)),
            15 | 16 => {
                let most = usize::from(input.u8()) * 4;
                _ = self.pick(input).map(|conn| self.leave(conn, most));
            }
            17 => self.log_step(),
            18 => self.member.disk_step(self.now),
            19 => _ = self.turn(),
            20 => {
                self.now.mono_ms += i64::from(input.u16() / 8);
                self.turn();
            }
            21 => self.client(input),
            22 => {
                let path = format!("/f{}", input.u8());
                self.write(&path);
            }
            _ => self.settle(),
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        (!conns.is_empty()).then(|| *input.pick(&conns))
    }

    fn somebody_connects(&mut self, input: &mut Input<'_>) {
        let server = ServerId(*input.pick(&[1, 2, 4, 1, 2, 5, 3, 77, -1]));
        let role = if server.0 > 3 { Role::Observer } else { Role::Participant };
        let role = if input.below(8) == 7 { Role::Observer } else { role };
        let epoch = self.member.turn.peer().leads().unwrap_or(Epoch(1)).0;
        let accepted = Epoch((epoch - [1, 0, 2, -1][input.below(4)]).max(0));
        let last = self.near(input);
        self.connect(server, role, accepted, last);
    }

    /// A zxid that is right or nearly.
    fn near(&self, input: &mut Input<'_>) -> Zxid {
        let last = self.member.tree.read().last_zxid();
        let epoch = self.member.turn.peer().leads().unwrap_or(Epoch(1));
        let newest = self.proposed.last_key_value().map_or(last, |(zxid, _)| *zxid);
        *input.pick(&[
            last,
            Zxid::ZERO,
            Zxid::new(epoch, 0),
            Zxid(last.0.wrapping_sub(2).max(0)),
            Zxid(last.0 + 3),
            newest,
            Zxid::new(epoch, 1),
            Zxid(newest.0 + 1),
            Zxid::NONE,
            Zxid::new(Epoch(1), 4),
        ])
    }

    /// A packet of a learner that makes mistakes.
    fn packet(&mut self, conn: ConnId, input: &mut Input<'_>) -> Vec<u8> {
        let zxid = self.near(input);
        let session = self.session.filter(|_| input.flag()).unwrap_or(SessionId(i64::from(input.u8())));
        let (mut bytes, mut room) = (Vec::new(), Vec::new());
        let end = &self.conns[&conn];
        let said = match input.below(10) {
            0 => {
                let info = LearnerInfo::new(end.learner.server, if input.flag() { zxid } else { Zxid::ZERO });
                let observer = end.learner.role() == Role::Observer;
                FromLearner::Info { observer, accepted: Zxid::new(zxid.epoch(), 0), info }
            }
            1 => {
                FromLearner::AckEpoch { last: zxid, current: input.flag().then_some(Epoch(i64::from(input.u8() % 4))) }
            }
            2..=4 => FromLearner::Ack(zxid),
            5 => FromLearner::Ping { zxid, touched: Touched::write(&mut room, [(session, 4000)]) },
            6 => FromLearner::Revalidate { session, timeout_ms: 4000 },
            _ => {
                let op = *input.pick(&[
                    Op::CREATE,
                    Op::SYNC,
                    Op::CREATE_SESSION,
                    Op::CLOSE_SESSION,
                    Op::SET_DATA,
                    Op::MULTI,
                ]);
                room = match op {
                    Op::CREATE if input.flag() => create(&format!("/r{}", input.u8())),
                    Op::CREATE_SESSION if input.flag() => 4000_i32.to_be_bytes().to_vec(),
                    _ => input.piece().to_vec(),
                };
                let identities = input.flag().then(|| vec![Id::new("ip", "::1")]);
                FromLearner::Request(Forwarded { session, cxid: Cxid(input.u8().into()), op, body: &room, identities })
            }
        };
        said.put(&mut bytes);
        bytes
    }

    fn ask_client(&mut self, message: ToPeer) {
        self.tell(PeerInput::FromShard(message));
    }

    fn client(&mut self, input: &mut Input<'_>) {
        let Some(session) = self.session else {
            let new = ToPeer::NewSession { shard: SHARD, conn: CLIENT, timeout_ms: 4000, auth: [].into() };
            return self.ask_client(new);
        };
        match input.below(4) {
            0 => {
                let request = self.request(session, Op::SYNC, Request::Sync { path: Some("/".into()) }.body(Op::SYNC));
                self.ask_client(ToPeer::Sync(request));
            }
            1 => {
                self.ask_client(ToPeer::Resume {
                    shard: SHARD,
                    conn: CLIENT,
                    session,
                    timeout_ms: 4000,
                    passwd_matches: true,
                });
            }
            _ => self.ask_client(ToPeer::Touch { session, heard_ms: self.now.mono_ms }),
        }
    }

    fn request(&mut self, session: SessionId, op: Op, body: Vec<u8>) -> WriteRequest {
        self.cxid += 1;
        let origin = Origin::Local { shard: SHARD, conn: CLIENT };
        let (cxid, auth) = (Cxid(self.cxid), [].into());
        WriteRequest { session, cxid, op, body: body.into(), auth, moved: false, origin }
    }

    fn write(&mut self, path: &str) {
        if let Some(session) = self.session {
            let request = self.request(session, Op::CREATE, create(path));
            self.ask_client(ToPeer::Write { request, behind_read: false, large: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_without_mistakes_lead_to_commits() {
        // After a history the leader's epoch is the second.
        for (input, epoch) in by_hand().iter().zip([1, 1, 2, 2, 2, 2]) {
            let committed = conversation(input);
            assert!(committed >= Zxid::new(Epoch(epoch), 5), "{committed} of {input:?}");
        }
    }
}
