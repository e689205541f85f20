//! The statistics of a shard, for the four-letter words, the admin commands and the metrics. Mirrors `ServerStats` and
//! `ConnectionStats`.

use std::net::SocketAddr;

use super::Shard;
use super::conn::Phase;
use super::latency::Latency;
use crate::types::{ConnId, Distribution, Latencies, Namespaces, Op, SessionId, Zxid};
use crate::watch::Summary;

/// Counters since the start (`since_reset`: since `srst`).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ShardStats {
    pub since_reset: ResettableStats,
    pub connections_accepted: u64,
    pub sessionless_expired: u64,
    pub bytes_received: u64,
    pub response_bytes: u64,
    pub auth_failed: u64,
    pub revalidations: u64,
    pub read_latency: Latencies,
    pub update_latency: Latencies,
    pub ops: OpCounts,
    /// Watchers told, one record per event that had any; by event type.
    pub watch_events: [Distribution; 5],
    pub watch_bytes: u64,
    /// Bytes of paths, data and stats that were read, by namespace.
    pub reads: Namespaces,
    pub connection_requests: u64,
    /// Connections that the client ended without closing its session.
    pub connections_dropped: u64,
    pub large_requests_rejected: u64,
    pub unsuccessful_handshakes: u64,
    /// Handshakes refused by the connection throttle.
    pub connections_rejected: u64,
    /// Tokens missing after each handshake that was let in.
    pub token_deficit: Distribution,
    /// What part of handshakes is dropped at random now, over all shards.
    pub drop_probability: f64,
    /// Requests executed although they were stale.
    pub stale_requests: u64,
    pub stale_requests_dropped: u64,
    pub stale_replies: u64,
    /// How often requests started to wait for room in the pipeline, or continued to wait.
    pub throttle_waits: u64,
    pub throttle_queue: Latencies,
    pub throttled_ops: u64,
    pub ensemble_auth: EnsembleAuth,
}

/// Ensemble names that clients sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EnsembleAuth {
    pub success: u64,
    pub fail: u64,
    /// The client sent no name, or this server has none.
    pub skip: u64,
}

/// Requests by opcode.
#[derive(Clone, Debug)]
pub struct OpCounts([u64; 128]);

impl Default for OpCounts {
    fn default() -> OpCounts {
        OpCounts([0; 128])
    }
}

impl OpCounts {
    /// Opcodes range from -11 to 107; all other values share the last place.
    fn slot(op: Op) -> usize {
        usize::try_from(op.0.wrapping_add(16)).ok().filter(|i| *i < 127).unwrap_or(127)
    }

    /// Counts one request.
    #[inline]
    pub fn count(&mut self, op: Op) {
        self.0[Self::slot(op)] += 1;
    }

    /// How many there were.
    pub fn of(&self, op: Op) -> u64 {
        self.0[Self::slot(op)]
    }

    /// The number of all requests.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &OpCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
    }
}

/// The counters that `srst` sets to zero.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ResettableStats {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub latency: Latency,
    pub last_response_size: i64,
    pub min_response_size: i64,
    pub max_response_size: i64,
}

impl ResettableStats {
    /// Adds the counters of another shard. It is not known which of the two last replies was later; one of them is
    /// kept.
    pub fn merge(&mut self, other: &ResettableStats) {
        self.packets_received += other.packets_received;
        self.packets_sent += other.packets_sent;
        self.latency = self.latency.merge(&other.latency);
        if other.last_response_size != 0 {
            self.last_response_size = other.last_response_size;
        }
        self.max_response_size = self.max_response_size.max(other.max_response_size);
        self.min_response_size = match (self.min_response_size, other.min_response_size) {
            (0, m) | (m, 0) => m,
            (a, b) => a.min(b),
        };
    }
}

impl ShardStats {
    fn reset(&mut self, metrics: bool) {
        if metrics {
            let reads = self.reads.emptied();
            *self = ShardStats { auth_failed: self.auth_failed, reads, ..ShardStats::default() };
        } else {
            self.since_reset = ResettableStats::default();
        }
    }

