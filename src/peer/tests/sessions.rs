//! Sessions: made, moved, heard of, expired, closed.

use super::*;
use crate::peer::status::SessionPlace;
use crate::session::tracker::ExpiryPlace;

#[test]
fn a_session_that_is_not_applied_yet_cannot_be_resumed() {
    let mut w = World::new();
    w.begin(A);
    let session = w.proposed()[0].0.session;
    w.resume(B, session, 4000, true);
    assert!(matches!(w.told()[..], [(ShardId(1), ToShard::Resumed { conn: ConnId(22), session: None })]));
    w.resume(B, SessionId(77), 4000, true);
    assert!(matches!(w.told()[..], [(ShardId(1), ToShard::Resumed { session: None, .. })]));
}

#[test]
fn a_resumed_session_moves_and_the_old_connection_is_closed() {
    let mut w = World::new();
    let session = w.session(A);
    w.create(A, session, "/before", 0);
    w.resume(B, session, 8000, true);
    let told = w.told();
    assert!(matches!(told[..], [(ShardId(0), ToShard::Close { conn: ConnId(11) })]), "{told:?}");
    // Requests that the old connection still sends have no effect.
    w.create(A, session, "/after", 0);
    assert!(matches!(w.told()[..], [(ShardId(0), ToShard::Close { conn: ConnId(11) })]));
    w.close(A, session);
    // Its earlier proposals stand, and the new connection may not read before they are visible.
    let told = w.settle();
    assert!(
        matches!(
            told[..],
            [
                (ShardId(0), ToShard::Close { conn: ConnId(11) }),
                (ShardId(0), ToShard::Applied(_)),
                (ShardId(1), ToShard::Resumed { conn: ConnId(22), session: Some((s, 8000)) })
            ] if s == session
        ),
        "{told:?}"
    );
    w.create(B, session, "/mine", 1);
    assert!(matches!(w.settle()[..], [(ShardId(1), ToShard::Applied(_))]));
    assert_eq!(["/before", "/after", "/mine"].map(|p| w.is_there(p)), [true, false, true]);
}

