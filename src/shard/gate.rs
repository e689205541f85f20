//! The gate before the pipeline: over `request_throttle_max_requests` requests wait undecoded, in the order in which their
//! connections came, and some are refused once they waited too long. Mirrors `RequestThrottler` and `Request.isStale`.
//!
//! Pings, closeSession and authentication never wait here, only behind requests of their own connection.

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

/// What keeps floods out of a shard.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    /// The token bucket of handshakes, one for all shards; none when off.
    pub connections: Option<Arc<SharedConnectionThrottle>>,
    /// The gate of large requests, one for all shards.
    pub large: Option<Arc<LargeRequests>>,
    /// The gate before the pipeline.
    pub requests: RequestThrottle,
}

/// Settings of the gate before the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// This shard's share of `request_throttle_max_requests`; `usize::MAX` is no limit.
    pub max_requests: usize,
    /// `request_throttle_stall_time`, milliseconds: how often those that wait are looked at when nothing moves.
    pub stall_ms: i64,
    /// `request_throttle_drop_stale`.
    pub drop_stale: bool,
    /// `request_stale_latency_check`: a request older than its session's timeout is stale.
    pub stale_latency_check: bool,
    /// `request_stale_connection_check`: a request of a closed connection is stale.
    pub stale_connection_check: bool,
    /// `throttled_op_wait_time`, milliseconds: a request that waited longer is answered THROTTLEDOP; 0 is off.
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

/// How often large writes that wait are looked at when nothing of this shard moves, milliseconds.
const LARGE_LOOK_MS: i64 = 2;

/// Pieces of input told apart by their time of arrival, per connection; more only make the later ones look younger.
const ARRIVALS: usize = 256;

/// What a connection at the gate remembers.
#[derive(Debug, Default)]
pub struct Queued {
    /// Bytes of its input and when they came, milliseconds.
    arrivals: VecDeque<(usize, i64)>,
    bytes: usize,
    /// Its client has gone, its requests are wanted all the same.
    eof: bool,
}

impl Queued {
    pub(super) fn add(&mut self, bytes: usize, now_ms: i64) {
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

    /// Forgets the first `bytes`.
    pub(super) fn consume(&mut self, mut bytes: usize) {
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

    /// When the byte before `end` came.
    pub(super) fn arrived_ms(&self, end: usize) -> Option<i64> {
        let mut sum = 0;
        self.arrivals.iter().find_map(|(bytes, ms)| {
            sum += bytes;
            (sum >= end).then_some(*ms)
        })
    }
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// In order; connections that ended meanwhile are still in it.
    queue: VecDeque<ConnId>,
    /// The connection that is let through now.
    served: Option<Box<Queued>>,
    next_look_ms: i64,
}

impl Gate {
    /// When those that wait are looked at again.
    pub(super) fn deadline(&self) -> Option<i64> {
        (!self.queue.is_empty()).then_some(self.next_look_ms)
    }

    /// Its invariants; `waiting` are the connections that say they wait.
    pub(super) fn check(&self, mut waiting: impl Iterator<Item = ConnId>) {
        assert!(self.served.is_none());
        assert!(waiting.all(|conn| self.queue.iter().filter(|c| **c == conn).count() == 1));
    }
}

/// Why a request is not taken yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// A write behind many unanswered reads: see [`crate::limits::MAX_READS_BETWEEN_WRITES`].
    Reads,
    /// `globalOutstandingLimit`.
    Outstanding,
    /// Large writes of others: see [`crate::limits::LARGE_WRITES_IN_PIPELINE`].
    Large,
    /// `request_throttle_max_requests`.
    Gate,
}

/// Whether a request passes every throttle: it frees things, keeps a session alive, or says who somebody is.
fn is_exempt(op: Op) -> bool {
    matches!(op, Op::PING | Op::CLOSE_SESSION | Op::AUTH | Op::SASL)
}

impl Shard {
    /// Requests in the pipeline. What only waits for its own client to read holds up nobody else.
    pub(super) fn in_process(&self) -> usize {
        self.outstanding - self.stalled
    }

    /// Whether a request has to stay undecoded, and for what.
    pub(super) fn wait(&self, c: &Conn, frame: &[u8]) -> Option<Wait> {
        let in_process = self.in_process();
        let bounds = &self.options.bounds;
        let reads = c.waiting_reads >= bounds.max_reads_between_writes || c.waiting_bytes > bounds.out_high_water;
        // Mirrors ZooKeeperServer.shouldThrottle: past the limit, whoever has something outstanding waits.
        let outstanding = in_process > self.options.outstanding_limit && !c.fifo.is_empty();
        let behind_others = self.gate.served.is_none() && !self.gate.queue.is_empty();
        let gate = behind_others || in_process >= self.options.throttles.requests.max_requests;
        let large = frame.len() > limits::LARGE_WRITE && self.large_must_wait(c, frame.len());
        if !(reads || outstanding || gate || large) {
            return None;
        }
        // A request without a header is not worth waiting for: taking it closes the connection.
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

    /// Whether a large write has others before it. Who was called is let in even if they came first: it was its turn.
    fn large_must_wait(&self, c: &Conn, len: usize) -> bool {
        let Some(large) = &self.options.throttles.large else { return false };
        !large.has_room(len, 0) || !(self.large.is_empty() || c.called)
    }

    /// Calls those whose large writes wait, as far as there is room.
    pub(super) fn call_large(&mut self, now: Now) {
        let Some(large) = &self.options.throttles.large else { return };
        // What those called will take is not counted yet.
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
                c.waits_large = false;
                c.called = true;
                self.ready.push(conn);
            }
        }
        // Another shard's large write may be what is waited for, and nobody tells when it is done.
        self.next_large_ms = now.mono_ms + LARGE_LOOK_MS;
    }

