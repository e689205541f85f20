//! A log file that is written through a memory mapping.
//!
//! Segments are allocated with `fallocate`, then mapped. A store into a mapping cannot return an error; it raises
//! SIGBUS. Since all blocks are allocated, the usual cause (a full disk) cannot occur. What is left is a failing
//! device, for which [`signals`](crate::runtime::signals) installs a handler that ends the process. Files are not
//! filled with zeros through the page cache, because that creates large folios, and each sync then writes a whole folio
//! back. Only file systems that cannot allocate are an exception.

use super::{named, set_len};
use crate::txnlog::disk::Segment;
use memmap2::{Advice, MmapMut, MmapOptions, RemapOptions, UncheckedAdvice};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How the bytes of a segment are made durable.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SyncMethod {
    /// Store into the mapping, then `fdatasync`. Works on all file systems.
    #[default]
    Fdatasync,
    /// Store into the mapping, then `msync` the written pages.
    Msync,
    /// Collect the bytes, then write them with one `pwrite` to an `O_DSYNC` descriptor. Best on devices without a
    /// volatile write cache.
    Dsync,
}

/// The smallest page size. With larger pages the ranges below only reach less far.
const PAGE: usize = 4096;

/// Makes the file `at` a segment: allocates it, writes the header, syncs and maps it. An existing file is replaced.
/// Errors call the file `name`.
pub(super) fn make_segment(at: &Path, name: &Path, len: u64, head: &[u8], sync: SyncMethod) -> io::Result<FsSegment> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    if sync == SyncMethod::Dsync {
        options.custom_flags(libc::O_DSYNC);
    }
    let file = named(options.open(at), at, "create the file")?;
    let made = allocate(&file, name, 0, len)
        .and_then(|()| named(file.write_all_at(head, 0).and_then(|()| file.sync_data()), name, "begin the file"))
        .and_then(|()| map(&file, name, len));
    match made {
        Ok(map) => Ok(FsSegment { file, path: at.into(), map, len, sync, pending: Vec::new(), dirty: None }),
        Err(e) => {
            // The file is useless now. If it cannot be removed it does no harm.
            let _ = fs::remove_file(at);
            Err(e)
        }
    }
}

/// Allocates the blocks of `from..to` and sets the file's length to `to`.
fn allocate(file: &File, path: &Path, from: u64, to: u64) -> io::Result<()> {
    if from >= to {
        return Ok(());
    }
    // Some file systems take all that is left before they fail, and free it afterwards. Meanwhile a snapshot would find
    // no block, so what cannot succeed is not tried. If the kernel cannot tell, it is.
    if free_blocks(file).is_some_and(|free| free < to - from) {
        let full = Err(io::Error::from_raw_os_error(libc::ENOSPC));
        return named(full, path, format_args!("allocate {} bytes", to - from));
    }
    let outcome = loop {
        // SAFETY: no pointers; the descriptor is open. The kernel refuses lengths beyond i64, which become negative.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, from as libc::off_t, (to - from) as libc::off_t) } == 0 {
            break Ok(());
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => break write_zeros(file, from, to),
            _ => break Err(e),
        }
    };
    named(outcome, path, format_args!("allocate {} bytes", to - from))
}

/// Bytes that are free on the file's file system, those kept for root among them.
fn free_blocks(file: &File) -> Option<u64> {
    // SAFETY: all zeros is a valid value of this struct of numbers.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the pointer is to a live value.
    let done = unsafe { libc::fstatvfs(file.as_raw_fd(), &raw mut found) } == 0;
    done.then(|| found.f_bfree.saturating_mul(found.f_frsize))
}

/// For file systems without `fallocate`: blocks can only be allocated by writing them.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = [0u8; 1 << 16];
    let mut at = from;
    while at < to {
        let n = (to - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..n], at)?;
        at += n as u64;
    }
    file.sync_data()
}

fn map(file: &File, path: &Path, len: u64) -> io::Result<MmapMut> {
    let n = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    // SAFETY: the file is ours (the directory is locked against a second server) and is never cut while mapped, so the
    // pages stay backed; there is no other reference into the mapping.
    let map = n.and_then(|n| unsafe { MmapOptions::new().len(n).map_mut(file) });
    let map = named(map, path, format_args!("map {len} bytes"))?;
    // Without this the kernel reads ahead in larger and larger folios, and for one record a sync writes back the whole
    // folio: 2 MiB from the middle of a segment on. The advice survives a remap.
    named(map.advise(Advice::Random), path, "madvise")?;
    Ok(map)
}

