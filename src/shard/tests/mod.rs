//! A shard under its throttles and limits.

mod backlog;
mod fair;
mod order;
mod request_throttler;
mod throttles;

use std::sync::Arc;

use super::Throttles;
use super::request_throttler::RequestThrottle;
use super::{CloseHow, Input, Outbox, Shard, ShardOptions};
use crate::jute::Reader;
use crate::pipeline::messages::{Entry, Outcome, ToPeer, ToShard};
use crate::proto::reply::put_reply;
use crate::proto::request::{Request, xid};
use crate::proto::{ConnectRequest, ConnectResponse, ReplyHeader};
use crate::session::large_requests::Admitted;
use crate::tree::{Tree, TreeOptions};
use crate::txn::{Txn, TxnHeader};
use crate::types::{ConnId, Cxid, ErrorCode, Now, Op, Origin, SessionId, ShardId, Zxid};
use crate::watch::{Interest, WatchTable};

const TIMEOUT_MS: i32 = 4000;
const OK: i32 = 0;
const THROTTLED: i32 = -127;

/// A shard, its clients and, where needed, a peer core that answers when told to.
struct World {
    shard: Shard,
    tree: Tree,
    now: Now,
    out: Outbox,
    zxid: i64,
    closed: Vec<(u64, CloseHow)>,
    pauses: Vec<(u64, bool)>,
    /// Writes submitted to the peer core and not answered yet, oldest first.
    pipeline: Vec<(u64, i32, bool, Option<Admitted>)>,
}

impl World {
    fn new(change: impl FnOnce(&mut ShardOptions)) -> World {
        let mut options = ShardOptions {
            id: ShardId(0),
            max_frame: 1 << 20,
            session_timeout_ms: (TIMEOUT_MS, TIMEOUT_MS),
            handshake_timeout_ms: 1_000_000,
            outstanding_limit: 1000,
            touch_interval_ms: 1_000_000,
            bounds: Default::default(),
            skip_acl: false,
            words: Vec::new(),
            enforced_schemes: Vec::new(),
            auth: Arc::default(),
            throttles: Throttles::default(),
        };
        change(&mut options);
        World {
            shard: Shard::new(options, WatchTable::new(ShardId(0), Arc::new(Interest::new()))),
            tree: Tree::new(TreeOptions::default()),
            now: Now { mono_ms: 1000, wall_ms: 1000, mono_ns: 1_000_000_000 },
            out: Outbox::default(),
            zxid: 0,
            closed: Vec::new(),
            pauses: Vec::new(),
            pipeline: Vec::new(),
        }
    }

    fn gated(change: impl FnOnce(&mut RequestThrottle)) -> World {
        World::new(|options| change(&mut options.throttles.requests))
    }

    fn after(&mut self, ms: i64) {
        self.now.mono_ms += ms;
        self.now.mono_ns += ms as u64 * 1_000_000;
    }

    fn step(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &self.tree, &mut self.out);
        self.shard.check();
        for message in self.out.to_peer.drain(..) {
            if let ToPeer::Write { request, behind_read, large } = message {
                let Origin::Local { conn, .. } = request.origin else { panic!("{request:?}") };
                self.pipeline.push((conn.0, request.cxid.0, behind_read, large));
            }
        }
        self.closed.extend(self.out.close.drain(..).map(|(conn, how)| (conn.0, how)));
        self.pauses.extend(self.out.pause.drain(..).map(|(conn, pause)| (conn.0, pause)));
    }

    fn connect(&mut self, conn: u64) {
        let mut hello = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: TIMEOUT_MS,
            session: SessionId::NONE,
            passwd: vec![0; 16],
            read_only: Some(false),
        }
        .put(&mut hello);
        self.step(Input::Accepted { conn: ConnId(conn), peer: ([127, 0, 0, 1], 1000).into() });
        self.data(conn, &hello);
    }

    /// Opens a connection with a session.
    fn open(&mut self, conn: u64) {
        self.connect(conn);
        let session = SessionId(100 + conn as i64);
        self.applied(conn, Outcome::SessionCreated { session, timeout_ms: TIMEOUT_MS });
        let mut hello = Vec::new();
        self.shard.take_output(ConnId(conn), &mut hello);
        assert_eq!(ConnectResponse::read(&hello[4..]).expect("a handshake").session, session);
    }

    /// Something was applied that changes no znode, and the stream tells of it.
    fn applied(&mut self, conn: u64, outcome: Outcome) {
        self.zxid += 1;
        let header =
            TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(self.zxid), time_ms: 0, op: Op::ERROR };
        self.tree.apply(&header, &Txn::Error { err: ErrorCode::NoNode.code() }, &mut |_| ());
        let entry = Entry { zxid: Zxid(self.zxid), outcome: Some((ConnId(conn), outcome)), events: Arc::from([]) };
        self.step(Input::Stream(ToShard::Applied(entry)));
        self.turn();
    }

    fn turn(&mut self) {
        self.step(Input::Drained);
    }

    fn data(&mut self, conn: u64, bytes: &[u8]) {
        self.step(Input::Data { conn: ConnId(conn), bytes });
    }

    fn set(&mut self, conn: u64, xid: i32) {
        self.data(conn, &set(xid, 0));
    }

    fn get(&mut self, conn: u64, xid: i32) {
        self.data(conn, &get(xid));
    }

    fn ping(&mut self, conn: u64) {
        self.data(conn, &ping());
    }

    /// Applies and answers the oldest write in the pipeline.
    fn answer(&mut self) {
        let (conn, xid, _, large) = self.pipeline.remove(0);
        let mut reply = Vec::new();
        put_reply(&mut reply, xid, Zxid(self.zxid + 1), ErrorCode::Ok);
        drop(large);
        self.applied(conn, Outcome::Reply(reply));
    }

    /// (conn, xid) of all writes in the pipeline.
    fn in_pipeline(&self) -> Vec<(u64, i32)> {
        self.pipeline.iter().map(|(conn, xid, ..)| (*conn, *xid)).collect()
    }

    /// (xid, error) of all replies since the last call.
    fn replies(&mut self, conn: u64) -> Vec<(i32, i32)> {
        let mut bytes = Vec::new();
        self.shard.take_output(ConnId(conn), &mut bytes);
        let mut r = Reader::new(&bytes);
        let mut replies = Vec::new();
        while !r.is_empty() {
            let frame = r.buffer().expect("a frame").expect("one with a length");
            let header = ReplyHeader::read(&mut Reader::new(frame)).expect("a header");
            replies.push((header.xid, header.err));
        }
        replies
    }
}

fn request(xid: i32, op: Op, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.put_framed(xid, op, &mut out);
    out
}

/// A setData of `len` bytes: a frame of 24 + `len` bytes after its length.
fn set(xid: i32, len: usize) -> Vec<u8> {
    let data = vec![b'x'; len];
    request(xid, Op::SET_DATA, &Request::SetData { path: "/zoo".into(), data: Some(&data), version: -1 })
}

fn get(xid: i32) -> Vec<u8> {
    request(xid, Op::GET_DATA, &Request::GetData { path: "/".into(), watch: false })
}

fn ping() -> Vec<u8> {
    request(xid::PING, Op::PING, &Request::Ping)
}

fn close_session(xid: i32) -> Vec<u8> {
    request(xid, Op::CLOSE_SESSION, &Request::CloseSession)
}
