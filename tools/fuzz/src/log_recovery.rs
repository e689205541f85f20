//! Recovery from the in-memory disk.
//!
//! * Arbitrary files, or arbitrary transactions in records with correct checksums: recovery must end. It either refuses
//!   with a reason and changes nothing, or gives a sound tree, the same at the next start, and a log that can be
//!   continued.
//! * A valid history (of Zabra, Apache, or mixed) damaged in up to three places: recovery must give a beginning of that
//!   history, transaction by transaction and byte by byte. If synced bytes were overwritten in front of a later batch
//!   of Zabra, it must refuse.

use std::collections::BTreeMap;

use zabra::jute::Put;
use zabra::jute::stat::put_stat_persisted;
use zabra::oracle::replica::{SMALL, Seen, put_apache};
use zabra::oracle::test_disk::TestDisk;
use zabra::tree::Tree;
use zabra::txn::{Txn, TxnDigest, TxnHeader};
use zabra::txnlog::names::parse_snapshot_name;
use zabra::txnlog::proposal_reader::LogCursor;
use zabra::txnlog::record::{FILE_HEADER, FRAME_LEN, Framed, Trailer};
use zabra::txnlog::recovery::{Recovered, RecoveryError, RecoveryOptions, recover};
use zabra::txnlog::restore::recover_tree;
use zabra::txnlog::truncate::truncate;
use zabra::txnlog::verify;
use zabra::txnlog::writer::LogWriter;
use zabra::types::{AclId, Cxid, Op, SessionId, StatPersisted, Zxid};

use crate::history::History;
use crate::input::Input;
use crate::mutation::{Overwritten, mutate};
use crate::snapshot::{Blocks, LAST, OPTIONS, seal};

/// Input: the mode, then its parameters.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => raw(&mut input),
        1 => forged(&mut input),
        _ => damaged(&mut input),
    }
}

const NAMES: [&str; 14] = [
    "log.1",
    "log.2",
    "log.3",
    "log.100000001",
    "log.7fffffffffffffff",
    "log.ffffffffffffffff",
    "snapshot.0",
    "snapshot.1",
    "snapshot.2.gz",
    "snapshot.3.snappy",
    "snapshot.100000000",
    "tmp.snapshot.1",
    "log.x",
    "currentEpoch",
];

/// Files of arbitrary bytes; a flag for each says whether its checksums are corrected first.
fn raw(input: &mut Input<'_>) {
    let disk = TestDisk::new();
    while !input.is_empty() && disk.names().len() < 6 {
        let (name, flags) = (*input.pick(&NAMES), input.u8());
        let mut bytes = input.piece().to_vec();
        if flags & 1 != 0 && name.starts_with("log") {
            bytes = repair(&bytes);
        } else if flags & 1 != 0 && name.starts_with("snapshot") && !name.contains(['g', 'y']) {
            let last = parse_snapshot_name(name).map_or(LAST, |(named, _)| named.max(LAST));
            bytes = seal(&bytes, last, Blocks::default());
        }
        disk.put(name, &bytes);
    }
    into_a_tree(disk);
}

/// Adds a file header, and corrects the checksums of everything that looks like a frame.
fn repair(bytes: &[u8]) -> Vec<u8> {
    let mut out = FILE_HEADER.to_vec();
    let mut rest = bytes;
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)) % 1024;
        let (payload, behind) = behind.split_at(len.min(behind.len()));
        put_apache(&mut out, payload);
        rest = behind;
    }
    out
}

