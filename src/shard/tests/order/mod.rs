//! A shard alone: the test plays its sockets and its peer core.

mod answers;
mod ends;
mod handshakes;
mod members;
mod read_only;
mod watches;

use std::sync::Arc;

use bytes::Bytes;

use crate::jute::Reader;
use crate::pipeline::messages::{Entry, Event, Outcome};
use crate::proto::reply::put_reply;
use crate::proto::request::xid;
use crate::proto::{ConnectRequest, ConnectResponse, ReplyHeader, Request};
use crate::shard::conn::Pending;
use crate::shard::*;
use crate::tree::TreeOptions;
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::types::acl::SharedAcl;
use crate::types::{Acl, ConnId, Cxid, ErrorCode, EventType, Id, Op, ShardId, Zxid, perms};
use crate::watch::Interest;

const SESSION: SessionId = SessionId(0x0100_0000_0000_0007);

struct World {
    shard: Shard,
    tree: Tree,
    out: Outbox,
    now: Now,
}

/// A frame that a client received: its header and the rest.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Got {
    xid: i32,
    zxid: i64,
    err: i32,
    body: Vec<u8>,
}

fn options() -> ShardOptions {
    ShardOptions {
        id: ShardId(3),
        max_frame: 1000,
        session_timeout_ms: (4000, 40_000),
        handshake_timeout_ms: 10_000,
        outstanding_limit: 1000,
        touch_interval_ms: 500,
        bounds: Default::default(),
        skip_acl: false,
        words: vec!["ruok", "stmk"],
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles: Default::default(),
    }
}

fn request(xid: i32, op: Op, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.put_framed(xid, op, &mut out);
    out
}

fn get(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, Op::GET_DATA, &Request::GetData { path: path.into(), watch })
}

fn set(xid: i32, path: &str) -> Vec<u8> {
    request(xid, Op::SET_DATA, &Request::SetData { path: path.into(), data: None, version: -1 })
}

fn ping() -> Vec<u8> {
    request(xid::PING, Op::PING, &Request::Ping)
}

fn close_session(xid: i32) -> Vec<u8> {
    request(xid, Op::CLOSE_SESSION, &Request::CloseSession)
}

fn hello(session: SessionId, timeout_ms: i32, last_zxid_seen: i64, read_only: Option<bool>) -> Vec<u8> {
    let mut out = Vec::new();
    let passwd = session.passwd().to_vec();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(last_zxid_seen),
        timeout_ms,
        session,
        passwd,
        read_only,
    }
    .put(&mut out);
    out
}

impl World {
    fn new() -> World {
        World::with(options())
    }

    /// A world with `/a` of four bytes at zxid 1 and `/big` of 600 000 bytes at zxid 2.
    fn with(options: ShardOptions) -> World {
        let mut tree = Tree::new(TreeOptions::default());
        for (zxid, path, len) in [(1, "/a", 4), (2, "/big", 600_000)] {
            let header = TxnHeader { session: SESSION, cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op: Op::CREATE };
            let txn = Txn::Create(CreateTxn {
                path: path.into(),
                data: Some(Bytes::from(vec![b'x'; len])),
                acl: None,
                kind: CreateKind::Plain { ephemeral: false },
                parent_cversion: zxid as i32,
            });
            assert_eq!(tree.apply(&header, &txn, &mut |_| ()).err, 0);
        }
        let table = WatchTable::new(ShardId(3), Arc::new(Interest::new()));
        let now = Now { mono_ms: 50_000, wall_ms: 1, mono_ns: 50_000_000_000 };
        World { shard: Shard::new(options, table), tree, out: Outbox::default(), now }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &self.tree, &mut self.out);
        self.shard.check();
    }

    fn accept(&mut self, conn: u64) {
        self.handle(Input::Accepted { conn: ConnId(conn), peer: ([10, 0, 0, 1], 5000).into() });
    }

    fn send(&mut self, conn: u64, bytes: &[u8]) {
        self.handle(Input::Data { conn: ConnId(conn), bytes });
    }

    /// Opens a connection with a session that has the same number.
    fn open(&mut self, conn: u64) -> SessionId {
        let session = SessionId(SESSION.0 + conn as i64);
        self.accept(conn);
        self.send(conn, &hello(SessionId::NONE, 10_000, 0, Some(false)));
        assert!(matches!(self.submitted().as_slice(), [ToPeer::NewSession { .. }]));
        self.stream(conn, 2, Outcome::SessionCreated { session, timeout_ms: 10_000 });
        self.handle(Input::Drained);
        assert_eq!(self.output(conn).len(), 4 + 37);
        session
    }

    fn submitted(&mut self) -> Vec<ToPeer> {
        std::mem::take(&mut self.out.to_peer)
    }

    /// (xid, behind_read) of the writes submitted since the last call.
    fn writes(&mut self) -> Vec<(i32, bool)> {
        let writes = self.submitted().into_iter().filter_map(|m| match m {
            ToPeer::Write { request, behind_read, .. } => Some((request.cxid.0, behind_read)),
            _ => None,
        });
        writes.collect()
    }

    fn closes(&mut self) -> Vec<(u64, CloseHow)> {
        self.out.close.drain(..).map(|(conn, how)| (conn.0, how)).collect()
    }

    /// Something was applied that changes no znode, and the stream tells of it.
    fn stream(&mut self, conn: u64, zxid: i64, outcome: Outcome) {
        self.apply(zxid);
        let entry = Entry { zxid: Zxid(zxid), outcome: Some((ConnId(conn), outcome)), events: Arc::from([]) };
        self.handle(Input::Stream(ToShard::Applied(entry)));
    }

    /// The tree is as of `zxid`.
    fn apply(&mut self, zxid: i64) {
        if self.tree.last_zxid() < Zxid(zxid) {
            let header = TxnHeader { session: SESSION, cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op: Op::ERROR };
            self.tree.apply(&header, &Txn::Error { err: ErrorCode::NoNode.code() }, &mut |_| ());
        }
    }

    fn reply(xid: i32, zxid: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_reply(&mut out, xid, Zxid(zxid), ErrorCode::Ok);
        out
    }

    fn applied(&mut self, conn: u64, xid: i32, zxid: i64) {
        self.stream(conn, zxid, Outcome::Reply(World::reply(xid, zxid)));
    }

    fn event(&mut self, zxid: i64, event: EventType, path: &str, acl: SharedAcl) {
        let events = Arc::from([Event { event, path: Arc::from(path), acl }]);
        let entry = Entry { zxid: Zxid(zxid), outcome: None, events };
        self.handle(Input::Stream(ToShard::Applied(entry)));
    }

    fn output(&mut self, conn: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.shard.take_output(ConnId(conn), &mut bytes);
        self.out.dirty.retain(|c| c.0 != conn);
        bytes
    }

    fn got(&mut self, conn: u64) -> Vec<Got> {
        let bytes = self.output(conn);
        let mut r = Reader::new(&bytes);
        let mut all = Vec::new();
        while !r.is_empty() {
            let body = r.buffer().unwrap().unwrap();
            let mut r = Reader::new(body);
            let ReplyHeader { xid, zxid, err } = ReplyHeader::read(&mut r).unwrap();
            all.push(Got { xid, zxid: zxid.0, err, body: r.rest().to_vec() });
        }
        all
    }

    fn xids(&mut self, conn: u64) -> Vec<i32> {
        self.got(conn).into_iter().map(|g| g.xid).collect()
    }
}
