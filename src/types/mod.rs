//! The words everything else is said in: numbers that must not be swapped, paths, stats, ACLs, codes, time.

pub mod acl;
pub mod code;
pub mod id;
pub mod path;
pub mod stat;
pub mod tally;
pub mod time;
pub mod zxid;

pub use acl::{Acl, AclId, Id, perms};
pub use code::{CreateMode, ErrorCode, EventType, op};
pub use id::{ConnId, Cxid, Origin, ServerId, SessionId, ShardId};
pub use stat::{Stat, StatPersisted};
pub use tally::{Namespaces, Tally};
pub use time::Now;
pub use zxid::{Epoch, Zxid};

/// The target of every log line that a client can provoke. The log writes only a few of each kind and counts the others
/// (`runtime::logging`).
pub const CLIENT_LOG: &str = "zabra::client";
