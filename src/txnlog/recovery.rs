//! Recovers the state from a data directory: loads the newest whole snapshot, then applies every transaction after it.
//! Mirrors `FileTxnSnapLog.restore`, `fastForwardFromEdits`, `FileSnap.deserialize`.
//!
//! One rule is not Apache's: a history that cannot be shown to be complete is never served. What a crash may have torn
//! is cut off and reported. Anything else that is missing or damaged is an error that names the file and the position.

use std::collections::{HashMap, VecDeque};
use std::io;

use thiserror::Error;

use super::compress;
use super::disk::Dir;
use super::names::{
    Compression, LogFile, SNAPSHOT_TMP_PREFIX, SnapshotFile, list_logs, list_snapshots, parse_log_name,
    parse_snapshot_name,
};
use super::record::{Damage, FILE_HEADER, Record};
use super::replay::Replay;
use super::rewrite_tail::{self, FileEnd};
use super::scan::{End, LogReader};
use super::snapshot::{self, ZxidDigest};
use super::snapshot_read::{self, Node, Sink, Tail};
use crate::txn::{Txn, TxnHeader};
use crate::types::{Acl, AclId, SessionId, Zxid};

/// Most snapshots that are tried, newest first, as in ZooKeeper.
const MAX_SNAPSHOTS_TRIED: usize = 100;

/// A state to which transactions are applied.
pub trait Replica {
    /// Applies one transaction. Replay may apply a transaction that the state already contains, which must do no harm.
    fn apply(&mut self, header: &TxnHeader, txn: &Txn);
    /// The current digest; `None` if digests are off.
    fn digest(&self) -> Option<u64>;
}

/// Builds a [`Replica`] from a snapshot.
pub trait Builder: Sized {
    /// The type of the state.
    type Replica: Replica;
    /// An ACL list of the snapshot.
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String>;
    /// A node of the snapshot.
    fn node(&mut self, node: Node<'_>) -> Result<(), String>;
    /// The state as of `zxid`.
    fn finish(self, zxid: Zxid) -> Result<Self::Replica, String>;
    /// The state before any transaction, for a start without a snapshot.
    fn fresh(self) -> Self::Replica;
}

/// Settings of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryOptions {
    /// `snapshot.trust.empty`: logs without a snapshot are applied to an empty tree (an upgrade from 3.4).
    pub trust_empty_snapshot: bool,
    /// An empty directory becomes a new database: because of `db.autocreate`, or because a file named `initialize` was
    /// there, which the caller removes.
    pub may_create: bool,
    /// `digest.enabled`: the digests in the log are checked.
    pub verify_digests: bool,
    /// `commitLogCount`: how many of the last transactions are kept for followers that synchronise.
    pub keep_last: usize,
}

impl Default for RecoveryOptions {
    fn default() -> RecoveryOptions {
        RecoveryOptions { trust_empty_snapshot: false, may_create: true, verify_digests: true, keep_last: 500 }
    }
}

/// An end of a file that was cut off because a crash had torn it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Cut {
    pub file: String,
    /// The file was cut at this offset, or removed if it had no whole record.
    pub at: u64,
    /// Number of bytes cut off.
    pub bytes: u64,
    pub damage: Damage,
    /// Number of whole records in what was cut off. They were written in the batch that the crash tore, so they were
    /// never acknowledged.
    pub unsynced_records: u32,
    pub removed: bool,
}

/// A digest that differs from the one in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct DigestMismatch {
    pub zxid: Zxid,
    pub stored: u64,
    pub computed: u64,
}

