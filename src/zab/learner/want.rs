//! What a learner begins with, what it wants, and why it ends.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

#[cfg(doc)]
use super::Learner;
use super::image::ImageError;
use crate::quorum::Role;
use crate::types::{Cxid, Epoch, ServerId, SessionId, Zxid};
use crate::zab::packet::PacketError;

/// Bytes of proposals that may wait for the disk. Above this the connection is not read.
pub const LOG_HIGH_WATER: usize = 16 << 20;

/// Bytes of a leader's snapshot that may wait for the disk. Above this the connection is not read.
pub const INSTALL_HIGH_WATER: usize = 8 << 20;

/// Bytes of proposals that may wait for their COMMIT. A leader that proposes more is not followed any longer: by default it
/// has a thousand proposals outstanding, and each is shorter than `jute.maxbuffer`.
pub const MAX_UNCOMMITTED: usize = 2 << 30;

const _: () = assert!(LOG_HIGH_WATER < MAX_UNCOMMITTED);

/// Settings of a learner.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// This server.
    pub me: ServerId,
    /// A participant is a follower (FOLLOWERINFO, ACKs); an observer acknowledges no proposals (OBSERVERINFO).
    pub role: Role,
    /// The version of the configuration in force here. A leader refuses one that is newer than its own.
    pub config_version: Zxid,
    /// How long the leader may be silent until the ACK of its NEWLEADER, in milliseconds (`tickTime` × `initLimit`, or
    /// `connectToLearnerMasterLimit` for an observer of an observer master).
    pub init_ms: i64,
    /// How long it may be silent after that, in milliseconds (`tickTime` × `syncLimit`).
    pub sync_ms: i64,
    /// Most bytes of a packet's data (`jute.maxbuffer` plus `zookeeper.jute.maxbuffer.extrasize`).
    pub packet_limit: usize,
}

/// What a server has, between two terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The last transaction. Everything up to it is durable **and applied to the tree**, also what no COMMIT came for: the
    /// next leader counts on it, and sends no COMMIT for it. If the leader does not have it, it says TRUNC or SNAP.
    /// [`Zxid::NONE`] if the server may have lost its data and waits for a SNAP.
    pub last: Zxid,
    /// The newest epoch that was promised to a leader (`acceptedEpoch`).
    pub accepted: Epoch,
    /// The epoch whose history this is (`currentEpoch`).
    pub current: Epoch,
}

/// How a learner gets its leader's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// What the leader began with.
    pub by: By,
    /// Transactions that came before NEWLEADER.
    pub transactions: u64,
}

/// What a synchronisation begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// DIFF: what was there stays.
    #[default]
    Diff,
    /// TRUNC: what came behind this was cut off.
    Trunc(Zxid),
    /// SNAP: the state as of `zxid`.
    Snap {
        /// The last transaction in it.
        zxid: Zxid,
        /// Bytes that came of it.
        bytes: u64,
    },
}

impl fmt::Display for CaughtUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Diff => write!(f, "DIFF")?,
            By::Trunc(to) => write!(f, "TRUNC to {to}")?,
            By::Snap { zxid, bytes } => write!(f, "SNAP of {zxid} ({bytes} bytes)")?,
        }
        write!(f, ", transactions: {}", self.transactions)
    }
}

/// What a learner wants done, in this order.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Send these bytes to the leader: one or more whole packets.
    Write(Bytes),
    /// Make this `acceptedEpoch` durable, then call [`Learner::saved_accepted`].
    SaveAccepted(Epoch),
    /// Make this `currentEpoch` durable, then call [`Learner::saved_current`]. Everything proposed before NEWLEADER
    /// is durable already.
    SaveCurrent(Epoch),
    /// Cut the log behind this transaction, remove the snapshots after it, load the tree anew, then call
    /// [`Learner::truncated`]. If the history does not lead back there, since it begins with a newer snapshot, nothing is cut: call
    /// [`Learner::leave`], and come again for a SNAP. If the cut fails, the process must end: its history is not what it says.
    Truncate {
        /// The transaction that becomes the last one.
        to: Zxid,
    },
    /// A part of the leader's snapshot.
    Install(Install),
    /// Append this to the log, and call [`Learner::synced`] once it is durable. Keep it, to be applied when
    /// [`Want::Commit`] reaches it. Without a log (`syncEnabled=false`) the answer comes at once. If it cannot be decoded
    /// call [`Learner::refuse`] and append nothing more.
    Append {
        /// Its zxid, which directly follows that of the last one.
        zxid: Zxid,
        /// Header, transaction and digest, as in a log record.
        txn: Bytes,
        /// Whether the tree is the leader's just before this transaction. If not, parts of its changes may be there
        /// already, since the snapshot of an Apache leader is fuzzy: then they are no error, and digests say nothing.
        exact: bool,
    },
    /// Everything up to here is committed and durable on this server: apply it.
    Commit {
        /// The last one. It is never less than before.
        upto: Zxid,
    },
    /// The leader's configuration (its text), from NEWLEADER. It is the newest one that the leader has seen; it comes into
    /// force with [`Want::Serve`].
    SeenConfig(Bytes),
    /// The reconfig that [`Want::Commit`] just reached is in force.
    Activate {
        /// Its zxid.
        zxid: Zxid,
        /// The server that leads from now on.
        designated: ServerId,
    },
    /// Clients may be served from now on. Everything that the leader had committed when it said UPTODATE was wanted before.
    Serve {
        /// The epoch, which this server's vote gets.
        epoch: Epoch,
    },
    /// Answer a PING: call [`Learner::pong`] with the sessions that were heard from since the last one.
    Ping {
        /// To be handed back.
        zxid: Zxid,
    },
    /// The leader's answer to [`Learner::revalidate`].
    Revalidated {
        /// The session.
        session: SessionId,
        /// Whether it exists, and belongs to this server from now on.
        valid: bool,
    },
    /// The oldest sync that was forwarded is done: everything that was committed before it was asked for is wanted before.
    SyncDone {
        /// The client's session.
        session: SessionId,
        /// The client's number of the request.
        cxid: Cxid,
    },
    /// The term is over, and nothing follows: close the connection, stop serving, and take part in an election when
    /// [`Learner::settled`] has an answer.
    Rejoin {
        /// The reason, for the log.
        why: Why,
    },
}

