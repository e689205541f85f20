//! A shard alone: the test plays its sockets and its peer core.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::jute::{Put, Reader};
use crate::pipeline::messages::{Entry, Event, Outcome};
use crate::proto::{ConnectRequest, ConnectResponse};
use crate::tree::TreeOptions;
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::types::acl::SharedAcl;
use crate::types::{Acl, ConnId, Cxid, EventType, Id, Op, ShardId, Zxid, perms};
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

fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let at = out.begin_frame();
    write(&mut out);
    out.end_frame(at);
    out
}

fn request(xid: i32, op: Op, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    frame(|out| {
        out.put_i32(xid);
        out.put_i32(op.0);
        write(out);
    })
}

fn get(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, Op::GET_DATA, |out| {
        out.put_string(path);
        out.put_bool(watch);
    })
}

fn set(xid: i32, path: &str) -> Vec<u8> {
    request(xid, Op::SET_DATA, |out| {
        out.put_string(path);
        out.put_buffer(None);
        out.put_i32(-1);
    })
}

fn ping() -> Vec<u8> {
    request(-2, Op::PING, |_| ())
}

fn close_session(xid: i32) -> Vec<u8> {
    request(xid, Op::CLOSE_SESSION, |_| ())
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
        let table = WatchTable::new(3, Arc::new(Interest::new()));
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

    fn stream(&mut self, conn: u64, zxid: i64, outcome: Outcome) {
        let entry = Entry { zxid: Zxid(zxid), outcome: Some((ConnId(conn), outcome)), events: Arc::from([]) };
        self.handle(Input::Stream(ToShard::Applied(entry)));
    }

    fn reply(xid: i32, zxid: i64) -> Vec<u8> {
        frame(|out| {
            out.put_i32(xid);
            out.put_i64(zxid);
            out.put_i32(0);
        })
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
            let (xid, zxid, err) = (r.i32().unwrap(), r.i64().unwrap(), r.i32().unwrap());
            all.push(Got { xid, zxid, err, body: r.rest().to_vec() });
        }
        all
    }

    fn xids(&mut self, conn: u64) -> Vec<i32> {
        self.got(conn).into_iter().map(|g| g.xid).collect()
    }
}

#[test]
fn a_new_session_has_a_clamped_timeout_and_an_answer_of_the_clients_shape() {
    for (asked, given) in [(1, 4000), (10_000, 10_000), (i32::MAX, 40_000), (-5, 4000)] {
        for (read_only, len) in [(None, 36), (Some(true), 37)] {
            let mut w = World::new();
            w.accept(9);
            let bytes = hello(SessionId::NONE, asked, 2, read_only);
            w.send(9, &bytes[..20]);
            assert!(w.submitted().is_empty());
            w.send(9, &bytes[20..]);
            let [ToPeer::NewSession { shard, conn, timeout_ms, .. }] = w.submitted()[..] else { panic!() };
            assert_eq!((shard, conn, timeout_ms), (ShardId(3), ConnId(9), given));
            w.stream(9, 3, Outcome::SessionCreated { session: SESSION, timeout_ms });
            let answer = w.output(9);
            assert_eq!(answer.len(), 4 + len);
            let answer = ConnectResponse::read(&answer[4..]).unwrap();
            assert_eq!((answer.session, answer.timeout_ms, answer.passwd), (SESSION, given, SESSION.passwd()));
            assert_eq!(answer.read_only, read_only.map(|_| false), "this is no read-only server");
        }
    }
}

