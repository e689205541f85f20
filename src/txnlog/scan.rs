//! Reads one log file record by record and decides how it ends. Mirrors `FileTxnLog.FileTxnIterator`, which takes any
//! damage except a wrong checksum for the end of the file. This one never does.
//!
//! Memory: one read buffer as large as the largest record, but never larger than the file.

use std::io;

use super::disk::{Dir, Reader as DiskReader};
use super::end_mark::{self, Mark};
use super::record::{Damage, END, FILE_HEADER, FRAME_LEN, HEAD_LEN, Record, is_logged};
use crate::jute::Reader;
use crate::txn::TxnHeader;
use crate::types::Zxid;

const READ_SIZE: usize = 1 << 20;
/// Space is allocated ahead in multiples of this, by Zabra, and by Apache unless `preAllocSize` is unusual.
const BLOCK: u64 = 4096;
/// Zeros that are read before the file system is asked for the end of them: more than anybody allocates ahead, so that no log of a
/// server depends on its word, and few enough that a file of terabytes without a byte in it is judged at once.
const HOLE_FROM: u64 = 256 << 20;
/// Longest record that is searched for after damage. This limits the memory that wrong lengths can ask for.
const MAX_SOUGHT: u64 = 128 << 20;
/// Most bytes that are checksummed while searching for records after damage; beyond this the damage counts as
/// corruption.
const SEEK_BUDGET: u64 = 8 << 30;

/// How a file ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Only zeros after the last record and its end mark.
    Clean {
        /// Offset where the last record ends.
        at: u64,
    },
    /// A write that a crash tore: no record after `at` can ever have been durable.
    Torn {
        /// Offset where the last whole record ends; zero if even the file header is missing.
        at: u64,
        /// What is wrong at that offset.
        damage: Damage,
        /// Offset where the garbage ends.
        until: u64,
        /// Number of whole records in the garbage. They were written in the same unsynced batch, so none was
        /// acknowledged.
        unsynced_records: u32,
    },
    /// Damage that is proved not to be a torn write.
    Corrupt {
        /// Offset where the damage begins.
        at: u64,
        /// What is wrong there.
        damage: Damage,
        /// Offset and zxid of the proof, which is a record or an end mark. `None` if the damage itself is the proof, or
        /// if the search was given up.
        later: Option<(u64, Zxid)>,
    },
}

impl End {
    /// Offset where the last whole record ends.
    pub fn at(&self) -> u64 {
        match self {
            End::Clean { at } | End::Torn { at, .. } | End::Corrupt { at, .. } => *at,
        }
    }
}

/// A log file being read.
pub struct LogReader<R> {
    file: R,
    buf: Vec<u8>,
    /// `buf[from..to]` contains the file's bytes from offset `at` on.
    from: usize,
    to: usize,
    at: u64,
    len: u64,
    /// The chained CRC after the last record. `None` before the first record, if reading did not start with the file's
    /// first record.
    chain: Option<u32>,
    /// The zxid of the last record, and the offset up to which the file was durable when it was written.
    last: (Zxid, u64),
    is_marked: bool,
    /// Version and database id are those that every server writes. This only matters in a file without records.
    header_is_exact: bool,
    end: Option<End>,
}

impl<R: DiskReader> LogReader<R> {
    /// Opens `name` and reads its file header.
    pub fn open<D: Dir<Reader = R>>(dir: &D, name: &str) -> io::Result<LogReader<R>> {
        let mut r = LogReader::new(dir.open(name)?);
        let n = r.fill(FILE_HEADER.len())?;
        if n < FILE_HEADER.len() || r.window()[..4] != FILE_HEADER[..4] {
            r.end = Some(r.judge_beginning()?);
        } else {
            r.header_is_exact = r.window()[..FILE_HEADER.len()] == FILE_HEADER;
            r.advance(FILE_HEADER.len());
        }
        Ok(r)
    }

    /// Opens `name` at offset `at`, where a record must begin.
    pub(super) fn open_at<D: Dir<Reader = R>>(dir: &D, name: &str, at: u64) -> io::Result<LogReader<R>> {
        if at <= FILE_HEADER.len() as u64 {
            return LogReader::open(dir, name);
        }
        let mut file = dir.open(name)?;
        io::copy(&mut io::Read::take(&mut file, at), &mut io::sink())?;
        Ok(LogReader { at, chain: None, ..LogReader::new(file) })
    }

