//! The only place where clocks are read. Mirrors `Time`.

use crate::types::Now;

/// The clocks of this host.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clock;

impl Clock {
    /// Both clocks. The monotonic clock stops while the host is suspended, as Java's `System.nanoTime` does, so that
    /// not all sessions expire when it resumes.
    pub fn now() -> Now {
        let mono = read(libc::CLOCK_MONOTONIC);
        let wall = read(libc::CLOCK_REALTIME);
        Now {
            mono_ms: mono.0 * 1000 + mono.1 / 1_000_000,
            wall_ms: wall.0 * 1000 + wall.1 / 1_000_000,
            mono_ns: mono.0 as u64 * 1_000_000_000 + mono.1 as u64,
        }
    }

    /// Nanoseconds on the monotonic clock.
    pub fn mono_ns() -> u64 {
        let (s, ns) = read(libc::CLOCK_MONOTONIC);
        s as u64 * 1_000_000_000 + ns as u64
    }
}

/// The clock's value in seconds and nanoseconds.
fn read(clock: libc::clockid_t) -> (i64, i64) {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the result.
    let done = unsafe { libc::clock_gettime(clock, &mut t) };
    assert_eq!(done, 0, "clock {clock} cannot be read");
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // 32-bit systems have narrower fields
    (t.tv_sec as i64, t.tv_nsec as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn clocks_agree_with_each_other_and_with_std() {
        let a = Clock::now();
        std::thread::sleep(Duration::from_millis(3));
        let b = Clock::now();
        assert!(b.mono_ns - a.mono_ns >= 3_000_000 && b.mono_ms - a.mono_ms >= 2);
        assert_eq!(a.mono_ns / 1_000_000, a.mono_ms as u64);
        assert!(Clock::mono_ns() >= b.mono_ns);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((wall - b.wall_ms).abs() < 60_000);
    }
}
