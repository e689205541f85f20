//! A replica that keeps every transaction it was given, byte by byte, and helpers that write its logs and snapshots.
//! Tests and fuzz targets use it to check what a recovery restores.

use std::collections::BTreeMap;
use std::io;

use super::test_disk::TestDisk;
use crate::jute::Put;
use crate::txn::{Txn, TxnHeader};
use crate::txnlog::names::Compression;
use crate::txnlog::record::END;
use crate::txnlog::recovery::{Builder, Replica};
use crate::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, put_acl_table, put_node, put_sessions};
use crate::txnlog::snapshot_read::Node;
use crate::txnlog::writer::LogOptions;
use crate::types::{Acl, AclId, SessionId, StatPersisted, Zxid};

/// Options with which segments grow and roll after few records.
pub const SMALL: LogOptions = LogOptions { prealloc_bytes: 4096, roll_at_bytes: None, force_sync: true, keeps: true };

/// The transactions by zxid, in the form of [`encoded`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen(pub BTreeMap<i64, Vec<u8>>);

/// Header and transaction in the form in which they are compared. A closeSession without paths is logged with an empty
/// list.
pub fn encoded(header: &TxnHeader, txn: &Txn) -> Vec<u8> {
    let mut out = Vec::new();
    header.put(&mut out);
    match txn {
        Txn::CloseSession { paths: None } => out.put_i32(0),
        other => other.put(&mut out),
    }
    out
}

/// The digest of a [`Seen`] that contains these transactions.
pub fn digest_of(zxids: impl Iterator<Item = i64>) -> u64 {
    zxids.fold(0, |d, z| d.wrapping_add(z as u64 ^ 0x9e37))
}

/// A log record as Apache writes it: without Zabra's trailer.
pub fn put_apache(file: &mut Vec<u8>, payload: &[u8]) {
    file.put_i64(i64::from(simd_adler32::adler32(&payload)));
    file.put_buffer(Some(payload));
    file.push(END);
}

impl Seen {
    /// Writes a snapshot as of `zxid`, with one znode for each transaction.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn save(
        &self,
        disk: &TestDisk,
        zxid: Zxid,
        sessions: &[(SessionId, i32)],
        compression: Compression,
    ) -> io::Result<String> {
        let mut disk = disk.clone();
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        let mut w = SnapshotWriter::begin(&mut disk, zxid, options)?;
        w.put(&self.image(sessions))?;
        w.finish(&mut disk, None, zxid)
    }

    /// The body of a snapshot, without its terminator.
    pub fn image(&self, sessions: &[(SessionId, i32)]) -> Vec<u8> {
        let mut image = Vec::new();
        put_sessions(&mut image, sessions.iter().copied());
        put_acl_table(&mut image, [(AclId(1), &[Acl::world_all()][..])].into_iter());
        put_node(&mut image, "", None, AclId::OPEN, &StatPersisted::default());
        for (z, bytes) in &self.0 {
            put_node(&mut image, &format!("/{z}"), Some(bytes), AclId(1), &StatPersisted::default());
        }
        image
    }
}

impl Replica for Seen {
    fn apply(&mut self, header: &TxnHeader, txn: &Txn) {
        self.0.insert(header.zxid.0, encoded(header, txn));
    }
    fn digest(&self) -> Option<u64> {
        Some(digest_of(self.0.keys().copied()))
    }
}

impl Builder for Seen {
    type Replica = Seen;
    fn acl(&mut self, _: AclId, _: Vec<Acl>) -> Result<(), String> {
        Ok(())
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        if let Ok(z) = node.path.trim_start_matches('/').parse() {
            self.0.insert(z, node.data.unwrap_or_default().to_vec());
        }
        Ok(())
    }
    fn finish(self, _: Zxid) -> Result<Seen, String> {
        Ok(self)
    }
    fn fresh(self) -> Seen {
        self
    }
}
