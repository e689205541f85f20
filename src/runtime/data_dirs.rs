//! The directories of snapshots and of the log, as a start takes them: opened, checked and locked. Mirrors the part of
//! `FileTxnSnapLog`'s constructor that does so.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::disk::FsDir;
use super::settings;
use super::start_error::StartError;
use crate::config::{Config, ExitCode};

/// Opens one of the two directories.
pub(super) fn open_dir(path: &Path, config: &Config) -> Result<FsDir, StartError> {
    FsDir::open(path, config.storage.data_dir_autocreate, settings::sync_method(config))
        .map_err(|e| StartError::new(ExitCode::DataDir, format!("the data directory cannot be used: {e}")))
}

/// Free space that the log needs at least at start: a segment for the largest request of the default `jute.maxbuffer`.
const LEAST_FREE: u64 = 1 << 20;

/// Checks that both directories can be written to, so that the server does not fail only at the first write.
pub(super) fn check_writable(snap: &FsDir, log: &FsDir, config: &Config) -> Result<(), StartError> {
    let for_log = settings::log(config).prealloc_bytes.min(LEAST_FREE);
    snap.check_writable(1)
        .and_then(|()| log.check_writable(for_log))
        .map_err(|e| StartError::new(ExitCode::DataDir, format!("the data directory cannot be written: {e}")))
}

/// Locks the directories against a second server.
pub(super) fn lock(config: &Config) -> Result<Vec<File>, StartError> {
    let mut dirs = vec![&config.data_dir];
    if config.data_log_dir != config.data_dir {
        dirs.push(&config.data_log_dir);
    }
    let take = |dir: &&PathBuf| match FsDir::lock(dir) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(StartError::new(
            ExitCode::DataDirInUse,
            format!("{}: another Zabra process uses this directory; stop it first", dir.display()),
        )),
        Err(e) => Err(StartError::new(ExitCode::DataDir, e)),
    };
    dirs.iter().map(take).collect()
}
