//! The hot paths as closures that can be run again and again without the state growing: for criterion (`hot.rs`) and for
//! instruction counts (`instructions.rs`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use zabra::auth::Providers;
use zabra::jute::Put;
use zabra::jute::acl::put_acls;
use zabra::jute::stat::put_stat;
use zabra::peer::apply::Cursors;
use zabra::peer::turn::{Bounds, PeerTurn, Streams, TreeAccess};
use zabra::peer::{self, Append, Peer, PeerOptions, SnapshotAnswer, SnapshotPart};
use zabra::pipeline::Proposal;
use zabra::pipeline::messages::{ToPeer, ToShard};
use zabra::pipeline::prep::{Prep, PrepOptions, WriteRequest};
use zabra::proto::reply::put_reply_header;
use zabra::proto::{ConnectRequest, Request};
use zabra::session::tracker::SessionTracker;
use zabra::shard::turn::{Letter, ShardTurn, SocketEvent, Sockets};
use zabra::shard::{self, CloseHow, Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{Txn, TxnHeader};
use zabra::txnlog::disk::{Dir, Reader, Segment, Writer};
use zabra::txnlog::writer::{LogOptions, LogWriter};
use zabra::types::{
    Acl, ConnId, Cxid, ErrorCode, EventType, Id, Now, Origin, ServerId, SessionId, ShardId, Stat, Zxid, op,
};
use zabra::watch::{Interest, WatchTable};

/// One hot path: name, operations in one run, and what makes it. The making is not measured.
pub type Case = (&'static str, u64, fn() -> Box<dyn FnMut()>);

/// All of them.
pub const CASES: &[Case] = &[
    ("codec/decode_get", BATCH, decode_get),
    ("codec/decode_create", BATCH, decode_create),
    ("codec/encode_get_reply", BATCH, encode_get_reply),
    ("tree/get", BATCH, tree_get),
    ("tree/apply_set", BATCH, tree_apply_set),
    ("tree/apply_create_delete", BATCH, tree_apply_create_delete),
    ("watch/fire_to_100", 100, watch_fire),
    ("watch/fire_to_nobody", BATCH, watch_nobody),
    ("prep/set", BATCH, prep_set),
    ("prep/create", BATCH, prep_create),
    ("log/append", BATCH, log_append),
    ("shard/get_one_by_one", BATCH, shard_get_single),
    ("shard/get_pipelined_16", 16, shard_get_pipelined),
    ("server/set_pipelined_64", BATCH, server_set),
];

const BATCH: u64 = 64;
const ZNODES: u64 = 10_000;
const VALUE: [u8; 100] = [7; 100];
const SESSION: SessionId = SessionId(0x0100_0000_0000_0001);
const SHARD: ShardId = ShardId(0);
const CONN: ConnId = ConnId(1);

fn now() -> Now {
    Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000, mono_ns: 1_000_000_000 }
}

fn path(n: u64) -> String {
    format!("/services/s{:02}/instance-{n:010}", n % 100)
}

/// Walks over all znodes in an order that no prefetcher knows.
struct Walk(u64);

impl Walk {
    fn next(&mut self) -> u64 {
        self.0 = (self.0 + 7_919) % ZNODES;
        self.0
    }
}

fn header(zxid: i64, op: i32) -> TxnHeader {
    TxnHeader { session: SESSION, cxid: Cxid(1), zxid: Zxid(zxid), time_ms: now().wall_ms, op }
}

fn create_txn(path: String, parent_cversion: i32) -> Txn {
    use zabra::txn::{CreateKind, CreateTxn};
    let data = Some(VALUE.to_vec().into());
    Txn::Create(CreateTxn { path, data, acl: None, kind: CreateKind::Plain { ephemeral: false }, parent_cversion })
}

/// A tree of [`ZNODES`] under a hundred parents.
fn tree() -> Tree {
    let mut tree = Tree::new(TreeOptions::default());
    let parents = ["/services".to_owned()].into_iter().chain((0..100).map(|n| format!("/services/s{n:02}")));
    let mut zxid = 0;
    for path in parents.chain((0..ZNODES).map(path)) {
        zxid += 1;
        tree.apply(&header(zxid, op::CREATE), &create_txn(path, -1), &mut |_| ());
    }
    assert_eq!(tree.node_count() as u64, ZNODES + 101 + 5);
    tree
}

fn get_body(path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_bool(false);
    body
}

fn set_body(path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_buffer(Some(&VALUE));
    body.put_i32(-1);
    body
}

fn create_body(path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_buffer(Some(&VALUE));
    put_acls(&mut body, &[Acl::world_all()]);
    body.put_i32(0);
    body
}

fn frame(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let f = out.begin_frame();
    out.put_i32(xid);
    out.put_i32(op);
    out.extend_from_slice(body);
    out.end_frame(f);
    out
}

// --- codec ---

fn decode(op: i32, bodies: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
    Box::new(move || {
        for body in &bodies {
            let request = Request::read(op, std::hint::black_box(body));
            assert!(matches!(std::hint::black_box(request), Ok(Some(_))));
        }
    })
}

fn decode_get() -> Box<dyn FnMut()> {
    decode(op::GET_DATA, (0..BATCH).map(|n| get_body(&path(n))).collect())
}

fn decode_create() -> Box<dyn FnMut()> {
    decode(op::CREATE, (0..BATCH).map(|n| create_body(&path(n))).collect())
}

fn encode_get_reply() -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(1 << 16);
    let stat = Stat { data_length: 100, version: 3, ..Stat::default() };
    Box::new(move || {
        out.clear();
        for xid in 0..BATCH as i32 {
            let f = out.begin_frame();
            put_reply_header(&mut out, xid, Zxid(77), ErrorCode::Ok);
            out.put_buffer(Some(&VALUE));
            put_stat(&mut out, std::hint::black_box(&stat));
            out.end_frame(f);
        }
        assert_eq!(std::hint::black_box(&out).len() as u64, BATCH * (4 + 16 + 4 + 100 + 68));
    })
}

