//! The watch table of one shard. Mirrors `WatchManager` (two of them, data and child, behind one path index) and the parts of
//! `DataTree` that address them.
//!
//! A watch is one 28-byte record in two doubly linked lists, its path's and its connection's. Paths with more than a few
//! watchers have theirs in a hash index by (path, connection, table) too: adding, finding and removing one costs the same
//! whether a path has one watcher or a hundred thousand. A path's list keeps the order of registration, and events go out in
//! that order.

use super::interest::{Interest, MAX_SHARDS, SLOTS};
use super::list::{List, NIL};
use super::paths::Paths;
use super::{Kind, Modes, WatcherType};
use crate::types::{ConnId, EventType, ShardId, path};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use std::sync::Arc;

/// One connection's watch on one path in one table. A free record has no mode and is linked into the free list by `path_next`.
pub(super) struct Watch {
    pub(super) path: u32,
    pub(super) conn: u32,
    pub(super) path_prev: u32,
    pub(super) path_next: u32,
    pub(super) conn_prev: u32,
    pub(super) conn_next: u32,
    pub(super) kind: Kind,
    pub(super) modes: Modes,
}

/// A connection with at least one watch.
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) watches: List,
    /// How many of them are in the data table.
    pub(super) data: u32,
    /// The trigger that last notified it: a connection gets one event per trigger.
    pub(super) notified: u64,
}

/// How many watchers a change fired, as ZooKeeper's `node_*_watch_count` metrics count them: per table, and a watcher that a deletion
/// finds in both tables counts in both. Zero means that nothing is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fired {
    /// Watchers the data table triggered.
    pub data: u32,
    /// Watchers the child table triggered.
    pub child: u32,
}

/// All watches of the connections of one shard.
///
/// The path may be any text, because exists sets watches on missing nodes too. If it is not a valid path, the watch never fires.
pub struct WatchTable {
    pub(super) shard: ShardId,
    pub(super) interest: Arc<Interest>,
    /// Watched paths per interest slot.
    pub(super) slot_paths: Box<[u32]>,
    pub(super) paths: Paths,
    pub(super) conns: Vec<Conn>,
    pub(super) free_conns: Vec<u32>,
    pub(super) conn_index: HashMap<ConnId, u32, RandomState>,
    pub(super) watches: Vec<Watch>,
    pub(super) free_watch: u32,
    pub(super) hasher: RandomState,
    pub(super) index: HashTable<u32>,
    /// Records per table.
    pub(super) count: [usize; 2],
    pub(super) data_paths: usize,
    pub(super) data_conns: usize,
    pub(super) recursive: usize,
    trigger: u64,
}

impl WatchTable {
    /// The table of shard number `shard` (below [`MAX_SHARDS`]), which keeps its bits in `interest`.
    pub fn new(shard: ShardId, interest: Arc<Interest>) -> WatchTable {
        assert!(shard.index() < MAX_SHARDS, "shard {} of at most {MAX_SHARDS}", shard.0);
        WatchTable {
            shard,
            interest,
            slot_paths: vec![0; SLOTS].into_boxed_slice(),
            paths: Paths::default(),
            conns: Vec::new(),
            free_conns: Vec::new(),
            conn_index: HashMap::default(),
            watches: Vec::new(),
            free_watch: NIL,
            hasher: RandomState::default(),
            index: HashTable::new(),
            count: [0; 2],
            data_paths: 0,
            data_conns: 0,
            recursive: 0,
            trigger: 0,
        }
    }

    /// Arms a one-shot watch. `false` if it was armed already: several registrations cause one event.
    ///
    /// Call it before reading the state it is armed against (see [`interest`](super::interest)), or under the tree's guard.
    pub fn add(&mut self, kind: Kind, path: &str, conn: ConnId) -> bool {
        self.add_modes(kind, path, conn, Modes::STANDARD)
    }

    /// Arms a persistent watch (in both tables) or a persistent recursive one (in the data table, hence never told of
    /// changed children). `false` if it was there already.
    pub fn add_persistent(&mut self, path: &str, conn: ConnId, recursive: bool) -> bool {
        if recursive {
            return self.add_modes(Kind::Data, path, conn, Modes::RECURSIVE);
        }
        let data = self.add_modes(Kind::Data, path, conn, Modes::PERSISTENT);
        let child = self.add_modes(Kind::Child, path, conn, Modes::PERSISTENT);
        data || child
    }

    /// Whether the connection has a watch of this type on the path.
    pub fn contains(&self, path: &str, conn: ConnId, watcher: WatcherType) -> bool {
        let (Some(path), Some(conn)) = (self.paths.find(path), self.conn_index.get(&conn)) else { return false };
        watcher.modes().into_iter().any(|(kind, modes)| {
            self.find(path, *conn, kind).is_some_and(|w| self.watches[w as usize].modes.intersects(modes))
        })
    }

