//! Latencies as ZooKeeper's metrics show them. Plays the part of `AvgMinMaxPercentileCounter`.

use super::{Distribution, Tally};

/// Latencies with their quantiles, to two significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    us: Distribution,
    /// The sum of whole milliseconds, as ZooKeeper counts them.
    sum_ms: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { us: Distribution::with_digits(2), sum_ms: 0 }
    }
}

impl Latencies {
    /// Adds one request.
    #[inline]
    pub fn record(&mut self, us: u64) {
        self.record_n(us, 1);
    }

    /// Counts `n` requests that took equally long.
    #[inline]
    pub fn record_n(&mut self, us: u64, n: u64) {
        self.us.record_n(us, n);
        self.sum_ms += us / 1000 * n;
    }

    /// Adds the latencies of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        self.us.merge(&other.us);
        self.sum_ms += other.sum_ms;
    }

    /// In microseconds.
    pub fn us(&self) -> &Distribution {
        &self.us
    }

    /// In whole milliseconds.
    pub fn in_ms(&self) -> Tally {
        let us = self.us.tally();
        Tally { min: us.min / 1000, max: us.max / 1000, sum: self.sum_ms, count: us.count }
    }

    /// The milliseconds that this part (0 to 1) of all requests did not pass; 0 without requests.
    pub fn percentile_ms(&self, part: f64) -> i64 {
        (self.us.quantile(part, None).unwrap_or(0) / 1000) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut l = Latencies::default();
        assert_eq!(l.percentile_ms(0.5), 0);
        (1..=1000).for_each(|ms| l.record(ms * 1000 + 999));
        let ps = [0.5, 0.95, 0.99, 0.999].map(|p| l.percentile_ms(p));
        for (got, exact) in ps.iter().zip([500, 950, 990, 999]) {
            assert!((got - exact).abs() * 100 <= exact, "{ps:?}");
        }
        let mut both = Latencies::default();
        both.record(5_000_000);
        both.merge(&l);
        assert_eq!(both.in_ms(), Tally { min: 1, max: 5000, sum: 505_500, count: 1001 });
        assert!((4950..=5000).contains(&both.percentile_ms(1.0)));
        // What is below a millisecond is 0 in whole ones, and is not lost.
        let mut quick = Latencies::default();
        quick.record_n(230, 3);
        assert_eq!((quick.in_ms().sum, quick.percentile_ms(0.99), quick.us().tally().sum), (0, 0, 690));
        assert_eq!(quick.us().quantile(0.5, None), Some(230));
    }
}
