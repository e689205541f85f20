//! The tree's guard and the words that its readers and its writer leave each other: how far each shard has answered, and
//! whether the peer core waits for that. Nothing else takes the lock or touches these words.

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

/// What `handshake` is made of; its test under loom gives it other ones.
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
    /// A tree that `shards` shards read and none has answered from.
    pub fn new(tree: Tree, shards: usize, interest: Arc<Interest>) -> TreeCell {
        TreeCell { handshake: Handshake::new(shards, tree.last_zxid().0), tree: ShardedLock::new(tree), interest }
    }

    /// A shard has drained its stream up to `cursor` and handed the answers to its sockets. Returns whether the peer core waits
    /// for that: then it has to be woken.
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
    // A poisoned lock cannot be met: a panic ends the process.
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
