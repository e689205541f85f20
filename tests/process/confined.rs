//! Hosts that do not allow everything: no io_uring, little locked memory, few descriptors, no privileges.

use std::net::TcpStream;

use super::server::{Confined, Home, Server, wait_until};
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

/// Its log must say in one line that it is on epoll, and `why`.
fn says_epoll(server: &Server, why: &str) {
    wait_until("the log says what sockets are on", || server.stderr().contains("sockets are on"));
    let said = server.stderr();
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("sockets are on")).collect();
    assert!(lines.len() == 1 && lines[0].contains("epoll") && lines[0].contains(why), "{said}");
}

/// Whether this host allows io_uring: then a server that is not confined is on it.
fn uring_works() -> bool {
    let home = Home::new("").io("auto");
    let server = home.start();
    wait_until("the log says what sockets are on", || server.stderr().contains("sockets are on"));
    let works = server.stderr().contains("sockets are on io_uring");
    assert!(works || std::env::var_os("ZABRA_TEST_NEEDS_IO_URING").is_none(), "{}", server.stderr());
    server.stop();
    works
}

const CONTAINER: Confined = Confined { no_io_uring: true, locked_memory: None, open_files: None, nobody: false };

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
    // On a host that forbids io_uring altogether that is the reason it gives.
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

/// Connections that nobody counts must not end the server: its files have their share of the descriptors.
#[test]
fn clients_cannot_take_the_descriptors_of_log_and_snapshots() {
    for io in ["auto", "epoll"] {
        let confined = Confined { open_files: Some(128), ..Confined::default() };
        let home =
            Home::new("nio.sessionlessCnxnTimeout=600000").io(io).confined(confined).define("zookeeper.snapCount=20");
        let server = home.start();
        let mut client = Client::connect(server.addr());
        // More than it takes, by its limit of 128; the rest fits in the backlog.
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
