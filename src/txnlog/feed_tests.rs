use bytes::Bytes;

use super::crash_tests::{payload, take_snapshot};
use super::feed::{Ask, Fed, FeedError, Feeder, Survey};
use super::names::Compression;
use super::snapshot::{
    FILE_HEADER, SnapshotOptions, SnapshotWriter, TERMINATOR, put_acl_table, put_node, put_sessions,
};
use super::writer::LogWriter;
use crate::oracle::replica::SMALL;
use crate::oracle::test_disk::TestDisk;
use crate::types::{AclId, ConnId, Epoch, SessionId, StatPersisted, Zxid};

const CONN: ConnId = ConnId(7);

fn zxid(epoch: i64, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

/// A snapshot whose znodes have data that looks like the end of an image. Returns the image.
fn write_snapshot(disk: &TestDisk, z: Zxid, options: SnapshotOptions) -> Vec<u8> {
    let mut image = Vec::new();
    put_sessions(&mut image, [(SessionId(1), 4000)].into_iter());
    put_acl_table(&mut image, [].into_iter());
    put_node(&mut image, "", None, AclId(0), &StatPersisted::default());
    for i in 0..300 {
        let data = TERMINATOR.repeat(i % 40);
        put_node(&mut image, &format!("/n{i}"), Some(&data), AclId(0), &StatPersisted::default());
    }
    let mut dir = disk.clone();
    let mut w = SnapshotWriter::begin(&mut dir, z, options).expect("begun");
    w.put(&image).expect("written");
    w.finish(&mut dir, None, z).expect("finished");
    image.extend_from_slice(&TERMINATOR);
    image
}

/// The whole image, and in how many pieces it came.
fn read_image(feeder: &mut Feeder<TestDisk>, z: Zxid) -> Result<(Vec<u8>, usize), FeedError> {
    assert_eq!(feeder.answer(CONN, Ask::Snapshot(z))?, Fed::Snapshot(z));
    let (mut image, mut pieces) = (Vec::new(), 0);
    loop {
        let Fed::Piece { bytes, last } = feeder.answer(CONN, Ask::Piece)? else { panic!("another answer") };
        image.extend_from_slice(&bytes);
        pieces += 1;
        if last {
            return Ok((image, pieces));
        }
    }
}

#[test]
fn a_snapshot_is_read_without_header_and_seals() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        for (digest_block, last_zxid_block) in [(true, true), (true, false), (false, true), (false, false)] {
            let disk = TestDisk::new();
            let options = SnapshotOptions { compression, digest_block, last_zxid_block };
            let image = write_snapshot(&disk, Zxid(9), options);
            for chunk in [1, 1000, 1 << 20] {
                let mut feeder = Feeder::new(disk.clone(), disk.clone(), chunk);
                let (got, pieces) = read_image(&mut feeder, Zxid(9)).expect("whole");
                assert!(got == image, "{options:?} in pieces of {chunk}");
                assert!(chunk == 1 << 20 || pieces > image.len() / chunk / 2, "{pieces} pieces");
                assert!(matches!(feeder.answer(CONN, Ask::Piece), Err(FeedError::NotOpen)));
            }
        }
    }
}

#[test]
fn a_damaged_snapshot_is_never_ended() {
    let disk = TestDisk::new();
    let len = FILE_HEADER.len() + write_snapshot(&disk, Zxid(9), SnapshotOptions::default()).len();
    let whole = disk.bytes("snapshot.9");
    for at in (0..whole.len()).step_by(97).chain(len - 5..len + 13) {
        // The rest of the header holds no more than a number that nobody reads.
        if (4..FILE_HEADER.len()).contains(&at) {
            continue;
        }
        let disk = disk.fork();
        disk.damage("snapshot.9", |bytes| bytes[at] ^= 0x10);
        let read = read_image(&mut Feeder::new(disk.clone(), disk, 500), Zxid(9));
        assert!(matches!(read, Err(FeedError::Snapshot { .. })), "byte {at} of {}: {read:?}", whole.len());
    }
    disk.damage("snapshot.9", |bytes| bytes.truncate(bytes.len() / 2));
    assert!(read_image(&mut Feeder::new(disk.clone(), disk.clone(), 500), Zxid(9)).is_err());
    disk.put("snapshot.a", &whole);
    let e = read_image(&mut Feeder::new(disk.clone(), disk, 500), Zxid(10)).unwrap_err();
    assert!(e.to_string().contains("renamed"), "{e}");
}

#[test]
fn a_snapshot_that_is_sent_may_be_purged() {
    let disk = TestDisk::new();
    let image = write_snapshot(&disk, Zxid(9), SnapshotOptions::default());
    let mut feeder = Feeder::new(disk.clone(), disk.clone(), 100);
    assert!(feeder.answer(CONN, Ask::Snapshot(Zxid(9))).is_ok());
    super::disk::Dir::remove(&mut disk.clone(), "snapshot.9").expect("removed");
    let Ok(Fed::Piece { bytes, last: false }) = feeder.answer(CONN, Ask::Piece) else { panic!("no piece") };
    assert_eq!(bytes, image[..100]);
    // Another learner comes too late for it.
    assert!(matches!(feeder.answer(ConnId(8), Ask::Snapshot(Zxid(9))), Err(FeedError::NoSnapshot(_))));
    feeder.forget(CONN);
    assert!(matches!(feeder.answer(CONN, Ask::Piece), Err(FeedError::NotOpen)));
}

