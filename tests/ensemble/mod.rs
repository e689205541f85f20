//! Tests of the communication between servers.

mod bytes;
mod election;
mod handler;
mod leader;
mod learner;
mod links;
mod owners;
mod recorded;
mod sync_plan;
mod walks;