#[test]
fn handshakes_that_lead_nowhere() {
    let mut w = World::new();
    w.accept(1);
    w.send(1, &hello(SessionId::NONE, 5000, 3, None));
    assert_eq!(w.closes(), [(1, CloseHow::Flush)], "it has seen zxid 3, this server has 2");
    assert!(w.output(1).is_empty() && w.submitted().is_empty());
    w.accept(2);
    w.send(2, &frame(|out| out.put_i32(0)));
    assert_eq!(w.closes(), [(2, CloseHow::Flush)], "truncated");
    w.accept(3);
    w.send(3, &5000i32.to_be_bytes());
    assert_eq!(w.closes().len(), 1, "longer than any handshake");
    w.accept(4);
    let mut wrong = hello(SESSION, 5000, 0, Some(false));
    *wrong.iter_mut().nth_back(3).unwrap() ^= 1;
    w.send(4, &wrong);
    assert!(matches!(w.submitted()[..], [ToPeer::Resume { session: SESSION, passwd_matches: false, .. }]));
    w.handle(Input::Stream(ToShard::Resumed { conn: ConnId(4), session: None }));
    let answer = w.output(4);
    assert_eq!(ConnectResponse::read(&answer[4..]).unwrap(), ConnectResponse::expired(Some(false)));
    assert_eq!(w.closes(), [(4, CloseHow::Flush)]);
    w.accept(5);
    w.send(5, &hello(SESSION, 5000, 0, None));
    assert!(matches!(w.submitted()[..], [ToPeer::Resume { passwd_matches: true, .. }]));
}

#[test]
fn what_follows_a_handshake_waits_for_the_session() {
    let mut w = World::new();
    w.accept(1);
    let mut bytes = hello(SessionId::NONE, 5000, 0, None);
    bytes.extend(get(1, "/a", false));
    bytes.extend(set(2, "/a"));
    w.send(1, &bytes);
    w.send(1, &get(3, "/a", false));
    assert_eq!((w.submitted().len(), w.output(1).len()), (1, 0));
    w.stream(1, 3, Outcome::SessionCreated { session: SESSION, timeout_ms: 5000 });
    w.output(1);
    w.handle(Input::Drained);
    assert_eq!((w.xids(1), w.writes()), (vec![1], vec![(2, false)]));
    w.applied(1, 2, 4);
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [2, 3]);
}

#[test]
fn a_connection_that_ends_in_its_handshake_is_forgotten() {
    let mut w = World::new();
    w.accept(1);
    w.send(1, &hello(SessionId::NONE, 5000, 0, None));
    w.handle(Input::Eof { conn: ConnId(1) });
    w.handle(Input::Disconnected { conn: ConnId(1) });
    w.stream(1, 3, Outcome::SessionCreated { session: SESSION, timeout_ms: 5000 });
    w.handle(Input::Stream(ToShard::Resumed { conn: ConnId(1), session: Some((SESSION, 5000)) }));
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(1) }));
    w.handle(Input::Drained);
    assert!(w.out.dirty.is_empty() && !w.shard.has_ready());
}

#[test]
fn a_refused_create_session_is_told_as_an_expired_one() {
    let mut w = World::new();
    w.accept(1);
    w.send(1, &hello(SessionId::NONE, 5000, 0, Some(false)));
    w.applied(1, 0, 3);
    let answer = w.output(1);
    assert_eq!(ConnectResponse::read(&answer[4..]).unwrap().timeout_ms, 0);
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
}

#[test]
fn answers_keep_the_order_of_requests() {
    let mut w = World::new();
    w.open(1);
    let all = [
        set(1, "/a"),
        get(2, "/a", false),
        ping(),
        set(3, "/a"),
        request(4, Op::SYNC, |o| o.put_string("/")),
        set(5, "/a"),
    ];
    w.send(1, &all.concat());
    assert_eq!(w.writes(), [(1, false), (3, true), (5, true)], "a write behind a waiting read says so");
    assert!(w.xids(1).is_empty());
    w.handle(Input::Drained);
    assert!(w.xids(1).is_empty(), "the first write is not applied");
    w.applied(1, 1, 3);
    assert_eq!(w.xids(1), [1]);
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [2, -2]);
    w.applied(1, 3, 4);
    w.handle(Input::Drained);
    w.applied(1, 5, 5);
    assert_eq!(w.xids(1), [3, 4, 5]);
    w.send(1, &get(6, "/a", false));
    assert_eq!(w.xids(1), [6], "nothing before it: at once");
    w.send(1, &set(7, "/a"));
    assert_eq!(w.writes(), [(7, false)]);
}

