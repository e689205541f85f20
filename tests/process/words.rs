//! Four-letter words sent to a running server.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::Duration;

use zabra::proto::request::{Request, SetWatches};
use zabra::types::Op;

use super::server::{Home, Server};
use super::wire::{Client, Raw};
use zabra::proto::four_letter::{SRVR, WORDS};

#[test]
fn only_srvr_is_answered_unless_more_are_allowed() {
    let home = Home::new("");
    let server = home.start();
    for word in WORDS {
        let answer = server.word(word);
        if word == SRVR {
            assert!(answer.starts_with("Zookeeper version: "), "{answer}");
            assert!(answer.contains("\nMode: standalone\n") && answer.contains("\nNode count: 5\n"), "{answer}");
        } else {
            assert_eq!(answer, format!("{word} is not executed because it is not in the whitelist.\n"));
        }
    }
    server.stop();
}

#[test]
fn a_whitelist_allows_what_it_names() {
    let home = Home::new("4lw.commands.whitelist=ruok, isro");
    let server = home.start();
    assert_eq!(server.word("ruok"), "imok");
    assert_eq!(server.word("isro"), "rw");
    assert_eq!(server.word("stat"), "stat is not executed because it is not in the whitelist.\n");
    // zkServer.sh depends on it, so Apache always answers it.
    assert!(server.word("srvr").starts_with("Zookeeper version: "));
    server.stop();
}

#[test]
fn all_words_are_answered_while_sessions_are_served() {
    let home = Home::new("4lw.commands.whitelist=*");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create_mode("/e", b"", 1).expect("new");
    client.get("/e", true).expect("there");
    // stmk needs a mask, and hash has no output before the 128th transaction.
    for word in WORDS.into_iter().filter(|w| !["stmk", "hash"].contains(w)) {
        assert_ne!(server.word(word), "", "{word}");
    }
    let mntr = server.word("mntr");
    assert!(mntr.contains("zk_server_state\tstandalone\n"), "{mntr}");
    assert!(mntr.contains("zk_znode_count\t6\n") && mntr.contains("zk_ephemerals_count\t1\n"), "{mntr}");
    assert!(mntr.contains("zk_watch_count\t1\n"), "{mntr}");
    let dump = server.word("dump");
    assert!(dump.contains(&format!("0x{:x}:\n\t/e\n", client.session.0)), "{dump}");
    assert!(server.word("wchp").contains("/e\n"));
    assert_eq!(client.get("/e", false).map(|(d, _)| d), Ok(Vec::new()));
    server.stop();
}

/// The value of a line of mntr.
fn figure(mntr: &str, name: &str) -> String {
    let value = mntr.lines().find_map(|l| l.strip_prefix("zk_")?.strip_prefix(name)?.strip_prefix('\t'));
    value.unwrap_or_else(|| panic!("no {name} in {mntr}")).to_owned()
}

#[test]
fn what_starting_took_is_shown_until_srst() {
    let home = Home::new("4lw.commands.whitelist=*\nenforceQuota=true");
    let counts = |server: &Server| {
        let mntr = server.word("mntr");
        ["dbinittime", "startup_snap_load_time", "snapshottime", "startup_txns_load_time", "startup_txns_loaded"]
            .map(|name| figure(&mntr, &format!("cnt_{name}")))
    };
    let server = home.start();
    // A new database: its first snapshot has been written, and there is no log.
    assert_eq!(counts(&server), ["1", "1", "1", "0", "0"]);
    let mut client = Client::connect(server.addr());
    for (path, data) in [
        ("/a", &b""[..]),
        ("/zookeeper/quota/a", b""),
        ("/zookeeper/quota/a/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2"),
        ("/zookeeper/quota/a/zookeeper_stats", b"count=0,bytes=0"),
    ] {
        client.create(path, data).expect("new");
    }
    client.create("/a/b", b"").expect("the second one below /a");
    assert_eq!(client.create("/a/c", b""), Err(-125));
    let mntr = server.word("mntr");
    assert_eq!(figure(&mntr, "a_quota_exceeded_error_per_namespace"), "1");
    assert_ne!(figure(&mntr, "outstanding_changes_queued"), "0");
    server.word("srst");
    assert_eq!(counts(&server), ["0"; 5]);
    let mntr = server.word("mntr");
    for name in ["outstanding_changes_queued", "outstanding_changes_removed", "a_quota_exceeded_error_per_namespace"] {
        assert_eq!(figure(&mntr, name), "0", "{name}");
    }
    server.stop();
    let server = home.start();
    // The log was replayed after the first snapshot was loaded.
    assert_eq!(counts(&server), ["1", "1", "0", "1", "1"]);
    server.stop();
}