// --- tree and watches ---

fn tree_get() -> Box<dyn FnMut()> {
    let tree = tree();
    let paths: Vec<String> = (0..ZNODES).map(path).collect();
    let mut walk = Walk(0);
    Box::new(move || {
        for _ in 0..BATCH {
            let node = tree.get(std::hint::black_box(&paths[walk.next() as usize])).expect("it was created");
            assert_eq!(std::hint::black_box((node.data(), node.stat())).1.data_length, 100);
        }
    })
}

fn tree_apply_set() -> Box<dyn FnMut()> {
    let mut tree = tree();
    let mut txns: Vec<Txn> =
        (0..ZNODES).map(|n| Txn::SetData { path: path(n), data: Some(VALUE.to_vec().into()), version: 1 }).collect();
    let mut walk = Walk(0);
    let mut zxid = tree.last_zxid().0;
    Box::new(move || {
        for _ in 0..BATCH {
            zxid += 1;
            let txn = &mut txns[walk.next() as usize];
            tree.apply(&header(zxid, op::SET_DATA), txn, &mut |c| assert_eq!(c.event, EventType::NodeDataChanged));
            if let Txn::SetData { version, .. } = txn {
                *version += 1;
            }
        }
    })
}

fn tree_apply_create_delete() -> Box<dyn FnMut()> {
    let mut tree = tree();
    let creates: Vec<Txn> = (ZNODES..ZNODES + BATCH).map(|n| create_txn(path(n), -1)).collect();
    let deletes: Vec<Txn> = (ZNODES..ZNODES + BATCH).map(|n| Txn::Delete { path: path(n) }).collect();
    let mut zxid = tree.last_zxid().0;
    Box::new(move || {
        for (op, txns) in [(op::CREATE, &creates), (op::DELETE, &deletes)] {
            for txn in txns {
                zxid += 1;
                let mut changes = 0;
                tree.apply(&header(zxid, op), txn, &mut |_| changes += 1);
                assert_eq!(changes, 2);
            }
        }
    })
}

fn watches() -> WatchTable {
    WatchTable::new(SHARD.index(), Arc::new(Interest::new()))
}

