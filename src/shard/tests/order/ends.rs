//! How sessions and connections end, four-letter words, and who is heard of.

use super::*;

#[test]
fn a_closed_session_is_answered_once_and_nothing_after_it() {
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
    w.handle(Input::WordAnswer { conn: ConnId(1), text: b"imok".to_vec() });
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
    w.handle(Input::WordAnswer { conn: ConnId(77), text: b"late".to_vec() });
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
