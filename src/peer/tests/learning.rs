//! An observer's owner with its log, disk and snapshot writer. The test is its leader, the other voter and its shards.

mod latencies;
mod local_sessions;
mod read_only;
mod replaced;
mod resumptions;
mod syncs;
mod undecodable;

use super::*;
use crate::oracle::memory::MemoryLog;
use crate::oracle::replica::SMALL;
use crate::oracle::test_disk::TestDisk;
use crate::peer::disk::DiskJobs;
use crate::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use crate::peer::role_status::Mode;
use crate::proto::Request;
use crate::quorum::{Member, Members, Role as MemberRole};
use crate::txnlog::epoch::{self, Epochs};
use crate::txnlog::log::{Log, RunOptions};
use crate::txnlog::recovery::RecoveryOptions;
use crate::txnlog::snapshot::{SnapshotOptions, TERMINATOR, put_acl_table, put_sessions};
use crate::txnlog::snapshotter::{Replaced, Snapshotter, first_snapshot};
use crate::txnlog::writer::LogWriter;
use crate::types::{Epoch, ErrorCode, Term, path};
use crate::zab::election::{Electorate, Timing};
use crate::zab::message::{Forwarded, FromLeader, FromLearner};
use crate::zab::notification;
use crate::zab::packet::{Split, split};
use crate::zab::vote::{ServerState, Vote};

const ME: ServerId = ServerId(3);
const LEADER: ServerId = ServerId(2);
const QUORUM: ConnId = ConnId(900);
const LIMIT: usize = 1 << 20;

struct Observer {
    w: World,
    disk: TestDisk,
    log: MemoryLog<LogWriter<TestDisk>>,
    snapshots: Snapshotter<TestDisk>,
    /// Connections for elections, by server.
    elections: Vec<(ServerId, ConnId)>,
    /// What it said to the leader, each packet as text.
    said: Vec<String>,
    /// Opcodes and bodies of the requests among that.
    forwarded: Vec<(Op, Vec<u8>)>,
    /// What it wanted of the quorum port besides that.
    wanted: Vec<String>,
    /// What the shards were told.
    told: Vec<(ShardId, ToShard)>,
    /// Trees that its snapshot writer dropped.
    dropped: Vec<Zxid>,
    conns: u64,
}

fn electorate() -> Electorate {
    let lines = [(1, "a:1:2"), (2, "b:1:2"), (3, "c:1:2:observer")];
    let members = lines.map(|(id, line)| (ServerId(id), Member::parse(line).unwrap()));
    Electorate { members: Arc::new(Members::majority(members.into(), Zxid::ZERO).unwrap()), next: None }
}

fn ensemble() -> EnsembleOptions {
    EnsembleOptions {
        role: MemberRole::Observer,
        electorate: electorate(),
        timing: Timing::default(),
        all_addresses: false,
        hello_timeout_ms: 1000,
        init_ms: 10_000,
        sync_ms: 5000,
        packet_limit: LIMIT,
        leader: Default::default(),
        sync: Default::default(),
        room: Default::default(),
        history: Default::default(),
        leader_serves: true,
        read_only_after_ms: None,
    }
}

/// A create of `path`, as a PROPOSAL carries it.
fn create(zxid: Zxid, session: SessionId, cxid: i32, path: &str) -> Vec<u8> {
    let header = TxnHeader { session, cxid: Cxid(cxid), zxid, time_ms: 0, op: Op::CREATE };
    let mut bytes = Vec::new();
    header.put(&mut bytes);
    Txn::Create(plain(path)).put(&mut bytes);
    bytes
}

fn transaction(zxid: Zxid, session: SessionId, cxid: i32, op: Op, txn: &Txn) -> Vec<u8> {
    let mut bytes = Vec::new();
    TxnHeader { session, cxid: Cxid(cxid), zxid, time_ms: 0, op }.put(&mut bytes);
    txn.put(&mut bytes);
    bytes
}

fn z(counter: u32) -> Zxid {
    Zxid::new(Epoch(1), counter)
}

impl Observer {
    fn new() -> Observer {
        Observer::with(Zxid::ZERO)
    }

    /// Without any transaction: the history ends at `last`, 0 or -1.
    fn with(last: Zxid) -> Observer {
        Observer::changed(last, |peer, _| peer)
    }

