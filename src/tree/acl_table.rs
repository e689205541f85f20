//! Interned ACL lists with reference counts. Mirrors `ReferenceCountedACLCache`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::acl::SharedAcl;
use crate::types::{Acl, AclId, Id};

/// A list in the table, as a znode holds it: four bytes instead of ZooKeeper's eight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct AclRef(u32);

impl AclRef {
    /// `world:anyone`, all permissions.
    pub(super) const OPEN: AclRef = AclRef(u32::MAX);
}

static OPEN_LIST: SharedAcl = None;

struct Entry {
    id: AclId,
    /// Always `Some`; an `Option` so that a reference to it is a `&SharedAcl`.
    list: SharedAcl,
    refs: u64,
    /// A snapshot names this id without saying what it means: closed to all until the log replay says.
    unresolved: bool,
}

/// The table.
#[derive(Default)]
pub(super) struct AclTable {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_list: HashMap<Arc<[Acl]>, u32>,
    last_id: i64,
}

impl AclTable {
    fn entry(&self, r: AclRef) -> &Entry {
        self.entries[r.0 as usize].as_ref().expect("a znode's ACL is in the table")
    }

    fn entry_mut(&mut self, r: AclRef) -> &mut Entry {
        self.entries[r.0 as usize].as_mut().expect("a znode's ACL is in the table")
    }

