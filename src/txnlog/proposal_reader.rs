//! Reads the log as a sequence of proposals, across files, for a learner that needs older ones than those in memory.
//! Mirrors `FileTxnLog.read` and `ZKDatabase.getProposalsFromTxnLog`.

use std::collections::VecDeque;
use std::io;

use super::disk::Dir;
use super::names::{LogFile, list_logs};
use super::record::follows;
use super::scan::{End, LogReader};
use crate::types::Zxid;

/// A position in the log.
pub struct LogCursor<'d, D: Dir> {
    dir: &'d D,
    files: VecDeque<LogFile>,
    reader: Option<(String, LogReader<D::Reader>)>,
    from: Zxid,
    seen: Option<Zxid>,
    bytes: u64,
}

impl<'d, D: Dir> LogCursor<'d, D> {
    /// Starts at the first transaction with zxid `from` or later. Transactions that are appended meanwhile may or may
    /// not be read.
    pub fn open(dir: &'d D, from: Zxid) -> io::Result<LogCursor<'d, D>> {
        let logs = list_logs(dir)?;
        let first = logs.iter().rposition(|f| f.first <= from).unwrap_or(0);
        let files: VecDeque<LogFile> = logs.into_iter().skip(first).collect();
        let begins_late = files.front().is_some_and(|f| f.first > from);
        assert!(!begins_late || first == 0, "a file before {} was passed over that holds {from}", files[0].name);
        assert!(files.iter().is_sorted_by_key(|f| f.first), "files are read in the order of their first transactions");
        let bytes = files.iter().map(|f| f.len).sum();
        Ok(LogCursor { dir, files, reader: None, from, seen: None, bytes })
    }

    /// Total length of the files that there were to read, for comparison with the size of a snapshot
    /// (`snapshotSizeFactor`).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the next proposal (header, transaction, digest) to `out` and returns its zxid; `None` at the end of the
    /// log.
    ///
    /// # Errors
    /// The log is damaged, or transactions are missing in it: the learner needs a snapshot.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Zxid>> {
        loop {
            if self.reader.is_none() {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                let reader = LogReader::open(self.dir, &file.name)?;
                self.reader = Some((file.name, reader));
            }
            let Some((name, reader)) = &mut self.reader else { return Ok(None) };
            match reader.next_record()? {
                Some((at, record)) => {
                    let z = record.header.zxid;
                    // The same zxid twice is an error record of Apache's leader, see `recovery`.
                    let again = self.seen == Some(z);
                    if self.seen.is_some() && !again && !follows(&record, Zxid::ZERO, self.seen) {
                        return Err(bad(format!("{name}: at byte {at} transactions before {z} are missing")));
                    }
                    assert!(self.seen.is_none_or(|seen| seen <= z), "{z} comes behind {:?}", self.seen);
                    self.seen = Some(z);
                    if z >= self.from && !again {
                        let before = out.len();
                        out.extend_from_slice(record.proposal);
                        assert!(out.len() > before, "the proposal of {z} is empty");
                        return Ok(Some(z));
                    }
                }
                None => {
                    if let Some(End::Corrupt { at, damage, .. }) = reader.end() {
                        return Err(bad(format!("{name}: {damage} at byte {at}")));
                    }
                    self.reader = None;
                }
            }
        }
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::replica::SMALL;
    use crate::oracle::test_disk::TestDisk;
    use crate::txnlog::crash_tests::payload;
    use crate::txnlog::writer::LogWriter;

    fn zxids(disk: &TestDisk, from: i64) -> io::Result<Vec<i64>> {
        let mut cursor = LogCursor::open(disk, Zxid(from))?;
        let mut all = Vec::new();
        let mut buf = Vec::new();
        while let Some(z) = cursor.next_into(&mut buf)? {
            assert_eq!(buf, payload(z, None));
            buf.clear();
            all.push(z.0);
        }
        Ok(all)
    }

    #[test]
    fn proposals_come_in_order_from_the_one_wanted() {
        let disk = TestDisk::new();
        let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
        for z in 1..=7 {
            log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
            if z % 3 == 0 {
                log.roll().unwrap();
            }
        }
        for from in 0..=9 {
            assert_eq!(zxids(&disk, from).unwrap(), (from.max(1)..=7).collect::<Vec<_>>());
        }
        disk.clone().remove("log.4").unwrap();
        assert!(zxids(&disk, 2).is_err());
        assert_eq!(zxids(&disk, 7).unwrap(), [7]);
        disk.damage("log.7", |b| b[40] ^= 1);
        assert_eq!(zxids(&disk, 7).unwrap(), [0; 0]);
    }
}
