//! `zabra ensemble` with real processes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{said, zabra};

/// A directory for an ensemble, and ports that nobody uses.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        Place { dir, port: free_ports() }
    }

    fn ensemble(&self) -> PathBuf {
        self.dir.path().join("zabra-ensemble")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = zabra(self.dir.path());
        command.arg("ensemble").args(args);
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        said(self.command(args).output().expect("runs"))
    }

    /// Starts a new ensemble of three.
    fn new_three(&self, more: &[&str]) -> Command {
        let port = self.port.to_string();
        let mut command = self.command(&["--members", "3", "--client-port", &port]);
        command.args(more);
        command
    }

    /// The roles in the table, sorted, and the process ids in the order of the members.
    fn table(text: &str) -> (Vec<String>, Vec<i32>) {
        let is_row = |line: &&str| line.ends_with("zoo.cfg");
        let cells = |line: &str| line.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().to_string()).collect();
        let rows: Vec<Vec<String>> = text.lines().filter(is_row).map(cells).collect();
        let mut roles: Vec<String> = rows.iter().map(|row| row[1].clone()).collect();
        roles.sort();
        (roles, rows.iter().filter_map(|row| row[3].parse().ok()).collect())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ensemble().exists() {
            self.run(&["stop"]);
        }
    }
}

/// A client port of which three members find all their ports free: below the range from which the system chooses ports.
fn free_ports() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let begin = (std::process::id() % 100) as u16;
    let bases = (0..100).map(|_| 27_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 100 * 5);
    let all = |base: u16| [0, 707, 1707, 2707].into_iter().all(|d| (base + d..base + d + 3).all(is_free));
    bases.into_iter().find(|base| all(*base)).expect("free ports")
}

/// Whether the process runs; one that has ended may wait for whoever started it.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_observer_serves_beside_the_members_that_vote() {
    let place = Place::new();
    let port = place.port.to_string();
    let args = ["--members", "2", "--observers", "1", "--client-port", &port, "--detach"];
    let (code, out, err) = place.run(&args);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(Place::table(&out).0, ["follower", "leader", "observer"], "{out}");
    let shell = |server: u16, args: &[&str]| {
        let server = format!("127.0.0.1:{}", place.port + server);
        said(zabra(place.dir.path()).args(["shell", "-server", &server]).args(args).output().expect("runs"))
    };
    // The ids of observers follow those of the members that vote.
    let (code, _, err) = shell(2, &["create", "/through", "an observer"]);
    assert_eq!(code, 0, "{err}");
    for member in 0..2 {
        wait_until("the member has it", || shell(member, &["get", "/through"]).1.contains("an observer"));
    }
    let (code, out, err) = place.run(&["stop"]);
    assert_eq!((code, out.as_str()), (0, "Stopped 3 members.\n"), "{err}");
}

