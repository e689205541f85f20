//! A shard and its surroundings: the sockets, the peer core, the tree. The tree does not change. Requests to the peer
//! core are answered when the fuzz target says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::pipeline::messages::{Entry, Event, Outcome, ToPeer, ToShard};
use zabra::proto::ConnectRequest;
use zabra::proto::four_letter::WORDS;
use zabra::proto::reply::put_reply;
use zabra::session::throttle::LargeRequests;
use zabra::shard::gate::{RequestThrottle, Throttles};
use zabra::shard::{CloseHow, Input, Outbox, Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use zabra::types::stat::owner::ExtendedTypes;
use zabra::types::{Acl, ConnId, Cxid, ErrorCode, EventType, Id, Now, Op, Origin, SessionId, ShardId, Zxid};
use zabra::watch::{Interest, WatchTable};

pub(crate) const MAX_FRAME: usize = 4000;
/// Least and greatest session timeout.
pub(crate) const TIMEOUT_MS: (i32, i32) = (4000, 40_000);
/// The session that owns the tree's ephemerals.
pub(crate) const OWNER: SessionId = SessionId(0x0100_0000_0000_0001);
pub(crate) const EXTENDED: ExtendedTypes = ExtendedTypes { enabled: true, emulate_353: false };

/// A request of the shard to the peer core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    NewSession { conn: ConnId, timeout_ms: i32 },
    Resume { conn: ConnId, session: SessionId, timeout_ms: i32, passwd_matches: bool },
    Write { conn: ConnId, session: SessionId, xid: i32, op: Op, body: Bytes },
}

/// The tree that all worlds share, since it does not change.
fn shared_tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut tree = tree();
        let big = CreateTxn {
            path: "/big".into(),
            data: Some(vec![b'x'; 300_000].into()),
            acl: None,
            kind: CreateKind::Plain { ephemeral: false },
            parent_cversion: -1,
        };
        let zxid = Zxid(tree.last_zxid().0 + 1);
        let header = TxnHeader { session: OWNER, cxid: Cxid(0), zxid, time_ms: 1000, op: Op::CREATE };
        assert_eq!(tree.apply(&header, &Txn::Create(big), &mut |_| ()).err, 0);
        tree
    })
}

