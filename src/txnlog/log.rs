//! The log as one state machine: records go in; requests to sync or roll and the news of what is durable come out.
//! Plays the part of `SyncRequestProcessor`. [`super::appender`] decides when to sync, roll and take a snapshot;
//! [`LogWriter`] writes the bytes. The log thread and the simulator both run it.
//!
//! It never waits for the disk itself. [`Log::work`] and [`Log::idle`] return what is due; the caller does it with
//! [`Log::perform`], either at once (a thread that may block) or after some virtual time (the simulator). Nothing is
//! appended in between.
//!
//! Every error is final: it is unknown what is on the disk, so the process must end and recover.

use std::collections::VecDeque;
use std::io;

use thiserror::Error;

use super::appender::{Appender, AppenderOptions, Input, Output};
pub use super::batch::Batch;
pub use super::sink::LogSink;
use crate::types::{Now, Term, Zxid};

/// What the log reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogEvent {
    /// Everything up to `zxid` is durable.
    Synced {
        /// The term in which the records were appended.
        term: Term,
        /// The last durable zxid.
        zxid: Zxid,
        /// Number of records made durable by this sync; 0 if the log keeps nothing.
        records: u64,
        /// Their bytes.
        bytes: u64,
        /// How long the sync took, in nanoseconds.
        sync_ns: u64,
        /// It took longer than `fsync.warningthresholdms` (counted as `fsync_threshold_exceed_count`).
        slow: bool,
    },
    /// The log was rolled because a snapshot is due.
    SnapshotDue,
    /// A [`Log::restart`] was done.
    Restarted {
        /// The ticket passed to it.
        ticket: u64,
        /// The last zxid in the log from now on.
        last: Zxid,
    },
    /// Everything is durable, and nothing more will be appended.
    Stopped,
}

/// What must be done to the disk before anything else, with [`Log::perform`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Make durable what was appended.
    Sync,
    /// End the current file; the next record begins a new one.
    Roll,
    /// Mark the end of the log: see [`super::writer::LogWriter::mark`].
    Mark,
}

/// An I/O error, and the operation that failed.
#[derive(Debug, Error)]
#[error("{what} failed: {error}")]
pub struct LogError {
    what: &'static str,
    /// The I/O error.
    pub error: io::Error,
}

/// Nanoseconds from `began_ns` to `now`.
fn since(began_ns: u64, now: Now) -> u64 {
    assert!(now.mono_ns >= began_ns, "the monotonic clock went back from {began_ns} to {}", now.mono_ns);
    now.mono_ns - began_ns
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |error| LogError { what, error }
}

/// Settings of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunOptions {
    /// When to sync and when a snapshot is due.
    pub appender: AppenderOptions,
    /// Number of records in the log since the last snapshot, as recovery found them.
    pub records_since_snapshot: u64,
    /// `fsync.warningthresholdms` in nanoseconds: a sync that takes longer counts as slow.
    pub slow_ns: u64,
    /// An end mark is written when the log has had nothing to do for this many nanoseconds.
    pub mark_after_ns: u64,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            appender: AppenderOptions::default(),
            records_since_snapshot: 0,
            slow_ns: 1_000_000_000,
            mark_after_ns: 500_000_000,
        }
    }
}

/// The state machine.
pub struct Log<S> {
    sink: S,
    appender: Appender,
    options: RunOptions,
    rng: fastrand::Rng,
    /// The batch that is being appended, and how many of its records were.
    batch: Batch,
    taken: usize,
    /// What the appender asked for and was not done yet.
    outputs: VecDeque<Output>,
    due: Option<Due>,
    /// The last zxid that was reported as durable.
    durable: Zxid,
    /// The term of the last batch.
    term: Term,
    /// Number and bytes of the records appended since the last sync.
    unsynced: (u64, u64),
    /// When the disk was last used, on the monotonic clock.
    quiet_since_ns: u64,
}

