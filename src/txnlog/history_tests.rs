//! Which records may follow which: epochs, installed snapshots, peculiarities of Apache; and hostile bytes.

use super::crash_tests::{open, payload, take_snapshot};
use super::disk::Dir;
use super::names::{Compression, log_name};
use super::record::{FILE_HEADER, Record};
use super::recovery::RecoveryError;
use super::scan::{End, LogReader};
use super::snapshot_read::{self, Node, Sink};
use super::verify;
use super::writer::{LogOptions, LogWriter};
use crate::jute::Put;
use crate::oracle::replica::{SMALL, Seen, put_apache};
use crate::oracle::test_disk::TestDisk;
use crate::txn::{Txn, TxnHeader};
use crate::types::{Acl, AclId, Cxid, Epoch, Op, SessionId, Zxid};

fn zxid(epoch: i64, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

/// A log file as Apache writes it: without trailers, and with zeros at the end.
fn apache_file(disk: &TestDisk, payloads: &[Vec<u8>]) {
    let mut bytes = FILE_HEADER.to_vec();
    for p in payloads {
        put_apache(&mut bytes, p);
    }
    bytes.resize(bytes.len() + 500, 0);
    let first = Record::parse(&payloads[0]).unwrap().header.zxid;
    disk.put(&log_name(first), &bytes);
}

fn plain(zxids: impl IntoIterator<Item = Zxid>) -> Vec<Vec<u8>> {
    zxids.into_iter().map(|z| payload(z, None)).collect()
}

fn first_snapshot() -> TestDisk {
    let disk = TestDisk::new();
    take_snapshot(&disk, &Seen::default(), Zxid::ZERO, Compression::None).unwrap();
    disk
}

#[test]
fn a_new_epoch_begins_with_its_first_transaction() {
    for (first, ok) in [(1, true), (2, false), (7, false)] {
        let disk = first_snapshot();
        apache_file(&disk, &plain([zxid(1, 1), zxid(1, 2), zxid(3, first)]));
        let result = open(&disk);
        assert_eq!(result.is_ok(), ok, "{first}");
        if let Err(e) = result {
            assert!(matches!(e, RecoveryError::Hole { .. }), "{e}");
        }
    }
}

#[test]
fn gaps_and_steps_back_inside_an_epoch_are_refused() {
    for second in [1, 2, 4, 9] {
        let disk = first_snapshot();
        apache_file(&disk, &plain([Zxid(1), Zxid(2), Zxid(second)]));
        let e = open(&disk).unwrap_err();
        assert!(matches!(e, RecoveryError::Hole { after: Zxid(2), .. }), "{e}");
    }
}

/// Apache's leader answers an undecodable write with an error transaction that has the zxid of the transaction before
/// it.
#[test]
fn an_error_that_reuses_the_last_zxid_is_apaches_doing() {
    let disk = first_snapshot();
    let mut echo = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Cxid(1), zxid: Zxid(2), time_ms: 1, op: Op::ERROR }.put(&mut echo);
    Txn::Error { err: -5 }.put(&mut echo);
    let mut all = plain([Zxid(1), Zxid(2)]);
    all.push(echo);
    all.extend(plain([Zxid(3)]));
    apache_file(&disk, &all);
    let r = open(&disk).unwrap();
    assert_eq!((r.last, r.report.replayed), (Zxid(3), 3));
}

/// A follower got a snapshot from its leader: there is a gap in its log, which only that snapshot covers.
#[test]
fn a_log_may_jump_where_a_snapshot_was_installed() {
    for roll in [false, true] {
        let disk = first_snapshot();
        let mut state = Seen::default();
        let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
        for z in 1..=3 {
            log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
            state.0.insert(z, payload(Zxid(z), None));
        }
        log.sync().unwrap();
        state.0.insert(zxid(2, 7).0, vec![9]);
        take_snapshot(&disk, &state, zxid(2, 7), Compression::None).unwrap();
        log.restart_at(zxid(2, 7)).unwrap();
        for c in 8..=10 {
            log.append(zxid(2, c), &payload(zxid(2, c), None)).unwrap();
            log.sync().unwrap();
            if roll {
                log.roll().unwrap();
            }
        }
        let r = open(&disk).unwrap();
        assert_eq!((r.last, r.report.replayed), (zxid(2, 10), 3));
        disk.damage("snapshot.200000007", |b| b[30] ^= 1);
        let e = open(&disk).unwrap_err();
        assert!(matches!(e, RecoveryError::Hole { after: Zxid(3), .. }), "{e}");
        assert!(e.to_string().contains("written after 0x200000007"), "{e}");
    }
}

