//! The control thread's housekeeping: purges, and the watchdog that ends a process one of whose cores is stuck. Mirrors
//! `DatadirCleanupManager`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;

use super::admin::{self, Startup};
use super::boot::StartError;
use super::disk::{FsDir, SyncMethod};
use super::fatal::fatal;
use super::shared::{Shared, WordRequest};
use crate::config::{Config, ExitCode};
use crate::txnlog::purge::purge;

/// How often the watchdog looks, and how many looks a core may stand still. (A pause of the whole process stops the watchdog
/// too, so it does not count.)
const LOOK: Duration = Duration::from_secs(1);
const STUCK_LOOKS: u32 = 60;

/// Starts the thread.
///
/// # Errors
/// No thread can be made.
pub fn start(
    config: Arc<Config>,
    shared: Arc<Shared>,
    words: Receiver<WordRequest>,
    startup: Startup,
) -> Result<(), StartError> {
    start_purges(&config)?;
    admin::start(config, shared.clone(), words, startup)?;
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watch(&shared))
        .map(drop)
        .map_err(|e| StartError::new(ExitCode::Unexpected, format!("a thread cannot be started: {e}")))
}

/// Purges at once and then at every interval (`autopurge.purgeInterval`; 0: never).
fn start_purges(config: &Config) -> Result<(), StartError> {
    if config.storage.purge_interval_ms <= 0 {
        return Ok(());
    }
    let interval = Duration::from_millis(config.storage.purge_interval_ms as u64);
    let keep = config.storage.purge_retain.max(0) as usize;
    let dirs = [config.data_dir.join("version-2"), config.data_log_dir.join("version-2")];
    let run = move || {
        loop {
            let open = |path: &PathBuf| FsDir::open(path, false, SyncMethod::default());
            match open(&dirs[0]).and_then(|mut snap| purge(&mut snap, &mut open(&dirs[1])?, keep)) {
                Ok(purged) => tracing::info!(?purged, keep, "purged"),
                Err(error) => tracing::warn!(%error, "cannot purge old snapshots and logs"),
            }
            std::thread::sleep(interval);
        }
    };
    let thread = std::thread::Builder::new().name("purge".into()).spawn(run);
    thread.map(drop).map_err(|e| StartError::new(ExitCode::Unexpected, format!("a thread cannot be started: {e}")))
}

/// Half alive is worse than dead: others wait for a core that does not turn.
fn watch(shared: &Shared) {
    let mut seen: Vec<(u64, u32)> = shared.turns.iter().map(|_| (0, 0)).collect();
    loop {
        std::thread::sleep(LOOK);
        for (core, (last, looks)) in seen.iter_mut().enumerate() {
            let turns = shared.turns[core].load(Ordering::Relaxed);
            *looks = if turns == *last { *looks + 1 } else { 0 };
            *last = turns;
            if *looks == STUCK_LOOKS {
                fatal(ExitCode::Unexpected, format!("core {core} has not turned for {STUCK_LOOKS} seconds"));
            }
        }
    }
}
