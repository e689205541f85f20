//! Histories that a leader has an observer replace.

use super::*;

#[test]
fn a_leaders_snapshot_replaces_the_tree_and_a_truncation_what_comes_after() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.create(A, session, 5, "/x");
    o.inform(z(2), &create(z(2), SessionId(9), 5, "/ours"));
    // A snapshot of this tree is being written when the leader goes: it may not get its name later.
    o.w.mail.told.push_back(Input::SnapshotDue);
    o.turn();
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.connect();
    o.leader(&[FromLeader::Trunc(z(1))]);
    o.work();
    assert_eq!((o.w.applied(), o.w.is_there("/ours"), o.w.sessions()), (z(1), false, 1));
    assert_eq!(o.dropped, [z(2)]);
    let last = z(9);
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.connect();
    o.leader(&[FromLeader::Snap(last)]);
    for piece in image(last).chunks(50) {
        o.quorum(QuorumEvent::Bytes { conn: QUORUM, bytes: Bytes::copy_from_slice(piece) });
    }
    assert_eq!(o.w.applied(), z(1));
    o.work();
    assert_eq!((o.w.applied(), o.w.is_there("/x"), o.w.sessions()), (last, true, 1));
    assert_eq!(o.dropped, [z(2), z(1)]);
    let config = o.w.tree.read().get(path::CONFIG).and_then(|node| node.data().map(<[u8]>::to_vec));
    assert_eq!(config, Some(electorate().members.text().into_bytes()), "its own, not the leader's");
    o.leader(&[FromLeader::NewLeader { zxid: z(0), config: None }]);
    o.work();
    o.leader(&[FromLeader::UpToDate]);
    o.inform(z(10), &create(z(10), SessionId(9), 5, "/next"));
    assert_eq!((o.w.applied(), o.w.is_there("/next")), (z(10), true));
}

/// What it has sent behind that is read in the step in which the tree is replaced.
#[test]
fn a_leader_that_goes_wrong_behind_a_snapshot_is_left_in_the_same_step() {
    let mut o = Observer::new();
    o.connect();
    o.forget();
    let last = z(9);
    o.leader(&[FromLeader::Snap(last)]);
    o.quorum(QuorumEvent::Bytes { conn: QUORUM, bytes: image(last).into() });
    // NEWLEADER is not acknowledged yet.
    o.leader(&[FromLeader::NewLeader { zxid: z(0), config: None }, FromLeader::UpToDate]);
    o.work();
    assert_eq!(o.told.iter().filter(|(_, told)| matches!(told, ToShard::Suspend)).count(), 2);
    assert_eq!((o.w.applied(), o.epochs().current), (last, Epoch(1)));
    o.connect();
    assert_eq!(o.said.last().cloned().unwrap_or_default(), "AckEpoch { last: 0x100000009, current: None }");
}
