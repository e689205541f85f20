//! The ring itself: creation with the best flags the kernel has, a submission queue that never refuses, and the ring of
//! provided receive buffers.

use crate::runtime::net::error::NetError;
use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use memmap2::MmapMut;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// One completion, copied out of the ring.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the request stays armed.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was used.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// An io_uring used by one thread.
pub(super) struct Ring {
    uring: IoUring,
    /// Entries that found the submission queue full while the kernel would not take any; they go first next time.
    backlog: VecDeque<squeue::Entry>,
    /// The first failure of io_uring_enter that is not a passing one.
    failed: Option<io::Error>,
    enters: u64,
}

impl Ring {
    /// Creates a ring of `entries` on the calling thread, which must be the one that uses it.
    pub(super) fn new(entries: u32) -> Result<Ring, NetError> {
        // From the best set of flags to the plainest: 6.1, 6.0, 5.19.
        let mut outcome = Err(io::Error::from_raw_os_error(libc::EINVAL));
        for level in 0..3 {
            let mut b = IoUring::builder();
            // One failing entry must not hold back those behind it; completions outnumber submissions (multishot).
            b.setup_submit_all().setup_clamp().setup_cqsize(entries.saturating_mul(4)).dontfork();
            match level {
                0 => b.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
                1 => b.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag(),
                _ => b.setup_coop_taskrun().setup_taskrun_flag(),
            };
            outcome = b.build(entries);
            match &outcome {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
                _ => break,
            }
        }
        let uring = outcome.map_err(|e| NetError::of("io_uring_setup", e))?;
        let p = uring.params();
        if !p.is_feature_nodrop() || !p.is_feature_ext_arg() {
            return Err(NetError::of("io_uring_setup", io::Error::from_raw_os_error(libc::ENOSYS)));
        }
        Ok(Ring { uring, backlog: VecDeque::new(), failed: None, enters: 0 })
    }

