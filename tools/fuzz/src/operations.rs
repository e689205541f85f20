//! Runs lists of requests through prep, log, tree, snapshot and recovery, and compares with the two naive models.
//!
//! The applied state lags behind the proposals by as much as the input says. Every result and every digest must be the
//! model's; the tree must equal the model in everything that can be asked; an image must be the tree as it was when the
//! image began; and recovery from the log must give the same tree and the same sessions.

use std::collections::{BTreeSet, VecDeque};

use zabra::oracle::judge::{Choices, Judge, Table};
use zabra::oracle::replica::SMALL;
use zabra::oracle::server_model::ModelOp;
use zabra::oracle::test_disk::TestDisk;
use zabra::oracle::tree_model::Model as TreeModel;
use zabra::pipeline::Proposal;
use zabra::tree::{ImageId, Tree};
use zabra::txnlog::names::Compression;
use zabra::txnlog::recovery::RecoveryOptions;
use zabra::txnlog::restore::recover_tree;
use zabra::txnlog::writer::LogWriter;
use zabra::types::{SessionId, Zxid};

use crate::input::Input;
use crate::request::apply;
use crate::snapshot::{Blocks, OPTIONS, begin_image, load, save, seal};
use crate::world::EXTENDED;

const MOST_STEPS: usize = 120;

/// Input: one byte chooses what comes next; its parameters follow.
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
                let request = Choices(&mut || input.u8()).request(other);
                let sweep = matches!(request, ModelOp::DeleteContainer { .. });
                let session = SessionId(if sweep && kind & 32 == 0 { 0 } else { i64::from(kind >> 6) + 1 });
                run.request(session, &request, i64::from(kind >> 5));
            }
        }
    }
    run.finish();
}

/// An image that is being taken, and the model at the time it began.
struct Taking {
    id: ImageId,
    zxid: Zxid,
    then: TreeModel,
    bytes: Vec<u8>,
}

struct Run {
    judge: Judge,
    tree: Tree,
    /// The expected effect of each transaction on the tree.
    twin: TreeModel,
    table: Table,
    pending: VecDeque<Proposal>,
    log: LogWriter<TestDisk>,
    disk: TestDisk,
    image: Option<Taking>,
}

impl Run {
    fn new() -> Run {
        let disk = TestDisk::new();
        save(&mut Tree::new(OPTIONS), &[], &mut disk.clone(), Compression::None);
        Run {
            judge: Judge::new(EXTENDED),
            tree: Tree::new(OPTIONS),
            twin: TreeModel::new(OPTIONS),
            table: Table::default(),
            pending: VecDeque::new(),
            log: LogWriter::new(disk.clone(), Zxid::ZERO, SMALL),
            disk,
            image: None,
        }
    }

    /// Runs one request through the model and through prep, whose state lags behind.
    fn request(&mut self, session: SessionId, request: &ModelOp, ms: i64) {
        let proposal = self.judge.propose(&self.tree, &self.table, session, request, ms);
        self.log.append(proposal.header.zxid, &proposal.record).expect("a disk without faults");
        self.pending.push_back(proposal);
    }

    fn apply(&mut self, n: usize) {
        for _ in 0..n {
            let Some(p) = self.pending.pop_front() else { break };
            apply(&mut self.tree, &p);
            self.twin.apply(&p.header, &p.txn);
            self.table.applied(&p);
        }
        self.judge.prep.applied(self.tree.last_zxid());
        self.judge.prep.check();
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
        // Loading recomputes the usage of quotas, so the digests are equal only without quotas.
        if loaded.all_quotas().next().is_none() {
            taking.then.compare(&loaded).unwrap_or_else(|e| panic!("image: {e}"));
        }
    }

    fn finish(mut self) {
        self.apply(self.pending.len());
        self.judge.prep.applied(self.judge.zxid);
        assert_eq!(self.judge.prep.status().outstanding_changes, 0);
        assert_eq!(self.table.0, self.judge.model.sessions);
        // The model searches everything for each answer, so the full comparison is made only once, at the end. Digests
        // were compared all the time.
        self.twin.compare(&self.tree).unwrap_or_else(|e| panic!("{e}"));
        for _ in 0..MOST_STEPS {
            self.advance_image(1000);
        }
        assert_eq!(self.tree.images_open(), 0);
        self.log.sync().expect("a disk without faults");
        drop(self.log);
        let options = RecoveryOptions::default();
        let r = recover_tree(&mut self.disk.clone(), &mut self.disk, OPTIONS, options).expect("an undamaged log");
        assert_eq!((r.last, r.report.digest_mismatch_count, r.report.cuts.len()), (self.judge.zxid, 0, 0));
        assert_eq!(r.sessions.keys().copied().collect::<BTreeSet<_>>(), self.table.0);
        self.twin.compare(&r.state).unwrap_or_else(|e| panic!("recovered: {e}"));
    }
}
