//! The request throttler in front of the pipeline. While there are more than `request_throttle_max_requests` requests
//! in it, further ones wait undecoded, in the order in which their connections came, and some are refused after they
//! waited too long. Mirrors `RequestThrottler` and `Request.isStale`.
//!
//! Pings, closeSession and authentication never wait here, only behind earlier requests of their own connection.

use std::collections::VecDeque;
use std::sync::Arc;

use super::conn::{Conn, Phase};
use super::{CloseHow, Outbox, Shard};
use crate::jute::Reader;
use crate::limits;
use crate::proto::reply::put_reply;
use crate::proto::request::{RequestHeader, is_write};
use crate::session::throttle::{Admitted, LargeRequests, SharedConnectionThrottle};
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, ErrorCode, Now, Op};

/// The throttles of a shard.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    /// The token bucket for handshakes, shared by all shards; `None` if it is off.
    pub connections: Option<Arc<SharedConnectionThrottle>>,
    /// The limit on large requests, shared by all shards.
    pub large: Option<Arc<LargeRequests>>,
    /// The request throttler.
    pub requests: RequestThrottle,
}

/// Settings of the request throttler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// This shard's share of `request_throttle_max_requests`; `usize::MAX` means no limit.
    pub max_requests: usize,
    /// `request_throttle_stall_time` in milliseconds: how often waiting requests are checked while none can go on.
    pub stall_ms: i64,
    /// `request_throttle_drop_stale`.
    pub drop_stale: bool,
    /// `request_stale_latency_check`: a request older than its session's timeout is stale.
    pub stale_latency_check: bool,
    /// `request_stale_connection_check`: a request of a closed connection is stale.
    pub stale_connection_check: bool,
    /// `throttled_op_wait_time` in milliseconds: a request that waited longer is answered with THROTTLEDOP; 0 means
    /// never.
    pub op_wait_ms: i64,
}

impl Default for RequestThrottle {
    fn default() -> RequestThrottle {
        RequestThrottle {
            max_requests: usize::MAX,
            stall_ms: 100,
            drop_stale: true,
            stale_latency_check: false,
            stale_connection_check: true,
            op_wait_ms: 0,
        }
    }
}

/// How often waiting large writes are checked while nothing happens in this shard, in milliseconds.
const LARGE_LOOK_MS: i64 = 2;

/// Most pieces of input per connection whose times of arrival are recorded. Later pieces then count as part of the last
/// one, so they look younger.
const ARRIVALS: usize = 256;

/// What is recorded about a connection that waits at the throttler.
#[derive(Debug, Default)]
pub struct Queued {
    /// Pieces of its input: number of bytes, and time of arrival in milliseconds.
    arrivals: VecDeque<(usize, i64)>,
    bytes: usize,
    /// The client has closed the connection, but its requests are to be executed all the same.
    eof: bool,
}

impl Queued {
    pub(super) fn add(&mut self, bytes: usize, now_ms: i64) {
        assert!(self.arrivals.back().is_none_or(|(_, last)| *last <= now_ms), "bytes come before those before them");
        self.bytes += bytes;
        let full = self.arrivals.len() >= ARRIVALS;
        match self.arrivals.back_mut() {
            Some(last) if full || last.1 == now_ms => *last = (last.0 + bytes, now_ms),
            _ => self.arrivals.push_back((bytes, now_ms)),
        }
    }

    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.arrivals.len()
    }

    /// Removes the records of the first `bytes` bytes.
    pub(super) fn consume(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes are taken of {} that wait", self.bytes);
        self.bytes -= bytes;
        while let Some(first) = self.arrivals.front_mut() {
            if first.0 > bytes {
                first.0 -= bytes;
                return;
            }
            bytes -= first.0;
            self.arrivals.pop_front();
        }
    }

    /// Time of arrival of the last byte before position `end`.
    pub(super) fn arrived_ms(&self, end: usize) -> Option<i64> {
        let mut sum = 0;
        self.arrivals.iter().find_map(|(bytes, ms)| {
            sum += bytes;
            (sum >= end).then_some(*ms)
        })
    }
}

/// The connections that wait.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// In order of arrival; may contain connections that have ended meanwhile.
    queue: VecDeque<ConnId>,
    /// The connection that is being let through.
    served: Option<Box<Queued>>,
    next_look_ms: i64,
}

impl Gate {
    /// When the waiting connections are checked again.
    pub(super) fn deadline(&self) -> Option<i64> {
        (!self.queue.is_empty()).then_some(self.next_look_ms)
    }

