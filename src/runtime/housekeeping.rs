//! Background threads: the purge, and the watchdog, which ends the process if a core is stuck and gives unused memory
//! back. Mirrors `DatadirCleanupManager`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;

use super::admin::{self, Startup};
use super::cores;
use super::disk::{FsDir, SyncMethod};
use super::fatal::fatal;
use super::memory;
use super::shared::{Shared, WordRequest};
use super::start_error::StartError;
use super::threads;
use crate::config::{Config, ExitCode};
use crate::txnlog::purge::purge;

/// How often the watchdog checks, and how many checks a core may make no turn. A pause of the whole process also stops
/// the watchdog, so it does not count.
const LOOK: Duration = Duration::from_secs(1);
const STUCK_LOOKS: u32 = 60;

/// Starts the threads.
///
/// # Errors
/// A thread cannot be created.
pub fn start(
    config: Arc<Config>,
    shared: Arc<Shared>,
    words: Receiver<WordRequest>,
    startup: Startup,
) -> Result<(), StartError> {
    start_purges(&config)?;
    admin::start(config, shared.clone(), words, startup)?;
    threads::start("watchdog", move || watch(&shared)).map(drop).map_err(|e| StartError::new(ExitCode::Unexpected, e))
}

/// Purges at once and then at every interval (`autopurge.purgeInterval`; 0 means never).
fn start_purges(config: &Config) -> Result<(), StartError> {
    if config.storage.purge_interval_ms <= 0 {
        return Ok(());
    }
    let interval = Duration::from_millis(config.storage.purge_interval_ms as u64);
    let keep = config.storage.purge_retain.max(0) as usize;
    let dirs = [config.data_dir.join("version-2"), config.data_log_dir.join("version-2")];
    let run = move || {
        cores::let_others_go_first();
        loop {
            let open = |path: &PathBuf| FsDir::open(path, false, SyncMethod::default()).map(FsDir::gentle);
            match open(&dirs[0]).and_then(|mut snap| purge(&mut snap, &mut open(&dirs[1])?, keep)) {
                Ok(purged) => tracing::info!(?purged, keep, "purged"),
                Err(error) => tracing::warn!(%error, "cannot purge old snapshots and logs"),
            }
            std::thread::sleep(interval);
        }
    };
    threads::start("purge", run).map(drop).map_err(|e| StartError::new(ExitCode::Unexpected, e))
}

/// A process with a stuck core must end: clients and other servers would wait for it, and cannot know that it will not
/// answer.
fn watch(shared: &Shared) {
    let mut watchdog = Watchdog::new(shared.turns.len());
    loop {
        std::thread::sleep(LOOK);
        memory::give_back();
        if let Some(core) = watchdog.look(shared.turns.iter().map(|t| t.load(Ordering::Relaxed))) {
            fatal(ExitCode::Unexpected, format!("core {core} has not turned for {STUCK_LOOKS} seconds"));
        }
    }
}

/// For each core the number of turns at the last check, and for how many checks it has been the same.
struct Watchdog(Vec<(u64, u32)>);

impl Watchdog {
    fn new(cores: usize) -> Watchdog {
        Watchdog(vec![(0, 0); cores])
    }

    /// Checks every core's number of turns; returns a core that has been stuck for too long.
    fn look(&mut self, turns: impl Iterator<Item = u64>) -> Option<usize> {
        let mut stuck = None;
        for (core, ((last, looks), turns)) in self.0.iter_mut().zip(turns).enumerate() {
            *looks = if turns == *last { *looks + 1 } else { 0 };
            *last = turns;
            if *looks >= STUCK_LOOKS {
                stuck = stuck.or(Some(core));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_stands_still_for_a_minute_is_found_and_a_slow_one_is_not() {
        let mut dog = Watchdog::new(3);
        let slow = u64::from(STUCK_LOOKS) - 1;
        for look in 1..u64::from(STUCK_LOOKS) * 5 {
            // One core always makes turns, one just often enough.
            assert_eq!(dog.look([look, look / slow + 1, look].into_iter()), None, "look {look}");
        }
        let turns = [7, 8, 9];
        assert_eq!(dog.look(turns.into_iter()), None);
        for look in 1..u64::from(STUCK_LOOKS) {
            assert_eq!(dog.look([7 + look, 8 + look, 9].into_iter()), None, "look {look}");
        }
        assert_eq!(dog.look([1, 2, 9].into_iter()), Some(2));
    }
}
