//! The back end for io_uring: multishot accept and receive, provided buffers, at most one send per connection in
//! progress, and one call of io_uring_enter for all of them.

mod completions;
mod ring;

use super::conn::Phase;
use super::driver::Driver;
use super::error::NetError;
use super::event::{NetEvent, NetOptions};
use super::socket::SockAddr;
use super::table::{FLUSH_MAX, REAP_MAX, Rest, SEND_MAX, SEND_SMALL, TICK, Table};
use super::waker::Waker;
use crate::types::ConnId;
use io_uring::opcode;
use io_uring::types::{Fd, Timespec};
use ring::{BufRing, Completion, Ring};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

const GROUP: u16 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    Accept = 1,
    Recv = 2,
    Send = 3,
    Wake = 4,
    Tick = 5,
    Cancel = 6,
    Connect = 7,
}

impl Op {
    /// The user data of an operation without a connection.
    fn number(self, index: usize) -> u64 {
        (self as u64) << 56 | u64::from(index as u32)
    }

    /// The user data of an operation on connection `id`: kind, 24 bits of the generation, slot.
    fn on(self, id: ConnId) -> u64 {
        (self as u64) << 56 | id.0 & 0x00ff_ffff_ffff_ffff
    }

    fn of(user_data: u64) -> Op {
        match user_data >> 56 {
            1 => Op::Accept,
            2 => Op::Recv,
            3 => Op::Send,
            4 => Op::Wake,
            5 => Op::Tick,
            6 => Op::Cancel,
            7 => Op::Connect,
            other => unreachable!("completion of operation {other}"),
        }
    }
}

/// See the module.
pub(super) struct Uring {
    // Dropped first: the kernel may use the memory of the fields below.
    ring: Ring,
    buffers: BufRing,
    /// The eventfd's counter is read into this.
    bell: Box<u64>,
    waker: Waker,
    tick_len: Box<Timespec>,
    tick_armed: bool,
    /// Connections whose receive ended because no buffer was free.
    starved: Vec<ConnId>,
    /// Connections with kept bytes to deliver.
    resumed: Vec<ConnId>,
    completions: Vec<Completion>,
}

impl Uring {
    pub(super) fn new(options: &NetOptions, waker: &Waker) -> Result<Uring, NetError> {
        let ring = Ring::new(options.entries)?;
        let buffers = BufRing::new(&ring, GROUP, options.buffers, options.buffer_len)?;
        let mut uring = Uring {
            ring,
            buffers,
            bell: Box::new(0),
            waker: waker.clone(),
            tick_len: Box::new(Timespec::from(TICK)),
            tick_armed: false,
            starved: Vec::new(),
            resumed: Vec::new(),
            completions: Vec::new(),
        };
        uring.arm_bell();
        Ok(uring)
    }

    /// Number of calls of io_uring_enter.
    pub(super) fn enters(&self) -> u64 {
        self.ring.enters()
    }

    /// Cancels all operations in progress. Returns false if the kernel still uses memory of the connections.
    pub(super) fn let_go(&mut self) -> bool {
        let done = self.ring.cancel_all();
        if !done {
            std::mem::forget(std::mem::take(&mut self.bell));
        }
        done
    }

    fn cancel_recv(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        if c.recv_armed && !c.recv_cancelled {
            c.recv_cancelled = true;
            self.cancel(Op::Recv.on(id));
        }
    }

    fn send(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        if c.sending.is_empty() {
            std::mem::swap(&mut c.sending, &mut c.out);
            c.sent = 0;
        }
        if c.sending.is_empty() {
            // The buffer was requested but nothing was appended.
            t.spares.put(std::mem::take(&mut c.sending));
            return;
        }
        c.send_in_flight = true;
        let fd = Fd(c.fd());
        let part = &c.sending[c.sent..];
        let part = &part[..part.len().min(SEND_MAX)];
        let entry = opcode::Send::new(fd, part.as_ptr(), part.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(Op::Send.on(id));
        // SAFETY: `sending` is neither changed nor freed while `send_in_flight` is set, and the slot is not freed
        // before that ends.
        unsafe { self.ring.push(entry) };
    }

    fn arm_accept(&mut self, t: &mut Table, number: usize) {
        let Some(l) = t.listeners[number].as_mut() else { return };
        if l.armed || l.removed || l.rest != Rest::Not {
            return;
        }
        l.armed = true;
        let fd = Fd(l.socket.as_raw_fd());
        let entry = if l.one_by_one {
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        };
        let entry = entry.user_data(Op::Accept.number(number));
        // SAFETY: the entry has no pointers.
        unsafe { self.ring.push(entry) };
    }

    fn arm_bell(&mut self) {
        let fd = Fd(self.waker.fd());
        let entry = opcode::Read::new(fd, (&raw mut *self.bell).cast(), 8).build().user_data(Op::Wake.number(0));
        // SAFETY: `bell` is boxed, has 8 bytes, is read by nobody, and is dropped after the ring.
        unsafe { self.ring.push(entry) };
    }

    /// Cancels the operation with this user data. Entries are handled in order, so this cannot hit a later operation
    /// with the same user data.
    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(Op::Cancel.number(0));
        // SAFETY: the entry has no pointers.
        unsafe { self.ring.push(entry) };
    }
}