    /// Adds the counters of another shard.
    pub fn merge(&mut self, other: &ShardStats) {
        self.since_reset.merge(&other.since_reset);
        self.read_latency.merge(&other.read_latency);
        self.update_latency.merge(&other.update_latency);
        self.ops.merge(&other.ops);
        self.reads.merge(&other.reads);
        for (mine, theirs) in self.watch_events.iter_mut().zip(&other.watch_events) {
            mine.merge(theirs);
        }
        self.token_deficit.merge(&other.token_deficit);
        self.throttle_queue.merge(&other.throttle_queue);
        self.drop_probability = self.drop_probability.max(other.drop_probability);
        let sums = [
            (&mut self.connections_accepted, other.connections_accepted),
            (&mut self.connection_requests, other.connection_requests),
            (&mut self.connections_dropped, other.connections_dropped),
            (&mut self.sessionless_expired, other.sessionless_expired),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.auth_failed, other.auth_failed),
            (&mut self.revalidations, other.revalidations),
            (&mut self.watch_bytes, other.watch_bytes),
            (&mut self.large_requests_rejected, other.large_requests_rejected),
            (&mut self.unsuccessful_handshakes, other.unsuccessful_handshakes),
            (&mut self.connections_rejected, other.connections_rejected),
            (&mut self.stale_requests, other.stale_requests),
            (&mut self.stale_requests_dropped, other.stale_requests_dropped),
            (&mut self.stale_replies, other.stale_replies),
            (&mut self.throttle_waits, other.throttle_waits),
            (&mut self.throttled_ops, other.throttled_ops),
            (&mut self.ensemble_auth.success, other.ensemble_auth.success),
            (&mut self.ensemble_auth.fail, other.ensemble_auth.fail),
            (&mut self.ensemble_auth.skip, other.ensemble_auth.skip),
        ];
        sums.into_iter().for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// One connection, as `cons` shows it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ConnStatus {
    pub peer: SocketAddr,
    /// Whether its socket is read.
    pub reading: bool,
    /// Requests taken and not answered yet.
    pub queued: usize,
    pub received: u64,
    pub sent: u64,
    /// The session; 0 before the handshake.
    pub session: SessionId,
    pub last_op: Op,
    /// Milliseconds since 1970.
    pub established_wall_ms: i64,
    pub timeout_ms: i32,
    pub last_cxid: i32,
    pub last_zxid: Zxid,
    /// Milliseconds on the monotonic clock.
    pub last_response_ms: i64,
    pub last_latency_ms: i64,
    pub latency: Latency,
    /// When bytes last arrived, in milliseconds of the monotonic clock.
    pub heard_ms: i64,
}

/// A piece of the list of all watches of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchPiece {
    /// (session, path), in no particular order.
    pub watches: Vec<(SessionId, String)>,
    /// Where the next piece begins; `None` after the last.
    pub next: Option<usize>,
}

/// The state of a shard.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ShardStatus {
    pub stats: ShardStats,
    pub outstanding: usize,
    pub connection_count: usize,
    /// Empty unless requested.
    pub connections: Vec<ConnStatus>,
    pub watch_count: usize,
    pub watch_summary: Summary,
}

impl Shard {
    /// The current state of this shard, with its connections if requested.
    pub fn status(&self, with_connections: bool) -> ShardStatus {
        let alive = || self.conns.iter().filter(|(_, c)| c.phase != Phase::Ended);
        let mut stats = self.stats.clone();
        // Nobody said how long they took: the simulator's turns take no time.
        stats.read_latency.record_n(0, self.reads_at_once);
        stats.drop_probability = self.options.throttles.connections.as_ref().map_or(0.0, |t| t.drop_probability());
        ShardStatus {
            stats,
            outstanding: self.outstanding,
            connection_count: alive().count(),
            connections: if with_connections { self.list_connections() } else { Vec::new() },
            watch_count: self.watches.watch_count(),
            watch_summary: self.watches.summary(),
        }
    }

