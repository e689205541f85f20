//! The state of one connection. Mirrors `NIOServerCnxn` and `ServerCnxn`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::arrivals::Arrivals;
use super::latency::Latency;
use crate::limits;
use crate::session::large_requests::Admitted;
use crate::types::acl::host_address;
use crate::types::{Id, Now, Op, SessionId, Zxid};

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing was received yet, or only part of a handshake.
    Fresh,
    /// A four-letter word is being answered.
    Word,
    /// The session was requested from the peer core; input that arrives meanwhile waits.
    Handshake,
    /// The session is established.
    Open,
    /// It is being closed; nothing more is read.
    Ended,
}

/// A request that was taken and is not answered yet.
#[derive(Debug)]
pub enum Pending {
    /// Submitted to the peer core.
    Write {
        /// The request's xid.
        xid: i32,
        /// Opcode.
        op: Op,
        /// Time of arrival in nanoseconds.
        arrived_ns: u64,
        /// Size of the body in bytes.
        bytes: u32,
    },
    /// A sync at a member of an ensemble, submitted to the peer core. Once that is done with it, it is answered as a read
    /// is.
    Sync {
        /// The request's xid.
        xid: i32,
        /// The body, not decoded yet.
        body: Bytes,
        /// Time of arrival in nanoseconds.
        arrived_ns: u64,
        /// Its share of the limit on large requests, if it counts as large.
        large: Option<Admitted>,
    },
    /// It waits behind a write of its own session, or behind such a read.
    Read {
        /// The request's xid.
        xid: i32,
        /// Opcode.
        op: Op,
        /// The body, not decoded yet.
        body: Bytes,
        /// Approximate size of the reply in bytes.
        reply: usize,
        /// Time of arrival in nanoseconds.
        arrived_ns: u64,
        /// It waited too long before it was taken: it is not executed but answered with THROTTLEDOP. In that case it
        /// may also be a write.
        throttled: bool,
        /// Its share of the limit on large requests, if it counts as large.
        large: Option<Admitted>,
    },
}

impl Pending {
    /// Size of the body in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Pending::Write { bytes, .. } => *bytes as usize,
            Pending::Sync { body, .. } | Pending::Read { body, .. } => body.len(),
        }
    }

    /// Approximate size of the reply in bytes; 0 for a write, whose reply is not made here, and for a sync.
    pub fn reply(&self) -> usize {
        match self {
            Pending::Write { .. } | Pending::Sync { .. } => 0,
            Pending::Read { reply, .. } => *reply,
        }
    }
}

/// A connection.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Conn {
    pub peer: SocketAddr,
    pub phase: Phase,
    pub session: SessionId,
    pub timeout_ms: i32,
    /// The readOnly byte of the handshake, if there was one; only then the response has one too.
    pub read_only: Option<bool>,
    pub auth: Arc<[Id]>,
    /// Bytes that are not a complete frame yet, or that may not be decoded yet.
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    pub is_dirty: bool,
    /// Set while the client does not read, so that its requests wait. The value is the smallest number of unread bytes
    /// since then.
    pub backlog: Option<usize>,
    /// Its socket is not read.
    pub paused: bool,
    /// Waits until there are fewer requests in this shard (`globalOutstandingLimit`).
    pub throttled: bool,
    /// Its large write waits for those of other connections.
    pub waits_large: bool,
    /// Its large write has waited and may go now.
    pub called: bool,
    /// It has used its share of this turn and waits for the next one.
    pub deferred: bool,
    /// Size of its last reply in bytes.
    pub last_reply: usize,
    /// `Some` while it waits at the request throttler (`request_throttle_max_requests`).
    pub arrivals: Option<Box<Arrivals>>,
    /// The length of the request whose first bytes are in `input` was already checked.
    pub announced: bool,
    /// The reads in `fifo` only wait for the client to read its replies, so no other connection has to wait for them.
    pub stalled: bool,
    pub fifo: VecDeque<Pending>,
    /// Number of reads in `fifo`; each stands behind a write or a sync.
    pub waiting_reads: usize,
    /// Number of syncs in `fifo` that the peer core has not done.
    pub syncs: usize,
    /// Size of their replies in bytes, by the data in the tree at the time they arrived.
    pub waiting_bytes: usize,
    /// Bytes of the requests in `fifo`.
    pub fifo_bytes: usize,
    /// A request was left without a reply, so no later one gets a reply either.
    pub is_mute: bool,
    pub touched: bool,
    pub heard_ms: i64,
    pub established_wall_ms: i64,
    pub received: u64,
    pub sent: u64,
    pub last_op: Op,
    pub last_cxid: i32,
    pub last_zxid: Zxid,
    pub last_response_ms: i64,
    pub last_latency_ms: i64,
    pub latency: Latency,
}

impl Conn {
    /// Whether it has so many bytes to send that its further requests must wait.
    pub fn is_full(&self, out_high_water: usize) -> bool {
        self.backlog.is_some() || self.out.len() > out_high_water
    }

    /// Whether its last reply was bulky.
    pub fn is_bulky(&self) -> bool {
        self.last_reply > limits::BULKY_REPLY
    }

    /// A connection that was just accepted.
    pub fn new(peer: SocketAddr, now: Now) -> Conn {
        Conn {
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            phase: Phase::Fresh,
            session: SessionId::NONE,
            timeout_ms: 0,
            read_only: None,
            auth: Arc::from([Id::new("ip", &host_address(peer.ip()))]),
            input: Vec::new(),
            out: Vec::new(),
            is_dirty: false,
            backlog: None,
            paused: false,
            throttled: false,
            waits_large: false,
            called: false,
            deferred: false,
            last_reply: 0,
            arrivals: None,
            announced: false,
            stalled: false,
            fifo: VecDeque::new(),
            waiting_reads: 0,
            syncs: 0,
            waiting_bytes: 0,
            fifo_bytes: 0,
            is_mute: false,
            touched: false,
            heard_ms: now.mono_ms,
            established_wall_ms: now.wall_ms,
            received: 0,
            sent: 0,
            last_op: Op::NOTIFICATION,
            last_cxid: -1,
            last_zxid: Zxid::NONE,
            last_response_ms: 0,
            last_latency_ms: 0,
            latency: Latency::default(),
        }
    }
}
