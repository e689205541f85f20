//! Leader election: rounds of votes until a quorum votes for the same server. Mirrors
//! `FastLeaderElection.lookForLeader` and the part of its `WorkerReceiver` that answers. Connections are handled
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::notification::Notification;
use super::vote::{Held, ServerState, Vote};
use crate::quorum::{Member, Members, Role};
use crate::types::{Epoch, PEER_LOG, ServerId, Zxid};

/// The waiting times of an election, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Wait before the notifications are repeated for the first time (`zookeeper.fastleader.minNotificationInterval`);
    /// doubled at each repetition.
    pub min_interval_ms: i64,
    /// The longest wait between repetitions (`zookeeper.fastleader.maxNotificationInterval`).
    pub max_interval_ms: i64,
    /// Wait after the last message when a quorum was found, since a better vote may still arrive.
    pub finalize_ms: i64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { min_interval_ms: 200, max_interval_ms: 60_000, finalize_ms: 200 }
    }
}

/// The servers that take part in an election.
#[derive(Debug, Clone)]
pub struct Electorate {
    /// The configuration in force.
    pub members: Arc<Members>,
    /// A configuration that was proposed after it and may already be in force elsewhere: then quorums of both are
    /// needed.
    pub next: Option<Arc<Members>>,
}

impl Electorate {
    fn both(&self) -> impl Iterator<Item = &Members> {
        let next = self.next.as_ref().filter(|next| next.version() > self.members.version());
        std::iter::once(&self.members).chain(next).map(Arc::as_ref)
    }

    /// A server, as the configuration in force has it, or else the next one.
    pub fn member(&self, server: ServerId) -> Option<&Member> {
        self.all_of(server).next()
    }

    /// A server as each configuration has it, the one in force first.
    pub fn all_of(&self, server: ServerId) -> impl Iterator<Item = &Member> {
        let next = self.next.as_ref().and_then(|next| next.get(server));
        let members = self.members.get(server);
        members.into_iter().chain(next.filter(move |next| members != Some(next)))
    }

    /// Whether a server votes in one of the configurations. Messages of other servers do not count, and neither do
    /// votes for them.
    fn has_voter(&self, server: ServerId) -> bool {
        self.members.voters().contains(&server) || self.next.iter().any(|next| next.voters().contains(&server))
    }

    /// The voters of both configurations, to whom notifications are sent.
    fn voters(&self) -> Vec<ServerId> {
        let mut voters: Vec<_> = self.members.voters().iter().copied().collect();
        let next = self.next.iter().flat_map(|next| next.voters().iter().copied());
        voters.extend(next.filter(|server| !self.members.voters().contains(server)));
        voters
    }
}

/// Longest text of a configuration that is adopted from a notification, in bytes: a few thousand servers. Written again
/// with all its defaults it still fits into a notification.
const MAX_CONFIG: usize = 128 << 10;

/// What the election wants done.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Send this message, which includes its length, to a server. It replaces one that is still waiting to be sent
    /// there.
    Tell {
        /// The server.
        to: ServerId,
        /// The message.
        message: Bytes,
    },
    /// None of the messages could be sent: connect to every server for which one is waiting.
    Connect,
    /// The election is over. The state in the vote is what this server has become.
    Elected(Held),
    /// A voter is looking for a leader while this server leads.
    Looks(Looker),
    /// A sender has a newer configuration than the one in force. Adopt it and call [`Election::start`] again. If it
    /// cannot be parsed, pass the message to [`Election::heard`] again without its configuration.
    Adopt(String),
}

/// A voter that is looking for a leader although there is one.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Looker {
    /// The voter.
    pub server: ServerId,
    /// Its vote, which is for its own history or a newer one.
    pub vote: Vote,
    /// Whether its vote made this server the leader.
    pub supports: bool,
}

/// What a server enters an election with.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Participants vote; observers only look for the leader.
    pub role: Role,
    /// The last zxid in its log; -1 if it has no history and may not begin a new one.
    pub last: Zxid,
    /// The epoch of its history (`currentEpoch`).
    pub epoch: Epoch,
}

/// The votes of a round.
#[derive(Debug)]
struct Round {
    role: Role,
    /// What this server would vote for without the votes of others.
    own: Vote,
    proposal: Vote,
    /// The votes of this round, by server.
    received: BTreeMap<ServerId, Held>,
    /// The votes of servers that have a leader, by server, of any round.
    settled: BTreeMap<ServerId, Held>,
    /// A quorum votes for `proposal`, which is elected unless a better vote arrives before `wake_ms`.
    finalizing: bool,
    interval_ms: i64,
    wake_ms: i64,
    /// A server also receives its own votes, after those that arrived before.
    own_votes: VecDeque<Held>,
}

