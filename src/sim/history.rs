//! The history of all transactions, and checks of each one: a naive server must make the same transaction of the
//! request, and a naive tree and the server's tree must agree after applying it. Acknowledged transactions must survive
//! every restart. Others may be lost, but only from the end.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::node::{EXTENDED, TICK_MS};
use super::process::{Cause, Proposed};
use crate::jute::Reader;
use crate::oracle::server_model::{self as naive, Asker, ModelOp, Outcome};
use crate::oracle::tree_model::{Model, ModelChange};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::touch_interval_ms;
use crate::tree::{Applied, Tree, TreeOptions};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::{Id, Now, Op, SessionId, Zxid, path};

/// A transaction and the state after it.
pub(super) struct Entry {
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
    /// The writes that clients sent, by session and xid.
    asked: BTreeMap<(SessionId, i32), ModelOp>,
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

impl Default for History {
    fn default() -> History {
        let options = TreeOptions { extended: EXTENDED, digest_enabled: true };
        History {
            start: Rc::new(Model::new(options)),
            entries: BTreeMap::new(),
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
    /// The newest zxid.
    pub(super) fn last(&self) -> Zxid {
        self.entries.keys().next_back().copied().unwrap_or(Zxid::ZERO)
    }

    /// The newest zxid that a client has seen.
    pub(super) fn exposed(&self) -> Zxid {
        self.exposed
    }

    /// Number of transactions.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// The transaction with this zxid.
    pub(super) fn entry(&self, zxid: Zxid) -> Result<&Entry, String> {
        self.entries.get(&zxid).ok_or_else(|| format!("{zxid} was told, but no such transaction is left"))
    }

    /// The transactions after `after` up to `last`.
    pub(super) fn between(&self, after: Zxid, last: Zxid) -> impl Iterator<Item = (Zxid, &Entry)> {
        self.entries
            .range(after..)
            .filter(move |(z, _)| **z > after)
            .take_while(move |(z, _)| **z <= last)
            .map(|(z, e)| (*z, e))
    }

    /// The naive tree as of `zxid`.
    pub(super) fn tree(&self, zxid: Zxid) -> Rc<Model> {
        self.entries.range(..=zxid).next_back().map_or_else(|| self.start.clone(), |(_, e)| e.tree.clone())
    }

    /// The digest as of `zxid`.
    pub(super) fn digest(&self, zxid: Zxid) -> u64 {
        self.entries.range(..=zxid).next_back().map_or_else(|| self.start.digest(), |(_, e)| e.digest)
    }

    /// The open sessions as of `zxid`.
    pub(super) fn sessions(&self, zxid: Zxid) -> Rc<BTreeMap<SessionId, i32>> {
        self.entries.range(..=zxid).next_back().map(|(_, e)| e.sessions.clone()).unwrap_or_default()
    }

    /// The zxid a client's write was given.
    pub(super) fn zxid_of(&self, session: SessionId, xid: i32) -> Option<Zxid> {
        self.proposed.get(&(session, xid)).copied()
    }

    /// A client sends a write.
    pub(super) fn ask(&mut self, session: SessionId, xid: i32, op: ModelOp) {
        self.asked.insert((session, xid), op);
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
        self.entries.iter().rev().find(|(_, e)| makes(e)).map(|(z, _)| *z)
    }

    /// The newest transaction that the session asked for.
    pub(super) fn newest_of(&self, session: SessionId) -> Zxid {
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

    /// Whether no closeSession was proposed for this session.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.sessions(self.last()).contains_key(&session)
    }

    /// A client has seen `zxid`.
    pub(super) fn expose(&mut self, zxid: Zxid) {
        self.exposed = self.exposed.max(zxid);
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

    /// A server proposes a transaction.
    pub(super) fn propose(&mut self, p: &Proposed, now: Now) -> Result<(), String> {
        let zxid = p.append.zxid;
        let said = |e: String| format!("proposal {zxid}: {e}");
        let bad = |e| said(format!("unreadable: {e}"));
        let r = &mut Reader::new(&p.append.payload);
        let header = TxnHeader::read(r).map_err(bad)?;
        let txn = Txn::read(header.op, r).map_err(bad)?;
        let digest = TxnDigest::read(r).map_err(bad)?;
        let last = self.last();
        if header.zxid != zxid || !last.precedes(zxid) || header.time_ms != now.wall_ms {
            return Err(said(format!("header {header:?} after {last} at {now:?}")));
        }
        let before = self.tree(last);
        let mut tree = (*before).clone();
        let (applied, changes) = tree.apply(&header, &txn);
        let sessions = self.sessions(last);
        self.judge(p, &header, &txn, (&before, &tree), &sessions, now).map_err(said)?;
        let digest_now = tree.digest();
        if digest.digest != digest_now {
            return Err(said(format!("carries digest {:#x}, the naive tree has {digest_now:#x}", digest.digest)));
        }
        let sessions = self.sessions_after(&header, &txn, sessions).map_err(said)?;
        let entry = Entry { header, txn, applied, changes, tree: Rc::new(tree), digest: digest_now, sessions };
        self.entries.insert(zxid, entry);
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
        let none: [Id; 0] = [];
        let (request, ids): (ModelOp, &[Id]) = match &p.cause {
            Cause::Client(w) => (self.request(w, header)?, &w.auth),
            Cause::Handshake => (ModelOp::CreateSession, &none),
            Cause::Server => match self.own(header, txn, sessions, now)? {
                Some(request) => (request, &none),
                // A deleteContainer that validation refused changes nothing.
                None => return same_nodes(&naive_of(trees.0, sessions), trees.1),
            },
        };
        let mut server = naive_of(trees.0, sessions);
        let asker = Asker { session: header.session, ids, zxid: header.zxid, time_ms: header.time_ms };
        let wanted = server.run(&asker, &request);
        let got = Outcome::of(txn);
        if got != wanted {
            return Err(format!("{request:?} of {} came to {got:?}, should be {wanted:?}", header.session));
        }
        same_nodes(&server, trees.1)
    }

    fn request(&mut self, w: &WriteRequest, header: &TxnHeader) -> Result<ModelOp, String> {
        let key = (w.session, w.cxid.0);
        let asked = self.asked.get(&key).ok_or_else(|| format!("nobody asked for {w:?}"))?.clone();
        if (header.session, header.cxid) != (w.session, w.cxid) {
            return Err(format!("{header:?} for {w:?}"));
        }
        let newest = self.proposed.range((key.0, i32::MIN)..=(key.0, i32::MAX)).next_back();
        if let Some(((_, xid), z)) = newest.filter(|((_, xid), _)| *xid > key.1) {
            return Err(format!("request {} of {} comes after its request {xid} at {z}", key.1, key.0));
        }
        if self.left.get(&key.0).is_some_and(|left| key.1 <= *left) {
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
                let known = now.mono_ms - touch_interval_ms(TICK_MS);
                let all = self.heard.get(&header.session).map_or(&[][..], Vec::as_slice);
                let heard = all.iter().rev().find(|at| **at <= known).copied().unwrap_or(i64::MIN / 2);
                if !self.throttled && known - heard < i64::from(timeout) {
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

    /// A server started with this state: the transactions after it are lost and never happened.
    pub(super) fn recovered(&mut self, tree: &Tree, sessions: &[(SessionId, i32)], least: Zxid) -> Result<(), String> {
        self.boots += 1;
        self.compare(tree, sessions, least)?;
        let last = tree.last_zxid();
        self.entries.retain(|z, _| *z <= last);
        self.proposed.retain(|_, z| *z <= last);
        Ok(())
    }

    /// Checks that a recovered state is one of this history, as of `least` or later.
    pub(super) fn compare(&self, tree: &Tree, sessions: &[(SessionId, i32)], least: Zxid) -> Result<(), String> {
        let last = tree.last_zxid();
        if last < least {
            return Err(format!("lost: recovered up to {last}, but {least} was acknowledged"));
        }
        if last > self.last() || last > Zxid::ZERO && !self.entries.contains_key(&last) {
            return Err(format!("recovered {last}, but nobody proposed it"));
        }
        let wanted: Vec<(SessionId, i32)> = self.sessions(last).iter().map(|(s, t)| (*s, *t)).collect();
        if wanted != sessions {
            return Err(format!("recovered at {last} sessions {sessions:?}, should be {wanted:?}"));
        }
        self.tree(last).compare(tree).map_err(|e| format!("recovered at {last}: {e}"))?;
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
