//! The log thread between two of its steps: the shipped state machine, and the records that wait for it.

use std::collections::VecDeque;
use std::io;

use super::mail::Burst;
use crate::txnlog::log::{Batch, Log, LogEvent, LogSink};
use crate::types::Now;

/// A [`Log`] with its queue, on any disk.
pub struct MemoryLog<S: LogSink> {
    log: Log<S>,
    queue: VecDeque<Batch>,
    /// If the disk is busy: since when, and until when, in milliseconds of the monotonic clock.
    busy: Option<(Now, i64)>,
}

impl<S: LogSink> MemoryLog<S> {
    /// A log thread that has done nothing yet.
    pub fn new(log: Log<S>) -> MemoryLog<S> {
        MemoryLog { log, queue: VecDeque::new(), busy: None }
    }

    /// The state machine, for reading its state.
    pub fn log(&self) -> &Log<S> {
        &self.log
    }

    /// Sends a burst of proposals to the log.
    pub fn send(&mut self, burst: &Burst) {
        let mut batch = Batch::new(burst.term);
        burst.appends.iter().for_each(|append| batch.push(append.zxid, &append.payload));
        self.queue.push_back(batch);
    }

    /// One step of the thread. A disk operation that becomes due takes `busy_ms`.
    ///
    /// # Errors
    /// I/O errors of the disk, which end the process.
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
            match self.queue.pop_front() {
                Some(batch) => {
                    self.log.append(batch);
                    due = self.log.work(now, told).map_err(|e| e.error)?;
                }
                None => due = self.log.idle(now),
            }
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

    fn perform(&mut self, began: Now, ended: Now, told: &mut Vec<LogEvent>) -> io::Result<()> {
        let mut times = [began, ended].into_iter();
        self.log.perform(|| times.next().unwrap_or(ended), told).map(drop).map_err(|e| e.error)
    }

    /// Whether everything sent was appended and is durable.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.log.is_idle()
    }

    /// When a busy disk is done, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        self.busy.map(|(_, until)| until)
    }
}
