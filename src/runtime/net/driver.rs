//! What a back end does, and how a connection ends in both of them.

use super::conn::Phase;
use super::event::NetEvent;
use super::socket;
use super::table::Table;
use crate::types::ConnId;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A back end. The table is the one of the [`Net`](super::Net) it belongs to.
pub(super) trait Driver {
    /// Begins to accept on a listener.
    fn watch_listener(&mut self, t: &mut Table, number: usize) -> io::Result<()>;

    /// Ends the accept of a removed listener that is armed, and then frees its place.
    fn stop_accepting(&mut self, t: &mut Table, number: usize);

    /// Begins with a connection that is open. On an error it is out of the table again.
    fn admit(&mut self, t: &mut Table, id: ConnId) -> Result<(), std::os::fd::OwnedFd>;

    /// Begins to connect.
    fn begin_connect(&mut self, t: &mut Table, id: ConnId, to: SocketAddr);

    /// A connection was paused.
    fn stop_reading(&mut self, t: &mut Table, id: ConnId);

    /// A connection is not paused any more: what was kept is delivered by the next reap.
    fn resume_reading(&mut self, t: &mut Table, id: ConnId);

    /// Reads, unless it does, or is paused, or at the end.
    fn read_on(&mut self, t: &mut Table, id: ConnId);

    /// Ends what the kernel has under way for a connection.
    fn cancel_operations(&mut self, t: &mut Table, id: ConnId);

    /// Looks at resting listeners and leaving connections after a tick.
    fn tick_soon(&mut self, t: &mut Table);

    /// See [`Net::reap`](super::Net::reap).
    fn reap(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize;

    /// See [`Net::flush`](super::Net::flush).
    fn flush(&mut self, t: &mut Table) -> io::Result<()>;

    /// Whether a reap has something to do that the kernel does not announce.
    fn has_work(&mut self, t: &mut Table) -> bool;

    /// Sleeps. True if there is something to reap.
    fn wait(&mut self, t: &mut Table, timeout: Option<Duration>) -> io::Result<bool>;

    /// It broke: the owner is told if it still knows the connection.
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

    /// All bytes of a gracefully closed connection are with the kernel: FIN, then wait for the peer's.
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

    /// Nothing more is wanted from this connection: ends what is in flight and frees it when that has ended.
    fn end(&mut self, t: &mut Table, id: ConnId) {
        let Some(c) = t.slab.get(id) else { return };
        c.phase = Phase::Dead;
        self.cancel_operations(t, id);
        t.settle(id);
    }

    /// The peer sends no more.
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

    /// After a tick: resting listeners and leaving connections.
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
