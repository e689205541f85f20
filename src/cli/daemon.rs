//! Server processes: starting one in the background, finding the one that uses a data directory, ending it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts `command` in a session of its own, with nothing to read and its output added to `out`. It ignores SIGHUP, as what
/// zkServer.sh starts with nohup does.
pub(super) fn spawn(command: &mut Command, out: &Path) -> io::Result<Child> {
    let file = File::options().create(true).append(true).open(out)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // SAFETY: signal and setsid are async-signal-safe and touch no memory; they are all that runs between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let is_ignored = libc::signal(libc::SIGHUP, libc::SIG_IGN) != libc::SIG_ERR;
            if is_ignored && libc::setsid() != -1 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    command.spawn()
}

/// The process id in a pid file that `start` (or zkServer.sh) wrote; `None` if it contains no number.
pub(super) fn read_pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Whether the process exists and is not a zombie.
pub(super) fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(proc(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether the process looks like an Apache ZooKeeper server. Apache takes no lock, so this is the only way to
/// recognise one.
pub(super) fn is_apache(pid: i32) -> bool {
    let command = fs::read(proc(pid).join("cmdline")).unwrap_or_default();
    lives(pid) && String::from_utf8_lossy(&command).contains("org.apache.zookeeper.server.")
}

fn proc(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The server that has locked `data_dir`. A running Zabra holds this lock as long as it lives, and no other process can
/// hold it.
///
/// A lock that is held in another process id namespace (a container) is not seen.
///
/// # Errors
/// `/proc/locks` cannot be read, or the process cannot be opened.
pub(super) fn server_of(data_dir: &Path) -> io::Result<Option<Process>> {
    let Some(pid) = holder(data_dir)? else { return Ok(None) };
    let process = Process::open(pid)?;
    // Before it was opened, the process could have ended and its id could have been given to another process. So ask
    // again who holds the lock; now that it is open, its id cannot be reused.
    Ok(process.filter(|_| holder(data_dir).is_ok_and(|again| again == Some(pid))))
}

/// The id of the process that holds the `flock` on a directory.
fn holder(dir: &Path) -> io::Result<Option<i32>> {
    let Ok(wanted) = fs::metadata(dir) else { return Ok(None) };
    let locks = fs::read_to_string("/proc/locks")?;
    let holders = locks.lines().filter_map(|line| flock_holder(line, wanted.ino()));
    Ok(holders.into_iter().find(|pid| has_open(*pid, &wanted)))
}

/// The process id in a line of `/proc/locks` such as `1: FLOCK  ADVISORY  WRITE 1234 08:01:131138 0 EOF`, if it is an
/// exclusive `flock` on this inode. Lines with `->` are of processes that wait for the lock.
fn flock_holder(line: &str, inode: u64) -> Option<i32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", pid, file, ..] = words.as_slice() else { return None };
    let its_inode: u64 = file.rsplit(':').next()?.parse().ok()?;
    pid.parse().ok().filter(|pid| *pid > 1 && its_inode == inode)
}

/// Whether the process has the file open. Inode numbers alone are only unique within a file system, and the device
/// numbers in `/proc/locks` are not always those of `stat`. If we may not look at the process's descriptors the answer
/// is yes: we may not end that process either, and the error then says so.
fn has_open(pid: i32, wanted: &fs::Metadata) -> bool {
    let Ok(descriptors) = fs::read_dir(proc(pid).join("fd")) else { return true };
    let same = |file: fs::Metadata| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino());
    descriptors.flatten().any(|d| fs::metadata(d.path()).is_ok_and(same))
}

/// A process opened by a pidfd, so that its id cannot be reused for another process meanwhile.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// Opens the process; `None` if it does not exist.
    pub(super) fn open(pid: i32) -> io::Result<Option<Process>> {
        // SAFETY: takes two integers; nobody else owns the descriptor that it returns.
        match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
            -1 => match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
                e => Err(e),
            },
            // SAFETY: as above.
            fd => Ok(Some(Process { pid, fd: unsafe { OwnedFd::from_raw_fd(fd as i32) } })),
        }
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        let fd = self.fd.as_raw_fd();
        // SAFETY: the descriptor is open, and without an info the call reads no memory.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGTERM, no_info, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until the process has ended; returns false if it has not after `limit`.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let left_ms = left.as_millis().min(i32::MAX as u128) as i32;
            // SAFETY: the array has one entry, and it lives until the call returns.
            match unsafe { libc::poll(&mut poll, 1, left_ms) } {
                1 => return true,
                0 if left.is_zero() => return false,
                // Interrupted by a signal, or returned slightly early: poll again.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_read_from_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pid");
        for (text, want) in
            [("123", Some(123)), ("123\n", Some(123)), ("", None), ("x", None), ("-1", None), ("0", None)]
        {
            std::fs::write(&file, text).expect("written");
            assert_eq!(read_pid(&file), want, "{text:?}");
        }
        assert_eq!(read_pid(&dir.path().join("none")), None);
    }

    #[test]
    fn lines_of_proc_locks() {
        let of = |line| flock_holder(line, 131138);
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE 1234 08:01:131138 0 EOF"), Some(1234));
        for other in [
            "1: FLOCK  ADVISORY  WRITE 1234 08:01:131139 0 EOF",
            "1: -> FLOCK  ADVISORY  WRITE 1234 08:01:131138 0 EOF",
            "1: FLOCK  ADVISORY  READ  1234 08:01:131138 0 EOF",
            "1: POSIX  ADVISORY  WRITE 1234 08:01:131138 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 0 08:01:131138 0 EOF",
            "1: FLOCK  ADVISORY  WRITE -1 08:01:131138 0 EOF",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_server_of_a_directory_is_who_has_it_locked() {
        let dir = tempfile::tempdir().expect("a directory");
        let found = || server_of(dir.path()).expect("asked").map(|p| p.pid);
        assert_eq!(found(), None);
        let open = File::open(dir.path()).expect("opened");
        assert_eq!(found(), None, "open is not locked");
        open.lock().expect("locked");
        assert_eq!(found(), Some(std::process::id() as i32));
        drop(open);
        assert_eq!(found(), None);
        assert!(server_of(&dir.path().join("none")).expect("asked").is_none());
    }

    #[test]
    fn a_process_is_ended_and_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");
        let pid = child.id() as i32;
        let process = Process::open(pid).expect("opened").expect("lives");
        assert!(lives(pid) && !is_apache(pid) && !process.wait(Duration::from_millis(1)));
        process.terminate().expect("sent");
        assert!(process.wait(Duration::from_secs(60)), "a zombie has ended");
        assert!(!lives(pid));
        child.wait().expect("reaped");
        assert!(Process::open(pid).expect("asked").is_none());
        assert_eq!(process.terminate().expect_err("it has ended").raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_spawned_process_has_its_own_session_and_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out");
        std::fs::write(&out, "old\n").expect("written");
        let mut command = Command::new("sh");
        command.args(["-c", "read line; echo out; echo err >&2; cut -d' ' -f6 /proc/$$/stat; echo $$"]);
        spawn(&mut command, &out).expect("started").wait().expect("ended");
        let text = std::fs::read_to_string(&out).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["old", "out", "err"]);
        assert_eq!(lines[3], lines[4], "session id is the process id");
    }
}