/// A part of the leader's snapshot. Until [`Install::End`] the state that was there stays whole on the disk.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Install {
    /// It begins.
    Begin {
        /// The zxid that it gets.
        zxid: Zxid,
    },
    /// The next bytes of it: what a snapshot file has between its header and its first seal. Call [`Learner::stored`] when
    /// they are no longer in memory.
    Chunk(Bytes),
    /// It is whole. Make it the base of the history, durably, with all logs set aside, load it, and call
    /// [`Learner::installed`].
    End,
    /// It will never be whole: forget it, and load the tree from what was there if it was changed. The term is over.
    Abandon,
}

/// Why a term ended.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum Why {
    /// The connection was closed.
    #[error("the leader closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("the leader was silent for {ms} ms")]
    Silent {
        /// For how long.
        ms: i64,
    },
    /// A packet that cannot be read.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A packet that has no place there.
    #[error("the leader sent a packet {name} {place}")]
    Unexpected {
        /// The packet's type.
        name: &'static str,
        /// Where this learner was.
        place: &'static str,
    },
    /// The leader's epoch is over: this server promised a newer one.
    #[error("the leader's epoch is {epoch:?}, and epoch {accepted:?} was accepted already")]
    OldEpoch {
        /// The leader's.
        epoch: Epoch,
        /// What was accepted.
        accepted: Epoch,
    },
    /// A zxid that is not of the leader's epoch. NEWLEADER has its begin, proposals behind NEWLEADER have those after that, and
    /// what comes before is of no later epoch.
    #[error("the leader of epoch {epoch:?} sent {name} of {zxid}")]
    WrongEpoch {
        /// The packet's type.
        name: &'static str,
        /// The zxid.
        zxid: Zxid,
        /// The epoch of LEADERINFO.
        epoch: Epoch,
    },
    /// A zxid to which this server cannot go.
    #[error("the leader sent {name} to {to}, and the history ends at {last}")]
    Nowhere {
        /// The packet's type.
        name: &'static str,
        /// The zxid.
        to: Zxid,
        /// The end of the history.
        last: Zxid,
    },
    /// A proposal that does not follow the last one: one is missing, or a zxid was used twice.
    #[error("{zxid} is proposed behind {last}")]
    Gap {
        /// The last one.
        last: Zxid,
        /// The proposal.
        zxid: Zxid,
    },
    /// The proposal's header has another zxid than its packet, or there is no header.
    #[error("the proposal of {zxid} has no header of that zxid")]
    Header {
        /// The packet's zxid.
        zxid: Zxid,
    },
    /// A COMMIT that is not for the oldest proposal.
    #[error("{zxid} is committed, and the oldest proposal is {oldest:?}")]
    NotOldest {
        /// What is committed.
        zxid: Zxid,
        /// The oldest proposal without COMMIT.
        oldest: Option<Zxid>,
    },
    /// The leader promised more history than it sent.
    #[error("the history ends at {last} at NEWLEADER, and DIFF promised {promised}")]
    Short {
        /// The end of the history.
        last: Zxid,
        /// The zxid of DIFF.
        promised: Zxid,
    },
    /// The leader's snapshot cannot be read.
    #[error("the leader's snapshot is damaged: {0}")]
    Image(#[from] ImageError),
    /// See [`MAX_UNCOMMITTED`].
    #[error("{bytes} bytes are proposed and not committed")]
    TooMuch {
        /// The bytes.
        bytes: usize,
    },
    /// The owner ended it.
    #[error("{0}")]
    Refused(String),
}
