//! How long transactions take to a learner.

use super::*;

impl Observer {
    /// Milliseconds and numbers of what came, is durable, and may be applied.
    fn took(&self) -> [(u64, u64); 3] {
        let txns = self.w.peer().status(&self.w.tree.read()).stats.txns;
        assert_eq!(txns.quorum.in_ms().count, 0, "only a leader counts quorums");
        [&txns.proposed, &txns.durable, &txns.committed].map(|took| (took.in_ms().sum, took.in_ms().count))
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
    assert_eq!(o.took(), [(0, 0); 3]);
    // Created at 0.
    o.w.now.wall_ms = 30;
    o.leader(&[FromLeader::Inform { zxid: z(2), txn: &create(z(2), SessionId(7), 2, "/a") }]);
    assert_eq!(o.took(), [(30, 1), (0, 0), (0, 0)]);
    o.w.now.wall_ms = 45;
    o.work();
    assert_eq!(o.took(), [(30, 1), (45, 1), (45, 1)]);
    // A clock that is behind the leader's.
    o.w.now.wall_ms = -1;
    o.inform(z(3), &create(z(3), SessionId(7), 3, "/b"));
    assert_eq!(o.took(), [(30, 1), (45, 1), (45, 1)]);
}
