//! One record of the log: frame, payload, and Zabra's trailer. Mirrors `FileTxnLog.append`, `Util.readTxnBytes` and
//! `SerializeUtils.deserializeTxn`.
//!
//! ```text
//! L Adler32(payload)  I len  payload  B 'B'
//! payload = TxnHeader(32)  txn  [TxnDigest(12)]  [trailer(20)]
//! trailer = I magic  L previous zxid  I unsynced  I CRC32C
//! ```
//! Only Zabra writes the trailer. Apache stops reading after the digest. If there is no digest, Apache takes the first
//! 12 bytes of the trailer for one and ignores it, because the magic is not a digest version that it knows. `CRC32C`
//! covers the payload before it and continues the CRC of the previous record in the same file (0 at a file's start), so
//! records cannot be removed, moved or exchanged without being noticed. `unsynced` says how many bytes before this
//! record were not known to be durable when it was written. It distinguishes a batch that a crash tore, which may be
//! lost, from damage to bytes that had been synced, which must never be accepted.

use thiserror::Error;

use crate::jute::{JuteError, Reader};
use crate::txn::{TxnDigest, TxnHeader};
use crate::types::{Op, Zxid};

/// The first bytes of every log file: "ZKLG", version 2, database id 0.
pub const FILE_HEADER: [u8; 16] = *b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";
/// Bytes before a payload: checksum and length.
pub const HEAD_LEN: usize = 12;
/// Bytes of a record besides its payload.
pub const FRAME_LEN: usize = HEAD_LEN + 1;
const _: () = assert!(Trailer::MAGIC != TxnDigest::VERSION, "Apache would take a trailer for a digest");
const _: () = assert!(Trailer::LEN > TxnDigest::LEN, "Apache reads a digest's length of it");
/// The byte after a payload.
pub const END: u8 = b'B';

/// The trailer of Zabra's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// The zxid of the previous record; zero in the first record of a first log.
    pub prev: Zxid,
    /// Number of bytes between the last byte known to be durable and the first byte of this record, when it was
    /// written. `u32::MAX` means that many or more.
    pub unsynced: u32,
    /// The chained CRC32C.
    pub crc: u32,
}

impl Trailer {
    /// "ZBR1"; it must differ from every digest version.
    pub const MAGIC: i32 = 0x5a42_5231;
    /// Number of bytes on disk.
    pub const LEN: usize = 20;

    fn read(bytes: &[u8]) -> Option<Trailer> {
        let mut r = Reader::new(bytes);
        if bytes.len() != Trailer::LEN || r.i32().ok()? != Trailer::MAGIC {
            return None;
        }
        Some(Trailer { prev: Zxid(r.i64().ok()?), unsynced: r.i32().ok()? as u32, crc: r.i32().ok()? as u32 })
    }
}

/// What is written around a payload. The payload itself is copied only once, by [`Framed::pieces`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framed {
    /// Written before the payload.
    pub head: [u8; HEAD_LEN],
    /// Written after the payload: the trailer and the end byte.
    pub tail: [u8; Trailer::LEN + 1],
    /// A closeSession without paths gets an empty list, 4 zero bytes, at this offset of the payload, because a reader
    /// would take the digest or the trailer for the list. An empty list has the same effect: all ephemerals of the
    /// session are deleted in any case.
    pub patch: Option<usize>,
    /// The chained CRC after this record.
    pub crc: u32,
}

impl Framed {
    /// Frames `payload` (header, transaction and digest, as in a PROPOSAL) as the record that follows the one with the
    /// chained CRC `chain`.
    ///
    /// # Panics
    /// If the payload has no header, or is longer than a record can be: a bug of ours.
    pub fn new(payload: &[u8], prev: Zxid, unsynced: u32, chain: u32) -> Framed {
        // In debug builds only: this is on the append path, and the writer looks for the zxid in the header.
        debug_assert!(payload.len() >= TxnHeader::LEN, "a log record of {} bytes has no header", payload.len());
        let patch = empty_close_session(payload).then_some(TxnHeader::LEN);
        let mut tail = [0u8; Trailer::LEN + 1];
        tail[0..4].copy_from_slice(&Trailer::MAGIC.to_be_bytes());
        tail[4..12].copy_from_slice(&prev.0.to_be_bytes());
        tail[12..16].copy_from_slice(&unsynced.to_be_bytes());
        let (before, after) = payload.split_at(patch.unwrap_or(payload.len()));
        let fill: &[u8] = if patch.is_some() { &[0; 4] } else { &[] };
        let mut crc = chain;
        let mut adler = simd_adler32::Adler32::new();
        // Nearly every payload is in one piece, and the checksums of nothing cost as much as those of some dozen bytes.
        for piece in [before, fill, after, &tail[..16]].into_iter().filter(|piece| !piece.is_empty()) {
            crc = crc32c::crc32c_append(crc, piece);
            adler.write(piece);
        }
        tail[16..20].copy_from_slice(&crc.to_be_bytes());
        tail[20] = END;
        adler.write(&tail[16..20]);
        let len = payload.len() + fill.len() + Trailer::LEN;
        assert!(len <= i32::MAX as usize, "log record of {len} bytes");
        let mut head = [0u8; HEAD_LEN];
        head[4..8].copy_from_slice(&adler.finish().to_be_bytes());
        head[8..12].copy_from_slice(&(len as i32).to_be_bytes());
        Framed { head, tail, patch, crc }
    }

