//! The newest committed proposals, in memory, for learners that missed only a few. Mirrors the committed log of
//! `ZKDatabase`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::Zxid;

/// How much a [`History`] keeps. The older proposals are forgotten when either limit is exceeded.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimits {
    /// Number of proposals (`zookeeper.commitLogCount`, 500 unless set).
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits { count: 500, bytes: crate::limits::HISTORY_BYTES }
    }
}

/// A committed proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The transaction's zxid.
    pub zxid: Zxid,
    /// Header, transaction and digest, as in a PROPOSAL and at the beginning of a log record.
    pub txn: Bytes,
}

/// The end of the committed history, without a gap.
///
/// A *position* is a zxid at which a history can end: that of a transaction, or the zeroth of an epoch, which no
/// transaction has and which means the state in which that epoch began. What follows a position that is not older than
/// [`History::base`] is all here.
#[derive(Debug)]
pub struct History {
    limits: HistoryLimits,
    /// The position before the first proposal that is kept.
    base: Zxid,
    kept: VecDeque<Committed>,
    bytes: usize,
    /// The last position: the newest transaction, or the zeroth zxid of an epoch in which nothing was committed yet.
    last: Zxid,
}

impl History {
    /// Nothing is kept yet; the history ends at `base`.
    pub fn new(limits: HistoryLimits, base: Zxid) -> History {
        // -1: there is none, and only a leader's snapshot begins one.
        assert!(base >= Zxid::NONE, "a history ends at {base}");
        assert!(limits.count > 0, "a history that keeps nothing");
        History { limits, base, kept: VecDeque::new(), bytes: 0, last: base }
    }

    /// The oldest position whose successors are all here.
    pub fn base(&self) -> Zxid {
        self.base
    }

    /// The last position.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The newest transaction, as far as it is known: [`History::base`] if nothing is kept. Unlike [`History::last`] it is
    /// not moved by a new epoch.
    pub fn newest(&self) -> Zxid {
        self.kept.back().map_or(self.base, |committed| committed.zxid)
    }

    /// Number of proposals that are kept, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }

    /// An epoch begins whose leader has this history; `zeroth` is the epoch's zeroth zxid.
    ///
    /// # Panics
    /// If `zeroth` has a counter or does not move the end forward.
    pub fn begin_epoch(&mut self, zeroth: Zxid) {
        assert_eq!(zeroth.counter(), 0, "{zeroth} begins no epoch");
        assert!(zeroth > self.last, "the epoch of {zeroth} begins behind {}", self.last);
        self.last = zeroth;
    }

    /// Adds the next committed proposal, and forgets old ones if there are too many.
    ///
    /// # Panics
    /// If it is not the next one: a learner would be sent a history with a gap.
    pub fn push(&mut self, zxid: Zxid, txn: Bytes) {
        assert!(is_next(self.last, zxid), "{zxid} is committed behind {}", self.last);
        assert!(!txn.is_empty(), "the proposal of {zxid} is empty");
        self.bytes += cost(&txn);
        self.kept.push_back(Committed { zxid, txn });
        self.last = zxid;
        while self.kept.len() > self.limits.count || self.bytes > self.limits.bytes {
            let Some(oldest) = self.kept.pop_front() else { break };
            assert!(oldest.zxid > self.base, "{} was kept behind {}", oldest.zxid, self.base);
            self.base = oldest.zxid;
            self.bytes -= cost(&oldest.txn);
        }
        assert!(self.base <= self.newest() && self.newest() == zxid, "{zxid} is not the newest");
    }

    /// The newest transaction that is not newer than `zxid`, or [`History::base`]; `None` if that is not known because
    /// `zxid` is older.
    pub fn nearest(&self, zxid: Zxid) -> Option<Zxid> {
        if zxid < self.base {
            return None;
        }
        let behind = self.kept.partition_point(|committed| committed.zxid <= zxid);
        let nearest = behind.checked_sub(1).map_or(self.base, |at| self.kept[at].zxid);
        assert!(nearest <= zxid, "{nearest} is newer than {zxid}");
        Some(nearest)
    }

    /// Whether `zxid` is a position of this history and everything behind it is here. The zeroth zxid of an epoch always
    /// is one, also of an epoch whose beginning this server did not see.
    pub fn has_position(&self, zxid: Zxid) -> bool {
        self.nearest(zxid).is_some_and(|nearest| nearest == zxid || zxid.counter() == 0)
    }

    /// The proposals behind a position, oldest first.
    ///
    /// # Panics
    /// If some of them are not here.
    pub fn after(&self, position: Zxid) -> impl ExactSizeIterator<Item = &Committed> {
        assert!(position >= self.base, "what follows {position} is only here from {} on", self.base);
        let from = self.kept.partition_point(|committed| committed.zxid <= position);
        let before = from.checked_sub(1).map_or(self.base, |at| self.kept[at].zxid);
        assert!(before <= position, "{before} would be passed over");
        self.kept.range(from..)
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        let mut last = self.base;
        for committed in &self.kept {
            assert!(is_next(last, committed.zxid), "{last} then {}", committed.zxid);
            last = committed.zxid;
        }
        assert!(self.last == last || (self.last > last && self.last.counter() == 0), "{last} is not {}", self.last);
        let bytes: usize = self.kept.iter().map(|committed| cost(&committed.txn)).sum();
        assert_eq!(self.bytes, bytes, "the bytes were counted wrongly");
        assert!(self.kept.len() <= self.limits.count && bytes <= self.limits.bytes, "too much is kept");
    }
}

