//! Real servers, each with a directory and a port of its own. They end when the test ends, in whatever way it ends.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The binary under test.
pub const ZABRA: &str = env!("CARGO_BIN_EXE_zabra");

/// How long anything may take before a test fails: far longer than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Below the range from which the operating system chooses ports, so that a restarted server finds its port free.
const PORTS: std::ops::Range<u16> = 22_000..23_000;

/// Waits until `ready` returns true; panics with `what` if that takes too long.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Other runs of these tests start at another place in the range.
    let begin = (std::process::id() % u32::from(count)) as u16;
    for _ in 0..count {
        let port = PORTS.start + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// The configuration of every server in these tests; a test's own lines come later and win.
fn common_lines(data: &Path, port: u16) -> String {
    format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nminSessionTimeout=500\n\
         maxSessionTimeout=600000\nmaxClientCnxns=0\nadmin.enableServer=false\npreAllocSize=1024\n",
        data.display()
    )
}

/// A directory with a configuration and a data directory, which outlives the servers that use it.
pub struct Home {
    dir: TempDir,
    data: PathBuf,
    port: u16,
    lines: String,
    defines: Vec<String>,
    file_size_limit: Option<u64>,
    io: Option<String>,
    confined: Confined,
}

/// Restrictions of the host on which a server runs.
#[derive(Clone, Copy, Default)]
pub struct Confined {
    /// A seccomp filter refuses io_uring's three system calls with EPERM, as a container's default profile does.
    pub no_io_uring: bool,
    /// `RLIMIT_MEMLOCK`, soft and hard, in bytes.
    pub locked_memory: Option<u64>,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub open_files: Option<u64>,
    /// The server runs as the user `nobody`, from a copy of the binary in its own directory. The test must run as root,
    /// since other users have no privileges to give up.
    pub nobody: bool,
    /// `RLIMIT_NPROC`, soft and hard: threads of its user, who is one of its own if the test is run by root. Only that user's
    /// threads are counted, and nobody else's limit is met.
    pub threads: Option<u64>,
}

/// `nobody`, and its group, on every Linux.
const NOBODY: u32 = 65534;

/// A user that no other test process has, so that only its own servers' threads are counted.
static ITS_OWN_USER: LazyLock<u32> = LazyLock::new(|| 1_000_000 + std::process::id() % 1_000_000);

impl Confined {
    /// Whom it runs as, if not as the test does.
    fn user(self) -> Option<u32> {
        let of_threads = self.threads.map(|_| *ITS_OWN_USER);
        of_threads.or(self.nobody.then_some(NOBODY)).filter(|_| is_root())
    }

    /// Applies the restrictions; called in the child process before exec.
    fn apply(self) -> std::io::Result<()> {
        let done = |code: i32| if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        let limit = |resource, value: Option<u64>| match value {
            // SAFETY: the limit is valid.
            Some(l) => done(unsafe { libc::setrlimit(resource, &libc::rlimit { rlim_cur: l, rlim_max: l }) }),
            None => Ok(()),
        };
        limit(libc::RLIMIT_MEMLOCK, self.locked_memory)?;
        limit(libc::RLIMIT_NOFILE, self.open_files)?;
        limit(libc::RLIMIT_NPROC, self.threads)?;
        if let Some(user) = self.user() {
            // SAFETY: no pointers except a null one with length 0.
            unsafe {
                done(libc::setgroups(0, std::ptr::null()))?;
                done(libc::setgid(user))?;
                done(libc::setuid(user))?;
            }
        }
        if self.no_io_uring { forbid_io_uring() } else { Ok(()) }
    }
}

