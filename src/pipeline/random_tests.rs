//! Random request lists through prep, with the applied state lagging behind by a random number of proposals, against the
//! naive model that applies each request at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Origin;
use super::model::{Asker, Model, ModelOp, Outcome};
use super::prep::{Prep, PrepOptions, Proposal, State, WriteRequest};
use crate::jute::Reader;
use crate::tree::{Tree, TreeOptions};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Acl, Cxid, Id, Now, SessionId, Zxid, op, perms};

const EXTENDED: ExtendedTypes = ExtendedTypes { enabled: true, emulate_353: false };

fn options() -> PrepOptions {
    PrepOptions { extended: EXTENDED, ..PrepOptions::default() }
}

fn random_path(r: &mut fastrand::Rng) -> String {
    if r.u32(..25) == 0 {
        let odd = [
            "",
            "/",
            "a",
            "//a",
            "/a/",
            "/a//b",
            "/a\0",
            "/.",
            "/zookeeper",
            "/zookeeper/config",
            "/zookeeper/q",
            "/é\u{1}",
        ];
        return odd[r.usize(..odd.len())].to_owned();
    }
    (0..r.u32(1..=3)).map(|_| ["/a", "/b", "/c"][r.usize(..3)]).collect()
}

fn random_acl(r: &mut fastrand::Rng) -> Vec<Acl> {
    let one = |perms, scheme: &str, id: &str| vec![Acl { perms, id: Id::new(scheme, id) }];
    match r.u32(..30) {
        0 => vec![],
        1 => one(perms::ALL, "nope", "x"),
        2 => one(perms::ALL & !(1 << r.u32(..5)), "world", "anyone"),
        3 => one(perms::ALL, "auth", ""),
        4 => [one(perms::READ, "world", "anyone"), one(perms::ALL, "digest", "bob:h")].concat(),
        _ => vec![Acl::world_all()],
    }
}

fn random_data(r: &mut fastrand::Rng) -> Option<Vec<u8>> {
    (r.u32(..10) != 0).then(|| (0..r.usize(..20)).map(|_| r.u8(..)).collect())
}

fn random_version(r: &mut fastrand::Rng) -> i32 {
    if r.u32(..3) == 0 { r.i32(0..3) } else { -1 }
}

fn random_node_op(r: &mut fastrand::Rng, in_multi: bool) -> ModelOp {
    let path = random_path(r);
    match r.u32(..14) {
        0..=5 => {
            // In a multi the flag re-selects the opcode: only pairs that say the same.
            let (op, flags) = match r.u32(..20) {
                0..=5 => (op::CREATE, 0),
                6..=8 => (op::CREATE2, 1),
                9..=11 => (op::CREATE, 2),
                12..=13 => (op::CREATE2, 3),
                14..=15 => (op::CREATE_CONTAINER, 4),
                16..=17 => (op::CREATE_TTL, 5),
                18 => (op::CREATE_TTL, 6),
                _ if in_multi => (op::CREATE, 0),
                _ => ([op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL][r.usize(..4)], r.i32(-1..9)),
            };
            let ttl_ms = [1, 5, 5, 40, 0, -1, 1 << 40][r.usize(..7)];
            ModelOp::Create { op, path, data: random_data(r), acl: random_acl(r), flags, ttl_ms }
        }
        6..=8 => ModelOp::Delete { path, version: random_version(r) },
        9..=11 => ModelOp::SetData { path, data: random_data(r), version: random_version(r) },
        12 if !in_multi => ModelOp::SetAcl { path, acl: random_acl(r), version: random_version(r) },
        _ => ModelOp::Check { path, version: random_version(r) },
    }
}

fn random_request(r: &mut fastrand::Rng) -> ModelOp {
    match r.u32(..40) {
        0..=1 => ModelOp::CloseSession,
        2..=4 => ModelOp::CreateSession,
        5..=6 => ModelOp::DeleteContainer { path: random_path(r) },
        7..=15 => ModelOp::Multi((0..r.usize(..5)).map(|_| random_node_op(r, true)).collect()),
        _ => random_node_op(r, false),
    }
}