/// Two epochs in files of three records: 1.1 to 1.7, 2.1 to 2.5.
fn two_epochs() -> (TestDisk, LogWriter<TestDisk>, Vec<Zxid>) {
    let disk = TestDisk::new();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    let all: Vec<Zxid> = (1..=7).map(|c| zxid(1, c)).chain((1..=5).map(|c| zxid(2, c))).collect();
    for (i, z) in all.iter().enumerate() {
        log.append(*z, &payload(*z, None)).expect("appended");
        if i % 3 == 2 {
            log.roll().expect("rolled");
        }
    }
    log.sync().expect("synced");
    (disk, log, all)
}

fn proposals(feeder: &mut Feeder<TestDisk>, after: Zxid, upto: Zxid) -> Result<Vec<Zxid>, FeedError> {
    let (mut all, mut at) = (Vec::new(), after);
    loop {
        let Fed::Proposals { list, end } = feeder.answer(CONN, Ask::Proposals { after: at, upto })? else {
            panic!("another answer")
        };
        assert!(end || !list.is_empty(), "nothing comes after {at}, and that is not the end");
        for (z, bytes) in list {
            assert_eq!(bytes, Bytes::from(payload(z, None)));
            (at, all) = (z, [all, vec![z]].concat());
        }
        if end {
            return Ok(all);
        }
    }
}

#[test]
fn proposals_follow_the_position_that_is_asked_for() {
    let (disk, _log, all) = two_epochs();
    for chunk in [1, 150, 1 << 20] {
        for (i, after) in all.iter().enumerate() {
            for upto in &all[i..] {
                let mut feeder = Feeder::new(disk.clone(), disk.clone(), chunk);
                let expected: Vec<Zxid> = all.iter().copied().filter(|z| z > after && z <= upto).collect();
                assert_eq!(proposals(&mut feeder, *after, *upto).expect("readable"), expected, "{after} to {upto}");
            }
        }
        // The beginning of everything and that of an epoch are in no log.
        let mut feeder = Feeder::new(disk.clone(), disk.clone(), chunk);
        assert_eq!(proposals(&mut feeder, zxid(1, 0), zxid(2, 5)).expect("readable"), all);
        assert_eq!(proposals(&mut feeder, zxid(2, 0), zxid(2, 5)).expect("readable"), all[7..]);
    }
}

/// Nothing is handed on across a gap, whatever made it: a file that is missing, or a snapshot that was installed.
#[test]
fn proposals_after_a_gap_are_refused() {
    let (disk, _log, all) = two_epochs();
    let mut dir = disk.fork();
    super::disk::Dir::remove(&mut dir, "log.100000004").expect("removed");
    let mut feeder = Feeder::new(dir.clone(), dir, 1 << 20);
    assert!(matches!(proposals(&mut feeder, all[1], all[8]), Err(FeedError::Io(_))));
    assert!(matches!(proposals(&mut feeder, all[4], all[8]), Err(FeedError::Io(_))), "its file is missing");
    assert_eq!(proposals(&mut feeder, all[6], all[8]).expect("readable"), all[7..9]);
    let mut feeder = Feeder::new(disk.clone(), disk, 1 << 20);
    let e = proposals(&mut feeder, all[10], zxid(2, 9)).unwrap_err();
    assert!(matches!(e, FeedError::EndsEarly { end, .. } if end == all[11]), "{e}");
}

/// What has been read ahead of a log that still grows is not taken for its end.
#[test]
fn proposals_that_are_appended_meanwhile_are_read() {
    let (disk, mut log, mut all) = two_epochs();
    let mut feeder = Feeder::new(disk.clone(), disk, 1 << 20);
    let mut at = all[0];
    for c in 6..=12 {
        let upto = all[all.len() - 1];
        assert_eq!(proposals(&mut feeder, at, upto).expect("readable").last().copied().unwrap_or(at), upto);
        at = upto;
        let next = zxid(2, c);
        log.append(next, &payload(next, None)).expect("appended");
        log.sync().expect("synced");
        all.push(next);
    }
}

#[test]
fn the_nearest_transaction_is_located() {
    let (disk, _log, all) = two_epochs();
    let mut feeder = Feeder::new(disk.clone(), disk, 1 << 20);
    let mut locate = |peer, chain| match feeder.answer(CONN, Ask::Locate { peer, chain }) {
        Ok(Fed::Located(nearest)) => nearest,
        other => panic!("{other:?}"),
    };
    assert_eq!(locate(zxid(1, 9), zxid(1, 0)), all[6], "a proposal of a former leader that nobody else has");
    assert_eq!(locate(zxid(1, 3), zxid(1, 0)), all[2]);
    assert_eq!(locate(zxid(2, 0), zxid(1, 2)), all[6]);
    assert_eq!(locate(zxid(3, 0), zxid(1, 7)), all[11]);
    assert_eq!(locate(zxid(1, 5), zxid(1, 5)), all[4]);
}

#[test]
fn a_survey_names_the_files() {
    let (disk, _log, _) = two_epochs();
    let mut feeder = Feeder::new(disk.clone(), disk.clone(), 100);
    let Ok(Fed::Survey(Survey { logs, snapshot: None })) = feeder.answer(CONN, Ask::Survey) else {
        panic!("no survey")
    };
    let firsts: Vec<Zxid> = logs.iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [zxid(1, 1), zxid(1, 4), zxid(1, 7), zxid(2, 3)]);
    assert!(logs.iter().all(|(_, len)| *len > 0));
    for z in [zxid(1, 2), zxid(2, 3), zxid(1, 7)] {
        take_snapshot(&disk, &Default::default(), z, Compression::None).expect("taken");
    }
    let Ok(Fed::Survey(Survey { snapshot: Some((newest, len)), .. })) = feeder.answer(CONN, Ask::Survey) else {
        panic!("no survey")
    };
    assert!(newest == zxid(2, 3) && len > 0);
}
