//! Lists of requests through prep, log, tree, snapshot and recovery, against the two naive models.
//!
//! The applied state lags behind what is proposed by as much as the input says. Every result and every digest is the model's;
//! the tree is its twin in all that can be asked; an image taken on the way is the tree as it was then; and what recovery
//! makes of the log is the same tree with the same sessions.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use zabra::pipeline::model::{Asker, Model, ModelOp, Outcome};
use zabra::pipeline::prep::Sessions;
use zabra::pipeline::{Origin, Prep, PrepOptions, Proposal, WriteRequest};
use zabra::tree::model::Model as TreeModel;
use zabra::tree::{ImageId, Tree};
use zabra::txn::{Txn, TxnHeader};
use zabra::txnlog::names::Compression;
use zabra::txnlog::recovery::RecoveryOptions;
use zabra::txnlog::restore::recover_tree;
use zabra::txnlog::testdisk::TestDisk;
use zabra::txnlog::testreplica::SMALL;
use zabra::txnlog::writer::LogWriter;
use zabra::types::{Acl, Cxid, Id, Now, SessionId, Zxid, op, perms};

use crate::input::Input;
use crate::request::{apply, check_encoding};
use crate::snapshot::{Blocks, OPTIONS, begin_image, load, save, seal};
use crate::world::EXTENDED;

const MOST_STEPS: usize = 120;

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

/// Input: one byte says what comes next; what it needs follows.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut run = Run::new();
    for session in [1, 2] {
        run.request(SessionId(session), &ModelOp::CreateSession, 1);
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        match kind % 32 {
            0..=3 => run.apply(input.below(8)),
            4 => run.begin_image(),
            5 => run.advance_image(input.below(200)),
            other => {
                let request = request(&mut input, other);
                let sweep = matches!(request, ModelOp::DeleteContainer { .. });
                let session = SessionId(if sweep && kind & 32 == 0 { 0 } else { i64::from(kind >> 6) + 1 });
                run.request(session, &request, i64::from(kind >> 5));
            }
        }
    }
    run.finish();
}

fn path(input: &mut Input<'_>) -> String {
    let which = input.u8();
    if which >= 224 {
        return ODD_PATHS[usize::from(which) % ODD_PATHS.len()].to_owned();
    }
    let depth = 1 + usize::from(which >> 6) % 3;
    (0..depth).map(|level| ["/a", "/b", "/c", "/é"][usize::from(which >> (2 * level)) & 3]).collect()
}

fn acl(input: &mut Input<'_>) -> Vec<Acl> {
    let one = |perms, scheme: &str, id: &str| vec![Acl { perms, id: Id::new(scheme, id) }];
    match input.u8() {
        0 => vec![],
        1 => one(perms::ALL, "nope", "x"),
        n @ 2..8 => one(perms::ALL & !(1 << (n % 5)), "world", "anyone"),
        8 | 9 => one(perms::ALL, "auth", ""),
        10 | 11 => [one(perms::READ, "world", "anyone"), one(perms::ALL, "digest", "bob:h")].concat(),
        _ => vec![Acl::world_all()],
    }
}

fn data(input: &mut Input<'_>) -> Option<Vec<u8>> {
    match input.u8() {
        0 => None,
        1 => Some(b"count=3,bytes=20=;countHardLimit=9".to_vec()),
        n => Some(vec![n; usize::from(n) % 24]),
    }
}

fn version(input: &mut Input<'_>) -> i32 {
    i32::from(input.u8() % 5) - 1
}

fn request(input: &mut Input<'_>, kind: u8) -> ModelOp {
    match kind {
        6 => ModelOp::CloseSession,
        7 => ModelOp::CreateSession,
        8 | 9 => ModelOp::DeleteContainer { path: path(input) },
        10..=14 => {
            let n = input.below(7);
            ModelOp::Multi((0..n).map(|_| node_op(input, true)).collect())
        }
        _ => node_op(input, false),
    }
}

fn node_op(input: &mut Input<'_>, in_multi: bool) -> ModelOp {
    let kind = input.u8();
    let path = path(input);
    match kind % 16 {
        0..=6 => {
            // In a multi the flag re-selects the opcode: only pairs that say the same.
            let (op, flags) = match kind >> 4 {
                0 | 1 => (op::CREATE, 0),
                2 | 3 => (op::CREATE2, 1),
                4 | 5 => (op::CREATE, 2),
                6 | 7 => (op::CREATE2, 3),
                8 | 9 => (op::CREATE_CONTAINER, 4),
                10 | 11 => (op::CREATE_TTL, 5),
                12 => (op::CREATE_TTL, 6),
                _ if in_multi => (op::CREATE, 0),
                _ => {
                    let flags = i32::from(input.u8() % 10) - 1;
                    (*input.pick(&[op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL]), flags)
                }
            };
            let ttl_ms = if op == op::CREATE_TTL {
                *input.pick(&[1, 5, 40, 0, -1, (1 << 40) - 1, 1 << 40, i64::MIN])
            } else {
                -1
            };
            ModelOp::Create { op, path, data: data(input), acl: acl(input), flags, ttl_ms }
        }
        7..=9 => ModelOp::Delete { path, version: version(input) },
        10..=12 => ModelOp::SetData { path, data: data(input), version: version(input) },
        13 | 14 if !in_multi => ModelOp::SetAcl { path, acl: acl(input), version: version(input) },
        _ => ModelOp::Check { path, version: version(input) },
    }
}

/// The session table as the applied transactions leave it.
#[derive(Default)]
struct Table(BTreeSet<SessionId>);

