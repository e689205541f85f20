//! When to sync, when to roll, when to snapshot: the decisions of the log thread without its disk. Mirrors
//! `SyncRequestProcessor`.
//!
//! The thread blocks in a sync; what arrives meanwhile waits in its mailbox and becomes the next batch. That is the whole of
//! group commit, but for a short wait that keeps clients from falling into two groups (`company`).

use std::collections::VecDeque;

use super::commit_delay::Company;
use crate::types::{Now, Zxid};

/// Limits of the log thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppenderOptions {
    /// `zookeeper.maxBatchSize`: records per sync at most; 0 is no limit.
    pub max_batch_records: u64,
    /// Bytes per sync at most: bounds how long a sync takes.
    pub max_batch_bytes: u64,
    /// `zookeeper.flushDelay`: how long a batch may wait for company. 0: not at all.
    pub flush_delay_ms: i64,
    /// `zookeeper.maxWriteQueuePollTime`: how long it may wait for the next record, within the flush delay. None: a third of
    /// the flush delay.
    pub max_idle_ms: Option<i64>,
    /// Longest time a sync waits for the clients whose writes the last one made durable; 0: not at all. It has no use beside a
    /// `flushDelay`.
    pub most_company_ns: u64,
    /// `snapCount`: records between snapshots, at most (randomly, half to all of it). At least 2.
    pub snap_count: u64,
    /// `snapSizeLimitInKb` in bytes: log bytes between snapshots, likewise; 0 is no limit.
    pub snap_size_bytes: u64,
}

impl Default for AppenderOptions {
    fn default() -> AppenderOptions {
        AppenderOptions {
            max_batch_records: 1000,
            max_batch_bytes: 16 << 20,
            flush_delay_ms: 0,
            max_idle_ms: None,
            most_company_ns: 1_000_000,
            snap_count: 100_000,
            snap_size_bytes: 4 << 30,
        }
    }
}

/// The next log file is made ready when this part of what lies between two snapshots is left: at the default settings and the
/// highest rates, some tenths of a second. Not from the beginning: its blocks are free for the last snapshot meanwhile.
const AHEAD: u64 = 8;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A record came out of the mailbox and was appended; it takes this many bytes. `random` varies when the next snapshot
    /// is due, so that servers do not all take theirs at once.
    Appended {
        /// Its zxid.
        zxid: Zxid,
        /// Its payload's length.
        bytes: u64,
        /// Any 64 random bits.
        random: u64,
    },
    /// The mailbox is empty.
    Drained,
    /// Time passed.
    Tick,
    /// The sync that was asked for returned.
    Synced {
        /// Last durable zxid.
        zxid: Zxid,
        /// How long it took, nanoseconds.
        took_ns: u64,
    },
}

/// What to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Sync the log, then say [`Input::Synced`].
    Sync,
    /// Tell the server that everything up to this zxid is durable.
    Durable(Zxid),
    /// A [`Output::Roll`] comes soon: make the next log file ready.
    RollComes,
    /// End the current log file.
    Roll,
    /// A snapshot is due. Whether one is still being written is known to whoever takes it.
    Snapshot,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Appender {
    options: AppenderOptions,
    pending_records: u64,
    pending_bytes: u64,
    last_appended: Zxid,
    /// When the oldest pending record came.
    pending_since_ms: Option<i64>,
    /// When the newest pending record came.
    idle_since_ms: i64,
    company: Company,
    records: u64,
    bytes: u64,
    due_records: u64,
    due_bytes: u64,
    /// [`Output::RollComes`] was said.
    roll_comes: bool,
}

impl Appender {
    /// Starts with `records` already in the log since the last snapshot (as replayed at boot).
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
            company: Company::new(if options.flush_delay_ms > 0 { 0 } else { options.most_company_ns }),
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

    /// Takes an input and appends what to do to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut VecDeque<Output>) {
        match input {
            Input::Appended { zxid, bytes, random } => {
                assert!(zxid > self.last_appended, "{zxid} was appended behind {}", self.last_appended);
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
                if !self.company.is_expected(now.mono_ns, self.pending_records) && self.waited(now) {
                    out.push_back(Output::Sync);
                }
            }
            Input::Synced { zxid, took_ns } => {
                assert!(zxid <= self.last_appended, "{zxid} is durable but was never appended");
                assert!(zxid == self.last_appended, "a sync left {} behind", self.last_appended);
                assert!(self.pending_records > 0, "a sync up to {zxid} for which nothing waited");
                self.company.synced(now.mono_ns, self.pending_records, took_ns);
                (self.pending_records, self.pending_bytes, self.pending_since_ms) = (0, 0, None);
                out.push_back(Output::Durable(zxid));
            }
        }
    }

    /// The log was truncated, or goes on behind an installed snapshot: its last record is `last` now.
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
        self.company.check();
    }

    /// Whether something is pending and has waited for company long enough.
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

    /// When [`Input::Tick`] has to come, in monotonic nanoseconds.
    pub fn deadline_ns(&self) -> Option<u64> {
        let delayed_ns = u64::try_from(self.delayed_until_ms()?).unwrap_or(0).saturating_mul(1_000_000);
        Some(delayed_ns.max(self.company.until_ns()))
    }

    /// When what is pending has waited for company as long as the settings say.
    fn delayed_until_ms(&self) -> Option<i64> {
        let AppenderOptions { flush_delay_ms, max_idle_ms, .. } = self.options;
        let idle_ms = max_idle_ms.unwrap_or(flush_delay_ms / 3);
        let idle_until = self.idle_since_ms.saturating_add(idle_ms);
        Some(self.pending_since_ms?.saturating_add(flush_delay_ms).min(idle_until))
    }

    /// Records appended but not yet synced.
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
    fn flush_delay_waits_for_company_and_no_longer() {
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
        // 5 + 3 % 5 records may pass; the one behind them makes the snapshot due.
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
        // Due behind 80 records, of which there were 30.
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
