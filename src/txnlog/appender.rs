//! Decides when to sync, to roll and to take a snapshot: the decisions of the log thread, without its disk. Mirrors
//! `SyncRequestProcessor`.
//!
//! The log thread blocks in a sync, and records that arrive meanwhile wait in its mailbox and become the next batch.
//! That alone is group commit. In addition a sync may wait for a short time, which keeps clients from splitting into
//! two groups that wait for each other's syncs (see [`super::commit_delay`]).

use std::collections::VecDeque;

use super::commit_delay::CommitDelay;
use crate::types::{Now, Zxid};

/// Settings of the log thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppenderOptions {
    /// `zookeeper.maxBatchSize`: most records per sync; 0 means no limit.
    pub max_batch_records: u64,
    /// Most bytes per sync, which limits how long a sync takes.
    pub max_batch_bytes: u64,
    /// `zookeeper.flushDelay`: how long a batch may wait for more records, in milliseconds; 0 means not at all.
    pub flush_delay_ms: i64,
    /// `zookeeper.maxWriteQueuePollTime`: how long, within the flush delay, a batch may wait for the next record, in
    /// milliseconds. `None` means a third of the flush delay.
    pub max_idle_ms: Option<i64>,
    /// The longest time that a sync waits for new writes of the clients whose writes the last sync made durable, in
    /// nanoseconds; 0 means not at all. Not useful together with `flushDelay`.
    pub most_commit_delay_ns: u64,
    /// `snapCount`: most records between two snapshots; the exact number is random, between half of it and all of it.
    /// At least 2.
    pub snap_count: u64,
    /// `snapSizeLimitInKb` in bytes: most log bytes between two snapshots, randomised in the same way; 0 means no
    /// limit.
    pub snap_size_bytes: u64,
}

impl Default for AppenderOptions {
    fn default() -> AppenderOptions {
        AppenderOptions {
            max_batch_records: 1000,
            max_batch_bytes: 16 << 20,
            flush_delay_ms: 0,
            max_idle_ms: None,
            most_commit_delay_ns: 1_000_000,
            snap_count: 100_000,
            snap_size_bytes: 4 << 30,
        }
    }
}

impl AppenderOptions {
    /// For a log that keeps nothing: nothing waits for a sync, and no snapshot is ever due.
    pub fn of_no_log() -> AppenderOptions {
        AppenderOptions {
            most_commit_delay_ns: 0,
            snap_count: u64::MAX,
            snap_size_bytes: 0,
            ..AppenderOptions::default()
        }
    }
}

/// The next log file is prepared when an eighth of the records (or bytes) between two snapshots is left. At the default
/// settings and the highest rates that is some tenths of a second before it is needed. It is not prepared earlier, so
/// that its space is available to the last snapshot.
const AHEAD: u64 = 8;

/// An input of the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A record from the mailbox was appended. `random` varies when the next snapshot is due, so that not all servers
    /// take theirs at the same time.
    Appended {
        /// The record's zxid.
        zxid: Zxid,
        /// The length of its payload in bytes.
        bytes: u64,
        /// 64 random bits.
        random: u64,
    },
    /// The mailbox is empty.
    Drained,
    /// Time passed.
    Tick,
    /// The sync that [`Output::Sync`] asked for has returned.
    Synced {
        /// The last durable zxid.
        zxid: Zxid,
        /// How long the sync took, in nanoseconds.
        took_ns: u64,
    },
}

/// Things to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Sync the log, then pass [`Input::Synced`].
    Sync,
    /// Report that everything up to this zxid is durable.
    Durable(Zxid),
    /// A [`Output::Roll`] follows soon: prepare the next log file.
    RollComes,
    /// End the current log file.
    Roll,
    /// A snapshot is due. Whether one is still being written is known only to the part that takes snapshots.
    Snapshot,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Appender {
    options: AppenderOptions,
    pending_records: u64,
    pending_bytes: u64,
    last_appended: Zxid,
    /// When the oldest pending record arrived.
    pending_since_ms: Option<i64>,
    /// When the newest pending record arrived.
    idle_since_ms: i64,
    commit_delay: CommitDelay,
    records: u64,
    bytes: u64,
    due_records: u64,
    due_bytes: u64,
    /// [`Output::RollComes`] was given.
    roll_comes: bool,
}

