//! Basic types that all other modules use: ids, zxids, paths, stats, ACLs, codes and time.

pub mod acl;
pub mod code;
pub mod distribution;
pub mod id;
pub mod latencies;
pub mod op;
pub mod path;
pub mod stat;
pub mod tally;
pub mod time;
pub mod zxid;

pub use acl::{Acl, AclId, Id, perms};
pub use code::{CreateMode, ErrorCode, EventType};
pub use distribution::Distribution;
pub use id::{ConnId, Cxid, Origin, ServerId, SessionId, ShardId, Term};
pub use latencies::Latencies;
pub use op::Op;
pub use stat::{Stat, StatPersisted};
pub use tally::{Namespaces, Tally};
pub use time::{Now, earliest};
pub use zxid::{Epoch, Zxid};

/// The tracing target of every log line that a client can cause. The log writes only a few lines of each kind and
/// counts the rest (`runtime::logging`).
pub const CLIENT_LOG: &str = "zabra::client";

/// The tracing target of every log line that another server, or whoever connects to the ports for servers, can cause. They are
/// limited like those of clients.
pub const PEER_LOG: &str = "zabra::peer";
