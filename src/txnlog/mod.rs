//! The transaction log and the snapshots: their formats, writing, recovery and purge, on a [`disk::Dir`] that the
//! runtime or the simulator provides. Mirrors `FileTxnLog`, `FileSnap`, `FileTxnSnapLog`, `PurgeTxnLog`.
//!
//! * Start: [`restore::recover_tree`], then [`epoch::load`]; if the result is `fresh`, [`snapshotter::first_snapshot`]
//!   before serving.
//! * While serving, one thread runs a [`log::Log`]: it takes records, and syncs, rolls and asks for snapshots when they
//!   are due.
//! * Beside it run [`snapshotter::Snapshotter`] and [`purge::purge`]; a leader reads for its learners with
//!   [`feed::Feeder`], a learner has [`truncate::truncate`] and [`install`] for a leader's snapshot.
//! * Tools: [`verify`], [`scan::LogReader`].
//!
//! The format is that of Apache, byte for byte, with two additions that Apache ignores: a trailer in each record (see
//! [`record`]) and a mark after a file's last record (see [`end_mark`]).

pub mod appender;
mod batch;
mod commit_delay;
pub mod disk;
mod end_mark;
pub mod epoch;
pub mod feed;
#[cfg(test)]
mod feed_tests;
pub mod install;
pub mod log;
pub mod names;
pub mod proposal_reader;
pub mod purge;
pub mod record;
mod recovered;
pub mod recovery;
mod recovery_error;
pub mod restore;
mod rewrite_tail;
pub mod scan;
mod sink;
pub mod snapshot;
mod snapshot_load;
pub mod snapshot_read;
pub mod snapshotter;
mod space;
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
#[cfg(test)]
mod install_tests;
#[cfg(test)]
mod no_log_tests;
pub mod replay;
#[cfg(test)]
mod rewrite_tail_tests;
