//! File names of the data directory. Mirrors `Util.makeLogName`, `makeSnapshotName`, `getZxidFromName`, `sortDataDir`.

use std::io;

use super::disk::Dir;
use crate::types::Zxid;

/// Names of the files that hold the epoch last accepted and the current epoch.
pub const ACCEPTED_EPOCH: &str = "acceptedEpoch";
/// See [`ACCEPTED_EPOCH`].
pub const CURRENT_EPOCH: &str = "currentEpoch";

/// Beginning of a snapshot's name while it is being written. Apache takes `snapshot.<zxid>.tmp` for a snapshot, so the
/// names of our unfinished ones must not begin with `snapshot.`.
pub const SNAPSHOT_TMP_PREFIX: &str = "tmp.snapshot.";

/// How a snapshot file is compressed, as its name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// `.gz`.
    Gzip,
    /// `.snappy`: the stream format of snappy-java.
    Snappy,
}

impl Compression {
    /// Parses `zookeeper.snapshot.compression.method`; as in Apache an unknown word means no compression.
    pub fn from_property(word: &str) -> Compression {
        match word {
            w if w.eq_ignore_ascii_case("gz") => Compression::Gzip,
            w if w.eq_ignore_ascii_case("snappy") => Compression::Snappy,
            _ => Compression::None,
        }
    }

    /// The extension of the file name.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// The name of the log whose first transaction is `first`.
///
/// # Panics
/// If there is no such transaction: a bug of ours.
pub fn log_name(first: Zxid) -> String {
    assert!(first > Zxid::ZERO, "no log begins with {first}: the first transaction is 1");
    format!("log.{:x}", first.0)
}

/// The name of the snapshot taken at `zxid`.
///
/// # Panics
/// If there is no such transaction: a bug of ours.
pub fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    assert!(zxid >= Zxid::ZERO, "a snapshot as of {zxid} would not be found again");
    format!("snapshot.{:x}{}", zxid.0, compression.extension())
}

/// The zxid in a log's name; `None` if it is not the name of a log.
pub fn parse_log_name(name: &str) -> Option<Zxid> {
    parse_zxid(name.strip_prefix("log.")?)
}

/// The zxid and the compression in a snapshot's name; `None` if it is not the name of a finished snapshot.
pub fn parse_snapshot_name(name: &str) -> Option<(Zxid, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (hex, compression) = match rest.split_once('.') {
        None => (rest, Compression::None),
        Some((hex, "gz")) => (hex, Compression::Gzip),
        Some((hex, "snappy")) => (hex, Compression::Snappy),
        Some(_) => return None,
    };
    Some((parse_zxid(hex)?, compression))
}

fn parse_zxid(hex: &str) -> Option<Zxid> {
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(hex, 16).ok().map(Zxid)
}

/// A log file in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct LogFile {
    pub first: Zxid,
    pub name: String,
    pub len: u64,
}

/// A snapshot file in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SnapshotFile {
    pub zxid: Zxid,
    pub name: String,
    pub len: u64,
    pub compression: Compression,
}

/// The logs of `dir`, oldest first.
pub fn list_logs<D: Dir>(dir: &D) -> io::Result<Vec<LogFile>> {
    let mut logs: Vec<LogFile> = dir
        .list()?
        .into_iter()
        .filter_map(|(name, len)| parse_log_name(&name).map(|first| LogFile { first, name, len }))
        .collect();
    logs.sort_by_key(|f| f.first);
    Ok(logs)
}

/// The snapshots of `dir`, newest first.
pub fn list_snapshots<D: Dir>(dir: &D) -> io::Result<Vec<SnapshotFile>> {
    let mut snapshots: Vec<SnapshotFile> = dir
        .list()?
        .into_iter()
        .filter_map(|(name, len)| {
            parse_snapshot_name(&name).map(|(zxid, compression)| SnapshotFile { zxid, name, len, compression })
        })
        .collect();
    snapshots.sort_by(|a, b| b.zxid.cmp(&a.zxid).then_with(|| a.name.cmp(&b.name)));
    Ok(snapshots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apaches() {
        assert_eq!(log_name(Zxid(0x3_0000_00ff)), "log.3000000ff");
        assert_eq!(snapshot_name(Zxid(0), Compression::Gzip), "snapshot.0.gz");
        assert_eq!(parse_log_name("log.3000000ff"), Some(Zxid(0x3_0000_00ff)));
        assert_eq!(parse_log_name("log."), None);
        assert_eq!(parse_log_name("log.+1"), None);
        assert_eq!(parse_log_name("log.zz"), None);
        assert_eq!(parse_snapshot_name("snapshot.a.snappy"), Some((Zxid(10), Compression::Snappy)));
        assert_eq!(parse_snapshot_name("snapshot.a.tmp"), None);
        assert_eq!(parse_snapshot_name("tmp.snapshot.a"), None);
    }
}
