//! Many hostile clients at once: the memory that they can make the server use is limited, and an ordinary session
//! meanwhile gets correct replies in order. `tools/load/hostile` measures how much they delay others.

use std::net::SocketAddr;

use zabra::jute::Put;
use zabra::types::Op;

use super::hostile::{Bystander, raise_open_files};
use super::server::{Home, Server, wait_until};
use super::wire::{Client, Raw, create_body, framed, multi_body, new_session, read_body, set_body, text};

const MIB: u64 = 1 << 20;

/// Most memory that a client which does not read, or reads much, can make the server use: a megabyte of replies, one
/// more on its way to the socket, and a little more for reads between its writes, which wait in the shard.
const UNREAD: u64 = 3 * MIB;

/// Most additional memory, whatever the number of clients.
const SLACK: u64 = 24 * MIB;

/// The server, a bystander, and the server's memory before the hostile clients come.
struct Scene {
    server: Server,
    bystander: Bystander,
    before: u64,
    _home: Home,
}

impl Scene {
    fn new() -> Scene {
        raise_open_files();
        let home = Home::new("4lw.commands.whitelist=mntr");
        let server = home.start();
        let mut bystander = Bystander::at(&server);
        bystander.is_served();
        let before = server.memory();
        Scene { server, bystander, before, _home: home }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    fn grown(&self) -> u64 {
        self.server.memory().saturating_sub(self.before)
    }

    /// Checks several times that the bystander is answered and that the server's memory has not grown by more than
    /// `bytes`.
    fn stays_below(&mut self, bytes: u64, why: &str) {
        for _ in 0..20 {
            self.bystander.is_served();
            let grown = self.grown();
            assert!(grown < bytes, "{} MiB {why}", grown / MIB);
        }
    }

    /// A value of mntr.
    fn figure(&self, name: &str) -> u64 {
        let text = self.server.word("mntr");
        let line =
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('\t')).unwrap_or_else(|| panic!("no {name}"));
        line.parse::<f64>().expect("a number") as u64
    }

    /// Creates a znode of a megabyte and one with 10,000 children.
    fn with_much_to_read(&self) {
        let mut client = Client::connect(self.addr());
        client.create("/big", &vec![7; 1_000_000]).expect("new");
        client.create("/many", b"").expect("new");
        for part in 0..2 {
            let ops: Vec<_> = (0..5_000)
                .map(|n| {
                    (
                        Op::CREATE,
                        create_body(&format!("/many/a-child-with-a-rather-long-name-{:06}", part * 5_000 + n), b"", 0),
                    )
                })
                .collect();
            assert_eq!(client.call(Op::MULTI, &multi_body(&ops)).err, 0);
        }
        client.close();
    }
}

