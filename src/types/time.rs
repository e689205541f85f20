//! Time as an argument: machines never read a clock. Mirrors `Time.currentElapsedTime` / `currentWallTime`.

/// The two clocks at one moment, read once per turn by the runtime (or made up by the simulator).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds on a clock that never steps: decides expiry, timeouts, TTL-free intervals.
    pub mono_ms: i64,
    /// Milliseconds since 1970: only stamped into ctime/mtime, compared only for TTLs (as ZooKeeper does).
    pub wall_ms: i64,
    /// Nanoseconds on the monotonic clock: only measures latencies.
    pub mono_ns: u64,
}
