//! Minimum, maximum, sum and count of measured values. Mirrors `AvgMinMaxCounter` and `AvgMinMaxCounterSet`.

use hashbrown::HashMap;

use super::Distribution;

/// Minimum, maximum, sum and count of measured values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub min: u64,
    pub max: u64,
    pub sum: u64,
    pub count: u64,
}

impl Tally {
    /// Adds one value.
    #[inline]
    pub fn record(&mut self, v: u64) {
        self.record_n(v, 1);
    }

    /// Adds a value that was seen `n` times.
    #[inline]
    pub fn record_n(&mut self, v: u64, n: u64) {
        self.min = if self.count == 0 { v } else { self.min.min(v) };
        self.max = self.max.max(v);
        self.sum = self.sum.saturating_add(v.saturating_mul(n));
        self.count += n;
    }

    /// The mean, 0 without values.
    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The tally of both sets of values.
    pub fn merge(&self, other: &Tally) -> Tally {
        match (self.count, other.count) {
            (0, _) => *other,
            (_, 0) => *self,
            _ => Tally {
                min: self.min.min(other.min),
                max: self.max.max(other.max),
                sum: self.sum.saturating_add(other.sum),
                count: self.count + other.count,
            },
        }
    }
}

/// Most namespaces that are counted. Values of further ones are dropped, so that clients cannot fill the memory with
/// names.
const NAMESPACES: usize = 1000;

/// One distribution for each namespace: the first element of a path.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(HashMap<Box<str>, Distribution, foldhash::fast::FixedState>);

impl Namespaces {
    /// The namespace of a path: `a` for `/a/b` and for `/a`; none for the root.
    pub fn of(path: &str) -> Option<&str> {
        let rest = path.strip_prefix('/')?;
        // Names are short, so a loop over bytes is faster than the search that `split` uses.
        let end = rest.bytes().position(|b| b == b'/').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|n| !n.is_empty())
    }

    /// Adds a value to the namespace of `path`.
    #[inline]
    pub fn record(&mut self, path: &str, v: u64) {
        let Some(name) = Namespaces::of(path) else { return };
        if let Some(values) = self.0.get_mut(name) {
            values.record(v);
        } else if self.0.len() < NAMESPACES {
            self.0.entry(name.into()).or_default().record(v);
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Namespaces) {
        for (name, values) in &other.0 {
            self.0.entry(name.clone()).or_default().merge(values);
        }
    }

    /// The same namespaces without values: what ZooKeeper's sets look like after `srst`.
    pub fn emptied(&self) -> Namespaces {
        Namespaces(self.0.keys().map(|name| (name.clone(), Distribution::default())).collect())
    }

    /// The namespaces in alphabetical order, with their values.
    pub fn sorted(&self) -> Vec<(&str, &Distribution)> {
        let mut all: Vec<(&str, &Distribution)> = self.0.iter().map(|(name, values)| (&**name, values)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        assert_eq!(a.average(), 0.0);
        a.record(4);
        a.record(2);
        assert_eq!(a, Tally { min: 2, max: 4, sum: 6, count: 2 });
        assert_eq!(a.merge(&b), a);
        assert_eq!(b.merge(&a), a);
        b.record(9);
        assert_eq!(b.merge(&a), Tally { min: 2, max: 9, sum: 15, count: 3 });
    }

    #[test]
    fn namespaces() {
        let mut n = Namespaces::default();
        for (path, v) in [("/a/b", 1), ("/a", 3), ("/b/c/d", 7), ("/", 9), ("", 9), ("x", 9)] {
            n.record(path, v);
        }
        let a = Tally { min: 1, max: 3, sum: 4, count: 2 };
        let b = Tally { min: 7, max: 7, sum: 7, count: 1 };
        let tallies = |n: &Namespaces| -> Vec<(String, Tally)> {
            n.sorted().into_iter().map(|(name, values)| (name.to_owned(), values.tally())).collect()
        };
        assert_eq!(tallies(&n), [("a".to_owned(), a), ("b".to_owned(), b)]);
        assert_eq!(tallies(&n.emptied()), [("a".to_owned(), Tally::default()), ("b".to_owned(), Tally::default())]);
        (0..2 * NAMESPACES).for_each(|i| n.record(&format!("/n{i}"), 1));
        assert_eq!(n.sorted().len(), NAMESPACES);
    }
}