/// A mapped log file.
pub struct FsSegment {
    file: File,
    pub(super) path: PathBuf,
    pub(super) map: MmapMut,
    len: u64,
    sync: SyncMethod,
    /// For `Dsync`: what was written since the last sync, as runs of adjacent bytes.
    pending: Vec<(u64, Vec<u8>)>,
    /// The range that contains all bytes written since the last sync.
    dirty: Option<(u64, u64)>,
}

/// A sync of at least this many pages unmaps them first.
const UNMAP_FROM: usize = 3;

impl FsSegment {
    /// Unmaps the segment, whose bytes are durable, and frees the file's blocks beyond `len`.
    pub(super) fn cut(self, len: u64) -> io::Result<()> {
        let FsSegment { file, path, map, .. } = self;
        // A file must not become shorter while it is mapped.
        drop(map);
        set_len(&file, &path, len)
    }

    /// Unmaps the pages written since the last sync; the page cache keeps them, dirty. Otherwise the write-back would
    /// remove the write permission of each page singly, and interrupt the CPUs of this process each time (a third of
    /// the cost of a large sync).
    fn let_go_of_pages(&self) -> io::Result<()> {
        let Some((first, last)) = self.dirty else { return Ok(()) };
        let first = first as usize & !(PAGE - 1);
        let len = (last as usize).next_multiple_of(PAGE).min(self.map.len()) - first;
        if len < UNMAP_FROM * PAGE {
            return Ok(());
        }
        // SAFETY: the mapping is shared, so its bytes are those of the file: the next access finds them in the page
        // cache. There is no reference into it.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, len) }
    }
}

impl Segment for FsSegment {
    fn len(&self) -> u64 {
        self.len
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at.checked_add(bytes.len() as u64).filter(|&e| e <= self.len);
        let end = end.unwrap_or_else(|| panic!("write of {} bytes at {at} of a segment of {}", bytes.len(), self.len));
        if self.sync == SyncMethod::Dsync {
            match self.pending.last_mut() {
                Some((start, run)) if run.is_empty() || *start + run.len() as u64 == at => {
                    if run.is_empty() {
                        *start = at;
                    }
                    run.extend_from_slice(bytes);
                }
                _ => self.pending.push((at, bytes.to_vec())),
            }
            return;
        }
        self.map[at as usize..end as usize].copy_from_slice(bytes);
        let (first, last) = self.dirty.unwrap_or((at, end));
        self.dirty = Some((first.min(at), last.max(end)));
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        if len <= self.len {
            return Ok(());
        }
        allocate(&self.file, &self.path, self.len, len)?;
        let n = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        // SAFETY: as in `map`; the blocks up to `len` were just allocated, and there is no reference into the mapping.
        let outcome = n.and_then(|n| unsafe { self.map.remap(n, RemapOptions::new().may_move(true)) });
        named(outcome, &self.path, format_args!("map {len} bytes"))?;
        self.len = len;
        Ok(())
    }

