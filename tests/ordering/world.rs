//! The shipped turns of shards and a peer, and a log that syncs when the scheduler says so.

use super::client::{Client, Op, PATHS};
use super::judge::{History, judge};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use zabra::jute::Reader;
use zabra::peer::apply::Cursors;
use zabra::peer::turn::{Bounds, PeerTurn, Streams, TreeAccess};
use zabra::peer::{self, Append, Peer, PeerOptions, SnapshotAnswer, SnapshotPart};
use zabra::pipeline::messages::{ToPeer, ToShard};
use zabra::pipeline::prep::PrepOptions;
use zabra::shard::gate::{RequestThrottle, Throttles};
use zabra::shard::turn::{Letter, ShardTurn, SocketEvent, Sockets};
use zabra::shard::{self, CloseHow, Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use zabra::types::{ConnId, Cxid, Now, ServerId, SessionId, ShardId, Zxid, op};
use zabra::watch::{Interest, WatchTable};

/// The tree and what shards and peer say about it.
struct SharedTree {
    tree: RefCell<Tree>,
    cursors: Vec<Cell<Zxid>>,
    interest: Arc<Interest>,
}

impl Cursors for SharedTree {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.cursors[shard.index()].get()
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

    /// Nobody sleeps here.
    fn peer_waits(&self, _: bool) -> bool {
        false
    }
}

pub struct World {
    rng: fastrand::Rng,
    now: Now,
    tree: SharedTree,
    shards: Vec<ShardTurn>,
    streams: Vec<VecDeque<ToShard>>,
    to_peer: VecDeque<ToPeer>,
    peer: PeerTurn,
    /// The newest zxid in the log, and whether the log will tell that it is durable.
    appended: Zxid,
    synced: bool,
    clients: Vec<Client>,
    history: History,
    /// Breaks rule S3a, to see the judge notice.
    pub ignore_behind_read: bool,
}

impl World {
    pub fn new(seed: u64, shards: usize) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000, mono_ns: 1_000_000_000 };
        let mut tree = Tree::new(TreeOptions::default());
        for (i, path) in PATHS.iter().enumerate() {
            let zxid = Zxid(i as i64 + 1);
            let h = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: op::CREATE };
            let kind = CreateKind::Plain { ephemeral: false };
            let data = Some(bytes::Bytes::from_static(b"value"));
            let create = CreateTxn { path: (*path).into(), data, acl: None, kind, parent_cversion: i as i32 + 1 };
            assert_eq!(tree.apply(&h, &Txn::Create(create), &mut |_| ()).err, 0);
        }
        let last = tree.last_zxid();
        let interest = Arc::new(Interest::new());
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: peer::SweepOptions { interval_ms: 0, max_per_minute: 1, max_never_used_ms: 0 },
            shards,
        };
        let peer = PeerTurn::new(Peer::new(options, &tree, &[], now), last, bounds(&mut rng));
        let clients = (0..rng.usize(2..5))
            .map(|i| {
                let script = (0..rng.usize(3..14)).map(|_| random_op(&mut rng)).collect();
                Client::new(ConnId(i as u64 + 1), rng.usize(..shards), script)
            })
            .collect();
        let shard = |i| ShardTurn::new(Shard::new(options_of(i, seed), WatchTable::new(i, interest.clone())));
        World {
            now,
            shards: (0..shards).map(shard).collect(),
            streams: (0..shards).map(|_| VecDeque::new()).collect(),
            to_peer: VecDeque::new(),
            appended: last,
            synced: false,
            history: History::from([(last, [Zxid(1), Zxid(2)])]),
            rng,
            tree: SharedTree {
                tree: RefCell::new(tree),
                cursors: vec![Cell::new(Zxid::ZERO); shards],
                interest: interest.clone(),
            },
            peer,
            clients,
            ignore_behind_read: false,
        }
    }

    pub fn run(mut self) {
        if let Err(e) = self.verdict() {
            panic!("{e}");
        }
    }

    /// Runs to the end and judges.
    pub fn verdict(&mut self) -> Result<(), String> {
        for _ in 0..100_000 {
            self.step();
            if self.is_done() {
                return self
                    .clients
                    .iter()
                    .try_for_each(|c| judge(c, &self.history).map_err(|e| format!("{:?}: {e}", c.conn)));
            }
        }
        Err("it never ends".into())
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|c| c.accepted && c.wire.is_empty() && c.sent == c.script.len())
            && self.to_peer.is_empty()
            && self.streams.iter().all(VecDeque::is_empty)
            && self.peer.peer().is_idle()
            && self.shards.iter().all(|s| !s.shard().has_ready())
    }

    fn step(&mut self) {
        match self.rng.u8(..4) {
            0 => {
                let c = self.rng.usize(..self.clients.len());
                let client = &mut self.clients[c];
                if client.sent < client.script.len() {
                    client.send();
                }
            }
            1 => self.shard_turn(),
            2 => self.peer_turn(),
            _ => self.synced = true,
        }
        self.peer.check(&self.tree.read());
        self.shards.iter().for_each(ShardTurn::check);
    }

    fn shard_turn(&mut self) {
        let number = self.rng.usize(..self.shards.len());
        let World { shards, streams, tree, to_peer, clients, rng, now, .. } = self;
        let mut links = ShardLinks { number, stream: &mut streams[number], tree, to_peer };
        let mut sockets = Wires { number, clients, rng, sink: Vec::new() };
        shards[number].turn(*now, tree.read(), &mut sockets, &mut links);
        clients.iter_mut().for_each(Client::read);
    }

    fn peer_turn(&mut self) {
        let World { peer, tree, to_peer, streams, synced, appended, history, rng, now, .. } = self;
        let mut links = PeerLinks {
            left: rng.usize(0..5),
            ignore_behind_read: self.ignore_behind_read,
            to_peer,
            streams,
            synced,
            appended,
            history,
        };
        peer.turn(*now, tree, &mut links);
    }
}