impl Driver for Uring {
    fn watch_listener(&mut self, t: &mut Table, number: usize) -> io::Result<()> {
        self.arm_accept(t, number);
        Ok(())
    }

    fn stop_accepting(&mut self, _: &mut Table, number: usize) {
        // The last completion of the accept frees the listener's place.
        self.cancel(Op::Accept.number(number));
    }

    fn admit(&mut self, t: &mut Table, id: ConnId) -> Result<(), OwnedFd> {
        self.read_on(t, id);
        Ok(())
    }

    fn begin_connect(&mut self, t: &mut Table, id: ConnId, to: SocketAddr) {
        let Some(c) = t.slab.get(id) else { return };
        c.send_in_flight = true;
        let fd = Fd(c.fd());
        let dial = c.dial.insert(Box::new(SockAddr::from(to)));
        let entry = opcode::Connect::new(fd, dial.as_ptr(), dial.len()).build().user_data(Op::Connect.on(id));
        // SAFETY: `dial` is boxed and not changed while `send_in_flight` is set, and the slot is not freed before that
        // ends.
        unsafe { self.ring.push(entry) };
    }

    fn stop_reading(&mut self, t: &mut Table, id: ConnId) {
        self.cancel_recv(t, id);
    }

    fn resume_reading(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.open(id) else { return };
        if !c.held.is_empty() || c.eof_held {
            self.resumed.push(id);
        } else {
            self.read_on(t, id);
        }
    }

    fn read_on(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        if c.recv_armed || c.paused || c.eof || matches!(c.phase, Phase::Dead | Phase::Connecting) {
            return;
        }
        c.recv_armed = true;
        let entry = opcode::RecvMulti::new(Fd(c.fd()), GROUP).build().user_data(Op::Recv.on(id));
        // SAFETY: the entry points only to the provided buffers, which live as long as the ring.
        unsafe { self.ring.push(entry) };
    }

    fn cancel_operations(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        if c.send_in_flight {
            let op = if c.dial.is_some() { Op::Connect } else { Op::Send };
            self.cancel(op.on(id));
        }
        self.cancel_recv(t, id);
    }

    fn tick_soon(&mut self, _: &mut Table) {
        if !std::mem::replace(&mut self.tick_armed, true) {
            let entry = opcode::Timeout::new(&raw const *self.tick_len).build().user_data(Op::Tick.number(0));
            // SAFETY: `tick_len` is boxed and dropped after the ring.
            unsafe { self.ring.push(entry) };
        }
    }

    fn reap(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        // First, so that a connection that is no longer paused has nothing kept when its newer bytes come.
        self.deliver_held(t, f);
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.completions(&mut completions, REAP_MAX);
        for &c in &completions {
            self.complete(t, c, f);
        }
        let n = completions.len();
        completions.clear();
        self.completions = completions;
        if n > 0 {
            self.buffers.publish();
            while let Some(id) = self.starved.pop() {
                self.read_on(t, id);
            }
        }
        n
    }

    fn flush(&mut self, t: &mut Table) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut t.dirty);
        let mut long = 0;
        dirty.retain(|&id| {
            let Some(c) = t.slab.get(id) else { return false };
            if !c.send_in_flight && matches!(c.phase, Phase::Open | Phase::Flushing) {
                let bytes = c.queued().min(SEND_MAX);
                if bytes > SEND_SMALL {
                    if long >= FLUSH_MAX {
                        return true;
                    }
                    long += bytes;
                }
                c.dirty = false;
                self.send(t, id);
            } else {
                c.dirty = false;
            }
            false
        });
        t.dirty = dirty;
        self.ring.submit();
        self.ring.failure()
    }

    fn has_work(&mut self, t: &mut Table) -> bool {
        !self.resumed.is_empty() || !t.dirty.is_empty()
    }

    fn wait(&mut self, _: &mut Table, timeout: Option<Duration>) -> io::Result<bool> {
        let ready = self.ring.wait(timeout);
        self.ring.failure()?;
        Ok(ready)
    }
}
