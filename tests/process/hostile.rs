//! Hostile clients: the offender gets an error or is disconnected, and nobody else notices.

use std::io::Write;
use std::time::Duration;

use zabra::jute::Put;
use zabra::types::Op;

use super::server::{Home, Server, wait_until};
use super::wire::{Client, Raw, create_body, framed, multi_body, new_session, read_body, set_body, text};

/// An ordinary session beside the hostile ones.
pub struct Bystander {
    client: Client,
    writes: i32,
}

impl Bystander {
    pub fn at(server: &Server) -> Bystander {
        let mut client = Client::connect(server.addr());
        client.create("/bystander", b"").expect("new");
        Bystander { client, writes: 0 }
    }

    /// Reads and writes, which must work as usual.
    pub fn is_served(&mut self) {
        self.writes += 1;
        let stat = self.client.set("/bystander", b"here", -1).expect("served");
        assert_eq!(stat.version, self.writes, "nobody else writes this znode");
        assert_eq!(self.client.get("/bystander", false).expect("served").0, b"here");
        assert_eq!(self.client.events.len(), 0);
    }
}

fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    new_session(600_000).put(&mut out);
    out
}

/// Checks that the connection is closed without a reply.
fn is_closed(server: &Server, bytes: &[u8]) {
    let mut raw = Raw::connect(server.addr());
    raw.send(bytes).expect("sent");
    assert_eq!(raw.closed(), b"", "after {:x?}", &bytes[..bytes.len().min(16)]);
}

#[test]
fn lengths_that_cannot_be_close_the_connection() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let bad: [i32; 6] = [-1, i32::MIN, i32::MAX, 0x0010_0000, 0x7fff_ffff, -2];
    for len in bad {
        is_closed(&server, &len.to_be_bytes());
        let mut client = Client::connect(server.addr());
        client.raw().send(&len.to_be_bytes()).expect("sent");
        assert_eq!(client.raw().closed(), b"", "length {len}");
        bystander.is_served();
    }
    // No request is this short.
    for short in 0..8 {
        let mut client = Client::connect(server.addr());
        let mut bytes = (short as i32).to_be_bytes().to_vec();
        bytes.resize(4 + short, 0);
        client.raw().send(&bytes).expect("sent");
        assert_eq!(client.raw().closed(), b"", "a request of {short} bytes");
    }
    // Closing the connection does not end its session.
    let client = Client::connect(server.addr());
    let resumption = client.resumption();
    let mut client = client;
    client.raw().send(&(-1i32).to_be_bytes()).expect("sent");
    client.raw().closed();
    assert!(Client::handshake(server.addr(), &resumption).expect("a handshake").is_some());
    bystander.is_served();
}

#[test]
fn garbage_is_survived() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut random = fastrand::Rng::with_seed(7);
    let before = server.memory();
    for _ in 0..150 {
        let mut raw = Raw::connect(server.addr());
        let mut bytes = vec![0; random.usize(1..3000)];
        random.fill(&mut bytes);
        if random.bool() {
            bytes.splice(0..0, hello());
        }
        // The server may close the connection in the middle.
        let _ = raw.send(&bytes);
    }
    bystander.is_served();
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB for garbage", grown >> 20);
}

#[test]
fn every_opcode_with_every_kind_of_body_is_answered_or_closed() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let bodies: [Vec<u8>; 6] =
        [vec![], vec![0xff; 3], vec![0xff; 64], vec![0; 64], text("/bystander"), [0x7f, 0xff, 0xff, 0xff].repeat(5)];
    for op in (-15..30).chain(95..115).chain([i32::MIN, i32::MAX]) {
        for body in &bodies {
            // These bodies cannot be a set or delete of the bystander's znode.
            let mut client = Client::connect(server.addr());
            client.send(Op(op), body);
            // There must be a reply, or the connection must end.
            if client.try_reply().is_ok() && Op(op) != Op::CLOSE_SESSION {
                // If the connection stays open, further requests are answered.
                if client.raw().send(&framed(-2, Op::PING, &[])).is_ok() {
                    let _ = client.try_reply();
                }
            }
            drop(client);
        }
    }
    bystander.is_served();
    server.stop();
    home.start().stop();
}