/// A leader takes a snapshot at the zxid of its epoch, which no transaction has.
#[test]
fn a_snapshot_may_stand_at_an_epochs_zxid() {
    let disk = first_snapshot();
    apache_file(&disk, &plain([zxid(1, 1), zxid(1, 2)]));
    let state = open(&disk).unwrap().state;
    take_snapshot(&disk, &state, zxid(2, 0), Compression::None).unwrap();
    assert_eq!(open(&disk).unwrap().last, zxid(2, 0));
    apache_file(&disk, &plain([zxid(2, 1), zxid(2, 2)]));
    let r = open(&disk).unwrap();
    assert_eq!((r.last, r.report.replayed), (zxid(2, 2), 2));
}

#[test]
fn a_torn_apache_tail_before_a_new_epoch_is_accepted_but_a_rotten_one_is_not() {
    let disk = first_snapshot();
    apache_file(&disk, &plain([zxid(1, 1), zxid(1, 2)]));
    apache_file(&disk, &plain([zxid(2, 1)]));
    let file = "log.100000001";
    let used = disk.bytes(file).iter().rposition(|b| *b != 0).unwrap() + 1;
    let torn = disk.fork();
    torn.damage(file, |b| b[used - 9..used].fill(0));
    let r = open(&torn).unwrap();
    assert_eq!((r.last, r.report.replayed, r.report.cuts.len()), (zxid(2, 1), 2, 1));
    // The frame is complete, so this was no torn write, and the record may have been acknowledged. Apache refuses it as
    // well.
    let rotten = disk.fork();
    rotten.damage(file, |b| b[used - 9] ^= 1);
    let e = open(&rotten).unwrap_err();
    assert!(matches!(e, RecoveryError::Corrupt { .. }), "{e}");
}

#[test]
fn our_log_goes_on_after_apaches_and_back() {
    let disk = first_snapshot();
    apache_file(&disk, &plain((1..=3).map(Zxid)));
    let mut log = LogWriter::new(disk.clone(), open(&disk).unwrap().last, SMALL);
    for z in 4..=6 {
        log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
    }
    log.roll().unwrap();
    drop(log);
    apache_file(&disk, &plain((7..=8).map(Zxid)));
    let r = open(&disk).unwrap();
    assert_eq!((r.last, r.report.replayed, r.report.foreign), (Zxid(8), 8, 5));
    let sound = verify::logs(&disk).unwrap();
    assert!(sound.iter().all(|v| v.is_sound(false)), "{sound:?}");
    assert_eq!(sound.iter().map(|v| (v.records, v.chained)).collect::<Vec<_>>(), [(3, 0), (3, 3), (2, 0)]);
    disk.clone().remove("log.4").unwrap();
    assert_eq!(verify::logs(&disk).unwrap()[1].holes, [(16, Zxid(3), Zxid(7))]);
}

#[test]
fn records_exchanged_or_taken_out_are_found_by_the_chain() {
    let disk = first_snapshot();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    // Error transactions: all their records have the same length.
    for z in 1..=6 {
        let mut p = Vec::new();
        TxnHeader { session: SessionId(1), cxid: Cxid(z), zxid: Zxid(z.into()), time_ms: 1, op: Op::ERROR }.put(&mut p);
        Txn::Error { err: -101 }.put(&mut p);
        log.append(Zxid(z.into()), &p).unwrap();
        log.sync().unwrap();
    }
    let bytes = disk.bytes("log.1");
    let len = 12 + 36 + 20 + 1;
    let record = |i: usize| bytes[16 + i * len..16 + (i + 1) * len].to_vec();
    for (name, order) in
        [("exchanged", vec![0, 2, 1, 3, 4, 5]), ("taken out", vec![0, 1, 3, 4, 5]), ("twice", vec![0, 1, 1, 2, 3])]
    {
        let mut hurt = FILE_HEADER.to_vec();
        order.iter().for_each(|i| hurt.extend(record(*i)));
        hurt.resize(4096, 0);
        disk.put("log.1", &hurt);
        let e = open(&disk).unwrap_err();
        assert!(matches!(e, RecoveryError::Corrupt { .. }), "{name}: {e}");
        assert!(e.to_string().contains("does not belong"), "{name}: {e}");
    }
}

