//! A naive model of prep and apply together: every request takes effect at once, on plain maps, without anything
//! incremental. It is the oracle of the random tests and of the simulator.

use std::collections::{BTreeMap, BTreeSet};

use crate::pipeline::prep::{QuotaState, Record, Sessions, State};
use crate::proto::multi::MultiHeader;
use crate::proto::{CreateRequest, Request};
use crate::tree::digest::{prefix_crc, share as digest_share};
use crate::txn::Txn;
use crate::txn::body::share;
use crate::types::acl::{SharedAcl, permits};
use crate::types::stat::owner;
use crate::types::{Acl, CreateMode, ErrorCode, Id, Op, SessionId, StatPersisted, Zxid, path, perms};

/// A request before it is encoded.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum ModelOp {
    Create { op: Op, path: String, data: Option<Vec<u8>>, acl: Vec<Acl>, flags: i32, ttl_ms: i64 },
    Delete { path: String, version: i32 },
    DeleteContainer { path: String },
    SetData { path: String, data: Option<Vec<u8>>, version: i32 },
    SetAcl { path: String, acl: Vec<Acl>, version: i32 },
    Check { path: String, version: i32 },
    Multi(Vec<ModelOp>),
    CreateSession,
    CloseSession,
}

/// The result of a request, in the same form for model, prep and tree.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Outcome {
    Error(i32),
    Created(String),
    /// The version after the request.
    Version(i32),
    Done,
    Multi(Vec<Outcome>),
}

impl Outcome {
    /// The result of the request, read from its transaction.
    pub fn of(txn: &Txn) -> Outcome {
        match txn {
            Txn::Error { err } => Outcome::Error(*err),
            Txn::Create(c) => Outcome::Created(c.path.clone()),
            Txn::SetData { version, .. } | Txn::SetAcl { version, .. } | Txn::Check { version, .. } => {
                Outcome::Version(*version)
            }
            Txn::Multi(subs) => Outcome::Multi(subs.iter().map(|s| Outcome::of(&s.txn)).collect()),
            Txn::Delete { .. } | Txn::CreateSession { .. } | Txn::CloseSession { .. } => Outcome::Done,
        }
    }
}

impl ModelOp {
    /// The opcode with which it is sent.
    pub fn opcode(&self) -> Op {
        match self {
            ModelOp::Create { op, .. } => *op,
            ModelOp::Delete { .. } => Op::DELETE,
            ModelOp::DeleteContainer { .. } => Op::DELETE_CONTAINER,
            ModelOp::SetData { .. } => Op::SET_DATA,
            ModelOp::SetAcl { .. } => Op::SET_ACL,
            ModelOp::Check { .. } => Op::CHECK,
            ModelOp::Multi(_) => Op::MULTI,
            ModelOp::CreateSession => Op::CREATE_SESSION,
            ModelOp::CloseSession => Op::CLOSE_SESSION,
        }
    }

    /// The request record.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            // It may contain operations that are not allowed in a multi, so the operations are written one by one.
            ModelOp::Multi(subs) => {
                for sub in subs {
                    MultiHeader::asking(sub.opcode()).put(out);
                    sub.put(out);
                }
                MultiHeader::END.put(out);
            }
            single => single.single().put(single.opcode(), out),
        }
    }

    /// The request as the protocol's record; a multi is written without its operations.
    fn single(&self) -> Request<'_> {
        match self {
            ModelOp::Create { op, path: p, data, acl, flags, ttl_ms } => Request::Create(CreateRequest {
                path: p.into(),
                data: data.as_deref(),
                acl: acl.clone().into(),
                flags: *flags,
                ttl_ms: (*op == Op::CREATE_TTL).then_some(*ttl_ms),
            }),
            ModelOp::Delete { path: p, version } => Request::Delete { path: p.into(), version: *version },
            ModelOp::Check { path: p, version } => Request::Check { path: p.into(), version: *version },
            ModelOp::DeleteContainer { path: p } => Request::DeleteContainer { path: p.into() },
            ModelOp::SetData { path: p, data, version } => {
                Request::SetData { path: p.into(), data: data.as_deref(), version: *version }
            }
            ModelOp::SetAcl { path: p, acl, version } => {
                Request::SetAcl { path: p.into(), acl: acl.clone().into(), version: *version }
            }
            ModelOp::Multi(_) => Request::Multi(Vec::new()),
            ModelOp::CreateSession => Request::CreateSession { timeout_ms: 30_000 },
            ModelOp::CloseSession => Request::CloseSession,
        }
    }
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ModelNode {
    pub stat: StatPersisted,
    pub data: Option<Vec<u8>>,
    pub acl: SharedAcl,
}

/// The whole state.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Model {
    pub nodes: BTreeMap<String, ModelNode>,
    pub sessions: BTreeSet<SessionId>,
    pub extended: owner::ExtendedTypes,
    pub quota: Option<QuotaState>,
}

/// The client that sends a request, and the time.
#[allow(missing_docs)]
pub struct Asker<'a> {
    pub session: SessionId,
    pub ids: &'a [Id],
    pub zxid: Zxid,
    pub time_ms: i64,
}

