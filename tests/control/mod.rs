//! `zabra start|stop|restart|status` with real processes, and the output of zkServer.sh; and what `serve` prints for a
//! bad configuration.

mod ensemble;
mod script_names;

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A configuration with a directory of its own, on a free port.
struct Site {
    dir: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn new(more: &str) -> Site {
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let data = dir.path().join("data").display().to_string();
        let text = format!(
            "dataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\npreAllocSize=64\n{more}"
        );
        std::fs::write(dir.path().join("zoo.cfg"), text).expect("written");
        Site { dir, port }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("zoo.cfg")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.path().join("data/zookeeper_server.pid")
    }

    /// Runs a command with this configuration; returns exit code, standard output and standard error.
    fn run(&self, command: &str) -> (i32, String, String) {
        said(zabra(self.dir.path()).arg(command).arg(self.config()).output().expect("runs"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.pid_file().exists() {
            self.run("stop");
        }
    }
}

fn zabra(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    command.current_dir(dir);
    without_settings(&mut command);
    command
}

/// Removes what the caller of the tests may have set for a server of his own.
fn without_settings(command: &mut Command) {
    for name in [
        "ZOOCFGDIR",
        "ZOOCFG",
        "ZOO_LOG_DIR",
        "ZOOPIDFILE",
        "ZOO_DATADIR_AUTOCREATE_DISABLE",
        "SERVER_JVMFLAGS",
        "JVMFLAGS",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_server_is_started_asked_restarted_and_stopped() {
    let site = Site::new("");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{err}");
    assert_eq!(err, format!("Using config: {}\n", site.config().display()));
    let pid = std::fs::read_to_string(site.pid_file()).expect("a pid file");
    let (code, out, _) = site.run("start");
    assert_eq!((code, out), (1, format!("Starting zookeeper ... already running as process {pid}.\n")));
    let status =
        |mode: &str| format!("Client port found: {}. Client address: 127.0.0.1. Client SSL: false.\n{mode}", site.port);
    let (code, out, _) = site.run("status");
    assert_eq!((code, out), (0, status("Mode: standalone\n")));
    let (code, out, err) = site.run("restart");
    assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\nStarting zookeeper ... STARTED\n"), "{err}");
    assert_ne!(std::fs::read_to_string(site.pid_file()).expect("a pid file"), pid);
    let (code, out, _) = site.run("stop");
    assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\n"));
    let (code, out, _) = site.run("status");
    assert_eq!((code, out), (1, status("Error contacting service. It is probably not running.\n")));
    let (code, out, _) = site.run("stop");
    let none =
        format!("Stopping zookeeper ... no zookeeper to stop (could not find file {})\n", site.pid_file().display());
    assert_eq!((code, out), (0, none));
}

/// A terminal that goes away ends nothing that was started in the background, whoever started it.
#[test]
fn a_server_that_was_started_ignores_sighup_and_tells_its_state() {
    let site = Site::new("");
    let (code, _, err) = site.run("start");
    assert_eq!(code, 0, "{err}");
    let pid: i32 = std::fs::read_to_string(site.pid_file()).expect("a pid file").parse().expect("a number");
    let out = || {
        let files = std::fs::read_dir(site.dir.path().join("data")).expect("there").filter_map(Result::ok);
        let out = files.map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "out")).expect("its output");
        std::fs::read_to_string(out).expect("text")
    };
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: sends a signal to the server of this test.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
    // It comes after the other signal.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !out().contains("core 0: ") {
        assert!(std::time::Instant::now() < end, "{}", out());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(site.run("status").0, 0, "{}", out());
    assert_eq!(site.run("stop").0, 0);
}

/// A pipe that nobody reads any more.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn full_disk() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

/// The exit code tells what a command did, whoever takes its output.
#[test]
fn output_that_nobody_takes_changes_nothing_of_what_a_command_does() {
    // What only shows something has failed when it cannot be written; a reader who is gone has seen enough.
    for (output, unwritten) in [(broken_pipe as fn() -> Stdio, 0), (full_disk, 1)] {
        let site = Site::new("");
        let run = |command: &str| {
            let mut child = zabra(site.dir.path());
            child.arg(command).arg(site.config()).stdout(output()).stderr(output());
            child.status().expect("runs").code()
        };
        assert_eq!(run("status"), Some(1), "there is no server");
        for (command, code) in [("start", 0), ("start", 1), ("status", 0), ("restart", 0), ("status", 0), ("stop", 0)] {
            assert_eq!(run(command), Some(code), "{command}");
        }
        assert!(!site.pid_file().exists());
        assert_eq!(run("stop"), Some(0), "there is nothing to stop");
        std::fs::write(site.config(), "dataDir=\n").expect("written");
        assert_eq!(run("start"), Some(2), "a bad configuration");
        let mut version = zabra(site.dir.path());
        version.arg("version").stdout(output()).stderr(output());
        assert_eq!(version.status().expect("runs").code(), Some(unwritten));
    }
}

/// `start` waits until the server answers, `status` asks it, and the shell connects, all with the address in the
/// configuration.
#[test]
fn every_form_of_an_ipv6_address_serves_every_command() {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("left out: this host has no IPv6");
    }
    for (address, asked) in
        [("[::1]", "[::1]"), ("::1", "::1"), ("::1%lo", "::1%lo"), ("[::1%lo]", "[::1%lo]"), ("[::]", "localhost")]
    {
        let admin = TcpListener::bind("[::1]:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let more = format!(
            "clientPortAddress={address}\nadmin.enableServer=true\nadmin.serverPort={admin}\nadmin.serverAddress={address}\n"
        );
        let site = Site::new(&more);
        let (code, out, err) = site.run("start");
        assert_eq!((code, out.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{address}: {err}");
        let (code, out, err) = site.run("status");
        let found = format!(
            "Client port found: {}. Client address: {asked}. Client SSL: false.\nMode: standalone\n",
            site.port
        );
        assert_eq!((code, out), (0, found), "{address}: {err}");
        TcpStream::connect(("::1", admin)).expect("the admin server's port");
        let server = format!("[{}]:{}", if address.contains('%') { "::1%lo" } else { "::1" }, site.port);
        let (code, out, err) =
            said(zabra(site.dir.path()).args(["shell", "-server", &server, "whoami"]).output().expect("runs"));
        assert!(code == 0 && out.contains("ip: 0:0:0:0:0:0:0:1\n"), "{address}: {out} {err}");
        let (code, out, err) = site.run("stop");
        assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\n"), "{address}: {err}");
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let site = Site::new("tickTime=soon\n");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (1, "Starting zookeeper ... FAILED TO START\n"));
    assert!(err.contains("ended with exit code 2") && err.contains("zoo.cfg:6: tickTime: \"soon\" is not"), "{err}");
    assert!(!site.pid_file().exists());
    // Of several starts only the last one is shown.
    let again = std::fs::read_to_string(site.config()).expect("read").replace("soon", "later");
    std::fs::write(site.config(), again).expect("written");
    let (_, _, err) = site.run("start");
    assert!(err.contains("tickTime: \"later\" is not") && !err.contains("soon"), "{err}");
    std::fs::write(site.config(), std::fs::read_to_string(site.config()).expect("read").replace("later", "soon"))
        .expect("written");
    let (code, _, err) = site.run("serve");
    assert_eq!(code, 2);
    assert!(err.contains("zoo.cfg:6: tickTime"), "{err}");
}

/// A member of an ensemble whose others do not run.
#[test]
fn a_member_without_a_leader_is_started_and_says_that_it_does_not_serve() {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let servers: String = (1..=3).map(|id| format!("server.{id}=127.0.0.1:{}:{}\n", free(), free())).collect();
    let site = Site::new(&format!("initLimit=10\nsyncLimit=5\n{servers}"));
    std::fs::create_dir(site.dir.path().join("data")).expect("made");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (1, "Starting zookeeper ... FAILED TO START\n"), "without a myid");
    assert!(err.contains("data/myid: is missing"), "{err}");
    std::fs::write(site.dir.path().join("data/myid"), "2\n").expect("written");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{err}");
    let (code, out, err) = site.run("status");
    assert!(code == 1 && out.ends_with("Error contacting service. It is probably not running.\n"), "{out}");
    assert!(err.contains("it runs, and its answer is: This ZooKeeper instance is not currently serving"), "{err}");
    let (code, out, err) = site.run("stop");
    assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\n"), "{err}");
}

#[test]
fn a_port_in_use_is_said_and_left_alone() {
    let site = Site::new("");
    let taken = TcpListener::bind(("127.0.0.1", site.port)).expect("still free");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (1, "Starting zookeeper ... FAILED TO START\n"));
    assert!(err.contains(&format!("127.0.0.1:{} is in use", site.port)), "{err}");
    let (code, _, err) = site.run("serve");
    assert_eq!(code, 14, "{err}");
    drop(taken);
}

/// A process that is not a server, whatever its command line says. It ends with the test.
struct Decoy(Child);

impl Decoy {
    fn new(words: &str) -> Decoy {
        let mut command = Command::new("sleep");
        // The first word of the command line that `ps` shows.
        Decoy(command.arg0(words).arg("600").spawn().expect("started"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn is_untouched(&mut self) -> bool {
        self.0.try_wait().expect("asked").is_none()
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("ended");
    }
}

#[test]
fn a_stale_pid_file_does_not_hurt() {
    let site = Site::new("");
    std::fs::create_dir_all(site.dir.path().join("data")).expect("made");
    let file = site.pid_file();
    let mut other = Decoy::new("/opt/zookeeper/bin/zabra serve");
    for (pid, why) in [
        (other.id().to_string(), format!("process {} of {} does not have", other.id(), file.display())),
        ("4194999".into(), format!("the process of {} has ended", file.display())),
    ] {
        std::fs::write(&file, pid).expect("written");
        let (code, out, _) = site.run("stop");
        assert_eq!(code, 0);
        assert!(out.starts_with(&format!("Stopping zookeeper ... no zookeeper to stop ({why}")), "{out}");
        assert!(other.is_untouched() && !file.exists());
    }
    std::fs::write(&file, other.id().to_string()).expect("written");
    let (code, out, err) = site.run("start");
    assert_eq!((code, out.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{err}");
    assert!(other.is_untouched());
}

#[test]
fn who_has_the_directory_is_stopped_and_nobody_else() {
    let site = Site::new("");
    let (code, _, err) = site.run("start");
    assert_eq!(code, 0, "{err}");
    let pid = std::fs::read_to_string(site.pid_file()).expect("a pid file");
    let mut other = Decoy::new("/opt/zookeeper/bin/zabra serve");
    std::fs::write(site.pid_file(), other.id().to_string()).expect("written");
    let (code, out, _) = site.run("start");
    assert_eq!((code, out), (1, format!("Starting zookeeper ... already running as process {pid}.\n")));
    let (code, out, err) = site.run("stop");
    assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\n"), "{err}");
    assert!(other.is_untouched() && site.run("status").0 == 1);
}

#[test]
fn an_apache_server_is_not_stopped_nor_started_over() {
    let site = Site::new("");
    std::fs::create_dir_all(site.dir.path().join("data")).expect("made");
    let mut apache = Decoy::new("java org.apache.zookeeper.server.quorum.QuorumPeerMain");
    std::fs::write(site.pid_file(), apache.id().to_string()).expect("written");
    let (code, out, err) = site.run("stop");
    assert_eq!((code, out.as_str()), (1, "Stopping zookeeper ... FAILED TO STOP\n"));
    assert!(err.contains("stop it with zkServer.sh"), "{err}");
    let (code, out, _) = site.run("start");
    assert_eq!((code, out), (1, format!("Starting zookeeper ... already running as process {}.\n", apache.id())));
    assert!(apache.is_untouched());
}