#[test]
fn segments_grow_roll_and_keep_zeros_after_the_last_record() {
    let disk = first_snapshot();
    let options = LogOptions { roll_at_bytes: Some(20_000), ..SMALL };
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, options);
    let mut z = 0;
    for len in [1, 4000, 4096, 100_000, 5, 0] {
        z += 1;
        let mut p = payload(Zxid(z), None);
        p.truncate(TxnHeader::LEN);
        Txn::SetData { path: "/big".into(), data: Some(vec![7; len].into()), version: 1 }.put(&mut p);
        log.append(Zxid(z), &p).unwrap();
        assert_eq!(log.sync().unwrap(), Zxid(z));
        let bytes = disk.bytes(log.file_name());
        let rolled = len == 100_000;
        assert_eq!(bytes.len().is_multiple_of(4096), !rolled);
        assert_eq!(bytes[bytes.len() - 12..] == [0; 12], !rolled);
        // After the last record of a closed file there is an end mark.
        let last = bytes.len() - super::end_mark::LEN;
        assert_eq!(bytes[last - 1] == b'B' && bytes[last..].starts_with(b"ZBRSYNC1"), rolled);
    }
    assert_eq!(disk.names(), ["log.1", "log.5", "snapshot.0"]);
    assert_eq!(open(&disk).unwrap().report.replayed, 6);
}

