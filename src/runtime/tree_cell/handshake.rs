//! How a shard that moves its cursor and a peer core that waits for it notice each other. This file is compiled twice:
//! with the real atomics, and in the test with those of loom, which tries every order in which the two may run.

use super::atomics::{AtomicBool, AtomicI64, CachePadded, Ordering, fence};

/// The shared words, each in a cache line of its own.
pub(super) struct Handshake {
    /// For each shard, the zxid as of which it answers reads.
    cursors: Vec<CachePadded<AtomicI64>>,
    /// The peer core has transactions to apply but waits for a shard to move its cursor: the shard that does wakes it.
    peer_waiting: CachePadded<AtomicBool>,
}

impl Handshake {
    pub(super) fn new(shards: usize, cursor: i64) -> Handshake {
        Handshake {
            cursors: (0..shards).map(|_| CachePadded::new(AtomicI64::new(cursor))).collect(),
            peer_waiting: CachePadded::new(AtomicBool::new(false)),
        }
    }

    pub(super) fn cursor(&self, shard: usize) -> i64 {
        self.cursors[shard].load(Ordering::Acquire)
    }

    /// A shard stores its cursor. Returns whether the peer core has to be woken.
    pub(super) fn moved_on(&self, shard: usize, cursor: i64) -> bool {
        self.cursors[shard].store(cursor, Ordering::Release);
        // Pairs with the fence in `peer_waits`: either the peer core's next look sees the cursor, or this load sees
        // that it waits.
        fence(Ordering::SeqCst);
        self.peer_waiting.load(Ordering::Relaxed) && self.peer_waiting.swap(false, Ordering::SeqCst)
    }

    /// The peer core says whether it waits. Returns true if it did not wait before: then it must look at the cursors
    /// once more before it sleeps.
    pub(super) fn peer_waits(&self, waits: bool) -> bool {
        if waits {
            let news = !self.peer_waiting.swap(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            return news;
        }
        if self.peer_waiting.load(Ordering::Relaxed) {
            self.peer_waiting.store(false, Ordering::Relaxed);
        }
        false
    }
}
