//! What passes between the owner of a member's machines and its connections to the other members. Elections have connections of
//! their own, which outlive roles. Those of the quorum port belong to a role: what is said of one carries the role's term.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::types::{ConnId, ServerId, Term};
pub use crate::zab::links::ElectionWant;

/// News of a connection to another member.
#[derive(Debug)]
pub enum NetEvent {
    /// Of one of the election port.
    Election(ElectionEvent),
    /// Of one of the quorum port.
    Quorum {
        /// The term in which it was accepted or dialled.
        term: Term,
        /// The news.
        event: QuorumEvent,
    },
}

/// News of a connection for elections.
#[derive(Debug)]
pub enum ElectionEvent {
    /// Somebody connected.
    Accepted {
        /// The connection, which is new.
        conn: ConnId,
        /// Their address.
        from: IpAddr,
    },
    /// A dial succeeded.
    Dialed {
        /// The server that was dialled.
        to: ServerId,
        /// The connection, which is new.
        conn: ConnId,
    },
    /// A dial failed.
    DialFailed {
        /// The server that was dialled.
        to: ServerId,
    },
    /// Bytes arrived.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The last write has left.
    Written {
        /// The connection.
        conn: ConnId,
    },
    /// The other side closed, or the connection broke.
    Closed {
        /// The connection.
        conn: ConnId,
    },
}

/// News of a connection between a leader and a learner.
#[derive(Debug)]
pub enum QuorumEvent {
    /// A learner connected to this leader.
    Accepted {
        /// The connection, which is new.
        conn: ConnId,
        /// From where.
        from: SocketAddr,
    },
    /// The leader was reached.
    Dialed {
        /// The connection, which is new.
        conn: ConnId,
    },
    /// The leader was not reached by any of its addresses.
    DialFailed,
    /// Bytes arrived.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Bytes that were written have left.
    Left {
        /// The connection.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The other side closed, or the connection broke.
    Closed {
        /// The connection.
        conn: ConnId,
    },
}

/// What is wanted of the connections to other members.
#[derive(Debug)]
pub enum NetWant {
    /// Of those of the election port.
    Election(ElectionWant),
    /// Of those of the quorum port.
    Quorum {
        /// The term of the role that wants it.
        term: Term,
        /// What is wanted.
        want: QuorumWant,
    },
}

/// What is wanted of the connections between a leader and its learners.
#[derive(Debug)]
pub enum QuorumWant {
    /// Accept learners on the quorum port.
    Listen,
    /// Connect to the quorum port of this server, by the first address that answers. Names are looked up now.
    Dial {
        /// The leader.
        leader: ServerId,
    },
    /// Send these bytes.
    Write {
        /// On this connection.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Read the connection (`true`), or leave what arrives in it.
    Read {
        /// The connection.
        conn: ConnId,
        /// Whether it is read.
        reads: bool,
    },
    /// Close the connection; no further events come of it.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// The role is over: accept nobody any more, dial nobody, and close all connections of this term.
    End,
}
