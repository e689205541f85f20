//! The network between the servers of a script: connections for elections, which are not shown, and those between leaders and
//! learners, of which every packet is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use zabra::peer::Input;
use zabra::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use zabra::types::{ConnId, ServerId, Term};

use super::show::Talk;
use super::world::World;

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    pub at: ServerId,
    pub peer: ServerId,
    other: ConnId,
    /// The term, of a connection of the quorum port.
    pub term: Option<Term>,
    /// Whether this end is the leader's.
    pub leads: bool,
    talk: Talk,
    /// On the way to this end.
    arriving: VecDeque<Bytes>,
    /// The other end has closed.
    is_ending: bool,
    reads: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Net {
    pub(super) ends: BTreeMap<ConnId, End>,
    conns: u64,
    /// Pairs of servers between which nothing arrives.
    cut: BTreeSet<(ServerId, ServerId)>,
    /// Senders and receivers whose packets between leader and learner wait.
    held: BTreeSet<(ServerId, ServerId)>,
}

impl Net {
    pub fn next_conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    pub fn cut(&mut self, a: ServerId, b: ServerId, on: bool) {
        for pair in [(a, b), (b, a)] {
            let changed = if on { self.cut.insert(pair) } else { self.cut.remove(&pair) };
            assert!(changed, "{a:?} and {b:?} are so already");
        }
    }

    pub fn hold(&mut self, from: ServerId, to: ServerId, on: bool) {
        let changed = if on { self.held.insert((from, to)) } else { self.held.remove(&(from, to)) };
        assert!(changed, "{from:?} to {to:?} is so already");
    }

    fn is_cut(&self, a: ServerId, b: ServerId) -> bool {
        self.cut.contains(&(a, b))
    }

    /// The newest open end at `at` of a connection with `peer`: for elections, or between leader and learner.
    pub fn newest(&self, at: ServerId, peer: ServerId, quorum: bool) -> Option<ConnId> {
        let fits = |end: &End| (end.at, end.peer, end.term.is_some()) == (at, peer, quorum) && !end.is_ending;
        self.ends.iter().rev().find(|(_, end)| fits(end)).map(|(conn, _)| *conn)
    }

    pub fn ends_at(&self, at: ServerId, term: Option<Term>) -> Vec<ConnId> {
        let fits = |end: &End| end.at == at && term.is_none_or(|term| end.term == Some(term));
        self.ends.iter().filter(|(_, end)| fits(end)).map(|(conn, _)| *conn).collect()
    }
}

impl World {
    /// The dialler's end and the acceptor's.
    pub(super) fn connect(
        &mut self,
        dialler: (ServerId, Option<Term>),
        acceptor: (ServerId, Option<Term>),
    ) -> (ConnId, ConnId) {
        let (mine, theirs) = (self.net.next_conn(), self.net.next_conn());
        let pairs = [(dialler, acceptor, mine, theirs, false), (acceptor, dialler, theirs, mine, true)];
        for ((at, term), (peer, _), conn, other, leads) in pairs {
            // A member says when it reads a connection of the quorum port.
            let reads = term.is_none() || self.hands.contains_key(&at);
            let (talk, arriving, is_ending) = (Talk::default(), VecDeque::new(), false);
            self.net.ends.insert(conn, End { at, peer, other, term, leads, talk, arriving, is_ending, reads });
        }
        (mine, theirs)
    }

    fn tell(&mut self, to: ServerId, event: NetEvent) {
        if let Some(member) = self.servers.get_mut(&to).and_then(|server| server.member.as_mut()) {
            member.mail.inbox.push_back(Input::Net(event));
        }
        self.has_news = true;
    }

    fn news(&mut self, conn: ConnId, election: ElectionEvent, quorum: QuorumEvent) {
        let Some(end) = self.net.ends.get(&conn) else { return };
        let (at, term) = (end.at, end.term);
        self.tell(at, term.map_or(NetEvent::Election(election), |term| NetEvent::Quorum { term, event: quorum }));
    }

