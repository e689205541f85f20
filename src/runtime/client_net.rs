//! Client sockets of one core on one io_uring. Plays the part of `NIOServerCnxnFactory` with its selector threads.
//!
//! Everything happens on the thread that made the [`ClientNet`]; only [`Waker`] crosses threads. A turn of a core is
//! [`reap`](ClientNet::reap) (what has arrived), the machines' work with [`out`](ClientNet::out), then
//! [`flush`](ClientNet::flush) (one send per connection, one syscall for all), and [`park`](ClientNet::park) when there was
//! nothing to do.
//!
//! What a connection's owner hears: `Accepted`, then any number of `Data`, at most one `Eof` (the peer sends no more, but can
//! still read: answer, then `close`), and in the end either it calls [`close`](ClientNet::close) and hears nothing more, or
//! it gets `Closed` and the token is dead. A dead token is harmless in every call.
//!
//! Memory: a slot is reused only when the kernel has ended every operation on it, so a late completion cannot meet a
//! stranger. What is not sent stays in the connection's buffers, whose size the owner bounds with
//! [`queued`](ClientNet::queued); what arrives is bounded by the provided buffers.

mod completions;
mod conn;
mod error;
mod event;
mod listen;
mod probe;
mod ring;
#[cfg(test)]
mod tests;
mod waker;

pub use conn::Token;
pub use error::NetError;
pub use event::{Close, NetEvent, NetOptions, NetStats, Parked};
pub use listen::{BindError, ListenAddr, ListenOptions, listen};
pub use probe::probe;
pub use waker::Waker;

use conn::{Phase, Slab, Spares};
use io_uring::opcode;
use io_uring::types::{Fd, Timespec};
use ring::{BufRing, Completion, Ring};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const GROUP: u16 = 0;
/// How often closing connections are looked at, and how long accepting pauses after an error.
const TICK: Duration = Duration::from_millis(250);

/// Who takes a little now and then of what was queued before a graceful close has so many times `NetOptions::linger` for all.
const MOST_LINGERS: u32 = 12;
/// The most bytes in one send operation: the kernel copies them, and delivers them on loopback, before anybody else is served.
const SEND_MAX: usize = 128 << 10;
/// A send up to this size begins in the flush that follows; longer ones share [`FLUSH_MAX`] in each flush.
const SEND_SMALL: usize = 32 << 10;
/// Bytes of long sends begun in one flush.
const FLUSH_MAX: usize = 512 << 10;
/// Completions handled in one reap: what they ask for is answered before more are looked at.
const REAP_MAX: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    Accept = 1,
    Recv = 2,
    Send = 3,
    Wake = 4,
    Tick = 5,
    Cancel = 6,
}

impl Op {
    /// The user data of an operation that belongs to no connection.
    fn number(self, index: usize) -> u64 {
        (self as u64) << 56 | u64::from(index as u32)
    }

    /// The user data of an operation on `token`: kind, 24 bits of the generation, slot.
    fn on(self, token: Token) -> u64 {
        (self as u64) << 56 | token.to_u64() & 0x00ff_ffff_ffff_ffff
    }

    fn of(user_data: u64) -> Op {
        match user_data >> 56 {
            1 => Op::Accept,
            2 => Op::Recv,
            3 => Op::Send,
            4 => Op::Wake,
            5 => Op::Tick,
            6 => Op::Cancel,
            other => unreachable!("completion of operation {other}"),
        }
    }
}

struct Listener {
    socket: TcpListener,
    armed: bool,
    /// Armed again at the next tick.
    resting: bool,
    removed: bool,
}

/// A connection on its way out and how many ticks without progress it has left.
struct Leaving {
    token: Token,
    /// Until it is cut off unless it takes something.
    ticks: u32,
    /// Until it is cut off in any case.
    left: u32,
    queued: usize,
}

/// See the module.
pub struct ClientNet {
    // Dropped first: what follows is memory the kernel may use.
    ring: Ring,
    buffers: BufRing,
    slab: Slab,
    /// Where the eventfd's counter is read to.
    bell: Box<u64>,
    tick_len: Box<Timespec>,
    waker: Waker,
    listeners: Vec<Option<Listener>>,
    spares: Spares,
    /// Connections with something in `out` and no send in flight, or that just ended one.
    dirty: Vec<Token>,
    /// Connections whose receive ended for want of a buffer.
    starved: Vec<Token>,
    /// Connections with held bytes to deliver.
    resumed: Vec<Token>,
    leaving: Vec<Leaving>,
    tick_armed: bool,
    linger_ticks: u32,
    completions: Vec<Completion>,
    /// What appends to dead tokens go to.
    sink: Vec<u8>,
    stats: NetStats,
}