/// The record reads back as what it was made of.
fn check_encoding(p: &Proposal) {
    let r = &mut Reader::new(&p.record);
    assert_eq!(TxnHeader::read(r), Ok(p.header));
    let at = r.position();
    assert_eq!(Txn::read(p.header.op, r).as_ref(), Ok(&p.txn));
    assert_eq!(p.txn_bytes(), &p.record[at..r.position()]);
    assert_eq!(TxnDigest::read(r).ok(), p.digest);
    assert!(r.is_empty());
}

struct Run {
    rng: fastrand::Rng,
    model: Model,
    prep: Prep,
    zxid: Zxid,
    time_ms: i64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut model = Model::new(EXTENDED);
        model.sessions.extend([SessionId(1), SessionId(2)]);
        Run { rng: fastrand::Rng::with_seed(seed), model, prep: Prep::new(options()), zxid: Zxid(0), time_ms: 1_000 }
    }

    /// One random request through model and prep, the latter seeing `state`.
    fn step(&mut self, state: &impl State, sessions: &impl super::prep::Sessions) -> Proposal {
        let r = &mut self.rng;
        let request = random_request(r);
        self.zxid = Zxid(self.zxid.0 + 1);
        self.time_ms += r.i64(0..5);
        let sweep = matches!(request, ModelOp::DeleteContainer { .. });
        let session = SessionId(if sweep { 0 } else { r.i64(1..5) });
        let ids: Vec<Id> = if session.0 == 1 { vec![Id::new("digest", "bob:h"), Id::new("ip", "::1")] } else { vec![] };
        let asker = Asker { session, ids: &ids, zxid: self.zxid, time_ms: self.time_ms };
        let wanted = if matches!(request, ModelOp::Check { .. }) {
            Outcome::Error(-6)
        } else {
            self.model.run(&asker, &request)
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
            origin: Origin { shard: 1, conn: 2 },
        };
        let now = Now { wall_ms: self.time_ms, ..Now::default() };
        let proposal = self.prep.handle(state, sessions, now, self.zxid, &write);
        self.prep.check();
        assert_eq!(Outcome::of(&proposal.txn), wanted, "{request:?} of {session}");
        assert_eq!(proposal.header.op == op::ERROR, matches!(wanted, Outcome::Error(_)));
        assert_eq!((proposal.origin, proposal.op), (write.origin, write.op));
        assert_eq!(proposal.digest.map(|d| d.digest), Some(self.model.digest()), "digest after {request:?}");
        check_encoding(&proposal);
        proposal
    }
}

#[test]
fn prep_over_a_lagging_state_agrees_with_the_naive_model() {
    let mut refused = 0;
    let mut taken = 0;
    for seed in 0..150 {
        let mut run = Run::new(seed);
        // What the applied state was after each zxid.
        let mut history = vec![run.model.clone()];
        let mut applied = 0;
        for _ in 0..120 {
            let proposal = run.step(&history[applied].clone(), &history[applied].clone());
            if proposal.error().is_some() {
                refused += 1
            } else {
                taken += 1
            }
            history.push(run.model.clone());
            if run.rng.u32(..4) == 0 {
                applied += run.rng.usize(..=history.len() - 1 - applied);
                run.prep.applied(Zxid(applied as i64));
                run.prep.check();
            }
        }
        run.prep.applied(run.zxid);
        assert_eq!(run.prep.status().outstanding_changes, 0);
        run.prep.check();
    }
    assert!(refused > taken / 10 && taken > refused / 10, "{taken} taken, {refused} refused: not much of a test");
}

/// The session table as the applied transactions leave it.
#[derive(Default)]
struct Table(std::collections::BTreeSet<SessionId>);

impl super::prep::Sessions for Table {
    fn is_known(&self, session: SessionId) -> bool {
        self.0.contains(&session)
    }
    fn is_closing(&self, _session: SessionId) -> bool {
        false
    }
}

