//! Votes: which is better, which agree. Mirrors `Vote`, `FastLeaderElection.totalOrderPredicate`, `QuorumPeer.ServerState`.

use crate::types::{Epoch, ServerId, Zxid};

/// The state of a server. The numbers are those in notifications.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum ServerState {
    /// It takes part in an election.
    Looking = 0,
    /// It follows the leader it voted for.
    Following = 1,
    /// It leads.
    Leading = 2,
    /// It follows the leader but does not vote.
    Observing = 3,
}

impl ServerState {
    /// The state with this number.
    pub fn from_number(number: i32) -> Option<ServerState> {
        use ServerState::{Following, Leading, Looking, Observing};
        [Looking, Following, Leading, Observing].into_iter().find(|state| *state as i32 == number)
    }
}

/// A vote: the server that should lead, and the reason. The newest history wins, then the higher server id.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Vote {
    /// The candidate. `i64::MIN` is nobody: servers that do not vote send this.
    pub leader: ServerId,
    /// The last zxid of the candidate's log.
    pub zxid: Zxid,
    /// The epoch of the candidate's history; when a leader is established, the leader's epoch.
    pub peer_epoch: Epoch,
}

impl Vote {
    /// The vote that a server without a vote of its own sends: an observer.
    pub const NOBODY: Vote = Vote { leader: ServerId(i64::MIN), zxid: Zxid(i64::MIN), peer_epoch: Epoch(i64::MIN) };

    /// Whether this vote beats `other`: by higher epoch, then higher zxid, then higher server id. `can_lead` says
    /// whether this vote's candidate may be elected (its weight is not 0); if not, the vote beats none.
    pub fn beats(&self, other: &Vote, can_lead: bool) -> bool {
        can_lead && (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader)
    }
}

/// A vote together with its owner's election and state.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Held {
    /// The vote.
    pub vote: Vote,
    /// The number of the owner's election (its logical clock).
    pub election_epoch: i64,
    /// The owner's state.
    pub state: ServerState,
    /// The version of the notification that contained it; 0 for those before 3.5, which had no peer epoch after an
    /// election.
    pub version: i32,
}

impl Held {
    /// Whether two servers agree. If one of them is still looking, everything must be equal. If both have a leader,
    /// zxid and election no longer matter: only the leader and its epoch count, and the epoch only if neither is too
    /// old to send it.
    pub fn agrees(&self, other: &Held) -> bool {
        if self.state == ServerState::Looking || other.state == ServerState::Looking {
            return self.vote == other.vote && self.election_epoch == other.election_epoch;
        }
        let same_epoch = self.vote.peer_epoch == other.vote.peer_epoch;
        self.vote.leader == other.vote.leader && (same_epoch || (self.version > 0) != (other.version > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(leader: i64, zxid: i64, peer_epoch: i64) -> Vote {
        Vote { leader: ServerId(leader), zxid: Zxid(zxid), peer_epoch: Epoch(peer_epoch) }
    }

    fn held(vote: Vote, election_epoch: i64, state: ServerState, version: i32) -> Held {
        Held { vote, election_epoch, state, version }
    }

    #[test]
    fn epoch_then_zxid_then_id_decide() {
        let ascending = [Vote::NOBODY, vote(9, 0, 0), vote(1, 5, 0), vote(2, 5, 0), vote(1, 6, 0), vote(1, 1, 1)];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.beats(b, true), i > j, "{a:?} {b:?}");
                assert!(!a.beats(b, false));
            }
        }
    }

    #[test]
    fn votes_of_those_who_look_agree_in_everything() {
        let mine = held(vote(3, 7, 1), 2, ServerState::Looking, 2);
        assert!(mine.agrees(&Held { version: 0, ..mine }));
        assert!(mine.agrees(&Held { state: ServerState::Leading, ..mine }));
        assert!(!mine.agrees(&Held { election_epoch: 3, ..mine }));
        for other in [vote(2, 7, 1), vote(3, 6, 1), vote(3, 7, 0)] {
            assert!(!mine.agrees(&Held { vote: other, ..mine }));
        }
    }

    #[test]
    fn votes_of_those_who_settled_agree_in_leader_and_epoch() {
        let mine = held(vote(3, 7, 1), 2, ServerState::Following, 2);
        let other = |vote, version| held(vote, 9, ServerState::Leading, version);
        assert!(mine.agrees(&other(vote(3, 0, 1), 2)));
        assert!(!mine.agrees(&other(vote(3, 0, 2), 2)));
        assert!(!mine.agrees(&other(vote(2, 7, 1), 2)));
        // One of them sends no epoch.
        assert!(mine.agrees(&other(vote(3, 0, 2), 0)));
        assert!(!mine.agrees(&other(vote(2, 0, 2), 0)));
        let old = Held { version: 0, ..mine };
        assert!(!old.agrees(&other(vote(3, 0, 2), 0)));
    }

    #[test]
    fn states_have_the_numbers_of_the_wire() {
        for number in -1..5 {
            assert_eq!(ServerState::from_number(number).map(|s| s as i32), (0..4).contains(&number).then_some(number));
        }
    }
}
