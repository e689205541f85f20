//! The latencies of requests, in whole milliseconds. Mirrors the figures of `ConnectionStats`.

/// Minimum, maximum, sum and count of latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Latency {
    pub min_ms: i64,
    pub max_ms: i64,
    pub total_ms: i64,
    pub count: u64,
}

impl Latency {
    /// Adds one request.
    #[inline]
    pub fn record(&mut self, ms: i64) {
        self.min_ms = if self.count == 0 { ms } else { self.min_ms.min(ms) };
        self.max_ms = self.max_ms.max(ms);
        self.total_ms += ms;
        self.count += 1;
    }

    /// The mean, 0 without requests.
    pub fn average_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total_ms as f64 / self.count as f64 }
    }

    /// The statistics of both together.
    pub fn merge(&self, other: &Latency) -> Latency {
        match (self.count, other.count) {
            (0, _) => *other,
            (_, 0) => *self,
            _ => Latency {
                min_ms: self.min_ms.min(other.min_ms),
                max_ms: self.max_ms.max(other.max_ms),
                total_ms: self.total_ms + other.total_ms,
                count: self.count + other.count,
            },
        }
    }
}
