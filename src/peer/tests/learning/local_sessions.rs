//! Local sessions of a learner's clients: the leader hears of one when it becomes a global session.

use super::*;

impl Observer {
    fn with_local_sessions(upgrading: bool) -> Observer {
        let mut o = Observer::changed(Zxid::ZERO, |peer, now| {
            peer.with_local_sessions(Some(LocalSessionOptions { upgrading }), now)
        });
        o.join();
        o
    }

    /// A client has a local session.
    pub(super) fn local(&mut self, client: Client) -> SessionId {
        let Client { shard, conn } = client;
        self.shard(ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() });
        let told = self.told.pop();
        let Some((at, ToShard::Resumed { conn: to, session: Some((session, 4000)) })) = told else {
            panic!("{told:?}")
        };
        assert_eq!((at, to), (shard, conn));
        assert!(self.said.is_empty(), "{:?}", self.said);
        session
    }

    fn request(&mut self, client: Client, session: SessionId, cxid: i32, op: Op, request: &Request<'_>) {
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let (auth, body) = ([Id::new("ip", "10.0.0.1")].into(), request.body(op).into());
        let request = WriteRequest { session, cxid: Cxid(cxid), op, body, auth, moved: false, origin };
        self.shard(ToPeer::Write { request, behind_read: false, large: None });
    }

    fn ephemeral(&mut self, client: Client, session: SessionId, cxid: i32) {
        let acl = vec![Acl::world_all()].into();
        let create = CreateRequest { path: "/e".into(), data: None, acl, flags: 1, ttl_ms: None };
        self.request(client, session, cxid, Op::CREATE, &Request::Create(create));
    }

    pub(super) fn close(&mut self, client: Client, session: SessionId, cxid: i32) {
        self.request(client, session, cxid, Op::CLOSE_SESSION, &Request::CloseSession);
    }

    pub(super) fn resume(&mut self, client: Client, session: SessionId, passwd_matches: bool) {
        let Client { shard, conn } = client;
        self.shard(ToPeer::Resume { shard, conn, session, timeout_ms: 6000, passwd_matches });
    }

    pub(super) fn local_sessions(&self) -> usize {
        self.w.peer().status(&self.w.tree.read()).local_sessions.unwrap_or(0)
    }
}

#[test]
fn a_local_session_writes_and_ends_without_a_word_to_the_leader() {
    let mut o = Observer::with_local_sessions(true);
    let session = o.local(A);
    assert_eq!((session.0 >> 56, o.local_sessions(), o.w.sessions()), (ME.0, 1, 0));
    o.create(A, session, 1, "/x");
    assert_eq!(o.said, [format!("request {session} 1 {} Some(1)", Op::CREATE)]);
    // It ends behind its write, and what comes after that has no effect.
    o.said.clear();
    o.close(A, session, 2);
    o.create(A, session, 3, "/late");
    assert!(o.said.is_empty() && o.told.is_empty(), "{:?} {:?}", o.said, o.told);
    o.inform(z(1), &create(z(1), session, 1, "/x"));
    let [(ShardId(0), ToShard::Applied(entry)), (ShardId(0), ToShard::Closed { conn, zxid })] = &o.told[..] else {
        panic!("{:?}", o.told)
    };
    assert_eq!((entry.zxid, *conn, *zxid, o.local_sessions()), (z(1), A.conn, z(1), 0));
    // With nothing before it, at once. No PING names a local session.
    o.forget();
    let session = o.local(B);
    o.shard(ToPeer::Touch { session, heard_ms: o.w.now.mono_ms });
    o.leader(&[FromLeader::Ping(z(1))]);
    assert_eq!(o.said, ["ping []"]);
    o.forget();
    o.close(B, session, 1);
    assert!(matches!(o.told[..], [(ShardId(1), ToShard::Closed { conn, zxid })] if (conn, zxid) == (B.conn, z(1))));
    assert!(o.said.is_empty());
}

#[test]
fn a_local_session_ends_behind_its_sync() {
    let mut o = Observer::with_local_sessions(true);
    let session = o.local(A);
    let origin = Origin::Local { shard: A.shard, conn: A.conn };
    let (auth, body, op) = ([].into(), Bytes::from_static(b"\0\0\0\x01/"), Op::SYNC);
    o.shard(ToPeer::Sync(WriteRequest { session, cxid: Cxid(1), op, body, auth, moved: false, origin }));
    o.close(A, session, 2);
    assert!(o.told.is_empty(), "{:?}", o.told);
    o.leader(&[FromLeader::Sync]);
    assert!(matches!(o.told[..], [(_, ToShard::Synced { .. }), (_, ToShard::Closed { .. })]), "{:?}", o.told);
}

