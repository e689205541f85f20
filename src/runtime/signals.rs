//! SIGTERM and SIGINT become a wake-up; SIGBUS, the failing device under the mapped log, ends the process.

use super::fatal;
use super::mailbox::Bell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

/// Whether the process was asked to end.
#[derive(Clone)]
pub struct Shutdown(Arc<AtomicI32>);

impl Shutdown {
    /// The signal (`SIGTERM`, `SIGINT`) that asked for it, once one came.
    pub fn requested(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&s| s != 0)
    }
}

/// Starts to listen for SIGTERM and SIGINT and rings `bell` when one comes; a second one ends the process at once (130 or
/// 143, as a shell would report it). Call it before any other thread is started: threads inherit that the signals are
/// blocked. SIGPIPE and SIGXFSZ are ignored and SIGBUS ends the process with a line and exit code 10.
pub fn install(bell: Bell) -> io::Result<Shutdown> {
    install_sigbus()?;
    let mut set = empty();
    // SAFETY: `set` was initialised; no other pointers.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        // A file at the limit of file sizes (RLIMIT_FSIZE) is an error of the call that wanted it larger.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
    }
    // SAFETY: `set` is initialised; a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let shutdown = Shutdown(Arc::new(AtomicI32::new(0)));
    let flag = shutdown.clone();
    thread::Builder::new().name("signals".into()).spawn(move || listen(&fd, &flag, &bell))?;
    Ok(shutdown)
}

fn empty() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises what it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn listen(fd: &OwnedFd, flag: &Shutdown, bell: &Bell) {
    loop {
        // SAFETY: all zeroes is a value of this plain record.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of_val(&info);
        // SAFETY: `info` has room for `len` bytes; the descriptor is open.
        let n = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), len) };
        if n != len as isize {
            continue; // interrupted
        }
        let signal = info.ssi_signo as i32;
        if flag.0.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            fatal::fatal(128 + signal, "a second signal to end came before the first was done with");
        }
        bell.ring();
    }
}

/// Makes a SIGBUS end the process with a line that says what it means.
pub fn install_sigbus() -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction; the handler only calls async-signal-safe functions.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as extern "C" fn(libc::c_int) as usize;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_sigbus(_signal: libc::c_int) {
    const SAID: &[u8] =
        b"zabra: FATAL, exiting with code 10: SIGBUS: a mapped log page could not be read or written. The \
        device or file system under dataLogDir failed (see the kernel log), or the log was cut by another process\n";
    // SAFETY: write and _exit are async-signal-safe; SAID is static.
    unsafe {
        libc::write(2, SAID.as_ptr().cast(), SAID.len());
        libc::_exit(fatal::TXN_LOG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::{FsDir, SyncMethod};
    use crate::runtime::in_own_process;
    use crate::txnlog::disk::{Dir, Segment};
    use std::time::Duration;

    fn kill(signal: i32) {
        // SAFETY: sends a signal to this very process.
        assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
    }

    #[test]
    fn the_first_signal_is_told_the_second_ends_the_process() {
        let said = in_own_process!("terminated");
        assert!(said.contains("a second signal"), "{said}");
    }

    /// In a fork, where the thread that calls `install` is the only one, as it is when the server starts.
    #[test]
    #[ignore = "run by the_first_signal_is_told_the_second_ends_the_process"]
    fn terminated() {
        // SAFETY: the child has one thread and ends without returning from this function.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let (tx, rx) = std::sync::mpsc::channel();
            let s = install(Bell::Call(Arc::new(move || tx.send(()).unwrap()))).unwrap();
            let before = s.requested();
            kill(libc::SIGINT);
            let rung = rx.recv_timeout(Duration::from_secs(20));
            if before.is_none() && rung.is_ok() && s.requested() == Some(libc::SIGINT) {
                kill(libc::SIGTERM);
                thread::sleep(Duration::from_secs(20));
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(1) }
        }
        let mut status = 0;
        // SAFETY: our own child, and a valid place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "killed by {}", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 128 + libc::SIGTERM);
    }

    #[test]
    fn a_cut_log_ends_the_process_with_its_own_code() {
        let said = in_own_process!("sigbus", 10);
        assert!(said.contains("SIGBUS"), "{said}");
    }

    #[test]
    #[ignore = "run by a_cut_log_ends_the_process_with_its_own_code"]
    fn sigbus() {
        install_sigbus().unwrap();
        let tmp = tempfile::tempdir().unwrap();
        let mut d = FsDir::open(tmp.path(), false, SyncMethod::default()).unwrap();
        let mut s = d.create_segment("log.1", 1 << 20, b"").unwrap();
        d.set_len("log.1", 0).unwrap();
        s.write(8192, b"x");
        eprintln!("wrote into a page that is not there");
    }
}
