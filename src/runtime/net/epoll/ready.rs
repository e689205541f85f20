//! Handles readiness: accepts, reads, and reports to the owners.

use super::{BELL, Epoll};
use crate::runtime::net::conn::Phase;
use crate::runtime::net::driver::Driver;
use crate::runtime::net::event::NetEvent;
use crate::runtime::net::socket;
use crate::runtime::net::table::{REAP_MAX, Rest, Table, transient_accept_error};
use crate::types::ConnId;
use std::io;
use std::os::fd::AsRawFd;

/// Most connections accepted from a listener before other sockets are served.
const ACCEPT_MAX: usize = 64;

/// What the kernel reported about a connection.
#[derive(Clone, Copy)]
struct Readiness {
    readable: bool,
    writable: bool,
    hung_up: bool,
}

impl Epoll {
    /// Reports what happened outside a reap: failures, and queues that are now empty.
    pub(super) fn tell_outcomes(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        let n = self.failed.len() + self.emptied.len();
        for (id, errno) in std::mem::take(&mut self.failed) {
            self.fail(t, id, errno, f);
        }
        for id in std::mem::take(&mut self.emptied) {
            if let Some(c) = t.slab.open(id)
                && c.queued() == 0
                && std::mem::take(&mut c.wants_writable)
            {
                f(NetEvent::Writable { conn: id });
            }
        }
        n
    }

    /// Stores what the fetched events say.
    pub(super) fn note_events(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        if !std::mem::take(&mut self.fetched) {
            return 0;
        }
        let events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let mut n = 0;
        for event in &events {
            n += 1;
            let what = event.token();
            if what == BELL {
                f(NetEvent::Woken);
            } else if let Some(Some(l)) = t.listeners.get_mut(what.0) {
                l.ready = true;
            } else {
                let is = Readiness {
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                    hung_up: event.is_read_closed() || event.is_error(),
                };
                self.note(t, ConnId(what.0 as u64), is, f);
            }
        }
        self.events = events;
        n
    }

    fn note(&mut self, t: &mut Table, id: ConnId, is: Readiness, f: &mut impl FnMut(NetEvent<'_>)) {
        let Some(c) = t.slab.get(id) else { return };
        if c.phase == Phase::Connecting && is.writable {
            match socket::take_error(c.fd()) {
                0 => {
                    c.phase = Phase::Open;
                    f(NetEvent::Connected { conn: id });
                }
                errno => {
                    self.fail(t, id, errno, f);
                    return;
                }
            }
        }
        let Some(c) = t.slab.get(id) else { return };
        c.readable |= is.readable;
        c.hung_up |= is.hung_up;
        if is.writable && !std::mem::replace(&mut c.writable, true) && c.queued() > 0 && !c.dirty {
            c.dirty = true;
            t.dirty.push(id);
        }
        self.enqueue(t, id);
    }

    /// Whether a listener still has connections that were not accepted because of [`ACCEPT_MAX`].
    pub(super) fn has_ready_listener(&self, t: &Table) -> bool {
        t.listeners.iter().flatten().any(|l| l.ready && l.rest == Rest::Not)
    }

    pub(super) fn accept(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        let mut n = 0;
        for number in 0..t.listeners.len() {
            for _ in 0..ACCEPT_MAX {
                let Some(l) = t.listeners[number].as_mut().filter(|l| l.ready && l.rest == Rest::Not) else { break };
                n += 1;
                match socket::accept(l.socket.as_raw_fd()) {
                    Ok(fd) => {
                        if let Some((id, peer)) = t.welcome(number, fd, f) {
                            if self.admit(t, id).is_err() {
                                t.accept_failed(number, libc::ENOSPC, f);
                            } else {
                                f(NetEvent::Accepted { conn: id, peer, listener: number });
                            }
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => l.ready = false,
                    Err(e) => match e.raw_os_error().unwrap_or(libc::EIO) {
                        errno if transient_accept_error(errno) => {}
                        // No descriptors or no memory are left. Clients wait in the backlog meanwhile; do not retry in
                        // a loop.
                        errno => t.accept_failed(number, errno, f),
                    },
                }
            }
        }
        if n > 0 && t.any_rests() {
            self.tick_soon(t);
        }
        n
    }

    /// Reads once from each connection that may have bytes, until the bytes allowed per reap are used up.
    pub(super) fn read(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        let mut left = self.reap_bytes;
        let rounds = self.queue.len().min(REAP_MAX);
        for done in 0..rounds {
            if left == 0 {
                t.stats.starved += 1;
                return done;
            }
            let Some(id) = self.queue.pop_front() else { return done };
            let Some(c) = t.slab.get(id) else { continue };
            c.in_queue = false;
            if c.paused || c.eof || c.phase == Phase::Dead {
                continue;
            }
            match socket::recv(c.fd(), &mut self.buffer) {
                Ok(0) => self.at_eof(t, id, f),
                Ok(n) => {
                    // Fewer bytes than requested: the kernel has no more and will report new ones. But an end of stream
                    // that it has reported already is not reported again, so then read on.
                    c.readable = n == self.buffer.len() || c.hung_up;
                    let is_open = c.phase == Phase::Open;
                    t.stats.bytes_in += n as u64;
                    left = left.saturating_sub(n);
                    if is_open {
                        f(NetEvent::Data { conn: id, bytes: &self.buffer[..n] });
                    }
                    self.enqueue(t, id);
                }
                Err(e) => match e.raw_os_error().unwrap_or(libc::EIO) {
                    libc::EAGAIN => c.readable = false,
                    libc::EINTR => self.enqueue(t, id),
                    errno => self.fail(t, id, errno, f),
                },
            }
        }
        rounds
    }
}
