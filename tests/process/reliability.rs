//! Faults of other servers that the other tests here do not cover: see `tests/RELIABILITY.md`.

use std::thread;
use std::time::{Duration, Instant};

use zabra::jute::Reader;
use zabra::types::Op;

use super::server::{Home, wait_until};
use super::wire::{Client, Raw, create_body, multi_body, new_session, read_body, set_body, text};

/// ZOOKEEPER-1049: when hundreds of sessions expire at the same moment, with many ephemerals each, this must not delay
/// the pings of others, or these expire next.
#[test]
fn a_flood_of_expiries_takes_nobody_along() {
    let home = Home::new("tickTime=200\nminSessionTimeout=600\nzabra.shards=2");
    let server = home.start();
    let addr = server.addr();
    let mut owner = Client::connect(addr);
    owner.create("/dead", b"").expect("new");
    let mut living: Vec<Client> = (0..40).map(|_| Client::with_timeout(addr, 5000)).collect();
    for client in &mut living {
        let path = format!("/living-{}", client.session.0);
        client.create_mode(&path, b"", 1).expect("new");
    }
    let dying: Vec<_> = (0..4)
        .map(|t| {
            thread::spawn(move || {
                let made = (0..150).map(|i| {
                    let mut client = Client::with_timeout(addr, 2000);
                    for n in 0..4 {
                        client.create_mode(&format!("/dead/{t}-{i}-{n}"), b"", 1).expect("new");
                    }
                    client
                });
                made.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    let mut silent: Vec<Client> = Vec::new();
    for thread in dying {
        // While the sessions are created, and then while they expire.
        while !thread.is_finished() {
            ping_all(&mut living, &mut worst);
        }
        silent.extend(thread.join().expect("sessions are made"));
    }
    // Silent connections stay open: only their sessions end.
    wait_until("the silent are gone", || {
        ping_all(&mut living, &mut worst);
        owner.children("/dead", false).expect("served").is_empty()
    });
    for client in &mut living {
        let path = format!("/living-{}", client.session.0);
        assert_eq!(client.exists(&path, false).map(|s| s.ephemeral_owner), Ok(client.session.0));
    }
    assert!(worst < Duration::from_millis(5000), "a ping took {worst:?}");
    drop(silent);
    server.stop();
}

/// Pings on all connections; records the longest time that one took.
fn ping_all(clients: &mut [Client], worst: &mut Duration) {
    for client in clients {
        let began = Instant::now();
        client.ping();
        *worst = (*worst).max(began.elapsed());
    }
    thread::sleep(Duration::from_millis(20));
}

/// ZOOKEEPER-706: a client with more watches than fit into one packet sets them again in several, as Java's client does
/// (128 KiB each).
#[test]
fn more_watches_than_fit_into_a_packet_are_set_again_in_several() {
    let home = Home::new("").define("jute.maxbuffer=200000");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/w", b"").expect("new");
    let long = "x".repeat(700);
    let paths: Vec<String> = (0..1000).map(|i| format!("/w/{long}{i}")).collect();
    for path in &paths {
        assert_eq!(client.exists(path, true), Err(-101));
    }
    server.kill();
    let server = home.start();
    let mut client = Client::handshake(server.addr(), &client.resumption()).expect("an answer").expect("it lives");
    let seen = client.zxid.to_be_bytes();
    for piece in paths.chunks(200) {
        let mut body = seen.to_vec();
        body.extend(0i32.to_be_bytes());
        body.extend((piece.len() as i32).to_be_bytes());
        piece.iter().for_each(|p| body.extend(text(p)));
        body.extend(0i32.to_be_bytes());
        assert!((120_000..200_000).contains(&body.len()), "{}", body.len());
        assert_eq!(client.call(Op::SET_WATCHES, &body).err, 0);
    }
    let mut other = Client::connect(server.addr());
    for path in &paths {
        other.create(path, b"").expect("new");
    }
    client.call(Op::SYNC, &text("/"));
    let told: Vec<String> = client.events.drain(..).map(|e| e.path).collect();
    assert_eq!(told, paths);
    server.stop();
}

/// ZOOKEEPER-4843: lengths near the largest number cause neither an overflow nor an allocation.
#[test]
fn the_largest_jute_maxbuffer_overflows_nothing() {
    for limit in ["1073741823", "2147483647"] {
        let home = Home::new("").define(&format!("jute.maxbuffer={limit}"));
        let server = home.start();
        let mut client = Client::connect(server.addr());
        client.create("/a", &[7; 2_000_000]).expect("within");
        let before = server.memory();
        let mut giants: Vec<Raw> = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::connect(server.addr());
            raw.handshake(&new_session(60_000)).expect("a session");
            let len: i32 = limit.parse().expect("a number");
            raw.send(&[&len.to_be_bytes()[..], &1i32.to_be_bytes(), &Op::GET_DATA.0.to_be_bytes()].concat())
                .expect("sent");
            giants.push(raw);
        }
        assert_eq!(client.get("/a", false).map(|(d, _)| d.len()), Ok(2_000_000));
        let grown = server.memory().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for announced lengths");
        drop(giants);
        server.kill();
        let server = home.start();
        let mut client = Client::connect(server.addr());
        assert_eq!(client.get("/a", false).map(|(d, _)| d.len()), Ok(2_000_000));
        server.stop();
    }
}

/// ZOOKEEPER-4219: quotas apply inside a multi as they do outside, and if one refuses an operation the whole multi is
/// undone.
#[test]
fn quotas_count_inside_a_multi() {
    let home = Home::new("enforceQuota=true");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for (path, data) in [
        ("/a", &b""[..]),
        ("/a/b", b"12345"),
        ("/zookeeper/quota/a", b""),
        ("/zookeeper/quota/a/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3"),
        ("/zookeeper/quota/a/zookeeper_stats", b"count=2,bytes=5"),
    ] {
        client.create(path, data).expect("new");
    }
    let multi = |client: &mut Client, ops: &[(Op, Vec<u8>)]| client.call(Op::MULTI, &multi_body(ops)).err;
    let set = |path: &str, len: usize| (Op::SET_DATA, set_body(path, &vec![1; len], -1));
    let create = |path: &str| (Op::CREATE, create_body(path, b"", 0));
    assert_eq!(multi(&mut client, &[set("/a/b", 10), create("/a/c")]), 0, "just within");
    for beyond in [&[set("/a/b", 3), set("/a/c", 8)][..], &[set("/a/b", 1), create("/a/d")]] {
        let reply = client.call(Op::MULTI, &multi_body(beyond));
        let last = reply.body.len() - 9 - 4;
        assert_eq!(reply.body[last..last + 4], (-125i32).to_be_bytes(), "{:?}", reply.body);
    }
    assert_eq!(client.get("/a/b", false).map(|(d, _)| d.len()), Ok(10), "taken back");
    // A check outside a multi is not allowed, and does no harm (ZOOKEEPER-2623).
    let check = [text("/a/b"), (-1i32).to_be_bytes().to_vec()].concat();
    let mut raw = Client::connect(server.addr());
    raw.try_send(Op::CHECK, &check).expect("sent");
    let outcome = raw.try_reply();
    assert!(outcome.is_err() || outcome.is_ok_and(|r| r.err != 0));
    assert_eq!(client.call(Op::GET_DATA, &read_body("/a/b", false)).err, 0);
    let (used, _) = client.get("/zookeeper/quota/a/zookeeper_stats", false).expect("there");
    assert!(used.starts_with(b"count=3,bytes=10"), "{}", String::from_utf8_lossy(&used));
    server.stop();
}

/// ZOOKEEPER-1046: sequence numbers continue after a restart from a snapshot or from the log, even if the znodes were
/// deleted.
#[test]
fn sequence_numbers_go_on_after_a_restart() {
    let home = Home::new("snapCount=50");
    let mut next = 0;
    for _ in 0..4 {
        let server = home.start();
        let mut client = Client::connect(server.addr());
        if next == 0 {
            client.create("/s", b"").expect("new");
        }
        for _ in 0..40 {
            let path = client.create_mode("/s/n-", b"", 2).expect("never there before");
            assert_eq!(path, format!("/s/n-{next:010}"));
            next += 1;
            if next % 3 != 0 {
                client.delete(&path, -1).expect("there");
            }
        }
        let stat = client.exists("/s", false).expect("there");
        server.kill();
        let server = home.start();
        let mut client = Client::connect(server.addr());
        // Including pzxid and cversion (ZOOKEEPER-3249).
        assert_eq!(client.exists("/s", false), Ok(stat));
        server.stop();
    }
    assert!(home.snapshots().len() > 2, "no snapshot was taken");
}

/// A request after closeSession in the same packet has no effect and causes no events (ZOOKEEPER-4907).
#[test]
fn nothing_after_the_end_of_a_session_is_done() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let mut packet = super::wire::framed(1, Op::CLOSE_SESSION, &[]);
    packet.extend(super::wire::framed(2, Op::CREATE, &create_body("/late", b"", 0)));
    packet.extend(super::wire::framed(3, Op::GET_DATA, &read_body("/", false)));
    client.raw().send(&packet).expect("sent");
    let reply = client.reply();
    assert_eq!((reply.xid, reply.err), (1, 0));
    assert_eq!(client.raw().closed(), b"", "nothing is answered after it");
    let mut other = Client::connect(server.addr());
    assert_eq!(other.exists("/late", false), Err(-101));
    let reply = other.call(Op::GET_CHILDREN, &read_body("/", false));
    let mut r = Reader::new(&reply.body);
    assert_eq!(r.i32(), Ok(1), "zookeeper alone");
    server.stop();
}
