//! ZAB, ZooKeeper's atomic broadcast: who leads, what is proposed, when it is committed; and the bytes in which servers say so
//! to each other. A transaction is opaque here: a zxid and bytes. Mirrors `Leader`, `Leader.Proposal`, `FastLeaderElection`.

pub mod auth_packet;
pub mod election;
pub mod handler;
pub mod hello;
pub mod history;
pub mod leader;
pub mod learner;
pub mod links;
pub mod message;
pub mod messenger;
pub mod notification;
pub mod packet;
pub mod state;
pub mod sync_plan;
pub mod vote;

pub use leader::Leader;
