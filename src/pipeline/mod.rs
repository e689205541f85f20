//! The stages of a write: `prep` validates it and makes a transaction of it, `apply` tells the client what became of it.
//! Mirrors the chain of `RequestProcessor`s.

pub mod messages;
pub mod prep;
pub mod reply;

pub use prep::{Prep, PrepOptions, Proposal, WriteRequest};
pub use reply::{AfterReply, put_write_reply};

/// Where a request came from: carried through the pipeline unread, so that the answer finds its way back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin {
    /// The shard that owns the connection.
    pub shard: u32,
    /// The connection's number on that shard; 0 where nobody waits.
    pub conn: u64,
}

/// The origin of what the server asks of itself: nobody is answered.
pub const SERVER: Origin = Origin { shard: u32::MAX, conn: 0 };