    /// Puts a connection where it will be called from.
    pub(super) fn begin_wait(&mut self, now: Now, conn: ConnId, why: Wait) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        match why {
            // Called when its reads are answered.
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

    /// Brings the memory of arrivals in step with what is undecoded now.
    pub(super) fn remember_arrivals(&mut self, now: Now, conn: ConnId) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let Some(q) = &mut c.gate else { return };
        let undecoded = c.input.len();
        if q.bytes > undecoded {
            q.consume(q.bytes - undecoded);
        } else if q.bytes < undecoded {
            q.add(undecoded - q.bytes, now.mono_ms);
            // It was heard, though nothing of it can be taken: its session must not expire for our being busy.
            c.hear(now, conn, &mut self.touched);
        }
    }

    /// Whether a connection is being let through just now.
    pub(super) fn gate_is_serving(&self) -> bool {
        self.gate.served.is_some()
    }

    /// Whether anybody at the gate could be let through.
    pub(super) fn gate_has_room(&self) -> bool {
        !self.gate.queue.is_empty() && self.in_process() < self.options.throttles.requests.max_requests
    }

    /// Lets through as many as there is room for.
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
        self.gate.served = Some(queued);
        self.decode_kept(now, conn, tree, out);
        self.gate.served = None;
        let waits_on = self.conns.get(conn).is_some_and(|c| c.gate.is_some());
        if eof && !waits_on {
            self.end(conn, CloseHow::Flush, out);
        }
        self.hold_back(conn, out);
    }

    /// How long the request that ends `end` bytes into the input of the connection being let through has waited, milliseconds;
    /// 0 when there was no need to wait.
    pub(super) fn waited_ms(&self, now: Now, end: usize) -> i64 {
        let arrived = self.gate.served.as_ref().and_then(|q| q.arrived_ms(end));
        arrived.map_or(0, |ms| now.mono_ms - ms)
    }

    /// Looks at a request that comes from the gate. `true`: it was refused, there is nothing more to do.
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
        self.stats.throttle_queue.record(waited_ms.max(0) as u64 * 1000);
        let may_refuse = settings.op_wait_ms > 0 && !is_exempt(header.op);
        if !may_refuse || waited_ms <= settings.op_wait_ms {
            return false;
        }
        self.stats.throttled_ops += 1;
        self.read_request(now, conn, header, &[], Late { throttled: true, waited_ms }, tree, out);
        true
    }

    /// A request that nobody can be waiting for any more; later ones of its connection must not overtake it.
    fn drop_stale(&mut self, conn: ConnId, waited_ms: i64, out: &mut Outbox) {
        if let Some(c) = self.conns.get(conn) {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, waited_ms, "closing: a request went stale waiting for room");
        }
        self.stats.stale_requests_dropped += 1;
        self.end(conn, CloseHow::Flush, out);
    }

    /// Nothing moved for the stall time: stale requests are dropped, the others wait on.
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

    /// A client has gone while its requests wait at the gate, and they are to be executed all the same.
    pub(super) fn outlives_its_client(&mut self, conn: ConnId) -> bool {
        let settings = self.options.throttles.requests;
        let drops = settings.drop_stale && settings.stale_connection_check;
        let queued = self.conns.get_mut(conn).and_then(|c| c.gate.as_mut()).filter(|_| !drops);
        queued.is_some_and(|q| {
            q.eof = true;
            true
        })
    }

    /// A large request is announced by its length (0: not known yet): closes the connection if there is no room for it.
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

    /// Counts a request in, if it is large. `Err`: there was no room for it and the connection is closed.
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

    /// The answer to a request that waited too long to be executed.
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
        let before = c.out.len();
        put_reply(&mut c.out, header.xid, tree.last_zxid(), ErrorCode::ThrottledOp);
        let len = c.out.len() - before;
        let latency_ms = (now.mono_ns.saturating_sub(arrived_ns) / 1_000_000) as i64;
        c.last_zxid = tree.last_zxid();
        c.replied(now, header.op, header.xid, latency_ms);
        self.stats.replied(latency_ms, len);
        self.mark_dirty(conn, out);
    }

    /// A reply whose request went stale on its way. Mirrors the `STALE_REPLIES` of `FinalRequestProcessor`.
    pub(super) fn count_stale_reply(&mut self, latency_ms: i64, timeout_ms: i32) {
        if self.options.throttles.requests.stale_latency_check && latency_ms > i64::from(timeout_ms) {
            self.stats.stale_replies += 1;
        }
    }
}

/// How late a request is when it is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Late {
    /// Answer THROTTLEDOP instead of executing it.
    pub(super) throttled: bool,
    /// Milliseconds at the gate.
    pub(super) waited_ms: i64,
}

impl Late {
    /// When a request that is taken now came, nanoseconds.
    pub(super) fn arrived_ns(self, now: Now) -> u64 {
        now.mono_ns.saturating_sub(self.waited_ms.max(0) as u64 * 1_000_000)
    }
}
