//! Damaged, missing and unwritable files: a torn end is cut off; with any other damage the server refuses to start.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use zabra::types::Op;

use super::server::{Home, wait_until};
use super::small_disk::SmallDisk;
use super::wire::{Client, set_body};

const CORRUPT: i32 = 21;
const TXN_LOG: i32 = 10;
/// Length of the end mark after the last record of a log that was idle for a moment.
const MARK_LEN: usize = 28;

/// The offsets where the records of a log begin, and where the last one ends. Computed from the format, without Zabra's
/// code.
fn records(log: &Path) -> (Vec<u64>, u64) {
    let bytes = fs::read(log).expect("the log");
    let (mut at, mut found) = (16, Vec::new());
    while let Some(len) = bytes.get(at + 8..at + 12) {
        let len = u32::from_be_bytes(len.try_into().expect("four")) as usize;
        if len == 0 {
            break;
        }
        assert_eq!(bytes.get(at + 12 + len), Some(&b'B'), "{} at byte {at}", log.display());
        found.push(at as u64);
        at += 12 + len + 1;
    }
    (found, at as u64)
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.write_all_at(bytes, at).expect("written");
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("inside the file");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).expect("a plain name")
}

/// The directory of a server that was killed; its last log has `n` creates `/n0` …, each synced before the next.
fn written(n: usize) -> (Home, PathBuf) {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for i in 0..n {
        client.create(&format!("/n{i}"), format!("data of {i}").as_bytes()).expect("new");
    }
    server.kill();
    let log = home.logs().pop().expect("a log");
    // The session first, then the creates.
    let (starts, end) = records(&log);
    assert_eq!(starts.len(), n + 1);
    // The server may have had time to write its end mark; these tests are about a log without one.
    overwrite(&log, end, &[0; MARK_LEN]);
    (home, log)
}

/// The server starts and has exactly the first `n` znodes.
fn has_first(home: &Home, n: usize) -> String {
    let server = home.start();
    let said = server.stderr();
    let mut client = Client::connect(server.addr());
    let mut expected: Vec<String> = (0..n).map(|i| format!("n{i}")).chain(["zookeeper".to_string()]).collect();
    expected.sort();
    assert_eq!(client.children("/", false), Ok(expected), "{said}");
    if n > 0 {
        let last = format!("/n{}", n - 1);
        assert_eq!(client.get(&last, false).expect("there").0, format!("data of {}", n - 1).as_bytes());
    }
    server.stop();
    said
}

/// The server does not start, and names the file and the byte.
fn is_refused(home: &Home, file: &Path, at: Option<u64>) {
    let (code, said) = home.start_refused();
    assert_eq!(code, CORRUPT, "{said}");
    assert!(said.contains(name(file)), "the file {} is not named:\n{said}", name(file));
    if let Some(at) = at {
        assert!(said.contains(&at.to_string()), "byte {at} is not named:\n{said}");
    }
    // Refusing changes nothing: a second start is refused too.
    assert_eq!(home.start_refused().0, CORRUPT);
}

#[test]
fn a_log_cut_anywhere_in_its_last_record_loses_only_that_record() {
    for cut in [1, 12, 30] {
        let (home, log) = written(5);
        let (starts, end) = records(&log);
        let last = *starts.last().expect("records");
        let len = if cut == 30 { last + 5 } else { end - cut };
        fs::OpenOptions::new().write(true).open(&log).and_then(|f| f.set_len(len)).expect("cut");
        let said = has_first(&home, 4);
        assert!(said.contains(name(&log)) && said.contains(&last.to_string()), "the cut is told:\n{said}");
    }
}

