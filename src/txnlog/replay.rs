//! The part of recovery that reads the log: one pass over the files in which every record is checked and those after
//! the snapshot are applied.

use std::collections::{HashMap, VecDeque};

use super::disk::Dir;
use super::names::LogFile;
use super::record::{Damage, FILE_HEADER, Record, follows};
use super::recovered::{Cut, DigestMismatch, Logged, Recovered, RecoveryOptions, Replica, Report};
use super::recovery_error::{RecoveryError, io_error};
use super::rewrite_tail::FileEnd;
use super::scan::{End, LogReader};
use super::snapshot::ZxidDigest;
use crate::jute::Reader;
use crate::txn::{Txn, TxnDigest};
use crate::types::{Op, SessionId, Zxid};

/// The digest is recorded at every zxid that is a multiple of this, for the four-letter word `hash`.
pub const DIGEST_LOG_INTERVAL: i64 = 128;
/// Most digests that are recorded.
pub const DIGEST_LOG_LIMIT: usize = 1024;

/// Most wrong digests that are reported one by one; further ones are only counted.
const MAX_MISMATCHES: usize = 16;

/// Whether a log begins with a whole record.
fn has_records<D: Dir>(dir: &D, file: &LogFile) -> Result<bool, RecoveryError> {
    let failed = |e| io_error(format!("{}/{}", dir.path(), file.name), e);
    let mut log = LogReader::open(dir, &file.name).map_err(failed)?;
    Ok(log.next_record().map_err(failed)?.is_some())
}

/// Turns the end of a file into a [`Cut`] if it is torn; an error if the file is damaged.
fn cut_of(file: &LogFile, end: &End) -> Result<Option<Cut>, RecoveryError> {
    let cut = |at, bytes, damage: &Damage, unsynced_records| {
        Some(Cut { file: file.name.clone(), at, bytes, damage: damage.clone(), unsynced_records, removed: false })
    };
    match end {
        End::Clean { at } if *at <= FILE_HEADER.len() as u64 => Ok(cut(*at, 0, &Damage::Zeros, 0)),
        End::Clean { .. } => Ok(None),
        End::Torn { at, damage, until, unsynced_records } => {
            assert!(until >= at, "{}: garbage from {at} to {until}", file.name);
            Ok(cut(*at, until - at, damage, *unsynced_records))
        }
        End::Corrupt { at, damage, later } => {
            Err(RecoveryError::Corrupt { file: file.name.clone(), at: *at, damage: damage.clone(), later: *later })
        }
    }
}

/// Applies the logs to a state.
pub(super) struct Replay<R> {
    state: R,
    sessions: HashMap<SessionId, i32>,
    /// The snapshot's zxid.
    base: Zxid,
    /// The last record read, applied or not.
    seen: Option<Zxid>,
    ends: Vec<FileEnd>,
    /// If the snapshot is fuzzy: the digest that the tree must have at a later zxid.
    promised: Option<ZxidDigest>,
    tail: VecDeque<Logged>,
    spare: Vec<u8>,
    options: RecoveryOptions,
    pub(super) report: Report,
}

impl<R: Replica> Replay<R> {
    pub(super) fn new(
        state: R,
        sessions: HashMap<SessionId, i32>,
        base: Zxid,
        promised: Option<ZxidDigest>,
        report: Report,
        options: RecoveryOptions,
    ) -> Replay<R> {
        let promised = promised.filter(|d| options.verify_digests && d.version == TxnDigest::VERSION);
        let (tail, spare) = (VecDeque::new(), Vec::new());
        assert!(base >= Zxid::ZERO, "a log is replayed after {base}");
        let mut r =
            Replay { state, sessions, base, seen: None, ends: Vec::new(), promised, tail, spare, options, report };
        r.keep_promise(base);
        r
    }

    /// The zxid of the last transaction of the history.
    pub(super) fn last(&self) -> Zxid {
        self.seen.map_or(self.base, |s| s.max(self.base))
    }

    pub(super) fn saw_records(&self) -> bool {
        self.seen.is_some()
    }

