//! Reading snapshots as a stream. Mirrors `FileSnap.deserialize`, `SnapStream.checkSealIntegrity` and
//! `SerializeUtils.deserializeSnapshot`.
//!
//! Lengths are not checked against `jute.maxbuffer`, because data that was accepted once must stay readable. They are
//! limited by the bytes that are really there: the buffer grows only as bytes arrive.

use std::borrow::Cow;
use std::io::{self, Read};

use thiserror::Error;

use super::compress::Unpacker;
use super::disk;
use super::names::Compression;
use super::snapshot::{FILE_HEADER, TERMINATOR, ZxidDigest};
use crate::jute::acl::read_id;
use crate::jute::stat::read_stat_persisted;
use crate::jute::{JuteError, Reader};
use crate::types::{Acl, AclId, SessionId, StatPersisted, Zxid};

const READ_SIZE: usize = 1 << 20;
/// Limit for the part after the znodes: digest block, zxid block and seals take 67 bytes, and a digest of version 1 a
/// few more.
pub(super) const MAX_TAIL: usize = 4096;
const SEAL_LEN: usize = 13;

/// Why a snapshot cannot be read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// An I/O error, or an error in the compressed format.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Wrong bytes at this offset of the decompressed stream.
    #[error("at byte {at}: {what}")]
    Bytes {
        /// Offset in the decompressed stream.
        at: u64,
        /// What is wrong.
        what: String,
    },
}

/// One node of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Node<'a> {
    /// Empty for the root.
    pub path: &'a str,
    pub data: Option<&'a [u8]>,
    pub acl: AclId,
    pub stat: StatPersisted,
}

/// Receives the contents of a snapshot, in the order of these methods. An `Err` says why the contents are not valid;
/// reading then stops.
#[allow(missing_docs)]
pub trait Sink {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String>;
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String>;
    fn node(&mut self, node: Node<'_>) -> Result<(), String>;
}

/// The blocks after the znodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// The digest block, if there is one with a digest in it.
    pub digest: Option<ZxidDigest>,
    /// The last processed zxid, if it is there. It is never below the zxid in the file's name, which is the one that is
    /// used.
    pub last_zxid: Option<Zxid>,
    /// Number of seals, all of them correct: 1 to 3.
    pub seals: u32,
    /// Size in bytes, decompressed.
    pub bytes: u64,
}

/// Reads a snapshot file into `sink` and checks every seal. `named` is the zxid in the file's name. A file whose own
/// last zxid is lower was renamed and is refused. Apache believes the name, and so loses the transactions in between.
pub fn read_file<R: disk::Reader>(
    file: R,
    named: Zxid,
    compression: Compression,
    sink: &mut impl Sink,
) -> Result<Tail, SnapshotError> {
    let mut s = Stream::new(Unpacker::new(file, compression));
    if s.need(FILE_HEADER.len())?[..4] != FILE_HEADER[..4] {
        return Err(s.bad("not a snapshot: the file header is damaged"));
    }
    s.advance(FILE_HEADER.len());
    read_image_from(&mut s, sink)?;
    let tail = read_tail(&mut s)?;
    match tail.last_zxid.filter(|last| *last < named) {
        Some(last) => {
            Err(s.bad(&format!("it says that it ends at {last}, before the {named} of its name: was it renamed?")))
        }
        None => Ok(tail),
    }
}

/// Reads the image that a leader sends in a SNAP: from the sessions to the terminator, and not one byte more.
pub fn read_image(source: impl Read, sink: &mut impl Sink) -> Result<(), SnapshotError> {
    let mut s = Stream::new(source);
    s.exact = true;
    read_image_from(&mut s, sink)
}

