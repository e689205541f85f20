//! The transport itself: the table of connections and listeners, and the back end that drives it.

use super::conn;
use super::driver::Driver;
use super::epoll::Epoll;
use super::error::NetError;
use super::event::{Backend, Close, NetEvent, NetOptions, NetStats, Parked};
use super::socket;
use super::table::Table;
use super::uring::Uring;
use super::waker::Waker;
use crate::types::ConnId;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

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

/// All sockets of one core; the module says how it is used.
pub struct Net {
    // Dropped first: the kernel may use the memory of the table as long as the ring exists.
    back: Back,
    pub(super) table: Table,
    waker: Waker,
}

impl Net {
    /// Sets up the back end. The calling thread must be the one that uses it.
    ///
    /// # Errors
    /// The kernel refuses; the message says what to do.
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

    /// What other threads use to wake this core.
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

    /// Number of connections that use a slot, including those that are being opened or closed.
    pub fn conns(&self) -> usize {
        self.table.slab.len()
    }

    /// The open connections, in no particular order.
    pub fn open_conns(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.table.slab.open_ids()
    }

    /// Accepts connections from `socket` (see [`listen`](super::listen())) until [`remove_listener`](Net::remove_listener). Returns its number.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn add_listener(&mut self, socket: TcpListener) -> io::Result<usize> {
        self.listen_on(socket, false)
    }

    /// As [`add_listener`](Net::add_listener), for few and important peers: when clients have taken all descriptors that they
    /// may have, these are still accepted.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn add_reserved_listener(&mut self, socket: TcpListener) -> io::Result<usize> {
        self.listen_on(socket, true)
    }

    fn listen_on(&mut self, socket: TcpListener, reserved: bool) -> io::Result<usize> {
        // io_uring answers EAGAIN for a non-blocking socket instead of waiting; with epoll accept must not block.
        socket.set_nonblocking(self.backend() == Backend::Epoll)?;
        let number = self.table.place(socket, reserved);
        match drive!(self, watch_listener, number) {
            Ok(()) => Ok(number),
            Err(e) => {
                self.table.listeners[number] = None;
                Err(e)
            }
        }
    }

    /// Stops accepting on a listener. Its port is free when the kernel has ended the accept, one turn later. Its
    /// connections stay.
    pub fn remove_listener(&mut self, number: usize) {
        let Some(Some(l)) = self.table.listeners.get_mut(number) else { return };
        l.removed = true;
        if l.armed {
            drive!(self, stop_accepting, number);
        } else {
            self.table.listeners[number] = None;
        }
    }

    /// Starts connecting to `to`. A later [`reap`](Net::reap) reports `Connected` or `ConnectFailed`. Before
    /// `Connected` the id accepts no bytes, and [`close`](Net::close) cancels the attempt. The owner decides how long
    /// to wait; the kernel itself gives up after about two minutes.
    ///
    /// # Errors
    /// There are `max_conns` connections, or no descriptor is left.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<ConnId> {
        let fd = socket::tcp(to, self.backend() == Backend::Epoll)?;
        let full = |_| io::Error::other("as many connections as allowed are held");
        let id = self.table.slab.insert(fd, conn::Phase::Connecting).map_err(full)?;
        drive!(self, begin_connect, id, to);
        Ok(id)
    }

    /// Takes over a connection that other code accepted or made.
    ///
    /// # Errors
    /// Returns the stream if there are `max_conns` connections or if it cannot be used.
    pub fn adopt(&mut self, stream: TcpStream) -> Result<ConnId, TcpStream> {
        // As for listeners. Fails only if the descriptor is not a socket.
        if stream.set_nonblocking(self.backend() == Backend::Epoll).is_err() {
            return Err(stream);
        }
        let id = self.table.slab.insert(OwnedFd::from(stream), conn::Phase::Open).map_err(TcpStream::from)?;
        drive!(self, admit, id).map_err(TcpStream::from)?;
        Ok(id)
    }

    /// The buffer to which bytes for this connection are appended; the next [`flush`](Net::flush) sends them. Never
    /// shorten it. For an invalid id it is a buffer that is discarded.
    pub fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        self.table.out(id)
    }

    /// Number of bytes that were appended and that the kernel has not taken.
    pub fn queued(&self, id: ConnId) -> usize {
        self.table.slab.open_ref(id).map_or(0, conn::Conn::queued)
    }

    /// Asks for one `Writable` event when the kernel has taken everything appended so far. If nothing is queued, it
    /// comes after the next send.
    pub fn want_writable(&mut self, id: ConnId) {
        if let Some(c) = self.table.slab.open(id) {
            c.wants_writable = true;
        }
    }

    /// Sets SO_KEEPALIVE on an open connection.
    pub fn keep_alive(&mut self, id: ConnId) {
        if let Some(c) = self.table.slab.open(id) {
            socket::keep_alive(c.fd());
        }
    }

    /// Stops reading. Bytes that the kernel has already handed over are kept; they are no more than fit into the
    /// receive buffers. The first `reap` after `resume_recv` delivers them in order, and also the end of the stream. A
    /// failed send is still reported immediately.
    pub fn pause_recv(&mut self, id: ConnId) {
        let Some(c) = self.table.slab.open(id) else { return };
        c.paused = true;
        drive!(self, stop_reading, id);
    }

    /// Continues reading after `pause_recv`.
    pub fn resume_recv(&mut self, id: ConnId) {
        let Some(c) = self.table.slab.open(id) else { return };
        if !c.paused {
            return;
        }
        c.paused = false;
        drive!(self, resume_reading, id);
    }

    /// Closes a connection. The id is invalid from now on, and no more events come for it.
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

    /// Handles what has happened, without blocking, and reports it to `f`. Returns the number of things handled.
    pub fn reap(&mut self, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        drive!(self, reap, f)
    }

    /// Starts one send for each connection that has bytes to send and no send in progress.
    ///
    /// # Errors
    /// The back end is unusable.
    pub fn flush(&mut self) -> io::Result<()> {
        drive!(self, flush)
    }

    /// Flushes, then sleeps until something happens, a [`Waker`] is called, or `timeout` has passed (`None`: no
    /// timeout).
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
            // The kernel still uses the connections' memory: leak it, so that the kernel cannot write into memory that
            // is reused.
            std::mem::forget(std::mem::replace(&mut self.table.slab, conn::Slab::new(0)));
        }
    }
}
