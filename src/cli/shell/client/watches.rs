//! The watches that this session has set, by the paths the user gave. Mirrors `ZKWatchManager` with a single default
//! watcher.

use std::collections::BTreeSet;

use super::error::code;
use super::event::EventKind;
use crate::proto::request::SetWatches;
use crate::types::{Zxid, path};

/// The kind of watch that a request sets if it succeeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// getData.
    Data,
    /// exists: a data watch if the znode exists, else a watch for its creation.
    Exists,
    /// getChildren.
    Child,
    /// addWatch on one znode.
    Persistent,
    /// addWatch on a znode and everything below it.
    PersistentRecursive,
}

/// `Watcher.WatcherType`: the kind of watches to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatcherType {
    Children = 1,
    Data = 2,
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

/// The five tables of watches; keys are the paths that the user gave.
#[derive(Default)]
pub(crate) struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

/// Most characters of paths in one setWatches request.
const BATCH_CHARS: usize = 128 * 1024;

impl Watches {
    /// Records the watch of a request that the server answered with `err`.
    pub(crate) fn register(&mut self, what: Registration, path: &str, err: i32) {
        let table = match (what, err) {
            (Registration::Exists, code::NO_NODE) => &mut self.exist,
            (_, e) if e != code::OK => return,
            (Registration::Data | Registration::Exists, _) => &mut self.data,
            (Registration::Child, _) => &mut self.child,
            (Registration::Persistent, _) => &mut self.persistent,
            (Registration::PersistentRecursive, _) => &mut self.recursive,
        };
        table.insert(path.to_owned());
    }

    /// Removes the one-shot watches that an event triggers; returns whether any watch is set for the event.
    pub(crate) fn fire(&mut self, kind: EventKind, path: &str) -> bool {
        let one_shot = match kind {
            EventKind::NodeDataChanged | EventKind::NodeCreated => self.data.remove(path) | self.exist.remove(path),
            EventKind::NodeChildrenChanged => self.child.remove(path),
            EventKind::NodeDeleted => self.data.remove(path) | self.exist.remove(path) | self.child.remove(path),
            _ => return false,
        };
        // A recursive watch gets no child events; a child event comes from an ordinary child watch.
        let recursive = kind != EventKind::NodeChildrenChanged && self.below_recursive(path);
        one_shot | self.persistent.contains(path) | recursive
    }

    fn below_recursive(&self, at: &str) -> bool {
        !self.recursive.is_empty()
            && std::iter::successors(Some(at), |p| path::parent(p)).any(|p| self.recursive.contains(p))
    }

    /// Removes the watches of `kind` on `path` after the server answered `err`; if `local`, whatever it answered.
    /// Returns the kinds of removal to report, or the error code for the caller.
    pub(crate) fn remove(
        &mut self,
        path: &str,
        kind: WatcherType,
        local: bool,
        err: i32,
    ) -> Result<Vec<EventKind>, i32> {
        let is = |t: WatcherType| kind == t || kind == WatcherType::Any;
        let child = is(WatcherType::Children) && self.child.contains(path);
        let data = is(WatcherType::Data) && (self.data.contains(path) || self.exist.contains(path));
        let persistent = is(WatcherType::Persistent) && self.persistent.contains(path);
        let recursive = is(WatcherType::PersistentRecursive) && self.recursive.contains(path);
        if !(child || data || persistent || recursive) {
            return Err(code::NO_WATCHER);
        }
        if !local && err != code::OK {
            return Err(err);
        }
        let mut removed = Vec::new();
        if child {
            self.child.remove(path);
            removed.push(EventKind::ChildWatchRemoved);
        }
        if data {
            self.data.remove(path);
            self.exist.remove(path);
            removed.push(EventKind::DataWatchRemoved);
        }
        if persistent {
            self.persistent.remove(path);
        }
        if recursive {
            self.recursive.remove(path);
        }
        if persistent || recursive {
            removed.push(EventKind::PersistentWatchRemoved);
        }
        Ok(removed)
    }

    /// Removes the one-shot watches, if they are not to be set again after a reconnect.
    pub(crate) fn forget_one_shots(&mut self) {
        self.data.clear();
        self.exist.clear();
        self.child.clear();
    }

