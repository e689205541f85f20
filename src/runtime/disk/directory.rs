//! One directory: creates, names, lists, reads, cuts and removes files, and locks the directory.

use super::ahead::Ahead;
use super::segment::make_segment;
use super::{FsSegment, FsWriter, NEW_SEGMENT, SyncMethod, named, removal, set_len};
use crate::runtime::start_error::StartError;
use crate::txnlog::disk::{Dir, Reader, Segment};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One directory of the file system.
pub struct FsDir {
    path: PathBuf,
    /// Kept open for fsync.
    dir: File,
    pub(super) sync: SyncMethod,
    /// Whether large files are removed in steps.
    gentle: bool,
    pub(super) ahead: Option<Ahead>,
}

impl FsDir {
    /// Opens a directory; if `create` is true, creates it and its parents.
    pub fn open(path: impl Into<PathBuf>, create: bool, sync: SyncMethod) -> io::Result<FsDir> {
        let path = path.into();
        if create && !path.is_dir() {
            named(fs::create_dir_all(&path), &path, "create the directory")?;
            // The directory's own name must survive a crash too.
            for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).take(2) {
                named(File::open(parent).and_then(|d| d.sync_all()), parent, "sync the directory")?;
            }
        }
        let dir = named(
            OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&path),
            &path,
            "open the directory",
        )?;
        Ok(FsDir { path, dir, sync, gentle: false, ahead: None })
    }

    /// For a directory on a disk that others write to: removing a file takes longer but disturbs them less.
    pub fn gentle(self) -> FsDir {
        FsDir { gentle: true, ..self }
    }

    /// For the directory of a log: segments are prepared before they are needed, and cut after they are closed, on
    /// another thread. That thread ends with this value.
    ///
    /// # Errors
    /// The thread cannot be created, or what an earlier process left cannot be removed.
    pub(in crate::runtime) fn with_segments_ahead(self) -> Result<FsDir, StartError> {
        let (new, sync) = (self.at(NEW_SEGMENT), self.sync);
        let make = Box::new(move |len, head: &[u8]| make_segment(&new, &new, len, head, sync));
        Ok(FsDir { ahead: Some(Ahead::start(&self.path, make)?), ..self })
    }

    /// Whether both are on the same file system.
    ///
    /// # Errors
    /// A directory cannot be looked at.
    pub fn shares_a_disk_with(&self, other: &FsDir) -> io::Result<bool> {
        let device = |d: &FsDir| named(d.dir.metadata().map(|m| m.dev()), &d.path, "look at the directory");
        Ok(device(self)? == device(other)?)
    }

    /// The path of a segment that is to be created.
    fn unused(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.at(name);
        if named(path.try_exists(), &path, "look for the file")? {
            return named(Err(io::Error::from(io::ErrorKind::AlreadyExists)), &path, "create the file");
        }
        Ok(path)
    }

    /// Waits until the other thread has finished its work on the directory's files.
    pub(super) fn settle(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.settle();
        }
    }

    /// Takes the lock that keeps a second server out of this directory; it is held as long as the returned file lives.
    /// `None` if another process holds it.
    pub fn lock(path: impl AsRef<Path>) -> io::Result<Option<File>> {
        let dir = named(File::open(&path), &path, "open the directory")?;
        match dir.try_lock() {
            Ok(()) => Ok(Some(dir)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => named(Err(e), &path, "lock the directory"),
        }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..", "not a file name: {name:?}");
        self.path.join(name)
    }
}

impl Dir for FsDir {
    type Segment = FsSegment;
    type Writer = FsWriter;
    type Reader = FsReader;

