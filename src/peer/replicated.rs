//! What a member of an ensemble keeps of its transactions for others: those that are proposed and not committed, and the newest
//! committed ones. A learner keeps them too: it may be the next leader. Mirrors `Leader.outstandingProposals` and the committed
//! log of `ZKDatabase`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::txnlog::recovery::Logged;
use crate::types::Zxid;
use crate::zab::handler::Outgoing;
use crate::zab::history::{History, HistoryLimits, is_next};

/// The transactions of a member's history that are in memory.
#[derive(Debug)]
pub(super) struct Replicated {
    limits: HistoryLimits,
    history: History,
    /// Proposed and not committed, in order.
    outstanding: VecDeque<Outgoing>,
    /// From here on this server's log is known to have every committed transaction and no others. Below a snapshot that an
    /// Apache server received, its log may have some that were never committed.
    chain: Zxid,
}

impl Replicated {
    /// After a start. The history ends at `last`; `recent` are its newest transactions, as recovery read them from the log, and
    /// `chain` is the snapshot that recovery began with.
    pub(super) fn recovered(
        limits: HistoryLimits,
        chain: Zxid,
        recent: impl IntoIterator<Item = Logged>,
        last: Zxid,
    ) -> Replicated {
        let mut history = History::new(limits, chain.min(last));
        for (at, Logged { zxid, payload }) in recent.into_iter().enumerate() {
            assert!(zxid <= last, "{zxid} was recovered, and the history ends at {last}");
            let before = history.last();
            // Those between the chain and the first one may not be among the newest: the first of an epoch does not tell.
            let follows = if at == 0 { zxid.0 == before.0 + 1 } else { is_next(before, zxid) };
            match follows {
                true => history.push(zxid, Bytes::from(payload)),
                false => history = History::new(limits, zxid),
            }
        }
        if history.last() != last {
            history = History::new(limits, last);
        }
        Replicated { limits, history, outstanding: VecDeque::new(), chain: chain.min(last) }
    }

    /// The committed ones.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// From which position on the log can be sent to others.
    pub(super) fn chain(&self) -> Zxid {
        self.chain
    }

    /// What the log should have could not be read from it: only what is in memory now, and what follows, can be sent.
    pub(super) fn log_is_unreadable(&mut self) {
        self.chain = self.history.base();
    }

    /// The next transaction is on its way to the log.
    pub(super) fn proposed(&mut self, zxid: Zxid, txn: Bytes) {
        let before = self.outstanding.back().map_or(self.history.last(), Outgoing::zxid);
        assert!(is_next(before, zxid), "{zxid} is proposed behind {before}");
        self.outstanding.push_back(Outgoing::new(zxid, txn));
    }

    /// What is proposed and not committed, in order.
    pub(super) fn outstanding(&self) -> &VecDeque<Outgoing> {
        &self.outstanding
    }

    /// Everything up to `upto` is committed.
    pub(super) fn committed(&mut self, upto: Zxid) {
        let last = self.outstanding.back().map_or(self.history.last(), Outgoing::zxid);
        assert!(upto <= last, "{upto} is committed, and only {last} was proposed");
        while let Some(outgoing) = self.outstanding.pop_front_if(|outgoing| outgoing.zxid() <= upto) {
            self.history.push(outgoing.zxid(), outgoing.txn().clone());
        }
    }

    /// This server leads the epoch of this zeroth zxid, and its history is committed.
    pub(super) fn begin_epoch(&mut self, zeroth: Zxid) {
        assert!(self.outstanding.is_empty(), "{zeroth} begins, and {:?} is not committed", self.outstanding.front());
        self.history.begin_epoch(zeroth);
    }

    /// The history is another one, which ends at `last`: a snapshot, or what was left by a truncation.
    pub(super) fn replaced(&mut self, last: Zxid) {
        assert!(self.outstanding.is_empty(), "{:?} belongs to another history", self.outstanding.front());
        self.history = History::new(self.limits, last);
        self.chain = last;
    }

    /// Asserts the invariants; `committed` and `appended` are those of the commit queue.
    pub(super) fn check(&self, committed: Zxid, appended: Zxid) {
        self.history.check();
        assert!(self.chain <= self.history.base(), "the log is known from {} on only", self.chain);
        let last = self.history.newest();
        assert!(last == committed || (last < committed && self.history.size().0 == 0), "{last} is not {committed}");
        let end = self.outstanding.back().map_or(committed, Outgoing::zxid);
        assert_eq!(end, appended, "what is outstanding does not end with what was appended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    fn at(counter: u32) -> Zxid {
        Zxid::new(Epoch(1), counter)
    }

    fn logged(counters: &[u32]) -> Vec<Logged> {
        counters.iter().map(|counter| Logged { zxid: at(*counter), payload: vec![1] }).collect()
    }

    fn recovered(chain: u32, recent: &[u32], last: u32) -> Replicated {
        let replicated = Replicated::recovered(HistoryLimits::default(), at(chain), logged(recent), at(last));
        replicated.check(at(last), at(last));
        replicated
    }

    #[test]
    fn a_start_remembers_what_it_has_read() {
        let r = recovered(4, &[5, 6], 6);
        assert_eq!((r.chain(), r.history().base(), r.history().last()), (at(4), at(4), at(6)));
        // More was replayed than is kept: the position before the first one is not known.
        let r = recovered(2, &[5, 6, 7], 7);
        assert_eq!((r.chain(), r.history().base(), r.history().size().0), (at(2), at(5), 2));
        // Here too, since the first of an epoch may follow any transaction.
        let first = Zxid::new(Epoch(2), 1);
        let recent = [Logged { zxid: first, payload: vec![1] }];
        let r = Replicated::recovered(HistoryLimits::default(), at(2), recent, first);
        assert_eq!((r.chain(), r.history().base(), r.history().size().0), (at(2), first, 0));
        let r = recovered(7, &[], 7);
        assert_eq!((r.chain(), r.history().base()), (at(7), at(7)));
    }

    #[test]
    fn what_is_committed_is_remembered_for_others() {
        let mut r = recovered(4, &[5], 5);
        for counter in [6, 7, 8] {
            r.proposed(at(counter), Bytes::from_static(b"txn"));
        }
        r.committed(at(7));
        assert_eq!((r.history().last(), r.outstanding().len()), (at(7), 1));
        r.check(at(7), at(8));
        r.committed(at(8));
        r.log_is_unreadable();
        assert_eq!(r.chain(), at(4));
        r.replaced(at(6));
        assert_eq!((r.history().base(), r.chain()), (at(6), at(6)));
        r.check(at(6), at(6));
    }

    #[test]
    #[should_panic(expected = "is proposed behind")]
    fn a_gap_is_a_bug() {
        recovered(4, &[5], 5).proposed(at(7), Bytes::from_static(b"txn"));
    }
}
