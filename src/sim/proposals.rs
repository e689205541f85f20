//! Checks of each proposal: a naive server must make the same transaction of the request, and a naive tree and the server's tree must
//! agree after applying it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::history::{Entry, History};
use super::node::EXTENDED;
use super::process::{Cause, Proposed};
use crate::jute::Reader;
use crate::oracle::server_model::{self as naive, Asker, ModelOp, Outcome};
use crate::oracle::tree_model::{Model, ModelNode};
use crate::pipeline::messages::touch_interval_ms;
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::stat::owner::{self, Kind};
use crate::types::{ErrorCode, Id, Now, Op, ServerId, SessionId, Zxid};

impl History {
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
        has_owners(&tree, &sessions).map_err(said)?;
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
                let is_given = self.given.contains(&header.session) && !self.is_local(header.session);
                if after.insert(header.session, *timeout_ms).is_some() || is_given {
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
        } else if self.is_ensemble && self.has_no_say(header, &Outcome::of(txn), sessions) {
            // What the session sent on a connection that it has left for another member. It may come after later requests.
            return same_nodes(&naive_of(trees.0, sessions), trees.1);
        } else {
            self.request(header)?
        };
        let is_local = self.is_local(header.session) && !sessions.contains_key(&header.session);
        if is_local && is_refused(&Outcome::of(txn)) {
            // Its server may have forgotten it, and ephemerals may not be for it.
            return same_nodes(&naive_of(trees.0, sessions), trees.1);
        }
        let mut server = naive_of(trees.0, sessions);
        if is_local {
            server.sessions.insert(header.session);
        }
        let asker = Asker { session: header.session, ids: &ids, zxid: header.zxid, time_ms: header.time_ms };
        let wanted = server.run(&asker, &request);
        let got = Outcome::of(txn);
        if got != wanted {
            return Err(format!("{request:?} of {} came to {got:?}, should be {wanted:?}", header.session));
        }
        let has_ephemerals = server.nodes.values().any(|node| node.stat.ephemeral_owner == header.session.0);
        if is_local && header.op != Op::CREATE_SESSION && has_ephemerals {
            return Err(format!("the local session {} has ephemerals", header.session));
        }
        same_nodes(&server, trees.1)
    }

    /// Whether the request has no effect because its session has moved to another member, or was closed there: then it fails, perhaps
    /// for another reason that is looked at before the session is. A multi of nothing has nothing that could be refused because of that.
    fn has_no_say(&self, header: &TxnHeader, outcome: &Outcome, sessions: &BTreeMap<SessionId, i32>) -> bool {
        let is_open = sessions.contains_key(&header.session);
        let newer = (header.session, header.cxid.0.saturating_add(1))..=(header.session, i32::MAX);
        let is_late = self.proposed.range(newer).next().is_some();
        let has_left = self.left.get(&header.session).is_some_and(|left| header.cxid.0 <= *left);
        let may_fail = !is_open || is_late || has_left;
        is_moved(outcome) || may_fail && has_failed(outcome) || *outcome == Outcome::Multi(Vec::new())
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

/// Whether nothing was done. A multi is done as a whole or not at all.
fn has_failed(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Error(_) => true,
        Outcome::Multi(all) => all.iter().any(has_failed),
        _ => false,
    }
}

/// Whether a request was refused because of the session that asked for it.
fn is_refused(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Error(code) => {
            [ErrorCode::SessionExpired, ErrorCode::EphemeralOnLocalSession].iter().any(|why| why.code() == *code)
        }
        Outcome::Multi(all) => all.iter().any(is_refused),
        _ => false,
    }
}

/// Every ephemeral belongs to an open session.
fn has_owners(tree: &Model, sessions: &BTreeMap<SessionId, i32>) -> Result<(), String> {
    let is_orphan = |node: &&ModelNode| {
        let owner = node.stat.ephemeral_owner;
        owner::kind(owner, EXTENDED) == Kind::Ephemeral && !sessions.contains_key(&SessionId(owner))
    };
    match tree.nodes().iter().find(|(_, node)| is_orphan(node)) {
        Some((path, node)) => Err(format!("{path} belongs to no open session: {:?}", node.stat)),
        None => Ok(()),
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
