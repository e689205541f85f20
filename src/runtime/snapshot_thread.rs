//! The thread that writes the snapshots made by the peer core; it runs a [`Snapshotter`]. If a snapshot cannot be
//! written the process ends, as in ZooKeeper, since the log on the same disk would fail next.

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
use crate::txnlog::snapshotter::{SnapshotPart, Snapshotter};

/// Starts the thread. It ends when all senders are gone; an unfinished snapshot then keeps its temporary name.
///
/// # Errors
/// The thread cannot be created.
pub fn start<D>(
    snapshotter: Snapshotter<D>,
    shared: Arc<Shared>,
    parts: Receiver<SnapshotPart>,
) -> io::Result<JoinHandle<()>>
where
    D: Dir + 'static,
{
    threads::start("snapshot", move || {
        cores::let_others_go_first();
        if let Err(error) = write_all(snapshotter, &shared, &parts) {
            fatal(ExitCode::TxnLog, format!("a snapshot cannot be written: {error}"));
        }
    })
}

/// The channel for parts of snapshots. The peer limits how many wait, the channel does not.
pub fn channel() -> (Sender<SnapshotPart>, Receiver<SnapshotPart>) {
    channel::unbounded()
}

fn write_all<D: Dir>(
    mut snapshotter: Snapshotter<D>,
    shared: &Shared,
    parts: &Receiver<SnapshotPart>,
) -> io::Result<()> {
    for part in parts {
        if let Some(event) = snapshotter.take(Clock::now(), part)? {
            shared.to_peer(event.into());
        }
    }
    Ok(())
}
