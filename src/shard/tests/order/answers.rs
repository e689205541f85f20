//! Answers in the order of requests, as many as a client reads.

use super::*;
use crate::proto::multi::MultiReadOp;
use crate::proto::request::put_framed_body;

#[test]
fn answers_keep_the_order_of_requests() {
    let mut w = World::new();
    w.open(1);
    let all = [
        set(1, "/a"),
        get(2, "/a", false),
        ping(),
        set(3, "/a"),
        request(4, Op::SYNC, &Request::Sync { path: Some("/".into()) }),
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

fn multi_read(xid: i32, paths: &[&'static str]) -> Vec<u8> {
    let reads = paths.iter().map(|path| MultiReadOp::GetData { path: (*path).into() });
    request(xid, Op::MULTI_READ, &Request::MultiRead(reads.collect()))
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
fn an_unknown_operation_closes_after_the_answers_before_it() {
    let mut w = World::new();
    w.open(1);
    for op in [Op(99), Op::CREATE_SESSION, Op::DELETE_CONTAINER] {
        let mut w = World::new();
        w.open(1);
        let mut unknown = Vec::new();
        put_framed_body(&mut unknown, 2, op, b"\0\0\0\x02/a");
        w.send(1, &[set(1, "/a"), unknown, get(3, "/a", false)].concat());
        assert_eq!((w.writes().len(), w.closes().len()), (1, 0));
        w.applied(1, 1, 3);
        w.handle(Input::Drained);
        let got: Vec<(i32, i64, i32)> = w.got(1).iter().map(|g| (g.xid, g.zxid, g.err)).collect();
        assert_eq!(got, [(1, 3, 0), (2, -1, -6)]);
        assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    }
    w.send(1, &[0, 0, 0, 4, 0, 0, 0, 1]);
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
