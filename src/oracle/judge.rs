//! Requests made out of bytes, and a judge that compares what prep and tree make of them with the naive [`Model`]. For
//! random tests and fuzz targets.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::server_model::{Asker, Model, ModelOp, Outcome};
use crate::jute::Reader;
use crate::pipeline::prep::{Prep, PrepOptions, Proposal, Sessions, State, WriteRequest};
use crate::tree::{Applied, Tree};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Acl, ConnId, Cxid, Id, Now, Op, Origin, SessionId, ShardId, Zxid, perms};

const ODD_PATHS: [&str; 20] = [
    "",
    "/",
    "a",
    "//a",
    "/a/",
    "/a//b",
    "/a\0",
    "/.",
    "/a/..",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/q",
    "/é\u{1}",
    "/\u{1f600}",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
];

/// A source of bytes that decide random choices; it never ends.
pub struct Choices<'a>(pub &'a mut dyn FnMut() -> u8);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        (self.0)()
    }

    fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[usize::from(self.byte()) % table.len()]
    }

    fn path(&mut self) -> String {
        let which = self.byte();
        if which >= 224 {
            return ODD_PATHS[usize::from(which) % ODD_PATHS.len()].to_owned();
        }
        let depth = 1 + usize::from(which >> 6) % 3;
        (0..depth).map(|level| ["/a", "/b", "/c", "/é"][usize::from(which >> (2 * level)) & 3]).collect()
    }

    fn acl(&mut self) -> Vec<Acl> {
        let one = |perms, scheme: &str, id: &str| vec![Acl { perms, id: Id::new(scheme, id) }];
        match self.byte() {
            0 => vec![],
            1 => one(perms::ALL, "nope", "x"),
            n @ 2..8 => one(perms::ALL & !(1 << (n % 5)), "world", "anyone"),
            8 | 9 => one(perms::ALL, "auth", ""),
            10 | 11 => [one(perms::READ, "world", "anyone"), one(perms::ALL, "digest", "bob:h")].concat(),
            _ => vec![Acl::world_all()],
        }
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        match self.byte() {
            0 => None,
            1 => Some(b"count=3,bytes=20=;countHardLimit=9".to_vec()),
            n => Some(vec![n; usize::from(n) % 24]),
        }
    }

    fn version(&mut self) -> i32 {
        i32::from(self.byte() % 5) - 1
    }

    /// A request. `kind`, from 6 to 31, chooses the operation.
    pub fn request(&mut self, kind: u8) -> ModelOp {
        match kind {
            6 => ModelOp::CloseSession,
            7 => ModelOp::CreateSession,
            8 | 9 => ModelOp::DeleteContainer { path: self.path() },
            10..=14 => {
                let n = self.byte() % 7;
                ModelOp::Multi((0..n).map(|_| self.node_op(true)).collect())
            }
            _ => self.node_op(false),
        }
    }

    fn node_op(&mut self, in_multi: bool) -> ModelOp {
        let kind = self.byte();
        let path = self.path();
        match kind % 16 {
            0..=6 => self.create(kind >> 4, path, in_multi),
            7..=9 => ModelOp::Delete { path, version: self.version() },
            10..=12 => ModelOp::SetData { path, data: self.data(), version: self.version() },
            13 | 14 if !in_multi => ModelOp::SetAcl { path, acl: self.acl(), version: self.version() },
            _ => ModelOp::Check { path, version: self.version() },
        }
    }

    fn create(&mut self, kind: u8, path: String, in_multi: bool) -> ModelOp {
        // In a multi the create flag decides the opcode, so only matching pairs are generated.
        let (op, flags) = match kind {
            0 | 1 => (Op::CREATE, 0),
            2 | 3 => (Op::CREATE2, 1),
            4 | 5 => (Op::CREATE, 2),
            6 | 7 => (Op::CREATE2, 3),
            8 | 9 => (Op::CREATE_CONTAINER, 4),
            10 | 11 => (Op::CREATE_TTL, 5),
            12 => (Op::CREATE_TTL, 6),
            _ if in_multi => (Op::CREATE, 0),
            _ => {
                let flags = i32::from(self.byte() % 10) - 1;
                (self.pick(&[Op::CREATE, Op::CREATE2, Op::CREATE_CONTAINER, Op::CREATE_TTL]), flags)
            }
        };
        let ttl_ms =
            if op == Op::CREATE_TTL { self.pick(&[1, 5, 40, 0, -1, (1 << 40) - 1, 1 << 40, i64::MIN]) } else { -1 };
        ModelOp::Create { op, path, data: self.data(), acl: self.acl(), flags, ttl_ms }
    }
}

