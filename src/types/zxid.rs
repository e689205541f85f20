//! Transaction ids. Mirrors `ZxidUtils`.

use std::fmt;

/// A transaction id: the leader's epoch in the high 32 bits, a counter in the low 32. Compared as signed 64-bit
/// numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

/// A leader's epoch, the high half of a [`Zxid`]. Files and packets store it in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch(pub i64);

impl Zxid {
    /// The zxid before the first transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// No zxid: an empty database without an `initialize` file votes with it, and replayed watch events carry it.
    pub const NONE: Zxid = Zxid(-1);

    /// The zxid of `counter` in `epoch`.
    pub fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((epoch.0 << 32) | i64::from(counter))
    }

    /// The epoch in which this transaction was proposed.
    pub fn epoch(self) -> Epoch {
        Epoch(self.0 >> 32)
    }

    /// The position inside the epoch.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The next zxid of the same epoch; `None` when the counter is at its maximum and a new epoch must begin.
    pub fn next(self) -> Option<Zxid> {
        (self.counter() != u32::MAX).then_some(Zxid(self.0 + 1))
    }

    /// Whether `later` may directly follow `self` in a log: the next counter of the same epoch, or any zxid of a later
    /// epoch.
    pub fn precedes(self, later: Zxid) -> bool {
        // The successor of an epoch's last counter is the start of the next epoch, so adding one is right there too.
        later.0 == self.0.wrapping_add(1) || later.epoch() > self.epoch()
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Zxid {
    /// `0x` and hexadecimal digits, as ZooKeeper prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_succession() {
        let z = Zxid::new(Epoch(3), 7);
        assert_eq!((z.epoch(), z.counter(), z.0), (Epoch(3), 7, 0x3_0000_0007));
        assert_eq!(Zxid::new(Epoch(3), u32::MAX).next(), None);
        assert!(z.precedes(Zxid::new(Epoch(3), 8)));
        assert!(!z.precedes(Zxid::new(Epoch(3), 9)));
        assert!(z.precedes(Zxid::new(Epoch(5), 1)));
        assert!(!z.precedes(Zxid::new(Epoch(2), 8)));
        assert!(!z.precedes(z) && !z.precedes(Zxid::new(Epoch(3), 6)));
        assert!(Zxid::new(Epoch(3), u32::MAX).precedes(Zxid::new(Epoch(4), 0)));
    }
}
