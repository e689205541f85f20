//! Quantiles of measured values. Plays the part of the `Summary` of the Prometheus client that ZooKeeper uses.

use hdrhistogram::Histogram;

use super::Tally;

/// Significant digits of a quantile by default: an error of at most 4 %, with a few hundred bytes of memory.
const DIGITS: u8 = 1;

/// A [`Tally`] with quantiles. Values are only added, so the values of a period are the difference of two copies.
#[derive(Clone, Debug)]
pub struct Distribution {
    all: Tally,
    histogram: Histogram<u64>,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution::with_digits(DIGITS)
    }
}

/// Two distributions are equal if they were made of the same values.
impl PartialEq for Distribution {
    fn eq(&self, other: &Distribution) -> bool {
        self.all == other.all && self.histogram == other.histogram
    }
}

impl Distribution {
    /// A distribution without values, whose quantiles have this many significant digits.
    pub fn with_digits(digits: u8) -> Distribution {
        Distribution {
            all: Tally::default(),
            histogram: Histogram::new(digits).expect("a number of digits that a histogram takes"),
        }
    }

    /// A distribution of one value.
    pub fn of(v: u64) -> Distribution {
        let mut one = Distribution::default();
        one.record(v);
        one
    }

    /// Adds one value.
    #[inline]
    pub fn record(&mut self, v: u64) {
        self.record_n(v, 1);
    }

    /// Adds a value that was seen `n` times.
    #[inline]
    pub fn record_n(&mut self, v: u64, n: u64) {
        self.all.record_n(v, n);
        self.histogram.record_n(v, n).expect("it grows with its values");
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Distribution) {
        self.all = self.all.merge(&other.all);
        self.histogram.add(&other.histogram).expect("it grows with its values");
    }

    /// Minimum, maximum, sum and count.
    pub fn tally(&self) -> Tally {
        self.all
    }

    /// The quantile `part` (0 to 1) of the values that were added after the copy `earlier` was made, or of all values
    /// if there is no copy. `None` if there are no such values.
    pub fn quantile(&self, part: f64, earlier: Option<&Distribution>) -> Option<u64> {
        let mut histogram = self.histogram.clone();
        // After a reset in between, the earlier copy cannot be subtracted; then all values count.
        if earlier.is_some_and(|earlier| histogram.subtract(&earlier.histogram).is_err()) {
            histogram = self.histogram.clone();
        }
        let near = |v| histogram.median_equivalent(v).clamp(self.all.min, self.all.max);
        (!histogram.is_empty()).then(|| near(histogram.value_at_quantile(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut d = Distribution::default();
        assert_eq!(d.quantile(0.5, None), None);
        (1..=10_000).for_each(|v| d.record(v));
        for part in [0.01, 0.5, 0.9, 0.99] {
            let (got, exact) = (d.quantile(part, None).unwrap() as f64, part * 10_000.0);
            assert!((got - exact).abs() <= exact * 0.04, "{part}: {got}");
        }
        assert_eq!(Distribution::of(123_456_789).quantile(0.5, None), Some(123_456_789));
        assert_eq!(Distribution::of(0).quantile(0.99, None), Some(0));
        assert_eq!(Distribution::of(u64::MAX).quantile(0.5, None), Some(u64::MAX));
    }

    #[test]
    fn a_period_has_the_values_that_came_in_it() {
        let mut d = Distribution::default();
        (0..1000).for_each(|_| d.record(5));
        let earlier = d.clone();
        assert_eq!(d.quantile(0.5, Some(&earlier)), None);
        d.record_n(900, 3);
        assert_eq!(d.quantile(0.5, None), Some(5));
        assert_eq!(d.quantile(0.01, Some(&earlier)), Some(900));
        assert_eq!(Distribution::of(7).quantile(0.5, Some(&earlier)), Some(7), "it was reset");
    }

    #[test]
    fn merged_is_as_if_counted_together() {
        let (mut a, mut b, mut both) = (Distribution::default(), Distribution::default(), Distribution::default());
        for v in [3, 1 << 40, 17] {
            a.record(v);
            both.record(v);
        }
        b.record_n(4, 2);
        both.record_n(4, 2);
        a.merge(&b);
        assert_eq!(a, both);
        assert_eq!(a.tally().count, 5);
    }
}
