//! A peer core alone: the test plays its shards, its log and its snapshot writer.

use super::*;
use crate::jute::{Put, Reader};
use crate::peer::apply::Cursors;
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::{Entry, Outcome};
use crate::tree::TreeOptions;
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{ConnId, Cxid, Epoch, ErrorCode, Id, Op};
use crate::watch::{Interest, Kind, WatchTable};

const TICK: i32 = 2000;

struct At(Vec<Zxid>);

impl Cursors for At {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.0[shard.index()]
    }
}

struct World {
    peer: Peer,
    tree: Tree,
    out: Outbox,
    now: Now,
    cursors: At,
    interest: std::sync::Arc<Interest>,
    appended: Zxid,
}

const A: Client = Client { shard: ShardId(0), conn: ConnId(11) };
const B: Client = Client { shard: ShardId(1), conn: ConnId(22) };
const C: Client = Client { shard: ShardId(0), conn: ConnId(12) };

#[derive(Clone, Copy)]
struct Client {
    shard: ShardId,
    conn: ConnId,
}

fn options() -> PeerOptions {
    PeerOptions {
        me: ServerId(1),
        tick_ms: TICK,
        prep: PrepOptions::default(),
        sweep: SweepOptions { interval_ms: 60_000, max_per_minute: 600, max_never_used_ms: 0 },
        shards: 2,
    }
}

fn plain(path: &str) -> CreateTxn {
    let kind = CreateKind::Plain { ephemeral: false };
    CreateTxn { path: path.into(), data: None, acl: None, kind, parent_cversion: -1 }
}

impl World {
    fn new() -> World {
        World::on(Tree::new(TreeOptions::default()), &[])
    }

    fn on(tree: Tree, sessions: &[(SessionId, i32)]) -> World {
        let now = Now { mono_ms: 100_000, wall_ms: 1_700_000_000_000, mono_ns: 0 };
        let peer = Peer::new(options(), &tree, sessions, now);
        World {
            appended: tree.last_zxid(),
            peer,
            tree,
            out: Outbox::default(),
            now,
            cursors: At(vec![Zxid(i64::MAX); 2]),
            interest: Default::default(),
        }
    }

    fn handle(&mut self, input: Input) {
        self.peer.handle(self.now, input, &self.tree, &mut self.out);
        if let Some(last) = self.out.append.last() {
            self.appended = last.zxid;
        }
        self.peer.check(&self.tree);
    }

    fn shard(&mut self, message: ToPeer) {
        self.handle(Input::FromShard(message));
    }

    fn sync(&mut self) {
        let zxid = self.appended;
        self.handle(synced(zxid));
    }

    fn apply(&mut self) -> usize {
        let count = self.peer.apply(&mut self.tree, &self.cursors, &self.interest, limits::APPLY_BURST, &mut self.out);
        self.peer.check(&self.tree);
        count
    }

    /// Syncs and applies everything; returns what was sent to the shards.
    fn settle(&mut self) -> Vec<(ShardId, ToShard)> {
        self.sync();
        while self.apply() > 0 {}
        std::mem::take(&mut self.out.to_shards)
    }

    /// Transactions proposed since.
    fn proposed(&mut self) -> Vec<(TxnHeader, Txn)> {
        let read = |a: Append| {
            let r = &mut Reader::new(&a.payload);
            let header = TxnHeader::read(r).unwrap();
            assert_eq!(header.zxid, a.zxid);
            (header, Txn::read(header.op, r).unwrap())
        };
        std::mem::take(&mut self.out.append).into_iter().map(read).collect()
    }

