//! The log thread: the only one that waits for the disk. Plays the part of the thread of `SyncRequestProcessor`, whose
//! decisions are [`Appender`]'s.
//!
//! It takes all that is queued, copies it into the log, syncs once and posts `Synced`; what arrives meanwhile is the next
//! batch. Any failure ends the process: nothing that is not on the disk is ever told to be.

use super::clock::Clock;
use super::cores;
use super::fatal;
use super::mailbox::Sender;
use crate::txnlog::appender::{Appender, AppenderOptions, Input, Output};
use crate::txnlog::disk::Dir;
use crate::txnlog::writer::LogWriter;
use crate::types::{Now, Zxid};
use crossbeam::channel::{self, RecvTimeoutError, TryRecvError};
use crossbeam::queue::ArrayQueue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A log that has had nothing to do for so long is marked: see [`LogSink::mark`].
const MARK_AFTER: Duration = Duration::from_millis(500);

/// What the thread writes to: the log over files, or a test's double.
pub trait LogSink: Send + 'static {
    /// Copies a record into the log; not durable before `sync`.
    fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()>;
    /// Makes everything appended durable; the last zxid that is.
    fn sync(&mut self) -> io::Result<Zxid>;
    /// Makes the place of the next record ready: after a sync, when nobody waits.
    fn expect_write(&mut self);
    /// A `roll` comes soon.
    fn prepare(&mut self);
    /// Ends the current file.
    fn roll(&mut self) -> io::Result<()>;
    /// Whether [`LogSink::mark`] has nothing to do.
    fn is_marked(&self) -> bool;
    /// Leaves a mark behind the last record, which is durable, for the recovery after rot.
    fn mark(&mut self) -> io::Result<()>;
    /// What is being written, for messages.
    fn name(&self) -> String;
}

impl<D: Dir + 'static> LogSink for LogWriter<D>
where
    D::Segment: 'static,
{
    fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        LogWriter::append(self, zxid, payload)
    }

    fn sync(&mut self) -> io::Result<Zxid> {
        LogWriter::sync(self)
    }

    fn expect_write(&mut self) {
        LogWriter::expect_write(self)
    }

    fn prepare(&mut self) {
        LogWriter::prepare(self);
    }

    fn roll(&mut self) -> io::Result<()> {
        LogWriter::roll(self)
    }

    fn is_marked(&self) -> bool {
        LogWriter::is_marked(self)
    }

    fn mark(&mut self) -> io::Result<()> {
        LogWriter::mark(self)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.dir().path(), self.file_name())
    }
}

/// Settings of the thread.
#[derive(Clone, Debug)]
pub struct LogThreadOptions {
    /// When to sync and when a snapshot is due.
    pub appender: AppenderOptions,
    /// Records in the log since the last snapshot, as replayed at start.
    pub records_since_snapshot: u64,
    /// `fsync.warningthresholdms`: a sync that takes longer is warned of.
    pub fsync_warning: Duration,
    /// CPUs to run on; `None`: those of the thread that starts it.
    pub cpus: Option<Vec<usize>>,
    /// How long to look for work before going to sleep: saves the wake-up at the price of a busy CPU.
    pub spin: Duration,
}

impl Default for LogThreadOptions {
    fn default() -> LogThreadOptions {
        LogThreadOptions {
            appender: AppenderOptions::default(),
            records_since_snapshot: 0,
            fsync_warning: Duration::from_millis(1000),
            cpus: None,
            spin: Duration::ZERO,
        }
    }
}

/// Records to append, one behind the other. Get one from [`LogThread::batch`], which reuses buffers.
#[derive(Default, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<(Zxid, usize)>,
}

impl Batch {
    /// Adds a record: `TxnHeader`, transaction and digest, as in a PROPOSAL.
    pub fn push(&mut self, zxid: Zxid, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push((zxid, self.bytes.len()));
    }

    /// Adds a record that `encode` appends to the buffer.
    pub fn push_with(&mut self, zxid: Zxid, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        encode(&mut self.bytes);
        assert!(self.bytes.len() >= before, "a record was encoded by shortening the batch");
        self.ends.push((zxid, self.bytes.len()));
    }

    /// Records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn records(&self) -> impl Iterator<Item = (Zxid, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(zxid, end)| {
            let payload = &self.bytes[start..end];
            start = end;
            (zxid, payload)
        })
    }
}

/// Done to the sink on the thread, in order with the appends, everything before it being durable. Its result is the last zxid
/// of the log from then on; an error is fatal.
pub type Restart<S> = Box<dyn FnOnce(&mut S) -> io::Result<Zxid> + Send>;

enum Job<S> {
    Append(Batch),
    Roll,
    Restart { ticket: u64, work: Restart<S> },
    SnapshotDone,
    Shutdown,
}