    /// Checks the invariants; `waiting` are the connections whose state says that they wait.
    pub(super) fn check(&self, mut waiting: impl Iterator<Item = ConnId>) {
        assert!(self.served.is_none(), "a connection is let through between two steps");
        assert!(
            waiting.all(|conn| self.queue.iter().filter(|c| **c == conn).count() == 1),
            "a connection waits at the gate and is not in its queue once"
        );
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// A write after many unanswered reads: see [`crate::limits::MAX_READS_BETWEEN_WRITES`].
    Reads,
    /// `globalOutstandingLimit`.
    Outstanding,
    /// Large writes of other connections: see [`crate::limits::LARGE_WRITES_IN_PIPELINE`].
    Large,
    /// `request_throttle_max_requests`.
    Gate,
}

/// Whether a request is exempt from all throttles: it frees resources, keeps a session alive, or authenticates.
fn is_exempt(op: Op) -> bool {
    matches!(op, Op::PING | Op::CLOSE_SESSION | Op::AUTH | Op::SASL)
}

impl Shard {
    /// Number of requests in the pipeline. Reads that only wait for their own client to read its replies do not count,
    /// so they delay nobody else.
    pub(super) fn in_process(&self) -> usize {
        debug_assert!(self.stalled <= self.outstanding, "{} of {} are stalled", self.stalled, self.outstanding);
        self.outstanding - self.stalled
    }

    /// Whether a request has to stay undecoded, and why.
    pub(super) fn wait(&self, c: &Conn, frame: &[u8]) -> Option<Wait> {
        let in_process = self.in_process();
        let bounds = &self.options.bounds;
        let reads = c.waiting_reads >= bounds.max_reads_between_writes || c.waiting_bytes > bounds.out_high_water;
        // Mirrors ZooKeeperServer.shouldThrottle: above the limit, a connection with outstanding requests has to wait.
        let outstanding = in_process > self.options.outstanding_limit && !c.fifo.is_empty();
        let behind_others = self.gate.served.is_none() && !self.gate.queue.is_empty();
        let gate = behind_others || in_process >= self.options.throttles.requests.max_requests;
        let large = frame.len() > limits::LARGE_WRITE && self.large_must_wait(c, frame.len());
        if !(reads || outstanding || gate || large) {
            return None;
        }
        // An incomplete header is not worth waiting for: decoding it closes the connection.
        let header = RequestHeader::read(&mut Reader::new(frame)).ok()?;
        if reads && is_write(header.op) {
            return Some(Wait::Reads);
        }
        if is_exempt(header.op) {
            return None;
        }
        if gate {
            return Some(Wait::Gate);
        }
        if outstanding && header.xid > 0 {
            return Some(Wait::Outstanding);
        }
        (large && is_write(header.op)).then_some(Wait::Large)
    }

    /// Whether a large write must wait for others. A connection that was called may go even if others came first: it
    /// was its turn.
    fn large_must_wait(&self, c: &Conn, len: usize) -> bool {
        let Some(large) = &self.options.throttles.large else { return false };
        !large.has_room(len, 0) || !(self.large.is_empty() || c.called)
    }

    /// Calls the connections whose large writes wait, as long as there is room.
    pub(super) fn call_large(&mut self, now: Now) {
        let Some(large) = &self.options.throttles.large else { return };
        assert!(!self.gate_is_serving(), "large writes are called while the gate is open");
        // The writes of the connections called in this loop are not counted in the limit yet.
        let mut called = 0;
        while let Some(conn) = self.large.front().copied() {
            let head = self.conns.get(conn).and_then(|c| c.input.first_chunk::<4>());
            let len = head.and_then(|b| usize::try_from(i32::from_be_bytes(*b)).ok()).unwrap_or(0);
            if !large.has_room(len, called) {
                break;
            }
            called += len;
            self.large.pop_front();
            if let Some(c) = self.conns.get_mut(conn) {
                assert!(c.waits_large, "{conn} is called and did not wait");
                c.waits_large = false;
                c.called = true;
                self.ready.push(conn);
            }
        }
        // Large writes of other shards may occupy the room; nothing announces when they are done, so check again soon.
        self.next_large_ms = now.mono_ms + LARGE_LOOK_MS;
    }

    /// Puts a connection into the queue that belongs to its reason for waiting.
    pub(super) fn begin_wait(&mut self, now: Now, conn: ConnId, why: Wait) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert_eq!(c.phase, Phase::Open, "{conn} waits outside a session");
        match why {
            // It goes on when its reads are answered.
            Wait::Reads => {}
            Wait::Large if c.waits_large => {}
            Wait::Large => {
                c.called = false;
                c.waits_large = true;
                self.large.push_back(conn);
                self.next_large_ms = now.mono_ms + LARGE_LOOK_MS;
            }
            Wait::Outstanding if c.throttled => {}
            Wait::Outstanding => {
                c.throttled = true;
                self.throttled.push(conn);
            }
            Wait::Gate if c.gate.is_some() => {}
            Wait::Gate => {
                if self.gate.queue.is_empty() {
                    self.stats.throttle_waits += 1;
                    self.gate.next_look_ms = now.mono_ms + self.options.throttles.requests.stall_ms;
                }
                c.gate = Some(self.gate.served.take().unwrap_or_default());
                self.gate.queue.push_back(conn);
            }
        }
    }