#[test]
fn a_local_session_expires_here() {
    let mut o = Observer::with_local_sessions(true);
    let (quiet, heard) = (o.local(A), o.local(B));
    let begin_ms = o.w.now.mono_ms;
    o.w.now.mono_ms += 4000;
    o.shard(ToPeer::Touch { session: heard, heard_ms: begin_ms + 4000 });
    while o.local_sessions() == 2 {
        assert!(o.w.now.mono_ms < begin_ms + 4000 + 2 * i64::from(TICK), "it never expires");
        // The leader is there.
        o.leader(&[FromLeader::Ping(z(0))]);
        o.w.now.mono_ms += 100;
        o.turns();
    }
    assert!(o.w.now.mono_ms > begin_ms + 4000);
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
    assert!(o.said.iter().all(|said| said == "ping []"), "{:?}", o.said);
    // Its id means nothing any more: the leader is asked.
    o.forget();
    o.resume(C, quiet, true);
    assert_eq!(o.said, [format!("revalidate {quiet} 6000")]);
}

#[test]
fn a_local_session_goes_on_at_this_server_only() {
    let mut o = Observer::with_local_sessions(true);
    let session = o.local(A);
    o.create(A, session, 1, "/before");
    o.said.clear();
    o.resume(C, session, false);
    assert!(matches!(
        o.told[..],
        [(_, ToShard::Close { conn: old }), (_, ToShard::Resumed { session: None, .. })] if old == A.conn
    ));
    o.forget();
    o.resume(B, session, true);
    assert!(!o.told.iter().any(|(_, told)| matches!(told, ToShard::Resumed { .. })), "its write is not applied");
    o.inform(z(1), &create(z(1), session, 1, "/before"));
    assert!(
        matches!(o.told.last(), Some((ShardId(1), ToShard::Resumed { session: Some((s, 6000)), .. })) if *s == session)
    );
    assert!(o.said.is_empty(), "{:?}", o.said);
    o.forget();
    o.create(A, session, 2, "/after");
    assert!(o.said.is_empty() && matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn));
    // With the leader they are gone.
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.work();
    assert_eq!(o.local_sessions(), 0);
    o.join();
    o.resume(B, session, true);
    assert_eq!(o.said, [format!("revalidate {session} 6000")]);
}

#[test]
fn the_first_ephemeral_makes_a_local_session_a_global_one() {
    let mut o = Observer::with_local_sessions(true);
    let session = o.local(A);
    o.create(A, session, 0, "/x");
    o.ephemeral(A, session, 1);
    o.ephemeral(A, session, 2);
    let (create_op, session_op) = (Op::CREATE, Op::CREATE_SESSION);
    let all =
        [(0, create_op, "Some(1)"), (0, session_op, "None"), (1, create_op, "Some(1)"), (2, create_op, "Some(1)")];
    assert_eq!(o.said, all.map(|(cxid, op, ids)| format!("request {session} {cxid} {op} {ids}")), "once, and first");
    assert_eq!(o.local_sessions(), 0);
    let create_session = Txn::CreateSession { timeout_ms: 4000 };
    o.inform(z(1), &create(z(1), session, 0, "/x"));
    o.inform(z(2), &transaction(z(2), session, 0, session_op, &create_session));
    assert_eq!(o.told.len(), 1, "its client has had its session for long: {:?}", o.told);
    let kind = CreateKind::Plain { ephemeral: true };
    let txn = Txn::Create(CreateTxn { path: "/e".into(), data: None, acl: None, kind, parent_cversion: -1 });
    o.inform(z(3), &transaction(z(3), session, 1, create_op, &txn));
    let exists = Txn::Error { err: ErrorCode::NodeExists.code() };
    o.inform(z(4), &transaction(z(4), session, 2, Op::ERROR, &exists));
    assert_eq!(o.told.iter().map(|(_, told)| code(told)).collect::<Vec<_>>(), [0, 0, ErrorCode::NodeExists.code()]);
    assert_eq!(o.w.sessions(), 1);
    // From now on it is like all global sessions.
    o.forget();
    o.leader(&[FromLeader::Ping(z(4))]);
    assert_eq!(o.said, [format!("ping [({session:?}, 4000)]")]);
    o.forget();
    o.close(A, session, 3);
    assert_eq!(o.said, [format!("request {session} 3 {} Some(1)", Op::CLOSE_SESSION)]);
}

#[test]
fn without_upgrading_a_local_session_gets_no_ephemerals() {
    let mut o = Observer::with_local_sessions(false);
    let session = o.local(A);
    o.ephemeral(A, session, 1);
    assert_eq!(o.said.len(), 1, "the leader refuses it in its order");
    let expired = Txn::Error { err: ErrorCode::SessionExpired.code() };
    o.inform(z(1), &transaction(z(1), session, 1, Op::ERROR, &expired));
    assert_eq!(code(&o.told[0].1), ErrorCode::EphemeralOnLocalSession.code(), "this server knows why");
    assert_eq!(o.local_sessions(), 1);
    o.create(A, session, 2, "/x");
    o.inform(z(2), &create(z(2), session, 2, "/x"));
    assert_eq!(code(&o.told[1].1), 0);
}
