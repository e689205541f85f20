//! One client core: connections, the order of each session's replies, watch tables, reads. A state machine: bytes and
//! applied transactions go in, bytes and submitted writes come out. Mirrors `NIOServerCnxn`, the per-session queues of
//! `CommitProcessor`, and the part of `FinalRequestProcessor` that handles reads.
//!
//! The caller must not let the tree change during a turn. It first drains the stream ([`Input::Stream`], then
//! [`Input::Drained`]), then passes on what the sockets received. So all replies of a turn are as of one zxid
//! (`src/ORDERING.md`).

mod arrivals;
mod auth;
pub mod conn;
mod conns;
mod fifo;
mod frames;
mod handshake;
mod large_requests;
pub mod latency;
mod local_close;
mod read;
pub mod request_throttler;
pub mod status;
mod sync;
#[cfg(test)]
mod tests;
pub mod turn;
mod watches;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::auth::Providers;
use crate::jute::Chunk;
use crate::limits;
use crate::pipeline::messages::{Service, ToPeer, ToShard};
use crate::session::{LargeRequests, SharedConnectionThrottle};
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, Now, Origin, SessionId, ShardId, earliest};
use crate::watch::WatchTable;
use conn::{Conn, Phase};
use conns::Conns;
use large_requests::LargeWrites;
use request_throttler::{RequestThrottle, RequestThrottler};
use status::ShardStats;

/// Settings of a shard.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// This shard's number.
    pub id: ShardId,
    /// `jute.maxbuffer`: the longest frame of an established session, in bytes.
    pub max_frame: usize,
    /// Least and greatest session timeout, in milliseconds.
    pub session_timeout_ms: (i32, i32),
    /// A connection without a handshake is closed after this many milliseconds.
    pub handshake_timeout_ms: i64,
    /// This shard's share of `globalOutstandingLimit`.
    pub outstanding_limit: usize,
    /// How often the shard reports the sessions it heard from, in milliseconds.
    pub touch_interval_ms: i64,
    /// Limits of each connection.
    pub bounds: Bounds,
    /// `skipACL`.
    pub skip_acl: bool,
    /// Four-letter words that are allowed.
    pub words: Vec<&'static str>,
    /// `enforce.auth.schemes`; empty if it is off.
    pub enforced_schemes: Vec<String>,
    /// Authentication providers.
    pub auth: Arc<Providers>,
    /// Throttles; all off by default.
    pub throttles: Throttles,
}

/// Limits of a connection; if one is reached its further requests wait. The defaults are those of [`crate::limits`];
/// tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that its client has not read.
    pub out_high_water: usize,
    /// Undecoded bytes above which its socket is not read.
    pub in_high_water: usize,
    /// Unanswered requests.
    pub max_unanswered: usize,
    /// Reads between two of its unanswered writes.
    pub max_reads_between_writes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            out_high_water: limits::OUT_HIGH_WATER,
            in_high_water: limits::IN_HIGH_WATER,
            max_unanswered: limits::MAX_UNANSWERED,
            max_reads_between_writes: limits::MAX_READS_BETWEEN_WRITES,
        }
    }
}

/// The throttles of a shard.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    /// The token bucket for handshakes, shared by all shards; `None` if it is off.
    pub connections: Option<Arc<SharedConnectionThrottle>>,
    /// New sessions are local ones, which have another weight in it.
    pub local_sessions: bool,
    /// The limit on large requests, shared by all shards.
    pub large: Option<Arc<LargeRequests>>,
    /// The request throttler.
    pub requests: RequestThrottle,
}

/// How a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseHow {
    /// With FIN, after the queued bytes are sent.
    Flush,
    /// Immediately, with a reset; only for clients that do not read.
    Abort,
}

/// An input of the state machine.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// The client's address.
        peer: SocketAddr,
    },
    /// Bytes from a client.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes, in stream order.
        bytes: &'a [u8],
    },
    /// The connection is gone.
    Disconnected {
        /// The connection.
        conn: ConnId,
    },
    /// The client has closed its sending side.
    Eof {
        /// The connection.
        conn: ConnId,
    },
    /// A message from the peer core; they keep their order.
    Stream(ToShard),
    /// The stream was read up to what the tree shows: reads that waited can be answered.
    Drained,
    /// Number of bytes of this connection that the operating system has not taken. Reported when it passes the limit
    /// and when it decreases after that.
    Backlog {
        /// The connection.
        conn: ConnId,
        /// The number of bytes.
        bytes: usize,
    },
    /// The answer to a four-letter word.
    WordAnswer {
        /// The connection that sent the word.
        conn: ConnId,
        /// The answer; it is sent as it is, then the connection is closed. It may be long, so it is handed over and not
        /// copied.
        text: Vec<u8>,
    },
    /// No event; only the time has changed.
    Tick,
}

