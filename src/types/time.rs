//! Time is passed as an argument: state machines never read a clock. Mirrors `Time.currentElapsedTime` and
//! `currentWallTime`.

/// Both clocks at one moment. The runtime reads them once per turn; the simulator makes them up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds on a monotonic clock: used for session expiry, timeouts and all intervals except TTLs.
    pub mono_ms: i64,
    /// Milliseconds since 1970: stored as ctime and mtime, and compared only for TTLs, as in ZooKeeper.
    pub wall_ms: i64,
    /// Nanoseconds on the monotonic clock: only used to measure latencies.
    pub mono_ns: u64,
}

/// The earliest of some deadlines; `None` if there is none. Called in every turn, where a chain of iterators over an array takes
/// three times as many instructions.
#[inline]
pub fn earliest<const N: usize>(deadlines: [Option<i64>; N]) -> Option<i64> {
    let mut first = None;
    for at in deadlines {
        first = match (first, at) {
            (Some(a), Some(b)) if b < a => Some(b),
            (None, at) => at,
            (first, _) => first,
        };
    }
    first
}

#[cfg(test)]
mod tests {
    use super::earliest;

    #[test]
    fn the_earliest_deadline_is_found_wherever_it_stands() {
        assert_eq!(earliest([]), None);
        assert_eq!(earliest([None, None]), None);
        for deadlines in [[Some(3), None, Some(5)], [None, Some(5), Some(3)], [Some(5), Some(3), Some(3)]] {
            assert_eq!(earliest(deadlines), Some(3), "{deadlines:?}");
        }
        assert_eq!(earliest([Some(i64::MAX), None]), Some(i64::MAX));
    }
}
