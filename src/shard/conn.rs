//! One connection's state. Mirrors `NIOServerCnxn` and `ServerCnxn`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::gate::Queued;
use super::status::Latency;
use crate::limits;
use crate::session::throttle::Admitted;
use crate::types::acl::host_address;
use crate::types::{Id, Now, Op, SessionId, Zxid};

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing was said yet, or only part of a handshake.
    Fresh,
    /// A four-letter word is being answered.
    Word,
    /// The peer core was asked for the session; what arrives meanwhile waits.
    Handshake,
    /// A session is served.
    Open,
    /// Being closed; nothing more is read.
    Ended,
}

/// A request that was taken and is not answered yet.
#[derive(Debug)]
pub enum Pending {
    /// At the peer core.
    Write {
        /// The client's number.
        xid: i32,
        /// Opcode.
        op: Op,
        /// When it came, nanoseconds.
        arrived_ns: u64,
        /// Of its body.
        bytes: u32,
    },
    /// Behind a write of its own session, or behind such a read.
    Read {
        /// The client's number.
        xid: i32,
        /// Opcode.
        op: Op,
        /// Undecoded.
        body: Bytes,
        /// About the bytes its reply will take.
        reply: usize,
        /// When it came, nanoseconds.
        arrived_ns: u64,
        /// Not executed, but answered THROTTLEDOP: it waited too long before it was taken. Then it may be a write.
        throttled: bool,
        /// If it is a large request.
        large: Option<Admitted>,
    },
}

impl Pending {
    /// Of its body.
    pub fn bytes(&self) -> usize {
        match self {
            Pending::Write { bytes, .. } => *bytes as usize,
            Pending::Read { body, .. } => body.len(),
        }
    }

    /// About the bytes of its reply; of a write 0, for that is not made here.
    pub fn reply(&self) -> usize {
        match self {
            Pending::Write { .. } => 0,
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
    /// Whether the handshake carried the readOnly byte; the answer then does too.
    pub read_only: Option<bool>,
    pub auth: Arc<[Id]>,
    /// Bytes that make no whole frame yet, or may not be decoded yet.
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    pub is_dirty: bool,
    /// The client does not read what it is sent: its requests wait. Holds the least it had unread since.
    pub backlog: Option<usize>,
    /// Its socket is not read.
    pub paused: bool,
    /// Waits for fewer requests in this shard (`globalOutstandingLimit`).
    pub throttled: bool,
    /// Its large write waits for others.
    pub waits_large: bool,
    /// Its large write waited and may go now.
    pub called: bool,
    /// Waits for its next turn: it had its share of this one.
    pub deferred: bool,
    /// Bytes of its last reply.
    pub last_reply: usize,
    /// Waits for room in the pipeline (`request_throttle_max_requests`).
    pub gate: Option<Box<Queued>>,
    /// The request whose first bytes are in `input` was looked at for its length.
    pub announced: bool,
    /// Its reads in `fifo` wait for the client to read what it has: nobody else may have to wait for them.
    pub stalled: bool,
    pub fifo: VecDeque<Pending>,
    /// Reads in `fifo`; all stand behind a write.
    pub waiting_reads: usize,
    /// What their replies will take, bytes, by what the tree held when they came.
    pub waiting_bytes: usize,
    /// Bytes of the requests in `fifo`.
    pub fifo_bytes: usize,
    /// A request was left without an answer: none of those behind it gets one.
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
    /// Whether it has as much to send as it may before its next requests are answered.
    pub fn is_full(&self, out_high_water: usize) -> bool {
        self.backlog.is_some() || self.out.len() > out_high_water
    }

    /// Whether it asks for much at a time.
    pub fn is_bulky(&self) -> bool {
        self.last_reply > limits::BULKY_REPLY
    }

    /// A connection just accepted.
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
            gate: None,
            announced: false,
            stalled: false,
            fifo: VecDeque::new(),
            waiting_reads: 0,
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