#[test]
fn mutated_requests_are_survived_and_the_log_opens_again() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut random = fastrand::Rng::with_seed(11);
    let whole = [
        (Op::CREATE, create_body("/m", b"some data", 0)),
        (Op::CREATE, create_body("/m/s-", b"some data", 3)),
        (Op::CREATE2, create_body("/m/t", b"", 1)),
        (Op::SET_DATA, set_body("/m", b"other data", -1)),
        (Op::GET_DATA, read_body("/m", true)),
        (Op::GET_CHILDREN2, read_body("/m", true)),
        (Op::MULTI, multi_body(&[(Op::CREATE, create_body("/m/u", b"x", 0)), (Op::SET_DATA, set_body("/m", b"y", 0))])),
        (Op::ADD_WATCH, [text("/m"), 1i32.to_be_bytes().to_vec()].concat()),
        (Op::AUTH, [0i32.to_be_bytes().to_vec(), text("digest"), text("user:password")].concat()),
    ];
    for _ in 0..40 {
        let mut client = Client::connect(server.addr());
        for _ in 0..50 {
            let (op, mut body) = whole[random.usize(..whole.len())].clone();
            for _ in 0..random.usize(0..3) {
                let at = random.usize(..body.len());
                body[at] = random.u8(..);
            }
            if random.u8(..8) == 0 {
                body.truncate(random.usize(..body.len()));
            }
            if client.try_send(op, &body).is_err() {
                break;
            }
        }
        // Until the server closes the connection or has answered everything.
        let _ = client.raw().send(&framed(-2, Op::PING, &[]));
        while client.try_reply().is_ok_and(|r| r.xid != -2) {}
    }
    bystander.is_served();
    server.kill();
    let server = home.start();
    assert!(!server.stderr().contains("digest"), "{}", server.stderr());
    server.stop();
}

#[test]
fn a_handshake_that_never_comes_is_not_waited_for() {
    let home = Home::new("nio.sessionlessCnxnTimeout=300");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let hello = hello();
    for part in [&hello[..0], &hello[..3], &hello[..4], &hello[..20], &hello[..hello.len() - 1]] {
        let mut raw = Raw::connect(server.addr());
        raw.send(part).expect("sent");
        assert_eq!(raw.closed(), b"", "after {} bytes of a handshake", part.len());
    }
    // A single byte from time to time does not extend the timeout.
    let mut raw = Raw::connect(server.addr());
    raw.stream().set_nonblocking(true).expect("non-blocking");
    let closed = hello[..40].iter().any(|byte| {
        std::thread::sleep(Duration::from_millis(50));
        // A read returns FIN; what is sent after it is dropped.
        raw.send(&[*byte]).is_err() || matches!(raw.stream().peek(&mut [0]), Ok(0))
    });
    assert!(closed, "a handshake of a byte now and then was waited for");
    bystander.is_served();
}

#[test]
fn thousands_of_idle_connections_cost_little_and_disturb_nobody() {
    // Both ends of each connection count towards the limits of this process and of the server.
    const MANY: usize = 2000;
    raise_open_files();
    let home = Home::new("nio.sessionlessCnxnTimeout=600000");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let before = server.memory();
    let silent: Vec<Raw> = (0..MANY).map(|_| Raw::connect(server.addr())).collect();
    let sessions: Vec<Client> = (0..MANY / 4).map(|_| Client::connect(server.addr())).collect();
    bystander.is_served();
    let each = server.memory().saturating_sub(before) / (silent.len() + sessions.len()) as u64;
    assert!(each < 64 << 10, "{each} bytes for an idle connection");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server lives").count();
    let during = descriptors();
    drop((silent, sessions));
    wait_until("the server lets go of closed connections", || descriptors() + MANY < during);
    bystander.is_served();
}

pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain calls on a local struct.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn a_client_that_does_not_read_costs_a_bounded_amount() {
    const ANSWERS: usize = 400;
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut slow = Client::connect(server.addr());
    slow.create("/big", &vec![7; 1_000_000]).expect("new");
    let before = server.memory();
    for _ in 0..ANSWERS {
        slow.send(Op::GET_DATA, &read_body("/big", false));
    }
    for _ in 0..50 {
        bystander.is_served();
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 80 << 20, "{} MiB are kept for a client that does not read", grown >> 20);
    // When it reads, everything arrives, in order.
    for xid in 2..2 + ANSWERS as i32 {
        let reply = slow.reply();
        assert_eq!((reply.xid, reply.err, reply.body.len()), (xid, 0, 4 + 1_000_000 + 68));
    }
    bystander.is_served();
}

/// Reads that wait for a write of their own session are all answered together with it, and the memory for that is
/// limited too.
#[test]
fn reads_and_writes_of_a_client_that_does_not_read_cost_a_bounded_amount() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut slow = Client::connect(server.addr());
    slow.create("/big", &vec![7; 1_000_000]).expect("new");
    slow.create("/small", b"").expect("new");
    let before = server.memory();
    let mut ops = Vec::new();
    for i in 0..400 {
        ops.push(if i % 100 == 0 || i > 390 { Op::SET_DATA } else { Op::GET_DATA });
    }
    for op in &ops {
        let body = if *op == Op::SET_DATA { set_body("/small", b"", -1) } else { read_body("/big", false) };
        slow.send(*op, &body);
    }
    for _ in 0..50 {
        bystander.is_served();
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 120 << 20, "{} MiB are kept for a client that does not read", grown >> 20);
    for (i, op) in ops.iter().enumerate() {
        let reply = slow.reply();
        let expected = if *op == Op::SET_DATA { 68 } else { 4 + 1_000_000 + 68 };
        assert_eq!((reply.xid, reply.err, reply.body.len()), (3 + i as i32, 0, expected));
    }
    bystander.is_served();
}

#[test]
fn events_for_a_client_that_does_not_read_are_bounded_too() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut deaf = Client::connect(server.addr());
    let path = format!("/{}", "x".repeat(60_000));
    deaf.call(Op::ADD_WATCH, &[text("/"), 1i32.to_be_bytes().to_vec()].concat());
    bystander.client.create(&path, b"").expect("new");
    let before = server.memory();
    let set = set_body(&path, b"", -1);
    // Each event has 60 kB: 240 MB, if they were all kept.
    for _ in 0..40 {
        let xids: Vec<i32> = (0..100).map(|_| bystander.client.send(Op::SET_DATA, &set)).collect();
        for xid in xids {
            assert_eq!(bystander.client.reply().xid, xid);
        }
        let grown = server.memory().saturating_sub(before);
        assert!(grown < 200 << 20, "{} MiB are kept for a client that does not read", grown >> 20);
    }
    bystander.is_served();
}

#[test]
fn a_giant_multi_is_done_or_refused_as_one() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut client = Client::connect(server.addr());
    let ops = |n: usize| (0..n).map(|i| (Op::CREATE, create_body(&format!("/g{i:06}"), b"", 0))).collect::<Vec<_>>();
    let body = multi_body(&ops(15_000));
    assert!(body.len() < 1_048_575);
    let reply = client.call(Op::MULTI, &body);
    assert_eq!(reply.err, 0);
    let names = client.children("/", false).expect("served");
    assert_eq!(names.len(), 15_000 + 2);
    bystander.is_served();
    // One operation more than fits into a packet.
    let mut too_large = multi_body(&ops(20_000));
    too_large.resize(1_048_576, 0);
    client.send(Op::MULTI, &too_large);
    assert_eq!(client.raw().closed(), b"");
    bystander.is_served();
    server.kill();
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).children("/", false).map(|c| c.len()), Ok(15_002));
    server.stop();
}