    /// The files that were read, and how they end.
    pub(super) fn ends(&self) -> &[FileEnd] {
        &self.ends
    }

    pub(super) fn into_recovered(mut self) -> Recovered<R> {
        self.check();
        self.report.digest_not_reached = self.promised.map(|d| d.zxid);
        Recovered {
            last: self.last(),
            state: self.state,
            sessions: self.sessions,
            fresh: false,
            tail: self.tail,
            report: self.report,
        }
    }

    /// Reads from the newest file that can contain the first transaction after the snapshot to the last file. A file
    /// without records is not such a file, since it will be removed: if reading began with it, the next start would
    /// begin with the file before it and might refuse what this start accepted.
    pub(super) fn run<D: Dir>(&mut self, dir: &D, logs: &[LogFile]) -> Result<(), RecoveryError> {
        let wanted = Zxid(self.base.0.saturating_add(1));
        let mut first = logs.iter().rposition(|f| f.first <= wanted).unwrap_or(0);
        while first > 0 && !has_records(dir, &logs[first])? {
            first -= 1;
        }
        let mut torn: Option<Cut> = None;
        logs[first..].iter().try_for_each(|file| self.read_file(dir, file, &mut torn))
    }

    fn read_file<D: Dir>(&mut self, dir: &D, file: &LogFile, torn: &mut Option<Cut>) -> Result<(), RecoveryError> {
        let failed = |e| io_error(format!("{}/{}", dir.path(), file.name), e);
        let mut log = LogReader::open(dir, &file.name).map_err(failed)?;
        let mut is_first = true;
        while let Some((at, record)) = log.next_record().map_err(failed)? {
            if std::mem::take(&mut is_first) {
                if record.header.zxid != file.first {
                    return Err(RecoveryError::Misnamed { file: file.name.clone(), found: record.header.zxid });
                }
                if let Some(cut) = torn.take() {
                    self.continues_after(&cut, &record)?;
                }
            }
            self.take(file, at, &record)?;
        }
        let end = log.end().expect("the reader returned its end");
        self.report.log_bytes += end.at();
        assert!(end.at() <= log.len(), "{} ends at {} of {} bytes", file.name, end.at(), log.len());
        self.ends.push(FileEnd {
            name: file.name.clone(),
            len: log.len(),
            at: end.at(),
            durable: if log.is_marked() { end.at() } else { log.durable() },
            mark: log.mark(),
            // After a torn end, the mark is cut off too.
            is_marked: log.is_marked() && matches!(end, End::Clean { .. }),
        });
        if let Some(cut) = cut_of(file, end)? {
            self.report.cuts.push(cut.clone());
            *torn = Some(cut);
        }
        Ok(())
    }

    /// A file other than the last one is torn: a crash, then a restart that began a new file. Apache's records do not
    /// name their predecessors. So at a change of epoch a complete frame with a wrong checksum might be a record that
    /// was acknowledged.
    fn continues_after(&self, cut: &Cut, record: &Record<'_>) -> Result<(), RecoveryError> {
        let new_epoch = self.last().epoch() != record.header.zxid.epoch();
        let rotten = matches!(cut.damage, Damage::Checksum { .. });
        if record.trailer.is_none() && new_epoch && rotten && record.header.zxid > self.base {
            return Err(RecoveryError::Corrupt {
                file: cut.file.clone(),
                at: cut.at,
                damage: cut.damage.clone(),
                later: None,
            });
        }
        Ok(())
    }

