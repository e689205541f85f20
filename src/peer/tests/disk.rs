//! What a member of an ensemble asks of its disk, through the log's queue, with crashes at every operation.

use super::*;
use crate::oracle::memory::{Burst, MemoryLog};
use crate::oracle::replica::SMALL;
use crate::oracle::test_disk::TestDisk;
use crate::peer::disk::{DiskAnswer, DiskDone, DiskJob, DiskJobs, DiskRequest};
use crate::tree::ImageId;
use crate::txnlog::epoch::{self, Epochs};
use crate::txnlog::log::{Log, LogEvent, RunOptions};
use crate::txnlog::recovery::RecoveryOptions;
use crate::txnlog::restore::recover_tree;
use crate::txnlog::snapshot::{SnapshotOptions, TERMINATOR, put_acl_table, put_sessions};
use crate::txnlog::snapshotter::first_snapshot;
use crate::txnlog::writer::{LogOptions, LogWriter};
use crate::types::{Epoch, Term};

const TERM: Term = Term(3);

/// A log thread on a disk. It appends creates of `/1`, `/2`, …
struct Thread {
    disk: TestDisk,
    log: MemoryLog<LogWriter<TestDisk>>,
    /// What it said, in order.
    said: Vec<String>,
}

fn loaded(disk: &TestDisk) -> (Tree, Epochs) {
    let (mut snap, mut log) = (disk.clone(), disk.clone());
    let recovered = recover_tree(&mut snap, &mut log, TreeOptions::default(), RecoveryOptions::default());
    let recovered = recovered.unwrap_or_else(|e| panic!("{e}"));
    (recovered.state, epoch::load(&mut snap, recovered.last).unwrap_or_else(|e| panic!("{e}")))
}

fn create(zxid: i64) -> Append {
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op: Op::CREATE };
    let mut payload = Vec::new();
    header.put(&mut payload);
    Txn::Create(plain(&format!("/{zxid}"))).put(&mut payload);
    Append { zxid: Zxid(zxid), payload: payload.into() }
}

/// A SNAP of a tree with `/x`, as of `zxid`.
fn image(zxid: Zxid) -> Vec<u8> {
    let mut tree = tree_at(zxid);
    let image: ImageId = tree.begin_image();
    let mut bytes = Vec::new();
    put_sessions(&mut bytes, [(SessionId(77), 4000)].into_iter());
    put_acl_table(&mut bytes, [].into_iter());
    while !tree.image_chunk(image, 1 << 20, &mut bytes) {}
    bytes.extend_from_slice(&TERMINATOR);
    bytes
}

impl Thread {
    fn new() -> Thread {
        let disk = TestDisk::new();
        let tree = Tree::new(TreeOptions::default());
        first_snapshot(&mut disk.clone(), &tree, SnapshotOptions::default()).unwrap();
        Thread::on(disk, SMALL)
    }

    /// Begins where the disk's history ends.
    fn on(disk: TestDisk, options: LogOptions) -> Thread {
        let (tree, _) = loaded(&disk);
        let writer = LogWriter::new(disk.clone(), tree.last_zxid(), options);
        let mut jobs = DiskJobs::new(disk.clone(), TreeOptions::default(), RecoveryOptions::default());
        let perform = move |request, sink: &mut LogWriter<TestDisk>| jobs.perform(request, sink);
        let log = MemoryLog::with_jobs(Log::new(writer, RunOptions::default(), 1), perform);
        Thread { disk, log, said: Vec::new() }
    }

    fn append(&mut self, zxids: std::ops::RangeInclusive<i64>) {
        self.log.send(&Burst { term: TERM, appends: zxids.map(create).collect() });
    }

    fn ask(&mut self, job: DiskJob) {
        self.log.ask(DiskRequest { term: TERM, job });
    }

    /// Until nothing is left to do, or the disk fails.
    fn run(&mut self) -> std::io::Result<()> {
        while !self.log.is_idle() {
            let mut told = Vec::new();
            let stepped = self.log.step(Now::default(), 0, &mut told);
            for event in told {
                if let LogEvent::Synced { term, zxid, .. } = event {
                    assert_eq!(term, TERM);
                    self.said.push(format!("synced {zxid}"));
                }
            }
            for DiskAnswer { term, done } in self.log.take_answers() {
                assert_eq!(term, TERM);
                self.said.push(match done {
                    DiskDone::SavedAccepted(epoch) => format!("accepted {}", epoch.0),
                    DiskDone::SavedCurrent(epoch) => format!("current {}", epoch.0),
                    DiskDone::UnsavedCurrent(epoch) => format!("current {} in memory", epoch.0),
                    DiskDone::Truncated(loaded) => format!("cut at {}", loaded.tree.last_zxid()),
                    DiskDone::Installed(loaded) => {
                        format!("installed {} {:?}", loaded.tree.last_zxid(), loaded.sessions.get(&SessionId(77)))
                    }
                    DiskDone::Damaged(why) => format!("damaged: {why}"),
                    DiskDone::Uncut { why, .. } => why,
                    other => format!("{other:?}"),
                });
            }
            stepped?;
        }
        Ok(())
    }
}