    /// Removes the watches of this type. `false` (the reply is `NOWATCHER`) if there were none.
    pub fn remove(&mut self, path: &str, conn: ConnId, watcher: WatcherType) -> bool {
        let (Some(path), Some(&conn)) = (self.paths.find(path), self.conn_index.get(&conn)) else { return false };
        let mut removed = false;
        for (kind, modes) in watcher.modes() {
            if let Some(w) = self.find(path, conn, kind) {
                removed |= self.watches[w as usize].modes.intersects(modes);
                self.take_modes(w, modes);
            }
        }
        self.release_path(path);
        removed
    }

    /// Removes every watch of a closed connection, in time proportional to their number. Returns how many there were.
    pub fn remove_conn(&mut self, conn: ConnId) -> usize {
        let Some(&slot) = self.conn_index.get(&conn) else { return 0 };
        let mut w = self.conns[slot as usize].watches.head;
        let mut removed = 0;
        while w != NIL {
            let watch = &self.watches[w as usize];
            let (next, path) = (watch.conn_next, watch.path);
            self.take_modes(w, Modes::ALL);
            self.release_path(path);
            removed += 1;
            w = next;
        }
        removed
    }

    /// Fires the watches that a change concerns and appends to `out` every connection to be told `(event, path)`, each once,
    /// in the order of registration (then recursive watchers, from the parent up to the root). One-shot watches are used up,
    /// even if the caller then drops the event because the client lacks READ permission.
    ///
    /// Creation and new data concern the data table, changed children the child table, deletion both. A connection that a deletion
    /// finds in both is told once.
    pub fn fire(&mut self, event: EventType, path: &str, out: &mut Vec<ConnId>) -> Fired {
        self.trigger += 1;
        let own = self.paths.find(path);
        let mut fired = Fired::default();
        if event != EventType::NodeChildrenChanged {
            if let Some(own) = own {
                fired.data += self.trigger_own(own, Kind::Data, out);
            }
            if self.recursive > 0 {
                fired.data += self.trigger_ancestors(path, out);
            }
        }
        if matches!(event, EventType::NodeChildrenChanged | EventType::NodeDeleted)
            && let Some(own) = own
        {
            fired.child += self.trigger_own(own, Kind::Child, out);
        }
        if let Some(own) = own {
            self.release_path(own);
        }
        fired
    }

    fn trigger_own(&mut self, path: u32, kind: Kind, out: &mut Vec<ConnId>) -> u32 {
        let list = self.paths.get(path).lists[kind as usize];
        let mut w = list.head;
        while w != NIL {
            let watch = &self.watches[w as usize];
            let (next, conn) = (watch.path_next, watch.conn);
            self.notify(conn, out);
            self.take_modes(w, Modes::STANDARD);
            w = next;
        }
        list.len
    }

    fn trigger_ancestors(&mut self, of: &str, out: &mut Vec<ConnId>) -> u32 {
        let mut fired = 0;
        let mut ancestor = path::parent(of);
        while let Some(at) = ancestor {
            ancestor = path::parent(at);
            let Some(id) = self.paths.find(at) else { continue };
            let entry = self.paths.get(id);
            let mut left = entry.recursive;
            let mut w = entry.lists[Kind::Data as usize].head;
            while left > 0 && w != NIL {
                let watch = &self.watches[w as usize];
                w = watch.path_next;
                if watch.modes.intersects(Modes::RECURSIVE) {
                    left -= 1;
                    let conn = watch.conn;
                    fired += u32::from(self.notify(conn, out));
                }
            }
        }
        fired
    }

    /// Tells a connection unless this trigger already has.
    fn notify(&mut self, conn: u32, out: &mut Vec<ConnId>) -> bool {
        let conn = &mut self.conns[conn as usize];
        let first = conn.notified != self.trigger;
        if first {
            conn.notified = self.trigger;
            out.push(conn.id);
        }
        first
    }

    fn add_modes(&mut self, kind: Kind, path: &str, conn: ConnId, modes: Modes) -> bool {
        let (path, new_path) = self.paths.intern(path);
        if new_path {
            let slot = self.paths.get(path).slot;
            let count = &mut self.slot_paths[slot.index()];
            *count += 1;
            if *count == 1 {
                self.interest.set(self.shard, slot);
            }
        }
        let conn = self.intern_conn(conn);
        let w = match self.find(path, conn, kind) {
            Some(w) => w,
            None => self.link(path, conn, kind),
        };
        let had = self.watches[w as usize].modes;
        let has = had.with(modes);
        self.watches[w as usize].modes = has;
        if has.intersects(Modes::RECURSIVE) && !had.intersects(Modes::RECURSIVE) {
            self.paths.get_mut(path).recursive += 1;
            self.recursive += 1;
            if self.recursive == 1 {
                self.interest.set_recursive(self.shard);
            }
        }
        has != had
    }

