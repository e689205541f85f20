//! A simulated client: it sends random requests and checks every reply and event against the history.

use std::collections::VecDeque;

use super::history::History;
use super::net::NodeId;
use super::requests::{Asked, put_auth};
use super::watches::{Armed, Known};
use crate::auth::Providers;
use crate::jute::stat::read_stat;
use crate::jute::{JuteError, Reader};
use crate::oracle::server_model::ModelOp;
use crate::oracle::tree_model::{Model, ModelNode};
use crate::pipeline::put_write_reply;
use crate::proto::multi::MultiHeader;
use crate::proto::request::xid;
use crate::proto::{ConnectRequest, ConnectResponse, ReplyHeader, WatcherEvent};
use crate::txn::Txn;
use crate::types::acl::permits;
use crate::types::{ConnId, CreateMode, Epoch, ErrorCode, EventType, Id, Op, SessionId, Zxid, perms};

/// The state of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No connection.
    Down,
    /// It has sent the handshake.
    Connecting,
    /// It has a session.
    Open,
    /// It has sent closeSession.
    Closing,
}

/// Counts of what a client has received.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub(super) struct Seen {
    pub(super) replies: u64,
    pub(super) events: u64,
    pub(super) sessions: u64,
    pub(super) expired: u64,
}

/// A simulated client.
pub(super) struct Client {
    /// Its connection: the server and the id.
    pub(super) link: Option<(NodeId, ConnId)>,
    /// Its state.
    pub(super) phase: Phase,
    /// Its session; [`SessionId::NONE`] before the first.
    pub(super) session: SessionId,
    passwd: Vec<u8>,
    wanted_timeout_ms: i32,
    /// The negotiated timeout in milliseconds.
    pub(super) timeout_ms: i32,
    /// The newest zxid seen in this session.
    seen: Zxid,
    /// Up to this zxid the history was searched for events that this connection must get.
    at: Zxid,
    /// The last of its session's transactions that were on their way when this connection got the session.
    owed: Zxid,
    /// Events of transaction `at` that have not arrived yet.
    due: VecDeque<(EventType, String)>,
    /// Events of a setWatches that is not answered yet.
    replayed: Vec<(EventType, String)>,
    armed: Armed,
    known: Known,
    inbox: Vec<u8>,
    pending: VecDeque<(i32, Asked)>,
    /// Syncs without an answer that must show what was committed when they were sent, as long as no newer leader than that of
    /// this epoch is established.
    floors: VecDeque<(i32, Epoch, Zxid)>,
    auth_pending: usize,
    user: Option<String>,
    ids: Vec<Id>,
    next_xid: i32,
    /// Number of server starts before this connection.
    boots: u64,
    sent_bytes: u64,
    /// The position at which each request ends in the bytes sent on this connection.
    ends: VecDeque<u64>,
    /// Counters.
    pub(super) counts: Seen,
}

impl Client {
    /// A client that has not connected yet.
    pub(super) fn new(number: usize, rng: &mut fastrand::Rng) -> Client {
        Client {
            link: None,
            phase: Phase::Down,
            session: SessionId::NONE,
            passwd: vec![0; 16],
            wanted_timeout_ms: rng.i32(1000..9000),
            timeout_ms: 0,
            seen: Zxid::ZERO,
            at: Zxid::ZERO,
            owed: Zxid::ZERO,
            due: VecDeque::new(),
            replayed: Vec::new(),
            armed: Armed::default(),
            known: Known::default(),
            inbox: Vec::new(),
            pending: VecDeque::new(),
            floors: VecDeque::new(),
            auth_pending: 0,
            user: number.is_multiple_of(2).then(|| format!("user{number}:secret")),
            ids: Vec::new(),
            next_xid: 0,
            boots: 0,
            sent_bytes: 0,
            ends: VecDeque::new(),
            counts: Seen::default(),
        }
    }

    /// Number of unanswered requests.
    pub(super) fn pending(&self) -> usize {
        self.pending.len() + self.auth_pending
    }

    /// The zxid up to which it has received all its events.
    pub(super) fn at(&self) -> Zxid {
        self.at
    }