fn read_image_from<S: Read>(s: &mut Stream<S>, sink: &mut impl Sink) -> Result<(), SnapshotError> {
    let sessions = s.count()?;
    for _ in 0..sessions {
        let mut r = Reader::new(s.need(12)?);
        let (id, timeout_ms) = (SessionId(r.i64().map_err(decode)?), r.i32().map_err(decode)?);
        sink.session(id, timeout_ms).map_err(|e| s.bad(&e))?;
        s.advance(12);
    }
    let acls = s.count()?;
    for _ in 0..acls {
        let id = AclId(Reader::new(s.need(8)?).i64().map_err(decode)?);
        s.advance(8);
        let list = read_acl_list(s)?;
        sink.acl(id, list).map_err(|e| s.bad(&e))?;
    }
    loop {
        let path_len = s.len_at(0)?;
        // "/" cannot be the path of a znode here, because the root's path is empty.
        if path_len == 1 && s.need(5)?[..5] == TERMINATOR {
            s.advance(5);
            return Ok(());
        }
        let path_end = 4 + path_len;
        let data_len = s.len_or_null_at(path_end)?;
        let data_end = path_end + 4 + data_len.unwrap_or(0);
        let len = data_end + 8 + 60;
        let at = s.at;
        let bytes = &s.need(len)?[..len];
        let path = text(&bytes[4..path_end]);
        let mut r = Reader::new(&bytes[data_end..]);
        let acl = AclId(r.i64().map_err(decode)?);
        let stat = read_stat_persisted(&mut r).map_err(decode)?;
        let data = data_len.map(|n| &bytes[path_end + 4..path_end + 4 + n]);
        sink.node(Node { path: &path, data, acl, stat }).map_err(|what| SnapshotError::Bytes { at, what })?;
        s.advance(len);
    }
}

/// Decodes text as Java does: invalid UTF-8 is replaced. Nearly all text is valid, and checking that is faster than the
/// lossy conversion.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn read_acl_list<S: Read>(s: &mut Stream<S>) -> Result<Vec<Acl>, SnapshotError> {
    let n = s.count()?;
    let mut list = Vec::new();
    for _ in 0..n {
        let scheme = s.len_or_null_at(4)?.unwrap_or(0);
        let id = s.len_or_null_at(8 + scheme)?.unwrap_or(0);
        let len = 12 + scheme + id;
        let mut r = Reader::new(&s.need(len)?[..len]);
        list.push(Acl { perms: r.i32().map_err(decode)?, id: read_id(&mut r).map_err(decode)? });
        s.advance(len);
    }
    Ok(list)
}

fn decode(e: JuteError) -> SnapshotError {
    SnapshotError::Bytes { at: 0, what: e.to_string() }
}

/// Reads the blocks after the image. The number of bytes left tells which blocks are there, so the settings of the
/// writer do not matter.
fn read_tail<S: Read>(s: &mut Stream<S>) -> Result<Tail, SnapshotError> {
    let mut left = s.rest()?;
    let mut tail = Tail::default();
    s.seal(&mut left, &mut tail)?;
    const ZXID_BLOCK: usize = 8 + SEAL_LEN;
    if left > ZXID_BLOCK {
        let mut r = Reader::new(s.window());
        let zxid = Zxid(r.i64().map_err(decode)?);
        let version = r.i32().map_err(decode)?;
        let digest = if version < 2 {
            u64::from_str_radix(&r.string().map_err(decode)?, 16).unwrap_or(0)
        } else {
            r.i64().map_err(decode)? as u64
        };
        let n = r.position();
        s.advance(n);
        left -= n;
        s.seal(&mut left, &mut tail)?;
        tail.digest = (zxid > Zxid::ZERO).then_some(ZxidDigest { zxid, version, digest });
    }
    if left == ZXID_BLOCK {
        tail.last_zxid = Some(Zxid(Reader::new(s.window()).i64().map_err(decode)?));
        s.advance(8);
        left -= 8;
        s.seal(&mut left, &mut tail)?;
    }
    if left != 0 {
        return Err(s.bad("unknown bytes after the last seal"));
    }
    assert!(tail.seals > 0, "a snapshot is taken for whole without a seal");
    tail.bytes = s.at;
    Ok(tail)
}

/// Reads the blocks after the image from `bytes`, which hold nothing else. `adler` is the checksum of everything before.
pub(super) fn read_tail_of(bytes: &[u8], adler: simd_adler32::Adler32) -> Result<Tail, SnapshotError> {
    let mut s = Stream::new(bytes);
    s.adler = adler;
    read_tail(&mut s)
}

/// A buffered source that computes a checksum while it is read.
struct Stream<S> {
    source: S,
    buf: Vec<u8>,
    from: usize,
    to: usize,
    /// The checksum covers `buf[..hashed]`.
    hashed: usize,
    at: u64,
    adler: simd_adler32::Adler32,
    /// Never read more than needed, because the source is a connection.
    exact: bool,
}

