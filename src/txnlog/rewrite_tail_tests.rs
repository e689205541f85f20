//! The end of the log after a failed sync, and the end mark.

use super::crash_tests::{open, payload, small_log};
use super::end_mark::{self, Mark};
use super::recovery::RecoveryError;
use super::rewrite_tail::{self, FileEnd};
use super::scan::LogReader;
use super::writer::LogWriter;
use crate::oracle::replica::SMALL;
use crate::oracle::test_disk::{Fault, TestDisk};
use crate::types::Zxid;

/// A log of 1 to 4, followed by some of 5 to 8, whose sync failed: they are in memory, marked clean, and need not be on
/// the disk. Readers see them until power fails.
fn left_by_a_failed_sync(seed: u64) -> TestDisk {
    let disk = small_log(3, false);
    let r = open(&disk).unwrap();
    let mut log = LogWriter::new(disk.clone(), r.last, SMALL);
    log.append(Zxid(4), &payload(Zxid(4), None)).unwrap();
    log.sync().unwrap();
    for z in 5..=8 {
        log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
    }
    disk.fault_at(disk.ops(), Fault::SyncFails, seed);
    assert!(log.sync().is_err());
    drop(log);
    disk.restart();
    disk
}

/// A server starts, serves what it found, acknowledges further writes, and loses power. Returns the last zxid it had
/// found.
fn serve_and_lose_power(disk: &TestDisk, seed: u64) -> Zxid {
    let last = open(disk).unwrap_or_else(|e| panic!("seed {seed}: {e}")).last;
    assert!(last >= Zxid(4), "seed {seed}");
    let mut log = LogWriter::new(disk.clone(), last, SMALL);
    let next = Zxid(last.0 + 1);
    log.append(next, &payload(next, None)).unwrap();
    log.sync().unwrap();
    disk.power_cycle(seed);
    let r = open(disk).unwrap_or_else(|e| panic!("seed {seed}, after {last} was served: {e}"));
    assert_eq!(r.last, next, "seed {seed}");
    last
}

#[test]
fn what_a_failed_sync_left_in_memory_only_is_written_again_before_anything_is_built_on_it() {
    let found = (0..60).map(|seed| serve_and_lose_power(&left_by_a_failed_sync(seed), seed));
    let kept = found.filter(|last| *last > Zxid(4)).count();
    assert!(kept > 10, "{kept}: too little was left in memory");
}

#[test]
fn a_recovery_that_is_killed_leaves_nothing_that_the_next_one_believes() {
    for (seed, op) in (0..40).flat_map(|seed| (0..12).map(move |op| (seed, op))) {
        for fault in [Fault::Crash, Fault::SyncFails] {
            let disk = left_by_a_failed_sync(seed);
            disk.fault_at(disk.ops() + op, fault, seed);
            // It may have finished before that.
            let _ = open(&disk);
            disk.restart();
            serve_and_lose_power(&disk, seed);
        }
    }
}

/// The first sync of a new file failed, and power fails while the next process recovers.
#[test]
fn a_recovery_that_loses_power_proves_nothing_of_what_was_in_memory_only() {
    for (seed, op) in (0..60).flat_map(|seed| (0..12).map(move |op| (seed, op))) {
        let old = 1 + seed as i64 % 12;
        let disk = small_log(old, false);
        let mut log = LogWriter::new(disk.clone(), Zxid(old), SMALL);
        for z in old + 1..old + 4 {
            log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
        }
        disk.fault_at(disk.ops(), Fault::SyncFails, seed);
        assert!(log.sync().is_err());
        drop(log);
        disk.restart();
        disk.fault_at(disk.ops() + op, Fault::Crash, seed);
        let _ = open(&disk);
        disk.power_cycle(seed);
        let last = open(&disk).unwrap_or_else(|e| panic!("seed {seed}, power lost at {op}: {e}")).last;
        assert!(last >= Zxid(old), "seed {seed}, power lost at {op}: {last}");
    }
}

