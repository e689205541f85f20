//! How a connection gets its session.

use super::*;

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
    w.send(2, &[0, 0, 0, 4, 0, 0, 0, 0]);
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
