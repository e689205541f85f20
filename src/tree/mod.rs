//! The replicated state: znodes, their ACLs, owners and quotas, changed only by transactions. Mirrors `DataTree`.
//!
//! One writer applies transactions in zxid order and reports every change; readers borrow. Everything that iterates does so
//! in an order that the transactions decide, never a hash.

mod acl_table;
mod apply;
pub mod check;
pub mod digest;
mod ephemerals;
mod image;
mod index;
mod loader;
mod node;
pub mod quota;
mod read;
mod record;
mod slab;

use std::collections::BTreeSet;

pub use apply::{Applied, SubApplied};
pub use ephemerals::{EphemeralPiece, EphemeralPlace};
pub use image::{ImageHead, ImageId};
pub use loader::{LoadError, TreeLoader};
pub use quota::{QuotaState, StatsTrack};
pub use read::Znode;
pub use record::Record;

use crate::types::acl::SharedAcl;
use crate::types::stat::owner::{self, ExtendedTypes, Kind};
use crate::types::{Acl, EventType, Id, SessionId, StatPersisted, Zxid, path, perms};
use acl_table::{AclRef, AclTable};
use ephemerals::Ephemerals;
use image::Images;
use index::Index;
use node::{NONE, Node, ROOT};
use quota::Quotas;
use slab::Slab;

/// How a tree interprets owners, and whether it keeps a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct TreeOptions {
    pub extended: ExtendedTypes,
    /// `zookeeper.digest.enabled`; off, [`Tree::digest`] is 0.
    pub digest_enabled: bool,
}

impl Default for TreeOptions {
    fn default() -> TreeOptions {
        TreeOptions { extended: ExtendedTypes::default(), digest_enabled: true }
    }
}

/// A change that triggers watches. Changes come in the order in which ZooKeeper triggers watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change<'a> {
    /// What happened to `path`.
    pub event: EventType,
    /// Never empty: the root is `/`.
    pub path: &'a str,
    /// Who gets the event: clients that have READ under this list.
    pub acl: &'a SharedAcl,
}

/// The replicated state.
pub struct Tree {
    options: TreeOptions,
    slab: Slab,
    index: Index,
    acls: AclTable,
    ephemerals: Ephemerals,
    containers: BTreeSet<u32>,
    ttls: BTreeSet<u32>,
    quotas: Quotas,
    images: Images,
    digest: u64,
    data_size: u64,
    last_zxid: Zxid,
}

const _: fn() = || {
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Tree>();
};

/// A path's length as Java counts it, in UTF-16 units.
fn utf16_len(path: &str) -> u64 {
    if path.is_ascii() { path.len() as u64 } else { path.encode_utf16().count() as u64 }
}

/// What a node adds to the approximate data size. The root counts by its name `/`.
fn node_size(path: &str, data_len: usize) -> u64 {
    utf16_len(path) + data_len as u64
}

/// The CRC of path and data, computed unless it is known.
fn known_or_computed(known: Option<u32>, path: &str, data: Option<&[u8]>) -> u32 {
    debug_assert!(known.is_none_or(|crc| crc == digest::prefix_crc(path, data)), "{path}: not the CRC of its data");
    known.unwrap_or_else(|| digest::prefix_crc(path, data))
}

/// The path as the map of nodes has it: the empty path means the root too.
fn canonical(path: &str) -> &str {
    if path.is_empty() { path::ROOT } else { path }
}

impl Tree {
    /// A fresh tree: `/`, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`.
    pub fn new(options: TreeOptions) -> Tree {
        let mut t = Tree::with_root(options, Some(b""), AclRef::OPEN, StatPersisted::default());
        let fresh = StatPersisted::default();
        let zookeeper = t.insert(ROOT, path::ZOOKEEPER, Some(b""), AclRef::OPEN, fresh, None);
        t.insert(zookeeper, path::QUOTA, Some(b""), AclRef::OPEN, fresh, None);
        t.add_config();
        t
    }