/// What the thread tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogEvent {
    /// Everything up to `zxid` is durable.
    Synced {
        /// The last durable zxid.
        zxid: Zxid,
        /// Records this sync was for.
        records: u64,
        /// Their bytes.
        bytes: u64,
        /// How long the sync took, nanoseconds.
        sync_ns: u64,
        /// It took longer than `fsync.warningthresholdms` (counted as `fsync_threshold_exceed_count`).
        slow: bool,
    },
    /// The log was rolled because a snapshot is due: take one and call [`LogThread::snapshot_done`].
    SnapshotDue,
    /// A snapshot was due while the last one was not finished; skipped.
    SnapshotSkipped,
    /// A [`LogThread::restart`] was done.
    Restarted {
        /// As given to it.
        ticket: u64,
        /// The log's last zxid now.
        last: Zxid,
    },
    /// Everything is durable and the thread ends.
    Stopped,
}

/// The handle of the log thread.
pub struct LogThread<S> {
    jobs: channel::Sender<Job<S>>,
    spares: Arc<ArrayQueue<Batch>>,
    queued_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl<S: LogSink> LogThread<S> {
    /// Starts the thread. Its events go to `events`.
    pub fn start(sink: S, options: LogThreadOptions, events: Sender<LogEvent>) -> io::Result<LogThread<S>> {
        let (jobs, queue) = channel::unbounded();
        let spares = Arc::new(ArrayQueue::new(16));
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let appender = Appender::new(options.appender, options.records_since_snapshot, fastrand::u64(..));
        let runner = Runner {
            sink,
            appender,
            queue,
            events,
            spares: spares.clone(),
            queued_bytes: queued_bytes.clone(),
            outputs: Vec::new(),
            after_sync: Vec::new(),
            unsynced: (0, 0),
            options,
        };
        let thread = thread::Builder::new().name("log".into()).spawn(move || runner.run())?;
        Ok(LogThread { jobs, spares, queued_bytes, thread: Some(thread) })
    }

    /// An empty batch, with the capacity of an earlier one.
    pub fn batch(&self) -> Batch {
        self.spares.pop().unwrap_or_default()
    }

    /// Queues records, which must follow what was queued before. `Synced` tells when they are durable.
    pub fn append(&self, batch: Batch) {
        if !batch.is_empty() {
            self.queued_bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
            self.job(Job::Append(batch));
        }
    }

    /// Ends the current log file after what was queued; the next record begins a new one.
    pub fn roll(&self) {
        self.job(Job::Roll);
    }

    /// Makes what was queued durable, then does `work` with the log (truncate it, go on behind an installed snapshot), then
    /// posts `Restarted` with `ticket`.
    pub fn restart(&self, ticket: u64, work: Restart<S>) {
        self.job(Job::Restart { ticket, work });
    }

    /// The snapshot that `SnapshotDue` asked for is finished, or was given up.
    pub fn snapshot_done(&self) {
        self.job(Job::SnapshotDone);
    }

    /// Bytes handed over and not yet copied into the log.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Makes everything queued durable and ends the thread.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn job(&self, job: Job<S>) {
        // The thread ends only by Shutdown or with the process.
        assert!(self.jobs.send(job).is_ok(), "the log thread is gone");
    }

    fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.job(Job::Shutdown);
            if thread.join().is_err() {
                fatal::fatal(fatal::TXN_LOG, "the log thread panicked");
            }
        }
    }
}

impl<S> Drop for LogThread<S> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Without `shutdown`: what was queued is still written and synced.
            let _ = self.jobs.send(Job::Shutdown);
            let _ = thread.join();
        }
    }
}

struct Runner<S> {
    sink: S,
    appender: Appender,
    queue: channel::Receiver<Job<S>>,
    events: Sender<LogEvent>,
    spares: Arc<ArrayQueue<Batch>>,
    queued_bytes: Arc<AtomicU64>,
    outputs: Vec<Output>,
    after_sync: Vec<Output>,
    /// Records and bytes appended since the last sync.
    unsynced: (u64, u64),
    options: LogThreadOptions,
}

impl<S: LogSink> Runner<S> {
    /// A batch buffer that grew beyond this is not kept.
    const KEEP_BYTES: usize = 4 << 20;

    fn run(mut self) {
        if let Some(cpus) = &self.options.cpus
            && let Err(e) = cores::pin_current_thread(cpus)
        {
            tracing::warn!("the log thread cannot be pinned to CPU {cpus:?}: {e}");
        }
        while let Some(job) = self.next() {
            if !self.handle(job) {
                break;
            }
        }
        self.sync_pending();
        self.mark();
        self.events.send(LogEvent::Stopped);
    }