    /// Updates the recorded arrivals to what is undecoded now.
    pub(super) fn remember_arrivals(&mut self, now: Now, conn: ConnId) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let Some(q) = &mut c.gate else { return };
        let undecoded = c.input.len();
        if q.bytes > undecoded {
            q.consume(q.bytes - undecoded);
        } else if q.bytes < undecoded {
            q.add(undecoded - q.bytes, now.mono_ms);
            // Input counts as a sign of life even if it cannot be decoded yet: a session must not expire because the
            // server is busy.
            c.hear(now, conn, &mut self.touched);
        }
    }

    /// Whether a connection is being let through the throttler at the moment.
    pub(super) fn gate_is_serving(&self) -> bool {
        self.gate.served.is_some()
    }

    /// Whether the throttler could let another request through.
    pub(super) fn gate_has_room(&self) -> bool {
        !self.gate.queue.is_empty() && self.in_process() < self.options.throttles.requests.max_requests
    }

    /// Lets as many requests through as there is room for.
    pub(super) fn open_gate(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        if !self.gate_has_room() {
            return;
        }
        for _ in 0..self.gate.queue.len() {
            if !self.gate_has_room() {
                break;
            }
            let Some(conn) = self.gate.queue.pop_front() else { break };
            self.serve(now, conn, tree, out);
        }
        self.stats.throttle_waits += u64::from(!self.gate.queue.is_empty());
    }

    fn serve(&mut self, now: Now, conn: ConnId, tree: &Tree, out: &mut Outbox) {
        let Some(queued) = self.conns.get_mut(conn).and_then(|c| c.gate.take()) else { return };
        let eof = queued.eof;
        assert!(self.gate.served.is_none(), "two connections are let through at a time");
        self.gate.served = Some(queued);
        self.decode_kept(now, conn, tree, out);
        self.gate.served = None;
        let waits_on = self.conns.get(conn).is_some_and(|c| c.gate.is_some());
        if eof && !waits_on {
            self.end(conn, CloseHow::Flush, out);
        }
        self.hold_back(conn, out);
    }

    /// How long the request has waited, in milliseconds, that ends at position `end` of the input of the connection
    /// being let through; 0 if it did not have to wait.
    pub(super) fn waited_ms(&self, now: Now, end: usize) -> i64 {
        let arrived = self.gate.served.as_ref().and_then(|q| q.arrived_ms(end));
        arrived.map_or(0, |ms| now.mono_ms - ms)
    }

    /// Checks a request that comes from the throttler; returns `true` if it was refused and nothing more has to be
    /// done.
    pub(super) fn refuse_late(
        &mut self,
        now: Now,
        conn: ConnId,
        header: RequestHeader,
        waited_ms: i64,
        tree: &Tree,
        out: &mut Outbox,
    ) -> bool {
        let Some(queued) = &self.gate.served else { return false };
        if matches!(header.op, Op::AUTH | Op::SASL) {
            return false;
        }
        let settings = self.options.throttles.requests;
        let closed = settings.stale_connection_check && queued.eof;
        let timeout_ms = self.conns.get(conn).map_or(0, |c| i64::from(c.timeout_ms));
        let late = settings.stale_latency_check && waited_ms > timeout_ms;
        if (closed || late) && header.op != Op::CLOSE_SESSION {
            if settings.drop_stale {
                self.drop_stale(conn, waited_ms, out);
                return true;
            }
            self.stats.stale_requests += 1;
        }
        assert!(waited_ms >= 0, "{conn} waited for {waited_ms} ms");
        self.stats.throttle_queue.record(waited_ms as u64 * 1000);
        let may_refuse = settings.op_wait_ms > 0 && !is_exempt(header.op);
        if !may_refuse || waited_ms <= settings.op_wait_ms {
            return false;
        }
        self.stats.throttled_ops += 1;
        self.read_request(now, conn, header, &[], Late { throttled: true, waited_ms }, tree, out);
        true
    }

    /// Drops a request that nobody can be waiting for any more. Later requests of its connection must not be answered
    /// before it.
    fn drop_stale(&mut self, conn: ConnId, waited_ms: i64, out: &mut Outbox) {
        if let Some(c) = self.conns.get(conn) {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, waited_ms, "closing: a request went stale waiting for room");
        }
        self.stats.stale_requests_dropped += 1;
        self.end(conn, CloseHow::Flush, out);
    }

    /// Nothing has moved for the stall time: drops stale requests; the others wait on.
    pub(super) fn look_again(&mut self, now: Now, out: &mut Outbox) {
        let settings = self.options.throttles.requests;
        self.gate.next_look_ms = now.mono_ms + settings.stall_ms;
        if settings.drop_stale && settings.stale_latency_check {
            let is_late = |c: &Conn| {
                let queued = c.gate.as_ref()?;
                let len = i32::from_be_bytes(*c.input.first_chunk::<4>()?);
                let arrived = queued.arrived_ms(4 + usize::try_from(len).ok()?)?;
                let waited_ms = now.mono_ms - arrived;
                (waited_ms > i64::from(c.timeout_ms)).then_some(waited_ms)
            };
            let late = |conn: &ConnId| self.conns.get(*conn).and_then(is_late).map(|waited_ms| (*conn, waited_ms));
            let stale: Vec<(ConnId, i64)> = self.gate.queue.iter().filter_map(late).collect();
            for (conn, waited_ms) in stale {
                if let Some(c) = self.conns.get_mut(conn) {
                    c.gate = None;
                }
                self.drop_stale(conn, waited_ms, out);
            }
        }
        self.gate.queue.retain(|conn| self.conns.get(*conn).is_some_and(|c| c.gate.is_some()));
        self.stats.throttle_waits += u64::from(!self.gate.queue.is_empty());
    }

    /// Whether the requests of this connection, which wait at the throttler, are executed although its client has gone.
    pub(super) fn outlives_its_client(&mut self, conn: ConnId) -> bool {
        let settings = self.options.throttles.requests;
        let drops = settings.drop_stale && settings.stale_connection_check;
        let queued = self.conns.get_mut(conn).and_then(|c| c.gate.as_mut()).filter(|_| !drops);
        queued.is_some_and(|q| {
            q.eof = true;
            true
        })
    }

    /// The length of a large request has arrived (0: not yet known). Closes the connection if there is no room for the
    /// request.
    pub(super) fn announce(&mut self, conn: ConnId, len: usize, out: &mut Outbox) {
        let Some(large) = self.options.throttles.large.as_ref().filter(|_| len > 0) else { return };
        let Some(c) = self.conns.get_mut(conn).filter(|c| !c.announced && c.phase == Phase::Open) else { return };
        c.announced = true;
        if let Err(reason) = large.announce(len) {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, %reason, "closing: rejecting a large request");
            self.stats.large_requests_rejected += 1;
            self.end(conn, CloseHow::Flush, out);
        }
    }

    /// Counts a request if it is large. `Err`: there was no room, and the connection was closed.
    pub(super) fn admit_large(
        &mut self,
        conn: ConnId,
        len: usize,
        is_write: bool,
        out: &mut Outbox,
    ) -> Result<Option<Admitted>, ()> {
        let Some(large) = &self.options.throttles.large else { return Ok(None) };
        if let Some(c) = self.conns.get_mut(conn) {
            c.announced = false;
            c.called = false;
        }
        large.admit(len, is_write).map_err(|reason| {
            tracing::warn!(target: CLIENT_LOG, %conn, %reason, "closing: rejecting a large request");
            self.stats.large_requests_rejected += 1;
            self.end(conn, CloseHow::Flush, out);
        })
    }

    /// Answers a request that waited too long and is not executed.
    pub(super) fn answer_throttled(
        &mut self,
        now: Now,
        conn: ConnId,
        header: RequestHeader,
        arrived_ns: u64,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert!(c.last_zxid <= tree.last_zxid(), "{conn} is answered behind an answer at {}", c.last_zxid);
        let before = c.out.len();
        put_reply(&mut c.out, header.xid, tree.last_zxid(), ErrorCode::ThrottledOp);
        let len = c.out.len() - before;
        let latency_ms = (now.mono_ns.saturating_sub(arrived_ns) / 1_000_000) as i64;
        c.last_zxid = tree.last_zxid();
        c.replied(now, header.op, header.xid, latency_ms);
        self.stats.replied(latency_ms, len);
        self.mark_dirty(conn, out);
    }

    /// Counts a reply whose request became stale before it was answered. Mirrors `STALE_REPLIES` in
    /// `FinalRequestProcessor`.
    pub(super) fn count_stale_reply(&mut self, latency_ms: i64, timeout_ms: i32) {
        if self.options.throttles.requests.stale_latency_check && latency_ms > i64::from(timeout_ms) {
            self.stats.stale_replies += 1;
        }
    }
}

/// How long a request waited before it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Late {
    /// Answer THROTTLEDOP instead of executing the request.
    pub(super) throttled: bool,
    /// Milliseconds spent at the throttler.
    pub(super) waited_ms: i64,
}

impl Late {
    /// When a request that is taken now arrived, in nanoseconds.
    pub(super) fn arrived_ns(self, now: Now) -> u64 {
        now.mono_ns.saturating_sub(self.waited_ms.max(0) as u64 * 1_000_000)
    }
}
