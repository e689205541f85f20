//! The history of all transactions, and checks of each one: a naive server must make the same transaction of the
//! request, and a naive tree and the server's tree must agree after applying it. Acknowledged transactions must survive
//! every restart. Others may be lost, but only from the end.
//!
//! Each proposal knows which one it follows. In an ensemble the proposals are thus a tree: leaders that lost their quorum end
//! branches. Its *line* is what is committed, and only that may be shown to clients. A standalone server proposes only what
//! will be committed unless the server crashes, so there everything that is left is on the line.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

use super::node::TREE;
use crate::oracle::server_model::ModelOp;
use crate::oracle::tree_model::{Model, ModelChange};
use crate::tree::{Applied, Tree};
use crate::txn::{Txn, TxnHeader};
use crate::types::{Epoch, Id, Now, ServerId, SessionId, Zxid, path};

/// A transaction and the state after it.
pub(super) struct Entry {
    /// The one that it follows; zero if it is the first of all.
    pub(super) before: Zxid,
    /// Header, transaction and digest, as they are logged and sent.
    pub(super) payload: Bytes,
    /// Its header.
    pub(super) header: TxnHeader,
    /// Its body.
    pub(super) txn: Txn,
    /// The result of applying it to the naive tree.
    pub(super) applied: Applied,
    /// The watch events according to the naive tree, in order.
    pub(super) changes: Vec<ModelChange>,
    /// The naive tree after it.
    pub(super) tree: Rc<Model>,
    /// The digest after it.
    pub(super) digest: u64,
    /// The open sessions after it, with their timeouts.
    pub(super) sessions: Rc<BTreeMap<SessionId, i32>>,
}

/// The history, shared by everything in the world.
pub(super) struct History {
    pub(super) start: Rc<Model>,
    pub(super) entries: BTreeMap<Zxid, Entry>,
    /// What clients may be shown. It has no branches.
    pub(super) line: BTreeSet<Zxid>,
    /// There are several servers: proposals join the line when they are committed.
    pub(super) is_ensemble: bool,
    /// New sessions are local ones.
    pub(super) has_local: bool,
    /// Local sessions that clients were given, also those that became global ones.
    pub(super) local: BTreeSet<SessionId>,
    pub(super) tick_ms: i32,
    /// For each epoch, the leader that was established and the end of its history then.
    pub(super) leaders: BTreeMap<Epoch, (ServerId, Zxid)>,
    /// The writes that clients sent, by session and xid, with the identities of the client.
    pub(super) asked: BTreeMap<(SessionId, i32), (ModelOp, Vec<Id>)>,
    /// The zxids they got.
    pub(super) proposed: BTreeMap<(SessionId, i32), Zxid>,
    /// The newest zxid that a client has seen: it must never be lost.
    pub(super) exposed: Zxid,
    /// For each session, the times at which it was heard from, on the monotonic clock.
    pub(super) heard: BTreeMap<SessionId, Vec<i64>>,
    /// While too many requests are outstanding, servers leave requests undecoded and do not count them as signs of
    /// life.
    pub(super) throttled: bool,
    /// For each session, the newest xid sent on a connection that it has left for another one.
    pub(super) left: BTreeMap<SessionId, i32>,
    /// Number of server starts.
    pub(super) boots: u64,
    /// Sessions that clients were given.
    pub(super) given: BTreeSet<SessionId>,
    /// Sequential numbers that clients were given: parent, the parent's czxid, and number.
    pub(super) sequence: BTreeSet<(String, Zxid, String)>,
    /// Fuzzy snapshots of Apache-like members: the zxid that each has, and the newest transaction of which it shows something.
    pub(super) blurred: BTreeMap<Zxid, Zxid>,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new(is_ensemble: bool, has_local: bool, tick_ms: i32) -> History {
        History {
            start: Rc::new(Model::new(TREE)),
            entries: BTreeMap::new(),
            line: BTreeSet::new(),
            is_ensemble,
            has_local,
            local: BTreeSet::new(),
            tick_ms,
            leaders: BTreeMap::new(),
            asked: BTreeMap::new(),
            proposed: BTreeMap::new(),
            exposed: Zxid::ZERO,
            heard: BTreeMap::new(),
            throttled: false,
            left: BTreeMap::new(),
            boots: 0,
            given: BTreeSet::new(),
            sequence: BTreeSet::new(),
            blurred: BTreeMap::new(),
        }
    }
}

impl History {
    /// The end of the line.
    pub(super) fn last(&self) -> Zxid {
        self.line.last().copied().unwrap_or(Zxid::ZERO)
    }

    /// The newest zxid that a client has seen.
    pub(super) fn exposed(&self) -> Zxid {
        self.exposed
    }

