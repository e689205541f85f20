//! From the hash of a whole path to the slots that may hold it: 8 bytes and a control byte per znode. Plays the part of
//! `NodeHashMap`.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Sub-tables, so that a table that doubles moves a 256th of the entries at a time.
const SUBTABLES: usize = 256;

/// A path's hash, as kept in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PathHash(u32);

impl PathHash {
    fn shard(self) -> usize {
        (self.0 >> 24) as usize
    }
    /// Spread over 64 bits: the table uses the low bits for the place and the top bits for the tag.
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The table. The hash is seeded per process, since clients choose the paths; nothing iterates over it.
pub(super) struct Index {
    hasher: RandomState,
    tables: Vec<HashTable<(PathHash, u32)>>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index { hasher: RandomState::default(), tables: (0..SUBTABLES).map(|_| HashTable::new()).collect() }
    }

    #[inline]
    pub(super) fn hash(&self, path: &str) -> PathHash {
        let mut h = self.hasher.build_hasher();
        h.write(path.as_bytes());
        PathHash((h.finish() >> 32) as u32)
    }

    /// The slot under `hash` that `is_it` recognises.
    #[inline]
    pub(super) fn find(&self, hash: PathHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables[hash.shard()].find(hash.spread(), |e| e.0 == hash && is_it(e.1)).map(|e| e.1)
    }

    /// Adds an entry that is not there.
    pub(super) fn insert(&mut self, hash: PathHash, slot: u32) {
        self.tables[hash.shard()].insert_unique(hash.spread(), (hash, slot), |e| e.0.spread());
    }

    /// Removes an entry. The caller must know that it is there.
    pub(super) fn remove(&mut self, hash: PathHash, slot: u32) {
        let entry = self.tables[hash.shard()].find_entry(hash.spread(), |e| *e == (hash, slot));
        match entry {
            Ok(e) => drop(e.remove()),
            Err(_) => panic!("slot {slot} is not in the index"),
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(HashTable::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_through_growth_and_removal() {
        let mut i = Index::new();
        let paths: Vec<String> = (0..20_000).map(|n| format!("/node-{n}")).collect();
        for (n, p) in paths.iter().enumerate() {
            let h = i.hash(p);
            i.insert(h, n as u32);
        }
        for (n, p) in paths.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
            let h = i.hash(p);
            i.remove(h, n as u32);
        }
        assert_eq!(i.len(), 10_000);
        for (n, p) in paths.iter().enumerate() {
            assert_eq!(i.find(i.hash(p), |s| s == n as u32), (n % 2 == 1).then_some(n as u32));
        }
    }

    #[test]
    fn entries_are_eight_bytes() {
        assert_eq!(size_of::<(PathHash, u32)>(), 8);
    }
}
