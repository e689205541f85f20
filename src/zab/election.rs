//! Leader election: rounds of votes until a quorum wants the same. Mirrors `FastLeaderElection.lookForLeader` and the
//! answering half of its `WorkerReceiver`. Which connection carries a message, and when one is made, is not decided here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::notification::Notification;
use super::vote::{Held, ServerState, Vote};
use crate::quorum::{Members, Role};
use crate::types::{Epoch, ServerId, Zxid};

/// How long an election waits, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before the first repetition (`zookeeper.fastleader.minNotificationInterval`); doubled at each.
    pub min_interval_ms: i64,
    /// The longest wait between repetitions (`zookeeper.fastleader.maxNotificationInterval`).
    pub max_interval_ms: i64,
    /// After a quorum was found, since the last message: a better vote may still come.
    pub finalize_ms: i64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { min_interval_ms: 200, max_interval_ms: 60_000, finalize_ms: 200 }
    }
}

/// Who takes part.
#[derive(Debug, Clone)]
pub struct Electorate {
    /// The configuration in force.
    pub members: Arc<Members>,
    /// One that was proposed after it and may already be in force elsewhere: quorums of both are needed.
    pub next: Option<Arc<Members>>,
}

impl Electorate {
    fn both(&self) -> impl Iterator<Item = &Members> {
        let next = self.next.as_ref().filter(|next| next.version() > self.members.version());
        std::iter::once(&self.members).chain(next).map(Arc::as_ref)
    }

    /// Whether a server votes in one of the configurations. Nobody else's message counts, and no vote for anybody else.
    fn has_voter(&self, server: ServerId) -> bool {
        self.members.voters().contains(&server) || self.next.iter().any(|next| next.voters().contains(&server))
    }

    /// The servers that are asked: voters of both configurations.
    fn voters(&self) -> Vec<ServerId> {
        let mut voters: Vec<_> = self.members.voters().iter().copied().collect();
        let next = self.next.iter().flat_map(|next| next.voters().iter().copied());
        voters.extend(next.filter(|server| !self.members.voters().contains(server)));
        voters
    }
}

/// What the election wants done.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Send this message, with its length in front, to a server. It replaces one that still waits to be sent there.
    Tell {
        /// The server.
        to: ServerId,
        /// The message.
        message: Bytes,
    },
    /// Nothing that was said has left: connect to every server that something waits for.
    Connect,
    /// The election is over. The vote's owner is this server; its state says what it has become.
    Elected(Held),
    /// A sender has a newer configuration than the one in force. Take it in and [`Election::start`] again; if it cannot be read, let
    /// [`Election::heard`] have the message once more, without its configuration.
    Adopt(String),
}

/// What a server brings into an election.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Participants vote; observers only want to know who leads.
    pub role: Role,
    /// The last zxid in its log, -1 if it has no history at all and may not make one up.
    pub last: Zxid,
    /// The epoch of that history (`currentEpoch`).
    pub epoch: Epoch,
}

/// The votes of a round.
#[derive(Debug)]
struct Round {
    role: Role,
    /// What this server would vote for without the others.
    own: Vote,
    proposal: Vote,
    /// Of this round, by server.
    received: BTreeMap<ServerId, Held>,
    /// Of servers that have a leader, by server, whatever round that was.
    settled: BTreeMap<ServerId, Held>,
    /// A quorum wants `proposal`: elected, unless a better vote comes before `wake_ms`.
    finalizing: bool,
    interval_ms: i64,
    wake_ms: i64,
    /// A server hears its own votes like those of others, behind what came before.
    own_votes: VecDeque<Held>,
}

/// One server's side of all elections of its life.
#[derive(Debug)]
pub struct Election {
    me: ServerId,
    timing: Timing,
    electorate: Electorate,
    reconfig: bool,
    /// The number of the running or last election.
    clock: i64,
    /// The outcome of the last election that ended here: what others are told.
    current: Held,
    round: Option<Round>,
}

impl Election {
    /// The side of server `me`. `reconfig`: whether configurations of others are taken in (`reconfigEnabled`).
    pub fn new(me: ServerId, timing: Timing, electorate: Electorate, reconfig: bool) -> Election {
        assert!(timing.min_interval_ms > 0 && timing.finalize_ms > 0, "waits of {timing:?}");
        let vote = Vote { leader: me, ..Vote::NOBODY };
        let current = Held { vote, election_epoch: -1, state: ServerState::Looking, version: 0 };
        Election { me, timing, electorate, reconfig, clock: 0, current, round: None }
    }

    /// What this server is doing.
    pub fn state(&self) -> ServerState {
        if self.round.is_some() { ServerState::Looking } else { self.current.state }
    }

    /// The outcome of the last election.
    pub fn current(&self) -> Held {
        self.current
    }

    /// When [`Election::tick`] wants to be called, on the monotonic clock.
    pub fn deadline_ms(&self) -> Option<i64> {
        self.round.as_ref().map(|round| round.wake_ms)
    }

    /// Puts a configuration in force. A running round goes on until [`Election::start`] is called.
    pub fn set_electorate(&mut self, electorate: Electorate) {
        self.electorate = electorate;
    }

