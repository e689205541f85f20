//! Elections: what counts, who is answered, and many simulated ones. `walks` has those recorded from Apache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zabra::quorum::{Member, Members, Role};
use zabra::types::{Epoch, ServerId, Zxid};
use zabra::zab::election::{Candidate, Election, Electorate, Looker, Timing, Want};
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{Held, ServerState, Vote};

/// The members of `server.N=` lines.
pub fn electorate<'a>(lines: impl IntoIterator<Item = &'a str>) -> Electorate {
    let members: BTreeMap<_, _> = lines
        .into_iter()
        .filter_map(|line| {
            let (id, member) = line.strip_prefix("server.")?.split_once('=')?;
            Some((ServerId(id.parse().ok()?), Member::parse(member).expect("a member")))
        })
        .collect();
    Electorate { members: Arc::new(Members::majority(members, Zxid::ZERO).expect("members")), next: None }
}

pub fn read(message: &[u8]) -> Notification {
    let (body, taken) = notification::split(message).expect("a length").expect("a whole message");
    assert_eq!(taken, message.len());
    Notification::read(body).expect("a notification")
}

/// One of our servers.
struct Stand {
    election: Election,
    wants: Vec<Want>,
    told: BTreeMap<ServerId, BTreeSet<Vec<u8>>>,
    elected: Vec<Held>,
    /// Who looks while it leads, for whom they vote with which zxid, and whether they had elected it.
    lookers: Vec<(i64, i64, i64, bool)>,
}

impl Stand {
    fn new(me: ServerId, electorate: Electorate) -> Stand {
        let election = Election::new(me, Timing::default(), electorate, false);
        Stand { election, wants: Vec::new(), told: BTreeMap::new(), elected: Vec::new(), lookers: Vec::new() }
    }

    fn settle(&mut self) {
        for want in self.wants.drain(..) {
            match want {
                Want::Tell { to, message } => _ = self.told.entry(to).or_default().insert(message.to_vec()),
                Want::Elected(held) => self.elected.push(held),
                Want::Looks(Looker { server, vote, supports }) => {
                    self.lookers.push((server.0, vote.leader.0, vote.zxid.0, supports));
                }
                Want::Connect => {}
                Want::Adopt(text) => panic!("adopts {text}"),
            }
        }
    }

    fn until(&mut self, now_ms: i64) {
        while let Some(at) = self.election.deadline_ms().filter(|at| *at <= now_ms) {
            self.election.tick(at, true, &mut self.wants);
            self.settle();
        }
    }
}

/// How a server answers questions after the election, depending on who asks.
#[test]
fn who_asks_is_answered_as_its_kind_is() {
    let lines = ["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2", "server.4=d:1:2:observer"];
    let mut stand = Stand::new(ServerId(2), electorate(lines));
    let candidate = Candidate { role: Role::Participant, last: Zxid(7), epoch: Epoch(1) };
    stand.election.start(0, candidate, &mut stand.wants);
    stand.settle();
    let own = stand.told[&ServerId(1)].first().cloned().expect("told");
    // A voter of an older round is corrected; one of the same round is only counted.
    let mut late = read(&own);
    late.held.election_epoch = 0;
    let ask = |stand: &mut Stand, from, said: &Notification| {
        stand.told.clear();
        stand.election.heard(10, ServerId(from), said, &mut stand.wants);
        stand.settle();
        stand.told.get(&ServerId(from)).map(|told| read(told.first().expect("one")).held)
    };
    let proposal = ask(&mut stand, 3, &late).expect("an answer");
    assert_eq!(
        (proposal.vote, proposal.election_epoch, proposal.state),
        (read(&own).held.vote, 1, ServerState::Looking)
    );
    // An observer and an unknown server get the last result, here still the own vote.
    for from in [4, 9] {
        let answer = ask(&mut stand, from, &late).expect("an answer");
        assert_eq!((answer.vote.leader, answer.election_epoch, answer.state), (ServerId(2), 1, ServerState::Looking));
    }
    assert_eq!(ask(&mut stand, 1, &read(&own)), None);
    stand.until(1000);
    assert_eq!(stand.elected.len(), 1);
    stand.election.established(Epoch(2));
    // Now every server that looks is told who leads, and no other.
    let answer = ask(&mut stand, 1, &late).expect("an answer");
    assert_eq!((answer.state, answer.vote.peer_epoch, answer.vote.zxid), (ServerState::Leading, Epoch(2), Zxid(7)));
    let mut follows = late.clone();
    follows.held.state = ServerState::Following;
    assert_eq!(ask(&mut stand, 1, &follows), None);
    assert_eq!(ask(&mut stand, 4, &follows), None);
    assert!(ask(&mut stand, 4, &late).is_some());
}

