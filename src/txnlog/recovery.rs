//! Recovers the state from a data directory: loads the newest whole snapshot, then applies every transaction after it.
//! Mirrors `FileTxnSnapLog.restore`, `fastForwardFromEdits`, `FileSnap.deserialize`.
//!
//! One rule is not Apache's: a history that cannot be shown to be complete is never served. What a crash may have torn
//! is cut off and reported. Anything else that is missing or damaged is an error that names the file and the position.

use std::collections::HashMap;
use std::io;

use super::compress;
use super::disk::Dir;
use super::install;
use super::names::{
    Compression, LogFile, SNAPSHOT_TMP_PREFIX, SnapshotFile, list_logs, list_snapshots, parse_log_name,
    parse_snapshot_name,
};
use super::record::FILE_HEADER;
pub use super::recovered::{Builder, Cut, DigestMismatch, Logged, Recovered, RecoveryOptions, Replica, Report};
pub use super::recovery_error::RecoveryError;
use super::recovery_error::io_error;
use super::replay::Replay;
use super::rewrite_tail::{self, FileEnd};
use super::scan::LogReader;
use super::snapshot;
use super::snapshot_load::{Loaded, load_file};
use crate::types::Zxid;

/// Most snapshots that are tried, newest first, as in ZooKeeper.
const MAX_SNAPSHOTS_TRIED: usize = 100;

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
    install::resume(snap, log)?;
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

fn load_newest<D: Dir, B: Builder>(
    snap: &D,
    snapshots: &[SnapshotFile],
    new_builder: &mut impl FnMut() -> B,
    report: &mut Report,
) -> Result<Option<Loaded<B::Replica>>, RecoveryError> {
    assert!(snapshots.is_sorted_by(|a, b| a.zxid >= b.zxid), "the newest snapshot is tried first");
    for file in snapshots.iter().take(MAX_SNAPSHOTS_TRIED) {
        match load_file(snap, &file.name, file.zxid, file.compression, new_builder()) {
            Ok(loaded) => {
                report.snapshot = Some(file.name.clone());
                return Ok(Some(loaded));
            }
            Err(why) => report.bad_snapshots.push((file.name.clone(), why)),
        }
    }
    Ok(None)
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
