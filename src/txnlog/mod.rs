//! The transaction log and the snapshots: their bytes, their recovery, their purge, over a [`disk::Dir`] that the runtime
//! (or the simulator) provides. Mirrors `FileTxnLog`, `FileSnap`, `FileTxnSnapLog`, `PurgeTxnLog`.
//!
//! * Boot: [`restore::recover_tree`], then [`epoch::load`]; if the result is `fresh`, [`snapshotter::first_snapshot`] before serving.
//! * Serving: one thread runs a [`log::Log`] (records in; syncs, rolls and snapshots when they are due).
//! * Beside it: [`snapshotter::Snapshotter`], [`purge::purge`]; for learners [`proposal_reader::LogCursor`] and [`truncate::truncate`].
//! * Tools: [`verify`], [`scan::LogReader`].
//!
//! What is written is Apache's format, byte for byte, with two additions that Apache skips: a trailer behind each record (see
//! [`record`]) and a mark behind a file's last one (`mark`).

pub mod appender;
mod batch;
mod commit_delay;
pub mod disk;
mod end_mark;
pub mod epoch;
pub mod log;
pub mod names;
pub mod proposal_reader;
pub mod purge;
pub mod record;
pub mod recovery;
pub mod restore;
mod rewrite_tail;
pub mod scan;
mod sink;
pub mod snapshot;
pub mod snapshot_read;
pub mod snapshotter;
pub mod truncate;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod apache_tests;
mod compress;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod history_tests;
pub mod replay;
#[cfg(test)]
mod rewrite_tail_tests;
