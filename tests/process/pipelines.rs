//! Many requests in flight: each session gets its replies in order and sees its own writes, whatever else happens to
//! it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use zabra::jute::Reader;
use zabra::jute::stat::read_stat;
use zabra::types::Op;

use super::server::{Home, wait_until};
use super::wire::{Client, create_body, framed, multi_body, read_body, set_body, text};

/// What the reply to a request in flight must contain.
enum Expected {
    /// The version after the write.
    Set(i32),
    /// The version that a read after the write sees.
    Get(i32),
    /// Neither an event nor an error.
    Anything,
}

/// Sets and gets of the session's own znode in random order, `window` at a time.
fn own_writes_are_seen(addr: SocketAddr, seed: u64, requests: usize, window: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::connect(addr);
    let path = client.create_mode("/own-", b"0", 2).expect("new");
    let mut version = 0;
    let mut waiting: VecDeque<(i32, Expected)> = VecDeque::new();
    let mut zxid = 0;
    let mut sent = 0;
    while sent < requests || !waiting.is_empty() {
        if sent < requests && waiting.len() < window && random.u8(..4) != 0 {
            sent += 1;
            let (op, body, expected) = match random.u8(..6) {
                0 | 1 => {
                    version += 1;
                    (Op::SET_DATA, set_body(&path, version.to_string().as_bytes(), -1), Expected::Set(version))
                }
                2 | 3 => (Op::GET_DATA, read_body(&path, false), Expected::Get(version)),
                4 => {
                    version += 1;
                    let ops = [
                        (Op::CHECK, [text(&path), (version - 1).to_be_bytes().to_vec()].concat()),
                        (Op::SET_DATA, set_body(&path, version.to_string().as_bytes(), -1)),
                    ];
                    (Op::MULTI, multi_body(&ops), Expected::Anything)
                }
                _ => (Op::SYNC, text("/"), Expected::Anything),
            };
            waiting.push_back((client.send(op, &body), expected));
            continue;
        }
        let Some((xid, expected)) = waiting.pop_front() else { continue };
        let reply = client.reply();
        assert_eq!((reply.xid, reply.err), (xid, 0));
        assert!(reply.zxid >= zxid, "time goes back: {:x} after {zxid:x}", reply.zxid);
        zxid = reply.zxid;
        let mut r = Reader::new(&reply.body);
        match expected {
            Expected::Set(version) => assert_eq!(read_stat(&mut r).map(|s| s.version), Ok(version)),
            Expected::Get(version) => {
                assert_eq!(r.buffer().expect("data"), Some(version.to_string().as_bytes()));
                assert_eq!(read_stat(&mut r).map(|s| s.version), Ok(version));
            }
            Expected::Anything => {}
        }
    }
}

fn sessions(home: &Home, sessions: u64, requests: usize, window: usize) {
    let server = home.start();
    let addr = server.addr();
    let threads: Vec<_> =
        (0..sessions).map(|s| thread::spawn(move || own_writes_are_seen(addr, s, requests, window))).collect();
    for thread in threads {
        thread.join().expect("every answer was right");
    }
    server.stop();
}

#[test]
fn a_session_sees_its_own_writes_in_order() {
    sessions(&Home::new("zabra.shards=1"), 4, 3000, 100);
}

#[test]
fn a_session_sees_its_own_writes_in_order_with_several_shards() {
    sessions(&Home::new("zabra.shards=3"), 6, 2000, 100);
}

#[test]
fn a_small_limit_of_outstanding_requests_delays_but_loses_nothing() {
    sessions(&Home::new("globalOutstandingLimit=3\nzabra.shards=2"), 4, 1000, 200);
}

/// Two CPUs that this process may use; `None` if there is only one.
fn cpus_apart() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let list = text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("CPUs").trim();
    let numbers = list.split(',').flat_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        from.parse::<usize>().expect("a CPU")..=to.parse::<usize>().expect("a CPU")
    });
    let two: Vec<String> = numbers.take(2).map(|n| n.to_string()).collect();
    (two.len() == 2).then(|| two.join(","))
}

