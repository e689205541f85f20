//! What was written to a learner and has not left. Plays the part of `LearnerHandler.queuedPackets` in what is shown of it: each
//! write counts as one packet, which is so for a learner that takes part in the broadcast.

use std::collections::VecDeque;

use crate::peer::status::LearnerStats;
use crate::types::Now;

/// Writes that have not left, oldest first.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// The bytes of each that have not left, and when it was written, in nanoseconds of the monotonic clock.
    writes: VecDeque<(usize, u64)>,
    bytes: usize,
}

impl SendQueue {
    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize, now: Now) {
        assert!(bytes > 0, "nothing is written");
        self.writes.push_back((bytes, now.mono_ns));
        self.bytes += bytes;
    }

    /// So many bytes have left. For each write that is complete now, `figures` gets how many were behind it, and how long it waited.
    pub(super) fn left(&mut self, bytes: usize, now: Now, mut figures: Option<&mut LearnerStats>) {
        assert!(bytes <= self.bytes, "{bytes} bytes have left, {} were written", self.bytes);
        self.bytes -= bytes;
        let mut rest = bytes;
        while let Some((unsent, written_ns)) = self.writes.front_mut().filter(|(unsent, _)| rest > 0 || *unsent == 0) {
            if *unsent > rest {
                *unsent -= rest;
                return;
            }
            rest -= *unsent;
            let waited_us = now.mono_ns.saturating_sub(*written_ns) / 1000;
            self.writes.pop_front();
            if let Some(figures) = &mut figures {
                let queue = figures.queue.get_or_insert_default();
                queue.len.record(self.writes.len() as u64);
                queue.time.record(waited_us);
            }
        }
        assert_eq!(rest, 0, "more bytes have left than were written");
        assert!(self.bytes >= self.writes.len(), "{} writes wait with {} bytes", self.writes.len(), self.bytes);
    }

    /// How many writes wait.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, ..Now::default() }
    }

    #[test]
    fn a_write_waits_until_all_of_it_has_left() {
        let (mut queue, mut stats) = (SendQueue::default(), LearnerStats::default());
        queue.wrote(10, at(1));
        queue.wrote(20, at(2));
        queue.wrote(5, at(2));
        assert_eq!((queue.len(), queue.bytes()), (3, 35));
        queue.left(9, at(3), Some(&mut stats));
        assert_eq!((queue.len(), queue.bytes(), stats.queue.is_none()), (3, 26, true));
        queue.left(21, at(5), Some(&mut stats));
        assert_eq!((queue.len(), queue.bytes()), (1, 5));
        // Behind the first were two, behind the second one. They waited for 4 and 3 ms.
        let measured = stats.queue.clone().expect("two were complete");
        assert_eq!((measured.len.tally().sum, measured.len.tally().count), (3, 2));
        assert_eq!((measured.time.in_ms().sum, measured.time.in_ms().max), (7, 4));
        // Of a learner that has not said who it is nothing is kept.
        queue.left(5, at(9), None);
        assert_eq!((queue.len(), queue.bytes(), stats.queue.expect("it stays").len.tally().count), (0, 0, 2));
    }
}