    /// A handshake without a session.
    fn begin(&mut self, client: Client) {
        let Client { shard, conn } = client;
        self.shard(ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() });
    }

    fn session(&mut self, client: Client, timeout_ms: i32) -> SessionId {
        let Client { shard, conn } = client;
        self.shard(ToPeer::NewSession { shard, conn, timeout_ms, auth: [].into() });
        let told = self.settle();
        let [(shard, ToShard::Applied(Entry { outcome: Some((conn, Outcome::SessionCreated { session, .. })), .. }))] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((*shard, *conn), (client.shard, client.conn));
        self.out.append.clear();
        *session
    }

    fn write(&mut self, client: Client, session: SessionId, op: Op, body: Vec<u8>, behind_read: bool) {
        let auth = [Id::new("ip", "10.0.0.1")].into();
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let request = WriteRequest { session, cxid: Cxid(5), op, body: body.into(), auth, moved: false, origin };
        self.shard(ToPeer::Write { request, behind_read, large: None });
    }

    fn create(&mut self, client: Client, session: SessionId, path: &str, flag: i32) {
        let mut body = Vec::new();
        body.put_string(path);
        body.put_buffer(None);
        crate::jute::acl::put_acls(&mut body, &[crate::types::Acl::world_all()]);
        body.put_i32(flag);
        self.write(client, session, Op::CREATE, body, false);
    }

    fn resume(&mut self, client: Client, session: SessionId, timeout_ms: i32, passwd_matches: bool) {
        let Client { shard, conn } = client;
        self.shard(ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches });
    }

    fn tick_at(&mut self, mono_ms: i64) {
        self.now.mono_ms = mono_ms;
        if self.peer.deadline().is_some_and(|at| at <= mono_ms) {
            self.handle(Input::Tick);
        }
    }
}

fn synced(zxid: Zxid) -> Input {
    Input::Synced { zxid, sync_ns: 1, records: 1, slow: false }
}

/// The reply code in an outcome.
fn code(message: &ToShard) -> i32 {
    let ToShard::Applied(Entry { outcome: Some((_, Outcome::Reply(reply) | Outcome::Closed(reply))), .. }) = message
    else {
        panic!("{message:?}")
    };
    i32::from_be_bytes(reply[16..20].try_into().unwrap())
}

#[test]
fn nothing_is_applied_before_it_is_durable() {
    let mut w = World::new();
    w.begin(A);
    assert!(!w.peer.has_work());
    assert_eq!((w.apply(), w.out.to_shards.len(), w.out.append.len()), (0, 0, 1));
    assert_eq!(w.peer.status(&w.tree, false).global_sessions, 0);
    w.sync();
    assert!(w.peer.has_work());
    assert_eq!((w.apply(), w.out.to_shards.len()), (1, 1));
    assert_eq!(w.peer.status(&w.tree, false).global_sessions, 1);
    assert!(w.peer.is_idle());
}

#[test]
fn a_session_that_is_not_applied_yet_cannot_be_resumed() {
    let mut w = World::new();
    w.begin(A);
    let session = w.proposed()[0].0.session;
    w.resume(B, session, 4000, true);
    assert!(matches!(w.out.to_shards[..], [(ShardId(1), ToShard::Resumed { conn: ConnId(22), session: None })]));
    w.out.to_shards.clear();
    w.resume(B, SessionId(77), 4000, true);
    assert!(matches!(w.out.to_shards[..], [(ShardId(1), ToShard::Resumed { session: None, .. })]));
}