/// If a write overtook reads that only wait because the client reads slowly, it would be applied before they are
/// answered.
#[test]
fn no_write_is_submitted_while_reads_before_it_could_be_answered() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &[set(1, "/a"), get(2, "/a", false)].concat());
    assert_eq!(w.writes(), [(1, false)]);
    w.handle(Input::Backlog { conn: ConnId(1), bytes: crate::limits::OUT_HIGH_WATER + 1 });
    w.applied(1, 1, 3);
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [1], "its client does not read");
    // The client resumes reading and writes in the same turn.
    w.handle(Input::Backlog { conn: ConnId(1), bytes: 0 });
    w.send(1, &set(3, "/a"));
    assert_eq!(w.writes(), []);
    assert!(w.shard.has_ready());
    w.handle(Input::Drained);
    assert_eq!((w.xids(1), w.writes()), (vec![2], vec![(3, false)]));
}

#[test]
fn a_client_that_does_not_read_is_not_answered_for_ever() {
    let mut w = World::new();
    w.open(1);
    let reads: Vec<u8> = (1..10).flat_map(|xid| get(xid, "/big", false)).collect();
    w.send(1, &reads);
    assert_eq!(w.xids(1), [1], "the rest of the turn is for others");
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [2]);
    w.handle(Input::Backlog { conn: ConnId(1), bytes: 1_200_000 });
    w.handle(Input::Drained);
    w.handle(Input::Drained);
    assert!(w.xids(1).is_empty());
    w.handle(Input::Backlog { conn: ConnId(1), bytes: 0 });
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [3]);
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [4]);
    let first = 2 * crate::limits::OUT_LIMIT;
    for (bytes, closed) in
        [(first, 0), (first + crate::limits::OUT_LIMIT, 0), (first + crate::limits::OUT_LIMIT + 1, 1)]
    {
        w.handle(Input::Backlog { conn: ConnId(1), bytes });
        assert_eq!(w.closes(), vec![(1, CloseHow::Abort); closed], "what comes on top of a long reply");
    }
}

#[test]
fn a_socket_is_not_read_while_its_requests_may_not_be_taken() {
    let mut w = World::new();
    w.open(1);
    w.handle(Input::Backlog { conn: ConnId(1), bytes: crate::limits::OUT_HIGH_WATER + 1 });
    let pings: Vec<u8> = (0..6000).flat_map(|_| ping()).collect();
    w.send(1, &pings);
    assert_eq!(std::mem::take(&mut w.out.pause), [(ConnId(1), true)]);
    w.handle(Input::Backlog { conn: ConnId(1), bytes: 0 });
    w.handle(Input::Drained);
    assert_eq!(w.out.pause, [(ConnId(1), false)]);
    assert_eq!(w.xids(1).len(), 6000);
}

#[test]
fn past_the_limit_whoever_has_something_outstanding_waits() {
    let mut w = World::with(ShardOptions { outstanding_limit: 1, ..options() });
    w.open(1);
    w.open(2);
    let mut zxid = 2;
    for conn in [1, 2] {
        let many: Vec<u8> = (1..=40).flat_map(|xid| set(xid, "/a")).collect();
        w.send(conn, &many);
    }
    // Two requests of the first connection (one, and the one that exceeds the limit), and one of the second.
    assert_eq!(w.writes(), [(1, false), (2, false), (1, false)]);
    for (conn, xid) in [(1, 1), (1, 2)] {
        zxid += 1;
        w.applied(conn, xid, zxid);
    }
    for round in 1..30 {
        w.handle(Input::Drained);
        for (xid, _) in w.writes() {
            assert!(xid <= 2 * round + 3);
        }
        for conn in [2, 1] {
            let Some(Pending::Write { xid, .. }) = w.shard.conns.get(ConnId(conn)).unwrap().fifo.front() else {
                continue;
            };
            let xid = *xid;
            zxid += 1;
            w.applied(conn, xid, zxid);
        }
    }
    // `check` has compared the counters of throttled connections each time.
    let answered = [w.xids(1), w.xids(2)];
    for xids in answered {
        assert!(xids.len() > 20 && xids.is_sorted() && xids[0] == 1, "{xids:?}");
    }
}

use super::conn::Pending;

