//! Checks at start whether a directory can be written to, instead of failing at the first write. Apache only creates
//! the directory (`FileTxnSnapLog`), which says nothing about an existing one that belongs to another user.

use super::segment::make_segment;
use super::{FsDir, NEW_SEGMENT, ahead};
use std::io;

impl FsDir {
    /// Creates a file of `bytes` allocated bytes, syncs it, and removes it. Only for the process that holds the
    /// directory's lock, and before [`FsDir::with_segments_ahead`].
    ///
    /// # Errors
    /// The directory cannot be written to, its file system is read-only, or there is not enough space.
    pub fn check_writable(&self, bytes: u64) -> io::Result<()> {
        assert!(self.ahead.is_none(), "a segment may be there that was made ahead");
        let path = self.at(NEW_SEGMENT);
        // A file left by an earlier process may belong to another user, so it is replaced and not written to.
        ahead::remove(&path)?;
        drop(make_segment(&path, &path, bytes.max(1), b"", self.sync)?);
        ahead::remove(&path)
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::disk::{FsDir, NEW_SEGMENT, SyncMethod};
    use crate::txnlog::disk::Dir;
    use std::fs;

    #[test]
    fn a_directory_is_as_before_once_it_was_checked() {
        let tmp = tempfile::tempdir().unwrap();
        let d = FsDir::open(tmp.path(), false, SyncMethod::default()).unwrap();
        fs::write(tmp.path().join(NEW_SEGMENT), b"of a process that was killed").unwrap();
        fs::write(tmp.path().join("log.1"), b"x").unwrap();
        d.check_writable(0).unwrap();
        d.check_writable(1 << 20).unwrap();
        assert_eq!(d.list().unwrap(), [("log.1".to_owned(), 1)]);
        let e = d.check_writable(1 << 62).unwrap_err();
        assert!(e.to_string().contains("cannot allocate 4611686018427387904 bytes"), "{e}");
        assert_eq!(d.list().unwrap().len(), 1);
    }
}
