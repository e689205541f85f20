//! Processes: starting one apart from the terminal, asking whether one lives, ending one.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts `command` in a session of its own, with nothing to read and its output added to `out`.
pub(super) fn spawn(command: &mut Command, out: &Path) -> io::Result<Child> {
    let file = File::options().create(true).append(true).open(out)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // SAFETY: signal and setsid are async-signal-safe and touch no memory; they are all that runs between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // As nohup does for zkServer.sh: the end of a terminal or of a login is no reason to stop.
            if libc::signal(libc::SIGHUP, libc::SIG_IGN) == libc::SIG_ERR || libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn()
}

/// The process id in a file that `start` (or zkServer.sh) wrote, if it is one.
pub(super) fn read_pid(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Whether the process exists, is no zombie, and looks like a ZooKeeper server, ours or Apache's: a number in a file may long
/// since belong to something else.
pub(super) fn is_server(pid: i32) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let Ok(command) = std::fs::read(proc.join("cmdline")) else { return false };
    let command = String::from_utf8_lossy(&command).to_lowercase();
    let named = command.contains("zabra") || command.contains("zookeeper");
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    named && !state.starts_with(['Z', 'X'])
}

/// Sends SIGTERM.
pub(super) fn terminate(pid: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory.
    if unsafe { libc::kill(pid, libc::SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the process is gone; false when it is not after `limit`.
pub(super) fn wait_until_gone(pid: i32, limit: Duration) -> bool {
    let start = Instant::now();
    while is_server(pid) {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
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
    fn a_process_that_is_no_server_is_told_apart() {
        let mut child = Command::new("sleep").arg("30").spawn().expect("started");
        let pid = child.id() as i32;
        assert!(!is_server(pid));
        let mut named = Command::new("sh").args(["-c", "sleep 30; : zabra"]).process_group(0).spawn().expect("started");
        let named_pid = named.id() as i32;
        // The kernel lets the parent go on a moment before the new program's arguments can be read.
        let start = Instant::now();
        while !is_server(named_pid) {
            assert!(start.elapsed() < Duration::from_secs(10), "sh does not appear");
            std::thread::yield_now();
        }
        assert!(!wait_until_gone(named_pid, Duration::from_millis(1)));
        // SAFETY: ends the group that this test made.
        unsafe { libc::kill(-named_pid, libc::SIGKILL) };
        assert!(wait_until_gone(named_pid, Duration::from_secs(10)), "a zombie is gone");
        named.wait().expect("reaped");
        terminate(pid).expect("sent");
        child.wait().expect("reaped");
        assert!(!is_server(named_pid));
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
