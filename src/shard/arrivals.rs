//! When the input arrived that a connection has at the request throttler.

use std::collections::VecDeque;

/// Most pieces of input per connection whose times of arrival are recorded. Later pieces then count as part of the last
/// one, so they look younger.
const MOST: usize = 256;

/// What is recorded about a connection that waits at the throttler.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Pieces of its input: number of bytes, and time of arrival in milliseconds.
    pieces: VecDeque<(usize, i64)>,
    /// Number of bytes in all pieces.
    pub(super) bytes: usize,
    /// The client has closed the connection, but its requests are to be executed all the same.
    pub(super) eof: bool,
}

impl Arrivals {
    /// Records `bytes` more.
    pub(super) fn add(&mut self, bytes: usize, now_ms: i64) {
        assert!(self.pieces.back().is_none_or(|(_, last)| *last <= now_ms), "bytes come before those before them");
        self.bytes += bytes;
        let full = self.pieces.len() >= MOST;
        match self.pieces.back_mut() {
            Some(last) if full || last.1 == now_ms => *last = (last.0 + bytes, now_ms),
            _ => self.pieces.push_back((bytes, now_ms)),
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Removes the records of the first `bytes` bytes.
    pub(super) fn consume(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes are taken of {} that wait", self.bytes);
        self.bytes -= bytes;
        while let Some(first) = self.pieces.front_mut() {
            if first.0 > bytes {
                first.0 -= bytes;
                return;
            }
            bytes -= first.0;
            self.pieces.pop_front();
        }
    }

    /// Time of arrival of the last byte before position `end`.
    pub(super) fn arrived_ms(&self, end: usize) -> Option<i64> {
        let mut sum = 0;
        self.pieces.iter().find_map(|(bytes, ms)| {
            sum += bytes;
            (sum >= end).then_some(*ms)
        })
    }
}
