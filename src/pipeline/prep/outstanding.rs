//! Outstanding changes: those that are proposed but not applied yet. They are laid over the tree. Mirrors
//! `ZooKeeperServer.outstandingChanges` and `outstandingChangesForPath`.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};

use super::state::{Record, State};
use crate::tree::digest::is_digested;
use crate::types::{SessionId, Zxid};

/// The newest outstanding change of one path.
#[derive(Clone, Debug)]
struct Change {
    path: Arc<str>,
    zxid: Zxid,
    /// The node after the change; `None` if it is deleted.
    record: Option<Record>,
}

/// One entry per change, oldest first, so that changes can be dropped when their zxid is applied.
#[derive(Debug)]
struct Queued {
    zxid: Zxid,
    /// The hash of the path, kept so that it need not be computed again.
    hash: u64,
    path: Arc<str>,
    /// The session, if the change created one of its ephemerals.
    owner: Option<SessionId>,
}

/// A session whose creation or close is proposed but not applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SessionChange {
    /// createSession is proposed: the session counts as known.
    Created,
    /// closeSession is proposed: later requests of the session are refused.
    Closing,
}

/// All outstanding changes. Those made since [`Outstanding::begin`] can be undone with [`Outstanding::roll_back`].
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    hasher: foldhash::fast::RandomState,
    changes: HashTable<Change>,
    queue: VecDeque<Queued>,
    /// Paths of ephemerals created by outstanding changes, oldest first.
    created: HashMap<SessionId, VecDeque<Arc<str>>, foldhash::fast::RandomState>,
    sessions: HashMap<SessionId, (Zxid, SessionChange), foldhash::fast::RandomState>,
    session_queue: VecDeque<(Zxid, SessionId)>,
    /// The tree's digest after the newest change; undefined while `queue` is empty.
    predicted: u64,
    /// What the changes since `begin` replaced, oldest first.
    undo: Vec<(u64, Arc<str>, Option<Change>)>,
    begun: Begun,
    /// Changes queued since the start, for the metrics.
    pub(super) queued_count: u64,
    /// Changes dropped since the start, for the metrics.
    pub(super) removed_count: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    queued: usize,
    predicted: u64,
}

impl Outstanding {
    /// Sets the two counters back to 0.
    pub(super) fn reset_counts(&mut self) {
        (self.queued_count, self.removed_count) = (0, 0);
    }

