//! What recovery is asked for, builds and tells: the types that [`recovery`](super::recovery) and [`replay`](super::replay)
//! share.

use std::collections::{HashMap, VecDeque};

use super::record::Damage;
use super::snapshot_read::Node;
use crate::txn::{Txn, TxnHeader};
use crate::types::{Acl, AclId, SessionId, Zxid};

/// A state to which transactions are applied.
pub trait Replica {
    /// Applies one transaction. Replay may apply a transaction that the state already contains, which must do no harm.
    fn apply(&mut self, header: &TxnHeader, txn: &Txn);
    /// The current digest; `None` if digests are off.
    fn digest(&self) -> Option<u64>;
}

/// Builds a [`Replica`] from a snapshot.
pub trait Builder: Sized {
    /// The type of the state.
    type Replica: Replica;
    /// An ACL list of the snapshot.
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String>;
    /// A node of the snapshot.
    fn node(&mut self, node: Node<'_>) -> Result<(), String>;
    /// The state as of `zxid`.
    fn finish(self, zxid: Zxid) -> Result<Self::Replica, String>;
    /// The state before any transaction, for a start without a snapshot.
    fn fresh(self) -> Self::Replica;
}

/// Settings of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryOptions {
    /// `snapshot.trust.empty`: logs without a snapshot are applied to an empty tree (an upgrade from 3.4).
    pub trust_empty_snapshot: bool,
    /// An empty directory becomes a new database: because of `db.autocreate`, or because a file named `initialize` was
    /// there, which the caller removes.
    pub may_create: bool,
    /// `digest.enabled`: the digests in the log are checked.
    pub verify_digests: bool,
    /// `commitLogCount`: how many of the last transactions are kept for followers that synchronise.
    pub keep_last: usize,
}

impl Default for RecoveryOptions {
    fn default() -> RecoveryOptions {
        RecoveryOptions { trust_empty_snapshot: false, may_create: true, verify_digests: true, keep_last: 500 }
    }
}

/// An end of a file that was cut off because a crash had torn it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Cut {
    pub file: String,
    /// The file was cut at this offset, or removed if it had no whole record.
    pub at: u64,
    /// Number of bytes cut off.
    pub bytes: u64,
    pub damage: Damage,
    /// Number of whole records in what was cut off. They were written in the batch that the crash tore, so they were
    /// never acknowledged.
    pub unsynced_records: u32,
    pub removed: bool,
}

/// A digest that differs from the one in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct DigestMismatch {
    pub zxid: Zxid,
    pub stored: u64,
    pub computed: u64,
}

/// What recovery did, for the server's log and the metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The file name of the snapshot that was loaded.
    pub snapshot: Option<String>,
    /// Newer snapshots that could not be used, with the reasons.
    pub bad_snapshots: Vec<(String, String)>,
    /// Number of transactions applied.
    pub replayed: u64,
    /// Number of log bytes read.
    pub log_bytes: u64,
    /// Those without Zabra's trailer, which Apache wrote.
    pub foreign: u64,
    /// What was cut off.
    pub cuts: Vec<Cut>,
    /// The first digests that differed.
    pub digest_mismatches: Vec<DigestMismatch>,
    /// Number of digests that differed.
    pub digest_mismatch_count: u64,
    /// The digest after every 128th zxid that was replayed, as the four-letter word `hash` lists them; the newest 1024.
    pub logged_digests: VecDeque<(Zxid, u64)>,
    /// The snapshot records a digest for this zxid, but the log ends before it: the end of the log may be missing.
    pub digest_not_reached: Option<Zxid>,
}

/// One transaction as in a PROPOSAL: header, transaction, digest.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Logged {
    pub zxid: Zxid,
    pub payload: Vec<u8>,
}

/// The recovered state.
#[derive(Debug)]
pub struct Recovered<R> {
    /// The tree or other state.
    pub state: R,
    /// Every open session with its timeout in milliseconds.
    pub sessions: HashMap<SessionId, i32>,
    /// The zxid of the last transaction; [`Zxid::NONE`] if the directory is empty and may not become a new database.
    pub last: Zxid,
    /// The directory was empty: the caller must write a first snapshot before it serves.
    pub fresh: bool,
    /// The last transactions, oldest first.
    pub tail: VecDeque<Logged>,
    /// What was done.
    pub report: Report,
}
