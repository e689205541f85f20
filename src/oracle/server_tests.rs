//! Random lists of requests run through prep, while the applied state lags behind by a random number of proposals. The
//! results are compared with the naive model, which applies each request at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::judge::{Choices, Judge, Table, apply, check_encoding};
use super::server_model::{Model, ModelOp};
use crate::pipeline::prep::{Proposal, Sessions, State, WriteRequest};
use crate::tree::{Tree, TreeOptions};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Cxid, Now, Op, Origin, SessionId, Zxid};

const EXTENDED: ExtendedTypes = ExtendedTypes { enabled: true, emulate_353: false };

fn random_request(r: &mut fastrand::Rng) -> ModelOp {
    let kind = r.u8(6..32);
    Choices(&mut || r.u8(..)).request(kind)
}

struct Run {
    rng: fastrand::Rng,
    judge: Judge,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut judge = Judge::new(EXTENDED);
        judge.model.sessions.extend([SessionId(1), SessionId(2)]);
        Run { rng: fastrand::Rng::with_seed(seed), judge }
    }

    /// One random request.
    fn step(&mut self, state: &impl State, sessions: &impl Sessions) -> Proposal {
        let r = &mut self.rng;
        let request = random_request(r);
        let sweep = matches!(request, ModelOp::DeleteContainer { .. });
        let session = SessionId(if sweep { 0 } else { r.i64(1..5) });
        self.judge.propose(state, sessions, session, &request, r.i64(0..5))
    }
}

#[test]
fn prep_over_a_lagging_state_agrees_with_the_naive_model() {
    let mut refused = 0;
    let mut taken = 0;
    for seed in 0..150 {
        let mut run = Run::new(seed);
        // The applied state after each zxid.
        let mut history = vec![run.judge.model.clone()];
        let mut applied = 0;
        for _ in 0..120 {
            let proposal = run.step(&history[applied].clone(), &history[applied].clone());
            if proposal.error().is_some() {
                refused += 1
            } else {
                taken += 1
            }
            history.push(run.judge.model.clone());
            if run.rng.u32(..4) == 0 {
                applied += run.rng.usize(..=history.len() - 1 - applied);
                run.judge.prep.applied(Zxid(applied as i64));
                run.judge.prep.check();
            }
        }
        run.judge.prep.applied(run.judge.zxid);
        assert_eq!(run.judge.prep.status().outstanding_changes, 0);
        run.judge.prep.check();
    }
    assert!(refused > taken / 10 && taken > refused / 10, "{taken} taken, {refused} refused: not much of a test");
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
        let mut table = Table(run.judge.model.sessions.clone());
        let mut pending = VecDeque::new();
        for _ in 0..150 {
            pending.push_back(run.step(&tree, &table));
            if run.rng.u32(..4) == 0 {
                for p in pending.drain(..run.rng.usize(..=pending.len())) {
                    apply(&mut tree, &p);
                    table.applied(&p);
                }
                run.judge.prep.applied(tree.last_zxid());
                run.judge.prep.check();
            }
        }
        for p in pending {
            apply(&mut tree, &p);
            table.applied(&p);
        }
        run.judge.prep.applied(run.judge.zxid);
        assert_eq!(run.judge.prep.status().outstanding_changes, 0);
        assert_same(&tree, &run.judge.model);
        assert_eq!(table.0, run.judge.model.sessions);
    }
}

#[test]
fn damaged_bodies_are_refused_or_taken_but_never_panic() {
    let mut run = Run::new(77);
    let tree = Tree::new(TreeOptions { extended: EXTENDED, digest_enabled: true });
    let table = Table(run.judge.model.sessions.clone());
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
        run.judge.zxid = Zxid(run.judge.zxid.0 + 1);
        let write = WriteRequest {
            session: SessionId(r.i64(0..3)),
            cxid: Cxid(1),
            op: if r.u32(..20) == 0 { Op(r.i32(-20..120)) } else { request.opcode() },
            body: Bytes::from(body),
            auth: Arc::from([]),
            moved: false,
            origin: Origin::Server,
        };
        let proposal = run.judge.prep.handle(&tree, &table, Now::default(), run.judge.zxid, &write);
        check_encoding(&proposal);
        codes.insert(proposal.error());
    }
    run.judge.prep.check();
    assert!(codes.contains(&None) && codes.contains(&Some(-5)) && codes.contains(&Some(-8)), "{codes:?}");
}