    fn add(&mut self, entry: Entry) -> AclRef {
        if let (false, Some(list)) = (entry.unresolved, &entry.list) {
            self.by_list.entry(Arc::clone(list)).or_insert(self.free.last().map_or(self.entries.len() as u32, |s| *s));
        }
        match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = Some(entry);
                AclRef(slot)
            }
            None => {
                self.entries.push(Some(entry));
                AclRef(self.entries.len() as u32 - 1)
            }
        }
    }

    /// The reference of a list, with one more user.
    pub(super) fn intern(&mut self, list: &SharedAcl) -> AclRef {
        let Some(list) = list else { return AclRef::OPEN };
        if let Some(slot) = self.by_list.get(list) {
            let r = AclRef(*slot);
            self.entry_mut(r).refs += 1;
            return r;
        }
        self.last_id += 1;
        self.add(Entry { id: AclId(self.last_id), list: Some(Arc::clone(list)), refs: 1, unresolved: false })
    }

    /// One user less. Without users the list is removed.
    pub(super) fn release(&mut self, r: AclRef) {
        if r == AclRef::OPEN {
            return;
        }
        let e = self.entry_mut(r);
        e.refs -= 1;
        if e.refs == 0 {
            self.forget(r);
        }
    }

    fn forget(&mut self, r: AclRef) {
        if let Some(Entry { list: Some(list), .. }) = self.entries[r.0 as usize].take() {
            if self.by_list.get(&list) == Some(&r.0) {
                self.by_list.remove(&list);
            }
            self.free.push(r.0);
        }
    }

    #[inline]
    pub(super) fn shared(&self, r: AclRef) -> &SharedAcl {
        if r == AclRef::OPEN { &OPEN_LIST } else { &self.entry(r).list }
    }

    pub(super) fn id(&self, r: AclRef) -> AclId {
        if r == AclRef::OPEN { AclId::OPEN } else { self.entry(r).id }
    }

    /// Keeps new numbers above a loaded one, unless that one is so high that only damage explains it.
    fn reserve(&mut self, id: AclId) {
        if id.0 < 1 << 62 {
            self.last_id = self.last_id.max(id.0);
        }
    }

    /// A list under the number a snapshot gives it, without users yet.
    pub(super) fn add_loaded(&mut self, id: AclId, list: Vec<Acl>) -> AclRef {
        self.reserve(id);
        let list = crate::txn::body::share(list);
        match list {
            None => AclRef::OPEN,
            Some(_) => self.add(Entry { id, list, refs: 0, unresolved: false }),
        }
    }

    /// A number no list was given for: nobody but `super` may do anything.
    pub(super) fn add_unresolved(&mut self, id: AclId) -> AclRef {
        self.reserve(id);
        let closed: Arc<[Acl]> = Arc::from([Acl { perms: 0, id: Id::world() }]);
        self.add(Entry { id, list: Some(closed), refs: 0, unresolved: true })
    }

    /// One user more of a loaded list.
    pub(super) fn add_usage(&mut self, r: AclRef) {
        if r != AclRef::OPEN {
            self.entry_mut(r).refs += 1;
        }
    }

    /// Forgets lists without users (after loading).
    pub(super) fn purge_unused(&mut self) {
        for slot in 0..self.entries.len() as u32 {
            if self.entries[slot as usize].as_ref().is_some_and(|e| e.refs == 0) {
                self.forget(AclRef(slot));
            }
        }
    }

    pub(super) fn is_unresolved(&self, r: AclRef) -> bool {
        r != AclRef::OPEN && self.entry(r).unresolved
    }

    pub(super) fn any_unresolved(&self) -> bool {
        self.entries.iter().flatten().any(|e| e.unresolved)
    }

    /// Lists in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Users of each list, by reference number; for checks.
    pub(super) fn usage(&self, r: AclRef) -> u64 {
        if r == AclRef::OPEN { 0 } else { self.entry(r).refs }
    }

    /// The table as a snapshot has it, by ascending id, without unresolved ids.
    pub(super) fn lists(&self) -> Vec<(AclId, Arc<[Acl]>)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .flatten()
            .filter(|e| !e.unresolved)
            .filter_map(|e| Some((e.id, Arc::clone(e.list.as_ref()?))))
            .collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::acl::permits;

    fn list(name: &str) -> SharedAcl {
        Some(Arc::from([Acl { perms: 1, id: Id::new("digest", name) }]))
    }

    #[test]
    fn same_list_same_number_until_the_last_user_leaves() {
        let mut t = AclTable::default();
        let (a, b, a2) = (t.intern(&list("a")), t.intern(&list("b")), t.intern(&list("a")));
        assert_eq!((a, t.id(a), t.id(b), t.len()), (a2, AclId(1), AclId(2), 2));
        t.release(a);
        assert_eq!(t.shared(a), &list("a"));
        t.release(a);
        assert_eq!(t.len(), 1);
        let again = t.intern(&list("a"));
        assert_eq!(t.id(again), AclId(3), "numbers are not reused");
        assert_eq!(t.shared(b), &list("b"));
        assert_eq!(t.intern(&None), AclRef::OPEN);
        assert_eq!(t.id(AclRef::OPEN), AclId::OPEN);
    }

    #[test]
    fn an_unresolved_number_is_closed_and_not_written() {
        let mut t = AclTable::default();
        let r = t.add_unresolved(AclId(7));
        t.add_usage(r);
        assert!(t.any_unresolved() && t.is_unresolved(r));
        assert!(!permits(t.shared(r).as_deref(), &[Id::world(), Id::new("ip", "127.0.0.1")], 31));
        assert!(t.lists().is_empty());
        let a = t.intern(&list("a"));
        assert_eq!(t.id(a), AclId(8));
        t.release(r);
        assert!(!t.any_unresolved());
    }

    #[test]
    fn two_loaded_numbers_of_one_list_do_not_disturb_each_other() {
        let mut t = AclTable::default();
        let l = vec![Acl { perms: 1, id: Id::new("digest", "a") }];
        let (x, y) = (t.add_loaded(AclId(3), l.clone()), t.add_loaded(AclId(4), l));
        t.add_usage(x);
        t.add_usage(y);
        t.release(y);
        assert_eq!(t.intern(&list("a")), x);
        t.release(x);
        t.release(x);
        assert_eq!(t.len(), 0);
        let z = t.intern(&list("a"));
        assert_eq!(t.id(z), AclId(5));
        assert_eq!(t.add_loaded(AclId(9), vec![Acl::world_all()]), AclRef::OPEN);
        t.add_loaded(AclId(10), vec![Acl { perms: 2, id: Id::world() }]);
        t.purge_unused();
        assert_eq!(t.len(), 1);
    }
}
