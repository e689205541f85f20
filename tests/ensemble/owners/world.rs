//! Owners of members in one thread, each with its log, disk, snapshot writer and reader of the disk. The test stands in for the
//! network and the shards. Who works next is a choice of the seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::oracle::memory::{MemberSettings, MemoryMember};
use zabra::oracle::test_disk::TestDisk;
use zabra::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use zabra::peer::turn::TreeAccess;
use zabra::peer::{Input, LocalSessionOptions};
use zabra::pipeline::WriteRequest;
use zabra::pipeline::messages::{Entry, Outcome, ToPeer, ToShard};
use zabra::proto::{ReplyHeader, Request};
use zabra::quorum::{Member, Members};
use zabra::txnlog::epoch;
use zabra::txnlog::names::ACCEPTED_EPOCH;
use zabra::types::{ConnId, Cxid, Epoch, Now, Op, Origin, ServerId, SessionId, ShardId, Term, Zxid};
use zabra::zab::history::HistoryLimits;

pub const SHARD: ShardId = ShardId(0);

/// One end of a connection between members.
struct End {
    node: usize,
    other: ConnId,
    /// The term, of a connection of the quorum port.
    term: Option<Term>,
    /// On the way to this end.
    arriving: VecDeque<Bytes>,
    /// The other end has closed.
    is_ending: bool,
    reads: bool,
}

/// The process of a member.
struct Process {
    member: MemoryMember,
    /// The term that accepts learners.
    listens: Option<Term>,
}

/// A member.
pub struct Node {
    id: ServerId,
    disk: TestDisk,
    process: Option<Process>,
    pub serves: bool,
    /// Outcomes for this member's clients since the test last looked.
    pub told: Vec<(ConnId, Outcome)>,
    pub resumed: Vec<(ConnId, bool)>,
    /// Sessions that were given without a transaction.
    locals: Vec<(ConnId, SessionId)>,
    /// Connections whose local sessions have ended, since their clients closed them.
    pub closed: Vec<ConnId>,
    /// Syncs that are done, and as of which transaction.
    pub synced: Vec<(ConnId, Zxid)>,
}

pub struct World {
    pub rng: fastrand::Rng,
    pub now: Now,
    pub nodes: Vec<Node>,
    ends: BTreeMap<ConnId, End>,
    members: Arc<Members>,
    /// No bytes pass between these two.
    cut: Vec<(usize, usize)>,
    conns: u64,
    cxid: i32,
    history: HistoryLimits,
    /// The next proposal for this member gets another digest on its way.
    pub tamper: Option<usize>,
    /// Whether members have local sessions, and may make them global ones.
    pub local_sessions: Option<LocalSessionOptions>,
}

impl World {
    /// `voters` members that vote, and then `observers`. They are not started.
    pub fn new(seed: u64, voters: i64, observers: i64, history: HistoryLimits) -> World {
        let line = |id: i64| format!("host{id}:1:2{}", if id > voters { ":observer" } else { "" });
        let ids = 1..=voters + observers;
        let members = ids.clone().map(|id| (ServerId(id), Member::parse(&line(id)).unwrap())).collect();
        let members = Arc::new(Members::majority(members, Zxid::ZERO).unwrap());
        let node = |id| Node {
            id: ServerId(id),
            disk: TestDisk::new(),
            process: None,
            serves: false,
            told: Vec::new(),
            synced: Vec::new(),
            locals: Vec::new(),
            closed: Vec::new(),
            resumed: Vec::new(),
        };
        World {
            rng: fastrand::Rng::with_seed(seed),
            now: Now { mono_ms: 100_000, wall_ms: 1_700_000_000_000, mono_ns: 0 },
            nodes: ids.map(node).collect(),
            ends: BTreeMap::new(),
            members,
            cut: Vec::new(),
            conns: 0,
            cxid: 0,
            history,
            tamper: None,
            local_sessions: None,
        }
    }

