//! The two epoch files. Mirrors `QuorumPeer.loadDataBase`, `readLongFromFile`, `writeLongToFile` and
//! `AtomicFileOutputStream`, which however does not sync the directory.

use std::io::{self, Read, Write};

use thiserror::Error;

use super::disk::{Dir, Writer};
use super::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::types::{Epoch, Zxid};

/// Most bytes in such a file: a number and some white space.
const MAX_LEN: u64 = 64;

/// Why the epochs cannot be used.
#[derive(Debug, Error)]
pub enum EpochError {
    /// An I/O error.
    #[error("{file}: {error}")]
    Io {
        /// Which file.
        file: String,
        /// What failed.
        error: io::Error,
    },
    /// The file does not contain a decimal number.
    #[error(
        "{file} holds {text:?}, not an epoch; restore it, or empty this server's data directory and let it sync again"
    )]
    Text {
        /// Which file.
        file: String,
        /// Its text.
        text: String,
    },
    /// The message is ZooKeeper's.
    #[error("The current epoch, {current:x}, is older than the last zxid, {last}")]
    CurrentIsOlder {
        /// The epoch in the file.
        current: i64,
        /// The last zxid in the log.
        last: Zxid,
    },
    /// The message is ZooKeeper's.
    #[error("The accepted epoch, {accepted:x} is less than the current epoch, {current:x}")]
    AcceptedIsOlder {
        /// The epoch in `acceptedEpoch`.
        accepted: i64,
        /// The epoch in `currentEpoch`.
        current: i64,
    },
}

/// The epochs of this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epochs {
    /// The newest epoch that it has accepted from a leader (`acceptedEpoch`).
    pub accepted: Epoch,
    /// The epoch of the leader it last synchronised with (`currentEpoch`).
    pub current: Epoch,
}

/// Reads one epoch file; `None` if it does not exist.
pub fn read_epoch<D: Dir>(dir: &D, name: &str) -> Result<Option<Epoch>, EpochError> {
    let io_error = |error| EpochError::Io { file: format!("{}/{name}", dir.path()), error };
    let file = match dir.open(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes).map_err(io_error)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or("").trim();
    match line.parse() {
        Ok(epoch) => Ok(Some(Epoch(epoch))),
        Err(_) => Err(EpochError::Text { file: format!("{}/{name}", dir.path()), text: line.to_owned() }),
    }
}

/// Writes one epoch file. After `Ok` it is durable; after a crash it has the old or the new content.
pub fn write_epoch<D: Dir>(dir: &mut D, name: &str, epoch: Epoch) -> Result<(), EpochError> {
    assert!(epoch >= Epoch(0), "epoch {epoch:?} is to be written to {name}");
    let tmp = format!("{name}.tmp");
    let mut write = || -> io::Result<()> {
        let mut file = dir.create(&tmp)?;
        file.write_all(epoch.0.to_string().as_bytes())?;
        file.sync()?;
        drop(file);
        dir.rename(&tmp, name)?;
        dir.sync_dir()
    };
    write().map_err(|error| EpochError::Io { file: format!("{}/{name}", dir.path()), error })
}

/// The history has got a snapshot of this epoch as its base: `currentEpoch` becomes at least that.
pub fn raise_current_epoch<D: Dir>(dir: &mut D, epoch: Epoch) -> Result<(), EpochError> {
    if read_epoch(dir, CURRENT_EPOCH)?.is_none_or(|current| current < epoch) {
        write_epoch(dir, CURRENT_EPOCH, epoch)?;
    }
    Ok(())
}