/// The way from a shard to the peer.
struct ShardLinks<'a> {
    number: usize,
    stream: &'a mut VecDeque<ToShard>,
    tree: &'a SharedTree,
    to_peer: &'a mut VecDeque<ToPeer>,
}

impl shard::turn::Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        self.stream.pop_front().map(Letter::Stream)
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.tree.cursors[self.number].set(cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        self.to_peer.extend(messages.drain(..));
    }

    fn word(&mut self, _: ConnId, word: &'static str, _: i64) {
        panic!("nobody sent the word {word}");
    }
}

/// The clients' end of the connections, pieces of what they sent arriving.
struct Wires<'a> {
    number: usize,
    clients: &'a mut [Client],
    rng: &'a mut fastrand::Rng,
    sink: Vec<u8>,
}

impl Sockets for Wires<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) -> usize {
        let mut count = 0;
        for client in self.clients.iter_mut().filter(|c| c.shard == self.number) {
            let conn = client.conn;
            if !std::mem::replace(&mut client.accepted, true) {
                f(SocketEvent::Accepted { conn, peer: ([127, 0, 0, 1], 1000).into() });
                count += 1;
            }
            if !client.wire.is_empty() && self.rng.bool() {
                let n = self.rng.usize(1..=client.wire.len());
                let bytes: Vec<u8> = client.wire.drain(..n).collect();
                f(SocketEvent::Data { conn, bytes: &bytes });
                count += 1;
            }
        }
        count
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.clients.iter_mut().find(|c| c.conn == conn).map_or(&mut self.sink, |c| &mut c.inbox)
    }

    /// Clients read at once.
    fn queued(&self, _: ConnId) -> usize {
        0
    }

    fn want_writable(&mut self, conn: ConnId) {
        panic!("{conn:?} has nothing queued");
    }

    fn pause(&mut self, conn: ConnId, _: bool) {
        panic!("{conn:?} is paused");
    }

    fn close(&mut self, conn: ConnId, _: CloseHow) {
        panic!("{conn:?} is closed");
    }

    fn flush(&mut self) {}
}

/// The way from the peer to shards and log.
struct PeerLinks<'a> {
    /// Messages that have come; what is behind them is under way.
    left: usize,
    ignore_behind_read: bool,
    to_peer: &'a mut VecDeque<ToPeer>,
    streams: &'a mut [VecDeque<ToShard>],
    synced: &'a mut bool,
    appended: &'a mut Zxid,
    history: &'a mut History,
}

impl peer::turn::Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<peer::Input> {
        if std::mem::take(self.synced) {
            return Some(peer::Input::Synced { zxid: *self.appended, sync_ns: 1, records: 1, slow: false });
        }
        self.left = self.left.checked_sub(1)?;
        let mut message = self.to_peer.pop_front()?;
        if let (true, ToPeer::Write { behind_read, .. }) = (self.ignore_behind_read, &mut message) {
            *behind_read = false;
        }
        Some(peer::Input::FromShard(message))
    }

    fn append(&mut self, batch: &mut Vec<Append>) {
        for append in batch.drain(..) {
            *self.appended = append.zxid;
            remember(self.history, &append.payload);
        }
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
        self.streams.iter().all(|stream| stream.len() < high_water)
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        self.streams[shard.index()].push_back(message);
    }

    fn ring(&mut self) {}
}

/// What a proposal will make of the two znodes.
fn remember(history: &mut History, payload: &[u8]) {
    let r = &mut Reader::new(payload);
    let header = TxnHeader::read(r).unwrap();
    let mut state = history.values().next_back().copied().unwrap();
    let subs = match Txn::read(header.op, r).unwrap() {
        Txn::Multi(subs) => subs.into_iter().map(|s| s.txn).collect(),
        txn => vec![txn],
    };
    for txn in subs {
        if let Txn::SetData { path, .. } = txn {
            state[PATHS.iter().position(|p| *p == path).unwrap()] = header.zxid;
        }
    }
    history.insert(header.zxid, state);
}

/// Small ones in half of the worlds.
fn bounds(rng: &mut fastrand::Rng) -> Bounds {
    if rng.bool() {
        return Bounds::default();
    }
    Bounds {
        submit_burst: rng.usize(1..4),
        append_burst: rng.usize(1..4),
        apply_burst: rng.usize(1..4),
        stream_high_water: rng.usize(1..4),
    }
}

fn random_op(rng: &mut fastrand::Rng) -> Op {
    match rng.u8(..7) {
        0 | 1 => Op::Set(rng.usize(..2)),
        2 => Op::SetBoth,
        3 | 4 => Op::Get(rng.usize(..2), true),
        5 => Op::Get(rng.usize(..2), false),
        _ => Op::GetBoth,
    }
}

fn options_of(shard: usize, seed: u64) -> ShardOptions {
    // Every other world has little room in its pipeline.
    let max_requests = if seed.is_multiple_of(2) { usize::MAX } else { 1 + seed as usize / 2 % 3 };
    ShardOptions {
        id: ShardId(shard as u32),
        max_frame: 1 << 20,
        session_timeout_ms: (4000, 2_000_000),
        handshake_timeout_ms: 1_000_000,
        outstanding_limit: 1000,
        touch_interval_ms: 500,
        bounds: Default::default(),
        skip_acl: false,
        words: Vec::new(),
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles: Throttles { requests: RequestThrottle { max_requests, ..Default::default() }, ..Default::default() },
    }
}
