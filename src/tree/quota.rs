//! Quotas: limits and usage in znodes below `/zookeeper/quota`. Mirrors `Quotas`, `StatsTrack` and the quota methods of `DataTree`.
//!
//! Creating `/zookeeper/quota<path>/zookeeper_limits` makes `<path>` a quota prefix, deleting it ends that. Usage is written
//! into `zookeeper_stats` beside it, without touching that znode's stat; only the deepest prefix of a path is charged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::types::path::{LIMIT_NODE, QUOTA, STAT_NODE};

use super::Tree;

/// The text of a limits or stats node: `count=N,bytes=M`, with hard limits `count=N,bytes=M=;byteHardLimit=X;countHardLimit=Y`
/// (the lone `=` makes parsers of 3.4 stop there). What is absent is -1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatsTrack {
    values: BTreeMap<String, i64>,
}

const COUNT: &str = "count";
const BYTES: &str = "bytes";
const COUNT_HARD: &str = "countHardLimit";
const BYTES_HARD: &str = "byteHardLimit";

impl StatsTrack {
    /// Reads the text. Pairs whose value is not a number are ignored, because a client may have written anything here.
    pub fn parse(data: Option<&[u8]>) -> StatsTrack {
        let text = String::from_utf8_lossy(data.unwrap_or_default());
        let mut values = BTreeMap::new();
        for pair in text.split([',', ';']) {
            let mut parts = pair.split('=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
            let value = if value.is_empty() { Ok(-1) } else { value.parse() };
            if let Ok(value) = value {
                values.insert(key.to_owned(), value);
            }
        }
        StatsTrack { values }
    }

    fn value(&self, key: &str) -> i64 {
        self.values.get(key).copied().unwrap_or(-1)
    }

    /// Znodes, or the soft limit of them.
    pub fn count(&self) -> i64 {
        self.value(COUNT)
    }

    /// Bytes of data, or the soft limit of them.
    pub fn bytes(&self) -> i64 {
        self.value(BYTES)
    }

    /// The hard limit of znodes.
    pub fn count_hard_limit(&self) -> i64 {
        self.value(COUNT_HARD)
    }

    /// The hard limit of bytes.
    pub fn byte_hard_limit(&self) -> i64 {
        self.value(BYTES_HARD)
    }

    pub(crate) fn set(&mut self, count: i64, bytes: i64) {
        self.values.insert(COUNT.to_owned(), count);
        self.values.insert(BYTES.to_owned(), bytes);
    }
}

impl fmt::Display for StatsTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COUNT}={},{BYTES}={}", self.count(), self.bytes())?;
        let others = self.values.iter().filter(|(k, _)| !matches!(k.as_str(), COUNT | BYTES));
        for (i, (key, value)) in others.enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "=;" } else { ";" })?;
        }
        Ok(())
    }
}

/// A quota: its limits and its usage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaState {
    /// The subtree it is for.
    pub prefix: String,
    /// What `zookeeper_limits` says.
    pub limits: StatsTrack,
    /// What `zookeeper_stats` says; `None` if there is no such znode, and then nothing is counted.
    pub usage: Option<StatsTrack>,
}

/// The prefixes with a limits node.
#[derive(Default)]
pub(super) struct Quotas {
    prefixes: BTreeSet<String>,
}

impl Quotas {
    /// The longest prefix that is `path` or an ancestor of it.
    #[inline]
    pub(super) fn deepest(&self, path: &str) -> Option<&str> {
        if self.prefixes.is_empty() {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if let Some(p) = self.prefixes.get(at) {
                return Some(p);
            }
            at = &at[..at.rfind('/')?];
        }
        None
    }

    pub(super) fn prefixes(&self) -> &BTreeSet<String> {
        &self.prefixes
    }
}

fn limit_path(prefix: &str) -> String {
    format!("{QUOTA}{prefix}/{LIMIT_NODE}")
}

fn stat_path(prefix: &str) -> String {
    format!("{QUOTA}{prefix}/{STAT_NODE}")
}

/// The prefix a quota node is for: `/zookeeper/quota/a/b/<name>` → `/a/b`. Directly below `/zookeeper/quota` there is none.
fn prefix_of<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(QUOTA)?.strip_suffix(name)?.strip_suffix('/')?;
    rest.starts_with('/').then_some(rest)
}

impl Tree {
    /// The quota `path` is charged to, if any: the deepest.
    pub fn quota(&self, path: &str) -> Option<QuotaState> {
        let prefix = self.quotas.deepest(path)?;
        Some(self.quota_state(prefix))
    }