#[test]
fn a_resumed_session_moves_and_the_old_connection_is_closed() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.create(A, session, "/before", 0);
    w.resume(B, session, 8000, true);
    assert!(
        matches!(w.out.to_shards[..], [(ShardId(0), ToShard::Close { conn: ConnId(11) })]),
        "{:?}",
        w.out.to_shards
    );
    w.out.to_shards.clear();
    // Requests that the old connection still sends have no effect.
    w.create(A, session, "/after", 0);
    assert!(matches!(w.out.to_shards[..], [(ShardId(0), ToShard::Close { conn: ConnId(11) })]));
    w.out.to_shards.clear();
    w.write(A, session, Op::CLOSE_SESSION, Vec::new(), false);
    // Its earlier proposals stand, and the new connection may not read before they are visible.
    let told = w.settle();
    assert!(
        matches!(
            told[..],
            [
                (ShardId(0), ToShard::Close { conn: ConnId(11) }),
                (ShardId(0), ToShard::Applied(_)),
                (ShardId(1), ToShard::Resumed { conn: ConnId(22), session: Some((s, 8000)) })
            ] if s == session
        ),
        "{told:?}"
    );
    w.create(B, session, "/mine", 1);
    assert!(matches!(w.settle()[..], [(ShardId(1), ToShard::Applied(_))]));
    assert_eq!(["/before", "/after", "/mine"].map(|p| w.tree.get(p).is_some()), [true, false, true]);
}

#[test]
fn a_resumption_waits_for_its_own_session_only() {
    let mut w = World::new();
    let (mine, other) = (w.session(A, 4000), w.session(C, 4000));
    w.create(C, other, "/other", 0);
    w.resume(B, mine, 4000, true);
    assert!(matches!(
        w.out.to_shards[..],
        [(ShardId(0), ToShard::Close { conn: ConnId(11) }), (ShardId(1), ToShard::Resumed { .. })]
    ));
    w.settle();
    // Moved twice before anything is durable: both connections get answers, and the shard has closed the first one
    // meanwhile.
    w.create(B, mine, "/mine", 0);
    w.resume(A, mine, 4000, true);
    w.resume(B, mine, 4000, true);
    w.create(C, other, "/later", 0);
    let told = w.settle();
    let kinds: Vec<_> = told.iter().map(|(shard, m)| (*shard, std::mem::discriminant(m))).collect();
    let close = |conn| std::mem::discriminant(&ToShard::Close { conn });
    let resumed = std::mem::discriminant(&ToShard::Resumed { conn: ConnId(0), session: None });
    assert_eq!((kinds[0], kinds[1]), ((ShardId(1), close(ConnId(0))), (ShardId(0), close(ConnId(0)))), "{told:?}");
    assert_eq!(kinds.iter().filter(|(_, k)| *k == resumed).count(), 2, "{told:?}");
    assert!(w.tree.get("/mine").is_some());
}

#[test]
fn a_wrong_password_closes_the_live_connection_and_takes_nothing() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.resume(B, session, 4000, false);
    assert!(matches!(
        w.out.to_shards[..],
        [(ShardId(0), ToShard::Close { conn: ConnId(11) }), (ShardId(1), ToShard::Resumed { session: None, .. })]
    ));
    w.out.to_shards.clear();
    w.resume(A, session, 4000, true);
    assert!(
        matches!(w.out.to_shards[..], [(ShardId(0), ToShard::Resumed { session: Some(_), .. })]),
        "nobody else is closed"
    );
}

#[test]
fn a_session_expires_with_its_ephemerals_and_its_connection_is_closed() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.create(A, session, "/e", 1);
    w.settle();
    w.proposed();
    let due = w.peer.deadline().unwrap();
    // Heard from at 100 000, rounded up to the tick, plus the time by which a report may be late.
    assert_eq!(due, 106_000 + i64::from(TICK / 4));
    w.tick_at(due - 1);
    assert!(w.proposed().is_empty());
    w.tick_at(due);
    let [(header, Txn::CloseSession { paths: Some(paths) })] = &w.proposed()[..] else { panic!() };
    assert_eq!((header.session, paths), (session, &vec!["/e".to_owned()]));
    // While the session is closing it cannot be resumed, and its writes are refused.
    w.resume(B, session, 4000, true);
    assert!(matches!(w.out.to_shards.pop(), Some((ShardId(1), ToShard::Resumed { session: None, .. }))));
    w.create(A, session, "/late", 0);
    let told = w.settle();
    assert!(matches!(told[0], (ShardId(0), ToShard::Close { conn: ConnId(11) })), "{told:?}");
    assert_eq!((told.len(), code(&told[1].1)), (2, -112));
    assert!(w.tree.get("/e").is_none() && w.tree.get("/late").is_none());
    assert_eq!(w.peer.status(&w.tree, true).global_sessions, 0);
    w.tick_at(due + 1_000_000);
    assert_eq!(w.peer.stats.sessions_expired, 1);
}

