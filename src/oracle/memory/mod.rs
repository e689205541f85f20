//! What the turns of a server run on when there are no threads, locks and sockets: the tree, the mailboxes, the
//! connections and the log thread, in memory and for a single thread. A scheduler decides what has arrived where and
//! whose turn it is. The simulator, `tests/ordering`, the benches and the fuzzers each have a scheduler and share this.
//!
//! * [`MemoryTree`]: the tree and its lock; [`Mail`]: the mailboxes between the cores; [`MemorySockets`]: a core's
//!   connections; [`MemoryLog`]: the log thread between two of its steps; [`MemoryMember`]: all of these of a member of an
//!   ensemble, without shards.

mod log;
mod mail;
mod member;
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
pub use mail::{Burst, Mail, ShardLinks, ShardMail};
pub use member::{MemberSettings, MemoryMember};
pub use sockets::{MemoryConn, MemorySockets};

/// The tree, and the cores' coordination about it: `runtime::tree_cell` for a single thread. Panics where a lock would
/// wait for ever.
pub struct MemoryTree {
    tree: RefCell<Tree>,
    cursors: Vec<Cell<Zxid>>,
    peer_waits: Cell<bool>,
    interest: Arc<Interest>,
}

impl MemoryTree {
    /// A cell with this tree, for `shards` shards that have not answered anything yet.
    pub fn new(tree: Tree, shards: usize, interest: Arc<Interest>) -> MemoryTree {
        let last = tree.last_zxid();
        MemoryTree {
            tree: RefCell::new(tree),
            cursors: vec![Cell::new(last); shards],
            peer_waits: Cell::new(false),
            interest,
        }
    }

    /// What watches are set, for the watch tables of shards.
    pub fn shared_interest(&self) -> Arc<Interest> {
        self.interest.clone()
    }

    /// A shard has answered everything up to `cursor`. Returns whether the peer core waits for that.
    pub fn moved_on(&self, shard: ShardId, cursor: Zxid) -> bool {
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
