//! A snapshot that a leader sends becomes the base of this server's history, in place of all that was there. Mirrors the SNAP
//! arm of `Learner.syncWithLeader`, which however leaves the old logs in place: what is in them and was never committed can
//! then be handed on as history.
//!
//! While the snapshot comes it is a file that no recovery looks at, so the old state stays whole. The turning point is a marker
//! file: a start that finds it finishes what it names, a start that does not find it forgets the unfinished file. In order:
//!
//! 1. the snapshot is written, sealed, synced and read back ([`Received`]);
//! 2. the marker names it, durably;
//! 3. it gets its name, and all logs and all other snapshots that are not older are set aside: they get names that neither
//!    recovery nor Apache looks at, until [`purge`](super::purge) removes them;
//! 4. `currentEpoch` is raised to the snapshot's epoch: Apache refuses to start when a history is newer than it;
//! 5. the marker is removed.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::disk::{Dir, Writer};
use super::epoch::{EpochError, raise_current_epoch};
use super::names::{Compression, SNAPSHOT_TMP_PREFIX, list_logs, list_snapshots, parse_snapshot_name, snapshot_name};
use super::recovered::Builder;
use super::snapshot::{SnapshotOptions, SnapshotWriter};
use super::snapshot_load::load_file;
use crate::types::{SessionId, Zxid};

/// The marker: its text is the name of the snapshot that is being installed.
const MARKER: &str = "installing";
const MARKER_TMP: &str = "installing.tmp";
/// Most bytes of a marker.
const MAX_MARKER: u64 = 64;

/// Beginning of the names of files that were set aside; the zxid of the snapshot that replaced them follows, then their name.
pub const ASIDE_PREFIX: &str = "aside.";

/// A received snapshot has no digest: what Apache sends is fuzzy, and its digest is not known.
const OPTIONS: SnapshotOptions =
    SnapshotOptions { compression: Compression::None, digest_block: false, last_zxid_block: true };

/// A state with its sessions and their timeouts in milliseconds.
pub type State<R> = (R, HashMap<SessionId, i32>);

/// A snapshot on its way from a leader to the disk.
pub struct Received<D: Dir> {
    writer: SnapshotWriter<D::Writer>,
    zxid: Zxid,
}

impl<D: Dir> Received<D> {
    /// Begins the file in `snap` (`dataDir/version-2`). An unfinished one of the same zxid is forgotten.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn begin(snap: &mut D, zxid: Zxid) -> io::Result<Received<D>> {
        Ok(Received { writer: SnapshotWriter::begin_as(snap, &tmp_name(zxid), zxid, OPTIONS)?, zxid })
    }

    /// The zxid that the leader gave to the snapshot.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Appends the next bytes: from the sessions to the terminator, as in a SNAP.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.put(bytes)
    }

    /// The last byte came: seals the file, makes it durable and reads it back, whatever its owner believes about it.
    /// `Ok(Err(why))`: it is damaged, or no state can be made of it; the file is removed and nothing else has changed.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn end<B: Builder>(self, snap: &mut D, builder: B) -> io::Result<Result<Whole<B::Replica>, String>> {
        let Received { writer, zxid } = self;
        writer.end(None, zxid)?;
        match load_file(snap, &tmp_name(zxid), zxid, Compression::None, builder) {
            // Its name must not be less durable than the marker that will name it.
            Ok(loaded) => snap.sync_dir().map(|()| Ok(Whole { zxid, state: (loaded.state, loaded.sessions) })),
            Err(why) => snap.remove(&tmp_name(zxid)).map(|()| Err(why)),
        }
    }

    /// The last byte will never come: removes the file.
    ///
    /// # Errors
    /// I/O errors of the disk.
    pub fn abandon(self, snap: &mut D) -> io::Result<()> {
        self.writer.abandon_as(snap, &tmp_name(self.zxid))
    }
}

/// A received snapshot that is whole, durable and loaded, and not part of the history yet.
pub struct Whole<R> {
    zxid: Zxid,
    state: State<R>,
}

impl<R> Whole<R> {
    /// Makes it the base of the history; durable when it returns. The state is what was loaded. The log must not be open for
    /// writing.
    ///
    /// # Errors
    /// I/O errors of the disk, or a `currentEpoch` that cannot be read. The process must end; its next start finishes.
    pub fn install<D: Dir>(self, snap: &mut D, log: &mut D) -> Result<State<R>, EpochError> {
        let Whole { zxid, state } = self;
        mark(snap, zxid).map_err(|error| failed(snap, error))?;
        let done = resume(snap, log)?;
        assert_eq!(done, Some(zxid), "the snapshot that was installed");
        Ok(state)
    }
}

