//! Virtual time. The monotonic clock moves only when the world advances it; the wall clock also jumps, in both
//! directions.

use crate::types::Now;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    mono_ms: i64,
    wall_ms: i64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { mono_ms: 10_000, wall_ms: 1_700_000_000_000 }
    }
}

impl Clock {
    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: self.wall_ms, mono_ns: self.mono_ms as u64 * 1_000_000 }
    }

    /// Advances both clocks.
    pub(super) fn advance(&mut self, ms: i64) {
        assert!(ms >= 0, "time cannot run backwards");
        self.mono_ms += ms;
        self.wall_ms += ms;
    }

    /// Changes the wall clock, as an administrator would.
    pub(super) fn jump_wall(&mut self, ms: i64) {
        self.wall_ms += ms;
    }
}