/// The zxid of the tree's last transaction.
pub(crate) fn last_zxid() -> Zxid {
    shared_tree().last_zxid()
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
    shard: Shard,
    tree: &'static Tree,
    now: Now,
    out: Outbox,
    /// Everything that was sent on each connection.
    pub(crate) sent: BTreeMap<ConnId, Vec<u8>>,
    /// Unanswered requests to the peer core (and whether a read waits before each), and all requests so far.
    waiting: VecDeque<(Asked, bool)>,
    pub(crate) asked: Vec<Asked>,
    /// How connections were closed.
    pub(crate) closed: BTreeMap<ConnId, CloseHow>,
    /// Four-letter words to answer.
    pub(crate) words: Vec<(ConnId, &'static str, i64)>,
    /// The stream was drained since the last answer, so the peer core may apply what waits for a read.
    is_drained: bool,
    steps: u32,
    zxid: i64,
    sessions: i64,
}

impl World {
    /// With `tight` the throttles are on, with low limits.
    pub(crate) fn new(tight: bool) -> World {
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
        let options = ShardOptions {
            id: ShardId(3),
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
        };
        World {
            shard: Shard::new(options, WatchTable::new(3, Arc::new(Interest::new()))),
            tree: shared_tree(),
            now: Now { mono_ms: 50_000, wall_ms: 50_000, mono_ns: 50_000_000_000 },
            out: Outbox::default(),
            sent: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: Vec::new(),
            closed: BTreeMap::new(),
            words: Vec::new(),
            is_drained: true,
            steps: 0,
            zxid: 1000,
            sessions: 0,
        }
    }

    /// Number of unanswered requests.
    pub(crate) fn outstanding(&self) -> usize {
        self.shard.status(false).outstanding
    }

    pub(crate) fn after(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.now.mono_ns += ms as u64 * 1_000_000;
    }

    /// One turn with one input, as in the runtime: what the shard wants closed is gone at the end of the turn.
    pub(crate) fn step(&mut self, input: Input<'_>) {
        self.is_drained |= matches!(input, Input::Drained);
        self.handle(input);
        for (conn, how) in std::mem::take(&mut self.out.close) {
            self.closed.insert(conn, how);
            self.handle(Input::Disconnected { conn });
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, self.tree, &mut self.out);
        // The invariants are checked by looking at everything, so not after each step.
        self.steps += 1;
        if self.steps.is_multiple_of(16) {
            self.shard.check();
        }
        for conn in std::mem::take(&mut self.out.dirty) {
            let mut bytes = Vec::new();
            self.shard.take_output(conn, &mut bytes);
            self.sent.entry(conn).or_default().extend(bytes);
        }
        for message in std::mem::take(&mut self.out.to_peer) {
            let behind_read = matches!(message, ToPeer::Write { behind_read: true, .. });
            let asked = match message {
                ToPeer::NewSession { conn, timeout_ms, .. } => Asked::NewSession { conn, timeout_ms },
                ToPeer::Resume { conn, session, timeout_ms, passwd_matches, .. } => {
                    Asked::Resume { conn, session, timeout_ms, passwd_matches }
                }
                ToPeer::Write { request: r, .. } => {
                    let Origin::Local { conn, .. } = r.origin else { panic!("a client's write: {r:?}") };
                    Asked::Write { conn, session: r.session, xid: r.cxid.0, op: r.op, body: r.body }
                }
                ToPeer::Touch { .. } => continue,
            };
            self.asked.push(asked.clone());
            self.waiting.push_back((asked, behind_read));
        }
        self.words.append(&mut self.out.words);
        self.out.pause.clear();
    }

    pub(crate) fn accept(&mut self, conn: ConnId) {
        self.step(Input::Accepted { conn, peer: ([10, 0, 0, 1], 5000).into() });
    }

    /// An accepted connection with a session.
    pub(crate) fn open(&mut self, conn: ConnId) {
        self.accept(conn);
        self.step(Input::Data { conn, bytes: &hello() });
        self.settle();
        self.sent.remove(&conn);
        self.asked.clear();
    }

    pub(crate) fn event(&mut self, event: EventType, path: &str) {
        let events = Arc::from([Event { event, path: Arc::from(path), acl: None }]);
        self.zxid += 1;
        self.step(Input::Stream(ToShard::Applied(Entry { zxid: Zxid(self.zxid), outcome: None, events })));
    }

    /// Whether the oldest request is about a session.
    pub(crate) fn handshake_waits(&self) -> bool {
        matches!(self.waiting.front(), Some((Asked::NewSession { .. } | Asked::Resume { .. }, _)))
    }

    /// Answers the oldest request; false if there is none.
    pub(crate) fn answer(&mut self) -> bool {
        let Some((asked, behind_read)) = self.waiting.pop_front() else { return false };
        if behind_read && !self.is_drained {
            self.step(Input::Drained);
        }
        self.is_drained = false;
        let (conn, outcome) = match asked {
            Asked::NewSession { conn, timeout_ms } => {
                self.sessions += 1;
                (conn, Outcome::SessionCreated { session: SessionId(OWNER.0 + self.sessions), timeout_ms })
            }
            Asked::Resume { conn, session, timeout_ms, passwd_matches } => {
                let session = passwd_matches.then_some((session, timeout_ms));
                self.step(Input::Stream(ToShard::Resumed { conn, session }));
                return true;
            }
            Asked::Write { conn, xid, op, .. } => {
                let mut reply = Vec::new();
                put_reply(&mut reply, xid, Zxid(self.zxid + 1), ErrorCode::Ok);
                (conn, if op == Op::CLOSE_SESSION { Outcome::Closed(reply) } else { Outcome::Reply(reply) })
            }
        };
        self.zxid += 1;
        let entry = Entry { zxid: Zxid(self.zxid), outcome: Some((conn, outcome)), events: Arc::from([]) };
        self.step(Input::Stream(ToShard::Applied(entry)));
        true
    }

    /// Answers everything until nothing is left.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = (self.asked.len(), self.sent.values().map(Vec::len).sum::<usize>());
            let answered = self.answer();
            self.step(Input::Drained);
            let now = (self.asked.len(), self.sent.values().map(Vec::len).sum::<usize>());
            if !answered && before == now {
                return self.shard.check();
            }
        }
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