/// Sends as much as the server accepts: the sender blocks when the server no longer reads its requests.
fn send_what_fits(client: &mut Client, bytes: &[u8]) -> usize {
    client.raw().stream().set_nonblocking(true).expect("a socket");
    let mut sent = 0;
    while sent < bytes.len() {
        match std::io::Write::write(&mut client.raw().stream(), &bytes[sent..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => sent += n,
        }
    }
    client.raw().stream().set_nonblocking(false).expect("a socket");
    sent
}

#[test]
fn many_who_do_not_read_keep_two_replies_each() {
    const MANY: usize = 40;
    let mut scene = Scene::new();
    scene.with_much_to_read();
    let asks: Vec<u8> = (1..=50).flat_map(|xid| framed(xid, Op::GET_DATA, &read_body("/big", false))).collect();
    let mut deaf: Vec<Client> = (0..MANY).map(|_| Client::connect(scene.addr())).collect();
    deaf.iter_mut().for_each(|c| c.raw().send(&asks).expect("sent"));
    scene.stays_below(MANY as u64 * UNREAD + SLACK, "for clients that do not read");
    for xid in 1..=50 {
        let reply = deaf[MANY / 2].reply();
        assert_eq!((reply.xid, reply.err, reply.body.len()), (xid, 0, 4 + 1_000_000 + 68));
    }
    drop(deaf);
    wait_until("the server gives back what they needed", || scene.grown() < 16 * MIB);
    scene.bystander.is_served();
}

/// Reads between writes must be answered together with the writes, whether the client reads or not, so only a limited
/// number is accepted.
#[test]
fn many_who_write_between_large_reads_and_do_not_read_keep_little() {
    const MANY: usize = 40;
    let mut scene = Scene::new();
    scene.with_much_to_read();
    let mut asks = Vec::new();
    for xid in 1..=48 {
        if xid % 8 == 0 {
            asks.extend(framed(xid, Op::SET_DATA, &set_body("/many", b"", -1)));
        } else {
            asks.extend(framed(xid, Op::GET_CHILDREN2, &read_body("/many", false)));
        }
    }
    let mut deaf: Vec<Client> = (0..MANY).map(|_| Client::connect(scene.addr())).collect();
    deaf.iter_mut().for_each(|c| c.raw().send(&asks).expect("sent"));
    scene.stays_below(MANY as u64 * UNREAD + SLACK, "for clients that write and do not read");
    for xid in 1..=48 {
        let reply = deaf[1].reply();
        assert_eq!((reply.xid, reply.err), (xid, 0));
    }
    scene.bystander.is_served();
}

#[test]
fn frames_that_never_end_cost_what_was_sent_of_them() {
    const MANY: usize = 1000;
    let mut scene = Scene::new();
    let mut half: Vec<Client> = (0..MANY).map(|_| Client::connect(scene.addr())).collect();
    for client in &mut half {
        client.raw().send(&1_000_000i32.to_be_bytes()).expect("sent");
    }
    scene.stays_below(32 * MIB, "for frames that were only announced");
    for _ in 0..3 {
        half.iter_mut().for_each(|c| c.raw().send(&[0]).expect("sent"));
        scene.bystander.is_served();
    }
    scene.stays_below(32 * MIB, "for frames of a few bytes");
    // All but the last byte of a megabyte each: no more than jute.maxbuffer per connection, and the buffers' spare
    // capacity.
    let body = vec![0; 999_000];
    half.iter_mut().take(20).for_each(|c| c.raw().send(&body).expect("sent"));
    scene.stays_below(32 * MIB + 20 * 3 * MIB, "for frames of a megabyte");
    drop(half);
    wait_until("the server lets go of closed connections", || scene.figure("zk_num_alive_connections") < 3);
    scene.bystander.is_served();
}

#[test]
fn a_flood_of_sessions_leaves_nothing_behind() {
    let mut scene = Scene::new();
    for round in 0..10 {
        for n in 0..40 {
            match n % 4 {
                // The client leaves before it sends anything, in the middle of the handshake, or before the reply.
                0 => drop(Raw::connect(scene.addr())),
                1 => Raw::connect(scene.addr()).send(&[0, 0, 0, 45, 0]).expect("sent"),
                2 => {
                    let mut hello = Vec::new();
                    new_session(600_000).put(&mut hello);
                    Raw::connect(scene.addr()).send(&hello).expect("sent");
                }
                _ => Client::connect(scene.addr()).close(),
            }
        }
        scene.bystander.is_served();
        let grown = scene.grown();
        assert!(grown < 16 * MIB, "{} MiB after {round} rounds", grown / MIB);
    }
    wait_until("the server lets go of closed connections", || scene.figure("zk_num_alive_connections") < 3);
    assert_eq!(scene.figure("zk_outstanding_requests"), 0);
}

#[test]
fn a_flood_of_giant_multis_waits_outside() {
    const MANY: usize = 16;
    const DEEP: i32 = 6;
    let mut scene = Scene::new();
    let mut greedy: Vec<Client> = (0..MANY).map(|_| Client::connect(scene.addr())).collect();
    greedy[0].create("/target", b"").expect("new");
    // Each is within jute.maxbuffer, and in every second one the last operation fails.
    let multi = |fails: bool| {
        let mut ops: Vec<_> = (0..200).map(|_| (Op::SET_DATA, set_body("/target", &[9; 4_900], -1))).collect();
        ops.push((Op::SET_DATA, set_body("/target", b"", if fails { 1_000_000 } else { -1 })));
        multi_body(&ops)
    };
    let (good, bad) = (multi(false), multi(true));
    assert!(good.len() < 1_048_575 && good.len() > 950_000);
    let requests: Vec<u8> =
        (1..=DEEP).flat_map(|n| framed(n + 1, Op::MULTI, if n % 2 == 0 { &bad } else { &good })).collect();
    let mut unsent: Vec<usize> = greedy.iter_mut().map(|c| send_what_fits(c, &requests)).collect();
    for _ in 0..DEEP {
        // About a megabyte in the pipeline, and on each connection one waiting frame and the buffers' spare capacity.
        scene.stays_below(MANY as u64 * 4 * MIB + 16 * MIB, "for multis that are not done");
        assert!(scene.figure("zk_outstanding_requests") < 4, "large ones go one after the other");
        for (client, sent) in greedy.iter_mut().zip(&mut unsent) {
            *sent += send_what_fits(client, &requests[*sent..]);
        }
    }
    // Every one is answered, in order, and is executed completely or not at all.
    let threads: Vec<_> = greedy
        .into_iter()
        .zip(unsent)
        .enumerate()
        .map(|(at, (mut client, sent))| {
            let rest = requests[sent..].to_vec();
            std::thread::spawn(move || {
                client.raw().send(&rest).expect("sent");
                for n in 1..=DEEP {
                    let reply = client.reply();
                    assert_eq!((reply.xid, reply.err), (n + 1, 0), "connection {at}");
                    let first = i32::from_be_bytes(*reply.body.first_chunk().expect("a result"));
                    assert_eq!(
                        Op(first),
                        if n % 2 == 0 { Op::ERROR } else { Op::SET_DATA },
                        "connection {at}, multi {n}"
                    );
                }
            })
        })
        .collect();
    scene.stays_below(MANY as u64 * 4 * MIB + 16 * MIB, "while they are done");
    threads.into_iter().for_each(|t| t.join().expect("all were answered"));
    scene.bystander.is_served();
    let stat = Client::connect(scene.addr()).exists("/target", false).expect("there");
    assert_eq!(stat.version, MANY as i32 * DEEP / 2 * 201, "refused multis changed nothing");
}

#[test]
fn who_reads_much_is_kept_in_turns_with_others() {
    const MANY: usize = 8;
    let mut scene = Scene::new();
    scene.with_much_to_read();
    let addr = scene.addr();
    let readers: Vec<_> = (0..MANY)
        .map(|n| {
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                for _ in 0..5 {
                    let xids: Vec<i32> = (0..8)
                        .map(|i| match (n + i) % 2 {
                            0 => client.send(Op::GET_CHILDREN, &read_body("/many", false)),
                            _ => client.send(Op::GET_DATA, &read_body("/big", false)),
                        })
                        .collect();
                    for xid in xids {
                        let reply = client.reply();
                        assert_eq!((reply.xid, reply.err), (xid, 0));
                        assert!(reply.body.len() > 400_000);
                    }
                }
            })
        })
        .collect();
    while readers.iter().any(|r| !r.is_finished()) {
        scene.stays_below(MANY as u64 * UNREAD + SLACK, "for clients that read much");
    }
    readers.into_iter().for_each(|r| r.join().expect("all were answered"));
}

