//! Virtual time. The monotonic clock only moves when the world says so; the wall clock also jumps, both ways.

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

    /// Time passes.
    pub(super) fn advance(&mut self, ms: i64) {
        assert!(ms >= 0, "time runs forward");
        self.mono_ms += ms;
        self.wall_ms += ms;
    }

    /// Somebody sets the wall clock.
    pub(super) fn jump_wall(&mut self, ms: i64) {
        self.wall_ms += ms;
    }
}