    /// Begins a request: [`Outstanding::roll_back`] goes back to this point.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.begun = Begun { queued: self.queue.len(), predicted: self.predicted };
    }

    /// The node as it will be once all proposals so far are applied.
    pub(super) fn get(&self, state: &impl State, path: &str) -> Option<Record> {
        match self.change(path) {
            Some(change) => change.record.clone(),
            None => state.record(path),
        }
    }

    fn change(&self, path: &str) -> Option<&Change> {
        if self.changes.is_empty() {
            return None;
        }
        self.changes.find(self.hasher.hash_one(path), |c| *c.path == *path)
    }

    /// The tree's digest as it will be once all proposals so far are applied.
    pub(super) fn digest(&self, state: &impl State) -> u64 {
        if self.queue.is_empty() { state.digest() } else { self.predicted }
    }

    /// Records that the transaction `zxid` changes `before` (what [`Outstanding::get`] returned) to `after`. With
    /// `digested` the predicted digest is updated too.
    pub(super) fn set(
        &mut self,
        state: &impl State,
        zxid: Zxid,
        path: &str,
        before: Option<&Record>,
        after: Option<Record>,
        digested: bool,
    ) {
        if digested && !is_digested(path) {
            self.predicted = self.digest(state);
        } else if digested {
            let sum = |r: Option<&Record>| r.map_or(0, |r| u64::from(r.share));
            self.predicted = self.digest(state).wrapping_sub(sum(before)).wrapping_add(sum(after.as_ref()));
        }
        let owner = match (before, &after) {
            (None, Some(r)) if r.stat.ephemeral_owner != 0 => Some(SessionId(r.stat.ephemeral_owner)),
            _ => None,
        };
        let hash = self.hasher.hash_one(path);
        let (key, old) = match self.changes.entry(hash, |c| *c.path == *path, |c| self.hasher.hash_one(&*c.path)) {
            Entry::Occupied(mut entry) => {
                let key = Arc::clone(&entry.get().path);
                let change = Change { path: Arc::clone(&key), zxid, record: after };
                (key, Some(std::mem::replace(entry.get_mut(), change)))
            }
            Entry::Vacant(entry) => {
                let key: Arc<str> = Arc::from(path);
                entry.insert(Change { path: Arc::clone(&key), zxid, record: after });
                (key, None)
            }
        };
        if let Some(owner) = owner {
            self.created.entry(owner).or_default().push_back(Arc::clone(&key));
        }
        self.queue.push_back(Queued { zxid, hash, path: Arc::clone(&key), owner });
        self.undo.push((hash, key, old));
        self.queued_count += 1;
    }

    /// Undoes every change since [`Outstanding::begin`].
    pub(super) fn roll_back(&mut self) {
        while let Some((hash, path, old)) = self.undo.pop() {
            let Ok(mut entry) = self.changes.find_entry(hash, |c| Arc::ptr_eq(&c.path, &path)) else {
                unreachable!("{path} was changed and is not in the table")
            };
            match old {
                Some(change) => *entry.get_mut() = change,
                None => drop(entry.remove()),
            }
        }
        while self.queue.len() > self.begun.queued {
            if let Some(Queued { owner: Some(owner), .. }) = self.queue.pop_back() {
                self.forget_created(owner, VecDeque::pop_back);
            }
            self.removed_count += 1;
        }
        self.predicted = self.begun.predicted;
    }

    fn forget_created(&mut self, owner: SessionId, pop: fn(&mut VecDeque<Arc<str>>) -> Option<Arc<str>>) {
        let Some(list) = self.created.get_mut(&owner) else { unreachable!("ephemeral of {owner} was never listed") };
        pop(list);
        if list.is_empty() {
            self.created.remove(&owner);
        }
    }

    /// The ephemerals that `session` will have once all proposals so far are applied, sorted.
    pub(super) fn ephemerals_of(&self, state: &impl State, session: SessionId) -> Vec<String> {
        let mut paths = state.ephemerals_of(session);
        let still_owned = |path: &str| match self.change(path) {
            Some(c) => c.record.as_ref().is_some_and(|r| r.stat.ephemeral_owner == session.0),
            None => true,
        };
        paths.retain(|p| still_owned(p));
        if let Some(created) = self.created.get(&session) {
            paths.extend(created.iter().filter(|p| still_owned(p)).map(|p| p.to_string()));
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Records a session's creation or close.
    pub(super) fn set_session(&mut self, zxid: Zxid, session: SessionId, change: SessionChange) {
        self.sessions.insert(session, (zxid, change));
        self.session_queue.push_back((zxid, session));
    }

    /// The session's newest outstanding change.
    pub(super) fn session(&self, session: SessionId) -> Option<SessionChange> {
        if self.sessions.is_empty() { None } else { self.sessions.get(&session).map(|(_, change)| *change) }
    }

    /// Drops the changes of `zxid` and of all before it: the tree contains them now.
    pub(super) fn applied(&mut self, zxid: Zxid) {
        self.undo.clear();
        while self.queue.front().is_some_and(|q| q.zxid <= zxid) {
            let Some(Queued { path, hash, owner, zxid: changed }) = self.queue.pop_front() else { break };
            // A path keeps the same key object as long as it has an outstanding change.
            if let Ok(entry) = self.changes.find_entry(hash, |c| c.zxid == changed && Arc::ptr_eq(&c.path, &path)) {
                entry.remove();
            }
            if let Some(owner) = owner {
                self.forget_created(owner, VecDeque::pop_front);
            }
            self.removed_count += 1;
        }
        while let Some((changed, session)) = self.session_queue.front().copied().filter(|(z, _)| *z <= zxid) {
            self.session_queue.pop_front();
            if self.sessions.get(&session).is_some_and(|(z, _)| *z == changed) {
                self.sessions.remove(&session);
            }
        }
    }

    /// Number of changes that are not applied yet.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Asserts what must hold between requests.
    pub(super) fn check(&self) {
        let mut last: HashMap<&str, Zxid> = HashMap::new();
        let mut previous = Zxid(i64::MIN);
        let mut ephemerals = 0;
        for q in &self.queue {
            assert!(previous <= q.zxid, "outstanding {} after {previous}", q.zxid);
            previous = q.zxid;
            last.insert(&q.path, q.zxid);
            ephemerals += usize::from(q.owner.is_some());
        }
        assert_eq!(last.len(), self.changes.len(), "paths queued and paths changed differ");
        for change in &self.changes {
            assert_eq!(last.get(&*change.path), Some(&change.zxid), "last change of {}", change.path);
        }
        assert_eq!(ephemerals, self.created.values().map(VecDeque::len).sum::<usize>());
        assert!(self.created.values().all(|l| !l.is_empty()));
        assert!(self.sessions.len() <= self.session_queue.len());
    }
}
