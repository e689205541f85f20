//! Appends to the log. Mirrors `FileTxnLog.append`, `commit`, `rollLog` and `FilePadding`.

use std::io;

use super::disk::{Dir, Segment};
use super::end_mark::{self, Mark};
use super::names::{log_name, parse_log_name};
use super::record::{FILE_HEADER, Framed};
pub use super::space::SnapshotRoom;
use super::space::{self, ROOM, Sizes, padded};
use crate::types::Zxid;

/// Settings of the log's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// `preAllocSize` in bytes: the step in which a segment grows.
    pub prealloc_bytes: u64,
    /// `txnLogSizeLimitInKb` in bytes: a longer segment is closed after the next sync. `None`: no limit.
    pub roll_at_bytes: Option<u64>,
    /// `forceSync`: if false, `sync` returns without syncing, as in ZooKeeper.
    pub force_sync: bool,
    /// `syncEnabled`: if false, records are counted and written nowhere, and "durable" means only that nobody needs to wait for
    /// them. That is for observers: nobody counts on what they have. A server that may vote or lead needs its log.
    pub keeps: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { prealloc_bytes: 65536 << 10, roll_at_bytes: None, force_sync: true, keeps: true }
    }
}

struct Open<S> {
    segment: S,
    /// Offset where the last record ends.
    end: u64,
    /// Everything before this is durable.
    durable: u64,
    /// The chained CRC after the last record.
    chain: u32,
}

/// Writes the log. One thread owns it. After an error it refuses everything: it is unknown what is on the disk, so the
/// process has to end and recover.
pub struct LogWriter<D: Dir> {
    dir: D,
    options: LogOptions,
    open: Option<Open<D::Segment>>,
    last: Zxid,
    durable: Zxid,
    failed: bool,
    /// The name of the open segment, for messages.
    name: String,
    /// Space that allocations leave for the next snapshot.
    room: SnapshotRoom,
    /// There is an end mark after the last record, or there is no record to mark.
    is_marked: bool,
}

impl<D: Dir> LogWriter<D> {
    /// Continues a log whose last transaction is `last`, in a new file. Nothing is created before the first append.
    pub fn new(dir: D, last: Zxid, options: LogOptions) -> LogWriter<D> {
        assert!(options.prealloc_bytes <= 1 << 40, "preAllocSize of {} bytes", options.prealloc_bytes);
        assert!(last >= Zxid::ZERO, "a log cannot go on after {last}");
        LogWriter {
            dir,
            options,
            open: None,
            last,
            durable: last,
            failed: false,
            name: String::new(),
            room: SnapshotRoom::default(),
            // Recovery has written one.
            is_marked: true,
        }
    }

    /// Leaves room for a snapshot on the log's file system when it allocates more than a record needs.
    pub fn leaving(self, room: SnapshotRoom) -> LogWriter<D> {
        LogWriter { room, ..self }
    }

    /// The zxid of the last transaction appended.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The zxid of the last transaction known to be durable.
    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// Whether records are written, so that a start finds them.
    pub fn keeps(&self) -> bool {
        self.options.keeps
    }

    /// The directory.
    pub fn dir(&self) -> &D {
        &self.dir
    }

    /// Name of the file that is being written, or was written last.
    pub fn file_name(&self) -> &str {
        &self.name
    }