impl Sessions for Table {
    fn is_known(&self, session: SessionId) -> bool {
        self.0.contains(&session)
    }
    fn is_closing(&self, _session: SessionId) -> bool {
        false
    }
}

/// An image under way, and the model as it was when it began.
struct Taking {
    id: ImageId,
    zxid: Zxid,
    then: TreeModel,
    bytes: Vec<u8>,
}

struct Run {
    /// Says what each request comes to, at once.
    model: Model,
    prep: Prep,
    tree: Tree,
    /// Says what each transaction does to the tree.
    twin: TreeModel,
    table: Table,
    pending: VecDeque<Proposal>,
    log: LogWriter<TestDisk>,
    disk: TestDisk,
    image: Option<Taking>,
    zxid: Zxid,
    time_ms: i64,
}

impl Run {
    fn new() -> Run {
        let disk = TestDisk::new();
        save(&mut Tree::new(OPTIONS), &[], &mut disk.clone(), Compression::None);
        Run {
            model: Model::new(EXTENDED),
            prep: Prep::new(PrepOptions { extended: EXTENDED, ..PrepOptions::default() }),
            tree: Tree::new(OPTIONS),
            twin: TreeModel::new(OPTIONS),
            table: Table::default(),
            pending: VecDeque::new(),
            log: LogWriter::new(disk.clone(), Zxid::ZERO, SMALL),
            disk,
            image: None,
            zxid: Zxid(0),
            time_ms: 1000,
        }
    }

    /// One request through the model and through prep, which sees the state that lags behind.
    fn request(&mut self, session: SessionId, request: &ModelOp, ms: i64) {
        self.zxid = Zxid(self.zxid.0 + 1);
        self.time_ms += ms;
        let ids = if session.0 == 1 { vec![Id::new("digest", "bob:h"), Id::new("ip", "::1")] } else { vec![] };
        let asker = Asker { session, ids: &ids, zxid: self.zxid, time_ms: self.time_ms };
        let wanted = match request {
            // Only inside a multi.
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
            origin: Origin::default(),
        };
        let now = Now { wall_ms: self.time_ms, ..Now::default() };
        let proposal = self.prep.handle(&self.tree, &self.table, now, self.zxid, &write);
        self.prep.check();
        check_encoding(&proposal);
        assert_eq!(Outcome::of(&proposal.txn), wanted, "{request:?} of {session}");
        assert_eq!(proposal.digest.map(|d| d.digest), Some(model_digest(&self.model)), "digest after {request:?}");
        self.log.append(self.zxid, &proposal.record).expect("a disk without faults");
        self.pending.push_back(proposal);
    }

    fn apply(&mut self, n: usize) {
        for _ in 0..n {
            let Some(p) = self.pending.pop_front() else { break };
            apply(&mut self.tree, &p);
            self.twin.apply(&p.header, &p.txn);
            self.note_session(&p.header, &p.txn);
        }
        self.prep.applied(self.tree.last_zxid());
        self.prep.check();
    }

    fn note_session(&mut self, header: &TxnHeader, txn: &Txn) {
        match txn {
            Txn::CreateSession { .. } => drop(self.table.0.insert(header.session)),
            Txn::CloseSession { .. } => drop(self.table.0.remove(&header.session)),
            _ => {}
        }
    }

    fn begin_image(&mut self) {
        if self.image.is_none() {
            let id = self.tree.begin_image();
            let bytes = begin_image(&self.tree, id, &[]);
            self.image = Some(Taking { id, zxid: self.tree.last_zxid(), then: self.twin.clone(), bytes });
        }
    }

    fn advance_image(&mut self, max_bytes: usize) {
        let Some(mut taking) = self.image.take() else { return };
        if !self.tree.image_chunk(taking.id, max_bytes, &mut taking.bytes) {
            self.image = Some(taking);
            return;
        }
        let file = seal(&taking.bytes, taking.zxid, Blocks::default());
        let loaded = load(&file, Compression::None, taking.zxid).expect("an image of ours loads").tree;
        // Loading counts usage anew, so only without quotas is everything the same.
        if loaded.all_quotas().next().is_none() {
            taking.then.compare(&loaded).unwrap_or_else(|e| panic!("image: {e}"));
        }
    }

    fn finish(mut self) {
        self.apply(self.pending.len());
        self.prep.applied(self.zxid);
        assert_eq!(self.prep.status().outstanding_changes, 0);
        assert_eq!(self.table.0, self.model.sessions);
        // The twin looks through all it has for everything: once at the end has to do. Digests were compared all the time.
        self.twin.compare(&self.tree).unwrap_or_else(|e| panic!("{e}"));
        for _ in 0..MOST_STEPS {
            self.advance_image(1000);
        }
        assert_eq!(self.tree.images_open(), 0);
        self.log.sync().expect("a disk without faults");
        drop(self.log);
        let options = RecoveryOptions::default();
        let r = recover_tree(&mut self.disk.clone(), &mut self.disk, OPTIONS, options).expect("an undamaged log");
        assert_eq!((r.last, r.report.digest_mismatch_count, r.report.cuts.len()), (self.zxid, 0, 0));
        assert_eq!(r.sessions.keys().copied().collect::<BTreeSet<_>>(), self.table.0);
        self.twin.compare(&r.state).unwrap_or_else(|e| panic!("recovered: {e}"));
    }
}

/// The digest as the model's `State` has it.
fn model_digest(model: &Model) -> u64 {
    zabra::pipeline::prep::State::digest(model)
}
