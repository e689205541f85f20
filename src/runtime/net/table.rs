//! The state that both back ends share: the connections, the listeners, and the connections that are being closed.

use super::conn::{Phase, Slab, Spares};
use super::descriptors::Descriptors;
use super::event::{NetEvent, NetOptions, NetStats};
use super::socket;
use crate::types::ConnId;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How often connections that are being closed are checked, and how long accepting pauses after an error.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Most bytes of one send operation. The kernel copies them, and on loopback also delivers them, before it does
/// anything else.
pub(super) const SEND_MAX: usize = 128 << 10;
/// A send of at most this many bytes starts in the next flush; longer ones share [`FLUSH_MAX`] bytes per flush.
pub(super) const SEND_SMALL: usize = 32 << 10;
/// Most bytes of long sends that start in one flush.
pub(super) const FLUSH_MAX: usize = 512 << 10;
/// Most completions handled, or connections read, in one reap; the requests in them are answered before more are read.
pub(super) const REAP_MAX: usize = 1024;

/// Most connections that wait for the peer's FIN after everything was sent; more are closed immediately. The wait only
/// avoids a reset in answer to late bytes of the peer, and a flood of refused connections must not use it to take
/// resources.
const MOST_LINGERING: usize = 1024;

/// A listening socket.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// Its connections may use half of the descriptors that are reserved for files.
    reserved: bool,
    /// An accept of ours is in progress in the kernel.
    pub(super) armed: bool,
    /// Descriptors are nearly used up: connections are accepted one at a time.
    pub(super) one_by_one: bool,
    /// epoll: connections may be waiting.
    pub(super) ready: bool,
    /// Whether and why accepting is paused; checked again at the next tick.
    pub(super) rest: Rest,
    pub(super) removed: bool,
}

/// Why a listener does not accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// It accepts.
    Not,
    /// Accepting failed.
    Failed,
    /// The remaining descriptors are reserved for files.
    Crowded,
}

/// A connection that is being closed.
pub(super) struct Leaving {
    id: ConnId,
    /// Ticks left until it is reset, if the peer acknowledges nothing.
    ticks: u32,
    /// Bytes that the peer has not acknowledged: those in our buffers and those in the kernel's.
    unsent: usize,
}

/// See the module.
pub(super) struct Table {
    pub(super) slab: Slab,
    pub(super) spares: Spares,
    pub(super) listeners: Vec<Option<Listener>>,
    /// Connections that have bytes in `out` and no send in progress, or whose send has just ended.
    pub(super) dirty: Vec<ConnId>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) stats: NetStats,
    pub(super) descriptors: Descriptors,
    linger_ticks: u32,
    /// Receives what is appended for invalid ids.
    sink: Vec<u8>,
}

impl Table {
    pub(super) fn new(options: &NetOptions) -> Table {
        Table {
            slab: Slab::new(options.max_conns.min(u32::MAX as usize)),
            spares: Spares::new(),
            listeners: Vec::new(),
            dirty: Vec::new(),
            leaving: Vec::new(),
            stats: NetStats::default(),
            descriptors: Descriptors::of_process(),
            linger_ticks: options.linger.as_millis().div_ceil(TICK.as_millis()).clamp(1, 1 << 20) as u32,
            sink: Vec::new(),
        }
    }

    /// Stores a listener in the first free place.
    pub(super) fn place(&mut self, socket: TcpListener, reserved: bool) -> usize {
        let (one_by_one, rest) = (self.descriptors.is_near(0), Rest::Not);
        let listener = Listener { socket, reserved, armed: false, one_by_one, ready: false, rest, removed: false };
        let number = self.listeners.iter().position(Option::is_none).unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.listeners[number] = Some(listener);
        number
    }