    /// It gets a connection; returns the bytes of the handshake.
    pub(super) fn connect(&mut self, node: NodeId, link: ConnId, boots: u64) -> Vec<u8> {
        self.boots = boots;
        self.link = Some((node, link));
        self.phase = Phase::Connecting;
        (self.sent_bytes, self.at, self.owed) = (0, Zxid::ZERO, Zxid::ZERO);
        self.ends.clear();
        self.inbox.clear();
        self.due.clear();
        self.replayed.clear();
        self.armed = Armed::default();
        self.ids = vec![Id::new("ip", "127.0.0.1")];
        let mut out = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.seen,
            timeout_ms: self.wanted_timeout_ms,
            session: self.session,
            passwd: self.passwd.clone(),
            read_only: Some(false),
        }
        .put(&mut out);
        self.sends(&out);
        out
    }

    fn sends(&mut self, bytes: &[u8]) {
        self.sent_bytes += bytes.len() as u64;
        self.ends.push_back(self.sent_bytes);
    }

    /// Whether a complete request has reached the server since the last call.
    pub(super) fn was_heard(&mut self, received: u64) -> bool {
        let before = self.ends.len();
        while self.ends.front().is_some_and(|end| *end <= received) {
            self.ends.pop_front();
        }
        self.ends.len() < before && self.phase != Phase::Connecting
    }

    /// The connection is gone; its unanswered requests may or may not have been executed.
    pub(super) fn disconnected(&mut self) {
        self.link = None;
        if self.phase == Phase::Closing {
            self.forget_session();
        }
        self.phase = Phase::Down;
        self.pending.clear();
        self.floors.clear();
        self.auth_pending = 0;
    }

    fn forget_session(&mut self) {
        self.session = SessionId::NONE;
        self.passwd = vec![0; 16];
        self.known = Known::default();
        self.seen = Zxid::ZERO;
    }

    /// The sync that was sent last is answered by a member of the newest epoch.
    pub(super) fn expects(&mut self, epoch: Epoch, committed: Zxid) {
        self.floors.push_back((self.next_xid, epoch, committed));
    }

    /// A sync is answered: everything that was committed when it was sent must be seen.
    fn synced(&mut self, xid: i32, zxid: Zxid, history: &History) -> Result<(), String> {
        let Some((_, epoch, floor)) = self.floors.pop_front_if(|(asked, ..)| *asked == xid) else { return Ok(()) };
        if history.newest_epoch() == Some(epoch) && zxid < floor {
            return Err(format!("sync {xid} is answered as of {zxid}, and {floor} was committed when it was sent"));
        }
        Ok(())
    }

    /// Returns the bytes of a request.
    pub(super) fn ask(&mut self, asked: Asked, history: &mut History) -> Vec<u8> {
        self.next_xid += 1;
        let xid = asked.xid(self.next_xid);
        let mut out = Vec::new();
        asked.put(xid, &mut out);
        self.sends(&out);
        if let Asked::Write(op) = &asked {
            history.ask(self.session, xid, op.clone(), &self.ids);
            if matches!(op, ModelOp::CloseSession) {
                self.phase = Phase::Closing;
            }
        }
        self.pending.push_back((xid, asked));
        out
    }

    /// Receives bytes from the server and checks every complete message. Returns what the client sends in answer to the
    /// handshake.
    pub(super) fn receive(&mut self, bytes: &[u8], history: &mut History) -> Result<Vec<u8>, String> {
        self.inbox.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some(len) = self.inbox.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) {
            if self.inbox.len() < 4 + len {
                break;
            }
            let frame: Vec<u8> = self.inbox.drain(..4 + len).collect();
            if self.phase == Phase::Connecting {
                answer.extend(self.handshake(&frame[4..], history)?);
            } else {
                self.message(&frame, history).map_err(|e| format!("session {}: {e}", self.session))?;
            }
        }
        Ok(answer)
    }

    fn handshake(&mut self, frame: &[u8], history: &mut History) -> Result<Vec<u8>, String> {
        let response = ConnectResponse::read(frame).map_err(|e| format!("handshake: {e}"))?;
        if response.timeout_ms == 0 {
            if !history.may_refuse(self.session, self.boots) {
                return Err(format!("session {} is refused, but nobody ended it", self.session));
            }
            self.counts.expired += 1;
            self.forget_session();
            // The server will close the connection; nothing more is expected.
            self.phase = Phase::Down;
            return Ok(Vec::new());
        }
        if self.session == SessionId::NONE {
            match history.session_made(response.session) {
                Some(made) => history.expose(made)?,
                None => history.give_local(response.session)?,
            }
            history.give(response.session)?;
            self.counts.sessions += 1;
        } else if response.session != self.session {
            return Err(format!("asked for session {}, got {}", self.session, response.session));
        }
        history.moved(response.session, self.next_xid);
        self.owed = history.newest_of(response.session);
        (self.session, self.passwd, self.timeout_ms) =
            (response.session, response.passwd.to_vec(), response.timeout_ms);
        self.phase = Phase::Open;
        let mut out = Vec::new();
        if let Some(user) = self.user.clone() {
            put_auth(&user, &mut out);
            self.sends(&out);
            self.auth_pending = 1;
            let ids = Providers::default().handle_auth_packet("digest", Some(user.as_bytes()), "127.0.0.1");
            self.ids.splice(0..0, ids.map_err(|e| e.to_string())?);
        }
        out.extend(self.ask(Asked::SetWatches(self.known.list(self.seen)), history));
        Ok(out)
    }

    fn message(&mut self, frame: &[u8], history: &mut History) -> Result<(), String> {
        let unreadable = |e: JuteError| format!("unreadable message: {e}");
        let r = &mut Reader::new(&frame[4..]);
        let ReplyHeader { xid, zxid, err } = ReplyHeader::read(r).map_err(unreadable)?;
        match xid {
            xid::NOTIFICATION => {
                let event = WatcherEvent::read(r).map_err(unreadable)?;
                self.counts.events += 1;
                self.event(zxid, event_of(event.kind)?, event.path.into_owned(), history)
            }
            xid::AUTH => {
                self.auth_pending = self.auth_pending.checked_sub(1).ok_or("an auth reply nobody waits for")?;
                if err == 0 { Ok(()) } else { Err(format!("authentication failed: {err}")) }
            }
            _ => {
                let (due, asked) = self.pending.pop_front().ok_or_else(|| format!("reply {xid} to nothing"))?;
                if due != xid {
                    return Err(format!("reply {xid} where {due} was due"));
                }
                self.counts.replies += 1;
                self.look_through(zxid, history)?;
                if let Some((event, path)) = self.due.front() {
                    return Err(format!("reply {xid} ({asked:?}) as of {zxid} before event {event:?} {path}"));
                }
                self.seen = self.seen.max(zxid);
                history.expose(zxid)?;
                self.reply(frame, (xid, zxid, err), asked, r, history)
            }
        }
    }

    /// The client has now seen everything up to `zxid`: all events of its watches up to there must have arrived.
    fn look_through(&mut self, zxid: Zxid, history: &History) -> Result<(), String> {
        if zxid < self.at || zxid < self.seen {
            return Err(format!("stamp {zxid} after {}", self.at.max(self.seen)));
        }
        if zxid < self.owed {
            return Err(format!("stamp {zxid} on a new connection, but its own {} was under way before", self.owed));
        }
        for (z, entry) in history.between(self.at, zxid) {
            if let Some((event, path)) = self.due.front() {
                return Err(format!("event {event:?} {path} of {} never came: now at {z}", self.at));
            }
            for change in &entry.changes {
                if self.armed.fire(change, &self.ids) {
                    self.due.push_back((change.0, change.1.clone()));
                }
            }
            if entry.header.session == self.session && matches!(entry.txn, Txn::CloseSession { .. }) {
                // When its session ends its watches are gone, whoever ended it.
                self.armed = Armed::default();
            }
            self.at = z;
        }
        self.at = self.at.max(zxid);
        Ok(())
    }

    fn event(&mut self, zxid: Zxid, event: EventType, path: String, history: &mut History) -> Result<(), String> {
        if zxid == Zxid::NONE {
            if !matches!(self.pending.front(), Some((_, Asked::SetWatches(_)))) {
                return Err(format!("event {event:?} {path} of no transaction and no setWatches"));
            }
            self.known.told(event, &path);
            self.replayed.push((event, path));
            return Ok(());
        }
        history.entry(zxid)?;
        self.look_through(zxid, history)?;
        self.seen = self.seen.max(zxid);
        history.expose(zxid)?;
        self.known.told(event, &path);
        match self.due.pop_front() {
            Some(due) if due == (event, path.clone()) => Ok(()),
            Some(due) => Err(format!("event {event:?} {path} of {zxid}, due was {due:?}")),
            None => Err(format!("event {event:?} {path} of {zxid}, which no watch waits for")),
        }
    }

    fn reply(
        &mut self,
        frame: &[u8],
        (xid, zxid, err): (i32, Zxid, i32),
        asked: Asked,
        r: &mut Reader<'_>,
        history: &mut History,
    ) -> Result<(), String> {
        match &asked {
            Asked::Write(op) => self.write_reply(frame, xid, zxid, op, history),
            _ => {
                if matches!(asked, Asked::Sync { .. }) && err == 0 {
                    self.synced(xid, zxid, history)?;
                }
                let tree = history.tree(zxid);
                self.not_past_own_writes(zxid, history)?;
                self.read_reply(&asked, err, r, &tree).map_err(|e| format!("{asked:?} as of {zxid}: {e}"))
            }
        }
    }

    /// A read that was sent before a write must not show that write.
    fn not_past_own_writes(&self, zxid: Zxid, history: &History) -> Result<(), String> {
        for (xid, asked) in &self.pending {
            if let (Asked::Write(_), Some(z)) = (asked, history.zxid_of(self.session, *xid))
                && z <= zxid
            {
                return Err(format!("a read as of {zxid} shows the session's later write {xid} at {z}"));
            }
        }
        Ok(())
    }

    fn write_reply(
        &mut self,
        frame: &[u8],
        xid: i32,
        zxid: Zxid,
        op: &ModelOp,
        history: &mut History,
    ) -> Result<(), String> {
        if history.is_local(self.session) && self.is_local_answer(frame, op)? {
            return Ok(());
        }
        let entry = history.entry(zxid)?;
        if (entry.header.session, entry.header.cxid.0) != (self.session, xid) {
            return Err(format!("reply to {op:?} (xid {xid}) with {zxid}, which is {:?}", entry.header));
        }
        let mut wanted = Vec::new();
        put_write_reply(&mut wanted, op.opcode(), xid, zxid, &entry.txn, &entry.applied);
        if frame != wanted {
            return Err(format!("reply to {op:?} at {zxid} is {frame:?}, should be {wanted:?}"));
        }
        if let (ModelOp::Create { flags, .. }, Txn::Create(made)) = (op, &entry.txn)
            && CreateMode::from_flag(*flags).is_some_and(CreateMode::is_sequential)
        {
            let path = made.path.clone();
            history.number(zxid, &path)?;
        }
        Ok(())
    }

    /// Whether this answers a write of a local session without a transaction, or with another code than its transaction has: it
    /// is closed, or its ephemeral is refused.
    fn is_local_answer(&self, frame: &[u8], op: &ModelOp) -> Result<bool, String> {
        let ReplyHeader { err, .. } = ReplyHeader::read(&mut Reader::new(&frame[4..])).map_err(|e| e.to_string())?;
        Ok(match op {
            ModelOp::CloseSession => err == 0,
            _ => err == ErrorCode::EphemeralOnLocalSession.code(),
        })
    }

    fn allowed(&self, node: &ModelNode, wanted: i32) -> bool {
        permits(node.acl.as_deref(), &self.ids, wanted)
    }

    fn node<'m>(&self, tree: &'m Model, path: &str) -> Result<&'m ModelNode, ErrorCode> {
        let node = tree.nodes().get(path).ok_or(ErrorCode::NoNode)?;
        if self.allowed(node, perms::READ) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }

    fn read_reply(&mut self, asked: &Asked, err: i32, r: &mut Reader<'_>, tree: &Model) -> Result<(), String> {
        let code = |outcome: &Result<&ModelNode, ErrorCode>| outcome.as_ref().err().map_or(0, |e| e.code());
        match asked {
            Asked::Exists { path, watch } => {
                let node = self.node(tree, path);
                let odd = path.contains('\0');
                let wanted = if odd { ErrorCode::BadArguments.code() } else { code(&node) };
                same("code", &err, &wanted)?;
                if *watch && !odd && node != Err(ErrorCode::NoAuth) {
                    self.armed.data.insert(path.clone());
                    self.known.data.insert(path.clone(), node.is_err());
                }
                if wanted == 0 { self.stat(r, tree, path) } else { Ok(()) }
            }
            Asked::GetData { path, watch } => {
                let node = self.node(tree, path);
                same("code", &err, &code(&node))?;
                let Ok(node) = node else { return Ok(()) };
                if *watch {
                    self.armed.data.insert(path.clone());
                    self.known.data.insert(path.clone(), false);
                }
                data_reply(r, node)?;
                self.stat(r, tree, path)
            }
            Asked::GetChildren { path, watch } => {
                let node = self.node(tree, path);
                same("code", &err, &code(&node))?;
                if node.is_err() {
                    return Ok(());
                }
                if *watch {
                    self.armed.child.insert(path.clone());
                    self.known.child.insert(path.clone());
                }
                let mut names = r.strings().map_err(|e| e.to_string())?;
                names.sort();
                let wanted: Vec<String> = tree.children(path).into_iter().map(str::to_owned).collect();
                same("children", &names, &wanted)?;
                self.stat(r, tree, path)
            }
            Asked::GetAcl { path } => {
                let node = tree.nodes().get(path);
                let may = node.is_none_or(|n| self.allowed(n, perms::READ | perms::ADMIN));
                let wanted = match node {
                    None => ErrorCode::NoNode.code(),
                    Some(_) if !may => ErrorCode::NoAuth.code(),
                    Some(_) => 0,
                };
                same("code", &err, &wanted)
            }
            Asked::Sync { path } => {
                same("code", &err, &0)?;
                same("path", &r.string().map_err(|e| e.to_string())?.as_ref(), &path.as_str())
            }
            Asked::AllChildrenNumber { path } => {
                let node = self.node(tree, path);
                same("code", &err, &code(&node))?;
                if err != 0 {
                    return Ok(());
                }
                let top = if path == "/" { "/".to_owned() } else { format!("{path}/") };
                let wanted = tree.nodes().keys().filter(|p| p.len() > top.len() && p.starts_with(&top)).count() as i32;
                same("number", &r.i32().map_err(|e| e.to_string())?, &wanted)
            }
            other => self.other_reply(other, err, r, tree),
        }
    }

    fn other_reply(&mut self, asked: &Asked, err: i32, r: &mut Reader<'_>, tree: &Model) -> Result<(), String> {
        match asked {
            Asked::RemoveWatches { path } => {
                let wanted = if self.armed.remove(path) { 0 } else { ErrorCode::NoWatcher.code() };
                self.known.remove(path);
                return same("code", &err, &wanted);
            }
            _ => same("code", &err, &0)?,
        }
        match asked {
            Asked::MultiRead(paths) => {
                for path in paths {
                    let h = MultiHeader::read(r).map_err(|e| e.to_string())?;
                    match self.node(tree, path) {
                        Ok(node) => {
                            same("operation", &(h.op, h.err), &(Op::GET_DATA, 0))?;
                            data_reply(r, node)?;
                            self.stat(r, tree, path)?;
                        }
                        Err(e) => {
                            same("operation", &(h.op, h.err), &(Op::ERROR, e.code()))?;
                            same("result", &r.i32().map_err(|e| e.to_string())?, &e.code())?;
                        }
                    }
                }
                Ok(())
            }
            Asked::Ephemerals => {
                let mut paths = r.strings().map_err(|e| e.to_string())?;
                paths.sort();
                let mine = |n: &&ModelNode| n.stat.ephemeral_owner == self.session.0;
                let wanted: Vec<String> =
                    tree.nodes().iter().filter(|(_, n)| mine(n)).map(|(p, _)| p.clone()).collect();
                same("ephemerals", &paths, &wanted)
            }
            Asked::AddWatch { path, recursive } => {
                let (armed, known) = if *recursive {
                    (&mut self.armed.recursive, &mut self.known.recursive)
                } else {
                    (&mut self.armed.persistent, &mut self.known.persistent)
                };
                armed.insert(path.clone());
                known.insert(path.clone());
                Ok(())
            }
            Asked::SetWatches(w) => {
                let told = std::mem::take(&mut self.replayed);
                same("missed events", &told, &self.armed.replay(w, tree))
            }
            _ => Ok(()),
        }
    }

    fn stat(&self, r: &mut Reader<'_>, tree: &Model, path: &str) -> Result<(), String> {
        same("stat", &Some(read_stat(r).map_err(|e| e.to_string())?), &tree.stat(path))
    }
}

fn data_reply(r: &mut Reader<'_>, node: &ModelNode) -> Result<(), String> {
    same("data", &r.buffer().map_err(|e| e.to_string())?, &node.data.as_deref())
}

fn event_of(code: i32) -> Result<EventType, String> {
    use EventType::*;
    let all = [NodeCreated, NodeDeleted, NodeDataChanged, NodeChildrenChanged];
    all.into_iter().find(|e| *e as i32 == code).ok_or_else(|| format!("event {code}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what} {got:?}, should be {wanted:?}")) }
}
