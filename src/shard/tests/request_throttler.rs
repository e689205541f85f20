//! `request_throttle_*` and `throttled_op_wait_time`.

use super::*;

#[test]
fn without_a_limit_nothing_waits() {
    let mut w = World::gated(|_| ());
    w.open(1);
    (1..=500).for_each(|xid| w.set(1, xid));
    assert_eq!((w.pipeline.len(), w.shard.stats.throttle_waits), (500, 0));
    assert_eq!(w.shard.throttler.deadline(), None);
}

#[test]
fn over_the_limit_requests_wait_in_the_order_they_came() {
    let mut w = World::gated(|t| t.max_requests = 1);
    (1..=4).for_each(|conn| w.open(conn));
    w.set(1, 1);
    assert_eq!(w.shard.stats.throttle_waits, 0);
    w.get(3, 1);
    w.set(2, 1);
    w.set(1, 2);
    w.turn();
    assert_eq!((w.in_pipeline(), w.replies(3)), (vec![(1, 1)], vec![]), "reads wait too");
    assert_eq!(w.shard.stats.throttle_waits, 1);
    assert!(!w.shard.has_ready(), "nothing can be done before an answer");
    w.answer();
    assert_eq!((w.in_pipeline(), w.replies(3)), (vec![(2, 1)], vec![(1, OK)]));
    assert_eq!(w.shard.stats.throttle_waits, 2, "the third still waits");
    w.answer();
    assert_eq!(w.in_pipeline(), [(1, 2)]);
    w.answer();
    assert_eq!((w.in_pipeline(), w.shard.has_ready()), (vec![], false));
    assert_eq!(w.shard.throttler.deadline(), None);
    w.set(4, 1);
    assert_eq!(w.in_pipeline(), [(4, 1)]);
}

#[test]
fn a_newcomer_does_not_overtake_those_that_wait() {
    let mut w = World::gated(|t| t.max_requests = 1);
    (1..=3).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    // Another connection ends in the middle of the turn, which makes room.
    w.step(Input::Disconnected { conn: ConnId(1) });
    w.set(3, 1);
    assert_eq!(w.in_pipeline(), [(1, 1)]);
    assert!(w.shard.has_ready(), "the next turn must come by itself");
    w.turn();
    assert_eq!(w.in_pipeline(), [(1, 1), (2, 1)]);
}

#[test]
fn pings_and_close_session_do_not_wait() {
    let mut w = World::gated(|t| t.max_requests = 1);
    (1..=4).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    w.ping(3);
    assert_eq!(w.replies(3), [(-2, OK)]);
    w.data(3, &close_session(1));
    assert_eq!(w.in_pipeline(), [(1, 1), (3, 1)]);
    w.data(2, &close_session(2));
    assert_eq!(w.in_pipeline(), [(1, 1), (3, 1)], "but not past requests of its own session");
    w.set(4, 1);
    w.answer();
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 1), (2, 2)], "the other waits for the first only");
}

#[test]
fn one_connection_keeps_its_order_whatever_the_bytes_come_in() {
    let mut w = World::gated(|t| t.max_requests = 2);
    w.open(1);
    let mut bytes = Vec::new();
    (1..=20).for_each(|xid| bytes.extend(if xid % 3 == 0 { get(xid) } else { set(xid, 0) }));
    for chunk in bytes.chunks(7) {
        w.data(1, chunk);
        assert!(w.pipeline.len() <= 2);
        w.after(1);
    }
    let mut all = Vec::new();
    while !w.pipeline.is_empty() {
        assert!(w.pipeline.len() <= 2);
        w.answer();
        all.extend(w.replies(1));
    }
    assert_eq!(all, (1..=20).map(|xid| (xid, OK)).collect::<Vec<_>>());
}

#[test]
fn a_request_that_waited_too_long_is_not_executed() {
    let mut w = World::gated(|t| (t.max_requests, t.op_wait_ms) = (1, 50));
    (1..=4).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    w.get(3, 1);
    w.after(30);
    w.set(4, 1);
    w.after(21);
    w.answer();
    assert_eq!(w.replies(2), [(1, THROTTLED)]);
    assert_eq!(w.replies(3), [(1, THROTTLED)]);
    assert_eq!(w.in_pipeline(), [(4, 1)], "21 ms are not too long");
    assert_eq!((w.shard.stats.throttled_ops, w.closed.len()), (2, 0));
    let waited = w.shard.stats.throttle_queue.in_ms();
    assert_eq!((waited.max, waited.count), (51, 3));
    w.set(2, 2);
    w.after(50);
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 2)], "exactly the wait is not too long");
}