/// What recovery did, for the server's log and the metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The file name of the snapshot that was loaded.
    pub snapshot: Option<String>,
    /// Newer snapshots that could not be used, with the reasons.
    pub bad_snapshots: Vec<(String, String)>,
    /// Number of transactions applied.
    pub replayed: u64,
    /// Number of log bytes read.
    pub log_bytes: u64,
    /// Those without Zabra's trailer, which Apache wrote.
    pub foreign: u64,
    /// What was cut off.
    pub cuts: Vec<Cut>,
    /// The first digests that differed.
    pub digest_mismatches: Vec<DigestMismatch>,
    /// Number of digests that differed.
    pub digest_mismatch_count: u64,
    /// The digest after every 128th zxid that was replayed, as the four-letter word `hash` lists them; the newest 1024.
    pub logged_digests: VecDeque<(Zxid, u64)>,
    /// The snapshot records a digest for this zxid, but the log ends before it: the end of the log may be missing.
    pub digest_not_reached: Option<Zxid>,
}

/// One transaction as in a PROPOSAL: header, transaction, digest.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Logged {
    pub zxid: Zxid,
    pub payload: Vec<u8>,
}

/// The recovered state.
#[derive(Debug)]
pub struct Recovered<R> {
    /// The tree or other state.
    pub state: R,
    /// Every open session with its timeout in milliseconds.
    pub sessions: HashMap<SessionId, i32>,
    /// The zxid of the last transaction; [`Zxid::NONE`] if the directory is empty and may not become a new database.
    pub last: Zxid,
    /// The directory was empty: the caller must write a first snapshot before it serves.
    pub fresh: bool,
    /// The last transactions, oldest first.
    pub tail: VecDeque<Logged>,
    /// What was done.
    pub report: Report,
}

const REPAIR: &str = "Nothing was changed. In an ensemble: move this server's version-2 directories away and let it sync \
                      from the leader. Alone: restore the file from a backup; `zabra log verify` shows what is readable.";

/// Why a data directory cannot be served.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RecoveryError {
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("Log directory has snapshot files. Check if dataLogDir and dataDir configuration is correct. ({path})")]
    SnapshotsInLogDir { path: String },
    #[error("Snapshot directory has log files. Check if dataLogDir and dataDir configuration is correct. ({path})")]
    LogsInSnapDir { path: String },
    #[error(
        "No snapshot found, but there are log entries in {path}. Restore the snapshots; only when upgrading from 3.4 set \
         snapshot.trust.empty=true for one start."
    )]
    LogsWithoutSnapshot { path: String },
    #[error("Not able to find valid snapshots in {path}: {}. {REPAIR}", list(.tried))]
    NoValidSnapshot { path: String, tried: Vec<(String, String)> },
    #[error("{file}: {damage} at byte {at}, and {} {REPAIR}", proof(.later))]
    Corrupt { file: String, at: u64, damage: Damage, later: Option<(u64, Zxid)> },
    #[error(
        "{file}: at byte {at} transaction {found} follows {after}{}: transactions between them are missing, a log file may be \
         gone. {REPAIR}",
        stated(.prev)
    )]
    Hole { file: String, at: u64, after: Zxid, found: Zxid, prev: Option<Zxid> },
    #[error("{file} begins with transaction {found}, which is not what its name says: was it renamed? {REPAIR}")]
    Misnamed { file: String, found: Zxid },
    #[error("{file}: transaction {zxid} at byte {at} cannot be read: {what}. {REPAIR}")]
    Unreadable { file: String, at: u64, zxid: Zxid, what: String },
    #[error(
        "{snapshot} cannot be used ({reason}), and the log ends at {last}, before it: transactions are missing. If this \
         server was being synced when it stopped, the file may be removed. {REPAIR}"
    )]
    EndsBeforeSnapshot { snapshot: String, reason: String, last: Zxid },
    #[error(
        "{file}: the bytes from {from} on are not the same when they are read again. The disk lost a write, or somebody \
         writes to the file. Nothing was served; start again, and look for I/O errors in the kernel log."
    )]
    Changed { file: String, from: u64 },
}

fn list(tried: &[(String, String)]) -> String {
    tried.iter().map(|(name, why)| format!("{name} ({why})")).collect::<Vec<_>>().join(", ")
}

fn proof(later: &Option<(u64, Zxid)>) -> String {
    match later {
        Some((at, zxid)) => {
            format!("what follows at byte {at} (transaction {zxid}) shows that these bytes had been durable.")
        }
        None => "these bytes had been durable.".to_owned(),
    }
}