/// Server 2, which receives votes of the others.
struct Two(Stand);

impl Two {
    fn new(last: Zxid) -> Two {
        Two::among(3, last)
    }

    fn among(servers: usize, last: Zxid) -> Two {
        let lines = ["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2", "server.4=d:1:2", "server.5=e:1:2"];
        let mut stand = Stand::new(ServerId(2), electorate(lines.into_iter().take(servers)));
        let candidate = Candidate { role: Role::Participant, last, epoch: Epoch(0) };
        stand.election.start(0, candidate, &mut stand.wants);
        stand.settle();
        Two(stand)
    }

    fn hears(&mut self, now_ms: i64, from: i64, state: ServerState, leader: i64, zxid: i64, election_epoch: i64) {
        let vote = Vote { leader: ServerId(leader), zxid: Zxid(zxid), peer_epoch: Epoch(0) };
        let said = Notification { held: Held { vote, election_epoch, state, version: 2 }, config: None };
        self.0.until(now_ms);
        self.0.election.heard(now_ms, ServerId(from), &said, &mut self.0.wants);
        self.0.settle();
    }

    fn elected(&self) -> Option<(i64, i64)> {
        self.0.elected.first().map(|held| (held.vote.leader.0, held.election_epoch))
    }
}

#[test]
fn a_leader_has_to_say_that_it_leads() {
    let mut two = Two::new(Zxid(0));
    // Servers that followed 3 send notifications; 3 itself is dead or has not learned of its election.
    two.hears(1, 1, ServerState::Following, 3, 0, 7);
    two.hears(2, 3, ServerState::Following, 3, 0, 7);
    assert_eq!(two.elected(), None);
    two.hears(3, 3, ServerState::Leading, 3, 0, 7);
    assert_eq!((two.elected(), two.0.election.state()), (Some((3, 7)), ServerState::Following));
    // Others cannot make this server the leader of an election that it does not know of.
    let mut two = Two::new(Zxid(0));
    two.hears(1, 1, ServerState::Following, 2, 0, 7);
    two.hears(2, 3, ServerState::Following, 2, 0, 7);
    assert_eq!(two.elected(), None);
}

#[test]
fn the_end_waits_for_votes_that_may_be_better() {
    let mut two = Two::new(Zxid(5));
    two.hears(1, 1, ServerState::Looking, 2, 5, 1);
    two.0.until(200);
    assert_eq!(two.elected(), None, "a quorum, and 200 ms are not over");
    // Not better: the wait starts again.
    two.hears(200, 1, ServerState::Looking, 1, 4, 1);
    two.0.until(399);
    assert_eq!(two.elected(), None);
    // Better: it takes a quorum for that one.
    two.hears(399, 3, ServerState::Looking, 3, 6, 1);
    two.0.until(10_000);
    assert_eq!(two.elected(), Some((3, 1)), "3's own vote and this server's");
}

/// Who sends a worse vote again and again may have missed this server's. On Apache every notification puts off the next one of its
/// receiver, so a server whose clock is a little faster can keep the others silent.
#[test]
fn the_votes_of_others_do_not_put_off_the_own_one() {
    let mut two = Two::new(Zxid(5));
    two.0.told.clear();
    (1..=5).for_each(|at| two.hears(100 * at, 1, ServerState::Looking, 1, 4, 1));
    assert!(!two.0.told.is_empty(), "nothing is said for 500 ms, with 200 ms between the own notifications");
}

