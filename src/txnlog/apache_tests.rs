//! Files written by Apache ZooKeeper 3.9.5 (the first 60 transactions of a run of its own client tests), and
//! comparisons of our files with them.

use super::names::Compression;
use super::recovery::{RecoveryError, RecoveryOptions};
use super::restore::recover_tree;
use super::scan::{End, LogReader};
use super::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
use super::writer::{LogOptions, LogWriter};
use crate::oracle::test_disk::TestDisk;
use crate::tree::{Tree, TreeOptions};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{SessionId, Zxid};

const LOG: &[u8] = include_bytes!("testdata/apache-3.9.5-log.1");
const SNAPSHOT: &[u8] = include_bytes!("testdata/apache-3.9.5-snapshot.0");
const TREE: TreeOptions =
    TreeOptions { extended: ExtendedTypes { enabled: true, emulate_353: false }, digest_enabled: true };

fn apache() -> TestDisk {
    let disk = TestDisk::new();
    let mut log = LOG.to_vec();
    log.resize(LOG.len() + 70_000, 0);
    disk.put("log.1", &log);
    disk.put("snapshot.0", SNAPSHOT);
    disk
}

fn open(disk: &TestDisk) -> Result<super::recovery::Recovered<Tree>, RecoveryError> {
    recover_tree(&mut disk.clone(), &mut disk.clone(), TREE, RecoveryOptions::default())
}

/// Writes the snapshot of a tree as the server does.
fn snapshot(
    disk: &TestDisk,
    tree: &mut Tree,
    sessions: &[(SessionId, i32)],
    compression: Compression,
) -> std::io::Result<String> {
    let mut disk = disk.clone();
    let zxid = tree.last_zxid();
    let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
    let mut w = SnapshotWriter::begin(&mut disk, zxid, options)?;
    let id = tree.begin_image();
    let digest = tree.image_head(id).map(|h| h.digest).unwrap_or_default();
    let acls = tree.image_acls(id);
    let mut image = Vec::new();
    put_sessions(&mut image, sessions.iter().copied());
    put_acl_table(&mut image, acls.iter().map(|(id, list)| (*id, list.as_deref().unwrap_or_default())));
    loop {
        let done = tree.image_chunk(id, 4096, &mut image);
        w.put(&image)?;
        image.clear();
        if done {
            break;
        }
    }
    w.finish(&mut disk, Some(ZxidDigest { zxid, version: 2, digest }), zxid)
}

#[test]
fn an_apache_directory_opens_with_every_digest_right() {
    let r = open(&apache()).unwrap();
    assert_eq!((r.last, r.report.replayed, r.report.foreign), (Zxid(60), 60, 60));
    assert_eq!(r.report.digest_mismatches, []);
    assert_eq!(r.report.cuts, []);
    assert_eq!(r.tail.len(), 60);
    assert!(r.tail.iter().any(|l| l.payload.ends_with(&[0, 0, 0, 2, 0, 0, 0, 0, 0x51, 0xc6, 0xd6, 0x60])));
}

#[test]
fn our_snapshot_of_it_opens_as_the_same_tree() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = apache();
        let mut r = open(&disk).unwrap();
        let sessions: Vec<_> = r.sessions.iter().map(|(id, ms)| (*id, *ms)).collect();
        let name = snapshot(&disk, &mut r.state, &sessions, compression).unwrap();
        let again = open(&disk).unwrap();
        assert_eq!((again.report.snapshot, again.report.replayed), (Some(name), 0));
        assert_eq!((again.state.digest(), again.state.node_count()), (r.state.digest(), r.state.node_count()));
        assert_eq!((again.sessions, again.last), (r.sessions, r.last));
        assert_eq!(again.report.digest_mismatch_count, 0);
    }
}

