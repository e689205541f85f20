//! Clean stops and kills: what was acknowledged is there, and what was never sent is not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use zabra::jute::Reader;
use zabra::types::Op;

use super::server::{Home, Server, wait_until};
use super::wire::{Client, create_body, set_body};

/// Number of requests that a writer has in flight.
const IN_FLIGHT: usize = 32;

/// What one writer knows when the server has ended.
#[derive(Default)]
struct Written {
    /// Paths whose create was acknowledged.
    created: Vec<String>,
    /// Number of creates sent.
    sent: usize,
    /// The writer's counter: the greatest value acknowledged and the greatest value sent.
    counted: u64,
    count_sent: u64,
}

/// Creates znodes and increments a counter, pipelined, until the connection breaks.
fn write_until_broken(addr: SocketAddr, round: usize, writer: usize, acknowledged: &AtomicUsize) -> Written {
    let mut w = Written::default();
    let mut client = Client::connect(addr);
    let counter = counter_path(writer);
    let mut waiting = std::collections::VecDeque::new();
    loop {
        while waiting.len() < IN_FLIGHT {
            let sent = if w.sent.is_multiple_of(3) && w.count_sent < w.sent as u64 {
                w.count_sent += 1;
                let value = count(round, w.count_sent);
                client.try_send(Op::SET_DATA, &set_body(&counter, value.to_string().as_bytes(), -1))
            } else {
                let path = node_path(round, writer, w.sent);
                w.sent += 1;
                client.try_send(Op::CREATE, &create_body(&path, path.as_bytes(), 0))
            };
            match sent {
                Ok(xid) => waiting.push_back(xid),
                Err(_) => return drain(client, w, waiting, acknowledged),
            }
        }
        match client.try_reply() {
            Ok(reply) => learn(&mut w, reply, waiting.pop_front(), acknowledged),
            Err(_) => return w,
        }
    }
}

/// Reads the replies that arrived before the connection broke; they count too.
fn drain(
    mut client: Client,
    mut w: Written,
    mut waiting: std::collections::VecDeque<i32>,
    acknowledged: &AtomicUsize,
) -> Written {
    while let Ok(reply) = client.try_reply() {
        learn(&mut w, reply, waiting.pop_front(), acknowledged);
    }
    w
}

fn learn(w: &mut Written, reply: super::wire::Reply, expected: Option<i32>, acknowledged: &AtomicUsize) {
    assert_eq!((Some(reply.xid), reply.err), (expected, 0));
    acknowledged.fetch_add(1, Ordering::Relaxed);
    // The reply to a create is a path, that to a set a stat of 68 bytes.
    if reply.body.len() == 68 {
        w.counted += 1;
    } else {
        w.created.push(Reader::new(&reply.body).string().expect("a path").into_owned());
    }
}

fn node_path(round: usize, writer: usize, n: usize) -> String {
    format!("/w{writer}/r{round}-{n:06}")
}

fn counter_path(writer: usize) -> String {
    format!("/c{writer}")
}

/// A counter that increases over all rounds.
fn count(round: usize, n: u64) -> u64 {
    (round as u64 + 1) * 1_000_000 + n
}

/// Checks that everything acknowledged is there with its data, and that nothing is there that was never sent.
fn check(client: &mut Client, round: usize, writer: usize, w: &Written) {
    let names = client.children(&format!("/w{writer}"), false).expect("the writer's parent");
    let prefix = format!("r{round}-");
    let mine: Vec<&String> = names.iter().filter(|n| n.starts_with(&prefix)).collect();
    let there: HashMap<&str, ()> = mine.iter().map(|n| (n.as_str(), ())).collect();
    for path in &w.created {
        let name = path.rsplit('/').next().expect("a name");
        assert!(there.contains_key(name), "round {round}: {path} was acknowledged and is gone");
    }
    // In the order of sending: a later write of a session cannot be there without the earlier ones.
    for (n, name) in mine.iter().enumerate() {
        assert_eq!(**name, format!("{prefix}{n:06}"), "round {round}: a hole among what writer {writer} sent");
    }
    assert!(mine.len() <= w.sent, "round {round}: more than writer {writer} sent");
    for name in mine.iter().rev().take(5) {
        let path = format!("/w{writer}/{name}");
        assert_eq!(client.get(&path, false).expect("listed").0, path.as_bytes());
    }
    let (data, stat) = client.get(&counter_path(writer), false).expect("the counter");
    let value: u64 = String::from_utf8(data).expect("digits").parse().expect("a number");
    if w.counted > 0 {
        assert!(value >= count(round, w.counted), "round {round}: counter {value}, acknowledged {}", w.counted);
    }
    assert!(value <= count(round, w.count_sent), "round {round}: counter {value}, sent {}", w.count_sent);
    assert!(stat.version >= 0);
}

