//! Removes large files beside a running log. A file system that tells the device about freed blocks (`discard`) does
//! this for the whole file at once, and the device does nothing else meanwhile: 240 MB were seen to delay the log's
//! sync by 35 ms.
//!
//! So the name is removed first, then the blocks, a few megabytes at a time. Nobody can notice: a file that still has
//! another name, or that is open elsewhere (a backup, the `snapshot` command), keeps its bytes until that ends.

use super::named;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Bytes freed at a time: discarding them takes less than a millisecond.
const STEP: u64 = 4 << 20;

/// Pause after each step, in which others can use the disk: a gigabyte takes two and a half seconds.
const REST: Duration = Duration::from_millis(10);

/// Removes the file and frees its blocks in steps with pauses.
pub(super) fn remove_in_steps(path: &Path) -> io::Result<()> {
    // If we may not write to the file, it is removed at once.
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok();
    named(fs::remove_file(path), path, "remove the file")?;
    match file {
        Some(file) if is_nobody_elses(&file) => {
            named(cut(&file, || std::thread::sleep(REST)), path, "cut the removed file")
        }
        _ => Ok(()),
    }
}

/// Whether the file has no name any more and is not open elsewhere, so that nobody can read its bytes any more.
fn is_nobody_elses(file: &File) -> bool {
    let lease = |how: libc::c_int| {
        // SAFETY: no pointers; the descriptor is open.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, how) == 0 }
    };
    // The kernel grants a write lease only on a file that nobody else has open. File systems without leases refuse.
    file.metadata().is_ok_and(|m| m.is_file() && m.nlink() == 0) && lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
}

/// Shortens the file to nothing, in steps.
fn cut(file: &File, mut rest: impl FnMut()) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    while len > 0 {
        len = len.saturating_sub(STEP);
        file.set_len(len)?;
        if len > 0 {
            rest();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn file(at: &Path, len: u64) -> File {
        let f = File::create(at).unwrap();
        f.set_len(len).unwrap();
        f
    }

    #[test]
    fn a_file_is_cut_in_steps() {
        let tmp = tempfile::tempdir().unwrap();
        let f = file(&tmp.path().join("f"), 3 * STEP + 5);
        let mut seen = Vec::new();
        cut(&f, || seen.push(f.metadata().unwrap().len())).unwrap();
        assert_eq!(seen, [2 * STEP + 5, STEP + 5, 5]);
        assert_eq!(f.metadata().unwrap().len(), 0);
    }

    #[test]
    fn only_a_file_without_name_and_readers_is_cut() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("f");
        let f = file(&path, 10);
        assert!(!is_nobody_elses(&f), "it has a name");
        fs::remove_file(&path).unwrap();
        assert!(is_nobody_elses(&f));
        let f = file(&path, 10);
        let reader = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!is_nobody_elses(&f), "somebody reads it");
        drop(reader);
        assert!(is_nobody_elses(&f));
        let dir = File::open(tmp.path()).unwrap();
        assert!(!is_nobody_elses(&dir));
    }

    #[test]
    fn readers_and_other_names_keep_what_they_had() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, link) = (tmp.path().join("snapshot.5"), tmp.path().join("backup"));
        let bytes: Vec<u8> = (0..2 * STEP as u32 + 77).map(|n| n as u8).collect();
        let whole = |f: &mut File| {
            let mut back = Vec::new();
            f.read_to_end(&mut back).unwrap();
            assert!(back == bytes);
        };
        fs::write(&path, &bytes).unwrap();
        fs::hard_link(&path, &link).unwrap();
        remove_in_steps(&path).unwrap();
        whole(&mut File::open(&link).unwrap());
        let mut reader = File::open(&link).unwrap();
        remove_in_steps(&link).unwrap();
        whole(&mut reader);
        assert!(fs::read_dir(tmp.path()).unwrap().next().is_none());
        fs::write(&path, &bytes).unwrap();
        remove_in_steps(&path).unwrap();
        assert!(!path.exists());
        let e = remove_in_steps(&path).unwrap_err();
        assert!(e.kind() == io::ErrorKind::NotFound && e.to_string().contains("snapshot.5: cannot remove"), "{e}");
        // The target of a link is not ours.
        fs::write(tmp.path().join("target"), &bytes).unwrap();
        std::os::unix::fs::symlink(tmp.path().join("target"), &path).unwrap();
        remove_in_steps(&path).unwrap();
        assert!(!path.exists() && fs::metadata(tmp.path().join("target")).unwrap().len() == bytes.len() as u64);
    }
}
