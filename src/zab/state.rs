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

/// What went over a learner's connection since it came, or since these counts were reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Packets for the learner. The pieces of a snapshot are none.
    pub sent: u64,
    /// Packets from it since it was sent UPTODATE.
    pub received: u64,
    /// Requests of its clients among them.
    pub requests: u64,
    /// The last zxid that it was sent; -1 before the first.
    pub last_zxid: Zxid,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic { sent: 0, received: 0, requests: 0, last_zxid: Zxid::NONE }
    }
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
    pub observers: Vec<(ConnId, ServerId)>,
    /// Sync requests that wait for a commit.
    pub pending_syncs: usize,
}