#[test]
fn what_does_not_count_changes_nothing() {
    for (from, leader, zxid, election_epoch) in [(1, 9, 9, 1), (1, 3, -1, 1), (1, 3, 9, 0), (1, 3, 9, -5), (9, 3, 9, 1)]
    {
        let mut two = Two::new(Zxid(5));
        two.hears(1, from, ServerState::Looking, leader, zxid, election_epoch);
        two.hears(2, 1, ServerState::Looking, 2, 5, 1);
        two.0.until(1000);
        assert_eq!(two.elected(), Some((2, 1)), "{from} {leader} {zxid} {election_epoch}");
    }
    // Observers do not decide who leads.
    let mut two = Two::new(Zxid(5));
    two.hears(1, 1, ServerState::Observing, 3, 9, 1);
    two.hears(2, 3, ServerState::Observing, 3, 9, 1);
    assert_eq!(two.elected(), None);
    // A newer round begins with the own vote, whatever vote was better before.
    let mut two = Two::among(5, Zxid(5));
    two.hears(1, 3, ServerState::Looking, 3, 9, 1);
    two.hears(2, 1, ServerState::Looking, 1, 4, 4);
    two.hears(3, 1, ServerState::Looking, 2, 5, 4);
    two.hears(4, 4, ServerState::Looking, 2, 5, 4);
    two.0.until(1000);
    assert_eq!(two.elected(), Some((2, 4)));
    // A server without a history does not vote.
    let mut two = Two::new(Zxid::NONE);
    two.hears(1, 3, ServerState::Looking, 3, 9, 1);
    two.hears(2, 1, ServerState::Looking, 3, 9, 1);
    two.0.until(10_000);
    assert_eq!(two.elected(), None);
    two.hears(10_001, 1, ServerState::Following, 3, 9, 1);
    two.hears(10_002, 3, ServerState::Leading, 3, 9, 1);
    assert_eq!(two.elected(), Some((3, 1)));
    // Nor does it lead those who still follow what it was before it lost its history.
    let mut two = Two::new(Zxid::NONE);
    two.hears(1, 1, ServerState::Following, 2, 9, 1);
    two.hears(2, 3, ServerState::Following, 2, 9, 1);
    assert_eq!(two.elected(), None);
}

#[test]
fn a_leader_learns_who_looks_for_one() {
    let mut two = Two::among(5, Zxid(5));
    two.hears(1, 1, ServerState::Looking, 2, 5, 1);
    two.hears(2, 4, ServerState::Looking, 4, 1, 1);
    two.hears(3, 3, ServerState::Looking, 2, 5, 1);
    two.0.until(1000);
    assert_eq!((two.elected(), two.0.election.state()), (Some((2, 1)), ServerState::Leading));
    // 4 voted for another one, 5 not at all, and 3 says that it follows.
    two.hears(1001, 4, ServerState::Looking, 4, 1, 2);
    two.hears(1002, 5, ServerState::Looking, 5, 1, 1);
    two.hears(1003, 3, ServerState::Following, 2, 5, 1);
    assert_eq!(two.0.lookers, [(4, 4, 1, false), (5, 5, 1, false)]);
    two.hears(1004, 1, ServerState::Looking, 1, 4, 2);
    assert_eq!(two.0.lookers[2..], [(1, 1, 4, true)]);
    // A follower needs not know.
    let mut two = Two::new(Zxid(5));
    two.hears(1, 3, ServerState::Looking, 3, 9, 1);
    two.hears(2, 1, ServerState::Looking, 3, 9, 1);
    two.0.until(1000);
    assert_eq!(two.elected(), Some((3, 1)));
    two.hears(1001, 1, ServerState::Looking, 1, 4, 2);
    assert_eq!(two.0.lookers, []);
}

#[test]
fn a_newer_configuration_is_taken_in_first() {
    let members = electorate(["server.1=a:1:2", "server.2=b:1:2"]);
    let mut election = Election::new(ServerId(2), Timing::default(), members, true);
    let mut wants = Vec::new();
    election.start(0, Candidate { role: Role::Participant, last: Zxid(0), epoch: Epoch(0) }, &mut wants);
    wants.clear();
    let vote = Vote { leader: ServerId(1), zxid: Zxid(9), peer_epoch: Epoch(0) };
    let held = Held { vote, election_epoch: 1, state: ServerState::Looking, version: 2 };
    let text = "server.1=a:1:2:participant\nversion=100000000";
    let said = Notification { held, config: Some(text.to_owned()) };
    election.heard(1, ServerId(1), &said, &mut wants);
    assert_eq!(wants, [Want::Adopt(text.to_owned())]);
    // The configuration could not be parsed: the vote counts all the same.
    wants.clear();
    election.heard(1, ServerId(1), &Notification { config: None, ..said }, &mut wants);
    let Some(Want::Tell { to: ServerId(1), message }) = wants.first() else { panic!("{wants:?}") };
    assert_eq!(read(message).held.vote, vote);
}

