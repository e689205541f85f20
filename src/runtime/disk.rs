//! [`txnlog::disk::Dir`](crate::txnlog::disk::Dir) on a real directory. Plays the part of `FilePadding` and of the
//! streams of `FileTxnLog`.
//!
//! A failed sync is final; it is never tried again here.

mod ahead;
mod directory;
mod probe;
mod removal;
mod segment;
mod writer;

pub use directory::{FsDir, FsReader};
pub use segment::{FsSegment, SyncMethod};
pub use writer::FsWriter;

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;

/// The name of a segment until it is complete. ZooKeeper does not start if a log has no header, so a process that is
/// killed must not leave such a log. A file that an earlier process left under this name is overwritten.
const NEW_SEGMENT: &str = "new.segment";

/// Adds the file and the attempted operation to an error; its kind stays.
fn named<T>(outcome: io::Result<T>, path: impl AsRef<Path>, what: impl Display) -> io::Result<T> {
    outcome.map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(libc::ENOSPC) => " (free some space, or move dataLogDir to another disk)",
            Some(libc::EDQUOT) => " (the quota of this user or project is used up)",
            Some(libc::EACCES | libc::EPERM) => " (does the user of the server own this directory?)",
            Some(libc::EROFS) => " (the file system is mounted read-only: look for I/O errors in the kernel log)",
            _ => "",
        };
        io::Error::new(e.kind(), format!("{}: cannot {what}: {e}{hint}", path.as_ref().display()))
    })
}

/// Cuts a file to `len` bytes, or lengthens it with zeros, and syncs it.
fn set_len(file: &File, path: &Path, len: u64) -> io::Result<()> {
    named(file.set_len(len), path, format_args!("cut the file to {len} bytes"))?;
    named(file.sync_all(), path, "sync the file")
}