    fn new(file: R) -> LogReader<R> {
        let len = file.len();
        LogReader {
            file,
            buf: Vec::new(),
            from: 0,
            to: 0,
            at: 0,
            len,
            chain: Some(0),
            last: (Zxid::ZERO, 0),
            is_marked: false,
            header_is_exact: true,
            end: None,
        }
    }

    /// The next record and its offset, or `None` at the end: then see [`LogReader::end`].
    pub fn next_record(&mut self) -> io::Result<Option<(u64, Record<'_>)>> {
        if self.end.is_some() {
            return Ok(None);
        }
        match self.frame()? {
            Err(damage) => {
                let end = if self.at == FILE_HEADER.len() as u64 {
                    self.judge_without_records(damage)?
                } else {
                    self.judge(damage, self.at)?
                };
                self.end = Some(end);
                Ok(None)
            }
            Ok(len) => {
                let at = self.at;
                if let Err(damage) = self.check(len) {
                    // The checksum is right, so exactly these bytes were written: no crash did this.
                    self.end = Some(End::Corrupt { at, damage, later: None });
                    return Ok(None);
                }
                let begin = self.from + HEAD_LEN;
                self.advance(FRAME_LEN + len);
                let payload = &self.buf[begin..begin + len];
                // Parsed again, because the borrow checker cannot release the first borrow. That is a few dozen loads.
                let record = Record::parse(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                Ok(Some((at, record)))
            }
        }
    }

    /// How the file ended; `None` before [`LogReader::next_record`] returned `None`.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The file's length.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is an end mark, so that everything before it was durable.
    pub(super) fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Offset up to which the file is known to be durable.
    pub(super) fn durable(&self) -> u64 {
        self.last.1
    }

    /// The contents of an end mark after the last record.
    pub(super) fn mark(&self) -> Mark {
        assert!(self.last.1 <= self.at, "durable up to {}, and read up to {}", self.last.1, self.at);
        Mark { last: self.last.0, chain: self.chain.unwrap_or(0) }
    }

    /// Offset after the last record returned.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn window(&self) -> &[u8] {
        &self.buf[self.from..self.to]
    }

    fn advance(&mut self, n: usize) {
        assert!(n <= self.to - self.from, "{n} bytes further, and only {} are read", self.to - self.from);
        self.from += n;
        self.at += n as u64;
    }

