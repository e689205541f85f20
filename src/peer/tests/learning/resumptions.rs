//! Sessions that come back to a learner, on another connection.

use super::*;

#[test]
fn the_leader_says_whether_a_session_exists() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.create(A, session, 5, "/before");
    let Client { shard, conn } = B;
    let resume = |session, passwd_matches| ToPeer::Resume { shard, conn, session, timeout_ms: 6000, passwd_matches };
    o.shard(resume(SessionId(77), false));
    assert!(matches!(o.told.pop(), Some((_, ToShard::Resumed { session: None, .. }))));
    o.said.clear();
    o.shard(resume(SessionId(77), true));
    o.shard(resume(session, true));
    assert_eq!(o.said, ["revalidate 0x4d 6000".into(), format!("revalidate {session} 6000")]);
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
    o.told.clear();
    o.leader(&[FromLeader::Revalidate { session: SessionId(77), valid: false }]);
    assert!(matches!(o.told[..], [(_, ToShard::Resumed { session: None, .. })]), "{:?}", o.told);
    o.told.clear();
    o.leader(&[FromLeader::Revalidate { session, valid: true }]);
    // Its earlier write comes first.
    assert!(!o.told.iter().any(|(_, told)| matches!(told, ToShard::Resumed { .. })), "{:?}", o.told);
    o.inform(z(2), &create(z(2), session, 5, "/before"));
    let resumed = o.told.pop();
    assert!(matches!(resumed, Some((ShardId(1), ToShard::Resumed { session: Some((s, 6000)), .. })) if s == session));
    // The connection that it left has no say any more.
    o.forget();
    o.create(A, session, 6, "/after");
    assert!(o.said.is_empty() && matches!(o.told[..], [(_, ToShard::Close { .. })]));
    o.create(B, session, 7, "/mine");
    assert_eq!(o.said.len(), 1);
}

/// The client may have written at another member since: an older write would come after a newer one.
#[test]
fn a_connection_that_is_left_writes_nothing_behind_the_request_for_its_session() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.forget();
    o.resume(B, session, true);
    o.create(A, session, 5, "/old");
    assert_eq!(o.said, [format!("revalidate {session} 6000")]);
    let closed =
        |o: &Observer| o.told.iter().all(|(_, told)| matches!(told, ToShard::Close { conn } if *conn == A.conn));
    assert!(o.told.len() == 2 && closed(&o), "{:?}", o.told);
    // Twice at once: only the newer connection gets it.
    o.resume(C, session, true);
    o.forget();
    o.leader(&[FromLeader::Revalidate { session, valid: true }]);
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == B.conn), "{:?}", o.told);
    o.forget();
    o.leader(&[FromLeader::Revalidate { session, valid: true }]);
    assert!(matches!(o.told[..], [(_, ToShard::Resumed { conn, session: Some(_) })] if conn == C.conn), "{:?}", o.told);
    o.create(B, session, 6, "/old");
    o.create(C, session, 7, "/new");
    assert_eq!(o.said, [format!("request {session} 7 {} Some(1)", Op::CREATE)]);
}
