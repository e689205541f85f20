//! The log thread, the only thread that waits for the disk. It runs a [`Log`], the state machine that plays the part of
//! `SyncRequestProcessor`.
//!
//! It takes all queued records, copies them into the log, syncs once and sends `Synced`; what arrives meanwhile is the
//! next batch. What a member of an ensemble asks of its disk besides is done here, too, in one order with the records.
//! Loading another tree may take long, and no core waits for that. Any failure ends the process: nothing is ever reported as durable that is not on the disk.

use super::clock::Clock;
use super::cores;
use super::fatal;
use super::mailbox::Sender;
use super::threads;
use crate::peer::disk::{DiskAnswer, DiskError, DiskRequest};
use crate::txnlog::appender::AppenderOptions;
pub use crate::txnlog::log::{Batch, LogEvent, LogSink};
use crate::txnlog::log::{Due, Log, LogError, RunOptions};
use crossbeam::channel::{self, RecvTimeoutError, TryRecvError};
use crossbeam::queue::ArrayQueue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Settings of the log thread.
#[derive(Clone, Debug)]
pub struct LogThreadOptions {
    /// When to sync, and when a snapshot is due.
    pub appender: AppenderOptions,
    /// Number of records in the log since the last snapshot, as found at start.
    pub records_since_snapshot: u64,
    /// `fsync.warningthresholdms`: a sync that takes longer is logged.
    pub fsync_warning: Duration,
    /// CPUs to run on; `None`: those of the starting thread.
    pub cpus: Option<Vec<usize>>,
    /// How long to look for work before sleeping: saves the wake-up but keeps a CPU busy.
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

/// Does what is asked of the disk besides appending, on the log's thread: [`DiskJobs::perform`](crate::peer::disk::DiskJobs).
pub type DiskWork<S> = Box<dyn FnMut(DiskRequest, &mut S) -> Result<DiskAnswer, DiskError> + Send>;

/// What the thread says.
#[derive(Debug)]
pub enum LogMail {
    /// Of the log.
    Event(LogEvent),
    /// The answer to a request. It comes after `Synced` of everything that was appended before the request.
    Answer(DiskAnswer),
}

enum Job {
    Append(Batch),
    Roll,
    Ask(DiskRequest),
    Shutdown,
}

/// The handle of the log thread.
pub struct LogThread {
    jobs: channel::Sender<Job>,
    spares: Arc<ArrayQueue<Batch>>,
    queued_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread. It sends its events to `events`. `work` does what a member of an ensemble asks for.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start<S: LogSink>(
        sink: S,
        work: Option<DiskWork<S>>,
        options: LogThreadOptions,
        events: Sender<LogMail>,
    ) -> io::Result<LogThread> {
        let (jobs, queue) = channel::unbounded();
        let spares = Arc::new(ArrayQueue::new(16));
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let run = RunOptions {
            appender: options.appender,
            records_since_snapshot: options.records_since_snapshot,
            slow_ns: u64::try_from(options.fsync_warning.as_nanos()).unwrap_or(u64::MAX),
            ..RunOptions::default()
        };
        let runner = Runner {
            log: Log::new(sink, run, fastrand::u64(..)),
            work,
            queue,
            events,
            spares: spares.clone(),
            queued_bytes: queued_bytes.clone(),
            told: Vec::new(),
            options,
        };
        let thread = threads::start("log", move || runner.run())?;
        Ok(LogThread { jobs, spares, queued_bytes, thread: Some(thread) })
    }

    /// An empty batch that reuses the memory of an earlier one.
    pub fn batch(&self) -> Batch {
        self.spares.pop().unwrap_or_default()
    }

    /// Queues records, which must follow what was queued before. `Synced` reports when they are durable.
    pub fn append(&self, batch: Batch) {
        if !batch.is_empty() {
            self.queued_bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
            self.job(Job::Append(batch));
        }
    }

    /// Ends the current log file after what is queued; the next record begins a new file.
    pub fn roll(&self) {
        self.job(Job::Roll);
    }

    /// Asks for something else, which is done when everything queued is durable. Only for a thread that was started with
    /// such work.
    pub fn ask(&self, request: DiskRequest) {
        self.job(Job::Ask(request));
    }