#[test]
fn a_connection_per_address_too_many_is_closed() {
    let home = Home::new("maxClientCnxns=3");
    let server = home.start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.addr())).collect();
    let mut raw = Raw::connect(server.addr());
    assert!(raw.handshake(&new_session(10_000)).is_err(), "the fourth is not served");
    for client in &mut clients {
        client.ping();
    }
    clients.pop().expect("three").disconnect();
    wait_until("there is room again", || Client::handshake(server.addr(), &new_session(10_000)).is_ok());
    server.stop();
}

#[test]
fn a_connection_too_many_in_all_is_closed() {
    let home = Home::new("maxCnxns=2");
    let server = home.start();
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(server.addr())).collect();
    assert!(Raw::connect(server.addr()).handshake(&new_session(10_000)).is_err(), "the third is not served");
    clients.iter_mut().for_each(|c| drop(c.ping()));
    clients.pop().expect("two").disconnect();
    wait_until("there is room again", || Client::handshake(server.addr(), &new_session(10_000)).is_ok());
    server.stop();
}

#[test]
fn who_must_authenticate_is_not_served_before() {
    let home = Home::new("enforce.auth.enabled=true\nenforce.auth.schemes=digest");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let reply = client.call(Op::GET_DATA, &read_body("/", false));
    assert_eq!((reply.err, reply.zxid), (-124, 0));
    assert_eq!(client.raw().closed(), b"");
    let mut client = Client::connect(server.addr());
    let auth = [&0i32.to_be_bytes()[..], &text("digest"), &text("user:password")].concat();
    client.raw().send(&framed(-4, Op::AUTH, &auth)).expect("sent");
    assert_eq!(client.reply().err, 0);
    assert_eq!(client.create("/a", b""), Ok("/a".into()));
    server.stop();
}

#[test]
fn a_session_that_was_closed_is_gone_for_every_connection() {
    let home = Home::new("");
    let server = home.start();
    let mut bystander = Bystander::at(&server);
    let mut client = Client::connect(server.addr());
    client.create_mode("/bystander/e", b"", 1).expect("new");
    let resumption = client.resumption();
    // Requests after closeSession in the same packet are not executed.
    let after = framed(99, Op::CREATE, &create_body("/after", b"", 0));
    client.raw().send(&[framed(98, Op::CLOSE_SESSION, &[]), after].concat()).expect("sent");
    client.raw().closed();
    assert!(Client::handshake(server.addr(), &resumption).expect("an answer").is_none(), "expired");
    assert_eq!(bystander.client.exists("/after", false), Err(-101));
    assert_eq!(bystander.client.exists("/bystander/e", false), Err(-101));
    bystander.is_served();
}

#[test]
fn the_older_connection_of_a_session_is_closed() {
    let home = Home::new("");
    let server = home.start();
    let mut old = Client::connect(server.addr());
    old.create_mode("/e", b"", 1).expect("new");
    let mut new = Client::handshake(server.addr(), &old.resumption()).expect("an answer").expect("it lives");
    assert_eq!(new.session, old.session);
    assert_eq!(old.raw().closed(), b"");
    assert_eq!(new.exists("/e", false).map(|s| s.ephemeral_owner), Ok(new.session.0));
    // Nobody can take the session over without its password.
    let stranger = zabra::proto::connect::ConnectRequest { passwd: vec![1; 16], ..new.resumption() };
    assert!(Client::handshake(server.addr(), &stranger).expect("an answer").is_none());
    server.stop();
}

#[test]
fn a_write_of_many_small_pieces_is_one_request() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"").expect("new");
    let frame = framed(1, Op::SET_DATA, &set_body("/a", b"in pieces", -1));
    for byte in frame {
        client.raw().stream().write_all(&[byte]).expect("sent");
    }
    let reply = client.reply();
    assert_eq!((reply.xid, reply.err), (1, 0));
    let mut two = framed(2, Op::GET_DATA, &read_body("/a", false));
    two.put_i32(8);
    client.raw().send(&two).expect("sent");
    assert_eq!(client.reply().body[4..13], *b"in pieces");
    client.raw().send(&framed(-2, Op::PING, &[])[4..]).expect("sent");
    assert_eq!(client.reply().xid, -2);
    server.stop();
}