fn watch_fire() -> Box<dyn FnMut()> {
    let mut table = watches();
    (0..100).for_each(|conn| assert!(table.add_persistent("/app/config", ConnId(conn), false)));
    let mut fired = Vec::new();
    Box::new(move || {
        fired.clear();
        table.fire(EventType::NodeDataChanged, std::hint::black_box("/app/config"), &mut fired);
        assert_eq!(fired.len(), 100);
    })
}

fn watch_nobody() -> Box<dyn FnMut()> {
    let mut table = watches();
    (0..100).for_each(|conn| assert!(table.add_persistent("/app/config", ConnId(conn), false)));
    let mut fired = Vec::new();
    Box::new(move || {
        for _ in 0..BATCH {
            table.fire(EventType::NodeDataChanged, std::hint::black_box("/services/s01/instance-42"), &mut fired);
        }
        assert!(fired.is_empty());
    })
}

// --- prep and log ---

fn write_request(op: i32, body: Vec<u8>, auth: &Arc<[Id]>) -> WriteRequest {
    let origin = Origin::Local { shard: SHARD, conn: CONN };
    WriteRequest { session: SESSION, cxid: Cxid(1), op, body: body.into(), auth: auth.clone(), moved: false, origin }
}

fn prep(op: i32, bodies: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
    let tree = tree();
    let mut sessions = SessionTracker::new(ServerId(1), now(), 2_000);
    sessions.insert(SESSION, 30_000, now());
    let mut prep = Prep::new(PrepOptions::default());
    let auth: Arc<[Id]> = [Id::new("ip", "127.0.0.1")].into();
    let requests: Vec<WriteRequest> = bodies.into_iter().map(|b| write_request(op, b, &auth)).collect();
    let mut zxid = tree.last_zxid().0;
    Box::new(move || {
        for request in &requests {
            zxid += 1;
            let proposal: Proposal = prep.handle(&tree, &sessions, now(), Zxid(zxid), request);
            assert_eq!(std::hint::black_box(proposal).header.op, op);
        }
        // As if applied: the tree itself stays as it is, so the next run finds the same.
        prep.applied(Zxid(zxid));
    })
}

fn prep_set() -> Box<dyn FnMut()> {
    let mut walk = Walk(0);
    prep(op::SET_DATA, (0..BATCH).map(|_| set_body(&path(walk.next()))).collect())
}

fn prep_create() -> Box<dyn FnMut()> {
    prep(op::CREATE, (ZNODES..ZNODES + BATCH).map(|n| create_body(&path(n))).collect())
}

/// A directory whose files are one buffer that is used again: what is left is our own work.
struct Memory;

/// Bytes of the buffer.
const SEGMENT: usize = 1 << 20;

struct MemorySegment(Vec<u8>);

