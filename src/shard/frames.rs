//! Turns the byte stream of a connection into frames, and frames into requests. Mirrors `NIOServerCnxn.doIO` and
//! `ZooKeeperServer.processPacket`.
//!
//! What is asserted for every single request is so in debug builds only, as in `fifo`.

use bytes::Bytes;

use super::conn::{Conn, Pending, Phase};
use super::request_throttler::{Late, Wait};
use super::{CloseHow, Outbox, Shard};
use crate::jute::Reader;
use crate::limits;
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::ToPeer;
use crate::proto::four_letter;
use crate::proto::request::{RequestHeader, is_write};
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, Cxid, Now, Op, SessionId};

/// Bytes of a request's header.
pub(super) const HEADER_LEN: usize = 8;

/// What the next bytes of a connection are.
enum Next {
    /// A frame that has not arrived completely. The value is its length, or 0 if not even that has arrived.
    Incomplete(usize),
    /// A complete frame of this length, after the four bytes of its length.
    Frame(usize),
    /// A length that is not allowed.
    Bad(i32),
}

fn next(bytes: &[u8], max: usize) -> Next {
    let Some(head) = bytes.first_chunk::<4>() else { return Next::Incomplete(0) };
    let len = i32::from_be_bytes(*head);
    match usize::try_from(len) {
        Ok(n) if n <= max => {
            if bytes.len() >= 4 + n {
                Next::Frame(n)
            } else {
                Next::Incomplete(n)
            }
        }
        _ => Next::Bad(len),
    }
}

impl Shard {
    pub(super) fn data(&mut self, now: Now, conn: ConnId, bytes: &[u8], tree: &Tree, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        if c.phase == Phase::Ended {
            return;
        }
        self.stats.bytes_received += bytes.len() as u64;
        if c.phase == Phase::Open {
            // Counts as a sign of life even if its requests have to wait: a client that reads slowly or sends much is
            // alive.
            c.hear(now, conn, &mut self.touched);
        }
        let nothing_kept = c.input.is_empty();
        if nothing_kept {
            let used = self.decode(now, conn, bytes, tree, out);
            assert!(used <= bytes.len(), "{used} of {} bytes of {conn} were decoded", bytes.len());
            self.keep(conn, &bytes[used..]);
            self.remember_arrivals(now, conn);
        } else {
            self.keep(conn, bytes);
            self.decode_kept(now, conn, tree, out);
        }
        self.hold_back(conn, out);
    }

    /// Decodes the kept input as far as the limits allow.
    pub(super) fn decode_kept(&mut self, now: Now, conn: ConnId, tree: &Tree, out: &mut Outbox) {
        let Some(c) = self.conns.get(conn) else { return };
        if c.input.is_empty() && c.arrivals.is_none() {
            // No input waits, which is the usual case.
            return;
        }
        if !c.input.is_empty() && self.may_decode(c) {
            self.decode_input(now, conn, tree, out);
        }
        self.remember_arrivals(now, conn);
    }

    fn decode_input(&mut self, now: Now, conn: ConnId, tree: &Tree, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let mut input = std::mem::take(&mut c.input);
        let used = self.decode(now, conn, &input, tree, out);
        assert!(used <= input.len(), "{used} of {} kept bytes of {conn} were decoded", input.len());
        if used == input.len() {
            // An idle connection keeps no buffer.
            return;
        }
        input.drain(..used);
        if input.capacity() > limits::KEPT_CAPACITY.max(4 * input.len()) {
            input.shrink_to(limits::KEPT_CAPACITY);
        }
        if let Some(c) = self.conns.get_mut(conn).filter(|c| c.phase != Phase::Ended) {
            assert!(c.input.is_empty(), "{conn} got {} bytes while others were decoded", c.input.len());
            c.input = input;
        }
    }

    fn keep(&mut self, conn: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(c) = self.conns.get_mut(conn).filter(|c| c.phase != Phase::Ended) {
            c.input.extend_from_slice(rest);
        }
    }

