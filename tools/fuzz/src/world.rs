//! A server of one shard, whole and in memory: the shipped turns, a log on a disk without faults, and the connections. Nothing
//! happens by itself: a target says what arrives, when the peer core hears of it and how time goes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::oracle::memory::{Mail, MemoryLog, MemorySockets, MemoryTree};
use zabra::oracle::replica::SMALL;
use zabra::oracle::test_disk::TestDisk;
use zabra::peer::turn::{Bounds, PeerTurn, TreeAccess};
use zabra::peer::{self, Peer, PeerOptions, SweepOptions};
use zabra::pipeline::PrepOptions;
use zabra::pipeline::messages::ToPeer;
use zabra::proto::four_letter::WORDS;
use zabra::proto::{ConnectRequest, CreateRequest, Request};
use zabra::session::large_requests::LargeRequests;
use zabra::shard::request_throttler::RequestThrottle;
use zabra::shard::turn::{Letter, ShardTurn};
use zabra::shard::{CloseHow, Shard, ShardOptions, Throttles};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use zabra::txnlog::log::{Log, RunOptions};
use zabra::txnlog::writer::LogWriter;
use zabra::types::stat::owner::ExtendedTypes;
use zabra::types::{Acl, ConnId, Cxid, Id, Now, Op, Origin, ServerId, SessionId, ShardId, Zxid};
use zabra::watch::{Interest, WatchTable};

pub(crate) const MAX_FRAME: usize = 4000;
/// Least and greatest session timeout.
pub(crate) const TIMEOUT_MS: (i32, i32) = (4000, 40_000);
/// The session that is there from the beginning and owns the tree's ephemerals.
pub(crate) const OWNER: SessionId = SessionId(0x0100_0000_0000_0001);
pub(crate) const EXTENDED: ExtendedTypes = ExtendedTypes { enabled: true, emulate_353: false };

const SHARD: ShardId = ShardId(0);
/// The connection of the client that changes what others watch; nobody else has its slot.
const OTHER: ConnId = ConnId(9);
/// Turns in which whatever is under way must come to rest.
const MOST_TURNS: usize = 10_000;

/// What the shard asked the peer core for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    NewSession { conn: ConnId, timeout_ms: i32 },
    Resume { conn: ConnId, session: SessionId, timeout_ms: i32, passwd_matches: bool },
    Write { conn: ConnId, session: SessionId, xid: i32, op: Op, body: Bytes },
}

impl Asked {
    fn of(message: &peer::Input) -> Option<Asked> {
        let peer::Input::FromShard(message) = message else { panic!("a shard submitted {message:?}") };
        match message {
            ToPeer::NewSession { conn, timeout_ms, .. } => {
                Some(Asked::NewSession { conn: *conn, timeout_ms: *timeout_ms })
            }
            ToPeer::Resume { conn, session, timeout_ms, passwd_matches, .. } => Some(Asked::Resume {
                conn: *conn,
                session: *session,
                timeout_ms: *timeout_ms,
                passwd_matches: *passwd_matches,
            }),
            ToPeer::Write { request: r, .. } => {
                let Origin::Local { conn, .. } = r.origin else { panic!("a client's write: {r:?}") };
                Some(Asked::Write { conn, session: r.session, xid: r.cxid.0, op: r.op, body: r.body.clone() })
            }
            ToPeer::Sync(request) => panic!("a server without others is asked for a sync: {request:?}"),
            ToPeer::Touch { .. } | ToPeer::Suspended { .. } => None,
        }
    }
}

/// The tree of every world: a node of every kind, and a large one.
fn large_tree() -> Tree {
    static BIG: Bytes = Bytes::from_static(&[b'x'; 300_000]);
    let mut tree = tree();
    let kind = CreateKind::Plain { ephemeral: false };
    let big = CreateTxn { path: "/big".into(), data: Some(BIG.clone()), acl: None, kind, parent_cversion: -1 };
    let zxid = Zxid(tree.last_zxid().0 + 1);
    let header = TxnHeader { session: OWNER, cxid: Cxid(0), zxid, time_ms: 1000, op: Op::CREATE };
    assert_eq!(tree.apply(&header, &Txn::Create(big), &mut |_| ()).err, 0);
    tree
}

