//! The log thread with real files, and with a sink whose syncs the test controls.

use super::*;
use crate::jute::Put;
use crate::peer::disk::{DiskDone, DiskJob, DiskJobs};
use crate::runtime::disk::{FsDir, SyncMethod};
use crate::runtime::in_own_process;
use crate::runtime::mailbox::{self, Bell, Receiver};
use crate::tree::{Tree, TreeOptions};
use crate::txn::{CreateKind, CreateTxn, Txn, TxnHeader};
use crate::txnlog::disk::Dir;
use crate::txnlog::recovery::RecoveryOptions;
use crate::txnlog::scan::LogReader;
use crate::txnlog::snapshot::SnapshotOptions;
use crate::txnlog::snapshotter::first_snapshot;
use crate::txnlog::writer::{LogOptions, LogWriter};
use crate::types::{Cxid, Epoch, Op, SessionId, Term, Zxid};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

const PATIENCE: Duration = Duration::from_secs(30);

/// Receives the events.
struct Ear {
    events: Receiver<LogMail>,
    rung: mpsc::Receiver<()>,
}

impl Ear {
    fn next(&self) -> LogEvent {
        match self.mail() {
            LogMail::Event(event) => event,
            LogMail::Answer(answer) => panic!("{answer:?}"),
        }
    }

    fn mail(&self) -> LogMail {
        loop {
            if let Some(mail) = self.events.pop() {
                return mail;
            }
            self.rung.recv_timeout(PATIENCE).expect("no event");
        }
    }