/// Applies a proposal to the real tree, which must find nothing wrong with it.
fn apply(tree: &mut Tree, table: &mut Table, p: &Proposal) {
    let applied = tree.apply(&p.header, &p.txn, &mut |_| {});
    assert_eq!(Some(tree.digest()), p.digest.map(|d| d.digest), "digest after applying {:?}", p.txn);
    match &p.txn {
        Txn::Error { err } => assert_eq!(applied.err, *err),
        Txn::Multi(subs) => {
            let results: Vec<i32> = applied.subs.unwrap().iter().map(|s| s.err).collect();
            let wanted = subs.iter().map(|s| if let Txn::Error { err } = s.txn { err } else { 0 });
            assert!(results.into_iter().eq(wanted), "{:?}", p.txn);
        }
        Txn::CreateSession { .. } => drop(table.0.insert(p.header.session)),
        Txn::CloseSession { .. } => drop(table.0.remove(&p.header.session)),
        _ => assert_eq!(applied.err, 0, "{:?}", p.txn),
    }
}

fn assert_same(tree: &Tree, model: &Model) {
    let nodes: Vec<_> = model.nodes.iter().collect();
    let mut walked: Vec<_> = tree.walk().collect();
    walked.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(walked.iter().map(|(p, _)| p).collect::<Vec<_>>(), nodes.iter().map(|(p, _)| *p).collect::<Vec<_>>());
    for ((path, z), (_, n)) in walked.iter().zip(nodes) {
        assert_eq!(z.persisted(), n.stat, "{path}");
        assert_eq!(z.data(), n.data.as_deref(), "{path}");
        assert_eq!(z.shared_acl(), n.acl, "{path}");
        assert_eq!(z.num_children(), model.children(path), "{path}");
    }
}

#[test]
fn prep_over_the_real_tree_lagging_behind_agrees_with_the_naive_model() {
    for seed in 1000..1150 {
        let mut run = Run::new(seed);
        let mut tree = Tree::new(TreeOptions { extended: EXTENDED, digest_enabled: true });
        let mut table = Table(run.model.sessions.clone());
        let mut pending = VecDeque::new();
        for _ in 0..150 {
            pending.push_back(run.step(&tree, &table));
            if run.rng.u32(..4) == 0 {
                for p in pending.drain(..run.rng.usize(..=pending.len())) {
                    apply(&mut tree, &mut table, &p);
                }
                run.prep.applied(tree.last_zxid());
                run.prep.check();
            }
        }
        for p in pending {
            apply(&mut tree, &mut table, &p);
        }
        run.prep.applied(run.zxid);
        assert_eq!(run.prep.status().outstanding_changes, 0);
        assert_same(&tree, &run.model);
        assert_eq!(table.0, run.model.sessions);
    }
}

#[test]
fn damaged_bodies_are_refused_or_taken_but_never_panic() {
    let mut run = Run::new(77);
    let tree = Tree::new(TreeOptions { extended: EXTENDED, digest_enabled: true });
    let table = Table(run.model.sessions.clone());
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        let r = &mut run.rng;
        let mut body = Vec::new();
        let request = random_request(r);
        request.put(&mut body);
        for _ in 0..r.usize(..3) {
            match (r.u32(..4), body.len()) {
                (_, 0) => body.push(r.u8(..)),
                (0, len) => body.truncate(r.usize(..len)),
                (1, len) => body[r.usize(..len)] = [0, 0xff, 0x7f, 0x80][r.usize(..4)],
                (2, len) => body[r.usize(..len)] = r.u8(..),
                (_, len) => body.insert(r.usize(..len), r.u8(..)),
            }
        }
        run.zxid = Zxid(run.zxid.0 + 1);
        let write = WriteRequest {
            session: SessionId(r.i64(0..3)),
            cxid: Cxid(1),
            op: if r.u32(..20) == 0 { r.i32(-20..120) } else { request.opcode() },
            body: Bytes::from(body),
            auth: Arc::from([]),
            moved: false,
            origin: Origin::default(),
        };
        let proposal = run.prep.handle(&tree, &table, Now::default(), run.zxid, &write);
        check_encoding(&proposal);
        codes.insert(proposal.error());
    }
    run.prep.check();
    assert!(codes.contains(&None) && codes.contains(&Some(-5)) && codes.contains(&Some(-8)), "{codes:?}");
}
