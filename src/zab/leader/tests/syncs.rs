//! Syncs that learners pass on for their clients.

use super::*;

#[test]
fn a_sync_is_answered_behind_what_was_outstanding() {
    let mut three = Three::established();
    let done = |server, counter| Want::SyncDone { conn: ConnId(server), behind: zxid(counter) };
    three.leader.sync_asked(ConnId(1), &mut three.wants);
    assert_eq!(three.wants(), [done(1, 0)]);
    three.proposes(2);
    three.leader.sync_asked(ConnId(2), &mut three.wants);
    three.proposes(1);
    three.leader.sync_asked(ConnId(1), &mut three.wants);
    three.leader.sync_asked(ConnId(2), &mut three.wants);
    three.leader.synced(zxid(3), &mut three.wants);
    assert_eq!((three.wants(), three.acks(1, 1)), (vec![], vec![]));
    assert_eq!(three.acks(2, 2), [commit(1)]);
    assert_eq!(three.acks(1, 3), [commit(2), done(2, 2)]);
    three.leader.closed(ConnId(1));
    three.joined(4);
    assert_eq!(three.acks(2, 3), []);
    assert_eq!(three.acks(4, 3), [commit(3), done(2, 3)]);
}

#[test]
fn a_sync_is_answered_before_what_came_after_it_is_committed() {
    let mut three = Three::established();
    three.proposes(1);
    three.leader.sync_asked(ConnId(1), &mut three.wants);
    three.proposes(2);
    three.leader.synced(zxid(3), &mut three.wants);
    let done = Want::SyncDone { conn: ConnId(1), behind: zxid(1) };
    assert_eq!(three.acks(2, 3), []);
    assert_eq!(three.acks(1, 3), [commit(1), done, commit(3)]);
}