#[test]
fn each_request_of_a_connection_has_waited_since_it_came() {
    let mut w = World::gated(|t| (t.max_requests, t.op_wait_ms) = (1, 50));
    (1..=2).for_each(|conn| w.open(conn));
    w.set(1, 1);
    let (a, b, c) = (set(1, 0), set(2, 0), set(3, 0));
    w.data(2, &[&a[..], &b[..5]].concat());
    w.after(40);
    w.data(2, &b[5..]);
    w.data(2, &c[..10]);
    w.after(10);
    w.data(2, &c[10..]);
    w.after(1);
    w.answer();
    assert_eq!((w.replies(2), w.in_pipeline()), (vec![(1, THROTTLED)], vec![(2, 2)]));
    w.after(49);
    w.answer();
    assert_eq!((w.replies(2), w.in_pipeline()), (vec![(2, OK)], vec![(2, 3)]));
}

#[test]
fn close_session_and_pings_are_executed_however_late() {
    let mut w = World::gated(|t| (t.max_requests, t.op_wait_ms) = (1, 50));
    (1..=2).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.data(2, &[set(1, 0), ping(), close_session(2)].concat());
    w.after(1000);
    w.answer();
    assert_eq!(w.replies(2), [(1, THROTTLED), (-2, OK)]);
    assert_eq!((w.in_pipeline(), w.shard.stats.throttled_ops), (vec![(2, 2)], 1));
}

#[test]
fn a_throttled_write_is_answered_in_its_place() {
    let mut w = World::gated(|t| (t.max_requests, t.op_wait_ms) = (2, 50));
    (1..=2).for_each(|conn| w.open(conn));
    w.set(2, 1);
    w.set(1, 1);
    w.set(1, 2);
    w.after(51);
    w.set(1, 3);
    w.answer();
    assert_eq!(w.in_pipeline(), [(1, 1)], "the third stands behind the throttled one, which takes its place");
    assert_eq!(w.replies(1), []);
    w.answer();
    assert_eq!(w.replies(1), [(1, OK), (2, THROTTLED)]);
    assert_eq!(w.in_pipeline(), [(1, 3)]);
    // With more room the next write is submitted while the earlier reply is still due.
    let mut w = World::gated(|t| (t.max_requests, t.op_wait_ms) = (3, 50));
    (1..=2).for_each(|conn| w.open(conn));
    w.data(2, &[set(1, 0), set(2, 0)].concat());
    w.set(1, 1);
    w.set(1, 2);
    w.after(51);
    w.set(1, 3);
    w.answer();
    w.answer();
    let last = w.pipeline.last().expect("is there");
    assert_eq!((last.0, last.1, last.2), (1, 3, true), "behind_read: rule S3a");
    w.answer();
    assert_eq!(w.replies(1), [(1, OK), (2, THROTTLED)]);
}

#[test]
fn a_request_older_than_its_session_is_dropped_with_its_connection() {
    let mut w = World::gated(|t| (t.max_requests, t.stale_latency_check) = (1, true));
    (1..=4).for_each(|conn| w.open(conn));
    w.step(Input::Tick);
    w.set(1, 1);
    w.data(2, &[set(1, 0), set(2, 0)].concat());
    w.after(100);
    w.set(3, 1);
    assert_eq!(w.shard.deadline(), Some(w.now.mono_ms), "stall time");
    w.after(i64::from(TIMEOUT_MS) - 100);
    w.step(Input::Tick);
    assert_eq!((w.closed.len(), w.shard.stats.throttle_waits), (0, 2), "not older than the timeout");
    w.after(100);
    w.step(Input::Tick);
    assert_eq!(w.closed, [(2, CloseHow::Flush)], "the other came 100 ms later");
    assert_eq!((w.shard.stats.stale_requests_dropped, w.shard.stats.throttle_waits), (1, 3));
    w.set(4, 1);
    w.answer();
    w.answer();
    assert_eq!((w.in_pipeline(), w.shard.stats.stale_requests), (vec![(4, 1)], 0));
}