/// Records with correct checksums whose transactions are arbitrary bytes.
fn forged(input: &mut Input<'_>) {
    const OPS: [Op; 13] = [
        Op::CREATE,
        Op::CREATE2,
        Op::CREATE_CONTAINER,
        Op::CREATE_TTL,
        Op::DELETE,
        Op::DELETE_CONTAINER,
        Op::SET_DATA,
        Op::RECONFIG,
        Op::SET_ACL,
        Op::MULTI,
        Op::ERROR,
        Op::CREATE_SESSION,
        Op::CLOSE_SESSION,
    ];
    let mut file = FILE_HEADER.to_vec();
    let (mut zxid, mut chain, mut prev) = (1, 0, Zxid::ZERO);
    let ours = input.flag();
    while !input.is_empty() && zxid < 60 {
        let what = input.u8();
        // Sometimes not the zxid that should follow.
        zxid += i64::from(what >= 250);
        let header = TxnHeader {
            session: SessionId(i64::from(what & 3)),
            cxid: Cxid(0),
            zxid: Zxid(zxid),
            time_ms: 5,
            op: *input.pick(&OPS),
        };
        let mut payload = Vec::new();
        header.put(&mut payload);
        payload.extend_from_slice(input.piece());
        if what & 4 != 0 {
            TxnDigest { version: 2, digest: 5 }.put(&mut payload);
        }
        if ours {
            let framed = Framed::new(&payload, prev, u32::from(what & 8), chain);
            framed.pieces(&payload, |piece| file.extend_from_slice(piece));
            chain = framed.crc;
        } else {
            put_apache(&mut file, &payload);
        }
        prev = Zxid(zxid);
        zxid += 1;
    }
    let disk = TestDisk::new();
    disk.put("snapshot.0", &seal(&root_only(), LAST, Blocks::default()));
    disk.put("log.1", &file);
    into_a_tree(disk);
}

/// No sessions, no ACL lists, one node.
fn root_only() -> Vec<u8> {
    let mut image = Vec::new();
    image.put_i32(0);
    image.put_i32(0);
    image.put_string("");
    image.put_buffer(None);
    image.put_i64(AclId::OPEN.0);
    put_stat_persisted(&mut image, &StatPersisted::default());
    image
}

fn start(disk: &TestDisk) -> Result<Recovered<Tree>, RecoveryError> {
    recover_tree(&mut disk.clone(), &mut disk.clone(), OPTIONS, RecoveryOptions::default())
}

/// What must hold for all files.
fn into_a_tree(disk: TestDisk) {
    look(&disk);
    let before = files(&disk);
    match start(&disk) {
        Err(error) => refused(&error, &before, &disk),
        Ok(first) => {
            first.state.check().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(first.state.last_zxid(), first.last);
            let again = start(&disk).unwrap_or_else(|e| panic!("the next start is refused: {e}"));
            assert_eq!(
                (again.last, again.state.digest(), again.report.cuts),
                (first.last, first.state.digest(), vec![])
            );
            assert_eq!(again.sessions, first.sessions);
            assert_eq!(again.tail, first.tail);
        }
    }
}

/// Verifying changes nothing, and never fails because of the files' contents.
fn look(disk: &TestDisk) {
    let before = files(disk);
    verify::logs(disk).expect("a disk without faults");
    if let Ok(mut cursor) = LogCursor::open(disk, Zxid(2)) {
        let mut out = Vec::new();
        while let Ok(Some(_)) = cursor.next_into(disk, &mut out) {
            out.clear();
        }
    }
    assert_eq!(files(disk), before);
}

fn files(disk: &TestDisk) -> BTreeMap<String, Vec<u8>> {
    disk.names().into_iter().map(|name| (name.clone(), disk.bytes(&name))).collect()
}

fn refused(error: &RecoveryError, before: &BTreeMap<String, Vec<u8>>, disk: &TestDisk) {
    assert!(!error.to_string().trim().is_empty());
    assert_eq!(&files(disk), before, "recovery refused ({error}) and changed the disk");
}

fn open(disk: &TestDisk) -> Result<Recovered<Seen>, RecoveryError> {
    recover(&mut disk.clone(), &mut disk.clone(), Seen::default, RecoveryOptions::default())
}

fn damaged(input: &mut Input<'_>) {
    let history = History::read(input);
    let mut disk = history.disk.fork();
    let whole = open(&disk.fork()).unwrap_or_else(|e| panic!("a valid history is refused: {e}"));
    judge(&history, &whole);
    assert_eq!(whole.state.0.len(), history.all.len(), "{:?}", whole.report);
    let n = input.below(4);
    let places: Vec<Option<Overwritten>> = (0..n).map(|_| mutate(&mut disk, input)).collect();
    look(&disk);
    let before = files(&disk);
    match open(&disk) {
        Err(error) => refused(&error, &before, &disk),
        Ok(r) => {
            let complete = judge(&history, &r);
            if let [Some(place)] = &places[..] {
                assert!(complete || !must_be_noticed(&history, place), "lost without a word: {:?}", r.report);
            }
            go_on(&disk, r);
        }
    }
    cut_back(&history, input);
}