    /// A sync removes the write permission of the pages it wrote, so the first write after it would cause a page fault.
    /// This restores the permission in advance.
    fn expect_write(&mut self, at: u64) {
        if self.sync != SyncMethod::Dsync && at < self.len {
            // Changes no bytes. If it fails (failing device, no memory), the write itself will meet the same error and
            // report it.
            let _ = self.map.advise_range(Advice::PopulateWrite, at as usize & !(PAGE - 1), PAGE);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let outcome = match self.sync {
            SyncMethod::Fdatasync => self.let_go_of_pages().and_then(|()| self.file.sync_data()),
            SyncMethod::Msync => match self.dirty {
                // On Linux this is fdatasync of a range: the file's length and extents are committed too.
                Some((first, last)) => self.map.flush_range(first as usize, (last - first) as usize),
                None => Ok(()),
            },
            SyncMethod::Dsync => self.pending.iter().try_for_each(|(at, run)| self.file.write_all_at(run, *at)),
        };
        named(outcome, &self.path, "make the log durable")?;
        self.dirty = None;
        match self.pending.first_mut() {
            // In the usual case of a single run its buffer is kept for the next one.
            Some((_, run)) if run.capacity() <= 1 << 20 => {
                run.clear();
                self.pending.truncate(1);
            }
            _ => self.pending.clear(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::FsDir;
    use crate::runtime::in_own_process;
    use crate::txnlog::disk::{Dir, Writer};
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    fn open(at: &Path, sync: SyncMethod) -> FsDir {
        FsDir::open(at, true, sync).unwrap()
    }

    fn content(at: &Path) -> Vec<u8> {
        fs::read(at).unwrap()
    }

    #[test]
    fn the_next_page_is_there_before_it_is_written_and_reads_as_before() {
        let tmp = tempfile::tempdir().unwrap();
        for sync in [SyncMethod::Fdatasync, SyncMethod::Msync, SyncMethod::Dsync] {
            let name = format!("log.{}", sync as u8 + 1);
            let mut s = open(tmp.path(), sync).create_segment(&name, 4 * PAGE as u64, b"head").unwrap();
            let resident = |s: &FsSegment, page: usize| {
                let mut pages = [0u8; 4];
                // SAFETY: the range is inside the mapping, and there is a byte for each of its pages.
                let done = unsafe { libc::mincore(s.map.as_ptr() as *mut _, 4 * PAGE, pages.as_mut_ptr()) };
                assert_eq!(done, 0);
                pages[page] & 1 == 1
            };
            assert!(!resident(&s, 2));
            s.expect_write(2 * PAGE as u64 + 17);
            assert_eq!(resident(&s, 2), sync != SyncMethod::Dsync);
            // After the last byte there is nothing to prepare.
            s.expect_write(4 * PAGE as u64);
            s.write(2 * PAGE as u64 + 17, b"record");
            s.sync().unwrap();
            s.expect_write(2 * PAGE as u64 + 23);
            let mut whole = vec![0; 4 * PAGE];
            whole[..4].copy_from_slice(b"head");
            whole[2 * PAGE + 17..][..6].copy_from_slice(b"record");
            assert!(content(&tmp.path().join(&name)) == whole, "{sync:?}");
        }
    }

    #[test]
    fn what_was_unmapped_for_a_sync_is_still_there_for_the_next() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::Fdatasync);
        let mut s = d.create_segment("log.1", 1 << 20, b"").unwrap();
        // Rounds of one to eight pages that begin and end anywhere, with and without unmapping, up to the segment's
        // last byte.
        let (mut at, mut expected) = (0, Vec::new());
        for round in 0u8.. {
            let n = (usize::from(round % 8) * PAGE + 1_000).min((1 << 20) - at);
            if n == 0 {
                break;
            }
            let bytes = vec![round | 1; n];
            s.write(at as u64, &bytes);
            s.sync().unwrap();
            expected.extend_from_slice(&bytes);
            at += n;
        }
        assert!(s.map[..] == expected[..]);
        drop(s);
        assert!(content(&tmp.path().join("log.1")) == expected);
    }

    #[test]
    fn a_segment_is_allocated_written_grown_and_synced_by_every_method() {
        for sync in [SyncMethod::Fdatasync, SyncMethod::Msync, SyncMethod::Dsync] {
            let tmp = tempfile::tempdir().unwrap();
            let mut d = open(&tmp.path().join("a/version-2"), sync);
            let mut s = d.create_segment("log.1", 1 << 20, b"").unwrap();
            let file = tmp.path().join("a/version-2/log.1");
            let allocated = || fs::metadata(&file).unwrap().blocks() * 512;
            assert_eq!((s.len(), fs::metadata(&file).unwrap().len()), (1 << 20, 1 << 20));
            assert!(allocated() >= 1 << 20, "{sync:?}: holes are left");
            s.write(0, b"ZKLG");
            s.write(4, b"....");
            s.write((1 << 20) - 3, b"end");
            s.sync().unwrap();
            s.grow(3 << 20).unwrap();
            assert!(allocated() >= 3 << 20);
            s.write(8, b"second batch");
            s.write((1 << 20) - 1, b"D, and on");
            s.sync().unwrap();
            s.sync().unwrap();
            drop(s);
            d.sync_dir().unwrap();
            let c = content(&file);
            assert_eq!(c.len(), 3 << 20);
            assert!(c.starts_with(b"ZKLG....second batch\0"), "{sync:?}");
            assert_eq!(&c[(1 << 20) - 3..][..12], b"enD, and on\0", "{sync:?}");
            assert_eq!(d.create_segment("log.1", 10, b"").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        }
    }

    #[test]
    #[should_panic(expected = "write of 2 bytes at 4095 of a segment of 4096")]
    fn a_write_beyond_the_segment_is_a_bug() {
        let tmp = tempfile::tempdir().unwrap();
        let mut s = open(tmp.path(), SyncMethod::Dsync).create_segment("log.1", 4096, b"").unwrap();
        s.write(4095, b"ab");
    }

    #[test]
    fn a_full_disk_is_an_error_at_allocation_never_a_signal() {
        in_own_process!("disk_is_full");
    }

    /// Runs in a mount namespace of its own with a file system of 1 MiB; without the right to mount, with a limit of 1
    /// MiB per file.
    #[test]
    #[ignore = "run by a_full_disk_is_an_error_at_allocation_never_a_signal"]
    fn disk_is_full() {
        let tmp = tempfile::tempdir().unwrap();
        let c = |s: &str| std::ffi::CString::new(s).unwrap();
        let (none, root, fs_type, options) = (c("none"), c("/"), c("tmpfs"), c("size=1m"));
        let at = c(tmp.path().to_str().unwrap());
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: all pointers are C strings that live through the call, or null where null is allowed.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none.as_ptr(), root.as_ptr(), std::ptr::null(), private, std::ptr::null()) == 0
                && libc::mount(none.as_ptr(), at.as_ptr(), fs_type.as_ptr(), 0, options.as_ptr().cast()) == 0
        };
        let kind = if mounted {
            io::ErrorKind::StorageFull
        } else {
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
            // SAFETY: the limit is valid; ignoring SIGXFSZ turns it into EFBIG.
            unsafe {
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            }
            io::ErrorKind::FileTooLarge
        };
        let mut d = open(tmp.path(), SyncMethod::default());
        let e = d.create_segment("log.1", 2 << 20, b"").err().unwrap();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("log.1: cannot allocate 2097152 bytes"), "{e}");
        assert_eq!(d.list().unwrap(), [], "no empty log is left behind");
        let mut s = d.create_segment("log.1", 512 << 10, b"").unwrap();
        s.write(0, &[1; 512 << 10]);
        s.sync().unwrap();
        let e = s.grow(2 << 20).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        // The existing bytes are intact and still writable.
        s.write((512 << 10) - 1, &[2]);
        s.sync().unwrap();
        assert_eq!(content(&tmp.path().join("log.1"))[(512 << 10) - 2..][..2], [1, 2]);
        let mut w = d.create("snapshot.1").unwrap();
        let outcome = w.write_all(&vec![3; 2 << 20]).and_then(|()| w.sync());
        assert_eq!(outcome.unwrap_err().kind(), kind);
    }