    fn changed(last: Zxid, change: impl FnOnce(Peer, Now) -> Peer) -> Observer {
        Observer::set_up(last, ensemble(), &[], change)
    }

    fn set_up(
        last: Zxid,
        ensemble: EnsembleOptions,
        sessions: &[(SessionId, i32)],
        change: impl FnOnce(Peer, Now) -> Peer,
    ) -> Observer {
        let disk = TestDisk::new();
        let tree = Tree::new(TreeOptions::default());
        first_snapshot(&mut disk.clone(), &tree, SnapshotOptions::default()).unwrap();
        let epochs = epoch::load(&mut disk.clone(), Zxid::ZERO).unwrap();
        let mut w = World::on(tree, &[]);
        let mut tree = Tree::new(TreeOptions::default());
        tree.set_last_zxid(last);
        w.tree = MemoryTree::new(tree, 2, w.interest.clone());
        let options = PeerOptions { me: ME, ..options() };
        let found = Found { epochs, recent: Default::default(), chain: Zxid::ZERO };
        let peer = Peer::member(options, ensemble, found, &w.tree.read(), sessions, w.now);
        w.turn = PeerTurn::new(change(peer, w.now), last, Bounds::default());
        let writer = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
        let mut jobs = DiskJobs::new(disk.clone(), TreeOptions::default(), RecoveryOptions::default());
        let perform = move |request, sink: &mut LogWriter<TestDisk>| jobs.perform(request, sink);
        let log = MemoryLog::with_jobs(Log::new(writer, RunOptions::default(), 1), perform);
        let snapshots = Snapshotter::new(disk.clone(), SnapshotOptions::default());
        let (elections, said, forwarded, wanted, told, dropped) = Default::default();
        let mut observer =
            Observer { w, disk, log, snapshots, elections, said, forwarded, wanted, told, dropped, conns: 100 };
        let Observer { w, .. } = &mut observer;
        w.turn.start(w.now, &w.tree, &mut w.mail);
        observer
    }

    /// One turn; what it wants of the connections is noted, and what is for the disk is on its way.
    fn turn(&mut self) -> bool {
        let w = &mut self.w;
        let busy = w.turn.turn(w.now, &w.tree, &mut w.mail);
        w.turn.check(&w.tree.read());
        w.mail.appended.drain(..).for_each(|burst| self.log.send(&burst));
        w.mail.disk.drain(..).for_each(|request| self.log.ask(request));
        for shard in [ShardId(0), ShardId(1)] {
            for message in self.w.mail.take_stream(shard) {
                if matches!(message, ToShard::Suspend) {
                    self.w.mail.inbox.push_back(Input::FromShard(ToPeer::Suspended { shard }));
                }
                self.told.push((shard, message));
            }
        }
        let wants: Vec<NetWant> = self.w.mail.net.drain(..).collect();
        wants.into_iter().for_each(|want| self.net(want));
        busy || self.w.mail.is_for_peer()
    }

    fn turns(&mut self) {
        while self.turn() {}
    }