impl Appender {
    /// Starts with `records` records in the log since the last snapshot, as recovery found them.
    ///
    /// # Panics
    /// If the options are none that the configuration lets through: a bug of ours.
    pub fn new(options: AppenderOptions, records: u64, random: u64) -> Appender {
        assert!(options.snap_count >= 2, "snapCount of {}: a snapshot for every record", options.snap_count);
        assert!(options.max_batch_bytes > 0, "a batch of no bytes is full before it has a record");
        let mut a = Appender {
            options,
            pending_records: 0,
            pending_bytes: 0,
            last_appended: Zxid::NONE,
            pending_since_ms: None,
            idle_since_ms: 0,
            commit_delay: CommitDelay::new(if options.flush_delay_ms > 0 { 0 } else { options.most_commit_delay_ns }),
            records,
            bytes: 0,
            due_records: 0,
            due_bytes: 0,
            roll_comes: false,
        };
        a.vary(random);
        a
    }

    fn vary(&mut self, random: u64) {
        let half = (self.options.snap_count / 2).max(1);
        self.due_records = half + random % half;
        let half = (self.options.snap_size_bytes / 2).max(1);
        self.due_bytes = half + (random >> 7) % half;
        let most = self.options.snap_count;
        assert!((1..=most).contains(&self.due_records), "a snapshot after {} of {most} records", self.due_records);
        assert!(self.due_bytes > 0, "a snapshot after no bytes at all");
    }

