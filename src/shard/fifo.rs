//! Keeps a session's replies in order with the stream of applied transactions: rules S3 and S4. Mirrors
//! `CommitProcessor`.
//!
//! What is asserted for every single request is so in debug builds only, for each costs a get 0.1 %: the simulator and all tests
//! run these. What a turn or a connection does now and then is asserted in every build.

use super::conn::{Pending, Phase};
use super::{CloseHow, Outbox, Shard};
use crate::jute::Reader;
use crate::limits;
use crate::pipeline::messages::{Entry, Outcome, ToShard};
use crate::proto::reply::{ReplyHeader, put_event};
use crate::proto::request::RequestHeader;
use crate::tree::Tree;
use crate::types::acl::permits;
use crate::types::{ConnId, Now, Op, SessionId, Zxid, perms};

impl Shard {
    pub(super) fn stream(&mut self, now: Now, message: ToShard, out: &mut Outbox) {
        match message {
            ToShard::Applied(entry) => self.applied(now, entry, out),
            ToShard::Synced { conn, zxid } => self.synced(now, conn, zxid, out),
            ToShard::Closed { conn, zxid } => self.local_closed(now, conn, zxid, out),
            ToShard::Resumed { conn, session: Some((session, timeout_ms)) } => {
                self.session_up(conn, session, timeout_ms, out);
            }
            ToShard::Resumed { conn, session: None } => self.session_refused(conn, out),
            ToShard::Close { conn } => self.end(conn, CloseHow::Flush, out),
            ToShard::Suspend => self.suspend(out),
            ToShard::Serve(service) => self.service = Some(service),
        }
    }

    /// Rule S3: the watch events are sent before the reply to the write.
    fn applied(&mut self, now: Now, entry: Entry, out: &mut Outbox) {
        self.fire(&entry, out);
        let Some((conn, outcome)) = entry.outcome else { return };
        match outcome {
            Outcome::SessionCreated { session, timeout_ms } => self.session_up(conn, session, timeout_ms, out),
            Outcome::Reply(reply) => {
                let is_there = self.write_answered(now, conn, &entry.zxid, &reply, out);
                self.stats.stale_replies +=
                    u64::from(!is_there && self.options.throttles.requests.stale_connection_check);
            }
            Outcome::Closed(reply) => {
                self.write_answered(now, conn, &entry.zxid, &reply, out);
                self.end(conn, CloseHow::Flush, out);
            }
        }
    }

    /// Sends the reply to a write; returns `false` if the connection and with it its fifo are gone.
    fn write_answered(&mut self, now: Now, conn: ConnId, zxid: &Zxid, reply: &[u8], out: &mut Outbox) -> bool {
        let Some(c) = self.conns.get_mut(conn) else { return false };
        if c.phase == Phase::Handshake {
            // The refused transaction is this connection's createSession.
            self.session_refused(conn, out);
            return true;
        }
        let Some(Pending::Write { xid, op, arrived_ns, bytes }) = c.fifo.pop_front() else {
            panic!("a write of connection {conn} was applied at {zxid} out of its turn");
        };
        assert!(c.phase == Phase::Open || c.phase == Phase::Ended, "a write of {conn} in {:?} is answered", c.phase);
        assert!(c.last_zxid < *zxid, "{conn} is answered at {zxid} after an answer at {}", c.last_zxid);
        debug_assert!(belongs(reply, xid, *zxid), "the reply to another write than {xid} at {zxid} of {conn}");
        debug_assert!(c.fifo_bytes >= bytes as usize, "{conn} has fewer bytes of requests than one of them");
        debug_assert!(self.outstanding > c.fifo.len(), "{conn} has more requests than the shard");
        c.fifo_bytes -= bytes as usize;
        self.outstanding -= 1;
        assert!(
            !c.is_mute || c.phase == Phase::Ended,
            "{conn} is served and one of its requests was left without an answer"
        );
        // A connection whose session has ended gets no more replies, with one exception: a client that closes a session
        // which has expired meanwhile gets that reply, unless an earlier request of it was left without a reply.
        if c.phase == Phase::Ended && (c.is_mute || op != Op::CLOSE_SESSION || c.last_op == Op::CLOSE_SESSION) {
            c.is_mute = true;
            return true;
        }
        c.out.extend_from_slice(reply);
        let latency_us = now.mono_ns.saturating_sub(arrived_ns) / 1000;
        let latency_ms = (latency_us / 1000) as i64;
        c.last_zxid = *zxid;
        c.replied(now, op, xid, latency_ms);
        let timeout_ms = c.timeout_ms;
        self.count_stale_reply(latency_ms, timeout_ms);
        self.stats.update_latency.record(latency_us);
        self.stats.replied(latency_ms, reply.len());
        self.ready.push(conn);
        self.mark_dirty(conn, out);
        true
    }

    /// Sends the events to every watcher that may read the node.
    fn fire(&mut self, entry: &Entry, out: &mut Outbox) {
        for event in entry.events.iter() {
            debug_assert!(event.path.starts_with('/'), "an event of {:?}", event.path);
            self.fired.clear();
            self.watches.fire(event.event, &event.path, &mut self.fired);
            if self.fired.is_empty() {
                continue;
            }
            self.scratch.clear();
            put_event(&mut self.scratch, entry.zxid, event.event, &event.path);
            let fired = std::mem::take(&mut self.fired);
            let mut told = 0;
            for conn in fired.iter().copied() {
                let Some(c) = self.conns.get_mut(conn) else { continue };
                let may_read = self.options.skip_acl || permits(event.acl.as_deref(), &c.auth, perms::READ);
                if c.phase != Phase::Open || !may_read {
                    continue;
                }
                // For each watcher, of whom there may be thousands: in debug builds only.
                debug_assert!(c.last_zxid < entry.zxid, "{conn} is told of {} after {}", entry.zxid, c.last_zxid);
                debug_assert!(c.session != SessionId::NONE, "{conn} watches without a session");
                c.out.extend_from_slice(&self.scratch);
                c.sent += 1;
                self.stats.since_reset.packets_sent += 1;
                told += 1;
                self.mark_dirty(conn, out);
            }
            assert!(told <= fired.len() as u64, "{told} of {} watchers were told", fired.len());
            if told > 0 {
                self.stats.watch_events[event.event as usize].record(told);
                self.stats.watch_bytes += told * (self.scratch.len() - 4) as u64;
            }
            self.fired = fired;
        }
    }