    /// A leader is established: votes show its epoch from now on, so that they agree with those of servers that come later.
    ///
    /// # Panics
    /// While this server is looking.
    pub fn established(&mut self, epoch: Epoch) {
        assert!(self.round.is_none(), "{epoch:?} is established during an election");
        self.current.vote.peer_epoch = epoch;
    }

    /// Begins a new election.
    pub fn start(&mut self, now_ms: i64, candidate: Candidate, wants: &mut Vec<Want>) {
        let Candidate { role, last, epoch } = candidate;
        let votes = self.electorate.members.voters().contains(&self.me);
        let leader = if votes { self.me } else { Vote::NOBODY.leader };
        let own = match role {
            Role::Participant => Vote { leader, zxid: last, peer_epoch: epoch },
            Role::Observer => Vote { leader, ..Vote::NOBODY },
        };
        // Before its first election, and when one is begun again for another configuration, others are told its own vote.
        if self.current.election_epoch < 0 || self.round.is_some() {
            self.current.vote = Vote { leader: self.me, zxid: last, peer_epoch: epoch };
        }
        self.clock = self.clock.saturating_add(1);
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
    }

    /// Server `from` said this.
    pub fn heard(&mut self, now_ms: i64, from: ServerId, said: &Notification, wants: &mut Vec<Want>) {
        if self.round.is_some() && self.reconfig && said.config_version() > Some(self.electorate.members.version()) {
            wants.extend(said.config.clone().map(Want::Adopt));
            return;
        }
        let held = said.held;
        if !self.electorate.has_voter(from) {
            // Whatever it does: it waits for an answer and tells nothing that counts.
            let vote = self.current.vote;
            return self.tell(from, vote, self.clock, wants);
        }
        let asks = held.state == ServerState::Looking;
        let Some(round) = &self.round else {
            if asks {
                self.tell(from, self.current.vote, self.current.election_epoch, wants);
            }
            return;
        };
        if asks && held.election_epoch < self.clock {
            let proposal = round.proposal;
            self.tell(from, proposal, self.clock, wants);
        }
        self.count(now_ms, from, held, wants);
        self.hear_own(now_ms, wants);
    }

    /// Time has passed. `delivered`: whether to some server everything that was said has left.
    pub fn tick(&mut self, now_ms: i64, delivered: bool, wants: &mut Vec<Want>) {
        let Some(round) = self.round.as_mut().filter(|round| now_ms >= round.wake_ms) else { return };
        if round.finalizing {
            let vote = round.proposal;
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
    }

    fn hear_own(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        while let Some(held) = self.round.as_mut().and_then(|round| round.own_votes.pop_front()) {
            self.count(now_ms, self.me, held, wants);
        }
    }

    /// A vote of a server that counts, during a round.
    fn count(&mut self, now_ms: i64, from: ServerId, held: Held, wants: &mut Vec<Want>) {
        let can_lead = self.can_lead(held.vote.leader);
        let Some(round) = &mut self.round else { return };
        if round.finalizing {
            if !held.vote.beats(&round.proposal, can_lead) {
                // Whoever still talks may still say something better.
                round.wake_ms = now_ms + self.timing.finalize_ms;
                return;
            }
            round.finalizing = false;
        }
        round.wake_ms = now_ms + round.interval_ms;
        // No election has a negative number.
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
        // A server without a history cannot weigh votes, and its own weighs nothing.
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
        round.received.insert(from, Held { version: 0, ..held });
        let (vote, election_epoch) = (round.proposal, self.clock);
        let wanted = Held { vote, election_epoch, state: ServerState::Looking, version: 0 };
        if agreed(&self.electorate, &round.received, &wanted) {
            round.finalizing = true;
            round.wake_ms = now_ms + self.timing.finalize_ms;
        }
    }

    fn count_settled(&mut self, from: ServerId, held: Held, wants: &mut Vec<Want>) {
        let Some(round) = &mut self.round else { return };
        let leader = held.vote.leader;
        let clock_fits = held.election_epoch == self.clock;
        // A leader has to say so itself; of this server's own leadership only this round's voters can know.
        let leads = |votes: &BTreeMap<ServerId, Held>| match leader == self.me {
            true => clock_fits,
            false => votes.get(&leader).is_some_and(|vote| vote.state == ServerState::Leading),
        };
        let mut joins = false;
        if clock_fits {
            round.received.insert(from, Held { version: 0, ..held });
            joins = agreed(&self.electorate, &round.received, &held) && leads(&round.received);
        }
        if !joins {
            round.settled.insert(from, held);
            joins = agreed(&self.electorate, &round.settled, &held) && leads(&round.settled);
        }
        if joins {
            self.end(held.vote, held.election_epoch, wants);
        }
    }

    fn end(&mut self, vote: Vote, election_epoch: i64, wants: &mut Vec<Want>) {
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

/// Whether those who agree with `wanted` are a quorum of every configuration that counts.
fn agreed(electorate: &Electorate, votes: &BTreeMap<ServerId, Held>, wanted: &Held) -> bool {
    let has = |server: ServerId| votes.get(&server).is_some_and(|vote| wanted.agrees(vote));
    electorate.both().all(|members| members.verifier().contains_quorum_by(has))
}
