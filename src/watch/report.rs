//! What operators ask a watch table (`wchs`, `wchc`, `wchp`, `mntr`) and what a debug build asserts of it. Mirrors
//! `WatchesSummary`, `WatchesReport`, `WatchesPathReport`.

use super::interest::SLOTS;
use super::link::SHORT;
use super::list::NIL;
use super::table::WatchTable;
use super::{Kind, Modes};
use crate::types::ConnId;

/// The figures of `wchs`: the data table only, as ZooKeeper reports them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Connections with at least one watch.
    pub connections: usize,
    /// Watched paths. Shards may watch the same path: a sum over shards counts it once per shard.
    pub paths: usize,
    /// Watches: a connection with several modes on one path counts once.
    pub watches: usize,
}

impl WatchTable {
    /// Watches in both tables: the `watch_count` of `mntr`. A persistent watch counts twice, as in ZooKeeper.
    pub fn watch_count(&self) -> usize {
        self.count[0] + self.count[1]
    }

    /// The figures of `wchs`.
    pub fn summary(&self) -> Summary {
        Summary { connections: self.data_conns, paths: self.data_paths, watches: self.count[Kind::Data as usize] }
    }

    /// A piece of the list of all watches in the data table, for `wchp` and `wchc`: `most` records from place `from` on, and
    /// the place where the next piece begins. `None`: it was the last. A watch that stays is in exactly one piece, whatever
    /// happens to others between the pieces.
    pub fn piece(&self, from: usize, most: usize) -> (impl Iterator<Item = (ConnId, &str)>, Option<usize>) {
        let end = from.saturating_add(most).min(self.watches.len());
        let records = self.watches[from.min(end)..end].iter();
        let data = records.filter(|w| w.kind == Kind::Data && !w.modes.is_empty());
        let listed = data.map(|w| (self.conns[w.conn as usize].id, &*self.paths.get(w.path).text));
        (listed, (end < self.watches.len()).then_some(end))
    }

    /// Asserts the table's invariants: lists, indexes, counters and interest bits agree. Walks over everything.
    pub fn check(&self) {
        let mut count = [0; 2];
        let mut slots = vec![0u32; SLOTS];
        let (mut recursive, mut data_paths, mut paths, mut indexed) = (0, 0, 0, 0);
        for (id, entry) in self.paths.iter() {
            let mut path_recursive = 0;
            for kind in Kind::BOTH {
                let list = entry.lists[kind as usize];
                let mut prev = NIL;
                let mut w = list.head;
                for _ in 0..list.len {
                    let watch = &self.watches[w as usize];
                    assert!(
                        watch.path == id && watch.kind == kind && watch.path_prev == prev,
                        "{} {kind:?}",
                        entry.text
                    );
                    assert!(!watch.modes.is_empty(), "a linked watch without a mode on {}", entry.text);
                    assert!(
                        kind == Kind::Data || !watch.modes.intersects(Modes::RECURSIVE),
                        "recursive in the child table"
                    );
                    assert_eq!(self.find(id, watch.conn, kind), Some(w), "index of {}", entry.text);
                    path_recursive += u32::from(watch.modes.intersects(Modes::RECURSIVE));
                    (prev, w) = (w, watch.path_next);
                }
                assert!(w == NIL && list.tail == prev, "the {kind:?} list of {} ends elsewhere", entry.text);
                assert!(!list.indexed || list.len > 0, "the empty {kind:?} list of {} is indexed", entry.text);
                assert!(list.indexed || list.len <= SHORT, "the {kind:?} list of {} is not indexed", entry.text);
                indexed += if list.indexed { list.len as usize } else { 0 };
                count[kind as usize] += list.len as usize;
            }
            assert_eq!(path_recursive, entry.recursive, "recursive watchers of {}", entry.text);
            assert_eq!(self.paths.find(&entry.text), Some(id));
            recursive += entry.recursive as usize;
            data_paths += usize::from(entry.lists[Kind::Data as usize].len > 0);
            paths += 1;
            slots[entry.slot.index()] += 1;
        }
        assert_eq!((count, recursive, data_paths), (self.count, self.recursive, self.data_paths));
        assert_eq!(paths, self.paths.len(), "paths without a watcher are kept");
        assert_eq!(self.index.len(), indexed);
        assert!(*slots == *self.slot_paths, "paths per interest slot");
        self.interest.check(self.shard, |slot| slots[slot] > 0, recursive > 0);
        self.check_conns();
    }

    fn check_conns(&self) {
        let mut seen = 0;
        for (id, slot) in &self.conn_index {
            let conn = &self.conns[*slot as usize];
            assert!(conn.id == *id && conn.watches.len > 0, "{id:?} is kept without a watch");
            let (mut len, mut data, mut prev) = (0, 0, NIL);
            let mut w = conn.watches.head;
            while w != NIL {
                let watch = &self.watches[w as usize];
                assert!(watch.conn == *slot && watch.conn_prev == prev, "the list of {id:?} is torn");
                len += 1;
                data += u32::from(watch.kind == Kind::Data);
                (prev, w) = (w, watch.conn_next);
            }
            assert_eq!((len, data, prev), (conn.watches.len, conn.data, conn.watches.tail), "{id:?}");
            seen += len as usize;
        }
        assert_eq!(seen, self.watch_count());
        assert_eq!(self.conn_index.len() + self.free_conns.len(), self.conns.len());
        assert_eq!(self.conns.iter().filter(|c| c.data > 0).count(), self.data_conns);
    }
}