/// An observer whose round is ahead, and a voter that answers its every message: they must not do so for ever.
#[test]
fn an_observer_corrects_no_voter_and_is_not_answered_when_it_has_a_leader() {
    let lines = ["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2", "server.4=d:1:2:observer"];
    let mut observer = Stand::new(ServerId(4), electorate(lines));
    let candidate = Candidate { role: Role::Observer, last: Zxid(0), epoch: Epoch(0) };
    for _ in 0..3 {
        observer.election.start(0, candidate, &mut observer.wants);
        observer.settle();
    }
    observer.told.clear();
    let mut two = Two::new(Zxid(5));
    let answer = read(two.0.told[&ServerId(1)].first().expect("told"));
    observer.election.heard(1, ServerId(2), &answer, &mut observer.wants);
    observer.settle();
    assert!(observer.told.is_empty(), "{:?}", observer.told);
    two.0.told.clear();
    two.hears(1, 4, ServerState::Observing, 3, 0, 2);
    assert!(two.0.told.is_empty(), "{:?}", two.0.told);
}

#[test]
fn elections_are_numbered_anew_after_another_configuration() {
    let mut stand = Stand::new(ServerId(2), electorate(["server.1=a:1:2", "server.2=b:1:2"]));
    let candidate = Candidate { role: Role::Participant, last: Zxid(0), epoch: Epoch(0) };
    let round = |stand: &mut Stand| {
        stand.told.clear();
        stand.election.start(0, candidate, &mut stand.wants);
        stand.settle();
        read(stand.told[&ServerId(1)].first().expect("told")).held.election_epoch
    };
    assert_eq!((round(&mut stand), round(&mut stand)), (1, 2));
    // Only the version is new.
    let members = (*electorate(["server.1=a:1:2", "server.2=b:1:2"]).members).clone().with_version(Zxid(9));
    stand.election.set_electorate(Electorate { members: members.into(), next: None });
    assert_eq!(round(&mut stand), 3);
    stand.election.set_electorate(electorate(["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2"]));
    assert_eq!((round(&mut stand), round(&mut stand)), (1, 2));
}

/// Many servers, with slow links that are sometimes cut.
struct World {
    rng: fastrand::Rng,
    now_ms: i64,
    electorate: Electorate,
    servers: BTreeMap<ServerId, Server>,
    /// The newest message from one server to another, and when it arrives.
    links: BTreeMap<(ServerId, ServerId), (i64, Vec<u8>)>,
    cut_until_ms: BTreeMap<(ServerId, ServerId), i64>,
}