    fn path(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in named(fs::read_dir(&self.path), &self.path, "list the directory")? {
            let entry = named(entry, &self.path, "list the directory")?;
            // All our names are UTF-8.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_file() => files.push((name, meta.len())),
                Ok(_) => {}
                // A broken link is listed: it stands for a file that should exist, and whoever opens it gets the error.
                Err(_) if entry.path().is_symlink() => files.push((name, 0)),
                // A purge may have removed the file between the two calls.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return named(Err(e), entry.path(), "look at the file"),
            }
        }
        Ok(files)
    }

    fn create_segment(&mut self, name: &str, len: u64, head: &[u8]) -> io::Result<FsSegment> {
        let (path, new) = (self.unused(name)?, self.at(NEW_SEGMENT));
        let mut segment = make_segment(&new, &path, len, head, self.sync)?;
        segment.path.clone_from(&path);
        let outcome = named(fs::rename(&new, &path), &path, "name the file");
        if outcome.is_err() {
            // The file is useless now. If it cannot be removed it does no harm.
            let _ = fs::remove_file(&new);
        }
        outcome.map(|()| segment)
    }

    fn prepare_segment(&mut self, len: u64, head: &[u8]) {
        if let Some(ahead) = &mut self.ahead {
            ahead.prepare(len, head);
        }
    }

    fn take_prepared(&mut self, name: &str, least: u64, head: &[u8]) -> io::Result<Option<FsSegment>> {
        let path = self.unused(name)?;
        let fits = |s: &FsSegment| s.len() >= least && s.map.starts_with(head);
        // One that does not fit is replaced by the one that is created instead.
        let Some(mut segment) = self.ahead.as_mut().and_then(Ahead::take).filter(fits) else { return Ok(None) };
        match fs::rename(&segment.path, &path) {
            // Somebody has removed the file.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => named(outcome, &path, "name the file")?,
        }
        segment.path = path;
        Ok(Some(segment))
    }

    /// Without the blocks kept for root.
    fn free_bytes(&self) -> Option<u64> {
        // SAFETY: all zeros is a valid value of this struct of numbers.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and the pointer is to a live value.
        let done = unsafe { libc::fstatvfs(self.dir.as_raw_fd(), &raw mut found) } == 0;
        done.then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn give_back_prepared(&mut self) -> io::Result<()> {
        self.ahead.as_mut().map_or(Ok(()), Ahead::give_back)
    }

    fn close_segment(&mut self, segment: FsSegment, len: u64) -> io::Result<()> {
        match &self.ahead {
            Some(ahead) => {
                ahead.cut(segment, len);
                Ok(())
            }
            None => segment.cut(len),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<FsWriter> {
        let path = self.at(name);
        let file = named(File::create(&path), &path, "create the file")?;
        Ok(FsWriter::new(file, path))
    }

    fn open(&self, name: &str) -> io::Result<FsReader> {
        let path = self.at(name);
        let file = named(File::open(&path), &path, "open the file")?;
        let meta = named(file.metadata(), &path, "stat the file")?;
        if !meta.is_file() {
            return named(Err(io::Error::from(io::ErrorKind::InvalidInput)), &path, "read what is not a regular file");
        }
        Ok(FsReader { len: meta.len(), buffer: BufReader::with_capacity(1 << 16, file), path })
    }

    fn set_len(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.settle();
        let path = self.at(name);
        let file = named(OpenOptions::new().write(true).open(&path), &path, "open the file")?;
        set_len(&file, &path, len)
    }

    fn rewrite(&mut self, name: &str, from: u64, to: u64, tail: &[u8]) -> io::Result<()> {
        self.settle();
        let path = self.at(name);
        let file = named(OpenOptions::new().read(true).write(true).open(&path), &path, "open the file")?;
        let mut buffer = vec![0u8; (to - from).min(1 << 20) as usize];
        let mut at = from;
        while at < to {
            let n = (to - at).min(buffer.len() as u64) as usize;
            named(file.read_exact_at(&mut buffer[..n], at), &path, "read")?;
            named(file.write_all_at(&buffer[..n], at), &path, "write")?;
            at += n as u64;
        }
        named(file.write_all_at(tail, to), &path, "write")?;
        named(file.sync_data(), &path, "sync the file")
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.settle();
        let (from, to) = (self.at(from), self.at(to));
        named(fs::rename(&from, &to), &from, format_args!("rename the file to {}", to.display()))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.settle();
        let path = self.at(name);
        if self.gentle {
            return removal::remove_in_steps(&path);
        }
        named(fs::remove_file(&path), &path, "remove the file")
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        named(self.dir.sync_all(), &self.path, "sync the directory")
    }
}

/// A file that is read from its start.
pub struct FsReader {
    buffer: BufReader<File>,
    len: u64,
    path: PathBuf,
}

impl Read for FsReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        named(self.buffer.read(into), &self.path, "read")
    }
}

