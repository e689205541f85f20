//! Appending to the log. Mirrors `FileTxnLog.append`, `commit`, `rollLog` and `FilePadding`.

use std::io;

use super::disk::{Dir, Segment};
use super::end_mark::{self, Mark};
use super::names::{log_name, parse_log_name};
use super::record::{FILE_HEADER, Framed};
use crate::types::Zxid;

/// Apache's readers end a file where a length is zero, so some zeros stay behind the last record.
const ROOM: u64 = 4096;

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// `preAllocSize`: step in which a segment grows, in bytes.
    pub prealloc_bytes: u64,
    /// `txnLogSizeLimitInKb`, in bytes: a longer segment is closed after the next sync. `None`: no limit.
    pub roll_at_bytes: Option<u64>,
    /// `forceSync`: false makes `sync` a lie, as in ZooKeeper.
    pub force_sync: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { prealloc_bytes: 65536 << 10, roll_at_bytes: None, force_sync: true }
    }
}

struct Open<S> {
    segment: S,
    /// End of the last record.
    end: u64,
    /// Everything before this is durable.
    durable: u64,
    /// Chained CRC after the last record.
    chain: u32,
}

/// The log's writing end. One thread owns it. After an error it refuses everything: nobody knows what is on the disk, so
/// the process has to end and recover.
pub struct LogWriter<D: Dir> {
    dir: D,
    options: LogOptions,
    open: Option<Open<D::Segment>>,
    last: Zxid,
    durable: Zxid,
    failed: bool,
    /// The name of the open segment, for messages.
    name: String,
    closed_bytes: u64,
    /// A mark stands behind the last record, or there is none to put one behind.
    is_marked: bool,
}

impl<D: Dir> LogWriter<D> {
    /// Continues a log whose last transaction is `last`, with a new file: nothing is created before the first append.
    pub fn new(dir: D, last: Zxid, options: LogOptions) -> LogWriter<D> {
        assert!(options.prealloc_bytes <= 1 << 40, "preAllocSize of {} bytes", options.prealloc_bytes);
        assert!(last >= Zxid::ZERO, "a log cannot go on behind {last}");
        LogWriter {
            dir,
            options,
            open: None,
            last,
            durable: last,
            failed: false,
            name: String::new(),
            closed_bytes: 0,
            // Recovery left one.
            is_marked: true,
        }
    }

    /// The last transaction appended.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The last transaction known to be durable.
    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// The directory.
    pub fn dir(&self) -> &D {
        &self.dir
    }

    /// Name of the file being written, or the last one that was.
    pub fn file_name(&self) -> &str {
        &self.name
    }