    /// Ends the current file and returns the directory, in which now nothing is open for writing.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn closed(&mut self) -> io::Result<&mut D> {
        self.roll()?;
        assert!(self.open.is_none(), "the file {} is open behind its end", self.name);
        Ok(&mut self.dir)
    }

    /// Sets the last zxid to `last` although the log does not lead to it: a snapshot was installed, or the log was
    /// truncated. The next append opens a new file.
    pub fn restart_at(&mut self, last: Zxid) -> io::Result<()> {
        assert!(last >= Zxid::ZERO, "a log cannot go on after {last}");
        self.roll()?;
        assert!(self.open.is_none(), "the file {} goes on after a restart", self.name);
        (self.last, self.durable) = (last, last);
        Ok(())
    }

    /// Copies a transaction into the log. `payload` is header, transaction and digest, as in a PROPOSAL; the frame and
    /// the trailer are added here. It is not durable before [`LogWriter::sync`].
    ///
    /// # Panics
    /// If `zxid` does not directly follow the last one: a gap of our own making must never reach the disk.
    ///
    /// # Errors
    /// The disk is full, or a new file cannot be created. All errors are final.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        assert!(self.last.precedes(zxid), "log append of {zxid} after {}", self.last);
        assert_eq!(payload.get(12..20), Some(&zxid.0.to_be_bytes()[..]), "log append of {zxid}: not in the payload");
        self.usable()?;
        if !self.options.keeps {
            self.last = zxid;
            return Ok(());
        }
        self.append_framed(zxid, payload).inspect_err(|_| self.failed = true)
    }

    fn append_framed(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        let step = self.options.prealloc_bytes;
        let need = Framed::len(payload);
        if self.open.is_none() {
            let begin = FILE_HEADER.len() as u64;
            self.name = log_name(zxid);
            assert_eq!(parse_log_name(&self.name), Some(zxid), "a log is named after its first transaction");
            assert_eq!(self.durable, self.last, "a file begins before the one before it is durable");
            let (least, wanted) = (padded(begin + need, ROOM), padded(begin + need, step));
            let segment = self.create(Sizes { have: 0, least, wanted })?;
            assert!(segment.len() >= begin + need + ROOM, "{} has {} bytes of space", self.name, segment.len());
            self.open = Some(Open { segment, end: begin, durable: 0, chain: 0 });
        }
        let open = self.open.as_mut().expect("a segment is open");
        if open.end + need + ROOM > open.segment.len() {
            let (least, wanted) = (padded(open.end + need, ROOM), padded(open.end + need, step));
            let sizes = Sizes { have: open.segment.len(), least, wanted };
            // What is not synced yet is not counted yet.
            let reserved = self.room.bytes().map(|bytes| bytes.saturating_add(open.end - open.durable));
            sizes.allocate(&mut self.dir, reserved, |_, len| open.segment.grow(len))?;
            assert!(open.end + need + ROOM <= open.segment.len(), "{} grew to {} bytes", self.name, open.segment.len());
        }
        // In debug builds only: this is on the append path.
        debug_assert!(open.durable <= open.end, "{} is durable beyond its end", self.name);
        let unsynced = u32::try_from(open.end - open.durable).unwrap_or(u32::MAX);
        let framed = Framed::new(payload, self.last, unsynced, open.chain);
        let mut at = open.end;
        framed.pieces(payload, |bytes| {
            open.segment.write(at, bytes);
            at += bytes.len() as u64;
        });
        // In debug builds only, like the others here: this is on the append path.
        debug_assert!(at == open.end + need, "the record of {zxid} takes {} bytes instead of {need}", at - open.end);
        open.end = at;
        open.chain = framed.crc;
        self.last = zxid;
        self.is_marked = false;
        Ok(())
    }

    /// The file of the next record: the prepared one if it leaves enough space, else a new one.
    fn create(&mut self, sizes: Sizes) -> io::Result<D::Segment> {
        let (name, reserved) = (&self.name, self.room.bytes());
        if !space::may_keep(sizes.wanted, self.dir.free_bytes(), reserved) {
            self.dir.give_back_prepared()?;
        } else if let Some(segment) = self.dir.take_prepared(name, sizes.least, &FILE_HEADER)? {
            return Ok(segment);
        }
        sizes.allocate(&mut self.dir, reserved, |dir, len| dir.create_segment(name, len, &FILE_HEADER))
    }

    /// Whether [`LogWriter::mark`] would do nothing.
    pub fn is_marked(&self) -> bool {
        self.is_marked || self.open.as_ref().is_none_or(|o| o.durable < o.end)
    }

    /// Whether the file ends with an end mark.
    pub fn ends_with_mark(&self) -> bool {
        self.is_marked
    }

    /// Writes an end mark, which says that the last record is durable, so that damage to it cannot be taken for a torn
    /// write. This needs a sync, so call it when there is nothing else to do.
    ///
    /// # Errors
    /// All errors are final, as for [`LogWriter::sync`].
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

    /// Makes everything appended durable, including the file's name, and returns the last durable zxid.
    ///
    /// # Errors
    /// All errors are final: it is unknown what a failed sync leaves on the disk, and a successful second sync proves
    /// nothing.
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
            assert!(open.end <= open.segment.len(), "{} has records beyond its end", self.name);
            open.segment.sync()?;
            if open.durable == 0 {
                self.dir.sync_dir()?;
            }
            self.room.add_logged(open.end - open.durable);
            open.durable = open.end;
        }
        assert!(self.durable <= self.last, "{} is durable and was never appended", self.durable);
        self.durable = self.last;
        Ok(())
    }

    /// Prepares the memory for the next record, when there is nothing else to do: see [`Segment::expect_write`].
    pub fn expect_write(&mut self) {
        if let Some(open) = &mut self.open {
            open.segment.expect_write(open.end);
        }
    }

    /// Announces that [`LogWriter::roll`] follows soon: the next file is prepared meanwhile, if there is much space.
    pub fn prepare(&mut self) {
        let len = padded(FILE_HEADER.len() as u64, self.options.prealloc_bytes);
        if self.open.is_some() && !self.failed && space::may_prepare(len, self.dir.free_bytes(), self.room.bytes()) {
            self.dir.prepare_segment(len, &FILE_HEADER);
        }
    }

    /// Ends the current file; the next append opens a new one. What was appended is made durable first, even if
    /// `forceSync` is false, so that a crash can never damage a file that is not the last. The blocks after the last
    /// record are freed.
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
