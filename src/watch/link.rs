//! How a record gets into and out of the watch table's lists and its index.

use super::list::{List, NIL};
use super::table::{Conn, Watch, WatchTable};
use super::{Kind, Modes};
use crate::types::ConnId;
use std::hash::BuildHasher;

/// A path's list up to this length is searched as a whole. Most lists have one record and are not in the index.
pub(super) const SHORT: u32 = 8;

impl WatchTable {
    fn hash(&self, path: u32, conn: u32, kind: Kind) -> u64 {
        // Connections stay below 2^31, so no bits of the three overlap.
        self.hasher.hash_one(u64::from(path) << 32 | u64::from(conn) << 1 | kind as u64)
    }

    /// The record of this connection on this path.
    pub(super) fn find(&self, path: u32, conn: u32, kind: Kind) -> Option<u32> {
        let list = self.paths.get(path).lists[kind as usize];
        if list.indexed {
            let is = |w: &u32| {
                let w = &self.watches[*w as usize];
                w.path == path && w.conn == conn && w.kind == kind
            };
            return self.index.find(self.hash(path, conn, kind), is).copied();
        }
        let mut w = list.head;
        while w != NIL && self.watches[w as usize].conn != conn {
            w = self.watches[w as usize].path_next;
        }
        (w != NIL).then_some(w)
    }

    /// The number of a connection; a new one has no watch yet and must get one.
    pub(super) fn intern_conn(&mut self, id: ConnId) -> u32 {
        if let Some(slot) = self.conn_index.get(&id) {
            return *slot;
        }
        let conn = Conn { id, watches: List::EMPTY, data: 0, notified: 0 };
        let slot = match self.free_conns.pop() {
            Some(slot) => {
                self.conns[slot as usize] = conn;
                slot
            }
            None => {
                assert!(self.conns.len() < (NIL >> 1) as usize, "too many connections");
                self.conns.push(conn);
                self.conns.len() as u32 - 1
            }
        };
        self.conn_index.insert(id, slot);
        slot
    }

    /// Appends a new record, still without a mode, to both of its lists.
    pub(super) fn link(&mut self, path: u32, conn: u32, kind: Kind) -> u32 {
        let path_prev = self.paths.get(path).lists[kind as usize].tail;
        let conn_prev = self.conns[conn as usize].watches.tail;
        let modes = Modes::NONE;
        let w = self.store(Watch { path, conn, path_prev, path_next: NIL, conn_prev, conn_next: NIL, kind, modes });
        let list = &mut self.paths.get_mut(path).lists[kind as usize];
        let entry = &mut self.conns[conn as usize];
        list.tail = w;
        list.len += 1;
        entry.watches.tail = w;
        entry.watches.len += 1;
        match path_prev {
            NIL => list.head = w,
            prev => self.watches[prev as usize].path_next = w,
        }
        match conn_prev {
            NIL => entry.watches.head = w,
            prev => self.watches[prev as usize].conn_next = w,
        }
        self.count[kind as usize] += 1;
        if kind == Kind::Data {
            entry.data += 1;
            self.data_conns += usize::from(entry.data == 1);
            self.data_paths += usize::from(list.len == 1);
        }
        let outgrown = !list.indexed && list.len > SHORT;
        list.indexed |= outgrown;
        let (head, indexed) = (list.head, list.indexed);
        if outgrown {
            let mut all = head;
            while all != NIL {
                self.enter(all);
                all = self.watches[all as usize].path_next;
            }
        } else if indexed {
            self.enter(w);
        }
        w
    }

    fn store(&mut self, watch: Watch) -> u32 {
        if self.free_watch == NIL {
            assert!(self.watches.len() < NIL as usize, "more than {NIL} watches");
            self.watches.push(watch);
            return self.watches.len() as u32 - 1;
        }
        let w = self.free_watch;
        self.free_watch = self.watches[w as usize].path_next;
        self.watches[w as usize] = watch;
        w
    }

    /// Puts a record into the index.
    fn enter(&mut self, w: u32) {
        // Taken out of the table meanwhile, because an index that grows needs the hashes of the records.
        let mut index = std::mem::take(&mut self.index);
        let hash = |w: &u32| {
            let Watch { path, conn, kind, .. } = self.watches[*w as usize];
            self.hash(path, conn, kind)
        };
        index.insert_unique(hash(&w), w, hash);
        self.index = index;
    }

    /// Removes a record from its lists and the index, and its connection if this was its last watch.
    pub(super) fn unlink(&mut self, w: u32) {
        let Watch { path, conn, path_prev, path_next, conn_prev, conn_next, kind, .. } = self.watches[w as usize];
        if self.paths.get(path).lists[kind as usize].indexed {
            match self.index.find_entry(self.hash(path, conn, kind), |at| *at == w) {
                Ok(found) => drop(found.remove()),
                Err(_) => unreachable!("a record of an indexed list is in the index"),
            }
        }
        let list = &mut self.paths.get_mut(path).lists[kind as usize];
        list.len -= 1;
        list.indexed &= list.len > 0;
        match path_prev {
            NIL => list.head = path_next,
            prev => self.watches[prev as usize].path_next = path_next,
        }
        match path_next {
            NIL => list.tail = path_prev,
            next => self.watches[next as usize].path_prev = path_prev,
        }
        let entry = &mut self.conns[conn as usize];
        entry.watches.len -= 1;
        match conn_prev {
            NIL => entry.watches.head = conn_next,
            prev => self.watches[prev as usize].conn_next = conn_next,
        }
        match conn_next {
            NIL => entry.watches.tail = conn_prev,
            next => self.watches[next as usize].conn_prev = conn_prev,
        }
        self.count[kind as usize] -= 1;
        if kind == Kind::Data {
            entry.data -= 1;
            self.data_conns -= usize::from(entry.data == 0);
            self.data_paths -= usize::from(list.len == 0);
        }
        if entry.watches.len == 0 {
            self.conn_index.remove(&entry.id);
            self.free_conns.push(conn);
        }
        let watch = &mut self.watches[w as usize];
        (watch.modes, watch.path_next) = (Modes::NONE, self.free_watch);
        self.free_watch = w;
    }
}