/// Reads both files at start, by ZooKeeper's rules: a missing file gets the epoch of the last zxid. If a crash left a
/// `currentEpoch.tmp`, it is used if the last zxid is ahead of `currentEpoch`.
///
/// One rule is not Apache's, which does not start then: a crash may have come after the transactions that a leader sent became
/// durable and before `currentEpoch` did. Then that becomes the epoch of the last zxid, if this server has accepted it. That
/// claims no more than is there: before the first transaction of an epoch the log has all that its leader began with, and
/// nothing of it was acknowledged.
pub fn load<D: Dir>(dir: &mut D, last: Zxid) -> Result<Epochs, EpochError> {
    let of_zxid = Epoch(last.epoch().0.max(0));
    let mut current = match read_epoch(dir, CURRENT_EPOCH)? {
        Some(epoch) => epoch,
        None => {
            write_epoch(dir, CURRENT_EPOCH, of_zxid)?;
            of_zxid
        }
    };
    let accepted = read_epoch(dir, ACCEPTED_EPOCH)?;
    if of_zxid > current {
        let unfinished = match read_epoch(dir, &format!("{CURRENT_EPOCH}.tmp")) {
            // The crash came before its content was durable.
            Err(EpochError::Text { .. }) => None,
            read => read?,
        };
        let epoch = match unfinished {
            Some(epoch) if epoch >= of_zxid => epoch,
            _ if accepted.is_some_and(|accepted| accepted >= of_zxid) => of_zxid,
            _ => return Err(EpochError::CurrentIsOlder { current: current.0, last }),
        };
        write_epoch(dir, CURRENT_EPOCH, epoch)?;
        current = epoch;
    }
    let accepted = match accepted {
        Some(epoch) => epoch,
        None => {
            // Apache always writes the epoch of the zxid here, and then refuses to start if currentEpoch is ahead of
            // it.
            let epoch = of_zxid.max(current);
            write_epoch(dir, ACCEPTED_EPOCH, epoch)?;
            epoch
        }
    };
    if accepted < current {
        return Err(EpochError::AcceptedIsOlder { accepted: accepted.0, current: current.0 });
    }
    assert!(current >= of_zxid, "a log of a later epoch than the current one is served");
    assert!(accepted >= current, "a promise of an older epoch than the one that was joined");
    Ok(Epochs { accepted, current })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::test_disk::TestDisk;

    fn with(accepted: Option<&str>, current: Option<&str>, tmp: Option<&str>) -> TestDisk {
        let disk = TestDisk::new();
        for (name, text) in [(ACCEPTED_EPOCH, accepted), (CURRENT_EPOCH, current), ("currentEpoch.tmp", tmp)] {
            text.into_iter().for_each(|t| disk.put(name, t.as_bytes()));
        }
        disk
    }

    fn boot(disk: &TestDisk, epoch: i64) -> Result<(i64, i64), EpochError> {
        load(&mut disk.clone(), Zxid::new(Epoch(epoch), 3)).map(|e| (e.accepted.0, e.current.0))
    }

    #[test]
    fn boot_rules_are_zookeepers() {
        let fresh = with(None, None, None);
        assert_eq!(boot(&fresh, 4).unwrap(), (4, 4));
        assert_eq!(fresh.bytes(CURRENT_EPOCH), b"4");
        assert_eq!(boot(&with(Some("7"), Some("6\n"), None), 4).unwrap(), (7, 6));
        for tmp in [None, Some("2")] {
            assert!(matches!(boot(&with(Some("3"), Some("3"), tmp), 4), Err(EpochError::CurrentIsOlder { .. })));
            assert!(matches!(boot(&with(None, Some("3"), tmp), 4), Err(EpochError::CurrentIsOlder { .. })));
        }
        assert_eq!(boot(&with(Some("7"), Some("3"), Some("4")), 4).unwrap(), (7, 4));
        assert_eq!(boot(&with(Some("7"), Some("3"), Some("5")), 4).unwrap(), (7, 5));
        assert!(matches!(boot(&with(Some("5"), Some("6"), None), 4), Err(EpochError::AcceptedIsOlder { .. })));
        assert!(matches!(boot(&with(Some("x"), Some("6"), None), 4), Err(EpochError::Text { .. })));
        assert!(matches!(boot(&with(Some(""), Some("6"), None), 4), Err(EpochError::Text { .. })));
        let empty = TestDisk::new();
        assert_eq!(load(&mut empty.clone(), Zxid::NONE).unwrap(), Epochs { accepted: Epoch(0), current: Epoch(0) });
    }

    /// A learner logs what the leader of epoch 4 has sent, then saves currentEpoch, then acknowledges.
    #[test]
    fn a_crash_between_the_history_and_its_epoch_is_made_good() {
        for tmp in [None, Some("3"), Some("")] {
            let disk = with(Some("4"), Some("2"), tmp);
            assert_eq!(boot(&disk, 4).unwrap(), (4, 4), "{tmp:?}");
            assert_eq!(disk.bytes(CURRENT_EPOCH), b"4", "the next start needs no rule");
        }
        assert_eq!(
            boot(&with(Some("6"), Some("2"), None), 4).unwrap(),
            (6, 4),
            "a later leader was accepted and not joined"
        );
    }

    #[test]
    fn a_crash_leaves_the_old_epoch_or_the_new_one() {
        for op in 0..8 {
            for seed in 0..16 {
                let disk = with(Some("1"), Some("1"), None);
                disk.crash_at(disk.ops() + op);
                let written = write_epoch(&mut disk.clone(), ACCEPTED_EPOCH, Epoch(2));
                disk.power_cycle(seed);
                let epoch = read_epoch(&disk, ACCEPTED_EPOCH).unwrap();
                assert!(
                    epoch == Some(Epoch(2)) || written.is_err() && epoch == Some(Epoch(1)),
                    "{op}/{seed}: {epoch:?}"
                );
            }
        }
    }
}
