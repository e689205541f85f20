//! Writes the snapshots the peer core makes, beside everything else: the thread that runs a [`Snapshotter`]. A snapshot that
//! cannot be written ends the process, as in ZooKeeper: the disk that fails it will fail the log next.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};

use super::clock::Clock;
use super::cores;
use super::fatal::fatal;
use super::shared::Shared;
use super::threads;
use crate::config::ExitCode;
use crate::txnlog::disk::Dir;
use crate::txnlog::snapshot::SnapshotOptions;
use crate::txnlog::snapshotter::{SnapshotPart, Snapshotter};

/// Starts the thread; it ends when every sender is gone, leaving an unfinished snapshot unnamed.
///
/// # Errors
/// No thread can be made.
pub fn start<D>(
    dir: D,
    options: SnapshotOptions,
    shared: Arc<Shared>,
    parts: Receiver<SnapshotPart>,
) -> io::Result<JoinHandle<()>>
where
    D: Dir + 'static,
{
    threads::start("snapshot", move || {
        cores::let_others_go_first();
        if let Err(error) = write_all(dir, options, &shared, &parts) {
            fatal(ExitCode::TxnLog, format!("a snapshot cannot be written: {error}"));
        }
    })
}

/// Where parts go; bounded by the peer's own backlog, not here.
pub fn channel() -> (Sender<SnapshotPart>, Receiver<SnapshotPart>) {
    channel::unbounded()
}

fn write_all<D: Dir>(
    dir: D,
    options: SnapshotOptions,
    shared: &Shared,
    parts: &Receiver<SnapshotPart>,
) -> io::Result<()> {
    let mut snapshotter = Snapshotter::new(dir, options);
    for part in parts {
        if let Some(event) = snapshotter.take(Clock::now(), part)? {
            shared.to_peer(event.into());
        }
    }
    Ok(())
}
