//! What the log needs of a disk. The runtime implements it with files and mappings, the simulator with memory and
//! faults.
//!
//! Durability: bytes are durable when `sync` of their file has returned `Ok`; the creation, renaming or removal of a
//! name is durable when [`Dir::sync_dir`] has returned `Ok`. A failed sync is final: the caller must end the process.

use std::io;

/// One directory, such as `dataDir/version-2`. Names are plain file names.
pub trait Dir: Send {
    /// A log segment open for writing.
    type Segment: Segment;
    /// A file open for sequential writing.
    type Writer: Writer;
    /// A file open for reading.
    type Reader: Reader;

    /// The path, for messages.
    fn path(&self) -> String;
    /// Names and lengths of the regular files, in no particular order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Creates a segment of `len` bytes that contains `head` and then zeros, with every block allocated (so that
    /// `ENOSPC` can only happen here, never in a later write), and maps it. If the name exists after a crash, then
    /// `head` and the length are durable too. The name itself is not durable before `sync_dir`. Fails if the name
    /// exists already.
    fn create_segment(&mut self, name: &str, len: u64, head: &[u8]) -> io::Result<Self::Segment>;
    /// Announces that a segment of about `len` bytes which begins with `head` will be created soon, so that it can be
    /// prepared. Until [`Dir::take_prepared`] nothing of it is visible under a log's name. A failure is not reported
    /// here; `create_segment` will report it.
    fn prepare_segment(&mut self, len: u64, head: &[u8]);
    /// What [`Dir::create_segment`] would create, if it was prepared and has at least `least` bytes.
    fn take_prepared(&mut self, name: &str, least: u64, head: &[u8]) -> io::Result<Option<Self::Segment>>;
    /// Bytes that are free for new files. `None` if nobody knows.
    fn free_bytes(&self) -> Option<u64>;
    /// Frees the space of a prepared segment, and the space that closed segments have still to free, because space is
    /// short.
    fn give_back_prepared(&mut self) -> io::Result<()>;
    /// Closes a segment whose bytes are all durable. What was allocated beyond `len` is freed at once or later; after a
    /// crash zeros may still be there.
    fn close_segment(&mut self, segment: Self::Segment, len: u64) -> io::Result<()>;
    /// Creates a file for sequential writing, or empties an existing one.
    fn create(&mut self, name: &str) -> io::Result<Self::Writer>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Self::Reader>;
    /// Cuts or extends (with zeros) an existing file to `len` bytes and syncs it.
    fn set_len(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Writes the bytes of `from..to` of an existing file again and `tail` after them, and syncs the file. After a
    /// failed sync a page may be marked clean in memory although it is not on the disk; only writing to it again brings
    /// it there.
    fn rewrite(&mut self, name: &str, from: u64, to: u64, tail: &[u8]) -> io::Result<()>;
    /// Renames inside the directory, replacing `to`.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes all changes of names durable.
    fn sync_dir(&mut self) -> io::Result<()>;
}

/// A preallocated, memory-mapped log file.
pub trait Segment: Send {
    /// Number of allocated bytes.
    fn len(&self) -> u64;
    /// Whether nothing is allocated.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies `bytes` to offset `at`. Panics if `at + bytes.len()` exceeds `len()`.
    fn write(&mut self, at: u64, bytes: &[u8]);
    /// Allocates up to `len` bytes in total.
    fn grow(&mut self, len: u64) -> io::Result<()>;
    /// Makes all written bytes durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// The next write will be at `at`: prepares the memory for it. Changes no data.
    fn expect_write(&mut self, _at: u64) {}
}

/// Sequential writing (snapshots, epoch files).
pub trait Writer: io::Write + Send {
    /// Makes all written bytes and the file's length durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Sequential reading with a known length.
pub trait Reader: io::Read + Send {
    /// The file's length when it was opened.
    fn len(&self) -> u64;
    /// Skips bytes from the current place on that the file system knows to be zeros because it keeps no blocks for them (a hole);
    /// returns how many. Where nobody knows, none.
    ///
    /// # Errors
    /// The disk's.
    fn skip_hole(&mut self) -> io::Result<u64> {
        Ok(0)
    }
    /// Whether the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
