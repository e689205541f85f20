//! The leader's learners: how far each has come, and which are too late. Mirrors the state of `LearnerHandler`,
//! `SyncLimitCheck` and `LearnerSyncThrottler`.

use std::collections::BTreeMap;

use super::{DropReason, SyncKind};
use crate::types::{ConnId, ServerId, Zxid};

/// Connections that have not said who they are, at most. One more, and the oldest goes.
const MAX_UNKNOWN: usize = 64;

/// How far a learner has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has not said who it is.
    Unknown,
    /// It has introduced itself.
    Came,
    /// It was sent LEADERINFO.
    Told,
    /// It has answered that.
    Accepted,
    /// It is sent what it misses.
    Syncing,
    /// It was sent NEWLEADER.
    Sent,
    /// It has acknowledged that.
    Synced,
    /// It was sent UPTODATE.
    Follows,
}

/// One learner's connection. Times are half ticks.
#[derive(Debug, Clone)]
pub(super) struct Learner {
    pub(super) server: ServerId,
    pub(super) observer: bool,
    pub(super) stage: Stage,
    /// When it introduced itself.
    pub(super) since: i64,
    /// When it last showed that it lives.
    pub(super) heard: i64,
    /// The last zxid of its history when it came.
    pub(super) last: Zxid,
    /// What was proposed when it was sent NEWLEADER. What of that was committed then is never acknowledged by itself.
    pub(super) sent: Zxid,
    /// The newest proposal of this epoch that it has acknowledged.
    pub(super) acked: Zxid,
    /// When that last moved, or nothing was outstanding.
    pub(super) progress: i64,
    /// How it is brought up to date, while it is.
    pub(super) syncing: Option<SyncKind>,
}

/// All connections to the quorum port.
#[derive(Debug, Default)]
pub(super) struct Learners {
    conns: BTreeMap<ConnId, Learner>,
    /// How many learners without an id have come.
    nameless: i64,
}

impl Learners {
    pub(super) fn get(&self, conn: ConnId) -> Option<&Learner> {
        self.conns.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Learner> {
        self.conns.get_mut(&conn)
    }

    /// A new connection. Returns the oldest of those that have not said who they are, if there are too many.
    pub(super) fn connected(&mut self, conn: ConnId, now: i64) -> Option<ConnId> {
        let learner = Learner {
            server: ServerId(0),
            observer: false,
            stage: Stage::Unknown,
            since: now,
            heard: now,
            last: Zxid::NONE,
            sent: Zxid::ZERO,
            acked: Zxid::ZERO,
            progress: now,
            syncing: None,
        };
        let before = self.conns.insert(conn, learner);
        assert!(before.is_none(), "{conn:?} is there twice");
        let unknown = self.conns.iter().filter(|(_, learner)| learner.stage == Stage::Unknown);
        if unknown.clone().count() <= MAX_UNKNOWN {
            return None;
        }
        unknown.filter(|(known, _)| **known != conn).min_by_key(|(_, learner)| learner.since).map(|(conn, _)| *conn)
    }

    /// The learner says who it is.
    pub(super) fn introduce(&mut self, conn: ConnId, server: ServerId, observer: bool, now: i64) {
        assert!(self.of_server(server).is_none(), "{server:?} has two connections");
        self.advance(conn, Stage::Unknown, Stage::Came, now);
        if let Some(learner) = self.conns.get_mut(&conn) {
            (learner.server, learner.observer, learner.since) = (server, observer, now);
        }
    }

    /// The learner has accepted the epoch; its history ends at `last`.
    pub(super) fn accepted(&mut self, conn: ConnId, last: Zxid, now: i64) {
        self.advance(conn, Stage::Told, Stage::Accepted, now);
        if let Some(learner) = self.conns.get_mut(&conn) {
            learner.last = last;
        }
    }

    /// The learner comes to the next stage, which starts its time anew.
    pub(super) fn advance(&mut self, conn: ConnId, from: Stage, to: Stage, now: i64) {
        let learner = self.conns.get_mut(&conn).unwrap_or_else(|| panic!("{conn:?} becomes {to:?} and is not there"));
        assert!(learner.stage == from && from < to, "{conn:?} becomes {to:?}: {learner:?}");
        learner.stage = to;
        (learner.heard, learner.progress) = (now, now);
    }

    /// An id for a learner that has none.
    pub(super) fn next_nameless(&mut self) -> ServerId {
        self.nameless += 1;
        ServerId(-self.nameless)
    }

    /// The connection of a server.
    pub(super) fn of_server(&self, server: ServerId) -> Option<ConnId> {
        self.introduced().find(|(_, learner)| learner.server == server).map(|(conn, _)| conn)
    }

    /// Those that have said who they are.
    pub(super) fn introduced(&self) -> impl Iterator<Item = (ConnId, &Learner)> {
        let introduced = self.conns.iter().filter(|(_, learner)| learner.stage > Stage::Unknown);
        introduced.map(|(conn, learner)| (*conn, learner))
    }

    /// The connections that have come as far as `stage` and no further.
    pub(super) fn at(&self, stage: Stage) -> Vec<ConnId> {
        self.introduced().filter(|(_, learner)| learner.stage == stage).map(|(conn, _)| conn).collect()
    }

    /// How many others are brought up to date in this way.
    pub(super) fn syncing(&self, kind: SyncKind, but: ConnId) -> usize {
        self.introduced().filter(|(conn, learner)| *conn != but && learner.syncing == Some(kind)).count()
    }

    /// Those that have been given time enough, at half tick `now`. `init` and `sync` are the limits, in ticks.
    pub(super) fn late(&mut self, now: i64, proposed: Zxid, init: i64, sync: i64) -> Vec<(ConnId, DropReason)> {
        let mut late = Vec::new();
        for (conn, learner) in &mut self.conns {
            // Of the others nothing is expected: it is the leader's turn.
            let ticks = match learner.stage {
                Stage::Unknown | Stage::Told | Stage::Syncing | Stage::Sent => init,
                Stage::Follows => sync,
                Stage::Came | Stage::Accepted | Stage::Synced => continue,
            };
            assert!(learner.heard <= now && learner.progress <= now, "{conn:?} is heard in the future: {learner:?}");
            if now - learner.heard > 2 * ticks {
                late.push((*conn, DropReason::Silent { ticks }));
                continue;
            }
            let acked = learner.acked.max(learner.sent);
            if learner.observer || learner.stage != Stage::Follows || acked >= proposed {
                learner.progress = now;
            } else if now - learner.progress > 2 * sync {
                late.push((*conn, DropReason::NoAck { acked, proposed, ticks: sync }));
            }
        }
        late
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Learner> {
        self.conns.remove(&conn)
    }

    pub(super) fn clear(&mut self) {
        self.conns.clear();
    }

    /// Its invariants.
    pub(super) fn check(&self) {
        let unknown = self.conns.values().filter(|learner| learner.stage == Stage::Unknown).count();
        assert!(unknown <= MAX_UNKNOWN, "{unknown} connections have not said who they are");
        for (conn, learner) in self.introduced() {
            assert_eq!(self.of_server(learner.server), Some(conn), "{:?} has two connections", learner.server);
            let is_syncing = matches!(learner.stage, Stage::Syncing | Stage::Sent);
            assert!(is_syncing || learner.syncing.is_none(), "{conn:?} is brought up to date: {learner:?}");
            assert!(learner.stage >= Stage::Syncing || learner.acked == Zxid::ZERO, "{conn:?}: {learner:?}");
        }
    }
}