#[test]
fn watches_by_the_hundred_thousand_cost_their_paths_and_little_more() {
    const MANY: usize = 100_000;
    let mut scene = Scene::new();
    let mut watcher = Client::connect(scene.addr());
    let path = |n: usize| format!("/watched/a-path-that-is-not-there-{n:08}");
    for from in (0..MANY).step_by(1000) {
        let xids: Vec<i32> =
            (from..from + 1000).map(|n| watcher.send(Op::EXISTS, &read_body(&path(n), true))).collect();
        for xid in xids {
            assert_eq!(watcher.reply().xid, xid);
        }
    }
    assert_eq!(scene.figure("zk_watch_count"), MANY as u64);
    let each = scene.grown() / MANY as u64;
    assert!(each < 400, "{each} bytes for a watch on a path of 42");
    scene.stays_below(MANY as u64 * 400, "for watches");
    // Setting them again takes no more memory.
    for from in (0..MANY).step_by(1000) {
        let xids: Vec<i32> =
            (from..from + 1000).map(|n| watcher.send(Op::EXISTS, &read_body(&path(n), true))).collect();
        xids.into_iter().for_each(|xid| assert_eq!(watcher.reply().xid, xid));
    }
    assert_eq!(scene.figure("zk_watch_count"), MANY as u64);
    scene.stays_below(MANY as u64 * 400, "for the same watches");
    drop(watcher);
    wait_until("watches end with their connection", || scene.figure("zk_watch_count") == 0);
}

#[test]
fn huge_lists_of_watches_are_taken_one_after_the_other() {
    const PATHS: usize = 15_000;
    let mut scene = Scene::new();
    let mut watchers: Vec<Client> = (0..4).map(|_| Client::connect(scene.addr())).collect();
    let mut body = Vec::new();
    body.put_i64(i64::MAX);
    // According to the client half of the znodes existed and are gone: an event for each. The other watches are set.
    body.put_strings(&(0..PATHS / 2).map(|n| format!("/gone/a-path-that-is-not-there-{n:08}")).collect::<Vec<_>>());
    body.put_strings(&(0..PATHS / 2).map(|n| format!("/come/a-path-that-is-not-there-{n:08}")).collect::<Vec<_>>());
    body.put_strings::<String>(&[]);
    assert!(body.len() < 1_048_575);
    for _ in 0..3 {
        for client in &mut watchers {
            client.raw().send(&framed(-8, Op::SET_WATCHES, &body)).expect("sent");
        }
        scene.stays_below(48 * MIB, "for lists of watches");
        for client in &mut watchers {
            assert_eq!(client.reply().xid, -8);
            assert_eq!(client.events.len(), PATHS / 2);
            assert!(client.events.iter().zip(0..).all(|(e, n)| e.kind == 2 && e.path.ends_with(&format!("{n:08}"))));
            client.events.clear();
        }
    }
    assert_eq!(scene.figure("zk_watch_count"), (4 * PATHS / 2) as u64);
    // Garbage instead of a list affects no other connection.
    let mut liar = Client::connect(scene.addr());
    let lie = [&0i64.to_be_bytes()[..], &i32::MAX.to_be_bytes(), &text("/a")].concat();
    liar.raw().send(&framed(-8, Op::SET_WATCHES, &lie)).expect("sent");
    assert_ne!(liar.reply().err, 0);
    scene.stays_below(48 * MIB, "for a list that is none");
}
