//! Signals to a running server.

use super::server::{Home, wait_until};
use super::wire::Client;

#[test]
fn signals_to_stop_that_come_twice_stop_it_well_once() {
    let home = Home::new("");
    for signals in [[libc::SIGTERM, libc::SIGTERM], [libc::SIGINT, libc::SIGTERM], [libc::SIGHUP, libc::SIGINT]] {
        let mut server = home.start();
        let mut client = Client::connect(server.addr());
        client.create_mode("/n", b"", 2).expect("new");
        for signal in signals {
            server.signal(signal);
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        assert!(!server.stderr().contains("FATAL"), "{}", server.stderr());
    }
}

#[test]
fn quit_logs_what_the_cores_do_and_it_serves_on() {
    let home = Home::new("");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/before", b"").expect("new");
    server.signal(libc::SIGQUIT);
    wait_until("the log lists cores and threads", || {
        let said = server.stderr();
        let is_told = |what: &str| said.lines().any(|l| l.contains(what));
        is_told("core 0: ")
            && ["core-0", "log (", "watchdog (", "signals ("].iter().all(|t| is_told(&format!("thread {t}")))
    });
    client.create("/after", b"").expect("new");
    server.stop();
}
