//! The clients of a member of an ensemble: their syncs, and what becomes of them when the member has no leader.

use super::*;
use crate::pipeline::messages::Service;

fn sync(xid: i32, path: Option<&str>) -> Vec<u8> {
    request(xid, Op::SYNC, &Request::Sync { path: path.map(Into::into) })
}

impl World {
    /// A shard of a member that has a leader.
    fn member() -> World {
        let mut w = World::new();
        w.handle(Input::Stream(ToShard::Suspend));
        assert!(matches!(w.submitted()[..], [ToPeer::Suspended { shard: ShardId(3) }]));
        w.serve();
        w
    }

    fn serve(&mut self) {
        self.handle(Input::Stream(ToShard::Serve(Service::Ensemble)));
    }

    fn synced(&mut self, conn: u64, zxid: i64) {
        self.handle(Input::Stream(ToShard::Synced { conn: ConnId(conn), zxid: Zxid(zxid) }));
    }

    /// What the peer core was sent of writes and syncs: the opcode and xid of each.
    fn sent(&mut self) -> Vec<(Op, i32)> {
        let sent = self.submitted().into_iter().filter_map(|message| match message {
            ToPeer::Write { request, .. } | ToPeer::Sync(request) => Some((request.op, request.cxid.0)),
            _ => None,
        });
        sent.collect()
    }

    /// Connections to be closed are closed.
    fn close_all(&mut self) -> usize {
        let closes = self.closes();
        closes.iter().for_each(|(conn, _)| self.handle(Input::Disconnected { conn: ConnId(*conn) }));
        self.submitted();
        closes.len()
    }
}

#[test]
fn a_sync_keeps_its_place_between_writes_and_reads() {
    let mut w = World::member();
    w.open(1);
    w.send(1, &[set(1, "/a"), sync(2, Some("/a")), set(3, "/a"), get(4, "/a", false), sync(5, None)].concat());
    assert_eq!(w.sent(), [(Op::SET_DATA, 1), (Op::SYNC, 2), (Op::SET_DATA, 3), (Op::SYNC, 5)]);
    // The stream goes past the sync before any read is answered: the sync shows what was applied when it was done.
    w.applied(1, 1, 3);
    w.synced(1, 3);
    w.applied(1, 3, 4);
    let got = w.got(1);
    assert_eq!(
        got.iter().map(|got| (got.xid, got.zxid, got.err)).collect::<Vec<_>>(),
        [(1, 3, 0), (2, 3, 0), (3, 4, 0)]
    );
    assert_eq!(got[1].body, b"\0\0\0\x02/a", "its path");
    // A sync behind a read is answered behind it.
    w.synced(1, 4);
    assert!(w.got(1).is_empty());
    w.handle(Input::Drained);
    let got = w.got(1);
    assert_eq!(got.iter().map(|got| (got.xid, got.zxid, got.err)).collect::<Vec<_>>(), [(4, 4, 0), (5, 4, 0)]);
    assert_eq!(got[1].body, (-1i32).to_be_bytes(), "it named no path");
    assert_eq!((w.shard.outstanding, w.shard.has_ready()), (0, false));
}

#[test]
fn a_write_waits_while_a_sync_holds_up_a_read_before_it() {
    let mut w = World::member();
    w.open(1);
    w.send(1, &[sync(1, Some("/")), get(2, "/a", false), set(3, "/a")].concat());
    assert_eq!(w.sent(), [(Op::SYNC, 1)], "the write could be applied before the read is answered");
    w.handle(Input::Drained);
    assert_eq!(w.sent(), []);
    w.synced(1, 2);
    w.handle(Input::Drained);
    assert_eq!((w.xids(1), w.sent()), (vec![1, 2], vec![(Op::SET_DATA, 3)]));
}

#[test]
fn a_sync_that_cannot_be_decoded_keeps_its_place_too() {
    let mut w = World::member();
    w.open(1);
    let mut broken = sync(1, Some("/a"));
    broken.splice(..4, 10i32.to_be_bytes());
    broken.truncate(14);
    w.send(1, &[broken, get(2, "/a", false)].concat());
    assert_eq!(w.sent(), [(Op::SYNC, 1)]);
    w.synced(1, 2);
    w.handle(Input::Drained);
    let got: Vec<(i32, i32)> = w.got(1).iter().map(|got| (got.xid, got.err)).collect();
    assert_eq!(got, [(1, ErrorCode::MarshallingError.code()), (2, 0)]);
}

#[test]
fn a_server_alone_answers_a_sync_by_itself() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &sync(1, Some("/a")));
    assert_eq!((w.xids(1), w.sent()), (vec![1], vec![]));
}

#[test]
fn nothing_is_left_of_a_sync_whose_connection_ends() {
    let mut w = World::member();
    w.open(1);
    w.send(1, &[sync(1, Some("/")), set(2, "/a"), close_session(3)].concat());
    // Its session expired, but the stream still has the answers.
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(1) }));
    w.synced(1, 2);
    w.applied(1, 2, 3);
    w.stream(1, 4, Outcome::Closed(World::reply(3, 4)));
    assert!(w.got(1).is_empty(), "the sync was left without an answer, so no later request has one");
    assert_eq!((w.close_all(), w.shard.outstanding), (1, 0));
    // And one whose connection breaks.
    w.open(2);
    w.send(2, &[set(1, "/a"), sync(2, Some("/"))].concat());
    w.handle(Input::Disconnected { conn: ConnId(2) });
    w.applied(2, 1, 5);
    w.synced(2, 5);
    w.handle(Input::Drained);
    assert_eq!((w.shard.outstanding, w.shard.weight(), w.shard.has_ready()), (0, 0, false));
}

