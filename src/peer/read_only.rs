//! A server without a leader that lets clients read what it has (`readonlymode.enabled`), while the election goes on. Mirrors
//! `ReadOnlyZooKeeperServer` and the part of `QuorumPeer.run` that starts it.
//!
//! Its sessions are local ones, also where the ensemble has none (Apache serves nobody there), and end with it. Nothing that its
//! clients read is fresh, and its newest transactions may never have been committed.

use super::close;
use super::local_sessions::{LocalSessionOptions, LocalSessions};
use super::shared::{Shared, Step};
use crate::pipeline::messages::{Service, ToPeer, ToShard};
use crate::pipeline::prep::WriteRequest;
use crate::session::ids::SessionIds;
use crate::types::{CLIENT_LOG, ConnId, Op, Origin, SessionId, ShardId};

/// What only a read-only server has.
pub(super) struct ReadOnly {
    ids: SessionIds,
    /// There are local sessions only as long as this server is read-only.
    lends_sessions: bool,
}

impl ReadOnly {
    /// From now on clients may read.
    pub(super) fn begin(step: &mut Step<'_>) -> ReadOnly {
        let Step { now, tree, ref mut shared, ref mut out } = *step;
        assert!(shared.commits.len() == 0 && shared.commits.is_durable(), "reads of what is not applied");
        assert_eq!(shared.local.len(), 0, "requests of clients that are gone");
        tracing::warn!(last = %tree.last_zxid(), "no leader for some time: serving clients that only read");
        let (me, tick_ms) = (shared.options.me, shared.options.tick_ms);
        let mut ids = SessionIds::new(me, now);
        shared.sessions.iter().for_each(|(session, _)| ids.skip(session));
        let lends_sessions = shared.local_sessions.is_none();
        if lends_sessions {
            let options = LocalSessionOptions { upgrading: false };
            shared.local_sessions = Some(Box::new(LocalSessions::new(options, me, tick_ms, now)));
        }
        shared.serve(Service::ReadOnly, out);
        ReadOnly { ids, lends_sessions }
    }

    /// It has another role from now on. Its clients are disconnected already.
    pub(super) fn end(&self, shared: &mut Shared) {
        assert!(
            shared.local_sessions.as_ref().is_some_and(|sessions| sessions.len() == 0),
            "sessions outlive their role"
        );
        if self.lends_sessions {
            shared.local_sessions = None;
        }
    }

    /// A message of a shard.
    pub(super) fn hear_shard(&mut self, message: ToPeer, step: &mut Step<'_>) {
        match message {
            ToPeer::NewSession { shard, conn, timeout_ms, .. } => self.new_session(shard, conn, timeout_ms, step),
            ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches } => {
                let answer = match resume(session, Origin::Local { shard, conn }, (timeout_ms, passwd_matches), step) {
                    Some(goes_on) => ToShard::Resumed { conn, session: goes_on.then_some((session, timeout_ms)) },
                    None => ToShard::Close { conn },
                };
                step.out.to_shards.push((shard, answer));
            }
            ToPeer::Touch { session, heard_ms } => {
                // Of another session if its connection ended after the last role did.
                step.shared.touch_local(session, heard_ms);
            }
            ToPeer::Write { request, .. } => close_session(&request, step),
            ToPeer::Sync(request) => panic!("{request:?} of a shard that only reads"),
            ToPeer::Suspended { shard } => panic!("{shard:?} is suspended and served"),
        }
    }

    fn new_session(&mut self, shard: ShardId, conn: ConnId, timeout_ms: i32, step: &mut Step<'_>) {
        let sessions = sessions(step.shared);
        let session = loop {
            let session = self.ids.next_id();
            if !sessions.has(session) {
                break session;
            }
        };
        sessions.create(session, Origin::Local { shard, conn }, timeout_ms, step.now);
        step.out.to_shards.push((shard, ToShard::Resumed { conn, session: Some((session, timeout_ms)) }));
    }

    /// Time has passed.
    pub(super) fn tick(&self, step: &mut Step<'_>) {
        step.shared.expire_local_sessions(step.now, step.out);
    }

    /// Asserts the invariants.
    pub(super) fn check(&self, shared: &Shared) {
        assert!(shared.local_sessions.is_some(), "a read-only server without a place for its sessions");
        assert_eq!(shared.local.len(), 0, "writes of clients that only read");
        assert_eq!(shared.commits.len(), 0, "a read-only server has transactions to apply");
    }
}

fn sessions(shared: &mut Shared) -> &mut LocalSessions {
    shared.local_sessions.as_mut().expect("a read-only server has local sessions")
}

/// A client wants to go on with its session. `None`: it is a session of the ensemble, which cannot be asked; the client has to
/// find another server before its session expires. `Some(false)`: there is no such session.
fn resume(session: SessionId, origin: Origin, asked: (i32, bool), step: &mut Step<'_>) -> Option<bool> {
    let (timeout_ms, passwd_matches) = asked;
    if step.shared.sessions.contains(session) {
        tracing::info!(target: CLIENT_LOG, %session, "closing: the session of a client that reads and writes, and there is no leader");
        return None;
    }
    let sessions = sessions(step.shared);
    let before = sessions.owner(session).filter(|before| *before != origin);
    before.into_iter().for_each(|before| close(before, step.out));
    Some(passwd_matches && sessions.has(session) && sessions.resume(session, origin, timeout_ms, step.now))
}

/// The only write that a shard passes on. Everything that the session sent before is answered.
fn close_session(request: &WriteRequest, step: &mut Step<'_>) {
    let WriteRequest { session, op, origin, .. } = *request;
    assert_eq!(op, Op::CLOSE_SESSION, "{session} writes on a read-only server");
    let sessions = sessions(step.shared);
    if sessions.owner(session) != Some(origin) {
        return close(origin, step.out);
    }
    let Origin::Local { shard, conn } = origin else { panic!("{session} of this server's clients is {origin:?}") };
    sessions.close(session, shard, conn);
    step.shared.end_local_sessions(step.tree.last_zxid(), step.out, |_, _, _| false);
}
