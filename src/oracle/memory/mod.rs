//! What the turns of a server run over when there are no threads, locks and sockets: the tree, the mailboxes, the connections and
//! the log thread, in memory and for one thread. What has reached whom, and whose turn it is, a scheduler says: the simulator,
//! `tests/ordering`, the benches and the fuzzers have one each, over this.
//!
//! * [`MemoryTree`]: the guarded tree; [`Mail`]: all that lies between the cores; [`MemorySockets`]: a core's connections;
//!   [`MemoryLog`]: the log thread between two of its steps.

mod log;
mod mail;
mod sockets;

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::peer::apply::Cursors;
use crate::peer::turn::TreeAccess;
use crate::tree::Tree;
use crate::types::{ShardId, Zxid};
use crate::watch::Interest;
pub use log::MemoryLog;
pub use mail::{Mail, ShardLinks, ShardMail};
pub use sockets::{MemoryConn, MemorySockets};

/// The tree and what the cores say about it: `runtime::tree_cell` for one thread. It panics where a lock would wait for ever.
pub struct MemoryTree {
    tree: RefCell<Tree>,
    cursors: Vec<Cell<Zxid>>,
    peer_waits: Cell<bool>,
    interest: Arc<Interest>,
}

impl MemoryTree {
    /// A tree that `shards` shards read and none has answered from.
    pub fn new(tree: Tree, shards: usize, interest: Arc<Interest>) -> MemoryTree {
        let last = tree.last_zxid();
        MemoryTree {
            tree: RefCell::new(tree),
            cursors: vec![Cell::new(last); shards],
            peer_waits: Cell::new(false),
            interest,
        }
    }

    /// A shard has answered everything up to `cursor`. Returns whether the peer core waits for that.
    fn moved_on(&self, shard: ShardId, cursor: Zxid) -> bool {
        self.cursors[shard.index()].set(cursor);
        self.peer_waits.take()
    }
}

impl Cursors for MemoryTree {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.cursors[shard.index()].get()
    }
}

impl TreeAccess for MemoryTree {
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.borrow()
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        self.tree.borrow_mut()
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn peer_waits(&self, waits: bool) -> bool {
        !self.peer_waits.replace(waits) && waits
    }
}