#[test]
fn three_members_are_started_asked_stopped_and_started_again_with_their_data() {
    let place = Place::new();
    let (code, out, err) = said(place.new_three(&["--detach"]).output().expect("runs"));
    assert_eq!(code, 0, "{out}{err}");
    let (roles, pids) = Place::table(&out);
    assert_eq!(roles, ["follower", "follower", "leader"], "{out}");
    let (code, again, _) = place.run(&["status"]);
    assert_eq!((code, Place::table(&again)), (0, (roles, pids.clone())));
    let servers = format!("127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}", place.port, place.port + 1, place.port + 2);
    assert!(out.contains(&servers), "{out}");
    let shell =
        |args: &[&str]| said(zabra(place.dir.path()).args(["shell", "-server"]).args(args).output().expect("runs"));
    let (code, _, err) = shell(&[&servers, "create", "/kept", "here"]);
    assert_eq!(code, 0, "{err}");

    let (code, _, err) = place.run(&["--detach"]);
    assert!(code == 1 && err.contains("runs already"), "{code} {err}");
    let (code, out, err) = place.run(&["stop"]);
    assert_eq!((code, out.as_str()), (0, "Stopped 3 members.\n"), "{err}");
    assert!(!pids.iter().any(|pid| lives(*pid)));
    let (code, out, _) = place.run(&["status"]);
    assert_eq!((code, Place::table(&out).0), (1, vec!["not running".to_string(); 3]));
    assert_eq!(place.run(&["stop"]).1, "No member was running.\n");

    let (code, _, err) = place.run(&["--members", "5", "--detach"]);
    let there = format!("with --members 3 --observers 0 --client-port {}", place.port);
    assert!(code == 2 && err.contains(&there), "{code} {err}");
    // The command that made it starts it again.
    let (code, out, err) = said(place.new_three(&["--detach"]).output().expect("runs"));
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = shell(&[&servers, "get", "/kept"]);
    assert!(code == 0 && out.contains("here"), "{out}{err}");
    // One member alone, with its own configuration.
    let config = place.ensemble().join("2/zoo.cfg");
    let alone = |command: &str| said(zabra(place.dir.path()).arg(command).arg(&config).output().expect("runs"));
    assert_eq!(alone("stop").0, 0);
    let (_, out, _) = place.run(&["status"]);
    assert!(Place::table(&out).0.contains(&"not running".into()), "{out}");
    assert_eq!(alone("start").0, 0);
    wait_until("all serve again", || Place::table(&place.run(&["status"]).1).0 == ["follower", "follower", "leader"]);
    assert_eq!(place.run(&["stop"]).1, "Stopped 3 members.\n");
}

/// The lines that a command in the foreground has printed until one contains `last`.
fn lines_until(child: &mut Child, last: &str) -> String {
    let mut out = String::new();
    let mut lines = BufReader::new(child.stdout.as_mut().expect("a pipe"));
    while !out.contains(last) {
        assert_ne!(lines.read_line(&mut out).expect("read"), 0, "it ended: {out}");
    }
    out
}

#[test]
fn the_members_end_with_the_command_in_the_foreground() {
    let place = Place::new();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let mut command = if place.ensemble().exists() { place.command(&[]) } else { place.new_three(&[]) };
        // A test in the background of a script ignores SIGINT, and so would its children.
        // SAFETY: safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let out = lines_until(&mut child, "Ctrl-C stops");
        let (roles, pids) = Place::table(&out);
        assert_eq!((roles.len(), pids.len()), (3, 3), "{out}");
        // SAFETY: the child was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let status = child.wait().expect("ended");
        if signal != libc::SIGKILL {
            assert_eq!(status.code(), Some(0), "after signal {signal}");
            assert!(!pids.iter().any(|pid| lives(*pid)));
        }
        wait_until("the members end", || !pids.iter().any(|pid| lives(*pid)));
    }
}

#[test]
fn a_member_that_ends_during_the_start_is_shown_with_its_reason() {
    let place = Place::new();
    let (code, out, err) = said(place.new_three(&["--detach", "-Dzabra.shards=many"]).output().expect("runs"));
    assert_eq!(code, 1, "{out}{err}");
    for part in ["ended with exit code 2", "zabra.log", "zabra.shards: \"many\""] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(Place::table(&place.run(&["status"]).1).0, ["not running"; 3], "nobody is left");
}

#[test]
fn bad_arguments_and_ports_in_use() {
    let place = Place::new();
    for (args, part) in [
        (&["--members", "0"][..], "0 is not in 1..=9"),
        (&["--client-port", "65000"], "choose one from 1 to"),
        (&["stop"], "holds no ensemble"),
        (&["status", "--dir", "/nonexistent"], "holds no ensemble"),
    ] {
        let (code, _, err) = place.run(args);
        assert!(code == 2 && err.contains(part), "{args:?}: {code} {err}");
    }
    let taken = TcpListener::bind(("127.0.0.1", place.port + 1708)).expect("a free port");
    let (code, _, err) = said(place.new_three(&[]).output().expect("runs"));
    let port = taken.local_addr().expect("bound").port();
    assert!(code == 14 && err.contains(&format!("127.0.0.1:{port}, for elections of member 2")), "{code} {err}");
    assert!(!place.ensemble().exists());
}
