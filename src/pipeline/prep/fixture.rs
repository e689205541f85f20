//! A prep with a real tree, for the tests of each operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Prep, PrepOptions, Proposal, Sessions, WriteRequest};
use crate::oracle::server_model::ModelOp;
use crate::tree::{Tree, TreeOptions};
use crate::txn::Txn;
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Acl, ConnId, Cxid, Id, Now, Op, Origin, SessionId, ShardId, Zxid};

/// Sessions by their state.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) known: BTreeSet<SessionId>,
    pub(crate) closing: BTreeSet<SessionId>,
    pub(crate) local: BTreeSet<SessionId>,
}

impl Sessions for Table {
    fn is_known(&self, session: SessionId) -> bool {
        self.known.contains(&session)
    }
    fn is_closing(&self, session: SessionId) -> bool {
        self.closing.contains(&session)
    }
    fn is_local(&self, session: SessionId) -> bool {
        self.local.contains(&session)
    }
}

/// A prep, its state, and the client whose requests it handles.
pub(crate) struct Fixture {
    pub(crate) prep: Prep,
    pub(crate) tree: Tree,
    pub(crate) table: Table,
    pub(crate) zxid: i64,
    pub(crate) wall_ms: i64,
    pub(crate) session: SessionId,
    pub(crate) ids: Vec<Id>,
    pub(crate) moved: bool,
}

impl Fixture {
    /// Sessions 1 and 2 exist, TTL nodes are allowed, and requests come from session 1.
    pub(crate) fn new() -> Fixture {
        Fixture::with(PrepOptions {
            extended: ExtendedTypes { enabled: true, emulate_353: false },
            ..PrepOptions::default()
        })
    }

    /// With other options.
    pub(crate) fn with(options: PrepOptions) -> Fixture {
        let tree = Tree::new(TreeOptions { extended: options.extended, digest_enabled: options.digest_enabled });
        let known = BTreeSet::from([SessionId(1), SessionId(2)]);
        Fixture {
            prep: Prep::new(options),
            tree,
            table: Table { known, ..Table::default() },
            zxid: 0,
            wall_ms: 1_000,
            session: SessionId(1),
            ids: vec![],
            moved: false,
        }
    }

    /// Prepares a request given as raw bytes.
    pub(crate) fn raw(&mut self, op: Op, body: Vec<u8>) -> Proposal {
        self.zxid += 1;
        let request = WriteRequest {
            session: self.session,
            cxid: Cxid(3),
            op,
            body: Bytes::from(body),
            auth: Arc::from(self.ids.as_slice()),
            moved: self.moved,
            origin: Origin::Local { shard: ShardId(4), conn: ConnId(5) },
        };
        let now = Now { wall_ms: self.wall_ms, ..Now::default() };
        let proposal = self.prep.handle(&self.tree, &self.table, now, Zxid(self.zxid), &request);
        self.prep.check();
        proposal
    }

    /// Prepares a request.
    pub(crate) fn send(&mut self, request: &ModelOp) -> Proposal {
        let mut body = Vec::new();
        request.put(&mut body);
        self.raw(request.opcode(), body)
    }

    /// Prepares a request and returns its error code; 0 if it was accepted.
    pub(crate) fn code(&mut self, request: &ModelOp) -> i32 {
        self.send(request).error().unwrap_or(0)
    }

    /// Prepares a request that must be accepted.
    pub(crate) fn taken(&mut self, request: &ModelOp) -> Txn {
        let proposal = self.send(request);
        assert_eq!(proposal.error(), None, "{request:?}");
        proposal.txn
    }

    /// Prepares a request that must be accepted, and applies it.
    pub(crate) fn applied(&mut self, request: &ModelOp) -> Txn {
        let proposal = self.send(request);
        assert_eq!(proposal.error(), None, "{request:?}");
        self.apply(&proposal);
        proposal.txn
    }

    /// Applies a proposal and checks the digest that it predicted.
    pub(crate) fn apply(&mut self, proposal: &Proposal) {
        self.tree.apply(&proposal.header, &proposal.txn, &mut |_| {});
        if let Some(digest) = proposal.digest {
            assert_eq!(digest.digest, self.tree.digest());
        }
        match proposal.txn {
            Txn::CreateSession { .. } => drop(self.table.known.insert(proposal.header.session)),
            Txn::CloseSession { .. } => drop(self.table.known.remove(&proposal.header.session)),
            _ => {}
        }
        self.prep.applied(proposal.header.zxid);
        self.prep.check();
    }
}

/// A create with this flag; all else is ordinary.
pub(crate) fn create_flag(op: Op, path: &str, flags: i32, ttl_ms: i64) -> ModelOp {
    ModelOp::Create { op, path: path.to_owned(), data: Some(b"d".to_vec()), acl: vec![Acl::world_all()], flags, ttl_ms }
}

/// A plain create.
pub(crate) fn create(path: &str) -> ModelOp {
    create_flag(Op::CREATE, path, 0, -1)
}

/// A create with an ACL.
pub(crate) fn create_acl(path: &str, acl: Vec<Acl>) -> ModelOp {
    ModelOp::Create { op: Op::CREATE, path: path.to_owned(), data: None, acl, flags: 0, ttl_ms: -1 }
}

/// A delete.
pub(crate) fn delete(path: &str, version: i32) -> ModelOp {
    ModelOp::Delete { path: path.to_owned(), version }
}

/// A setData.
pub(crate) fn set(path: &str, data: &[u8], version: i32) -> ModelOp {
    ModelOp::SetData { path: path.to_owned(), data: Some(data.to_vec()), version }
}

/// A setACL.
pub(crate) fn set_acl(path: &str, acl: Vec<Acl>, version: i32) -> ModelOp {
    ModelOp::SetAcl { path: path.to_owned(), acl, version }
}

/// A check.
pub(crate) fn check(path: &str, version: i32) -> ModelOp {
    ModelOp::Check { path: path.to_owned(), version }
}

/// The ACL that gives `perms` to `world:anyone`.
pub(crate) fn world(perms: i32) -> Vec<Acl> {
    vec![Acl { perms, id: Id::world() }]
}
