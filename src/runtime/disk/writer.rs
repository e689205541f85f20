//! Files written from their start to their end: snapshots, above all. Their bytes go to the disk a piece at a time while they are
//! written, so that the log beside them never waits for much.

use super::named;
use crate::txnlog::disk::Writer;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of a file that are written before they are sent to the disk: a snapshot of a gigabyte that waits in memory until its one
/// sync holds up every sync of the log behind it, and so does each piece on its way. At the few hundred megabytes per second of
/// a usual disk this is a millisecond.
const WRITE_BEHIND: u64 = 256 << 10;

/// How much longer the disk is left to others than it took to write a piece.
const REST: u32 = 3;

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// A file being written from its start.
pub struct FsWriter {
    buffer: BufWriter<File>,
    path: PathBuf,
    /// Bytes taken.
    len: u64,
    /// Bytes sent to the disk.
    sent: u64,
}

impl FsWriter {
    pub(super) fn new(file: File, path: PathBuf) -> FsWriter {
        FsWriter { buffer: BufWriter::with_capacity(1 << 16, file), path, len: 0, sent: 0 }
    }

    /// Writes to the disk what came since the last time, then leaves it to others for a while. Durable only after a sync, but an
    /// error is told here, and only here.
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
            // A file system or a sandbox without it: then all is left to the sync.
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
        // What cannot be written says so.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut w = FsWriter::new(full, "/dev/full".into());
        let outcome = (0..50).try_for_each(|_| w.write_all(&piece)).and_then(|()| w.sync());
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