#[test]
fn an_event_comes_before_what_shows_the_change() {
    let mut w = World::new();
    w.open(1);
    w.open(2);
    w.send(1, &get(1, "/a", true));
    w.send(1, &set(2, "/a"));
    w.send(1, &get(3, "/a", false));
    w.output(1);
    let event = Event { event: EventType::NodeDataChanged, path: "/a".into(), acl: None };
    let outcome = Some((ConnId(1), Outcome::Reply(World::reply(2, 3))));
    w.handle(Input::Stream(ToShard::Applied(Entry { zxid: Zxid(3), outcome, events: [event].into() })));
    w.handle(Input::Drained);
    let got = w.got(1);
    assert_eq!(got.iter().map(|g| g.xid).collect::<Vec<_>>(), [-1, 2, 3]);
    assert_eq!((got[0].zxid, &got[0].body[..8]), (3, &[0, 0, 0, 3, 0, 0, 0, 3][..]));
    w.event(4, EventType::NodeDataChanged, "/a", None);
    assert!(w.got(1).is_empty() && w.got(2).is_empty(), "it was for once, and of one connection");
}

#[test]
fn who_may_not_read_is_not_told_but_has_spent_the_watch() {
    let mut w = World::new();
    w.open(1);
    let denied: SharedAcl = Some(Arc::from([Acl { perms: perms::ALL & !perms::READ, id: Id::world() }]));
    let mine: SharedAcl = Some(Arc::from([Acl { perms: perms::READ, id: Id::new("ip", "10.0.0.1") }]));
    for (acl, told) in [(denied, 0), (mine, 1), (None, 1)] {
        w.send(1, &get(1, "/a", true));
        w.output(1);
        w.event(3, EventType::NodeDataChanged, "/a", acl);
        assert_eq!(w.got(1).len(), told);
        w.event(4, EventType::NodeDataChanged, "/a", None);
        assert!(w.got(1).is_empty());
    }
}

#[test]
fn set_watches_tells_what_happened_before_its_reply() {
    let mut w = World::new();
    w.open(1);
    let bytes = request(-8, Op::SET_WATCHES, |out| {
        out.put_i64(1);
        out.put_strings(&["/big", "/a", "/gone"]);
        out.put_strings(&["/a", "/none"]);
        out.put_strings(&["/a"]);
    });
    w.send(1, &bytes);
    let told: Vec<(i32, i64, i32)> =
        w.got(1).iter().map(|g| (g.xid, g.zxid, g.body.get(3).map_or(0, |b| i32::from(*b)))).collect();
    // /big is newer than zxid 1, /gone does not exist any more, /a exists: created.
    assert_eq!(told, [(-1, -1, 3), (-1, -1, 2), (-1, -1, 1), (-8, 2, 0)]);
    w.event(3, EventType::NodeDataChanged, "/a", None);
    w.event(3, EventType::NodeCreated, "/none", None);
    w.event(3, EventType::NodeChildrenChanged, "/a", None);
    w.event(3, EventType::NodeDataChanged, "/big", None);
    assert_eq!(w.got(1).len(), 3, "what was not told is armed");
}

fn multi_read(xid: i32, paths: &[&str]) -> Vec<u8> {
    request(xid, Op::MULTI_READ, |out| {
        for path in paths {
            out.put_i32(Op::GET_DATA.0);
            out.put_bool(false);
            out.put_i32(-1);
            out.put_string(path);
            out.put_bool(false);
        }
        out.put_i32(-1);
        out.put_bool(true);
        out.put_i32(-1);
    })
}

#[test]
fn a_multi_read_answers_each_by_itself_and_no_more_than_can_be_sent() {
    let mut w = World::with(ShardOptions { max_frame: 1 << 20, ..options() });
    w.open(1);
    w.send(1, &multi_read(1, &["/a", "/none"]));
    let got = w.got(1).remove(0);
    assert_eq!((got.xid, got.err), (1, 0));
    let mut r = Reader::new(&got.body);
    assert_eq!((r.i32().unwrap(), r.bool().unwrap(), r.i32().unwrap()), (Op::GET_DATA.0, false, 0));
    assert_eq!(r.buffer().unwrap(), Some(&b"xxxx"[..]));
    let rest = &got.body[9 + 8 + 68..];
    assert_eq!(rest[..13], [0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0x9b, 0xff, 0xff, 0xff, 0x9b]);
    w.send(1, &multi_read(2, &vec!["/big"; 1000]));
    let got = w.got(1).remove(0);
    assert_eq!((got.xid, got.err, got.body.len()), (2, -5, 0), "600 MB for 20 kB");
}