    /// Handles an input and appends what to do to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut VecDeque<Output>) {
        match input {
            Input::Appended { zxid, bytes, random } => {
                assert!(zxid > self.last_appended, "{zxid} was appended after {}", self.last_appended);
                assert!(bytes > 0, "the record of {zxid} has no bytes");
                self.last_appended = zxid;
                self.pending_records += 1;
                self.pending_bytes += bytes;
                self.pending_since_ms.get_or_insert(now.mono_ms);
                self.idle_since_ms = now.mono_ms;
                self.count(bytes, random, out);
                let full = self.options.max_batch_records > 0 && self.pending_records >= self.options.max_batch_records
                    || self.pending_bytes >= self.options.max_batch_bytes;
                if full || self.options.flush_delay_ms > 0 && self.waited(now) {
                    out.push_back(Output::Sync);
                }
            }
            Input::Drained | Input::Tick => {
                if !self.commit_delay.is_expected(now.mono_ns, self.pending_records) && self.waited(now) {
                    out.push_back(Output::Sync);
                }
            }
            Input::Synced { zxid, took_ns } => {
                assert!(zxid <= self.last_appended, "{zxid} is durable but was never appended");
                assert!(zxid == self.last_appended, "a sync did not include {}", self.last_appended);
                assert!(self.pending_records > 0, "a sync up to {zxid} for which nothing waited");
                self.commit_delay.synced(now.mono_ns, self.pending_records, took_ns);
                (self.pending_records, self.pending_bytes, self.pending_since_ms) = (0, 0, None);
                out.push_back(Output::Durable(zxid));
            }
        }
    }

    /// The log was truncated, or goes on after an installed snapshot: its last record is `last` now.
    ///
    /// # Panics
    /// If records wait for a sync: a bug of ours.
    pub fn restarted(&mut self, last: Zxid) {
        assert_eq!(self.pending_records, 0, "the log restarts at {last} before its records are durable");
        self.last_appended = last;
    }

    /// Its invariants.
    pub fn check(&self) {
        let waits = self.pending_records > 0;
        assert_eq!(
            self.pending_bytes > 0,
            waits,
            "{} records wait, of {} bytes",
            self.pending_records,
            self.pending_bytes
        );
        assert_eq!(self.pending_since_ms.is_some(), waits, "when the oldest of {} records came", self.pending_records);
        assert!(!waits || self.last_appended > Zxid::NONE, "a record without a zxid waits for a sync");
        self.commit_delay.check();
    }

    /// Whether there are pending records that have waited long enough.
    fn waited(&self, now: Now) -> bool {
        self.delayed_until_ms().is_some_and(|at| now.mono_ms >= at)
    }

    fn count(&mut self, bytes: u64, random: u64, out: &mut VecDeque<Output>) {
        self.records += 1;
        self.bytes += bytes;
        let bytes = if self.options.snap_size_bytes > 0 { self.bytes } else { 0 };
        if self.records > self.due_records || bytes > self.due_bytes {
            (self.records, self.bytes, self.roll_comes) = (0, 0, false);
            self.vary(random);
            out.extend([Output::Roll, Output::Snapshot]);
        } else if !self.roll_comes
            && (self.records >= self.due_records - self.due_records / AHEAD
                || bytes >= self.due_bytes - self.due_bytes / AHEAD)
        {
            self.roll_comes = true;
            out.push_back(Output::RollComes);
        }
    }

    /// When [`Input::Tick`] is needed, in monotonic nanoseconds.
    pub fn deadline_ns(&self) -> Option<u64> {
        let delayed_ns = u64::try_from(self.delayed_until_ms()?).unwrap_or(0).saturating_mul(1_000_000);
        Some(delayed_ns.max(self.commit_delay.until_ns()))
    }

    /// When the pending records have waited as long as `flushDelay` and `maxWriteQueuePollTime` allow.
    fn delayed_until_ms(&self) -> Option<i64> {
        let AppenderOptions { flush_delay_ms, max_idle_ms, .. } = self.options;
        let idle_ms = max_idle_ms.unwrap_or(flush_delay_ms / 3);
        let idle_until = self.idle_since_ms.saturating_add(idle_ms);
        Some(self.pending_since_ms?.saturating_add(flush_delay_ms).min(idle_until))
    }

    /// Number of records appended but not synced yet.
    pub fn pending_records(&self) -> u64 {
        self.pending_records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Now {
        Now { mono_ms: ms, mono_ns: ms as u64 * 1_000_000, ..Now::default() }
    }

    fn append(a: &mut Appender, ms: i64, zxid: i64) -> Vec<Output> {
        step(a, ms, Input::Appended { zxid: Zxid(zxid), bytes: 100, random: 0 })
    }

    fn step(a: &mut Appender, ms: i64, input: Input) -> Vec<Output> {
        let mut out = VecDeque::new();
        a.handle(at(ms), input, &mut out);
        out.into()
    }

    #[test]
    fn a_batch_is_what_queued_while_the_last_sync_ran() {
        let mut a = Appender::new(AppenderOptions::default(), 0, 0);
        assert_eq!(step(&mut a, 0, Input::Drained), []);
        assert_eq!(append(&mut a, 0, 1), []);
        assert_eq!(append(&mut a, 0, 2), []);
        assert_eq!(step(&mut a, 0, Input::Drained), [Output::Sync]);
        assert_eq!(step(&mut a, 1, Input::Synced { zxid: Zxid(2), took_ns: 1 }), [Output::Durable(Zxid(2))]);
        assert_eq!(step(&mut a, 1, Input::Drained), []);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut a = Appender::new(AppenderOptions { max_batch_records: 2, ..AppenderOptions::default() }, 0, 0);
        assert_eq!(append(&mut a, 0, 1), []);
        assert_eq!(append(&mut a, 0, 2), [Output::Sync]);
        let mut a = Appender::new(AppenderOptions { max_batch_bytes: 200, ..AppenderOptions::default() }, 0, 0);
        assert_eq!(append(&mut a, 0, 1), []);
        assert_eq!(append(&mut a, 0, 2), [Output::Sync]);
    }

    #[test]
    fn flush_delay_waits_for_more_records_and_no_longer() {
        let mut a = Appender::new(AppenderOptions { flush_delay_ms: 6, ..AppenderOptions::default() }, 0, 0);
        assert_eq!(append(&mut a, 10, 1), []);
        assert_eq!(step(&mut a, 11, Input::Drained), []);
        assert_eq!(a.deadline_ns(), Some(12_000_000), "nobody joins within a third of the delay");
        for (ms, zxid) in [(11, 2), (13, 3), (15, 4)] {
            assert_eq!(append(&mut a, ms, zxid), []);
        }
        assert_eq!(step(&mut a, 15, Input::Tick), []);
        assert_eq!(a.deadline_ns(), Some(16_000_000), "the delay of the oldest");
        assert_eq!(append(&mut a, 16, 5), [Output::Sync]);
        step(&mut a, 16, Input::Synced { zxid: Zxid(5), took_ns: 0 });
        assert_eq!((append(&mut a, 20, 6), a.deadline_ns()), (vec![], Some(22_000_000)));
        assert_eq!(step(&mut a, 22, Input::Tick), [Output::Sync]);
        let patient = AppenderOptions { flush_delay_ms: 6, max_idle_ms: Some(i64::MAX), ..AppenderOptions::default() };
        let mut a = Appender::new(patient, 0, 0);
        assert_eq!((append(&mut a, 10, 1), a.deadline_ns()), (vec![], Some(16_000_000)));
    }

    #[test]
    fn a_sync_waits_for_those_the_last_one_released() {
        let mut a = Appender::new(AppenderOptions::default(), 0, 0);
        append(&mut a, 0, 1);
        append(&mut a, 0, 2);
        assert_eq!(step(&mut a, 0, Input::Drained), [Output::Sync]);
        step(&mut a, 20, Input::Synced { zxid: Zxid(2), took_ns: 20_000_000 });
        assert_eq!(step(&mut a, 20, Input::Drained), []);
        append(&mut a, 20, 3);
        assert_eq!(step(&mut a, 20, Input::Drained), []);
        assert_eq!(a.deadline_ns(), Some(21_000_000));
        append(&mut a, 20, 4);
        assert_eq!(step(&mut a, 20, Input::Drained), [Output::Sync]);
        step(&mut a, 40, Input::Synced { zxid: Zxid(4), took_ns: 20_000_000 });
        append(&mut a, 40, 5);
        assert_eq!(step(&mut a, 40, Input::Drained), []);
        assert_eq!(step(&mut a, 41, Input::Tick), [Output::Sync]);
    }

    #[test]
    fn snapshots_come_between_half_and_all_of_snap_count() {
        let options = AppenderOptions { snap_count: 10, ..AppenderOptions::default() };
        let mut a = Appender::new(options, 0, 3);
        let mut first = 0;
        for z in 1..=8 {
            if append(&mut a, 0, z).contains(&Output::Snapshot) {
                first = z;
            }
        }
        // 5 + 3 % 5 records may pass; the next one makes the snapshot due.
        assert_eq!(first, 0);
        assert_eq!(append(&mut a, 0, 9), [Output::Roll, Output::Snapshot]);
        for z in 10..=13 {
            assert_eq!(append(&mut a, 0, z), []);
        }
        assert_eq!(append(&mut a, 0, 14), [Output::RollComes]);
        assert_eq!(append(&mut a, 0, 15), [Output::Roll, Output::Snapshot]);
    }

    #[test]
    fn a_roll_is_announced_once_when_an_eighth_is_left() {
        let options = AppenderOptions { snap_count: 160, ..AppenderOptions::default() };
        let mut a = Appender::new(options, 30, 0);
        // Due after 80 records, 30 of which were in the log at the start.
        for around in 0..3 {
            let (said, rolled) = if around == 0 { (40, 51) } else { (70, 81) };
            for n in 1..=rolled {
                let out = append(&mut a, 0, 100 * around + n);
                match n {
                    n if n == said => assert_eq!(out, [Output::RollComes]),
                    n if n == rolled => assert_eq!(out[0], Output::Roll),
                    _ => assert_eq!(out, []),
                }
            }
        }
    }

    #[test]
    fn log_bytes_make_a_snapshot_due() {
        let options = AppenderOptions { snap_size_bytes: 1000, ..AppenderOptions::default() };
        let mut a = Appender::new(options, 0, 0);
        for z in 1..=4 {
            assert_eq!(append(&mut a, 0, z), []);
        }
        assert_eq!(append(&mut a, 0, 5), [Output::RollComes]);
        assert_eq!(append(&mut a, 0, 6), [Output::Roll, Output::Snapshot]);
        let mut a = Appender::new(AppenderOptions { snap_size_bytes: 0, ..options }, 0, 0);
        assert!((1..=100).all(|z| append(&mut a, 0, z).is_empty()));
    }

    #[test]
    #[should_panic(expected = "never appended")]
    fn durable_beyond_appended_is_a_bug() {
        let mut a = Appender::new(AppenderOptions::default(), 0, 0);
        append(&mut a, 0, 1);
        step(&mut a, 0, Input::Synced { zxid: Zxid(2), took_ns: 1 });
    }
}