/// One server's part in all its elections.
#[derive(Debug)]
pub struct Election {
    me: ServerId,
    timing: Timing,
    electorate: Electorate,
    reconfig: bool,
    /// The number of the current or last election (Apache's logical clock).
    clock: i64,
    /// The next election is number 1.
    renumber: bool,
    /// The result of this server's last election, which it sends to others.
    current: Held,
    /// The servers whose votes decided the last election.
    supporters: BTreeSet<ServerId>,
    round: Option<Round>,
}

impl Election {
    /// The part of server `me`. `reconfig`: whether newer configurations of other servers are adopted
    /// (`reconfigEnabled`).
    pub fn new(me: ServerId, timing: Timing, electorate: Electorate, reconfig: bool) -> Election {
        assert!(timing.min_interval_ms > 0 && timing.finalize_ms > 0, "waits of {timing:?}");
        let vote = Vote { leader: me, ..Vote::NOBODY };
        let current = Held { vote, election_epoch: -1, state: ServerState::Looking, version: 0 };
        Election {
            me,
            timing,
            electorate,
            reconfig,
            clock: 0,
            renumber: false,
            current,
            supporters: BTreeSet::new(),
            round: None,
        }
    }

    /// The state of this server.
    pub fn state(&self) -> ServerState {
        if self.round.is_some() { ServerState::Looking } else { self.current.state }
    }

    /// The result of the last election.
    pub fn current(&self) -> Held {
        self.current
    }

    /// When [`Election::tick`] must be called, in milliseconds of the monotonic clock.
    pub fn deadline_ms(&self) -> Option<i64> {
        self.round.as_ref().map(|round| round.wake_ms)
    }

    /// Sets the configuration in force. A round that is in progress continues until [`Election::start`] is called. If
    /// more than the version changes, elections are numbered from 1 again, as on Apache.
    pub fn set_electorate(&mut self, electorate: Electorate) {
        if !electorate.members.is_same_but_for_version(&self.electorate.members) {
            self.renumber = true;
        }
        self.electorate = electorate;
        if self.round.is_none() {
            self.renumber();
        }
    }

    fn renumber(&mut self) {
        if std::mem::take(&mut self.renumber) {
            self.clock = 0;
        }
    }

    /// The leader is established: from now on votes carry its epoch, so that they agree with those of servers that come
    /// later.
    ///
    /// # Panics
    /// If this server is in the state looking.
    pub fn established(&mut self, epoch: Epoch) {
        assert!(self.round.is_none(), "{epoch:?} is established during an election");
        self.current.vote.peer_epoch = epoch;
    }

    /// Starts a new election.
    pub fn start(&mut self, now_ms: i64, candidate: Candidate, wants: &mut Vec<Want>) {
        let Candidate { role, last, epoch } = candidate;
        let votes = self.electorate.members.voters().contains(&self.me);
        let leader = if votes { self.me } else { Vote::NOBODY.leader };
        let own = match role {
            Role::Participant => Vote { leader, zxid: last, peer_epoch: epoch },
            Role::Observer => Vote { leader, ..Vote::NOBODY },
        };
        // Before its first election, and when an election is started again because of another configuration, others get
        // this server's own vote.
        if self.current.election_epoch < 0 || self.round.is_some() {
            self.current.vote = Vote { leader: self.me, zxid: last, peer_epoch: epoch };
        }
        self.renumber();
        self.clock = self.clock.saturating_add(1);
        assert!(self.clock > 0, "an election begins with the number {}", self.clock);
        let interval_ms = self.timing.min_interval_ms;
        self.round = Some(Round {
            role,
            own,
            proposal: own,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            finalizing: false,
            interval_ms,
            wake_ms: now_ms + interval_ms,
            own_votes: VecDeque::new(),
        });
        self.tell_all(wants);
        self.hear_own(now_ms, wants);
        self.check_in_debug_builds();
    }

