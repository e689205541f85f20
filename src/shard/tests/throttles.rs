//! Handshakes, large requests, the outstanding limit, ensemble names.

use super::*;
use crate::auth::Providers;
use crate::proto::request::put_auth;
use crate::session::connection_throttle::ThrottleSettings;
use crate::session::{LargeRequests, SharedConnectionThrottle};

#[test]
fn handshakes_over_the_limit_are_closed() {
    let settings = ThrottleSettings { tokens: 2, fill_time_ms: 100, fill_count: 1, ..ThrottleSettings::default() };
    let mut w = World::new(|o| {
        o.throttles.connections = Some(Arc::new(SharedConnectionThrottle::new(settings, 1000, 1)));
    });
    w.open(1);
    w.open(2);
    assert_eq!(w.closed, []);
    w.connect(3);
    assert_eq!(w.closed, [(3, CloseHow::Flush)]);
    w.step(Input::Disconnected { conn: ConnId(3) });
    let stats = &w.shard.stats;
    assert_eq!((stats.connections_rejected, stats.connection_requests), (1, 2));
    let deficit = stats.token_deficit.tally();
    assert_eq!((deficit.count, deficit.max), (2, 2));
    w.after(101);
    w.open(4);
    assert_eq!(w.shard.stats.connections_rejected, 1);
    w.connect(5);
    assert_eq!(w.closed.last(), Some(&(5, CloseHow::Flush)));
}

#[test]
fn a_local_session_costs_less_than_a_global_one() {
    for (local_sessions, most) in [(false, 1), (true, 3)] {
        let settings = ThrottleSettings { tokens: 1, fill_time_ms: 100, weighted: true, ..ThrottleSettings::default() };
        let mut w = World::new(|o| {
            o.throttles.connections = Some(Arc::new(SharedConnectionThrottle::new(settings, 1000, 1)));
            o.throttles.local_sessions = local_sessions;
        });
        (1..=5).for_each(|conn| w.connect(conn));
        assert_eq!(w.closed.len(), 5 - most, "three tokens are there");
    }
}

fn large(world: &World) -> Arc<LargeRequests> {
    world.shard.options.throttles.large.clone().expect("is on")
}

fn with_large(max_bytes: i32) -> World {
    let mut w = World::new(|o| o.throttles.large = Some(Arc::new(LargeRequests::new(max_bytes, 100))));
    (1..=3).for_each(|conn| w.open(conn));
    w
}

#[test]
fn large_writes_are_counted_until_they_are_applied() {
    let mut w = with_large(300);
    let bytes = set(1, 177);
    assert_eq!(bytes.len() - 4, 201);
    w.data(1, &bytes);
    w.data(1, &set(2, 0));
    assert_eq!((large(&w).in_work(), w.in_pipeline()), (201, vec![(1, 1), (1, 2)]));
    w.data(2, &set(1, 177));
    assert_eq!((w.closed.clone(), w.shard.stats.large_requests_rejected), (vec![(2, CloseHow::Flush)], 1));
    // The client has gone, but its request has not.
    w.step(Input::Disconnected { conn: ConnId(1) });
    assert_eq!(large(&w).in_work(), 201);
    w.answer();
    assert_eq!(large(&w).in_work(), 0);
    w.data(3, &set(1, 177));
    assert_eq!(large(&w).in_work(), 201);
    assert_eq!((w.closed.len(), w.shard.stats.stale_replies), (1, 1));
}

#[test]
fn large_reads_are_counted_while_they_wait() {
    let mut w = with_large(300);
    let path = format!("/{}", "p".repeat(150));
    let exists = request(2, Op::EXISTS, &Request::Exists { path: path.into(), watch: false });
    w.data(1, &set(1, 0));
    w.data(1, &exists);
    assert_eq!(large(&w).in_work(), exists.len() as i64 - 4);
    w.answer();
    assert_eq!((large(&w).in_work(), w.replies(1)), (0, vec![(1, OK), (2, ErrorCode::NoNode.code())]));
    w.data(1, &exists);
    assert_eq!((large(&w).in_work(), w.replies(1).len()), (0, 1));
    w.set(1, 3);
    w.data(1, &exists);
    w.step(Input::Disconnected { conn: ConnId(1) });
    assert_eq!(large(&w).in_work(), 0);
}

#[test]
fn a_large_request_is_refused_at_its_length() {
    let mut w = with_large(310);
    w.data(1, &set(1, 177));
    let second = set(1, 177);
    w.data(2, &second[..3]);
    assert_eq!(w.closed, []);
    w.data(2, &second[3..9]);
    assert_eq!((w.closed.clone(), w.shard.stats.large_requests_rejected), (vec![(2, CloseHow::Flush)], 1));
    w.data(3, &set(1, 85)[..9]);
    assert_eq!(w.closed.len(), 1, "109 bytes will fit");
}

#[test]
fn over_the_outstanding_limit_only_whoever_has_something_outstanding_waits() {
    let mut w = World::new(|o| o.outstanding_limit = 1);
    (1..=4).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.set(2, 1);
    w.set(1, 2);
    w.set(3, 1);
    assert_eq!(w.in_pipeline(), [(1, 1), (2, 1), (3, 1)]);
    w.ping(2);
    w.data(2, &close_session(2));
    w.data(3, &request(xid::SET_WATCHES, Op::SET_WATCHES, &Request::SetWatches(Default::default())));
    assert_eq!(w.in_pipeline(), [(1, 1), (2, 1), (3, 1), (2, 2)], "pings and closeSession pass");
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 1), (3, 1), (2, 2), (1, 2)], "its own answer lets it go on");
    assert_eq!(w.shard.stats.throttle_waits, 0);
    w.answer();
    assert_eq!(w.replies(2), [(1, OK), (-2, OK)]);
    w.answer();
    assert_eq!(w.replies(3), [(1, OK), (-8, OK)], "setWatches is not counted");
}

#[test]
fn names_of_ensembles_are_counted() {
    let names = vec!["blue".to_owned()];
    let auth = Providers { ensemble: Some(names), ..Providers::default() };
    let mut w = World::new(|o| o.auth = Arc::new(auth));
    w.open(1);
    let packet = |name: &[u8]| {
        let mut packet = Vec::new();
        put_auth(&mut packet, "ensemble", Some(name));
        packet
    };
    w.data(1, &packet(b"blue"));
    w.data(1, &packet(b""));
    assert_eq!((w.replies(1), w.closed.len()), (vec![(-4, OK), (-4, OK)], 0));
    w.data(1, &packet(b"red"));
    assert_eq!((w.replies(1), w.closed.clone()), (vec![], vec![(1, CloseHow::Flush)]));
    let counts = w.shard.stats.ensemble_auth;
    assert_eq!((counts.success, counts.skip, counts.fail), (1, 1, 1));
}