#[test]
fn requests_are_done_after_what_was_appended_before() {
    let mut thread = Thread::new();
    thread.ask(DiskJob::SaveAccepted(Epoch(2)));
    thread.append(1..=3);
    thread.ask(DiskJob::SaveCurrent(Epoch(2)));
    thread.append(4..=4);
    thread.run().unwrap();
    assert_eq!(thread.said, ["accepted 2", "synced 0x3", "current 2", "synced 0x4"]);
    thread.disk.power_cycle(1);
    let (tree, epochs) = loaded(&thread.disk);
    assert_eq!((tree.last_zxid(), epochs), (Zxid(4), Epochs { accepted: Epoch(2), current: Epoch(2) }));
}

#[test]
fn an_epoch_is_never_durable_before_the_history_that_belongs_to_it() {
    let begun = |crash: Option<u64>| {
        let mut thread = Thread::new();
        let before = thread.disk.ops();
        crash.into_iter().for_each(|op| thread.disk.crash_at(before + op));
        thread.ask(DiskJob::SaveAccepted(Epoch(2)));
        thread.append(1..=3);
        thread.ask(DiskJob::SaveCurrent(Epoch(2)));
        let ran = thread.run();
        (thread, ran, before)
    };
    let (whole, ran, before) = begun(None);
    ran.unwrap();
    let total = whole.disk.ops() - before;
    let mut ends = [0; 3];
    for op in 0..=total {
        for seed in 0..10 {
            let (thread, ran, _) = begun(Some(op));
            assert_eq!(ran.is_err(), op < total);
            thread.disk.power_cycle(seed);
            let (tree, epochs) = loaded(&thread.disk);
            let stage = (epochs.accepted.0 / 2 + epochs.current.0 / 2) as usize;
            assert!(epochs.current == Epoch(0) || tree.last_zxid() == Zxid(3), "{op}/{seed}: {epochs:?}");
            assert!(tree.last_zxid() == Zxid::ZERO || epochs.accepted == Epoch(2), "{op}/{seed}: {epochs:?}");
            let said = |what: &str| thread.said.iter().any(|said| said == what);
            assert!(!said("accepted 2") || stage > 0, "{op}/{seed}: it was said to be durable");
            assert!(!said("current 2") || stage > 1, "{op}/{seed}: it was said to be durable");
            ends[stage] += 1;
        }
    }
    assert!(ends.iter().all(|count| *count > 10), "{ends:?}");
}

#[test]
fn a_history_is_cut_and_goes_on() {
    let mut thread = Thread::new();
    thread.append(1..=5);
    thread.ask(DiskJob::Truncate(Zxid(3)));
    thread.run().unwrap();
    assert_eq!(thread.said, ["synced 0x5", "cut at 0x3"]);
    thread.append(4..=4);
    thread.run().unwrap();
    thread.disk.power_cycle(1);
    let (tree, _) = loaded(&thread.disk);
    assert_eq!(tree.last_zxid(), Zxid(4));
    assert_eq!(["/3", "/4", "/5"].map(|path| tree.get(path).is_some()), [true, true, false]);
    // What is not in the history cannot be its end: nothing is changed, and the log goes on.
    thread.ask(DiskJob::Truncate(Zxid(9)));
    thread.append(5..=5);
    thread.run().unwrap();
    let said = &thread.said[thread.said.len() - 2..];
    assert!(said[0].contains("cannot truncate to 0x9") && said[1] == "synced 0x5", "{said:?}");
}

#[test]
fn a_leaders_snapshot_replaces_the_history() {
    let mut thread = Thread::new();
    let last = Zxid::new(Epoch(2), 7);
    let bytes = image(last);
    thread.ask(DiskJob::SaveAccepted(Epoch(2)));
    thread.append(1..=5);
    thread.ask(DiskJob::Receive(last));
    bytes.chunks(100).for_each(|piece| thread.ask(DiskJob::Chunk(bytes::Bytes::copy_from_slice(piece))));
    thread.ask(DiskJob::Install);
    thread.append(last.0 + 1..=last.0 + 1);
    thread.run().unwrap();
    assert_eq!(thread.said[1..3], ["synced 0x5", "Receiving"]);
    let stored = thread.said.iter().filter(|said| said.starts_with("Stored")).count();
    assert_eq!(stored, bytes.len().div_ceil(100));
    assert_eq!(thread.said[stored + 3..], ["installed 0x200000007 Some(4000)", "synced 0x200000008"]);
    thread.disk.power_cycle(1);
    let (tree, epochs) = loaded(&thread.disk);
    assert_eq!((tree.last_zxid(), epochs.current), (Zxid(last.0 + 1), Epoch(2)));
    assert_eq!(["/x", "/1"].map(|path| tree.get(path).is_some()), [true, false]);
}

