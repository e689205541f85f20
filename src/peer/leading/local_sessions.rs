//! Local sessions of a leader's own clients. Mirrors `LeaderSessionTracker` and the part of `LeaderRequestProcessor` that makes
//! them global ones.

use bytes::Bytes;

use super::Leading;
use crate::peer::local_sessions::Needs;
use crate::peer::shared::{Shared, Step};
use crate::peer::{Outbox, close};
use crate::pipeline::messages::ToShard;
use crate::pipeline::prep::WriteRequest;
use crate::proto::Request;
use crate::types::{ConnId, Op, Origin, SessionId, ShardId, Zxid};

impl Leading {
    /// A new local session, if this ensemble has them. Returns whether it does.
    pub(super) fn new_local_session(
        &mut self,
        step: &mut Step<'_>,
        (shard, conn): (ShardId, ConnId),
        timeout_ms: i32,
    ) -> bool {
        let Some(sessions) = &mut step.shared.local_sessions else { return false };
        let session = self.tracker.new_id();
        assert!(!step.shared.sessions.contains(session), "the id of a new session, {session}, is in use");
        sessions.create(session, Origin::Local { shard, conn }, timeout_ms, step.now);
        step.out.to_shards.push((shard, ToShard::Resumed { conn, session: Some((session, timeout_ms)) }));
        true
    }

    /// Before a write of a local session. `false`: it is not to be proposed.
    pub(super) fn before_local_write(&mut self, step: &mut Step<'_>, request: &WriteRequest) -> bool {
        let WriteRequest { session, op, ref body, origin, .. } = *request;
        let Some(sessions) = step.shared.local_sessions.as_mut().filter(|sessions| sessions.has(session)) else {
            return true;
        };
        if sessions.is_closing(session) {
            return false;
        }
        if sessions.owner(session) != Some(origin) {
            close(origin, step.out);
            return false;
        }
        let Origin::Local { shard, conn } = origin else { panic!("{session} of this server's clients is {origin:?}") };
        if op == Op::CLOSE_SESSION {
            sessions.close(session, shard, conn);
            self.end_local_sessions(step.tree.last_zxid(), step.shared, step.out);
            return false;
        }
        // What cannot be decoded, and an ephemeral that the session may not have, are refused by prep.
        if let Ok(Some(decoded)) = Request::read(op, body)
            && let Needs::Upgrade { timeout_ms } = sessions.before_write(session, op, &decoded)
        {
            let is_new = self.tracker.insert(session, timeout_ms, step.now);
            assert!(is_new, "{session} was a local session and is tracked");
            self.tracker.set_owner(session, origin).expect("a new session is not closing");
            self.submit_own(step, session, Op::CREATE_SESSION, Bytes::copy_from_slice(&timeout_ms.to_be_bytes()));
        }
        true
    }

    /// A local session goes on on another connection. `None`: it is no local session of this server; `Some(false)`: it may not.
    pub(super) fn resume_local(
        &mut self,
        step: &mut Step<'_>,
        origin: Origin,
        session: SessionId,
        timeout_ms: i32,
        passwd_matches: bool,
    ) -> Option<bool> {
        let sessions = step.shared.local_sessions.as_mut().filter(|sessions| sessions.has(session))?;
        let before = sessions.owner(session).filter(|before| *before != origin);
        before.into_iter().for_each(|before| close(before, step.out));
        Some(passwd_matches && sessions.resume(session, origin, timeout_ms, step.now))
    }

    /// Ends the local sessions that wait only for their end.
    pub(in crate::peer) fn end_local_sessions(&self, applied: Zxid, shared: &mut Shared, out: &mut Outbox) {
        shared.end_local_sessions(applied, out, |shared, session, conn| {
            shared.is_syncing(conn) || shared.local.has(session)
        });
    }
}
