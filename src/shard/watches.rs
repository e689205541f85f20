//! Requests that add, query, remove and replay watches. Mirrors the watch operations of `FinalRequestProcessor` and
//! `DataTree.setWatches`.

use super::Shard;
use super::status::WatchPiece;
use crate::limits;
use crate::proto::reply::put_event;
use crate::proto::request::SetWatches;
use crate::tree::Tree;
use crate::types::{ConnId, Zxid};
use crate::watch::setwatches::{Listed, Replay, decide};
use crate::watch::{Kind, WatcherType};

impl Shard {
    pub(super) fn watch_data(&mut self, conn: ConnId, path: &str) {
        debug_assert!(self.conns.get(conn).is_some(), "{conn} is gone and watches {path}");
        self.watches.add(Kind::Data, path, conn);
    }

    pub(super) fn watch_children(&mut self, conn: ConnId, path: &str) {
        debug_assert!(self.conns.get(conn).is_some(), "{conn} is gone and watches the children of {path}");
        self.watches.add(Kind::Child, path, conn);
    }

    /// addWatch with mode 0 or 1; returns `false` for any other mode.
    pub(super) fn add_watch(&mut self, conn: ConnId, path: &str, mode: i32) -> bool {
        if !matches!(mode, 0 | 1) {
            return false;
        }
        self.watches.add_persistent(path, conn, mode == 1);
        true
    }

    /// Whether there is such a watch; `None` if there is no such watcher type.
    pub(super) fn has_watch(&self, conn: ConnId, path: &str, kind: i32) -> Option<bool> {
        Some(self.watches.contains(path, conn, WatcherType::from_code(kind)?))
    }

    /// Removes watches. `None`: there is no such watcher type. `Some(false)`: there was no such watch.
    pub(super) fn remove_watch(&mut self, conn: ConnId, path: &str, kind: i32) -> Option<bool> {
        Some(self.watches.remove(path, conn, WatcherType::from_code(kind)?))
    }

    /// setWatches: events for what changed while the client was away are sent before the reply; the other watches are
    /// set.
    pub(super) fn set_watches(&mut self, conn: ConnId, wanted: &SetWatches, tree: &Tree) {
        let lists = [(Listed::Data, &wanted.data), (Listed::Exist, &wanted.exist), (Listed::Child, &wanted.child)];
        for (kind, paths) in lists {
            for path in paths {
                let state = tree.get(path).map(|n| {
                    let s = n.persisted();
                    (s.mzxid, s.pzxid)
                });
                match decide(kind, wanted.relative_zxid, state) {
                    Replay::Fire(event) => {
                        let Some(c) = self.conns.get_mut(conn) else { return };
                        let before = c.out.len();
                        put_event(&mut c.out, Zxid::NONE, event, path);
                        assert!(c.out.len() > before + 4, "{conn} is told nothing of {path}");
                        self.stats.watch_bytes += (c.out.len() - before - 4) as u64;
                        c.sent += 1;
                        self.stats.since_reset.packets_sent += 1;
                        self.stats.watch_events[event as usize].record(1);
                    }
                    Replay::Rearm if kind == Listed::Child => self.watch_children(conn, path),
                    Replay::Rearm => self.watch_data(conn, path),
                }
            }
        }
        for path in &wanted.persistent {
            self.watches.add_persistent(path, conn, false);
        }
        for path in &wanted.persistent_recursive {
            self.watches.add_persistent(path, conn, true);
        }
    }

    /// A piece of the list of all watches, beginning at `from` (0: the first): see [`crate::watch::WatchTable::piece`].
    pub fn list_watches(&self, from: usize) -> WatchPiece {
        let (piece, next) = self.watches.piece(from, limits::LIST_PIECE);
        let session = |conn| self.conns.get(conn).map(|c| c.session);
        let watches = piece.filter_map(|(conn, path)| Some((session(conn)?, path.to_owned()))).collect();
        WatchPiece { watches, next }
    }
}
