//! Logs what the threads of this process are doing. SIGQUIT asks for it, as it asks a JVM for a thread dump. It does
//! not wait for any core, so it also shows a core that is stuck.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::peer::apply::Cursors;
use crate::types::ShardId;

/// Logs a line for each core and for each thread.
pub(super) fn log(shared: &Shared) {
    for (core, turns) in shared.turns.iter().enumerate() {
        // Core n has shard n.
        let turns = turns.load(Ordering::Relaxed);
        let shard = shared.shards.get(core).map_or(String::new(), |mail| {
            let cursor = shared.tree.cursor(ShardId(core as u32));
            format!(", shard at zxid {cursor} with {} waiting messages", mail.len())
        });
        let peer = if core == shared.peer_core {
            format!(", peer with {} waiting messages", shared.peer.len())
        } else {
            String::new()
        };
        tracing::info!("core {core}: {turns} turns{shard}{peer}");
    }
    match threads(Path::new("/proc/self/task")) {
        Ok(threads) => threads.iter().for_each(|t| tracing::info!("{t}")),
        Err(error) => tracing::warn!(%error, "the threads cannot be listed"),
    }
}

/// A line for each thread, in order of their ids.
fn threads(tasks: &Path) -> std::io::Result<Vec<String>> {
    let mut ids: Vec<u32> =
        std::fs::read_dir(tasks)?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    // A thread that has ended meanwhile is left out.
    Ok(ids.into_iter().filter_map(|id| thread(&tasks.join(id.to_string()), id)).collect())
}

fn thread(task: &Path, id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    // The name is in parentheses and may contain any character; after it the fields begin with the third.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // SAFETY: only returns a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    let cpu_s = (ticks(11)? + ticks(12)?) as f64 / per_second;
    let state = match *fields.first()? {
        "R" => "runs",
        "S" => "sleeps",
        "D" => "waits for a device",
        "T" | "t" => "is stopped",
        other => other,
    };
    // Not readable everywhere, and 0 for a running thread.
    let place = std::fs::read_to_string(task.join("wchan")).unwrap_or_default();
    let place = if place.is_empty() || place == "0" { String::new() } else { format!(" in {place}") };
    Some(format!("thread {name} ({id}): {state}{place}, {cpu_s:.2} s of CPU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_line() {
        let (to, wait) = std::sync::mpsc::channel::<()>();
        let (running, runs) = std::sync::mpsc::channel();
        let sleep = move || {
            running.send(()).unwrap();
            wait.recv()
        };
        let sleeper = std::thread::Builder::new().name("a (b) c".into()).spawn(sleep).unwrap();
        // A thread sets its name itself, after it has started.
        runs.recv().unwrap();
        let lines = threads(Path::new("/proc/self/task")).unwrap();
        drop(to);
        sleeper.join().unwrap().unwrap_err();
        let named: Vec<&String> = lines.iter().filter(|l| l.starts_with("thread a (b) c (")).collect();
        assert_eq!(named.len(), 1, "{lines:?}");
        assert!(named[0].ends_with(" s of CPU"), "{named:?}");
    }
}