    /// The connections in order of arrival.
    fn list_connections(&self) -> Vec<ConnStatus> {
        let mut connections: Vec<(ConnId, ConnStatus)> = self
            .conns
            .iter()
            .filter(|(_, c)| c.phase != Phase::Ended)
            .map(|(conn, c)| {
                let status = ConnStatus {
                    peer: c.peer,
                    reading: c.phase != Phase::Word && !c.paused,
                    queued: c.fifo.len(),
                    received: c.received,
                    sent: c.sent,
                    session: c.session,
                    last_op: c.last_op,
                    established_wall_ms: c.established_wall_ms,
                    timeout_ms: c.timeout_ms,
                    last_cxid: c.last_cxid,
                    last_zxid: c.last_zxid,
                    last_response_ms: c.last_response_ms,
                    last_latency_ms: c.last_latency_ms,
                    latency: c.latency,
                    heard_ms: c.heard_ms,
                };
                (conn, status)
            })
            .collect();
        connections.sort_by_key(|(conn, _)| *conn);
        connections.into_iter().map(|(_, s)| s).collect()
    }

    /// Whether reads wait for [`Self::measure_reads`].
    pub fn has_unmeasured_reads(&self) -> bool {
        self.reads_at_once > 0
    }

    /// Says how long the reads took that were answered in the turn that brought them: a turn does not see time pass.
    pub fn measure_reads(&mut self, us: u64) {
        self.stats.read_latency.record_n(us, std::mem::take(&mut self.reads_at_once));
    }

    /// `srst`; with `metrics` the counters that only metrics show begin again too.
    pub fn reset_stats(&mut self, metrics: bool) {
        self.stats.reset(metrics);
    }

    /// `crst`.
    pub fn reset_connection_stats(&mut self) {
        for c in self.conns.values_mut() {
            c.received = 0;
            c.sent = 0;
            c.last_op = Op::NOTIFICATION;
            c.last_cxid = -1;
            c.last_zxid = Zxid::NONE;
            c.last_response_ms = 0;
            c.last_latency_ms = 0;
            c.latency = Latency::default();
        }
    }
}

impl ShardStats {
    /// Counts a reply of `len` bytes, frame length included; `len` is 0 if a connection is closed without a reply. As
    /// in ZooKeeper the recorded sizes do not include the frame length.
    pub(super) fn replied(&mut self, latency_ms: i64, len: usize) {
        const FRAME_LENGTH: usize = 4;
        let s = &mut self.since_reset;
        s.latency.record(latency_ms);
        let Some(len) = len.checked_sub(FRAME_LENGTH) else { return };
        s.packets_sent += 1;
        self.response_bytes += len as u64;
        let len = len as i64;
        s.last_response_size = len;
        s.max_response_size = s.max_response_size.max(len);
        s.min_response_size = if s.min_response_size == 0 { len } else { s.min_response_size.min(len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_replies() {
        let mut a = ShardStats::default();
        [88, 20, 0, 2442].into_iter().for_each(|len| a.replied(3, len));
        let s = &a.since_reset;
        assert_eq!((s.last_response_size, s.min_response_size, s.max_response_size), (2438, 16, 2438));
        assert_eq!((s.packets_sent, s.latency.count, a.response_bytes), (3, 4, 84 + 16 + 2438));
        let mut b = ShardStats::default();
        (a.auth_failed, b.auth_failed) = (2, 3);
        b.merge(&a);
        b.merge(&ShardStats::default());
        assert_eq!((b.since_reset.last_response_size, b.since_reset.min_response_size), (2438, 16));
        assert_eq!(b.response_bytes, a.response_bytes);
        b.reset(false);
        assert_eq!((b.since_reset.packets_sent, b.response_bytes, b.auth_failed), (0, a.response_bytes, 5));
        b.reset(true);
        assert_eq!((b.response_bytes, b.auth_failed), (0, 5));
    }
}
