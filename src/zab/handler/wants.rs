//! What a [`Handler`](super::Handler) wants done, what it is given, and why it ends.

use std::cell::OnceCell;

use bytes::Bytes;
use thiserror::Error;

use super::super::history::Committed;
use super::super::message::FromLeader;
use super::super::packet::PacketError;
use crate::types::{Cxid, Epoch, Id, Op, ServerId, SessionId, Zxid};

/// What a handler wants done.
#[derive(Debug, PartialEq, Clone)]
pub enum Want {
    /// Send these bytes. [`Handler::left`](super::Handler::left) tells when they have left.
    Write(Bytes),
    /// Close the connection; the handler is finished. What was written before need not be sent.
    Close(Fault),
    /// Read this for the learner. Answered by one [`Fed`], or by a plan for [`Feed::Locate`].
    Feed(Feed),
    /// FOLLOWERINFO or OBSERVERINFO: for `Leader::info`. Answered by [`Handler::lead`](super::Handler::lead).
    Info {
        /// Its id; `None` if it has none of its own.
        server: Option<ServerId>,
        /// Whether it is an observer.
        observer: bool,
        /// The newest epoch that it has accepted.
        accepted: Epoch,
        /// The version of the configuration that it has activated.
        config_version: Option<Zxid>,
    },
    /// ACKEPOCH: for `Leader::epoch_ack`. Answered by [`Handler::sync`](super::Handler::sync).
    EpochAck {
        /// The epoch of its history; `None` if the answer does not count for the quorum.
        current: Option<Epoch>,
        /// The last zxid of its history.
        last: Zxid,
    },
    /// NEWLEADER was written: for `Leader::new_leader_sent`.
    NewLeaderSent,
    /// The learner has this zxid and everything before on its disk: for `Leader::ack`. The epoch's zeroth zxid acknowledges
    /// NEWLEADER, and later UPTODATE.
    Ack(Zxid),
    /// The learner makes progress: for `Leader::heard`.
    Heard,
    /// A client of the learner requests this. Never a sync.
    Request(Request),
    /// A client of the learner wants to know everything that is committed when the leader hears this. Answered by
    /// [`Handler::sync_done`](super::Handler::sync_done).
    SyncAsked {
        /// The client's session.
        session: SessionId,
        /// The client's number for the request.
        cxid: Cxid,
    },
    /// A client of the learner was heard from.
    Touch {
        /// Its session.
        session: SessionId,
        /// The session's timeout in milliseconds.
        timeout_ms: i32,
    },
    /// A client wants to resume a session at the learner. Answered by [`Handler::revalidated`](super::Handler::revalidated).
    Revalidate {
        /// The session.
        session: SessionId,
        /// The session's timeout in milliseconds.
        timeout_ms: i32,
    },
}

/// A forwarded request.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Request {
    /// The client's session.
    pub session: SessionId,
    /// The client's number for the request; 0 for createSession.
    pub cxid: Cxid,
    /// The opcode.
    pub op: Op,
    /// The request record, as the client sent it.
    pub body: Bytes,
    /// The client's identities; `None` for createSession.
    pub identities: Option<Vec<Id>>,
}

/// What must be read for a learner.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Feed {
    /// The newest transaction in the log that is not newer than `peer`: for `sync_plan::located`.
    Locate {
        /// The end of the learner's history.
        peer: Zxid,
    },
    /// The snapshot of this zxid, or one that has to be taken first. Answered by [`Fed::Snapshot`].
    Snapshot(Option<Zxid>),
    /// The next piece of that snapshot.
    Piece,
    /// Committed proposals behind this position, from memory or from the log; never one that is not committed. At most
    /// [`LEARNER_CHUNK`](crate::limits::LEARNER_CHUNK) bytes, or one proposal.
    After(Zxid),
}

/// What was read.
#[derive(Debug)]
pub enum Fed<'a> {
    /// The snapshot's first piece can be read.
    Snapshot {
        /// The state is as of this zxid.
        zxid: Zxid,
    },
    /// A piece of the state, as in a snapshot file: sessions, ACL lists, znodes; no header, no checksum.
    Piece {
        /// The bytes.
        bytes: Bytes,
        /// Whether it ends here.
        last: bool,
    },
    /// Proposals behind the position that was asked for, in order.
    Proposals {
        /// The proposals.
        list: Vec<Committed>,
        /// Set if these are all that are committed at this moment.
        end: Option<End<'a>>,
    },
    /// It cannot be read. Before it is asked again, the plan for this position must have changed.
    Failed(String),
}

/// What a learner that has everything committed needs to take part in the broadcast from this moment on.
#[derive(Debug)]
pub struct End<'a> {
    /// What is proposed and not committed, in order.
    pub outstanding: Vec<&'a Outgoing>,
    /// The text of the newest configuration, for NEWLEADER.
    pub config: &'a [u8],
}

/// A transaction on its way to all learners. Its packets are encoded once, when the first learner needs them.
#[derive(Debug, Clone)]
pub struct Outgoing {
    zxid: Zxid,
    txn: Bytes,
    proposal: OnceCell<Bytes>,
    inform: OnceCell<Bytes>,
}

impl Outgoing {
    /// `txn`: header, transaction and digest.
    pub fn new(zxid: Zxid, txn: Bytes) -> Outgoing {
        assert!(zxid.counter() > 0, "{zxid} is no zxid of a proposal");
        assert!(!txn.is_empty(), "the proposal of {zxid} is empty");
        Outgoing { zxid, txn, proposal: OnceCell::new(), inform: OnceCell::new() }
    }

    /// The transaction's zxid.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Header, transaction and digest.
    pub fn txn(&self) -> &Bytes {
        &self.txn
    }

    pub(super) fn proposal(&self) -> Bytes {
        let encode = || encode(&FromLeader::Proposal { zxid: self.zxid, txn: &self.txn });
        self.proposal.get_or_init(encode).clone()
    }

    pub(super) fn inform(&self) -> Bytes {
        let encode = || encode(&FromLeader::Inform { zxid: self.zxid, txn: &self.txn });
        self.inform.get_or_init(encode).clone()
    }
}

/// A packet of its own.
pub(super) fn encode(message: &FromLeader<'_>) -> Bytes {
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    bytes.into()
}

/// Why a connection is closed.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum Fault {
    /// A packet that cannot be read.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// A packet that does not belong here.
    #[error("it sent {said} when {wanted} was due")]
    Unexpected {
        /// The name of the packet's type.
        said: &'static str,
        /// What it should have sent.
        wanted: &'static str,
    },
    /// A zxid that cannot be right.
    #[error("it sent {what} of {zxid}, {why}")]
    Zxid {
        /// The packet.
        what: &'static str,
        /// Its zxid.
        zxid: Zxid,
        /// What is wrong.
        why: &'static str,
    },
    /// It asks faster than it reads the answers.
    #[error("it does not read the answers to what it asks")]
    AnswersUnread,
    /// It was too far behind when a configuration became active, which must be told in its place.
    #[error("it is behind, and the configuration of {0} must be activated")]
    BehindReconfig(Zxid),
    /// What it needs cannot be read.
    #[error("what it misses cannot be read: {0}")]
    Unreadable(String),
}
