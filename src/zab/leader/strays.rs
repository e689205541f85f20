//! Voters that look for a leader while this server leads: those whose votes it rests on, and those that cannot follow it since
//! they have accepted a newer epoch.
//!
//! # Promised epochs
//!
//! A leader that was elected and has never been established leaves promises behind: some voters have accepted its epoch, and may
//! acknowledge nothing of an older one any more. If an established leader of an older epoch still has a quorum without them, they
//! find it in every election and can never follow it. On Apache `Learner.registerWithLeader` ends each of these attempts
//! ("Leaders epoch is less than accepted epoch") and `QuorumPeer.run` begins the next, until somebody else's failure causes an
//! election. Until then a follower is missing.
//!
//! Nobody can take a promise back, so only a newer epoch helps, which only an election may begin: this leader steps down once.
//! It does so for a voter that
//!
//! - has come for `syncLimit` ticks, and still comes. If a quorum were going over to the newer epoch, this leader would have
//!   lost its own by then. So the newer epoch was given up.
//! - says, by its votes, that its history is not newer than this leader's. In a sound ensemble it never is. It is when somebody
//!   has put an old state back on a majority of servers. Then that voter would win the election and undo what was written since;
//!   an administrator has to decide about that.
//!
//! One election is enough unless that voter comes late again and has accepted more than one epoch too many.

use std::collections::BTreeMap;

use super::{Leader, Phase, StepDownReason, Want};
use crate::types::{Epoch, ServerId};
use crate::zab::vote::Vote;

/// A voter that has accepted a newer epoch. Times are half ticks.
#[derive(Debug)]
struct Stray {
    /// When it was refused first.
    since: i64,
    /// When it was refused last.
    seen: i64,
    /// Whether its vote was for a history that this leader's has all of; `None` before it was heard to look.
    is_behind: Option<bool>,
}

/// The voters that cannot follow.
#[derive(Debug, Default)]
pub(super) struct Strays {
    voters: BTreeMap<ServerId, Stray>,
}

impl Leader {
    /// A server of the configuration looks for a leader and votes like this. `supports`: by its vote this server was elected.
    pub fn looks(&mut self, now_ms: i64, server: ServerId, vote: &Vote, supports: bool, wants: &mut Vec<Want>) {
        if self.phase == Phase::Discovery && supports {
            let waited_ms = now_ms - self.began_ms;
            if self.options.max_epoch_wait_ms.is_some_and(|most| waited_ms > most) {
                self.step_down(StepDownReason::SupporterLeft { server, waited_ms }, wants);
            }
            return;
        }
        let is_behind = vote.peer_epoch <= self.epoch && vote.zxid <= self.last_proposed;
        if let Some(stray) = self.strays.voters.get_mut(&server) {
            stray.is_behind = Some(is_behind);
        }
    }

    /// A server was refused because it has accepted `theirs`, which is newer than this leader's epoch.
    pub(super) fn strays(&mut self, server: ServerId, theirs: Epoch, wants: &mut Vec<Want>) {
        assert!(theirs > self.epoch, "{server:?} cannot follow in {:?} because of {theirs:?}", self.epoch);
        let members = self.quorums.current();
        if !members.voters().contains(&server) || members.verifier().weight(server) == 0 {
            return;
        }
        let (now, patience) = (self.half_ticks, 2 * self.options.sync_limit);
        let fresh = || Stray { since: now, seen: now, is_behind: None };
        let stray = self.strays.voters.entry(server).or_insert_with(fresh);
        assert!(stray.since <= stray.seen && stray.seen <= now, "{server:?} comes at {now}: {stray:?}");
        if now - stray.seen > patience {
            // It was gone meanwhile.
            *stray = fresh();
        }
        stray.seen = now;
        let comes_again = now - stray.since >= patience;
        if comes_again && stray.is_behind == Some(true) && self.phase == Phase::Broadcast {
            self.step_down(StepDownReason::NewerEpoch { server, theirs, ours: self.epoch }, wants);
        }
    }
}
