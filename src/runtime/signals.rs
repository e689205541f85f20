//! Signals. SIGTERM, SIGINT and SIGHUP stop the server cleanly, SIGQUIT logs the state of the cores, and SIGBUS (the
//! device under the mapped log failed) ends the process. Plays the part of the JVM's signal handlers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::signal_mask::{empty, mask};
use super::{fatal, logging, threads};

/// What a signal asks the server to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// SIGTERM, SIGINT, SIGHUP: stop. Sent once.
    Stop,
    /// SIGQUIT: log what the cores are doing, and continue to serve.
    ShowState,
}

/// Most requests that wait. More are dropped, because they would ask for the same again.
const WAITING: usize = 4;

/// The signals of this process.
pub struct Signals {
    requests: Receiver<Request>,
    is_serving: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to handle signals. Call it before any thread is started that could receive these signals, because threads
    /// inherit that they are blocked. SIGHUP and SIGINT stay ignored if they were (`nohup`, a background job). SIGPIPE
    /// and SIGXFSZ are ignored, and SIGBUS ends the process with a message and exit code 10.
    ///
    /// # Errors
    /// A system call fails, or the thread cannot be created.
    pub fn install() -> io::Result<Signals> {
        install_sigbus()?;
        let mut set = empty();
        // SAFETY: `set` was initialised; no other pointers.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            // If a file reaches the limit RLIMIT_FSIZE, the call that writes to it gets an error instead of this
            // signal.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGQUIT);
            for signal in [libc::SIGINT, libc::SIGHUP] {
                // A blocked signal is queued even if it is ignored, so ignored ones must not be in the set.
                if !is_ignored(signal)? {
                    libc::sigaddset(&mut set, signal);
                }
            }
        }
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is initialised; a non-negative result is a new descriptor that nobody else owns.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (to, requests) = channel::bounded(WAITING);
        let is_serving = Arc::new(AtomicBool::new(false));
        let serving = is_serving.clone();
        threads::start("signals", move || listen(&fd, &serving, &to))?;
        Ok(Signals { requests, is_serving })
    }

    /// The server now serves clients. Before this call a signal to stop ends the process at once with code 0, because
    /// loading writes nothing that a crash could damage.
    pub fn serving(&self) {
        self.is_serving.store(true, Ordering::SeqCst);
    }

    /// Waits for the next request.
    pub fn next(&self) -> Request {
        // The listening thread never ends. If it did, nobody could stop the server any more, so stop.
        self.requests.recv().unwrap_or(Request::Stop)
    }

    /// Waits for the next request, as long as `limit` at most.
    pub fn within(&self, limit: Duration) -> Option<Request> {
        match self.requests.recv_timeout(limit) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Request::Stop),
        }
    }
}

fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: all zeroes is a valid sigaction, and a place for the result.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(action.sa_sigaction == libc::SIG_IGN)
    }
}

fn listen(fd: &OwnedFd, is_serving: &AtomicBool, to: &Sender<Request>) {
    let mut is_stopping = false;
    loop {
        // SAFETY: all zeroes is a value of this plain record.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of_val(&info);
        // SAFETY: `info` has room for `len` bytes; the descriptor is open.
        let n = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), len) };
        if n != len as isize {
            continue; // interrupted
        }
        let signal = info.ssi_signo as libc::c_int;
        if signal != libc::SIGQUIT && !is_serving.load(Ordering::SeqCst) {
            tracing::info!(signal, "told to stop before it served");
            logging::finish();
            // SAFETY: ends the process; nothing is accessed.
            unsafe { libc::_exit(0) }
        }
        let request = if signal == libc::SIGQUIT { Request::ShowState } else { Request::Stop };
        if request == Request::Stop && std::mem::replace(&mut is_stopping, true) {
            tracing::info!(signal, "already stopping");
            continue;
        }
        match request {
            // This request must not be lost. It waits for room; requests before it are handled first.
            Request::Stop => drop(to.send(request)),
            Request::ShowState => drop(to.try_send(request)),
        }
    }
}

/// Makes SIGBUS end the process with a message that explains it.
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
    /// How long to wait for a pipe that nobody reads, in milliseconds.
    const PATIENCE_MS: libc::c_int = 1000;
    let mut stderr = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll, write and _exit are async-signal-safe; SAID is static.
    unsafe {
        if libc::poll(&mut stderr, 1, PATIENCE_MS) > 0 {
            libc::write(stderr.fd, SAID.as_ptr().cast(), SAID.len());
        }
        libc::_exit(fatal::TXN_LOG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::{FsDir, SyncMethod};
    use crate::runtime::in_own_process;
    use crate::txnlog::disk::{Dir, Segment};
    use std::thread;
    use std::time::Duration;

    fn kill(signal: i32) {
        // SAFETY: sends a signal to this process.
        assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
    }

    /// Runs `child` in a forked process, where the calling thread is the only one, as at the start of the server.
    /// Returns the exit code.
    fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child has one thread and ends without returning from this function.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let code = child();
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        let mut status = 0;
        // SAFETY: our own child, and a valid place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "killed by {}", libc::WTERMSIG(status));
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn further_signals_to_stop_change_nothing_and_quit_asks_for_the_state() {
        in_own_process!("signalled");
    }

    #[test]
    #[ignore = "run by further_signals_to_stop_change_nothing_and_quit_asks_for_the_state"]
    fn signalled() {
        let code = in_a_fork(|| {
            let signals = Signals::install().unwrap();
            signals.serving();
            kill(libc::SIGQUIT);
            let quit = signals.next();
            [libc::SIGTERM, libc::SIGTERM, libc::SIGINT, libc::SIGHUP].into_iter().for_each(kill);
            let stop = signals.next();
            // After the stop only SIGQUIT has an effect.
            kill(libc::SIGQUIT);
            let last = signals.next();
            if (quit, stop, last) == (Request::ShowState, Request::Stop, Request::ShowState) { 7 } else { 1 }
        });
        assert_eq!(code, 7);
    }

    #[test]
    fn before_it_serves_a_signal_ends_the_process_at_once() {
        in_own_process!("stopped_while_loading");
    }

    #[test]
    #[ignore = "run by before_it_serves_a_signal_ends_the_process_at_once"]
    fn stopped_while_loading() {
        let code = in_a_fork(|| {
            let _signals = Signals::install().unwrap();
            kill(libc::SIGTERM);
            thread::sleep(Duration::from_secs(20));
            1
        });
        assert_eq!(code, 0);
    }

    #[test]
    fn what_is_ignored_at_the_start_stays_ignored() {
        in_own_process!("in_the_background");
    }

    #[test]
    #[ignore = "run by what_is_ignored_at_the_start_stays_ignored"]
    fn in_the_background() {
        let code = in_a_fork(|| {
            for signal in [libc::SIGHUP, libc::SIGINT] {
                // SAFETY: no handler.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            let signals = Signals::install().unwrap();
            signals.serving();
            [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT].into_iter().for_each(kill);
            if signals.next() == Request::ShowState && signals.requests.is_empty() { 7 } else { 1 }
        });
        assert_eq!(code, 7);
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