/// T5: recovery from a snapshot taken between two transactions and the log gives the same tree as recovery from the log
/// alone.
#[test]
fn snapshot_and_replay_is_replay() {
    let whole = open(&apache()).unwrap();
    let disk = apache();
    let mut log = LogReader::open(&disk, "log.1").unwrap();
    while log.next_record().unwrap().is_some() {
        let cut = TestDisk::new();
        cut.put("snapshot.0", SNAPSHOT);
        cut.put("log.1", &LOG[..log.position() as usize]);
        let mut part = open(&cut).unwrap();
        let sessions: Vec<_> = part.sessions.iter().map(|(id, ms)| (*id, *ms)).collect();
        cut.put("log.1", LOG);
        let name = snapshot(&cut, &mut part.state, &sessions, Compression::None).unwrap();
        let r = open(&cut).unwrap();
        assert_eq!((r.report.snapshot, r.report.replayed), (Some(name), 60 - part.report.replayed));
        assert_eq!((r.state.digest(), r.last, &r.sessions), (whole.state.digest(), whole.last, &whole.sessions));
        assert_eq!((r.state.node_count(), r.report.digest_mismatch_count), (whole.state.node_count(), 0));
    }
}

#[test]
fn our_log_of_its_proposals_opens_as_the_same_tree() {
    let theirs = open(&apache()).unwrap();
    let disk = TestDisk::new();
    disk.put("snapshot.0", SNAPSHOT);
    let mut log =
        LogWriter::new(disk.clone(), Zxid::ZERO, LogOptions { prealloc_bytes: 1 << 16, ..LogOptions::default() });
    for l in &theirs.tail {
        log.append(l.zxid, &l.payload).unwrap();
    }
    log.sync().unwrap();
    let ours = open(&disk).unwrap();
    assert_eq!((ours.report.foreign, ours.report.replayed, ours.report.digest_mismatch_count), (0, 60, 0));
    assert_eq!((ours.state.digest(), ours.sessions, ours.tail), (theirs.state.digest(), theirs.sessions, theirs.tail));
}

#[test]
fn damage_in_an_apache_log_is_told_from_its_end() {
    // Any flipped bit before the last record is corruption, as the records after it prove.
    let last = {
        let disk = apache();
        let mut log = LogReader::open(&disk, "log.1").unwrap();
        let mut last = 0;
        while let Some((at, _)) = log.next_record().unwrap() {
            last = at as usize;
        }
        assert_eq!(log.end(), Some(&End::Clean { at: LOG.len() as u64 }));
        last
    };
    for at in (16..LOG.len()).step_by(97) {
        let disk = apache();
        disk.damage("log.1", |b| b[at] ^= 0x40);
        match open(&disk) {
            Err(RecoveryError::Corrupt { .. }) => assert!(at < last, "byte {at}"),
            Ok(r) => assert!(at >= last && r.last == Zxid(59), "byte {at}: ended at {}", r.last),
            Err(e) => panic!("byte {at}: {e}"),
        }
    }
}

#[test]
fn an_apache_log_that_ends_early_before_the_next_file_is_a_hole() {
    let disk = apache();
    // The same history in two files: 1 to 59, and 60.
    let mut at = 16;
    for _ in 0..59 {
        at += 13 + u32::from_be_bytes([LOG[at + 8], LOG[at + 9], LOG[at + 10], LOG[at + 11]]) as usize;
    }
    disk.put("log.1", &LOG[..at]);
    disk.put("log.3c", &[&LOG[..16], &LOG[at..]].concat());
    assert_eq!(open(&disk).unwrap().last, Zxid(60));
    disk.damage("log.1", |b| b.truncate(at - 1));
    assert!(matches!(open(&disk), Err(RecoveryError::Hole { after: Zxid(58), found: Zxid(60), prev: None, .. })));
}

#[test]
fn apaches_packed_snapshots_open_as_the_same_tree() {
    let whole = open(&apache()).unwrap();
    let gz: &[u8] = include_bytes!("testdata/apache-3.9.5-snapshot.3c.gz");
    let snappy: &[u8] = include_bytes!("testdata/apache-3.9.5-snapshot.3c.snappy");
    for (name, bytes) in [("snapshot.3c.gz", gz), ("snapshot.3c.snappy", snappy)] {
        let disk = TestDisk::new();
        disk.put(name, bytes);
        let r = open(&disk).unwrap();
        assert_eq!((r.last, r.state.digest(), &r.sessions), (Zxid(60), whole.state.digest(), &whole.sessions));
        assert_eq!((r.state.node_count(), r.report.digest_mismatch_count), (whole.state.node_count(), 0));
        // Damage in the compressed data is damage.
        for at in (0..bytes.len()).step_by(11) {
            disk.put(name, &bytes[..at]);
            assert!(open(&disk).is_err(), "{name} cut at {at}");
        }
    }
}