    /// Rule S4: answers the reads that no longer have a write before them, all as of one zxid; then decodes input that
    /// waited for room.
    pub(super) fn drained(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        if !self.throttled.is_empty() && self.in_process() <= self.options.outstanding_limit {
            for conn in self.throttled.drain(..) {
                if let Some(c) = self.conns.get_mut(conn) {
                    c.throttled = false;
                    self.ready.push(conn);
                }
            }
        }
        if !self.large.is_empty() {
            self.call_large(now);
        }
        self.turn_replies = 0;
        assert!(self.stalled <= self.outstanding, "{} of {} requests are stalled", self.stalled, self.outstanding);
        assert!(!self.throttler_is_serving(), "a turn begins while a connection is let through the throttler");
        let mut ready = std::mem::take(&mut self.ready);
        for conn in ready.drain(..) {
            if let Some(c) = self.conns.get_mut(conn) {
                c.deferred = false;
            }
            self.answer_waiting(now, conn, tree, out);
            self.decode_kept(now, conn, tree, out);
            self.hold_back(conn, out);
        }
        // Answering may have made other connections ready; the next turn handles them.
        ready.append(&mut self.ready);
        self.ready = ready;
        self.serve_throttled(now, tree, out);
    }

    fn answer_waiting(&mut self, now: Now, conn: ConnId, tree: &Tree, out: &mut Outbox) {
        loop {
            let Some(c) = self.conns.get_mut(conn).filter(|c| c.phase == Phase::Open) else { return };
            self.stalled -= c.unstall();
            if !matches!(c.fifo.front(), Some(Pending::Read { .. })) {
                return;
            }
            debug_assert!(c.waiting_reads > 0, "{conn} has a read waiting and counts none");
            debug_assert!(c.waiting_reads <= c.fifo.len(), "{conn} has more reads than requests");
            // Reads that stand before a write must not wait for the client to read, because the reply to that write
            // must come after theirs.
            if c.is_full(self.options.bounds.out_high_water) && c.fifo.len() == c.waiting_reads {
                assert!(!c.stalled, "{conn} is counted as stalled twice");
                c.stalled = true;
                self.stalled += c.fifo.len();
                assert!(self.stalled <= self.outstanding, "{} of {} requests stall", self.stalled, self.outstanding);
                return;
            }
            if self.turn_replies > limits::TURN_REPLIES && c.is_bulky() && c.fifo.len() == c.waiting_reads {
                self.defer(conn);
                return;
            }
            let Some(Pending::Read { xid, op, body, reply, arrived_ns, throttled, large }) = c.fifo.pop_front() else {
                return;
            };
            debug_assert!(c.waiting_bytes >= reply, "{conn} waits for fewer bytes than one of its replies");
            debug_assert!(c.fifo_bytes >= body.len(), "{conn} has fewer bytes of requests than one of them");
            debug_assert!(self.outstanding > c.fifo.len(), "{conn} has more requests than the shard");
            c.waiting_reads -= 1;
            c.waiting_bytes -= reply;
            c.fifo_bytes -= body.len();
            self.outstanding -= 1;
            let header = RequestHeader { xid, op };
            if op == Op::CLOSE_SESSION {
                self.answer_close(now, conn, (xid, arrived_ns), tree.last_zxid(), out);
            } else if throttled {
                self.answer_throttled(now, conn, header, arrived_ns, tree, out);
            } else {
                self.answer(now, conn, header, &body, arrived_ns, tree, out);
            }
            drop(large);
        }
    }

    /// Leaves the rest of a connection's requests to the next turn.
    pub(super) fn defer(&mut self, conn: ConnId) {
        if let Some(c) = self.conns.get_mut(conn).filter(|c| !c.deferred) {
            c.deferred = true;
            self.ready.push(conn);
        }
    }

    /// What holds between two turns, told by numbers that are at hand: looked at in every build. [`Shard::check`] counts again.
    pub(super) fn check_counts(&self) {
        assert!(self.stalled <= self.outstanding, "{} of {} requests are stalled", self.stalled, self.outstanding);
        assert!(self.conns.len() > 0 || self.outstanding == 0, "{} requests of no connection", self.outstanding);
        assert!(self.conns.len() >= self.large.len(), "more large writes wait than there are connections");
        assert!(!self.throttler_is_serving(), "a turn ends while a connection is let through the throttler");
    }

    /// Whether the next turn has work even if no socket becomes ready and no message arrives.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.throttler_has_room()
    }
}

/// Whether a framed reply, if there is one, answers this request with this stamp.
fn belongs(reply: &[u8], xid: i32, zxid: Zxid) -> bool {
    let Some(header) = reply.get(4..) else { return reply.is_empty() };
    ReplyHeader::read(&mut Reader::new(header)).is_ok_and(|h| h.xid == xid && h.zxid == zxid)
}