    /// Calls `write` with the bytes of the record, piece by piece.
    pub fn pieces(&self, payload: &[u8], mut write: impl FnMut(&[u8])) {
        write(&self.head);
        match self.patch {
            None => write(payload),
            Some(at) => {
                assert_eq!(at, TxnHeader::LEN, "an empty list stands after the header");
                write(&payload[..at]);
                write(&[0; 4]);
                write(&payload[at..]);
            }
        }
        write(&self.tail);
    }

    /// Number of bytes that the record takes in the file.
    pub fn len(payload: &[u8]) -> u64 {
        let patch = if empty_close_session(payload) { 4 } else { 0 };
        (FRAME_LEN + payload.len() + patch + Trailer::LEN) as u64
    }
}

/// Whether the payload is a closeSession without a list of paths (`closeSessionTxn.enabled=false`), with or without a
/// digest.
fn empty_close_session(payload: &[u8]) -> bool {
    let mut r = Reader::new(payload);
    TxnHeader::read(&mut r).is_ok_and(|h| h.op == Op::CLOSE_SESSION) && close_session_without_paths(r.rest())
}

/// `rest` is what follows the header of a closeSession. 12 bytes that begin with 2 are a digest of version 2. A list of
/// two paths also begins with 2, but it is longer, since a path has at least one byte.
fn close_session_without_paths(rest: &[u8]) -> bool {
    let version = TxnDigest::VERSION.to_be_bytes();
    rest.is_empty() || rest.len() == TxnDigest::LEN && rest.starts_with(&version)
}

/// What is wrong with the bytes at a position of a log.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum Damage {
    /// The file does not begin with "ZKLG".
    #[error("this is not a log, or its first bytes are damaged: a log begins with \"ZKLG\"")]
    FileHeader,
    /// Only zeros, in a file whose length shows that it had records.
    #[error("zeros, although the length of the file shows that it had records")]
    Zeroed,
    /// Zeros where a record should begin, but not up to the end of the file.
    #[error("zeros, with data after them")]
    Zeros,
    /// A length that no record can have.
    #[error("record length {0} is impossible")]
    Length(i32),
    /// The record would end beyond the end of the file.
    #[error("the record ends {missing} bytes after the end of the file")]
    Cut {
        /// Number of missing bytes.
        missing: u64,
    },
    /// No `B` after the payload.
    #[error("the byte that ends a record is missing")]
    NoEnd,
    /// The Adler32 checksum of the payload is wrong.
    #[error("checksum {computed:#x} instead of {stored:#x}")]
    Checksum {
        /// The checksum in the file.
        stored: u64,
        /// The checksum of the payload.
        computed: u64,
    },
    /// The checksum is right but the chained CRC is not: records were lost, moved or exchanged.
    #[error("the record does not belong after the one before it (chained CRC {computed:#x} instead of {stored:#x})")]
    Chain {
        /// The CRC in the file.
        stored: u32,
        /// The CRC of the records read.
        computed: u32,
    },
    /// The checksum is right but the transaction cannot be decoded.
    #[error("the transaction cannot be read: {0}")]
    Body(#[from] JuteError),
}

/// The parts of a payload, borrowed from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Session, request number, zxid, time and opcode.
    pub header: TxnHeader,
    /// The transaction's body: decode it with [`crate::txn::Txn::read`].
    pub body: &'a [u8],
    /// The tree's digest after it.
    pub digest: Option<TxnDigest>,
    /// The trailer, if Zabra wrote the record.
    pub trailer: Option<Trailer>,
    /// Header, transaction and digest together, as a PROPOSAL carries them.
    pub proposal: &'a [u8],
}

