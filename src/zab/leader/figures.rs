//! What a leader shows of its term and its learners. Mirrors the gauges of `LeaderZooKeeperServer`.

use super::learners::Stage;
use super::{Leader, Phase};
use crate::zab::state::{LeaderFigures, ObserverFigures, ZabState};

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
                let observer = ObserverFigures { conn, server: learner.server, came_with: learner.last };
                figures.observers.push(observer);
            } else {
                figures.synced_followers += 1;
                figures.synced_non_voting_followers += usize::from(!voters.contains(&learner.server));
            }
        }
        figures
    }
}