    /// Starts a member on what its disk has.
    pub fn start(&mut self, n: usize) {
        let id = self.nodes[n].id;
        let mut settings = MemberSettings::new(id, self.members.clone(), 1 << 20);
        settings.ensemble.history = self.history;
        settings.local_sessions = self.local_sessions;
        let member = MemoryMember::start(settings, &self.nodes[n].disk, self.now);
        self.nodes[n].process = Some(Process { member, listens: None });
        self.after_turn(n);
    }

    /// The process ends; with `power`, its disk loses what was not synced.
    pub fn kill(&mut self, n: usize, power: bool) {
        self.nodes[n].process = None;
        self.nodes[n].serves = false;
        let gone: Vec<ConnId> = self.ends.iter().filter(|(_, end)| end.node == n).map(|(conn, _)| *conn).collect();
        gone.into_iter().for_each(|conn| self.close(conn));
        match power {
            true => self.nodes[n].disk.power_cycle(self.rng.u64(..)),
            false => self.nodes[n].disk.restart(),
        }
    }

    /// The member's directory is emptied.
    pub fn wipe(&mut self, n: usize) {
        assert!(self.nodes[n].process.is_none());
        self.nodes[n].disk = TestDisk::new();
    }

    /// The member's disk says that it has accepted this epoch.
    pub fn accept(&mut self, n: usize, epoch: Epoch) {
        assert!(self.nodes[n].process.is_none());
        epoch::write_epoch(&mut self.nodes[n].disk, ACCEPTED_EPOCH, epoch).unwrap();
    }

    /// The established leader and its epoch, if there is one.
    pub fn led(&self) -> Option<(usize, Epoch)> {
        let leads = |node: &Node| node.process.as_ref().and_then(|process| process.member.turn.peer().leads());
        self.nodes.iter().enumerate().find_map(|(n, node)| Some((n, leads(node)?)))
    }

    /// From now on nothing passes between a member and the others.
    pub fn isolate(&mut self, n: usize) {
        self.cut = (0..self.nodes.len()).filter(|other| *other != n).map(|other| (n, other)).collect();
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// One step of a member that the seed chooses: its log thread, its snapshot writer, its reader, or its core.
    pub fn step(&mut self) {
        let n = self.rng.usize(..self.nodes.len());
        match self.rng.u32(..6) {
            0 => self.log_step(n),
            1 => self.disk_step(n),
            2 | 3 => self.deliver(),
            _ => self.turn(n),
        }
    }

    /// Everybody works for `ms` milliseconds.
    pub fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 20 {
            self.now.mono_ms += 20;
            self.now.wall_ms += 20;
            (0..40 * self.nodes.len()).for_each(|_| self.step());
        }
    }

    /// Everybody works until this is true.
    pub fn until(&mut self, what: &str, mut is_true: impl FnMut(&World) -> bool) {
        for _ in 0..3000 {
            if is_true(self) {
                return;
            }
            self.pass(20);
        }
        panic!("never: {what}");
    }

    fn turn(&mut self, n: usize) {
        let Some(process) = &mut self.nodes[n].process else { return };
        process.member.turn(self.now);
        self.after_turn(n);
    }

    fn after_turn(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(Process { member, .. }) = &mut node.process else { return };
        for message in member.take_stream() {
            match message {
                ToShard::Suspend => {
                    node.serves = false;
                    member.mail.inbox.push_back(Input::FromShard(ToPeer::Suspended { shard: SHARD }));
                }
                ToShard::Serve(_) => node.serves = true,
                ToShard::Applied(Entry { outcome: Some(outcome), .. }) => node.told.push(outcome),
                ToShard::Synced { conn, zxid } => node.synced.push((conn, zxid)),
                ToShard::Resumed { conn, session } => {
                    node.resumed.push((conn, session.is_some()));
                    node.locals.extend(session.map(|(session, _)| (conn, session)));
                }
                ToShard::Closed { conn, .. } => node.closed.push(conn),
                _ => {}
            }
        }
        let wants = member.take_net();
        wants.into_iter().for_each(|want| self.net(n, want));
    }

