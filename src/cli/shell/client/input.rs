//! What happens to a session, as messages to its thread.

use std::net::TcpStream;
use std::sync::mpsc::Sender;

use super::hosts::Host;
use super::watches::{Registration, WatcherType};
use crate::types::Op;

/// How a reply changes the watch tables.
pub(crate) enum WatchChange {
    None,
    Register(Registration, String),
    Remove { path: String, kind: WatcherType, local: bool },
}

/// A request; it gets its number when it is sent.
pub(crate) struct Packet {
    pub(crate) op: Op,
    pub(crate) body: Vec<u8>,
    pub(crate) watch: WatchChange,
    pub(crate) reply: Sender<Reply>,
}

/// A reply: an error code, and the record after the header if the code is 0.
pub(crate) struct Reply {
    pub(crate) err: i32,
    pub(crate) body: Vec<u8>,
}

/// Everything that the thread reacts to.
pub(crate) enum Input {
    Submit(Packet),
    Auth {
        scheme: String,
        auth: Option<Vec<u8>>,
    },
    /// Close the current connection: a reply did not come in time.
    Abort,
    /// The client was dropped: nobody waits for anything any more.
    Abandon,
    Dialed {
        attempt: u64,
        stream: TcpStream,
    },
    Frame {
        attempt: u64,
        bytes: Vec<u8>,
    },
    Broken {
        attempt: u64,
        error: String,
    },
    Writable(Host),
}