/// Ten creates, a pause, a clean stop; then the first block of the log is replaced, which no crash does.
#[test]
fn garbage_where_a_log_should_be_is_refused_and_left_alone() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for i in 0..10 {
        client.create(&format!("/n{i}"), b"data").expect("new");
    }
    server.stop();
    let log = home.logs().pop().expect("a log");
    let whole = fs::read(&log).expect("the log");
    let snapshot = fs::read(home.snapshots().pop().expect("a snapshot")).expect("the snapshot");
    let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    let mut damaged: Vec<Vec<u8>> = [&noise, &snapshot, &b"just text\n".repeat(410)]
        .map(|other| {
            let mut bytes = whole.clone();
            bytes[..other.len()].copy_from_slice(other);
            bytes
        })
        .into();
    // The length that a recovery leaves.
    damaged.push(vec![0; records(&log).1 as usize + MARK_LEN]);
    for bytes in damaged {
        fs::write(&log, &bytes).expect("written");
        is_refused(&home, &log, None);
        assert!(fs::read(&log).expect("the log") == bytes, "the file was changed");
        let said = Command::new(env!("CARGO_BIN_EXE_zabra")).args(["log", "verify"]).arg(&log).output().expect("runs");
        assert_eq!(said.status.code(), Some(CORRUPT), "{said:?}");
    }
    fs::write(&log, &whole).expect("written");
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).children("/", false).expect("the root").len(), 11);
    server.stop();
    let said = Command::new(env!("CARGO_BIN_EXE_zabra")).args(["log", "verify", "/etc/passwd"]).output().expect("runs");
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("not a log"), "{said:?}");
}

#[test]
fn a_garbled_end_is_cut() {
    let (home, log) = written(5);
    let (starts, end) = records(&log);
    let last = *starts.last().expect("records");
    overwrite(&log, end - 20, &[0xa5; 20]);
    let said = has_first(&home, 4);
    assert!(said.contains(name(&log)) && said.contains(&last.to_string()), "the cut is told:\n{said}");
}

#[test]
fn garbage_after_the_last_record_is_cut() {
    let (home, log) = written(5);
    let (_, end) = records(&log);
    overwrite(&log, end, b"\x00\x00\x00\x00\x12\x34\x56\x78\x00\x00\x00\x40torn");
    has_first(&home, 5);
}

#[test]
fn a_tail_that_was_cut_is_not_cut_again_nor_found_later() {
    let (home, log) = written(5);
    let (_, end) = records(&log);
    overwrite(&log, end - 3, &[0, 0, 0]);
    has_first(&home, 4);
    let said = has_first(&home, 4);
    assert!(!said.contains("cut off"), "{said}");
}

/// Only an end mark proves that the last record of a log was durable, since no record follows it.
#[test]
fn rot_in_the_last_record_of_an_idle_server_is_refused() {
    let (home, _) = written(2);
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/n2", b"data of 2").expect("new");
    let log = home.logs().pop().expect("a log");
    let (_, end) = records(&log);
    let is_marked = || fs::read(&log).expect("the log")[end as usize..].starts_with(b"ZBRSYNC1");
    wait_until("the log is marked", is_marked);
    server.kill();
    let (starts, _) = records(&log);
    let last = *starts.last().expect("records");
    let whole = fs::read(&log).expect("the log");
    for at in [last, last + 9, last + 40, end - 1] {
        flip(&log, at);
        is_refused(&home, &log, Some(last));
        fs::write(&log, &whole).expect("restored");
    }
    overwrite(&log, last, &vec![0; (end - last) as usize]);
    is_refused(&home, &log, Some(last));
    fs::write(&log, &whole).expect("restored");
    // Damage to the mark itself does no harm.
    flip(&log, end + 20);
    has_first(&home, 3);
    // The mark does not prevent further writes, by a server that was stopped cleanly.
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/n3", b"data of 3").expect("new");
    server.stop();
    let log = home.logs().pop().expect("a log");
    let (starts, end) = records(&log);
    assert!(fs::read(&log).expect("the log")[end as usize..].starts_with(b"ZBRSYNC1"), "marked at the end");
    flip(&log, *starts.last().expect("records") + 30);
    is_refused(&home, &log, None);
    flip(&log, *starts.last().expect("records") + 30);
    has_first(&home, 4);
}

#[test]
fn one_flipped_bit_before_the_end_is_refused() {
    let (home, log) = written(6);
    let (starts, _) = records(&log);
    // In the checksum, the length, the header, the data, the trailer's last byte and the end byte of the third record.
    let (third, fourth) = (starts[2], starts[3]);
    let whole = fs::read(&log).expect("the log");
    for at in [third, third + 8, third + 11, third + 20, third + 50, fourth - 2, fourth - 1] {
        flip(&log, at);
        is_refused(&home, &log, Some(third));
        fs::write(&log, &whole).expect("restored");
    }
    has_first(&home, 6);
}

