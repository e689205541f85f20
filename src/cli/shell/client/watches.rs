//! Which watches this session has set, by the user's paths. Mirrors `ZKWatchManager` with its one default watcher.

use std::collections::BTreeSet;

use super::error::code;
use super::event::EventKind;
use crate::proto::request::SetWatches;
use crate::types::{Zxid, path};

/// A watch that a request's success sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// getData.
    Data,
    /// exists: a data watch if the node is there, else one for its creation.
    Exists,
    /// getChildren.
    Child,
    /// addWatch, this node only.
    Persistent,
    /// addWatch, with everything below.
    PersistentRecursive,
}

/// `Watcher.WatcherType`: which watches to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatcherType {
    Children = 1,
    Data = 2,
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

/// The five tables, keyed by the path the user gave.
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
    /// Notes the watch that a request answered with `err` set.
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

    /// Consumes the one-shot watches of an event and tells whether anybody waits for it.
    pub(crate) fn fire(&mut self, kind: EventKind, path: &str) -> bool {
        let one_shot = match kind {
            EventKind::NodeDataChanged | EventKind::NodeCreated => self.data.remove(path) | self.exist.remove(path),
            EventKind::NodeChildrenChanged => self.child.remove(path),
            EventKind::NodeDeleted => self.data.remove(path) | self.exist.remove(path) | self.child.remove(path),
            _ => return false,
        };
        // A recursive watch promises no child events; one that comes is a standard child watch's.
        let recursive = kind != EventKind::NodeChildrenChanged && self.below_recursive(path);
        one_shot | self.persistent.contains(path) | recursive
    }

    fn below_recursive(&self, at: &str) -> bool {
        !self.recursive.is_empty()
            && std::iter::successors(Some(at), |p| path::parent(p)).any(|p| self.recursive.contains(p))
    }

    /// Forgets the watches of `kind` on `path` after the server's answer `err`, or whatever it was if `local`.
    /// The kinds of removal to report, or the code the caller gets.
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

    /// Drops the one-shot watches, when they are not to be set again after a reconnect.
    pub(crate) fn forget_one_shots(&mut self) {
        self.data.clear();
        self.exist.clear();
        self.child.clear();
    }

    /// The requests that set everything again on a new connection; `server_path` adds the chroot.
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