    /// What a connection is wanted for.
    fn net(&mut self, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, .. }) => {
                self.conns += 1;
                let conn = ConnId(self.conns);
                self.elections.push((to, conn));
                self.election(ElectionEvent::Dialed { to, conn });
            }
            NetWant::Election(ElectionWant::Write { conn, .. }) => self.election(ElectionEvent::Written { conn }),
            NetWant::Election(ElectionWant::Close { conn }) => self.elections.retain(|(_, open)| *open != conn),
            NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. } => {
                assert_eq!(conn, QUORUM);
                let mut rest = &bytes[..];
                while let Split::Whole(packet, taken) = split(rest, LIMIT).unwrap() {
                    let packet = FromLearner::read(packet).unwrap();
                    self.said.push(said(&packet));
                    if let FromLearner::Request(Forwarded { op, body, .. }) = packet {
                        self.forwarded.push((op, body.to_vec()));
                    }
                    rest = &rest[taken..];
                }
                assert!(rest.is_empty());
            }
            NetWant::Quorum { term, want } => self.wanted.push(format!("{} {want:?}", term.0)),
        }
    }

    fn election(&mut self, event: ElectionEvent) {
        self.w.mail.inbox.push_back(Input::Net(NetEvent::Election(event)));
    }

    fn quorum(&mut self, event: QuorumEvent) {
        let term = self.w.peer().term();
        self.w.mail.inbox.push_back(Input::Net(NetEvent::Quorum { term, event }));
        self.turns();
    }

    /// The leader says this.
    fn leader(&mut self, all: &[FromLeader<'_>]) {
        let mut bytes = Vec::new();
        all.iter().for_each(|said| said.put(&mut bytes));
        self.quorum(QuorumEvent::Bytes { conn: QUORUM, bytes: bytes.into() });
    }

    /// Log, disk and snapshot writer do all that they have to do.
    fn work(&mut self) {
        loop {
            self.turns();
            let mut told = Vec::new();
            self.log.step(self.w.now, 0, &mut told).unwrap();
            let mut inputs: Vec<Input> = told.into_iter().filter_map(Input::from_log).collect();
            inputs.extend(self.log.take_answers().into_iter().map(Input::Disk));
            while let Some(part) = self.w.mail.snapshot.pop_front() {
                if let SnapshotPart::Forget(Replaced(tree)) = &part {
                    self.dropped.push(tree.last_zxid());
                }
                inputs.extend(self.snapshots.take(self.w.now, part).unwrap().map(Input::from));
            }
            if inputs.is_empty() && self.log.is_idle() {
                return;
            }
            self.w.mail.told.extend(inputs);
        }
    }

    /// Both voters say that server 2 leads.
    fn elect(&mut self) {
        self.work();
        self.votes();
        self.turns();
    }

    /// Their votes arrive.
    fn votes(&mut self) {
        let conns = self.elections.clone();
        assert_eq!(conns.len(), 2, "{conns:?}");
        for (server, conn) in conns {
            let state = if server == LEADER { ServerState::Leading } else { ServerState::Following };
            let vote = Vote { leader: LEADER, zxid: Zxid::ZERO, peer_epoch: Epoch(1) };
            let mut bytes = Vec::new();
            notification::Notification::put(&mut bytes, &vote, 1, state, "");
            self.election(ElectionEvent::Bytes { conn, bytes: bytes.into() });
        }
    }

    /// It is elected for, and connects.
    fn connect(&mut self) {
        self.elect();
        self.reach();
    }

    /// The leader that it dials answers.
    fn reach(&mut self) {
        assert!(self.wanted.last().is_some_and(|want| want.contains("Dial")), "{:?}", self.wanted);
        self.quorum(QuorumEvent::Dialed { conn: QUORUM });
        self.leader(&[FromLeader::LeaderInfo { epoch: Epoch(1), protocol: 0x10000, extra: &[] }]);
        self.work();
    }

    /// It has a leader.
    fn join(&mut self) {
        self.connect();
        self.get_in_step();
    }

    /// Nothing is missing.
    fn get_in_step(&mut self) {
        let last = self.w.applied();
        self.leader(&[FromLeader::Diff(last), FromLeader::NewLeader { zxid: z(0), config: None }]);
        self.work();
        self.leader(&[FromLeader::UpToDate]);
        self.work();
        assert_eq!(self.told.iter().filter(|(_, told)| matches!(told, ToShard::Serve(Service::Ensemble))).count(), 2);
        self.forget();
    }

    /// Only what comes from now on is looked at.
    fn forget(&mut self) {
        self.said.clear();
        self.forwarded.clear();
        self.told.clear();
        self.wanted.clear();
    }

    /// The leader commits this.
    fn inform(&mut self, zxid: Zxid, txn: &[u8]) {
        self.leader(&[FromLeader::Inform { zxid, txn }]);
        self.work();
    }

    /// A client has a session.
    fn session(&mut self, client: Client, zxid: Zxid) -> SessionId {
        let Client { shard, conn } = client;
        let message = ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() };
        self.shard(message);
        let said = self.said.pop().unwrap();
        let session = said.strip_prefix("request ").and_then(|said| said.split(' ').next()).unwrap();
        let session = SessionId(i64::from_str_radix(session.trim_start_matches("0x"), 16).unwrap());
        self.inform(zxid, &transaction(zxid, session, 0, Op::CREATE_SESSION, &Txn::CreateSession { timeout_ms: 4000 }));
        let (at, told) = self.told.pop().unwrap();
        assert!(
            matches!(told, ToShard::Applied(Entry { outcome: Some((c, Outcome::SessionCreated { .. })), .. }) if c == conn)
        );
        assert_eq!(at, shard);
        session
    }

    fn shard(&mut self, message: ToPeer) {
        self.w.mail.inbox.push_back(Input::FromShard(message));
        self.turns();
    }

    fn write(&mut self, client: Client, session: SessionId, cxid: i32, body: &[u8]) {
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let (auth, body) = ([Id::new("ip", "10.0.0.1")].into(), Bytes::copy_from_slice(body));
        let request = WriteRequest { session, cxid: Cxid(cxid), op: Op::CREATE, body, auth, moved: false, origin };
        self.shard(ToPeer::Write { request, behind_read: false, large: None });
    }

    fn create(&mut self, client: Client, session: SessionId, cxid: i32, path: &str) {
        let acl = vec![Acl::world_all()].into();
        let create = CreateRequest { path: path.into(), data: None, acl, flags: 0, ttl_ms: None };
        self.write(client, session, cxid, &Request::Create(create).body(Op::CREATE));
    }

    fn epochs(&self) -> Epochs {
        epoch::load(&mut self.disk.clone(), Zxid::ZERO).unwrap()
    }
}