#[test]
fn zeroes_a_moved_block_and_an_older_block_before_the_end_are_refused() {
    let (home, log) = written(9);
    let (starts, end) = records(&log);
    let whole = fs::read(&log).expect("the log");
    let slice = |from: usize, to: usize| whole[starts[from] as usize..starts[to] as usize].to_vec();
    // Zeros, as a lost page leaves them.
    overwrite(&log, starts[3], &vec![0; (starts[5] - starts[3]) as usize]);
    is_refused(&home, &log, Some(starts[3]));
    fs::write(&log, &whole).expect("restored");
    // A record that is valid but belongs elsewhere.
    overwrite(&log, starts[5], &slice(3, 4));
    is_refused(&home, &log, Some(starts[5]));
    fs::write(&log, &whole).expect("restored");
    // One record removed, and the following ones moved up.
    let mut shorter = whole.clone();
    shorter.drain(starts[4] as usize..starts[5] as usize);
    shorter.resize(whole.len(), 0);
    fs::write(&log, &shorter).expect("written");
    is_refused(&home, &log, None);
    fs::write(&log, &whole).expect("restored");
    assert!(end as usize <= whole.len());
    has_first(&home, 9);
}

/// A history of at least `n` logs, of which the first snapshot is the only one.
fn long_history(n: usize) -> Home {
    let home = Home::new("snapCount=20");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"").expect("new");
    wait_until("enough logs", || {
        for _ in 0..20 {
            client.set("/a", b"x", -1).expect("served");
        }
        home.logs().len() >= n
    });
    server.kill();
    for snapshot in home.snapshots().into_iter().skip(1) {
        fs::remove_file(snapshot).expect("removed");
    }
    home
}

#[test]
fn a_missing_log_in_the_middle_is_refused() {
    let home = long_history(4);
    home.start().kill();
    for snapshot in home.snapshots().into_iter().skip(1) {
        fs::remove_file(snapshot).expect("removed");
    }
    let logs = home.logs();
    let aside = home.path().join("aside");
    for missing in [&logs[0], &logs[1], &logs[2]] {
        fs::rename(missing, &aside).expect("moved");
        let (code, said) = home.start_refused();
        assert_eq!(code, CORRUPT, "without {}:\n{said}", name(missing));
        assert!(said.contains("log."), "the file after the hole is named:\n{said}");
        fs::rename(&aside, missing).expect("moved back");
    }
    home.start().stop();
}

#[test]
fn a_torn_record_at_the_end_of_a_log_that_is_not_the_last_is_refused() {
    let home = long_history(3);
    let logs = home.logs();
    let (_, end) = records(&logs[0]);
    let whole = fs::read(&logs[0]).expect("the log");
    overwrite(&logs[0], end - 4, &[0; 4]);
    // When the file was closed it was marked as durable up to its end.
    is_refused(&home, &logs[0], Some(end));
    overwrite(&logs[0], end, &[0; MARK_LEN]);
    // Without the mark the first log could be torn there. But the record that follows in the next log names the record
    // that is gone.
    let (code, said) = home.start_refused();
    assert_eq!(code, CORRUPT, "{said}");
    assert!(said.contains(name(&logs[1])) && said.contains("at byte 16"), "{said}");
    fs::write(&logs[0], &whole).expect("restored");
    home.start().stop();
}

#[test]
fn logs_without_any_snapshot_are_refused() {
    let (home, _) = written(3);
    for snapshot in home.snapshots() {
        fs::remove_file(snapshot).expect("removed");
    }
    let (code, said) = home.start_refused();
    assert_eq!(code, CORRUPT, "{said}");
    assert!(said.contains("snapshot"), "{said}");
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_the_last_one_is_not() {
    let home = Home::new("snapCount=20");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"").expect("new");
    wait_until("a second snapshot", || {
        client.set("/a", b"x", -1).expect("served");
        home.snapshots().len() >= 2
    });
    client.set("/a", b"the last", -1).expect("served");
    server.stop();
    let snapshots = home.snapshots();
    let newest = snapshots.last().expect("snapshots");
    flip(newest, 40);
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).get("/a", false).expect("there").0, b"the last");
    assert!(server.stderr().contains(name(newest)), "the snapshot passed over is named:\n{}", server.stderr());
    server.kill();
    for snapshot in home.snapshots() {
        overwrite(&snapshot, 41, &[0xff; 4]);
    }
    let (code, said) = home.start_refused();
    assert_eq!(code, CORRUPT, "{said}");
}

