//! A naive model of the tree: a map from path to node, which is searched for everything else. It is the oracle for
//! tests and the simulator, and slow on purpose.

use std::collections::{BTreeMap, BTreeSet};

use crate::jute::Put;
use crate::tree::{Applied, StatsTrack, SubApplied, Tree, TreeOptions, Znode};
use crate::txn::{CreateKind, CreateTxn, SubTxn, Txn, TxnHeader};
use crate::types::acl::SharedAcl;
use crate::types::stat::owner::{self, Kind};
use crate::types::{Acl, ErrorCode, EventType, Id, Op, SessionId, Stat, StatPersisted, Zxid, path, perms};

/// A node of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ModelNode {
    pub data: Option<Vec<u8>>,
    pub acl: SharedAcl,
    pub stat: StatPersisted,
}

/// A watch event according to the model: event type, path, and the ACL that filters it.
pub type ModelChange = (EventType, String, SharedAcl);

/// The model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    options: TreeOptions,
    nodes: BTreeMap<String, ModelNode>,
    last_zxid: Zxid,
}

fn parent(p: &str) -> String {
    match p.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((head, _)) => head.to_owned(),
    }
}

fn below(p: &str, top: &str) -> bool {
    if top == "/" { p != "/" } else { p.starts_with(&format!("{top}/")) }
}

fn len(data: &Option<Vec<u8>>) -> i64 {
    data.as_ref().map_or(0, |d| d.len() as i64)
}

impl Model {
    /// Models [`Tree::new`].
    pub fn new(options: TreeOptions) -> Model {
        let mut nodes = BTreeMap::new();
        for p in ["/", path::ZOOKEEPER, path::QUOTA, path::CONFIG] {
            let node = ModelNode { data: Some(Vec::new()), acl: None, stat: StatPersisted::default() };
            nodes.insert(p.to_owned(), node);
        }
        if let Some(config) = nodes.get_mut(path::CONFIG) {
            config.acl = Some([Acl { perms: perms::READ, id: Id::world() }].into());
            config.stat.aversion = -1;
        }
        Model { options, nodes, last_zxid: Zxid::ZERO }
    }

    /// All nodes by path.
    pub fn nodes(&self) -> &BTreeMap<String, ModelNode> {
        &self.nodes
    }

    /// Models [`Tree::apply`].
    pub fn apply(&mut self, h: &TxnHeader, t: &Txn) -> (Applied, Vec<ModelChange>) {
        let mut changes = Vec::new();
        let applied = match t {
            Txn::Multi(subs) => self.multi(h, subs, &mut changes),
            other => match self.one(h, h.op, other, &mut changes) {
                Ok(stat) => Applied { err: 0, stat, subs: None },
                Err(e) => Applied { err: e, stat: None, subs: None },
            },
        };
        if h.zxid > self.last_zxid {
            self.last_zxid = h.zxid;
        }
        (applied, changes)
    }

    fn multi(&mut self, h: &TxnHeader, subs: &[SubTxn], changes: &mut Vec<ModelChange>) -> Applied {
        let first_error = subs.iter().position(|s| matches!(s.txn, Txn::Error { .. }));
        let mut results = Vec::new();
        for (i, s) in subs.iter().enumerate() {
            let (op, outcome) = match first_error {
                None => (s.op, self.one(h, s.op, &s.txn, changes)),
                Some(first) => match s.txn {
                    Txn::Error { err } => (Op::ERROR, Err(err)),
                    _ if i < first => (Op::ERROR, Ok(None)),
                    _ => (Op::ERROR, Err(ErrorCode::RuntimeInconsistency.code())),
                },
            };
            let path = match &s.txn {
                _ if first_error.is_some() => None,
                Txn::Create(c) => Some(c.path.clone()),
                Txn::Delete { path } => Some(path.clone()),
                Txn::SetData { path, .. } | Txn::SetAcl { path, .. } | Txn::Check { path, .. } => Some(path.clone()),
                _ => None,
            };
            let (err, stat) = match outcome {
                Ok(stat) => (0, stat),
                Err(e) => (e, None),
            };
            results.push(SubApplied { op, err, stat, path });
        }
        let err = results.iter().find(|r| r.err != 0).map_or(0, |r| r.err);
        Applied { err, stat: None, subs: Some(results) }
    }

