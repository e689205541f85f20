//! How much of the disk a log segment may take. Plays the part of `FilePadding`, which takes `preAllocSize` bytes and
//! fails if they are not there.
//!
//! Allocating ahead must never be the reason why the disk is full. So an allocation leaves room for the next snapshot,
//! as long as there is any. If that is impossible, the log takes what the next record needs and no more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::disk::Dir;

/// Apache's readers take a length of zero for the end of a file, so at least this many zeros follow the last record.
pub(super) const ROOM: u64 = 4096;

/// The space that the next snapshot is likely to need: that of the newest one, and as much as was logged since it began.
/// The log and the [snapshotter](super::snapshotter::Snapshotter) share it if they write to the same file system.
/// Otherwise each has the default, which reserves nothing.
#[derive(Clone, Debug, Default)]
pub struct SnapshotRoom(Option<Arc<Need>>);

#[derive(Debug)]
struct Need {
    newest: AtomicU64,
    logged: AtomicU64,
}

impl SnapshotRoom {
    /// `newest` is the length of the newest snapshot's file, `logged` the number of log bytes after it.
    pub fn new(newest: u64, logged: u64) -> SnapshotRoom {
        SnapshotRoom(Some(Arc::new(Need { newest: newest.into(), logged: logged.into() })))
    }

    /// The number of bytes. `None`: snapshots are on another file system.
    pub fn bytes(&self) -> Option<u64> {
        self.0.as_ref().map(|n| n.newest.load(Relaxed).saturating_add(n.logged.load(Relaxed)))
    }

    /// Bytes were added to the log.
    pub(super) fn add_logged(&self, bytes: u64) {
        if let Some(need) = &self.0 {
            need.logged.fetch_add(bytes, Relaxed);
        }
    }

    /// A snapshot begins. Returns what [`SnapshotRoom::end_snapshot`] has to know.
    pub(super) fn begin_snapshot(&self) -> u64 {
        self.0.as_ref().map_or(0, |n| n.logged.load(Relaxed))
    }

    /// The snapshot has become a file of `bytes` bytes. `logged` was returned when it began: it contains that much of the
    /// log, so this space is not needed again.
    pub(super) fn end_snapshot(&self, bytes: u64, logged: u64) {
        if let Some(need) = &self.0 {
            need.newest.store(bytes, Relaxed);
            let before = need.logged.fetch_sub(logged, Relaxed);
            assert!(before >= logged, "a snapshot contains {logged} bytes of the log, which has only {before}");
        }
    }
}

/// Possible lengths of a segment, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The current length.
    pub(super) have: u64,
    /// The length that the next record needs.
    pub(super) least: u64,
    /// The length according to `preAllocSize`.
    pub(super) wanted: u64,
}