    /// The next job; syncs what is pending when the queue is empty, and waits. `None`: no handle is left.
    fn next(&mut self) -> Option<Job<S>> {
        loop {
            match self.queue.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let pending = self.appender.pending_records();
            self.decide(Input::Drained);
            if self.appender.pending_records() != pending {
                // Jobs may have come while it synced: those are looked at before any waiting.
                continue;
            }
            if !self.options.spin.is_zero() {
                let until = Instant::now() + self.options.spin;
                while Instant::now() < until {
                    match self.queue.try_recv() {
                        Ok(job) => return Some(job),
                        Err(TryRecvError::Disconnected) => return None,
                        Err(TryRecvError::Empty) => std::hint::spin_loop(),
                    }
                }
            }
            let Some(deadline_ns) = self.appender.deadline_ns() else {
                if self.sink.is_marked() {
                    return self.queue.recv().ok();
                }
                match self.queue.recv_timeout(MARK_AFTER) {
                    Ok(job) => return Some(job),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => self.mark(),
                }
                continue;
            };
            // Records wait for company.
            let left = deadline_ns.saturating_sub(Clock::mono_ns());
            match self.queue.recv_timeout(Duration::from_nanos(left)) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.decide(Input::Tick),
            }
        }
    }

    /// False after `Shutdown`.
    fn handle(&mut self, job: Job<S>) -> bool {
        match job {
            Job::Append(batch) => self.append(batch),
            Job::Roll => self.roll(),
            Job::Restart { ticket, work } => {
                self.sync_pending();
                let last = work(&mut self.sink);
                let last = self.or_fatal(last, "truncating or restarting the log");
                self.events.send(LogEvent::Restarted { ticket, last });
            }
            Job::SnapshotDone => self.decide(Input::SnapshotDone),
            Job::Shutdown => return false,
        }
        true
    }

    fn append(&mut self, mut batch: Batch) {
        let now = Clock::now();
        for (zxid, payload) in batch.records() {
            let appended = self.sink.append(zxid, payload);
            self.or_fatal(appended, "appending to the log");
            let bytes = payload.len() as u64;
            self.unsynced.0 += 1;
            self.unsynced.1 += bytes;
            self.decide_at(now, Input::Appended { zxid, bytes, random: fastrand::u64(..) });
        }
        self.queued_bytes.fetch_sub(batch.bytes() as u64, Ordering::Relaxed);
        if batch.bytes.capacity() <= Self::KEEP_BYTES {
            batch.bytes.clear();
            batch.ends.clear();
            // Dropped if enough are kept.
            let _ = self.spares.push(batch);
        }
    }

    /// Asks the machine and does what it says.
    fn decide(&mut self, input: Input) {
        self.decide_at(Clock::now(), input);
    }

    fn decide_at(&mut self, now: Now, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.appender.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Sync => self.sync(),
                Output::RollComes => self.sink.prepare(),
                Output::Roll => self.roll(),
                Output::Snapshot => self.events.send(LogEvent::SnapshotDue),
                Output::SnapshotSkipped => self.events.send(LogEvent::SnapshotSkipped),
                Output::Durable(zxid) => unreachable!("{zxid} is said to be durable outside a sync"),
            }
        }
        self.outputs = outputs;
    }

    fn sync_pending(&mut self) {
        if self.appender.pending_records() > 0 {
            self.sync();
        }
    }

    fn sync(&mut self) {
        let began = Clock::mono_ns();
        let synced = self.sink.sync();
        let zxid = self.or_fatal(synced, "syncing the log");
        let sync_ns = Clock::mono_ns() - began;
        let slow = self.warn_if_slow(sync_ns);
        let (records, bytes) = std::mem::take(&mut self.unsynced);
        let mut outputs = std::mem::take(&mut self.after_sync);
        self.appender.handle(Clock::now(), Input::Synced { zxid, took_ns: sync_ns }, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Durable(zxid) => self.events.send(LogEvent::Synced { zxid, records, bytes, sync_ns, slow }),
                other => unreachable!("{other:?} after a sync"),
            }
        }
        self.after_sync = outputs;
        self.sink.expect_write();
    }

    fn mark(&mut self) {
        let marked = self.sink.mark();
        self.or_fatal(marked, "syncing the log");
    }

    fn roll(&mut self) {
        // A roll syncs too; what it made durable is told by the sync that follows, which then has nothing to do.
        let began = Clock::mono_ns();
        let rolled = self.sink.roll();
        self.or_fatal(rolled, "rolling the log");
        self.warn_if_slow(Clock::mono_ns() - began);
    }

    fn warn_if_slow(&self, sync_ns: u64) -> bool {
        let slow = Duration::from_nanos(sync_ns) > self.options.fsync_warning;
        if slow {
            tracing::warn!(
                "syncing the transaction log took {} ms (fsync.warningthresholdms={}): every write waits for this. File: {}. \
                 Put dataLogDir on a device of its own",
                sync_ns / 1_000_000,
                self.options.fsync_warning.as_millis(),
                self.sink.name()
            );
        }
        slow
    }

    fn or_fatal<T>(&self, outcome: io::Result<T>, what: &str) -> T {
        match outcome {
            Ok(v) => v,
            Err(e) => fatal::fatal(fatal::TXN_LOG, format_args!("{what} failed: {e} (log: {})", self.sink.name())),
        }
    }
}

#[cfg(test)]
mod tests;
