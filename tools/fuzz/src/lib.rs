//! What the fuzz targets do with their input. libFuzzer's binaries (`libfuzzer/`) and `cargo test` (`tests/corpus.rs`) call the
//! same functions: a target returns when all is well and panics when it found something.
//!
//! Inputs are read front to back: a few bytes that choose, then bytes as they come from a wire or a disk. So a seed can be
//! written by hand (`src/bin/seeds.rs`), and a mutation somewhere does not change the meaning of everything behind it.

pub mod config;
pub mod connect;
pub mod frame;
mod history;
mod input;
pub mod log_recovery;
pub mod memory;
mod mutation;
pub mod operations;
pub mod request;
pub mod snapshot;
mod world;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target: `corpus/<name>` and `findings/<name>` hold its inputs.
pub const TARGETS: [Target; 7] = [
    ("config", config::run),
    ("connect", connect::run),
    ("frame", frame::run),
    ("log_recovery", log_recovery::run),
    ("operations", operations::run),
    ("request", request::run),
    ("snapshot", snapshot::run),
];
