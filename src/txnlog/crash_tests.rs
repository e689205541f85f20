//! Crashes, damage and recovery, with [`TestDisk`].

use std::io;

use super::disk::Dir;
use super::end_mark;
use super::names::{Compression, log_name};
use super::record::Record;
use super::recovery::{Recovered, RecoveryError, RecoveryOptions, recover};
use super::writer::LogWriter;
use crate::oracle::replica::{SMALL, Seen, digest_of};
use crate::oracle::test_disk::TestDisk;
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::{Cxid, Epoch, Op, SessionId, Zxid};

fn data_of(z: Zxid) -> Vec<u8> {
    // Some records are larger than a sector, so that a batch can be torn inside a record.
    vec![z.0 as u8 | 1; 20 + (z.0 as usize * 131) % 900]
}

/// Header, transaction and digest, as in a PROPOSAL.
pub(crate) fn payload(z: Zxid, digest: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    TxnHeader { session: SessionId(5), cxid: Cxid(1), zxid: z, time_ms: 1, op: Op::SET_DATA }.put(&mut out);
    Txn::SetData { path: "/a".into(), data: Some(data_of(z).into()), version: 1 }.put(&mut out);
    if let Some(digest) = digest {
        TxnDigest { version: 2, digest }.put(&mut out);
    }
    out
}

/// 20 transactions in three epochs.
fn history() -> Vec<Zxid> {
    let mut all: Vec<Zxid> = (1..=6).map(Zxid).collect();
    all.extend((1..=9).map(|c| Zxid::new(Epoch(1), c)));
    all.extend((1..=5).map(|c| Zxid::new(Epoch(4), c)));
    all
}

pub(crate) fn open(disk: &TestDisk) -> Result<Recovered<Seen>, RecoveryError> {
    recover(&mut disk.clone(), &mut disk.clone(), Seen::default, RecoveryOptions::default())
}

pub(crate) fn take_snapshot(disk: &TestDisk, state: &Seen, z: Zxid, compression: Compression) -> io::Result<String> {
    state.save(disk, z, &[(SessionId(5), 4000)], compression)
}

/// Transactions 1 to `last`; after every `each` of them a snapshot is taken and the log begins a new file.
pub(crate) fn with_snapshots(last: i64, each: i64) -> TestDisk {
    let disk = TestDisk::new();
    let mut state = Seen::default();
    take_snapshot(&disk, &state, Zxid::ZERO, Compression::None).unwrap();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    for z in 1..=last {
        log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
        state.0.insert(z, payload(Zxid(z), None));
        if z % each == 0 {
            log.roll().unwrap();
            take_snapshot(&disk, &state, Zxid(z), Compression::None).unwrap();
        }
    }
    disk
}

/// What one run of a server achieved before it died.
#[derive(Debug, Default)]
struct Run {
    proposed: usize,
    acked: usize,
}

