//! Files that are written from start to end, mainly snapshots. Their bytes are sent to the disk in pieces while they
//! are written, so that a sync of the log never has to wait for many of them.

use super::named;
use crate::txnlog::disk::Writer;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes that are written to a file before they are sent to the disk. If a snapshot of a gigabyte stayed in memory
/// until its final sync, every sync of the log would have to wait for it; and also each piece delays the log while it
/// is written. At the usual few hundred megabytes per second a piece takes about a millisecond.
const WRITE_BEHIND: u64 = 256 << 10;

/// After each piece, a pause that is this many times as long as writing the piece took.
const REST: u32 = 3;

/// The longest pause.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// A file that is written from its start.
pub struct FsWriter {
    buffer: BufWriter<File>,
    path: PathBuf,
    /// Bytes received.
    len: u64,
    /// Bytes sent to the disk.
    sent: u64,
}

impl FsWriter {
    pub(super) fn new(file: File, path: PathBuf) -> FsWriter {
        FsWriter { buffer: BufWriter::with_capacity(1 << 16, file), path, len: 0, sent: 0 }
    }

    /// Sends the bytes that came since the last time to the disk, then pauses so that others can use it. They are
    /// durable only after a sync, but a write error is reported here, and only here.
    fn write_behind(&mut self) -> io::Result<()> {
        self.flush()?;
        let began = Instant::now();
        let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let (from, bytes) = (self.sent as i64, (self.len - self.sent) as i64);
        // SAFETY: no pointers; the descriptor is open.
        let done = unsafe { libc::sync_file_range(self.buffer.get_ref().as_raw_fd(), from, bytes, flags) };
        self.sent = self.len;
        if done == 0 {
            std::thread::sleep((began.elapsed() * REST).min(LONGEST_REST));
            return Ok(());
        }
        match io::Error::last_os_error() {
            // A file system or a sandbox without this call: then the sync does everything.
            e if [Some(libc::ENOSYS), Some(libc::EPERM), Some(libc::ESPIPE)].contains(&e.raw_os_error()) => Ok(()),
            e => named(Err(e), &self.path, "write"),
        }
    }
}

impl Write for FsWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = WRITE_BEHIND - (self.len - self.sent);
        let now = &bytes[..bytes.len().min(room as usize)];
        let n = named(self.buffer.write(now), &self.path, "write")?;
        self.len += n as u64;
        if self.len - self.sent >= WRITE_BEHIND {
            self.write_behind()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        named(self.buffer.flush(), &self.path, "write")
    }
}

impl Writer for FsWriter {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        named(self.buffer.get_ref().sync_all(), &self.path, "sync the file")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_long_file_is_sent_to_the_disk_while_it_is_written() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("long");
        let mut w = FsWriter::new(File::create(&path).unwrap(), path.clone());
        let piece: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        for n in 1..=50 {
            w.write_all(&piece).unwrap();
            assert_eq!(w.len, n * 100_000);
            assert!(w.len - w.sent < WRITE_BEHIND && w.sent <= fs::metadata(&path).unwrap().len());
        }
        w.sync().unwrap();
        assert!(fs::read(&path).unwrap() == piece.repeat(50));
        // An error when writing is reported.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut w = FsWriter::new(full, "/dev/full".into());
        let outcome = (0..50).try_for_each(|_| w.write_all(&piece)).and_then(|()| w.sync());
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