fn stated(prev: &Option<Zxid>) -> String {
    prev.map(|p| format!(" but was written after {p}")).unwrap_or_default()
}

/// Recovers from `snap` (`dataDir/version-2`) and `log` (`dataLogDir/version-2`); pass two handles of the same
/// directory if they are the same. Torn ends are cut off on the disk, and unfinished snapshots removed, only after
/// everything else has succeeded.
pub fn recover<D: Dir, B: Builder>(
    snap: &mut D,
    log: &mut D,
    mut new_builder: impl FnMut() -> B,
    options: RecoveryOptions,
) -> Result<Recovered<B::Replica>, RecoveryError> {
    check_dirs(snap, log)?;
    let snapshots = list_snapshots(snap).map_err(|e| io_error(snap.path(), e))?;
    let logs = list_logs(log).map_err(|e| io_error(log.path(), e))?;
    let mut report = Report::default();
    let loaded = load_newest(snap, &snapshots, &mut new_builder, &mut report)?;
    let base = loaded.as_ref().map_or(Zxid::ZERO, |l| l.zxid);
    assert!(base >= Zxid::ZERO, "a snapshot as of {base} was loaded");
    let found = loaded.is_some();
    let (state, sessions, digest) = match loaded {
        Some(l) => (l.state, l.sessions, l.digest),
        None => (new_builder().fresh(), HashMap::new(), None),
    };
    let mut replay = Replay::new(state, sessions, base, digest, report, options);
    if !found {
        refuse_without_snapshot(snap, log, &snapshots, &logs, &replay.report, options)?;
    }
    replay.run(log, &logs)?;
    if let Some((name, reason)) = ahead(&replay.report.bad_snapshots, replay.last()) {
        return Err(RecoveryError::EndsBeforeSnapshot { snapshot: name, reason, last: replay.last() });
    }
    let fresh = !found && !replay.saw_records();
    let last = replay.last();
    assert!(last >= base, "the history ends at {last}, before the snapshot as of {base}");
    assert!(!fresh || last == Zxid::ZERO, "a new database whose last transaction is {last}");
    repair(snap, log, last, &mut replay.report)?;
    make_durable(snap, log, &snapshots, replay.ends(), &replay.report)?;
    let mut recovered = replay.into_recovered();
    assert_eq!(recovered.last, last, "the end of the history after the repair");
    recovered.fresh = fresh;
    if fresh && !options.may_create {
        recovered.last = Zxid::NONE;
    }
    Ok(recovered)
}

/// No snapshot could be loaded: returns an error unless there are no transactions to lose, or a setting says that there
/// is no snapshot.
fn refuse_without_snapshot<D: Dir>(
    snap: &D,
    log: &D,
    snapshots: &[SnapshotFile],
    logs: &[LogFile],
    report: &Report,
    options: RecoveryOptions,
) -> Result<(), RecoveryError> {
    let mut records = false;
    for file in logs {
        let mut reader = LogReader::open(log, &file.name).map_err(|e| io_error(file.name.clone(), e))?;
        records = records || reader.next_record().map_err(|e| io_error(file.name.clone(), e))?.is_some();
    }
    // One snapshot may be unfinished: the very first, which is written before anything is served.
    let mut is_unfinished = !records;
    for file in snapshots {
        is_unfinished = is_unfinished && file.zxid == Zxid::ZERO && is_begun(snap, file)?;
    }
    if !is_unfinished && !snapshots.is_empty() {
        return Err(RecoveryError::NoValidSnapshot { path: snap.path(), tried: report.bad_snapshots.clone() });
    }
    if records && !options.trust_empty_snapshot {
        return Err(RecoveryError::LogsWithoutSnapshot { path: log.path() });
    }
    Ok(())
}

