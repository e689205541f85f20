//! The data of quota znodes. Mirrors `StatsTrack` and `Quotas`.

use std::collections::BTreeMap;
use std::fmt;

use super::error::ShellError;
use crate::types::path::{LIMIT_NODE, QUOTA, STAT_NODE};

/// Key of the soft limit on znodes, and of the number of znodes used.
pub(crate) const COUNT: &str = "count";
/// Key of the soft limit on bytes, and of the number of bytes used.
pub(crate) const BYTES: &str = "bytes";
/// Key of the hard limit on nodes.
pub(crate) const COUNT_HARD: &str = "countHardLimit";
/// Key of the hard limit on bytes.
pub(crate) const BYTES_HARD: &str = "byteHardLimit";

/// Limits or usage: numbers by key; -1 means not set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StatsTrack(BTreeMap<String, i64>);

impl StatsTrack {
    /// Parses a znode's data.
    pub(crate) fn parse(data: Option<&[u8]>) -> Result<StatsTrack, ShellError> {
        let text = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
        let mut stats = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|p| !p.is_empty()) {
            let number = pair.split_once('=').and_then(|(key, number)| {
                // For old readers, an extra `=` stands in front of the hard limits.
                let number = number.trim_end_matches('=');
                Some((key, if number.is_empty() { -1 } else { number.parse().ok()? }))
            });
            let Some((key, number)) = number else {
                return Err(ShellError::new(format!("Malformed quota \"{text}\"")));
            };
            stats.insert(key.to_owned(), number);
        }
        Ok(StatsTrack(stats))
    }

    /// The number of a key.
    pub(crate) fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    /// Replaces the number of a key.
    pub(crate) fn set(&mut self, key: &str, number: i64) {
        self.0.insert(key.to_owned(), number);
    }
}

impl fmt::Display for StatsTrack {
    /// `count=N,bytes=M`, and with more keys `count=N,bytes=M=;key=X…`, sorted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COUNT}={},{BYTES}={}", self.get(COUNT), self.get(BYTES))?;
        let mut more = self.0.iter().filter(|(k, _)| *k != COUNT && *k != BYTES).peekable();
        if more.peek().is_some() {
            f.write_str("=")?;
        }
        more.try_for_each(|(key, number)| write!(f, ";{key}={number}"))
    }
}

/// The path of the quota znode for `path`.
pub(crate) fn node(path: &str) -> String {
    format!("{QUOTA}{path}")
}

/// The path of the znode with its limits.
pub(crate) fn limits(path: &str) -> String {
    format!("{QUOTA}{path}/{LIMIT_NODE}")
}

/// The path of the znode with its usage.
pub(crate) fn usage(path: &str) -> String {
    format!("{QUOTA}{path}/{STAT_NODE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let mut t = StatsTrack::default();
        t.set(COUNT, 5);
        assert_eq!(t.to_string(), "count=5,bytes=-1");
        t.set(COUNT_HARD, 7);
        t.set(BYTES_HARD, -1);
        let text = "count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=7";
        assert_eq!(t.to_string(), text);
        assert_eq!(
            StatsTrack::parse(Some(text.as_bytes())),
            Ok(StatsTrack({
                let mut m = t.0.clone();
                m.insert(BYTES.into(), -1);
                m
            }))
        );
        assert_eq!(StatsTrack::parse(Some(b"count=,bytes=3")).unwrap().get(COUNT), -1);
        assert_eq!(StatsTrack::parse(None).unwrap().to_string(), "count=-1,bytes=-1");
        assert!(StatsTrack::parse(Some(b"count=x")).is_err());
        assert!(StatsTrack::parse(Some(b"count")).is_err());
    }

    #[test]
    fn places() {
        assert_eq!(limits("/a"), "/zookeeper/quota/a/zookeeper_limits");
        assert_eq!(usage("/a"), "/zookeeper/quota/a/zookeeper_stats");
        assert_eq!(node("/a"), "/zookeeper/quota/a");
    }
}
