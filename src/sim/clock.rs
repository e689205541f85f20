//! Virtual time. A monotonic clock moves only when the world advances it, and a little faster or slower than those of other
//! machines; the wall clock also jumps, in both directions.

use crate::types::Now;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    mono_us: i64,
    wall_ms: i64,
    /// Microseconds that it gains in each true millisecond.
    drift_us: i64,
}

impl Clock {
    /// A clock that gains `drift_us` microseconds in each millisecond.
    pub(super) fn new(drift_us: i64) -> Clock {
        assert!(drift_us > -1000, "time cannot stand still");
        Clock { mono_us: 10_000_000, wall_ms: 1_700_000_000_000 - 10_000, drift_us }
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        let mono_ms = self.mono_us / 1000;
        Now { mono_ms, wall_ms: self.wall_ms + mono_ms, mono_ns: self.mono_us as u64 * 1000 }
    }

    /// Advances both clocks by this true time.
    pub(super) fn advance(&mut self, ms: i64) {
        assert!(ms >= 0, "time cannot run backwards");
        self.mono_us += ms * (1000 + self.drift_us);
    }

    /// Changes the wall clock, as an administrator would.
    pub(super) fn jump_wall(&mut self, ms: i64) {
        self.wall_ms += ms;
    }
}