    fn log_step(&mut self, n: usize) {
        let now = self.now;
        self.nodes[n]
            .process
            .iter_mut()
            .for_each(|process| process.member.log_step(now).expect("this disk has no faults"));
    }

    fn disk_step(&mut self, n: usize) {
        let now = self.now;
        self.nodes[n].process.iter_mut().for_each(|process| process.member.disk_step(now));
    }
}

/// The network.
impl World {
    fn tell(&mut self, n: usize, event: NetEvent) {
        if let Some(process) = &mut self.nodes[n].process {
            process.member.mail.inbox.push_back(Input::Net(event));
        }
    }

    fn news(&mut self, conn: ConnId, election: ElectionEvent, quorum: QuorumEvent) {
        let Some(end) = self.ends.get(&conn) else { return };
        let event = match end.term {
            None => NetEvent::Election(election),
            Some(term) => NetEvent::Quorum { term, event: quorum },
        };
        self.tell(end.node, event);
    }

    fn net(&mut self, n: usize, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, .. }) => {
                let other = to.0 as usize - 1;
                if self.nodes[other].process.is_none() || self.is_cut(n, other) {
                    return self.tell(n, NetEvent::Election(ElectionEvent::DialFailed { to }));
                }
                let (mine, theirs) = self.connect((n, None), (other, None));
                self.tell(n, NetEvent::Election(ElectionEvent::Dialed { to, conn: mine }));
                let from = [127, 0, 0, n as u8 + 1].into();
                self.tell(other, NetEvent::Election(ElectionEvent::Accepted { conn: theirs, from }));
            }
            NetWant::Election(ElectionWant::Write { conn, bytes }) => {
                self.write(conn, bytes);
                self.news(conn, ElectionEvent::Written { conn }, QuorumEvent::DialFailed);
            }
            NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. } => {
                let bytes_len = bytes.len();
                self.write(conn, bytes);
                let left = QuorumEvent::Left { conn, bytes: bytes_len };
                self.news(conn, ElectionEvent::Written { conn }, left);
            }
            NetWant::Election(ElectionWant::Close { conn })
            | NetWant::Quorum { want: QuorumWant::Close { conn }, .. } => self.close(conn),
            NetWant::Quorum { want: QuorumWant::Read { conn, reads }, .. } => {
                self.ends.get_mut(&conn).into_iter().for_each(|end| end.reads = reads);
            }
            NetWant::Quorum { term, want: QuorumWant::Listen } => {
                self.nodes[n].process.as_mut().unwrap().listens = Some(term);
            }
            NetWant::Quorum { term, want: QuorumWant::Dial { leader } } => self.dial(n, term, leader),
            NetWant::Quorum { term, want: QuorumWant::End } => {
                self.nodes[n].process.as_mut().unwrap().listens = None;
                let mine = |end: &End| end.node == n && end.term == Some(term);
                let gone: Vec<ConnId> = self.ends.iter().filter(|(_, end)| mine(end)).map(|(conn, _)| *conn).collect();
                gone.into_iter().for_each(|conn| self.close(conn));
            }
        }
    }

    fn dial(&mut self, n: usize, term: Term, leader: ServerId) {
        let other = leader.0 as usize - 1;
        let listens = self.nodes[other].process.as_ref().and_then(|process| process.listens);
        let Some(theirs) = listens.filter(|_| !self.is_cut(n, other)) else {
            return self.tell(n, NetEvent::Quorum { term, event: QuorumEvent::DialFailed });
        };
        let (mine, accepted) = self.connect((n, Some(term)), (other, Some(theirs)));
        let from = ([127, 0, 0, n as u8 + 1], 49152).into();
        self.tell(n, NetEvent::Quorum { term, event: QuorumEvent::Dialed { conn: mine } });
        self.tell(other, NetEvent::Quorum { term: theirs, event: QuorumEvent::Accepted { conn: accepted, from } });
    }

    fn connect(&mut self, a: (usize, Option<Term>), b: (usize, Option<Term>)) -> (ConnId, ConnId) {
        let (mine, theirs) = (ConnId(self.conns + 1), ConnId(self.conns + 2));
        self.conns += 2;
        for ((node, term), conn, other) in [(a, mine, theirs), (b, theirs, mine)] {
            let (arriving, is_ending, reads) = (VecDeque::new(), false, term.is_none());
            self.ends.insert(conn, End { node, other, term, arriving, is_ending, reads });
        }
        (mine, theirs)
    }

    fn write(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(other) = self.ends.get(&conn).map(|end| end.other) else { return };
        let Some(end) = self.ends.get_mut(&other) else { return };
        let is_proposal = end.term.is_some() && bytes.starts_with(&[0, 0, 0, 2]);
        if is_proposal && self.tamper.take_if(|n| *n == end.node).is_some() {
            // The digest is the end of the data, behind which only the length of no identities comes.
            let mut other = bytes.to_vec();
            let at = other.len() - 5;
            other[at] ^= 1;
            return end.arriving.push_back(other.into());
        }
        end.arriving.push_back(bytes);
    }

    /// An end is closed: what was sent before may still arrive.
    fn close(&mut self, conn: ConnId) {
        let Some(gone) = self.ends.remove(&conn) else { return };
        if let Some(end) = self.ends.get_mut(&gone.other) {
            end.is_ending = true;
        }
    }

    /// Something arrives on a connection that the seed chooses.
    fn deliver(&mut self) {
        let conns: Vec<ConnId> = self.ends.keys().copied().collect();
        let Some(conn) = self.rng.choice(conns) else { return };
        let other = self.ends[&conn].other;
        if !self.ends[&conn].reads {
            return;
        }
        let from = self.ends.get(&other).map(|end| end.node);
        let end = self.ends.get_mut(&conn).expect("it is there");
        if from.is_some_and(|from| self.cut.contains(&(from, end.node)) || self.cut.contains(&(end.node, from))) {
            return;
        }
        let Some(mut bytes) = end.arriving.pop_front() else {
            if end.is_ending {
                self.news(conn, ElectionEvent::Closed { conn }, QuorumEvent::Closed { conn });
                self.ends.remove(&conn);
            }
            return;
        };
        if bytes.len() > 1 && self.rng.u32(..4) == 0 {
            let rest = bytes.split_off(self.rng.usize(1..bytes.len()));
            end.arriving.push_front(rest);
        }
        let quorum = QuorumEvent::Bytes { conn, bytes: bytes.clone() };
        self.news(conn, ElectionEvent::Bytes { conn, bytes }, quorum);
    }
}

