//! What a role asks of the disk besides appending: to keep an epoch, to cut the history, to take a leader's snapshot for it.
//! Mirrors what `QuorumPeer` and `Learner` do themselves and wait for: `setAcceptedEpoch`, `setCurrentEpoch`, `truncateLog`.
//!
//! Requests and records go to the same thread in one order. So when a request is done, everything appended before it is
//! durable, and an epoch cannot become durable before the history that belongs to it.

use std::collections::HashMap;
use std::fmt;
use std::io;

use bytes::Bytes;
use thiserror::Error;

use crate::tree::{Tree, TreeOptions};
use crate::txnlog::disk::Dir;
use crate::txnlog::epoch::{EpochError, write_epoch};
use crate::txnlog::install::Received;
use crate::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::txnlog::recovery::{RecoveryError, RecoveryOptions};
use crate::txnlog::restore::{end_received, recover_tree};
use crate::txnlog::truncate::{TruncateError, truncate};
use crate::txnlog::writer::LogWriter;
use crate::types::{Epoch, SessionId, Term, Zxid};

/// A request to the disk.
#[derive(Debug)]
pub struct DiskRequest {
    /// The term of the role that asks.
    pub term: Term,
    /// What is asked for.
    pub job: DiskJob,
}

/// What is asked of the disk.
#[derive(Debug)]
pub enum DiskJob {
    /// Make this epoch the durable `acceptedEpoch`.
    SaveAccepted(Epoch),
    /// Make this epoch the durable `currentEpoch`, unless the log keeps nothing: then the history of this epoch is in memory only, so
    /// the epoch must not be durable either.
    SaveCurrent(Epoch),
    /// Cut the history after this transaction, and load it anew.
    Truncate(Zxid),
    /// A leader's snapshot of this zxid begins.
    Receive(Zxid),
    /// The next bytes of it.
    Chunk(Bytes),
    /// All of it came: make it the base of the history, and load it.
    Install,
    /// The rest of it will not come.
    Abandon,
}

/// The answer to a [`DiskRequest`]. There is one for each, in the same order.
#[derive(Debug)]
pub struct DiskAnswer {
    /// The term of the request.
    pub term: Term,
    /// What was done.
    pub done: DiskDone,
}

/// What the disk did.
#[derive(Debug)]
pub enum DiskDone {
    /// [`DiskJob::SaveAccepted`].
    SavedAccepted(Epoch),
    /// [`DiskJob::SaveCurrent`].
    SavedCurrent(Epoch),
    /// [`DiskJob::SaveCurrent`] where the log keeps nothing: nothing was written.
    UnsavedCurrent(Epoch),
    /// [`DiskJob::Truncate`].
    Truncated(Box<Loaded>),
    /// [`DiskJob::Truncate`] to where this history does not lead back: its snapshot is newer. Nothing was changed.
    Uncut {
        /// The transaction that was to become the last one.
        to: Zxid,
        /// The reason, for the log.
        why: String,
    },
    /// [`DiskJob::Receive`].
    Receiving,
    /// [`DiskJob::Chunk`]: its number of bytes.
    Stored(usize),
    /// [`DiskJob::Install`].
    Installed(Box<Loaded>),
    /// [`DiskJob::Install`] of a snapshot that cannot be read. What was there before is still there.
    Damaged(String),
    /// [`DiskJob::Abandon`].
    Abandoned,
}

/// The state that the history on the disk leads to.
pub struct Loaded {
    /// The tree as of the history's end.
    pub tree: Tree,
    /// The open sessions with their timeouts in milliseconds.
    pub sessions: HashMap<SessionId, i32>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (last, sessions) = (self.tree.last_zxid(), self.sessions.len());
        f.debug_struct("Loaded").field("last", &last).field("sessions", &sessions).finish_non_exhaustive()
    }
}

