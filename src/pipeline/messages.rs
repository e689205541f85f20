//! What shards and the peer core say to each other. Both directions keep their order.

use std::sync::Arc;

use super::WriteRequest;
use crate::session::throttle::Admitted;
use crate::types::acl::SharedAcl;
use crate::types::{ConnId, EventType, Id, SessionId, ShardId, Zxid};

/// How often shards report the sessions they heard of, milliseconds. A session is expired so much later than its moment, for
/// it may have been heard of in time and not been reported yet.
pub fn touch_interval_ms(tick_ms: i32) -> i64 {
    i64::from(tick_ms / 4).max(1)
}

/// From a shard to the peer core.
#[derive(Debug)]
pub enum ToPeer {
    /// A client's write.
    Write {
        /// The request as it came.
        request: WriteRequest,
        /// A read of the same session waits behind an unfinished write and before this one: this write may be applied only
        /// after that read was answered (rule S3a).
        behind_read: bool,
        /// If it is a large request: held until it is applied.
        large: Option<Admitted>,
    },
    /// A connection asks for a new session.
    NewSession {
        /// The shard that asks.
        shard: ShardId,
        /// Its connection.
        conn: ConnId,
        /// Clamped.
        timeout_ms: i32,
        /// What the connection is known as.
        auth: Arc<[Id]>,
    },
    /// A connection asks for its session back.
    Resume {
        /// The shard that asks.
        shard: ShardId,
        /// Its connection.
        conn: ConnId,
        /// Whose.
        session: SessionId,
        /// Clamped; replaces the earlier one.
        timeout_ms: i32,
        /// Otherwise it is refused, after the session's connection was closed all the same, as ZooKeeper does.
        passwd_matches: bool,
    },
    /// The session was heard of.
    Touch {
        /// Which.
        session: SessionId,
        /// When, on the monotonic clock.
        heard_ms: i64,
    },
}

/// One watch event, in the order Java fires them inside a transaction.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub event: EventType,
    /// To which znode.
    pub path: Arc<str>,
    /// Who may be told: READ on this list.
    pub acl: SharedAcl,
}

/// What the origin's connection gets for an applied transaction.
#[derive(Debug)]
pub enum Outcome {
    /// The framed reply.
    Reply(Vec<u8>),
    /// The framed reply to closeSession, after which the connection is closed.
    Closed(Vec<u8>),
    /// The session asked for exists now.
    SessionCreated {
        /// Its id.
        session: SessionId,
        /// Negotiated.
        timeout_ms: i32,
    },
}

/// One applied transaction, as one shard needs it.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub zxid: Zxid,
    /// What the shard's own connection gets, if the transaction came from it.
    pub outcome: Option<(ConnId, Outcome)>,
    /// Empty when no watch of this shard can match.
    pub events: Arc<[Event]>,
}

/// From the peer core to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// A transaction was applied.
    Applied(Entry),
    /// Answer to [`ToPeer::Resume`]; `None`: the session is gone.
    Resumed {
        /// The connection that asked.
        conn: ConnId,
        /// Its session and negotiated timeout.
        session: Option<(SessionId, i32)>,
    },
    /// The connection's session ended or moved elsewhere.
    Close {
        /// The connection.
        conn: ConnId,
    },
}