    /// Makes at least `want` bytes available, or all up to the end of the file; returns how many.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        let have = self.to - self.from;
        if have >= want {
            return Ok(have);
        }
        let rest = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
        let want = want.min(rest);
        let size = want.max(READ_SIZE).min(rest);
        if self.from > 0 {
            self.buf.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, have);
        }
        if self.buf.len() < size {
            // Fresh zeroed memory: pages that are not used are never touched.
            let mut buf = vec![0; size];
            buf[..self.to].copy_from_slice(&self.buf[..self.to]);
            self.buf = buf;
        }
        assert!(self.from == 0 && want <= self.buf.len(), "{want} bytes do not fit in {}", self.buf.len());
        while self.to < want {
            match self.file.read(&mut self.buf[self.to..]) {
                // The file is shorter than when it was opened.
                Ok(0) => {
                    self.len = self.at + self.to as u64;
                    break;
                }
                Ok(n) => self.to += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.to - self.from)
    }

    /// Checks the frame and the checksum of the record at the current position; returns the length of its payload.
    fn frame(&mut self) -> io::Result<Result<usize, Damage>> {
        let have = self.fill(HEAD_LEN)?;
        let head = &self.window()[..have.min(HEAD_LEN)];
        if head.iter().all(|b| *b == 0) {
            return Ok(Err(Damage::Zeros));
        }
        if let Some(found) = self.mark_here()? {
            let (stored, mine) = (found.chain, self.mark());
            return Ok(Err(if found == mine { Damage::Zeros } else { Damage::Chain { stored, computed: mine.chain } }));
        }
        let head = &self.window()[..have.min(HEAD_LEN)];
        if have < HEAD_LEN {
            return Ok(Err(Damage::Cut { missing: (HEAD_LEN - have) as u64 }));
        }
        let stored = be_u64(head);
        let len = be_u32(&head[8..]) as i32;
        if len < TxnHeader::LEN as i32 {
            return Ok(Err(Damage::Length(len)));
        }
        assert!(self.at <= self.len, "the reader is at {}, beyond the end at {}", self.at, self.len);
        let (len, rest) = (len as usize, self.len - self.at);
        if (len + FRAME_LEN) as u64 > rest {
            return Ok(Err(Damage::Cut { missing: (len + FRAME_LEN) as u64 - rest }));
        }
        let have = self.fill(len + FRAME_LEN)?;
        if have < len + FRAME_LEN {
            return Ok(Err(Damage::Cut { missing: (len + FRAME_LEN - have) as u64 }));
        }
        let bytes = self.window();
        if bytes[HEAD_LEN + len] != END {
            return Ok(Err(Damage::NoEnd));
        }
        let computed = u64::from(simd_adler32::adler32(&&bytes[HEAD_LEN..HEAD_LEN + len]));
        Ok(if stored == computed { Ok(len) } else { Err(Damage::Checksum { stored, computed }) })
    }

    /// Checks what the checksum does not cover, and continues the chained CRC.
    fn check(&mut self, len: usize) -> Result<(), Damage> {
        debug_assert!(len + FRAME_LEN <= self.to - self.from, "a record of {len} bytes is not all here");
        let payload = &self.buf[self.from + HEAD_LEN..self.from + HEAD_LEN + len];
        let record = Record::parse(payload)?;
        // An Apache record does not say what is durable, and the maximum stands for any larger distance.
        let unsynced = record.trailer.map(|t| t.unsynced).filter(|d| *d < u32::MAX);
        self.last = (record.header.zxid, unsynced.map_or(0, |d| self.at.saturating_sub(u64::from(d))));
        self.chain = match record.trailer {
            None => Some(0),
            Some(t) => {
                let computed = self.chain.map_or(t.crc, |c| crc32c::crc32c_append(c, &payload[..len - 4]));
                if computed != t.crc {
                    return Err(Damage::Chain { stored: t.crc, computed });
                }
                Some(computed)
            }
        };
        Ok(())
    }

    /// Decides how to judge a file that does not begin like a log. A crash while a file is created leaves zeros, or the
    /// first bytes of its header and then zeros. Anything else was not written by a server, and it may have replaced a
    /// log.
    fn judge_beginning(&mut self) -> io::Result<End> {
        let begun = self.window().iter().zip(&FILE_HEADER).take_while(|(found, wanted)| found == wanted).count() as u64;
        Ok(match self.judge(Damage::FileHeader, 0)? {
            End::Torn { at, until, .. } if until > begun => {
                End::Corrupt { at, damage: Damage::FileHeader, later: None }
            }
            End::Torn { at, .. } if !self.may_be_new() => End::Corrupt { at, damage: Damage::Zeroed, later: None },
            end => end,
        })
    }

    /// The same for a file that has its header but no record after it. The remains of a first record begin with four
    /// zeros, like every record, whether its first sector was written or not.
    fn judge_without_records(&mut self, damage: Damage) -> io::Result<End> {
        let begins_with_zeros = self.window().iter().take(4).all(|b| *b == 0);
        Ok(match self.judge(damage, self.at)? {
            End::Torn { at, damage, .. } if !begins_with_zeros => End::Corrupt { at, damage, later: None },
            End::Torn { .. } | End::Clean { .. } if !self.header_is_exact => {
                End::Corrupt { at: 0, damage: Damage::FileHeader, later: None }
            }
            End::Clean { at } if !self.may_be_new() => End::Corrupt { at, damage: Damage::Zeroed, later: None },
            end => end,
        })
    }

    /// Whether the length of a file without records is possible for a new one: nothing was allocated yet, or its length
    /// is whole blocks. A file is cut to the length of its records when it is closed and after each recovery.
    fn may_be_new(&self) -> bool {
        self.len <= FILE_HEADER.len() as u64 || self.len.is_multiple_of(BLOCK)
    }

    /// Judges damage at `bad` by everything after it. Called once; afterwards the reader cannot be used any more.
    fn judge(&mut self, damage: Damage, bad: u64) -> io::Result<End> {
        assert!(self.end.is_none(), "the end of a file is judged twice");
        assert!(bad <= self.at, "damage at {bad} is judged from {} on", self.at);
        if let Some(found) = self.mark_here()? {
            if found != self.mark() {
                return Ok(End::Corrupt { at: bad, damage, later: Some((self.at, found.last)) });
            }
            self.is_marked = true;
            self.advance(end_mark::LEN);
        }
        let mut budget = SEEK_BUDGET;
        let mut until = bad;
        let mut unsynced_records = 0;
        let mut from_zero = self.at;
        while let Some(at) = self.skip_zeros()? {
            until = until.max(at + 1);
            // The first four bytes of a record are zero, and up to three more may be.
            self.step_back(at.saturating_sub(7).max(from_zero));
            let stop = at + 1;
            while self.at < stop {
                if let Some(found) = self.mark_here()? {
                    return Ok(End::Corrupt { at: bad, damage, later: Some((self.at, found.last)) });
                }
                if let Some((len, zxid, durable)) = self.candidate(&mut budget)? {
                    let offset = self.at;
                    if durable.is_none_or(|d| d > bad) {
                        return Ok(End::Corrupt { at: bad, damage, later: Some((offset, zxid)) });
                    }
                    unsynced_records += 1;
                    self.advance(FRAME_LEN + len);
                    until = until.max(self.at);
                } else {
                    self.advance(1);
                }
                if budget == 0 {
                    return Ok(End::Corrupt { at: bad, damage, later: None });
                }
            }
            assert!(self.at >= stop, "the search for records stands still at {}", self.at);
            from_zero = self.at;
        }
        assert!(until >= bad, "garbage from {bad} to {until}");
        Ok(if until == bad && damage != Damage::FileHeader {
            End::Clean { at: bad }
        } else {
            End::Torn { at: bad, damage, until, unsynced_records }
        })
    }

    /// The end mark at the current position, if there is one.
    fn mark_here(&mut self) -> io::Result<Option<Mark>> {
        self.fill(end_mark::LEN)?;
        Ok(Mark::read(self.window(), self.at))
    }

    /// Moves to the next byte that is not zero and returns its offset; `None` at the end of the file. Keeps a few bytes
    /// before it in the buffer.
    fn skip_zeros(&mut self) -> io::Result<Option<u64>> {
        let began = self.at;
        loop {
            let n = self.fill(16)?;
            if n == 0 {
                return Ok(None);
            }
            match first_non_zero(self.window()) {
                Some(i) => {
                    self.advance(i);
                    return Ok(Some(self.at));
                }
                None if n as u64 == self.len - self.at => return Ok(None),
                // Keep some bytes, so that stepping back stays inside the buffer.
                None => self.advance(n - 8),
            }
            if self.at - began >= HOLE_FROM {
                // What is in the buffer is zeros too, so it stands for as many bytes before the hole's end.
                self.at += self.file.skip_hole()?;
                // It may have grown meanwhile.
                self.len = self.len.max(self.at + self.window().len() as u64);
            }
        }
    }

    /// Moves back to offset `to`, which is still in the buffer.
    fn step_back(&mut self, to: u64) {
        assert!(to <= self.at, "a step back from {} to {to}", self.at);
        let n = ((self.at - to) as usize).min(self.from);
        self.from -= n;
        self.at -= n as u64;
    }

    /// If there is a whole record at the current position: the length of its payload, its zxid, and the offset up to
    /// which the file was durable when it was written (`None` if Apache wrote it).
    fn candidate(&mut self, budget: &mut u64) -> io::Result<Option<(usize, Zxid, Option<u64>)>> {
        if self.fill(HEAD_LEN + TxnHeader::LEN)? < HEAD_LEN + TxnHeader::LEN {
            return Ok(None);
        }
        let bytes = self.window();
        let (sum, len) = (be_u64(bytes), u64::from(be_u32(&bytes[8..])));
        if sum >> 32 != 0 || sum == 0 || len < TxnHeader::LEN as u64 || len > MAX_SOUGHT {
            return Ok(None);
        }
        let Ok(header) = TxnHeader::read(&mut Reader::new(&bytes[HEAD_LEN..])) else { return Ok(None) };
        if !is_logged(header.op) || header.zxid <= Zxid::ZERO || len + FRAME_LEN as u64 > self.len - self.at {
            return Ok(None);
        }
        *budget = budget.saturating_sub(len);
        let Ok(len) = self.frame()? else { return Ok(None) };
        let payload = &self.window()[HEAD_LEN..HEAD_LEN + len];
        let Ok(record) = Record::parse(payload) else { return Ok(None) };
        let durable = record.trailer.map(|t| self.at.saturating_sub(u64::from(t.unsynced)));
        Ok(Some((len, header.zxid, durable)))
    }
}

fn first_non_zero(bytes: &[u8]) -> Option<usize> {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut at = 0;
    // Whole blocks are compared at once, which is fast even in debug builds.
    while bytes.len() - at >= BLOCK.len() && bytes[at..at + BLOCK.len()] == BLOCK {
        at += BLOCK.len();
    }
    bytes[at..].iter().position(|b| *b != 0).map(|i| at + i)
}

fn be_u64(b: &[u8]) -> u64 {
    u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

fn be_u32(b: &[u8]) -> u32 {
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}
