//! A shard under its throttles and limits.

mod backlog;
mod fair;
mod gate;
mod throttles;

use std::sync::Arc;

use super::gate::{RequestThrottle, Throttles};
use super::{CloseHow, Input, Outbox, Shard, ShardOptions};
use crate::jute::Put;
use crate::pipeline::messages::{Entry, Outcome, ToPeer, ToShard};
use crate::proto::reply::put_reply;
use crate::proto::request::RequestHeader;
use crate::proto::{ConnectRequest, ConnectResponse};
use crate::session::throttle::Admitted;
use crate::tree::{Tree, TreeOptions};
use crate::types::{ConnId, ErrorCode, Now, Op, Origin, SessionId, ShardId, Zxid};
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
            shard: Shard::new(options, WatchTable::new(0, Arc::new(Interest::new()))),
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

    fn applied(&mut self, conn: u64, outcome: Outcome) {
        self.zxid += 1;
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
        self.data(conn, &frame(-2, Op::PING, &[]));
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
        let mut rest = &bytes[..];
        let mut replies = Vec::new();
        let int = |b: &[u8]| i32::from_be_bytes(*b.first_chunk().expect("four bytes"));
        while !rest.is_empty() {
            replies.push((int(&rest[4..]), int(&rest[16..])));
            rest = &rest[4 + int(rest) as usize..];
        }
        replies
    }
}

fn frame(xid: i32, op: Op, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = out.begin_frame();
    RequestHeader { xid, op }.put(&mut out);
    out.extend_from_slice(body);
    out.end_frame(frame);
    out
}

/// A setData of `len` bytes: a frame of 24 + `len` bytes after its length.
fn set(xid: i32, len: usize) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string("/zoo");
    body.put_buffer(Some(&vec![b'x'; len]));
    body.put_i32(-1);
    frame(xid, Op::SET_DATA, &body)
}

fn get(xid: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string("/");
    body.push(0);
    frame(xid, Op::GET_DATA, &body)
}

fn close_session(xid: i32) -> Vec<u8> {
    frame(xid, Op::CLOSE_SESSION, &[])
}