impl Reader for FsReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn skip_hole(&mut self) -> io::Result<u64> {
        let here = named(self.buffer.stream_position(), &self.path, "see where it is read")?;
        let at = libc::off_t::try_from(here).map_err(io::Error::other)?;
        // SAFETY: no pointers; the descriptor is open.
        let data = unsafe { libc::lseek(self.buffer.get_ref().as_raw_fd(), at, libc::SEEK_DATA) };
        let data = match u64::try_from(data) {
            Ok(data) => data,
            Err(_) => match io::Error::last_os_error() {
                // There are no more bytes but zeros.
                e if e.raw_os_error() == Some(libc::ENXIO) => self.len.max(here),
                e if e.raw_os_error() == Some(libc::EINVAL) => here,
                e => return named(Err(e), &self.path, "look for data"),
            },
        };
        named(self.buffer.seek(SeekFrom::Start(data)), &self.path, "go on reading")?;
        Ok(data - here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txnlog::disk::Writer;
    use std::io::Write;

    fn open(at: &Path, sync: SyncMethod) -> FsDir {
        FsDir::open(at, true, sync).unwrap()
    }

    fn content(at: &Path) -> Vec<u8> {
        fs::read(at).unwrap()
    }

    #[test]
    fn a_segment_is_named_once_it_is_complete() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::Fdatasync);
        // A file left by a process that was killed.
        fs::write(tmp.path().join(NEW_SEGMENT), vec![7; 1 << 16]).unwrap();
        let s = d.create_segment("log.1", 1 << 12, b"head").unwrap();
        assert_eq!((&s.map[..4], s.map[4..].iter().all(|b| *b == 0)), (&b"head"[..], true));
        assert_eq!(d.list().unwrap(), [("log.1".to_owned(), 1 << 12)]);
        // If a segment cannot be created, no file of that name is left.
        let e = d.create_segment("log.2", 1 << 62, b"head").err().unwrap();
        assert!(e.to_string().contains("log.2"), "{e}");
        assert_eq!(d.list().unwrap().len(), 1);
    }

    #[test]
    fn files_are_written_read_listed_cut_renamed_and_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        fs::create_dir(tmp.path().join("subdirectory")).unwrap();
        let mut w = d.create("tmp.snapshot.5").unwrap();
        w.write_all(&[7; 200_000]).unwrap();
        w.sync().unwrap();
        drop(w);
        d.rename("tmp.snapshot.5", "snapshot.5").unwrap();
        assert_eq!(d.list().unwrap(), [("snapshot.5".to_owned(), 200_000)]);
        let mut r = d.open("snapshot.5").unwrap();
        let mut back = Vec::new();
        r.read_to_end(&mut back).unwrap();
        assert_eq!((r.len(), back), (200_000, vec![7; 200_000]));
        d.set_len("snapshot.5", 3).unwrap();
        assert_eq!(content(&tmp.path().join("snapshot.5")), [7; 3]);
        d.rewrite("snapshot.5", 1, 3, b"mark").unwrap();
        assert_eq!(content(&tmp.path().join("snapshot.5")), *b"\x07\x07\x07mark");
        let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        fs::write(tmp.path().join("snapshot.5"), &large).unwrap();
        d.rewrite("snapshot.5", 17, 2_999_990, b"").unwrap();
        assert_eq!(content(&tmp.path().join("snapshot.5")), large);
        assert_eq!(d.rewrite("snapshot.5", 17, 3_000_001, b"").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        d.create("snapshot.5").unwrap().sync().unwrap();
        assert!(d.open("snapshot.5").unwrap().is_empty());
        d.remove("snapshot.5").unwrap();
        d.sync_dir().unwrap();
        assert_eq!(d.list().unwrap(), []);
    }

    #[test]
    fn a_hole_is_skipped_to_the_data_after_it() {
        let tmp = tempfile::tempdir().unwrap();
        let d = open(tmp.path(), SyncMethod::default());
        const HOLE: u64 = 1 << 30;
        let file = File::create(tmp.path().join("log.1")).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"data", HOLE + 17).unwrap();
        file.set_len(3 * HOLE).unwrap();
        let mut r = d.open("log.1").unwrap();
        let mut five = [0; 5];
        r.read_exact(&mut five).unwrap();
        // Data has to be read.
        let mut at = 5 + r.skip_hole().unwrap();
        assert!(at <= 4096 * 16, "{at}");
        r.read_exact(&mut [0; 65536]).unwrap();
        at += 65536 + r.skip_hole().unwrap();
        // A block is data as a whole.
        assert!(at <= HOLE + 17 && at > HOLE - 65536, "{at}");
        let mut rest = vec![0; 1 << 20];
        r.read_exact(&mut rest).unwrap();
        let found = (HOLE + 17 - at) as usize;
        assert!(rest[..found].iter().all(|b| *b == 0) && rest[found..].starts_with(b"data\0"));
        at += rest.len() as u64;
        assert_eq!((at + r.skip_hole().unwrap(), r.read(&mut five).unwrap()), (3 * HOLE, 0));
    }

    #[test]
    fn errors_name_the_file_and_keep_their_kind() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        std::os::unix::fs::symlink("/nowhere/log.8", tmp.path().join("log.8")).unwrap();
        assert_eq!(d.list().unwrap(), [("log.8".to_owned(), 0)], "a log that is gone is not passed over");
        assert!(d.open("log.8").err().unwrap().to_string().contains("log.8: cannot open the file"));
        fs::remove_file(tmp.path().join("log.8")).unwrap();
        let e = d.open("log.9").err().unwrap();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        let want = format!("{}/log.9: cannot open the file: No such file", tmp.path().display());
        assert!(e.to_string().starts_with(&want), "{e}");
        fs::create_dir(tmp.path().join("log.3")).unwrap();
        assert!(d.open("log.3").err().unwrap().to_string().contains("not a regular file"));
        assert!(d.remove("log.9").unwrap_err().to_string().contains("log.9: cannot remove"));
        assert!(d.set_len("log.9", 1).unwrap_err().to_string().contains("log.9"));
        let e = FsDir::open(tmp.path().join("missing"), false, SyncMethod::default()).err().unwrap();
        assert!(e.to_string().contains("missing: cannot open the directory"), "{e}");
    }

    #[test]
    fn a_second_server_is_kept_out_until_the_first_ends() {
        let tmp = tempfile::tempdir().unwrap();
        let first = FsDir::lock(tmp.path()).unwrap().unwrap();
        assert!(FsDir::lock(tmp.path()).unwrap().is_none());
        drop(first);
        assert!(FsDir::lock(tmp.path()).unwrap().is_some());
    }
}
