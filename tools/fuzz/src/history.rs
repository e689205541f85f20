//! A valid history on a disk: transactions in log files of Zabra and of Apache, in batches, with rolls, epochs and
//! snapshots.

use std::collections::HashMap;

use zabra::oracle::replica::{SMALL, Seen, digest_of, encoded, put_apache};
use zabra::oracle::test_disk::TestDisk;
use zabra::txn::{CreateKind, CreateTxn, SubTxn, Txn, TxnDigest, TxnHeader};
use zabra::txnlog::names::{Compression, log_name};
use zabra::txnlog::record::FILE_HEADER;
use zabra::txnlog::writer::LogWriter;
use zabra::types::{Cxid, Epoch, Op, SessionId, Zxid};

use crate::input::Input;

/// One transaction of the history.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) zxid: Zxid,
    /// In the form of [`encoded`].
    pub(crate) bytes: Vec<u8>,
    pub(crate) foreign: bool,
    pub(crate) file: String,
    /// The number of its batch: records synced together have the same.
    pub(crate) batch: usize,
    session: SessionId,
    /// It opens (with this timeout) or closes its session.
    change: Option<Option<i32>>,
}

/// A history, and the disk that contains it.
pub(crate) struct History {
    pub(crate) disk: TestDisk,
    pub(crate) all: Vec<Logged>,
    pub(crate) digests: bool,
}

enum Open {
    None,
    Ours(LogWriter<TestDisk>),
    Apache(Vec<u8>),
}

impl History {
    /// Makes the history that the input describes.
    pub(crate) fn read(input: &mut Input<'_>) -> History {
        let (n, style, digests) = (1 + input.below(24), input.below(4), input.flag());
        let mut history = History { disk: TestDisk::new(), all: Vec::new(), digests };
        history.snapshot(Zxid::ZERO, Compression::None);
        let (mut open, mut batch, mut last) = (Open::None, 0, Zxid::ZERO);
        for _ in 0..n {
            let what = input.u8();
            if what & 0xe0 == 0xe0 {
                last = Zxid::new(Epoch(last.epoch().0 + 1 + i64::from(what & 1)), 0);
            }
            let zxid = Zxid(last.0 + 1);
            if matches!(open, Open::None) {
                let apache = style == 1 || style >= 2 && input.flag();
                let before = history.all.last().map_or(Zxid::ZERO, |l| l.zxid);
                open = if apache {
                    Open::Apache(FILE_HEADER.to_vec())
                } else {
                    Open::Ours(LogWriter::new(history.disk.clone(), before, SMALL))
                };
            }
            history.append(input, &mut open, zxid, batch);
            last = zxid;
            if what & 1 != 0 {
                if let Open::Ours(log) = &mut open {
                    log.sync().expect("a disk without faults");
                }
                batch += 1;
            }
            if what & 6 == 6 {
                history.close(&mut open);
                batch += 1;
            }
            if what & 24 == 24 {
                if let Open::Ours(log) = &mut open {
                    log.sync().expect("a disk without faults");
                }
                batch += 1;
                let packing = [Compression::None, Compression::None, Compression::Gzip, Compression::Snappy];
                history.snapshot(zxid, *input.pick(&packing));
            }
        }
        if let Open::Ours(log) = &mut open {
            log.sync().expect("a disk without faults");
        }
        history.close(&mut open);
        history
    }

