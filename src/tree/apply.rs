//! Applying transactions. Mirrors `DataTree.processTxn` and what it calls.
//!
//! A transaction was valid when its leader made it; it may still meet a tree that already has it or that lacks what it
//! changes, because a fuzzy snapshot of ZooKeeper contains later changes and the log is replayed over it. Such a
//! transaction fails with an error code and changes what ZooKeeper changes then; it never stops the replay.

use crate::txn::{CreateKind, CreateTxn, SubTxn, Txn, TxnHeader};
use crate::types::stat::owner;
use crate::types::{ErrorCode, EventType, Op, SessionId, Stat, StatPersisted, Zxid, path};

use super::node::NONE;
use super::{Change, Tree};

/// What the reply to a transaction's request needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// 0, an error transaction's code, or the code the tree answered with. Of a multi, the first sub-result's that is not 0
    /// (its reply's header says 0 all the same).
    pub err: i32,
    /// Of the znode that was created or changed, after it.
    pub stat: Option<Stat>,
    /// Of a multi, one for each operation.
    pub subs: Option<Vec<SubApplied>>,
}

/// The result of one operation of a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubApplied {
    /// The operation, or [`Op::ERROR`] in a multi that failed.
    pub op: Op,
    /// 0 or an error code.
    pub err: i32,
    /// As in [`Applied::stat`].
    pub stat: Option<Stat>,
    /// The znode it was about; `None` in a multi that failed.
    pub path: Option<String>,
}

type Outcome = Result<Option<Stat>, i32>;