    /// Queues `entry`.
    ///
    /// # Safety
    /// Whatever the entry points to must stay valid until its (last) completion was reaped or the ring is gone.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: the caller's promise.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.submit();
            // SAFETY: the caller's promise.
            if unsafe { self.uring.submission().push(&entry) }.is_err() {
                self.backlog.push_back(entry);
            }
        }
    }

    /// Hands everything queued to the kernel and runs deferred work if the kernel says there is some. No syscall otherwise.
    pub(super) fn submit(&mut self) {
        self.take_backlog();
        let sq = self.uring.submission();
        let nothing = sq.is_empty() && !sq.taskrun() && !sq.cq_overflow();
        drop(sq);
        if !nothing {
            self.enters += 1;
            let outcome = self.uring.submit();
            self.note(outcome);
            self.take_backlog();
        }
    }

    /// Submits and waits for a completion, `timeout` at most. True if one is there.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.take_backlog();
        if !self.uring.completion().is_empty() {
            self.submit();
            return true;
        }
        // A backlog means that the kernel waits for us to reap: do not sleep on it.
        let timeout = if self.backlog.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.enters += 1;
        let outcome = match timeout {
            Some(t) => {
                let t = Timespec::from(t);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&t))
            }
            None => self.uring.submit_and_wait(1),
        };
        self.note(outcome);
        !self.uring.completion().is_empty()
    }

    /// Copies out what has completed, at most so many.
    pub(super) fn completions(&mut self, into: &mut Vec<Completion>, most: usize) {
        if self.uring.completion().is_empty() {
            self.submit();
        }
        let cq = self.uring.completion();
        let most = most.min(cq.capacity());
        into.extend(cq.take(most).map(|c| Completion {
            user_data: c.user_data(),
            result: c.result(),
            flags: c.flags(),
        }));
    }

    /// The failure that makes this ring useless, once.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// How often the kernel was entered.
    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Cancels everything and waits until the kernel has let go of all memory and descriptors. False if it has not within a
    /// second.
    pub(super) fn cancel_all(&mut self) -> bool {
        self.backlog.clear();
        self.submit();
        let any = io_uring::types::CancelBuilder::any();
        let done = match self.uring.submitter().register_sync_cancel(Some(Timespec::new().sec(1)), any) {
            Ok(()) => true,
            Err(e) => e.raw_os_error() == Some(libc::ENOENT),
        };
        // What was cancelled is released by deferred work, which only runs in an enter. Without it the sockets (a listener's
        // port!) would stay open until a kernel thread tears the ring down, some time after the process has ended.
        let mut dropped = Vec::new();
        for _ in 0..1000 {
            self.wait(Some(Duration::ZERO));
            self.completions(&mut dropped, usize::MAX);
            if dropped.is_empty() {
                break;
            }
            dropped.clear();
        }
        done
    }

    fn take_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut sq = self.uring.submission();
        while let Some(e) = self.backlog.front() {
            // SAFETY: promised when the entry was handed to `push`.
            if unsafe { sq.push(e) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn note(&mut self, outcome: io::Result<usize>) {
        if let Err(e) = outcome {
            // ETIME: the timeout. EINTR: a signal. EBUSY, EAGAIN: reap first, or memory is short for a moment; the
            // entries are still queued.
            let passing = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
            if !e.raw_os_error().is_some_and(|n| passing.contains(&n)) && self.failed.is_none() {
                self.failed = Some(e);
            }
        }
    }
}

/// Receive buffers the kernel picks from, in one mapping each for the ring of descriptors and the bytes.
pub(super) struct BufRing {
    ring: MmapMut,
    bytes: MmapMut,
    count: u16,
    len: u32,
    tail: u16,
}

impl BufRing {
    /// Registers `count` (a power of two, at most 32768) buffers of `len` bytes as group `group` of `ring`.
    pub(super) fn new(ring: &Ring, group: u16, count: u16, len: u32) -> Result<BufRing, NetError> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && len > 0, "buffer ring of {count} x {len}");
        let map = |n: usize| MmapMut::map_anon(n).map_err(|e| NetError::of("mmap", e));
        let descriptors = map(usize::from(count) * size_of::<BufRingEntry>())?;
        let bytes = map(usize::from(count) * len as usize)?;
        let mut b = BufRing { ring: descriptors, bytes, count, len, tail: 0 };
        let at = b.ring.as_mut_ptr() as u64;
        // SAFETY: `at` is page aligned (a mapping) and holds `count` entries. It outlives the registration: `Uring` drops
        // its ring (which ends the registration) before its buffers, and never moves the mapping.
        unsafe { ring.uring.submitter().register_buf_ring_with_flags(at, count, group, 0) }
            .map_err(|e| NetError::of("io_uring_register(IORING_REGISTER_PBUF_RING)", e))?;
        for id in 0..count {
            b.give_back(id);
        }
        b.publish();
        Ok(b)
    }

    /// The first `n` bytes of buffer `id`, which the kernel filled and we have not given back.
    pub(super) fn filled(&self, id: u16, n: usize) -> &[u8] {
        assert!(id < self.count && n <= self.len as usize, "buffer {id} of {}, {n} bytes", self.count);
        let at = usize::from(id) * self.len as usize;
        &self.bytes[at..at + n]
    }

    /// Puts buffer `id` behind the others; the kernel sees it after `publish`.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        let addr = self.bytes.as_ptr() as u64 + u64::from(id) * u64::from(self.len);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot < count`, the mapping holds `count` entries, aligned as a mapping is. The kernel reads an entry only
        // between head and tail, and this one is beyond the published tail. The setters leave the field that doubles as
        // the tail (`resv` of entry 0) alone.
        let entry = unsafe { &mut *self.ring.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(addr);
        entry.set_len(self.len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see all buffers given back so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the ring's base address; the tail is an aligned u16 inside the mapping, shared with the kernel, and only
        // accessed atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
