//! Synchronisation plans, carried out on a small model: whatever a learner comes with, it ends with exactly the leader's
//! committed history and can then take part in the broadcast.

use std::collections::BTreeMap;

use bytes::Bytes;
use zabra::types::{Epoch, Zxid};
use zabra::zab::history::{History, HistoryLimits, is_next};
use zabra::zab::sync_plan::{LogFile, OnDisk, Plan, SnapshotFile, SyncPolicy, located, plan};

/// What a server has: a state that contains everything up to `base`, and the records after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    base: Zxid,
    records: Vec<Zxid>,
}

impl Server {
    fn last(&self) -> Zxid {
        self.records.last().copied().unwrap_or(self.base)
    }

    fn truncate(&mut self, to: Zxid) {
        let keep = self.records.iter().position(|zxid| *zxid == to).map(|at| at + 1);
        let keep = keep.or((self.base == to).then_some(0));
        self.records.truncate(keep.unwrap_or_else(|| panic!("{to} is not in the log of {self:?}")));
    }

    fn append(&mut self, zxid: Zxid) {
        assert!(is_next(self.last(), zxid), "{zxid} behind {}", self.last());
        self.records.push(zxid);
    }

    /// Every transaction that its state contains. A snapshot contains what was committed before it.
    fn contents(&self, committed: &[Zxid]) -> Vec<Zxid> {
        let before = committed.iter().filter(|zxid| **zxid <= self.base);
        before.chain(&self.records).copied().collect()
    }
}

/// An ensemble's past, and what its present leader has of it.
struct Past {
    /// The committed transactions.
    committed: Vec<Zxid>,
    /// For each epoch whose leader was established, how many transactions it committed.
    epochs: BTreeMap<i64, u32>,
    /// The present leader's.
    epoch: Epoch,
}

impl Past {
    fn new(rng: &mut fastrand::Rng) -> Past {
        let (mut committed, mut epochs) = (Vec::new(), BTreeMap::new());
        let last = rng.i64(1..5);
        for epoch in 1..=last {
            // Not every leader is established, and not every established one commits something.
            if rng.u8(..4) > 0 {
                let count = rng.u32(0..6);
                committed.extend((1..=count).map(|counter| Zxid::new(Epoch(epoch), counter)));
                epochs.insert(epoch, count);
            }
        }
        Past { committed, epochs, epoch: Epoch(last + rng.i64(0..2)) }
    }

    /// A position of the history: a transaction, the zeroth zxid of an established epoch, or the very beginning.
    fn position(&self, rng: &mut fastrand::Rng) -> Zxid {
        let zeroths = self.epochs.keys().map(|epoch| Zxid::new(Epoch(*epoch), 0));
        let all: Vec<Zxid> = self.committed.iter().copied().chain(zeroths).chain([Zxid::ZERO]).collect();
        all[rng.usize(..all.len())]
    }

    /// A server that was a member of this ensemble once.
    fn learner(&self, rng: &mut fastrand::Rng) -> Server {
        let mut learner = Server { base: self.position(rng), records: Vec::new() };
        let until = self.position(rng).max(learner.base);
        let missing = self.committed.iter().filter(|zxid| **zxid > learner.base && **zxid <= until);
        learner.records.extend(missing);
        // The newest epoch it has heard of, if it has all of it: proposals of it may have reached this server only.
        let epoch = learner.last().epoch();
        let count = self.epochs.get(&epoch.0).copied().unwrap_or_default();
        if learner.last().counter() == count && epoch.0 > 0 && rng.bool() {
            (1..=rng.u32(1..4)).for_each(|more| learner.append(Zxid::new(epoch, count + more)));
        }
        learner
    }
}

/// The leader's memory and disk.
struct Leader {
    history: History,
    chain: Option<Zxid>,
    logs: Vec<LogFile>,
    snapshot: Option<SnapshotFile>,
}

impl Leader {
    fn new(past: &Past, rng: &mut fastrand::Rng) -> Leader {
        let start = past.position(rng);
        let mut history = History::new(HistoryLimits { count: rng.usize(1..20), bytes: 1 << 20 }, start);
        for epoch in 0..=past.epoch.0 {
            let zeroth = Zxid::new(Epoch(epoch), 0);
            // Those leaders whose epoch this server saw begin.
            if zeroth > history.last() && (past.epochs.contains_key(&epoch) || epoch == past.epoch.0) && rng.bool() {
                history.begin_epoch(zeroth);
            }
            for zxid in past.committed.iter().filter(|zxid| zxid.epoch() == Epoch(epoch) && **zxid > start) {
                history.push(*zxid, Bytes::from_static(b"txn"));
            }
        }
        history.check();
        let position = past.position(rng);
        let chain = (position <= history.base() && rng.u8(..4) > 0).then_some(position);
        let mut logs: Vec<LogFile> = Vec::new();
        for first in &past.committed {
            if rng.bool() {
                logs.push(LogFile { first: *first, bytes: rng.u64(1..100) });
            }
        }
        let zxid = past.position(rng);
        let snapshot =
            (zxid <= history.last() && rng.u8(..4) > 0).then(|| SnapshotFile { zxid, bytes: rng.u64(1..500) });
        Leader { history, chain, logs, snapshot }
    }