impl<S: LogSink> Log<S> {
    /// Continues the log in `sink`, all of which must be durable. `seed` varies when snapshots are due, so that not all
    /// servers take theirs at the same time.
    pub fn new(sink: S, options: RunOptions, seed: u64) -> Log<S> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let appender = if sink.keeps() { options.appender } else { AppenderOptions::of_no_log() };
        let appender = Appender::new(appender, options.records_since_snapshot, rng.u64(..));
        Log {
            durable: sink.last(),
            term: Term::default(),
            sink,
            appender,
            options,
            rng,
            batch: Batch::default(),
            taken: 0,
            outputs: VecDeque::new(),
            due: None,
            unsynced: (0, 0),
            quiet_since_ns: 0,
        }
    }

    /// What is written to.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Takes records, which must follow those taken before; [`Log::work`] appends them.
    ///
    /// # Panics
    /// If the previous batch is not completely appended, if these records do not follow it, or if they are of a later term
    /// while records of an earlier one are not durable.
    pub fn append(&mut self, batch: Batch) {
        assert!(self.taken == self.batch.len(), "{} records were not appended", self.batch.len() - self.taken);
        if let Some(first) = batch.first() {
            assert!(self.sink.last() < first, "{first} is to be appended after {}", self.sink.last());
        }
        if batch.term != self.term {
            assert!(batch.term > self.term, "records of {:?} behind those of {:?}", batch.term, self.term);
            assert_eq!(self.unsynced.0, 0, "records of {:?} are not durable, and {:?} begins", self.term, batch.term);
            self.term = batch.term;
        }
        self.batch = batch;
        self.taken = 0;
    }

    /// The buffer of the last batch, emptied, if all of it was appended.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.taken < self.batch.len() || self.batch.is_empty() {
            return None;
        }
        assert!(self.outputs.is_empty(), "a batch is given back before {:?} was done", self.outputs);
        self.taken = 0;
        self.batch.clear();
        Some(std::mem::take(&mut self.batch))
    }

    /// Ends the current file when it is next possible; the next record begins a new one.
    ///
    /// # Panics
    /// If something is due: a bug of ours.
    pub fn roll(&mut self) {
        assert!(self.due.is_none(), "a {:?} is due before a roll", self.due);
        self.outputs.push_back(Output::Roll);
    }

    /// Appends the taken records until something is due, which is returned, or until all are appended.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn work(&mut self, now: Now, events: &mut Vec<LogEvent>) -> Result<Option<Due>, LogError> {
        assert!(self.due.is_none(), "a {:?} is due before anything else", self.due);
        loop {
            self.carry_out(events);
            if self.due.is_some() {
                return Ok(self.due);
            }
            let Some((zxid, payload)) = self.batch.get(self.taken) else { return Ok(None) };
            self.sink.append(zxid, payload).map_err(failed("appending to the log"))?;
            assert!(self.sink.last() == zxid, "{zxid} was appended, and the log ends at {}", self.sink.last());
            self.taken += 1;
            let bytes = payload.len() as u64;
            self.unsynced.0 += 1;
            self.unsynced.1 += bytes;
            let random = self.rng.u64(..);
            self.appender.handle(now, Input::Appended { zxid, bytes, random }, &mut self.outputs);
        }
    }

    /// Nothing is queued: returns what is due now, if anything. Call it again at [`Log::deadline_ns`].
    pub fn idle(&mut self, now: Now) -> Option<Due> {
        assert!(self.due.is_none(), "a {:?} is due before anything else", self.due);
        assert!(self.is_done(), "there is work left");
        self.appender.handle(now, Input::Drained, &mut self.outputs);
        match self.outputs.pop_front() {
            Some(Output::Sync) => self.due = Some(Due::Sync),
            Some(other) => unreachable!("{other:?} without a record"),
            None if self.mark_at_ns().is_some_and(|at| now.mono_ns >= at) => self.due = Some(Due::Mark),
            None => {}
        }
        self.due
    }

    /// The log will be closed: returns what must be done first.
    pub fn end(&mut self) -> Option<Due> {
        if self.appender.pending_records() == 0 && !self.sink.is_marked() {
            self.due = Some(Due::Mark);
            return self.due;
        }
        self.settle()
    }

    /// Returns what must be done before other work on the sink: a sync if records are pending.
    pub fn settle(&mut self) -> Option<Due> {
        assert!(self.due.is_none() && self.is_done(), "there is work left");
        self.due = (self.appender.pending_records() > 0).then_some(Due::Sync);
        self.due
    }

    /// Does what is due; returns how long it took, in nanoseconds. `clock` is read before and after.
    ///
    /// # Errors
    /// I/O errors of the disk.
    ///
    /// # Panics
    /// If nothing is due, or the sink lost records.
    pub fn perform(&mut self, mut clock: impl FnMut() -> Now, events: &mut Vec<LogEvent>) -> Result<u64, LogError> {
        let began_ns = clock().mono_ns;
        let due = self.due.take();
        let took_ns = match due {
            Some(Due::Sync) => {
                let zxid = self.sink.sync().map_err(failed("syncing the log"))?;
                let now = clock();
                let took_ns = since(began_ns, now);
                self.synced(now, zxid, took_ns, events);
                took_ns
            }
            Some(Due::Roll) => {
                // A roll also syncs. The sync that follows, which then has nothing to do, reports what became durable.
                let last = self.sink.last();
                self.sink.roll().map_err(failed("rolling the log"))?;
                assert_eq!(self.sink.last(), last, "the log's end after a roll");
                since(began_ns, clock())
            }
            Some(Due::Mark) => {
                assert_eq!(self.unsynced.0, 0, "records that a mark would call durable");
                self.sink.mark().map_err(failed("syncing the log"))?;
                assert!(self.sink.is_marked(), "the log was marked and has no mark");
                since(began_ns, clock())
            }
            None => panic!("nothing is due"),
        };
        self.quiet_since_ns = began_ns + took_ns;
        Ok(took_ns)
    }

    fn synced(&mut self, now: Now, zxid: Zxid, sync_ns: u64, events: &mut Vec<LogEvent>) {
        assert!(zxid == self.sink.last(), "a sync made {zxid} durable, but the log ends at {}", self.sink.last());
        assert!(self.durable < zxid, "a sync reports {zxid}, but {} was durable before", self.durable);
        let (records, bytes) = std::mem::take(&mut self.unsynced);
        assert_eq!(records, self.appender.pending_records(), "records of a sync");
        assert!(bytes >= records, "{records} records of {bytes} bytes");
        self.appender.handle(now, Input::Synced { zxid, took_ns: sync_ns }, &mut self.outputs);
        let said = self.outputs.pop_back();
        assert_eq!(said, Some(Output::Durable(zxid)), "after a sync");
        self.durable = zxid;
        let (term, slow) = (self.term, sync_ns > self.options.slow_ns);
        let (records, bytes) = if self.sink.keeps() { (records, bytes) } else { (0, 0) };
        events.push(LogEvent::Synced { term, zxid, records, bytes, sync_ns, slow });
        self.sink.expect_write();
    }

    /// Runs `work` on the sink (truncate it, or continue after an installed snapshot); everything appended must be
    /// durable. `work` returns the last zxid of the log from then on.
    ///
    /// # Errors
    /// Those of `work`.
    ///
    /// # Panics
    /// If records are pending: call [`Log::settle`] first.
    pub fn restart(
        &mut self,
        ticket: u64,
        work: impl FnOnce(&mut S) -> io::Result<Zxid>,
        events: &mut Vec<LogEvent>,
    ) -> Result<(), LogError> {
        assert!(self.due.is_none() && self.is_done(), "there is work left");
        assert_eq!(self.appender.pending_records(), 0, "records that are not durable");
        let last = work(&mut self.sink).map_err(failed("what else was asked of the disk"))?;
        assert_eq!(self.sink.last(), last, "the log's end after a restart");
        assert_eq!(self.unsynced, (0, 0), "what a restart would forget");
        self.appender.restarted(last);
        self.durable = last;
        events.push(LogEvent::Restarted { ticket, last });
        Ok(())
    }

    /// When [`Log::idle`] must be called again if nothing arrives, in monotonic nanoseconds.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.appender.deadline_ns().or_else(|| self.mark_at_ns())
    }

    /// When an end mark is to be written if nothing else is to be done.
    fn mark_at_ns(&self) -> Option<u64> {
        let has_rest = self.appender.pending_records() == 0 && !self.sink.is_marked();
        has_rest.then(|| self.quiet_since_ns.saturating_add(self.options.mark_after_ns))
    }

    /// What is due.
    pub fn due(&self) -> Option<Due> {
        self.due
    }

    /// Whether all taken records are appended and nothing is left to be done about them.
    fn is_done(&self) -> bool {
        self.taken == self.batch.len() && self.outputs.is_empty()
    }

    /// Whether all taken records are durable and nothing is due.
    pub fn is_idle(&self) -> bool {
        self.is_done() && self.due.is_none() && self.appender.pending_records() == 0
    }

    /// Checks the invariants.
    pub fn check(&self) {
        assert!(self.durable <= self.sink.last(), "{} is durable, but the log ends before it", self.durable);
        assert_eq!(self.unsynced.0, self.appender.pending_records(), "records that wait for a sync");
        assert!(self.taken <= self.batch.len(), "more was appended than there was");
        assert_eq!(self.durable == self.sink.last(), self.unsynced.0 == 0, "what is not durable waits for a sync");
        assert_eq!(self.unsynced.0 > 0, self.unsynced.1 > 0, "{:?} records and bytes wait for a sync", self.unsynced);
        let next = self.batch.get(self.taken).map(|(zxid, _)| zxid);
        assert!(next.is_none_or(|z| z > self.sink.last()), "{next:?} is to be appended after {}", self.sink.last());
        assert!(self.due != Some(Due::Sync) || self.unsynced.0 > 0, "a sync is due that nothing waits for");
        assert!(self.due != Some(Due::Mark) || self.unsynced.0 == 0, "a mark is due before a sync");
        self.appender.check();
    }

    fn carry_out(&mut self, events: &mut Vec<LogEvent>) {
        while self.due.is_none()
            && let Some(output) = self.outputs.pop_front()
        {
            match output {
                Output::Sync => self.due = Some(Due::Sync),
                Output::Roll => self.due = Some(Due::Roll),
                Output::RollComes => self.sink.prepare(),
                Output::Snapshot => events.push(LogEvent::SnapshotDue),
                Output::Durable(zxid) => unreachable!("{zxid} is said to be durable outside a sync"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::replica::SMALL;
    use crate::oracle::test_disk::{Fault, TestDisk};
    use crate::txnlog::crash_tests::payload;
    use crate::txnlog::scan::LogReader;
    use crate::txnlog::writer::LogWriter;

    fn at(ms: u64) -> Now {
        Now { mono_ms: ms as i64, mono_ns: ms * 1_000_000, ..Now::default() }
    }

    fn batch(zxids: impl IntoIterator<Item = i64>) -> Batch {
        let mut batch = Batch::default();
        zxids.into_iter().for_each(|z| batch.push(Zxid(z), &payload(Zxid(z), None)));
        batch
    }

    fn log(disk: &TestDisk, appender: AppenderOptions) -> Log<LogWriter<TestDisk>> {
        let writer = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
        Log::new(writer, RunOptions { appender, ..RunOptions::default() }, 7)
    }

    fn written(disk: &TestDisk, name: &str) -> Vec<i64> {
        let mut reader = LogReader::open(disk, name).unwrap();
        let mut zxids = Vec::new();
        while let Some((_, record)) = reader.next_record().unwrap() {
            zxids.push(record.header.zxid.0);
        }
        zxids
    }

    fn durable(events: &[LogEvent]) -> Vec<(i64, u64)> {
        let of = |e: &LogEvent| match e {
            LogEvent::Synced { zxid, records, .. } => Some((zxid.0, *records)),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    }

    #[test]
    fn a_batch_is_cut_where_a_sync_is_due_and_goes_on_after_it() {
        let disk = TestDisk::new();
        let mut log = log(&disk, AppenderOptions { max_batch_records: 2, ..AppenderOptions::default() });
        let mut events = Vec::new();
        log.append(batch(1..=5));
        for last in [2, 4] {
            assert_eq!(log.work(at(0), &mut events).unwrap(), Some(Due::Sync));
            assert_eq!(log.sink().last(), Zxid(last));
            log.check();
            log.perform(|| at(0), &mut events).unwrap();
        }
        assert_eq!(log.work(at(0), &mut events).unwrap(), None);
        assert!(!log.is_idle(), "the last record waits for a sync");
        assert_eq!(log.idle(at(0)), Some(Due::Sync));
        assert_eq!(durable(&events), [(2, 2), (4, 2)], "nothing is told before the sync");
        let mut clock = [at(1), at(1500)].into_iter();
        assert_eq!(log.perform(|| clock.next().unwrap(), &mut events).unwrap(), 1_499_000_000);
        assert_eq!(durable(&events), [(2, 2), (4, 2), (5, 1)]);
        assert!(matches!(events[2], LogEvent::Synced { slow: true, sync_ns: 1_499_000_000, .. }));
        assert!(log.is_idle());
        log.check();
        let spare = log.take_batch().unwrap();
        assert!(spare.is_empty() && spare.capacity() > 0 && log.take_batch().is_none());
        disk.power_cycle(3);
        assert_eq!(written(&disk, "log.1"), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_snapshot_is_asked_for_when_the_file_has_ended() {
        let disk = TestDisk::new();
        let mut log = log(&disk, AppenderOptions { snap_count: 2, ..AppenderOptions::default() });
        let mut events = Vec::new();
        log.append(batch(1..=3));
        assert_eq!(log.work(at(0), &mut events).unwrap(), Some(Due::Roll));
        assert_eq!((log.sink().last(), &events[..]), (Zxid(2), &[][..]));
        log.perform(|| at(0), &mut events).unwrap();
        assert_eq!(log.work(at(0), &mut events).unwrap(), None);
        assert_eq!(events, [LogEvent::SnapshotDue]);
        assert_eq!(log.end(), Some(Due::Sync));
        log.perform(|| at(0), &mut events).unwrap();
        assert_eq!(durable(&events), [(3, 3)], "what the roll made durable is told with the next sync");
        assert_eq!((written(&disk, "log.1"), written(&disk, "log.3")), (vec![1, 2], vec![3]));
    }

    #[test]
    fn a_log_that_rests_is_marked_once() {
        let disk = TestDisk::new();
        let mut log = log(&disk, AppenderOptions::default());
        let mut events = Vec::new();
        assert_eq!((log.idle(at(0)), log.deadline_ns()), (None, None), "there is nothing to mark");
        log.append(batch([1]));
        log.work(at(0), &mut events).unwrap();
        assert_eq!(log.idle(at(0)), Some(Due::Sync));
        log.perform(|| at(100), &mut events).unwrap();
        assert_eq!(log.deadline_ns(), Some(600_000_000));
        assert_eq!(log.idle(at(599)), None);
        assert_eq!(log.idle(at(600)), Some(Due::Mark));
        log.perform(|| at(600), &mut events).unwrap();
        assert_eq!((log.deadline_ns(), log.idle(at(10_000)), log.end()), (None, None, None));
        // And at the end, without having been idle.
        log.append(batch([2]));
        log.work(at(0), &mut events).unwrap();
        for due in [Due::Sync, Due::Mark] {
            assert_eq!(log.end(), Some(due));
            log.perform(|| at(0), &mut events).unwrap();
        }
        assert_eq!(log.end(), None);
        assert!(log.sink().ends_with_mark());
    }

    #[test]
    fn a_restart_goes_on_where_it_says() {
        let disk = TestDisk::new();
        let mut log = log(&disk, AppenderOptions::default());
        let mut events = Vec::new();
        log.append(batch([1]));
        log.work(at(0), &mut events).unwrap();
        assert_eq!(log.settle(), Some(Due::Sync));
        log.perform(|| at(0), &mut events).unwrap();
        assert_eq!(log.settle(), None);
        log.restart(9, |w| w.restart_at(Zxid(7)).map(|()| Zxid(7)), &mut events).unwrap();
        assert_eq!(events.last(), Some(&LogEvent::Restarted { ticket: 9, last: Zxid(7) }));
        log.check();
        log.append(batch([8]));
        log.work(at(0), &mut events).unwrap();
        assert_eq!(written(&disk, "log.8"), [8]);
    }

    #[test]
    fn a_failed_sync_tells_nothing() {
        let disk = TestDisk::new();
        let mut log = log(&disk, AppenderOptions::default());
        let mut events = Vec::new();
        log.append(batch([1]));
        log.work(at(0), &mut events).unwrap();
        log.idle(at(0));
        disk.fault_at(disk.ops(), Fault::SyncFails, 1);
        let e = log.perform(|| at(0), &mut events).unwrap_err();
        assert!(e.to_string().starts_with("syncing the log failed: "), "{e}");
        assert_eq!(events, []);
    }

    #[test]
    #[should_panic(expected = "a Some(Sync) is due before anything else")]
    fn nothing_is_appended_while_a_sync_is_due() {
        let mut log = log(&TestDisk::new(), AppenderOptions { max_batch_records: 1, ..AppenderOptions::default() });
        log.append(batch(1..=2));
        assert_eq!(log.work(at(0), &mut Vec::new()).unwrap(), Some(Due::Sync));
        let _ = log.work(at(0), &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "0x1 is to be appended after 0x2")]
    fn records_that_were_appended_do_not_come_again() {
        let mut log = log(&TestDisk::new(), AppenderOptions::default());
        log.append(batch(1..=2));
        log.work(at(0), &mut Vec::new()).unwrap();
        log.append(batch([1]));
    }

    #[test]
    #[should_panic(expected = "2 records were not appended")]
    fn a_batch_is_not_dropped_for_the_next() {
        let mut log = log(&TestDisk::new(), AppenderOptions::default());
        log.append(batch(1..=2));
        log.append(batch([3]));
    }
}