    /// Bytes of log written by this process since [`LogWriter::snapshot_begun`]. Mirrors `getTotalLogSize`.
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.closed_bytes + self.open.as_ref().map_or(0, |o| o.end)
    }

    /// Starts [`LogWriter::bytes_since_snapshot`] anew.
    pub fn snapshot_begun(&mut self) {
        self.closed_bytes = 0;
    }

    /// Says that the state is now `last` without a log that leads to it: a snapshot was installed, or the log truncated.
    /// The next append opens a new file.
    pub fn restart_at(&mut self, last: Zxid) -> io::Result<()> {
        assert!(last >= Zxid::ZERO, "a log cannot go on behind {last}");
        self.roll()?;
        assert!(self.open.is_none(), "the file {} goes on behind a restart", self.name);
        (self.last, self.durable) = (last, last);
        Ok(())
    }

    /// Copies a transaction into the log. `payload` is `TxnHeader`, transaction and digest: a PROPOSAL's bytes; the frame
    /// and our trailer are added here. Not durable before [`LogWriter::sync`].
    ///
    /// # Panics
    /// If `zxid` does not directly follow the last one: a hole made by ourselves must never reach the disk.
    ///
    /// # Errors
    /// The disk is full, or a new file cannot be made. Final.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        assert!(self.last.precedes(zxid), "log append of {zxid} behind {}", self.last);
        assert_eq!(payload.get(12..20), Some(&zxid.0.to_be_bytes()[..]), "log append of {zxid}: not in the payload");
        self.usable()?;
        self.append_framed(zxid, payload).inspect_err(|_| self.failed = true)
    }

    fn append_framed(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        let step = self.options.prealloc_bytes;
        let need = Framed::len(payload);
        if self.open.is_none() {
            let begin = FILE_HEADER.len() as u64;
            let len = padded(begin + need, step);
            self.name = log_name(zxid);
            assert_eq!(parse_log_name(&self.name), Some(zxid), "a log is named after its first transaction");
            assert_eq!(self.durable, self.last, "a file begins before the one before it is durable");
            let sizes = Sizes { have: 0, least: padded(begin + need, ROOM), wanted: len };
            let name = &self.name;
            let segment = sizes.allocate(&mut self.dir, |dir, len| dir.create_segment(name, len, &FILE_HEADER))?;
            assert!(segment.len() >= begin + need + ROOM, "{} has {} bytes of space", self.name, segment.len());
            self.open = Some(Open { segment, end: begin, durable: 0, chain: 0 });
        }
        let open = self.open.as_mut().expect("a segment is open");
        if open.end + need + ROOM > open.segment.len() {
            let (least, wanted) = (padded(open.end + need, ROOM), padded(open.end + need, step));
            let sizes = Sizes { have: open.segment.len(), least, wanted };
            sizes.allocate(&mut self.dir, |_, len| open.segment.grow(len))?;
            assert!(open.end + need + ROOM <= open.segment.len(), "{} grew to {} bytes", self.name, open.segment.len());
        }
        // On the append path, and its breach would be told by the segment or by the reading test of every record.
        debug_assert!(open.durable <= open.end, "{} is durable beyond its end", self.name);
        let unsynced = u32::try_from(open.end - open.durable).unwrap_or(u32::MAX);
        let framed = Framed::new(payload, self.last, unsynced, open.chain);
        let mut at = open.end;
        framed.pieces(payload, |bytes| {
            open.segment.write(at, bytes);
            at += bytes.len() as u64;
        });
        assert!(at == open.end + need, "the record of {zxid} takes {} bytes instead of {need}", at - open.end);
        open.end = at;
        open.chain = framed.crc;
        self.last = zxid;
        self.is_marked = false;
        Ok(())
    }

    /// Whether [`LogWriter::mark`] would do nothing.
    pub fn is_marked(&self) -> bool {
        self.is_marked || self.open.as_ref().is_none_or(|o| o.durable < o.end)
    }

    /// Whether a mark tells of the file's end.
    pub fn ends_with_mark(&self) -> bool {
        self.is_marked
    }

    /// Says in the file that its last record is durable, so that rot in it cannot pass for a torn write. For a moment in which
    /// there is nothing else to do: it is a sync.
    ///
    /// # Errors
    /// Final, as of [`LogWriter::sync`].
    pub fn mark(&mut self) -> io::Result<()> {
        self.usable()?;
        if self.is_marked() {
            return Ok(());
        }
        self.put_mark();
        let outcome = self.open.as_mut().map_or(Ok(()), |open| open.segment.sync());
        outcome.inspect_err(|_| self.failed = true)
    }

    fn put_mark(&mut self) {
        if let Some(open) = &mut self.open {
            assert_eq!(open.durable, open.end, "a mark would call durable what is not, in {}", self.name);
            assert!(open.end > FILE_HEADER.len() as u64, "a mark in {}, which has no record", self.name);
            assert!(open.end + end_mark::LEN as u64 <= open.segment.len(), "no space for a mark in {}", self.name);
            let mark = Mark { last: self.last, chain: open.chain };
            open.segment.write(open.end, &mark.bytes(open.end));
            self.is_marked = true;
        }
    }

    /// Makes everything appended durable, the file's name included, and returns the last zxid that is.
    ///
    /// # Errors
    /// Final: what a failed sync leaves on the disk is unknown, and trying again proves nothing.
    pub fn sync(&mut self) -> io::Result<Zxid> {
        self.usable()?;
        self.sync_open(self.options.force_sync).inspect_err(|_| self.failed = true)?;
        let limit = self.options.roll_at_bytes.unwrap_or(u64::MAX);
        let end = self.open.as_ref().map_or(0, |o| o.end);
        if end > limit {
            self.close().inspect_err(|_| self.failed = true)?;
        } else if end > limit - limit / 8 {
            self.prepare();
        }
        assert_eq!(self.durable, self.last, "a sync left a record behind");
        Ok(self.durable)
    }

    fn sync_open(&mut self, force: bool) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && open.durable < open.end
            && force
        {
            assert!(open.end <= open.segment.len(), "{} has records behind its end", self.name);
            open.segment.sync()?;
            if open.durable == 0 {
                self.dir.sync_dir()?;
            }
            open.durable = open.end;
        }
        assert!(self.durable <= self.last, "{} is durable and was never appended", self.durable);
        self.durable = self.last;
        Ok(())
    }

    /// Makes the place of the next record ready, when there is nothing else to do: see [`Segment::expect_write`].
    pub fn expect_write(&mut self) {
        if let Some(open) = &mut self.open {
            open.segment.expect_write(open.end);
        }
    }

    /// Says that [`LogWriter::roll`] will come soon: the next file is made ready meanwhile.
    pub fn prepare(&mut self) {
        if self.open.is_some() && !self.failed {
            self.dir.prepare_segment(padded(FILE_HEADER.len() as u64, self.options.prealloc_bytes), &FILE_HEADER);
        }
    }

    /// Ends the current file; the next append opens a new one. What was appended is made durable first, `forceSync` or not, so
    /// that damage in a file that is not the last can never be a crash's. The blocks behind the last record are given back.
    pub fn roll(&mut self) -> io::Result<()> {
        self.usable()?;
        self.close().inspect_err(|_| self.failed = true)
    }

    fn close(&mut self) -> io::Result<()> {
        self.sync_open(true)?;
        self.mark()?;
        if let Some(open) = self.open.take() {
            assert!(self.is_marked, "{} is closed without a mark", self.name);
            assert_eq!(open.durable, open.end, "{} is closed before it is durable", self.name);
            self.closed_bytes += open.end;
            self.dir.close_segment(open.segment, open.end + end_mark::LEN as u64)?;
        }
        Ok(())
    }

    fn usable(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(format!(
                "the log in {} failed before: what is on the disk is unknown; restart the server to recover",
                self.dir.path()
            )));
        }
        Ok(())
    }
}