impl ClientNet {
    /// Sets up the ring on the calling thread, which must be the one that uses it.
    pub fn new(options: &NetOptions) -> Result<ClientNet, NetError> {
        let ring = Ring::new(options.entries)?;
        let buffers = BufRing::new(&ring, GROUP, options.buffers, options.buffer_len)?;
        let waker = Waker::new().map_err(|e| NetError::of("eventfd", e))?;
        let linger_ticks = options.linger.as_millis().div_ceil(TICK.as_millis()).clamp(1, 1 << 20) as u32;
        let mut net = ClientNet {
            ring,
            buffers,
            slab: Slab::new(options.max_conns.min(u32::MAX as usize)),
            bell: Box::new(0),
            tick_len: Box::new(Timespec::from(TICK)),
            waker,
            listeners: Vec::new(),
            spares: Spares::new(),
            dirty: Vec::new(),
            starved: Vec::new(),
            resumed: Vec::new(),
            leaving: Vec::new(),
            tick_armed: false,
            linger_ticks,
            completions: Vec::new(),
            sink: Vec::new(),
            stats: NetStats::default(),
        };
        net.arm_bell();
        Ok(net)
    }

    /// What other threads wake this core with.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Counters.
    pub fn stats(&self) -> NetStats {
        NetStats { enters: self.ring.enters(), ..self.stats }
    }

    /// Connections that hold a slot, those being closed included.
    pub fn conns(&self) -> usize {
        self.slab.len()
    }