    /// Number of transactions.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Number of proposals that are not on the line.
    pub(super) fn dropped(&self) -> usize {
        self.entries.len() - self.line.len()
    }

    /// The session that this proposal creates.
    pub(super) fn creates(&self, zxid: Zxid) -> Option<SessionId> {
        let entry = self.entries.get(&zxid).filter(|e| matches!(e.txn, Txn::CreateSession { .. }));
        entry.map(|e| e.header.session)
    }

    /// The transaction with this zxid, which clients may be shown.
    pub(super) fn entry(&self, zxid: Zxid) -> Result<&Entry, String> {
        let entry = self.entries.get(&zxid).filter(|_| self.line.contains(&zxid));
        entry.ok_or_else(|| format!("{zxid} was told, but no such transaction is left"))
    }

    /// The transactions on the line after `after` up to `last`.
    pub(super) fn between(&self, after: Zxid, last: Zxid) -> impl Iterator<Item = (Zxid, &Entry)> {
        let after = std::ops::Bound::Excluded(after);
        self.line.range((after, std::ops::Bound::Included(last.max(Zxid::ZERO)))).map(|z| (*z, &self.entries[z]))
    }

    /// The last transaction on the line up to `zxid`.
    fn shown(&self, zxid: Zxid) -> Option<&Entry> {
        self.line.range(..=zxid).next_back().map(|z| &self.entries[z])
    }

    /// What clients may be shown as of `zxid`.
    pub(super) fn tree(&self, zxid: Zxid) -> Rc<Model> {
        self.shown(zxid).map_or_else(|| self.start.clone(), |e| e.tree.clone())
    }

    /// The open sessions on the line.
    pub(super) fn sessions(&self) -> Rc<BTreeMap<SessionId, i32>> {
        self.shown(Zxid(i64::MAX)).map(|e| e.sessions.clone()).unwrap_or_default()
    }

    /// The naive tree as of this proposal, on whatever branch it is.
    pub(super) fn model_at(&self, zxid: Zxid) -> Rc<Model> {
        self.entries.get(&self.end(zxid)).map_or_else(|| self.start.clone(), |e| e.tree.clone())
    }

    /// The open sessions then.
    pub(super) fn sessions_at(&self, zxid: Zxid) -> Rc<BTreeMap<SessionId, i32>> {
        self.entries.get(&self.end(zxid)).map(|e| e.sessions.clone()).unwrap_or_default()
    }

    /// The last proposals of a history that ends at `last`, oldest first, at most so many.
    pub(super) fn up_to(&self, last: Zxid, most: usize) -> Vec<(Zxid, Bytes)> {
        let mut found = Vec::new();
        let mut at = self.end(last);
        while let Some(entry) = self.entries.get(&at).filter(|_| found.len() < most) {
            found.push((at, entry.payload.clone()));
            at = entry.before;
        }
        found.reverse();
        found
    }

    /// A snapshot of `zxid` shows some of what came after it, up to `later`.
    pub(super) fn blurred(&mut self, zxid: Zxid, later: Zxid) {
        let known = self.blurred.entry(zxid).or_insert(later);
        *known = later.max(*known);
    }

    /// Whether a tree as of `zxid` that was made from a fuzzy snapshot may be another one than it should be.
    pub(super) fn is_blurred(&self, zxid: Zxid) -> bool {
        self.blurred.range(..=zxid).any(|(_, later)| zxid < *later)
    }

    /// The digest after this proposal, on whatever branch it is.
    pub(super) fn digest_after(&self, zxid: Zxid) -> Result<u64, String> {
        Ok(self.proposal(zxid)?.map_or_else(|| self.start.digest(), |e| e.digest))
    }

    /// The last transaction of a history that ends at `zxid`: a leader's history may end at its epoch's zeroth zxid, which is
    /// that of no transaction.
    pub(super) fn end(&self, zxid: Zxid) -> Zxid {
        match self.leaders.get(&zxid.epoch()) {
            Some((_, last)) if zxid.counter() == 0 => *last,
            // A member whose directory is empty may have no history at all.
            _ => zxid.max(Zxid::ZERO),
        }
    }

    /// A proposal on any branch; none if `zxid` is before all of them.
    pub(super) fn proposal(&self, zxid: Zxid) -> Result<Option<&Entry>, String> {
        let zxid = self.end(zxid);
        if zxid == Zxid::ZERO {
            return Ok(None);
        }
        self.entries.get(&zxid).map(Some).ok_or_else(|| format!("nobody proposed {zxid}"))
    }

    /// Whether both are the end of the same history.
    pub(super) fn same(&self, one: Zxid, other: Zxid) -> bool {
        self.end(one) == self.end(other)
    }

