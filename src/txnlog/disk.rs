//! What the log asks of a disk. The runtime implements it with files and mappings, the simulator with memory and faults.
//!
//! Durability contract: bytes written are durable after `sync` of that file returned `Ok`; a created, renamed or removed
//! name is durable after [`Dir::sync_dir`] returned `Ok`. A failed sync is final: the caller ends the process.

use std::io;

/// One directory, such as `dataDir/version-2`. Names are plain file names.
pub trait Dir: Send {
    /// A log segment open for writing.
    type Segment: Segment;
    /// A file open for sequential writing.
    type Writer: Writer;
    /// A file open for reading.
    type Reader: Reader;

    /// Where this is, for messages.
    fn path(&self) -> String;
    /// Names and lengths of the regular files, in no order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Creates a segment of `len` bytes, `head` and then zeros, every block allocated (an `ENOSPC` happens here, never in a later
    /// write), and maps it. Whenever the name is there, `head` and the length are too, and durable. Fails if the name exists. The name is not
    /// durable before `sync_dir`.
    fn create_segment(&mut self, name: &str, len: u64, head: &[u8]) -> io::Result<Self::Segment>;
    /// Says that a segment of about `len` bytes which begins with `head` will be created soon, so that it may be made ready. Nothing
    /// of it is to be seen under a log's name before. That it cannot be made is no error here: `create_segment` will tell.
    fn prepare_segment(&mut self, len: u64, head: &[u8]);
    /// Gives back what a segment that was made ready takes, and what closed segments are still to give back, because space is short.
    fn give_back_prepared(&mut self) -> io::Result<()>;
    /// Closes a segment all of whose bytes are durable, and gives back what was allocated behind the first `len`, at once or later:
    /// a crash may leave the zeros that are there.
    fn close_segment(&mut self, segment: Self::Segment, len: u64) -> io::Result<()>;
    /// Creates (or empties) a file for sequential writing.
    fn create(&mut self, name: &str) -> io::Result<Self::Writer>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Self::Reader>;
    /// Cuts or zero-extends an existing file to `len` and syncs it.
    fn set_len(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Writes the bytes from `from` to `to` of an existing file over themselves and `behind` from `to` on, and syncs the file.
    /// After a failed sync a page may be in memory, taken for clean, and not on the disk: only writing to it again brings it
    /// there.
    fn rewrite(&mut self, name: &str, from: u64, to: u64, behind: &[u8]) -> io::Result<()>;
    /// Renames inside the directory, replacing `to`.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&mut self) -> io::Result<()>;
}

/// A preallocated, mapped log file.
pub trait Segment: Send {
    /// Allocated bytes.
    fn len(&self) -> u64;
    /// Whether nothing is allocated.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies `bytes` to offset `at`. `at + bytes.len()` must not pass `len()`: a bug of ours otherwise.
    fn write(&mut self, at: u64, bytes: &[u8]);
    /// Allocates up to `len` bytes in total.
    fn grow(&mut self, len: u64) -> io::Result<()>;
    /// Makes all written bytes durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// The next write comes to `at`: what can be made ready for it is. Changes nothing that can be read.
    fn expect_write(&mut self, _at: u64) {}
}

/// Sequential writing (snapshots, epoch files).
pub trait Writer: io::Write + Send {
    /// Makes all written bytes and the length durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Sequential reading with a known length.
pub trait Reader: io::Read + Send {
    /// The file's length when it was opened.
    fn len(&self) -> u64;
    /// Whether the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
