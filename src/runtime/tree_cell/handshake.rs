//! How a shard that moves on and a peer core that waits for it find each other. Compiled twice: over the true atomics, and in
//! the test over loom's, which tries every order in which the two may run.

use super::atomics::{AtomicBool, AtomicI64, CachePadded, Ordering, fence};

/// The words, each in a cache line of its own.
pub(super) struct Handshake {
    /// The zxid that each shard answers reads at.
    cursors: Vec<CachePadded<AtomicI64>>,
    /// The peer core has something to apply and waits for a shard to move on: whoever does wakes it.
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

    /// Returns whether the peer core has to be woken.
    pub(super) fn moved_on(&self, shard: usize, cursor: i64) -> bool {
        self.cursors[shard].store(cursor, Ordering::Release);
        // Against the fence in `peer_waits`: either the peer core's next look sees the cursor, or this sees that it waits.
        fence(Ordering::SeqCst);
        self.peer_waiting.load(Ordering::Relaxed) && self.peer_waiting.swap(false, Ordering::SeqCst)
    }

    /// Returns whether that is news: then the caller must look at the cursors once more before it sleeps.
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