#[test]
fn a_touch_that_was_on_its_way_saves_a_session() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    // Heard from just before it would expire, and reported one interval later.
    w.tick_at(106_000 + i64::from(TICK / 4) - 1);
    w.shard(ToPeer::Touch { session, heard_ms: 105_999 });
    w.tick_at(106_000 + i64::from(TICK / 4));
    w.tick_at(108_000);
    assert!(w.proposed().is_empty());
    assert_eq!(w.peer.deadline(), Some(110_000 + i64::from(TICK / 4)));
}

#[test]
fn a_session_whose_connection_was_gone_before_it_was_there_expires() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.tick_at(w.peer.deadline().unwrap());
    assert_eq!(w.proposed()[0].0.session, session);
    w.settle();
    assert_eq!(w.peer.deadline(), Some(160_000), "only the sweep's");
}

#[test]
fn closing_twice_is_harmless() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.create(A, session, "/e", 1);
    w.write(A, session, Op::CLOSE_SESSION, Vec::new(), false);
    w.write(A, session, Op::CLOSE_SESSION, Vec::new(), false);
    w.create(A, session, "/late", 0);
    let told = w.settle();
    assert_eq!(told.iter().map(|(_, m)| code(m)).collect::<Vec<_>>(), [0, 0, 0, -112]);
    assert!(w.tree.get("/e").is_none());
    // No message to close the connection is needed: the reply closes it.
    assert!(matches!(told[1].1, ToShard::Applied(Entry { outcome: Some((_, Outcome::Closed(_))), .. })));
}

#[test]
fn a_start_closes_sessions_that_nobody_knows() {
    let mut tree = Tree::new(TreeOptions::default());
    for (zxid, session) in [(1, 5), (2, 6), (3, 5)] {
        let header =
            TxnHeader { session: SessionId(session), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op: Op::CREATE };
        let txn = CreateTxn { kind: CreateKind::Plain { ephemeral: true }, ..plain(&format!("/e{zxid}")) };
        tree.apply(&header, &Txn::Create(txn), &mut |_| ());
    }
    let mut w = World::on(tree, &[(SessionId(6), 4000)]);
    w.peer.start(w.now, &w.tree, &mut w.out);
    w.appended = w.out.append.last().unwrap().zxid;
    let [(header, Txn::CloseSession { .. })] = &w.proposed()[..] else { panic!() };
    assert_eq!(header.session, SessionId(5));
    assert!(w.settle().is_empty());
    assert_eq!(["/e1", "/e2", "/e3"].map(|p| w.tree.get(p).is_some()), [false, true, false]);
    // The session from recovery has its full timeout again.
    assert_eq!(w.peer.deadline(), Some(106_000 + i64::from(TICK / 4)));
}

#[test]
fn refusals_keep_their_zxids_and_digests_agree() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    let paths = ["/a", "/a", "/none/x", "bad", "/a/b"];
    paths.iter().for_each(|path| w.create(A, session, path, 0));
    let zxids: Vec<i64> = w.proposed().iter().map(|(h, _)| h.zxid.0).collect();
    assert_eq!(zxids, [2, 3, 4, 5, 6]);
    let codes: Vec<i32> = w.settle().iter().map(|(_, m)| code(m)).collect();
    assert_eq!(codes, [0, -110, -101, -8, 0]);
    assert_eq!(w.tree.last_zxid(), Zxid(6));
    assert_eq!(w.peer.stats.digest_mismatches, 0);
    assert_eq!(w.tree.digest(), w.tree.recompute_digest());
}