    /// Whether a history that ends at `last` contains `zxid`.
    pub(super) fn contains(&self, last: Zxid, zxid: Zxid) -> bool {
        let (mut at, zxid) = (self.end(last), self.end(zxid));
        while at > zxid {
            at = self.entries.get(&at).map_or(Zxid::ZERO, |e| e.before);
        }
        at == zxid
    }

    /// The last transaction that is in both histories.
    pub(super) fn common(&self, one: Zxid, other: Zxid) -> Zxid {
        let (mut one, mut other) = (self.end(one), self.end(other));
        while one != other {
            let later = if one > other { &mut one } else { &mut other };
            *later = self.entries.get(later).map_or(Zxid::ZERO, |e| e.before);
        }
        one
    }

    /// The last proposal of an older epoch in a history that ends at `last`.
    pub(super) fn before_epoch(&self, last: Zxid, epoch: Epoch) -> Zxid {
        let mut at = self.end(last);
        while at != Zxid::ZERO && at.epoch() >= epoch {
            at = self.entries.get(&at).map_or(Zxid::ZERO, |e| e.before);
        }
        at
    }

    /// A leader is established in `epoch` with a history that ends at `last`. All of that is committed, and what was committed
    /// before, under leaders of older epochs, is in it.
    pub(super) fn established(&mut self, epoch: Epoch, leader: ServerId, last: Zxid) -> Result<(), String> {
        let last = self.end(last);
        if let Some((before, end)) = self.leaders.get(&epoch)
            && (*before, *end) != (leader, last)
        {
            return Err(format!(
                "{leader:?} is established in {epoch:?} as {before:?} was, whose history ended at {end}"
            ));
        }
        let is_newest = self.leaders.keys().next_back().is_none_or(|newest| *newest < epoch);
        if is_newest && !self.contains(last, self.last()) {
            return Err(format!("{leader:?} is established in {epoch:?} without {}, which is committed", self.last()));
        }
        self.leaders.insert(epoch, (leader, last));
        self.commit(last)
    }

    /// Whether this transaction is committed.
    pub(super) fn is_committed(&self, zxid: Zxid) -> bool {
        self.line.contains(&self.end(zxid))
    }

    /// The leader of an epoch, if one was established.
    pub(super) fn leader(&self, epoch: Epoch) -> Option<ServerId> {
        self.leaders.get(&epoch).map(|(leader, _)| *leader)
    }

    /// The newest epoch with an established leader.
    pub(super) fn newest_epoch(&self) -> Option<Epoch> {
        self.leaders.keys().next_back().copied()
    }

    /// A leader has committed everything up to `zxid`.
    pub(super) fn commit(&mut self, zxid: Zxid) -> Result<(), String> {
        let (mut at, last) = (self.end(zxid), self.last());
        let mut more = Vec::new();
        while at > last {
            more.push(at);
            at = self.entries.get(&at).ok_or_else(|| format!("{at} is committed, and nobody proposed it"))?.before;
        }
        if at != last && !self.line.contains(&at) && at != Zxid::ZERO {
            return Err(format!("{zxid} is committed after {at}, but {last} is committed too"));
        }
        self.line.extend(more);
        Ok(())
    }

    /// The zxid a client's write was given.
    pub(super) fn zxid_of(&self, session: SessionId, xid: i32) -> Option<Zxid> {
        self.proposed.get(&(session, xid)).copied().filter(|zxid| self.line.contains(zxid))
    }

    /// A client with these identities sends a write.
    pub(super) fn ask(&mut self, session: SessionId, xid: i32, op: ModelOp, ids: &[Id]) {
        self.asked.insert((session, xid), (op, ids.to_vec()));
    }

    /// A whole request of the session reached the server.
    pub(super) fn heard(&mut self, session: SessionId, now: Now) {
        self.heard.entry(session).or_default().push(now.mono_ms);
    }

    /// A client was given a new session.
    pub(super) fn give(&mut self, session: SessionId) -> Result<(), String> {
        if self.given.insert(session) { Ok(()) } else { Err(format!("session {session} was given twice")) }
    }

    /// A client was given a session that no transaction made.
    pub(super) fn give_local(&mut self, session: SessionId) -> Result<(), String> {
        if !self.has_local {
            return Err(format!("session {session} was made by no transaction"));
        }
        self.local.insert(session);
        Ok(())
    }

    /// Whether this was a local session once.
    pub(super) fn is_local(&self, session: SessionId) -> bool {
        self.local.contains(&session)
    }

    /// The zxid of the transaction that created a session.
    pub(super) fn session_made(&self, session: SessionId) -> Option<Zxid> {
        let makes = |e: &Entry| e.header.session == session && matches!(e.txn, Txn::CreateSession { .. });
        self.line.iter().rev().find(|z| makes(&self.entries[z])).copied()
    }

