//! The log thread between two of its steps: the shipped state machine, and what waits for it.

use std::collections::VecDeque;
use std::io;

use super::mail::Burst;
use crate::peer::disk::{DiskAnswer, DiskError, DiskRequest};
use crate::txnlog::log::{Batch, Due, Log, LogEvent, LogSink};
use crate::types::Now;

/// What waits for the thread.
enum Job {
    Append(Batch),
    Disk(DiskRequest),
}

/// Does the jobs that are not appending.
type Jobs<S> = Box<dyn FnMut(DiskRequest, &mut S) -> Result<DiskAnswer, DiskError>>;

/// A [`Log`] with its queue, on any disk.
pub struct MemoryLog<S: LogSink> {
    log: Log<S>,
    queue: VecDeque<Job>,
    jobs: Option<Jobs<S>>,
    answers: Vec<DiskAnswer>,
    /// If the disk is busy: since when, and until when, in milliseconds of the monotonic clock.
    busy: Option<(Now, i64)>,
}

impl<S: LogSink> MemoryLog<S> {
    /// A log thread that also does the jobs of a member of an ensemble, see [`DiskJobs`](crate::peer::disk::DiskJobs).
    pub fn with_jobs(
        log: Log<S>,
        jobs: impl FnMut(DiskRequest, &mut S) -> Result<DiskAnswer, DiskError> + 'static,
    ) -> MemoryLog<S> {
        MemoryLog { jobs: Some(Box::new(jobs)), ..MemoryLog::new(log) }
    }

    /// A log thread that has done nothing yet.
    pub fn new(log: Log<S>) -> MemoryLog<S> {
        MemoryLog { log, queue: VecDeque::new(), jobs: None, answers: Vec::new(), busy: None }
    }

    /// The state machine, for reading its state.
    pub fn log(&self) -> &Log<S> {
        &self.log
    }

    /// Sends a burst of proposals to the log.
    pub fn send(&mut self, burst: &Burst) {
        let mut batch = Batch::new(burst.term);
        burst.appends.iter().for_each(|append| batch.push(append.zxid, &append.payload));
        self.queue.push_back(Job::Append(batch));
    }

    /// Sends another request, to be done after what was sent before.
    pub fn ask(&mut self, request: DiskRequest) {
        self.queue.push_back(Job::Disk(request));
    }

    /// The answers to requests since the last call. What the log said before is to be heard before them.
    pub fn take_answers(&mut self) -> Vec<DiskAnswer> {
        std::mem::take(&mut self.answers)
    }

    /// One step of the thread. A disk operation that becomes due takes `busy_ms`.
    ///
    /// # Errors
    /// I/O errors of the disk, which end the process.
    ///
    /// # Panics
    /// If something is asked for that needs [`MemoryLog::with_jobs`].
    pub fn step(&mut self, now: Now, busy_ms: i64, told: &mut Vec<LogEvent>) -> io::Result<()> {
        if let Some((began, until)) = self.busy {
            if now.mono_ms < until {
                return Ok(());
            }
            self.busy = None;
            return self.perform(began, now, told);
        }
        let mut due = self.log.work(now, told).map_err(|e| e.error)?;
        if due.is_none() {
            due = self.next(now, told)?;
        }
        match due {
            None => Ok(()),
            Some(_) if busy_ms > 0 => {
                self.busy = Some((now, now.mono_ms + busy_ms));
                Ok(())
            }
            Some(_) => self.perform(now, now, told),
        }
    }

    /// Begins with the next job. Returns what is due before it.
    fn next(&mut self, now: Now, told: &mut Vec<LogEvent>) -> io::Result<Option<Due>> {
        match self.queue.pop_front() {
            Some(Job::Append(batch)) => {
                self.log.append(batch);
                self.log.work(now, told).map_err(|e| e.error)
            }
            Some(Job::Disk(request)) => {
                let due = self.log.settle();
                if due.is_some() {
                    self.queue.push_front(Job::Disk(request));
                    return Ok(due);
                }
                let MemoryLog { log, jobs, answers, .. } = self;
                let jobs = jobs.as_mut().expect("only the log of a member of an ensemble is asked for more");
                let work = |sink: &mut S| {
                    answers.push(jobs(request, sink).map_err(io::Error::other)?);
                    Ok(sink.last())
                };
                log.restart(0, work, told).map_err(|e| e.error)?;
                Ok(None)
            }
            None => Ok(self.log.idle(now)),
        }
    }

    fn perform(&mut self, began: Now, ended: Now, told: &mut Vec<LogEvent>) -> io::Result<()> {
        let mut times = [began, ended].into_iter();
        self.log.perform(|| times.next().unwrap_or(ended), told).map(drop).map_err(|e| e.error)
    }

    /// Whether everything sent was done, appended and is durable.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.log.is_idle()
    }

    /// When a busy disk is done, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        self.busy.map(|(_, until)| until)
    }
}
