//! Making sure of what recovery has read, before anything is built on it.
//!
//! What was read may be in the page cache only. The server before this one may have been killed before a sync: then a sync
//! helps. Or its sync failed, and it ended: then Linux may keep the pages, mark them clean, and no sync will ever write them.
//! Served from, they would be gone after a loss of power, and the records written behind them would stand behind a hole. So
//! the end of the log is written again, from the last place that is known to be durable: the last record's trailer says where
//! that is, or a mark ([`super::end_mark`]); an Apache record says nothing, and its whole file is written once.
//!
//! Only the last file can end so: a file is left for the next one after a sync that succeeded, or after a recovery.

use super::disk::Dir;
use super::end_mark::{self, Mark};
use super::record::FILE_HEADER;
use super::recovery::{RecoveryError, io_error};
use super::scan::{End, LogReader};
use crate::types::Zxid;

/// A log file that was read, and how it ends.
#[derive(Clone, Debug)]
pub(super) struct FileEnd {
    pub(super) name: String,
    /// Its length.
    pub(super) len: u64,
    /// End of its last record.
    pub(super) at: u64,
    /// Everything before this is known to be durable.
    pub(super) durable: u64,
    /// What a mark says, or has to say.
    pub(super) mark: Mark,
    /// A mark stands at `at`.
    pub(super) is_marked: bool,
}

/// Cuts every file behind its last record, makes all of them durable, the last one with records by writing its end again, and
/// marks that. The directory is left to the caller.
pub(super) fn make_durable<D: Dir>(log: &mut D, files: &[FileEnd]) -> Result<(), RecoveryError> {
    // Behind the last record there is nothing but preallocated zeros: their blocks are given back.
    for file in files {
        assert!(file.durable <= file.at, "{}: durable up to {}, and ends at {}", file.name, file.durable, file.at);
        assert!(file.at <= file.len, "{} of {} bytes ends at {}", file.name, file.len, file.at);
        let end = if file.is_marked { file.at + end_mark::LEN as u64 } else { file.at };
        assert!(end <= file.len || !file.is_marked, "{} ends inside its mark", file.name);
        if !file.is_marked || file.len != end {
            // To its own length: that is a sync.
            log.set_len(&file.name, end).map_err(|e| io_error(file.name.clone(), e))?;
        }
    }
    match files.iter().rfind(|f| f.mark.last > Zxid::ZERO) {
        Some(last) if !last.is_marked => {
            assert!(last.at > FILE_HEADER.len() as u64, "{} has a last record and no place for it", last.name);
            let failed = |e| io_error(last.name.clone(), e);
            log.rewrite(&last.name, last.durable, last.at, &[]).map_err(failed)?;
            compare(log, last)?;
            // Only now: whoever reads the mark, be it from memory, takes what is before it for durable.
            log.rewrite(&last.name, last.at, last.at, &last.mark.bytes(last.at)).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// A page may have been dropped between the first reading and the writing: then an older one was read from the disk and
/// written again.
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
    let is_same = last == file.mark.last && reader.end() == Some(&End::Clean { at: file.at });
    if is_same { Ok(()) } else { Err(RecoveryError::Changed { file: file.name.clone(), from: file.durable }) }
}
