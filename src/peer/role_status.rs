//! What a server is in its ensemble, as words, admin commands and metrics show it. Mirrors `QuorumPeer.getServerState` and
//! `getDetailedPeerState`, and the gauges of `LeaderZooKeeperServer`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Peer, Role};
use crate::quorum::{self, Members};
use crate::types::{Distribution, Now, ServerId, Zxid};
use crate::zab::state::{LeaderFigures, Traffic, ZabState};

/// What a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It has no ensemble.
    Standalone,
    /// A member without a leader.
    Looking,
    /// A member that leads, or will if a quorum follows.
    Leader,
    /// A member that votes and follows, or will.
    Follower,
    /// A member that does not vote.
    Observer,
    /// A member without a leader that lets clients read.
    ReadOnly,
}

impl Mode {
    /// The word in `Mode:` and `server_state`.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Looking => "looking",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        }
    }

    /// The word in `peer_state`.
    fn state(self) -> &'static str {
        match self {
            Mode::Standalone | Mode::Leader => "leading",
            Mode::Looking | Mode::ReadOnly => "looking",
            Mode::Follower => "following",
            Mode::Observer => "observing",
        }
    }
}

/// The elections and terms of a member since its start, and what it took to join leaders.
#[derive(Clone, Debug, Default)]
pub struct ElectionStats {
    /// How often this server began to look for a leader.
    pub looked: u64,
    /// Milliseconds from the begin of an election to its end. An observer does not measure them.
    pub election_ms: Distribution,
    /// Milliseconds that this server needed as a learner from the end of an election until it served.
    pub sync_ms: Distribution,
    /// Milliseconds without service, from the end of a role to the begin of the next.
    pub unavailable_ms: Distribution,
    /// Those of them that ended with this server as the leader.
    pub leader_unavailable_ms: Distribution,
    /// The begin of the election that is not over, or of the last one, in monotonic milliseconds.
    pub(super) began_ms: i64,
    /// The end of the last election.
    pub(super) ended_ms: i64,
    /// When this server began to look for a leader and did not serve; `None` while it serves.
    pub(super) stopped_ms: Option<i64>,
}

impl ElectionStats {
    /// `srst`.
    pub(super) fn reset_counts(&mut self) {
        let ElectionStats { began_ms, ended_ms, stopped_ms, .. } = *self;
        *self = ElectionStats { began_ms, ended_ms, stopped_ms, ..ElectionStats::default() };
    }

    /// An election begins: this server does not serve.
    pub(super) fn looks(&mut self, now: Now) {
        assert!(self.began_ms <= self.ended_ms, "an election begins before the last one is over");
        self.stopped_ms.get_or_insert(now.mono_ms);
        self.looked += 1;
        self.began_ms = now.mono_ms;
    }

    /// The election is over.
    pub(super) fn elected(&mut self, now: Now, votes: bool) {
        assert!(self.began_ms <= now.mono_ms, "an election ends before it began");
        self.ended_ms = now.mono_ms;
        if votes {
            self.election_ms.record((now.mono_ms - self.began_ms).max(0) as u64);
        }
    }

    /// The role serves from now on.
    pub(super) fn serves(&mut self, now: Now, learns: bool) {
        assert!(self.ended_ms <= now.mono_ms, "a role serves before it was elected for");
        if let Some(stopped_ms) = self.stopped_ms.take() {
            assert!(stopped_ms <= now.mono_ms, "service begins before it ended");
            let unavailable_ms = (now.mono_ms - stopped_ms).max(0) as u64;
            self.unavailable_ms.record(unavailable_ms);
            if learns {
                self.sync_ms.record((now.mono_ms - self.ended_ms).max(0) as u64);
            } else {
                self.leader_unavailable_ms.record(unavailable_ms);
            }
        }
    }
}

/// An observer that follows this leader. Mirrors `LearnerHandler.getLearnerHandlerInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverStatus {
    /// Its id.
    pub server: ServerId,
    /// From where it has connected.
    pub from: SocketAddr,
    /// When it has, in milliseconds since 1970.
    pub since_wall_ms: i64,
    /// Packets that were written for it and have not left.
    pub queued_packets: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// What went over the connection.
    pub traffic: Traffic,
}

/// What a leader shows besides.
#[derive(Clone, Debug, PartialEq)]
pub struct LeadingStatus {
    /// When it was elected, in monotonic milliseconds.
    pub since_ms: i64,
    /// Its learners.
    pub learners: LeaderFigures,
    /// The observers among them.
    pub observers: Vec<ObserverStatus>,
    /// Bytes of the last, smallest and largest proposal since `srst`; `None` before the first.
    pub proposal_sizes: Option<(u64, u64, u64)>,
}

/// What a server is in its ensemble.
#[derive(Clone, Debug)]
pub struct RoleStatus {
    /// The id of this server.
    pub me: ServerId,
    /// What it is.
    pub mode: Mode,
    /// How far it has come with its leader.
    pub zab: ZabState,
    /// Whether it serves at all. If not, most questions of administrators are not answered.
    pub is_running: bool,
    /// Whether its clients are served.
    pub serves_clients: bool,
    /// The leader, if it has one.
    pub leader: Option<ServerId>,
    /// The configuration in force; `None`: a standalone server.
    pub members: Option<Arc<Members>>,
    /// Only of a leader with an ensemble.
    pub leading: Option<LeadingStatus>,
    /// Its elections.
    pub elections: ElectionStats,
}