    /// A tree of nothing but a root.
    fn with_root(options: TreeOptions, data: Option<&[u8]>, acl: AclRef, stat: StatPersisted) -> Tree {
        let mut t = Tree {
            options,
            slab: Slab::default(),
            index: Index::new(),
            acls: AclTable::default(),
            ephemerals: Ephemerals::default(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: Quotas::default(),
            images: Images::default(),
            digest: 0,
            data_size: 0,
            last_zxid: Zxid::ZERO,
        };
        t.slab.put(ROOT, Node::new(NONE, "", data, acl, stat));
        t.index.insert(t.index.hash(path::ROOT), ROOT);
        t.account_new(ROOT, path::ROOT, None);
        t
    }

    /// The configuration node, which only `world:anyone` may READ.
    fn add_config(&mut self) {
        let Some(parent) = self.find(path::ZOOKEEPER) else { return };
        let read_only: SharedAcl = Some([Acl { perms: perms::READ, id: Id::world() }].into());
        let acl = self.acls.intern(&read_only);
        let stat = StatPersisted { aversion: -1, ..StatPersisted::default() };
        self.insert(parent, path::CONFIG, Some(b""), acl, stat, None);
    }

    /// The zxid of the last transaction applied.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Sets the zxid of the tree: after loading a snapshot, and when a new epoch begins.
    pub fn set_last_zxid(&mut self, z: Zxid) {
        self.last_zxid = z;
    }

    /// The options with which the tree was created.
    pub fn options(&self) -> TreeOptions {
        self.options
    }

    /// The slot of a path.
    #[inline]
    fn find(&self, path: &str) -> Option<u32> {
        let path = canonical(path);
        self.index.find(self.index.hash(path), |slot| self.is_path(slot, path))
    }

    /// Whether the node in `slot` has this path. Compares the names from the end.
    #[inline]
    fn is_path(&self, slot: u32, path: &str) -> bool {
        if slot == ROOT {
            return path == path::ROOT;
        }
        let mut rest = path.as_bytes();
        let mut at = slot;
        while at != ROOT {
            let n = self.slab.get(at);
            match rest.strip_suffix(n.name_bytes()) {
                Some([head @ .., b'/']) => rest = head,
                _ => return false,
            }
            at = n.parent;
        }
        rest.is_empty()
    }

    /// Appends the path of a slot; nothing for the root, as in snapshots.
    fn put_path(&self, slot: u32, out: &mut Vec<u8>) {
        let mut len = 0;
        let mut at = slot;
        while at != ROOT {
            let n = self.slab.get(at);
            len += n.name_bytes().len() + 1;
            at = n.parent;
        }
        let begin = out.len();
        out.resize(begin + len, b'/');
        let mut end = out.len();
        at = slot;
        while at != ROOT {
            let n = self.slab.get(at);
            let name = n.name_bytes();
            out[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
            at = n.parent;
        }
    }

    /// The path of a slot; `/` for the root.
    fn path_of(&self, slot: u32) -> String {
        if slot == ROOT {
            return path::ROOT.to_owned();
        }
        let mut out = Vec::new();
        self.put_path(slot, &mut out);
        String::from_utf8(out).expect("names are made from strs")
    }

    /// Slots of the children, in order of creation (after loading: in the snapshot's order).
    fn child_slots(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.slab.get(slot).first_child;
        std::iter::successors((first != NONE).then_some(first), |s| {
            let next = self.slab.get(*s).next;
            (next != NONE).then_some(next)
        })
    }

    /// All slots of a subtree, parents first. Not recursive, because clients decide how deep it is.
    fn subtree(&self, top: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(top), move |at| {
            let n = self.slab.get(*at);
            if n.first_child != NONE {
                return Some(n.first_child);
            }
            let mut at = *at;
            while at != top {
                let n = self.slab.get(at);
                if n.next != NONE {
                    return Some(n.next);
                }
                at = n.parent;
            }
            None
        })
    }

    /// Puts a node that is not there under `parent`, which is `path`'s. The list `acl` already counts it as a user.
    /// `prefix_crc` as in [`Tree::apply_known`].
    fn insert(
        &mut self,
        parent: u32,
        path: &str,
        data: Option<&[u8]>,
        acl: AclRef,
        stat: StatPersisted,
        prefix_crc: Option<u32>,
    ) -> u32 {
        let slot = self.slab.slot_above(parent);
        self.before_change(slot);
        self.slab.put(slot, Node::new(parent, path::name(path), data, acl, stat));
        let first = self.slab.get(parent).first_child;
        if first == NONE {
            self.slab.get_mut(parent).first_child = slot;
            self.slab.get_mut(slot).prev = slot;
        } else {
            let last = self.slab.get(first).prev;
            self.slab.get_mut(last).next = slot;
            self.slab.get_mut(slot).prev = last;
            self.slab.get_mut(first).prev = slot;
        }
        self.slab.get_mut(parent).num_children += 1;
        self.index.insert(self.index.hash(path), slot);
        self.account_new(slot, path, prefix_crc);
        slot
    }

    /// Adds a node that was just put in to size, digest and owners.
    fn account_new(&mut self, slot: u32, path: &str, prefix_crc: Option<u32>) {
        let digest_enabled = self.options.digest_enabled;
        let n = self.slab.get_mut(slot);
        self.data_size += node_size(path, n.data_len());
        if digest_enabled {
            n.share = digest::share(known_or_computed(prefix_crc, path, n.data()), &n.stat);
        }
        let stat = n.stat;
        self.digest = self.digest.wrapping_add(self.share_of(slot, path));
        match owner::kind(stat.ephemeral_owner, self.options.extended) {
            _ if slot == ROOT => {}
            Kind::Persistent => {}
            Kind::Container => drop(self.containers.insert(slot)),
            Kind::Ttl(_) => drop(self.ttls.insert(slot)),
            Kind::Ephemeral => self.ephemerals.insert(SessionId(stat.ephemeral_owner), stat.czxid, slot),
        }
    }

    /// Removes a node without children. The caller releases its ACL list.
    fn remove(&mut self, slot: u32, path: &str) -> Node {
        assert!(slot != ROOT && self.slab.get(slot).first_child == NONE, "{path} cannot be taken out");
        self.before_change(slot);
        self.digest = self.digest.wrapping_sub(self.share_of(slot, path));
        let n = self.slab.get(slot);
        let (parent, prev, next, stat) = (n.parent, n.prev, n.next, n.stat);
        self.data_size -= node_size(path, n.data_len());
        let first = self.slab.get(parent).first_child;
        if first == slot {
            self.slab.get_mut(parent).first_child = next;
        } else {
            self.slab.get_mut(prev).next = next;
        }
        if next != NONE {
            self.slab.get_mut(next).prev = prev;
        } else if first != slot {
            self.slab.get_mut(first).prev = prev;
        }
        self.slab.get_mut(parent).num_children -= 1;
        self.index.remove(self.index.hash(path), slot);
        match owner::kind(stat.ephemeral_owner, self.options.extended) {
            Kind::Persistent => {}
            Kind::Container => drop(self.containers.remove(&slot)),
            Kind::Ttl(_) => drop(self.ttls.remove(&slot)),
            Kind::Ephemeral => self.ephemerals.remove(SessionId(stat.ephemeral_owner), stat.czxid, slot),
        }
        self.slab.take(slot)
    }

    /// What a node adds to the digest now.
    fn share_of(&self, slot: u32, path: &str) -> u64 {
        if !self.options.digest_enabled || !digest::is_digested(path) {
            return 0;
        }
        u64::from(self.slab.get(slot).share)
    }

    /// Changes a node's stat in place.
    fn edit_stat(&mut self, slot: u32, path: &str, edit: impl FnOnce(&mut StatPersisted)) {
        self.before_change(slot);
        let before = self.share_of(slot, path);
        let n = self.slab.get_mut(slot);
        let stat_before = n.stat;
        edit(&mut n.stat);
        if self.options.digest_enabled {
            n.share = digest::share_restated(n.share, &stat_before, &n.stat);
        }
        self.digest = self.digest.wrapping_sub(before).wrapping_add(self.share_of(slot, path));
    }

    /// Changes a node's data and stat in place. `prefix_crc` as in [`Tree::apply_known`].
    fn edit_data(
        &mut self,
        slot: u32,
        path: &str,
        data: Option<&[u8]>,
        prefix_crc: Option<u32>,
        edit: impl FnOnce(&mut StatPersisted),
    ) {
        let path = canonical(path);
        self.before_change(slot);
        let before = self.share_of(slot, path);
        let digest_enabled = self.options.digest_enabled;
        let n = self.slab.get_mut(slot);
        self.data_size = self.data_size - n.data_len() as u64 + data.map_or(0, <[u8]>::len) as u64;
        n.set_data(data);
        edit(&mut n.stat);
        if digest_enabled {
            n.share = digest::share(known_or_computed(prefix_crc, path, data), &n.stat);
        }
        self.digest = self.digest.wrapping_sub(before).wrapping_add(self.share_of(slot, path));
    }

    /// Gives a node another list.
    fn replace_acl(&mut self, slot: u32, acl: &SharedAcl) {
        self.before_change(slot);
        let new = self.acls.intern(acl);
        let old = std::mem::replace(&mut self.slab.get_mut(slot).acl, new);
        self.acls.release(old);
    }

    /// Writes the ensemble's configuration into `/zookeeper/config` outside any transaction, as every server does at startup
    /// and when a configuration is activated: version -1, mzxid = the configuration's version, mtime = the local clock. Makes
    /// the node if an old snapshot has none.
    pub fn set_config(&mut self, text: &[u8], version: Zxid, wall_ms: i64, changes: &mut impl FnMut(Change<'_>)) {
        if self.find(path::CONFIG).is_none() {
            self.add_config();
        }
        // Without /zookeeper there is no place for it.
        let Some(slot) = self.find(path::CONFIG) else { return };
        self.edit_data(slot, path::CONFIG, Some(text), None, |s| {
            s.version = -1;
            s.mzxid = version;
            s.mtime = wall_ms;
        });
        self.tell(EventType::NodeDataChanged, path::CONFIG, slot, changes);
    }

    fn tell(&self, event: EventType, path: &str, slot: u32, changes: &mut impl FnMut(Change<'_>)) {
        changes(Change { event, path: canonical(path), acl: self.acls.shared(self.slab.get(slot).acl) });
    }
}

#[cfg(test)]
mod tests;