struct Server {
    election: Election,
    candidate: Candidate,
    /// The time since when it has been following or leading.
    since_ms: i64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = *rng.choice(&[1i64, 2, 3, 3, 4, 5, 7]).expect("one");
        let lines: Vec<String> = (1..=count).map(|id| format!("server.{id}=h{id}:1:2")).collect();
        let electorate = electorate(lines.iter().map(String::as_str));
        World {
            rng,
            now_ms: 0,
            electorate,
            servers: BTreeMap::new(),
            links: BTreeMap::new(),
            cut_until_ms: BTreeMap::new(),
        }
    }

    fn boot(&mut self, id: ServerId) {
        let epoch = Epoch(self.rng.i64(0..3));
        let candidate = Candidate { role: Role::Participant, last: Zxid::new(epoch, self.rng.u32(0..4)), epoch };
        let election = Election::new(id, Timing::default(), self.electorate.clone(), true);
        self.servers.insert(id, Server { election, candidate, since_ms: 0 });
        self.look(id);
    }

    fn look(&mut self, id: ServerId) {
        let mut wants = Vec::new();
        let server = self.servers.get_mut(&id).expect("it runs");
        server.election.start(self.now_ms, server.candidate, &mut wants);
        self.carry(id, wants);
    }

    fn carry(&mut self, from: ServerId, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Tell { to, message } => {
                    let slow = self.rng.u8(0..8) == 0;
                    let at = self.now_ms + self.rng.i64(0..if slow { 400 } else { 5 });
                    let cut = self.cut_until_ms.get(&(from, to)).copied().unwrap_or(0);
                    self.links.insert((from, to), (at.max(cut), message.to_vec()));
                }
                Want::Elected(_) => self.servers.get_mut(&from).expect("it runs").since_ms = self.now_ms,
                Want::Connect | Want::Looks(_) => {}
                Want::Adopt(text) => panic!("{from:?} adopts {text}"),
            }
        }
    }

    /// A leader without a quorum of followers, and a follower whose leader does not lead, give up after a while, as in
    /// ZooKeeper's discovery phase.
    fn give_up(&mut self) {
        let follows = |server: &Server| server.election.current().vote.leader;
        let settled = |server: &Server| server.election.state() != ServerState::Looking;
        let waits: Vec<_> = self
            .servers
            .iter()
            .filter(|(id, server)| {
                if !settled(server) || self.now_ms < server.since_ms + 1000 {
                    return false;
                }
                let leader = follows(server);
                let behind = |id: ServerId| self.servers.get(&id).is_some_and(|s| settled(s) && follows(s) == leader);
                !behind(leader) || (leader == **id && !self.electorate.members.verifier().contains_quorum_by(behind))
            })
            .map(|(id, _)| *id)
            .collect();
        waits.into_iter().for_each(|id| self.look(id));
    }

    fn step(&mut self) {
        self.now_ms += 1;
        let due: Vec<_> = self.links.iter().filter(|(_, (at, _))| *at <= self.now_ms).map(|(ends, _)| *ends).collect();
        for ends in due {
            let (_, message) = self.links.remove(&ends).expect("it is there");
            let mut wants = Vec::new();
            let Some(server) = self.servers.get_mut(&ends.1) else { continue };
            server.election.heard(self.now_ms, ends.0, &read(&message), &mut wants);
            self.carry(ends.1, wants);
        }
        let ids: Vec<_> = self.servers.keys().copied().collect();
        for id in ids {
            let voters = self.electorate.members.voters();
            let delivered = voters.iter().any(|to| *to != id && !self.links.contains_key(&(id, *to)));
            let mut wants = Vec::new();
            self.servers.get_mut(&id).expect("it runs").election.tick(self.now_ms, delivered, &mut wants);
            self.carry(id, wants);
        }
        self.give_up();
    }

    /// The leader, if all running servers agree on it and it leads.
    fn leader(&self) -> Option<ServerId> {
        let mut leaders = self
            .servers
            .values()
            .map(|s| (s.election.state() != ServerState::Looking).then(|| s.election.current().vote.leader));
        let leader = leaders.next()??;
        let all = leaders.all(|other| other == Some(leader));
        (all && self.servers.get(&leader)?.election.state() == ServerState::Leading).then_some(leader)
    }

    fn settle(&mut self, seed: u64) -> ServerId {
        let deadline = self.now_ms + 300_000;
        while self.leader().is_none() {
            self.step();
            assert!(self.now_ms < deadline, "seed {seed}: no leader after five minutes");
        }
        self.leader().expect("one")
    }
}

fn made_up(seed: u64) {
    let mut world = World::new(seed);
    let all: Vec<ServerId> = world.electorate.members.voters().iter().copied().collect();
    let quorum = all.len() / 2 + 1;
    let mut order = all.clone();
    world.rng.shuffle(&mut order);
    let early = world.rng.usize(quorum..=all.len());
    for ends in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
        if world.rng.u8(0..4) == 0 {
            let until = world.rng.i64(0..3000);
            world.cut_until_ms.insert(ends, until);
        }
    }
    for id in order.iter().take(early) {
        world.boot(*id);
        for _ in 0..world.rng.usize(0..300) {
            world.step();
        }
    }
    let leader = world.settle(seed);
    let own = |world: &World, id| {
        let Candidate { last, epoch, .. } = world.servers[&id].candidate;
        (epoch, last)
    };
    let behind = world.servers.keys().filter(|id| own(&world, **id) <= own(&world, leader)).count();
    assert!(behind >= quorum, "seed {seed}: {leader:?} leads and only {behind} have no newer history");
    // A server that comes late follows, whatever history it has.
    for id in order.iter().skip(early) {
        world.boot(*id);
        assert_eq!(world.settle(seed), leader, "seed {seed}: {id:?} came late");
    }
    let (server, rest) = (world.servers.remove(&leader), world.servers.len());
    drop(server);
    if rest >= quorum {
        world.links.retain(|ends, _| ends.0 != leader && ends.1 != leader);
        assert_ne!(world.settle(seed), leader);
    }
}

#[test]
fn made_up_elections_end_with_one_leader_whose_history_is_new_enough() {
    (0..200).for_each(made_up);
}
