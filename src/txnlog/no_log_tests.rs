//! A server whose log keeps nothing for a while (`syncEnabled=false`): whatever is on its disk then, from before and after, leads a
//! start to a state that was.

use super::crash_tests::{open, payload, take_snapshot};
use super::install_tests::{stream, take};
use super::log::{Batch, Log, LogEvent, RunOptions};
use super::names::Compression;
use super::purge::{MIN_KEEP, purge};
use super::truncate::{TruncateError, truncate};
use super::writer::{LogOptions, LogWriter};
use crate::oracle::replica::{SMALL, Seen};
use crate::oracle::test_disk::TestDisk;
use crate::types::{Epoch, Now, Term, Zxid};

fn at(epoch: i64, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

fn state_of(zxids: &[Zxid]) -> Seen {
    Seen(zxids.iter().map(|zxid| (zxid.0, payload(*zxid, None))).collect())
}

/// A server, and the history of its ensemble, of which it has a beginning.
struct Server {
    disk: TestDisk,
    log: LogWriter<TestDisk>,
    all: Vec<Zxid>,
    /// How many of these it has.
    has: usize,
    /// A start finds at least this.
    kept: Zxid,
    /// An epoch that is newer than those of all transactions.
    next_epoch: i64,
}

impl Server {
    fn new(keeps: bool) -> Server {
        let disk = TestDisk::new();
        take_snapshot(&disk, &Seen::default(), Zxid::ZERO, Compression::None).unwrap();
        let log = LogWriter::new(disk.clone(), Zxid::ZERO, LogOptions { keeps, ..SMALL });
        Server { disk, log, all: Vec::new(), has: 0, kept: Zxid::ZERO, next_epoch: 1 }
    }

    fn last(&self) -> Zxid {
        self.has.checked_sub(1).map_or(Zxid::ZERO, |at| self.all[at])
    }

    fn state(&self) -> Seen {
        state_of(&self.all[..self.has])
    }

    /// The ensemble has this many transactions more.
    fn propose(&mut self, count: usize) {
        for _ in 0..count {
            let last = self.all.last().copied().unwrap_or(Zxid::ZERO);
            self.all.push(if last.epoch().0 + 1 < self.next_epoch {
                at(self.next_epoch - 1, 1)
            } else {
                Zxid(last.0 + 1)
            });
        }
    }

    /// Gets everything that it lacks.
    fn catch_up(&mut self) {
        for zxid in &self.all[self.has..] {
            self.log.append(*zxid, &payload(*zxid, None)).unwrap();
        }
        self.has = self.all.len();
        assert_eq!(self.log.sync().unwrap(), self.last());
        if self.log.keeps() {
            self.kept = self.last();
        }
    }

    fn snapshot(&mut self) {
        take_snapshot(&self.disk, &self.state(), self.last(), Compression::None).unwrap();
        self.kept = self.last();
    }

    /// Gets a SNAP of everything.
    fn receive(&mut self) {
        self.has = self.all.len();
        let image = stream(&self.state());
        let (last, log) = (self.last(), self.log.closed().unwrap());
        take(&mut self.disk.clone(), log, last, &image).unwrap().unwrap();
        self.log.restart_at(last).unwrap();
        self.kept = last;
    }

    /// A leader has nothing behind the first `count` transactions: it says TRUNC, and if that cannot be done, it sends a SNAP.
    fn cut(&mut self, count: usize) -> bool {
        let to = self.all[count - 1];
        let done = truncate(&mut self.disk.clone(), self.log.closed().unwrap(), to);
        self.all.truncate(count);
        self.next_epoch += 1;
        match done {
            Ok(()) => {
                let r = open(&self.disk).unwrap();
                assert_eq!((r.last, r.state), (to, state_of(&self.all)));
                self.log.restart_at(to).unwrap();
                (self.has, self.kept) = (count, to);
                true
            }
            Err(TruncateError::NotInLog { .. } | TruncateError::NoSnapshot { .. }) => {
                self.receive();
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The process ends, and another one starts.
    fn restart(&mut self, keeps: bool) {
        let r = open(&self.disk).unwrap_or_else(|e| panic!("{e}, with {:?}", self.disk.names()));
        assert!(r.last >= self.kept, "{} is left, {} was kept", r.last, self.kept);
        self.has = self.all.iter().take_while(|zxid| **zxid <= r.last).count();
        assert_eq!((r.last, r.state), (self.last(), self.state()));
        self.log = LogWriter::new(self.disk.clone(), r.last, LogOptions { keeps, ..SMALL });
    }
}

#[test]
fn nothing_is_written_and_nothing_is_waited_for() {
    let disk = TestDisk::new();
    let writer = LogWriter::new(disk.clone(), Zxid::ZERO, LogOptions { keeps: false, ..SMALL });
    let mut options = RunOptions::default();
    (options.appender.snap_count, options.appender.flush_delay_ms) = (2, 1000);
    let mut log = Log::new(writer, options, 7);
    let mut events = Vec::new();
    for zxid in (1..=50).map(Zxid) {
        let mut batch = Batch::new(Term(0));
        batch.push(zxid, &payload(zxid, None));
        log.append(batch);
        assert_eq!(log.work(Now::default(), &mut events).unwrap(), None);
        while log.idle(Now::default()).is_some() {
            log.perform(Now::default, &mut events).unwrap();
        }
        let said = events.pop().expect("it is said at once");
        assert!(matches!(said, LogEvent::Synced { zxid: last, records: 0, bytes: 0, .. } if last == zxid), "{said:?}");
        assert_eq!(events, [], "no snapshot is due");
        log.check();
    }
    log.roll();
    assert!(log.work(Now::default(), &mut events).unwrap().is_some());
    log.perform(Now::default, &mut events).unwrap();
    assert_eq!((log.end(), log.deadline_ns(), disk.ops()), (None, None, 0), "{:?}", disk.names());
}

#[test]
fn a_log_that_is_switched_off_and_on_goes_on_where_it_ended() {
    let mut s = Server::new(true);
    s.propose(10);
    s.catch_up();
    s.restart(false);
    s.propose(40);
    s.catch_up();
    assert_eq!((s.last(), s.kept), (Zxid(50), Zxid(10)));
    s.restart(true);
    assert_eq!(s.last(), Zxid(10));
    s.catch_up();
    s.restart(true);
    assert_eq!((s.last(), s.log.durable()), (Zxid(50), Zxid(50)));
}

#[test]
fn a_snapshot_that_no_log_leads_to_is_what_a_start_finds() {
    for is_received in [true, false] {
        let mut s = Server::new(true);
        s.propose(10);
        s.catch_up();
        s.restart(false);
        s.propose(30);
        if is_received {
            s.receive();
        } else {
            s.catch_up();
            s.snapshot();
        }
        s.propose(10);
        s.catch_up();
        assert_eq!((s.last(), s.kept), (Zxid(50), Zxid(40)));
        s.restart(true);
        assert_eq!(s.last(), Zxid(40));
        // The log begins in another epoch, which nothing on the disk leads to.
        s.next_epoch = 4;
        s.propose(5);
        s.catch_up();
        s.disk.power_cycle(3);
        s.restart(true);
        assert_eq!(s.last(), at(3, 5));
    }
}

#[test]
fn what_the_disk_has_can_be_cut() {
    let begun = || {
        let mut s = Server::new(true);
        s.propose(10);
        s.catch_up();
        s.restart(false);
        s.propose(40);
        s.catch_up();
        s
    };
    // To what is in the old log; to what is in memory only; to a snapshot.
    for (count, snapshot, is_cut) in
        [(8, None, true), (10, None, true), (20, None, false), (45, Some(50), false), (50, Some(50), true)]
    {
        let mut s = begun();
        snapshot.into_iter().for_each(|at| {
            s.has = at;
            s.snapshot();
        });
        s.propose(1);
        s.catch_up();
        assert_eq!(s.cut(count), is_cut, "{count}");
        assert_eq!((s.last(), s.kept), (Zxid(count as i64), Zxid(count as i64)));
        s.restart(true);
        s.propose(3);
        s.catch_up();
        s.restart(false);
        assert_eq!(s.last(), at(1, 3));
    }
}

#[test]
fn random_walks() {
    let (mut cuts, mut snaps) = (0, 0);
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut s = Server::new(rng.bool());
        for _ in 0..40 {
            match rng.u32(..12) {
                0..4 => {
                    s.propose(rng.usize(1..6));
                    s.catch_up();
                }
                4 => s.next_epoch += 1,
                5 => s.snapshot(),
                6 => {
                    s.propose(rng.usize(..6));
                    s.receive();
                }
                7 if s.has > 0 => {
                    let count = rng.usize(1..=s.has);
                    if s.cut(count) { cuts += 1 } else { snaps += 1 }
                }
                8 => s.log.roll().unwrap(),
                9 => _ = purge(&mut s.disk.clone(), &mut s.disk.clone(), MIN_KEEP).unwrap(),
                _ => {
                    if rng.bool() {
                        s.disk.power_cycle(rng.u64(..));
                    }
                    s.restart(rng.bool());
                }
            }
        }
        s.restart(true);
    }
    assert!(cuts > 100 && snaps > 100, "{cuts} {snaps}");
}
