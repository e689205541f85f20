//! Clients with bulky requests do not delay others: shares of a turn, and the queue of large writes.

use super::*;
use crate::limits::{LARGE_WRITE, LARGE_WRITES_IN_PIPELINE, MAX_UNANSWERED_BYTES, OUT_HIGH_WATER, TURN_REPLIES};
use crate::session::large_requests::LargeRequests;
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::types::Cxid;
use bytes::Bytes;

/// A world with a znode `/big` of `len` bytes and sessions on connections 1 to 4.
fn with_big(len: usize) -> World {
    let mut w = World::new(|o| o.throttles.large = Some(Arc::new(LargeRequests::new(0, -1))));
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(1), zxid: Zxid(1), time_ms: 1, op: Op::CREATE };
    let txn = Txn::Create(CreateTxn {
        path: "/big".into(),
        data: Some(Bytes::from(vec![7; len])),
        acl: None,
        kind: CreateKind::Plain { ephemeral: false },
        parent_cversion: 1,
    });
    assert_eq!(w.tree.apply(&header, &txn, &mut |_| ()).err, 0);
    w.zxid = 1;
    (1..=4).for_each(|conn| w.open(conn));
    w
}

fn get_big(xid: i32) -> Vec<u8> {
    request(xid, Op::GET_DATA, &Request::GetData { path: "/big".into(), watch: false })
}

fn xids(w: &mut World, conn: u64) -> Vec<i32> {
    w.replies(conn).iter().map(|(xid, _)| *xid).collect()
}

#[test]
fn who_asks_for_much_is_answered_a_piece_a_turn() {
    let mut w = with_big(TURN_REPLIES / 2 + 1);
    let many: Vec<u8> = (1..=6).flat_map(get_big).collect();
    w.data(1, &many);
    w.data(2, &many);
    w.get(3, 1);
    // The first two fill the turn. The first request of a connection is always answered, since nobody knows yet how
    // large its replies are.
    assert_eq!([xids(&mut w, 1), xids(&mut w, 2), xids(&mut w, 3)], [vec![1, 2], vec![1], vec![1]]);
    for turn in 0..2 {
        assert!(w.shard.has_ready());
        w.turn();
        w.get(3, 2 + turn);
        assert_eq!(xids(&mut w, 3), [2 + turn], "small replies do not wait");
        assert_eq!([xids(&mut w, 1), xids(&mut w, 2)].map(|x| x.len()).iter().sum::<usize>(), 2);
    }
    while w.shard.has_ready() {
        w.turn();
        w.replies(1);
        w.replies(2);
    }
    w.data(1, &get_big(7));
    assert_eq!(xids(&mut w, 1), [7], "a new turn");
}

#[test]
fn answers_in_turns_keep_their_order_behind_a_write() {
    let mut w = with_big(TURN_REPLIES + 1);
    w.set(1, 1);
    (2..=4).for_each(|xid| w.data(1, &get_big(xid)));
    w.answer();
    w.set(1, 5);
    let mut got = xids(&mut w, 1);
    while w.shard.has_ready() {
        assert!(w.in_pipeline().is_empty() || got == [1, 2, 3, 4], "the write is taken behind the reads");
        w.turn();
        got.extend(xids(&mut w, 1));
    }
    assert_eq!(got, [1, 2, 3, 4]);
    assert_eq!(w.in_pipeline(), [(1, 5)]);
}

#[test]
fn large_writes_go_one_after_the_other_and_small_ones_between() {
    let mut w = with_big(0);
    let len = LARGE_WRITES_IN_PIPELINE - 1000;
    for conn in 1..=3 {
        w.data(conn, &set(1, len));
    }
    w.set(4, 1);
    assert_eq!(w.in_pipeline(), [(1, 1), (4, 1)]);
    assert!(w.shard.deadline().is_some(), "another shard's may be in the way");
    w.answer();
    assert_eq!(w.in_pipeline(), [(4, 1), (2, 1)]);
    // A new write queues behind those that wait, even if the pipeline is free.
    w.data(1, &set(2, len));
    w.answer();
    w.answer();
    assert_eq!(w.in_pipeline(), [(3, 1)]);
    w.step(Input::Disconnected { conn: ConnId(3) });
    w.turn();
    assert_eq!(w.in_pipeline(), [(3, 1)], "what was taken is done, and counts until then");
    w.answer();
    assert_eq!(w.in_pipeline(), [(1, 2)]);
    w.answer();
    assert_eq!(w.in_pipeline(), []);
}

#[test]
fn several_large_writes_go_together_while_they_fit() {
    let mut w = with_big(0);
    let len = LARGE_WRITES_IN_PIPELINE / 3;
    for conn in 1..=4 {
        w.data(conn, &set(1, len));
    }
    assert_eq!(w.in_pipeline(), [(1, 1), (2, 1)]);
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 1), (3, 1)]);
    w.answer();
    assert_eq!(w.in_pipeline(), [(3, 1), (4, 1)]);
}

#[test]
fn who_waits_with_a_large_write_and_leaves_is_forgotten() {
    let mut w = with_big(0);
    for conn in 1..=3 {
        w.data(conn, &set(1, LARGE_WRITES_IN_PIPELINE - 1000));
    }
    w.step(Input::Disconnected { conn: ConnId(2) });
    w.answer();
    assert_eq!(w.in_pipeline(), [(3, 1)]);
}

#[test]
fn a_large_write_that_is_not_whole_yet_is_read_on_while_others_are_in_work() {
    let mut w = with_big(0);
    w.data(1, &set(1, 2 * LARGE_WRITE));
    w.data(2, &set(1, LARGE_WRITES_IN_PIPELINE - 1000));
    let third = set(1, LARGE_WRITES_IN_PIPELINE - 1000);
    let (head, tail) = third.split_at(third.len() - 1);
    w.data(3, head);
    assert!(!w.pauses.contains(&(3, true)), "its end would never come");
    w.data(3, tail);
    w.data(3, &[0; 100]);
    assert!(w.pauses.contains(&(3, true)), "now it waits");
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 1)]);
    w.answer();
    assert_eq!(w.in_pipeline(), [(3, 1)]);
}

#[test]
fn a_connection_has_about_a_megabyte_of_requests_taken() {
    let mut w = with_big(0);
    let len = MAX_UNANSWERED_BYTES / 20;
    for xid in 1..=50 {
        w.data(1, &set(xid, len));
    }
    assert!((20..=21).contains(&w.in_pipeline().len()), "{:?}", w.in_pipeline());
    while !w.in_pipeline().is_empty() {
        w.answer();
    }
    assert_eq!(xids(&mut w, 1), (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_write_waits_behind_reads_whose_replies_are_large() {
    let mut w = with_big(OUT_HIGH_WATER + 1);
    w.set(1, 1);
    w.data(1, &get_big(2));
    w.set(1, 3);
    assert_eq!(w.in_pipeline(), [(1, 1)], "both replies would have to be kept when the second write is applied");
    w.set(2, 1);
    w.get(2, 2);
    w.set(2, 3);
    assert_eq!(w.in_pipeline(), [(1, 1), (2, 1), (2, 3)], "small ones do not matter");
    w.answer();
    w.turn();
    assert_eq!(xids(&mut w, 1), [1, 2]);
    w.turn();
    assert!(w.in_pipeline().contains(&(1, 3)));
}
