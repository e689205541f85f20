//! A server without a leader that serves reads: who is let in, and what is answered.

use super::*;
use crate::pipeline::messages::Service;
use crate::proto::CreateRequest;
use crate::proto::multi::{MultiOp, MultiReadOp};

/// NOTREADONLY.
const REFUSED: i32 = -119;

impl World {
    fn read_only() -> World {
        let mut w = World::new();
        w.handle(Input::Stream(ToShard::Suspend));
        w.handle(Input::Stream(ToShard::Serve(Service::ReadOnly)));
        assert!(matches!(w.submitted()[..], [ToPeer::Suspended { .. }]));
        w
    }

    /// A client that only reads has a session.
    fn reader(&mut self, conn: u64) -> SessionId {
        let session = SessionId(SESSION.0 + conn as i64);
        self.accept(conn);
        self.send(conn, &hello(SessionId::NONE, 10_000, 2, Some(true)));
        assert!(matches!(self.submitted()[..], [ToPeer::NewSession { timeout_ms: 10_000, .. }]));
        self.handle(Input::Stream(ToShard::Resumed { conn: ConnId(conn), session: Some((session, 10_000)) }));
        self.handle(Input::Drained);
        let answer = ConnectResponse::read(&self.output(conn)[4..]).unwrap();
        assert_eq!((answer.session, answer.read_only), (session, Some(true)));
        session
    }

    fn answers(&mut self, conn: u64) -> Vec<(i32, i64, i32)> {
        self.got(conn).iter().map(|got| (got.xid, got.zxid, got.err)).collect()
    }
}

fn create(xid: i32, op: Op, flags: i32) -> Vec<u8> {
    let ttl_ms = (op == Op::CREATE_TTL).then_some(1000);
    let acl = vec![Acl::world_all()].into();
    request(xid, op, &Request::Create(CreateRequest { path: "/x".into(), data: None, acl, flags, ttl_ms }))
}

/// A request whose body nobody can decode.
fn garbage(xid: i32, op: Op) -> Vec<u8> {
    [&9i32.to_be_bytes()[..], &xid.to_be_bytes(), &op.0.to_be_bytes(), &[0xff]].concat()
}

#[test]
fn only_clients_that_ask_for_no_more_than_reads_are_let_in() {
    let mut w = World::read_only();
    w.reader(1);
    for (conn, seen, read_only) in [(2, 2, Some(false)), (3, 2, None), (4, 3, Some(true))] {
        w.accept(conn);
        w.send(conn, &hello(SessionId::NONE, 10_000, seen, read_only));
        assert!(w.output(conn).is_empty() && w.submitted().is_empty(), "{read_only:?} {seen}");
        assert_eq!(w.closes(), [(conn, CloseHow::Flush)]);
        w.handle(Input::Disconnected { conn: ConnId(conn) });
    }
    // Sessions: one that does not exist, and one that goes on elsewhere.
    for (conn, answer) in [(5, Some(None)), (6, None)] {
        w.accept(conn);
        w.send(conn, &hello(SESSION, 10_000, 2, Some(true)));
        assert!(matches!(w.submitted()[..], [ToPeer::Resume { session: SESSION, passwd_matches: true, .. }]));
        let conn_id = ConnId(conn);
        w.handle(Input::Stream(match answer {
            Some(session) => ToShard::Resumed { conn: conn_id, session },
            None => ToShard::Close { conn: conn_id },
        }));
        let said = w.output(conn);
        assert_eq!(
            said.get(4..).map(|said| ConnectResponse::read(said).unwrap()),
            answer.map(|_| ConnectResponse::expired(Some(true)))
        );
        assert_eq!(w.closes(), [(conn, CloseHow::Flush)]);
    }
}

#[test]
fn writes_and_syncs_are_refused_where_they_stand_and_reads_are_answered() {
    let mut w = World::read_only();
    w.reader(1);
    let multi = Request::Multi(vec![MultiOp::Check { path: "/a".into(), version: 0 }]);
    let reads = Request::MultiRead(vec![MultiReadOp::GetData { path: "/a".into() }]);
    let delete = Request::Delete { path: "/a".into(), version: -1 };
    let all = [
        get(1, "/a", true),
        set(2, "/a"),
        create(3, Op::CREATE, 0),
        create(4, Op::CREATE, 1),
        create(5, Op::CREATE2, 0),
        create(6, Op::CREATE_CONTAINER, 4),
        create(7, Op::CREATE_TTL, 5),
        request(8, Op::DELETE, &delete),
        request(9, Op::MULTI, &multi),
        request(10, Op::MULTI_READ, &reads),
        request(11, Op::SYNC, &Request::Sync { path: Some("/a".into()) }),
        garbage(12, Op::SET_ACL),
        garbage(13, Op::RECONFIG),
        garbage(14, Op::SYNC),
        garbage(15, Op::DELETE_CONTAINER),
        get(16, "/nothing", false),
        ping(),
    ];
    w.send(1, &all.concat());
    let wanted = (1..=16).map(|xid| match xid {
        1 | 10 => (xid, 2, 0),
        16 => (xid, 2, ErrorCode::NoNode.code()),
        _ => (xid, 2, REFUSED),
    });
    assert_eq!(w.answers(1), wanted.chain([(xid::PING, 2, 0)]).collect::<Vec<_>>());
    assert!(w.submitted().is_empty() && w.closes().is_empty(), "no request leaves the shard");
    assert_eq!(w.shard.outstanding, 0);
}

#[test]
fn what_stands_behind_the_end_of_a_session_has_no_answer() {
    let mut w = World::read_only();
    w.reader(1);
    w.send(1, &[set(1, "/a"), close_session(2), set(3, "/a"), get(4, "/a", false)].concat());
    assert_eq!(w.writes(), [(2, false)], "only the peer core ends a session");
    assert_eq!(w.answers(1), [(1, 2, REFUSED)]);
    w.handle(Input::Stream(ToShard::Closed { conn: ConnId(1), zxid: Zxid(2) }));
    w.handle(Input::Drained);
    assert_eq!(w.answers(1), [(2, 2, 0)]);
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
}

#[test]
fn with_a_leader_its_clients_are_disconnected_and_writes_go_on() {
    let mut w = World::read_only();
    let session = w.reader(1);
    w.handle(Input::Stream(ToShard::Suspend));
    w.handle(Input::Stream(ToShard::Serve(Service::Ensemble)));
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    w.handle(Input::Disconnected { conn: ConnId(1) });
    assert!(matches!(w.submitted()[..], [ToPeer::Suspended { .. }]));
    // The same client comes again: it is a client like all others now.
    w.accept(2);
    w.send(2, &hello(session, 10_000, 2, Some(true)));
    assert!(matches!(w.submitted()[..], [ToPeer::Resume { .. }]));
    w.handle(Input::Stream(ToShard::Resumed { conn: ConnId(2), session: None }));
    assert_eq!(ConnectResponse::read(&w.output(2)[4..]).unwrap(), ConnectResponse::expired(Some(false)));
    w.accept(3);
    w.send(3, &hello(SessionId::NONE, 10_000, 2, Some(true)));
    w.submitted();
    w.handle(Input::Stream(ToShard::Resumed { conn: ConnId(3), session: Some((SESSION, 10_000)) }));
    assert_eq!(ConnectResponse::read(&w.output(3)[4..]).unwrap().read_only, Some(false));
    w.send(3, &set(1, "/a"));
    assert_eq!(w.writes(), [(1, false)]);
}
