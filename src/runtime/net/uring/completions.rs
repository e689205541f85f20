//! Handles completions: reports each to the owner of its connection and starts what follows from it.

use super::ring::Completion;
use super::{Op, Uring};
use crate::runtime::net::conn::Phase;
use crate::runtime::net::driver::Driver;
use crate::runtime::net::event::NetEvent;
use crate::runtime::net::table::{Rest, Table, transient_accept_error};
use std::os::fd::{FromRawFd, OwnedFd};

impl Uring {
    pub(super) fn complete(&mut self, t: &mut Table, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        match Op::of(c.user_data) {
            Op::Recv => self.received(t, c, f),
            Op::Send => self.sent(t, c, f),
            Op::Accept => self.accepted(t, c.user_data as u32 as usize, c, f),
            Op::Connect => self.connected(t, c, f),
            Op::Wake => {
                self.arm_bell();
                f(NetEvent::Woken);
            }
            Op::Tick => {
                self.tick_armed = false;
                self.ticked(t, f);
                (0..t.listeners.len()).for_each(|number| self.arm_accept(t, number));
            }
            // It does not matter whether the cancel found its target or came too late: the target's own completion
            // tells how it ended.
            Op::Cancel => {}
        }
    }

    fn received(&mut self, t: &mut Table, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let (id, conn) = t.slab.of_completion(c.user_data);
        if !c.more() {
            conn.recv_armed = false;
            conn.recv_cancelled = false;
        }
        let open = conn.phase == Phase::Open;
        if let Some(buffer) = c.buffer() {
            let n = c.result.max(0) as usize;
            t.stats.bytes_in += n as u64;
            let bytes = self.buffers.filled(buffer, n);
            if open && conn.paused {
                conn.held.extend_from_slice(bytes);
            } else if open && n > 0 {
                f(NetEvent::Data { conn: id, bytes });
            }
            self.buffers.give_back(buffer);
        }
        match c.result {
            0 => self.at_eof(t, id, f),
            1.. => self.read_on(t, id),
            e if e == -libc::ENOBUFS => {
                t.stats.starved += 1;
                self.starved.push(id);
            }
            e if [libc::ECANCELED, libc::EINTR, libc::EAGAIN].contains(&-e) => self.read_on(t, id),
            e => self.fail(t, id, -e, f),
        }
        t.settle(id);
    }

    fn sent(&mut self, t: &mut Table, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let result = c.result;
        let (id, conn) = t.slab.of_completion(c.user_data);
        conn.send_in_flight = false;
        if result < 0 && ![libc::EINTR, libc::EAGAIN, libc::ENOBUFS].contains(&-result) {
            self.fail(t, id, -result, f);
            t.settle(id);
            return;
        }
        let n = result.max(0) as usize;
        t.stats.bytes_out += n as u64;
        conn.sent += n;
        assert!(conn.sent <= conn.sending.len());
        if conn.sent == conn.sending.len() {
            conn.sent = 0;
            t.spares.put(std::mem::take(&mut conn.sending));
        }
        if conn.queued() > 0 {
            if !conn.dirty {
                conn.dirty = true;
                t.dirty.push(id);
            }
        } else if conn.phase == Phase::Flushing {
            self.finish(t, id);
        } else if conn.phase == Phase::Open {
            t.spares.put(std::mem::take(&mut conn.out));
            if std::mem::take(&mut conn.wants_writable) {
                f(NetEvent::Writable { conn: id });
            }
        }
        t.settle(id);
    }

    /// A connection attempt ended.
    fn connected(&mut self, t: &mut Table, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let (id, conn) = t.slab.of_completion(c.user_data);
        conn.send_in_flight = false;
        conn.dial = None;
        if c.result < 0 {
            self.fail(t, id, -c.result, f);
        } else if conn.phase == Phase::Connecting {
            conn.phase = Phase::Open;
            f(NetEvent::Connected { conn: id });
            self.read_on(t, id);
        }
        t.settle(id);
    }

    fn accepted(&mut self, t: &mut Table, number: usize, c: Completion, f: &mut impl FnMut(NetEvent<'_>)) {
        let l = t.listeners[number].as_mut().expect("an accept outlived its listener");
        l.armed = c.more();
        let (removed, before) = (l.removed, (l.rest, l.one_by_one));
        if c.result >= 0 {
            // SAFETY: the kernel has just created this descriptor for this accept; nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(c.result) };
            if !removed && let Some((id, peer)) = t.welcome(number, fd, f) {
                self.read_on(t, id);
                f(NetEvent::Accepted { conn: id, peer, listener: number });
            }
        } else if !removed && !transient_accept_error(-c.result) {
            // No descriptors or no memory are left. Clients wait in the backlog meanwhile; do not retry in a loop.
            t.accept_failed(number, -c.result, f);
        }
        if let Some(l) = t.listeners[number].as_mut()
            && (l.rest, l.one_by_one) != before
        {
            if l.armed {
                // If it is armed again, then with the current mode.
                self.cancel(Op::Accept.number(number));
            }
            if l.rest != Rest::Not {
                self.tick_soon(t);
            }
        }
        if removed && !c.more() {
            t.listeners[number] = None;
        }
        self.arm_accept(t, number);
    }

    pub(super) fn deliver_held(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) {
        while let Some(id) = self.resumed.pop() {
            let Some(c) = t.slab.open(id) else { continue };
            if c.paused {
                continue; // paused again before anything was delivered
            }
            let held = std::mem::take(&mut c.held);
            let eof = std::mem::take(&mut c.eof_held);
            if !held.is_empty() {
                f(NetEvent::Data { conn: id, bytes: &held });
            }
            if eof {
                f(NetEvent::Eof { conn: id });
            }
            self.read_on(t, id);
        }
    }
}
