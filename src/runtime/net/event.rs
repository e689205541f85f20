//! What a [`Net`](super::Net) is given and what it tells.

use crate::types::ConnId;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What sockets are read and written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// io_uring: completions, receive buffers that the kernel picks from.
    Uring,
    /// epoll: readiness, one `recv` and one `send` for each connection and turn.
    Epoll,
}

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Uring, Backend::Epoll];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Uring => "io_uring",
            Backend::Epoll => "epoll",
        })
    }
}

/// Sizes of a [`Net`](super::Net).
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// io_uring: submission queue entries; completions get four times as many.
    pub entries: u32,
    /// Receive buffers shared by all connections: a power of two, at most 32768. With epoll one reap reads no more than they
    /// would hold.
    pub buffers: u16,
    /// Bytes in each: the most that one `Data` carries (with epoll eight times as many).
    pub buffer_len: u32,
    /// Connections held at once; more are accepted and closed at once.
    pub max_conns: usize,
    /// How long the peer of a gracefully closed connection may take nothing before the connection is cut off.
    pub linger: Duration,
}

impl Default for NetOptions {
    fn default() -> NetOptions {
        NetOptions { entries: 1024, buffers: 512, buffer_len: 4096, max_conns: 1 << 20, linger: Duration::from_secs(5) }
    }
}

/// What [`reap`](super::Net::reap) tells.
#[derive(Debug)]
pub enum NetEvent<'a> {
    /// A client connected on `listener` (as returned by [`add_listener`](super::Net::add_listener)).
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// Its address; an IPv4 client of a dual-stack listener appears as IPv4.
        peer: SocketAddr,
        /// The listener it came through.
        listener: usize,
    },
    /// What [`connect`](super::Net::connect) began is established.
    Connected {
        /// The connection, open from now on.
        conn: ConnId,
    },
    /// What [`connect`](super::Net::connect) began came to nothing.
    ConnectFailed {
        /// The connection, dead now.
        conn: ConnId,
        /// Why.
        error: io::Error,
    },
    /// Bytes in order. Copy what is to be kept: the buffer goes back to the kernel.
    Data {
        /// The connection.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The peer will send no more. It may still read; the owner has to call [`close`](super::Net::close).
    Eof {
        /// The connection.
        conn: ConnId,
    },
    /// The connection failed and is gone.
    Closed {
        /// The connection, dead now.
        conn: ConnId,
        /// Why.
        reason: io::Error,
    },
    /// Asked for with [`want_writable`](super::Net::want_writable): everything appended so far was taken by the kernel.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// A client was turned away because `max_conns` are connected, or too few descriptors are left.
    Refused {
        /// Its address.
        peer: SocketAddr,
    },
    /// Accepting failed (for example no descriptors are left) and goes on after a pause of a quarter second.
    AcceptFailed {
        /// The listener.
        listener: usize,
        /// The error.
        error: io::Error,
    },
    /// No more connections are accepted, because the file descriptors that are left are for files (an eighth of
    /// `RLIMIT_NOFILE`, at least 32, at most 1024). Clients wait in the backlog meanwhile.
    AcceptPaused {
        /// The listener.
        listener: usize,
        /// Descriptors that the process may have before accepting pauses.
        descriptors: u32,
    },
    /// Accepting goes on after `AcceptPaused`.
    AcceptResumed {
        /// The listener.
        listener: usize,
    },
    /// Another thread rang the [`Waker`](super::Waker) while the core slept.
    Woken,
}

/// How to end a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Send what is queued, then FIN. A peer that makes progress gets all of it, however slowly; one that acknowledges nothing
    /// for `NetOptions::linger` is cut off with a reset.
    Graceful,
    /// At once, with a reset; queued bytes are lost. For peers that do not read.
    Abort,
}

/// Why [`park`](super::Net::park) returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parked {
    /// A [`Waker`] rang before it slept.
    Notified,
    /// Completions are there to reap.
    Ready,
    /// Nothing: the timeout, or a signal.
    TimedOut,
}

/// Counters since the start.
#[derive(Clone, Copy, Default, Debug)]
pub struct NetStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned away.
    pub refused: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Receives that were put off because others had taken all buffers.
    pub starved: u64,
    /// Calls of io_uring_enter or epoll_wait.
    pub enters: u64,
}
