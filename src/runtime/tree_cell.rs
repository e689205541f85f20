//! The lock of the tree, and the words by which its readers and its writer coordinate: how far each shard has answered,
//! and whether the peer core waits for that. No other code takes the lock or accesses these words.

mod handshake;
#[cfg(test)]
mod loom_tests;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use crossbeam::sync::ShardedLock;

use crate::peer::apply::Cursors;
use crate::peer::turn::TreeAccess;
use crate::tree::Tree;
use crate::types::{ShardId, Zxid};
use crate::watch::Interest;
use handshake::Handshake;

/// The atomics that `handshake` uses; its test with loom uses others.
mod atomics {
    pub(super) use crossbeam::utils::CachePadded;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};
}

/// The tree that all cores share.
pub struct TreeCell {
    tree: ShardedLock<Tree>,
    handshake: Handshake,
    interest: Arc<Interest>,
}

impl TreeCell {
    /// A cell with this tree, for `shards` shards that have not answered anything yet.
    pub fn new(tree: Tree, shards: usize, interest: Arc<Interest>) -> TreeCell {
        TreeCell { handshake: Handshake::new(shards, tree.last_zxid().0), tree: ShardedLock::new(tree), interest }
    }

    /// A shard has processed its stream up to `cursor` and passed the replies to its sockets. Returns whether the peer
    /// core waits for that and has to be woken.
    #[must_use]
    pub fn moved_on(&self, shard: ShardId, cursor: Zxid) -> bool {
        self.handshake.moved_on(shard.index(), cursor.0)
    }
}

impl Cursors for TreeCell {
    fn cursor(&self, shard: ShardId) -> Zxid {
        Zxid(self.handshake.cursor(shard.index()))
    }
}

impl TreeAccess for TreeCell {
    // A panic ends the process, so the lock is never found poisoned.
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn peer_waits(&self, waits: bool) -> bool {
        self.handshake.peer_waits(waits)
    }
}
