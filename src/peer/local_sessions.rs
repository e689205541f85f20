//! Local sessions (`localSessionsEnabled`): known to this server only, without transactions. A session becomes a global one,
//! which is a transaction, before its first ephemeral. Mirrors `LocalSessionTracker`, `UpgradeableSessionTracker` and
//! `QuorumZooKeeperServer.checkUpgradeSession`.
//!
//! They end with the role: whoever comes back then is told that its session has expired.

use super::Outbox;
use crate::pipeline::messages::ToShard;
use crate::pipeline::prep::Sessions;
use crate::proto::Request;
use crate::proto::multi::MultiOp;
use crate::session::tracker::{ExpiryPlace, SessionTracker};
use crate::types::{CLIENT_LOG, ConnId, CreateMode, Now, Op, Origin, ServerId, SessionId, ShardId, Zxid};

/// Settings of local sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSessionOptions {
    /// `localSessionsUpgradingEnabled`: whether a local session becomes a global one for its first ephemeral.
    pub upgrading: bool,
}

/// What a write means for the local session that sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// It is the write of a local session.
    Nothing,
    /// A global session, which it may not have: it is refused.
    Refusal,
    /// A global session: from now on it has one.
    Upgrade {
        /// The session's timeout.
        timeout_ms: i32,
    },
}

/// The local sessions of a member, while it has a leader or leads.
pub(super) struct LocalSessions {
    me: ServerId,
    options: LocalSessionOptions,
    tracker: SessionTracker,
    /// Their clients have closed them, and wait for the answers to what they sent before.
    closing: Vec<(SessionId, ShardId, ConnId)>,
}

impl LocalSessions {
    pub(super) fn new(options: LocalSessionOptions, me: ServerId, tick_ms: i32, now: Now) -> LocalSessions {
        LocalSessions { me, options, tracker: SessionTracker::new(me, now, tick_ms), closing: Vec::new() }
    }

    /// A new session, whose id was made by the role.
    pub(super) fn create(&mut self, session: SessionId, origin: Origin, timeout_ms: i32, now: Now) {
        assert!(self.tracker.insert(session, timeout_ms, now), "the id of a new session, {session}, is in use");
        self.tracker.set_owner(session, origin).expect("a new session is not closing");
    }