pub fn is_root() -> bool {
    // SAFETY: the call takes no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes io_uring_setup, io_uring_enter and io_uring_register fail with EPERM in this process.
fn forbid_io_uring() -> std::io::Result<()> {
    let op = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let is = |call: libc::c_long, jt| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, jt, 0);
    let filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the system call's number
        is(libc::SYS_io_uring_setup, 3),
        is(libc::SYS_io_uring_enter, 2),
        is(libc::SYS_io_uring_register, 1),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its filter live until the calls, which copy them, have returned.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The value of `zabra.io` for tests that do not choose one, so that a suite can be run with either back end.
fn chosen_io() -> Option<String> {
    std::env::var("ZABRA_TEST_IO").ok().filter(|io| !io.is_empty())
}

impl Home {
    /// A home with these lines of zoo.cfg after the common ones.
    pub fn new(lines: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("zabra-test-").tempdir().expect("a directory for the test");
        let data = dir.path().join("data");
        Home {
            dir,
            data,
            port: free_port(),
            lines: lines.into(),
            defines: Vec::new(),
            file_size_limit: None,
            io: chosen_io(),
            confined: Confined::default(),
        }
    }

    /// Adds `-Dkey=value`.
    pub fn define(mut self, pair: &str) -> Home {
        self.defines.push(format!("-D{pair}"));
        self
    }

    /// Sets `zabra.io`, regardless of `ZABRA_TEST_IO`.
    pub fn io(mut self, io: &str) -> Home {
        self.io = Some(io.into());
        self
    }

    /// Runs its servers with restrictions.
    pub fn confined(mut self, confined: Confined) -> Home {
        self.confined = confined;
        self
    }

    /// Keeps the data in another directory.
    pub fn data_in(mut self, data: PathBuf) -> Home {
        self.data = data;
        self
    }

    /// Replaces the test's lines of zoo.cfg.
    pub fn set_lines(&mut self, lines: &str) {
        self.lines = lines.into();
    }

    /// Limits the size of every file of the server (RLIMIT_FSIZE), in bytes.
    pub fn limit_file_size(&mut self, bytes: Option<u64>) {
        self.file_size_limit = bytes;
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Files in `version-2` whose names begin with `kind.`, sorted by zxid.
    pub fn files(&self, kind: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.data.join("version-2")) else { return Vec::new() };
        let mut found: Vec<(u64, PathBuf)> = entries
            .filter_map(|e| {
                let path = e.ok()?.path();
                let hex = path.file_name()?.to_str()?.strip_prefix(kind)?.strip_prefix('.')?;
                Some((u64::from_str_radix(hex, 16).ok()?, path))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }

    pub fn logs(&self) -> Vec<PathBuf> {
        self.files("log")
    }

    pub fn snapshots(&self) -> Vec<PathBuf> {
        self.files("snapshot")
    }

    fn write_config(&self) -> PathBuf {
        let file = self.path().join("zoo.cfg");
        let text = common_lines(&self.data, self.port) + &self.lines + "\n";
        fs::write(&file, text).expect("zoo.cfg is written");
        file
    }

    pub fn spawn(&self) -> Server {
        let open = |name: &str| fs::File::create(self.path().join(name)).expect("a file for output");
        self.spawn_into(open("stdout").into(), open("stderr").into())
    }

    /// Starts a server with these outputs and waits until it serves.
    pub fn start_into(&self, stdout: Stdio, stderr: Stdio) -> Server {
        let mut server = self.spawn_into(stdout, stderr);
        wait_until("the server answers", || {
            assert_eq!(server.ended(), None, "the server ended instead of serving");
            TcpStream::connect(self.addr()).is_ok() && server.word("srvr").contains("Mode: standalone")
        });
        server
    }

    /// Starts a server with these outputs that must refuse to serve; returns its exit code.
    pub fn start_into_refused(&self, stdout: Stdio, stderr: Stdio) -> Option<i32> {
        self.spawn_into(stdout, stderr).wait().code()
    }

    /// The binary, in a place where the server's user may read it.
    fn binary(&self) -> PathBuf {
        let Some(user) = self.confined.user() else { return ZABRA.into() };
        let binary = self.path().join("zabra");
        if !binary.exists() {
            // Copied by another process: if this process had the file open for writing, a child process of another test
            // could inherit the descriptor, and then the file could not be executed.
            let copied = Command::new("cp").arg(ZABRA).arg(&binary).status().expect("cp runs");
            assert!(copied.success(), "the binary is copied");
        }
        for entry in [self.path(), &binary, &self.path().join("zoo.cfg")] {
            std::os::unix::fs::chown(entry, Some(user), Some(user)).expect("given to its user");
        }
        binary
    }

    fn spawn_into(&self, stdout: Stdio, stderr: Stdio) -> Server {
        let config = self.write_config();
        let mut command = Command::new(self.binary());
        let io = self.io.iter().map(|io| format!("-Dzabra.io={io}"));
        command.arg("serve").arg(config).args(&self.defines).args(io).current_dir(self.path()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let (limit, confined) = (self.file_size_limit, self.confined);
        // Known before the child asks for it.
        let _ = confined.user();
        // SAFETY: only calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // A test run under nohup or in the background of a script ignores these, and so would the server.
                for signal in [libc::SIGHUP, libc::SIGINT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                confined.apply()?;
                // If the test process is killed its servers are killed too. After the change of user, which would reset
                // this.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                if let Some(bytes) = limit {
                    let l = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
                    if libc::setrlimit(libc::RLIMIT_FSIZE, &l) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the server process starts");
        Server { child: Some(child), addr: self.addr(), dir: self.path().to_owned() }
    }

    /// Starts a server and waits until it prints that it serves.
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        let ready = format!("serving clients on {}", self.addr());
        wait_until("the server says that it serves", || {
            if let Some(status) = server.ended() {
                panic!("the server ended with {status} instead of serving:\n{}", server.stderr());
            }
            server.stdout().contains(&ready)
        });
        server
    }

    /// Starts a server and kills it after `time`, whatever it is doing then.
    pub fn start_and_kill_after(&self, time: Duration) {
        let server = self.spawn();
        std::thread::sleep(time);
        server.kill();
    }

    /// Starts a server that must refuse to serve; returns its exit code and its output.
    pub fn start_refused(&self) -> (i32, String) {
        let mut server = self.spawn();
        let status = server.wait();
        assert_eq!(server.stdout(), "", "a server that does not start says nothing on standard output");
        let said = server.stderr();
        (status.code().unwrap_or_else(|| panic!("ended by signal {:?}:\n{said}", status.signal())), said)
    }

    /// Runs another command of the binary in this directory.
    pub fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(ZABRA).args(args).current_dir(self.path()).env_remove("RUST_LOG").output();
        output.expect("the command runs")
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Option<Child>,
    addr: SocketAddr,
    dir: PathBuf,
}

impl Server {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server was not waited for").id()
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    pub fn stdout(&self) -> String {
        self.text("stdout")
    }

    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    /// Another process of its user, that takes one of the threads it may have.
    pub fn crowd(&self) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").uid(*ITS_OWN_USER).gid(*ITS_OWN_USER);
        command.spawn().expect("sleep runs")
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the server was not waited for");
        child.try_wait().expect("the server can be waited for")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.ended();
            status.is_some()
        });
        status.expect("it ended")
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so its pid is still its own.
        let sent = unsafe { libc::kill(self.pid() as i32, signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }

    /// Stops the process for this time, as a pause of the whole machine would.
    pub fn pause(&self, time: Duration) {
        self.signal(libc::SIGSTOP);
        std::thread::sleep(time);
        self.signal(libc::SIGCONT);
    }

    /// Sends SIGTERM; the server must end cleanly.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "after SIGTERM: {status}\n{}", self.stderr());
        self.child = None;
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let status = self.wait();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it had ended before with {status}:\n{}", self.stderr());
        self.child = None;
    }

    /// The server's own memory in bytes. The mapped log does not count, as it belongs to its file.
    pub fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server lives");
        let line = text.lines().find(|l| l.starts_with("RssAnon:")).expect("RssAnon");
        let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kib.expect("a number of KiB") << 10
    }

    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(word.as_bytes()).expect("the word is sent");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).expect("an answer");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if std::thread::panicking() {
            let said = self.stderr();
            let from = said.len().saturating_sub(4000);
            eprintln!("--- the server said:\n{}", said.get(from..).unwrap_or(&said));
        }
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}
