//! What both back ends keep: the connections, the listeners, and who is on the way out.

use super::conn::{Phase, Slab, Spares};
use super::descriptors::Descriptors;
use super::event::{NetEvent, NetOptions, NetStats};
use super::socket;
use crate::types::ConnId;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How often closing connections are looked at, and how long accepting pauses after an error.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// The most bytes in one send operation: the kernel copies them, and delivers them on loopback, before anybody else is served.
pub(super) const SEND_MAX: usize = 128 << 10;
/// A send up to this size begins in the flush that follows; longer ones share [`FLUSH_MAX`] in each flush.
pub(super) const SEND_SMALL: usize = 32 << 10;
/// Bytes of long sends begun in one flush.
pub(super) const FLUSH_MAX: usize = 512 << 10;
/// Completions handled, or connections read, in one reap: what they ask for is answered before more are looked at.
pub(super) const REAP_MAX: usize = 1024;

/// Connections that wait for the peer's FIN after everything was sent. More are closed at once: the wait is a courtesy (the
/// kernel would answer later bytes of the peer with a reset), and a flood of refused connections must not live on it.
const MOST_LINGERING: usize = 1024;

/// A listening socket.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// The kernel has an accept of ours.
    pub(super) armed: bool,
    /// Descriptors run short: connections are accepted one by one.
    pub(super) one_by_one: bool,
    /// epoll: connections may be waiting.
    pub(super) ready: bool,
    /// Why it does not accept for the moment; looked at again at the next tick.
    pub(super) rest: Rest,
    pub(super) removed: bool,
}

/// Why a listener does not accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// It does.
    Not,
    /// Accepting failed.
    Failed,
    /// The descriptors that are left are for files.
    Crowded,
}

/// A connection on its way out.
pub(super) struct Leaving {
    id: ConnId,
    /// Until it is cut off unless it takes something.
    ticks: u32,
    /// Bytes that the peer has not acknowledged, ours and the kernel's.
    unsent: usize,
}

/// See the module.
pub(super) struct Table {
    pub(super) slab: Slab,
    pub(super) spares: Spares,
    pub(super) listeners: Vec<Option<Listener>>,
    /// Connections with something in `out` and no send in flight, or that just ended one.
    pub(super) dirty: Vec<ConnId>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) stats: NetStats,
    pub(super) descriptors: Descriptors,
    linger_ticks: u32,
    /// What appends to dead connections go to.
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

    /// Puts a listener into the first free place.
    pub(super) fn place(&mut self, socket: TcpListener) -> usize {
        let one_by_one = self.descriptors.is_near(0);
        let listener = Listener { socket, armed: false, one_by_one, ready: false, rest: Rest::Not, removed: false };
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

    /// Takes up a connection that was accepted. `None`: it is gone already, or was turned away, which `f` hears.
    pub(super) fn welcome(
        &mut self,
        listener: usize,
        fd: OwnedFd,
        f: &mut impl FnMut(NetEvent<'_>),
    ) -> Option<(ConnId, std::net::SocketAddr)> {
        let number = fd.as_raw_fd();
        if let Some(l) = self.listeners[listener].as_mut() {
            l.one_by_one = self.descriptors.is_near(number);
            if self.descriptors.is_last(number) && l.rest == Rest::Not {
                l.rest = Rest::Crowded;
                f(NetEvent::AcceptPaused { listener, descriptors: self.descriptors.most() as u32 });
            }
        }
        let stream = TcpStream::from(fd);
        // Fails if the peer is gone already.
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

    /// An accept failed. A listener that rests already was told of.
    pub(super) fn accept_failed(&mut self, listener: usize, errno: i32, f: &mut impl FnMut(NetEvent<'_>)) {
        match self.listeners[listener].as_mut() {
            Some(l) if l.rest == Rest::Not => l.rest = Rest::Failed,
            _ => return,
        }
        f(NetEvent::AcceptFailed { listener, error: io::Error::from_raw_os_error(errno) });
    }

    /// Lets listeners go on that may, and tells `f` of those that waited for descriptors. Returns whether any still rests.
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

    /// Whether any listener rests.
    pub(super) fn any_rests(&self) -> bool {
        self.listeners.iter().flatten().any(|l| l.rest != Rest::Not)
    }

    /// A connection begins to leave: it is watched from now on.
    pub(super) fn leave(&mut self, id: ConnId) {
        if let Some(c) = self.slab.get(id) {
            let unsent = c.queued() + socket::unacknowledged(c.fd());
            self.leaving.push(Leaving { id, ticks: self.linger_ticks, unsent });
        }
    }

    /// Whether another connection may wait for its peer's FIN.
    pub(super) fn may_linger(&self) -> bool {
        self.leaving.len() <= MOST_LINGERING
    }

    /// The leaving connections that have taken nothing for the whole linger time. Those that owe the peer bytes end with a
    /// reset; the others have sent all of it, and only the peer's FIN is missing.
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

    /// Frees a dead connection that the kernel knows nothing of any more.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(c) = self.slab.get(id) else { return };
        if c.phase == Phase::Dead && !c.recv_armed && !c.send_in_flight {
            for v in self.slab.remove(id) {
                self.spares.put(v);
            }
        }
    }
}

/// Errors of a client that vanished while it was being accepted, and our own cancellation.
pub(super) fn transient_accept_error(errno: i32) -> bool {
    [libc::ECONNABORTED, libc::EINTR, libc::ECANCELED, libc::EPROTO, libc::EAGAIN, libc::ENETDOWN, libc::EHOSTUNREACH]
        .contains(&errno)
}
