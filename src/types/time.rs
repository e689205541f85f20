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
