//! The handshake: how a connection gets its session. Mirrors `ZooKeeperServer.processConnectRequest`, `reopenSession`,
//! `finishSessionInit`.

use super::conn::Phase;
use super::{CloseHow, Outbox, Shard};
use crate::pipeline::messages::ToPeer;
use crate::proto::{ConnectRequest, ConnectResponse};
use crate::session::connection_throttle::Wanted;
use crate::session::passwd::passwd_matches;
use crate::tree::Tree;
use crate::types::{CLIENT_LOG, ConnId, Now, SessionId};

impl Shard {
    pub(super) fn connect(&mut self, now: Now, conn: ConnId, frame: &[u8], tree: &Tree, out: &mut Outbox) {
        let Ok(request) = ConnectRequest::read(frame) else {
            tracing::warn!(target: CLIENT_LOG, %conn, "closing: not a ZooKeeper handshake");
            self.stats.unsuccessful_handshakes += 1;
            self.end(conn, CloseHow::Flush, out);
            return;
        };
        let (shard, only_reads) = (self.options.id, self.only_reads());
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert_eq!(c.phase, Phase::Fresh, "{conn} shakes hands twice");
        assert_eq!(c.session, SessionId::NONE, "{conn} has a session before its handshake");
        assert!(c.fifo.is_empty(), "{conn} has requests before its handshake");
        c.received += 1;
        c.heard_ms = now.mono_ms;
        c.read_only = request.read_only;
        self.stats.since_reset.packets_received += 1;
        if let Some(throttle) = &self.options.throttles.connections {
            let wanted = match request.session {
                SessionId::NONE if self.options.throttles.local_sessions => Wanted::Local,
                SessionId::NONE => Wanted::Global,
                _ => Wanted::Renew,
            };
            let Some(deficit) = throttle.admit(now.mono_ms, wanted) else {
                tracing::warn!(target: CLIENT_LOG, peer = %c.peer, "closing: over the limit of the connection throttle");
                self.stats.connections_rejected += 1;
                self.end(conn, CloseHow::Flush, out);
                return;
            };
            self.stats.token_deficit.record(u64::try_from(deficit).unwrap_or(0));
        } else {
            self.stats.token_deficit.record(0);
        }
        self.stats.connection_requests += 1;
        if self.service.is_none() {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, "closing: this server has no leader, so it serves no clients");
            self.stats.unsuccessful_handshakes += 1;
            self.end(conn, CloseHow::Flush, out);
            return;
        }
        if only_reads && request.read_only != Some(true) {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, "closing: this server has no leader and is read-only, and the client is not");
            self.stats.unsuccessful_handshakes += 1;
            self.end(conn, CloseHow::Flush, out);
            return;
        }
        if request.last_zxid_seen > tree.last_zxid() {
            // If it were served, the client would see older data than it has already seen.
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %request.session, seen = %request.last_zxid_seen,
                ours = %tree.last_zxid(), "closing: the client has seen a later zxid than this server");
            self.stats.unsuccessful_handshakes += 1;
            self.end(conn, CloseHow::Flush, out);
            return;
        }
        let (least, most) = self.options.session_timeout_ms;
        assert!(least <= most, "sessions last {least} to {most} ms");
        let timeout_ms = request.timeout_ms.clamp(least, most);
        c.phase = Phase::Handshake;
        c.timeout_ms = timeout_ms;
        if request.session == SessionId::NONE {
            out.to_peer.push(ToPeer::NewSession { shard, conn, timeout_ms, auth: c.auth.clone() });
        } else {
            let passwd_matches = passwd_matches(request.session, &request.passwd);
            if !passwd_matches {
                tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %request.session, "refusing a session: wrong password");
            }
            self.stats.revalidations += 1;
            let session = request.session;
            out.to_peer.push(ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches });
        }
    }

    /// The session exists: requests that the client sent right after its handshake may be decoded now.
    pub(super) fn session_up(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32, out: &mut Outbox) {
        let only_reads = self.only_reads();
        let Some(c) = self.conns.get_mut(conn).filter(|c| c.phase == Phase::Handshake) else { return };
        assert!(session != SessionId::NONE, "{conn} gets no session, and is told so otherwise");
        assert!(c.fifo.is_empty(), "{conn} has requests before its session");
        assert!(c.out.is_empty() && !c.is_dirty, "{conn} was told something before its session");
        c.phase = Phase::Open;
        c.session = session;
        c.timeout_ms = timeout_ms;
        c.last_op = crate::types::Op::CREATE_SESSION;
        let read_only = c.read_only.map(|_| only_reads);
        ConnectResponse { timeout_ms, session, passwd: session.passwd(), read_only }.put(&mut c.out);
        c.sent += 1;
        self.stats.since_reset.packets_sent += 1;
        self.sessions.insert(session, conn);
        self.ready.push(conn);
        self.mark_dirty(conn, out);
    }

    /// Tells the client that its session does not exist any more, and closes the connection.
    pub(super) fn session_refused(&mut self, conn: ConnId, out: &mut Outbox) {
        let only_reads = self.only_reads();
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert!(matches!(c.phase, Phase::Handshake | Phase::Ended), "{conn} in {:?} is refused a session", c.phase);
        assert_eq!(c.session, SessionId::NONE, "{conn} is refused a session and has one");
        ConnectResponse::expired(c.read_only.map(|_| only_reads)).put(&mut c.out);
        c.sent += 1;
        self.stats.since_reset.packets_sent += 1;
        self.stats.unsuccessful_handshakes += 1;
        self.mark_dirty(conn, out);
        self.end(conn, CloseHow::Flush, out);
    }
}
