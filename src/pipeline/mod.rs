//! The stages of a write: `prep` validates it and makes a transaction of it, `apply` tells the client what became of it.
//! Mirrors the chain of `RequestProcessor`s.

pub mod messages;
pub mod prep;
pub mod reply;

pub use prep::{Prep, PrepOptions, Proposal, WriteRequest};
pub use reply::{AfterReply, put_write_reply};