/// Whether the recovered state is a valid part of the history. Returns true if it is all of it.
fn judge(history: &History, r: &Recovered<Seen>) -> bool {
    let mut kept = history.all.iter().filter(|l| r.state.0.contains_key(&l.zxid.0));
    for (zxid, bytes) in &r.state.0 {
        let logged = kept.next().expect("as many as there are");
        assert_eq!((*zxid, bytes), (logged.zxid.0, &logged.bytes), "a transaction that was never logged");
    }
    // Apache's records do not name their predecessors, so at a change of epoch a loss cannot be noticed.
    let missing: Vec<usize> = (0..history.all.len()).filter(|i| !is_in(r, history.all[*i].zxid)).collect();
    let hidden = |i: usize| {
        history.all[i..].iter().find(|l| is_in(r, l.zxid)).is_none_or(|l| l.foreign && l.zxid.counter() == 1)
    };
    for i in &missing {
        assert!(hidden(*i), "{} is missing: {:?}", history.all[*i].zxid, r.report);
    }
    let last = history.all.iter().rposition(|l| is_in(r, l.zxid));
    let n = last.map_or(0, |i| i + 1);
    assert_eq!(r.last, last.map_or(Zxid::ZERO, |i| history.all[i].zxid).max(Zxid::ZERO));
    let is_prefix = r.state.0.len() == n;
    if is_prefix {
        assert_eq!(r.sessions, history.sessions(n));
        assert_eq!(r.report.digest_mismatch_count, 0, "{:?}", r.report.digest_mismatches);
    }
    n == history.all.len() && is_prefix
}

fn is_in(r: &Recovered<Seen>, zxid: Zxid) -> bool {
    r.state.0.contains_key(&zxid.0)
}

/// Whether the overwritten bytes had been synced before a later batch of Zabra was written to the same or another file.
fn must_be_noticed(history: &History, place: &Overwritten) -> bool {
    let Some(last) = history.all.last() else { return false };
    if history.all.iter().any(|l| l.foreign) || place.from < FILE_HEADER.len() {
        return false;
    }
    let mut end = FILE_HEADER.len();
    for l in history.all.iter().filter(|l| l.file == place.file) {
        end += record_len(history, l.zxid);
        if place.from < end {
            // And whether nothing after the synced bytes was overwritten; there, damage looks like the end of the file.
            return l.batch < last.batch && place.to <= end;
        }
    }
    false
}

fn record_len(history: &History, zxid: Zxid) -> usize {
    let logged = history.all.iter().find(|l| l.zxid == zxid).expect("of the history");
    let digest = if history.digests { TxnDigest::LEN } else { 0 };
    FRAME_LEN + logged.bytes.len() + digest + Trailer::LEN
}

/// A server continues with the recovered state, and the next start must find everything.
fn go_on(disk: &TestDisk, r: Recovered<Seen>) {
    let again = open(disk).unwrap_or_else(|e| panic!("the next start is refused: {e}"));
    assert_eq!((again.last, &again.state, again.report.cuts), (r.last, &r.state, vec![]));
    if r.fresh {
        // Then it begins with a snapshot.
        disk.put("snapshot.0", &seal(&root_only(), LAST, Blocks::default()));
    }
    let zxid = Zxid(r.last.0 + 1);
    let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 9, op: Op::ERROR };
    let mut payload = Vec::new();
    header.put(&mut payload);
    Txn::Error { err: -4 }.put(&mut payload);
    let mut log = LogWriter::new(disk.clone(), r.last, SMALL);
    log.append(zxid, &payload).and_then(|()| log.sync()).unwrap_or_else(|e| panic!("cannot go on: {e}"));
    drop(log);
    let later = open(disk).unwrap_or_else(|e| panic!("after going on: {e}"));
    assert_eq!((later.last, later.state.0.len()), (zxid, r.state.0.len() + 1));
}

/// Truncating an undamaged history must leave exactly the other transactions.
fn cut_back(history: &History, input: &mut Input<'_>) {
    let disk = history.disk.fork();
    let target = Zxid(history.all[input.below(history.all.len())].zxid.0 + i64::from(input.below(8) == 7));
    let before = files(&disk);
    match truncate(&mut disk.clone(), &mut disk.clone(), target) {
        Err(_) => assert_eq!(files(&disk), before),
        Ok(()) => {
            let r = open(&disk).unwrap_or_else(|e| panic!("after truncating to {target}: {e}"));
            assert_eq!((r.last, judge(history, &r)), (target, history.all.last().is_some_and(|l| l.zxid == target)));
        }
    }
}