/// Sends `set, get, set` in one packet: the read must see the first write and not the second, although the peer core,
/// on a thread of its own, may have both synced before the shard handles the read.
fn a_read_between_two_writes(addr: SocketAddr, rounds: i32) {
    let mut client = Client::connect(addr);
    let path = client.create_mode("/between-", b"", 2).expect("new");
    for round in 0..rounds {
        let ops = [
            (Op::SET_DATA, set_body(&path, format!("{round} first").as_bytes(), 2 * round)),
            (Op::GET_DATA, read_body(&path, false)),
            (Op::SET_DATA, set_body(&path, format!("{round} second").as_bytes(), 2 * round + 1)),
        ];
        let packet: Vec<u8> = ops.iter().zip(1..).flat_map(|((op, body), xid)| framed(xid, *op, body)).collect();
        client.raw().send(&packet).expect("sent");
        let replies = [(); 3].map(|()| client.reply());
        assert_eq!(replies.each_ref().map(|r| (r.xid, r.err)), [(1, 0), (2, 0), (3, 0)], "round {round}");
        let mut r = Reader::new(&replies[1].body);
        let data = r.buffer().expect("data").map(<[u8]>::to_vec);
        assert_eq!(data, Some(format!("{round} first").into_bytes()), "the read went past a write after it");
        assert_eq!(read_stat(&mut r).map(|s| s.version), Ok(2 * round + 1));
        assert!(replies[0].zxid <= replies[1].zxid && replies[1].zxid < replies[2].zxid, "round {round}: {replies:?}");
    }
}

#[test]
fn a_read_between_two_writes_sees_the_first_only_with_shard_and_peer_on_different_threads() {
    // On separate cores; or, if there is only one CPU, with a shard on another thread than the peer's.
    let lines = cpus_apart().map_or_else(|| "zabra.shards=4".to_owned(), |list| format!("zabra.cores={list}"));
    let home = Home::new(&lines);
    let server = home.start();
    let addr = server.addr();
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || a_read_between_two_writes(addr, 400))).collect();
    for thread in threads {
        thread.join().expect("every answer was right");
    }
    server.stop();
}

/// What a session sent on a connection that it has left must be executed before the first read on its next connection,
/// or never. A client that checks whether its write was executed must not be told no and find it later.
#[test]
fn what_a_left_connection_asked_is_over_when_the_next_one_is_answered() {
    for lines in ["zabra.shards=1", "zabra.shards=3"] {
        let home = Home::new(lines);
        let server = home.start();
        let mut client = Client::connect(server.addr());
        let path = client.create("/left", b"").expect("new");
        let mut done = 0;
        for round in 0..150 {
            let resumption = client.resumption();
            let sets: Vec<u8> =
                (1..=20).flat_map(|xid| framed(xid, Op::SET_DATA, &set_body(&path, &[round; 2000], -1))).collect();
            client.raw().send(&sets).expect("sent");
            if round % 2 == 0 {
                // Some requests have arrived.
                client.reply();
            }
            let mut next = Client::handshake(server.addr(), &resumption).expect("an answer").expect("it lives");
            let seen = next.get(&path, false).expect("there").1;
            thread::sleep(Duration::from_millis(8));
            let later = next.get(&path, false).expect("there").1;
            assert_eq!(later.mzxid, seen.mzxid, "round {round} of {lines}: a write came after the read");
            done += i32::from(seen.version > 0);
            client = next;
        }
        assert!(done > 0, "nothing was ever done");
        server.stop();
    }
}