#[test]
fn a_snapshot_that_is_damaged_or_does_not_end_leaves_what_was_there() {
    let bytes = bytes::Bytes::from(image(Zxid(9)));
    for (piece, end) in [(bytes.slice(..bytes.len() - 30), DiskJob::Install), (bytes.slice(..40), DiskJob::Abandon)] {
        let mut thread = Thread::new();
        thread.append(1..=5);
        thread.ask(DiskJob::Receive(Zxid(9)));
        thread.ask(DiskJob::Chunk(piece));
        thread.ask(end);
        thread.append(6..=6);
        thread.run().unwrap();
        let end = &thread.said[3];
        assert!(end.starts_with("damaged: ") || end == "Abandoned", "{:?}", thread.said);
        assert_eq!(thread.said[4], "synced 0x6");
        assert_eq!(loaded(&thread.disk).0.last_zxid(), Zxid(6));
    }
}

/// An observer with `syncEnabled=false`, on a disk with a log up to 5.
fn without_log() -> Thread {
    let mut thread = Thread::new();
    thread.ask(DiskJob::SaveAccepted(Epoch(1)));
    thread.append(1..=5);
    thread.run().unwrap();
    let mut thread = Thread::on(thread.disk, LogOptions { keeps: false, ..SMALL });
    thread.append(6..=20);
    thread.run().unwrap();
    thread
}

#[test]
fn without_a_log_no_epoch_is_durable_whose_history_is_not() {
    let mut thread = without_log();
    let last = Zxid::new(Epoch(3), 4);
    thread.ask(DiskJob::SaveAccepted(Epoch(3)));
    thread.ask(DiskJob::SaveCurrent(Epoch(3)));
    thread.run().unwrap();
    assert_eq!(thread.said, ["synced 0x14", "accepted 3", "current 3 in memory"]);
    let (tree, epochs) = loaded(&thread.disk.fork());
    assert_eq!((tree.last_zxid(), epochs), (Zxid(5), Epochs { accepted: Epoch(3), current: Epoch(0) }));
    // A leader's snapshot is all of its history.
    thread.ask(DiskJob::Receive(last));
    thread.ask(DiskJob::Chunk(image(last).into()));
    thread.ask(DiskJob::Install);
    thread.append(last.0 + 1..=last.0 + 9);
    thread.run().unwrap();
    assert_eq!(thread.said[thread.said.len() - 2..], ["installed 0x300000004 Some(4000)", "synced 0x30000000d"]);
    thread.disk.power_cycle(1);
    let (tree, epochs) = loaded(&thread.disk);
    assert_eq!((tree.last_zxid(), epochs.current), (last, Epoch(3)));
}

#[test]
fn without_a_log_only_what_is_on_the_disk_can_be_cut() {
    for (to, said) in [
        (3, "cut at 0x3"),
        (5, "cut at 0x5"),
        (12, "cannot truncate to 0xc: the log has no such transaction (it has 0x5 before it)"),
    ] {
        let mut thread = without_log();
        thread.ask(DiskJob::Truncate(Zxid(to)));
        thread.run().unwrap();
        assert_eq!(thread.said, ["synced 0x14", said]);
        // Whoever cannot be cut goes on, and a start finds what was there.
        thread.append(if to == 12 { 21..=22 } else { to + 1..=to + 2 });
        thread.run().unwrap();
        assert_eq!(loaded(&thread.disk).0.last_zxid(), Zxid(to.min(5)));
    }
}

#[test]
fn without_a_log_one_that_is_damaged_ends_no_process() {
    let mut thread = without_log();
    let names = thread.disk.names();
    let name = names.iter().find(|name| name.starts_with("log.")).unwrap();
    thread.disk.damage(name, |bytes| bytes[60] ^= 1);
    thread.ask(DiskJob::Truncate(Zxid(3)));
    thread.append(21..=21);
    thread.run().unwrap();
    assert!(thread.said[1].starts_with("cannot truncate to 0x3: log.1 is damaged"), "{:?}", thread.said);
    assert_eq!(thread.said[2], "synced 0x15");
}
