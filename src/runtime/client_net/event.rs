//! What [`ClientNet`](super::ClientNet) is given and what it tells.

use super::Token;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Sizes of a [`ClientNet`](super::ClientNet).
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Submission queue entries; completions get four times as many.
    pub entries: u32,
    /// Receive buffers shared by all connections: a power of two, at most 32768.
    pub buffers: u16,
    /// Bytes in each: the most that one `Data` carries.
    pub buffer_len: u32,
    /// Connections held at once; more are accepted and closed at once.
    pub max_conns: usize,
    /// How long a connection that was closed gracefully may take without progress before it is cut off.
    pub linger: Duration,
}

impl Default for NetOptions {
    fn default() -> NetOptions {
        NetOptions { entries: 1024, buffers: 512, buffer_len: 4096, max_conns: 1 << 20, linger: Duration::from_secs(5) }
    }
}

/// What [`reap`](super::ClientNet::reap) tells.
#[derive(Debug)]
pub enum NetEvent<'a> {
    /// A client connected on `listener` (as returned by [`add_listener`](super::ClientNet::add_listener)).
    Accepted {
        /// The new connection.
        token: Token,
        /// Its address; an IPv4 client of a dual-stack listener appears as IPv4.
        peer: SocketAddr,
        /// The listener it came through.
        listener: usize,
    },
    /// Bytes in order. Copy what is to be kept: the buffer goes back to the kernel.
    Data {
        /// The connection.
        token: Token,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The peer will send no more. It may still read; the owner has to call [`close`](super::ClientNet::close).
    Eof {
        /// The connection.
        token: Token,
    },
    /// The connection failed and is gone.
    Closed {
        /// The connection, dead now.
        token: Token,
        /// Why.
        reason: io::Error,
    },
    /// Asked for with [`want_writable`](super::ClientNet::want_writable): everything appended so far was taken by the kernel.
    Writable {
        /// The connection.
        token: Token,
    },
    /// A client was turned away because `max_conns` are connected.
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
    /// Another thread rang the [`Waker`] while the core slept.
    Woken,
}

/// How to end a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Send what is queued, then FIN; cut off if the peer takes nothing for `NetOptions::linger`, or not all in twelve
    /// times that.
    Graceful,
    /// At once, with a reset; queued bytes are lost.
    Abort,
}

/// Why [`park`](super::ClientNet::park) returned.
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
    /// Receives that found no buffer and were armed again.
    pub starved: u64,
    /// Calls of io_uring_enter.
    pub enters: u64,
}