    fn one(&mut self, h: &TxnHeader, op: Op, t: &Txn, changes: &mut Vec<ModelChange>) -> Result<Option<Stat>, i32> {
        match t {
            Txn::Create(c) => return self.create(h, op, c, changes).map(Some),
            Txn::Delete { path } => self.delete(path, h.zxid, changes)?,
            Txn::SetData { path, data, version } => {
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode.code())?;
                let grown = data.as_ref().map_or(0, |d| d.len() as i64) - len(&node.data);
                node.data = data.as_ref().map(|d| d.to_vec());
                node.stat.version = *version;
                node.stat.mzxid = h.zxid;
                node.stat.mtime = h.time_ms;
                let acl = node.acl.clone();
                let stat = self.stat(path);
                self.charge(path, 0, grown);
                changes.push((EventType::NodeDataChanged, path.clone(), acl));
                return Ok(stat);
            }
            Txn::SetAcl { path, acl, version } => {
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode.code())?;
                node.acl = acl.clone();
                node.stat.aversion = *version;
                return Ok(self.stat(path));
            }
            Txn::CloseSession { paths } => {
                for p in paths.iter().flatten() {
                    let _ = self.delete(p, h.zxid, changes);
                }
                for p in self.ephemerals(h.session) {
                    let _ = self.delete(&p, h.zxid, changes);
                }
            }
            Txn::Error { err } => return Err(*err),
            Txn::Multi(_) => return Err(ErrorCode::MarshallingError.code()),
            Txn::Check { .. } | Txn::CreateSession { .. } => {}
        }
        Ok(None)
    }

    fn create(&mut self, h: &TxnHeader, op: Op, c: &CreateTxn, changes: &mut Vec<ModelChange>) -> Result<Stat, i32> {
        let above = parent(&c.path);
        let cversion = self.nodes.get(&above).ok_or(ErrorCode::NoNode.code())?.stat.cversion;
        let wanted = if c.parent_cversion == -1 { cversion + 1 } else { c.parent_cversion };
        let exists = self.nodes.contains_key(&c.path);
        let raise = |nodes: &mut BTreeMap<String, ModelNode>| {
            if let Some(n) = nodes.get_mut(&above)
                && wanted > cversion
            {
                n.stat.cversion = wanted;
                n.stat.pzxid = h.zxid;
            }
        };
        if exists {
            if let Some(n) = self.nodes.get_mut(&c.path) {
                n.acl = c.acl.clone();
            }
            if op == Op::CREATE {
                raise(&mut self.nodes);
            }
            return Err(ErrorCode::NodeExists.code());
        }
        let ephemeral_owner = match c.kind {
            CreateKind::Plain { ephemeral } => {
                if ephemeral {
                    h.session.0
                } else {
                    0
                }
            }
            CreateKind::Container => owner::CONTAINER,
            CreateKind::Ttl { ttl_ms } => owner::of_ttl(ttl_ms),
        };
        raise(&mut self.nodes);
        let (z, t) = (h.zxid, h.time_ms);
        let stat =
            StatPersisted { czxid: z, mzxid: z, pzxid: z, ctime: t, mtime: t, ephemeral_owner, ..Default::default() };
        let data = c.data.as_ref().map(|d| d.to_vec());
        let size = len(&data);
        self.nodes.insert(c.path.clone(), ModelNode { data, acl: c.acl.clone(), stat });
        let stat = self.stat(&c.path).unwrap_or_default();
        if let Some(top) = self.quota_node(&c.path, path::STAT_NODE) {
            let inside = self.nodes.iter().filter(|(p, _)| **p == top || below(p, &top));
            let (count, bytes) = inside.fold((0, 0), |(n, b), (_, node)| (n + 1, b + len(&node.data)));
            self.write_usage(&top, &format!("count={count},bytes={bytes}"));
        }
        self.charge(&c.path, 1, size);
        changes.push((EventType::NodeCreated, c.path.clone(), c.acl.clone()));
        changes.push((EventType::NodeChildrenChanged, above.clone(), self.nodes[&above].acl.clone()));
        Ok(stat)
    }

    fn delete(&mut self, p: &str, zxid: Zxid, changes: &mut Vec<ModelChange>) -> Result<(), i32> {
        let above = parent(p);
        let parent = self.nodes.get_mut(&above).ok_or(ErrorCode::NoNode.code())?;
        parent.stat.pzxid = parent.stat.pzxid.max(zxid);
        if !self.nodes.contains_key(p) {
            return Err(ErrorCode::NoNode.code());
        }
        let mut gone: Vec<String> = self.nodes.keys().filter(|k| *k == p || below(k, p)).cloned().collect();
        gone.sort();
        for g in gone.into_iter().rev() {
            let Some(node) = self.nodes.remove(&g) else { continue };
            self.charge(&g, -1, -len(&node.data));
            let above = self::parent(&g);
            let parent_acl = self.nodes.get(&above).and_then(|n| n.acl.clone());
            changes.push((EventType::NodeDeleted, g, node.acl));
            changes.push((EventType::NodeChildrenChanged, above, parent_acl));
        }
        Ok(())
    }

    /// `/a` for `/zookeeper/quota/a/<name>`.
    fn quota_node(&self, p: &str, name: &str) -> Option<String> {
        let inner = p.strip_prefix("/zookeeper/quota/")?.strip_suffix(&format!("/{name}"))?;
        Some(format!("/{inner}"))
    }

    fn quota_prefixes(&self) -> BTreeSet<String> {
        self.nodes.keys().filter_map(|p| self.quota_node(p, path::LIMIT_NODE)).collect()
    }

    fn charge(&mut self, p: &str, count: i64, bytes: i64) {
        let over = self.quota_prefixes().into_iter().filter(|q| p == q || below(p, q)).max_by_key(String::len);
        let Some(prefix) = over else { return };
        let Some(node) = self.nodes.get(&format!("/zookeeper/quota{prefix}/zookeeper_stats")) else { return };
        let mut usage = StatsTrack::parse(node.data.as_deref());
        usage.set(usage.count() + count, usage.bytes() + bytes);
        self.write_usage(&prefix, &usage.to_string());
    }

    fn write_usage(&mut self, prefix: &str, text: &str) {
        if let Some(n) = self.nodes.get_mut(&format!("/zookeeper/quota{prefix}/zookeeper_stats")) {
            n.data = Some(text.as_bytes().to_vec());
        }
    }

    fn kind(&self, n: &ModelNode) -> Kind {
        owner::kind(n.stat.ephemeral_owner, self.options.extended)
    }

    /// Ordered by zxid of creation, then by path.
    fn ephemerals(&self, s: SessionId) -> Vec<String> {
        let own = |n: &ModelNode| self.kind(n) == Kind::Ephemeral && n.stat.ephemeral_owner == s.0;
        let mut found: Vec<_> = self.nodes.iter().filter(|(_, n)| own(n)).map(|(p, n)| (n.stat.czxid, p)).collect();
        found.sort();
        found.into_iter().map(|(_, p)| p.clone()).collect()
    }

    /// Names of the children of `p`.
    pub fn children(&self, p: &str) -> BTreeSet<&str> {
        let names = self.nodes.keys().filter(|k| *k != "/" && parent(k) == p);
        names.map(|k| k.rsplit('/').next().unwrap_or_default()).collect()
    }

    /// Models [`Znode::stat`].
    pub fn stat(&self, p: &str) -> Option<Stat> {
        let n = self.nodes.get(p)?;
        let children = self.children(p).len() as i32;
        let s = n.stat;
        Some(Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            cversion: s.cversion * 2 - children,
            aversion: s.aversion,
            ephemeral_owner: if self.kind(n) == Kind::Ephemeral { s.ephemeral_owner } else { 0 },
            data_length: len(&n.data) as i32,
            num_children: children,
            pzxid: s.pzxid,
        })
    }

    /// The digest computed from scratch: one CRC over path, data and stat of every node.
    pub fn digest(&self) -> u64 {
        if !self.options.digest_enabled {
            return 0;
        }
        let share = |(p, n): (&String, &ModelNode)| {
            let s = &n.stat;
            let mut bytes = if p == "/" { Vec::new() } else { p.clone().into_bytes() };
            bytes.extend_from_slice(n.data.as_deref().unwrap_or_default());
            for long in [s.czxid.0, s.mzxid.0, s.pzxid.0, s.ctime, s.mtime] {
                bytes.put_i64(long);
            }
            for int in [s.version, s.cversion, s.aversion] {
                bytes.put_i32(int);
            }
            bytes.put_i64(s.ephemeral_owner);
            u64::from(crc32fast::hash(&bytes))
        };
        let counted = self.nodes.iter().filter(|(p, _)| !p.starts_with("/zookeeper/"));
        counted.map(share).fold(0, u64::wrapping_add)
    }

    /// Takes the znode of the configuration from a tree: a member of an ensemble fills it without a transaction.
    pub fn take_config(&mut self, t: &Tree) {
        if let Some((node, z)) = self.nodes.get_mut(path::CONFIG).zip(t.get(path::CONFIG)) {
            (node.data, node.stat) = (z.data().map(<[u8]>::to_vec), z.persisted());
        }
    }

    /// Compares the tree with the model in everything that can be asked; the error describes the first difference.
    pub fn compare(&self, t: &Tree) -> Result<(), String> {
        let paths: BTreeSet<String> = t.walk().map(|(p, _)| p).collect();
        let mine: BTreeSet<String> = self.nodes.keys().cloned().collect();
        same("paths", &paths, &mine)?;
        for (p, n) in &self.nodes {
            let z = t.get(p).ok_or_else(|| format!("{p} is not found"))?;
            self.compare_node(p, n, &z).map_err(|e| format!("{p}: {e}"))?;
            let descendants = self.nodes.keys().filter(|k| below(k, p)).count() as i32;
            same(p, &t.all_children_number(p), &Some(descendants))?;
        }
        let sessions: BTreeSet<SessionId> = self
            .nodes
            .values()
            .filter(|n| self.kind(n) == Kind::Ephemeral)
            .map(|n| SessionId(n.stat.ephemeral_owner))
            .collect();
        same("owners", &t.ephemeral_owners().collect(), &sessions)?;
        for s in &sessions {
            same("ephemerals", &t.ephemerals_of(*s).collect(), &self.ephemerals(*s))?;
        }
        let of_kind = |wanted: fn(Kind) -> bool| self.nodes.values().filter(|n| wanted(self.kind(n))).count();
        same("ephemerals", &t.ephemerals_count(), &of_kind(|k| k == Kind::Ephemeral))?;
        same("containers", &t.container_count(), &of_kind(|k| k == Kind::Container))?;
        same("ttls", &t.ttl_count(), &of_kind(|k| matches!(k, Kind::Ttl(_))))?;
        let prefixes: BTreeSet<String> = t.all_quotas().map(|q| q.prefix).collect();
        same("quotas", &prefixes, &self.quota_prefixes())?;
        let lists: BTreeSet<String> =
            self.nodes.values().filter(|n| n.acl.is_some()).map(|n| format!("{:?}", n.acl)).collect();
        same("ACL lists", &t.acl_count(), &lists.len())?;
        same("node count", &t.node_count(), &(self.nodes.len() + 1))?;
        let size: u64 = self.nodes.iter().map(|(p, n)| (p.encode_utf16().count() as i64 + len(&n.data)) as u64).sum();
        same("data size", &t.approximate_data_size(), &size)?;
        same("last zxid", &t.last_zxid(), &self.last_zxid)?;
        same("digest", &t.digest(), &self.digest())
    }

    fn compare_node(&self, p: &str, n: &ModelNode, z: &Znode<'_>) -> Result<(), String> {
        same("data", &z.data(), &n.data.as_deref())?;
        same("ACL", &z.shared_acl(), &n.acl)?;
        same("kept stat", &z.persisted(), &n.stat)?;
        same("stat", &Some(z.stat()), &self.stat(p))?;
        let names: Vec<&str> = z.children().collect();
        same("children", &names.len(), &self.children(p).len())?;
        same("children", &names.into_iter().collect(), &self.children(p))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, tree: &T, model: &T) -> Result<(), String> {
    if tree == model { Ok(()) } else { Err(format!("{what}: tree {tree:?}, model {model:?}")) }
}