    /// All quotas, by prefix.
    pub fn all_quotas(&self) -> impl Iterator<Item = QuotaState> {
        self.quotas.prefixes.iter().map(|p| self.quota_state(p))
    }

    fn quota_state(&self, prefix: &str) -> QuotaState {
        let limits = self.get(&limit_path(prefix)).and_then(|z| z.data());
        let usage = self.get(&stat_path(prefix)).map(|z| StatsTrack::parse(z.data()));
        QuotaState { prefix: prefix.to_owned(), limits: StatsTrack::parse(limits), usage }
    }

    /// After a create: a limits node starts a quota, a stats node gets the usage, and the quota of `path` is charged.
    pub(super) fn quota_after_create(&mut self, path: &str, data_len: usize) {
        if let Some(prefix) = prefix_of(path, LIMIT_NODE) {
            self.quotas.prefixes.insert(prefix.to_owned());
        } else if let Some(prefix) = prefix_of(path, STAT_NODE) {
            self.count_usage(prefix);
        }
        self.charge(path, 1, data_len as i64);
    }

    /// After a delete.
    pub(super) fn quota_after_delete(&mut self, path: &str, data_len: usize) {
        if let Some(prefix) = prefix_of(path, LIMIT_NODE) {
            self.quotas.prefixes.remove(prefix);
        }
        self.charge(path, -1, -(data_len as i64));
    }

    /// Adds to the usage of the quota that `path` is charged to.
    pub(super) fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(prefix) = self.quotas.deepest(path) else { return };
        let stat_path = stat_path(prefix);
        let Some(slot) = self.find(&stat_path) else { return };
        let mut usage = StatsTrack::parse(self.slab.get(slot).data());
        usage.set(usage.count().wrapping_add(count), usage.bytes().wrapping_add(bytes));
        self.edit_data(slot, &stat_path, Some(usage.to_string().as_bytes()), None, |_| {});
    }

    /// Counts a subtree, itself included, into its stats node.
    fn count_usage(&mut self, prefix: &str) {
        let stat_path = stat_path(prefix);
        let Some(stat_slot) = self.find(&stat_path) else { return };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.find(prefix) {
            for slot in self.subtree(top) {
                count += 1;
                bytes += self.slab.get(slot).data_len() as i64;
            }
        }
        let mut usage = StatsTrack::default();
        usage.set(count, bytes);
        self.edit_data(stat_slot, &stat_path, Some(usage.to_string().as_bytes()), None, |_| {});
    }

    /// After loading: limits nodes (those that are leaves) start their quotas, and usage is counted anew.
    pub(super) fn activate_quotas(&mut self) {
        let Some(top) = self.find(QUOTA) else { return };
        let leaves = |t: &Tree, s: u32| t.slab.get(s).num_children == 0 && t.slab.get(s).name() == LIMIT_NODE;
        let found: Vec<String> = self.subtree(top).filter(|s| leaves(self, *s)).map(|s| self.path_of(s)).collect();
        for prefix in found.iter().filter_map(|p| prefix_of(p, LIMIT_NODE)) {
            self.count_usage(prefix);
            self.quotas.prefixes.insert(prefix.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let t = StatsTrack::parse(Some(b"count=4,bytes=5=;countHardLimit=10;byteHardLimit=20"));
        assert_eq!((t.count(), t.bytes(), t.count_hard_limit(), t.byte_hard_limit()), (4, 5, 10, 20));
        assert_eq!(t.to_string(), "count=4,bytes=5=;byteHardLimit=20;countHardLimit=10");
        assert_eq!(StatsTrack::parse(Some(b"count=1,bytes=2")).to_string(), "count=1,bytes=2");
        assert_eq!(StatsTrack::parse(None).to_string(), "count=-1,bytes=-1");
        let odd = StatsTrack::parse(Some(b"count=;;,bytes=x,=,\xff"));
        assert_eq!((odd.count(), odd.bytes()), (-1, -1));
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix_of("/zookeeper/quota/a/b/zookeeper_limits", LIMIT_NODE), Some("/a/b"));
        assert_eq!(prefix_of("/zookeeper/quota/zookeeper_limits", LIMIT_NODE), None);
        assert_eq!(prefix_of("/zookeeper/quotas/a/zookeeper_limits", LIMIT_NODE), None);
        assert_eq!(prefix_of("/a/zookeeper_limits", LIMIT_NODE), None);
        let q = Quotas { prefixes: ["/a", "/a/b"].map(String::from).into() };
        assert_eq!(q.deepest("/a/b/c"), Some("/a/b"));
        assert_eq!(q.deepest("/a/bc"), Some("/a"));
        assert_eq!((q.deepest("/ab"), q.deepest("/")), (None, None));
    }
}