    /// Stops or resumes reading the socket, depending on how much input waits undecoded.
    pub(super) fn hold_back(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(c) = self.conns.get(conn) else { return };
        if c.input.is_empty() && !c.paused {
            // No input waits, which is the usual case.
            return;
        }
        // Only a complete request can wait at the throttler or for other large requests. The rest of an incomplete
        // one must still be read.
        let decodes = self.may_decode(c)
            && match c.input.get(4..).and_then(|first| self.wait(c, first)) {
                None => true,
                Some(Wait::MaxRequests) => c.arrivals.is_none(),
                Some(Wait::Large) => !c.waits_large,
                Some(Wait::Reads | Wait::Outstanding) => false,
            };
        if !c.input.is_empty() && self.had_its_share(c) {
            self.defer(conn);
        }
        let Some(c) = self.conns.get_mut(conn) else { return };
        let pause = !decodes && c.input.len() > self.options.bounds.in_high_water;
        if pause != c.paused && c.phase != Phase::Ended {
            assert!(!pause || c.phase != Phase::Fresh, "{conn} is not read before its handshake");
            c.paused = pause;
            out.pause.push((conn, pause));
        }
    }

    #[inline]
    fn may_decode(&self, c: &Conn) -> bool {
        let bounds = &self.options.bounds;
        match c.phase {
            Phase::Fresh => true,
            Phase::Open => {
                // Answer the reads that can be answered first: a write submitted now could be applied while they still
                // wait.
                let answerable = matches!(c.fifo.front(), Some(Pending::Read { .. }));
                let room = c.fifo.len() < bounds.max_unanswered && c.fifo_bytes < limits::MAX_UNANSWERED_BYTES;
                !answerable && !c.is_full(bounds.out_high_water) && room && !self.had_its_share(c)
            }
            Phase::Word | Phase::Handshake | Phase::Ended => false,
        }
    }

    /// Whether this connection has to leave the rest of the turn to connections with small replies.
    fn had_its_share(&self, c: &Conn) -> bool {
        // A connection that the throttler lets through keeps its place only while it is being served.
        self.turn_replies > limits::TURN_REPLIES && c.is_bulky() && !self.throttler_is_serving()
    }

    /// Decodes frames from the front of `bytes`; returns how many bytes were used.
    fn decode(&mut self, now: Now, conn: ConnId, bytes: &[u8], tree: &Tree, out: &mut Outbox) -> usize {
        let mut used = 0;
        while let Some(c) = self.conns.get(conn).filter(|c| self.may_decode(c)) {
            let rest = &bytes[used..];
            let fresh = c.phase == Phase::Fresh;
            let max = if fresh { limits::MAX_CONNECT_FRAME } else { self.options.max_frame };
            let next = next(rest, max);
            if let (false, Next::Frame(len)) = (fresh, &next) {
                debug_assert!(*len <= max, "a frame of {len} bytes of {conn}, more than {max}");
                let frame = &rest[4..4 + len];
                if let Some(why) = self.wait(c, frame) {
                    self.begin_wait(now, conn, why);
                    break;
                }
                used += 4 + len;
                let waited_ms = self.waited_ms(now, used);
                self.request(now, conn, frame, waited_ms, tree, out);
                continue;
            }
            if fresh && let Some(taken) = self.word(conn, rest, out) {
                return used + taken;
            }
            match next {
                Next::Incomplete(len) => {
                    self.announce(conn, len, out);
                    break;
                }
                Next::Frame(len) => {
                    debug_assert!(len <= max, "a frame of {len} bytes of {conn}, more than {max}");
                    used += 4 + len;
                    self.connect(now, conn, &rest[4..4 + len], tree, out);
                }
                Next::Bad(len) => {
                    self.refuse_length(conn, len, fresh, out);
                    return bytes.len();
                }
            }
        }
        used
    }

