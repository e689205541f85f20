//! Wakes a sleeping core from any thread. No wake-up is lost, and no system call is needed while the core is awake.
//!
//! The state is one word with three values. A sender first stores its message where the core will look, then calls
//! [`Waker::wake`]. That sets the word to `NOTIFIED`, and writes to the eventfd only if the word was `PARKED`. A core
//! that is about to sleep changes `AWAKE` to `PARKED`. If it finds `NOTIFIED` instead it does not sleep: it sets the
//! word back to `AWAKE` and runs another turn. So only a park consumes a notification, and the turn after that park
//! sees everything that was sent before it. The core only has to look at its mailboxes once between two parks, at any
//! time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const NOTIFIED: u8 = 2;

/// Wakes one core. Cheap to clone, usable from any thread, harmless after the core has ended.
#[derive(Clone)]
pub struct Waker(Arc<Bell>);

struct Bell {
    state: AtomicU8,
    eventfd: OwnedFd,
}

impl Waker {
    /// A waker for one core. The eventfd is blocking, because io_uring answers a read of a non-blocking one with
    /// `EAGAIN`.
    pub(super) fn new() -> io::Result<Waker> {
        // SAFETY: no pointers are passed; a non-negative result is a new descriptor that nobody else owns.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Waker(Arc::new(Bell { state: AtomicU8::new(AWAKE), eventfd })))
    }

    /// Makes the core run one more turn before it sleeps, and wakes it if it sleeps now. Call it after the message is
    /// stored.
    pub fn wake(&self) {
        // Orders the message before the load below. If the load still sees NOTIFIED, the park that takes that
        // notification comes later, and the fence there makes the message visible.
        fence(Ordering::SeqCst);
        if self.0.state.load(Ordering::Relaxed) == NOTIFIED {
            return;
        }
        if self.0.state.swap(NOTIFIED, Ordering::SeqCst) == PARKED {
            let one = 1u64.to_ne_bytes();
            // SAFETY: `one` is 8 readable bytes, and the descriptor is open as long as `self`. The result can be
            // ignored: the counter cannot overflow, because there is a park between any two writes.
            let _ = unsafe { libc::write(self.0.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// The core is about to sleep. Returns false if it was notified and must run another turn instead.
    pub(super) fn begin_park(&self) -> bool {
        if self.0.state.compare_exchange(AWAKE, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return true;
        }
        self.end_park();
        false
    }

    /// The core is awake again. A notification that came meanwhile is consumed, because a turn follows.
    pub(super) fn end_park(&self) {
        self.0.state.swap(AWAKE, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Blocks as a back end does: until the eventfd is readable.
    fn sleep_on(w: &Waker) {
        let mut buf = [0u8; 8];
        // SAFETY: 8 writable bytes, open descriptor.
        let n = unsafe { libc::read(w.fd(), buf.as_mut_ptr().cast(), 8) };
        assert_eq!(n, 8);
    }

    #[test]
    fn a_wake_before_the_park_is_not_lost_and_is_taken_once() {
        let w = Waker::new().unwrap();
        w.wake();
        w.wake();
        assert!(!w.begin_park(), "must not sleep");
        assert!(w.begin_park(), "taken by the first");
        w.wake();
        sleep_on(&w);
        w.end_park();
    }

    #[test]
    fn every_message_of_two_senders_arrives_without_a_timeout() {
        const EACH: u64 = 20_000;
        let w = Waker::new().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (w, sent) = (w.clone(), sent.clone());
                std::thread::spawn(move || {
                    for _ in 0..EACH {
                        sent.fetch_add(1, Ordering::Relaxed);
                        w.wake();
                    }
                })
            })
            .collect();
        // If a wake-up is lost, this loop sleeps for ever and the test hangs.
        while sent.load(Ordering::Relaxed) < 2 * EACH {
            if w.begin_park() {
                sleep_on(&w);
                w.end_park();
            }
        }
        for t in threads {
            t.join().unwrap();
        }
    }
}
