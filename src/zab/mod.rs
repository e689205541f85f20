//! ZAB, ZooKeeper's atomic broadcast: who leads, what is proposed, when it is committed. A transaction is opaque here: a
//! zxid and nothing else. Mirrors `Leader`, `Leader.Proposal`.

pub mod leader;

pub use leader::{EpochExhausted, Leader};