impl Tree {
    /// Applies one transaction, then advances [`Tree::last_zxid`]. Changes are told in the order ZooKeeper fires watches.
    pub fn apply(&mut self, h: &TxnHeader, t: &Txn, changes: &mut impl FnMut(Change<'_>)) -> Applied {
        self.apply_known(h, t, None, changes)
    }

    /// As [`Tree::apply`], of a transaction made in this process: `prefix_crc` is [`prefix_crc`](super::digest::prefix_crc) of the
    /// path and data that a create or setData brings, if it is known already.
    pub fn apply_known(
        &mut self,
        h: &TxnHeader,
        t: &Txn,
        prefix_crc: Option<u32>,
        changes: &mut impl FnMut(Change<'_>),
    ) -> Applied {
        let applied = match t {
            Txn::Multi(subs) => self.apply_multi(h, subs, changes),
            _ => match self.apply_one(h, h.op, t, prefix_crc, changes) {
                Ok(stat) => Applied { err: 0, stat, subs: None },
                Err(err) => Applied { err, stat: None, subs: None },
            },
        };
        self.last_zxid = self.last_zxid.max(h.zxid);
        applied
    }

    fn apply_one(
        &mut self,
        h: &TxnHeader,
        op: Op,
        t: &Txn,
        prefix_crc: Option<u32>,
        changes: &mut impl FnMut(Change<'_>),
    ) -> Outcome {
        match t {
            Txn::Create(c) => self.create(h, op, c, prefix_crc, changes).map(Some),
            Txn::Delete { path } => self.delete(path, h.zxid, changes).map(|()| None),
            Txn::SetData { path, data, version } => {
                self.set_data(path, data.as_deref(), *version, prefix_crc, h, changes).map(Some)
            }
            Txn::SetAcl { path, acl, version } => {
                let slot = self.find(path).ok_or(ErrorCode::NoNode.code())?;
                self.replace_acl(slot, acl);
                self.edit_stat(slot, path, |s| s.aversion = *version);
                Ok(Some(self.stat_of(self.slab.get(slot))))
            }
            Txn::CloseSession { paths } => {
                self.close_session(h.session, h.zxid, paths.as_deref().unwrap_or_default(), changes);
                Ok(None)
            }
            Txn::Check { .. } | Txn::CreateSession { .. } => Ok(None),
            Txn::Error { err } => Err(*err),
            // The reader of transactions refuses a multi in a multi.
            Txn::Multi(_) => Err(ErrorCode::MarshallingError.code()),
        }
    }

    fn apply_multi(&mut self, h: &TxnHeader, subs: &[SubTxn], changes: &mut impl FnMut(Change<'_>)) -> Applied {
        let failed = subs.iter().any(|s| matches!(s.txn, Txn::Error { .. }));
        let results: Vec<SubApplied> = if failed { failed_multi(subs) } else { self.apply_subs(h, subs, changes) };
        let err = results.iter().map(|r| r.err).find(|e| *e != 0).unwrap_or(0);
        Applied { err, stat: None, subs: Some(results) }
    }

    fn apply_subs(&mut self, h: &TxnHeader, subs: &[SubTxn], changes: &mut impl FnMut(Change<'_>)) -> Vec<SubApplied> {
        let mut results = Vec::with_capacity(subs.len());
        for s in subs {
            let outcome = self.apply_one(h, s.op, &s.txn, None, changes);
            let path = path_of(&s.txn).map(str::to_owned);
            results.push(match outcome {
                Ok(stat) => SubApplied { op: s.op, err: 0, stat, path },
                Err(err) => SubApplied { op: s.op, err, stat: None, path },
            });
        }
        results
    }

    fn create(
        &mut self,
        h: &TxnHeader,
        op: Op,
        c: &CreateTxn,
        prefix_crc: Option<u32>,
        changes: &mut impl FnMut(Change<'_>),
    ) -> Result<Stat, i32> {
        let path = c.path.as_str();
        let parent_path = parent_of(path)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode.code())?;
        if let Some(existing) = self.find(path) {
            // Replay: the node is of a later moment, but its ACL may be one the snapshot does not have.
            self.replace_acl(existing, &c.acl);
            if op == Op::CREATE {
                self.count_create(parent, parent_path, c.parent_cversion, h.zxid);
            }
            return Err(ErrorCode::NodeExists.code());
        }
        let ephemeral_owner = self.owner_of(h.session, c.kind)?;
        self.count_create(parent, parent_path, c.parent_cversion, h.zxid);
        let stat = StatPersisted {
            czxid: h.zxid,
            mzxid: h.zxid,
            pzxid: h.zxid,
            ctime: h.time_ms,
            mtime: h.time_ms,
            ephemeral_owner,
            ..StatPersisted::default()
        };
        let acl = self.acls.intern(&c.acl);
        let data = c.data.as_deref();
        let slot = self.insert(parent, path, data, acl, stat, prefix_crc);
        let stat = self.stat_of(self.slab.get(slot));
        self.quota_after_create(path, data.map_or(0, <[u8]>::len));
        self.tell(EventType::NodeCreated, path, slot, changes);
        self.tell(EventType::NodeChildrenChanged, parent_path, parent, changes);
        Ok(stat)
    }

    fn owner_of(&self, session: SessionId, kind: CreateKind) -> Result<i64, i32> {
        match kind {
            CreateKind::Plain { ephemeral: false } => Ok(0),
            CreateKind::Plain { ephemeral: true } => Ok(session.0),
            CreateKind::Container => Ok(owner::CONTAINER),
            CreateKind::Ttl { ttl_ms } if (1..=owner::MAX_TTL_MS).contains(&ttl_ms) => Ok(owner::of_ttl(ttl_ms)),
            CreateKind::Ttl { .. } => Err(ErrorCode::BadArguments.code()),
        }
    }

    /// Advances the parent's count of creates, never back: a replayed create may be older than the parent.
    fn count_create(&mut self, parent: u32, parent_path: &str, parent_cversion: i32, zxid: Zxid) {
        let current = self.slab.get(parent).stat.cversion;
        let next = if parent_cversion == -1 { current.wrapping_add(1) } else { parent_cversion };
        if next > current {
            self.edit_stat(parent, parent_path, |s| {
                s.cversion = next;
                s.pzxid = zxid;
            });
        }
    }

    fn delete(&mut self, path: &str, zxid: Zxid, changes: &mut impl FnMut(Change<'_>)) -> Result<(), i32> {
        let parent_path = parent_of(path)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode.code())?;
        // Raised even if the node is gone already: clients find missed events by it.
        if zxid > self.slab.get(parent).stat.pzxid {
            self.edit_stat(parent, parent_path, |s| s.pzxid = zxid);
        }
        let slot = self.find(path).ok_or(ErrorCode::NoNode.code())?;
        if self.slab.get(slot).first_child != NONE {
            self.delete_below(slot, changes);
        }
        self.delete_leaf(slot, path, changes);
        Ok(())
    }

    /// Deletes all descendants, children before parents. Only a replay over a fuzzy snapshot meets them: they were created
    /// after this delete, under a node of the same name, and the log that follows creates them again.
    fn delete_below(&mut self, top: u32, changes: &mut impl FnMut(Change<'_>)) {
        let mut below: Vec<(String, u32)> = self.subtree(top).skip(1).map(|s| (self.path_of(s), s)).collect();
        below.sort_by(|a, b| b.cmp(a));
        for (path, slot) in below {
            self.delete_leaf(slot, &path, changes);
        }
    }

    fn delete_leaf(&mut self, slot: u32, path: &str, changes: &mut impl FnMut(Change<'_>)) {
        let node = self.remove(slot, path);
        self.quota_after_delete(path, node.data_len());
        changes(Change { event: EventType::NodeDeleted, path, acl: self.acls.shared(node.acl) });
        self.tell(EventType::NodeChildrenChanged, path::parent(path).unwrap_or(path::ROOT), node.parent, changes);
        self.acls.release(node.acl);
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        prefix_crc: Option<u32>,
        h: &TxnHeader,
        changes: &mut impl FnMut(Change<'_>),
    ) -> Result<Stat, i32> {
        let slot = self.find(path).ok_or(ErrorCode::NoNode.code())?;
        let old_len = self.slab.get(slot).data_len() as i64;
        self.edit_data(slot, path, data, prefix_crc, |s| {
            s.mtime = h.time_ms;
            s.mzxid = h.zxid;
            s.version = version;
        });
        let stat = self.stat_of(self.slab.get(slot));
        self.charge(path, 0, data.map_or(0, <[u8]>::len) as i64 - old_len);
        self.tell(EventType::NodeDataChanged, path, slot, changes);
        Ok(stat)
    }

    /// Deletes the listed paths in their order, then whatever else the session owns. A session nobody knows is closed the same
    /// way, outside any transaction, when a server starts.
    pub fn close_session(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        listed: &[String],
        changes: &mut impl FnMut(Change<'_>),
    ) {
        for path in listed {
            // NoNode is what a replay finds; nobody is there to be told.
            let _ = self.delete(path, zxid, changes);
        }
        let rest: Vec<String> = self.ephemerals_of(session).collect();
        for path in rest {
            let _ = self.delete(&path, zxid, changes);
        }
    }
}

/// Everything of a multi that failed is an error: 0 before the operation that failed, its code there, then
/// RUNTIMEINCONSISTENCY, unless the transaction says itself.
fn failed_multi(subs: &[SubTxn]) -> Vec<SubApplied> {
    let mut after = false;
    let result = |s: &SubTxn| {
        let err = match s.txn {
            Txn::Error { err } => {
                after = true;
                err
            }
            _ if after => ErrorCode::RuntimeInconsistency.code(),
            _ => ErrorCode::Ok.code(),
        };
        SubApplied { op: Op::ERROR, err, stat: None, path: None }
    };
    subs.iter().map(result).collect()
}

/// The znode a transaction is about.
fn path_of(t: &Txn) -> Option<&str> {
    match t {
        Txn::Create(c) => Some(&c.path),
        Txn::Delete { path } | Txn::SetData { path, .. } | Txn::SetAcl { path, .. } | Txn::Check { path, .. } => {
            Some(path)
        }
        Txn::Multi(_) | Txn::CreateSession { .. } | Txn::CloseSession { .. } | Txn::Error { .. } => None,
    }
}

/// The parent's path. One without a name or a slash, or with an empty first name, cannot have come from a leader.
pub(super) fn parent_of(path: &str) -> Result<&str, i32> {
    match path::last_slash(path) {
        Some(0) if path.len() > 1 => Ok(path::ROOT),
        Some(at) if at > 1 && at + 1 < path.len() => Ok(&path[..at]),
        _ => Err(ErrorCode::BadArguments.code()),
    }
}