    fn append(&mut self, input: &mut Input<'_>, open: &mut Open, zxid: Zxid, batch: usize) {
        let session = SessionId(1 + input.below(3) as i64);
        let (op, txn) = txn(input);
        let header = TxnHeader { session, cxid: Cxid(zxid.0 as i32), zxid, time_ms: 1000 + zxid.0, op };
        let change = match &txn {
            Txn::CreateSession { timeout_ms } => Some(Some(*timeout_ms)),
            Txn::CloseSession { .. } => Some(None),
            _ => None,
        };
        let (bytes, foreign) = (encoded(&header, &txn), matches!(open, Open::Apache(_)));
        let mut payload = Vec::new();
        header.put(&mut payload);
        txn.put(&mut payload);
        if self.digests {
            let zxids = self.all.iter().map(|l| l.zxid.0).chain([zxid.0]);
            TxnDigest { version: 2, digest: digest_of(zxids) }.put(&mut payload);
        }
        let first = match open {
            Open::None => unreachable!("a file was opened"),
            Open::Ours(log) => {
                log.append(zxid, &payload).expect("a disk without faults");
                log.file_name().to_owned()
            }
            Open::Apache(file) => {
                let is_first = file.len() == FILE_HEADER.len();
                put_apache(file, &payload);
                let same = self.all.last().filter(|_| !is_first).map(|l| l.file.clone());
                same.unwrap_or_else(|| log_name(zxid))
            }
        };
        self.all.push(Logged { zxid, bytes, foreign, file: first, batch, session, change });
    }

    fn close(&mut self, open: &mut Open) {
        match std::mem::replace(open, Open::None) {
            Open::Apache(mut bytes) => {
                bytes.resize(bytes.len() + 700, 0);
                let name = self.all.last().map(|l| l.file.clone()).expect("a file has a record");
                self.disk.put(&name, &bytes);
            }
            Open::Ours(mut log) => log.roll().expect("a disk without faults"),
            Open::None => {}
        }
    }

    fn snapshot(&mut self, zxid: Zxid, compression: Compression) {
        let sessions: Vec<_> = self.sessions(self.all.len()).into_iter().collect();
        let seen = Seen(self.all.iter().map(|l| (l.zxid.0, l.bytes.clone())).collect());
        seen.save(&self.disk, zxid, &sessions, compression).expect("a disk without faults");
    }

    /// The open sessions after the first `n` transactions.
    pub(crate) fn sessions(&self, n: usize) -> HashMap<SessionId, i32> {
        let mut open = HashMap::new();
        for l in &self.all[..n] {
            match l.change {
                Some(Some(timeout_ms)) => drop(open.insert(l.session, timeout_ms)),
                Some(None) => drop(open.remove(&l.session)),
                None => {}
            }
        }
        open
    }
}

/// One transaction of any kind.
fn txn(input: &mut Input<'_>) -> (Op, Txn) {
    let kind = input.u8();
    let path = || ["/a", "/a/b", "/\u{e9}"][usize::from(kind >> 4) % 3].to_owned();
    let data = |n: u8| (n > 0).then(|| vec![n; usize::from(n) * 5].into());
    match kind % 12 {
        0 => (Op::CREATE_SESSION, Txn::CreateSession { timeout_ms: i32::from(kind) }),
        1 => (Op::CLOSE_SESSION, Txn::CloseSession { paths: None }),
        2 => (Op::CLOSE_SESSION, Txn::CloseSession { paths: Some(vec![path(), path()]) }),
        3 => (Op::ERROR, Txn::Error { err: -101 }),
        4 => (Op::DELETE, Txn::Delete { path: path() }),
        5 => {
            let delete = SubTxn { op: Op::DELETE, txn: Txn::Delete { path: path() } };
            (Op::MULTI, Txn::Multi(vec![delete, SubTxn { op: Op::ERROR, txn: Txn::Error { err: -2 } }]))
        }
        6 => (Op::SET_ACL, Txn::SetAcl { path: path(), acl: None, version: 3 }),
        7 | 8 => {
            let (op, kind) = match kind >> 6 {
                0 => (Op::CREATE_TTL, CreateKind::Ttl { ttl_ms: i64::from(kind) }),
                1 => (Op::CREATE_CONTAINER, CreateKind::Container),
                _ => (Op::CREATE2, CreateKind::Plain { ephemeral: kind & 16 != 0 }),
            };
            let data = data(input.u8());
            (op, Txn::Create(CreateTxn { path: path(), data, acl: None, kind, parent_cversion: 4 }))
        }
        _ => (Op::SET_DATA, Txn::SetData { path: path(), data: data(input.u8()), version: 1 }),
    }
}
