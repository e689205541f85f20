//! How long transactions take to an observer. It measures when they are committed and applied, as on Apache.

use super::*;

impl Observer {
    /// Milliseconds and numbers of what may be applied, and is.
    fn took(&self) -> [(u64, u64); 2] {
        let txns = self.w.peer().status(&self.w.tree.read()).stats.txns;
        for of_voters in [&txns.quorum, &txns.proposed, &txns.durable] {
            assert_eq!(of_voters.in_ms().count, 0, "an observer is only informed");
        }
        [&txns.committed, &txns.applied].map(|took| (took.in_ms().sum, took.in_ms().count))
    }
}

#[test]
fn transactions_are_timed_from_their_creation() {
    let mut o = Observer::new();
    o.connect();
    // What a synchronisation brings is not timed: it may be of any age.
    let old = create(z(1), SessionId(7), 1, "/old");
    o.leader(&[
        FromLeader::Diff(z(1)),
        FromLeader::Proposal { zxid: z(1), txn: &old },
        FromLeader::Commit(z(1)),
        FromLeader::NewLeader { zxid: z(0), config: None },
    ]);
    o.work();
    o.leader(&[FromLeader::UpToDate]);
    o.work();
    assert_eq!(o.took(), [(0, 0); 2]);
    // Created at 0.
    o.w.now.wall_ms = 30;
    o.leader(&[FromLeader::Inform { zxid: z(2), txn: &create(z(2), SessionId(7), 2, "/a") }]);
    assert_eq!(o.took(), [(0, 0), (0, 0)]);
    o.w.now.wall_ms = 45;
    o.work();
    assert_eq!(o.took(), [(45, 1), (45, 1)]);
    // A clock that is behind the leader's.
    o.w.now.wall_ms = -1;
    o.inform(z(3), &create(z(3), SessionId(7), 3, "/b"));
    assert_eq!(o.took(), [(45, 1), (45, 1)]);
}
