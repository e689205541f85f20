//! Removes transactions that the ensemble never committed. Mirrors `FileTxnLog.truncate` and
//! `FileTxnSnapLog.truncateLog`, which however leave snapshots that contain removed transactions.

use std::io;

use thiserror::Error;

use super::disk::Dir;
use super::names::{LogFile, SnapshotFile, list_logs, list_snapshots};
use super::scan::LogReader;
use super::verify::is_whole;
use crate::types::Zxid;

/// Why a log cannot be truncated to a zxid. Nothing was changed, except possibly after `Io`.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TruncateError {
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("cannot truncate to {target}: the log has no such transaction (it has {nearest} before it)")]
    NotInLog { target: Zxid, nearest: Zxid },
    #[error("cannot truncate to {target}: no whole snapshot is that old")]
    NoSnapshot { target: Zxid },
    #[error("cannot truncate to {target}: {file} is damaged at byte {at}")]
    Damaged { target: Zxid, file: String, at: u64 },
}

/// Cuts the log after `target` and removes later snapshots; durable when it returns. After a crash in between, the
/// history ends somewhere at or after `target`. The state must be recovered from the directory again.
///
/// The log must not be open for writing: a mapped file must not become shorter.
pub fn truncate<D: Dir>(snap: &mut D, log: &mut D, target: Zxid) -> Result<(), TruncateError> {
    let path = (snap.path(), log.path());
    let snap_error = |error| TruncateError::Io { path: path.0.clone(), error };
    let log_error = |error| TruncateError::Io { path: path.1.clone(), error };
    let snapshots = list_snapshots(snap).map_err(snap_error)?;
    let logs = list_logs(log).map_err(log_error)?;
    let base = base(snap, &snapshots, target)?;
    assert!(base <= target, "the snapshot of {base} holds more than is kept, {target}");
    let keep = logs.iter().rposition(|f| f.first <= target);
    let end = match keep {
        None => None,
        Some(i) => Some(end_of(log, &logs[i], target, base)?),
    };
    if keep.is_none() && base != target {
        return Err(TruncateError::NotInLog { target, nearest: base });
    }
    let newer: Vec<&SnapshotFile> = snapshots.iter().filter(|s| s.zxid > target).collect();
    for file in &newer {
        snap.remove(&file.name).map_err(snap_error)?;
    }
    if !newer.is_empty() {
        snap.sync_dir().map_err(snap_error)?;
    }
    let removed = &logs[keep.map_or(0, |i| i + 1)..];
    assert!(removed.iter().all(|f| f.first > target), "a log that holds {target} is to be removed");
    assert!(removed.is_sorted_by_key(|f| f.first), "the newest log goes first");
    // The newest first, each removed durably before the next, so that a crash leaves no gap.
    for file in removed.iter().rev() {
        log.remove(&file.name).map_err(log_error)?;
        log.sync_dir().map_err(log_error)?;
    }
    assert_eq!(keep.is_some(), end.is_some(), "the file that is cut, and where");
    if let (Some(i), Some(end)) = (keep, end) {
        assert!(end <= logs[i].len, "{} of {} bytes is cut at {end}", logs[i].name, logs[i].len);
        log.set_len(&logs[i].name, end).map_err(log_error)?;
    }
    Ok(())
}

/// Zxid of the newest whole snapshot that is not newer than `target`.
fn base<D: Dir>(snap: &D, snapshots: &[SnapshotFile], target: Zxid) -> Result<Zxid, TruncateError> {
    let usable = snapshots.iter().find(|s| s.zxid <= target && is_whole(snap, s));
    usable.map(|s| s.zxid).ok_or(TruncateError::NoSnapshot { target })
}

/// The offset where the record of `target` ends.
fn end_of<D: Dir>(log: &D, file: &LogFile, target: Zxid, base: Zxid) -> Result<u64, TruncateError> {
    let failed = |error| TruncateError::Io { path: format!("{}/{}", log.path(), file.name), error };
    let mut reader = LogReader::open(log, &file.name).map_err(failed)?;
    let mut nearest = (Zxid::NONE, super::record::FILE_HEADER.len() as u64);
    loop {
        let begin = reader.position();
        match reader.next_record().map_err(failed)? {
            Some((_, record)) if record.header.zxid <= target => nearest.0 = record.header.zxid,
            Some(_) => {
                nearest.1 = begin;
                break;
            }
            None => {
                nearest.1 = reader.end().map_or(begin, |e| e.at());
                break;
            }
        }
    }
    assert!(nearest.0 <= target, "{} is not to be kept", nearest.0);
    if nearest.0 == target {
        return Ok(nearest.1);
    }
    match reader.end() {
        Some(super::scan::End::Corrupt { at, .. }) => {
            Err(TruncateError::Damaged { target, file: file.name.clone(), at: *at })
        }
        _ if base == target => Ok(nearest.1),
        _ => Err(TruncateError::NotInLog { target, nearest: nearest.0.max(base) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::replica::SMALL;
    use crate::oracle::test_disk::TestDisk;
    use crate::txnlog::crash_tests::{open, payload, with_snapshots};
    use crate::txnlog::writer::LogWriter;

    fn history() -> TestDisk {
        with_snapshots(12, 4)
    }

    #[test]
    fn the_history_ends_at_the_target() {
        for target in 0..=12 {
            let disk = history();
            truncate(&mut disk.clone(), &mut disk.clone(), Zxid(target)).unwrap();
            let r = open(&disk).unwrap();
            assert_eq!((r.last, r.state.0.len() as i64), (Zxid(target), target));
            // The log continues from there.
            let mut log = LogWriter::new(disk.clone(), r.last, SMALL);
            log.append(Zxid(target + 1), &payload(Zxid(target + 1), None)).unwrap();
            log.sync().unwrap();
            assert_eq!(open(&disk).unwrap().last, Zxid(target + 1));
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_the_end() {
        let disk = history();
        let e = truncate(&mut disk.clone(), &mut disk.clone(), Zxid(13)).unwrap_err();
        assert!(matches!(e, TruncateError::NotInLog { nearest: Zxid(12), .. }), "{e}");
        disk.clone().remove("snapshot.0").unwrap();
        disk.clone().remove("snapshot.4").unwrap();
        let e = truncate(&mut disk.clone(), &mut disk.clone(), Zxid(5)).unwrap_err();
        assert!(matches!(e, TruncateError::NoSnapshot { .. }), "{e}");
        assert_eq!(open(&disk).unwrap().last, Zxid(12));
    }

    #[test]
    fn a_crash_anywhere_leaves_a_history_that_is_whole_up_to_the_target() {
        for op in 0..12 {
            for seed in 0..10 {
                let disk = history();
                disk.crash_at(disk.ops() + op);
                let done = truncate(&mut disk.clone(), &mut disk.clone(), Zxid(2));
                disk.power_cycle(seed);
                let last = open(&disk).unwrap_or_else(|e| panic!("crash at {op}, seed {seed}: {e}")).last;
                assert!(last >= Zxid(2) && (done.is_err() || last == Zxid(2)));
            }
        }
    }
}