#[test]
fn an_unknown_operation_closes_behind_the_answers_before_it() {
    let mut w = World::new();
    w.open(1);
    for op in [Op(99), Op::CREATE_SESSION, Op::DELETE_CONTAINER] {
        let mut w = World::new();
        w.open(1);
        w.send(1, &[set(1, "/a"), request(2, op, |o| o.put_string("/a")), get(3, "/a", false)].concat());
        assert_eq!((w.writes().len(), w.closes().len()), (1, 0));
        w.applied(1, 1, 3);
        w.handle(Input::Drained);
        let got: Vec<(i32, i64, i32)> = w.got(1).iter().map(|g| (g.xid, g.zxid, g.err)).collect();
        assert_eq!(got, [(1, 3, 0), (2, -1, -6)]);
        assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    }
    w.send(1, &frame(|out| out.put_i32(1)));
    assert_eq!(w.closes(), [(1, CloseHow::Flush)], "shorter than a header");
}

#[test]
fn frames_of_impossible_lengths_close() {
    for len in [-1, 1001] {
        let mut w = World::new();
        w.open(1);
        w.send(1, &i32::to_be_bytes(len));
        assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
        w.send(1, &get(1, "/a", false));
        assert!(w.output(1).is_empty());
    }
}

#[test]
fn a_closed_session_is_answered_once_and_nothing_behind_it() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &[set(1, "/a"), close_session(2), close_session(3), set(4, "/a"), get(5, "/a", false)].concat());
    assert_eq!(w.writes().len(), 4);
    w.applied(1, 1, 3);
    w.stream(1, 4, Outcome::Closed(World::reply(2, 4)));
    w.stream(1, 5, Outcome::Closed(World::reply(3, 5)));
    w.applied(1, 4, 6);
    w.handle(Input::Drained);
    assert_eq!(w.xids(1), [1, 2]);
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    w.handle(Input::Disconnected { conn: ConnId(1) });
    assert_eq!(w.shard.outstanding, 0);
}

#[test]
fn whoever_closes_an_expired_session_is_answered() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &close_session(1));
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(1) }));
    w.stream(1, 4, Outcome::Closed(World::reply(1, 4)));
    assert_eq!(w.xids(1), [1]);
    // But never past a request that was left without a reply.
    let mut w = World::new();
    w.open(2);
    w.send(2, &[set(1, "/a"), close_session(2)].concat());
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(2) }));
    w.applied(2, 1, 5);
    w.stream(2, 6, Outcome::Closed(World::reply(2, 6)));
    assert!(w.xids(2).is_empty());
}

#[test]
fn no_event_reaches_a_connection_that_ends() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &get(1, "/a", true));
    w.output(1);
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(1) }));
    w.event(3, EventType::NodeDataChanged, "/a", None);
    assert!(w.output(1).is_empty());
    w.handle(Input::Disconnected { conn: ConnId(1) });
    w.event(4, EventType::NodeDataChanged, "/a", None);
    assert!(w.out.dirty.is_empty());
}

#[test]
fn four_letter_words() {
    let mut w = World::new();
    for conn in 1..=4 {
        w.accept(conn);
    }
    w.send(1, b"ru");
    w.send(1, b"ok\n");
    assert_eq!(std::mem::take(&mut w.out.words), [(ConnId(1), "ruok", 0)]);
    w.handle(Input::Eof { conn: ConnId(1) });
    assert_eq!(w.closes(), [], "`echo ruok | nc` still wants its answer");
    w.handle(Input::WordAnswer { conn: ConnId(1), text: b"imok" });
    assert_eq!((w.output(1), w.closes()), (b"imok".to_vec(), vec![(1, CloseHow::Flush)]));
    w.send(2, b"stmk\0\0\0\0");
    assert_eq!(w.out.words, [], "its mask is not all there");
    w.send(2, &[0, 0, 1, 2]);
    assert_eq!(w.out.words, [(ConnId(2), "stmk", 258)]);
    w.send(3, b"dump");
    assert_eq!(w.output(3), b"dump is not executed because it is not in the whitelist.\n");
    assert_eq!(w.closes(), [(3, CloseHow::Flush)]);
    w.send(4, b"ru");
    w.handle(Input::Eof { conn: ConnId(4) });
    assert_eq!(w.closes(), [(4, CloseHow::Flush)]);
    w.handle(Input::WordAnswer { conn: ConnId(77), text: b"late" });
}

