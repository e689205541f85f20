//! The election and its connections wired together: votes leave over the links, and what the links hear is passed to the
//! election. Mirrors `FastLeaderElection.Messenger`.

use std::net::IpAddr;

use super::election::{self, Candidate, Election, Electorate, Looker, Timing};
use super::links::{self, ElectionWant, Links};
use super::notification::Notification;
use super::vote::Held;
use crate::types::{ConnId, Epoch, ServerId, earliest};

/// What the messenger wants done.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Of a connection. A dial is to be answered by [`Messenger::dialed`] or [`Messenger::dial_failed`], a write by
    /// [`Messenger::written`].
    Net(ElectionWant),
    /// The election is over. The state in the vote is what this server has become.
    Elected(Held),
    /// A voter is looking for a leader while this server leads.
    Looks(Looker),
    /// A server has a newer configuration than the one in force, and this server is looking. If it can be adopted, call
    /// [`Messenger::set_electorate`] and [`Messenger::start`]; if not, [`Messenger::heard`] with the message without its
    /// configuration. Several such messages may come in a row: the later ones may no longer be newer.
    Adopt {
        /// The server.
        from: ServerId,
        /// Its message.
        said: Notification,
    },
}

/// One server's elections, over its connections.
#[derive(Debug)]
pub struct Messenger {
    election: Election,
    links: Links,
}

impl Messenger {
    /// The part of server `me`. `reconfig`: whether newer configurations of other servers are adopted
    /// (`reconfigEnabled`). `all_addresses`: whether the hello contains all addresses (`multiAddress.enabled`). A
    /// connection must say who it is within `hello_timeout_ms`.
    pub fn new(
        me: ServerId,
        timing: Timing,
        electorate: Electorate,
        reconfig: bool,
        all_addresses: bool,
        hello_timeout_ms: i64,
    ) -> Messenger {
        let links = Links::new(me, electorate.clone(), all_addresses, hello_timeout_ms);
        Messenger { election: Election::new(me, timing, electorate, reconfig), links }
    }

    /// The election, to look at.
    pub fn election(&self) -> &Election {
        &self.election
    }

    /// The links, to look at.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Starts a new election. See [`Election::start`].
    pub fn start(&mut self, now_ms: i64, candidate: Candidate, wants: &mut Vec<Want>) {
        let mut elected = Vec::new();
        self.election.start(now_ms, candidate, &mut elected);
        assert!(self.election.deadline_ms().is_some(), "an election begins and nothing ever continues it");
        self.after_election(elected, None, wants);
    }

    /// The leader is established. See [`Election::established`].
    pub fn established(&mut self, epoch: Epoch) {
        self.election.established(epoch);
    }

    /// Sets the configuration in force. All connections are closed; they come back when something is to be said.
    pub fn set_electorate(&mut self, electorate: Electorate, wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.election.set_electorate(electorate.clone());
        self.links.set_electorate(electorate, &mut linked);
        wants.extend(linked.into_iter().map(over_net));
    }

    /// A message from `from`, of [`Want::Adopt`], whose configuration was refused.
    pub fn heard(&mut self, now_ms: i64, from: ServerId, said: &Notification, wants: &mut Vec<Want>) {
        let mut elected = Vec::new();
        self.election.heard(now_ms, from, said, &mut elected);
        self.after_election(elected, Some((from, said)), wants);
    }

    /// A dial succeeded. `conn` is new.
    pub fn dialed(&mut self, to: ServerId, conn: ConnId, wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.links.dialed(to, conn, &mut linked);
        wants.extend(linked.into_iter().map(over_net));
    }

    /// A dial failed. See [`Links::dial_failed`].
    pub fn dial_failed(&mut self, to: ServerId) {
        self.links.dial_failed(to);
    }

    /// Somebody at `from` connected. `conn` is new.
    pub fn accepted(&mut self, now_ms: i64, conn: ConnId, from: IpAddr, wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.links.accepted(now_ms, conn, from, &mut linked);
        wants.extend(linked.into_iter().map(over_net));
    }

    /// Bytes arrived.
    pub fn bytes(&mut self, now_ms: i64, conn: ConnId, bytes: &[u8], wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.links.bytes(conn, bytes, &mut linked);
        for want in linked {
            match want {
                links::Want::Heard { from, said } => self.heard(now_ms, from, &said, wants),
                other => wants.push(over_net(other)),
            }
        }
    }

    /// The last write on this connection has left.
    pub fn written(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.links.written(conn, &mut linked);
        wants.extend(linked.into_iter().map(over_net));
    }

    /// The other side closed, or the connection broke.
    pub fn closed(&mut self, conn: ConnId) {
        self.links.closed(conn);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        let mut linked = Vec::new();
        self.links.tick(now_ms, &mut linked);
        let next_ms = self.links.deadline_ms();
        assert!(next_ms.is_none_or(|at| at > now_ms), "the links want to be called again at once, at {now_ms}");
        wants.extend(linked.into_iter().map(over_net));
        let mut elected = Vec::new();
        self.election.tick(now_ms, self.links.has_delivered(), &mut elected);
        let next_ms = self.election.deadline_ms();
        assert!(next_ms.is_none_or(|at| at > now_ms), "the election wants to be called again at once, at {now_ms}");
        self.after_election(elected, None, wants);
    }

    /// When [`Messenger::tick`] must be called, in milliseconds of the monotonic clock.
    pub fn deadline_ms(&self) -> Option<i64> {
        earliest([self.election.deadline_ms(), self.links.deadline_ms()])
    }

    /// Checks the invariants of both.
    pub fn check(&self) {
        self.election.check();
        self.links.check();
    }

    /// `said` is the message that caused this.
    fn after_election(
        &mut self,
        elected: Vec<election::Want>,
        said: Option<(ServerId, &Notification)>,
        wants: &mut Vec<Want>,
    ) {
        let mut linked = Vec::new();
        for want in elected {
            match want {
                election::Want::Tell { to, message } => self.links.tell(to, message, &mut linked),
                election::Want::Connect => self.links.connect(&mut linked),
                election::Want::Elected(held) => wants.push(Want::Elected(held)),
                election::Want::Looks(looker) => wants.push(Want::Looks(looker)),
                election::Want::Adopt(_) => {
                    let Some((from, said)) = said else { unreachable!("a configuration without a message") };
                    wants.push(Want::Adopt { from, said: said.clone() });
                }
            }
            wants.extend(linked.drain(..).map(over_net));
        }
    }
}

/// What links want when no bytes arrived.
fn over_net(want: links::Want) -> Want {
    match want {
        links::Want::Net(want) => Want::Net(want),
        links::Want::Heard { from, .. } => unreachable!("{from:?} is heard and no bytes arrived"),
    }
}