    /// Whether this is a local session, closing or not.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.tracker.is_known(session)
    }

    /// Whether another server has made this session.
    fn is_foreign(&self, session: SessionId) -> bool {
        (session.0 >> 56) as u8 != self.me.0 as u8
    }

    /// The connection of a session.
    pub(super) fn owner(&self, session: SessionId) -> Option<Origin> {
        self.tracker.owner(session)
    }

    /// Whether its client has closed it.
    pub(super) fn is_closing(&self, session: SessionId) -> bool {
        self.tracker.is_closing(session)
    }

    /// A client was heard from. Returns whether that is all that it means.
    pub(super) fn touch(&mut self, session: SessionId, heard_ms: i64) -> bool {
        self.tracker.touch(session, heard_ms) || self.has(session)
    }

    /// The session goes on on this connection. `false` if it is closing.
    pub(super) fn resume(&mut self, session: SessionId, origin: Origin, timeout_ms: i32, now: Now) -> bool {
        if self.tracker.set_owner(session, origin).is_err() {
            return false;
        }
        assert!(!self.tracker.insert(session, timeout_ms, now), "{session} is resumed and was not there");
        true
    }

    /// What this write needs. After [`Needs::Upgrade`] the session is not a local one any more.
    pub(super) fn before_write(&mut self, session: SessionId, op: Op, request: &Request<'_>) -> Needs {
        assert!(self.has(session), "{session} is no local session");
        if !creates_ephemeral(op, request) {
            return Needs::Nothing;
        }
        if !self.options.upgrading {
            return Needs::Refusal;
        }
        let timeout_ms = self.tracker.timeout_of(session).expect("it is tracked");
        tracing::info!(target: CLIENT_LOG, %session, "a local session becomes a global one");
        assert!(!self.is_closing(session), "{session} writes behind its end");
        assert!(timeout_ms > 0, "{session} lasts {timeout_ms} ms");
        self.tracker.remove(session);
        Needs::Upgrade { timeout_ms }
    }

    /// Its client closes it: later requests have no effect.
    pub(super) fn close(&mut self, session: SessionId, shard: ShardId, conn: ConnId) {
        assert!(self.has(session), "{session} is no local session, and ends as one");
        if self.tracker.mark_closing(session) {
            self.closing.push((session, shard, conn));
        }
    }

    /// Ends the sessions whose clients have closed them and do not wait for anything else.
    pub(super) fn end_closed(&mut self, waits: impl Fn(SessionId, ConnId) -> bool, applied: Zxid, out: &mut Outbox) {
        for (session, shard, conn) in self.closing.extract_if(.., |(session, _, conn)| !waits(*session, *conn)) {
            assert!(self.tracker.remove(session), "{session} ends twice");
            out.to_shards.push((shard, ToShard::Closed { conn, zxid: applied }));
        }
    }

    /// Ends the sessions that have expired. Returns them with the connections that are to be closed.
    pub(super) fn expire(&mut self, heard: Now) -> Vec<(SessionId, Option<Origin>)> {
        let expired = self.tracker.expire(heard);
        let end = |session: SessionId| {
            assert!(self.closing.iter().all(|(closing, ..)| *closing != session), "{session} expires and is closed");
            let owner = self.tracker.owner(session);
            self.tracker.remove(session);
            (session, owner)
        };
        expired.into_iter().map(end).collect()
    }

    /// When [`LocalSessions::expire`] is to be called, on the monotonic clock in milliseconds.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.tracker.deadline()
    }

    /// A piece of their list. See [`SessionTracker::list`].
    pub(super) fn list(&self, place: ExpiryPlace, most: usize) -> (Vec<(i64, SessionId)>, Option<ExpiryPlace>) {
        self.tracker.list(place, most)
    }

    pub(super) fn len(&self) -> usize {
        self.tracker.count()
    }

    /// The role is over, and their clients are disconnected.
    pub(super) fn clear(&mut self) {
        self.tracker.clear();
        self.closing.clear();
        assert_eq!(self.len(), 0, "local sessions outlive their role");
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        self.tracker.check();
        assert!(self.closing.len() <= self.len(), "more sessions wait for their end than there are");
        for (session, ..) in &self.closing {
            assert!(self.tracker.is_closing(*session), "{session} waits for its end and is open");
        }
    }
}

/// As Apache: only these requests make a session global, containers and TTL nodes never.
fn creates_ephemeral(op: Op, request: &Request<'_>) -> bool {
    let is_ephemeral = |flags| CreateMode::from_flag(flags).is_some_and(CreateMode::is_ephemeral);
    match request {
        Request::Create(create) => matches!(op, Op::CREATE | Op::CREATE2) && is_ephemeral(create.flags),
        Request::Multi(all) => all.iter().any(|sub| match sub {
            MultiOp::Create(op, create) => matches!(*op, Op::CREATE | Op::CREATE2) && is_ephemeral(create.flags),
            _ => false,
        }),
        _ => false,
    }
}

/// The sessions that may write at a leader: the ensemble's global ones, its own local ones, and those of other servers, of which
/// it does not know. Mirrors `LeaderSessionTracker.checkSession` and `checkGlobalSession`.
pub(super) struct LeaderSessions<'a> {
    pub(super) global: &'a SessionTracker,
    /// `None`: there are none in this ensemble.
    pub(super) local: Option<&'a LocalSessions>,
}

impl Sessions for LeaderSessions<'_> {
    fn is_known(&self, session: SessionId) -> bool {
        self.global.is_known(session) || self.local.is_some_and(|local| local.has(session) || local.is_foreign(session))
    }

    fn is_closing(&self, session: SessionId) -> bool {
        self.global.is_closing(session)
    }

    fn is_local(&self, session: SessionId) -> bool {
        self.local.is_some_and(|local| local.has(session))
    }

    fn is_global(&self, session: SessionId) -> bool {
        self.global.is_known(session)
    }
}