    pub(super) fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        let Some(conn) = self.slab.open(id) else {
            self.sink.clear();
            return &mut self.sink;
        };
        if conn.out.capacity() == 0 {
            conn.out = self.spares.take();
        }
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id);
        }
        &mut conn.out
    }

    /// Adds an accepted connection. `None` if it is already gone, or was refused, which is reported to `f`.
    pub(super) fn welcome(
        &mut self,
        listener: usize,
        fd: OwnedFd,
        f: &mut impl FnMut(NetEvent<'_>),
    ) -> Option<(ConnId, std::net::SocketAddr)> {
        let number = fd.as_raw_fd();
        if let Some(l) = self.listeners[listener].as_mut() {
            l.one_by_one = self.descriptors.is_near(number);
            if !l.reserved && self.descriptors.is_last(number) && l.rest == Rest::Not {
                l.rest = Rest::Crowded;
                f(NetEvent::AcceptPaused { listener, descriptors: self.descriptors.most() as u32 });
            }
        }
        let stream = TcpStream::from(fd);
        // Fails if the peer is already gone.
        let mut peer = stream.peer_addr().ok()?;
        peer.set_ip(peer.ip().to_canonical());
        let taken = if self.descriptors.is_too_many(number) {
            Err(OwnedFd::from(stream))
        } else {
            self.slab.insert(OwnedFd::from(stream), Phase::Open)
        };
        match taken {
            Ok(id) => {
                self.stats.accepted += 1;
                Some((id, peer))
            }
            Err(_fd) => {
                self.stats.refused += 1;
                f(NetEvent::Refused { peer });
                None
            }
        }
    }

    /// An accept failed. If the listener is already paused, the failure was reported before.
    pub(super) fn accept_failed(&mut self, listener: usize, errno: i32, f: &mut impl FnMut(NetEvent<'_>)) {
        match self.listeners[listener].as_mut() {
            Some(l) if l.rest == Rest::Not => l.rest = Rest::Failed,
            _ => return,
        }
        f(NetEvent::AcceptFailed { listener, error: io::Error::from_raw_os_error(errno) });
    }

    /// Lets paused listeners continue if they may, and reports to `f` those that waited for descriptors. Returns
    /// whether any is still paused.
    pub(super) fn wake_listeners(&mut self, f: &mut impl FnMut(NetEvent<'_>)) -> bool {
        let mut rests = false;
        for (listener, l) in self.listeners.iter_mut().enumerate() {
            let Some(l) = l else { continue };
            match l.rest {
                Rest::Not => {}
                Rest::Failed => l.rest = Rest::Not,
                Rest::Crowded if self.descriptors.has_room(l.socket.as_raw_fd()) => {
                    l.rest = Rest::Not;
                    f(NetEvent::AcceptResumed { listener });
                }
                Rest::Crowded => rests = true,
            }
        }
        rests
    }

    /// Whether any listener is paused.
    pub(super) fn any_rests(&self) -> bool {
        self.listeners.iter().flatten().any(|l| l.rest != Rest::Not)
    }

    /// A connection begins to close; from now on it is checked at every tick.
    pub(super) fn leave(&mut self, id: ConnId) {
        if let Some(c) = self.slab.get(id) {
            let unsent = c.queued() + socket::unacknowledged(c.fd());
            self.leaving.push(Leaving { id, ticks: self.linger_ticks, unsent });
        }
    }

    /// Whether one more connection may wait for its peer's FIN.
    pub(super) fn may_linger(&self) -> bool {
        self.leaving.len() <= MOST_LINGERING
    }

    /// The closing connections whose peers have acknowledged nothing for the whole linger time. Those with
    /// unacknowledged bytes are closed with a reset. The others have sent everything, and only the peer's FIN is
    /// missing.
    pub(super) fn overdue(&mut self) -> Vec<ConnId> {
        let mut overdue = Vec::new();
        let (slab, linger) = (&mut self.slab, self.linger_ticks);
        self.leaving.retain_mut(|l| {
            let Some(c) = slab.get(l.id) else { return false };
            let unsent = c.queued() + socket::unacknowledged(c.fd());
            l.ticks = if unsent < l.unsent { linger } else { l.ticks - 1 };
            l.unsent = unsent;
            if l.ticks == 0 {
                if unsent > 0 {
                    socket::reset_on_close(c.fd());
                }
                overdue.push(l.id);
            }
            l.ticks > 0
        });
        overdue
    }

    /// Frees a closed connection when the kernel has no more operations on it.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(c) = self.slab.get(id) else { return };
        if c.phase == Phase::Dead && !c.recv_armed && !c.send_in_flight {
            for v in self.slab.remove(id) {
                self.spares.put(v);
            }
        }
    }
}

/// Whether an accept failed because the client was gone already, or because we cancelled it.
pub(super) fn transient_accept_error(errno: i32) -> bool {
    [libc::ECONNABORTED, libc::EINTR, libc::ECANCELED, libc::EPROTO, libc::EAGAIN, libc::ENETDOWN, libc::EHOSTUNREACH]
        .contains(&errno)
}