    /// The newest transaction that the session asked for, if its next connection must show it: another member may not have it
    /// yet when it lets the session in.
    pub(super) fn newest_of(&self, session: SessionId) -> Zxid {
        if self.is_ensemble {
            return Zxid::ZERO;
        }
        let all = self.proposed.range((session, i32::MIN)..=(session, i32::MAX));
        all.map(|(_, zxid)| *zxid).max().unwrap_or(Zxid::ZERO)
    }

    /// A client has its session on a new connection. What it sent on the old ones, up to `xid`, has been executed by
    /// now or never will be.
    pub(super) fn moved(&mut self, session: SessionId, xid: i32) {
        self.left.insert(session, xid);
    }

    /// Number of server starts so far.
    pub(super) fn boots(&self) -> u64 {
        self.boots
    }

    /// Whether a member may refuse this session, asked on a connection that began after `boots` starts.
    pub(super) fn may_refuse(&self, session: SessionId, boots: u64) -> bool {
        if self.is_ensemble {
            // Perhaps its leader proposed to close it, and lost its quorum then.
            let closes = |e: &Entry| e.header.session == session && matches!(e.txn, Txn::CloseSession { .. });
            // A local session ends with its server's role, without a transaction.
            return session == SessionId::NONE || self.is_local(session) || self.entries.values().any(closes);
        }
        !self.sessions().contains_key(&session) || self.boots != boots
    }

    /// A client has seen `zxid`.
    pub(super) fn expose(&mut self, zxid: Zxid) -> Result<(), String> {
        let end = self.end(zxid);
        if end != Zxid::ZERO && !self.line.contains(&end) {
            return Err(format!("a client was shown {zxid}, which is not committed"));
        }
        self.exposed = self.exposed.max(zxid);
        Ok(())
    }

    /// A client was told that its sequential znode, created by `zxid`, is `path`.
    pub(super) fn number(&mut self, zxid: Zxid, path: &str) -> Result<(), String> {
        let parent = path::parent(path).unwrap_or("/").to_owned();
        let czxid = self.tree(zxid).nodes().get(&parent).map_or(Zxid::ZERO, |n| n.stat.czxid);
        let number = path[path.len().saturating_sub(10)..].to_owned();
        if self.sequence.insert((parent.clone(), czxid, number)) {
            Ok(())
        } else {
            Err(format!("{path}: the number was given before in {parent}"))
        }
    }

    /// A server started with this state. If it is alone, the transactions after it are lost and never happened.
    pub(super) fn recovered(&mut self, tree: &Tree, sessions: &[(SessionId, i32)], least: Zxid) -> Result<(), String> {
        self.boots += 1;
        self.compare(tree, sessions, least)?;
        if self.is_ensemble {
            return Ok(());
        }
        let last = tree.last_zxid();
        self.entries.retain(|z, _| *z <= last);
        self.line.retain(|z| *z <= last);
        self.proposed.retain(|_, z| *z <= last);
        Ok(())
    }

    /// Checks that a recovered state is one of this history and contains `least`.
    pub(super) fn compare(&self, tree: &Tree, sessions: &[(SessionId, i32)], least: Zxid) -> Result<(), String> {
        let last = tree.last_zxid().max(Zxid::ZERO);
        if last < least || !self.contains(last, least) {
            return Err(format!("lost: recovered up to {last}, but {least} was acknowledged"));
        }
        let entry = self.proposal(last).map_err(|e| format!("recovered {last}: {e}"))?;
        if self.is_blurred(last) {
            return Ok(());
        }
        let wanted = entry.map(|e| e.sessions.clone()).unwrap_or_default();
        let wanted: Vec<(SessionId, i32)> = wanted.iter().map(|(s, t)| (*s, *t)).collect();
        if wanted != sessions {
            return Err(format!("recovered at {last} sessions {sessions:?}, should be {wanted:?}"));
        }
        let model = entry.map_or(&self.start, |e| &e.tree);
        if tree.last_zxid() == Zxid::NONE {
            // It has no history, and is not to begin one: whatever it has will be replaced.
            return Ok(());
        }
        let mut model = Model::clone(model);
        if self.is_ensemble {
            model.take_config(tree);
        }
        model.compare(tree).map_err(|e| format!("recovered at {last}: {e}"))?;
        if let Some(owner) = tree.ephemeral_owners().find(|s| wanted.iter().all(|(w, _)| w != s)) {
            return Err(format!("recovered at {last}: {owner} owns ephemerals and is no session"));
        }
        Ok(())
    }
}