/// The last transaction that every world begins with.
pub(crate) fn last_zxid() -> Zxid {
    static LAST: OnceLock<Zxid> = OnceLock::new();
    *LAST.get_or_init(|| large_tree().last_zxid())
}

/// A tree with a node of every kind.
pub(crate) fn tree() -> Tree {
    let mut tree = Tree::new(TreeOptions { extended: EXTENDED, digest_enabled: true });
    let closed = [Acl { perms: 1, id: Id::new("digest", "bob:h") }];
    let nodes: [(&str, Op, CreateKind, &[Acl]); 8] = [
        ("/a", Op::CREATE, CreateKind::Plain { ephemeral: false }, &[]),
        ("/a/b", Op::CREATE, CreateKind::Plain { ephemeral: false }, &[]),
        ("/a/e", Op::CREATE, CreateKind::Plain { ephemeral: true }, &[]),
        ("/c", Op::CREATE_CONTAINER, CreateKind::Container, &[]),
        ("/t", Op::CREATE_TTL, CreateKind::Ttl { ttl_ms: 5 }, &[]),
        ("/closed", Op::CREATE, CreateKind::Plain { ephemeral: false }, &closed),
        ("/zookeeper/quota/a", Op::CREATE, CreateKind::Plain { ephemeral: false }, &[]),
        ("/zookeeper/quota/a/zookeeper_limits", Op::CREATE, CreateKind::Plain { ephemeral: false }, &[]),
    ];
    for (i, (path, op, kind, acl)) in nodes.into_iter().enumerate() {
        let header = TxnHeader { session: OWNER, cxid: Cxid(0), zxid: Zxid(i as i64 + 1), time_ms: 1000, op };
        let data = match path {
            p if p.ends_with("limits") => b"count=100,bytes=1000000".to_vec(),
            _ => b"data".to_vec(),
        };
        let acl = if acl.is_empty() { None } else { Some(Arc::from(acl)) };
        let create = CreateTxn { path: path.into(), data: Some(data.into()), acl, kind, parent_cversion: -1 };
        assert_eq!(tree.apply(&header, &Txn::Create(create), &mut |_| ()).err, 0);
    }
    tree
}

pub(crate) struct World {
    now: Now,
    tree: MemoryTree,
    mail: Mail,
    shard: ShardTurn,
    sockets: MemorySockets,
    peer: PeerTurn,
    log: MemoryLog<LogWriter<TestDisk>>,
    /// All a connection was sent.
    pub(crate) sent: BTreeMap<ConnId, Vec<u8>>,
    /// All that the shard ever asked the peer core for.
    pub(crate) asked: Vec<Asked>,
    /// How connections were closed.
    pub(crate) closed: BTreeMap<ConnId, CloseHow>,
}

/// `tight`: the throttles are on and narrow.
fn shard_options(tight: bool) -> ShardOptions {
    let mut throttles = Throttles::default();
    if tight {
        throttles.large = Some(Arc::new(LargeRequests::new(2000, 500)));
        throttles.requests = RequestThrottle {
            max_requests: 3,
            stall_ms: 100,
            drop_stale: true,
            stale_latency_check: true,
            stale_connection_check: true,
            op_wait_ms: 50,
        };
    }
    ShardOptions {
        id: SHARD,
        max_frame: MAX_FRAME,
        session_timeout_ms: TIMEOUT_MS,
        handshake_timeout_ms: 10_000,
        outstanding_limit: if tight { 5 } else { 1000 },
        touch_interval_ms: 500,
        bounds: Default::default(),
        skip_acl: false,
        words: WORDS.into_iter().filter(|w| *w != "dump").collect(),
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles,
    }
}

