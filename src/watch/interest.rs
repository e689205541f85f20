//! Which shards may watch a path, by the path's hash: the tree's writer looks here before it sends an event to a shard. A shard
//! may be named that watches nothing there; one that does is never left out. Shared by all shards and the writer.
//!
//! # Memory ordering
//!
//! A shard raises its bit *before* it reads the state the watch is armed against; the writer makes a change *before* it looks
//! at the bits. Each stores one word and then loads another, so only a single total order makes it impossible that both miss
//! the other: all accesses here are `SeqCst` (a plain load on x86-64, so the writer pays nothing). With that order, for a
//! watch and a change: either the writer sees the bit, or the shard, reading after raising it, sees the change already made.
//! In the second case the shard's read is answered with the new state, so the client has missed nothing. While the tree is
//! guarded by a lock that the shard holds over its whole turn, the lock alone gives the same; the filter does not rely on it.
//!
//! A bit is lowered only by its own shard, after the last watch at that slot is gone. The writer may still see it raised and
//! send an event that no watch matches: the shard ignores it. No other memory is published through these words.

use crate::types::ShardId;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Number of slots paths are hashed into.
pub const SLOTS: usize = 4096;

/// The most shards one [`Interest`] has bits for.
pub const MAX_SHARDS: usize = 64;

/// The slot that a path is hashed to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a path, the same in every thread and process.
    pub fn of(path: &str) -> Slot {
        let hash = FixedState::with_seed(0).hash_one(path);
        // The high bits are the best mixed ones.
        Slot((hash >> (64 - SLOTS.trailing_zeros())) as u16)
    }

    /// 0..[`SLOTS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The shared filter. 32 KiB.
pub struct Interest {
    slots: Box<[AtomicU64]>,
    recursive: AtomicU64,
}

impl Interest {
    /// A filter in which nobody watches anything.
    pub fn new() -> Interest {
        Interest { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), recursive: AtomicU64::new(0) }
    }

    /// `shard` watches something at `slot` from now on. Call before reading the state the watch is armed against.
    pub fn set(&self, shard: ShardId, slot: Slot) {
        self.slots[slot.index()].fetch_or(bit(shard), SeqCst);
    }

    /// `shard` watches nothing at `slot` any more.
    pub fn clear(&self, shard: ShardId, slot: Slot) {
        self.slots[slot.index()].fetch_and(!bit(shard), SeqCst);
    }

    /// `shard` has a recursive watch from now on: it hears of every path.
    pub fn set_recursive(&self, shard: ShardId) {
        self.recursive.fetch_or(bit(shard), SeqCst);
    }

    /// `shard` has no recursive watch any more.
    pub fn clear_recursive(&self, shard: ShardId) {
        self.recursive.fetch_and(!bit(shard), SeqCst);
    }

    /// Bit *i* is set if shard *i* may watch `path`. Ask after the change is made.
    pub fn shards(&self, path: &str) -> u64 {
        self.slots[Slot::of(path).index()].load(SeqCst) | self.recursive.load(SeqCst)
    }

    /// Asserts that exactly the bits of `shard` are raised that its table says.
    pub(super) fn check(&self, shard: ShardId, watched: impl Fn(usize) -> bool, recursive: bool) {
        for (slot, word) in self.slots.iter().enumerate() {
            assert_eq!(
                word.load(SeqCst) & bit(shard) != 0,
                watched(slot),
                "interest of shard {} in slot {slot}",
                shard.0
            );
        }
        assert_eq!(self.recursive.load(SeqCst) & bit(shard) != 0, recursive, "recursive interest of shard {}", shard.0);
    }
}

impl Default for Interest {
    fn default() -> Interest {
        Interest::new()
    }
}

fn bit(shard: ShardId) -> u64 {
    assert!(shard.index() < MAX_SHARDS, "shard {} of at most {MAX_SHARDS}", shard.0);
    1 << shard.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_shards_do_not_mix() {
        let i = Interest::new();
        let slot = Slot::of("/a");
        i.set(ShardId(0), slot);
        i.set(ShardId(63), slot);
        assert_eq!(i.shards("/a"), 1 | 1 << 63);
        i.clear(ShardId(0), slot);
        assert_eq!(i.shards("/a"), 1 << 63);
        let other = (0..).map(|n| format!("/other{n}")).find(|p| Slot::of(p) != slot).unwrap();
        assert_eq!(i.shards(&other), 0);
        i.set_recursive(ShardId(2));
        assert_eq!((i.shards("/a"), i.shards(&other)), (1 << 63 | 4, 4));
        i.clear_recursive(ShardId(2));
        assert_eq!(i.shards(&other), 0);
    }

    #[test]
    fn paths_spread_over_the_slots() {
        let mut used = vec![0u32; SLOTS];
        for n in 0..SLOTS * 8 {
            used[Slot::of(&format!("/app/services/instance-{n:010}")).index()] += 1;
        }
        assert!(used.iter().filter(|n| **n == 0).count() < SLOTS / 50, "too many empty slots");
        assert!(used.iter().max() < Some(&40), "a crowded slot: {:?}", used.iter().max());
    }

    /// The pattern that needs a single order: a store followed by a load of the other's word, on both sides.
    #[test]
    fn a_raised_bit_and_a_change_never_miss_each_other() {
        use std::sync::{Arc, Barrier};
        let rounds = 2_000;
        let interest = Arc::new(Interest::new());
        let changed = Arc::new(AtomicU64::new(0));
        let barrier = Arc::new(Barrier::new(2));
        let writer = {
            let (interest, changed, barrier) = (interest.clone(), changed.clone(), barrier.clone());
            std::thread::spawn(move || {
                let mut saw = Vec::new();
                for round in 1..=rounds {
                    barrier.wait();
                    changed.store(round, SeqCst);
                    saw.push(interest.shards("/a") != 0);
                    barrier.wait();
                }
                saw
            })
        };
        let mut read_new = Vec::new();
        for round in 1..=rounds {
            barrier.wait();
            interest.set(ShardId(5), Slot::of("/a"));
            read_new.push(changed.load(SeqCst) == round);
            barrier.wait();
            interest.clear(ShardId(5), Slot::of("/a"));
        }
        let saw = writer.join().unwrap();
        for (round, (writer_saw, shard_saw)) in saw.iter().zip(&read_new).enumerate() {
            assert!(writer_saw | shard_saw, "round {round}: the event would be lost");
        }
    }
}