/// With segments small enough to be made ahead on this disk, and with larger ones than it has space for.
#[test]
fn on_a_small_disk_what_is_there_is_used_to_the_last_block() {
    // 24 blocks and a bit.
    const SPACE: u64 = 100_001;
    for prealloc_bytes in [16 << 10, 1 << 20] {
        let disk = first_snapshot();
        let bytes = || disk.list().unwrap().iter().map(|(_, len)| len).sum::<u64>();
        let before = bytes();
        disk.limit_space(Some(before + SPACE));
        let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, LogOptions { prealloc_bytes, ..SMALL });
        let (mut z, mut lengths, mut made_ahead) = (0, std::collections::BTreeSet::new(), 0);
        let is_made_ahead = || disk.names().iter().any(|name| name == "new.segment");
        let error = loop {
            z += 1;
            if let Err(e) = log.append(Zxid(z), &payload(Zxid(z), None)).and_then(|()| log.sync()) {
                break e;
            }
            // It takes space that the log needs later.
            log.prepare();
            made_ahead += u32::from(is_made_ahead());
            lengths.insert(disk.bytes(log.file_name()).len());
            assert!(z < 10_000, "the disk is never full");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(made_ahead > 0, prealloc_bytes < SPACE, "a segment was made ahead {made_ahead} times");
        assert!(!is_made_ahead(), "the segment made ahead was kept, and the log failed for want of its space");
        assert!(lengths.iter().all(|len| len.is_multiple_of(4096)) && lengths.len() > 1, "{lengths:?}");
        assert_eq!(bytes() - before, SPACE / 4096 * 4096, "bytes that are used of {SPACE}, {lengths:?}");
        assert_eq!(error.to_string(), "no space left for 4096 bytes (small disk)", "what the next record needs");
        // What was told to be durable is there.
        assert_eq!(open(&disk).unwrap().last, Zxid(z - 1));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_said_to_be_durable_again() {
    let disk = first_snapshot();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    log.append(Zxid(1), &payload(Zxid(1), None)).unwrap();
    disk.crash_at(disk.ops());
    assert!(log.sync().is_err());
    disk.restart();
    assert!(log.sync().unwrap_err().to_string().contains("restart the server"));
    assert!(log.append(Zxid(2), &payload(Zxid(2), None)).is_err());
    assert!(log.roll().is_err());
    assert_eq!(log.durable(), Zxid::ZERO);
}

#[test]
#[should_panic(expected = "log append of 0x3 after 0x1")]
fn a_hole_of_our_own_is_a_bug() {
    let mut log = LogWriter::new(TestDisk::new(), Zxid::ZERO, SMALL);
    log.append(Zxid(1), &payload(Zxid(1), None)).unwrap();
    let _ = log.append(Zxid(3), &payload(Zxid(3), None));
}

struct Everything(usize);

impl Sink for Everything {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        self.0 += 1;
        Ok(())
    }
    fn acl(&mut self, _: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.0 += list.len();
        Ok(())
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.0 += node.path.len();
        Ok(())
    }
}

#[test]
fn an_image_from_a_connection_is_read_to_its_last_byte_and_no_further() {
    let disk = TestDisk::new();
    let name = take_snapshot(&disk, &Seen([(7, vec![3; 9])].into()), Zxid(7), Compression::None).unwrap();
    let bytes = disk.bytes(&name);
    // Seal, digest block and zxid block are not part of it.
    let image = &bytes[16..bytes.len() - 13 - 33 - 21];
    let mut stream = image.to_vec();
    stream.extend(b"\0\0\0\x0aBenWasHere");
    let mut rest = &stream[..];
    snapshot_read::read_image(&mut rest, &mut Everything(0)).unwrap();
    assert_eq!(rest, b"\0\0\0\x0aBenWasHere");
    for at in 0..image.len() {
        assert!(snapshot_read::read_image(&image[..at], &mut Everything(0)).is_err());
    }
}

#[test]
fn hostile_bytes_are_errors() {
    let mut rng = fastrand::Rng::with_seed(7);
    let disk = first_snapshot();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    for z in 1..=3 {
        log.append(Zxid(z), &payload(Zxid(z), Some(1))).unwrap();
    }
    log.sync().unwrap();
    let (good_log, good_snapshot) = (disk.bytes("log.1"), disk.bytes("snapshot.0"));
    for round in 0..400 {
        let mut bytes = if round % 2 == 0 { good_log.clone() } else { good_snapshot.clone() };
        for _ in 0..rng.usize(1..30) {
            let at = rng.usize(0..bytes.len().min(2000));
            let n = rng.usize(1..9).min(bytes.len() - at);
            let value = [0, 0xff, 0x7f, 1][rng.usize(0..4)];
            bytes[at..at + n].fill(value);
        }
        bytes.truncate(rng.usize(0..=bytes.len()));
        disk.put("log.1", &bytes);
        let mut reader = LogReader::open(&disk, "log.1").unwrap();
        while reader.next_record().unwrap().is_some() {}
        assert!(reader.end().unwrap().at() <= bytes.len() as u64);
        for name in ["snapshot.1", "snapshot.1.gz", "snapshot.1.snappy"] {
            disk.put(name, &bytes);
            assert!(verify::read_snapshot(&disk, name, &mut Everything(0)).is_err());
        }
    }
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    let disk = TestDisk::new();
    let mut bytes = super::snapshot::FILE_HEADER.to_vec();
    bytes.put_i32(0);
    bytes.put_i32(0);
    bytes.put_i32(i32::MAX);
    disk.put("snapshot.1", &bytes);
    let e = verify::read_snapshot(&disk, "snapshot.1", &mut Everything(0)).unwrap_err();
    assert!(e.to_string().contains("too early"), "{e}");
    let mut bytes = FILE_HEADER.to_vec();
    bytes.put_i64(1);
    bytes.put_i32(i32::MAX);
    disk.put("log.1", &bytes);
    let mut log = LogReader::open(&disk, "log.1").unwrap();
    assert!(log.next_record().unwrap().is_none());
    assert!(matches!(log.end(), Some(End::Torn { at: 16, .. })));
}
