//! Recovery into a [`Tree`]. Mirrors `ZKDatabase.loadDataBase`.

use std::io;

use super::disk::Dir;
use super::epoch::EpochError;
use super::install::{Received, State, Whole};
use super::recovery::{Builder, Recovered, RecoveryError, RecoveryOptions, Replica, recover};
use super::snapshot_read::Node;
use crate::tree::{Tree, TreeLoader, TreeOptions};
use crate::txn::{Txn, TxnHeader};
use crate::types::{Acl, AclId, Zxid};

/// Builds a [`Tree`].
struct TreeBuilder<'a> {
    loader: TreeLoader,
    options: TreeOptions,
    loaded: &'a dyn Fn(),
}

impl Builder for TreeBuilder<'_> {
    type Replica = TreeReplica;

    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.loader.add_acl(id, list).map_err(|e| e.to_string())
    }

    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.loader.add_node(node.path, node.data, node.acl, node.stat).map_err(|e| e.to_string())
    }

    fn finish(self, zxid: Zxid) -> Result<TreeReplica, String> {
        let digests = self.options.digest_enabled;
        let tree = self.loader.finish(zxid).map_err(|e| e.to_string())?;
        assert_eq!(tree.last_zxid(), zxid, "a tree is as of its snapshot");
        (self.loaded)();
        Ok(TreeReplica { tree, digests })
    }

    fn fresh(self) -> TreeReplica {
        TreeReplica { tree: Tree::new(self.options), digests: self.options.digest_enabled }
    }
}

/// A [`Tree`] under replay.
struct TreeReplica {
    tree: Tree,
    digests: bool,
}

impl Replica for TreeReplica {
    fn apply(&mut self, header: &TxnHeader, txn: &Txn) {
        // Nobody watches yet. A transaction that a fuzzy snapshot already contains may fail here, which does no harm.
        assert!(
            header.zxid > self.tree.last_zxid(),
            "{} is applied to a tree as of {}",
            header.zxid,
            self.tree.last_zxid()
        );
        self.tree.apply(header, txn, &mut |_| {});
        debug_assert_eq!(self.tree.last_zxid(), header.zxid, "a tree is as of what was applied last");
    }

    fn digest(&self) -> Option<u64> {
        self.digests.then(|| self.tree.digest())
    }
}

/// Recovers a tree from `snap` and `log`: see [`recover`]. The tree's `last_zxid` is that of the recovered history. If
/// the directory is empty and may not become a new database, it is [`Zxid::NONE`].
pub fn recover_tree<D: Dir>(
    snap: &mut D,
    log: &mut D,
    tree: TreeOptions,
    options: RecoveryOptions,
) -> Result<Recovered<Tree>, RecoveryError> {
    recover_tree_in_steps(snap, log, tree, options, &|| {})
}

/// Like [`recover_tree`], but calls `loaded` between the two steps, for measuring them: after the snapshot was loaded
/// and before its log is replayed. Without a snapshot it is not called.
pub fn recover_tree_in_steps<D: Dir>(
    snap: &mut D,
    log: &mut D,
    tree: TreeOptions,
    options: RecoveryOptions,
    loaded: &dyn Fn(),
) -> Result<Recovered<Tree>, RecoveryError> {
    let new_builder = || TreeBuilder { loader: TreeLoader::new(tree), options: tree, loaded };
    let r = recover(snap, log, new_builder, options)?;
    let mut state = r.state.tree;
    assert!(state.last_zxid() <= r.last || r.last == Zxid::NONE, "the tree is ahead of the history's end, {}", r.last);
    state.set_last_zxid(r.last);
    Ok(Recovered { state, sessions: r.sessions, last: r.last, fresh: r.fresh, tail: r.tail, report: r.report })
}

/// A received snapshot whose state is a tree.
pub struct WholeTree(Whole<TreeReplica>);

impl WholeTree {
    /// See [`Whole::install`]. The tree is as of the snapshot.
    ///
    /// # Errors
    /// The process must end; its next start finishes.
    pub fn install<D: Dir>(self, snap: &mut D, log: &mut D) -> Result<State<Tree>, EpochError> {
        let (state, sessions) = self.0.install(snap, log)?;
        Ok((state.tree, sessions))
    }
}

/// The last byte of a leader's snapshot came: see [`Received::end`].
///
/// # Errors
/// I/O errors of the disk.
pub fn end_received<D: Dir>(
    received: Received<D>,
    snap: &mut D,
    options: TreeOptions,
) -> io::Result<Result<WholeTree, String>> {
    let builder = TreeBuilder { loader: TreeLoader::new(options), options, loaded: &|| {} };
    Ok(received.end(snap, builder)?.map(WholeTree))
}