/// Prep and the model, which get the same requests.
pub struct Judge {
    /// Gives the expected result of each request, immediately.
    pub model: Model,
    /// The prep under test.
    pub prep: Prep,
    /// The zxid of the last request.
    pub zxid: Zxid,
    time_ms: i64,
}

impl Judge {
    /// A judge that has had no requests.
    pub fn new(extended: ExtendedTypes) -> Judge {
        Judge {
            model: Model::new(extended),
            prep: Prep::new(PrepOptions { extended, ..PrepOptions::default() }),
            zxid: Zxid::ZERO,
            time_ms: 1000,
        }
    }

    /// Runs one request, `ms` after the last one, through the model and through prep. The state that prep sees may lag
    /// behind.
    ///
    /// # Panics
    /// If the results differ, or if the proposal cannot be decoded again.
    pub fn propose(
        &mut self,
        state: &impl State,
        sessions: &impl Sessions,
        session: SessionId,
        request: &ModelOp,
        ms: i64,
    ) -> Proposal {
        self.zxid = Zxid(self.zxid.0 + 1);
        self.time_ms += ms;
        let ids = if session.0 == 1 { vec![Id::new("digest", "bob:h"), Id::new("ip", "::1")] } else { vec![] };
        let asker = Asker { session, ids: &ids, zxid: self.zxid, time_ms: self.time_ms };
        let wanted = match request {
            // Allowed only inside a multi.
            ModelOp::Check { .. } => Outcome::Error(-6),
            other => self.model.run(&asker, other),
        };
        let mut body = Vec::new();
        request.put(&mut body);
        let write = WriteRequest {
            session,
            cxid: Cxid(7),
            op: request.opcode(),
            body: Bytes::from(body),
            auth: Arc::from(ids),
            moved: false,
            origin: Origin::Local { shard: ShardId(1), conn: ConnId(2) },
        };
        let now = Now { wall_ms: self.time_ms, ..Now::default() };
        let proposal = self.prep.handle(state, sessions, now, self.zxid, &write);
        self.prep.check();
        check_encoding(&proposal);
        assert_eq!(Outcome::of(&proposal.txn), wanted, "{request:?} of {session}");
        assert_eq!(proposal.header.op == Op::ERROR, matches!(wanted, Outcome::Error(_)));
        assert_eq!(proposal.op, write.op);
        assert_eq!(proposal.digest.map(|d| d.digest), Some(self.model.digest()), "digest after {request:?}");
        proposal
    }
}

/// Asserts that the encoded record decodes to the same transaction.
pub fn check_encoding(p: &Proposal) {
    let r = &mut Reader::new(&p.record);
    assert_eq!(TxnHeader::read(r), Ok(p.header));
    let at = r.position();
    assert_eq!(Txn::read(p.header.op, r).as_ref(), Ok(&p.txn));
    assert_eq!(p.txn_bytes(), &p.record[at..r.position()]);
    assert_eq!(TxnDigest::read(r).ok(), p.digest);
    assert!(r.is_empty());
}

/// Applies a proposal and asserts that the tree agrees with it.
pub fn apply(tree: &mut Tree, p: &Proposal) -> Applied {
    let applied = tree.apply_known(&p.header, &p.txn, p.prefix_crc, &mut |_| {});
    assert_eq!(Some(tree.digest()), p.digest.map(|d| d.digest), "digest after applying {:?}", p.txn);
    match &p.txn {
        Txn::Error { err } => assert_eq!(applied.err, *err),
        Txn::Multi(subs) => {
            let results: Vec<i32> = applied.subs.iter().flatten().map(|s| s.err).collect();
            let wanted = subs.iter().map(|s| if let Txn::Error { err } = s.txn { err } else { 0 });
            assert!(results.into_iter().eq(wanted), "{:?}", p.txn);
        }
        _ => assert_eq!(applied.err, 0, "{:?}", p.txn),
    }
    applied
}

/// The session table after the applied transactions.
#[derive(Default)]
pub struct Table(pub BTreeSet<SessionId>);

impl Table {
    /// Records an applied transaction.
    pub fn applied(&mut self, p: &Proposal) {
        match &p.txn {
            Txn::CreateSession { .. } => drop(self.0.insert(p.header.session)),
            Txn::CloseSession { .. } => drop(self.0.remove(&p.header.session)),
            _ => {}
        }
    }
}

impl Sessions for Table {
    fn is_known(&self, session: SessionId) -> bool {
        self.0.contains(&session)
    }
    fn is_closing(&self, _session: SessionId) -> bool {
        false
    }
}
