//! Authentication packets, which the shard answers itself. Mirrors `ZooKeeperServer.processPacket` (auth, sasl) and
//! `AuthenticationHelper`.

use std::sync::Arc;

use super::{CloseHow, Outbox, Shard};
use crate::auth::AuthFailed;
use crate::jute::{Put, Reader};
use crate::proto::reply::{put_reply, put_reply_header};
use crate::proto::request::{Request, RequestHeader};
use crate::types::acl::host_address;
use crate::types::{CLIENT_LOG, ConnId, ErrorCode, Id, Now, Op, Zxid};

impl Shard {
    pub(super) fn auth_packet(&mut self, now: Now, conn: ConnId, header: RequestHeader, body: &[u8], out: &mut Outbox) {
        let Some(c) = self.conns.get(conn) else { return };
        let ip = host_address(c.peer.ip());
        let ids = match Request::read(Op::AUTH, body) {
            Ok(Some(Request::Auth { scheme, auth, .. })) => {
                let ids = self.options.auth.handle_auth_packet(&scheme, auth, &ip);
                if scheme == "ensemble" {
                    self.count_ensemble_auth(auth.unwrap_or_default(), &ids);
                }
                ids
            }
            _ => {
                // In Java the invalid record causes an exception without a reply: the connection is closed.
                self.end(conn, CloseHow::Flush, out);
                return;
            }
        };
        let Some(c) = self.conns.get_mut(conn) else { return };
        match ids {
            Ok(new) => {
                assert!(c.auth.last().is_some_and(|id| id.scheme == "ip"), "{conn} has lost its address");
                // The address stays last, which is how Java's set happens to be ordered.
                let mut all: Vec<Id> = c.auth.to_vec();
                let at = all.len() - 1;
                all.splice(at..at, new.into_iter().filter(|id| !c.auth.contains(id)));
                assert!(all.len() >= c.auth.len(), "{conn} has lost an identity");
                c.auth = Arc::from(all);
                put_reply(&mut c.out, header.xid, Zxid::ZERO, ErrorCode::Ok);
                c.replied(now, header.op, header.xid, 0);
                self.stats.replied(0, 20);
                self.mark_dirty(conn, out);
            }
            Err(AuthFailed::WrongEnsemble) => {
                // No reply, so that the client tries another server.
                tracing::warn!(target: CLIENT_LOG, peer = %c.peer, "closing: the client looks for another ensemble");
                self.end(conn, CloseHow::Flush, out);
            }
            Err(reason) => {
                tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, %reason, "authentication failed");
                put_reply(&mut c.out, header.xid, Zxid::ZERO, ErrorCode::AuthFailed);
                self.stats.auth_failed += 1;
                self.stats.replied(0, 20);
                self.mark_dirty(conn, out);
                self.end(conn, CloseHow::Flush, out);
            }
        }
    }

    fn count_ensemble_auth(&mut self, name: &[u8], outcome: &Result<Vec<Id>, AuthFailed>) {
        let counts = &mut self.stats.ensemble_auth;
        match outcome {
            Err(AuthFailed::WrongEnsemble) => counts.fail += 1,
            // This server does not have the scheme: nothing is counted.
            Err(AuthFailed::Refused) => {}
            Ok(_) if name.is_empty() || self.options.auth.ensemble.as_ref().is_none_or(Vec::is_empty) => {
                counts.skip += 1
            }
            Ok(_) => counts.success += 1,
        }
    }

    /// Without SASL support, a token is answered by a null token.
    pub(super) fn sasl_packet(&mut self, now: Now, conn: ConnId, header: RequestHeader, body: &[u8], out: &mut Outbox) {
        if Reader::new(body).buffer().is_err() {
            self.end(conn, CloseHow::Flush, out);
            return;
        }
        let Some(c) = self.conns.get_mut(conn) else { return };
        let frame = c.out.begin_frame();
        put_reply_header(&mut c.out, header.xid, Zxid::ZERO, ErrorCode::Ok);
        c.out.put_buffer(None);
        c.out.end_frame(frame);
        c.replied(now, header.op, header.xid, 0);
        self.stats.replied(0, 24);
        self.mark_dirty(conn, out);
    }

    /// `enforce.auth`: whether the connection has authenticated as required, so that it may send other requests.
    pub(super) fn is_authenticated_enough(&self, conn: ConnId) -> bool {
        let schemes = &self.options.enforced_schemes;
        schemes.is_empty() || self.conns.get(conn).is_some_and(|c| c.auth.iter().any(|id| schemes.contains(&id.scheme)))
    }

    pub(super) fn refuse_unauthenticated(&mut self, conn: ConnId, header: RequestHeader, out: &mut Outbox) {
        let Some(c) = self.conns.get_mut(conn) else { return };
        assert!(!self.options.enforced_schemes.is_empty(), "{conn} is refused though no scheme is enforced");
        tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, "closing: enforce.auth.schemes is not satisfied");
        put_reply(&mut c.out, header.xid, Zxid::ZERO, ErrorCode::SessionClosedRequireSaslAuth);
        self.stats.replied(0, 20);
        self.mark_dirty(conn, out);
        self.end(conn, CloseHow::Flush, out);
    }
}
