//! Smallest, greatest, sum and count of something measured. Mirrors `AvgMinMaxCounter` and its sets by namespace.

use hashbrown::HashMap;

/// Smallest, greatest, sum and count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub min: u64,
    pub max: u64,
    pub sum: u64,
    pub count: u64,
}

impl Tally {
    /// Counts one.
    #[inline]
    pub fn record(&mut self, v: u64) {
        self.min = if self.count == 0 { v } else { self.min.min(v) };
        self.max = self.max.max(v);
        self.sum += v;
        self.count += 1;
    }

    /// The mean, 0 without values.
    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Both together.
    pub fn merge(&self, other: &Tally) -> Tally {
        match (self.count, other.count) {
            (0, _) => *other,
            (_, 0) => *self,
            _ => Tally {
                min: self.min.min(other.min),
                max: self.max.max(other.max),
                sum: self.sum + other.sum,
                count: self.count + other.count,
            },
        }
    }
}

/// Namespaces kept: further ones are not counted, so that a client cannot fill the memory with names.
const NAMESPACES: usize = 1000;

/// One tally per first element of a path.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(HashMap<Box<str>, Tally, foldhash::fast::FixedState>);

impl Namespaces {
    /// `a` of `/a/b` and of `/a`; none of the root.
    pub fn of(path: &str) -> Option<&str> {
        let rest = path.strip_prefix('/')?;
        // Names are short: a loop over bytes beats the searcher behind `split`.
        let end = rest.bytes().position(|b| b == b'/').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|n| !n.is_empty())
    }

    /// Counts `v` for the namespace of `path`.
    #[inline]
    pub fn record(&mut self, path: &str, v: u64) {
        let Some(name) = Namespaces::of(path) else { return };
        if let Some(tally) = self.0.get_mut(name) {
            tally.record(v);
        } else if self.0.len() < NAMESPACES {
            self.0.entry(name.into()).or_default().record(v);
        }
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Namespaces) {
        for (name, tally) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = mine.merge(tally);
        }
    }

    /// The same names with nothing counted, as ZooKeeper's sets are after `srst`.
    pub fn emptied(&self) -> Namespaces {
        Namespaces(self.0.keys().map(|name| (name.clone(), Tally::default())).collect())
    }

    /// Names in order, and what was counted.
    pub fn sorted(&self) -> Vec<(&str, Tally)> {
        let mut all: Vec<(&str, Tally)> = self.0.iter().map(|(name, tally)| (&**name, *tally)).collect();
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
        assert_eq!(n.sorted(), [("a", a), ("b", b)]);
        assert_eq!(n.emptied().sorted(), [("a", Tally::default()), ("b", Tally::default())]);
        (0..2 * NAMESPACES).for_each(|i| n.record(&format!("/n{i}"), 1));
        assert_eq!(n.sorted().len(), NAMESPACES);
    }
}