/// The clients.
impl World {
    fn shard(&mut self, n: usize, message: ToPeer) {
        let Some(process) = &mut self.nodes[n].process else { return };
        process.member.mail.inbox.push_back(Input::FromShard(message));
    }

    /// A client of a member asks for a session, on a connection of its own.
    pub fn connect_client(&mut self, n: usize) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.shard(n, ToPeer::NewSession { shard: SHARD, conn, timeout_ms: 30_000, auth: [].into() });
        conn
    }

    /// A client wants to resume a session at a member.
    pub fn resume(&mut self, n: usize, session: SessionId) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        let (shard, timeout_ms) = (SHARD, 30_000);
        self.shard(n, ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches: true });
        conn
    }

    fn request(&mut self, conn: ConnId, session: SessionId, op: Op, body: Vec<u8>) -> WriteRequest {
        self.cxid += 1;
        let (cxid, origin) = (Cxid(self.cxid), Origin::Local { shard: SHARD, conn });
        let (body, auth, moved) = (body.into(), [].into(), false);
        WriteRequest { session, cxid, op, body, auth, moved, origin }
    }

    /// A client writes. Returns the number of its request.
    pub fn write_as(&mut self, n: usize, conn: ConnId, session: SessionId, op: Op, body: Vec<u8>) -> Cxid {
        let request = self.request(conn, session, op, body);
        let cxid = request.cxid;
        self.shard(n, ToPeer::Write { request, behind_read: false, large: None });
        cxid
    }

    /// A client syncs. Returns the transaction as of which it is done.
    pub fn sync_as(&mut self, n: usize, conn: ConnId, session: SessionId) -> Zxid {
        let request = self.request(conn, session, Op::SYNC, Request::Sync { path: Some("/".into()) }.body(Op::SYNC));
        let before = self.nodes[n].synced.len();
        self.shard(n, ToPeer::Sync(request));
        self.until("a sync is done", |w| w.nodes[n].synced.len() > before);
        let (asked, zxid) = self.nodes[n].synced[before];
        assert_eq!(asked, conn);
        zxid
    }

    /// The session that a client was given.
    pub fn session_of(&mut self, n: usize, conn: ConnId) -> SessionId {
        let created = |node: &Node| {
            node.told.iter().find_map(|(asked, outcome)| match outcome {
                Outcome::SessionCreated { session, .. } if *asked == conn => Some(*session),
                _ => None,
            })
        };
        self.until("a session", |w| created(&w.nodes[n]).is_some());
        created(&self.nodes[n]).expect("it is there")
    }

    /// The local session that a client was given.
    pub fn local_session_of(&mut self, n: usize, conn: ConnId) -> SessionId {
        let given = |node: &Node| node.locals.iter().find(|(asked, _)| *asked == conn).map(|(_, session)| *session);
        self.until("a local session", |w| given(&w.nodes[n]).is_some());
        given(&self.nodes[n]).expect("it is there")
    }

    /// Global and local sessions that a member knows.
    pub fn sessions(&self, n: usize) -> (usize, usize) {
        self.nodes[n].process.as_ref().map_or((0, 0), |process| {
            let status = process.member.turn.peer().status(&process.member.tree.read());
            (status.global_sessions, status.local_sessions.unwrap_or(0))
        })
    }

    /// The error code of the answer to a request, if there is one.
    pub fn answer(&self, n: usize, conn: ConnId, cxid: Cxid) -> Option<i32> {
        self.nodes[n].told.iter().find_map(|(asked, outcome)| match outcome {
            Outcome::Reply(frame) if *asked == conn => {
                let header = ReplyHeader::read(&mut Reader::new(&frame[4..])).unwrap();
                (header.xid == cxid.0).then_some(header.err)
            }
            _ => None,
        })
    }
}

