//! Removes files that no recovery needs. Mirrors `PurgeTxnLog`, which however counts snapshots without reading them.

use std::io;

use super::disk::Dir;
use super::install;
use super::names::{list_logs, list_snapshots, parse_snapshot_name};
use super::verify::is_whole;

/// The least number of snapshots to keep, as in ZooKeeper.
pub const MIN_KEEP: usize = 3;

/// The files that were kept and removed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Purged {
    /// The snapshots that were kept, newest first. Every one was read completely.
    pub kept: Vec<String>,
    /// Those of them that are damaged. They are kept as evidence.
    pub damaged: Vec<String>,
    /// The files that were removed.
    pub removed: Vec<String>,
}

/// First removes what was set aside when a leader's snapshot was [installed](super::install). Then keeps the newest `keep` whole snapshots and every log that the oldest of them needs, and removes what is older. If
/// there are fewer whole snapshots, removes nothing. Reads the kept snapshots completely, so call it on a thread that
/// may take its time.
///
/// # Errors
/// `keep` is below 3, or an I/O error. Some files may be removed then, but none that is needed.
pub fn purge<D: Dir>(snap: &mut D, log: &mut D, keep: usize) -> io::Result<Purged> {
    if keep < MIN_KEEP {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("snapshots to keep: {keep}; at least {MIN_KEEP} are needed"),
        ));
    }
    let mut purged = Purged { removed: install::remove_aside(snap, log)?, ..Purged::default() };
    let mut oldest = None;
    let mut too_old = Vec::new();
    for file in list_snapshots(snap)? {
        if purged.kept.len() == keep {
            too_old.push(file.name);
        } else if is_whole(snap, &file) {
            oldest = Some(file.zxid);
            purged.kept.push(file.name);
        } else {
            purged.damaged.push(file.name);
        }
    }
    let Some(oldest) = oldest.filter(|_| purged.kept.len() == keep) else { return Ok(purged) };
    assert_eq!(purged.kept.len(), keep, "snapshots that are kept");
    let is_older = |name: &String| parse_snapshot_name(name).is_some_and(|(zxid, _)| zxid <= oldest);
    assert!(too_old.iter().all(is_older), "{too_old:?} are to be removed, and {oldest} is the oldest to be kept");
    assert!(too_old.iter().all(|name| !purged.kept.contains(name)), "what is kept is removed: {too_old:?}");
    // The oldest first, and snapshots before the logs that they need; snapshots are removed durably before the first
    // log is. So recovery is possible from whatever a crash leaves.
    for name in too_old.into_iter().rev() {
        snap.remove(&name)?;
        purged.removed.push(name);
    }
    if !purged.removed.is_empty() {
        snap.sync_dir()?;
    }
    let logs = list_logs(log)?;
    let first_needed = logs.iter().rposition(|f| f.first <= oldest).unwrap_or(0);
    assert!(logs.iter().is_sorted_by_key(|f| f.first), "logs are listed in the order of their first transactions");
    let needed = logs.get(first_needed);
    assert!(first_needed == 0 || needed.is_some_and(|f| f.first <= oldest), "{needed:?} is needed for {oldest}");
    for file in &logs[..first_needed] {
        assert!(file.first <= oldest, "{} is newer than the oldest snapshot", file.name);
        log.remove(&file.name)?;
        purged.removed.push(file.name.clone());
    }
    if first_needed > 0 {
        log.sync_dir()?;
    }
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::test_disk::TestDisk;
    use crate::txnlog::crash_tests::{open, with_snapshots};
    use crate::txnlog::recovery::RecoveryError;
    use crate::types::Zxid;

    /// Files log.1, log.4, … log.16, and a snapshot at every third transaction.
    fn history() -> TestDisk {
        with_snapshots(18, 3)
    }

    #[test]
    fn the_oldest_kept_snapshot_keeps_its_log() {
        let disk = history();
        let whole = open(&disk).unwrap().state;
        let purged = purge(&mut disk.clone(), &mut disk.clone(), 3).unwrap();
        assert_eq!(purged.kept, ["snapshot.12", "snapshot.f", "snapshot.c"]);
        assert_eq!(disk.names(), ["log.10", "log.a", "log.d", "snapshot.12", "snapshot.c", "snapshot.f"]);
        // Recovery from each kept snapshot gives the same state.
        for newer in [&[][..], &["snapshot.12"], &["snapshot.12", "snapshot.f"]] {
            let disk = disk.fork();
            newer.iter().for_each(|n| disk.clone().remove(n).unwrap());
            assert_eq!(open(&disk).unwrap().state, whole);
        }
    }

    #[test]
    fn damaged_snapshots_do_not_count() {
        let disk = history();
        for name in ["snapshot.12", "snapshot.f"] {
            disk.damage(name, |b| b[30] ^= 1);
        }
        let purged = purge(&mut disk.clone(), &mut disk.clone(), 3).unwrap();
        assert_eq!(purged.kept, ["snapshot.c", "snapshot.9", "snapshot.6"]);
        assert_eq!(purged.damaged, ["snapshot.12", "snapshot.f"]);
        assert_eq!(open(&disk).unwrap().last, Zxid(18));
        for name in ["snapshot.c", "snapshot.9"] {
            disk.damage(name, |b| b[30] ^= 1);
        }
        assert_eq!(purge(&mut disk.clone(), &mut disk.clone(), 3).unwrap().removed, [""; 0]);
        assert!(purge(&mut disk.clone(), &mut disk.clone(), 2).is_err());
    }

    #[test]
    fn a_crash_anywhere_in_a_purge_leaves_a_whole_history() {
        let start = history();
        let whole = open(&start).unwrap().state;
        for op in 0..20 {
            for seed in 0..10 {
                let disk = start.fork();
                disk.crash_at(disk.ops() + op);
                let _ = purge(&mut disk.clone(), &mut disk.clone(), 3);
                disk.power_cycle(seed);
                // Even if the newest snapshot is damaged at the same time.
                disk.damage("snapshot.12", |b| b[30] ^= 1);
                assert_eq!(open(&disk).unwrap().state, whole, "crash at {op}, seed {seed}");
                // An older snapshot that is still there has its logs.
                ["snapshot.f", "snapshot.c"].iter().for_each(|n| disk.damage(n, |b| b[30] ^= 1));
                match open(&disk) {
                    Ok(r) => assert_eq!(r.state, whole),
                    Err(RecoveryError::NoValidSnapshot { .. }) => {}
                    Err(e) => panic!("crash at {op}, seed {seed}: {e}"),
                }
            }
        }
    }
}