/// Why the disk cannot do what was asked. The process must end: it is unknown what is on the disk, or it is not what the
/// ensemble counts on.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum DiskError {
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Truncate(#[from] TruncateError),
    #[error("after a truncation: {0}")]
    Recovery(#[from] RecoveryError),
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
}

/// Does what is asked for, on the log's thread, in order with the records.
pub struct DiskJobs<D: Dir> {
    snap: D,
    tree: TreeOptions,
    recovery: RecoveryOptions,
    received: Option<Received<D>>,
}

impl<D: Dir> DiskJobs<D> {
    /// Works in `snap` (`dataDir/version-2`) and in the directory of the log.
    pub fn new(snap: D, tree: TreeOptions, recovery: RecoveryOptions) -> DiskJobs<D> {
        DiskJobs { snap, tree, recovery, received: None }
    }

    /// Does the next request. Everything in `log` must be durable; it goes on where the history ends then.
    ///
    /// # Errors
    /// The process must end.
    ///
    /// # Panics
    /// If records are not durable, or pieces of a snapshot come in another order than they can.
    pub fn perform(&mut self, request: DiskRequest, log: &mut LogWriter<D>) -> Result<DiskAnswer, DiskError> {
        assert_eq!(log.durable(), log.last(), "records that are not durable before {:?}", request.job);
        let term = request.term;
        let done = match request.job {
            DiskJob::SaveAccepted(epoch) => {
                write_epoch(&mut self.snap, ACCEPTED_EPOCH, epoch)?;
                DiskDone::SavedAccepted(epoch)
            }
            DiskJob::SaveCurrent(epoch) if !log.keeps() => DiskDone::UnsavedCurrent(epoch),
            DiskJob::SaveCurrent(epoch) => {
                write_epoch(&mut self.snap, CURRENT_EPOCH, epoch)?;
                DiskDone::SavedCurrent(epoch)
            }
            DiskJob::Truncate(to) => self.truncate(to, log)?,
            DiskJob::Receive(zxid) => {
                assert!(self.received.is_none(), "a snapshot of {zxid} begins inside another");
                self.received = Some(Received::begin(&mut self.snap, zxid).map_err(receiving)?);
                DiskDone::Receiving
            }
            DiskJob::Chunk(bytes) => {
                self.received.as_mut().expect("bytes come inside a snapshot").put(&bytes).map_err(receiving)?;
                DiskDone::Stored(bytes.len())
            }
            DiskJob::Install => self.install(log)?,
            DiskJob::Abandon => {
                let received = self.received.take().expect("what is abandoned was begun");
                received.abandon(&mut self.snap).map_err(receiving)?;
                DiskDone::Abandoned
            }
        };
        Ok(DiskAnswer { term, done })
    }

    fn truncate(&mut self, to: Zxid, log: &mut LogWriter<D>) -> Result<DiskDone, DiskError> {
        let closed = log.closed().map_err(closing)?;
        match truncate(&mut self.snap, closed, to) {
            Ok(()) => {}
            Err(error @ (TruncateError::NotInLog { .. } | TruncateError::NoSnapshot { .. })) => {
                return Ok(DiskDone::Uncut { to, why: error.to_string() });
            }
            // What is damaged is only what an earlier process has left.
            Err(error @ TruncateError::Damaged { .. }) if !log.keeps() => {
                return Ok(DiskDone::Uncut { to, why: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
        let recovered = recover_tree(&mut self.snap, closed, self.tree, self.recovery)?;
        assert_eq!(recovered.last, to, "the end of a history that was cut");
        log.restart_at(to).map_err(closing)?;
        Ok(DiskDone::Truncated(Box::new(Loaded { tree: recovered.state, sessions: recovered.sessions })))
    }

    fn install(&mut self, log: &mut LogWriter<D>) -> Result<DiskDone, DiskError> {
        let received = self.received.take().expect("what is installed was begun");
        let zxid = received.zxid();
        let whole = match end_received(received, &mut self.snap, self.tree).map_err(receiving)? {
            Ok(whole) => whole,
            Err(why) => return Ok(DiskDone::Damaged(why)),
        };
        let (tree, sessions) = whole.install(&mut self.snap, log.closed().map_err(closing)?)?;
        assert_eq!(tree.last_zxid(), zxid, "the end of a history that was replaced");
        log.restart_at(zxid).map_err(closing)?;
        Ok(DiskDone::Installed(Box::new(Loaded { tree, sessions })))
    }
}

fn receiving(error: io::Error) -> DiskError {
    DiskError::Io { what: "receiving a snapshot", error }
}

fn closing(error: io::Error) -> DiskError {
    DiskError::Io { what: "ending the log", error }
}