/// Whether an unreadable snapshot begins like one, or with zeros, as far as it goes: then a crash may have left it.
fn is_begun<D: Dir>(snap: &D, file: &SnapshotFile) -> Result<bool, RecoveryError> {
    let failed = |e| io_error(file.name.clone(), e);
    let mut head = Vec::new();
    let reader = snap.open(&file.name).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(reader, 16), &mut head).map_err(failed)?;
    let wanted: &[u8] = match file.compression {
        Compression::None => &snapshot::FILE_HEADER,
        Compression::Gzip => &compress::GZIP_MAGIC,
        Compression::Snappy => &compress::SNAPPY_MAGIC,
    };
    let begun = head.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
    Ok(begun == wanted.len() || head[begun..].iter().all(|b| *b == 0))
}

/// A snapshot that could not be used although it contains later transactions than the history found without it. An
/// empty file is not evidence of that.
fn ahead(bad: &[(String, String)], last: Zxid) -> Option<(String, String)> {
    bad.iter().find(|(name, _)| parse_snapshot_name(name).is_some_and(|(z, _)| z > last)).cloned()
}

pub(super) fn io_error(path: String, error: io::Error) -> RecoveryError {
    RecoveryError::Io { path, error }
}

/// Checks for exchanged or changed `dataDir` and `dataLogDir`, which would look like an empty database.
fn check_dirs<D: Dir>(snap: &D, log: &D) -> Result<(), RecoveryError> {
    if snap.path() == log.path() {
        return Ok(());
    }
    let names = |d: &D| d.list().map_err(|e| io_error(d.path(), e));
    if names(log)?.iter().any(|(n, _)| parse_snapshot_name(n).is_some()) {
        return Err(RecoveryError::SnapshotsInLogDir { path: log.path() });
    }
    if names(snap)?.iter().any(|(n, _)| parse_log_name(n).is_some()) {
        return Err(RecoveryError::LogsInSnapDir { path: snap.path() });
    }
    Ok(())
}

struct Loaded<R> {
    state: R,
    sessions: HashMap<SessionId, i32>,
    zxid: Zxid,
    digest: Option<ZxidDigest>,
}

struct Loading<B> {
    builder: B,
    sessions: HashMap<SessionId, i32>,
}

impl<B: Builder> Sink for Loading<B> {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.insert(id, timeout_ms);
        Ok(())
    }
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.builder.acl(id, list)
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.builder.node(node)
    }
}

fn load_newest<D: Dir, B: Builder>(
    snap: &D,
    snapshots: &[SnapshotFile],
    new_builder: &mut impl FnMut() -> B,
    report: &mut Report,
) -> Result<Option<Loaded<B::Replica>>, RecoveryError> {
    assert!(snapshots.is_sorted_by(|a, b| a.zxid >= b.zxid), "the newest snapshot is tried first");
    for file in snapshots.iter().take(MAX_SNAPSHOTS_TRIED) {
        match load_one(snap, &file.name, file.zxid, file.compression, new_builder()) {
            Ok(loaded) => {
                report.snapshot = Some(file.name.clone());
                return Ok(Some(loaded));
            }
            Err(why) => report.bad_snapshots.push((file.name.clone(), why)),
        }
    }
    Ok(None)
}

fn load_one<D: Dir, B: Builder>(
    snap: &D,
    name: &str,
    zxid: Zxid,
    compression: Compression,
    builder: B,
) -> Result<Loaded<B::Replica>, String> {
    let file = snap.open(name).map_err(|e| e.to_string())?;
    let mut loading = Loading { builder, sessions: HashMap::new() };
    let tail: Tail = snapshot_read::read_file(file, zxid, compression, &mut loading).map_err(|e| e.to_string())?;
    let state = loading.builder.finish(zxid)?;
    // A digest for an earlier zxid than the snapshot's: a leader took the snapshot at the zxid of its epoch. It says
    // nothing about a fuzzy snapshot.
    let digest = tail.digest.filter(|d| d.zxid >= zxid);
    Ok(Loaded { state, sessions: loading.sessions, zxid, digest })
}