    fn refuse_length(&mut self, conn: ConnId, len: i32, fresh: bool, out: &mut Outbox) {
        if let Some(c) = self.conns.get(conn) {
            let limit = self.options.max_frame;
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, len, limit, "closing: packet length out of range (jute.maxbuffer)");
        }
        if fresh {
            self.stats.unsuccessful_handshakes += 1;
        } else {
            self.stats.large_requests_rejected += 1;
        }
        self.end(conn, CloseHow::Flush, out);
    }

    /// Handles a four-letter word at the start of a new connection; returns how many bytes it used.
    fn word(&mut self, conn: ConnId, bytes: &[u8], out: &mut Outbox) -> Option<usize> {
        let head = *bytes.first_chunk::<4>()?;
        if head == four_letter::TELNET_CLOSE {
            self.end(conn, CloseHow::Flush, out);
            return Some(4);
        }
        let word = four_letter::word(head)?;
        let mut argument = 0;
        let mut taken = 4;
        if word == four_letter::STMK && self.options.words.contains(&word) {
            // After stmk follows a trace mask of eight raw bytes.
            let Some(mask) = bytes.get(4..12).and_then(|b| b.first_chunk::<8>()) else { return Some(0) };
            argument = i64::from_be_bytes(*mask);
            taken = 12;
        }
        let c = self.conns.get_mut(conn)?;
        assert_eq!(c.phase, Phase::Fresh, "{conn} says {word} after its handshake");
        assert!(c.fifo.is_empty() && c.session == SessionId::NONE, "{conn} says {word} in a session");
        c.phase = Phase::Word;
        c.received += 1;
        self.stats.since_reset.packets_received += 1;
        if self.options.words.contains(&word) {
            out.words.push((conn, word, argument));
        } else {
            let text = format!("{word} is not executed because it is not in the whitelist.\n");
            self.word_answer(conn, text.into_bytes(), out);
        }
        Some(taken)
    }

    /// Handles one request of an open session.
    fn request(&mut self, now: Now, conn: ConnId, frame: &[u8], waited_ms: i64, tree: &Tree, out: &mut Outbox) {
        let mut r = Reader::new(frame);
        let Ok(header) = RequestHeader::read(&mut r) else {
            tracing::warn!(target: CLIENT_LOG, %conn, "closing: a request shorter than its header");
            self.end(conn, CloseHow::Flush, out);
            return;
        };
        let Some(c) = self.conns.get_mut(conn) else { return };
        c.received += 1;
        self.stats.since_reset.packets_received += 1;
        self.stats.ops.count(header.op);
        c.hear(now, conn, &mut self.touched);
        if self.refuse_late(now, conn, header, waited_ms, tree, out) {
            return;
        }
        let late = Late { throttled: false, waited_ms };
        match header.op {
            Op::AUTH => self.auth_packet(now, conn, header, r.rest(), out),
            Op::SASL => self.sasl_packet(now, conn, header, r.rest(), out),
            _ if !self.is_authenticated_enough(conn) => self.refuse_unauthenticated(conn, header, out),
            op if self.refuses(op) => self.read_request(now, conn, header, r.rest(), late, tree, out),
            // Clients may not send these: a session is created by the handshake, and containers are deleted by the
            // server itself.
            Op::CREATE_SESSION | Op::DELETE_CONTAINER => {
                self.read_request(now, conn, header, r.rest(), late, tree, out)
            }
            op if is_write(op) => self.submit(now, conn, header, r.rest(), late, out),
            Op::SYNC if self.syncs_by_peer() => self.submit_sync(now, conn, header, r.rest(), late, out),
            _ => self.read_request(now, conn, header, r.rest(), late, tree, out),
        }
    }

    fn submit(&mut self, now: Now, conn: ConnId, header: RequestHeader, body: &[u8], late: Late, out: &mut Outbox) {
        let Ok(large) = self.admit_large(conn, HEADER_LEN + body.len(), true, out) else { return };
        let arrived_ns = late.arrived_ns(now);
        let Some(c) = self.conns.get_mut(conn) else { return };
        debug_assert_eq!(c.phase, Phase::Open, "{conn} writes outside a session");
        debug_assert!(c.session != SessionId::NONE, "{conn} writes without a session");
        debug_assert!(is_write(header.op), "{} of {conn} is submitted as a write", header.op);
        debug_assert!(
            !matches!(c.fifo.front(), Some(Pending::Read { .. })),
            "{conn} submits a write before a read that could be answered"
        );
        let behind_read = c.waiting_reads > 0;
        let (xid, op, bytes) = (header.xid, header.op, body.len() as u32);
        let Some(request) = self.pass_on(conn, header, body, |_| Pending::Write { xid, op, arrived_ns, bytes }) else {
            return;
        };
        out.to_peer.push(ToPeer::Write { request, behind_read, large });
    }

    /// Gives a request that the peer core answers its place among those of its connection. Returns what the peer core is sent of it.
    // Inlined: for every write, and the closure differs.
    #[inline(always)]
    pub(super) fn pass_on(
        &mut self,
        conn: ConnId,
        header: RequestHeader,
        body: &[u8],
        pending: impl FnOnce(&Bytes) -> Pending,
    ) -> Option<WriteRequest> {
        let origin = self.origin(conn);
        let c = self.conns.get_mut(conn)?;
        self.stalled -= c.unstall();
        let kept = self.bodies.keep(body);
        c.fifo.push_back(pending(&kept));
        c.fifo_bytes += body.len();
        self.outstanding += 1;
        let (session, cxid, auth) = (c.session, Cxid(header.xid), c.auth.clone());
        Some(WriteRequest { session, cxid, op: header.op, body: kept, auth, moved: false, origin })
    }

    /// Handles a read, or any other request that the shard answers itself.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn read_request(
        &mut self,
        now: Now,
        conn: ConnId,
        header: RequestHeader,
        body: &[u8],
        late: Late,
        tree: &Tree,
        out: &mut Outbox,
    ) {
        let Ok(large) = self.admit_large(conn, HEADER_LEN + body.len(), false, out) else { return };
        let arrived_ns = late.arrived_ns(now);
        let Some(c) = self.conns.get_mut(conn) else { return };
        debug_assert_eq!(c.phase, Phase::Open, "{conn} reads outside a session");
        if !c.fifo.is_empty() {
            assert!(
                matches!(c.fifo.front(), Some(Pending::Write { .. } | Pending::Sync { .. })),
                "{conn} reads behind a read that waits for nothing"
            );
            self.stalled -= c.unstall();
            c.waiting_reads += 1;
            let (RequestHeader { xid, op }, throttled) = (header, late.throttled);
            let reply = if throttled { 0 } else { Shard::reply_size(op, body, tree) };
            c.waiting_bytes += reply;
            c.fifo_bytes += body.len();
            let body = Bytes::copy_from_slice(body);
            c.fifo.push_back(Pending::Read { xid, op, body, reply, arrived_ns, throttled, large });
            self.outstanding += 1;
        } else if late.throttled {
            self.answer_throttled(now, conn, header, arrived_ns, tree, out);
        } else {
            self.answer(now, conn, header, body, arrived_ns, tree, out);
        }
    }
}

