//! Options and events of a [`Net`](super::Net).

use crate::types::ConnId;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The system interface that a [`Net`](super::Net) uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// io_uring: completions, and receive buffers that the kernel chooses.
    Uring,
    /// epoll: readiness, and one `recv` and one `send` per connection and turn.
    Epoll,
}

impl Backend {
    /// Both back ends.
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
    /// Receive buffers shared by all connections: a power of two, at most 32768. With epoll this many buffers' bytes
    /// are read at most in one reap.
    pub buffers: u16,
    /// Bytes per buffer, which is the most that one `Data` event contains (with epoll, eight times as many).
    pub buffer_len: u32,
    /// Most connections at the same time; further ones are accepted and closed immediately.
    pub max_conns: usize,
    /// When a connection is closed gracefully: how long its peer may acknowledge nothing before the connection is
    /// reset.
    pub linger: Duration,
}

impl Default for NetOptions {
    fn default() -> NetOptions {
        NetOptions { entries: 1024, buffers: 512, buffer_len: 4096, max_conns: 1 << 20, linger: Duration::from_secs(5) }
    }
}

/// What [`reap`](super::Net::reap) reports.
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
    /// A connection started by [`connect`](super::Net::connect) is established.
    Connected {
        /// The connection, which is open now.
        conn: ConnId,
    },
    /// A connection started by [`connect`](super::Net::connect) could not be established.
    ConnectFailed {
        /// The id, which is no longer valid.
        conn: ConnId,
        /// Why.
        error: io::Error,
    },
    /// Received bytes, in order. Copy what is needed later: the buffer goes back to the kernel.
    Data {
        /// The connection.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The peer has closed its sending side; it may still read. The owner must call [`close`](super::Net::close).
    Eof {
        /// The connection.
        conn: ConnId,
    },
    /// The connection failed and is closed.
    Closed {
        /// The id, which is no longer valid.
        conn: ConnId,
        /// Why.
        reason: io::Error,
    },
    /// The answer to [`want_writable`](super::Net::want_writable): the kernel has taken everything that was appended so
    /// far.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// A client was refused because there are already `max_conns` connections, or too few file descriptors are left.
    Refused {
        /// Its address.
        peer: SocketAddr,
    },
    /// Accepting failed, for example because no descriptors are left. It continues after a pause of 250 ms.
    AcceptFailed {
        /// The listener.
        listener: usize,
        /// The error.
        error: io::Error,
    },
    /// Accepting is paused, because the file descriptors that are left are reserved for files (an eighth of
    /// `RLIMIT_NOFILE`, at least 32, at most 1024). Meanwhile clients wait in the backlog.
    AcceptPaused {
        /// The listener.
        listener: usize,
        /// Descriptors that the process may have before accepting is paused.
        descriptors: u32,
    },
    /// Accepting continues after `AcceptPaused`.
    AcceptResumed {
        /// The listener.
        listener: usize,
    },
    /// Another thread called its [`Waker`](super::Waker) while the core slept.
    Woken,
}

/// How a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Send what is queued, then FIN. A peer that acknowledges bytes gets all of them, however slowly; if it
    /// acknowledges nothing for `NetOptions::linger`, the connection is reset.
    Graceful,
    /// With a reset, immediately; queued bytes are lost. For peers that do not read.
    Abort,
}

/// Why [`park`](super::Net::park) returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parked {
    /// A [`Waker`] was called before the core slept.
    Notified,
    /// There is something to reap.
    Ready,
    /// Neither: the timeout has passed, or a signal arrived.
    TimedOut,
}

/// Counters since the start.
#[derive(Clone, Copy, Default, Debug)]
pub struct NetStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused.
    pub refused: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Receives that had to wait because all buffers were in use.
    pub starved: u64,
    /// Number of calls of io_uring_enter or epoll_wait.
    pub enters: u64,
}
