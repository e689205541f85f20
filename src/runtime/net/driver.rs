//! The interface of a back end, and the closing of connections, which is the same for both.

use super::conn::Phase;
use super::event::NetEvent;
use super::socket;
use super::table::Table;
use crate::types::ConnId;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A back end. The table passed to each method is that of the [`Net`](super::Net) to which the back end belongs.
pub(super) trait Driver {
    /// Starts accepting on a listener.
    fn watch_listener(&mut self, t: &mut Table, number: usize) -> io::Result<()>;

    /// Cancels the accept of a removed listener if one is armed; when it has ended, frees the listener's place.
    fn stop_accepting(&mut self, t: &mut Table, number: usize);

    /// Starts reading from an open connection. On an error the connection is removed from the table and its descriptor
    /// returned.
    fn admit(&mut self, t: &mut Table, id: ConnId) -> Result<(), std::os::fd::OwnedFd>;

    /// Starts connecting.
    fn begin_connect(&mut self, t: &mut Table, id: ConnId, to: SocketAddr);

    /// A connection was paused.
    fn stop_reading(&mut self, t: &mut Table, id: ConnId);

    /// A connection is no longer paused: the next reap delivers the bytes that were kept.
    fn resume_reading(&mut self, t: &mut Table, id: ConnId);

    /// Starts to read, unless reading is already under way, paused, or at the end of the stream.
    fn read_on(&mut self, t: &mut Table, id: ConnId);

    /// Cancels the kernel's operations on a connection.
    fn cancel_operations(&mut self, t: &mut Table, id: ConnId);

    /// Arranges for resting listeners and closing connections to be checked after a tick.
    fn tick_soon(&mut self, t: &mut Table);

    /// See [`Net::reap`](super::Net::reap).
    fn reap(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize;

    /// See [`Net::flush`](super::Net::flush).
    fn flush(&mut self, t: &mut Table) -> io::Result<()>;

    /// Whether a reap would find work that the kernel does not announce.
    fn has_work(&mut self, t: &mut Table) -> bool;

    /// Sleeps; returns true if there is something to reap.
    fn wait(&mut self, t: &mut Table, timeout: Option<Duration>) -> io::Result<bool>;

    /// A connection failed: frees it, and tells its owner if the owner still uses it.
    fn fail(&mut self, t: &mut Table, id: ConnId, errno: i32, f: &mut impl FnMut(NetEvent<'_>)) {
        let Some(c) = t.slab.get(id) else { return };
        let phase = c.phase;
        if phase != Phase::Dead {
            self.end(t, id);
        }
        let error = io::Error::from_raw_os_error(errno);
        match phase {
            Phase::Open => f(NetEvent::Closed { conn: id, reason: error }),
            Phase::Connecting => f(NetEvent::ConnectFailed { conn: id, error }),
            _ => {}
        }
    }

    /// The kernel has all bytes of a connection that is being closed gracefully: sends FIN and waits for the peer's
    /// FIN.
    fn finish(&mut self, t: &mut Table, id: ConnId) {
        let may_linger = t.may_linger();
        let Some(c) = t.slab.get(id) else { return };
        socket::shutdown_write(c.fd());
        if c.eof || !may_linger {
            self.end(t, id);
        } else {
            c.phase = Phase::Lingering;
            self.read_on(t, id);
        }
    }

    /// Gives up a connection: cancels its operations, and frees it when they have ended.
    fn end(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        c.phase = Phase::Dead;
        self.cancel_operations(t, id);
        t.settle(id);
    }

    /// The peer has closed its sending side.
    fn at_eof(&mut self, t: &mut Table, id: ConnId, f: &mut impl FnMut(NetEvent<'_>)) {
        let Some(c) = t.slab.get(id) else { return };
        c.eof = true;
        match c.phase {
            Phase::Open if c.paused => c.eof_held = true,
            Phase::Open => f(NetEvent::Eof { conn: id }),
            Phase::Lingering => self.end(t, id),
            _ => {}
        }
    }

    /// After a tick: checks resting listeners and closing connections.
    fn ticked(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) {
        let rests = t.wake_listeners(f);
        for id in t.overdue() {
            self.end(t, id);
        }
        if rests || !t.leaving.is_empty() {
            self.tick_soon(t);
        }
    }
}