/// Clients that pipeline, vanish, come back on other connections, close and expire, all at the same time.
fn chaos(addr: SocketAddr, seed: u64, rounds: usize, served: &AtomicUsize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut resumption = None;
    for _ in 0..rounds {
        let client = match resumption.take() {
            Some(r) => Client::handshake(addr, &r).ok().flatten(),
            None => None,
        };
        let timeout_ms = if random.bool() { 600_000 } else { 500 };
        let mut client = client.unwrap_or_else(|| Client::with_timeout(addr, timeout_ms));
        let mut waiting = VecDeque::new();
        for _ in 0..random.usize(1..150) {
            let path = format!("/chaos/{}", random.u8(..30));
            let (op, body) = match random.u8(..10) {
                0 => (Op::CREATE, create_body(&path, b"x", 0)),
                1 => (Op::CREATE, create_body(&path, b"x", 1)),
                2 => (Op::CREATE, create_body(&format!("{path}-"), b"x", 3)),
                3 => (Op::DELETE, [text(&path), (-1i32).to_be_bytes().to_vec()].concat()),
                4 => (Op::SET_DATA, set_body(&path, b"y", -1)),
                5 => (Op::GET_DATA, read_body(&path, true)),
                6 => (Op::GET_CHILDREN, read_body("/chaos", true)),
                7 => (Op::EXISTS, read_body(&path, true)),
                8 => (Op::ADD_WATCH, [text(&path), i32::from(random.bool()).to_be_bytes().to_vec()].concat()),
                _ => (
                    Op::MULTI,
                    multi_body(&[(Op::CREATE, create_body(&path, b"", 1)), (Op::SET_DATA, set_body(&path, b"", 0))]),
                ),
            };
            match client.try_send(op, &body) {
                Ok(xid) => waiting.push_back(xid),
                Err(_) => break,
            }
        }
        let end = random.u8(..6);
        if end == 0 {
            // closeSession in the middle of everything, twice.
            let twice = [framed(9999, Op::CLOSE_SESSION, &[]), framed(10_000, Op::CLOSE_SESSION, &[])].concat();
            let _ = client.raw().send(&twice);
        }
        let read = if end <= 2 { waiting.len() } else { random.usize(..=waiting.len()) };
        for _ in 0..read {
            match client.try_reply() {
                Ok(reply) => {
                    assert_eq!(Some(reply.xid), waiting.pop_front(), "answers come in order");
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => break,
            }
        }
        resumption = (end != 0).then(|| client.resumption());
        match end {
            1 => drop(client.close_if_alive()),
            // Perhaps the session expires without the client noticing.
            2 if timeout_ms == 500 => thread::sleep(Duration::from_millis(700)),
            3 => client.disconnect(),
            4 => {
                // Another connection takes the session over while this one has requests in flight.
                let taken = Client::handshake(addr, &client.resumption()).ok().flatten();
                drop(taken);
            }
            _ => {}
        }
    }
}

#[test]
fn sessions_that_come_and_go_in_the_middle_of_everything_harm_nobody() {
    let home = Home::new("zabra.shards=3\ntickTime=100\nsnapCount=500\n4lw.commands.whitelist=mntr");
    let server = home.start();
    let mut bystander = Client::connect(server.addr());
    bystander.create("/chaos", b"").expect("new");
    bystander.create("/calm", b"").expect("new");
    let connections = || {
        let text = server.word("mntr");
        text.lines().find(|line| line.starts_with("zk_num_alive_connections\t")).map(str::to_owned)
    };
    let alone = connections();
    assert!(alone.is_some(), "the word mntr counts connections");
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..6)
        .map(|seed| {
            let (addr, served) = (server.addr(), served.clone());
            thread::spawn(move || chaos(addr, seed, 40, &served))
        })
        .collect();
    let mut version = 0;
    while threads.iter().any(|t| !t.is_finished()) {
        version += 1;
        assert_eq!(bystander.set("/calm", b"", -1).expect("served").version, version);
        assert_eq!(bystander.get("/calm", false).expect("served").1.version, version);
    }
    for thread in threads {
        thread.join().expect("every answer was right");
    }
    assert!(served.load(Ordering::Relaxed) > 1000);
    // Requests of clients that are gone may still be on their way. When their connections are closed all are submitted, and
    // the next write comes behind them.
    wait_until("the server lets go of closed connections", || connections() == alone);
    version += 1;
    assert_eq!(bystander.set("/calm", b"", -1).expect("served").version, version);
    let names = bystander.children("/chaos", false).expect("served");
    let owners = |client: &mut Client, names: &[String]| -> Vec<_> {
        let paths = names.iter().map(|n| format!("/chaos/{n}"));
        paths.map(|p| client.exists(&p, false).map(|s| (s.czxid, s.ephemeral_owner)).ok()).collect()
    };
    server.kill();
    let server = home.start();
    let said = server.stderr();
    assert!(!said.contains("digest"), "{said}");
    let mut client = Client::connect(server.addr());
    // Sessions that were alive still have their ephemerals, unless they expired meanwhile.
    let there = client.children("/chaos", false).expect("served");
    assert!(there.iter().all(|n| names.contains(n)), "nothing comes back that was gone");
    assert_eq!(owners(&mut client, &there).len(), there.len());
    assert_eq!(client.get("/calm", false).expect("there").1.version, version);
    server.stop();
}
