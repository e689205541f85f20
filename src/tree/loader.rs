//! A tree from a snapshot's records. Mirrors `DataTree.deserialize`.

use std::collections::HashMap;

use thiserror::Error;

use crate::types::stat::owner::{self, Kind};
use crate::types::{Acl, AclId, StatPersisted, Zxid, path};

use super::acl_table::AclRef;
use super::node::ROOT;
use super::{Tree, TreeOptions};

/// Why a snapshot's records make no tree.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[allow(missing_docs)]
pub enum LoadError {
    #[error("znode {path:?}: its parent was not before it in the snapshot")]
    MissingParent { path: String },
    #[error("znode {path:?} is in the snapshot twice")]
    Duplicate { path: String },
    #[error("{path:?} is not a path")]
    BadPath { path: String },
    #[error("ACL list {} is in the snapshot twice", id.0)]
    DuplicateAcl { id: AclId },
    #[error("the snapshot has no root")]
    NoRoot,
}

/// Builds a [`Tree`] from a snapshot: first its ACL lists, then its znodes in their order.
///
/// An ACL id without a list is no error: a fuzzy snapshot of ZooKeeper may hold a znode that is newer than its ACL table, and the
/// log after it sets that ACL again. Until then nobody but `super` may touch the znode, and [`Tree::unresolved_acls`] names it.
pub struct TreeLoader {
    tree: Tree,
    acls: HashMap<AclId, AclRef>,
    root_seen: bool,
    /// The parent last used: siblings mostly follow each other.
    parent: u32,
    parent_path: String,
}

impl TreeLoader {
    /// An empty one.
    pub fn new(options: TreeOptions) -> TreeLoader {
        TreeLoader {
            tree: Tree::with_root(options, None, AclRef::OPEN, StatPersisted::default()),
            acls: HashMap::new(),
            root_seen: false,
            parent: ROOT,
            parent_path: path::ROOT.to_owned(),
        }
    }

    /// Adds a list of the snapshot's ACL table.
    pub fn add_acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), LoadError> {
        if id == AclId::OPEN || self.acls.contains_key(&id) {
            return Err(LoadError::DuplicateAcl { id });
        }
        let r = self.tree.acls.add_loaded(id, list);
        self.acls.insert(id, r);
        Ok(())
    }

    /// Adds a znode; the empty path is the root.
    pub fn add_node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: StatPersisted,
    ) -> Result<(), LoadError> {
        if path.is_empty() {
            return self.set_root(data, acl, stat);
        }
        let parent_path = super::apply::parent_of(path).map_err(|_| LoadError::BadPath { path: path.to_owned() })?;
        if !self.root_seen {
            return Err(LoadError::MissingParent { path: path.to_owned() });
        }
        if self.parent_path != parent_path {
            let parent = self.tree.find(parent_path);
            self.parent = parent.ok_or_else(|| LoadError::MissingParent { path: path.to_owned() })?;
            parent_path.clone_into(&mut self.parent_path);
        }
        if self.tree.find(path).is_some() {
            return Err(LoadError::Duplicate { path: path.to_owned() });
        }
        let acl = self.use_acl(acl);
        self.tree.insert(self.parent, path, data, acl, stat, None);
        Ok(())
    }

    fn set_root(&mut self, data: Option<&[u8]>, acl: AclId, stat: StatPersisted) -> Result<(), LoadError> {
        if self.root_seen {
            return Err(LoadError::Duplicate { path: String::new() });
        }
        self.root_seen = true;
        let acl = self.use_acl(acl);
        self.tree.edit_data(ROOT, path::ROOT, data, None, |s| *s = stat);
        self.tree.slab.get_mut(ROOT).acl = acl;
        Ok(())
    }

    fn use_acl(&mut self, id: AclId) -> AclRef {
        if id == AclId::OPEN {
            return AclRef::OPEN;
        }
        let r = *self.acls.entry(id).or_insert_with(|| self.tree.acls.add_unresolved(id));
        self.tree.acls.add_usage(r);
        r
    }

    /// The tree, as of `last_zxid`: quotas active and counted, unused lists gone.
    pub fn finish(self, last_zxid: Zxid) -> Result<Tree, LoadError> {
        if !self.root_seen {
            return Err(LoadError::NoRoot);
        }
        let mut tree = self.tree;
        tree.acls.purge_unused();
        tree.activate_quotas();
        tree.last_zxid = last_zxid;
        Ok(tree)
    }
}

impl Tree {
    /// Znodes whose owner reads as a session although its top byte is that of a TTL node: what a server finds that was started
    /// without `extendedTypesEnabled` over data written with it. Deleting them as orphans would lose data.
    pub fn suspicious_owners(&self) -> impl Iterator<Item = String> {
        let own = self.ephemerals.sessions().filter(|s| (s.0 as u64) >> 40 == 0xff_0000);
        own.filter(|s| owner::kind(s.0, self.options.extended) == Kind::Ephemeral).flat_map(|s| self.ephemerals_of(s))
    }
}