impl Sizes {
    /// Calls `attempt` to allocate the wanted length. If that would not leave `reserved` bytes for a snapshot, or if
    /// there is not enough space, space that is reserved for later is freed first, and then smaller lengths are tried,
    /// down to what the record needs. All lengths are whole blocks, since recovery expects that of a file without
    /// records.
    pub(super) fn allocate<D: Dir, T>(
        self,
        dir: &mut D,
        reserved: Option<u64>,
        mut attempt: impl FnMut(&mut D, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let Sizes { have, least, wanted } = self;
        assert!(have <= least && least <= wanted, "{have}, {least} and {wanted} bytes of a segment");
        let mut len = self.affordable(dir.free_bytes(), reserved);
        if len < wanted {
            dir.give_back_prepared()?;
            len = self.affordable(dir.free_bytes(), reserved);
        }
        match attempt(dir, len) {
            Err(e) if is_full(&e) => dir.give_back_prepared()?,
            outcome => return outcome,
        }
        loop {
            assert!((least..=wanted).contains(&len), "{len} bytes are tried, {least} to {wanted} would do");
            assert!(len.is_multiple_of(ROOM), "{len} bytes are no whole blocks");
            match attempt(dir, len) {
                Err(e) if is_full(&e) && len > least => {
                    let half = (have + (len - have) / 2).next_multiple_of(ROOM);
                    // Half of one block is rounded up to one block.
                    len = if half < len { half.max(least) } else { least };
                }
                outcome => return outcome,
            }
        }
    }

    /// The greatest length that leaves room for the snapshot. A snapshot grows by about as much as is logged, so for
    /// each byte of the segment one more byte must stay free.
    fn affordable(self, free: Option<u64>, reserved: Option<u64>) -> u64 {
        let (Some(free), Some(reserved)) = (free, reserved) else { return self.wanted };
        let more = free.saturating_sub(reserved) / 2 / ROOM * ROOM;
        self.wanted.min(self.have.saturating_add(more)).max(self.least)
    }
}

/// Whether a segment of `len` bytes that is needed only later leaves enough of `free` bytes: `reserved` ones for a
/// snapshot, and as many as it takes itself.
pub(super) fn may_prepare(len: u64, free: Option<u64>, reserved: Option<u64>) -> bool {
    free.is_none_or(|free| free / 2 >= len && free.saturating_sub(reserved.unwrap_or(0)) / 2 >= len)
}

/// Whether a prepared segment of `len` bytes still leaves room for the snapshot, as [`may_prepare`] found before.
pub(super) fn may_keep(len: u64, free: Option<u64>, reserved: Option<u64>) -> bool {
    let (Some(free), Some(reserved)) = (free, reserved) else { return true };
    free >= reserved.saturating_add(len)
}

/// Whether the error says that there is no space left.
fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Length of a segment that has to hold `end` bytes and some zeros: a multiple of `step`, which is rounded up to whole
/// blocks.
pub(super) fn padded(end: u64, step: u64) -> u64 {
    let len = (end + ROOM).next_multiple_of(step.max(1).next_multiple_of(ROOM));
    assert!(len >= end + ROOM, "{len} bytes for a segment that has to hold {end}");
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::replica::SMALL;
    use crate::oracle::test_disk::TestDisk;
    use crate::txn::{Txn, TxnHeader};
    use crate::txnlog::snapshot::SnapshotOptions;
    use crate::txnlog::snapshotter::{SnapshotPart, Snapshotter};
    use crate::txnlog::writer::{LogOptions, LogWriter};
    use crate::types::{Cxid, Now, Op, SessionId, Zxid};

    fn record(zxid: Zxid) -> Vec<u8> {
        let mut out = Vec::new();
        TxnHeader { session: SessionId(1), cxid: Cxid(1), zxid, time_ms: 1, op: Op::SET_DATA }.put(&mut out);
        Txn::SetData { path: "/a".into(), data: Some(vec![7; 1000].into()), version: 1 }.put(&mut out);
        out
    }

    /// Bytes of all files, without what is allocated for later in the open segment and in a prepared one. By chance a
    /// closed segment keeps its zeros on this disk.
    fn content(disk: &TestDisk, open: &str) -> u64 {
        let used = |name: String| match disk.bytes(&name) {
            bytes if name == open || name == "new.segment" => {
                bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
            }
            bytes => bytes.len(),
        };
        disk.names().into_iter().map(used).sum::<usize>() as u64
    }

    /// A server that logs and takes snapshots until the disk is full: records go on while a snapshot is written.
    struct Server {
        disk: TestDisk,
        log: LogWriter<TestDisk>,
        snapshotter: Snapshotter<TestDisk>,
        nodes: Vec<u8>,
        zxid: i64,
    }

    impl Server {
        fn new(space: u64, prealloc_bytes: u64) -> Server {
            let disk = TestDisk::new();
            disk.limit_space(Some(space));
            let room = SnapshotRoom::new(0, 0);
            let options = LogOptions { prealloc_bytes, ..SMALL };
            Server {
                log: LogWriter::new(disk.clone(), Zxid::ZERO, options).leaving(room.clone()),
                snapshotter: Snapshotter::new(disk.clone(), SnapshotOptions::default()).sharing(room),
                disk,
                nodes: Vec::new(),
                zxid: 0,
            }
        }

        fn write(&mut self, records: usize) -> io::Result<()> {
            for _ in 0..records {
                self.zxid += 1;
                let record = record(Zxid(self.zxid));
                self.log.append(Zxid(self.zxid), &record)?;
                self.log.sync()?;
                self.nodes.extend_from_slice(&record);
            }
            Ok(())
        }

        /// The log is rolled and a snapshot taken. Whether the snapshot had enough space; the log's errors are passed on.
        fn snapshot(&mut self, meanwhile: usize) -> io::Result<bool> {
            self.log.prepare();
            self.write(1)?;
            self.log.roll()?;
            let (zxid, nodes) = (Zxid(self.zxid), self.nodes.clone());
            let begin = SnapshotPart::Begin { zxid, digest: None, sessions: Vec::new(), acls: Vec::new() };
            let now = Now::default();
            for piece in [begin, SnapshotPart::Nodes(nodes), SnapshotPart::End] {
                self.write(meanwhile)?;
                if let Err(e) = self.snapshotter.take(now, piece) {
                    assert_eq!(e.kind(), io::ErrorKind::StorageFull, "{e}");
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }

    #[test]
    fn a_disk_is_full_of_records_and_snapshots_not_of_space_for_later() {
        let (mut by_log, mut by_snapshot) = (0, 0);
        for prealloc_bytes in [16 << 10, 64 << 10, 1 << 20] {
            for space in [200_000, 500_000, 1_500_000] {
                for every in [3, 11, 60] {
                    let mut server = Server::new(space, prealloc_bytes);
                    let (missing, error) = loop {
                        let before = server.write(every).and_then(|()| server.snapshot(every / 3));
                        match before {
                            Ok(true) => {}
                            Ok(false) => break (server.nodes.len() as u64, None),
                            Err(e) => break (1_100, Some(e)),
                        }
                        assert!(server.zxid < 10_000, "the disk is never full");
                    };
                    let case = format!("{prealloc_bytes}, {space}, {every}: {error:?}");
                    assert!(error.as_ref().is_none_or(is_full), "{case}");
                    *if error.is_some() { &mut by_log } else { &mut by_snapshot } += 1;
                    // The zeros after the last record and what is missing to a whole block.
                    let full = content(&server.disk, server.log.file_name()) + missing + 2 * ROOM;
                    assert!(full > space, "{case}: {full} bytes would have been enough");
                }
            }
        }
        assert!(by_log > 0 && by_snapshot > 0, "{by_log} times the log found no space, {by_snapshot} times a snapshot");
    }

    #[test]
    fn the_room_is_that_of_the_newest_snapshot_and_of_what_was_logged_since() {
        let room = SnapshotRoom::new(1_000, 50);
        let shared = room.clone();
        assert_eq!(room.bytes(), Some(1_050));
        shared.add_logged(7);
        let begun = room.begin_snapshot();
        shared.add_logged(400);
        assert_eq!(room.bytes(), Some(1_457), "a snapshot that is being written may still need all of it");
        room.end_snapshot(900, begun);
        assert_eq!(room.bytes(), Some(1_300));
        let elsewhere = SnapshotRoom::default();
        elsewhere.add_logged(7);
        elsewhere.end_snapshot(9, elsewhere.begin_snapshot());
        assert_eq!(elsewhere.bytes(), None);
    }

    #[test]
    fn nothing_is_prepared_that_would_take_most_of_the_space_left() {
        assert!(may_prepare(10, Some(20), None) && !may_prepare(10, Some(19), None) && may_prepare(10, None, Some(5)));
        assert!(may_prepare(10, Some(25), Some(5)) && !may_prepare(10, Some(24), Some(5)));
        assert!(may_keep(10, Some(15), Some(5)) && !may_keep(10, Some(14), Some(5)) && may_keep(10, Some(0), None));
    }

    #[test]
    fn a_length_is_wanted_affordable_or_needed() {
        let sizes = Sizes { have: 2 * ROOM, least: 3 * ROOM, wanted: 10 * ROOM };
        let with = |free, reserved| sizes.affordable(free, reserved) / ROOM;
        assert_eq!(with(Some(16 * ROOM), Some(0)), 10);
        assert_eq!(with(Some(16 * ROOM), Some(1)), 9);
        assert_eq!(with(Some(16 * ROOM), Some(8 * ROOM)), 6);
        assert_eq!(with(Some(16 * ROOM), Some(u64::MAX)), 3);
        assert_eq!((with(None, Some(0)), with(Some(0), None)), (10, 10));
    }
}
