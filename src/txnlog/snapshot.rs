//! Writing snapshots. Mirrors `FileSnap.serialize`, `SnapStream.sealStream` and `SerializeUtils.serializeSnapshot`.
//!
//! ```text
//! I "ZKSN"  I 2  L -1
//! I sessions { L id  I timeout }   I acls { L id  vector<ACL> }   nodes { ustring path  DataNode }   ustring "/"
//! seal   [ L zxid  I digest version  L digest  seal ]   [ L last processed zxid  seal ]
//! seal = L Adler32 of all bytes so far  ustring "/"
//! ```
//! A SNAP of a leader consists of the parts from sessions to `"/"`.

use std::io;

use super::compress::Packer;
use super::disk::{Dir, Writer};
use super::names::{Compression, SNAPSHOT_TMP_PREFIX, parse_snapshot_name, snapshot_name};
use crate::jute::Put;
use crate::jute::acl::put_acls;
use crate::jute::stat::put_stat_persisted;
use crate::types::{Acl, AclId, SessionId, StatPersisted, Zxid};

/// The first bytes of every snapshot: "ZKSN", version 2, database id -1.
pub const FILE_HEADER: [u8; 16] = *b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff";
/// Ends the nodes, and every seal.
pub const TERMINATOR: [u8; 5] = *b"\0\0\0\x01/";

/// Settings of a snapshot file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotOptions {
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `digest.enabled`: the digest block is written.
    pub digest_block: bool,
    /// `serializeLastProcessedZxid.enabled`: the last processed zxid is written.
    pub last_zxid_block: bool,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions { compression: Compression::None, digest_block: true, last_zxid_block: true }
    }
}

/// The tree's digest after a given transaction. A fuzzy snapshot is correct if replaying the log up to that transaction
/// gives this digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ZxidDigest {
    pub zxid: Zxid,
    pub version: i32,
    pub digest: u64,
}

/// Appends the session table.
pub fn put_sessions(out: &mut Vec<u8>, sessions: impl ExactSizeIterator<Item = (SessionId, i32)>) {
    out.put_i32(sessions.len() as i32);
    assert!(i32::try_from(sessions.len()).is_ok(), "{} sessions do not fit in a snapshot", sessions.len());
    let end = out.len() + sessions.len() * 12;
    for (id, timeout_ms) in sessions {
        out.put_i64(id.0);
        out.put_i32(timeout_ms);
    }
    assert_eq!(out.len(), end, "as many sessions as were counted");
}

/// Appends the ACL table.
pub fn put_acl_table<'a>(out: &mut Vec<u8>, acls: impl ExactSizeIterator<Item = (AclId, &'a [Acl])>) {
    out.put_i32(acls.len() as i32);
    assert!(i32::try_from(acls.len()).is_ok(), "{} ACL lists do not fit in a snapshot", acls.len());
    let (counted, mut written) = (acls.len(), 0);
    for (id, list) in acls {
        written += 1;
        out.put_i64(id.0);
        put_acls(out, list);
    }
    assert_eq!(written, counted, "as many ACL lists as were counted");
}

/// Appends one znode. The root's path is empty; a parent comes before its children.
pub fn put_node(out: &mut Vec<u8>, path: &str, data: Option<&[u8]>, acl: AclId, stat: &StatPersisted) {
    out.put_string(path);
    out.put_buffer(data);
    out.put_i64(acl.0);
    put_stat_persisted(out, stat);
}

/// A snapshot that is being written. It has its final name only after [`SnapshotWriter::finish`].
pub struct SnapshotWriter<W: Writer> {
    out: Packer<W>,
    adler: simd_adler32::Adler32,
    options: SnapshotOptions,
    zxid: Zxid,
    bytes: u64,
}

impl<W: Writer> SnapshotWriter<W> {
    /// Begins the snapshot of `zxid` in `dir`, under a temporary name. `image` starts with the session table and the
    /// ACL table; nodes may follow.
    pub fn begin<D: Dir<Writer = W>>(
        dir: &mut D,
        zxid: Zxid,
        options: SnapshotOptions,
    ) -> io::Result<SnapshotWriter<W>> {
        SnapshotWriter::begin_as(dir, &tmp_name(zxid, options.compression), zxid, options)
    }