    /// Number of queued bytes that are not yet copied into the log.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Makes everything queued durable and ends the thread.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn job(&self, job: Job) {
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

impl Drop for LogThread {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Dropped without `shutdown`: what is queued is still written and synced.
            let _ = self.jobs.send(Job::Shutdown);
            let _ = thread.join();
        }
    }
}

/// Passes jobs to the state machine and does the disk work that it asks for.
struct Runner<S> {
    log: Log<S>,
    work: Option<DiskWork<S>>,
    queue: channel::Receiver<Job>,
    events: Sender<LogMail>,
    spares: Arc<ArrayQueue<Batch>>,
    queued_bytes: Arc<AtomicU64>,
    /// Events of the state machine that were not sent yet.
    told: Vec<LogEvent>,
    options: LogThreadOptions,
}

impl<S: LogSink> Runner<S> {
    /// A batch buffer larger than this many bytes is not kept.
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
        while self.log.end().is_some() {
            self.perform();
        }
        self.events.send(LogMail::Event(LogEvent::Stopped));
    }

    /// The next job. While there is none, does what is due, and waits. `None`: all handles are gone.
    fn next(&mut self) -> Option<Job> {
        loop {
            match self.queue.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if self.log.idle(Clock::now()).is_some() {
                self.perform();
                // Jobs may have come meanwhile: look at them before waiting.
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
            let Some(deadline_ns) = self.log.deadline_ns() else { return self.queue.recv().ok() };
            let left = deadline_ns.saturating_sub(Clock::mono_ns());
            match self.queue.recv_timeout(Duration::from_nanos(left)) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Handles a job; returns false after `Shutdown`.
    fn handle(&mut self, job: Job) -> bool {
        match job {
            Job::Append(batch) => self.append(batch),
            Job::Roll => {
                self.log.roll();
                self.work();
            }
            Job::Ask(request) => self.answer(request),
            Job::Shutdown => return false,
        }
        true
    }

    fn append(&mut self, batch: Batch) {
        let bytes = batch.bytes() as u64;
        self.log.append(batch);
        self.work();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(spare) = self.log.take_batch()
            && spare.capacity() <= Self::KEEP_BYTES
        {
            // Dropped if enough spare batches are kept.
            let _ = self.spares.push(spare);
        }
    }

    fn answer(&mut self, request: DiskRequest) {
        if self.log.settle().is_some() {
            self.perform();
        }
        let Some(work) = &mut self.work else { panic!("{request:?} of a standalone server") };
        let mut answer = None;
        let perform = |sink: &mut S| {
            answer = Some(work(request, sink).map_err(io::Error::other)?);
            Ok(sink.last())
        };
        let done = self.log.restart(0, perform, &mut self.told);
        self.or_fatal(done);
        self.tell();
        answer.into_iter().for_each(|answer| self.events.send(LogMail::Answer(answer)));
    }

    /// Runs the state machine until it has nothing to do.
    fn work(&mut self) {
        loop {
            let due = self.log.work(Clock::now(), &mut self.told);
            self.tell();
            if self.or_fatal(due).is_none() {
                return;
            }
            self.perform();
        }
    }

    /// Does the disk work that is due.
    fn perform(&mut self) {
        let due = self.log.due();
        let outcome = self.log.perform(Clock::now, &mut self.told);
        let took_ns = self.or_fatal(outcome);
        self.tell();
        if due != Some(Due::Mark) && Duration::from_nanos(took_ns) > self.options.fsync_warning {
            tracing::warn!(
                "syncing the transaction log took {} ms (fsync.warningthresholdms={}): every write waits for this. File: {}. \
                 Put dataLogDir on a device of its own",
                took_ns / 1_000_000,
                self.options.fsync_warning.as_millis(),
                self.log.sink().name()
            );
        }
    }

    fn tell(&mut self) {
        self.told.drain(..).for_each(|event| self.events.send(LogMail::Event(event)));
    }

    fn or_fatal<T>(&self, outcome: Result<T, LogError>) -> T {
        match outcome {
            Ok(v) => v,
            Err(e) => fatal::fatal(fatal::TXN_LOG, format_args!("{e} (log: {})", self.log.sink().name())),
        }
    }
}

#[cfg(test)]
mod tests;