#[test]
fn a_resumption_waits_for_its_own_session_only() {
    let mut w = World::new();
    let (mine, other) = (w.session(A), w.session(C));
    w.create(C, other, "/other", 0);
    w.resume(B, mine, 4000, true);
    assert!(matches!(
        w.told()[..],
        [(ShardId(0), ToShard::Close { conn: ConnId(11) }), (ShardId(1), ToShard::Resumed { .. })]
    ));
    w.settle();
    // Moved twice before anything is durable: both connections get answers, and the shard has closed the first one
    // meanwhile.
    w.create(B, mine, "/mine", 0);
    w.resume(A, mine, 4000, true);
    w.resume(B, mine, 4000, true);
    w.create(C, other, "/later", 0);
    assert!(matches!(
        w.told()[..],
        [(ShardId(0), ToShard::Close { conn: ConnId(11) }), (ShardId(1), ToShard::Close { conn: ConnId(22) })]
    ));
    let told = w.settle();
    let [
        (ShardId(0), ToShard::Applied(_)),
        (ShardId(0), ToShard::Resumed { session: Some(_), .. }),
        (ShardId(1), ToShard::Applied(_)),
        (ShardId(1), ToShard::Resumed { session: Some(_), .. }),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(w.is_there("/mine"));
}

#[test]
fn a_wrong_password_closes_the_live_connection_and_takes_nothing() {
    let mut w = World::new();
    let session = w.session(A);
    w.resume(B, session, 4000, false);
    assert!(matches!(
        w.told()[..],
        [(ShardId(0), ToShard::Close { conn: ConnId(11) }), (ShardId(1), ToShard::Resumed { session: None, .. })]
    ));
    w.resume(A, session, 4000, true);
    assert!(matches!(w.told()[..], [(ShardId(0), ToShard::Resumed { session: Some(_), .. })]), "nobody else is closed");
}

#[test]
fn a_session_expires_with_its_ephemerals_and_its_connection_is_closed() {
    let mut w = World::new();
    let session = w.session(A);
    w.create(A, session, "/e", 1);
    w.settle();
    w.proposed();
    let due = w.turn.deadline().unwrap();
    // Heard from at 100 000, rounded up to the tick, plus the time by which a report may be late.
    assert_eq!(due, 106_000 + i64::from(TICK / 4));
    w.tick_at(due - 1);
    assert!(w.proposed().is_empty());
    w.tick_at(due);
    let [(header, Txn::CloseSession { paths: Some(paths) })] = &w.proposed()[..] else { panic!() };
    assert_eq!((header.session, paths), (session, &vec!["/e".to_owned()]));
    // While the session is closing it cannot be resumed, and its writes are refused.
    w.resume(B, session, 4000, true);
    assert!(matches!(w.told()[..], [(ShardId(1), ToShard::Resumed { session: None, .. })]));
    w.create(A, session, "/late", 0);
    let told = w.settle();
    assert!(matches!(told[0], (ShardId(0), ToShard::Close { conn: ConnId(11) })), "{told:?}");
    assert_eq!((told.len(), code(&told[1].1)), (2, -112));
    assert!(!w.is_there("/e") && !w.is_there("/late"));
    assert_eq!(w.sessions(), 0);
    w.tick_at(due + 1_000_000);
    assert_eq!(w.peer().shared.stats.sessions_expired, 1);
}

#[test]
fn a_touch_that_was_on_its_way_saves_a_session() {
    let mut w = World::new();
    let session = w.session(A);
    // Heard just before its moment, reported an interval later, and read from the mailbox in the turn that would expire it.
    w.tick_at(106_000 + i64::from(TICK / 4) - 1);
    w.now.mono_ms += 1;
    w.shard(ToPeer::Touch { session, heard_ms: 105_999 });
    w.tick_at(108_000);
    assert!(w.proposed().is_empty());
    assert_eq!(w.turn.deadline(), Some(110_000 + i64::from(TICK / 4)));
}

#[test]
fn a_session_whose_connection_was_gone_before_it_was_there_expires() {
    let mut w = World::new();
    let session = w.session(A);
    w.tick_at(w.turn.deadline().unwrap());
    assert_eq!(w.proposed()[0].0.session, session);
    w.settle();
    assert_eq!(w.turn.deadline(), Some(160_000), "only the sweep's");
}

#[test]
fn closing_twice_is_harmless() {
    let mut w = World::new();
    let session = w.session(A);
    w.create(A, session, "/e", 1);
    w.close(A, session);
    w.close(A, session);
    w.create(A, session, "/late", 0);
    let told = w.settle();
    assert_eq!(told.iter().map(|(_, m)| code(m)).collect::<Vec<_>>(), [0, 0, 0, -112]);
    assert!(!w.is_there("/e"));
    // No message to close the connection is needed: the reply closes it.
    assert!(matches!(told[1].1, ToShard::Applied(Entry { outcome: Some((_, Outcome::Closed(_))), .. })));
}

#[test]
fn sessions_are_listed_in_pieces() {
    let mut w = World::new();
    let mut clients = [A, B, C].map(|client| (w.session(client), client));
    clients.sort_unstable_by_key(|(session, _)| *session);
    let [(first, _), (second, client), (third, _)] = clients;
    let piece = w.peer().list_sessions(SessionPlace::Global(None), 2);
    assert_eq!(piece.sessions.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [first, second]);
    assert!(piece.sessions.iter().all(|(at_ms, _)| *at_ms > w.now.mono_ms), "{piece:?}");
    assert_eq!(piece.next, Some(SessionPlace::Global(Some(second))));
    // The session after which the list goes on ends meanwhile.
    w.close(client, second);
    w.settle();
    let piece = w.peer().list_sessions(SessionPlace::Global(Some(second)), 2);
    assert_eq!((piece.sessions.len(), piece.sessions[0].1, piece.next), (1, third, None));
    assert_eq!(w.peer().list_sessions(SessionPlace::Global(None), usize::MAX).sessions.len(), 2);
    assert_eq!(w.peer().list_sessions(SessionPlace::Local(ExpiryPlace::default()), 2).sessions, []);
}

#[test]
fn a_sync_at_the_leader_is_answered_behind_what_was_proposed_before() {
    let mut w = World::new();
    let session = w.session(A);
    let sync = |client: Client, cxid| {
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let (auth, body) = ([].into(), Bytes::from_static(b"\0\0\0\x01/"));
        ToPeer::Sync(WriteRequest { session, cxid: Cxid(cxid), op: Op::SYNC, body, auth, moved: false, origin })
    };
    w.create(A, session, "/before", 0);
    w.shard(sync(A, 6));
    w.create(A, session, "/after", 0);
    assert!(w.told().is_empty());
    let last = w.applied().0;
    let told = w.settle();
    let zxids: Vec<(i64, bool)> = told
        .iter()
        .map(|(shard, told)| match told {
            ToShard::Applied(entry) if *shard == A.shard => (entry.zxid.0, false),
            ToShard::Synced { conn, zxid } if *conn == A.conn => (zxid.0, true),
            told => panic!("{told:?}"),
        })
        .collect();
    assert_eq!(zxids, [(last + 1, false), (last + 1, true), (last + 2, false)]);
    // Nothing was proposed: at once. But not to a connection that the session has left.
    w.shard(sync(A, 7));
    assert!(matches!(w.told()[..], [(_, ToShard::Synced { zxid, .. })] if zxid.0 == last + 2));
    w.resume(B, session, 4000, true);
    w.told();
    w.shard(sync(A, 8));
    assert!(matches!(w.told()[..], [(_, ToShard::Close { conn })] if conn == A.conn));
}
