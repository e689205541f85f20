//! Why a data directory cannot be served, in words for whoever has to mend it.

use std::io;

use thiserror::Error;

use super::record::Damage;
use crate::types::Zxid;

const REPAIR: &str = "Nothing was changed. In an ensemble: move this server's version-2 directories away and let it sync \
                      from the leader. Alone: restore the file from a backup; `zabra log verify` shows what is readable.";

/// Why a data directory cannot be served.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RecoveryError {
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("a snapshot that a leader sent cannot be made the base of the history: {0}")]
    Install(#[from] super::epoch::EpochError),
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

pub(super) fn io_error(path: String, error: io::Error) -> RecoveryError {
    RecoveryError::Io { path, error }
}