/// Whether a leader proposes `next` directly after `last`. Counters are consecutive and a leader's first transaction has
/// counter 1, so this notices what [`Zxid::precedes`] allows: a first transaction that is missing.
pub fn is_next(last: Zxid, next: Zxid) -> bool {
    last.precedes(next) && (next.epoch() == last.epoch() || next.counter() == 1)
}

/// Bytes that a proposal counts.
fn cost(txn: &Bytes) -> usize {
    txn.len() + size_of::<Committed>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    fn txn() -> Bytes {
        Bytes::from_static(b"txn")
    }

    fn at(epoch: i64, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    fn history(count: usize) -> History {
        let mut history = History::new(HistoryLimits { count, bytes: 1 << 20 }, at(1, 4));
        for zxid in [at(1, 5), at(1, 6)] {
            history.push(zxid, txn());
        }
        history.begin_epoch(at(3, 0));
        for zxid in [at(3, 1), at(3, 2)] {
            history.push(zxid, txn());
        }
        history.check();
        history
    }

    fn after(history: &History, position: Zxid) -> Vec<Zxid> {
        history.after(position).map(|committed| committed.zxid).collect()
    }

    #[test]
    fn what_follows_a_position_is_all_there() {
        let history = history(500);
        assert_eq!(after(&history, at(1, 4)), [at(1, 5), at(1, 6), at(3, 1), at(3, 2)]);
        assert_eq!(after(&history, at(1, 6)), [at(3, 1), at(3, 2)]);
        // The epochs 2 and 3 began where epoch 1 had ended.
        assert_eq!(after(&history, at(2, 0)), [at(3, 1), at(3, 2)]);
        assert_eq!(after(&history, at(3, 0)), [at(3, 1), at(3, 2)]);
        assert_eq!(after(&history, at(3, 2)), []);
        assert_eq!((history.base(), history.newest(), history.last()), (at(1, 4), at(3, 2), at(3, 2)));
    }

    #[test]
    fn positions_are_told_from_what_never_was_committed() {
        let mut history = history(500);
        for zxid in [at(1, 4), at(1, 5), at(2, 0), at(3, 0), at(3, 2), at(4, 0)] {
            assert!(history.has_position(zxid), "{zxid}");
        }
        assert_eq!(history.nearest(at(4, 0)), Some(at(3, 2)));
        for (zxid, nearest) in [(at(1, 7), at(1, 6)), (at(2, 1), at(1, 6)), (at(3, 3), at(3, 2))] {
            assert!(!history.has_position(zxid), "{zxid}");
            assert_eq!(history.nearest(zxid), Some(nearest));
        }
        assert!(!history.has_position(at(1, 3)) && history.nearest(at(1, 3)).is_none());
        assert!(!history.has_position(at(1, 0)), "what follows it is not all here");
        history.begin_epoch(at(4, 0));
        assert_eq!((history.newest(), history.last()), (at(3, 2), at(4, 0)));
        history.check();
    }

    #[test]
    fn it_forgets_the_oldest_by_number_and_by_bytes() {
        let mut small = history(2);
        assert_eq!((small.base(), small.size().0), (at(1, 6), 2));
        small.push(at(3, 3), txn());
        assert_eq!((small.base(), after(&small, at(3, 1))), (at(3, 1), vec![at(3, 2), at(3, 3)]));
        let mut short = History::new(HistoryLimits { count: 500, bytes: 1000 }, Zxid::ZERO);
        for counter in 1..=20 {
            short.push(at(0, counter), Bytes::from(vec![0; 300]));
            short.check();
        }
        assert_eq!((short.newest(), short.size().0), (at(0, 20), 2));
        // One that is longer than the limit is not kept, and neither is what was there before.
        short.push(at(0, 21), Bytes::from(vec![0; 3000]));
        assert_eq!((short.base(), short.newest(), short.size()), (at(0, 21), at(0, 21), (0, 0)));
        short.check();
    }

    #[test]
    fn what_is_not_the_next_one_is_a_bug() {
        for zxid in [at(3, 2), at(3, 4), at(4, 0), at(4, 2), at(1, 7)] {
            let result = std::panic::catch_unwind(|| history(500).push(zxid, txn()));
            assert!(result.is_err(), "{zxid}");
        }
        assert!(is_next(at(3, 0), at(3, 1)) && is_next(at(1, 9), at(5, 1)) && !is_next(at(3, u32::MAX), at(4, 0)));
    }

    #[test]
    #[should_panic(expected = "is only here from")]
    fn what_was_forgotten_is_not_passed_over() {
        history(2).after(at(1, 5)).next();
    }
}
