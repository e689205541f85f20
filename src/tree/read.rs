//! Reading the tree: single znodes, counts, owners. Mirrors the reading methods of `DataTree`.

use crate::types::acl::SharedAcl;
use crate::types::stat::owner::{self, Kind};
use crate::types::{Acl, SessionId, Stat, StatPersisted};

use super::ephemerals::{EphemeralPiece, EphemeralPlace};
use super::node::{Node, ROOT};
use super::{Record, Tree, node_size};

/// A znode, borrowed from the tree.
#[derive(Clone, Copy)]
pub struct Znode<'t> {
    tree: &'t Tree,
    node: &'t Node,
    slot: u32,
}

impl<'t> Znode<'t> {
    /// The data; `None` is null, which clients see as length -1.
    pub fn data(&self) -> Option<&'t [u8]> {
        self.node.data()
    }

    /// What clients see.
    pub fn stat(&self) -> Stat {
        self.tree.stat_of(self.node)
    }

    /// What is kept.
    pub fn persisted(&self) -> StatPersisted {
        self.node.stat
    }

    /// Children now.
    pub fn num_children(&self) -> i32 {
        self.node.num_children as i32
    }

    /// The list to check against; `None` is open to all.
    pub fn acl(&self) -> Option<&'t [Acl]> {
        self.tree.acls.shared(self.node.acl).as_deref()
    }

    /// The same list, shared.
    pub fn shared_acl(&self) -> SharedAcl {
        self.tree.acls.shared(self.node.acl).clone()
    }

    /// Names of the children, in order of creation.
    pub fn children(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let tree = self.tree;
        tree.child_slots(self.slot).map(|s| tree.slab.get(s).name())
    }

    /// What it adds to the digest, if it is digested; 0 while digests are off.
    pub fn share(&self) -> u32 {
        self.node.share
    }
}