impl Conn {
    /// Records a sign of life of the client.
    pub(super) fn hear(&mut self, now: Now, conn: ConnId, touched: &mut Vec<ConnId>) {
        self.heard_ms = now.mono_ms;
        if !self.touched {
            self.touched = true;
            touched.push(conn);
        }
    }

    /// The reads of this connection no longer wait for its client, or another request comes after them. Returns how
    /// many were counted as stalled.
    pub(super) fn unstall(&mut self) -> usize {
        if std::mem::take(&mut self.stalled) { self.fifo.len() } else { 0 }
    }

    /// Counts a reply that was just appended; `len` is its size in bytes.
    pub(super) fn replied(&mut self, now: Now, op: Op, xid: i32, latency_ms: i64) {
        self.sent += 1;
        self.last_op = op;
        self.last_cxid = xid;
        self.last_response_ms = now.mono_ms;
        self.last_latency_ms = latency_ms;
        self.latency.record(latency_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert!(matches!(next(&[0, 0, 0], 10), Next::Incomplete(0)));
        assert!(matches!(next(&[0, 0, 0, 2, 1], 10), Next::Incomplete(2)));
        assert!(matches!(next(&[0, 0, 0, 1, 1, 9], 10), Next::Frame(1)));
        assert!(matches!(next(&[0, 0, 0, 11], 10), Next::Bad(11)));
        assert!(matches!(next(&[0xff, 0xff, 0xff, 0xff], 10), Next::Bad(-1)));
    }
}