impl Model {
    /// An empty tree, without sessions.
    pub fn new(extended: owner::ExtendedTypes) -> Model {
        let mut nodes = BTreeMap::new();
        for p in [path::ROOT, path::ZOOKEEPER, path::QUOTA, path::CONFIG] {
            let mut node = ModelNode { stat: StatPersisted::default(), data: Some(vec![]), acl: None };
            if p == path::CONFIG {
                node.stat.aversion = -1;
                node.acl = share(vec![Acl { perms: perms::READ, id: Id::world() }]);
            }
            nodes.insert(p.to_owned(), node);
        }
        Model { nodes, sessions: BTreeSet::new(), extended, quota: None }
    }

    /// Runs one request completely.
    pub fn run(&mut self, asker: &Asker<'_>, request: &ModelOp) -> Outcome {
        match request {
            ModelOp::Multi(subs) => {
                let before = self.clone();
                let mut outcomes = Vec::new();
                for sub in subs {
                    match self.one(asker, sub) {
                        Ok(outcome) => outcomes.push(outcome),
                        Err(code) => {
                            *self = before;
                            outcomes.fill(Outcome::Error(0));
                            outcomes.push(Outcome::Error(code.code()));
                            outcomes.resize(subs.len(), Outcome::Error(ErrorCode::RuntimeInconsistency.code()));
                            break;
                        }
                    }
                }
                Outcome::Multi(outcomes)
            }
            single => self.one(asker, single).unwrap_or_else(|code| Outcome::Error(code.code())),
        }
    }