    /// The requests that set all watches again on a new connection; `server_path` adds the chroot.
    pub(crate) fn rearm(&self, seen: Zxid, server_path: impl Fn(&str) -> String) -> Vec<SetWatches> {
        type Field = fn(&mut SetWatches) -> &mut Vec<String>;
        let tables: [(&BTreeSet<String>, Field); 5] = [
            (&self.data, |w| &mut w.data),
            (&self.exist, |w| &mut w.exist),
            (&self.child, |w| &mut w.child),
            (&self.persistent, |w| &mut w.persistent),
            (&self.recursive, |w| &mut w.persistent_recursive),
        ];
        let mut batches = Vec::new();
        let mut batch = SetWatches { relative_zxid: seen, ..SetWatches::default() };
        let mut chars = 0;
        for (table, field) in tables {
            for path in table {
                let path = server_path(path);
                chars += path.len();
                field(&mut batch).push(path);
                if chars >= BATCH_CHARS {
                    batches.push(std::mem::take(&mut batch));
                    batch.relative_zxid = seen;
                    chars = 0;
                }
            }
        }
        if chars > 0 {
            batches.push(batch);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shots_fire_once_and_persistent_ones_forever() {
        let mut w = Watches::default();
        w.register(Registration::Data, "/a", code::OK);
        w.register(Registration::Exists, "/b", code::NO_NODE);
        w.register(Registration::Child, "/c", code::NO_NODE);
        w.register(Registration::Persistent, "/p", code::OK);
        w.register(Registration::PersistentRecursive, "/r", code::OK);
        assert!(w.fire(EventKind::NodeDataChanged, "/a") && !w.fire(EventKind::NodeDataChanged, "/a"));
        assert!(w.fire(EventKind::NodeCreated, "/b") && !w.fire(EventKind::NodeCreated, "/b"));
        assert!(!w.fire(EventKind::NodeChildrenChanged, "/c"));
        for _ in 0..2 {
            assert!(w.fire(EventKind::NodeChildrenChanged, "/p"));
            assert!(w.fire(EventKind::NodeCreated, "/r/x/y") && w.fire(EventKind::NodeDeleted, "/r"));
            assert!(!w.fire(EventKind::NodeChildrenChanged, "/r/x"));
            assert!(!w.fire(EventKind::NodeCreated, "/rx"));
        }
        w.register(Registration::PersistentRecursive, "/", code::OK);
        assert!(w.fire(EventKind::NodeCreated, "/rx") && w.fire(EventKind::NodeDataChanged, "/"));
    }

    #[test]
    fn removal() {
        let mut w = Watches::default();
        w.register(Registration::Data, "/a", code::OK);
        w.register(Registration::Child, "/a", code::OK);
        w.register(Registration::PersistentRecursive, "/a", code::OK);
        assert_eq!(w.remove("/a", WatcherType::Persistent, false, code::OK), Err(code::NO_WATCHER));
        assert_eq!(
            w.remove("/a", WatcherType::Data, false, code::CONNECTION_LOSS),
            Err(code::CONNECTION_LOSS),
            "a failure of the server's keeps the watch"
        );
        assert_eq!(
            w.remove("/a", WatcherType::Data, true, code::CONNECTION_LOSS),
            Ok(vec![EventKind::DataWatchRemoved])
        );
        assert_eq!(
            w.remove("/a", WatcherType::Any, false, code::OK),
            Ok(vec![EventKind::ChildWatchRemoved, EventKind::PersistentWatchRemoved])
        );
        assert!(w.rearm(Zxid(1), str::to_owned).is_empty());
    }

    #[test]
    fn rearming_is_batched_and_complete() {
        let mut w = Watches::default();
        for i in 0..300 {
            w.register(Registration::Data, &format!("/{i:0>1000}"), code::OK);
        }
        w.register(Registration::Persistent, "/p", code::OK);
        let batches = w.rearm(Zxid(7), |p| format!("/root{p}"));
        assert_eq!(batches.iter().map(|b| b.data.len()).sum::<usize>(), 300);
        assert!(batches.len() > 2 && batches.iter().all(|b| b.relative_zxid == Zxid(7)));
        assert!(batches.iter().all(|b| b.data.iter().map(String::len).sum::<usize>() < BATCH_CHARS + 1100));
        assert_eq!(batches.last().map(|b| b.persistent.clone()), Some(vec!["/root/p".to_owned()]));
    }
}
