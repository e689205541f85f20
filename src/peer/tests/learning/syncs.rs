//! Syncs of a learner's clients: the leader says when they are done, and they are answered when that is applied.

use super::*;

impl Observer {
    fn sync(&mut self, client: Client, session: SessionId, cxid: i32) {
        let origin = Origin::Local { shard: client.shard, conn: client.conn };
        let (auth, body, op) = ([Id::new("ip", "10.0.0.1")].into(), Bytes::from_static(b"\0\0\0\x01/"), Op::SYNC);
        self.shard(ToPeer::Sync(WriteRequest { session, cxid: Cxid(cxid), op, body, auth, moved: false, origin }));
    }

    /// What the shards were told of transactions and syncs: the zxid, and whether it was a sync.
    fn answers(&mut self) -> Vec<(Zxid, bool)> {
        let told = self.told.drain(..).filter_map(|(_, told)| match told {
            ToShard::Applied(entry) => Some((entry.zxid, false)),
            ToShard::Synced { zxid, .. } => Some((zxid, true)),
            _ => None,
        });
        told.collect()
    }
}

#[test]
fn a_sync_is_answered_between_what_it_shows_and_what_comes_later() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.create(A, session, 5, "/before");
    o.sync(A, session, 6);
    o.create(A, session, 7, "/after");
    let create_op = Op::CREATE;
    let forwarded = [(5, create_op), (6, Op::SYNC), (7, create_op)];
    assert_eq!(o.said, forwarded.map(|(cxid, op)| format!("request {session} {cxid} {op} Some(1)")));
    o.leader(&[
        FromLeader::Inform { zxid: z(2), txn: &create(z(2), session, 5, "/before") },
        FromLeader::Inform { zxid: z(3), txn: &create(z(3), SessionId(9), 5, "/other") },
        FromLeader::Sync,
        FromLeader::Inform { zxid: z(4), txn: &create(z(4), session, 7, "/after") },
    ]);
    assert!(o.answers().is_empty(), "nothing is durable here");
    o.work();
    assert_eq!(o.answers(), [(z(2), false), (z(3), true), (z(4), false)], "all three are applied in one burst");
    // With nothing to wait for it is done as soon as the leader says so.
    o.sync(A, session, 8);
    o.sync(A, session, 9);
    assert!(o.answers().is_empty());
    o.leader(&[FromLeader::Sync]);
    assert_eq!(o.answers(), [(z(4), true)]);
    o.leader(&[FromLeader::Sync]);
    assert_eq!(o.answers(), [(z(4), true)]);
}

#[test]
fn a_session_that_moved_gets_no_sync_on_its_old_connection() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.sync(A, session, 5);
    let Client { shard, conn } = B;
    o.shard(ToPeer::Resume { shard, conn, session, timeout_ms: 6000, passwd_matches: true });
    o.leader(&[FromLeader::Sync, FromLeader::Revalidate { session, valid: true }]);
    // The sync that was on its way is of the old connection, which is closed.
    assert!(matches!(o.told[0], (ShardId(0), ToShard::Close { conn }) if conn == A.conn), "{:?}", o.told);
    let synced = o.told.iter().filter(|(_, told)| matches!(told, ToShard::Synced { conn, .. } if *conn == A.conn));
    assert_eq!(synced.count(), 1);
    o.forget();
    o.sync(A, session, 6);
    assert!(o.said.is_empty() && matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn));
    o.forget();
    o.sync(B, session, 7);
    o.leader(&[FromLeader::Sync]);
    assert!(matches!(o.told[..], [(ShardId(1), ToShard::Synced { conn, .. })] if conn == B.conn), "{:?}", o.told);
}

#[test]
fn a_sync_does_not_outlive_its_role() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.sync(A, session, 5);
    o.create(A, session, 6, "/x");
    // The leader has answered one, but what it shows is not durable here.
    o.sync(A, session, 7);
    o.leader(&[
        FromLeader::Sync,
        FromLeader::Inform { zxid: z(2), txn: &create(z(2), session, 6, "/x") },
        FromLeader::Sync,
    ]);
    o.sync(A, session, 8);
    o.forget();
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.work();
    assert_eq!(o.w.applied(), z(2));
    assert!(o.answers().is_empty(), "its client is disconnected");
    o.join();
    let session = o.session(A, z(3));
    o.sync(A, session, 1);
    o.leader(&[FromLeader::Sync]);
    assert_eq!(o.answers(), [(z(3), true)]);
}