    fn one(&mut self, asker: &Asker<'_>, request: &ModelOp) -> Result<Outcome, ErrorCode> {
        match request {
            ModelOp::CreateSession => {
                self.sessions.insert(asker.session);
                return Ok(Outcome::Done);
            }
            ModelOp::CloseSession => {
                for path in self.ephemerals_of(asker.session) {
                    self.take_out(asker, &path);
                }
                self.sessions.remove(&asker.session);
                return Ok(Outcome::Done);
            }
            ModelOp::DeleteContainer { path } => return self.delete_container(asker, path),
            _ => {}
        }
        let session = if self.sessions.contains(&asker.session) { Ok(()) } else { Err(ErrorCode::SessionExpired) };
        match request {
            ModelOp::Create { op, path, data, acl, flags, ttl_ms } => {
                let mode = CreateMode::from_flag(*flags).ok_or(ErrorCode::BadArguments)?;
                let ttl_ms = if *op == Op::CREATE_TTL { *ttl_ms } else { -1 };
                if mode.is_ttl() && !self.extended.enabled {
                    return Err(ErrorCode::Unimplemented);
                }
                let fits =
                    if mode.is_ttl() { ttl_ms > 0 && ttl_ms < 1 << 40 } else { ttl_ms < 0 && *op != Op::CREATE_TTL };
                if !fits || mode.is_sequential() && *op == Op::CREATE_CONTAINER {
                    return Err(ErrorCode::BadArguments);
                }
                session?;
                let owner = match *op {
                    Op::CREATE_TTL => owner::of_ttl(ttl_ms),
                    Op::CREATE_CONTAINER => i64::MIN,
                    _ if mode.is_ephemeral() => asker.session.0,
                    _ => 0,
                };
                self.create(asker, path, data.clone(), acl, mode.is_sequential(), owner)
            }
            ModelOp::Delete { path, version } => {
                session?;
                self.delete(asker, path, *version)
            }
            ModelOp::SetData { path, data, version } => {
                session?;
                let node = self.at(asker, path, perms::WRITE)?;
                let version = stepped(node.stat.version, *version)?;
                node.stat.version = version;
                (node.stat.mzxid, node.stat.mtime) = (asker.zxid, asker.time_ms);
                node.data = data.clone();
                Ok(Outcome::Version(version))
            }
            ModelOp::SetAcl { path, acl, version } => {
                session?;
                path::validate(path).map_err(|_| ErrorCode::BadArguments)?;
                let acl = expanded(asker.ids, acl)?;
                let node = self.at(asker, path, perms::ADMIN)?;
                let version = stepped(node.stat.aversion, *version)?;
                node.stat.aversion = version;
                node.acl = acl;
                Ok(Outcome::Version(version))
            }
            ModelOp::Check { path, version } => {
                session?;
                let node = self.at(asker, path, perms::READ)?;
                stepped(node.stat.version, *version).map(Outcome::Version)
            }
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn at(&mut self, asker: &Asker<'_>, path: &str, wanted: i32) -> Result<&mut ModelNode, ErrorCode> {
        path::validate(path).map_err(|_| ErrorCode::BadArguments)?;
        let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
        if !permits(node.acl.as_deref(), asker.ids, wanted) {
            return Err(ErrorCode::NoAuth);
        }
        Ok(node)
    }

    fn create(
        &mut self,
        asker: &Asker<'_>,
        path: &str,
        data: Option<Vec<u8>>,
        acl: &[Acl],
        sequential: bool,
        owner: i64,
    ) -> Result<Outcome, ErrorCode> {
        let above = above(path)?;
        let acl = expanded(asker.ids, acl)?;
        let parent = self.nodes.get(&above).ok_or(ErrorCode::NoNode)?;
        if !permits(parent.acl.as_deref(), asker.ids, perms::CREATE) {
            return Err(ErrorCode::NoAuth);
        }
        let path = if sequential { format!("{path}{:010}", parent.stat.cversion) } else { path.to_owned() };
        path::validate(&path).map_err(|_| ErrorCode::BadArguments)?;
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if owner::kind(parent.stat.ephemeral_owner, self.extended) == owner::Kind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let (z, t) = (asker.zxid, asker.time_ms);
        let stat = StatPersisted {
            czxid: z,
            mzxid: z,
            pzxid: z,
            ctime: t,
            mtime: t,
            ephemeral_owner: owner,
            ..StatPersisted::default()
        };
        self.nodes.insert(path.clone(), ModelNode { stat, data, acl });
        let parent = &mut self.nodes.get_mut(&above).unwrap().stat;
        parent.cversion += 1;
        parent.pzxid = z;
        Ok(Outcome::Created(path))
    }

    fn delete(&mut self, asker: &Asker<'_>, path: &str, version: i32) -> Result<Outcome, ErrorCode> {
        if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.nodes.get(&above(path)?).ok_or(ErrorCode::NoNode)?;
        if !permits(parent.acl.as_deref(), asker.ids, perms::DELETE) {
            return Err(ErrorCode::NoAuth);
        }
        let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
        stepped(node.stat.version, version)?;
        if self.children(path) > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.take_out(asker, path);
        Ok(Outcome::Done)
    }

    fn delete_container(&mut self, asker: &Asker<'_>, path: &str) -> Result<Outcome, ErrorCode> {
        if asker.session != SessionId::NONE {
            return Err(ErrorCode::Unimplemented);
        }
        if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        above(path)?;
        let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
        if self.children(path) > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let due = match owner::kind(node.stat.ephemeral_owner, self.extended) {
            owner::Kind::Container => true,
            owner::Kind::Ttl(ttl_ms) => asker.time_ms - node.stat.mtime > ttl_ms,
            _ => false,
        };
        if !due {
            return Err(ErrorCode::BadVersion);
        }
        self.take_out(asker, path);
        Ok(Outcome::Done)
    }

    fn take_out(&mut self, asker: &Asker<'_>, path: &str) {
        self.nodes.remove(path);
        let parent = self.nodes.get_mut(&above(path).unwrap()).unwrap();
        parent.stat.pzxid = asker.zxid;
    }

    /// How many children `path` has.
    pub fn children(&self, path: &str) -> i32 {
        self.nodes.keys().filter(|k| path::parent(k) == Some(path)).count() as i32
    }
}

fn above(path: &str) -> Result<String, ErrorCode> {
    if path.contains('\0') {
        return Err(ErrorCode::BadArguments);
    }
    let (above, _) = path.rsplit_once('/').ok_or(ErrorCode::BadArguments)?;
    Ok(if above.is_empty() { "/".to_owned() } else { above.to_owned() })
}

fn stepped(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected == -1 || expected == current { Ok(current + 1) } else { Err(ErrorCode::BadVersion) }
}

fn expanded(ids: &[Id], acl: &[Acl]) -> Result<SharedAcl, ErrorCode> {
    let mut stored = Vec::new();
    for a in acl {
        match a.id.scheme.as_str() {
            "world" | "digest" => stored.push(a.clone()),
            "auth" => stored
                .extend(ids.iter().filter(|id| id.scheme == "digest").map(|id| Acl { perms: a.perms, id: id.clone() })),
            _ => return Err(ErrorCode::InvalidAcl),
        }
    }
    if stored.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(share(stored)) }
}

impl State for Model {
    fn record(&self, path: &str) -> Option<Record> {
        self.nodes.get(path).map(|n| Record {
            stat: n.stat,
            num_children: self.children(path),
            data_len: n.data.as_ref().map_or(0, |d| d.len() as i32),
            share: digest_share(prefix_crc(path, n.data.as_deref()), &n.stat),
            acl: n.acl.clone(),
        })
    }
    fn ephemerals_of(&self, session: SessionId) -> Vec<String> {
        self.nodes.iter().filter(|(_, n)| n.stat.ephemeral_owner == session.0).map(|(p, _)| p.clone()).collect()
    }
    fn quota(&self, _path: &str) -> Option<QuotaState> {
        self.quota.clone()
    }
    fn digest(&self) -> u64 {
        let digested = self.nodes.iter().filter(|(p, _)| !p.starts_with("/zookeeper/"));
        digested
            .fold(0, |sum, (p, n)| sum.wrapping_add(u64::from(digest_share(prefix_crc(p, n.data.as_deref()), &n.stat))))
    }
}

impl Sessions for Model {
    fn is_known(&self, session: SessionId) -> bool {
        self.sessions.contains(&session)
    }
    fn is_closing(&self, _session: SessionId) -> bool {
        false
    }
}
