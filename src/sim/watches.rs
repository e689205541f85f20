//! The watches that the simulator expects: those that the server has, and those that the client believes to have.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::tree_model::{Model, ModelChange};
use crate::proto::request::SetWatches;
use crate::types::acl::permits;
use crate::types::{EventType, Id, Zxid, perms};

/// The watches of one connection on the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Armed {
    /// Set by exists and getData.
    pub(super) data: BTreeSet<String>,
    /// Set by getChildren.
    pub(super) child: BTreeSet<String>,
    /// addWatch, mode 0.
    pub(super) persistent: BTreeSet<String>,
    /// addWatch, mode 1.
    pub(super) recursive: BTreeSet<String>,
}

impl Armed {
    /// Whether the client must get an event for this change; one-shot watches are used up by it. `ids` are the
    /// identities of the connection, which decide what it may read.
    pub(super) fn fire(&mut self, (event, path, acl): &ModelChange, ids: &[Id]) -> bool {
        let below = |top: &String| top == "/" || path == top || path.starts_with(&format!("{top}/"));
        let told = match event {
            EventType::NodeChildrenChanged => self.child.remove(path) | self.persistent.contains(path),
            EventType::NodeDeleted => {
                // A one-shot watch is removed from both tables.
                let one_shot = self.data.remove(path) | self.child.remove(path);
                one_shot | self.persistent.contains(path) | self.recursive.iter().any(below)
            }
            EventType::NodeCreated | EventType::NodeDataChanged => {
                self.data.remove(path) | self.persistent.contains(path) | self.recursive.iter().any(below)
            }
        };
        told && permits(acl.as_deref(), ids, perms::READ)
    }

    /// removeWatches of any kind: returns whether there was such a watch.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        self.data.remove(path) | self.child.remove(path) | self.persistent.remove(path) | self.recursive.remove(path)
    }

    /// setWatches2 on a new connection, when the tree is `tree`: returns the events that are sent at once, in order,
    /// and sets the other watches.
    pub(super) fn replay(&mut self, w: &SetWatches, tree: &Model) -> Vec<(EventType, String)> {
        let mut told = Vec::new();
        let stat = |p: &str| tree.nodes().get(p).map(|n| n.stat);
        for p in &w.data {
            match stat(p) {
                None => told.push((EventType::NodeDeleted, p.clone())),
                Some(s) if s.mzxid > w.relative_zxid => told.push((EventType::NodeDataChanged, p.clone())),
                Some(_) => drop(self.data.insert(p.clone())),
            }
        }
        for p in &w.exist {
            match stat(p) {
                Some(_) => told.push((EventType::NodeCreated, p.clone())),
                None => drop(self.data.insert(p.clone())),
            }
        }
        for p in &w.child {
            match stat(p) {
                None => told.push((EventType::NodeDeleted, p.clone())),
                Some(s) if s.pzxid > w.relative_zxid => told.push((EventType::NodeChildrenChanged, p.clone())),
                Some(_) => drop(self.child.insert(p.clone())),
            }
        }
        self.persistent.extend(w.persistent.iter().cloned());
        self.recursive.extend(w.persistent_recursive.iter().cloned());
        told
    }
}

/// The watches on the client's side, which outlive its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The path, and whether the znode did not exist when exists was sent.
    pub(super) data: BTreeMap<String, bool>,
    /// Set by getChildren.
    pub(super) child: BTreeSet<String>,
    /// addWatch, mode 0.
    pub(super) persistent: BTreeSet<String>,
    /// addWatch, mode 1.
    pub(super) recursive: BTreeSet<String>,
}

impl Known {
    /// An event arrived: removes the one-shot watches that it uses up.
    pub(super) fn told(&mut self, event: EventType, path: &str) {
        if event != EventType::NodeChildrenChanged {
            self.data.remove(path);
        }
        if matches!(event, EventType::NodeChildrenChanged | EventType::NodeDeleted) {
            self.child.remove(path);
        }
    }

    /// removeWatches of any kind.
    pub(super) fn remove(&mut self, path: &str) {
        self.data.remove(path);
        self.child.remove(path);
        self.persistent.remove(path);
        self.recursive.remove(path);
    }

    /// What setWatches2 sends after a reconnect.
    pub(super) fn list(&self, relative_zxid: Zxid) -> SetWatches {
        let of = |missing: bool| self.data.iter().filter(|(_, m)| **m == missing).map(|(p, _)| p.clone()).collect();
        SetWatches {
            relative_zxid,
            data: of(false),
            exist: of(true),
            child: self.child.iter().cloned().collect(),
            persistent: self.persistent.iter().cloned().collect(),
            persistent_recursive: self.recursive.iter().cloned().collect(),
        }
    }
}