    /// Waits for the sync that covers `zxid`; returns the number of syncs up to it.
    fn durable(&self, zxid: i64) -> usize {
        let mut syncs = 0;
        loop {
            match self.next() {
                LogEvent::Synced { zxid: z, .. } => {
                    syncs += 1;
                    if z.0 >= zxid {
                        return syncs;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn ear() -> (Sender<LogMail>, Ear) {
    let (ring, rung) = mpsc::channel();
    let ring = Mutex::new(ring);
    let bell = Bell::Call(Arc::new(move || {
        // At the end of a test nobody listens any more.
        let _ = ring.lock().unwrap().send(());
    }));
    let (tx, events) = mailbox::mailbox(bell);
    (tx, Ear { events, rung })
}

/// A setData of 100 bytes.
fn payload(zxid: i64, b: &mut Vec<u8>) {
    let h = TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 5, op: Op::SET_DATA };
    h.put(b);
    b.put_string("/a");
    b.put_buffer(Some(&[zxid as u8; 100]));
    b.put_i32(zxid as i32);
}

fn batch(t: &LogThread, zxids: impl IntoIterator<Item = i64>) -> Batch {
    let mut b = t.batch();
    for z in zxids {
        b.push_with(Zxid(z), |bytes| payload(z, bytes));
    }
    b
}

fn options() -> LogOptions {
    LogOptions { prealloc_bytes: 64 << 10, ..LogOptions::default() }
}

/// The zxids in a log file.
fn read(at: &std::path::Path, name: &str) -> Vec<i64> {
    let dir = FsDir::open(at, false, SyncMethod::default()).unwrap();
    let mut r = LogReader::open(&dir, name).unwrap();
    let mut zxids = Vec::new();
    while let Some((_, record)) = r.next_record().unwrap() {
        zxids.push(record.header.zxid.0);
    }
    zxids
}

#[test]
fn records_reach_the_files_before_they_are_told_durable() {
    for sync in [SyncMethod::Fdatasync, SyncMethod::Msync, SyncMethod::Dsync] {
        let tmp = tempfile::tempdir().unwrap();
        let dir = FsDir::open(tmp.path(), false, sync).unwrap();
        let (tx, ear) = ear();
        let writer = LogWriter::new(dir, Zxid::ZERO, options());
        let t = LogThread::start(writer, None, LogThreadOptions::default(), tx).unwrap();
        t.append(batch(&t, 1..=3));
        ear.durable(3);
        assert_eq!(read(tmp.path(), "log.1"), [1, 2, 3], "{sync:?}");
        t.roll();
        // More than one allocation step.
        t.append(batch(&t, 4..=2000));
        ear.durable(2000);
        assert_eq!(read(tmp.path(), "log.1"), [1, 2, 3]);
        assert_eq!(read(tmp.path(), "log.4"), (4..=2000).collect::<Vec<_>>(), "{sync:?}");
        assert_eq!(t.queued_bytes(), 0);
        t.append(batch(&t, [2001]));
        t.shutdown();
        ear.durable(2001);
        assert_eq!(ear.next(), LogEvent::Stopped);
        assert_eq!(read(tmp.path(), "log.4").len(), 1998);
    }
}

#[test]
fn rolls_find_their_segments_ready_and_leave_nothing_behind() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = FsDir::open(tmp.path(), false, SyncMethod::default()).unwrap().with_segments_ahead().unwrap();
    let (tx, ear) = ear();
    let appender = AppenderOptions { snap_count: 16, ..AppenderOptions::default() };
    let thread = LogThreadOptions { appender, ..LogThreadOptions::default() };
    let t = LogThread::start(LogWriter::new(dir, Zxid::ZERO, options()), None, thread, tx).unwrap();
    let mut rolls = 0;
    for z in 1..=200 {
        t.append(batch(&t, [z]));
        loop {
            match ear.next() {
                LogEvent::Synced { zxid, .. } if zxid.0 == z => break,
                LogEvent::Synced { .. } => {}
                LogEvent::SnapshotDue => rolls += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    t.shutdown();
    assert!(rolls >= 10, "{rolls}");
    let dir = FsDir::open(tmp.path(), false, SyncMethod::default()).unwrap();
    let logs = crate::txnlog::names::list_logs(&dir).unwrap();
    // There are no other files, and each is only as long as its content, except the last, which was not closed.
    assert_eq!(logs.len(), dir.list().unwrap().len());
    assert!(logs.len() > 10 && logs[..logs.len() - 1].iter().all(|f| f.len < 16 << 10), "{logs:?}");
    let all: Vec<i64> = logs.iter().flat_map(|f| read(tmp.path(), &f.name)).collect();
    assert_eq!(all, (1..=200).collect::<Vec<_>>());
}

/// A creation of `/zxid`.
fn create(zxid: i64, b: &mut Vec<u8>) {
    let kind = CreateKind::Plain { ephemeral: false };
    TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 5, op: Op::CREATE }.put(b);
    Txn::Create(CreateTxn { path: format!("/{zxid}"), data: None, acl: None, kind, parent_cversion: -1 }).put(b);
}

/// The thread of a member of an ensemble, in an empty directory.
fn of_member(at: &std::path::Path) -> (LogThread, Ear) {
    let open = || FsDir::open(at, false, SyncMethod::default()).unwrap();
    first_snapshot(&mut open(), &Tree::new(TreeOptions::default()), SnapshotOptions::default()).unwrap();
    let mut jobs = DiskJobs::new(open(), TreeOptions::default(), RecoveryOptions::default());
    let work: DiskWork<LogWriter<FsDir>> = Box::new(move |request, log| jobs.perform(request, log));
    let (tx, ear) = ear();
    let writer = LogWriter::new(open(), Zxid::ZERO, options());
    (LogThread::start(writer, Some(work), LogThreadOptions::default(), tx).unwrap(), ear)
}

#[test]
fn requests_are_answered_after_what_was_appended_before_them_is_durable() {
    let tmp = tempfile::tempdir().unwrap();
    let (t, ear) = of_member(tmp.path());
    let ask = |job| t.ask(DiskRequest { term: Term(0), job });
    let append = |zxids: std::ops::RangeInclusive<i64>| {
        let mut batch = t.batch();
        zxids.for_each(|z| batch.push_with(Zxid(z), |bytes| create(z, bytes)));
        t.append(batch);
    };
    ask(DiskJob::SaveAccepted(Epoch(1)));
    append(1..=3);
    ask(DiskJob::SaveCurrent(Epoch(1)));
    append(4..=5);
    ask(DiskJob::Truncate(Zxid(4)));
    append(0x1_0000_0001..=0x1_0000_0002);
    let mut said = Vec::new();
    while said.last().is_none_or(|last| last != "durable 0x100000002") {
        said.push(match ear.mail() {
            LogMail::Event(LogEvent::Synced { zxid, .. }) => format!("durable {zxid}"),
            // An end of what was asked for, which the answer tells.
            LogMail::Event(LogEvent::Restarted { .. }) => continue,
            LogMail::Event(other) => panic!("{other:?}"),
            LogMail::Answer(answer) => match answer.done {
                DiskDone::SavedAccepted(epoch) => format!("accepted {}", epoch.0),
                DiskDone::SavedCurrent(epoch) => format!("current {}", epoch.0),
                DiskDone::Truncated(loaded) => {
                    let nodes = (3..=5).map(|n| loaded.tree.get(&format!("/{n}")).is_some());
                    format!("cut at {} {:?}", loaded.tree.last_zxid(), nodes.collect::<Vec<_>>())
                }
                other => panic!("{other:?}"),
            },
        });
        // Syncs of single records may be told before that of the last one.
        let [.., before, last] = &said[..] else { continue };
        if before.starts_with("durable") && last.starts_with("durable") {
            said.remove(said.len() - 2);
        }
    }
    let cut = "cut at 0x4 [true, true, false]";
    let order = ["accepted 1", "durable 0x3", "current 1", "durable 0x5", cut, "durable 0x100000002"];
    assert_eq!(said, order);
    t.shutdown();
    assert_eq!(read(tmp.path(), "log.100000001"), [0x1_0000_0001, 0x1_0000_0002]);
}

#[test]
fn a_request_that_cannot_be_done_ends_the_process() {
    let said = in_own_process!("asks_for_the_impossible", fatal::TXN_LOG);
    assert!(said.contains("failed: the currentEpoch: the device is gone (log: a gate)"), "{said}");
    assert!(!said.contains("answered"), "{said}");
}

#[test]
#[ignore = "run by a_request_that_cannot_be_done_ends_the_process"]
fn asks_for_the_impossible() {
    let (_permit, permits) = mpsc::channel();
    let (syncing, _began) = mpsc::channel();
    let gone = |_, _: &mut Gate| {
        let error = io::Error::other("the device is gone");
        Err(DiskError::Io { what: "the currentEpoch", error })
    };
    let (tx, ear) = ear();
    let gate = Gate { last: Zxid::ZERO, permits, syncing };
    let t = LogThread::start(gate, Some(Box::new(gone)), LogThreadOptions::default(), tx).unwrap();
    t.ask(DiskRequest { term: Term(0), job: DiskJob::SaveCurrent(Epoch(1)) });
    eprintln!("answered {:?}", ear.mail());
}

/// A sink whose syncs wait for a permit, and then succeed or fail as the permit says.
struct Gate {
    last: Zxid,
    permits: mpsc::Receiver<io::Result<()>>,
    syncing: mpsc::Sender<Zxid>,
}

impl LogSink for Gate {
    fn last(&self) -> Zxid {
        self.last
    }

    fn append(&mut self, zxid: Zxid, _: &[u8]) -> io::Result<()> {
        self.last = zxid;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<Zxid> {
        self.syncing.send(self.last).unwrap();
        self.permits.recv_timeout(PATIENCE).unwrap()?;
        Ok(self.last)
    }

    fn expect_write(&mut self) {}

    fn prepare(&mut self) {}

    fn roll(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_marked(&self) -> bool {
        true
    }

    fn mark(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        "a gate".into()
    }
}

type Gated = (LogThread, Ear, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Zxid>);

fn gated(options: LogThreadOptions) -> Gated {
    let (permit, permits) = mpsc::channel();
    let (syncing, began) = mpsc::channel();
    let (tx, ear) = ear();
    let t = LogThread::start(Gate { last: Zxid::ZERO, permits, syncing }, None, options, tx).unwrap();
    (t, ear, permit, began)
}

#[test]
fn what_arrives_during_a_sync_shares_the_next_one() {
    let (t, ear, permit, began) = gated(LogThreadOptions::default());
    t.append(batch(&t, [1]));
    assert_eq!(began.recv_timeout(PATIENCE).unwrap(), Zxid(1));
    for z in 2..=40 {
        t.append(batch(&t, [z]));
    }
    assert!(ear.events.is_empty(), "told durable while the sync runs");
    permit.send(Ok(())).unwrap();
    permit.send(Ok(())).unwrap();
    assert!(matches!(ear.next(), LogEvent::Synced { zxid: Zxid(1), records: 1, .. }));
    assert!(matches!(ear.next(), LogEvent::Synced { zxid: Zxid(40), records: 39, .. }));
    t.shutdown();
    assert_eq!(ear.next(), LogEvent::Stopped, "nothing was pending: no third sync");
}

#[test]
fn a_slow_sync_is_counted() {
    let o = LogThreadOptions { fsync_warning: Duration::from_millis(20), ..Default::default() };
    let (t, ear, permit, began) = gated(o);
    for (z, wait) in [(1, Duration::from_millis(40)), (2, Duration::ZERO)] {
        t.append(batch(&t, [z]));
        began.recv_timeout(PATIENCE).unwrap();
        thread::sleep(wait);
        permit.send(Ok(())).unwrap();
        let LogEvent::Synced { slow, sync_ns, .. } = ear.next() else { panic!() };
        assert_eq!(slow, sync_ns > 20_000_000);
        assert!(slow || wait.is_zero());
    }
}

#[test]
fn flush_delay_gathers_and_spinning_works_too() {
    let appender = AppenderOptions { flush_delay_ms: 100, max_idle_ms: Some(100), ..Default::default() };
    let o = LogThreadOptions { appender, spin: Duration::from_micros(200), ..Default::default() };
    let (t, ear, permit, began) = gated(o);
    let start = Instant::now();
    t.append(batch(&t, [1]));
    thread::sleep(Duration::from_millis(5));
    t.append(batch(&t, [2]));
    permit.send(Ok(())).unwrap();
    assert_eq!(began.recv_timeout(PATIENCE).unwrap(), Zxid(2), "one sync for both");
    assert!(start.elapsed() >= Duration::from_millis(99), "{:?}", start.elapsed());
    assert!(matches!(ear.next(), LogEvent::Synced { records: 2, .. }));
}

#[test]
fn snapshots_fall_due_again_and_again() {
    let appender = AppenderOptions { snap_count: 4, ..Default::default() };
    let (t, ear, permit, _began) = gated(LogThreadOptions { appender, ..Default::default() });
    let mut due = 0;
    for zxid in 1..=60 {
        permit.send(Ok(())).unwrap();
        t.append(batch(&t, [zxid]));
        loop {
            match ear.next() {
                LogEvent::SnapshotDue => due += 1,
                LogEvent::Synced { zxid: z, .. } if z.0 == zxid => break,
                other => panic!("{other:?}"),
            }
        }
    }
    // Every third to fifth record, since two to four may lie in between.
    assert!((12..=20).contains(&due), "{due}");
}

#[test]
fn buffers_are_used_again() {
    let (t, ear, permit, _began) = gated(LogThreadOptions::default());
    let b = batch(&t, [1]);
    let capacity = b.capacity();
    permit.send(Ok(())).unwrap();
    t.append(b);
    ear.durable(1);
    let again = t.batch();
    assert!(again.is_empty() && again.bytes() == 0 && again.capacity() == capacity && capacity > 0);
}

#[test]
fn a_failed_sync_ends_the_process_and_nothing_is_acknowledged() {
    let said = in_own_process!("sync_fails", fatal::TXN_LOG);
    assert!(said.contains("syncing the log failed: the device is gone (log: a gate)"), "{said}");
    assert!(!said.contains("acknowledged"), "{said}");
}

#[test]
#[ignore = "run by a_failed_sync_ends_the_process_and_nothing_is_acknowledged"]
fn sync_fails() {
    let (t, ear, permit, _began) = gated(LogThreadOptions::default());
    t.append(batch(&t, [1]));
    permit.send(Err(io::Error::other("the device is gone"))).unwrap();
    eprintln!("acknowledged {:?}", ear.next());
}
