//! The stages of a write before and after it is applied: `forward` is what a leader gets of it, `prep` validates it and makes
//! a transaction, `reply` encodes the answer, and `messages` are what shards and the peer core send each other. Mirrors the
//! chain of `RequestProcessor`s.

pub mod forward;
pub mod messages;
pub mod prep;
pub mod reply;

pub use prep::{Prep, PrepOptions, Proposal, WriteRequest};
pub use reply::{AfterReply, put_write_reply};