/// Writes values until the server has ended; returns how many were acknowledged. At most one more was sent.
fn fill(client: &mut Client) -> u32 {
    let mut acknowledged = 0;
    loop {
        let value = (acknowledged + 1).to_string().into_bytes();
        let mut data = vec![b' '; 50_000];
        data[..value.len()].copy_from_slice(&value);
        if client.try_send(Op::SET_DATA, &set_body("/a", &data, -1)).is_err() {
            return acknowledged;
        }
        match client.try_reply() {
            Ok(reply) => assert_eq!(reply.err, 0),
            Err(_) => return acknowledged,
        }
        acknowledged += 1;
    }
}

fn number(data: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(&data[..10.min(data.len())]);
    text.trim().parse().expect("a number")
}

/// The server ends with the documented code when it cannot write, and has everything acknowledged once there is space.
fn fails_and_recovers(mut home: Home, make_room: impl FnOnce(&mut Home)) {
    let mut server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"0").expect("new");
    let acknowledged = fill(&mut client);
    assert!(acknowledged > 0);
    let status = server.wait();
    let said = server.stderr();
    assert_eq!(status.code(), Some(TXN_LOG), "{status}: {said}");
    assert!(said.contains("FATAL"), "{said}");
    make_room(&mut home);
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let (data, stat) = client.get("/a", false).expect("there");
    let there = number(&data);
    // The write that failed was not acknowledged; it may be there or not.
    assert!(there == acknowledged || there == acknowledged + 1, "acknowledged {acknowledged}, there {there}");
    assert_eq!(stat.version as u32, there);
    client.set("/a", b"on", -1).expect("served");
    server.stop();
}

#[test]
fn a_write_beyond_the_limit_of_file_sizes_ends_the_server_unacknowledged() {
    let mut home = Home::new("");
    home.limit_file_size(Some(3 << 20));
    fails_and_recovers(home, |home| home.limit_file_size(None));
}

#[test]
fn a_full_disk_ends_the_server_unacknowledged() {
    let base = tempfile::tempdir().expect("a directory");
    let Some(disk) = SmallDisk::mount(&base.path().join("disk"), "size=6m") else { return };
    let home = Home::new("").data_in(disk.join("data"));
    fails_and_recovers(home, |_| disk.resize("60m"));
}

#[test]
fn a_disk_that_fills_by_snapshots_ends_the_server() {
    let base = tempfile::tempdir().expect("a directory");
    let Some(disk) = SmallDisk::mount(&base.path().join("disk"), "size=8m") else { return };
    let home = Home::new("snapCount=20\nautopurge.purgeInterval=0").data_in(disk.join("data"));
    fails_and_recovers(home, |_| disk.resize("100m"));
}

#[test]
fn a_small_disk_is_used_as_far_as_it_goes() {
    let base = tempfile::tempdir().expect("a directory");
    for size in [50, 100] {
        let Some(disk) = SmallDisk::mount(&base.path().join("disk"), &format!("size={size}m")) else { return };
        // Segments of the usual size, one after the other, and snapshots while the next one is begun.
        let home = Home::new("snapCount=50\npreAllocSize=65536").data_in(disk.join("data"));
        let server = home.start();
        let mut client = Client::connect(server.addr());
        for i in 0..600 {
            client.create(&format!("/n{i}"), &[7; 1000]).expect("created");
        }
        server.kill();
        let server = home.start();
        assert_eq!(Client::connect(server.addr()).children("/", false).expect("listed").len(), 601);
        server.stop();
        // Nothing can be written, so the server does not start.
        let fill = disk.fill();
        let (code, said) = home.start_refused();
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("cannot be written") && said.contains("free some space"), "{said}");
        fs::remove_file(fill).expect("removed");
        home.start().stop();
    }
}