impl<'a> Record<'a> {
    /// Splits a payload into its parts.
    ///
    /// # Errors
    /// The transaction has a type that is never logged, or the payload is too short.
    pub fn parse(payload: &'a [u8]) -> Result<Record<'a>, JuteError> {
        let mut r = Reader::new(payload);
        let header = TxnHeader::read(&mut r)?;
        let begin = r.position();
        debug_assert_eq!(begin, TxnHeader::LEN, "every header is equally long");
        if !(header.op == Op::CLOSE_SESSION && close_session_without_paths(r.rest())) {
            skip_body(header.op, &mut r)?;
        }
        let body = &payload[begin..r.position()];
        let mut digest = None;
        let mut trailer = Trailer::read(r.rest());
        if trailer.is_none() && r.rest().len() >= TxnDigest::LEN {
            digest = Some(TxnDigest::read(&mut r)?);
            trailer = Trailer::read(r.rest());
        }
        Ok(Record { header, body, digest, trailer, proposal: &payload[..r.position()] })
    }
}

/// Moves `r` past the body of a transaction of type `op` without copying anything.
fn skip_body(op: Op, r: &mut Reader<'_>) -> Result<(), JuteError> {
    match op {
        Op::CREATE | Op::CREATE2 => {
            skip_create_head(r)?;
            r.u8()?;
            // A `CreateTxnV0` of ZooKeeper 3.3 has no further field.
            if !r.is_empty() {
                r.i32()?;
            }
        }
        Op::CREATE_CONTAINER => {
            skip_create_head(r)?;
            r.i32()?;
        }
        Op::CREATE_TTL => {
            skip_create_head(r)?;
            r.take(12)?;
        }
        Op::DELETE | Op::DELETE_CONTAINER => {
            r.buffer()?;
        }
        Op::SET_DATA | Op::RECONFIG => {
            r.buffer()?;
            r.buffer()?;
            r.i32()?;
        }
        Op::SET_ACL => {
            r.buffer()?;
            skip_acls(r)?;
            r.i32()?;
        }
        Op::MULTI => {
            for _ in 0..r.count(8)?.unwrap_or(0) {
                r.i32()?;
                r.buffer()?;
            }
        }
        Op::CLOSE_SESSION => {
            for _ in 0..r.count(4)?.unwrap_or(0) {
                r.buffer()?;
            }
        }
        Op::CREATE_SESSION | Op::ERROR => {
            r.i32()?;
        }
        _ => return Err(r.unexpected("transaction type")),
    }
    Ok(())
}

fn skip_create_head(r: &mut Reader<'_>) -> Result<(), JuteError> {
    r.buffer()?;
    r.buffer()?;
    skip_acls(r)
}

fn skip_acls(r: &mut Reader<'_>) -> Result<(), JuteError> {
    for _ in 0..r.count(12)?.unwrap_or(0) {
        r.i32()?;
        r.buffer()?;
        r.buffer()?;
    }
    Ok(())
}

/// Whether transactions of this type can be in a log.
pub fn is_logged(op: Op) -> bool {
    matches!(op, Op::CREATE | Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL | Op::DELETE | Op::DELETE_CONTAINER)
        || matches!(op, Op::SET_DATA | Op::RECONFIG | Op::SET_ACL | Op::MULTI | Op::ERROR)
        || matches!(op, Op::CREATE_SESSION | Op::CLOSE_SESSION)
}

/// Whether this record may come next, after the last one read.
pub fn follows(record: &Record<'_>, base: Zxid, seen: Option<Zxid>) -> bool {
    let z = record.header.zxid;
    let last = seen.map_or(base, |s| s.max(base));
    if z <= last {
        return false;
    }
    match record.trailer {
        // Zabra's trailer names the record before. After a snapshot that no log leads to, that record may be older than
        // the snapshot.
        Some(t) if seen.is_some_and(|s| s >= base) => Some(t.prev) == seen,
        Some(t) => t.prev <= base,
        // Apache's records do not name it, but in an epoch zxids are consecutive, and a leader's first transaction has
        // counter 1.
        None if z.epoch() == last.epoch() => z.0 == last.0 + 1,
        None => z.counter() == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Txn;
    use crate::types::{Cxid, SessionId};

    pub(crate) fn header(zxid: i64, op: Op) -> TxnHeader {
        TxnHeader { session: SessionId(0x0100_0000_0000_0001), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 7, op }
    }

    fn payload(op: Op, txn: &Txn, digest: Option<TxnDigest>) -> Vec<u8> {
        let mut out = Vec::new();
        header(1, op).put(&mut out);
        txn.put(&mut out);
        if let Some(d) = digest {
            d.put(&mut out);
        }
        out
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Framed::new(payload, Zxid(0), 3, 9).pieces(payload, |b| out.extend_from_slice(b));
        assert_eq!(out.len() as u64, Framed::len(payload));
        out
    }

    const DIGEST: TxnDigest = TxnDigest { version: 2, digest: 0x51c6_d660 };

    #[test]
    fn golden_bytes() {
        assert_eq!(FILE_HEADER.to_vec(), hex("5a4b4c47 00000002 0000000000000000"));
        let p = payload(Op::CREATE_SESSION, &Txn::CreateSession { timeout_ms: 6000 }, Some(DIGEST));
        assert_eq!(
            p,
            hex(
                "0100000000000001 00000000 0000000000000001 0000000000000007 fffffff6 00001770 00000002 0000000051c6d660"
            )
        );
        let f = framed(&p);
        assert_eq!(f[8..12], (p.len() as i32 + 20).to_be_bytes());
        assert_eq!(f[12..12 + p.len()], p[..]);
        assert_eq!(f[12 + p.len()..][..16], hex("5a425231 0000000000000000 00000003"));
        assert_eq!(f.last(), Some(&b'B'));
        let adler = simd_adler32::adler32(&&f[12..f.len() - 1]);
        assert_eq!(f[..8], u64::from(adler).to_be_bytes());
        let crc = crc32c::crc32c_append(9, &f[12..f.len() - 5]);
        assert_eq!(f[f.len() - 5..f.len() - 1], crc.to_be_bytes());
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits.chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn every_kind_of_tail_is_told_apart() {
        let create = Txn::CreateSession { timeout_ms: 1 };
        for digest in [None, Some(DIGEST)] {
            let p = payload(Op::CREATE_SESSION, &create, digest);
            let bare = Record::parse(&p).unwrap();
            assert_eq!((bare.digest, bare.trailer, bare.proposal), (digest, None, &p[..]));
            let f = framed(&p);
            let ours = Record::parse(&f[12..f.len() - 1]).unwrap();
            assert_eq!((ours.digest, ours.proposal), (digest, &p[..]));
            assert_eq!(ours.trailer.map(|t| (t.prev, t.unsynced)), Some((Zxid(0), 3)));
            assert_eq!(Txn::read(ours.header.op, &mut Reader::new(ours.body)), Ok(create.clone()));
        }
    }

    #[test]
    fn a_close_session_without_paths_never_lends_its_digest() {
        for digest in [None, Some(DIGEST)] {
            let p = payload(Op::CLOSE_SESSION, &Txn::CloseSession { paths: None }, digest);
            let apache = Record::parse(&p).unwrap();
            assert_eq!((apache.body, apache.digest), (&[][..], digest));
            // How Apache sees our record: an empty list of paths, then a digest of version 2 or one that it ignores.
            let f = framed(&p);
            let ours = Record::parse(&f[12..f.len() - 1]).unwrap();
            assert_eq!((ours.body, ours.digest), (&[0u8; 4][..], digest));
            assert!(ours.trailer.is_some());
        }
        let paths = Txn::CloseSession { paths: Some(vec!["/a".into(), "/b".into()]) };
        let p = payload(Op::CLOSE_SESSION, &paths, Some(DIGEST));
        assert_eq!(Framed::new(&p, Zxid(0), 0, 0).patch, None);
        assert_eq!(Record::parse(&p).unwrap().digest, Some(DIGEST));
    }

    #[test]
    fn a_ttl_that_looks_like_our_magic_is_no_trailer() {
        use crate::txn::{CreateKind, CreateTxn};
        let kind = CreateKind::Ttl { ttl_ms: i64::from(Trailer::MAGIC) };
        let create = CreateTxn { path: "/t".into(), data: None, acl: None, kind, parent_cversion: 1 };
        let p = payload(Op::CREATE_TTL, &Txn::Create(create), Some(DIGEST));
        let r = Record::parse(&p).unwrap();
        assert_eq!((r.digest, r.trailer), (Some(DIGEST), None));
    }

    #[test]
    fn types_that_are_never_logged_are_refused() {
        for op in [Op::CHECK, Op::GET_DATA, Op(99)] {
            assert!(Record::parse(&payload(op, &Txn::Error { err: 0 }, None)).is_err());
            assert!(!is_logged(op));
        }
        assert!(Record::parse(&[0; 31]).is_err());
    }
}
