//! Starts threads. The standard library's `spawn` panics if no thread can be created; server and shell need an error
//! that names the limit. A tidy test checks that every thread of theirs is started here.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread called `name` (`ps` and core dumps show at most 15 bytes of it).
///
/// # Errors
/// The user, service or container may have no more threads. The text names the thread and the limits to check.
pub fn start<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(|e| refused(name, &e))
}

fn refused(name: &str, e: &io::Error) -> io::Error {
    let limits = "look at RLIMIT_NPROC (ulimit -u), at TasksMax of the systemd unit and at pids.max of the container";
    io::Error::new(e.kind(), format!("the thread `{name}` cannot be started: {e}; {limits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_name_and_a_refusal_says_where_to_look() {
        let thread = start("some-name", || std::thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some("some-name"));
        let e = refused("log", &io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        assert!(
            e.to_string().starts_with("the thread `log` cannot be started: ") && e.to_string().contains("pids.max")
        );
    }
}