    /// A notification from server `from`.
    pub fn heard(&mut self, now_ms: i64, from: ServerId, said: &Notification, wants: &mut Vec<Want>) {
        if self.round.is_some() && self.reconfig && said.config_version() > Some(self.electorate.members.version()) {
            match &said.config {
                Some(config) if config.len() <= MAX_CONFIG => return wants.push(Want::Adopt(config.clone())),
                _ => {
                    tracing::warn!(target: PEER_LOG, server = from.0, "a configuration that is too long is passed over")
                }
            }
        }
        let held = said.held;
        let asks = held.state == ServerState::Looking;
        if !self.electorate.has_voter(from) {
            // It does not vote, so its vote does not count. It only waits for an answer. One that is not looking needs none,
            // and an observer answers the votes of those who look: Apache's then answer each other without end.
            if asks {
                self.tell(from, self.current.vote, self.clock, wants);
            }
            return;
        }
        let Some(round) = &self.round else {
            if asks {
                if self.current.state == ServerState::Leading {
                    let supports = self.supporters.contains(&from);
                    wants.push(Want::Looks(Looker { server: from, vote: held.vote, supports }));
                }
                self.tell(from, self.current.vote, self.current.election_epoch, wants);
            }
            return;
        };
        // Only a vote that counts corrects others. Voters answer every message of a server that does not vote: Apache's
        // observers and voters repeat the correction and its answer as fast as the network is, until the voters' round ends.
        if asks && held.election_epoch < self.clock && self.electorate.has_voter(self.me) {
            let proposal = round.proposal;
            self.tell(from, proposal, self.clock, wants);
        }
        self.count(now_ms, from, held, wants);
        self.hear_own(now_ms, wants);
        self.check_in_debug_builds();
    }

    /// Time has passed. `delivered`: whether all messages for at least one server were sent.
    pub fn tick(&mut self, now_ms: i64, delivered: bool, wants: &mut Vec<Want>) {
        let Some(round) = self.round.as_mut().filter(|round| now_ms >= round.wake_ms) else { return };
        if round.finalizing {
            let vote = round.proposal;
            let held = Held { vote, election_epoch: self.clock, state: ServerState::Looking, version: 0 };
            self.supporters = supporters(&round.received, &held);
            return self.end(vote, self.clock, wants);
        }
        round.interval_ms = (round.interval_ms * 2).min(self.timing.max_interval_ms);
        round.wake_ms = now_ms + round.interval_ms;
        if delivered {
            self.tell_all(wants);
            self.hear_own(now_ms, wants);
        } else {
            wants.push(Want::Connect);
        }
        self.check_in_debug_builds();
    }

    /// Checks the invariants. Walks all votes.
    pub fn check(&self) {
        assert!(self.clock >= 0, "an election has the number {}", self.clock);
        let Some(round) = &self.round else {
            let is_first = self.current.election_epoch < 0;
            assert_eq!(self.current.state == ServerState::Looking, is_first, "{:?} outside an election", self.current);
            return;
        };
        assert!(self.clock > 0, "votes are counted of the election {}", self.clock);
        let is_of_round = |held: &Held| held.election_epoch == self.clock;
        assert!(round.received.values().all(is_of_round), "a vote of another election is counted in {}", self.clock);
        let is_settled = |held: &Held| matches!(held.state, ServerState::Following | ServerState::Leading);
        assert!(round.settled.values().all(is_settled), "a server that is still looking counts as settled");
        let has_next = round.proposal == round.own || round.proposal.zxid != Zxid::NONE;
        assert!(has_next, "{:?} is proposed, which is of a server without a history", round.proposal);
        assert!(round.interval_ms > 0, "an election repeats every {} ms", round.interval_ms);
    }