impl RoleStatus {
    /// A server without an ensemble.
    pub fn standalone(me: ServerId) -> RoleStatus {
        RoleStatus {
            me,
            mode: Mode::Standalone,
            zab: ZabState::Broadcast,
            is_running: true,
            serves_clients: true,
            leader: None,
            members: None,
            leading: None,
            elections: ElectionStats::default(),
        }
    }

    /// `peer_state`: what it is and how far it has come.
    pub fn peer_state(&self) -> String {
        match self.zab {
            ZabState::Election => self.mode.state().to_owned(),
            zab => format!("{} - {}", self.mode.state(), zab.word()),
        }
    }

    /// Whether this server is one of the voters.
    pub fn votes(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.voters().contains(&self.me))
    }
}

impl Peer {
    /// The zeroth zxid of the epoch that this server leads: a leader shows it before the first transaction. -1 without one.
    pub(super) fn epoch_begin(&self) -> Zxid {
        match &self.role {
            Role::Leading(leading) if self.ensemble.is_some() && leading.state() == ZabState::Broadcast => {
                Zxid::new(leading.epoch(), 0)
            }
            _ => Zxid::NONE,
        }
    }

    /// What this server is now.
    pub(super) fn role_status(&self) -> RoleStatus {
        let me = self.shared.options.me;
        let Some(ensemble) = &self.ensemble else { return RoleStatus::standalone(me) };
        let none = RoleStatus {
            members: Some(ensemble.members()),
            elections: ensemble.elections.clone(),
            ..RoleStatus::standalone(me)
        };
        let role = match &self.role {
            Role::Looking(_) => RoleStatus {
                mode: Mode::Looking,
                zab: ZabState::Election,
                is_running: false,
                serves_clients: false,
                ..none
            },
            Role::ReadOnly(_) => RoleStatus { mode: Mode::ReadOnly, zab: ZabState::Election, ..none },
            Role::Learning(learning) => RoleStatus {
                mode: match ensemble.role() {
                    quorum::Role::Participant => Mode::Follower,
                    quorum::Role::Observer => Mode::Observer,
                },
                zab: learning.state(),
                is_running: learning.is_serving(),
                serves_clients: learning.is_serving(),
                leader: Some(learning.leader()),
                ..none
            },
            Role::Leading(leading) => {
                let learners = leading.figures();
                let observers = leading.observers(&learners);
                assert_eq!(observers.len(), learners.observers.len(), "an observer without a connection");
                RoleStatus {
                    mode: Mode::Leader,
                    zab: leading.state(),
                    is_running: leading.state() == ZabState::Broadcast,
                    serves_clients: leading.state() == ZabState::Broadcast && ensemble.leader_serves(),
                    leader: Some(me),
                    leading: Some(LeadingStatus {
                        since_ms: ensemble.elections.ended_ms,
                        observers,
                        learners,
                        proposal_sizes: self.shared.stats.proposal_sizes(),
                    }),
                    ..none
                }
            }
        };
        assert!(role.is_running || !role.serves_clients, "clients are served by a server that does not run");
        assert!(
            (role.leader == Some(me)) == (role.mode == Mode::Leader),
            "{:?} with the leader {:?}",
            role.mode,
            role.leader
        );
        role
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: i64) -> Now {
        Now { mono_ms, ..Now::default() }
    }

    #[test]
    fn the_state_in_words() {
        let alone = RoleStatus::standalone(ServerId(1));
        assert!(!alone.votes() && alone.is_running);
        for (mode, zab, word, state) in [
            (Mode::Leader, ZabState::Discovery, "leader", "leading - discovery"),
            (Mode::Leader, ZabState::Broadcast, "leader", "leading - broadcast"),
            (Mode::Follower, ZabState::Synchronization, "follower", "following - synchronization"),
            (Mode::Observer, ZabState::Broadcast, "observer", "observing - broadcast"),
            (Mode::Looking, ZabState::Election, "looking", "looking"),
            (Mode::ReadOnly, ZabState::Election, "read-only", "looking"),
        ] {
            let role = RoleStatus { mode, zab, ..alone.clone() };
            assert_eq!((role.mode.word(), role.peer_state().as_str()), (word, state));
        }
    }

    #[test]
    fn elections_are_timed() {
        let mut stats = ElectionStats::default();
        stats.looks(at(100));
        stats.elected(at(300), true);
        stats.looks(at(410));
        stats.elected(at(420), true);
        stats.serves(at(450), true);
        stats.serves(at(999), true);
        let sums = |d: &Distribution| (d.tally().count, d.tally().sum);
        assert_eq!((stats.looked, sums(&stats.election_ms)), (2, (2, 210)));
        assert_eq!(
            (sums(&stats.sync_ms), sums(&stats.unavailable_ms)),
            ((1, 30), (1, 350)),
            "unavailable all the time"
        );
        assert_eq!(sums(&stats.leader_unavailable_ms), (0, 0));
        stats.looks(at(1000));
        stats.elected(at(1003), false);
        stats.serves(at(1007), false);
        assert_eq!((sums(&stats.sync_ms), sums(&stats.unavailable_ms)), ((1, 30), (2, 357)));
        assert_eq!((sums(&stats.leader_unavailable_ms), sums(&stats.election_ms)), ((1, 7), (2, 210)));
    }
}