    fn take(&mut self, file: &LogFile, at: u64, record: &Record<'_>) -> Result<(), RecoveryError> {
        let z = record.header.zxid;
        if z <= self.base {
            self.seen = Some(self.seen.map_or(z, |s| s.max(z)));
            return Ok(());
        }
        // Apache's leader answers an undecodable write with an error that reuses the last zxid.
        let echo = record.trailer.is_none() && record.header.op == Op::ERROR && self.seen == Some(z);
        if echo {
            return Ok(());
        }
        if !follows(record, self.base, self.seen) {
            return Err(RecoveryError::Hole {
                file: file.name.clone(),
                at,
                after: self.last(),
                found: z,
                prev: record.trailer.map(|t| t.prev),
            });
        }
        let mut body = Reader::new(record.body);
        let txn = Txn::read(record.header.op, &mut body).map_err(|e| RecoveryError::Unreadable {
            file: file.name.clone(),
            at,
            zxid: z,
            what: e.to_string(),
        })?;
        assert!(z > self.last(), "{z} is applied after {}", self.last());
        self.state.apply(&record.header, &txn);
        match txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(record.header.session, timeout_ms);
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(&record.header.session);
            }
            _ => {}
        }
        self.seen = Some(z);
        self.report.replayed += 1;
        self.report.foreign += u64::from(record.trailer.is_none());
        self.compare_digest(record);
        self.remember_digest(record.header.zxid);
        self.keep(z, record.proposal);
        Ok(())
    }

    /// Its invariants, once all is read.
    fn check(&self) {
        assert!(self.report.foreign <= self.report.replayed, "more transactions are Apache's than there are");
        assert!(self.report.replayed == 0 || self.seen > Some(self.base), "what was replayed was in the snapshot");
        assert!(self.tail.len() as u64 <= self.report.replayed, "more is kept than was replayed");
        assert!(self.tail.iter().is_sorted_by(|a, b| a.zxid < b.zxid), "what is kept is not in order");
        let newest = self.tail.back().map(|logged| logged.zxid);
        assert!(newest.is_none_or(|z| z == self.last()), "{newest:?} is kept as the last, which is {}", self.last());
        assert!(self.promised.is_none_or(|d| d.zxid > self.last()), "a digest is still awaited that was passed");
        assert!(self.report.logged_digests.len() <= DIGEST_LOG_LIMIT, "digests are kept without a bound");
    }

    /// Mirrors `DataTree.logZxidDigest`.
    fn remember_digest(&mut self, zxid: Zxid) {
        if zxid.0 % DIGEST_LOG_INTERVAL != 0 {
            return;
        }
        if let Some(digest) = self.state.digest() {
            let log = &mut self.report.logged_digests;
            if log.len() == DIGEST_LOG_LIMIT {
                log.pop_front();
            }
            log.push_back((zxid, digest));
        }
    }

    fn compare_digest(&mut self, record: &Record<'_>) {
        if self.promised.is_some() {
            // A fuzzy snapshot may contain parts of transactions that are still to come, so digests are compared only
            // from the recorded one on.
            self.keep_promise(record.header.zxid);
        } else if let Some(d) = record.digest.filter(|d| d.version == TxnDigest::VERSION) {
            self.compare(record.header.zxid, d.digest);
        }
    }

    /// Compares the digest recorded in the snapshot when its zxid is reached.
    fn keep_promise(&mut self, reached: Zxid) {
        if let Some(d) = self.promised.filter(|d| d.zxid <= reached) {
            self.promised = None;
            if d.zxid == reached {
                self.compare(d.zxid, d.digest);
            }
        }
    }

    fn compare(&mut self, zxid: Zxid, stored: u64) {
        let Some(computed) = self.state.digest().filter(|_| self.options.verify_digests) else { return };
        if computed != stored {
            self.report.digest_mismatch_count += 1;
            if self.report.digest_mismatches.len() < MAX_MISMATCHES {
                self.report.digest_mismatches.push(DigestMismatch { zxid, stored, computed });
            }
        }
    }

    /// Keeps the last transactions. Their buffers are reused, so replay allocates none.
    fn keep(&mut self, zxid: Zxid, payload: &[u8]) {
        if self.options.keep_last == 0 {
            return;
        }
        if self.tail.len() == self.options.keep_last
            && let Some(oldest) = self.tail.pop_front()
        {
            self.spare = oldest.payload;
        }
        let mut buf = std::mem::take(&mut self.spare);
        buf.clear();
        buf.extend_from_slice(payload);
        assert!(self.tail.len() < self.options.keep_last, "{} transactions are kept already", self.tail.len());
        self.tail.push_back(Logged { zxid, payload: buf });
    }
}
