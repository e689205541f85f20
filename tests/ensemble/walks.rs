//! Elections recorded from Apache servers, with one of ours in place of each.

use std::collections::{BTreeMap, BTreeSet};

use super::election::{electorate, read};
use super::recorded::{Kind, Message, Walk, walks};
use zabra::quorum::{Members, Role};
use zabra::types::{Epoch, ServerId, Zxid};
use zabra::zab::election::{Candidate, Election, Electorate, Timing, Want};
use zabra::zab::notification::Notification;
use zabra::zab::vote::{Held, ServerState, Vote};

/// What a server is doing when a recording begins.
#[derive(Clone, Copy)]
enum Before {
    /// It is started.
    Nothing,
    /// It has elected this server with this zxid, in this round, on the votes of this epoch; then this epoch was established.
    Elected(i64, i64, i64, i64, i64),
}

use Before::{Elected, Nothing};

/// The end of the first election with empty directories: server 3 leads, in epoch 1.
const FIRST: Before = Elected(3, 0, 1, 0, 1);

/// The same, and server 2 leads.
const FIRST_OF_TWO: Before = Elected(2, 0, 1, 0, 1);

/// Recording, servers, what they are doing when it begins, and the leaders that each elects during the recording, with
/// the round.
type Case = (&'static str, &'static [i64], Before, &'static [(i64, i64)]);

const CASES: [Case; 34] = [
    ("election-first-start-of-three", &[1, 2, 3], Nothing, &[(2, 1)]),
    ("election-multi-address", &[1, 2, 3], Nothing, &[(3, 1)]),
    ("election-five-servers-one-by-one", &[1, 2, 3, 4, 5], Nothing, &[(3, 1)]),
    ("reconfig-first-epoch-gives-a-version", &[1, 2, 3], Nothing, &[(3, 1)]),
    // One who is asked by the recorder: it repeats what it said last, and answers.
    ("election-ask-a-follower", &[1], FIRST_OF_TWO, &[]),
    ("election-hello-legacy-bare-sid", &[2], FIRST_OF_TWO, &[]),
    ("election-hello-v2-accepted-without-multiaddress", &[2], FIRST_OF_TWO, &[]),
    ("election-notification-28-bytes", &[2], FIRST_OF_TWO, &[]),
    ("election-notification-40-bytes", &[2], FIRST_OF_TWO, &[]),
    ("election-observing-answer", &[4], FIRST_OF_TWO, &[]),
    ("election-stranger-is-answered", &[2], FIRST_OF_TWO, &[]),
    // A leader is lost.
    ("election-leader-killed", &[1, 3], FIRST_OF_TWO, &[(3, 2)]),
    ("leader-stands-still", &[1, 2, 3], FIRST, &[(2, 2)]),
    ("leader-shutdown-by-sigterm", &[1, 2], Elected(3, 0x1_0000_0000, 2, 1, 2), &[(2, 3)]),
    ("leader-loses-its-quorum", &[1, 2, 3], Elected(2, 0x1_0000_0004, 2, 1, 2), &[(2, 3)]),
    // The first follower hears the answers of the old leader and of the other follower, who have not noticed yet, and
    // follows once more.
    ("zxid-counter-used-up", &[1], FIRST, &[(3, 1)]),
    ("zxid-counter-used-up", &[2, 3], FIRST, &[(3, 2)]),
    // A server returns.
    ("election-member-returns", &[1, 3], Elected(3, 0x1_0000_0000, 2, 1, 2), &[]),
    ("election-member-returns", &[2], Nothing, &[(3, 2)]),
    ("election-stale-notifications-after-reconnect", &[1], Nothing, &[(3, 1)]),
    ("election-stale-notifications-after-reconnect", &[2, 3], FIRST, &[]),
    ("follower-stands-still", &[1], FIRST, &[(3, 1)]),
    ("follower-stands-still", &[2, 3], FIRST, &[]),
    // Observers.
    ("observer-joins", &[4], Nothing, &[(3, 1)]),
    ("observer-joins", &[1, 2, 3], FIRST, &[]),
    ("observer-returns-diff", &[4], Nothing, &[(3, 1)]),
    ("observer-returns-diff", &[1, 2, 3], FIRST, &[]),
    ("observer-without-log-returns-snap", &[5], Nothing, &[(3, 1)]),
    ("observer-without-log-returns-snap", &[1, 2, 3], FIRST, &[]),
    ("observer-elects-a-dead-leader", &[4, 5], FIRST, &[(3, 2), (2, 2)]),
    // Servers that the others do not know: they adopt a configuration.
    ("reconfig-joiner-as-participant", &[4], Nothing, &[(3, 1)]),
    ("reconfig-joiner-as-participant", &[1, 2, 3], FIRST, &[]),
    ("reconfig-joiner-as-observer", &[5], Nothing, &[(3, 1)]),
    ("reconfig-joiner-as-observer", &[1, 2, 3], FIRST, &[]),
];

/// Servers whose notifications were recorded and that are not replaced.
const LEFT_OUT: [(&str, &[i64]); 9] = [
    // The recorder, not a server.
    ("election-ask-a-follower", &[3]),
    ("election-hello-legacy-bare-sid", &[3]),
    ("election-hello-v2-accepted-without-multiaddress", &[3]),
    ("election-notification-28-bytes", &[3]),
    ("election-notification-40-bytes", &[3]),
    ("election-observing-answer", &[3]),
    ("election-stranger-is-answered", &[9]),
    // They elect among themselves, which was not recorded.
    ("observer-elects-a-dead-leader", &[1, 2]),
    // What server 3 said was not recorded.
    ("quorum-sasl-digest-md5", &[1, 2]),
];

/// The configuration in a notification.
fn configuration(text: &str) -> Electorate {
    let Electorate { members, .. } = electorate(text.lines());
    let version = text.lines().find_map(|line| line.strip_prefix("version=")).expect("a version");
    let version = Zxid(i64::from_str_radix(version, 16).expect("hexadecimal"));
    let members: Members = (*members).clone();
    Electorate { members: members.with_version(version).into(), next: None }
}

/// One of our servers in place of a recorded one.
struct Stand {
    me: ServerId,
    election: Election,
    role: Role,
    candidate: Candidate,
    wants: Vec<Want>,
    told: BTreeMap<ServerId, BTreeSet<Vec<u8>>>,
    elected: Vec<Held>,
}

impl Stand {
    fn new(me: ServerId, electorate: Electorate) -> Stand {
        let role = electorate.members.get(me).map_or(Role::Participant, |member| member.role);
        let election = Election::new(me, Timing::default(), electorate, true);
        let candidate = Candidate { role, last: Zxid::ZERO, epoch: Epoch(0) };
        Stand { me, election, role, candidate, wants: Vec::new(), told: BTreeMap::new(), elected: Vec::new() }
    }

    /// Does what was wanted.
    fn settle(&mut self, now_ms: i64) {
        let mut wants = std::mem::take(&mut self.wants);
        for want in wants.drain(..) {
            match want {
                Want::Tell { to, message } => _ = self.told.entry(to).or_default().insert(message.to_vec()),
                Want::Elected(held) => self.elected.push(held),
                Want::Connect | Want::Looks(_) => {}
                Want::Adopt(text) => {
                    let electorate = configuration(&text);
                    self.role = electorate.members.get(self.me).map_or(Role::Participant, |member| member.role);
                    self.election.set_electorate(electorate);
                    self.start(now_ms, self.candidate);
                }
            }
        }
    }

    fn start(&mut self, now_ms: i64, candidate: Candidate) {
        self.candidate = candidate;
        self.election.start(now_ms, Candidate { role: self.role, ..candidate }, &mut self.wants);
        self.settle(now_ms);
    }

    fn hear(&mut self, now_ms: i64, from: ServerId, said: &Notification) {
        self.election.heard(now_ms, from, said, &mut self.wants);
        self.settle(now_ms);
    }

    fn until(&mut self, now_ms: i64) {
        while let Some(at) = self.election.deadline_ms().filter(|at| *at <= now_ms) {
            self.election.tick(at, true, &mut self.wants);
            self.settle(at);
        }
    }

    /// Apache's server says by `held` that its leader is established.
    fn follow(&mut self, held: Held) {
        let own = self.election.current();
        if held.state != ServerState::Looking && own.vote.leader == held.vote.leader {
            self.election.established(held.vote.peer_epoch);
        }
    }

    /// Lets the server elect what it had elected when the recording began. What it said last to each server is what it
    /// repeats on a new connection.
    fn prepare(&mut self, electorate: &Electorate, before: Before) {
        let Elected(leader, zxid, round, epoch, established) = before else { return };
        let vote = Vote { leader: ServerId(leader), zxid: Zxid(zxid), peer_epoch: Epoch(epoch) };
        let me = self.me;
        for _ in 0..round {
            self.told.clear();
            self.start(0, Candidate { role: self.role, last: vote.zxid, epoch: vote.peer_epoch });
        }
        // A server with a higher id than the leader's came when there was a leader.
        let came_late = me > vote.leader;
        for voter in electorate.members.voters().iter().filter(|voter| **voter != me) {
            let state = match *voter {
                _ if !came_late => ServerState::Looking,
                voter if voter == vote.leader => ServerState::Leading,
                _ => ServerState::Following,
            };
            let held = Held { vote, election_epoch: round, state, version: 2 };
            self.hear(0, *voter, &Notification { held, config: None });
        }
        self.until(1000);
        let [elected] = self.elected[..] else { panic!("{:?}", self.elected) };
        assert_eq!((elected.vote, elected.election_epoch), (vote, round));
        self.elected.clear();
        self.election.established(Epoch(established));
    }
}

/// What a server enters an election with, according to its own vote in the recording from here on.
fn candidate(walk: &Walk, me: ServerId, from: usize, round: i64) -> Candidate {
    let of_me = walk.messages[from..].iter().filter(|m| m.kind == Kind::Notification && m.from == Some(me));
    let is_own = |held: &Held| (held.state, held.vote.leader) == (ServerState::Looking, me);
    let own = of_me.map(|m| read(&m.bytes).held).find(|held| is_own(held) && held.election_epoch > round);
    let own = own.map(|held| held.vote);
    let vote = own.unwrap_or(Vote { leader: me, zxid: Zxid::ZERO, peer_epoch: Epoch(0) });
    Candidate { role: Role::Participant, last: vote.zxid, epoch: vote.peer_epoch }
}

/// Whether `me` has begun an election when message `at` is sent by it or to it: it is a vote of a later round, or one that
/// it answers with such a vote.
fn began(walk: &Walk, me: ServerId, at: usize, round: i64) -> bool {
    let message = &walk.messages[at];
    let other = if message.from == Some(me) { message.to } else { message.from };
    let answers = |m: &&Message| m.kind == Kind::Notification && (m.from, m.to) == (Some(me), other);
    let answer = walk.messages[at..].iter().find(answers).map(|m| read(&m.bytes).held);
    let is_of_me = [message.from, message.to].contains(&Some(me));
    is_of_me && answer.is_some_and(|held| held.state == ServerState::Looking && held.election_epoch > round)
}

/// Replays a recording for one server. Everything that Apache's server said must be among what ours says to the same
/// server, and ours must elect the same leaders.
fn replay(walk: &Walk, me: ServerId, before: Before, leaders: &[(i64, i64)]) {
    let notifications = || walk.messages.iter().filter(|m| m.kind == Kind::Notification);
    let first = notifications().find(|m| m.from == Some(me)).expect("it says something");
    let electorate = configuration(read(&first.bytes).config.as_deref().expect("a configuration"));
    let mut stand = Stand::new(me, electorate.clone());
    stand.prepare(&electorate, before);
    let begin_ms = 10_000;
    if let Nothing = before {
        let of_me = |m: &&Message| m.kind == Kind::Notification && [m.from, m.to].contains(&Some(me));
        let at_ms = walk.messages.iter().find(of_me).and_then(|m| m.at_ms).expect("a time");
        stand.start(begin_ms + at_ms as i64, candidate(walk, me, 0, 0));
    }
    for (at, message) in walk.messages.iter().enumerate().filter(|(_, m)| m.kind == Kind::Notification) {
        let now_ms = begin_ms + message.at_ms.unwrap_or(0.0) as i64;
        stand.until(now_ms);
        let said = read(&message.bytes);
        let round = stand.election.current().election_epoch;
        if stand.election.deadline_ms().is_none() && began(walk, me, at, round) {
            stand.start(now_ms, candidate(walk, me, at, round));
        }
        if message.to == Some(me) {
            stand.hear(now_ms, message.from.expect("a server"), &said);
        } else if message.from == Some(me) && said.held.state == stand.election.state() {
            stand.follow(said.held);
        }
    }
    stand.until(begin_ms + 60_000);
    // Once more with the established epoch, to include answers that Apache's server gave before its messages were
    // recorded.
    for message in notifications().filter(|m| m.to == Some(me)) {
        stand.hear(begin_ms + 60_000, message.from.expect("a server"), &read(&message.bytes));
    }
    for message in notifications().filter(|m| m.from == Some(me)) {
        let to = message.to.expect("a server");
        // Apache pairs the ports of several addresses in the order of a hash table; no other server produces that text.
        let same = |told: &Vec<u8>| match walk.name.as_str() {
            "election-multi-address" => read(told).held == read(&message.bytes).held,
            _ => *told == message.bytes,
        };
        let told = stand.told.get(&to);
        assert!(
            told.is_some_and(|told| told.iter().any(same)),
            "{}: {:?} is never said to {to:?}, but {:?}",
            message.place,
            read(&message.bytes).held,
            told.map(|told| told.iter().map(|told| read(told).held).collect::<Vec<_>>())
        );
    }
    let elected: Vec<_> = stand.elected.iter().map(|held| (held.vote.leader.0, held.election_epoch)).collect();
    assert_eq!(elected, leaders, "{}: what {me:?} elects", walk.name);
}

#[test]
fn recorded_elections_go_the_same_way_with_one_of_ours() {
    let walks = walks();
    for (name, servers, before, leaders) in CASES {
        let walk = walks.iter().find(|walk| walk.name == name).unwrap_or_else(|| panic!("there is no {name}"));
        servers.iter().for_each(|me| replay(walk, ServerId(*me), before, leaders));
    }
}

#[test]
fn no_recorded_server_is_left_out_unnoticed() {
    let mut recorded = BTreeSet::new();
    for walk in walks() {
        let notifications = walk.messages.iter().filter(|m| m.kind == Kind::Notification);
        recorded.extend(notifications.filter_map(|m| Some((walk.name.clone(), m.from?.0))));
    }
    let replayed = CASES.iter().map(|(name, servers, ..)| (*name, *servers));
    let named = replayed.chain(LEFT_OUT).flat_map(|(name, servers)| servers.iter().map(|me| (name.to_owned(), *me)));
    assert_eq!(named.collect::<BTreeSet<_>>(), recorded);
}
