//! Watched paths, each stored once and known by a small number.

use super::interest::Slot;
use super::list::{List, NIL};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// One watched path: the heads of its watcher lists in both tables.
pub(super) struct PathEntry {
    pub(super) text: Box<str>,
    hash: u64,
    pub(super) slot: Slot,
    /// Indexed by `Kind`.
    pub(super) lists: [List; 2],
    /// Recursive watchers in the data list.
    pub(super) recursive: u32,
}

/// All watched paths. A number is reused once its path has no watcher left.
#[derive(Default)]
pub(super) struct Paths {
    hasher: RandomState,
    index: HashTable<u32>,
    entries: Vec<PathEntry>,
    free: Vec<u32>,
}

impl Paths {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, path: &str) -> Option<u32> {
        if self.index.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(path);
        self.index.find(hash, |id| &*self.entries[*id as usize].text == path).copied()
    }

    /// The number of `path`, and whether it is new.
    pub(super) fn intern(&mut self, path: &str) -> (u32, bool) {
        let hash = self.hasher.hash_one(path);
        let entries = &self.entries;
        if let Some(id) = self.index.find(hash, |id| &*entries[*id as usize].text == path) {
            return (*id, false);
        }
        let entry = PathEntry { text: path.into(), hash, slot: Slot::of(path), lists: [List::EMPTY; 2], recursive: 0 };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                let id = u32::try_from(self.entries.len()).unwrap_or(NIL);
                assert!(id < NIL, "more than {NIL} watched paths");
                self.entries.push(entry);
                id
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, id, |id| entries[*id as usize].hash);
        (id, true)
    }

    /// Forgets a path without watchers.
    pub(super) fn release(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        assert!(entry.lists.iter().all(|l| l.len == 0), "{} is still watched", entry.text);
        entry.text = Box::default();
        let hash = entry.hash;
        match self.index.find_entry(hash, |at| *at == id) {
            Ok(found) => drop(found.remove()),
            Err(_) => unreachable!("a watched path is in the index"),
        }
        self.free.push(id);
    }

    pub(super) fn get(&self, id: u32) -> &PathEntry {
        &self.entries[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut PathEntry {
        &mut self.entries[id as usize]
    }

    /// Every watched path and its number, in the order of the numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &PathEntry)> {
        self.entries.iter().enumerate().filter(|(_, e)| e.lists.iter().any(|l| l.len > 0)).map(|(id, e)| (id as u32, e))
    }
}