/// Cuts off what [`Replay`] found torn and removes unfinished files.
fn repair<D: Dir>(snap: &mut D, log: &mut D, last: Zxid, report: &mut Report) -> Result<(), RecoveryError> {
    for cut in &mut report.cuts {
        assert!(!cut.removed, "{} is repaired twice", cut.file);
        // The name of a file without records may be needed for the next log, and Apache cannot read a file without a
        // header.
        let header = FILE_HEADER.len() as u64;
        if cut.at < header || cut.at == header && parse_log_name(&cut.file).is_some_and(|first| first > last) {
            log.remove(&cut.file).map_err(|e| io_error(cut.file.clone(), e))?;
            cut.removed = true;
        } else if cut.bytes > 0 {
            assert!(cut.at >= header, "{} is cut inside its header", cut.file);
            log.set_len(&cut.file, cut.at).map_err(|e| io_error(cut.file.clone(), e))?;
        }
    }
    report.cuts.retain(|c| c.removed || c.bytes > 0);
    let names = snap.list().map_err(|e| io_error(snap.path(), e))?;
    for (name, _) in names.iter().filter(|(n, _)| n.starts_with(SNAPSHOT_TMP_PREFIX)) {
        snap.remove(name).map_err(|e| io_error(name.clone(), e))?;
    }
    Ok(())
}

/// What was read may be in the page cache only, because the previous server may have been killed before a sync. What is
/// built on it (a new log file, an acknowledgement) must not be more durable than it is.
fn make_durable<D: Dir>(
    snap: &mut D,
    log: &mut D,
    snapshots: &[SnapshotFile],
    ends: &[FileEnd],
    report: &Report,
) -> Result<(), RecoveryError> {
    for file in snapshots.iter().filter(|f| report.snapshot.as_ref() == Some(&f.name)) {
        // Setting the same length only syncs the file.
        snap.set_len(&file.name, file.len).map_err(|e| io_error(file.name.clone(), e))?;
    }
    let is_left = |name: &str| report.cuts.iter().all(|c| c.file != name || !c.removed);
    let ends: Vec<FileEnd> = ends.iter().filter(|f| is_left(&f.name)).cloned().collect();
    rewrite_tail::make_durable(log, &ends)?;
    snap.sync_dir().map_err(|e| io_error(snap.path(), e))?;
    log.sync_dir().map_err(|e| io_error(log.path(), e))
}

/// Turns the end of a file into a [`Cut`] if it is torn; an error if the file is damaged.
pub(super) fn cut_of(file: &LogFile, end: &End) -> Result<Option<Cut>, RecoveryError> {
    let cut = |at, bytes, damage: &Damage, unsynced_records| {
        Some(Cut { file: file.name.clone(), at, bytes, damage: damage.clone(), unsynced_records, removed: false })
    };
    match end {
        End::Clean { at } if *at <= FILE_HEADER.len() as u64 => Ok(cut(*at, 0, &Damage::Zeros, 0)),
        End::Clean { .. } => Ok(None),
        End::Torn { at, damage, until, unsynced_records } => {
            assert!(until >= at, "{}: garbage from {at} to {until}", file.name);
            Ok(cut(*at, until - at, damage, *unsynced_records))
        }
        End::Corrupt { at, damage, later } => {
            Err(RecoveryError::Corrupt { file: file.name.clone(), at: *at, damage: damage.clone(), later: *later })
        }
    }
}

/// Whether this record may come next, after the last one read.
pub fn follows(record: &Record<'_>, base: Zxid, seen: Option<Zxid>) -> bool {
    let z = record.header.zxid;
    let last = seen.map_or(base, |s| s.max(base));
    if z <= last {
        return false;
    }
    match record.trailer {
        // Zabra's trailer names the record before. After a snapshot that no log leads to, that record may be older than
        // the snapshot.
        Some(t) if seen.is_some_and(|s| s >= base) => Some(t.prev) == seen,
        Some(t) => t.prev <= base,
        // Apache's records do not name it, but in an epoch zxids are consecutive, and a leader's first transaction has
        // counter 1.
        None if z.epoch() == last.epoch() => z.0 == last.0 + 1,
        None => z.counter() == 1,
    }
}
