//! Transactions between proposal and application: how far they are in the log, and how far a quorum has them. Mirrors the queues of `SyncRequestProcessor` and `CommitProcessor`.

use std::collections::VecDeque;

use super::Append;
use crate::pipeline::prep::Proposal;
use crate::txn::TxnHeader;
use crate::types::{SessionId, Zxid};

/// Transactions that are proposed and not applied, in zxid order.
///
/// Always: applied ≤ durable ≤ appended and committed ≤ appended. What is applied next is committed by a quorum and durable on
/// this server too.
pub(super) struct CommitQueue {
    waiting: VecDeque<Proposal>,
    /// The newest transaction given to the log.
    appended: Zxid,
    /// The newest transaction the log has synced.
    durable: Zxid,
    /// The newest transaction that a quorum has.
    committed: Zxid,
}

impl CommitQueue {
    /// Nothing waits; the history ends at `last`.
    pub(super) fn new(last: Zxid) -> CommitQueue {
        CommitQueue { waiting: VecDeque::new(), appended: last, durable: last, committed: last }
    }

    /// Takes the next proposal: its record is for the log, the rest waits here.
    // Inlined: a proposal is large, and would be copied once more.
    #[inline(always)]
    pub(super) fn append(&mut self, mut proposal: Proposal) -> Append {
        let zxid = proposal.header.zxid;
        assert!(self.appended.precedes(zxid), "{zxid} is appended after {}", self.appended);
        assert!(!proposal.record.is_empty(), "{zxid} has no record");
        self.appended = zxid;
        // Applying needs only the decoded transaction. A second owner of the bytes would cost an allocation.
        let payload = std::mem::take(&mut proposal.record);
        self.waiting.push_back(proposal);
        Append { zxid, payload }
    }

    /// Those that wait of the transactions after `from`, up to `to`.
    pub(super) fn between(&self, from: Zxid, to: Zxid) -> impl Iterator<Item = &TxnHeader> {
        let after = |zxid: Zxid| self.waiting.partition_point(|p| p.header.zxid <= zxid);
        let (from, to) = (after(from), after(to));
        self.waiting.range(from..to.max(from)).map(|p| &p.header)
    }

    /// Everything up to `zxid` is durable on this server.
    pub(super) fn synced(&mut self, zxid: Zxid) {
        assert!(zxid <= self.appended, "{zxid} is durable, but only {} was appended", self.appended);
        assert!(zxid >= self.durable, "what is durable falls from {} to {zxid}", self.durable);
        self.durable = zxid;
    }

    /// Whether everything appended is durable on this server.
    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.appended
    }

    /// The newest transaction the log has synced.
    pub(super) fn durable(&self) -> Zxid {
        self.durable
    }

    /// The newest transaction given to the log.
    pub(super) fn appended(&self) -> Zxid {
        self.appended
    }

    /// A role is over: all that is durable is this server's history, which it votes for.
    pub(super) fn commit_all(&mut self) {
        assert!(self.is_durable(), "{} is durable, but {} was appended", self.durable, self.appended);
        self.committed = self.appended;
    }

    /// A quorum has everything up to `zxid`.
    pub(super) fn commit(&mut self, zxid: Zxid) {
        assert!(zxid <= self.appended, "{zxid} is committed, but only {} was proposed", self.appended);
        assert!(zxid > self.committed, "the commit point falls from {} to {zxid}", self.committed);
        self.committed = zxid;
    }

    /// The transaction to apply when the `applied` oldest ones are applied, if it is committed and durable.
    pub(super) fn ready(&self, applied: usize) -> Option<&Proposal> {
        self.waiting.get(applied).filter(|p| p.header.zxid <= self.due())
    }

    /// The newest transaction that may be applied.
    fn due(&self) -> Zxid {
        self.committed.min(self.durable)
    }

    /// Removes the `count` oldest transactions, which are applied.
    // Not one by one: to remove one moves it, which costs more than to free it.
    pub(super) fn remove(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1) else { return };
        assert!(self.ready(last).is_some(), "what is not ready is not applied");
        self.waiting.drain(..count);
    }

    /// The newest transaction of this session that is not applied.
    pub(super) fn last_of(&self, session: SessionId) -> Option<Zxid> {
        self.waiting.iter().rev().find(|p| p.header.session == session).map(|p| p.header.zxid)
    }

    /// The newest transaction that a quorum has.
    pub(super) fn committed(&self) -> Zxid {
        self.committed
    }

    /// Transactions that are not applied.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Their headers, oldest first.
    pub(super) fn headers(&self) -> impl Iterator<Item = &TxnHeader> {
        self.waiting.iter().map(|p| &p.header)
    }

    /// Asserts the invariants; `applied` is the tree's last transaction.
    pub(super) fn check(&self, applied: Zxid) {
        assert!(applied <= self.durable, "{applied} is applied, but only {} is durable", self.durable);
        assert!(applied <= self.committed, "{applied} is applied, but only {} is committed", self.committed);
        assert!(self.durable <= self.appended && self.committed <= self.appended);
        let mut last = applied;
        for header in self.headers() {
            assert!(last.precedes(header.zxid), "{last} then {}", header.zxid);
            last = header.zxid;
        }
        assert_eq!(last, self.appended, "what waits does not end with what was appended last");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "only 0x5 was appended")]
    fn what_was_never_appended_cannot_be_durable() {
        CommitQueue::new(Zxid(5)).synced(Zxid(6));
    }

    #[test]
    #[should_panic(expected = "only 0x5 was proposed")]
    fn what_was_never_proposed_cannot_be_committed() {
        CommitQueue::new(Zxid(5)).commit(Zxid(6));
    }
}