    /// Does what a member wants of the network.
    pub(super) fn net_want(&mut self, n: ServerId, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, .. }) => self.dial_for_election(n, to),
            NetWant::Election(ElectionWant::Write { conn, bytes })
            | NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. } => {
                let left = QuorumEvent::Left { conn, bytes: bytes.len() };
                self.write(conn, bytes);
                self.news(conn, ElectionEvent::Written { conn }, left);
            }
            NetWant::Election(ElectionWant::Close { conn })
            | NetWant::Quorum { want: QuorumWant::Close { conn }, .. } => self.close(conn),
            NetWant::Quorum { want: QuorumWant::Read { conn, reads }, .. } => {
                self.net.ends.get_mut(&conn).into_iter().for_each(|end| end.reads = reads);
            }
            NetWant::Quorum { term, want: QuorumWant::Listen } => self.server(n).listens = Some(term),
            NetWant::Quorum { term, want: QuorumWant::Dial { leader } } => self.dial_leader(n, term, leader),
            NetWant::Quorum { term, want: QuorumWant::End } => {
                self.server(n).listens = None;
                self.net.ends_at(n, Some(term)).into_iter().for_each(|conn| self.close(conn));
            }
        }
    }

    fn dial_for_election(&mut self, n: ServerId, to: ServerId) {
        if self.net.is_cut(n, to) || !self.is_there(to) {
            return self.tell(n, NetEvent::Election(ElectionEvent::DialFailed { to }));
        }
        let (mine, theirs) = self.connect((n, None), (to, None));
        self.tell(n, NetEvent::Election(ElectionEvent::Dialed { to, conn: mine }));
        self.tell(to, accepted(theirs, n));
    }

    fn dial_leader(&mut self, n: ServerId, term: Term, leader: ServerId) {
        let hand = self.hands.get(&leader).filter(|hand| hand.leads).map(|_| Term(0));
        let listens = self.servers.get(&leader).and_then(|server| server.listens).or(hand);
        let Some(theirs) = listens.filter(|_| !self.net.is_cut(n, leader)) else {
            self.say(format!("{} does not reach {}", n.0, leader.0));
            return self.tell(n, NetEvent::Quorum { term, event: QuorumEvent::DialFailed });
        };
        let (mine, accepted) = self.connect((n, Some(term)), (leader, Some(theirs)));
        self.tell(n, NetEvent::Quorum { term, event: QuorumEvent::Dialed { conn: mine } });
        self.tell(leader, learner(accepted, theirs, n));
    }

    /// A server of the script connects to a leader.
    pub(super) fn dial_by_hand(&mut self, from: ServerId, to: ServerId) {
        let theirs = self.server(to).listens.unwrap_or_else(|| panic!("{to:?} does not lead"));
        let (_, accepted) = self.connect((from, Some(Term(0))), (to, Some(theirs)));
        self.tell(to, learner(accepted, theirs, from));
    }

    /// A server of the script connects for an election.
    pub(super) fn dial_election_by_hand(&mut self, from: ServerId, to: ServerId) -> ConnId {
        let (mine, theirs) = self.connect((from, None), (to, None));
        self.tell(to, accepted(theirs, from));
        mine
    }

    pub(super) fn write(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(end) = self.net.ends.get_mut(&conn) else { return };
        let (at, peer, other) = (end.at, end.peer, end.other);
        let parts = match end.term {
            None => vec![bytes],
            Some(_) => {
                let said = end.talk.read(&bytes, end.leads, &self.sessions);
                let mut rest = bytes;
                let parts = said.iter().map(|said| rest.split_to(said.len)).collect();
                for said in said {
                    if let Some(what) = said.what.filter(|_| self.shows_pings || !said.is_ping) {
                        self.say(format!("{} -> {}: {what}", at.0, peer.0));
                    }
                }
                parts
            }
        };
        if let Some(other) = self.net.ends.get_mut(&other) {
            other.arriving.extend(parts);
        }
        self.has_news = true;
    }

    /// An end is closed: what was sent before may still arrive.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(gone) = self.net.ends.remove(&conn) else { return };
        let Some(other) = self.net.ends.get_mut(&gone.other) else { return };
        other.is_ending = true;
        let is_shown = gone.term.is_some() && self.is_there(gone.at);
        if is_shown {
            self.say(format!("{} closes the connection with {}", gone.at.0, gone.peer.0));
        }
        self.has_news = true;
    }

    /// Everything that can arrives.
    pub(super) fn deliver(&mut self) {
        let conns: Vec<ConnId> = self.net.ends.keys().copied().collect();
        for conn in conns {
            while self.arrive(conn, false) {}
        }
    }

    /// The next packet of a connection arrives, or its end. `forced`: also if it is held.
    pub(super) fn arrive(&mut self, conn: ConnId, forced: bool) -> bool {
        let Some(end) = self.net.ends.get(&conn) else { return false };
        let (at, peer) = (end.at, end.peer);
        let is_held = end.term.is_some() && self.net.held.contains(&(peer, at)) && !forced;
        let is_frozen = self.servers.get(&at).is_some_and(|server| server.is_frozen);
        if is_held || is_frozen || !end.reads || self.net.is_cut(peer, at) {
            return false;
        }
        let end = self.net.ends.get_mut(&conn).expect("it is there");
        if let Some(bytes) = end.arriving.pop_front() {
            if self.hands.contains_key(&at) {
                self.hand_hears(conn, &bytes);
            } else {
                let quorum = QuorumEvent::Bytes { conn, bytes: bytes.clone() };
                self.news(conn, ElectionEvent::Bytes { conn, bytes }, quorum);
            }
        } else if end.is_ending {
            self.news(conn, ElectionEvent::Closed { conn }, QuorumEvent::Closed { conn });
            self.net.ends.remove(&conn);
        } else {
            return false;
        }
        self.has_news = true;
        true
    }
}

fn learner(conn: ConnId, term: Term, from: ServerId) -> NetEvent {
    let from = ([10, 0, 0, from.0 as u8], 49152).into();
    NetEvent::Quorum { term, event: QuorumEvent::Accepted { conn, from } }
}

fn accepted(conn: ConnId, from: ServerId) -> NetEvent {
    let from = [10, 0, 0, from.0 as u8].into();
    NetEvent::Election(ElectionEvent::Accepted { conn, from })
}
