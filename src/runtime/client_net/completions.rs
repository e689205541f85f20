//! What the kernel says: each completion, told to the owner and answered with what comes next.

use super::conn::Phase;
use super::ring::Completion;
use super::{ClientNet, NetEvent, Op, Token, set_linger_zero};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

impl ClientNet {
    pub(super) fn complete(&mut self, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        match Op::of(c.user_data) {
            Op::Recv => self.received(c, f),
            Op::Send => self.sent(c, f),
            Op::Accept => self.accepted(c.user_data as u32 as usize, c, f),
            Op::Wake => {
                self.arm_bell();
                f(NetEvent::Woken);
            }
            Op::Tick => self.ticked(),
            // Whether it found its target or came too late: the target's own completion says how it ended.
            Op::Cancel => {}
        }
    }

    fn received(&mut self, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let (token, conn) = self.slab.of_completion(c.user_data);
        if !c.more() {
            conn.recv_armed = false;
            conn.recv_cancelled = false;
        }
        let open = conn.phase == Phase::Open;
        if let Some(id) = c.buffer() {
            let n = c.result.max(0) as usize;
            self.stats.bytes_in += n as u64;
            let bytes = self.buffers.filled(id, n);
            if open && conn.paused {
                conn.held.extend_from_slice(bytes);
            } else if open && n > 0 {
                f(NetEvent::Data { token, bytes });
            }
            self.buffers.give_back(id);
        }
        match c.result {
            0 => self.at_eof(token, f),
            1.. => self.arm_recv(token),
            e if e == -libc::ENOBUFS => {
                self.stats.starved += 1;
                self.starved.push(token);
            }
            e if [libc::ECANCELED, libc::EINTR, libc::EAGAIN].contains(&-e) => self.arm_recv(token),
            e => self.fail(token, -e, f),
        }
        self.settle(token);
    }

    fn at_eof(&mut self, token: Token, f: &mut impl FnMut(NetEvent<'_>)) {
        let Some(conn) = self.slab.get(token) else { return };
        conn.eof = true;
        match conn.phase {
            Phase::Open if conn.paused => conn.eof_held = true,
            Phase::Open => f(NetEvent::Eof { token }),
            Phase::Lingering => conn.phase = Phase::Dead,
            _ => {}
        }
    }

    fn sent(&mut self, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let result = c.result;
        let (token, conn) = self.slab.of_completion(c.user_data);
        conn.send_in_flight = false;
        if result < 0 && ![libc::EINTR, libc::EAGAIN, libc::ENOBUFS].contains(&-result) {
            self.fail(token, -result, f);
            self.settle(token);
            return;
        }
        let n = result.max(0) as usize;
        self.stats.bytes_out += n as u64;
        conn.sent += n;
        assert!(conn.sent <= conn.sending.len());
        if conn.sent == conn.sending.len() {
            conn.sent = 0;
            self.spares.put(std::mem::take(&mut conn.sending));
        }
        if conn.queued() > 0 {
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(token);
            }
        } else if conn.phase == Phase::Flushing {
            self.finish(token);
        } else if conn.phase == Phase::Open {
            self.spares.put(std::mem::take(&mut conn.out));
            if std::mem::take(&mut conn.wants_writable) {
                f(NetEvent::Writable { token });
            }
        }
        self.settle(token);
    }

    fn accepted(&mut self, number: usize, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let l = self.listeners[number].as_mut().expect("an accept outlived its listener");
        l.armed = c.more();
        let removed = l.removed;
        if c.result >= 0 {
            // SAFETY: the kernel just made this descriptor for this accept; nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(c.result) };
            if !removed {
                self.welcome(number, fd, f);
            }
        } else if !removed && !transient_accept_error(-c.result) {
            // Out of descriptors or memory: clients wait in the backlog meanwhile. Never spin on it.
            if let Some(l) = self.listeners[number].as_mut() {
                l.resting = !l.armed;
            }
            self.arm_tick();
            f(NetEvent::AcceptFailed { listener: number, error: io::Error::from_raw_os_error(-c.result) });
        }
        if removed && !c.more() {
            self.listeners[number] = None;
        }
        self.arm_accept(number);
    }

    fn welcome(&mut self, listener: usize, fd: OwnedFd, f: &mut impl FnMut(NetEvent<'_>)) {
        let stream = TcpStream::from(fd);
        // Fails if the client is gone already.
        let Ok(mut peer) = stream.peer_addr() else { return };
        peer.set_ip(peer.ip().to_canonical());
        match self.slab.insert(OwnedFd::from(stream)) {
            Ok(token) => {
                self.stats.accepted += 1;
                self.arm_recv(token);
                f(NetEvent::Accepted { token, peer, listener });
            }
            Err(_fd) => {
                self.stats.refused += 1;
                f(NetEvent::Refused { peer });
            }
        }
    }

    fn ticked(&mut self) {
        self.tick_armed = false;
        for number in 0..self.listeners.len() {
            if let Some(l) = &mut self.listeners[number] {
                l.resting = false;
                self.arm_accept(number);
            }
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain_mut(|l| {
            let Some(c) = self.slab.get(l.token) else { return false };
            let queued = c.queued();
            l.ticks = if queued < l.queued { self.linger_ticks } else { l.ticks - 1 };
            l.queued = queued;
            l.left -= 1;
            let is_over = l.ticks == 0 || l.left == 0;
            if is_over {
                set_linger_zero(c.fd.as_ref().expect("a slot in use has a descriptor").as_raw_fd());
                self.end(l.token);
            }
            !is_over
        });
        self.leaving.append(&mut leaving);
        if !self.leaving.is_empty() {
            self.arm_tick();
        }
    }

    pub(super) fn deliver_held(&mut self, f: &mut impl FnMut(NetEvent<'_>)) {
        while let Some(token) = self.resumed.pop() {
            let Some(c) = self.slab.open(token) else { continue };
            if c.paused {
                continue; // paused again before it was told anything
            }
            let held = std::mem::take(&mut c.held);
            let eof = std::mem::take(&mut c.eof_held);
            if !held.is_empty() {
                f(NetEvent::Data { token, bytes: &held });
            }
            if eof {
                f(NetEvent::Eof { token });
            }
            self.arm_recv(token);
        }
    }
}

/// Errors of a client that vanished while it was being accepted, and our own cancellation.
fn transient_accept_error(errno: i32) -> bool {
    [libc::ECONNABORTED, libc::EINTR, libc::ECANCELED, libc::EPROTO, libc::EAGAIN, libc::ENETDOWN, libc::EHOSTUNREACH]
        .contains(&errno)
}
