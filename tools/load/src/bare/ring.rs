//! An io_uring with multishot accept and recv and provided buffers: the unsafe code of the bare server.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::MmapMut;

/// The only group of receive buffers.
const GROUP: u16 = 0;
/// Number and size of the buffers: enough for all connections with a full pipeline.
const BUFFERS: u16 = 512;
const BUFFER_LEN: u32 = 16 << 10;
const ENTRIES: u32 = 4_096;

/// A completion.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The token of the request.
    pub token: u64,
    /// Bytes, a descriptor, or an error number below zero.
    pub result: i32,
    /// The receive buffer with the bytes.
    pub buffer: Option<u16>,
    /// The request stays armed.
    pub more: bool,
}

/// The ring, used by one thread.
pub struct Ring {
    // Before the buffers: the kernel releases them when the ring is closed.
    uring: IoUring,
    descriptors: MmapMut,
    bytes: MmapMut,
    tail: u16,
}

impl Ring {
    /// A ring with all its buffers free.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(ENTRIES * 4);
        let uring = builder.build(ENTRIES)?;
        let descriptors = MmapMut::map_anon(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let bytes = MmapMut::map_anon(usize::from(BUFFERS) * BUFFER_LEN as usize)?;
        // SAFETY: the mapping is page-aligned, has room for BUFFERS entries, is never moved, and is dropped after the
        // ring.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(descriptors.as_ptr() as u64, BUFFERS, GROUP, 0)?;
        }
        let mut ring = Ring { uring, descriptors, bytes, tail: 0 };
        (0..BUFFERS).for_each(|id| ring.give_back(id));
        Ok(ring)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: only called below; the callers guarantee that what the entries point to stays valid.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.uring.submit()?;
        }
    }

    /// Accepts connections until this fails: each completion is a descriptor.
    pub fn accept(&mut self, listener: RawFd, token: u64) -> io::Result<()> {
        self.push(&opcode::AcceptMulti::new(Fd(listener)).build().user_data(token))
    }

    /// Receives until the end of the stream, an error, or until no buffer is free.
    pub fn receive(&mut self, fd: RawFd, token: u64) -> io::Result<()> {
        self.push(&opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(token))
    }

    /// Sends from `at` on.
    ///
    /// # Safety
    /// `bytes` must not be changed, moved or dropped before this completes.
    pub unsafe fn send(&mut self, fd: RawFd, bytes: &[u8], at: usize, token: u64) -> io::Result<()> {
        let rest = &bytes[at..];
        let entry = opcode::Send::new(Fd(fd), rest.as_ptr(), rest.len() as u32).flags(libc::MSG_NOSIGNAL);
        self.push(&entry.build().user_data(token))
    }

    /// Submits what is queued, waits for a completion, and puts all completions into `done`.
    pub fn turn(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        done.clear();
        match self.uring.submit_and_wait(1) {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(e) => return Err(e),
        }
        done.extend(self.uring.completion().map(|c| Done {
            token: c.user_data(),
            result: c.result(),
            buffer: cqueue::buffer_select(c.flags()),
            more: cqueue::more(c.flags()),
        }));
        Ok(())
    }

    /// The bytes that the kernel put into a buffer.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        let at = usize::from(id) * BUFFER_LEN as usize;
        &self.bytes[at..at + len]
    }

    /// Lets the kernel use a buffer again.
    pub fn give_back(&mut self, id: u16) {
        let addr = self.bytes.as_ptr() as u64 + u64::from(id) * u64::from(BUFFER_LEN);
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `slot` is inside the mapping, which is page-aligned. The kernel only reads entries before the tail,
        // and this one is after it. The setters do not touch the tail, which is stored in an unused field of entry 0.
        let entry = unsafe { &mut *self.descriptors.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(addr);
        entry.set_len(BUFFER_LEN);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: this is the ring's base address; the tail is an aligned u16 in the mapping, shared with the kernel
        // and accessed atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.descriptors.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
