//! Tests of the communication between servers.

mod bytes;
mod election;
mod links;
mod recorded;