    /// Like [`SnapshotWriter::begin`], under another name; to be ended with [`SnapshotWriter::end`].
    pub(super) fn begin_as<D: Dir<Writer = W>>(
        dir: &mut D,
        name: &str,
        zxid: Zxid,
        options: SnapshotOptions,
    ) -> io::Result<SnapshotWriter<W>> {
        assert!(zxid >= Zxid::ZERO, "a snapshot as of {zxid}");
        let file = dir.create(name)?;
        let out = Packer::new(file, options.compression)?;
        let mut w = SnapshotWriter { out, adler: simd_adler32::Adler32::new(), options, zxid, bytes: 0 };
        w.put(&FILE_HEADER)?;
        Ok(w)
    }

    /// Appends encoded parts of the image, in this order: [`put_sessions`], [`put_acl_table`], then nodes from
    /// [`put_node`] in pieces of any size. `finish` adds the terminator.
    pub fn put(&mut self, image: &[u8]) -> io::Result<()> {
        self.adler.write(image);
        self.bytes += image.len() as u64;
        self.out.write_all(image)
    }

    /// Bytes so far, uncompressed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes what was written.
    pub(super) fn abandon<D: Dir<Writer = W>>(self, dir: &mut D) -> io::Result<()> {
        let name = tmp_name(self.zxid, self.options.compression);
        self.abandon_as(dir, &name)
    }

    /// Like [`SnapshotWriter::abandon`], begun under another name.
    pub(super) fn abandon_as<D: Dir<Writer = W>>(self, dir: &mut D, name: &str) -> io::Result<()> {
        self.out.discard();
        dir.remove(name)
    }

    fn seal(&mut self) -> io::Result<()> {
        let mut seal = Vec::with_capacity(13);
        seal.put_i64(i64::from(self.adler.finish()));
        seal.extend_from_slice(&TERMINATOR);
        self.put(&seal)
    }

    /// Ends and seals the image, makes it durable and renames it to its final name, which is returned. `digest` is that
    /// of the tree when the last node was written (`None`: no transaction was ever applied); `last` is the zxid of the
    /// snapshot.
    ///
    /// # Errors
    /// An I/O error. The temporary file may stay behind; recovery removes it.
    pub fn finish<D: Dir<Writer = W>>(
        mut self,
        dir: &mut D,
        digest: Option<ZxidDigest>,
        last: Zxid,
    ) -> io::Result<String> {
        self.put(&TERMINATOR)?;
        let (zxid, compression) = (self.zxid, self.options.compression);
        self.end(digest, last)?;
        let name = snapshot_name(zxid, compression);
        assert_eq!(parse_snapshot_name(&name), Some((zxid, compression)), "a snapshot that would not be found");
        dir.rename(&tmp_name(zxid, compression), &name)?;
        dir.sync_dir()?;
        Ok(name)
    }

    /// Seals an image that has its terminator, and makes the file durable under the name that it has.
    pub(super) fn end(mut self, digest: Option<ZxidDigest>, last: Zxid) -> io::Result<()> {
        let tables = FILE_HEADER.len() as u64 + 8;
        assert!(self.bytes >= tables, "a snapshot of {} bytes has no tables of sessions and ACLs", self.bytes);
        assert!(last >= self.zxid, "a snapshot that ends at {last} is named {}: it would be refused", self.zxid);
        self.seal()?;
        if self.options.digest_block {
            let d = digest.unwrap_or(ZxidDigest { zxid: Zxid::ZERO, version: 2, digest: 0 });
            let mut block = Vec::with_capacity(20);
            block.put_i64(d.zxid.0);
            block.put_i32(d.version);
            block.put_i64(d.digest as i64);
            self.put(&block)?;
            self.seal()?;
        }
        if self.options.last_zxid_block {
            self.put(&last.0.to_be_bytes())?;
            self.seal()?;
        }
        self.out.finish()
    }
}

fn tmp_name(zxid: Zxid, compression: Compression) -> String {
    let name = format!("{SNAPSHOT_TMP_PREFIX}{:x}{}", zxid.0, compression.extension());
    assert_eq!(parse_snapshot_name(&name), None, "an unfinished snapshot must not be taken for one");
    name
}
