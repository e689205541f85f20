//! What a server shows of its part in ZAB. Mirrors `QuorumPeer.ZabState` and the counts of `Leader`.

use crate::types::{ConnId, ServerId, Zxid};

/// How far a server has come in its present epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZabState {
    /// It looks for a leader.
    Election,
    /// Leader and learners agree on an epoch.
    Discovery,
    /// Learners take over the leader's history.
    Synchronization,
    /// The leader is established.
    Broadcast,
}

impl ZabState {
    /// The word that ZooKeeper shows.
    pub fn word(self) -> &'static str {
        match self {
            ZabState::Election => "election",
            ZabState::Discovery => "discovery",
            ZabState::Synchronization => "synchronization",
            ZabState::Broadcast => "broadcast",
        }
    }
}

/// An observer that follows a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ObserverFigures {
    pub conn: ConnId,
    pub server: ServerId,
    /// The end of its history when it came.
    pub came_with: Zxid,
}

/// The learners of a leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderFigures {
    /// All connections of servers that have introduced themselves.
    pub learners: usize,
    /// Followers that were sent all of the history.
    pub synced_followers: usize,
    /// Those of them that have no vote.
    pub synced_non_voting_followers: usize,
    /// Observers that were sent all of the history.
    pub observers: Vec<ObserverFigures>,
    /// Sync requests that wait for a commit.
    pub pending_syncs: usize,
}