impl<S: Read> Stream<S> {
    fn new(source: S) -> Stream<S> {
        let adler = simd_adler32::Adler32::new();
        Stream { source, buf: Vec::new(), from: 0, to: 0, hashed: 0, at: 0, adler, exact: false }
    }

    fn window(&self) -> &[u8] {
        &self.buf[self.from..self.to]
    }

    fn bad(&self, what: &str) -> SnapshotError {
        SnapshotError::Bytes { at: self.at, what: what.to_owned() }
    }

    fn advance(&mut self, n: usize) {
        assert!(n <= self.to - self.from, "{n} bytes further, and only {} are read", self.to - self.from);
        self.from += n;
        self.at += n as u64;
    }

    fn checksum(&mut self) -> u32 {
        assert!(
            self.hashed <= self.from,
            "bytes from {} on are in the checksum, and {} were read",
            self.hashed,
            self.from
        );
        self.adler.write(&self.buf[self.hashed..self.from]);
        self.hashed = self.from;
        self.adler.finish()
    }

    /// At least `n` bytes from the current position on.
    fn need(&mut self, n: usize) -> Result<&[u8], SnapshotError> {
        if !self.try_fill(n)? {
            let missing = n - (self.to - self.from);
            return Err(self.bad(&format!("the file ends {missing} bytes too early")));
        }
        Ok(self.window())
    }

    /// Reads until `n` bytes are available; returns false if the source ends before.
    fn try_fill(&mut self, n: usize) -> io::Result<bool> {
        while self.to - self.from < n {
            if self.from > 0 {
                self.checksum();
                self.buf.copy_within(self.from..self.to, 0);
                self.to -= self.from;
                (self.from, self.hashed) = (0, 0);
            }
            if self.to == self.buf.len() {
                // The size doubles as bytes arrive, so that a wrong length costs no more than the bytes that are there.
                let size = n.min(self.buf.len().max(READ_SIZE / 2) * 2).max(READ_SIZE.min(self.buf.len() + READ_SIZE));
                let mut buf = vec![0; size];
                buf[..self.to].copy_from_slice(&self.buf[..self.to]);
                self.buf = buf;
            }
            assert!(self.to < self.buf.len(), "no space to read to");
            let end = if self.exact { self.buf.len().min(n) } else { self.buf.len() };
            match self.source.read(&mut self.buf[self.to..end]) {
                Ok(0) => return Ok(false),
                Ok(got) => self.to += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Reads a count. A negative one means none, as in Java's loops.
    fn count(&mut self) -> Result<i32, SnapshotError> {
        let n = Reader::new(self.need(4)?).i32().map_err(decode)?;
        self.advance(4);
        Ok(n.max(0))
    }

    fn len_or_null_at(&mut self, offset: usize) -> Result<Option<usize>, SnapshotError> {
        let bytes = &self.need(offset + 4)?[offset..];
        match Reader::new(bytes).i32().map_err(decode)? {
            -1 => Ok(None),
            n if n < 0 => Err(self.bad(&format!("impossible length {n}"))),
            n => Ok(Some(n as usize)),
        }
    }

    fn len_at(&mut self, offset: usize) -> Result<usize, SnapshotError> {
        self.len_or_null_at(offset)?.ok_or_else(|| self.bad("a null path"))
    }

    /// Reads everything that is left, which must be few bytes; returns how many.
    fn rest(&mut self) -> Result<usize, SnapshotError> {
        if self.try_fill(MAX_TAIL)? {
            return Err(self.bad("too many bytes after the last node"));
        }
        Ok(self.to - self.from)
    }

    fn seal(&mut self, left: &mut usize, tail: &mut Tail) -> Result<(), SnapshotError> {
        assert_eq!(*left, self.to - self.from, "bytes that are left after the nodes");
        assert!(tail.seals < 3, "there are three places for a seal");
        let computed = u64::from(self.checksum());
        if *left < SEAL_LEN {
            return Err(self.bad("the file ends before its seal"));
        }
        let seal = &self.window()[..SEAL_LEN];
        let stored = Reader::new(seal).i64().map_err(decode)? as u64;
        if stored != computed {
            return Err(self.bad(&format!("seal {computed:#x} instead of {stored:#x}")));
        }
        if seal[8..] != TERMINATOR {
            return Err(self.bad("a damaged seal"));
        }
        self.advance(SEAL_LEN);
        *left -= SEAL_LEN;
        tail.seals += 1;
        Ok(())
    }
}