fn rounds(home: &Home, rounds: usize, writers: usize, enough: usize) {
    let mut server = home.start();
    let mut client = Client::connect(server.addr());
    for w in 0..writers {
        client.create(&format!("/w{w}"), b"").expect("new");
        client.create(&counter_path(w), b"0").expect("new");
    }
    let mut zxid = client.zxid;
    let mut ours = Vec::new();
    for round in 0..rounds {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let addr = server.addr();
        let threads: Vec<_> = (0..writers)
            .map(|w| {
                let acknowledged = acknowledged.clone();
                thread::spawn(move || write_until_broken(addr, round, w, &acknowledged))
            })
            .collect();
        wait_until("enough writes are acknowledged", || acknowledged.load(Ordering::Relaxed) >= enough);
        server.kill();
        let written: Vec<Written> = threads.into_iter().map(|t| t.join().expect("a writer")).collect();
        server = home.start();
        let mut client = Client::connect(server.addr());
        for (writer, w) in written.iter().enumerate() {
            check(&mut client, round, writer, w);
        }
        assert!(client.zxid > zxid, "zxids go on");
        zxid = client.zxid;
        ours.extend(written);
        let said = server.stderr();
        assert!(!said.contains("digest"), "a replay that does not give the digest of the log:\n{said}");
    }
    assert!(ours.iter().map(|w| w.created.len()).sum::<usize>() > 0);
    server.stop();
}

#[test]
fn what_was_acknowledged_survives_kill_9_under_load() {
    rounds(&Home::new("zabra.shards=2"), 4, 4, 3000);
}

#[test]
fn what_was_acknowledged_survives_kill_9_while_snapshots_are_taken() {
    rounds(&Home::new("snapCount=200\nzabra.shards=1"), 3, 3, 3000);
}

#[test]
fn a_kill_during_start_loses_nothing() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for i in 0..200 {
        client.create(&format!("/n{i}"), &[7; 500]).expect("new");
    }
    server.kill();
    for _ in 0..3 {
        // Killed as soon as it says that it serves: before its first snapshot can be complete.
        home.start().kill();
    }
    let server = home.start();
    let mut client = Client::connect(server.addr());
    assert_eq!(client.children("/", false).map(|c| c.len()), Ok(201));
    server.stop();
}

#[test]
fn a_kill_at_any_moment_of_a_start_loses_nothing() {
    let home = Home::new("snapCount=20");
    for ms in [0, 2, 5] {
        // The same with a new directory.
        home.start_and_kill_after(Duration::from_millis(ms));
    }
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for i in 0..100 {
        client.create(&format!("/n{i}"), &[7; 5000]).expect("new");
    }
    server.kill();
    for ms in 0..25 {
        home.start_and_kill_after(Duration::from_millis(4 * ms));
    }
    let server = home.start();
    let mut client = Client::connect(server.addr());
    assert_eq!(client.children("/", false).map(|c| c.len()), Ok(101));
    server.stop();
}

#[test]
fn sigterm_under_load_ends_well_and_keeps_everything() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/w0", b"").expect("new");
    client.create(&counter_path(0), b"0").expect("new");
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let (addr, counter) = (server.addr(), acknowledged.clone());
    let writer = thread::spawn(move || write_until_broken(addr, 0, 0, &counter));
    wait_until("enough writes are acknowledged", || acknowledged.load(Ordering::Relaxed) >= 500);
    server.stop();
    let written = writer.join().expect("a writer");
    let server = home.start();
    check(&mut Client::connect(server.addr()), 0, 0, &written);
    server.stop();
}

#[test]
fn a_reader_during_restarts_never_goes_back_in_time() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"1").expect("new");
    let mut resumption = client.resumption();
    drop(client);
    server.kill();
    let server = home.start();
    let client = Client::handshake(server.addr(), &resumption).expect("a server that is not behind");
    assert!(client.is_some(), "the session lives on");
    drop(client);
    // A client that has seen a later zxid than the server has is disconnected without a reply.
    resumption.last_zxid_seen = zabra::types::Zxid(i64::MAX);
    let mut raw = super::wire::Raw::connect(server.addr());
    assert!(raw.handshake(&resumption).is_err());
    server.stop();
}

/// Keeps a server busy from other threads until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    pub fn on(server: &Server, writers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..writers)
            .map(|w| {
                let (stop, addr) = (stop.clone(), server.addr());
                thread::spawn(move || {
                    let mut client = Client::connect(addr);
                    let path = client.create_mode(&format!("/load{w}-"), b"", 2).expect("new");
                    while !stop.load(Ordering::Relaxed) {
                        client.set(&path, &[1; 100], -1).expect("served");
                    }
                })
            })
            .collect();
        Load { stop, threads }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the load was served");
        }
    }
}