    /// The kernel's flags of every mapping of this process whose file is called `name`.
    fn mapping_flags(name: &str) -> Vec<String> {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut flags = Vec::new();
        let mut ours = false;
        for line in smaps.lines() {
            if let Some(f) = line.strip_prefix("VmFlags:") {
                flags.extend(ours.then(|| f.to_owned()));
            } else if line.split_whitespace().next().is_some_and(|w| w.contains('-')) {
                ours = line.ends_with(name);
            }
        }
        flags
    }

    #[test]
    fn a_mapping_is_not_read_ahead_even_when_it_has_grown() {
        let tmp = tempfile::tempdir().unwrap();
        let mut d = open(tmp.path(), SyncMethod::default());
        let mut s = d.create_segment("log.5eed5", 1 << 20, b"").unwrap();
        for len in [1 << 20, 64 << 20] {
            s.grow(len).unwrap();
            let flags = mapping_flags("/log.5eed5");
            assert!(!flags.is_empty() && flags.iter().all(|f| f.contains(" rr")), "{flags:?}");
        }
    }

    #[test]
    fn without_fallocate_the_blocks_are_written() {
        let tmp = tempfile::tempdir().unwrap();
        let at = tmp.path().join("f");
        let f = OpenOptions::new().write(true).create_new(true).open(&at).unwrap();
        write_zeros(&f, 0, 100_000).unwrap();
        let m = fs::metadata(&at).unwrap();
        assert!(m.len() == 100_000 && m.blocks() * 512 >= 100_000);
    }
}