#[test]
fn staleness_is_noticed_when_room_comes_too() {
    let stale = |drop_stale| {
        let mut w = World::gated(|t| {
            (t.max_requests, t.stale_latency_check, t.drop_stale) = (1, true, drop_stale);
        });
        (1..=2).for_each(|conn| w.open(conn));
        w.set(1, 1);
        w.set(2, 1);
        w.after(i64::from(TIMEOUT_MS) + 1);
        w.answer();
        let stats = &w.shard.stats;
        (w.in_pipeline(), w.closed.clone(), stats.stale_requests_dropped, stats.stale_requests, stats.stale_replies)
    };
    assert_eq!(stale(true), (vec![], vec![(2, CloseHow::Flush)], 1, 0, 1));
    assert_eq!(stale(false), (vec![(2, 1)], vec![], 0, 1, 1));
}

#[test]
fn requests_of_a_closed_connection_are_dropped_or_not() {
    let closed = |drop_stale, check| {
        let mut w = World::gated(|t| {
            (t.max_requests, t.drop_stale, t.stale_connection_check) = (1, drop_stale, check);
        });
        (1..=2).for_each(|conn| w.open(conn));
        w.set(1, 1);
        w.data(2, &[set(1, 0), set(2, 0)].concat());
        w.step(Input::Eof { conn: ConnId(2) });
        let at_once = w.closed.len();
        w.answer();
        let first = w.in_pipeline();
        if !first.is_empty() {
            w.answer();
        }
        let second = w.in_pipeline();
        assert_eq!(w.closed, [(2, CloseHow::Flush)]);
        let stats = &w.shard.stats;
        (at_once, first, second, stats.stale_requests_dropped, stats.stale_requests)
    };
    assert_eq!(closed(true, true), (1, vec![], vec![], 1, 0));
    assert_eq!(closed(true, false), (0, vec![(2, 1)], vec![(2, 2)], 0, 0));
    assert_eq!(closed(false, true), (0, vec![(2, 1)], vec![(2, 2)], 0, 2));
    let mut w = World::gated(|t| t.max_requests = 1);
    (1..=2).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    w.step(Input::Disconnected { conn: ConnId(2) });
    assert_eq!(w.shard.stats.stale_requests_dropped, 1);
    w.answer();
    assert_eq!((w.in_pipeline(), w.shard.has_ready()), (vec![], false));
}

#[test]
fn who_waits_is_heard_and_who_is_in_the_middle_of_a_request_is_read() {
    let mut w = World::gated(|t| t.max_requests = 1);
    (1..=3).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    w.after(500);
    w.set(2, 2);
    let c = w.shard.conns.get(ConnId(2)).unwrap();
    assert!(c.touched && c.heard_ms == w.now.mono_ms, "its session must not expire for our being busy");
    w.data(3, &set(1, 100_000)[..80_000]);
    assert_eq!(w.pauses, [], "the rest of it must come before it can wait");
    let many: Vec<u8> = (3..3000).flat_map(|xid| set(xid, 0)).collect();
    w.data(2, &many);
    assert_eq!(w.pauses, [(2, true)]);
    while w.shard.conns.get(ConnId(2)).unwrap().paused {
        w.answer();
    }
    assert_eq!(w.pauses, [(2, true), (2, false)]);
}

#[test]
fn arrivals_are_bounded_and_never_look_older_than_they_are() {
    let mut q = super::super::arrivals::Arrivals::default();
    (0..2000).for_each(|ms| q.add(1, ms));
    assert!(q.count() <= 256 && q.arrived_ms(2000) == Some(1999) && q.arrived_ms(100) == Some(99));
    (1..=2000).for_each(|end| assert!(q.arrived_ms(end).expect("is there") >= end as i64 - 1));
    q.consume(150);
    assert_eq!((q.arrived_ms(1), q.arrived_ms(1850), q.arrived_ms(1851)), (Some(150), Some(1999), None));
}
