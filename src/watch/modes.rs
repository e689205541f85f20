//! The modes one connection has on one path: any mix of one-shot, persistent and recursive. Mirrors `WatcherMode` and
//! `WatchStats`.

/// A set of watch modes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Modes(u8);

impl Modes {
    /// No mode: no watch.
    pub const NONE: Modes = Modes(0);
    /// One-shot: gone once fired.
    pub const STANDARD: Modes = Modes(1);
    /// Stays when fired.
    pub const PERSISTENT: Modes = Modes(2);
    /// Stays when fired, and hears of every descendant too. Only in the data table.
    pub const RECURSIVE: Modes = Modes(4);
    /// All of them.
    pub const ALL: Modes = Modes(7);

    /// Whether no mode is left.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any mode of `other` is in this set.
    pub fn intersects(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    /// This set and `other`.
    pub fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    /// This set less `other`.
    pub fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_a_set() {
        let both = Modes::STANDARD.with(Modes::RECURSIVE);
        assert!(both.intersects(Modes::RECURSIVE) && !both.intersects(Modes::PERSISTENT));
        assert_eq!(both.without(Modes::STANDARD), Modes::RECURSIVE);
        assert!(both.without(Modes::ALL).is_empty() && !both.is_empty());
    }
}
