//! What a leader shows of its term and its learners. Mirrors the gauges of `LeaderZooKeeperServer`.

use super::learners::Stage;
use super::want::SyncKind;
use super::{Leader, Phase};
use crate::types::ConnId;
use crate::zab::state::{LeaderFigures, ZabState};

impl Leader {
    /// How far the term has come.
    pub fn state(&self) -> ZabState {
        match self.phase {
            Phase::Discovery | Phase::SavingAccepted | Phase::Accepting => ZabState::Discovery,
            Phase::Synchronisation => ZabState::Synchronization,
            Phase::Broadcast => ZabState::Broadcast,
            Phase::Over => ZabState::Election,
        }
    }

    /// How a learner is brought up to date at this moment; `None` if it is not.
    pub fn sync_of(&self, conn: ConnId) -> Option<SyncKind> {
        self.learners.get(conn)?.syncing
    }

    /// How many learners are brought up to date in this way. Walks through all of them.
    pub fn syncs_in_progress(&self, kind: SyncKind) -> usize {
        self.learners.introduced().filter(|(_, learner)| learner.syncing == Some(kind)).count()
    }

    /// Its learners. Walks through all of them.
    pub fn figures(&self) -> LeaderFigures {
        let voters = self.quorums.current().voters();
        let mut figures = LeaderFigures { pending_syncs: self.syncs.len(), ..LeaderFigures::default() };
        for (conn, learner) in self.learners.introduced() {
            figures.learners += 1;
            if learner.stage < Stage::Sent {
                continue;
            }
            if learner.observer {
                figures.observers.push((conn, learner.server));
            } else {
                figures.synced_followers += 1;
                figures.synced_non_voting_followers += usize::from(!voters.contains(&learner.server));
            }
        }
        figures
    }
}