/// Lengths that a segment may have, in bytes.
#[derive(Clone, Copy)]
struct Sizes {
    /// What it has now.
    have: u64,
    /// What the next record needs.
    least: u64,
    /// What `preAllocSize` asks for.
    wanted: u64,
}

impl Sizes {
    /// Has `attempt` allocate what is wanted. When the disk has not so much, space that is held for later is given back first, then
    /// less and less is tried, down to what the record needs. All lengths tried are whole blocks, as a file without records must be
    /// long.
    fn allocate<D: Dir, T>(self, dir: &mut D, mut attempt: impl FnMut(&mut D, u64) -> io::Result<T>) -> io::Result<T> {
        let Sizes { have, least, wanted } = self;
        assert!(have <= least && least <= wanted, "{have}, {least} and {wanted} bytes of a segment");
        match attempt(dir, wanted) {
            Err(e) if is_full(&e) => dir.give_back_prepared()?,
            outcome => return outcome,
        }
        let mut len = wanted;
        loop {
            assert!((least..=wanted).contains(&len), "{len} bytes are tried, {least} to {wanted} would do");
            assert!(len.is_multiple_of(ROOM), "{len} bytes are no whole blocks");
            match attempt(dir, len) {
                Err(e) if is_full(&e) && len > least => {
                    let half = (have + (len - have) / 2).next_multiple_of(ROOM);
                    // Halves of one block are one block.
                    len = if half < len { half.max(least) } else { least };
                }
                outcome => return outcome,
            }
        }
    }
}

/// Whether the error says that there is no space left.
fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Length of a segment that has to hold `end` bytes and some zeros: a multiple of `step`, which is rounded up to whole blocks.
fn padded(end: u64, step: u64) -> u64 {
    let len = (end + ROOM).next_multiple_of(step.max(1).next_multiple_of(ROOM));
    assert!(len >= end + ROOM, "{len} bytes for a segment that has to hold {end}");
    len
}
