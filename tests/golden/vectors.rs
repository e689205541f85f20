//! The byte vectors of the protocol reference, checked with a real server and its files.

use std::fs;

use zabra::types::{Op, SessionId};

use crate::process::server::Home;
use crate::process::wire::{Client, Raw, create_body, framed, multi_body, text};

fn unhex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

const CONNECT: &str = "0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010
                       00000000000000000000000000000000 00";

#[test]
fn handshake_ping_and_refused_resumption() {
    let home = Home::new("");
    let server = home.start();
    let mut raw = Raw::connect(server.addr());
    raw.send(&unhex(CONNECT)).expect("sent");
    let answer = raw.frame().expect("an answer");
    assert_eq!(answer.len(), 0x25);
    assert_eq!(answer[..8], unhex("00000000 00007530"));
    let session = i64::from_be_bytes(answer[8..16].try_into().expect("eight"));
    assert_eq!(session >> 56, 1, "a standalone server is number 1");
    assert_eq!(answer[16..20], unhex("00000010"));
    assert_eq!(answer[20..36], SessionId(session).passwd());
    assert_eq!(answer[36..], [0]);
    raw.send(&unhex("00000008 fffffffe 0000000b")).expect("sent");
    assert_eq!(raw.frame().expect("an answer"), unhex("fffffffe 0000000000000001 00000000"));
    let mut wrong = unhex(CONNECT);
    wrong[20..28].copy_from_slice(&session.to_be_bytes());
    wrong[32..48].fill(9);
    let mut other = Raw::connect(server.addr());
    other.send(&wrong).expect("sent");
    let refused = unhex("00000025 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00");
    assert_eq!(other.closed(), refused);
    server.stop();
}

#[test]
fn create_and_a_failed_multi() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let create = unhex(
        "00000032 00000001 00000001 00000002 2f61 00000001 78 00000001 0000001f 00000005 776f726c64 00000006
         616e796f6e65 00000000",
    );
    assert_eq!(framed(1, Op::CREATE, &create_body("/a", b"x", 0)), create);
    client.raw().send(&create).expect("sent");
    assert_eq!(client.raw().frame().expect("an answer"), unhex("00000001 0000000000000002 00000000 00000002 2f61"));
    let none = |path: &str| [text(path), (-1i32).to_be_bytes().to_vec()].concat();
    let ops = [(Op::CREATE, create_body("/b", b"", 0)), (Op::DELETE, none("/none")), (Op::CHECK, none("/a"))];
    client.raw().send(&framed(2, Op::MULTI, &multi_body(&ops))).expect("sent");
    let expected = unhex(
        "00000002 0000000000000003 00000000
         ffffffff 00 00000000 00000000  ffffffff 00 ffffff9b ffffff9b  ffffffff 00 fffffffe fffffffe  ffffffff 01 ffffffff",
    );
    assert_eq!(client.raw().frame().expect("an answer"), expected);
    server.stop();
}

#[test]
fn the_first_bytes_of_log_and_snapshot() {
    let home = Home::new("");
    let server = home.start();
    let client = Client::with_timeout(server.addr(), 6000);
    let session = client.session;
    server.kill();
    let log = fs::read(home.logs().first().expect("a log")).expect("readable");
    assert_eq!(log[..16], unhex("5a4b4c47 00000002 0000000000000000"));
    let mut expected = session.0.to_be_bytes().to_vec();
    expected.extend(unhex("00000000 0000000000000001"));
    let record = &log[28..];
    assert_eq!(record[..20], expected);
    // After the time: type, timeout, and the digest of a tree without znodes.
    assert_eq!(record[28..28 + 20], unhex("fffffff6 00001770 00000002 0000000051c6d660"));
    assert_eq!(home.logs().first().and_then(|l| l.file_name()?.to_str()), Some("log.1"));
    let snapshot = fs::read(home.snapshots().first().expect("a snapshot")).expect("readable");
    assert_eq!(snapshot[..16], unhex("5a4b534e 00000002 ffffffffffffffff"));
}