#[test]
fn a_write_behind_a_read_waits_for_its_shard_and_holds_up_what_follows() {
    let mut w = World::new();
    let (a, b) = (w.session(A, 4000), w.session(B, 4000));
    let last = w.tree.last_zxid();
    w.cursors = At(vec![last; 2]);
    w.create(A, a, "/1", 0);
    w.write(A, a, Op::DELETE, [&b"\0\0\0\x02/1"[..], &(-1i32).to_be_bytes()].concat(), true);
    w.create(B, b, "/2", 0);
    w.sync();
    assert_eq!(w.apply(), 1, "shard 0 has an outcome it has not answered at");
    assert!(w.peer.has_work());
    assert_eq!(w.apply(), 0);
    w.cursors.0[1] = Zxid(i64::MAX);
    assert_eq!(w.apply(), 0, "another shard's cursor is no help");
    w.cursors.0[0] = w.tree.last_zxid();
    assert_eq!(w.apply(), 2);
}

#[test]
fn events_go_only_to_shards_that_watch() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    let mut table = WatchTable::new(1, w.interest.clone());
    w.create(A, session, "/a", 0);
    assert_eq!(w.settle().iter().map(|(s, _)| *s).collect::<Vec<_>>(), [ShardId(0)]);
    table.add(Kind::Child, "/a", ConnId(1));
    w.create(A, session, "/a/b", 0);
    let told = w.settle();
    let [(ShardId(0), ToShard::Applied(_)), (ShardId(1), ToShard::Applied(Entry { outcome: None, events, zxid }))] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((events.len(), &*events[0].path, *zxid), (1, "/a", w.tree.last_zxid()));
}

#[test]
fn a_burst_of_applying_ends_and_goes_on() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    for i in 0..limits::APPLY_BURST + 3 {
        w.create(A, session, &format!("/n{i}"), 0);
    }
    w.sync();
    assert_eq!((w.apply(), w.peer.has_work()), (limits::APPLY_BURST, true));
    assert_eq!((w.apply(), w.peer.has_work()), (3, false));
}

use crate::limits;

#[test]
fn a_used_up_epoch_is_followed_by_the_next() {
    let mut tree = Tree::new(TreeOptions::default());
    let zxid = Zxid::new(Epoch(1), u32::MAX - 1);
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: Op::CREATE };
    tree.apply(&header, &Txn::Create(plain("/x")), &mut |_| ());
    let mut w = World::on(tree, &[]);
    [A, C].into_iter().for_each(|client| w.begin(client));
    let zxids: Vec<Zxid> = w.proposed().iter().map(|(h, _)| h.zxid).collect();
    assert_eq!(zxids, [Zxid::new(Epoch(1), u32::MAX), Zxid::new(Epoch(2), 1)]);
    assert_eq!(w.settle().len(), 2);
    assert_eq!(w.tree.last_zxid(), zxids[1]);
}

#[test]
fn a_start_behind_the_last_zxid_of_an_epoch_begins_the_next() {
    let mut tree = Tree::new(TreeOptions::default());
    let zxid = Zxid::new(Epoch(1), u32::MAX);
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: Op::CREATE };
    tree.apply(&header, &Txn::Create(plain("/x")), &mut |_| ());
    let mut w = World::on(tree, &[]);
    w.begin(A);
    assert_eq!(w.proposed()[0].0.zxid, Zxid::new(Epoch(2), 1));
    assert_eq!(w.settle().len(), 1);
}