/// What can be seen.
impl World {
    pub fn leaders(&self) -> Vec<usize> {
        let leads = |node: &Node| node.process.as_ref().is_some_and(|process| process.listens.is_some());
        (0..self.nodes.len()).filter(|n| leads(&self.nodes[*n])).collect()
    }

    /// Snapshots that a member has opened for learners, and how often it has read its log for them.
    pub fn fed(&self, n: usize) -> (usize, usize) {
        self.nodes[n].process.as_ref().map_or((0, 0), |process| {
            let MemoryMember { snapshots_fed, lists_fed, .. } = process.member;
            (snapshots_fed, lists_fed)
        })
    }

    pub fn has(&self, n: usize, path: &str) -> bool {
        self.nodes[n].process.as_ref().is_some_and(|process| process.member.tree.read().get(path).is_some())
    }

    pub fn last(&self, n: usize) -> Zxid {
        self.nodes[n].process.as_ref().map_or(Zxid::NONE, |process| process.member.tree.read().last_zxid())
    }

    pub fn digest(&self, n: usize) -> u64 {
        self.nodes[n].process.as_ref().map_or(0, |process| process.member.tree.read().digest())
    }

    pub fn all_serve(&self) -> bool {
        self.nodes.iter().all(|node| node.serves)
    }

    /// Everybody that runs has the same state.
    pub fn all_agree(&self) -> bool {
        let running = (0..self.nodes.len()).filter(|n| self.nodes[*n].process.is_some());
        let states: Vec<(Zxid, u64)> = running.map(|n| (self.last(n), self.digest(n))).collect();
        states.windows(2).all(|two| two[0] == two[1])
    }
}
