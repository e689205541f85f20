//! Every TCP socket of one core: clients now, connections to other servers later. Plays the part of `NIOServerCnxnFactory`
//! with its selector threads.
//!
//! There are two back ends with the same behaviour: [`uring`] and [`epoll`]. [`Backend`] names the one to use, and
//! [`choose`] finds out which one this host allows.
//!
//! Everything happens on the thread that made the [`Net`]; only [`Waker`] crosses threads. A turn of a core is
//! [`reap`](Net::reap) (what has arrived), the machines' work with [`out`](Net::out), then [`flush`](Net::flush) (one send
//! per connection), and [`park`](Net::park) when there was nothing to do.
//!
//! A connection begins with `Accepted`, with `Connected` after [`connect`](Net::connect), or with the return of
//! [`adopt`](Net::adopt). Its owner then hears any number of `Data` and at most one `Eof` (the peer sends no more, but can
//! still read: answer, then `close`). In the end either the owner calls [`close`](Net::close) and hears nothing more, or it
//! gets `Closed`. From then on the id is dead, and harmless in every call.
//!
//! Memory: a slot is reused only when the kernel has ended every operation on it, so a late completion cannot meet a
//! stranger. What is not sent stays in the connection's buffers, whose size the owner bounds with [`queued`](Net::queued).
//! What arrives is bounded by `NetOptions::buffers`; the owner bounds it further with [`pause_recv`](Net::pause_recv).

mod conn;
mod descriptors;
mod driver;
mod epoll;
mod error;
mod event;
mod listen;
mod probe;
mod socket;
mod table;
#[cfg(test)]
pub(in crate::runtime) mod tests;
mod uring;
mod waker;

pub use error::NetError;
pub use event::{Backend, Close, NetEvent, NetOptions, NetStats, Parked};
pub use listen::{BindError, ListenAddr, ListenOptions, listen};
pub use probe::{Choice, choose};
pub use waker::Waker;

use crate::types::ConnId;
use driver::Driver;
use epoll::Epoll;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;
use table::Table;
use uring::Uring;

enum Back {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

/// Calls a method of the back end; its first argument is always the table.
macro_rules! drive {
    ($net:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $net.back {
            Back::Uring(b) => b.$method(&mut $net.table $(, $argument)*),
            Back::Epoll(b) => b.$method(&mut $net.table $(, $argument)*),
        }
    };
}

/// See the module.
pub struct Net {
    // Dropped first: the kernel may use the memory of the table until the ring is gone.
    back: Back,
    table: Table,
    waker: Waker,
}

impl Net {
    /// Sets up the back end on the calling thread, which must be the one that uses it.
    ///
    /// # Errors
    /// The kernel refuses it; the message says what to do.
    pub fn new(backend: Backend, options: &NetOptions) -> Result<Net, NetError> {
        let waker = Waker::new().map_err(|e| NetError::of("eventfd", e))?;
        let back = match backend {
            Backend::Uring => Back::Uring(Box::new(Uring::new(options, &waker)?)),
            Backend::Epoll => Back::Epoll(Box::new(Epoll::new(options, &waker)?)),
        };
        Ok(Net { back, table: Table::new(options), waker })
    }

    /// Which back end it is.
    pub fn backend(&self) -> Backend {
        match self.back {
            Back::Uring(_) => Backend::Uring,
            Back::Epoll(_) => Backend::Epoll,
        }
    }

    /// What other threads wake this core with.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Counters.
    pub fn stats(&self) -> NetStats {
        let enters = match &self.back {
            Back::Uring(b) => b.enters(),
            Back::Epoll(b) => b.enters(),
        };
        NetStats { enters, ..self.table.stats }
    }

    /// Connections that hold a slot, those being made or closed included.
    pub fn conns(&self) -> usize {
        self.table.slab.len()
    }

    /// The open connections, in no order.
    pub fn open_conns(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.table.slab.open_ids()
    }

    /// Accepts connections from `socket` (see [`listen`]) until [`remove_listener`](Net::remove_listener). Returns its number.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn add_listener(&mut self, socket: TcpListener) -> io::Result<usize> {
        // io_uring answers EAGAIN for a non-blocking socket instead of waiting; epoll must not wait in accept.
        socket.set_nonblocking(self.backend() == Backend::Epoll)?;
        let number = self.table.place(socket);
        match drive!(self, watch_listener, number) {
            Ok(()) => Ok(number),
            Err(e) => {
                self.table.listeners[number] = None;
                Err(e)
            }
        }
    }

    /// Stops accepting on it; its port is free once the kernel has ended the accept (a turn later). Connections stay.
    pub fn remove_listener(&mut self, number: usize) {
        let Some(Some(l)) = self.table.listeners.get_mut(number) else { return };
        l.removed = true;
        if l.armed {
            drive!(self, stop_accepting, number);
        } else {
            self.table.listeners[number] = None;
        }
    }

