//! The counters for names of sequential znodes, and the warning before one reaches its maximum.
//!
//! A parent's counter is its cversion, a signed 32-bit number. After 2147483647 ZooKeeper uses that number again and
//! again, so every further sequential create below the parent fails with NodeExists; its documentation promises that
//! -2147483648 follows. Zabra names znodes as ZooKeeper does, on disk and on the wire, but warns long before.
//! disk and on the wire stay ZooKeeper's. What is done here is to say so long before.

use crate::types::Now;

/// Above this, a counter has fewer than a million names left.
const NEAR_END: i32 = i32::MAX - 1_000_000;

/// Shortest time between two warnings, in milliseconds.
const QUIET_MS: i64 = 60_000;

/// The numbers that sequential creates were given.
#[derive(Debug)]
pub(super) struct SequenceCounters {
    /// The highest number given since the start.
    pub(super) highest: i32,
    /// Creates with a number near the end.
    pub(super) near_end: u64,
    /// Time of the last warning, monotonic milliseconds.
    warned_ms: Option<i64>,
}

impl SequenceCounters {
    pub(super) fn new() -> SequenceCounters {
        SequenceCounters { highest: 0, near_end: 0, warned_ms: None }
    }

    /// Records that a create below `parent` got the number `counter`. Returns whether a warning was logged.
    pub(super) fn used(&mut self, now: Now, parent: &str, counter: i32) -> bool {
        self.highest = self.highest.max(counter);
        if counter < NEAR_END {
            return false;
        }
        self.near_end += 1;
        if self.warned_ms.is_some_and(|at| now.mono_ms - at < QUIET_MS) {
            return false;
        }
        self.warned_ms = Some(now.mono_ms);
        let (near_end, left) = (self.near_end, i32::MAX - counter);
        if left == 0 {
            tracing::error!(
                parent,
                near_end,
                "the counter of sequential znodes is at its maximum: every further sequential create below this parent fails \
                 with NodeExists. Use another parent, or delete this one and create it again"
            );
        } else {
            tracing::warn!(
                parent,
                left,
                near_end,
                "the counter of sequential znodes is near its maximum: after it every sequential create below this parent fails \
                 with NodeExists. Use another parent in time, or delete this one and create it again"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::prep::fixture::{Fixture, create, create_flag};
    use crate::txn::Txn;
    use crate::types::Op;

    #[test]
    fn a_warning_a_minute_from_a_million_before_the_end() {
        let mut counters = SequenceCounters::new();
        let mut used = |mono_ms, counter| counters.used(Now { mono_ms, ..Now::default() }, "/q", counter);
        assert!(!used(0, 7) && !used(0, NEAR_END - 1));
        assert!(used(5, NEAR_END) && !used(60_004, NEAR_END + 1) && used(60_005, NEAR_END + 2));
        assert!(used(200_000, i32::MAX));
        assert_eq!((counters.highest, counters.near_end), (i32::MAX, 4));
    }

    /// As in ZooKeeper 3.9 the last number is used twice, then every create fails with NodeExists.
    #[test]
    fn the_end_of_a_counter_is_zookeepers_and_is_counted() {
        let mut f = Fixture::new();
        f.applied(&create("/q"));
        let mut made = f.send(&create("/q/child"));
        f.apply(&made);
        // Sets the counter as if there had been many creates before.
        let Txn::Create(c) = &mut made.txn else { panic!("{made:?}") };
        (c.path, c.parent_cversion) = ("/q/other".into(), i32::MAX - 1);
        f.tree.apply(&made.header, &made.txn, &mut |_| {});
        let mut name = || match f.taken(&create_flag(Op::CREATE, "/q/s-", 2, -1)) {
            Txn::Create(c) => c.path,
            other => panic!("{other:?}"),
        };
        assert_eq!([name(), name()], ["/q/s-2147483646", "/q/s-2147483647"]);
        for _ in 0..2 {
            assert_eq!(f.code(&create_flag(Op::CREATE, "/q/s-", 2, -1)), -110);
        }
        let status = f.prep.status();
        assert_eq!((status.highest_sequence_number, status.sequential_creates_near_end), (i32::MAX, 4));
    }
}