#[test]
fn a_page_that_is_dropped_while_recovery_works_is_noticed() {
    let disk = small_log(3, false);
    let mut end = FileEnd {
        name: "log.1".into(),
        len: disk.bytes("log.1").len() as u64,
        at: 0,
        durable: 0,
        mark: Mark { last: Zxid(3), chain: 0 },
        is_marked: false,
    };
    let mut log = LogReader::open(&disk, "log.1").unwrap();
    while log.next_record().unwrap().is_some() {}
    (end.at, end.durable, end.mark) = (log.position(), log.durable(), log.mark());
    assert!(end.durable > 16 && end.durable < end.at, "{end:?}");
    let whole = disk.fork();
    rewrite_tail::make_durable(&mut whole.clone(), std::slice::from_ref(&end)).unwrap();
    assert_eq!(whole.bytes("log.1").len() as u64, end.at + end_mark::LEN as u64);
    disk.damage("log.1", |b| b[end.durable as usize + 200] ^= 1);
    let e = rewrite_tail::make_durable(&mut disk.clone(), &[end]).unwrap_err();
    assert!(matches!(e, RecoveryError::Changed { .. }), "{e}");
}

/// When the log was idle for a moment, was closed or was recovered, damage to its last record is recognised too.
#[test]
fn rot_in_the_last_record_is_found_once_it_is_marked() {
    let marked: [fn(&TestDisk); 3] = [
        |disk| {
            let mut log = LogWriter::new(disk.clone(), Zxid(4), SMALL);
            log.append(Zxid(5), &payload(Zxid(5), None)).unwrap();
            assert!(log.is_marked(), "nothing is to be marked before the sync");
            log.sync().unwrap();
            assert!(!log.is_marked());
            log.mark().unwrap();
            assert!(log.is_marked());
        },
        |disk| {
            let mut log = LogWriter::new(disk.clone(), Zxid(4), SMALL);
            log.append(Zxid(5), &payload(Zxid(5), None)).unwrap();
            log.roll().unwrap();
            assert!(log.is_marked());
        },
        |disk| {
            let mut log = LogWriter::new(disk.clone(), Zxid(4), SMALL);
            log.append(Zxid(5), &payload(Zxid(5), None)).unwrap();
            log.sync().unwrap();
            drop(log);
            assert_eq!(open(disk).unwrap().last, Zxid(5));
        },
    ];
    for (how, mark) in marked.into_iter().enumerate() {
        let disk = small_log(4, true);
        mark(&disk);
        disk.power_cycle(how as u64);
        let bytes = disk.bytes("log.5");
        let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        for at in 16..used {
            let hurt = disk.fork();
            hurt.damage("log.5", |b| b[at] ^= 1 << (at % 8));
            match open(&hurt) {
                // The mark itself.
                _ if at >= used - end_mark::LEN => {
                    assert_eq!(open(&hurt).unwrap().last, Zxid(5), "way {how} byte {at}")
                }
                Err(RecoveryError::Corrupt { later: Some((_, Zxid(5))), .. }) => {}
                other => panic!("way {how}, byte {at}: {:?}", other.map(|r| r.last)),
            }
        }
        // Nothing is cut and nothing warned of; and the log continues over the mark.
        let r = open(&disk).unwrap();
        assert_eq!((r.last, r.report.cuts), (Zxid(5), vec![]));
    }
}

#[test]
fn a_torn_batch_over_a_mark_is_a_torn_batch() {
    for seed in 0..60 {
        let disk = small_log(2, true);
        let mut log = LogWriter::new(disk.clone(), Zxid(2), SMALL);
        log.append(Zxid(3), &payload(Zxid(3), None)).unwrap();
        log.sync().unwrap();
        log.mark().unwrap();
        for z in 4..=9 {
            log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
        }
        disk.power_cycle(seed);
        let r = open(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!((Zxid(3)..=Zxid(9)).contains(&r.last), "seed {seed}: {}", r.last);
        let bytes = disk.bytes("log.3");
        assert_eq!(
            Mark::read(&bytes[bytes.len() - end_mark::LEN..], (bytes.len() - end_mark::LEN) as u64).unwrap().last,
            r.last
        );
        assert_eq!(open(&disk).unwrap().report.cuts, []);
    }
}

#[test]
fn a_mark_of_other_records_is_damage() {
    let disk = small_log(2, false);
    open(&disk).unwrap();
    let bytes = disk.bytes("log.1");
    let at = bytes.len() - end_mark::LEN;
    disk.damage("log.1", |b| b[at..].copy_from_slice(&Mark { last: Zxid(3), chain: 7 }.bytes(at as u64)));
    let e = open(&disk).unwrap_err();
    assert!(matches!(e, RecoveryError::Corrupt { later: Some((_, Zxid(3))), .. }), "{e}");
}