    /// Begins to connect to `to`. Told by `Connected` or `ConnectFailed` in a later [`reap`](Net::reap). Before `Connected` the
    /// id takes no bytes, and [`close`](Net::close) gives the attempt up. How long to wait is the owner's decision: the kernel's
    /// own limit is about two minutes.
    ///
    /// # Errors
    /// `max_conns` are held, or no descriptor is left.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<ConnId> {
        let fd = socket::tcp(to, self.backend() == Backend::Epoll)?;
        let full = |_| io::Error::other("as many connections as allowed are held");
        let id = self.table.slab.insert(fd, conn::Phase::Connecting).map_err(full)?;
        drive!(self, begin_connect, id, to);
        Ok(id)
    }

    /// Takes over a connection that something else accepted or made.
    ///
    /// # Errors
    /// Gives it back when `max_conns` are held or it cannot be used.
    pub fn adopt(&mut self, stream: TcpStream) -> Result<ConnId, TcpStream> {
        // As for listeners. Fails only for what is not a socket.
        if stream.set_nonblocking(self.backend() == Backend::Epoll).is_err() {
            return Err(stream);
        }
        let id = self.table.slab.insert(OwnedFd::from(stream), conn::Phase::Open).map_err(TcpStream::from)?;
        drive!(self, admit, id).map_err(TcpStream::from)?;
        Ok(id)
    }

    /// Where bytes for this connection are appended; sent by the next [`flush`](Net::flush). Never shorten it. For a dead
    /// connection a buffer that goes nowhere.
    pub fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        self.table.out(id)
    }

    /// Bytes appended that the kernel has not taken: a slow reader's backlog.
    pub fn queued(&self, id: ConnId) -> usize {
        self.table.slab.open_ref(id).map_or(0, conn::Conn::queued)
    }

    /// Asks for one `Writable` event once everything appended so far is taken by the kernel. Nothing queued: at the next send.
    pub fn want_writable(&mut self, id: ConnId) {
        if let Some(c) = self.table.slab.open(id) {
            c.wants_writable = true;
        }
    }

    /// Stops reading. Bytes that the kernel has handed over already are kept (no more than the buffers hold). They are
    /// delivered, in order, by the first `reap` after `resume_recv`; so is the end of the stream. A failed send is still told
    /// at once.
    pub fn pause_recv(&mut self, id: ConnId) {
        let Some(c) = self.table.slab.open(id) else { return };
        c.paused = true;
        drive!(self, stop_reading, id);
    }

    /// Reads on after `pause_recv`.
    pub fn resume_recv(&mut self, id: ConnId) {
        let Some(c) = self.table.slab.open(id) else { return };
        if !c.paused {
            return;
        }
        c.paused = false;
        drive!(self, resume_reading, id);
    }

    /// Ends a connection; the id is dead from here on and no more events come for it.
    pub fn close(&mut self, id: ConnId, how: Close) {
        let Some(c) = self.table.slab.known(id) else { return };
        let is_connecting = c.phase == conn::Phase::Connecting;
        c.held = Vec::new();
        c.paused = false;
        if how == Close::Abort || is_connecting {
            socket::reset_on_close(c.fd());
            drive!(self, end, id);
            return;
        }
        c.phase = conn::Phase::Flushing;
        let is_sent = c.queued() == 0;
        self.table.leave(id);
        drive!(self, tick_soon);
        if is_sent {
            drive!(self, finish, id);
        } else {
            drive!(self, read_on, id);
        }
    }

    /// Handles what has happened, without blocking, and tells `f`. Returns how much that was.
    pub fn reap(&mut self, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        drive!(self, reap, f)
    }

    /// Starts one send for each connection that has bytes and no send under way.
    ///
    /// # Errors
    /// The back end is unusable.
    pub fn flush(&mut self) -> io::Result<()> {
        drive!(self, flush)
    }

    /// Flushes, then sleeps until something happens, a [`Waker`] rings, or `timeout` is over (`None`: for ever).
    ///
    /// # Errors
    /// The back end is unusable.
    pub fn park(&mut self, timeout: Option<Duration>) -> io::Result<Parked> {
        self.flush()?;
        if drive!(self, has_work) {
            return Ok(Parked::Ready);
        }
        if !self.waker.begin_park() {
            return Ok(Parked::Notified);
        }
        let outcome = drive!(self, wait, timeout);
        self.waker.end_park();
        Ok(if outcome? { Parked::Ready } else { Parked::TimedOut })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Back::Uring(b) = &mut self.back
            && !b.let_go()
        {
            // The kernel still holds on to memory of the connections: leave it, rather than let it write into what comes next.
            std::mem::forget(std::mem::replace(&mut self.table.slab, conn::Slab::new(0)));
        }
    }
}
