#![doc = include_str!("ARCHITECTURE.md")]
// The other lints are the workspace's. In binaries and tests `pub` is what a module shows to its siblings; here it is
// the crate's public interface.
#![warn(unreachable_pub)]
// `println!` panics when nobody takes the output: see `cli::output` and `runtime::logging`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod limits;
pub mod types;

pub mod jute;

pub mod auth;
pub mod proto;
pub mod txn;

pub mod quorum;
pub mod session;
pub mod tree;
pub mod txnlog;
pub mod watch;

pub mod pipeline;
pub mod zab;

pub mod peer;
pub mod shard;

#[cfg(any(test, feature = "sim"))]
pub mod oracle;

pub mod config;
pub mod runtime;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub mod cli;