/// Starts a server, then logs `history[from..]` in batches, with rolls and snapshots in between, until something fails.
fn serve(disk: &TestDisk, history: &[Zxid], run: &mut Run) -> Result<(), String> {
    let r = open(disk).map_err(|e| e.to_string())?;
    let from = history.iter().position(|z| *z > r.last).unwrap_or(history.len());
    assert_eq!(r.state.0.len(), from, "the history has a hole or too much: {:?}", r.report);
    (run.proposed, run.acked) = (run.proposed.max(from), run.acked.max(from));
    let mut state = r.state;
    if r.fresh {
        take_snapshot(disk, &state, Zxid::ZERO, Compression::None).map_err(|e| e.to_string())?;
    }
    let mut log = LogWriter::new(disk.clone(), r.last, SMALL);
    for (i, z) in history.iter().enumerate().skip(from) {
        state.0.insert(z.0, payload(*z, None));
        run.proposed = i + 1;
        log.append(*z, &payload(*z, Some(digest_of(state.0.keys().copied())))).map_err(|e| e.to_string())?;
        if i % 3 == 2 || i + 1 == history.len() {
            assert_eq!(log.sync().map_err(|e| e.to_string())?, *z);
            run.acked = i + 1;
        }
        if i % 7 == 4 {
            log.prepare();
        }
        if i % 7 == 6 {
            log.roll().map_err(|e| e.to_string())?;
            run.acked = i + 1;
            take_snapshot(disk, &state, *z, Compression::None).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// T1: a crash at every disk operation, twice in a row. Nothing acknowledged is lost, nothing appears that was not
/// proposed, and the server always starts again without help.
#[test]
fn every_synced_record_survives_a_crash_at_every_operation() {
    let history = history();
    let whole = TestDisk::new();
    let mut run = Run::default();
    serve(&whole, &history, &mut run).unwrap();
    let total = whole.ops();
    assert!(total > 80, "{total}");
    for first in 0..=total {
        for seed in 0..10 {
            let disk = TestDisk::new();
            let mut run = Run::default();
            disk.crash_at(first);
            let died = serve(&disk, &history, &mut run);
            assert_eq!(died.is_err(), first < total);
            for again in 0..2 {
                if seed == 5 {
                    disk.restart()
                } else {
                    disk.power_cycle(first * 10 + seed + 1000 * again)
                }
                let before = (run.proposed, run.acked);
                disk.crash_at(disk.ops() + (first * 7 + seed) % 23);
                match serve(&disk, &history, &mut run) {
                    Ok(()) => {}
                    Err(e) => assert!(e.contains("machine is down"), "crash at {first}, seed {seed}: {e}"),
                }
                assert!(run.acked >= before.1);
            }
            disk.power_cycle(first + seed);
            let r = open(&disk).unwrap_or_else(|e| panic!("crash at {first}, seed {seed}: {e}"));
            let kept = r.state.0.len();
            assert!(
                (run.acked..=run.proposed).contains(&kept),
                "{first}/{seed}: kept {kept} of {run:?} {:?}",
                r.report
            );
            for (z, data) in history.iter().zip(r.state.0.iter()) {
                assert_eq!((z.0, payload(*z, None)), (*data.0, data.1.clone()));
            }
            assert_eq!(r.report.digest_mismatch_count, 0);
            assert_eq!(r.report.bad_snapshots, []);
        }
    }
}

/// A log of `n` records, each synced on its own, and a first snapshot.
pub(super) fn small_log(n: i64, with_digest: bool) -> TestDisk {
    let disk = TestDisk::new();
    take_snapshot(&disk, &Seen::default(), Zxid::ZERO, Compression::None).unwrap();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    for z in 1..=n {
        log.append(Zxid(z), &payload(Zxid(z), with_digest.then(|| digest_of(1..=z)))).unwrap();
        log.sync().unwrap();
    }
    disk
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_is_in_the_last_record() {
    for with_digest in [true, false] {
        let disk = small_log(4, with_digest);
        let bytes = disk.bytes("log.1");
        let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        let mut ends = Vec::new();
        let mut log = super::scan::LogReader::open(&disk, "log.1").unwrap();
        while log.next_record().unwrap().is_some() {
            ends.push(log.position() as usize);
        }
        assert_eq!((ends.len(), ends[3]), (4, used));
        for at in (0..used + 40).step_by(if with_digest { 1 } else { 3 }) {
            {
                let bit = at % 8;
                let hurt = disk.fork();
                hurt.damage("log.1", |b| b[at] ^= 1 << bit);
                let result = open(&hurt);
                let kept = result.as_ref().map(|r| r.state.0.len()).ok();
                match at {
                    // Version and database id; Apache ignores them too.
                    4..16 => assert_eq!(kept, Some(4)),
                    _ if at < ends[2] => {
                        let e = result.err().unwrap_or_else(|| panic!("byte {at} bit {bit}: served {kept:?}"));
                        assert!(matches!(e, RecoveryError::Corrupt { .. }), "byte {at} bit {bit}: {e}");
                    }
                    _ if at < used => {
                        let r = result.unwrap();
                        assert_eq!((r.state.0.len(), r.report.cuts.len()), (3, 1), "byte {at} bit {bit}");
                        assert_eq!(r.report.cuts[0].at, ends[2] as u64);
                        assert_eq!(hurt.bytes("log.1").len(), ends[2] + end_mark::LEN);
                    }
                    _ => {
                        let r = result.unwrap();
                        assert_eq!((r.state.0.len(), r.report.cuts.len()), (4, 1));
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_changed_when_recovery_refuses() {
    let disk = small_log(4, true);
    disk.damage("log.1", |b| b[100] ^= 1);
    let before = disk.bytes("log.1");
    let text = open(&disk).unwrap_err().to_string();
    assert!(text.contains("log.1") && text.contains("byte 16") && text.contains("0x2"), "{text}");
    assert_eq!(disk.bytes("log.1"), before);
}

#[test]
fn a_torn_batch_with_whole_records_after_the_hole_is_cut_not_refused() {
    let disk = small_log(2, true);
    let mut log = LogWriter::new(disk.clone(), Zxid(2), SMALL);
    for z in 3..=8 {
        log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
        if z == 4 {
            log.sync().unwrap();
        }
    }
    drop(log);
    // 5 to 8 are one batch that was never synced; the middle of 5 did not reach the disk.
    let mut reader = super::scan::LogReader::open(&disk, "log.3").unwrap();
    reader.next_record().unwrap();
    reader.next_record().unwrap();
    let at = reader.position() as usize;
    let hurt = disk.fork();
    hurt.damage("log.3", |b| b[at..at + 60].fill(0));
    let r = open(&hurt).unwrap();
    assert_eq!((r.last, r.report.cuts[0].unsynced_records), (Zxid(4), 3));
    // The same hole in bytes that were synced is corruption.
    let hurt = disk.fork();
    hurt.damage("log.3", |b| b[at - 60..at].fill(0));
    assert!(matches!(open(&hurt), Err(RecoveryError::Corrupt { .. })));
}

/// Three log files (1-3, 4-6, 7-9) after a first snapshot.
fn three_files() -> TestDisk {
    let disk = TestDisk::new();
    take_snapshot(&disk, &Seen::default(), Zxid::ZERO, Compression::None).unwrap();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    for z in 1..=9 {
        log.append(Zxid(z), &payload(Zxid(z), None)).unwrap();
        log.sync().unwrap();
        if z % 3 == 0 {
            log.roll().unwrap();
        }
    }
    disk
}

#[test]
fn holes_between_files_are_refused() {
    let disk = three_files();
    assert_eq!(disk.names(), ["log.1", "log.4", "log.7", "snapshot.0"]);
    assert_eq!(open(&disk).unwrap().state.0.len(), 9);
    for missing in ["log.1", "log.4"] {
        let hurt = disk.fork();
        hurt.clone().remove(missing).unwrap();
        let e = open(&hurt).unwrap_err();
        assert!(matches!(e, RecoveryError::Hole { .. }), "{missing}: {e}");
    }
    // The end of a file that is not the last one: missing, or torn.
    for damage in [0, 1] {
        let hurt = disk.fork();
        hurt.damage("log.4", |b| {
            let used = b.len() - end_mark::LEN;
            if damage == 0 { b.truncate(used - 3) } else { b[used - 30..].fill(0) }
        });
        let e = open(&hurt).unwrap_err();
        assert!(matches!(e, RecoveryError::Hole { after: Zxid(5), found: Zxid(7), .. }), "{e}");
    }
    let hurt = disk.fork();
    hurt.clone().rename("log.4", "log.5").unwrap();
    assert!(matches!(open(&hurt), Err(RecoveryError::Misnamed { .. })));
    let hurt = disk.fork();
    hurt.damage("log.4", Vec::clear);
    assert!(matches!(open(&hurt), Err(RecoveryError::Hole { .. })));
}

#[test]
fn a_crash_tail_before_a_file_that_goes_on_is_accepted_and_cut() {
    let disk = three_files();
    disk.damage("log.4", |b| {
        let used = b.iter().rposition(|b| *b != 0).unwrap() + 1;
        b.truncate(used);
        b.extend([7; 20]);
    });
    let r = open(&disk).unwrap();
    assert_eq!((r.state.0.len(), r.report.cuts.len(), r.report.cuts[0].file.as_str()), (9, 1, "log.4"));
    assert_eq!(open(&disk).unwrap().report.cuts, []);
}

#[test]
fn a_file_without_records_gives_its_name_back() {
    for bytes in [&b""[..], b"ZKL", &super::record::FILE_HEADER, &[0; 9], &[0; 8192]] {
        let disk = small_log(2, false);
        disk.put("log.3", bytes);
        let r = open(&disk).unwrap();
        assert_eq!((r.last, disk.names()), (Zxid(2), vec!["log.1".to_owned(), "snapshot.0".to_owned()]));
        assert!(r.report.cuts[0].removed);
    }
}

#[test]
fn a_file_without_records_does_not_hide_the_one_before_it() {
    let disk = three_files();
    let state = open(&disk).unwrap().state;
    take_snapshot(&disk, &state, Zxid(9), Compression::None).unwrap();
    disk.put("log.a", b"");
    assert_eq!(open(&disk.fork()).unwrap().last, Zxid(9));
    // Once log.a is gone the next start would refuse these files, so this start must refuse them too.
    disk.damage("log.7", |b| b[100] ^= 1);
    assert!(matches!(open(&disk), Err(RecoveryError::Corrupt { .. })));
    assert!(disk.names().contains(&"log.a".to_owned()));
}

#[test]
fn a_damaged_snapshot_falls_back_only_when_the_log_covers_it() {
    let disk = three_files();
    let state = open(&disk).unwrap().state;
    let first_six = Seen(state.0.iter().take(6).map(|(z, d)| (*z, d.clone())).collect());
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = disk.fork();
        let name = take_snapshot(&disk, &first_six, Zxid(6), compression).unwrap();
        let r = open(&disk).unwrap();
        assert_eq!((r.report.snapshot, r.report.replayed), (Some(name.clone()), 3));
        assert_eq!(r.state, state);
        assert_eq!(r.sessions.get(&SessionId(5)), Some(&4000));
        let len = disk.bytes(&name).len();
        let hurt = disk.fork();
        hurt.damage(&name, |b| b[len / 2] ^= 4);
        let r = open(&hurt).unwrap();
        assert_eq!((r.state, r.report.replayed, r.report.bad_snapshots.len()), (state.clone(), 9, 1));
        // Without the log between them, the older snapshot alone would be a shorter history.
        for gone in ["log.4", "log.7"] {
            hurt.clone().remove(gone).unwrap();
        }
        let e = open(&hurt).unwrap_err();
        assert!(matches!(e, RecoveryError::EndsBeforeSnapshot { last: Zxid(3), .. }), "{e}");
    }
}

#[test]
fn a_snapshot_that_ends_before_the_zxid_of_its_name_is_not_one() {
    let disk = three_files();
    let state = open(&disk).unwrap().state;
    let first_six = Seen(state.0.iter().take(6).map(|(z, d)| (*z, d.clone())).collect());
    let name = take_snapshot(&disk, &first_six, Zxid(6), Compression::None).unwrap();
    let renamed = |to: &str| {
        let disk = disk.fork();
        disk.clone().rename(&name, to).unwrap();
        disk
    };
    // This snapshot would leave out 7 and 8, but the log has them.
    let r = open(&renamed("snapshot.8")).unwrap();
    assert_eq!((r.state, r.report.replayed), (state.clone(), 9));
    let [(bad, why)] = &r.report.bad_snapshots[..] else { panic!("{:?}", r.report.bad_snapshots) };
    assert!(bad == "snapshot.8" && why.contains("ends at 0x6, before the 0x8 of its name"), "{bad}: {why}");
    // Here nothing has them.
    let e = open(&renamed("snapshot.c")).unwrap_err();
    assert!(matches!(e, RecoveryError::EndsBeforeSnapshot { last: Zxid(9), .. }), "{e}");
    // A snapshot of Apache may contain later transactions than its name says, because Apache writes it while it serves.
    let r = open(&renamed("snapshot.5")).unwrap();
    assert_eq!((r.state, r.report.replayed), (state, 4));
}

#[test]
fn every_cut_and_flip_of_a_snapshot_is_found() {
    let disk = TestDisk::new();
    let name = take_snapshot(&disk, &Seen([(1, vec![1; 40])].into()), Zxid(1), Compression::None).unwrap();
    let bytes = disk.bytes(&name);
    for at in 0..bytes.len() {
        let hurt = disk.fork();
        hurt.damage(&name, |b| b[at] ^= 0x10);
        // Unlike in a log, version and database id are covered by the seal.
        assert!(matches!(open(&hurt), Err(RecoveryError::NoValidSnapshot { .. })), "flip at {at}");
        let hurt = disk.fork();
        hurt.damage(&name, |b| b.truncate(at));
        // A file that ends after a complete seal could come from an older version.
        let ends_whole = at == bytes.len() - 21 || at == bytes.len() - 21 - 33;
        assert_eq!(open(&hurt).is_ok(), ends_whole, "cut at {at}");
    }
}

#[test]
fn an_empty_directory_is_new_only_if_it_may_be() {
    let disk = TestDisk::new();
    let r = open(&disk).unwrap();
    assert_eq!((r.fresh, r.last), (true, Zxid::ZERO));
    let options = RecoveryOptions { may_create: false, ..RecoveryOptions::default() };
    let r = recover(&mut disk.clone(), &mut disk.clone(), Seen::default, options).unwrap();
    assert_eq!((r.fresh, r.last), (true, Zxid::NONE));
    // The very first snapshot, torn.
    let zeros = [0; 100];
    let begun: [(&str, &[u8]); 6] = [
        ("snapshot.0", b""),
        ("snapshot.0", b"ZKSN\0\0"),
        ("snapshot.0", b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
        ("snapshot.0", &zeros),
        ("snapshot.0.gz", b"\x1f\x8b\x08"),
        ("snapshot.0.snappy", b"\x82SNAP"),
    ];
    for (name, bytes) in begun {
        let disk = disk.fork();
        disk.put(name, bytes);
        assert!(open(&disk).unwrap().fresh, "{name} {bytes:?}");
    }
    for (name, bytes) in [("snapshot.0", &b"a text"[..]), ("snapshot.0.gz", b"a text"), ("snapshot.5", b"ZKSN")] {
        let disk = disk.fork();
        disk.put(name, bytes);
        assert!(matches!(open(&disk), Err(RecoveryError::NoValidSnapshot { .. })), "{name}");
        assert_eq!(disk.bytes(name), bytes);
    }
}

/// The beginning of a log, or all of it, was replaced by something that no crash leaves.
#[test]
fn garbage_where_a_log_should_be_is_refused_and_left_alone() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut noise = |n: usize| std::iter::repeat_with(|| rng.u8(..)).take(n).collect::<Vec<u8>>();
    let whole = small_log(10, true);
    let log = whole.bytes("log.1");
    let zeros = log.iter().rposition(|b| *b != 0).unwrap() + 1 + end_mark::LEN;
    let mut others = vec![
        noise(4096),
        noise(3),
        noise(70_000),
        whole.bytes("snapshot.0"),
        b"text\n".repeat(900),
        b"#".to_vec(),
        [&b"ZKL"[..], b"a text"].concat(),
        [&super::record::FILE_HEADER[..8], &noise(4088)].concat(),
        [&super::record::FILE_HEADER[..], &noise(4080)].concat(),
        [&b"ZKLG"[..], &noise(12), &[0; 4080]].concat(),
        vec![0; zeros],
        [&super::record::FILE_HEADER[..], &vec![0; zeros - 16]].concat(),
        [&vec![0; 4096], &noise(4096)[..]].concat(),
    ];
    // Complete records that were all in one unsynced batch, without the file header.
    let mut headless = log.clone();
    headless[..4].fill(0);
    others.push(headless);
    for (i, bytes) in others.iter().enumerate() {
        // The only log, the last log, and a log that others follow.
        for (disk, name) in [(whole.fork(), "log.1"), (three_files(), "log.7"), (three_files(), "log.4")] {
            disk.damage(name, |b| b.clone_from(bytes));
            let before = disk.names();
            let e = open(&disk).err().unwrap_or_else(|| panic!("{i} in {name} was taken for a torn write"));
            assert!(matches!(&e, RecoveryError::Corrupt { file, .. } if file == name), "{i} {name}: {e}");
            assert!(e.to_string().contains(name), "{e}");
            assert_eq!((disk.bytes(name), disk.names()), (bytes.clone(), before), "{i} {name}");
            let end = super::verify::log_file(&disk, name, None, |_, _| {}).unwrap().end;
            assert!(matches!(end, super::scan::End::Corrupt { .. }), "{i} {name}: {end:?}");
        }
    }
}

#[test]
fn logs_without_a_snapshot_need_trust() {
    let disk = small_log(3, false);
    disk.clone().remove("snapshot.0").unwrap();
    assert!(matches!(open(&disk), Err(RecoveryError::LogsWithoutSnapshot { .. })));
    let options = RecoveryOptions { trust_empty_snapshot: true, ..RecoveryOptions::default() };
    let r = recover(&mut disk.clone(), &mut disk.clone(), Seen::default, options).unwrap();
    assert_eq!((r.last, r.fresh, r.state.0.len()), (Zxid(3), false, 3));
}

#[test]
fn exchanged_directories_are_refused() {
    let (snap, log) = (TestDisk::new(), TestDisk::new());
    log.put("snapshot.0", b"x");
    let e = recover(&mut snap.clone(), &mut log.clone(), Seen::default, RecoveryOptions::default()).unwrap_err();
    assert!(matches!(e, RecoveryError::SnapshotsInLogDir { .. }));
    let e = recover(&mut log.clone(), &mut snap.clone(), Seen::default, RecoveryOptions::default());
    assert!(matches!(e, Err(RecoveryError::NoValidSnapshot { .. }) | Ok(_)));
    snap.put("log.1", b"x");
    let e = recover(&mut snap.clone(), &mut TestDisk::new(), Seen::default, RecoveryOptions::default()).unwrap_err();
    assert!(matches!(e, RecoveryError::LogsInSnapDir { .. }));
}

#[test]
fn wrong_digests_are_reported_with_their_zxid() {
    let disk = TestDisk::new();
    take_snapshot(&disk, &Seen::default(), Zxid::ZERO, Compression::None).unwrap();
    let mut log = LogWriter::new(disk.clone(), Zxid::ZERO, SMALL);
    for z in 1..=3 {
        let digest = if z == 2 { 1 } else { digest_of(1..=z) };
        log.append(Zxid(z), &payload(Zxid(z), Some(digest))).unwrap();
    }
    log.sync().unwrap();
    let report = open(&disk).unwrap().report;
    assert_eq!(report.digest_mismatch_count, 1);
    assert_eq!((report.digest_mismatches[0].zxid, report.digest_mismatches[0].stored), (Zxid(2), 1));
}

#[test]
fn the_tail_keeps_the_last_proposals_as_they_were() {
    let disk = small_log(9, true);
    let options = RecoveryOptions { keep_last: 4, ..RecoveryOptions::default() };
    let r = recover(&mut disk.clone(), &mut disk.clone(), Seen::default, options).unwrap();
    assert_eq!(r.tail.iter().map(|l| l.zxid.0).collect::<Vec<_>>(), [6, 7, 8, 9]);
    for l in &r.tail {
        assert_eq!(l.payload, payload(l.zxid, Some(digest_of(1..=l.zxid.0))));
        assert_eq!(Record::parse(&l.payload).unwrap().trailer, None);
    }
}

#[test]
fn names_of_new_files_follow_the_first_record() {
    assert_eq!(three_files().names()[1], log_name(Zxid(4)));
}
