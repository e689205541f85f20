//! A leader's snapshot that becomes the base of the history, with crashes at every disk operation.

use super::crash_tests::{open, payload, with_snapshots};
use super::disk::Dir;
use super::epoch::{read_epoch, write_epoch};
use super::install::{Received, resume};
use super::names::CURRENT_EPOCH;
use super::purge::{MIN_KEEP, purge};
use super::recovery::{Recovered, RecoveryError, RecoveryOptions, recover};
use super::snapshot::TERMINATOR;
use super::writer::LogWriter;
use crate::oracle::replica::{SMALL, Seen};
use crate::oracle::test_disk::TestDisk;
use crate::types::{Epoch, SessionId, Zxid};

const SESSION: (SessionId, i32) = (SessionId(9), 6000);

/// The leader's history: it agrees with [`ours`] up to 5, and goes on in epoch 2.
fn theirs() -> Seen {
    let all = (1..=5).map(Zxid).chain((1..=3).map(|counter| Zxid::new(Epoch(2), counter)));
    Seen(all.map(|zxid| (zxid.0, payload(zxid, None))).collect())
}

fn their_last() -> Zxid {
    Zxid::new(Epoch(2), 3)
}

/// Twelve transactions, and snapshots of 0, 4, 8 and 12.
fn ours() -> TestDisk {
    with_snapshots(12, 4)
}

pub(super) fn stream(state: &Seen) -> Vec<u8> {
    [&state.image(&[SESSION])[..], &TERMINATOR].concat()
}

/// Receives and installs a snapshot, its bytes in pieces.
pub(super) fn take(
    snap: &mut TestDisk,
    log: &mut TestDisk,
    zxid: Zxid,
    bytes: &[u8],
) -> Result<Result<Seen, String>, String> {
    let mut received = Received::begin(snap, zxid).map_err(|e| e.to_string())?;
    for piece in bytes.chunks(1000) {
        received.put(piece).map_err(|e| e.to_string())?;
    }
    match received.end(snap, Seen::default()).map_err(|e| e.to_string())? {
        Ok(whole) => whole.install(snap, log).map(|(state, _)| Ok(state)).map_err(|e| e.to_string()),
        Err(why) => Ok(Err(why)),
    }
}

fn opened(snap: &TestDisk, log: &TestDisk) -> Result<Recovered<Seen>, RecoveryError> {
    recover(&mut snap.clone(), &mut log.clone(), Seen::default, RecoveryOptions::default())
}

#[test]
fn what_the_leader_sent_is_all_there_is() {
    let disk = ours();
    let installed = take(&mut disk.clone(), &mut disk.clone(), their_last(), &stream(&theirs())).unwrap();
    assert_eq!(installed.unwrap(), theirs());
    disk.power_cycle(1);
    let r = open(&disk).unwrap();
    assert_eq!((r.last, &r.state, r.sessions.get(&SESSION.0)), (their_last(), &theirs(), Some(&SESSION.1)));
    assert_eq!(read_epoch(&disk, CURRENT_EPOCH).unwrap(), Some(Epoch(2)));
    let aside = ["log.1", "log.5", "log.9"].map(|name| format!("aside.200000003.{name}"));
    assert!(disk.names().iter().filter(|name| name.contains("log.")).eq(&aside), "{:?}", disk.names());
    // The log continues from there.
    let next = Zxid::new(Epoch(2), 4);
    let mut log = LogWriter::new(disk.clone(), r.last, SMALL);
    log.append(next, &payload(next, None)).unwrap();
    log.sync().unwrap();
    assert_eq!(open(&disk).unwrap().last, next);
}

#[test]
fn a_snapshot_that_is_older_than_ours_replaces_them() {
    let (snap, log) = (ours(), ours());
    for name in snap.names().iter().filter(|name| name.starts_with("log.")) {
        snap.clone().remove(name).unwrap();
    }
    for name in log.names().iter().filter(|name| name.starts_with("snapshot.")) {
        log.clone().remove(name).unwrap();
    }
    write_epoch(&mut snap.clone(), CURRENT_EPOCH, Epoch(3)).unwrap();
    let state = Seen((1..=4).map(|z| (z, payload(Zxid(z), None))).collect());
    take(&mut snap.clone(), &mut log.clone(), Zxid(4), &stream(&state)).unwrap().unwrap();
    let r = opened(&snap, &log).unwrap();
    assert_eq!((r.last, r.state), (Zxid(4), state));
    let names = ["aside.4.snapshot.8", "aside.4.snapshot.c", "currentEpoch", "snapshot.0", "snapshot.4"];
    assert_eq!(snap.names(), names);
    assert_eq!(log.names(), ["aside.4.log.1", "aside.4.log.5", "aside.4.log.9"]);
    assert_eq!(read_epoch(&snap, CURRENT_EPOCH).unwrap(), Some(Epoch(3)), "it never falls");
}

