//! The request throttler in front of the pipeline. While there are more than `request_throttle_max_requests` requests
//! in it, further ones wait undecoded, in the order in which their connections came, and some are refused after they
//! waited too long. Mirrors `RequestThrottler` and `Request.isStale`.
//!
//! Pings, closeSession and authentication never wait here, only behind earlier requests of their own connection.

use std::collections::VecDeque;

use super::arrivals::Arrivals;
use super::conn::{Conn, Phase};
use super::{CloseHow, Outbox, Shard};
use crate::jute::Reader;
use crate::limits;
use crate::proto::reply::put_reply;
use crate::proto::request::{RequestHeader, is_write};
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, ErrorCode, Now, Op};

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

/// The connections that wait.
#[derive(Debug, Default)]
pub(super) struct RequestThrottler {
    /// In order of arrival; may contain connections that have ended meanwhile.
    queue: VecDeque<ConnId>,
    /// The connection that is being let through.
    served: Option<Box<Arrivals>>,
    next_look_ms: i64,
}

impl RequestThrottler {
    /// When the waiting connections are checked again.
    pub(super) fn deadline(&self) -> Option<i64> {
        (!self.queue.is_empty()).then_some(self.next_look_ms)
    }

    /// Checks the invariants; `waiting` are the connections whose state says that they wait.
    pub(super) fn check(&self, mut waiting: impl Iterator<Item = ConnId>) {
        assert!(self.served.is_none(), "a connection is let through between two steps");
        assert!(
            waiting.all(|conn| self.queue.iter().filter(|c| **c == conn).count() == 1),
            "a connection waits at the throttler and is not in its queue once"
        );
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// A write after many unanswered reads, see [`crate::limits::MAX_READS_BETWEEN_WRITES`], or after reads and a sync.
    Reads,
    /// `globalOutstandingLimit`.
    Outstanding,
    /// Large writes of other connections: see [`crate::limits::LARGE_WRITES_IN_PIPELINE`].
    Large,
    /// `request_throttle_max_requests`.
    MaxRequests,
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
        let many = c.waiting_reads >= bounds.max_reads_between_writes || c.waiting_bytes > bounds.out_high_water;
        // The peer core would not know that there is a read between a sync and this write (rule S3a).
        let reads = many || (c.syncs > 0 && c.waiting_reads > 0);
        // Mirrors ZooKeeperServer.shouldThrottle: above the limit, a connection with outstanding requests has to wait.
        let outstanding = in_process > self.options.outstanding_limit && !c.fifo.is_empty();
        let behind_others = self.throttler.served.is_none() && !self.throttler.queue.is_empty();
        let max_requests = behind_others || in_process >= self.options.throttles.requests.max_requests;
        let large = frame.len() > limits::LARGE_WRITE && self.large_must_wait(c, frame.len());
        if !(reads || outstanding || max_requests || large) {
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
        if max_requests {
            return Some(Wait::MaxRequests);
        }
        if outstanding && header.xid > 0 {
            return Some(Wait::Outstanding);
        }
        (large && is_write(header.op)).then_some(Wait::Large)
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
                self.large.add(now, conn);
            }
            Wait::Outstanding if c.throttled => {}
            Wait::Outstanding => {
                c.throttled = true;
                self.throttled.push(conn);
            }
            Wait::MaxRequests if c.arrivals.is_some() => {}
            Wait::MaxRequests => {
                if self.throttler.queue.is_empty() {
                    self.stats.throttle_waits += 1;
                    self.throttler.next_look_ms = now.mono_ms + self.options.throttles.requests.stall_ms;
                }
                c.arrivals = Some(self.throttler.served.take().unwrap_or_default());
                self.throttler.queue.push_back(conn);
            }
        }
    }

    /// Updates the recorded arrivals, if there are any, to what is undecoded now.
    #[inline]
    pub(super) fn remember_arrivals(&mut self, now: Now, conn: ConnId) {
        if self.conns.get(conn).is_some_and(|c| c.arrivals.is_some()) {
            self.update_arrivals(now, conn);
        }
    }

    fn update_arrivals(&mut self, now: Now, conn: ConnId) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let Some(q) = &mut c.arrivals else { return };
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
    pub(super) fn throttler_is_serving(&self) -> bool {
        self.throttler.served.is_some()
    }

    /// Whether the throttler could let another request through.
    pub(super) fn throttler_has_room(&self) -> bool {
        !self.throttler.queue.is_empty() && self.in_process() < self.options.throttles.requests.max_requests
    }

    /// Lets as many requests through as there is room for.
    pub(super) fn serve_throttled(&mut self, now: Now, tree: &Tree, out: &mut Outbox) {
        if !self.throttler_has_room() {
            return;
        }
        for _ in 0..self.throttler.queue.len() {
            if !self.throttler_has_room() {
                break;
            }
            let Some(conn) = self.throttler.queue.pop_front() else { break };
            self.serve(now, conn, tree, out);
        }
        self.stats.throttle_waits += u64::from(!self.throttler.queue.is_empty());
    }

    fn serve(&mut self, now: Now, conn: ConnId, tree: &Tree, out: &mut Outbox) {
        let Some(queued) = self.conns.get_mut(conn).and_then(|c| c.arrivals.take()) else { return };
        let eof = queued.eof;
        assert!(self.throttler.served.is_none(), "two connections are let through at a time");
        self.throttler.served = Some(queued);
        self.decode_kept(now, conn, tree, out);
        self.throttler.served = None;
        let waits_on = self.conns.get(conn).is_some_and(|c| c.arrivals.is_some());
        if eof && !waits_on {
            self.end(conn, CloseHow::Flush, out);
        }
        self.hold_back(conn, out);
    }

    /// How long the request has waited, in milliseconds, that ends at position `end` of the input of the connection
    /// being let through; 0 if it did not have to wait.
    pub(super) fn waited_ms(&self, now: Now, end: usize) -> i64 {
        let arrived = self.throttler.served.as_ref().and_then(|q| q.arrived_ms(end));
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
        let Some(queued) = &self.throttler.served else { return false };
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
        self.throttler.next_look_ms = now.mono_ms + settings.stall_ms;
        if settings.drop_stale && settings.stale_latency_check {
            let is_late = |c: &Conn| {
                let queued = c.arrivals.as_ref()?;
                let len = i32::from_be_bytes(*c.input.first_chunk::<4>()?);
                let arrived = queued.arrived_ms(4 + usize::try_from(len).ok()?)?;
                let waited_ms = now.mono_ms - arrived;
                (waited_ms > i64::from(c.timeout_ms)).then_some(waited_ms)
            };
            let late = |conn: &ConnId| self.conns.get(*conn).and_then(is_late).map(|waited_ms| (*conn, waited_ms));
            let stale: Vec<(ConnId, i64)> = self.throttler.queue.iter().filter_map(late).collect();
            for (conn, waited_ms) in stale {
                if let Some(c) = self.conns.get_mut(conn) {
                    c.arrivals = None;
                }
                self.drop_stale(conn, waited_ms, out);
            }
        }
        self.throttler.queue.retain(|conn| self.conns.get(*conn).is_some_and(|c| c.arrivals.is_some()));
        self.stats.throttle_waits += u64::from(!self.throttler.queue.is_empty());
    }

    /// Whether the requests of this connection, which wait at the throttler, are executed although its client has gone.
    pub(super) fn outlives_its_client(&mut self, conn: ConnId) -> bool {
        let settings = self.options.throttles.requests;
        let drops = settings.drop_stale && settings.stale_connection_check;
        let queued = self.conns.get_mut(conn).and_then(|c| c.arrivals.as_mut()).filter(|_| !drops);
        queued.is_some_and(|q| {
            q.eof = true;
            true
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
        assert!(c.last_zxid <= tree.last_zxid(), "{conn} is answered after an answer at {}", c.last_zxid);
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
