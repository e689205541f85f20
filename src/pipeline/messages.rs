//! The messages between shards and the peer core. Each direction keeps its order.

use std::sync::Arc;

use super::WriteRequest;
use crate::session::large_requests::Admitted;
use crate::types::acl::SharedAcl;
use crate::types::{ConnId, EventType, Id, SessionId, ShardId, Zxid};

/// How often shards report which sessions they heard from, in milliseconds. A session is expired this much later than
/// its timeout says, because a shard may have heard from it in time and not have reported it yet.
pub fn touch_interval_ms(tick_ms: i32) -> i64 {
    i64::from(tick_ms / 4).max(1)
}

/// A message from a shard to the peer core.
#[derive(Debug)]
pub enum ToPeer {
    /// A client's write.
    Write {
        /// The decoded request.
        request: WriteRequest,
        /// A read of the same session is waiting in front of this write, behind an earlier unanswered write. This write
        /// must not be applied before that read is answered (rule S3a).
        behind_read: bool,
        /// If it counts as a large request: its share of the limit, held until it is applied.
        large: Option<Admitted>,
    },
    /// A client's sync at a member of an ensemble, as the client sent it (its `op` is sync): answered with
    /// [`ToShard::Synced`], in order with the session's writes.
    Sync(WriteRequest),
    /// A connection asks for a new session.
    NewSession {
        /// The shard that asks.
        shard: ShardId,
        /// Its connection.
        conn: ConnId,
        /// The timeout within the server's limits.
        timeout_ms: i32,
        /// The connection's identities.
        auth: Arc<[Id]>,
    },
    /// A connection asks to resume its session.
    Resume {
        /// The shard that asks.
        shard: ShardId,
        /// Its connection.
        conn: ConnId,
        /// The session.
        session: SessionId,
        /// The timeout within the server's limits; it replaces the earlier one.
        timeout_ms: i32,
        /// Whether the password is right. If not, the resume is refused; as in ZooKeeper the session's connection is
        /// closed even then.
        passwd_matches: bool,
    },
    /// A shard heard from a session.
    Touch {
        /// The session.
        session: SessionId,
        /// The time on the monotonic clock, in milliseconds.
        heard_ms: i64,
    },
    /// A shard has done [`ToShard::Suspend`]: what it says from now on is of clients that come later.
    Suspended {
        /// The shard.
        shard: ShardId,
    },
}

/// One watch event. Events keep the order in which ZooKeeper triggers them inside a transaction.
#[derive(Debug, Clone)]
pub struct Event {
    /// The type.
    pub event: EventType,
    /// The znode's path.
    pub path: Arc<str>,
    /// The ACL that decides who may get the event: READ is needed.
    pub acl: SharedAcl,
}

/// What an applied transaction means for the connection that asked for it.
#[derive(Debug)]
pub enum Outcome {
    /// The reply, as a frame.
    Reply(Vec<u8>),
    /// The reply to closeSession, as a frame; the connection is closed after it.
    Closed(Vec<u8>),
    /// The session it asked for was created.
    SessionCreated {
        /// Its id.
        session: SessionId,
        /// The negotiated timeout in milliseconds.
        timeout_ms: i32,
    },
}

/// One applied transaction as a shard gets it.
#[derive(Debug)]
pub struct Entry {
    /// The transaction's zxid.
    pub zxid: Zxid,
    /// If the transaction came from a connection of this shard: the connection and the outcome for it.
    pub outcome: Option<(ConnId, Outcome)>,
    /// The watch events; empty if no watch of this shard can match.
    pub events: Arc<[Event]>,
}

/// How the clients of a server are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// By a server without others. It has all there is, so a shard answers a sync by itself.
    Alone,
    /// By a member of an ensemble that follows a leader, or leads.
    Ensemble,
    /// By a member without a leader: only clients that ask for no more than reads.
    ReadOnly,
}

/// A message from the peer core to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// A transaction was applied.
    Applied(Entry),
    /// The oldest sync of this connection that is not answered is done: what its client has to see was on the stream before.
    Synced {
        /// The connection.
        conn: ConnId,
        /// The last transaction that is applied: the stamp of the reply.
        zxid: Zxid,
    },
    /// The client of this connection has closed its local session, and everything that the session sent before is answered
    /// or on the stream before this.
    Closed {
        /// The connection.
        conn: ConnId,
        /// The last transaction that is applied: the stamp of the reply.
        zxid: Zxid,
    },
    /// The answer to [`ToPeer::Resume`], `None` if the session does not exist; or to [`ToPeer::NewSession`] if the session is a
    /// local one, for which there is no transaction.
    Resumed {
        /// The connection that asked.
        conn: ConnId,
        /// Its session and negotiated timeout.
        session: Option<(SessionId, i32)>,
    },
    /// The session of this connection has ended or has moved to another connection.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// This server has no role in its ensemble: disconnect all clients, and let none in before [`ToShard::Serve`]. The tree
    /// may be replaced by another one meanwhile. Answered with [`ToPeer::Suspended`].
    Suspend,
    /// Clients are served, in this way.
    Serve(Service),
}