/// A crash at every operation of receiving and installing, then at one of the start that follows.
#[test]
fn a_crash_anywhere_leaves_the_old_state_or_the_new_one() {
    let whole = ours();
    let before = whole.ops();
    take(&mut whole.clone(), &mut whole.clone(), their_last(), &stream(&theirs())).unwrap().unwrap();
    let (total, old) = (whole.ops() - before, open(&ours()).unwrap().state);
    assert!(total > 15, "{total}");
    let mut finished_by_a_start = 0;
    for op in 0..=total {
        for seed in 0..24 {
            let disk = ours();
            disk.crash_at(disk.ops() + op);
            let taken = take(&mut disk.clone(), &mut disk.clone(), their_last(), &stream(&theirs()));
            assert_eq!(taken.is_err(), op < total, "{op}: {taken:?}");
            disk.power_cycle(seed);
            let is_marked = disk.names().iter().any(|name| name == "installing");
            disk.crash_at(disk.ops() + (op * 7 + seed) % 13);
            let _ = open(&disk);
            disk.power_cycle(seed + 100);
            let r = open(&disk).unwrap_or_else(|e| panic!("crash at {op}, seed {seed}: {e}"));
            assert!(r.state == old || r.state == theirs(), "crash at {op}, seed {seed}: {:?}", r.last);
            let is_new = r.state == theirs();
            assert!(is_new || taken.is_err() && !is_marked, "crash at {op}, seed {seed}: it was lost");
            finished_by_a_start += u32::from(is_new && is_marked);
            let epoch = read_epoch(&disk, CURRENT_EPOCH).unwrap();
            assert_eq!(epoch, is_new.then_some(Epoch(2)), "crash at {op}, seed {seed}");
            let left = |name: &String| name.starts_with("tmp.") || name == "installing";
            assert!(!disk.names().iter().any(left), "crash at {op}, seed {seed}: {:?}", disk.names());
        }
    }
    assert!(finished_by_a_start > 50, "{finished_by_a_start}");
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let good = stream(&theirs());
    // The number of ACL lists, which is too large; a path that is no path; an end that does not come.
    let damaged = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for bytes in [damaged(18, 1), damaged(good.len() - 1, b'x'), good[..good.len() - 40].to_vec()] {
        let disk = ours();
        let names = disk.names();
        let why = take(&mut disk.clone(), &mut disk.clone(), their_last(), &bytes).unwrap().unwrap_err();
        assert!(!why.is_empty());
        assert_eq!((disk.names(), open(&disk).unwrap().last), (names, Zxid(12)), "{why}");
    }
}

#[test]
fn a_snapshot_that_does_not_end_is_forgotten() {
    for is_told in [true, false] {
        let disk = ours();
        let names = disk.names();
        let mut received = Received::begin(&mut disk.clone(), their_last()).unwrap();
        received.put(&stream(&theirs())[..100]).unwrap();
        match is_told {
            true => received.abandon(&mut disk.clone()).unwrap(),
            false => drop(received),
        }
        assert_eq!((open(&disk).unwrap().last, disk.names()), (Zxid(12), names));
    }
}

#[test]
fn a_marker_that_no_crash_leaves_stops_the_start() {
    for (text, said) in
        [("snapshot.200000003", "is not there"), ("snapshot.5.gz", "no snapshot that was received"), ("", "\"\"")]
    {
        let disk = ours();
        disk.put("installing", text.as_bytes());
        let names = disk.names();
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("installing") && error.contains(said), "{error}");
        assert_eq!(disk.names(), names);
    }
    assert_eq!(resume(&mut ours(), &mut ours()).unwrap(), None);
}

#[test]
fn the_purge_removes_what_was_set_aside_once_that_is_over() {
    let disk = ours();
    take(&mut disk.clone(), &mut disk.clone(), their_last(), &stream(&theirs())).unwrap().unwrap();
    let is_aside = |name: &&String| name.starts_with("aside.");
    disk.put("installing", b"snapshot.200000003");
    purge(&mut disk.clone(), &mut disk.clone(), MIN_KEEP).unwrap();
    assert_eq!(disk.names().iter().filter(is_aside).count(), 3);
    disk.clone().remove("installing").unwrap();
    let purged = purge(&mut disk.clone(), &mut disk.clone(), MIN_KEEP).unwrap();
    assert_eq!(purged.removed.iter().filter(is_aside).count(), 3);
    assert_eq!(disk.names().iter().filter(is_aside).count(), 0);
    assert_eq!(open(&disk).unwrap().last, their_last());
}