/// Finishes an installation that a crash interrupted; to be called before anything of a directory is read. Returns the zxid
/// of the snapshot, if there was one.
///
/// # Errors
/// I/O errors of the disk, or files that no crash leaves.
pub fn resume<D: Dir>(snap: &mut D, log: &mut D) -> Result<Option<Zxid>, EpochError> {
    let zxid = match read_marker(snap) {
        Ok(Some(zxid)) => zxid,
        Ok(None) => return Ok(None),
        Err(error) => return Err(failed(snap, error)),
    };
    rearrange(snap, log, zxid).map_err(|error| failed(snap, error))?;
    raise_current_epoch(snap, zxid.epoch())?;
    let unmark = |snap: &mut D| snap.remove(MARKER).and_then(|()| snap.sync_dir());
    unmark(snap).map_err(|error| failed(snap, error))?;
    Ok(Some(zxid))
}

/// Names the snapshot of `zxid` in the marker, durably: after a crash it is there with all of its text, or not at all.
fn mark<D: Dir>(snap: &mut D, zxid: Zxid) -> io::Result<()> {
    let mut file = snap.create(MARKER_TMP)?;
    file.write_all(snapshot_name(zxid, Compression::None).as_bytes())?;
    file.sync()?;
    drop(file);
    snap.rename(MARKER_TMP, MARKER)?;
    snap.sync_dir()
}

fn read_marker<D: Dir>(snap: &D) -> io::Result<Option<Zxid>> {
    let file = match snap.open(MARKER) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(MAX_MARKER).read_to_string(&mut text)?;
    match parse_snapshot_name(&text) {
        Some((zxid, Compression::None)) => Ok(Some(zxid)),
        _ => Err(bad(format!("the file {MARKER} names {text:?}, which is no snapshot that was received"))),
    }
}

/// The snapshot gets its name, and what it replaces is set aside. Whatever of this is done already stays done.
fn rearrange<D: Dir>(snap: &mut D, log: &mut D, zxid: Zxid) -> io::Result<()> {
    let (tmp, name) = (tmp_name(zxid), snapshot_name(zxid, Compression::None));
    let names: Vec<String> = snap.list()?.into_iter().map(|(name, _)| name).collect();
    if names.contains(&tmp) {
        snap.rename(&tmp, &name)?;
    } else if !names.contains(&name) {
        return Err(bad(format!(
            "{name} was being installed and is not there: let this server sync again, from nothing"
        )));
    }
    for file in list_snapshots(snap)?.iter().filter(|file| file.zxid >= zxid && file.name != name) {
        set_aside(snap, zxid, &file.name)?;
    }
    snap.sync_dir()?;
    // The newest first: whatever a crash leaves is the beginning of a history.
    for file in list_logs(log)?.iter().rev() {
        set_aside(log, zxid, &file.name)?;
    }
    log.sync_dir()?;
    assert!(list_logs(log)?.is_empty(), "a log that the snapshot of {zxid} replaces");
    let newest = list_snapshots(snap)?.into_iter().next().map(|file| file.name);
    assert_eq!(newest.as_deref(), Some(&*name), "a start would not load the snapshot that was received");
    Ok(())
}

/// Removes what was set aside, unless an installation is not finished. Returns the names.
///
/// # Errors
/// I/O errors of the disk.
pub fn remove_aside<D: Dir>(snap: &mut D, log: &mut D) -> io::Result<Vec<String>> {
    if read_marker(snap)?.is_some() {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for dir in [snap, log] {
        let before = removed.len();
        let names: Vec<String> = dir.list()?.into_iter().map(|(name, _)| name).collect();
        for name in names.into_iter().filter(|name| name.starts_with(ASIDE_PREFIX)) {
            dir.remove(&name)?;
            removed.push(name);
        }
        if removed.len() > before {
            dir.sync_dir()?;
        }
    }
    Ok(removed)
}

/// The name of a snapshot while it comes. Recovery removes it.
fn tmp_name(zxid: Zxid) -> String {
    assert!(zxid >= Zxid::ZERO, "a snapshot as of {zxid} is received");
    let name = format!("{SNAPSHOT_TMP_PREFIX}received.{:x}", zxid.0);
    assert_eq!(parse_snapshot_name(&name), None, "an unfinished snapshot must not be taken for one");
    name
}

fn set_aside<D: Dir>(dir: &mut D, zxid: Zxid, name: &str) -> io::Result<()> {
    match dir.rename(name, &format!("{ASIDE_PREFIX}{:x}.{name}", zxid.0)) {
        // The purge works on a thread of its own, and may have removed it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed<D: Dir>(snap: &D, error: io::Error) -> EpochError {
    EpochError::Io { file: format!("{}/{MARKER}", snap.path()), error }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
