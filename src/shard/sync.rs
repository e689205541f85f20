//! Syncs of the clients of a member of an ensemble: the peer core says when all is applied that their clients have to see. Until
//! then they keep their places in their sessions' order. Mirrors `FollowerRequestProcessor` and `CommitProcessor` (sync).

use bytes::Bytes;

use super::conn::{Conn, Pending, Phase};
use super::frames::HEADER_LEN;
use super::request_throttler::Late;
use super::{Outbox, Shard};
use crate::jute::Put;
use crate::pipeline::messages::{Service, ToPeer};
use crate::proto::reply::{put_reply, put_reply_header};
use crate::proto::request::{Request, RequestHeader};
use crate::types::{ConnId, ErrorCode, Now, Op, Zxid};

impl Shard {
    /// Whether there is somebody who may know more than this server.
    pub(super) fn syncs_by_peer(&self) -> bool {
        self.service == Some(Service::Ensemble)
    }

    pub(super) fn submit_sync(
        &mut self,
        now: Now,
        conn: ConnId,
        header: RequestHeader,
        body: &[u8],
        late: Late,
        out: &mut Outbox,
    ) {
        let Ok(large) = self.admit_large(conn, HEADER_LEN + body.len(), false, out) else { return };
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert_eq!(c.phase, Phase::Open, "{conn} syncs outside a session");
        assert!(
            !matches!(c.fifo.front(), Some(Pending::Read { .. })),
            "{conn} syncs before a read that is answered first"
        );
        c.syncs += 1;
        let (xid, arrived_ns) = (header.xid, late.arrived_ns(now));
        let pending = |body: &Bytes| Pending::Sync { xid, body: body.clone(), arrived_ns, large };
        out.to_peer.extend(self.pass_on(conn, header, body, pending).map(ToPeer::Sync));
    }

    /// The connection's oldest sync is done. If nothing stands before it, it is answered as of `zxid`: a write that stands behind
    /// it may be next on the stream. Otherwise it becomes one of the reads that stand there.
    pub(super) fn synced(&mut self, now: Now, conn: ConnId, zxid: Zxid, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let at = c.fifo.iter().position(|pending| matches!(pending, Pending::Sync { .. }));
        let at = at.unwrap_or_else(|| panic!("a sync of {conn} is done and none waits"));
        assert!(c.syncs > 0, "{conn} has a sync waiting and counts none");
        assert!(c.last_zxid <= zxid, "a sync of {conn} is done at {zxid} after an answer at {}", c.last_zxid);
        c.syncs -= 1;
        let Some(Pending::Sync { xid, body, arrived_ns, large }) = c.fifo.remove(at) else { unreachable!() };
        if at > 0 {
            assert!(
                c.fifo.iter().take(at).all(|p| matches!(p, Pending::Read { .. })),
                "a write of {conn} is passed by"
            );
            c.fifo.insert(at, Pending::Read { xid, op: Op::SYNC, body, reply: 0, arrived_ns, throttled: false, large });
            c.waiting_reads += 1;
            return;
        }
        c.fifo_bytes -= body.len();
        self.outstanding -= 1;
        if c.phase == Phase::Ended {
            // As with a write: see `write_answered`.
            c.is_mute = true;
            return;
        }
        let latency_us = now.mono_ns.saturating_sub(arrived_ns) / 1000;
        let latency_ms = (latency_us / 1000) as i64;
        let len = c.put_synced(xid, &body, zxid);
        c.last_zxid = zxid;
        c.last_reply = len;
        c.replied(now, Op::SYNC, xid, latency_ms);
        let timeout_ms = c.timeout_ms;
        self.count_stale_reply(latency_ms, timeout_ms);
        self.stats.read_latency.record(latency_us);
        self.stats.replied(latency_ms, len);
        self.ready.push(conn);
        self.mark_dirty(conn, out);
    }
}

impl Conn {
    /// Writes the reply to a sync; returns its length.
    fn put_synced(&mut self, xid: i32, body: &[u8], zxid: Zxid) -> usize {
        let start = self.out.len();
        if let Ok(Some(Request::Sync { path })) = Request::read(Op::SYNC, body) {
            let frame = self.out.begin_frame();
            put_reply_header(&mut self.out, xid, zxid, ErrorCode::Ok);
            self.out.put_buffer(path.as_ref().map(|path| path.as_bytes()));
            self.out.end_frame(frame);
        } else {
            put_reply(&mut self.out, xid, zxid, ErrorCode::MarshallingError);
        }
        self.out.len() - start
    }
}
