//! The end of a local session that its client closes. There is no transaction: the peer core says when everything that the session
//! sent before is answered. Mirrors the part of `FinalRequestProcessor` for closeSession.

use bytes::Bytes;

use super::conn::{Pending, Phase};
use super::{CloseHow, Outbox, Shard};
use crate::proto::reply::put_reply;
use crate::types::{ConnId, ErrorCode, Now, Op, Zxid};

impl Shard {
    /// The connection's closeSession is done. If reads stand before it, it is answered behind them, in this turn.
    pub(super) fn local_closed(&mut self, now: Now, conn: ConnId, zxid: Zxid, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        let is_close = |pending: &Pending| matches!(pending, Pending::Write { op: Op::CLOSE_SESSION, .. });
        let at = c.fifo.iter().position(is_close).unwrap_or_else(|| panic!("{conn} closes no session"));
        let Some(Pending::Write { xid, arrived_ns, bytes, .. }) = c.fifo.remove(at) else { unreachable!() };
        c.fifo_bytes -= bytes as usize;
        if at > 0 {
            let reads = c.fifo.iter().take(at).all(|pending| matches!(pending, Pending::Read { .. }));
            assert!(reads, "a session of {conn} ends before its writes");
            let (op, body) = (Op::CLOSE_SESSION, Bytes::new());
            let close = Pending::Read { xid, op, body, reply: 0, arrived_ns, throttled: false, large: None };
            c.fifo.insert(at, close);
            c.waiting_reads += 1;
            return;
        }
        self.outstanding -= 1;
        if c.phase == Phase::Ended {
            c.is_mute = true;
            return;
        }
        self.answer_close(now, conn, (xid, arrived_ns), zxid, out);
    }

    /// Answers a closeSession that has the number `xid` and arrived at `arrived_ns`.
    pub(super) fn answer_close(
        &mut self,
        now: Now,
        conn: ConnId,
        (xid, arrived_ns): (i32, u64),
        zxid: Zxid,
        out: &mut Outbox,
    ) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert!(c.last_zxid <= zxid, "a session of {conn} ends at {zxid} after an answer at {}", c.last_zxid);
        let before = c.out.len();
        put_reply(&mut c.out, xid, zxid, ErrorCode::Ok);
        let len = c.out.len() - before;
        let latency_us = now.mono_ns.saturating_sub(arrived_ns) / 1000;
        let latency_ms = (latency_us / 1000) as i64;
        c.last_zxid = zxid;
        c.replied(now, Op::CLOSE_SESSION, xid, latency_ms);
        self.stats.read_latency.record(latency_us);
        self.stats.replied(latency_ms, len);
        self.mark_dirty(conn, out);
        self.end(conn, CloseHow::Flush, out);
    }
}