#[test]
fn a_request_numbered_0_is_not_answered_by_the_servers_own_close() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.tick_at(w.peer.deadline().unwrap());
    let origin = Origin::Local { shard: A.shard, conn: A.conn };
    let body = [&b"\0\0\0\x02/x"[..], &(-1i32).to_be_bytes()].concat();
    let (op, body, auth) = (Op::DELETE, body.into(), [].into());
    let request = WriteRequest { session, cxid: Cxid(0), op, body, auth, moved: false, origin };
    w.shard(ToPeer::Write { request, behind_read: false, large: None });
    let told = w.settle();
    assert!(matches!(told[0].1, ToShard::Close { conn: ConnId(11) }), "{told:?}");
    assert_eq!((told.len(), code(&told[1].1)), (2, ErrorCode::SessionExpired.code()));
}

/// The parts of a snapshot since.
fn parts(w: &mut World) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for part in std::mem::take(&mut w.out.snapshot) {
        match part {
            SnapshotPart::Begin { .. } => counts.0 += 1,
            SnapshotPart::Nodes(nodes) => counts.1 += nodes.len(),
            SnapshotPart::End => counts.2 += 1,
        }
    }
    counts
}

#[test]
fn a_snapshot_is_made_piece_by_piece_as_fast_as_it_is_written() {
    let mut tree = Tree::new(TreeOptions::default());
    for i in 1..=9000 {
        let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(i), time_ms: 0, op: Op::CREATE };
        let data = Some(Bytes::from(vec![b'x'; 1000]));
        tree.apply(&header, &Txn::Create(CreateTxn { data, ..plain(&format!("/{i}")) }), &mut |_| ());
    }
    let mut w = World::on(tree, &[(SessionId(9), 4000)]);
    w.handle(Input::SnapshotDue);
    assert!(w.peer.has_work() && !w.peer.is_idle());
    w.apply();
    let Some(SnapshotPart::Begin { zxid: Zxid(9000), sessions, digest: Some(digest), .. }) = w.out.snapshot.first()
    else {
        panic!()
    };
    assert_eq!((&sessions[..], digest.digest), (&[(SessionId(9), 4000)][..], w.tree.digest()));
    // Requested again meanwhile: one snapshot is enough.
    w.handle(Input::SnapshotDue);
    while w.peer.has_work() {
        w.apply();
    }
    let (begun, bytes, ended) = parts(&mut w);
    assert_eq!((begun, ended), (1, 0));
    assert!((limits::IMAGE_BACKLOG..limits::IMAGE_BACKLOG + 2 * limits::IMAGE_CHUNK).contains(&bytes), "{bytes}");
    // The tree changes while the remaining pieces wait.
    let session = w.session(A, 4000);
    w.create(A, session, "/later", 0);
    w.settle();
    let mut taken = bytes;
    let mut total = bytes;
    loop {
        w.handle(Input::SnapshotTook(taken));
        while w.peer.has_work() {
            w.apply();
        }
        let (begun, bytes, ended) = parts(&mut w);
        assert_eq!(begun, 0);
        (taken, total) = (bytes, total + bytes);
        if ended == 1 {
            break;
        }
    }
    assert!(total > 9_000_000);
    assert!(!w.peer.is_idle());
    w.handle(Input::SnapshotTook(taken));
    w.handle(Input::SnapshotDone { zxid: Zxid(9000), took_ms: 5 });
    assert!(w.peer.is_idle());
    assert_eq!(w.peer.status(&w.tree, false).last_snapshot.map(|s| s.zxid), Some(Zxid(9000)));
    w.handle(Input::SnapshotDue);
    w.apply();
    assert_eq!(parts(&mut w).0, 1, "the next one");
}

/// Makes and writes the pieces of a snapshot; returns its zxid.
fn write_snapshot(w: &mut World) -> Zxid {
    let mut zxid = None;
    while w.peer.has_work() {
        w.apply();
        for part in std::mem::take(&mut w.out.snapshot) {
            match part {
                SnapshotPart::Begin { zxid: begun, .. } => zxid = Some(begun),
                SnapshotPart::Nodes(nodes) => w.handle(Input::SnapshotTook(nodes.len())),
                SnapshotPart::End => return zxid.unwrap(),
            }
        }
    }
    panic!("no snapshot is made");
}