/// Arms watches on these znodes, which are not there.
fn watch(client: &mut Client, paths: &[String]) {
    for some in paths.chunks(4000) {
        let watches = SetWatches { exist: some.to_vec(), ..SetWatches::default() };
        let body = Request::SetWatches(watches).body(Op::SET_WATCHES);
        assert_eq!(client.call(Op::SET_WATCHES, &body).err, 0);
    }
}

/// The kernel takes megabytes of an answer at once and holds them for as long as the reader makes progress. Meanwhile others are
/// answered.
#[test]
fn a_slow_reader_gets_all_of_a_huge_list_and_nobody_waits_for_it() {
    let home = Home::new("4lw.commands.whitelist=*");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let paths: Vec<String> = (0..24_000).map(|i| format!("/{}{i:05}", "watched-".repeat(25))).collect();
    watch(&mut client, &paths);
    assert_eq!(server.word("wchs"), "1 connections watching 24000 paths\nTotal watches:24000\n");
    let want: String = paths.iter().map(|path| format!("{path}\n\t0x{:x}\n", client.session.0)).collect();
    let want = want + "\n";

    let mut raw = Raw::connect(server.addr());
    let window: libc::c_int = 16 << 10;
    // SAFETY: the socket is open, and the value is as long as is said.
    let done = unsafe {
        let value = (&raw const window).cast();
        let len = size_of_val(&window) as libc::socklen_t;
        libc::setsockopt(raw.stream().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, value, len)
    };
    assert_eq!(done, 0);
    raw.send(b"wchp").expect("sent");
    let (mut got, mut piece) = (Vec::new(), vec![0; 32 << 10]);
    // The kernel takes more of an answer only when a third of its buffer is free. At this pace that takes longer than a
    // client is waited for that acknowledges nothing.
    let slowly = 3 << 19;
    loop {
        let n = raw.stream().read(&mut piece).expect("FIN comes after all of it, no reset");
        if n == 0 {
            break;
        }
        got.extend_from_slice(&piece[..n]);
        if got.len() < slowly {
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(server.word("ruok"), "imok");
            assert!(server.word("stat").contains("Mode: standalone"));
        }
    }
    assert_eq!(got.len(), want.len());
    assert!(got == want.as_bytes(), "what arrived is not the list of watches");
    server.stop();
}

#[test]
fn a_word_that_is_none_is_a_length_that_cannot_be() {
    let home = Home::new("");
    let server = home.start();
    for word in ["quit", "SRVR", "abcd"] {
        let mut raw = Raw::connect(server.addr());
        raw.send(word.as_bytes()).expect("sent");
        assert_eq!(raw.closed(), b"", "{word}");
    }
    server.stop();
}

#[test]
fn half_a_word_is_not_waited_for() {
    let home = Home::new("nio.sessionlessCnxnTimeout=300\n4lw.commands.whitelist=*");
    let server = home.start();
    // stmk needs eight more bytes.
    for part in ["", "r", "ru", "ruo", "stmk", "stmk1234567"] {
        let mut raw = Raw::connect(server.addr());
        raw.send(part.as_bytes()).expect("sent");
        assert_eq!(raw.closed(), b"", "after {part:?}");
    }
    assert_eq!(server.word("ruok"), "imok");
    server.stop();
}