/// What a leader sends after SNAP.
fn image(last: Zxid) -> Vec<u8> {
    let mut image = Vec::new();
    let mut tree = tree_at(last);
    let id = tree.begin_image();
    put_sessions(&mut image, [(SessionId(77), 4000)].into_iter());
    put_acl_table(&mut image, [].into_iter());
    while !tree.image_chunk(id, 1 << 20, &mut image) {}
    image.extend_from_slice(&TERMINATOR);
    image.extend_from_slice(b"\0\0\0\x0aBenWasHere");
    image
}

fn said(message: &FromLearner<'_>) -> String {
    match message {
        FromLearner::Request(Forwarded { session, cxid, op, identities, .. }) => {
            let ids = identities.as_ref().map(Vec::len);
            format!("request {session} {} {op} {ids:?}", cxid.0)
        }
        FromLearner::Ping { touched, .. } => format!("ping {:?}", touched.iter().collect::<Vec<_>>()),
        FromLearner::Revalidate { session, timeout_ms } => format!("revalidate {session} {timeout_ms}"),
        FromLearner::Info { observer, accepted, .. } => format!("info {observer} {accepted}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn it_finds_its_leader_and_says_nothing_that_is_not_durable() {
    let mut o = Observer::new();
    o.elect();
    assert_eq!(o.wanted, [format!("0 Dial {{ leader: {LEADER:?} }}")]);
    o.quorum(QuorumEvent::Dialed { conn: QUORUM });
    assert_eq!(o.said, ["info true 0x0"]);
    o.leader(&[FromLeader::LeaderInfo { epoch: Epoch(1), protocol: 0x10000, extra: &[] }]);
    assert_eq!((o.said.len(), o.epochs().accepted), (1, Epoch(0)), "ACKEPOCH waits for the disk");
    o.work();
    assert_eq!((o.said.len(), o.epochs()), (2, Epochs { accepted: Epoch(1), current: Epoch(0) }));
    assert!(o.said[1].starts_with("AckEpoch"), "{:?}", o.said);
    let one = create(z(1), SessionId(7), 1, "/1");
    o.leader(&[
        FromLeader::Diff(z(1)),
        FromLeader::Proposal { zxid: z(1), txn: &one },
        FromLeader::Commit(z(1)),
        FromLeader::NewLeader { zxid: z(0), config: None },
    ]);
    assert_eq!((o.said.len(), o.w.applied()), (2, Zxid::ZERO), "ACK waits for the log");
    o.work();
    assert_eq!((o.said.len(), o.w.applied()), (3, z(1)));
    assert_eq!(o.epochs(), Epochs { accepted: Epoch(1), current: Epoch(1) });
    assert!(!o.told.iter().any(|(_, told)| matches!(told, ToShard::Serve(Service::Ensemble))));
    o.leader(&[FromLeader::UpToDate]);
    let served: Vec<u32> = o.told.iter().filter(|(_, t)| matches!(t, ToShard::Serve(_))).map(|(s, _)| s.0).collect();
    assert_eq!(served, [0, 1]);
}

#[test]
fn what_it_is_is_shown_at_each_step() {
    let mut o = Observer::new();
    let shown = |o: &Observer| {
        let role = o.w.peer().status(&o.w.tree.read()).role;
        (role.peer_state(), role.serves_clients, role.leader)
    };
    assert_eq!(shown(&o), ("looking".into(), false, None));
    o.elect();
    assert_eq!(shown(&o), ("observing - discovery".into(), false, Some(LEADER)));
    o.quorum(QuorumEvent::Dialed { conn: QUORUM });
    o.leader(&[FromLeader::LeaderInfo { epoch: Epoch(1), protocol: 0x10000, extra: &[] }]);
    o.work();
    assert_eq!(shown(&o), ("observing - synchronization".into(), false, Some(LEADER)));
    o.leader(&[FromLeader::Diff(Zxid::ZERO), FromLeader::NewLeader { zxid: z(0), config: None }]);
    o.work();
    o.leader(&[FromLeader::UpToDate]);
    o.work();
    assert_eq!(shown(&o), ("observing - broadcast".into(), true, Some(LEADER)));
    let role = o.w.peer().status(&o.w.tree.read()).role;
    assert_eq!((role.mode, role.votes(), role.leading), (Mode::Observer, false, None));
    let elections = role.elections;
    assert_eq!((elections.looked, elections.sync_ms.tally().count), (1, 1));
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.work();
    assert_eq!(
        (shown(&o), o.w.peer().status(&o.w.tree.read()).role.elections.looked),
        (("looking".into(), false, None), 2)
    );
}

/// `db.autocreate=false` and an empty directory: its vote counts for nobody before a leader has sent it a history.
#[test]
fn a_member_without_a_history_gets_one_from_its_leader() {
    let mut o = Observer::with(Zxid::NONE);
    o.connect();
    // There is nothing yet of which a snapshot could be taken.
    let ticket = SnapshotTicket(1);
    o.w.hear(Input::SnapshotAsked(ticket));
    let refused = SnapshotAnswer { ticket, result: Err(SnapshotRefused::NoHistory) };
    assert_eq!(o.w.mail.snapshot_answers, [refused]);
    let ack = o.said.last().cloned().unwrap_or_default();
    assert!(ack.starts_with("AckEpoch") && ack.contains(&format!("{:?}", Zxid::NONE)), "{:?}", o.said);
    let last = z(9);
    o.leader(&[FromLeader::Snap(last)]);
    o.quorum(QuorumEvent::Bytes { conn: QUORUM, bytes: image(last).into() });
    o.work();
    o.leader(&[FromLeader::NewLeader { zxid: z(0), config: None }]);
    o.work();
    o.leader(&[FromLeader::UpToDate]);
    o.inform(z(10), &create(z(10), SessionId(9), 5, "/next"));
    assert_eq!((o.w.applied(), o.w.is_there("/x"), o.w.is_there("/next")), (z(10), true, true));
}

#[test]
fn a_leader_that_is_not_there_is_dialled_five_times_and_then_elected_anew() {
    let mut o = Observer::new();
    o.elect();
    for _ in 0..4 {
        o.quorum(QuorumEvent::DialFailed);
        o.w.now.mono_ms = o.w.turn.deadline().unwrap();
        o.turns();
    }
    assert_eq!(o.wanted.len(), 5);
    o.quorum(QuorumEvent::DialFailed);
    assert_eq!((&o.wanted[5][..], o.w.peer().term()), ("0 End", Term(1)));
    // The others elect it again at once, and will as long as they hear it.
    for term in 1..4 {
        o.forget();
        o.elect();
        assert!(o.wanted.is_empty(), "{:?}", o.wanted);
        o.w.now.mono_ms += 100;
        o.turns();
        assert_eq!(o.wanted, [format!("{term} Dial {{ leader: {LEADER:?} }}")]);
        o.quorum(QuorumEvent::Dialed { conn: QUORUM });
        o.quorum(QuorumEvent::Closed { conn: QUORUM });
    }
}

#[test]
fn writes_of_its_clients_come_back_as_transactions() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    assert_eq!(session.0 >> 56, ME.0);
    o.create(A, session, 5, "/mine");
    assert_eq!(o.said, [format!("request {session} 5 {} Some(1)", Op::CREATE)]);
    // Another member's client is first, with the same cxid.
    o.inform(z(2), &create(z(2), SessionId(9), 5, "/other"));
    assert!(o.told.is_empty(), "{:?}", o.told);
    o.inform(z(3), &create(z(3), session, 5, "/mine"));
    assert_eq!(o.told.iter().map(|(s, m)| (*s, code(m))).collect::<Vec<_>>(), [(A.shard, 0)]);
    assert!(["/mine", "/other"].iter().all(|path| o.w.is_there(path)));
    // A refusal.
    o.told.clear();
    o.create(A, session, 6, "/mine");
    let error = Txn::Error { err: ErrorCode::NodeExists.code() };
    o.inform(z(4), &transaction(z(4), session, 6, Op::ERROR, &error));
    assert_eq!(code(&o.told[0].1), ErrorCode::NodeExists.code());
    // Who was heard from is told once, at the next PING.
    o.said.clear();
    o.shard(ToPeer::Touch { session, heard_ms: 1 });
    o.leader(&[FromLeader::Ping(z(4)), FromLeader::Ping(z(4))]);
    assert_eq!(o.said, [format!("ping [({session:?}, 4000)]"), "ping []".into()]);
    // The leader closes the session, and so its connection.
    o.told.clear();
    o.inform(z(5), &transaction(z(5), session, 0, Op::CLOSE_SESSION, &Txn::CloseSession { paths: None }));
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
}

#[test]
fn a_role_is_left_in_one_step_and_the_vote_waits_for_the_log() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.create(A, session, 5, "/lost");
    // On its way to the log when the leader goes.
    o.leader(&[FromLeader::Inform { zxid: z(2), txn: &create(z(2), SessionId(9), 5, "/other") }]);
    let before = o.elections.len();
    o.forget();
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    assert_eq!((o.wanted.clone(), o.w.peer().term()), (vec!["0 End".to_owned()], Term(1)));
    assert_eq!(o.told.iter().filter(|(_, told)| matches!(told, ToShard::Suspend)).count(), 2);
    // News of the term that is over, and of clients that are disconnected.
    let late = QuorumEvent::Bytes { conn: QUORUM, bytes: Bytes::from_static(b"late") };
    o.w.mail.inbox.push_back(Input::Net(NetEvent::Quorum { term: Term(0), event: late }));
    o.create(A, session, 6, "/late");
    o.turns();
    assert_eq!(o.w.applied(), z(1), "the log has not answered");
    assert_eq!(o.elections.len(), before);
    o.work();
    assert_eq!(o.w.applied(), z(2), "the next vote counts it");
    o.connect();
    assert!(
        o.said.iter().any(|said| said.starts_with("AckEpoch") && said.contains(&format!("{:?}", z(2)))),
        "{:?}",
        o.said
    );
}

/// Left in the same turn in which it heard something for the log: that is the old term's, and the next term waits for it.
#[test]
fn what_a_role_had_for_the_log_in_its_last_turn_carries_its_term() {
    let mut o = Observer::new();
    o.join();
    let term = o.w.peer().term();
    let mut bytes = Vec::new();
    FromLeader::Inform { zxid: z(1), txn: &create(z(1), SessionId(9), 5, "/last") }.put(&mut bytes);
    for event in [QuorumEvent::Bytes { conn: QUORUM, bytes: bytes.into() }, QuorumEvent::Closed { conn: QUORUM }] {
        o.w.mail.inbox.push_back(Input::Net(NetEvent::Quorum { term, event }));
    }
    o.w.turn.turn(o.w.now, &o.w.tree, &mut o.w.mail);
    assert_eq!(o.w.peer().term(), Term(term.0 + 1));
    let bursts: Vec<_> = o.w.mail.appended.iter().map(|burst| (burst.term, burst.appends.len())).collect();
    assert_eq!(bursts, [(term, 1)]);
    o.work();
    assert_eq!((o.w.applied(), o.w.is_there("/last")), (z(1), true));
}
