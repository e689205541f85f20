//! The transaction log and the snapshots: their bytes, their recovery, their purge, over a [`disk::Dir`] that the runtime
//! (or the simulator) provides. Mirrors `FileTxnLog`, `FileSnap`, `FileTxnSnapLog`, `PurgeTxnLog`.
//!
//! * Boot: [`restore::recover_tree`], then [`epoch::load`]; if the result is `fresh`, write a first snapshot before serving.
//! * Serving: one thread owns a [`writer::LogWriter`] and asks an [`appender::Appender`] when to sync, roll and snapshot.
//! * Beside it: [`snapshot::SnapshotWriter`], [`purge::purge`]; for learners [`cursor::LogCursor`] and [`truncate::truncate`].
//! * Tools: [`verify`], [`scan::LogReader`].
//!
//! What is written is Apache's format, byte for byte, with two additions that Apache skips: a trailer behind each record (see
//! [`record`]) and a mark behind a file's last one (`mark`).

pub mod appender;
mod company;
pub mod cursor;
pub mod disk;
pub mod epoch;
mod mark;
pub mod names;
pub mod purge;
pub mod record;
pub mod recovery;
pub mod restore;
pub mod scan;
pub mod snapshot;
pub mod snapshot_read;
mod tail;
pub mod testdisk;
pub mod testreplica;
pub mod truncate;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod apache_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod history_tests;
mod pack;
pub mod replay;
#[cfg(test)]
mod tail_tests;
