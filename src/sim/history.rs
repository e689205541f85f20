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

use super::node::{EXTENDED, TREE};
use super::process::{Cause, Proposed};
use crate::jute::Reader;
use crate::oracle::server_model::{self as naive, Asker, ModelOp, Outcome};
use crate::oracle::tree_model::{Model, ModelChange};
use crate::pipeline::messages::touch_interval_ms;
use crate::tree::{Applied, Tree};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::{Epoch, ErrorCode, Id, Now, Op, ServerId, SessionId, Zxid, path};

/// A transaction and the state after it.
pub(super) struct Entry {
    /// The one that it follows; zero if it is the first of all.
    before: Zxid,
    /// Header, transaction and digest, as they are logged and sent.
    payload: Bytes,
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
    start: Rc<Model>,
    entries: BTreeMap<Zxid, Entry>,
    /// What clients may be shown. It has no branches.
    line: BTreeSet<Zxid>,
    /// There are several servers: proposals join the line when they are committed.
    is_ensemble: bool,
    tick_ms: i32,
    /// For each epoch, the leader that was established and the end of its history then.
    leaders: BTreeMap<Epoch, (ServerId, Zxid)>,
    /// The writes that clients sent, by session and xid, with the identities of the client.
    asked: BTreeMap<(SessionId, i32), (ModelOp, Vec<Id>)>,
    /// The zxids they got.
    proposed: BTreeMap<(SessionId, i32), Zxid>,
    /// The newest zxid that a client has seen: it must never be lost.
    exposed: Zxid,
    /// For each session, the times at which it was heard from, on the monotonic clock.
    heard: BTreeMap<SessionId, Vec<i64>>,
    /// While too many requests are outstanding, servers leave requests undecoded and do not count them as signs of
    /// life.
    pub(super) throttled: bool,
    /// For each session, the newest xid sent on a connection that it has left for another one.
    left: BTreeMap<SessionId, i32>,
    /// Number of server starts.
    boots: u64,
    /// Sessions that clients were given.
    given: BTreeSet<SessionId>,
    /// Sequential numbers that clients were given: parent, the parent's czxid, and number.
    sequence: BTreeSet<(String, Zxid, String)>,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new(is_ensemble: bool, tick_ms: i32) -> History {
        History {
            start: Rc::new(Model::new(TREE)),
            entries: BTreeMap::new(),
            line: BTreeSet::new(),
            is_ensemble,
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

    /// The digest after this proposal, on whatever branch it is.
    pub(super) fn digest_after(&self, zxid: Zxid) -> Result<u64, String> {
        Ok(self.proposal(zxid)?.map_or_else(|| self.start.digest(), |e| e.digest))
    }

    /// The last transaction of a history that ends at `zxid`: a leader's history may end at its epoch's zeroth zxid, which is
    /// that of no transaction.
    fn end(&self, zxid: Zxid) -> Zxid {
        match self.leaders.get(&zxid.epoch()) {
            Some((_, last)) if zxid.counter() == 0 => *last,
            _ => zxid,
        }
    }

    /// A proposal on any branch; none if `zxid` is before all of them.
    fn proposal(&self, zxid: Zxid) -> Result<Option<&Entry>, String> {
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
            return session == SessionId::NONE || self.entries.values().any(closes);
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

    /// A member appends a proposal to its log, which ended at `before`. Returns whether it is a new one, which this member makes.
    pub(super) fn append(&mut self, p: &Proposed, by: ServerId, before: Zxid, now: Now) -> Result<bool, String> {
        let zxid = p.append.zxid;
        let Some(entry) = self.entries.get(&zxid) else {
            if self.leader(zxid.epoch()) != Some(by) {
                return Err(format!("{by:?} appends {zxid}, which nobody proposed"));
            }
            self.propose(p, before, now)?;
            return Ok(true);
        };
        if entry.payload != p.append.payload {
            return Err(format!("{by:?} appends another transaction as {zxid} than was proposed"));
        }
        if entry.before != self.end(before) {
            return Err(format!("{by:?} appends {zxid} behind {before}, it was proposed behind {}", entry.before));
        }
        Ok(false)
    }

    /// A server proposes a transaction that follows `before`.
    pub(super) fn propose(&mut self, p: &Proposed, before: Zxid, now: Now) -> Result<(), String> {
        let (zxid, before) = (p.append.zxid, self.end(before));
        let said = |e: String| format!("proposal {zxid}: {e}");
        let bad = |e| said(format!("unreadable: {e}"));
        let r = &mut Reader::new(&p.append.payload);
        let header = TxnHeader::read(r).map_err(bad)?;
        let txn = Txn::read(header.op, r).map_err(bad)?;
        let digest = TxnDigest::read(r).map_err(bad)?;
        if header.zxid != zxid || !before.precedes(zxid) || header.time_ms != now.wall_ms {
            return Err(said(format!("header {header:?} after {before} at {now:?}")));
        }
        let (tree_before, sessions) = match self.proposal(before).map_err(said)? {
            Some(e) => (e.tree.clone(), e.sessions.clone()),
            None => (self.start.clone(), Rc::default()),
        };
        let mut tree = (*tree_before).clone();
        let (applied, changes) = tree.apply(&header, &txn);
        self.judge(p, &header, &txn, (&tree_before, &tree), &sessions, now).map_err(said)?;
        let digest_now = tree.digest();
        if digest.digest != digest_now {
            return Err(said(format!("carries digest {:#x}, the naive tree has {digest_now:#x}", digest.digest)));
        }
        let sessions = self.sessions_after(&header, &txn, sessions).map_err(said)?;
        let (payload, tree) = (p.append.payload.clone(), Rc::new(tree));
        let entry = Entry { before, payload, header, txn, applied, changes, tree, digest: digest_now, sessions };
        self.entries.insert(zxid, entry);
        if !self.is_ensemble {
            self.line.insert(zxid);
        }
        Ok(())
    }

    fn sessions_after(
        &self,
        header: &TxnHeader,
        txn: &Txn,
        sessions: Rc<BTreeMap<SessionId, i32>>,
    ) -> Result<Rc<BTreeMap<SessionId, i32>>, String> {
        let mut after = (*sessions).clone();
        match txn {
            Txn::CreateSession { timeout_ms } => {
                if after.insert(header.session, *timeout_ms).is_some() || self.given.contains(&header.session) {
                    return Err(format!("session {} is created a second time", header.session));
                }
            }
            Txn::CloseSession { .. } => {
                after.remove(&header.session);
            }
            _ => return Ok(sessions),
        }
        Ok(Rc::new(after))
    }

    /// Checks that the naive server makes the same of the request, on the state before it.
    fn judge(
        &mut self,
        p: &Proposed,
        header: &TxnHeader,
        txn: &Txn,
        trees: (&Model, &Model),
        sessions: &BTreeMap<SessionId, i32>,
        now: Now,
    ) -> Result<(), String> {
        let own = match &p.cause {
            // Requests of other members' clients come without a cause.
            _ if self.is_ensemble => header.op != Op::CREATE_SESSION && header.cxid.0 == 0,
            Cause::Client(w) => {
                let ids = self.asked.get(&(w.session, w.cxid.0)).map_or(&[][..], |(_, ids)| ids);
                if (header.session, header.cxid) != (w.session, w.cxid) || w.auth[..] != *ids {
                    return Err(format!("{header:?} for {w:?}, asked for by {ids:?}"));
                }
                false
            }
            Cause::Handshake => false,
            Cause::Server => true,
        };
        let (request, ids): (ModelOp, Vec<Id>) = if own {
            match self.own(header, txn, sessions, now)? {
                Some(request) => (request, Vec::new()),
                // A deleteContainer that validation refused changes nothing.
                None => return same_nodes(&naive_of(trees.0, sessions), trees.1),
            }
        } else if header.op == Op::CREATE_SESSION {
            (ModelOp::CreateSession, Vec::new())
        } else if self.is_ensemble && is_moved(&Outcome::of(txn)) {
            // What the session sent on a connection that it has left for another member. It may come after later requests.
            return same_nodes(&naive_of(trees.0, sessions), trees.1);
        } else {
            self.request(header)?
        };
        let mut server = naive_of(trees.0, sessions);
        let asker = Asker { session: header.session, ids: &ids, zxid: header.zxid, time_ms: header.time_ms };
        let wanted = server.run(&asker, &request);
        let got = Outcome::of(txn);
        if got != wanted {
            return Err(format!("{request:?} of {} came to {got:?}, should be {wanted:?}", header.session));
        }
        same_nodes(&server, trees.1)
    }

    /// The client's request that this is the transaction of, and the client's identities.
    fn request(&mut self, header: &TxnHeader) -> Result<(ModelOp, Vec<Id>), String> {
        let key = (header.session, header.cxid.0);
        let asked = self.asked.get(&key).ok_or_else(|| format!("nobody asked for {header:?}"))?.clone();
        // What a leader proposes that has lost its quorum has no effect, whatever the session did meanwhile.
        let counts = !self.is_ensemble || self.newest_epoch() == Some(header.zxid.epoch());
        let is_left = |z: &Zxid| !self.is_ensemble || z.epoch() == header.zxid.epoch();
        let newest = self.proposed.range((key.0, i32::MIN)..=(key.0, i32::MAX)).next_back();
        if let Some(((_, xid), z)) = newest.filter(|((_, xid), z)| *xid > key.1 && is_left(z)) {
            return Err(format!("request {} of {} comes after its request {xid} at {z}", key.1, key.0));
        }
        let has_effect = counts && (!self.is_ensemble || header.op != Op::ERROR);
        if has_effect && self.left.get(&key.0).is_some_and(|left| key.1 <= *left) {
            return Err(format!("request {} of {} has effect after the session moved", key.1, key.0));
        }
        if let Some(first) = self.proposed.insert(key, header.zxid) {
            return Err(format!("request {} of {} was proposed at {first} already", key.1, key.0));
        }
        Ok(asked)
    }

    /// Checks what a server proposes by itself: the end of a session that was silent for its timeout, or the deletion
    /// of a container or TTL znode that is due.
    fn own(
        &self,
        header: &TxnHeader,
        txn: &Txn,
        sessions: &BTreeMap<SessionId, i32>,
        now: Now,
    ) -> Result<Option<ModelOp>, String> {
        match (header.op, txn) {
            (Op::CLOSE_SESSION, _) => {
                let timeout = sessions.get(&header.session).copied().ok_or("closes a session that is not open")?;
                // Signs of life in this interval may be known only to the shard. Before it, the session must have been
                // overdue.
                let known = now.mono_ms - touch_interval_ms(self.tick_ms);
                let all = self.heard.get(&header.session).map_or(&[][..], Vec::as_slice);
                let heard = all.iter().rev().find(|at| **at <= known).copied().unwrap_or(i64::MIN / 2);
                if !self.throttled && !self.is_ensemble && known - heard < i64::from(timeout) {
                    return Err(format!(
                        "session {} expires at {} though heard at {heard} with timeout {timeout}",
                        header.session, now.mono_ms
                    ));
                }
                Ok(Some(ModelOp::CloseSession))
            }
            (Op::DELETE_CONTAINER, Txn::Delete { path }) => Ok(Some(ModelOp::DeleteContainer { path: path.clone() })),
            (Op::ERROR, Txn::Error { .. }) => Ok(None),
            other => Err(format!("the server proposes {other:?}")),
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
        let last = tree.last_zxid();
        if last < least || !self.contains(last, least) {
            return Err(format!("lost: recovered up to {last}, but {least} was acknowledged"));
        }
        let entry = self.proposal(last).map_err(|e| format!("recovered {last}: {e}"))?;
        let wanted = entry.map(|e| e.sessions.clone()).unwrap_or_default();
        let wanted: Vec<(SessionId, i32)> = wanted.iter().map(|(s, t)| (*s, *t)).collect();
        if wanted != sessions {
            return Err(format!("recovered at {last} sessions {sessions:?}, should be {wanted:?}"));
        }
        let model = entry.map_or(&self.start, |e| &e.tree);
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

fn naive_of(tree: &Model, sessions: &BTreeMap<SessionId, i32>) -> naive::Model {
    let mut server = naive::Model::new(EXTENDED);
    server.sessions = sessions.keys().copied().collect();
    let node = |n: &crate::oracle::tree_model::ModelNode| naive::ModelNode {
        stat: n.stat,
        data: n.data.clone(),
        acl: n.acl.clone(),
    };
    server.nodes = tree.nodes().iter().map(|(p, n)| (p.clone(), node(n))).collect();
    server
}

/// Whether the request was refused because its session has moved to another member.
fn is_moved(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Error(code) => *code == ErrorCode::SessionMoved.code(),
        Outcome::Multi(all) => all.iter().any(is_moved),
        _ => false,
    }
}

fn same_nodes(server: &naive::Model, tree: &Model) -> Result<(), String> {
    for (p, n) in &server.nodes {
        let m = tree.nodes().get(p).ok_or_else(|| format!("the transaction leaves out {p}"))?;
        if (n.stat, &n.data, &n.acl) != (m.stat, &m.data, &m.acl) {
            return Err(format!("{p}: the request makes {n:?}, the transaction {m:?}"));
        }
    }
    match tree.nodes().keys().find(|p| !server.nodes.contains_key(*p)) {
        Some(p) => Err(format!("the transaction makes {p}, the request does not")),
        None => Ok(()),
    }
}
