//! Checks files without changing anything: used by `zabra log verify`, `zabra snapshot verify` and the purge. Mirrors
//! `TxnLogToolkit`, `SnapshotFormatter`, `SnapStream.isValidSnapshot`.
//!
//! To dump a log use [`LogReader`] itself: `next_record` returns offset and record, `end` how the file ends. To dump a
//! snapshot pass a [`Sink`] to [`read_snapshot`].

use std::io;

use super::disk::Dir;
use super::names::{LogFile, SnapshotFile, list_logs, parse_snapshot_name};
use super::record::{Record, follows};
use super::scan::{End, LogReader};
use super::snapshot_read::{Node, Sink, SnapshotError, Tail, read_file};
use crate::types::{Acl, AclId, SessionId, Zxid};

/// The result of checking one log file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogVerdict {
    /// The file's name.
    pub name: String,
    /// Number of whole records.
    pub records: u64,
    /// Zxids of the first and the last one.
    pub range: Option<(Zxid, Zxid)>,
    /// Number of records with Zabra's trailer; only these have a chain to check.
    pub chained: u64,
    /// Number of records with a digest of the tree.
    pub digests: u64,
    /// Gaps: offset of a record, the zxid that it should follow, and its own zxid. A gap is no loss if a snapshot was
    /// installed there.
    pub holes: Vec<(u64, Zxid, Zxid)>,
    /// How the file ends.
    pub end: End,
}

impl LogVerdict {
    /// Whether the file is without faults. A torn end is allowed if it is the last file.
    pub fn is_sound(&self, is_last: bool) -> bool {
        self.holes.is_empty()
            && match self.end {
                End::Clean { .. } => true,
                End::Torn { .. } => is_last,
                End::Corrupt { .. } => false,
            }
    }
}

/// Reads one log file to its end. `before` is the last transaction of the file before it, if known; `each` is called
/// with every record and its offset.
pub fn log_file<D: Dir>(
    dir: &D,
    name: &str,
    before: Option<Zxid>,
    mut each: impl FnMut(u64, &Record<'_>),
) -> io::Result<LogVerdict> {
    let mut log = LogReader::open(dir, name)?;
    let mut v = LogVerdict {
        name: name.to_owned(),
        records: 0,
        range: None,
        chained: 0,
        digests: 0,
        holes: Vec::new(),
        end: End::Clean { at: 0 },
    };
    let mut seen = before;
    while let Some((at, record)) = log.next_record()? {
        let z = record.header.zxid;
        if let Some(s) = seen
            && z != s
            && !follows(&record, Zxid::ZERO, seen)
        {
            v.holes.push((at, s, z));
        }
        seen = Some(z);
        v.range = Some((v.range.map_or(z, |r| r.0), z));
        v.records += 1;
        v.chained += u64::from(record.trailer.is_some());
        v.digests += u64::from(record.digest.is_some());
        each(at, &record);
    }
    assert_eq!(v.range.is_some(), v.records > 0, "the range of {} records", v.records);
    assert!(v.chained <= v.records && v.digests <= v.records, "{v:?}");
    assert!(v.holes.len() as u64 <= v.records, "more holes than records: {v:?}");
    if let Some(end) = log.end() {
        v.end = end.clone();
    }
    Ok(v)
}

/// Reads every log of a directory, oldest first.
pub fn logs<D: Dir>(dir: &D) -> io::Result<Vec<LogVerdict>> {
    let mut before = None;
    let mut verdicts = Vec::new();
    for LogFile { name, .. } in list_logs(dir)? {
        let v = log_file(dir, &name, before, |_, _| {})?;
        before = v.range.map(|r| r.1).or(before);
        verdicts.push(v);
    }
    Ok(verdicts)
}

/// Counts of what a snapshot contains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// ACL lists.
    pub acls: u64,
    /// Znodes, including the root.
    pub nodes: u64,
    /// Bytes of data in the znodes.
    pub data_bytes: u64,
}

impl Sink for Counts {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        self.sessions += 1;
        Ok(())
    }
    fn acl(&mut self, _: AclId, _: Vec<Acl>) -> Result<(), String> {
        self.acls += 1;
        Ok(())
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.nodes += 1;
        self.data_bytes += node.data.map_or(0, |d| d.len() as u64);
        Ok(())
    }
}

/// Reads a snapshot file into `sink` and checks every seal.
pub fn read_snapshot<D: Dir>(dir: &D, name: &str, sink: &mut impl Sink) -> Result<Tail, SnapshotError> {
    let (zxid, compression) = parse_snapshot_name(name).ok_or_else(|| {
        SnapshotError::Io(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a snapshot's name")))
    })?;
    read_file(dir.open(name)?, zxid, compression, sink)
}

/// Whether a snapshot is whole; reads all of it.
pub fn is_whole<D: Dir>(dir: &D, file: &SnapshotFile) -> bool {
    read_snapshot(dir, &file.name, &mut Counts::default()).is_ok()
}