#[test]
fn without_a_leader_every_client_is_disconnected_and_none_is_let_in() {
    let mut w = World::member();
    let session = w.open(1);
    // Requests without an answer, and a watch.
    w.send(1, &[get(1, "/a", true), set(2, "/a"), get(3, "/a", false), sync(4, None)].concat());
    assert_eq!(w.xids(1), [1]);
    // A handshake that waits for the peer core, one that has only begun, and a word.
    w.accept(2);
    w.send(2, &hello(SessionId::NONE, 10_000, 0, None));
    w.accept(3);
    w.send(3, &hello(SessionId::NONE, 10_000, 0, None)[..20]);
    w.accept(4);
    w.send(4, b"ruok");
    w.submitted();
    w.handle(Input::Stream(ToShard::Suspend));
    assert!(w.shard.is_suspended());
    let closes = w.closes();
    assert_eq!(closes, [(1, CloseHow::Flush), (2, CloseHow::Flush)], "sessions and who waits for one");
    assert!(matches!(w.submitted()[..], [ToPeer::Suspended { shard: ShardId(3) }]));
    // What was on its way to them has no effect.
    w.event(3, EventType::NodeDataChanged, "/a", None);
    w.send(1, &set(5, "/a"));
    assert!(w.got(1).is_empty() && w.sent().is_empty());
    closes.iter().for_each(|(conn, _)| w.handle(Input::Disconnected { conn: ConnId(*conn) }));
    assert!(matches!(w.submitted()[..], [ToPeer::Touch { session: s, .. }] if s == session), "it was alive until now");
    assert_eq!((w.shard.outstanding, w.shard.weight()), (0, 2), "no requests and no watches");
    // Words are answered all the same.
    w.handle(Input::WordAnswer { conn: ConnId(4), text: b"imok".to_vec() });
    assert_eq!((w.output(4), w.close_all()), (b"imok".to_vec(), 1));
    // Who comes now, with a session or without one, is closed without a word.
    w.send(3, &hello(SessionId::NONE, 10_000, 0, None)[20..]);
    w.accept(5);
    w.send(5, &hello(session, 10_000, 2, Some(false)));
    assert!(w.output(3).is_empty() && w.output(5).is_empty() && w.submitted().is_empty());
    assert_eq!((w.close_all(), w.shard.weight()), (2, 0));
    // With a leader the session goes on.
    w.serve();
    w.accept(6);
    w.send(6, &hello(session, 10_000, 2, Some(false)));
    assert!(matches!(w.submitted()[..], [ToPeer::Resume { session: s, passwd_matches: true, .. }] if s == session));
    w.handle(Input::Stream(ToShard::Resumed { conn: ConnId(6), session: Some((session, 10_000)) }));
    assert_eq!(ConnectResponse::read(&w.output(6)[4..]).unwrap().session, session);
    w.event(4, EventType::NodeDataChanged, "/a", None);
    assert!(w.got(6).is_empty(), "the watch was of another connection");
}

#[test]
fn a_server_that_is_suspended_again_disconnects_again() {
    let mut w = World::member();
    w.handle(Input::Stream(ToShard::Suspend));
    w.handle(Input::Stream(ToShard::Suspend));
    assert_eq!(w.submitted().len(), 2, "each is answered");
    w.serve();
    w.open(1);
    w.handle(Input::Stream(ToShard::Suspend));
    assert_eq!(w.closes(), [(1, CloseHow::Flush)]);
    // Who spoke in the same turn, before it was told, is not heard either.
    assert!(matches!(w.submitted()[..], [ToPeer::Suspended { .. }]));
}

#[test]
fn a_local_session_ends_behind_its_reads() {
    let mut w = World::member();
    w.open(1);
    w.send(1, &[set(1, "/a"), get(2, "/a", false), close_session(3), set(4, "/a")].concat());
    assert_eq!(w.sent(), [(Op::SET_DATA, 1), (Op::CLOSE_SESSION, 3), (Op::SET_DATA, 4)]);
    w.applied(1, 1, 3);
    w.handle(Input::Stream(ToShard::Closed { conn: ConnId(1), zxid: Zxid(3) }));
    assert_eq!(w.xids(1), [1]);
    w.handle(Input::Drained);
    let got: Vec<(i32, i64, i32)> = w.got(1).iter().map(|got| (got.xid, got.zxid, got.err)).collect();
    assert_eq!(got, [(2, 3, 0), (3, 3, 0)]);
    assert_eq!((w.close_all(), w.shard.outstanding), (1, 0), "what was sent behind it has no effect");
    // With nothing before it; and one whose connection is closed meanwhile.
    for closed in [false, true] {
        let conn = 2 + u64::from(closed);
        w.open(conn);
        w.send(conn, &close_session(1));
        if closed {
            w.handle(Input::Stream(ToShard::Close { conn: ConnId(conn) }));
        }
        w.handle(Input::Stream(ToShard::Closed { conn: ConnId(conn), zxid: Zxid(3) }));
        assert_eq!(w.xids(conn).len(), usize::from(!closed));
        assert_eq!((w.close_all(), w.shard.outstanding), (1, 0));
    }
    w.handle(Input::Stream(ToShard::Closed { conn: ConnId(3), zxid: Zxid(3) }));
}