/// What the shard wants done. The caller empties it after each step.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Connections for which [`Shard::take_output`] has bytes.
    pub dirty: Vec<ConnId>,
    /// Messages for the peer core, in order.
    pub to_peer: Vec<ToPeer>,
    /// Connections to close. [`Input::Disconnected`] must follow in the same turn: reads of a closed connection are not
    /// answered, so in a later turn they would still stand before a write that is answered then.
    pub close: Vec<(ConnId, CloseHow)>,
    /// Connections whose sockets are not to be read (`true`) or read again (`false`).
    pub pause: Vec<(ConnId, bool)>,
    /// Four-letter words to answer; the number is the argument of stmk.
    pub words: Vec<(ConnId, &'static str, i64)>,
}

/// The state machine of one client core.
pub struct Shard {
    options: ShardOptions,
    conns: Conns,
    sessions: HashMap<SessionId, ConnId, foldhash::fast::FixedState>,
    watches: WatchTable,
    /// Connections without a session, oldest first.
    fresh: VecDeque<(i64, ConnId)>,
    /// Connections that can continue: their fifo has moved, or there is room for their input.
    ready: Vec<ConnId>,
    throttled: Vec<ConnId>,
    large: LargeWrites,
    /// Bytes of replies made in this turn.
    turn_replies: usize,
    throttler: RequestThrottler,
    /// Connections heard from since the last report.
    touched: Vec<ConnId>,
    next_touch_ms: i64,
    /// Requests in all fifos.
    outstanding: usize,
    /// Those of them that only wait for their own client to read.
    stalled: usize,
    /// Reads answered in the turn that brought them, since [`Shard::measure_reads`] was last called.
    reads_at_once: u64,
    stats: ShardStats,
    fired: Vec<ConnId>,
    /// `None`: the server has no role in its ensemble, so nobody may have a session.
    service: Option<Service>,
    scratch: Vec<u8>,
    /// Keeps the bodies of writes until they are applied.
    bodies: Chunk,
}