    /// The open connections, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.slab.tokens()
    }

    /// Accepts clients from `socket` (see [`listen`]) until [`remove_listener`](ClientNet::remove_listener). Returns its number.
    pub fn add_listener(&mut self, socket: TcpListener) -> io::Result<usize> {
        // io_uring answers EAGAIN for non-blocking sockets instead of waiting.
        socket.set_nonblocking(false)?;
        let listener = Some(Listener { socket, armed: false, resting: false, removed: false });
        let number = match self.listeners.iter().position(Option::is_none) {
            Some(n) => n,
            None => {
                self.listeners.push(None);
                self.listeners.len() - 1
            }
        };
        self.listeners[number] = listener;
        self.arm_accept(number);
        Ok(number)
    }

    /// Stops accepting on it; its port is free once the kernel has ended the accept (a turn later). Connections stay.
    pub fn remove_listener(&mut self, number: usize) {
        let Some(Some(l)) = self.listeners.get_mut(number) else { return };
        l.removed = true;
        if l.armed {
            self.cancel(Op::Accept.number(number));
        } else {
            self.listeners[number] = None;
        }
    }

    /// Takes over a connection that something else accepted or made. Gives it back when `max_conns` are held.
    pub fn adopt(&mut self, stream: TcpStream) -> Result<Token, TcpStream> {
        // As for listeners. Fails only for what is not a socket.
        if stream.set_nonblocking(false).is_err() {
            return Err(stream);
        }
        let token = self.slab.insert(OwnedFd::from(stream)).map_err(TcpStream::from)?;
        self.arm_recv(token);
        Ok(token)
    }

    /// Where bytes for this connection are appended; sent by the next [`flush`](ClientNet::flush). Never shorten it. For a dead
    /// token a buffer that goes nowhere.
    pub fn out(&mut self, token: Token) -> &mut Vec<u8> {
        let Some(conn) = self.slab.open(token) else {
            self.sink.clear();
            return &mut self.sink;
        };
        if conn.out.capacity() == 0 {
            conn.out = self.spares.take();
        }
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(token);
        }
        &mut conn.out
    }

    /// Bytes appended that the kernel has not taken: a slow reader's backlog.
    pub fn queued(&self, token: Token) -> usize {
        self.slab.open_ref(token).map_or(0, |c| c.queued())
    }

    /// Asks for one `Writable` event once everything appended so far is taken by the kernel. Nothing queued: at the next send.
    pub fn want_writable(&mut self, token: Token) {
        if let Some(c) = self.slab.open(token) {
            c.wants_writable = true;
        }
    }

    /// Stops reading. What is already under way is kept (no more than the provided buffers hold) and delivered, in order, by
    /// the first `reap` after `resume_recv`; so is the end of the stream. A failed send is still told at once.
    pub fn pause_recv(&mut self, token: Token) {
        let Some(c) = self.slab.open(token) else { return };
        c.paused = true;
        self.cancel_recv(token);
    }

    /// Reads on after `pause_recv`.
    pub fn resume_recv(&mut self, token: Token) {
        let Some(c) = self.slab.open(token) else { return };
        if !c.paused {
            return;
        }
        c.paused = false;
        if !c.held.is_empty() || c.eof_held {
            self.resumed.push(token);
        } else {
            self.arm_recv(token);
        }
    }

    /// Ends a connection; the token is dead from here on and no more events come for it.
    pub fn close(&mut self, token: Token, how: Close) {
        let linger = self.linger_ticks;
        let Some(c) = self.slab.open(token) else { return };
        c.held = Vec::new();
        c.paused = false;
        if how == Close::Abort {
            set_linger_zero(c.fd.as_ref().expect("an open connection has a descriptor").as_raw_fd());
            self.end(token);
            return;
        }
        c.phase = Phase::Flushing;
        let queued = c.queued();
        self.leaving.push(Leaving { token, ticks: linger, left: linger.saturating_mul(MOST_LINGERS), queued });
        self.arm_tick();
        if queued == 0 {
            self.finish(token);
        } else {
            self.arm_recv(token);
        }
    }

    /// Handles what has completed, without blocking, and tells `f`. Returns how many completions that were.
    pub fn reap(&mut self, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        // First, so that a connection that is not paused holds nothing when its newer bytes come.
        self.deliver_held(f);
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.completions(&mut completions, REAP_MAX);
        for &c in &completions {
            self.complete(c, f);
        }
        let n = completions.len();
        completions.clear();
        self.completions = completions;
        if n > 0 {
            self.buffers.publish();
            while let Some(token) = self.starved.pop() {
                self.arm_recv(token);
            }
        }
        n
    }

    /// Starts one send for each connection that has bytes and no send in flight, and submits all of it at once. An error
    /// means the ring is unusable.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut long = 0;
        dirty.retain(|&token| {
            let Some(c) = self.slab.get(token) else { return false };
            if !c.send_in_flight && matches!(c.phase, Phase::Open | Phase::Flushing) {
                let bytes = c.queued().min(SEND_MAX);
                if bytes > SEND_SMALL {
                    if long >= FLUSH_MAX {
                        return true;
                    }
                    long += bytes;
                }
                c.dirty = false;
                self.send(token);
            } else {
                c.dirty = false;
            }
            false
        });
        self.dirty = dirty;
        self.ring.submit();
        self.ring.failure()
    }

    /// Flushes, then sleeps until something completes, a [`Waker`] rings, or `timeout` is over (`None`: for ever). An error
    /// means the ring is unusable.
    pub fn park(&mut self, timeout: Option<Duration>) -> io::Result<Parked> {
        self.flush()?;
        if !self.resumed.is_empty() || !self.dirty.is_empty() {
            return Ok(Parked::Ready);
        }
        if !self.waker.begin_park() {
            return Ok(Parked::Notified);
        }
        let ready = self.ring.wait(timeout);
        self.waker.end_park();
        self.ring.failure()?;
        Ok(if ready { Parked::Ready } else { Parked::TimedOut })
    }

    // --- the end of a connection ---

    /// It broke: the owner is told if it still knows the connection.
    fn fail(&mut self, token: Token, errno: i32, f: &mut impl FnMut(NetEvent<'_>)) {
        let Some(c) = self.slab.get(token) else { return };
        let open = c.phase == Phase::Open;
        if c.phase != Phase::Dead {
            self.end(token);
        }
        if open {
            f(NetEvent::Closed { token, reason: io::Error::from_raw_os_error(errno) });
        }
    }

    /// All bytes of a gracefully closed connection are with the kernel: FIN, then wait for the peer's.
    fn finish(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        let fd = c.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd();
        // SAFETY: no pointers; the descriptor is open. Fails only if the connection is gone, and then so will the receive.
        unsafe { libc::shutdown(fd, libc::SHUT_WR) };
        c.phase = if c.eof { Phase::Dead } else { Phase::Lingering };
        self.arm_recv(token);
        self.settle(token);
    }

    /// Nothing more is wanted from this connection: ends what is in flight and frees it when that has ended.
    fn end(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        c.phase = Phase::Dead;
        if c.send_in_flight {
            self.cancel(Op::Send.on(token));
        }
        self.cancel_recv(token);
        self.settle(token);
    }

    /// Frees a dead connection that the kernel knows nothing of any more.
    fn settle(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        if c.phase == Phase::Dead && !c.recv_armed && !c.send_in_flight {
            for v in self.slab.remove(token) {
                self.spares.put(v);
            }
        }
    }

    // --- operations ---

    fn arm_recv(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        if c.recv_armed || c.paused || c.eof || c.phase == Phase::Dead {
            return;
        }
        c.recv_armed = true;
        let fd = Fd(c.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, GROUP).build().user_data(Op::Recv.on(token));
        // SAFETY: points to nothing but the provided buffers, which live as long as the ring.
        unsafe { self.ring.push(entry) };
    }

    fn cancel_recv(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        if c.recv_armed && !c.recv_cancelled {
            c.recv_cancelled = true;
            self.cancel(Op::Recv.on(token));
        }
    }

    fn send(&mut self, token: Token) {
        let Some(c) = self.slab.get(token) else { return };
        if c.sending.is_empty() {
            std::mem::swap(&mut c.sending, &mut c.out);
            c.sent = 0;
        }
        if c.sending.is_empty() {
            // `out` was asked for but nothing appended.
            self.spares.put(std::mem::take(&mut c.sending));
            return;
        }
        c.send_in_flight = true;
        let fd = Fd(c.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd());
        let part = &c.sending[c.sent..];
        let part = &part[..part.len().min(SEND_MAX)];
        let entry = opcode::Send::new(fd, part.as_ptr(), part.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(Op::Send.on(token));
        // SAFETY: `sending` is neither touched nor freed while `send_in_flight`, and the slot is not freed before that ends.
        unsafe { self.ring.push(entry) };
    }

    fn arm_accept(&mut self, number: usize) {
        let Some(l) = self.listeners[number].as_mut() else { return };
        if l.armed || l.removed || l.resting {
            return;
        }
        l.armed = true;
        let fd = Fd(l.socket.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build().user_data(Op::Accept.number(number));
        // SAFETY: points to nothing.
        unsafe { self.ring.push(entry) };
    }

    fn arm_bell(&mut self) {
        let fd = Fd(self.waker.fd());
        let entry = opcode::Read::new(fd, (&raw mut *self.bell).cast(), 8).build().user_data(Op::Wake.number(0));
        // SAFETY: `bell` is boxed, 8 bytes, read by nobody, and dropped after the ring.
        unsafe { self.ring.push(entry) };
    }

    fn arm_tick(&mut self) {
        if !std::mem::replace(&mut self.tick_armed, true) {
            let entry = opcode::Timeout::new(&raw const *self.tick_len).build().user_data(Op::Tick.number(0));
            // SAFETY: `tick_len` is boxed and dropped after the ring.
            unsafe { self.ring.push(entry) };
        }
    }

    /// Ends the operation with this user data. Entries are taken in order, so it cannot meet a later one of the same name.
    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(Op::Cancel.number(0));
        // SAFETY: points to nothing.
        unsafe { self.ring.push(entry) };
    }
}

impl Drop for ClientNet {
    fn drop(&mut self) {
        if !self.ring.cancel_all() {
            // Something still holds on to our memory: leave it, rather than let the kernel write into what comes next.
            let slab = std::mem::replace(&mut self.slab, Slab::new(0));
            std::mem::forget(slab);
            std::mem::forget(std::mem::take(&mut self.bell));
        }
    }
}

/// Makes the close of this socket send a reset and drop what is queued.
fn set_linger_zero(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: `linger` is valid for `len` bytes; the descriptor is open. It cannot fail for a TCP socket, and if it did the
    // close would only be a polite one.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len) };
}