    fn disk(&self) -> OnDisk<'_> {
        OnDisk { chain: self.chain, logs: &self.logs, snapshot: self.snapshot }
    }

    /// The newest transaction in the log that is not newer than `peer`, or where the chain begins.
    fn nearest(&self, peer: Zxid, past: &Past) -> Zxid {
        let chain = self.chain.expect("a log that is asked");
        assert!(chain <= peer, "{peer} is not in the log");
        past.committed.iter().rfind(|zxid| **zxid <= peer).copied().map_or(chain, |zxid| zxid.max(chain))
    }

    /// The committed transactions after `position`, from memory or from the log.
    fn after(&self, position: Zxid, past: &Past) -> Vec<Zxid> {
        if self.history.has_position(position) {
            return self.history.after(position).map(|committed| committed.zxid).collect();
        }
        assert!(
            position < self.history.base() && self.chain.is_some_and(|c| c <= position),
            "{position} cannot be read"
        );
        past.committed.iter().copied().filter(|zxid| *zxid > position).collect()
    }
}

/// Carries out the plan. Returns its name, and how many proposals were sent.
fn carry_out(learner: &mut Server, leader: &Leader, past: &Past, policy: &SyncPolicy) -> (&'static str, usize) {
    let (peer, disk) = (learner.last(), leader.disk());
    let had: Vec<Zxid> = learner.contents(&past.committed);
    let mut plan = plan(peer, past.epoch, &leader.history, &disk, policy);
    let mut asked = false;
    if let Plan::Locate { peer: of } = plan {
        assert_eq!(of, peer);
        plan = located(peer, Some(leader.nearest(peer, past)), &leader.history, &disk);
        asked = true;
    }
    let (name, from) = match plan {
        Plan::Diff { from, upto } => {
            assert_eq!(from, peer);
            assert!(upto == leader.history.newest() || upto == peer, "DIFF of {upto}");
            (if asked { "diff from the log" } else { "diff" }, from)
        }
        Plan::Trunc { to } => {
            learner.truncate(to);
            (if asked { "trunc by the log" } else { "trunc" }, to)
        }
        Plan::Snap { file } => {
            let zxid = file.unwrap_or(leader.history.last());
            *learner = Server { base: zxid, records: Vec::new() };
            (if file.is_some() { "snap" } else { "snap of now" }, zxid)
        }
        Plan::Locate { .. } => panic!("asks twice"),
    };
    // It may die now: a quorum may depend on it for what it has acknowledged.
    let has = learner.contents(&past.committed);
    let is_kept = |zxid: &Zxid| !past.committed.contains(zxid) || has.contains(zxid);
    assert!(had.iter().all(is_kept), "{name} takes from {had:?} and leaves {has:?}");
    let after = leader.after(from, past);
    after.iter().for_each(|zxid| learner.append(*zxid));
    (name, after.len())
}

#[test]
fn a_learner_ends_with_the_committed_history_and_joins_the_broadcast() {
    let mut plans: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let past = Past::new(&mut rng);
        let leader = Leader::new(&past, &mut rng);
        let mut learner =
            if rng.u8(..20) == 0 { Server { base: Zxid::NONE, records: Vec::new() } } else { past.learner(&mut rng) };
        let came = learner.clone();
        let factor = if rng.u8(..10) == 0 { -1.0 } else { 0.33 };
        let policy = SyncPolicy { force_snapshot: rng.u8(..20) == 0, snapshot_size_factor: factor };
        let (name, sent) = carry_out(&mut learner, &leader, &past, &policy);
        *plans.entry(name).or_default() += 1;
        assert_eq!(learner.contents(&past.committed), past.committed, "seed {seed}: {name} for {came:?}");
        // What could be compared was: a learner that misses nothing and has nothing of its own is sent nothing.
        if came.contents(&past.committed) == past.committed && name.starts_with("diff") {
            assert_eq!(sent, 0, "seed {seed}");
        }
        // The broadcast continues behind what it has.
        let next = if leader.history.last().epoch() == past.epoch { leader.history.last() } else { learner.last() };
        learner.append(if next.epoch() == past.epoch { Zxid(next.0 + 1) } else { Zxid::new(past.epoch, 1) });
    }
    for name in ["diff", "diff from the log", "trunc", "trunc by the log", "snap", "snap of now"] {
        assert!(plans.get(name).copied().unwrap_or_default() >= 50, "{name} is too rare: {plans:?}");
    }
}

/// A member that only missed something while memory has it is never sent a snapshot.
#[test]
fn whoever_missed_what_memory_has_gets_no_snapshot() {
    let mut seen = 0;
    for seed in 0..5_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let past = Past::new(&mut rng);
        let leader = Leader::new(&past, &mut rng);
        let mut learner = past.learner(&mut rng);
        if !leader.history.has_position(learner.last()) {
            continue;
        }
        let (name, sent) = carry_out(&mut learner, &leader, &past, &SyncPolicy::default());
        assert_eq!(name, "diff", "seed {seed}");
        seen += usize::from(sent > 0);
    }
    assert!(seen > 200, "only {seen}");
}