impl Segment for MemorySegment {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.0[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn grow(&mut self, len: u64) -> io::Result<()> {
        self.0.resize(len as usize, 0);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Nothing;

impl io::Write for Nothing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Writer for Nothing {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader for Nothing {
    fn len(&self) -> u64 {
        0
    }
}

impl Dir for Memory {
    type Segment = MemorySegment;
    type Writer = Nothing;
    type Reader = Nothing;

    fn path(&self) -> String {
        "memory".to_owned()
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
    fn create_segment(&mut self, _: &str, len: u64, head: &[u8]) -> io::Result<MemorySegment> {
        let mut bytes = vec![0; len as usize];
        bytes[..head.len()].copy_from_slice(head);
        Ok(MemorySegment(bytes))
    }
    fn prepare_segment(&mut self, _: u64, _: &[u8]) {}
    fn give_back_prepared(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn close_segment(&mut self, _: MemorySegment, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn create(&mut self, _: &str) -> io::Result<Nothing> {
        Ok(Nothing)
    }
    fn open(&self, _: &str) -> io::Result<Nothing> {
        Ok(Nothing)
    }
    fn set_len(&mut self, _: &str, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn rewrite(&mut self, _: &str, _: u64, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A proposal of a set, as the log gets it; the zxid is filled in.
fn set_record(auth: &Arc<[Id]>) -> Vec<u8> {
    let tree = tree();
    let mut sessions = SessionTracker::new(ServerId(1), now(), 2_000);
    sessions.insert(SESSION, 30_000, now());
    let request = write_request(op::SET_DATA, set_body(&path(0)), auth);
    let zxid = Zxid(tree.last_zxid().0 + 1);
    Prep::new(PrepOptions::default()).handle(&tree, &sessions, now(), zxid, &request).record.to_vec()
}

fn log_append() -> Box<dyn FnMut()> {
    let mut record = set_record(&[Id::world()].into());
    let options = LogOptions {
        prealloc_bytes: SEGMENT as u64,
        roll_at_bytes: Some((SEGMENT - (1 << 16)) as u64),
        ..LogOptions::default()
    };
    let mut log = LogWriter::new(Memory, Zxid(0), options);
    let mut zxid = 0i64;
    Box::new(move || {
        for _ in 0..BATCH {
            zxid += 1;
            record[12..20].copy_from_slice(&zxid.to_be_bytes());
            log.append(Zxid(zxid), &record).expect("memory takes it");
        }
        assert_eq!(log.sync().expect("memory is durable enough"), Zxid(zxid));
    })
}

// --- shard, and the whole way of a write ---

fn shard() -> Shard {
    let options = ShardOptions {
        id: SHARD,
        max_frame: 0xf_ffff,
        session_timeout_ms: (4_000, 40_000),
        handshake_timeout_ms: 10_000,
        outstanding_limit: 1_000,
        touch_interval_ms: 500,
        bounds: Default::default(),
        skip_acl: false,
        words: Vec::new(),
        enforced_schemes: Vec::new(),
        auth: Arc::new(Providers::default()),
        throttles: Default::default(),
    };
    Shard::new(options, watches())
}

/// A server of one shard and one peer core without sockets and disk, run by the shipped turns.
struct Server {
    tree: SharedTree,
    shard: ShardTurn,
    peer: PeerTurn,
    world: World,
}

/// The tree, for one thread.
struct SharedTree {
    tree: RefCell<Tree>,
    cursor: Cell<Zxid>,
    interest: Interest,
}

impl Cursors for SharedTree {
    fn cursor(&self, _: ShardId) -> Zxid {
        self.cursor.get()
    }
}

impl TreeAccess for SharedTree {
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.borrow()
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        self.tree.borrow_mut()
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn peer_waits(&self, _: bool) -> bool {
        false
    }
}

/// What lies between the client, the shard, the peer and the log.
#[derive(Default)]
struct World {
    accepted: bool,
    arrived: Vec<u8>,
    answer: Vec<u8>,
    stream: VecDeque<ToShard>,
    to_peer: VecDeque<ToPeer>,
    /// Appended and not yet told to be durable.
    appended: Option<Zxid>,
}

struct ShardLinks<'a>(&'a mut World, &'a SharedTree);

impl shard::turn::Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        self.0.stream.pop_front().map(Letter::Stream)
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.1.cursor.set(cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        self.0.to_peer.extend(messages.drain(..));
    }

    fn word(&mut self, _: ConnId, word: &'static str, _: i64) {
        panic!("nobody sent the word {word}");
    }
}

/// One connection whose client takes everything.
struct Wire<'a> {
    accepted: &'a mut bool,
    arrived: &'a mut Vec<u8>,
    answer: &'a mut Vec<u8>,
}

impl Sockets for Wire<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) -> usize {
        if !std::mem::replace(self.accepted, true) {
            f(SocketEvent::Accepted { conn: CONN, peer: ([127, 0, 0, 1], 4321).into() });
        }
        if self.arrived.is_empty() {
            return 0;
        }
        f(SocketEvent::Data { conn: CONN, bytes: self.arrived });
        self.arrived.clear();
        1
    }

    fn out(&mut self, _: ConnId) -> &mut Vec<u8> {
        self.answer
    }

    fn queued(&self, _: ConnId) -> usize {
        self.answer.len()
    }

    fn want_writable(&mut self, _: ConnId) {
        panic!("the answer is too long");
    }

    fn pause(&mut self, _: ConnId, _: bool) {
        panic!("the connection is paused");
    }

    fn close(&mut self, _: ConnId, _: CloseHow) {
        panic!("the connection is closed");
    }

    fn flush(&mut self) {}
}

struct PeerLinks<'a>(&'a mut World);

impl peer::turn::Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<peer::Input> {
        if let Some(zxid) = self.0.appended.take() {
            return Some(peer::Input::Synced { zxid, records: 1, sync_ns: 1, slow: false });
        }
        self.0.to_peer.pop_front().map(peer::Input::FromShard)
    }

    fn append(&mut self, batch: &mut Vec<Append>) {
        self.0.appended = batch.drain(..).next_back().map(|append| append.zxid);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        unreachable!("nobody asked for a snapshot: {answer:?}");
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        panic!("nobody asked for a snapshot: {part:?}");
    }
}

impl Streams for PeerLinks<'_> {
    fn has_room(&self, high_water: usize) -> bool {
        self.0.stream.len() < high_water
    }

    fn push(&mut self, _: ShardId, message: ToShard) {
        self.0.stream.push_back(message);
    }

    fn ring(&mut self) {}
}

impl Server {
    /// One connection with a session.
    fn new() -> Server {
        let tree = tree();
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2_000,
            prep: PrepOptions::default(),
            sweep: peer::SweepOptions { interval_ms: 60_000, max_per_minute: 10_000, max_never_used_ms: 0 },
            shards: 1,
        };
        let last = tree.last_zxid();
        let mut server = Server {
            peer: PeerTurn::new(Peer::new(options, &tree, &[], now()), last, Bounds::default()),
            shard: ShardTurn::new(shard()),
            tree: SharedTree { tree: RefCell::new(tree), cursor: Cell::new(last), interest: Interest::new() },
            world: World::default(),
        };
        let mut hello = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms: 30_000,
            session: SessionId::NONE,
            passwd: vec![0; 16],
            read_only: Some(false),
        }
        .put(&mut hello);
        assert_eq!(server.run(&hello), 4 + 37);
        server
    }

    /// Bytes in, the length of the answer: a turn of the shard and, if it submitted anything, one of the peer, one more with the
    /// log synced, and the shard's next.
    fn run(&mut self, bytes: &[u8]) -> usize {
        self.world.answer.clear();
        self.world.arrived.extend_from_slice(bytes);
        self.shard_turn();
        if !self.world.to_peer.is_empty() {
            self.peer_turn();
            while self.peer_turn() {}
            self.shard_turn();
        }
        self.world.answer.len()
    }

    fn shard_turn(&mut self) {
        let Server { tree, shard, world, .. } = self;
        let (mut arrived, mut answer) = (std::mem::take(&mut world.arrived), std::mem::take(&mut world.answer));
        let mut accepted = world.accepted;
        let mut wire = Wire { accepted: &mut accepted, arrived: &mut arrived, answer: &mut answer };
        shard.turn(now(), tree.read(), &mut wire, &mut ShardLinks(world, tree));
        (world.arrived, world.answer, world.accepted) = (arrived, answer, accepted);
    }

    fn peer_turn(&mut self) -> bool {
        self.peer.turn(now(), &self.tree, &mut PeerLinks(&mut self.world))
    }
}

/// Frames of a get of 16 znodes, and what they are answered with.
fn gets(count: u64) -> (Vec<u8>, usize) {
    let mut walk = Walk(0);
    let bytes = (0..count).flat_map(|_| frame(5, op::GET_DATA, &get_body(&path(walk.next())))).collect();
    (bytes, count as usize * (4 + 16 + 4 + VALUE.len() + 68))
}

fn shard_get_pipelined() -> Box<dyn FnMut()> {
    let mut server = Server::new();
    let (bytes, answer) = gets(16);
    Box::new(move || assert_eq!(server.run(&bytes), answer))
}

fn shard_get_single() -> Box<dyn FnMut()> {
    let mut server = Server::new();
    let (bytes, answer) = gets(1);
    Box::new(move || (0..BATCH).for_each(|_| assert_eq!(server.run(&bytes), answer)))
}

fn server_set() -> Box<dyn FnMut()> {
    let mut server = Server::new();
    let mut walk = Walk(0);
    let bytes: Vec<u8> = (0..BATCH).flat_map(|_| frame(5, op::SET_DATA, &set_body(&path(walk.next())))).collect();
    Box::new(move || assert_eq!(server.run(&bytes), BATCH as usize * (4 + 16 + 68)))
}