impl Tree {
    /// The znode at `path`. The empty path is the root; a path that is not valid names nothing.
    #[inline]
    pub fn get(&self, path: &str) -> Option<Znode<'_>> {
        let slot = self.find(path)?;
        Some(Znode { tree: self, node: self.slab.get(slot), slot })
    }

    /// What validating a request needs to know of `path`.
    pub fn record(&self, path: &str) -> Option<Record> {
        let n = self.slab.get(self.find(path)?);
        Some(Record {
            stat: n.stat,
            num_children: n.num_children as i32,
            data_len: n.data_len() as i32,
            share: n.share,
            acl: self.acls.shared(n.acl).clone(),
        })
    }

    pub(super) fn stat_of(&self, n: &Node) -> Stat {
        let s = &n.stat;
        let ephemeral = owner::kind(s.ephemeral_owner, self.options.extended) == Kind::Ephemeral;
        Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            // Only creates are counted: the number of deletes is the difference to the children that are left.
            cversion: s.cversion.wrapping_mul(2).wrapping_sub(n.num_children as i32),
            aversion: s.aversion,
            ephemeral_owner: if ephemeral { s.ephemeral_owner } else { 0 },
            data_length: n.data_len() as i32,
            num_children: n.num_children as i32,
            pzxid: s.pzxid,
        }
    }

    /// The digest of the whole tree; 0 while digests are off.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// As ZooKeeper's `znode_count`, which counts the root twice: 5 in a fresh tree.
    pub fn node_count(&self) -> usize {
        self.slab.live() + 1
    }

    /// Ephemerals of all sessions.
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals.count()
    }

    /// Lengths of all paths (the root's is 1) and of all data, as `approximate_data_size`.
    pub fn approximate_data_size(&self) -> u64 {
        self.data_size
    }

    /// Paths a session's end deletes, in order of creation (inside one multi: by path).
    pub fn ephemerals_of(&self, s: SessionId) -> impl Iterator<Item = String> {
        let mut owned: Vec<_> =
            self.ephemerals.of(s).map(|slot| (self.slab.get(slot).stat.czxid, self.path_of(slot))).collect();
        owned.sort();
        owned.into_iter().map(|(_, path)| path)
    }

    /// A piece of the list of all ephemerals: `most` of those after `place`, or the first ones.
    pub fn list_ephemerals(&self, place: Option<EphemeralPlace>, most: usize) -> EphemeralPiece {
        let places: Vec<EphemeralPlace> = self.ephemerals.after(place).take(most).collect();
        let named = |p: &EphemeralPlace| (p.owner().0, p.owner().1, self.path_of(p.slot));
        let last = if places.len() < most { None } else { places.last().copied() };
        EphemeralPiece { ephemerals: places.iter().map(named).collect(), last }
    }

    /// How many of them there are.
    pub fn ephemerals_count_of(&self, s: SessionId) -> usize {
        self.ephemerals.of(s).count()
    }

    /// Sessions that own an ephemeral, ascending.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.sessions()
    }

    /// Descendants of `path`; of the root, ZooKeeper's count: all nodes but itself. Under its other name, the empty path,
    /// the root counts too, as in ZooKeeper, which looks for paths that begin with `path` and a slash.
    pub fn all_children_number(&self, path: &str) -> Option<i32> {
        let slot = self.find(path)?;
        let n = match slot {
            ROOT if path.is_empty() => self.slab.live(),
            ROOT => self.slab.live() - 1,
            slot => self.subtree(slot).count() - 1,
        };
        Some(n as i32)
    }

    /// Distinct ACL lists in use.
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// Containers, used or not.
    pub fn container_count(&self) -> usize {
        self.containers.len()
    }

    /// TTL nodes.
    pub fn ttl_count(&self) -> usize {
        self.ttls.len()
    }

    /// Containers to try deleteContainer on: childless, and either they have had children or were never used for longer than
    /// `max_never_used_ms` (0: those stay).
    pub fn container_candidates(&self, wall_ms: i64, max_never_used_ms: i64) -> impl Iterator<Item = String> {
        self.containers.iter().filter_map(move |slot| {
            let n = self.slab.get(*slot);
            let unused = max_never_used_ms != 0 && wall_ms.saturating_sub(n.stat.mtime) > max_never_used_ms;
            (n.num_children == 0 && (n.stat.cversion > 0 || unused)).then(|| self.path_of(*slot))
        })
    }

    /// TTL nodes to try deleteContainer on: childless and not modified for longer than their TTL.
    pub fn ttl_candidates(&self, wall_ms: i64) -> impl Iterator<Item = String> {
        self.ttls.iter().filter_map(move |slot| {
            let n = self.slab.get(*slot);
            let Kind::Ttl(ttl_ms) = owner::kind(n.stat.ephemeral_owner, self.options.extended) else { return None };
            let due = ttl_ms != 0 && wall_ms.saturating_sub(n.stat.mtime) > ttl_ms;
            (n.num_children == 0 && due).then(|| self.path_of(*slot))
        })
    }

    /// Every znode with its path, parents first; for tools and comparisons.
    pub fn walk(&self) -> impl Iterator<Item = (String, Znode<'_>)> {
        self.subtree(ROOT).map(|slot| (self.path_of(slot), Znode { tree: self, node: self.slab.get(slot), slot }))
    }

    /// Paths whose ACL id is in no snapshot's table and was not replaced by a replayed transaction: only `super` may use them.
    pub fn unresolved_acls(&self) -> Vec<String> {
        if !self.acls.any_unresolved() {
            return Vec::new();
        }
        self.slab.slots().filter(|s| self.acls.is_unresolved(self.slab.get(*s).acl)).map(|s| self.path_of(s)).collect()
    }

    /// [`Tree::approximate_data_size`] counted anew.
    pub(super) fn recount_data_size(&self) -> u64 {
        self.walk().map(|(p, z)| node_size(&p, z.data().map_or(0, <[u8]>::len))).sum()
    }
}
