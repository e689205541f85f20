//! The tree's invariants, for tests and the simulator: whatever is stored twice must agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::stat::owner::{self, Kind};
use crate::types::{SessionId, path};

use super::acl_table::AclRef;
use super::node::{NONE, ROOT};
use super::{Tree, digest};

impl Tree {
    /// The digest, computed again over all znodes.
    pub fn recompute_digest(&self) -> u64 {
        if !self.options.digest_enabled {
            return 0;
        }
        let counted = self.walk().filter(|(p, _)| digest::is_digested(p));
        counted.fold(0, |sum: u64, (p, z)| {
            sum.wrapping_add(u64::from(digest::share(digest::prefix_crc(&p, z.data()), &z.persisted())))
        })
    }

    /// Whether the invariants hold.
    ///
    /// # Errors
    /// A description of the first that does not.
    pub fn check(&self) -> Result<(), String> {
        self.check_links()?;
        self.check_owners()?;
        self.check_acls()?;
        let (size, recounted) = (self.data_size, self.recount_data_size());
        if size != recounted {
            return Err(format!("data size {size}, counted {recounted}"));
        }
        let (digest, recomputed) = (self.digest, self.recompute_digest());
        if digest != recomputed {
            return Err(format!("digest {digest}, computed {recomputed}"));
        }
        self.check_quotas()
    }

    fn check_links(&self) -> Result<(), String> {
        let mut seen = 0;
        for slot in self.subtree(ROOT) {
            seen += 1;
            let n = self.slab.get(slot);
            let p = self.path_of(slot);
            if slot != ROOT && (n.is_vacant() || n.parent >= slot) {
                return Err(format!("{p}: slot {slot} under slot {}", n.parent));
            }
            if self.find(&p) != Some(slot) {
                return Err(format!("{p}: not found by its path"));
            }
            if self.options.digest_enabled && n.share != digest::share(digest::prefix_crc(&p, n.data()), &n.stat) {
                return Err(format!("{p}: stale CRC"));
            }
            let (mut count, mut last) = (0, NONE);
            for c in self.child_slots(slot) {
                let child = self.slab.get(c);
                if child.parent != slot || (last != NONE && child.prev != last) {
                    return Err(format!("{p}: child {} is linked wrongly", child.name()));
                }
                count += 1;
                last = c;
            }
            if count != n.num_children {
                return Err(format!("{p}: {count} children, counted as {}", n.num_children));
            }
            if n.first_child != NONE && self.slab.get(n.first_child).prev != last {
                return Err(format!("{p}: the first child does not know the last"));
            }
        }
        if seen != self.slab.live() || seen != self.index.len() {
            return Err(format!("{seen} nodes, {} slots, {} in the index", self.slab.live(), self.index.len()));
        }
        Ok(())
    }

    fn check_owners(&self) -> Result<(), String> {
        let (mut containers, mut ttls, mut ephemerals) = (BTreeSet::new(), BTreeSet::new(), 0);
        for slot in self.slab.slots().filter(|s| *s != ROOT) {
            let s = self.slab.get(slot).stat;
            match owner::kind(s.ephemeral_owner, self.options.extended) {
                Kind::Persistent => {}
                Kind::Container => drop(containers.insert(slot)),
                Kind::Ttl(_) => drop(ttls.insert(slot)),
                Kind::Ephemeral => {
                    ephemerals += 1;
                    if !self.ephemerals.contains(SessionId(s.ephemeral_owner), s.czxid, slot) {
                        return Err(format!("{}: not listed under its session", self.path_of(slot)));
                    }
                }
            }
        }
        if containers != self.containers || ttls != self.ttls || ephemerals != self.ephemerals.count() {
            return Err("containers, TTL nodes or ephemerals are listed wrongly".to_owned());
        }
        Ok(())
    }

    fn check_acls(&self) -> Result<(), String> {
        let mut users = BTreeMap::new();
        for slot in self.slab.slots() {
            *users.entry(self.slab.get(slot).acl).or_insert(0u64) += 1;
        }
        users.remove(&AclRef::OPEN);
        if users.len() != self.acls.len() {
            return Err(format!("{} ACL lists in use, {} in the table", users.len(), self.acls.len()));
        }
        for (r, n) in users {
            if n != self.acls.usage(r) {
                return Err(format!("ACL {}: {n} users, counted as {}", self.acls.id(r).0, self.acls.usage(r)));
            }
        }
        Ok(())
    }

    fn check_quotas(&self) -> Result<(), String> {
        for prefix in self.quotas.prefixes() {
            let limits = format!("{}{prefix}/{}", path::QUOTA, path::LIMIT_NODE);
            if self.find(&limits).is_none() {
                return Err(format!("quota of {prefix} without {limits}"));
            }
        }
        Ok(())
    }
}
