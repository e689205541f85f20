//! Writes on their way from a shard to the tree and back.

use super::*;
use crate::types::{Epoch, ErrorCode, ShardId};
use crate::watch::{Kind, WatchTable};

#[test]
fn nothing_is_applied_before_it_is_durable() {
    let mut w = World::new();
    w.begin(A);
    assert!(!w.peer().has_work());
    w.turn();
    assert_eq!((w.applied().0, w.told().len(), w.proposed().len()), (0, 0, 1));
    assert_eq!(w.sessions(), 0);
    w.sync();
    assert_eq!((w.applied().0, w.told().len()), (1, 1));
    assert_eq!(w.sessions(), 1);
    assert!(w.peer().is_idle());
}

#[test]
fn refusals_keep_their_zxids_and_digests_agree() {
    let mut w = World::new();
    let session = w.session(A);
    let paths = ["/a", "/a", "/none/x", "bad", "/a/b"];
    paths.iter().for_each(|path| w.create(A, session, path, 0));
    let zxids: Vec<i64> = w.proposed().iter().map(|(h, _)| h.zxid.0).collect();
    assert_eq!(zxids, [2, 3, 4, 5, 6]);
    let codes: Vec<i32> = w.settle().iter().map(|(_, m)| code(m)).collect();
    assert_eq!(codes, [0, -110, -101, -8, 0]);
    assert_eq!(w.applied(), Zxid(6));
    assert_eq!(w.peer().shared.stats.digest_mismatches, 0);
    let tree = w.tree.read();
    assert_eq!(tree.digest(), tree.recompute_digest());
}

#[test]
fn a_write_behind_a_read_waits_for_its_shard_and_holds_up_what_follows() {
    let mut w = World::new();
    let (a, b) = (w.session(A), w.session(B));
    let last = w.applied();
    [0, 1].into_iter().for_each(|shard| w.shard_answers(shard));
    w.create(A, a, "/1", 0);
    w.write(A, a, Op::DELETE, &Request::Delete { path: "/1".into(), version: -1 }, true);
    w.create(B, b, "/2", 0);
    w.sync();
    let first = last.next().unwrap();
    assert_eq!(w.applied(), first, "shard 0 has an outcome it has not answered at");
    assert!(w.peer().has_work());
    w.turn();
    assert_eq!(w.applied(), first);
    w.shard_answers(1);
    w.turn();
    assert_eq!(w.applied(), first, "another shard's cursor is no help");
    w.shard_answers(0);
    w.turn();
    assert_eq!(w.applied(), Zxid(first.0 + 2));
}

#[test]
fn events_go_only_to_shards_that_watch() {
    let mut w = World::new();
    let session = w.session(A);
    let mut table = WatchTable::new(ShardId(1), w.interest.clone());
    w.create(A, session, "/a", 0);
    assert_eq!(w.settle().iter().map(|(s, _)| *s).collect::<Vec<_>>(), [ShardId(0)]);
    table.add(Kind::Child, "/a", ConnId(1));
    w.create(A, session, "/a/b", 0);
    let told = w.settle();
    let [(ShardId(0), ToShard::Applied(_)), (ShardId(1), ToShard::Applied(Entry { outcome: None, events, zxid }))] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((events.len(), &*events[0].path, *zxid), (1, "/a", w.applied()));
}

#[test]
fn a_burst_of_applying_ends_and_goes_on() {
    let mut w = World::new();
    let session = w.session(A);
    for i in 0..limits::APPLY_BURST + 3 {
        w.create(A, session, &format!("/n{i}"), 0);
    }
    let before = w.applied().0;
    w.sync();
    let burst = limits::APPLY_BURST as i64;
    assert_eq!((w.applied().0 - before, w.peer().has_work()), (burst, true));
    w.turn();
    assert_eq!((w.applied().0 - before, w.peer().has_work()), (burst + 3, false));
}

#[test]
fn a_used_up_epoch_is_followed_by_the_next() {
    let mut w = World::on(tree_at(Zxid::new(Epoch(1), u32::MAX - 1)), &[]);
    [A, C].into_iter().for_each(|client| w.begin(client));
    let zxids: Vec<Zxid> = w.proposed().iter().map(|(h, _)| h.zxid).collect();
    assert_eq!(zxids, [Zxid::new(Epoch(1), u32::MAX), Zxid::new(Epoch(2), 1)]);
    assert_eq!(w.settle().len(), 2);
    assert_eq!(w.applied(), zxids[1]);
}

#[test]
fn a_request_numbered_0_is_not_answered_by_the_servers_own_close() {
    let mut w = World::new();
    let session = w.session(A);
    w.tick_at(w.turn.deadline().unwrap());
    let origin = Origin::Local { shard: A.shard, conn: A.conn };
    let body = Request::Delete { path: "/x".into(), version: -1 }.body(Op::DELETE).into();
    let (op, auth) = (Op::DELETE, [].into());
    let request = WriteRequest { session, cxid: Cxid(0), op, body, auth, moved: false, origin };
    w.shard(ToPeer::Write { request, behind_read: false, large: None });
    let told = w.settle();
    assert!(matches!(told[0].1, ToShard::Close { conn: ConnId(11) }), "{told:?}");
    assert_eq!((told.len(), code(&told[1].1)), (2, ErrorCode::SessionExpired.code()));
}