    /// The walk over all votes is too much for every message in a release build.
    fn check_in_debug_builds(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    fn hear_own(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        while let Some(held) = self.round.as_mut().and_then(|round| round.own_votes.pop_front()) {
            self.count(now_ms, self.me, held, wants);
        }
    }

    /// Counts a vote during a round.
    fn count(&mut self, now_ms: i64, from: ServerId, held: Held, wants: &mut Vec<Want>) {
        assert!(self.electorate.has_voter(from), "a vote of {from:?}, who does not vote, is counted");
        let can_lead = self.can_lead(held.vote.leader);
        let Some(round) = &mut self.round else { return };
        if round.finalizing {
            if !held.vote.beats(&round.proposal, can_lead) {
                // As long as notifications arrive, a better vote may follow.
                round.wake_ms = now_ms + self.timing.finalize_ms;
                return;
            }
            round.finalizing = false;
            round.wake_ms = now_ms + round.interval_ms;
        }
        // Elections have no negative numbers.
        if !self.electorate.has_voter(held.vote.leader) || held.election_epoch < 0 {
            return;
        }
        match held.state {
            ServerState::Looking => self.count_looking(now_ms, from, held, wants),
            ServerState::Observing => {}
            ServerState::Following | ServerState::Leading => self.count_settled(from, held, wants),
        }
    }

    fn count_looking(&mut self, now_ms: i64, from: ServerId, held: Held, wants: &mut Vec<Want>) {
        let can_lead = self.can_lead(held.vote.leader);
        let Some(round) = &mut self.round else { return };
        // A server without a history cannot compare votes, and its own vote does not count.
        if round.own.zxid == Zxid::NONE || held.vote.zxid == Zxid::NONE || held.election_epoch < self.clock {
            return;
        }
        if held.election_epoch > self.clock {
            self.clock = held.election_epoch;
            round.received.clear();
            round.proposal = if held.vote.beats(&round.own, can_lead) { held.vote } else { round.own };
            self.tell_all(wants);
        } else if held.vote.beats(&round.proposal, can_lead) {
            round.proposal = held.vote;
            self.tell_all(wants);
        }
        let Some(round) = &mut self.round else { return };
        assert_eq!(held.election_epoch, self.clock, "a vote of {from:?} is counted in another election");
        round.received.insert(from, Held { version: 0, ..held });
        let (vote, election_epoch) = (round.proposal, self.clock);
        let wanted = Held { vote, election_epoch, state: ServerState::Looking, version: 0 };
        if agreed(&self.electorate, &round.received, &wanted) {
            round.finalizing = true;
            round.wake_ms = now_ms + self.timing.finalize_ms;
        }
    }

    fn count_settled(&mut self, from: ServerId, held: Held, wants: &mut Vec<Want>) {
        assert!(held.state != ServerState::Looking, "{from:?} is looking and counts as settled");
        let Some(round) = &mut self.round else { return };
        let leader = held.vote.leader;
        let clock_fits = held.election_epoch == self.clock;
        // A leader must say so itself. Whether this server leads can only be known from the votes of this round.
        // Others may still follow what this server was before its directory was lost: without a history it cannot lead.
        let can_lead = clock_fits && round.own.zxid != Zxid::NONE;
        let leads = |votes: &BTreeMap<ServerId, Held>| match leader == self.me {
            true => can_lead,
            false => votes.get(&leader).is_some_and(|vote| vote.state == ServerState::Leading),
        };
        let decides = |votes: &BTreeMap<_, _>| agreed(&self.electorate, votes, &held) && leads(votes);
        let mut votes = &mut round.received;
        if clock_fits {
            votes.insert(from, Held { version: 0, ..held });
        }
        if !clock_fits || !decides(votes) {
            votes = &mut round.settled;
            votes.insert(from, held);
        }
        if decides(votes) {
            self.supporters = supporters(votes, &held);
            self.end(held.vote, held.election_epoch, wants);
        }
    }

    fn end(&mut self, vote: Vote, election_epoch: i64, wants: &mut Vec<Want>) {
        assert!(election_epoch >= 0, "the election {election_epoch} ends");
        let Some(round) = self.round.take() else { return };
        let state = match round.role {
            _ if vote.leader == self.me => ServerState::Leading,
            Role::Participant => ServerState::Following,
            Role::Observer => ServerState::Observing,
        };
        self.clock = election_epoch;
        self.current = Held { vote, election_epoch, state, version: 0 };
        wants.push(Want::Elected(self.current));
    }

    fn can_lead(&self, server: ServerId) -> bool {
        self.electorate.members.verifier().weight(server) != 0
    }

    fn tell_all(&mut self, wants: &mut Vec<Want>) {
        let Some(round) = &mut self.round else { return };
        let vote = round.proposal;
        let message = message(vote, self.clock, ServerState::Looking, &self.electorate);
        for to in self.electorate.voters() {
            if to == self.me {
                let held = Held { vote, election_epoch: self.clock, state: ServerState::Looking, version: 0 };
                round.own_votes.push_back(held);
            } else {
                wants.push(Want::Tell { to, message: message.clone() });
            }
        }
    }

    fn tell(&self, to: ServerId, vote: Vote, election_epoch: i64, wants: &mut Vec<Want>) {
        wants.push(Want::Tell { to, message: message(vote, election_epoch, self.state(), &self.electorate) });
    }
}

fn message(vote: Vote, election_epoch: i64, state: ServerState, electorate: &Electorate) -> Bytes {
    let mut out = Vec::new();
    Notification::put(&mut out, &vote, election_epoch, state, &electorate.members.text());
    out.into()
}

/// The servers that agree with `wanted`.
fn supporters(votes: &BTreeMap<ServerId, Held>, wanted: &Held) -> BTreeSet<ServerId> {
    votes.iter().filter(|(_, vote)| wanted.agrees(vote)).map(|(server, _)| *server).collect()
}

/// Whether the servers that agree with `wanted` are a quorum in every configuration that counts.
fn agreed(electorate: &Electorate, votes: &BTreeMap<ServerId, Held>, wanted: &Held) -> bool {
    let has = |server: ServerId| votes.get(&server).is_some_and(|vote| wanted.agrees(vote));
    electorate.both().all(|members| members.verifier().contains_quorum_by(has))
}
