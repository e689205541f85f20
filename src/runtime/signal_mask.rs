//! The signals that a thread receives. Separate from their handling, so that the thread of the logger can be started
//! without signals.

use std::io;
use std::mem::MaybeUninit;

/// Runs `start`, which starts a thread, with all signals blocked, so that the thread receives none.
pub(super) fn without_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut all = empty();
    // SAFETY: `all` is initialised.
    unsafe { libc::sigfillset(&mut all) };
    let before = mask(libc::SIG_SETMASK, &all)?;
    let started = start();
    mask(libc::SIG_SETMASK, &before)?;
    started
}

/// Changes the calling thread's signal mask; returns the previous one.
pub(super) fn mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = empty();
    // SAFETY: both sets are initialised.
    match unsafe { libc::pthread_sigmask(how, set, &mut before) } {
        0 => Ok(before),
        failed => Err(io::Error::from_raw_os_error(failed)),
    }
}

/// A set without signals.
pub(super) fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}
