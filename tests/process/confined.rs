//! Hosts with restrictions: no io_uring, little locked memory, few descriptors, no privileges.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::server::{Confined, Home, Server, free_port, is_root, wait_until};
use super::wire::Client;

/// What every server must do, wherever it runs.
fn works(server: &Server) {
    let (mut writer, mut watcher) = (Client::connect(server.addr()), Client::connect(server.addr()));
    writer.create("/a", b"1").expect("created");
    assert_eq!(watcher.get("/a", true).expect("read").0, b"1");
    let long = vec![7; 900_000];
    writer.set("/a", &long, 0).expect("set");
    assert!(watcher.get("/a", false).expect("read").0 == long);
    assert_eq!(watcher.events.pop_front().expect("an event").path, "/a");
    assert!(server.word("srvr").contains("Mode: standalone"));
}

/// Its log must say in one line that it uses epoll, and `why`.
fn says_epoll(server: &Server, why: &str) {
    wait_until("the log says what sockets are on", || server.stderr().contains("sockets are on"));
    let said = server.stderr();
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("sockets are on")).collect();
    assert!(lines.len() == 1 && lines[0].contains("epoll") && lines[0].contains(why), "{said}");
}

/// Whether this host allows io_uring; then a server without restrictions uses it.
fn uring_works() -> bool {
    let home = Home::new("").io("auto");
    let server = home.start();
    wait_until("the log says what sockets are on", || server.stderr().contains("sockets are on"));
    let works = server.stderr().contains("sockets are on io_uring");
    assert!(works || std::env::var_os("ZABRA_TEST_NEEDS_IO_URING").is_none(), "{}", server.stderr());
    server.stop();
    works
}

const CONTAINER: Confined =
    Confined { no_io_uring: true, locked_memory: None, open_files: None, nobody: false, threads: None };

#[test]
fn a_container_that_forbids_io_uring_is_served_over_epoll() {
    for cores in ["", "zabra.shards=2"] {
        let home = Home::new(cores).io("auto").confined(CONTAINER);
        let server = home.start();
        works(&server);
        says_epoll(&server, "io_uring_setup was refused (EPERM)");
        server.stop();
        let server = home.start();
        let mut client = Client::connect(server.addr());
        assert_eq!(client.get("/a", false).expect("it was stored").0.len(), 900_000);
        server.kill();
    }
}

#[test]
fn io_uring_alone_is_refused_where_it_is_forbidden() {
    let home = Home::new("").io("io_uring").confined(CONTAINER);
    let (code, said) = home.start_refused();
    assert_eq!(code, 20, "{said}");
    assert!(said.contains("seccomp") && said.contains("zabra.io=auto"), "{said}");
}

#[test]
fn little_locked_memory_is_enough_for_epoll() {
    let confined = Confined { locked_memory: Some(64 << 10), ..Confined::default() };
    let home = Home::new("").io("auto").confined(confined);
    let server = home.start();
    works(&server);
    // On a host that forbids io_uring altogether, that is the reason in the message.
    says_epoll(&server, if uring_works() { "RLIMIT_MEMLOCK is 64 KiB" } else { "io_uring cannot be used" });
    server.stop();
}

#[test]
fn a_user_without_privileges_may_run_it() {
    for no_io_uring in [false, true] {
        let home = Home::new("").io("auto").confined(Confined { nobody: true, no_io_uring, ..Confined::default() });
        let server = home.start();
        works(&server);
        server.stop();
    }
}

/// Connections without a limit must not end the server: some descriptors are reserved for its files.
#[test]
fn clients_cannot_take_the_descriptors_of_log_and_snapshots() {
    for io in ["auto", "epoll"] {
        let confined = Confined { open_files: Some(128), ..Confined::default() };
        let home =
            Home::new("nio.sessionlessCnxnTimeout=600000").io(io).confined(confined).define("zookeeper.snapCount=20");
        let server = home.start();
        let mut client = Client::connect(server.addr());
        // More than the server accepts with its limit of 128 descriptors; the rest fits into the backlog.
        let crowd: Vec<TcpStream> =
            (0..110).map(|_| TcpStream::connect(server.addr()).expect("at least in the backlog")).collect();
        wait_until("it stops accepting", || server.stderr().contains("no more are accepted"));
        let before = home.snapshots().len();
        let mut made = 0;
        wait_until("snapshots are written", || {
            (0..10).for_each(|i| drop(client.create(&format!("/n{}", made + i), b"x").expect("created")));
            made += 10;
            home.snapshots().len() >= before + 3
        });
        drop(crowd);
        wait_until("it goes on", || server.stderr().contains("accepting connections again"));
        let mut another = Client::connect(server.addr());
        another.exists("/n0", false).expect("served");
        server.stop();
    }
}

/// Starts a server whose user may have so many threads; `None` if it ended instead, and then it said why.
fn with_threads(threads: u64, io: &str, admin: u16) -> Option<(Home, Server)> {
    let lines = format!("admin.enableServer=true\nadmin.serverPort={admin}\nadmin.serverAddress=127.0.0.1");
    let home = Home::new(&lines).io(io).confined(Confined { threads: Some(threads), ..Confined::default() });
    let mut server = home.spawn();
    let mut ended = None;
    wait_until("the server serves or ends", || {
        ended = server.ended();
        ended.is_some() || server.stdout().contains("serving clients on")
    });
    let Some(status) = ended else { return Some((home, server)) };
    let said = server.stderr();
    // Any but a signal's: a panic ends in SIGABRT.
    assert_eq!(status.code(), Some(1), "{threads} threads: {status}:\n{said}");
    let reason = said.lines().find(|l| l.starts_with("zabra: ")).unwrap_or_else(|| panic!("no reason: {said}"));
    assert!(reason.contains("thread") && reason.contains("RLIMIT_NPROC") && !reason.contains("a bug"), "{said}");
    None
}

/// An admin command's answer.
fn ask_admin(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the admin server accepts");
    let request = format!("GET /{command} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn too_few_threads_are_a_reason_not_to_start_and_never_a_panic() {
    // More than the server has; they are fewer where io_uring is forbidden.
    const ENOUGH: u64 = 20;
    for io in ["auto", "epoll"] {
        let admin = free_port();
        let first = (1..=ENOUGH).find_map(|threads| Some((threads, with_threads(threads, io, admin)?)));
        if !is_root() {
            // Other processes of this user are counted too, so nobody knows how many threads are left.
            continue;
        }
        let (threads, (_home, server)) = first.expect("twenty threads are enough");
        assert!(threads > 5, "{threads} threads were enough: was the limit met?");
        let answers = |command: &str| {
            let said = ask_admin(admin, command);
            said.starts_with("HTTP/1.1 200") && !said.contains("not currently serving")
        };
        let commands = ["commands/stat", "commands/wchp", "livez"];
        // One at a time: the thread of the one before may be about to end.
        let all_answer = || commands.iter().for_each(|c| wait_until("the admin server answers", || answers(c)));
        all_answer();
        // An admin command needs a thread to wait for the cores: now another process of its user has the last one.
        let mut crowd = server.crowd();
        assert!(!commands.iter().any(|c| answers(c)));
        works(&server);
        crowd.kill().and_then(|()| crowd.wait()).expect("it ends");
        all_answer();
        server.stop();
    }
}
