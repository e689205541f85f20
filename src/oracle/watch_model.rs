//! A naive model of the watch table: a vector of (path, connection, table, mode) that is searched from end to end.

use crate::types::{ConnId, EventType, path};
use crate::watch::{Fired, Kind, WatcherType};

/// The mode of a watch: when it goes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Mode {
    Standard,
    Persistent,
    Recursive,
}

/// The model of one [`WatchTable`](crate::watch::WatchTable).
#[derive(Default)]
pub struct Model {
    watches: Vec<(String, ConnId, Kind, Mode)>,
    /// (path, connection, table) in the order in which they got their first mode.
    order: Vec<(String, ConnId, Kind)>,
}

impl Model {
    /// Every watch: path, connection, table, mode.
    pub fn watches(&self) -> &[(String, ConnId, Kind, Mode)] {
        &self.watches
    }

    /// (path, connection, table) in the order in which they got their first mode.
    pub fn order(&self) -> &[(String, ConnId, Kind)] {
        &self.order
    }

    /// Adds a watch; false if it was already set in this mode.
    pub fn add(&mut self, path: &str, conn: ConnId, kind: Kind, mode: Mode) -> bool {
        let watch = (path.to_string(), conn, kind, mode);
        if self.watches.contains(&watch) {
            return false;
        }
        self.watches.push(watch);
        if !self.order.contains(&(path.to_string(), conn, kind)) {
            self.order.push((path.to_string(), conn, kind));
        }
        true
    }

    /// Removes the watches that `keep` rejects; returns whether there were any.
    pub fn retain(&mut self, keep: impl Fn(&(String, ConnId, Kind, Mode)) -> bool) -> bool {
        let before = self.watches.len();
        self.watches.retain(keep);
        let left = &self.watches;
        self.order.retain(|(p, c, k)| left.iter().any(|w| (&w.0, w.1, w.2) == (p, *c, *k)));
        left.len() != before
    }

    /// Whether a removal of `watcher` watches on `path` by `conn` means this watch.
    pub fn addressed(w: &(String, ConnId, Kind, Mode), path: &str, conn: ConnId, watcher: WatcherType) -> bool {
        w.0 == path
            && w.1 == conn
            && match watcher {
                WatcherType::Children => (w.2, w.3) == (Kind::Child, Mode::Standard),
                WatcherType::Data => (w.2, w.3) == (Kind::Data, Mode::Standard),
                WatcherType::Any => true,
                WatcherType::Persistent => w.3 == Mode::Persistent,
                WatcherType::PersistentRecursive => w.3 == Mode::Recursive,
            }
    }

    /// The connections that one table notifies, nearest path first.
    fn trigger(&mut self, path: &str, kind: Kind) -> Vec<ConnId> {
        let mut told: Vec<ConnId> = Vec::new();
        let mut at = Some(path);
        while let Some(here) = at {
            for (p, conn, k) in &self.order {
                let listens = p == path || self.watches.contains(&(p.clone(), *conn, *k, Mode::Recursive));
                if p == here && *k == kind && listens && !told.contains(conn) {
                    told.push(*conn);
                }
            }
            at = path::parent(here);
        }
        self.retain(|w| !(w.0 == path && w.2 == kind && w.3 == Mode::Standard));
        told
    }

    /// The connections that an event notifies, in order, and how many watches of each table it triggered.
    pub fn fire(&mut self, event: EventType, path: &str) -> (Vec<ConnId>, Fired) {
        let data = match event {
            EventType::NodeChildrenChanged => Vec::new(),
            _ => self.trigger(path, Kind::Data),
        };
        let child = match event {
            EventType::NodeChildrenChanged | EventType::NodeDeleted => self.trigger(path, Kind::Child),
            _ => Vec::new(),
        };
        let fired = Fired { data: data.len() as u32, child: child.len() as u32 };
        let mut told = data.clone();
        told.extend(child.into_iter().filter(|c| !data.contains(c)));
        (told, fired)
    }
}
