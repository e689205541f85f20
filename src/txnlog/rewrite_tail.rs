//! Makes sure that everything that recovery has read is on the disk, before anything is built on it.
//!
//! What was read may be in the page cache only. If the previous process was killed before a sync, a sync now is enough.
//! If a sync of the previous process failed, Linux may keep the pages and mark them clean, and no later sync will ever
//! write them. If we served from such pages, they would be lost in a power failure, and the records written after them
//! would follow a gap. So the end of the log is written again, from the last position that is known to be durable. The
//! trailer of the last record or an end mark ([`super::end_mark`]) tells that position. An Apache record does not, so a
//! file that ends with one is written again completely, once.
//!
//! Only the last file can be in this state: the log leaves a file for the next one only after a successful sync, or
//! after a recovery.

use super::disk::Dir;
use super::end_mark::{self, Mark};
use super::record::FILE_HEADER;
use super::recovery_error::{RecoveryError, io_error};
use super::scan::{End, LogReader};
use crate::types::Zxid;

/// A log file that was read, and its end.
#[derive(Clone, Debug)]
pub(super) struct FileEnd {
    pub(super) name: String,
    /// The file's length in bytes.
    pub(super) len: u64,
    /// Offset where its last record ends.
    pub(super) at: u64,
    /// Everything before this offset is known to be durable.
    pub(super) durable: u64,
    /// The contents of its end mark, or of the one to be written.
    pub(super) mark: Mark,
    /// There is an end mark at `at`.
    pub(super) is_marked: bool,
}

/// Makes all files durable, and cuts each after its last record. For the last file with records this means writing its end
/// again; it also gets an end mark. The caller must sync the directory.
pub(super) fn make_durable<D: Dir>(log: &mut D, files: &[FileEnd]) -> Result<(), RecoveryError> {
    let last = files.iter().rfind(|f| f.mark.last > Zxid::ZERO).filter(|last| !last.is_marked);
    if let Some(last) = last {
        assert!(last.at > FILE_HEADER.len() as u64, "{} has a last record and no place for it", last.name);
        // Before it is cut: whoever reads a length that nobody allocates takes the file for one whose records were durable.
        log.rewrite(&last.name, last.durable, last.at, &[]).map_err(|e| io_error(last.name.clone(), e))?;
        compare(log, last)?;
    }
    files.iter().try_for_each(|file| cut(log, file))?;
    match last {
        // Only now: whoever reads the mark, even from memory, takes everything before it for durable.
        Some(last) => {
            let mark = last.mark.bytes(last.at);
            log.rewrite(&last.name, last.at, last.at, &mark).map_err(|e| io_error(last.name.clone(), e))
        }
        None => Ok(()),
    }
}

/// After the last record there are only preallocated zeros, or what a crash tore: their blocks are freed.
fn cut<D: Dir>(log: &mut D, file: &FileEnd) -> Result<(), RecoveryError> {
    assert!(file.durable <= file.at, "{}: durable up to {}, and ends at {}", file.name, file.durable, file.at);
    assert!(file.at <= file.len, "{} of {} bytes ends at {}", file.name, file.len, file.at);
    let end = if file.is_marked { file.at + end_mark::LEN as u64 } else { file.at };
    assert!(end <= file.len || !file.is_marked, "{} ends inside its mark", file.name);
    if file.is_marked && file.len == end {
        return Ok(());
    }
    // Setting the same length only syncs the file.
    log.set_len(&file.name, end).map_err(|e| io_error(file.name.clone(), e))
}

/// Compares the file with what was read first. A page may have been evicted between the first reading and the writing;
/// then an older version was read from the disk and written again.
fn compare<D: Dir>(log: &D, file: &FileEnd) -> Result<(), RecoveryError> {
    if file.durable == file.at {
        return Ok(());
    }
    let failed = |e| io_error(format!("{}/{}", log.path(), file.name), e);
    let mut reader = LogReader::open_at(log, &file.name, file.durable).map_err(failed)?;
    let mut last = Zxid::ZERO;
    while let Some((_, record)) = reader.next_record().map_err(failed)? {
        last = record.header.zxid;
    }
    let is_same = last == file.mark.last && reader.end().map(End::at) == Some(file.at);
    if is_same { Ok(()) } else { Err(RecoveryError::Changed { file: file.name.clone(), from: file.durable }) }
}