fn answers(w: &mut World) -> Vec<(u64, Zxid)> {
    let answers = std::mem::take(&mut w.out.snapshot_answers);
    answers.into_iter().map(|a| (a.ticket.0, a.result.unwrap())).collect()
}

#[test]
fn who_asks_for_a_snapshot_is_answered_when_one_of_all_that_was_applied_is_durable() {
    let mut w = World::new();
    let session = w.session(A, 4000);
    w.handle(Input::SnapshotAsked(SnapshotTicket(1)));
    let first = write_snapshot(&mut w);
    assert_eq!((first, answers(&mut w)), (w.tree.last_zxid(), vec![]), "it is not durable yet");
    // Nothing was applied since then, so the same snapshot will do.
    w.handle(Input::SnapshotAsked(SnapshotTicket(2)));
    w.create(A, session, "/later", 0);
    w.settle();
    // This snapshot must contain more.
    w.handle(Input::SnapshotAsked(SnapshotTicket(3)));
    w.handle(Input::SnapshotDone { zxid: first, took_ms: 5 });
    assert_eq!(answers(&mut w), [(1, first), (2, first)]);
    let second = write_snapshot(&mut w);
    assert_eq!(second, w.tree.last_zxid());
    w.handle(Input::SnapshotDone { zxid: second, took_ms: 5 });
    assert_eq!(answers(&mut w), [(3, second)]);
    assert!(w.peer.is_idle());
}

#[test]
fn only_so_many_wait_for_a_snapshot() {
    let mut w = World::new();
    (0..=limits::SNAPSHOTS_ASKED as u64).for_each(|n| w.handle(Input::SnapshotAsked(SnapshotTicket(n))));
    let ticket = SnapshotTicket(limits::SNAPSHOTS_ASKED as u64);
    assert_eq!(w.out.snapshot_answers, [SnapshotAnswer { ticket, result: Err(SnapshotRefused::TooMany) }]);
    w.out.snapshot_answers.clear();
    let zxid = write_snapshot(&mut w);
    w.handle(Input::SnapshotDone { zxid, took_ms: 5 });
    assert_eq!(answers(&mut w).len(), limits::SNAPSHOTS_ASKED);
}

#[test]
fn the_sweep_proposes_no_faster_than_it_may() {
    let mut tree = Tree::new(TreeOptions {
        extended: ExtendedTypes { enabled: true, emulate_353: false },
        ..TreeOptions::default()
    });
    let mut zxid = 0;
    let mut apply = |txn: Txn, op: Op| {
        zxid += 1;
        let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op };
        tree.apply(&header, &txn, &mut |_| ());
    };
    for i in 0..5 {
        let path = format!("/c{i}");
        apply(Txn::Create(CreateTxn { kind: CreateKind::Container, ..plain(&path) }), Op::CREATE_CONTAINER);
        apply(Txn::Create(plain(&format!("{path}/x"))), Op::CREATE);
        if i != 3 {
            apply(Txn::Delete { path: format!("{path}/x") }, Op::DELETE);
        }
    }
    let mut w = World::on(tree, &[]);
    w.tick_at(159_999);
    assert!(w.proposed().is_empty());
    // 600 a minute: one each 100 ms.
    let mut at = 160_000;
    for i in 1..=4 {
        w.tick_at(at);
        let [(header, Txn::Delete { .. })] = &w.proposed()[..] else { panic!("{i}") };
        assert_eq!((header.op, header.session), (Op::DELETE_CONTAINER, SessionId::NONE));
        let next = w.peer.deadline().unwrap();
        assert_eq!(next - at, if i == 4 { 60_000 } else { 100 });
        at = next;
    }
    assert!(w.settle().is_empty(), "nobody asked");
    assert_eq!((w.tree.container_count(), w.tree.get("/c3").is_some()), (1, true));
}