#[test]
fn a_session_that_spoke_is_reported_once_an_interval_and_when_its_connection_goes() {
    let mut w = World::new();
    let session = w.open(1);
    assert_eq!(w.shard.deadline().map(|at| at - 50_000), Some(10_000), "only the handshake's, which is over");
    w.now.mono_ms += 100;
    w.send(1, &[ping(), ping()].concat());
    assert!(w.shard.deadline().is_some_and(|at| at <= 50_100));
    w.handle(Input::Tick);
    assert!(matches!(w.submitted()[..], [ToPeer::Touch { session: s, heard_ms: 50_100 }] if s == session));
    w.now.mono_ms += 50;
    w.send(1, &ping());
    w.handle(Input::Tick);
    assert!(w.submitted().is_empty());
    assert_eq!(w.shard.deadline(), Some(50_600));
    w.now.mono_ms = 50_600;
    w.handle(Input::Tick);
    assert!(matches!(w.submitted()[..], [ToPeer::Touch { heard_ms: 50_150, .. }]));
    w.now.mono_ms = 50_700;
    w.send(1, &ping());
    w.handle(Input::Disconnected { conn: ConnId(1) });
    assert!(matches!(w.submitted()[..], [ToPeer::Touch { session: s, heard_ms: 50_700 }] if s == session));
    w.now.mono_ms = 60_000;
    w.handle(Input::Tick);
    assert!(w.submitted().is_empty());
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let mut w = World::new();
    w.accept(1);
    w.now.mono_ms += 4000;
    w.accept(2);
    w.send(2, &hello(SessionId::NONE, 5000, 0, None)[..44]);
    w.accept(3);
    w.send(3, &hello(SessionId::NONE, 5000, 0, None));
    assert_eq!(w.shard.deadline(), Some(60_000));
    w.now.mono_ms = 59_999;
    w.handle(Input::Tick);
    assert_eq!(w.closes(), []);
    w.now.mono_ms = 60_000;
    w.handle(Input::Tick);
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    w.handle(Input::Disconnected { conn: ConnId(1) });
    w.now.mono_ms = 64_000;
    w.handle(Input::Tick);
    assert_eq!(w.closes(), [(2, CloseHow::Flush)], "half a handshake is none");
    assert_eq!(w.shard.deadline(), None);
}

#[test]
fn a_client_whose_requests_have_to_wait_is_heard() {
    let mut w = World::new();
    w.open(1);
    w.handle(Input::Backlog { conn: ConnId(1), bytes: crate::limits::OUT_HIGH_WATER + 1 });
    w.now.mono_ms += 3000;
    w.send(1, &ping());
    assert!(w.output(1).is_empty());
    w.handle(Input::Tick);
    assert!(matches!(w.submitted()[..], [ToPeer::Touch { heard_ms: 53_000, .. }]));
}

#[test]
fn connections_that_end_while_they_are_throttled_are_not_remembered() {
    let mut w = World::with(ShardOptions { outstanding_limit: 1, ..options() });
    for conn in 1..=40 {
        w.open(conn);
    }
    // Two connections stay, so the limit stays exceeded.
    for conn in 1..=40 {
        w.send(conn, &[set(1, "/a"), set(2, "/a")].concat());
    }
    for conn in 3..=40 {
        w.handle(Input::Disconnected { conn: ConnId(conn) });
    }
    for conn in 41..=300 {
        w.submitted();
        w.open(conn);
        w.send(conn, &[set(1, "/a"), set(2, "/a")].concat());
        w.handle(Input::Disconnected { conn: ConnId(conn) });
    }
    assert!(w.shard.throttled.len() <= 6);
}
