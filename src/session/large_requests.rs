//! The bound on the bytes of large requests that are in progress. Mirrors `ZooKeeperServer.checkRequestSize…`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::limits;

/// Bounds the bytes of large requests that are in progress at one time, over all shards of a process. A request that would exceed
/// `largeRequestMaxBytes`, if that is set, is refused. A large write that would exceed [`limits::LARGE_WRITES_IN_PIPELINE`] waits.
#[derive(Debug)]
pub struct LargeRequests {
    max_bytes: i64,
    threshold: i64,
    in_work: AtomicI64,
    writes: AtomicI64,
}

/// An admitted large request: its bytes are counted until this is dropped, no matter how the request ends.
#[derive(Debug)]
#[must_use = "dropping it ends the count of the request"]
pub struct Admitted {
    gate: Arc<LargeRequests>,
    /// Counted against `largeRequestMaxBytes`.
    bytes: i64,
    /// Counted as a large write.
    write: i64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let before = self.gate.in_work.fetch_sub(self.bytes, Relaxed);
        assert!(before >= self.bytes, "a large request was finished twice");
        let before = self.gate.writes.fetch_sub(self.write, Relaxed);
        assert!(before >= self.write, "a large write was finished twice");
    }
}

/// The large requests in progress leave no room for this one: the connection is closed (`large_requests_rejected`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a request of {bytes} bytes exceeds largeRequestMaxBytes ({max_bytes}): {in_work} bytes of large requests are in progress"
)]
pub struct TooManyBytes {
    bytes: i64,
    in_work: i64,
    max_bytes: i64,
}

impl LargeRequests {
    /// `max_bytes` is `largeRequestMaxBytes`, `threshold` `largeRequestThreshold`: longer requests are large; -1 (or any
    /// negative number) makes none large.
    pub fn new(max_bytes: i32, threshold: i32) -> LargeRequests {
        LargeRequests {
            max_bytes: i64::from(max_bytes),
            threshold: i64::from(threshold),
            in_work: AtomicI64::new(0),
            writes: AtomicI64::new(0),
        }
    }

    fn bytes_if_large(&self, len: usize) -> Option<i64> {
        let bytes = i64::try_from(len).unwrap_or(i64::MAX);
        (self.threshold >= 0 && bytes > self.threshold).then_some(bytes)
    }

    /// Whether a request of `len` bytes could be admitted, when only its length has been read. Counts nothing.
    ///
    /// # Errors
    /// It could not be admitted.
    pub fn announce(&self, len: usize) -> Result<(), TooManyBytes> {
        let Some(bytes) = self.bytes_if_large(len) else { return Ok(()) };
        let in_work = self.in_work();
        let fits = in_work.checked_add(bytes).is_some_and(|sum| sum <= self.max_bytes);
        if fits { Ok(()) } else { Err(TooManyBytes { bytes, in_work, max_bytes: self.max_bytes }) }
    }

    /// Whether a write of `len` bytes may enter the pipeline now, or has to wait for large ones before it. `called` is
    /// the number of bytes of writes that may enter already and are not counted yet. If two shards ask at the same
    /// time, both may get true.
    pub fn has_room(&self, len: usize, called: usize) -> bool {
        if len <= limits::LARGE_WRITE {
            return true;
        }
        let writes = self.writes.load(Relaxed) as usize + called;
        writes == 0 || writes.saturating_add(len) <= limits::LARGE_WRITES_IN_PIPELINE
    }

    /// Counts a request of `len` bytes; returns `None` if it is not large.
    ///
    /// # Errors
    /// It would exceed `largeRequestMaxBytes`. It is not counted.
    pub fn admit(self: &Arc<LargeRequests>, len: usize, is_write: bool) -> Result<Option<Admitted>, TooManyBytes> {
        let write = if is_write && len > limits::LARGE_WRITE { i64::try_from(len).unwrap_or(i64::MAX) } else { 0 };
        let count_write = |bytes| {
            self.writes.fetch_add(write, Relaxed);
            Ok(Some(Admitted { gate: self.clone(), bytes, write }))
        };
        let Some(bytes) = self.bytes_if_large(len) else {
            return if write > 0 { count_write(0) } else { Ok(None) };
        };
        let room = |in_work: i64| in_work.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        // Relaxed is enough: only the sum matters, no other memory is published through it.
        match self.in_work.fetch_update(Relaxed, Relaxed, room) {
            Ok(_) => count_write(bytes),
            Err(in_work) => Err(TooManyBytes { bytes, in_work, max_bytes: self.max_bytes }),
        }
    }

    /// Bytes of large requests in progress.
    pub fn in_work(&self) -> i64 {
        self.in_work.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_bounded_by_their_sum() {
        let gate = Arc::new(LargeRequests::new(1_000, 100));
        assert!(gate.admit(100, true).unwrap().is_none());
        let first = gate.admit(600, true).unwrap();
        assert!(gate.admit(401, true).is_err() && gate.announce(401).is_err() && gate.announce(400).is_ok());
        let second = gate.admit(400, true).unwrap();
        assert_eq!(gate.in_work(), 1_000);
        let refused = gate.admit(101, true).unwrap_err();
        assert!(refused.to_string().contains("exceeds largeRequestMaxBytes (1000): 1000 bytes"), "{refused}");
        drop(first);
        assert_eq!(gate.in_work(), 400);
        drop(second);
        assert_eq!(gate.in_work(), 0);
        assert!(gate.admit(usize::MAX, true).is_err() && gate.announce(usize::MAX).is_err());
    }

    #[test]
    fn without_a_threshold_no_request_is_large() {
        let gate = Arc::new(LargeRequests::new(1, -1));
        assert!(gate.admit(1 << 40, false).unwrap().is_none() && gate.announce(1 << 40).is_ok());
        assert_eq!(gate.in_work(), 0);
    }

    #[test]
    fn large_writes_wait_for_each_other_and_reads_for_nobody() {
        let gate = Arc::new(LargeRequests::new(0, -1));
        let (large, most) = (limits::LARGE_WRITE + 1, limits::LARGE_WRITES_IN_PIPELINE);
        let small = gate.admit(large - 1, true).unwrap();
        let read = gate.admit(most, false).unwrap();
        assert!(small.is_none() && read.is_none());
        assert!(gate.has_room(2 * most, 0), "one alone may be longer");
        let first = gate.admit(most - large, true).unwrap();
        assert!(first.is_some() && gate.has_room(large, 0) && !gate.has_room(large + 1, 0));
        assert!(!gate.has_room(large, 1), "others were called");
        assert!(gate.has_room(large - 1, most), "a small one has room always");
        drop(first);
        assert!(gate.has_room(most + 1, 0) && gate.in_work() == 0);
    }
}
