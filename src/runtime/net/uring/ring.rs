//! The io_uring: created with the best flags that the kernel supports, with a submission queue that never refuses an
//! entry, and with a ring of provided receive buffers.

use crate::runtime::net::error::NetError;
use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use memmap2::MmapMut;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// One completion, copied from the ring.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the multishot request stays armed.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that the kernel used.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// An io_uring used by one thread.
pub(super) struct Ring {
    uring: IoUring,
    /// Entries for which the submission queue had no room while the kernel took none; they are submitted first next
    /// time.
    backlog: VecDeque<squeue::Entry>,
    /// The first error of io_uring_enter that is not temporary.
    failed: Option<io::Error>,
    enters: u64,
}

impl Ring {
    /// Creates a ring with `entries` entries. The calling thread must be the one that uses it.
    pub(super) fn new(entries: u32) -> Result<Ring, NetError> {
        // From the best flags to the plainest: kernels 6.1, 6.0, 5.19.
        let mut outcome = Err(io::Error::from_raw_os_error(libc::EINVAL));
        for level in 0..3 {
            let mut b = IoUring::builder();
            // An entry that fails must not hold back those after it. There are more completions than submissions,
            // because of multishot requests.
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

    /// Queues an entry.
    ///
    /// # Safety
    /// Everything that the entry points to must stay valid until its last completion was reaped or the ring is dropped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: guaranteed by the caller.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.submit();
            // SAFETY: guaranteed by the caller.
            if unsafe { self.uring.submission().push(&entry) }.is_err() {
                self.backlog.push_back(entry);
            }
        }
    }

    /// Submits all queued entries, and runs deferred work if the kernel has some. If there is neither, makes no system
    /// call.
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

    /// Submits and waits for a completion, at most for `timeout`. Returns true if there is one.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> bool {
        // What is queued is submitted by the flush of the next turn: entering the ring now would be one call more for
        // the same work.
        if !self.uring.completion().is_empty() {
            return true;
        }
        self.take_backlog();
        // A backlog means that the kernel waits for us to reap, so do not sleep.
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

    /// Copies out the completions, at most `most`.
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

    /// The error that makes this ring unusable; returned once.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Number of calls of io_uring_enter.
    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Cancels all operations and waits until the kernel has released all memory and descriptors. Returns false if it
    /// has not after a second.
    pub(super) fn cancel_all(&mut self) -> bool {
        self.backlog.clear();
        self.submit();
        let any = io_uring::types::CancelBuilder::any();
        let done = match self.uring.submitter().register_sync_cancel(Some(Timespec::new().sec(1)), any) {
            Ok(()) => true,
            Err(e) => e.raw_os_error() == Some(libc::ENOENT),
        };
        // The kernel releases what was cancelled in deferred work, which only runs inside io_uring_enter. Without this
        // call the sockets (and so a listener's port!) would stay open until a kernel thread destroys the ring, some
        // time after the process has ended.
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
            // SAFETY: guaranteed when the entry was passed to `push`.
            if unsafe { sq.push(e) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn note(&mut self, outcome: io::Result<usize>) {
        if let Err(e) = outcome {
            // ETIME: the timeout has passed. EINTR: a signal arrived. EBUSY, EAGAIN: completions must be reaped first,
            // or memory is short at the moment; the entries are still queued.
            let passing = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
            if !e.raw_os_error().is_some_and(|n| passing.contains(&n)) && self.failed.is_none() {
                self.failed = Some(e);
            }
        }
    }
}

/// Receive buffers that the kernel chooses from: one mapping for the ring of descriptors and one for the bytes.
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
        // SAFETY: `at` is page aligned, being a mapping, and holds `count` entries. It outlives the registration:
        // `Uring` drops its ring, which ends the registration, before its buffers, and never moves the mapping.
        unsafe { ring.uring.submitter().register_buf_ring_with_flags(at, count, group, 0) }
            .map_err(|e| NetError::of("io_uring_register(IORING_REGISTER_PBUF_RING)", e))?;
        for id in 0..count {
            b.give_back(id);
        }
        b.publish();
        Ok(b)
    }

    /// The first `n` bytes of buffer `id`, which the kernel has filled and we have not returned.
    pub(super) fn filled(&self, id: u16, n: usize) -> &[u8] {
        assert!(id < self.count && n <= self.len as usize, "buffer {id} of {}, {n} bytes", self.count);
        let at = usize::from(id) * self.len as usize;
        &self.bytes[at..at + n]
    }

    /// Returns buffer `id` to the end of the ring; the kernel sees it after `publish`.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        let addr = self.bytes.as_ptr() as u64 + u64::from(id) * u64::from(self.len);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot < count`, and the mapping holds `count` entries and is aligned. The kernel reads only entries
        // between head and tail, and this one is beyond the published tail. The setters do not touch the field that
        // also stores the tail (`resv` of entry 0).
        let entry = unsafe { &mut *self.ring.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(addr);
        entry.set_len(self.len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes all buffers returned so far visible to the kernel.
    pub(super) fn publish(&mut self) {
        // SAFETY: this is the ring's base address; the tail is an aligned u16 inside the mapping, shared with the
        // kernel and only accessed atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
