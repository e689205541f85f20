//! The fuzz targets. libFuzzer's binaries (`libfuzzer/`) and `cargo test` (`tests/corpus.rs`) call the same functions.
//! A target returns if all is well and panics if it has found a fault.
//!
//! Inputs are read from front to back: a few bytes that make choices, then bytes as they come from a connection or a
//! disk. So a seed can be written by hand (`src/bin/seeds.rs`), and a mutation does not change the meaning of
//! everything after it.

pub mod config;
pub mod connect;
pub mod election;
mod election_said;
mod election_world;
pub mod frame;
mod history;
mod input;
pub mod leader;
mod leader_judge;
pub mod learner;
pub mod log_recovery;
pub mod memory;
mod mutation;
pub mod operations;
pub mod packets;
pub mod request;
pub mod snapshot;
mod world;

/// The name and the function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All targets: `corpus/<name>` and `findings/<name>` contain their inputs.
pub const TARGETS: [Target; 11] = [
    ("config", config::run),
    ("connect", connect::run),
    ("election", election::run),
    ("frame", frame::run),
    ("leader", leader::run),
    ("learner", learner::run),
    ("log_recovery", log_recovery::run),
    ("operations", operations::run),
    ("packets", packets::run),
    ("request", request::run),
    ("snapshot", snapshot::run),
];