    /// Removes modes from a watch, and the watch itself when none is left. The path is left for `release_path`.
    fn take_modes(&mut self, w: u32, modes: Modes) {
        let watch = &mut self.watches[w as usize];
        let had = watch.modes;
        let has = had.without(modes);
        watch.modes = has;
        if had.intersects(Modes::RECURSIVE) && !has.intersects(Modes::RECURSIVE) {
            let path = watch.path;
            self.paths.get_mut(path).recursive -= 1;
            self.recursive -= 1;
            if self.recursive == 0 {
                self.interest.clear_recursive(self.shard);
            }
        }
        if has.is_empty() {
            self.unlink(w);
        }
    }

    fn release_path(&mut self, path: u32) {
        let entry = self.paths.get(path);
        if entry.lists.iter().any(|l| l.len > 0) {
            return;
        }
        let slot = entry.slot;
        self.paths.release(path);
        let count = &mut self.slot_paths[slot.index()];
        *count -= 1;
        if *count == 0 {
            self.interest.clear(self.shard, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Summary;
    use super::*;
    use EventType::*;

    fn table() -> WatchTable {
        WatchTable::new(ShardId(0), Arc::new(Interest::new()))
    }

    fn fire(t: &mut WatchTable, event: EventType, path: &str) -> Vec<u64> {
        let mut out = Vec::new();
        t.fire(event, path, &mut out);
        t.check();
        out.into_iter().map(|c| c.0).collect()
    }

    #[test]
    fn one_shot_watches_fire_once_and_in_order_of_registration() {
        let mut t = table();
        for conn in [7, 3, 9, 3] {
            let new = t.add(Kind::Data, "/a", ConnId(conn));
            assert_eq!(new, conn != 3 || t.watch_count() == 2);
        }
        assert_eq!(fire(&mut t, NodeChildrenChanged, "/a"), [0u64; 0]);
        assert_eq!(fire(&mut t, NodeDataChanged, "/a"), [7, 3, 9]);
        assert_eq!(fire(&mut t, NodeDataChanged, "/a"), [0u64; 0]);
        assert_eq!((t.watch_count(), t.summary()), (0, Summary::default()));
    }

    #[test]
    fn a_deletion_addresses_both_tables_and_tells_each_connection_once() {
        let mut t = table();
        t.add(Kind::Child, "/a", ConnId(1));
        t.add(Kind::Data, "/a", ConnId(2));
        t.add(Kind::Child, "/a", ConnId(2));
        let mut out = Vec::new();
        let fired = t.fire(NodeDeleted, "/a", &mut out);
        assert_eq!((out, fired), (vec![ConnId(2), ConnId(1)], Fired { data: 1, child: 2 }));
        assert_eq!(t.watch_count(), 0);
        t.check();
    }

    #[test]
    fn persistent_watches_stay_and_sit_in_both_tables() {
        let mut t = table();
        assert!(t.add_persistent("/a", ConnId(1), false));
        assert!(!t.add_persistent("/a", ConnId(1), false));
        assert_eq!(t.watch_count(), 2);
        for event in [NodeCreated, NodeDataChanged, NodeChildrenChanged, NodeDeleted, NodeDataChanged] {
            assert_eq!(fire(&mut t, event, "/a"), [1]);
        }
        assert_eq!(fire(&mut t, NodeDataChanged, "/a/b"), [0u64; 0]);
    }

    #[test]
    fn recursive_watches_hear_of_descendants_but_never_of_changed_children() {
        let mut t = table();
        t.add_persistent("/a", ConnId(1), true);
        t.add_persistent("/", ConnId(2), true);
        t.add(Kind::Data, "/a/b", ConnId(3));
        assert_eq!(fire(&mut t, NodeChildrenChanged, "/a"), [0u64; 0]);
        assert_eq!(fire(&mut t, NodeDataChanged, "/a/b"), [3, 1, 2]);
        assert_eq!(fire(&mut t, NodeCreated, "/a/b/c/d"), [1, 2]);
        assert_eq!(fire(&mut t, NodeDeleted, "/a"), [1, 2]);
        assert_eq!(fire(&mut t, NodeDataChanged, "/ab"), [2]);
        assert_eq!(fire(&mut t, NodeDataChanged, "/"), [2]);
        assert!(t.remove("/", ConnId(2), WatcherType::PersistentRecursive));
        assert_eq!(fire(&mut t, NodeDataChanged, "/ab"), [0u64; 0]);
    }

    #[test]
    fn modes_coexist_and_give_one_event_per_trigger() {
        let mut t = table();
        t.add(Kind::Data, "/a/b", ConnId(1));
        t.add_persistent("/a/b", ConnId(1), false);
        t.add_persistent("/a/b", ConnId(1), true);
        t.add_persistent("/a", ConnId(1), true);
        assert_eq!(fire(&mut t, NodeDataChanged, "/a/b"), [1]);
        assert!(!t.contains("/a/b", ConnId(1), WatcherType::Data), "the one-shot mode is used up");
        assert!(t.contains("/a/b", ConnId(1), WatcherType::Persistent));
        assert!(t.contains("/a/b", ConnId(1), WatcherType::PersistentRecursive));
        assert!(t.contains("/a/b", ConnId(1), WatcherType::Any));
        assert!(!t.contains("/a/b", ConnId(1), WatcherType::Children), "persistent is not the one-shot child watch");
        assert!(!t.remove("/a/b", ConnId(1), WatcherType::Children));
        assert!(t.remove("/a/b", ConnId(1), WatcherType::Persistent));
        assert!(t.remove("/a/b", ConnId(1), WatcherType::Any));
        assert!(!t.remove("/a/b", ConnId(1), WatcherType::Any));
        assert_eq!(fire(&mut t, NodeDataChanged, "/a/b"), [1], "still watched from /a");
        assert_eq!(t.remove_conn(ConnId(1)), 1);
        t.check();
    }

    #[test]
    fn reports_show_the_data_table_only() {
        let mut t = table();
        t.add(Kind::Data, "/a", ConnId(1));
        t.add(Kind::Data, "/b", ConnId(1));
        t.add(Kind::Data, "/a", ConnId(2));
        t.add(Kind::Child, "/c", ConnId(3));
        assert_eq!(t.summary(), Summary { connections: 2, paths: 2, watches: 3 });
        assert_eq!(t.watch_count(), 4);
        let piece = |from, most| {
            let (piece, next) = t.piece(from, most);
            (piece.map(|(conn, path)| (conn.0, path)).collect::<Vec<_>>(), next)
        };
        assert_eq!(piece(0, 2), (vec![(1, "/a"), (1, "/b")], Some(2)));
        assert_eq!(piece(2, 2), (vec![(2, "/a")], None));
        assert_eq!(piece(9, 2), (vec![], None));
        // What comes and goes between two pieces does not move the others.
        t.remove_conn(ConnId(1));
        let (rest, next) = t.piece(2, 2);
        assert_eq!((rest.map(|(conn, path)| (conn.0, path)).collect::<Vec<_>>(), next), (vec![(2, "/a")], None));
    }

    #[test]
    fn interest_follows_the_first_and_the_last_watch() {
        let interest = Arc::new(Interest::new());
        let mut t = WatchTable::new(ShardId(3), interest.clone());
        let mut other = WatchTable::new(ShardId(4), interest.clone());
        t.add(Kind::Data, "/a", ConnId(1));
        t.add(Kind::Child, "/a", ConnId(2));
        other.add(Kind::Data, "/a", ConnId(9));
        assert_eq!(interest.shards("/a"), 0b11000);
        t.fire(NodeDataChanged, "/a", &mut Vec::new());
        assert_eq!(interest.shards("/a"), 0b11000, "the child watch is left");
        t.remove_conn(ConnId(2));
        assert_eq!(interest.shards("/a"), 0b10000);
        t.add_persistent("/x", ConnId(1), true);
        assert_eq!(interest.shards("/far/away"), 0b01000);
        t.remove_conn(ConnId(1));
        assert_eq!(interest.shards("/far/away"), 0);
        t.check();
        other.check();
    }

    #[test]
    fn a_crowd_on_one_znode_leaves_one_by_one_or_at_once() {
        let mut t = table();
        for conn in 0..2_000 {
            t.add(Kind::Data, "/hot", ConnId(conn));
            t.add(Kind::Child, "/hot", ConnId(conn));
        }
        for conn in (0..2_000).step_by(2) {
            assert_eq!(t.remove_conn(ConnId(conn)), 2);
        }
        t.check();
        assert_eq!(fire(&mut t, NodeDeleted, "/hot"), (1..2_000).step_by(2).collect::<Vec<u64>>());
        assert_eq!(t.watch_count(), 0);
    }

    #[test]
    fn odd_paths_are_kept_and_harmless() {
        let mut t = table();
        for path in ["", "a", "//", "/a/", "\u{0}"] {
            t.add(Kind::Data, path, ConnId(1));
            t.add_persistent(path, ConnId(2), true);
        }
        t.check();
        assert_eq!(fire(&mut t, NodeDataChanged, "/x"), [0u64; 0]);
        assert!(t.contains("", ConnId(1), WatcherType::Data));
        assert_eq!((t.remove_conn(ConnId(1)), t.remove_conn(ConnId(2))), (5, 5));
        t.check();
    }
}
