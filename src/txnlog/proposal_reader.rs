//! Reads the log as a sequence of proposals, across files, for a learner that needs older ones than those in memory.
//! Mirrors `FileTxnLog.read` and `ZKDatabase.getProposalsFromTxnLog`.

use std::collections::VecDeque;
use std::io;

use super::disk::Dir;
use super::names::{LogFile, list_logs};
use super::record::follows;
use super::scan::{End, LogReader};
use crate::types::Zxid;

/// A position in the log. The directory is passed to every call, so that a cursor can be kept beside it.
pub struct LogCursor<D: Dir> {
    files: VecDeque<LogFile>,
    reader: Option<(String, LogReader<D::Reader>)>,
    from: Zxid,
    /// The transaction that must come before the first one that is wanted, if it is known.
    base: Option<Zxid>,
    seen: Option<Zxid>,
}

impl<D: Dir> LogCursor<D> {
    /// Starts at the first transaction with zxid `from` or later, whatever comes before it. Transactions that are
    /// appended meanwhile may or may not be read.
    pub fn open(dir: &D, from: Zxid) -> io::Result<LogCursor<D>> {
        let logs = list_logs(dir)?;
        let first = logs.iter().rposition(|f| f.first <= from).unwrap_or(0);
        let files: VecDeque<LogFile> = logs.into_iter().skip(first).collect();
        let begins_late = files.front().is_some_and(|f| f.first > from);
        assert!(!begins_late || first == 0, "a file before {} was passed over that holds {from}", files[0].name);
        assert!(files.iter().is_sorted_by_key(|f| f.first), "files are read in the order of their first transactions");
        Ok(LogCursor { files, reader: None, from, base: None, seen: None })
    }

    /// Starts with the transaction that follows `after`. That one need not be in the log: it may be where a snapshot or
    /// an epoch begins.
    pub fn open_after(dir: &D, after: Zxid) -> io::Result<LogCursor<D>> {
        assert!(after >= Zxid::ZERO, "nothing follows {after}");
        let mut cursor = LogCursor::open(dir, after)?;
        cursor.from = Zxid(after.0 + 1);
        cursor.base = Some(after);
        Ok(cursor)
    }

    /// Appends the next proposal (header, transaction, digest) to `out` and returns its zxid; `None` at the end of the
    /// log.
    ///
    /// # Errors
    /// The log is damaged, or transactions are missing in it: the learner needs a snapshot.
    pub fn next_into(&mut self, dir: &D, out: &mut Vec<u8>) -> io::Result<Option<Zxid>> {
        loop {
            if self.reader.is_none() {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                let reader = LogReader::open(dir, &file.name)?;
                self.reader = Some((file.name, reader));
            }
            let Some((name, reader)) = &mut self.reader else { return Ok(None) };
            match reader.next_record()? {
                Some((at, record)) => {
                    let z = record.header.zxid;
                    // The same zxid twice is an error record of Apache's leader, see `recovery`.
                    let again = self.seen == Some(z);
                    let is_wanted = z >= self.from && !again;
                    let base = self.base.filter(|_| is_wanted).unwrap_or(Zxid::ZERO);
                    let must_follow = self.seen.is_some() || (is_wanted && self.base.is_some());
                    if must_follow && !again && !follows(&record, base, self.seen) {
                        return Err(bad(format!("{name}: at byte {at} transactions before {z} are missing")));
                    }
                    assert!(self.seen.is_none_or(|seen| seen <= z), "{z} comes after {:?}", self.seen);
                    self.seen = Some(z);
                    if is_wanted {
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
        while let Some(z) = cursor.next_into(disk, &mut buf)? {
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