impl Shard {
    /// A shard without connections.
    pub fn new(options: ShardOptions, watches: WatchTable) -> Shard {
        Shard {
            options,
            conns: Conns::default(),
            sessions: HashMap::default(),
            watches,
            fresh: VecDeque::new(),
            ready: Vec::new(),
            throttled: Vec::new(),
            large: LargeWrites::default(),
            turn_replies: 0,
            throttler: RequestThrottler::default(),
            touched: Vec::new(),
            next_touch_ms: 0,
            outstanding: 0,
            stalled: 0,
            reads_at_once: 0,
            stats: ShardStats::default(),
            fired: Vec::new(),
            service: Some(Service::Alone),
            scratch: Vec::new(),
            bodies: Chunk::default(),
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>, tree: &Tree, out: &mut Outbox) {
        match input {
            Input::Data { conn, bytes } => self.data(now, conn, bytes, tree, out),
            Input::Stream(message) => self.stream(now, message, out),
            Input::Drained => self.drained(now, tree, out),
            Input::Accepted { conn, peer } => self.accepted(now, conn, peer),
            Input::Eof { conn } => self.eof(conn, out),
            Input::Disconnected { conn } => self.disconnected(conn, out),
            Input::Backlog { conn, bytes } => self.backlog(conn, bytes, out),
            Input::WordAnswer { conn, text } => self.word_answer(conn, text, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// When the next [`Input::Tick`] is needed, in milliseconds of the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        let touch = (!self.touched.is_empty()).then_some(self.next_touch_ms);
        let fresh = self.fresh.front().map(|(since, _)| since + self.options.handshake_timeout_ms);
        earliest([touch, fresh, self.large.deadline(), self.throttler.deadline()])
    }

    /// Moves a connection's output into `to`.
    pub fn take_output(&mut self, conn: ConnId, to: &mut Vec<u8>) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        debug_assert!(c.is_dirty || c.out.is_empty(), "{conn} has bytes to send that nobody was told of");
        c.is_dirty = false;
        if c.out.len() > self.options.bounds.out_high_water {
            // It stopped answering. It continues in the next turn, unless the socket then reports a backlog.
            self.ready.push(conn);
        }
        if to.is_empty() {
            std::mem::swap(to, &mut c.out);
        } else {
            to.append(&mut c.out);
            if c.out.capacity() > limits::KEPT_CAPACITY {
                // The client reads more slowly than it sends requests, so its next reply may be far off: free the
                // buffer.
                c.out = Vec::new();
            }
        }
    }

    fn accepted(&mut self, now: Now, conn: ConnId, peer: SocketAddr) {
        assert!(self.fresh.back().is_none_or(|(since, _)| *since <= now.mono_ms), "the clock fell to {}", now.mono_ms);
        self.stats.connections_accepted += 1;
        self.fresh.push_back((now.mono_ms, conn));
        self.conns.insert(conn, Conn::new(peer, now));
    }

    fn disconnected(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(mut c) = self.conns.remove(conn) else { return };
        assert!(self.outstanding >= c.fifo.len(), "{conn} has more requests than the shard");
        assert!(c.waiting_reads <= c.fifo.len(), "{conn} has more reads than requests");
        assert!(!c.stalled || self.stalled >= c.fifo.len(), "{conn} has more stalled requests than the shard");
        self.outstanding -= c.fifo.len();
        if self.throttled.len() > 2 * self.conns.len() {
            // As long as the limit is exceeded, nothing else removes these.
            self.throttled.retain(|conn| self.conns.get(*conn).is_some());
        }
        self.stalled -= c.unstall();
        if c.waits_large {
            self.large.remove(conn);
        }
        self.stats.stale_requests_dropped += u64::from(c.arrivals.is_some());
        self.watches.remove_conn(conn);
        if self.sessions.get(&c.session) == Some(&conn) {
            self.sessions.remove(&c.session);
        }
        if c.session != SessionId::NONE && c.touched {
            out.to_peer.push(ToPeer::Touch { session: c.session, heard_ms: c.heard_ms });
        }
    }

    /// The client has closed its sending side. After a four-letter word (`echo ruok | nc`) it still wants its answer.
    fn eof(&mut self, conn: ConnId, out: &mut Outbox) {
        if self.conns.get(conn).is_some_and(|c| c.phase != Phase::Word) {
            self.stats.connections_dropped += 1;
            if !self.outlives_its_client(conn) {
                self.end(conn, CloseHow::Flush, out);
            }
        }
    }

    fn backlog(&mut self, conn: ConnId, bytes: usize, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        if bytes <= self.options.bounds.out_high_water {
            c.backlog = None;
            self.ready.push(conn);
            return;
        }
        // A single reply may be of any length; only what is added while the client does not read counts.
        let least = c.backlog.map_or(bytes, |least| least.min(bytes));
        c.backlog = Some(least);
        if bytes - least > limits::OUT_LIMIT {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, bytes, "closing a connection that does not read");
            self.end(conn, CloseHow::Abort, out);
        }
    }

    fn word_answer(&mut self, conn: ConnId, text: Vec<u8>, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert!(matches!(c.phase, Phase::Word | Phase::Ended), "{conn} in {:?} is answered a word", c.phase);
        assert!(c.out.is_empty(), "{conn} is answered a word after something else");
        c.out = text;
        self.stats.since_reset.packets_sent += 1;
        self.mark_dirty(conn, out);
        self.end(conn, CloseHow::Flush, out);
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        while let Some((since, conn)) = self.fresh.front().copied() {
            let waits = self.conns.get(conn).is_some_and(|c| c.phase == Phase::Fresh);
            if waits && since + self.options.handshake_timeout_ms > now.mono_ms {
                break;
            }
            self.fresh.pop_front();
            if waits {
                self.stats.sessionless_expired += 1;
                self.end(conn, CloseHow::Flush, out);
            }
        }
        if now.mono_ms >= self.next_touch_ms {
            self.report_touched(now, out);
        }
        if self.throttler.deadline().is_some_and(|at| at <= now.mono_ms) {
            self.look_again(now, out);
        }
    }

    fn report_touched(&mut self, now: Now, out: &mut Outbox) {
        self.next_touch_ms = now.mono_ms + self.options.touch_interval_ms;
        for conn in self.touched.drain(..) {
            if let Some(c) = self.conns.get_mut(conn).filter(|c| c.touched) {
                assert!(c.session != SessionId::NONE, "{conn} was heard of and has no session");
                assert!(c.heard_ms <= now.mono_ms, "{conn} was heard of at {}, it is {}", c.heard_ms, now.mono_ms);
                c.touched = false;
                out.to_peer.push(ToPeer::Touch { session: c.session, heard_ms: c.heard_ms });
            }
        }
    }

    /// Ends a connection: nothing more is read from it, and it is closed as `how` says.
    fn end(&mut self, conn: ConnId, how: CloseHow, out: &mut Outbox) {
        if let Some(c) = self.conns.get_mut(conn)
            && c.phase != Phase::Ended
        {
            c.phase = Phase::Ended;
            c.input.clear();
            self.stats.stale_requests_dropped += u64::from(c.arrivals.take().is_some());
            out.close.push((conn, how));
        }
    }

    /// Disconnects all clients that have a session or wait for one. Four-letter words are still answered.
    fn suspend(&mut self, out: &mut Outbox) {
        self.service = None;
        let is_client = |c: &Conn| matches!(c.phase, Phase::Handshake | Phase::Open);
        let clients: Vec<ConnId> = self.conns.iter().filter(|(_, c)| is_client(c)).map(|(conn, _)| conn).collect();
        clients.into_iter().for_each(|conn| self.end(conn, CloseHow::Flush, out));
        out.to_peer.push(ToPeer::Suspended { shard: self.options.id });
    }

    /// Whether the server has no role in its ensemble.
    pub fn is_suspended(&self) -> bool {
        self.service.is_none()
    }

    fn mark_dirty(&mut self, conn: ConnId, out: &mut Outbox) {
        if let Some(c) = self.conns.get_mut(conn)
            && !c.is_dirty
        {
            c.is_dirty = true;
            out.dirty.push(conn);
        }
    }

    fn origin(&self, conn: ConnId) -> Origin {
        Origin::Local { shard: self.options.id, conn }
    }

    /// The shard's settings.
    pub fn options(&self) -> &ShardOptions {
        &self.options
    }

    /// The approximate number of items that [`Shard::check`] looks at.
    pub fn weight(&self) -> usize {
        self.conns.len() + self.outstanding + self.watches.watch_count()
    }

    /// Checks the invariants.
    pub fn check(&self) {
        self.conns.check();
        self.check_counts();
        for (conn, c) in self.conns.iter() {
            self.check_conn(conn, c);
        }
        let requests = self.conns.values().map(|c| c.fifo.len()).sum::<usize>();
        assert_eq!(self.outstanding, requests, "requests that are not answered");
        let stalled = self.conns.values().filter(|c| c.stalled).map(|c| c.fifo.len()).sum::<usize>();
        assert_eq!(self.stalled, stalled, "requests that wait for their own clients");
        assert!(self.throttled.len() <= 3 * self.conns.len() + 1, "{} throttled connections", self.throttled.len());
        self.throttler.check(self.conns.iter().filter(|(_, c)| c.arrivals.is_some()).map(|(conn, _)| conn));
        assert!(self.fresh.iter().is_sorted_by_key(|(since, _)| since), "new connections are out of order");
        for (session, conn) in &self.sessions {
            let is_its = |c: &Conn| c.session == *session || c.phase == Phase::Ended;
            assert!(self.conns.get(*conn).is_none_or(is_its), "{conn} has another session than {session}");
        }
        self.watches.check();
        let is_served = |c: &Conn| matches!(c.phase, Phase::Handshake | Phase::Open);
        assert!(!self.is_suspended() || !self.conns.values().any(is_served), "a client is served without a leader");
    }

    fn check_conn(&self, conn: ConnId, c: &Conn) {
        let reads = c.fifo.iter().filter(|p| matches!(p, conn::Pending::Read { .. })).count();
        assert_eq!(c.waiting_reads, reads, "reads of {conn} that wait");
        let syncs = c.fifo.iter().filter(|p| matches!(p, conn::Pending::Sync { .. })).count();
        assert_eq!(c.syncs, syncs, "syncs of {conn} that wait");
        let bytes = c.fifo.iter().map(conn::Pending::bytes).sum::<usize>();
        assert_eq!(c.fifo_bytes, bytes, "bytes of requests of {conn}");
        let replies = c.fifo.iter().map(conn::Pending::reply).sum::<usize>();
        assert_eq!(c.waiting_bytes, replies, "bytes that the reads of {conn} wait for");
        let is_in_session = matches!(c.phase, Phase::Open | Phase::Ended);
        assert!(is_in_session || c.session == SessionId::NONE, "{conn} in {:?} has a session", c.phase);
        assert!(is_in_session || c.fifo.is_empty(), "{conn} in {:?} has requests", c.phase);
        assert!(c.phase != Phase::Open || c.session != SessionId::NONE, "{conn} is served without a session");
        assert!(c.phase != Phase::Ended || c.input.is_empty(), "{conn} ends and has bytes to decode");
        assert!(!c.is_mute || c.phase == Phase::Ended, "{conn} is served and is not answered");
        assert!(!c.stalled || reads == c.fifo.len(), "{conn} has a write that waits for its client");
        assert!(!c.waits_large || self.large.contains(conn), "nobody calls the large write of {conn}");
        assert!(!c.deferred || self.ready.contains(&conn), "nobody goes on with {conn}");
        assert!(c.is_dirty || c.out.is_empty(), "{conn} has bytes to send that nobody was told of");
    }
}