impl World {
    /// `tight`: the throttles are on and narrow, and so are the bursts.
    pub(crate) fn new(tight: bool) -> World {
        let now = Now { mono_ms: 50_000, wall_ms: 50_000, mono_ns: 50_000_000_000 };
        let (tree, interest) = (large_tree(), Arc::new(Interest::new()));
        let last = tree.last_zxid();
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions { extended: EXTENDED, enforce_quota: true, ..PrepOptions::default() },
            sweep: SweepOptions { interval_ms: 5000, max_per_minute: 10_000, max_never_used_ms: 0 },
            shards: 1,
        };
        let bounds = match tight {
            true => Bounds { submit_burst: 2, append_burst: 1, apply_burst: 1, stream_high_water: 2 },
            false => Bounds::default(),
        };
        let peer = Peer::new(options, &tree, &[(OWNER, TIMEOUT_MS.1)], now);
        let table = WatchTable::new(SHARD, interest.clone());
        let log = LogWriter::new(TestDisk::new(), last, SMALL);
        World {
            now,
            shard: ShardTurn::new(Shard::new(shard_options(tight), table)),
            sockets: MemorySockets::default(),
            peer: PeerTurn::new(peer, last, bounds),
            log: MemoryLog::new(Log::new(log, RunOptions::default(), 0)),
            tree: MemoryTree::new(tree, 1, interest),
            mail: Mail::new(1),
            sent: BTreeMap::new(),
            asked: Vec::new(),
            closed: BTreeMap::new(),
        }
    }

    /// Number of unanswered requests.
    pub(crate) fn outstanding(&self) -> usize {
        self.shard.shard().status(false).outstanding
    }

    pub(crate) fn after(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.now.mono_ns += ms as u64 * 1_000_000;
    }

    /// A turn of the shard, with all that has arrived.
    pub(crate) fn turn(&mut self) -> bool {
        let World { now, tree, mail, shard, sockets, .. } = self;
        let before = mail.shards[0].submitted.len();
        let busy = shard.turn(*now, tree.read(), sockets, &mut mail.of_shard(SHARD, tree));
        self.asked.extend(mail.shards[0].submitted.iter().skip(before).filter_map(Asked::of));
        for conn in sockets.conns() {
            self.sent.entry(conn.id).or_default().append(&mut conn.out);
        }
        for (mut conn, how) in sockets.take_ended() {
            self.sent.entry(conn.id).or_default().append(&mut conn.out);
            self.closed.insert(conn.id, how);
        }
        busy
    }

    pub(crate) fn accept(&mut self, conn: ConnId) {
        self.sockets.accept(conn, ([10, 0, 0, 1], 5000).into());
        self.turn();
    }

    pub(crate) fn data(&mut self, conn: ConnId, bytes: &[u8]) {
        self.sockets.data(conn, Bytes::copy_from_slice(bytes));
        self.turn();
    }

    pub(crate) fn eof(&mut self, conn: ConnId) {
        self.sockets.eof(conn);
        self.turn();
    }

    pub(crate) fn gone(&mut self, conn: ConnId) {
        self.sockets.gone(conn);
        self.turn();
    }

    /// The client still has to take so many bytes.
    pub(crate) fn untaken(&mut self, conn: ConnId, bytes: usize) {
        if let Some(conn) = self.sockets.conn(conn) {
            conn.untaken = bytes;
        }
        self.turn();
    }

    /// Four-letter words that wait for their texts.
    pub(crate) fn take_words(&mut self) -> Vec<(ConnId, &'static str, i64)> {
        std::mem::take(&mut self.mail.shards[0].words)
    }

    /// The text of a four-letter word comes.
    pub(crate) fn word_answer(&mut self, conn: ConnId, text: &[u8]) {
        self.mail.shards[0].letters.push_back(Letter::WordAnswer { conn, text: text.to_vec() });
        self.turn();
    }

    /// An accepted connection with a session.
    pub(crate) fn open(&mut self, conn: ConnId) {
        self.accept(conn);
        self.data(conn, &hello());
        self.settle();
        self.sent.remove(&conn);
        self.asked.clear();
    }

    /// Another client asks for a change.
    pub(crate) fn change(&mut self, op: Op, path: &str) {
        if self.sockets.conn(OTHER).is_none() {
            self.open(OTHER);
        }
        let request = match op {
            Op::CREATE => {
                let acl = vec![Acl::world_all()].into();
                Request::Create(CreateRequest { path: path.into(), data: None, acl, flags: 0, ttl_ms: None })
            }
            Op::SET_DATA => Request::SetData { path: path.into(), data: None, version: -1 },
            _ => Request::Delete { path: path.into(), version: -1 },
        };
        let mut bytes = Vec::new();
        request.put_framed(1, op, &mut bytes);
        self.data(OTHER, &bytes);
    }

    /// Whether the oldest request is about a session.
    pub(crate) fn handshake_waits(&self) -> bool {
        let front = self.mail.shards[0].submitted.front();
        matches!(front, Some(peer::Input::FromShard(ToPeer::NewSession { .. } | ToPeer::Resume { .. })))
    }

    /// The oldest question reaches the peer core and is answered; false if there is none.
    pub(crate) fn answer(&mut self) -> bool {
        let submitted = &mut self.mail.shards[0].submitted;
        let questions = submitted.iter().map(Asked::of).collect::<VecDeque<_>>();
        let Some(at) = questions.iter().position(Option::is_some) else { return false };
        self.mail.inbox.extend(submitted.drain(..=at));
        self.rest(false);
        true
    }

    /// Answers everything until nothing is left.
    pub(crate) fn settle(&mut self) {
        self.rest(true);
        self.shard.check();
        self.peer.check(&self.tree.read());
        self.log.log().check();
    }

    /// Everybody takes turns until nothing is left to do: `all` that the shard submits, or what has reached the peer core.
    fn rest(&mut self, all: bool) {
        for _ in 0..MOST_TURNS {
            if all {
                self.mail.deliver();
            }
            let peer = self.peer_turn();
            let shard = self.turn();
            let left = all && self.mail.is_for_peer() || !self.mail.told.is_empty() || !self.mail.inbox.is_empty();
            if !peer && !shard && !left && self.peer.peer().is_idle() && self.log.is_idle() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// A turn of the peer core; after it the log does what it can.
    fn peer_turn(&mut self) -> bool {
        let World { now, tree, mail, peer, log, .. } = self;
        let busy = peer.turn(*now, tree, mail);
        mail.appended.drain(..).for_each(|burst| log.send(&burst));
        let mut events = Vec::new();
        while !log.is_idle() {
            log.step(*now, 0, &mut events).expect("a disk without faults");
        }
        mail.told.extend(events.into_iter().filter_map(peer::Input::from_log));
        assert!(mail.snapshot.is_empty() && mail.snapshot_answers.is_empty(), "nobody asked for a snapshot");
        busy
    }
}

/// A handshake for a new session.
pub(crate) fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms: 10_000,
        session: SessionId(0),
        passwd: vec![0; 16],
        read_only: Some(false),
    }
    .put(&mut out);
    out
}

/// The frames that were sent. Panics if the bytes are not frames.
pub(crate) fn frames(sent: &[u8]) -> Vec<&[u8]> {
    let mut r = Reader::new(sent);
    let mut all = Vec::new();
    while !r.is_empty() {
        all.push(r.buffer().expect("the server sent a broken frame").expect("the server sent a null frame"));
    }
    all
}

/// Splits the bytes into pieces as long as `cuts` says; the rest is one piece.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut all = Vec::new();
    for cut in cuts {
        // Small numbers stand for themselves; large ones are scaled up.
        let n = if *cut < 200 { usize::from(*cut) } else { (usize::from(*cut) - 199) * 97 };
        let (piece, behind) = rest.split_at(n.min(rest.len()));
        all.push(piece);
        rest = behind;
    }
    all.push(rest);
    all
}
