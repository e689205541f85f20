//! A server's connections to the other servers of its ensemble, on the core that runs the peer: nothing is handed to another
//! thread on the way of a packet. Plays the part of the sockets in `QuorumCnxManager`, `Leader.LearnerCnxAcceptor`,
//! `LearnerHandler` and `Learner`.
//!
//! The peer's machines say what they want ([`NetWant`]) and are told what happened ([`NetEvent`]). A connection of the quorum
//! port belongs to the role that made it: when its term has ended, nothing is reported of it any more.
//!
//! In a turn, [`PeerNet::hear`] takes the events of its sockets while [`Net::reap`] runs, [`PeerNet::turn`] does what is due,
//! the peer takes its events with [`PeerNet::next`] and says what it wants with [`PeerNet::want`], and [`PeerNet::flush`]
//! sends that.

mod ports;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::dialer::{Dialer, Outcome, Target};
use super::fatal::fatal;
use super::mailbox::Bell;
use super::net::{Close, ListenOptions, Net, NetEvent as Event};
use crate::config::ExitCode;
use crate::peer::net::{ElectionEvent, ElectionWant, NetEvent, NetWant, QuorumEvent, QuorumWant};
use crate::quorum::Members;
use crate::types::{ConnId, PEER_LOG, ServerId, Term, earliest};
use ports::{Port, PortOptions, Ports};

/// Settings of a server's connections to the others.
#[derive(Clone, Debug)]
pub(super) struct PeerNetOptions {
    /// This server.
    pub(super) me: ServerId,
    /// Where all of them are.
    pub(super) members: Arc<Members>,
    /// Both ports are bound on every address of the host (`quorumListenOnAllIPs`).
    pub(super) on_all_ips: bool,
    /// SO_KEEPALIVE is set (`zookeeper.tcpKeepAlive`).
    pub(super) keepalive: bool,
    /// For how many seconds the election port is tried; 0 means for ever (`zookeeper.electionPortBindRetry`).
    pub(super) election_tries: u32,
    /// How long a dial of an election port may take, in milliseconds (`zookeeper.cnxTimeout`).
    pub(super) election_dial_ms: i64,
    /// How long a dial of the leader may take, in milliseconds.
    pub(super) leader_dial_ms: i64,
}

/// Whose a dial is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Dialed {
    /// An election port.
    Election(ServerId),
    /// The leader's quorum port, in this term.
    Leader(Term),
}

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Elections,
    Role(Term),
}

/// A connection that the peer knows, or will know.
struct Conn {
    owner: Owner,
    /// Whether it can be written to. If not, the peer was not told yet.
    is_open: bool,
    /// Bytes that have not left.
    unsent: usize,
}

/// Something that the peer was not told yet.
enum Heard {
    Accepted { conn: ConnId, from: SocketAddr },
    Dialed { conn: ConnId, by: Dialed },
    Failed(Dialed),
    Bytes { conn: ConnId, bytes: Bytes },
    Left { conn: ConnId, bytes: usize },
    Closed { conn: ConnId },
}

/// See the module.
pub(super) struct PeerNet {
    options: PeerNetOptions,
    ports: Ports,
    dialer: Dialer<Dialed>,
    /// Servers to be dialled for elections once this server's own election port is open. Nobody may elect a server that cannot
    /// listen, because its name is unknown or it has not the address.
    early: BTreeMap<ServerId, Target>,
    conns: HashMap<ConnId, Conn>,
    heard: VecDeque<Heard>,
    /// The term whose role accepts learners.
    accepting: Option<Term>,
    /// Connections with bytes that have not left.
    sending: Vec<ConnId>,
    /// Connections whose other side has ended, to be closed.
    ended: Vec<ConnId>,
    /// Connections that were dialled, to get SO_KEEPALIVE.
    fresh: Vec<ConnId>,
    /// Something was written since the last flush.
    wrote: bool,
}

impl PeerNet {
    /// `bell` wakes the core.
    ///
    /// # Panics
    /// If this server is no member.
    pub(super) fn new(options: PeerNetOptions, bell: Bell) -> PeerNet {
        let me = options.members.get(options.me).expect("this server is a member");
        let ports = PortOptions {
            own: me.addresses.clone(),
            on_all_ips: options.on_all_ips,
            listen: ListenOptions { keepalive: options.keepalive, ..ListenOptions::default() },
            election_tries: options.election_tries,
        };
        PeerNet {
            ports: Ports::new(ports, bell.clone()),
            dialer: Dialer::new(bell),
            options,
            early: BTreeMap::new(),
            conns: HashMap::new(),
            heard: VecDeque::new(),
            accepting: None,
            sending: Vec::new(),
            ended: Vec::new(),
            fresh: Vec::new(),
            wrote: false,
        }
    }

    /// Begins to listen for elections. To be called once, before the first turn.
    pub(super) fn start(&mut self, net: &mut Net, now_ms: i64) {
        self.ports.open(now_ms, Port::Election);
        self.turn(net, now_ms);
    }

    /// Takes an event of the core's sockets, or gives it back if it is none of these connections'.
    pub(super) fn hear<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match event {
            Event::Data { conn, bytes } if self.conns.contains_key(&conn) => {
                self.heard.push_back(Heard::Bytes { conn, bytes: Bytes::copy_from_slice(bytes) });
            }
            Event::Eof { conn } if self.conns.contains_key(&conn) => {
                self.ended.push(conn);
                self.closed(conn);
            }
            Event::Closed { conn, .. } if self.conns.contains_key(&conn) => self.closed(conn),
            // What has left is counted in the turn.
            Event::Writable { conn } if self.conns.contains_key(&conn) => {}
            Event::Connected { conn } => self.dialed(conn, Ok(())),
            Event::ConnectFailed { conn, error } => self.dialed(conn, Err(error)),
            Event::Accepted { conn, peer, listener } => match (self.ports.of(listener), self.accepting) {
                (None, _) => return Some(event),
                (Some(Port::Election), _) => self.accepted(conn, Owner::Elections, peer),
                (Some(Port::Quorum), Some(term)) => self.accepted(conn, Owner::Role(term), peer),
                (Some(Port::Quorum), None) => panic!("the quorum port is open and nobody leads"),
            },
            _ => return Some(event),
        }
        None
    }

    fn accepted(&mut self, conn: ConnId, owner: Owner, from: SocketAddr) {
        self.add(conn, owner);
        self.heard.push_back(Heard::Accepted { conn, from });
    }

    fn dialed(&mut self, conn: ConnId, result: io::Result<()>) {
        // An attempt that comes too late is none of the dialer's any more, which closes it.
        if let Some(Outcome::Connected { key, conn }) = self.dialer.answered(conn, result) {
            let owner = match key {
                Dialed::Election(_) => Owner::Elections,
                Dialed::Leader(term) => Owner::Role(term),
            };
            self.add(conn, owner);
            self.fresh.push(conn);
            self.heard.push_back(Heard::Dialed { conn, by: key });
        }
    }

    fn add(&mut self, conn: ConnId, owner: Owner) {
        let before = self.conns.insert(conn, Conn { owner, is_open: true, unsent: 0 });
        assert!(before.is_none(), "connection {conn} is there twice");
    }

    fn closed(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.get_mut(&conn).filter(|open| open.is_open) {
            open.is_open = false;
            self.heard.push_back(Heard::Closed { conn });
        }
    }

    /// Does what is due. If no election port can be had, the process ends.
    pub(super) fn turn(&mut self, net: &mut Net, now_ms: i64) {
        self.ended.drain(..).for_each(|conn| net.close(conn, Close::Graceful));
        for conn in self.fresh.drain(..).filter(|_| self.options.keepalive) {
            net.keep_alive(conn);
        }
        for outcome in self.dialer.turn(net, now_ms) {
            let Outcome::Failed { key, why } = outcome else { unreachable!("{outcome:?} of a turn") };
            tracing::warn!(target: PEER_LOG, dial = ?key, why, "another server cannot be reached");
            self.heard.push_back(Heard::Failed(key));
        }
        if let Err(why) = self.ports.turn(net, now_ms) {
            fatal(ExitCode::Bind, why);
        }
        if self.ports.is_heard() {
            for (to, target) in std::mem::take(&mut self.early) {
                self.dial(net, now_ms, Dialed::Election(to), &target, self.options.election_dial_ms);
            }
        }
        self.count_what_left(net);
    }

    /// The next event for the peer.
    pub(super) fn next(&mut self) -> Option<NetEvent> {
        while let Some(heard) = self.heard.pop_front() {
            if let Some(event) = self.event(heard) {
                return Some(event);
            }
        }
        None
    }

    /// What this says to the peer; nothing if the peer has closed the connection or ended its term.
    fn event(&mut self, heard: Heard) -> Option<NetEvent> {
        let owner = |conn| self.conns.get(conn).map(|conn| conn.owner);
        let quorum = |term, event| Some(NetEvent::Quorum { term, event });
        let election = |event| Some(NetEvent::Election(event));
        match heard {
            Heard::Failed(Dialed::Election(to)) => election(ElectionEvent::DialFailed { to }),
            Heard::Failed(Dialed::Leader(term)) => quorum(term, QuorumEvent::DialFailed),
            Heard::Accepted { conn, from } => match owner(&conn)? {
                Owner::Elections => election(ElectionEvent::Accepted { conn, from: from.ip() }),
                Owner::Role(term) => quorum(term, QuorumEvent::Accepted { conn, from }),
            },
            Heard::Dialed { conn, by } => match (owner(&conn)?, by) {
                (Owner::Elections, Dialed::Election(to)) => election(ElectionEvent::Dialed { to, conn }),
                (Owner::Role(term), Dialed::Leader(_)) => quorum(term, QuorumEvent::Dialed { conn }),
                (owner, by) => panic!("{conn} is dialled by {by:?} for {owner:?}"),
            },
            Heard::Bytes { conn, bytes } => match owner(&conn)? {
                Owner::Elections => election(ElectionEvent::Bytes { conn, bytes }),
                Owner::Role(term) => quorum(term, QuorumEvent::Bytes { conn, bytes }),
            },
            Heard::Left { conn, bytes } => match owner(&conn)? {
                Owner::Elections => election(ElectionEvent::Written { conn }),
                Owner::Role(term) => quorum(term, QuorumEvent::Left { conn, bytes }),
            },
            Heard::Closed { conn } => match self.conns.remove(&conn)?.owner {
                Owner::Elections => election(ElectionEvent::Closed { conn }),
                Owner::Role(term) => quorum(term, QuorumEvent::Closed { conn }),
            },
        }
    }

    /// Does what the peer wants.
    pub(super) fn want(&mut self, net: &mut Net, now_ms: i64, want: NetWant) {
        match want {
            NetWant::Election(ElectionWant::Dial { to, addresses, only }) => {
                let hosts = addresses.into_iter().map(|address| (address.host, address.port)).collect();
                let target = Target { hosts, only };
                if self.ports.is_heard() {
                    self.dial(net, now_ms, Dialed::Election(to), &target, self.options.election_dial_ms);
                } else {
                    self.early.insert(to, target);
                }
            }
            NetWant::Election(ElectionWant::Write { conn, bytes }) => self.write(net, conn, &bytes),
            NetWant::Election(ElectionWant::Close { conn }) => self.close(net, conn),
            NetWant::Quorum { term, want } => self.want_of_role(net, now_ms, term, want),
        }
    }

    fn want_of_role(&mut self, net: &mut Net, now_ms: i64, term: Term, want: QuorumWant) {
        match want {
            QuorumWant::Listen => {
                assert!(self.accepting.is_none(), "{term:?} accepts learners, and {:?} does", self.accepting);
                self.accepting = Some(term);
                self.ports.open(now_ms, Port::Quorum);
            }
            QuorumWant::Dial { leader } => {
                let addresses = self.options.members.get(leader).map(|member| &member.addresses);
                let hosts = addresses.into_iter().flatten().map(|a| (a.host.clone(), a.quorum_port)).collect();
                let target = Target { hosts, only: None };
                self.dial(net, now_ms, Dialed::Leader(term), &target, self.options.leader_dial_ms);
            }
            QuorumWant::Write { conn, bytes } => self.write(net, conn, &bytes),
            QuorumWant::Read { conn, reads: true } => net.resume_recv(conn),
            QuorumWant::Read { conn, reads: false } => net.pause_recv(conn),
            QuorumWant::Close { conn } => self.close(net, conn),
            QuorumWant::End => self.end(net, term),
        }
    }

    fn dial(&mut self, net: &mut Net, now_ms: i64, key: Dialed, target: &Target, most_ms: i64) {
        // Whoever has forgotten a server dials it again although the earlier dial has not ended.
        self.dialer.give_up(net, key);
        self.dialer.dial(now_ms, key, target, most_ms);
    }

    fn write(&mut self, net: &mut Net, conn: ConnId, bytes: &[u8]) {
        let Some(open) = self.conns.get_mut(&conn).filter(|open| open.is_open) else { return };
        net.out(conn).extend_from_slice(bytes);
        // The core must wake up when all has left, to count it.
        net.want_writable(conn);
        if open.unsent == 0 {
            self.sending.push(conn);
        }
        open.unsent += bytes.len();
        self.wrote = true;
    }

    fn close(&mut self, net: &mut Net, conn: ConnId) {
        if self.conns.remove(&conn).is_some() {
            net.close(conn, Close::Graceful);
        }
    }

    /// The role of this term is over.
    fn end(&mut self, net: &mut Net, term: Term) {
        if self.accepting == Some(term) {
            self.accepting = None;
            self.ports.close(net, Port::Quorum);
        }
        self.dialer.give_up(net, Dialed::Leader(term));
        self.heard.retain(|heard| !matches!(heard, Heard::Failed(Dialed::Leader(of)) if *of == term));
        for (conn, _) in self.conns.extract_if(|_, open| open.owner == Owner::Role(term)) {
            net.close(conn, Close::Graceful);
        }
    }

    /// Sends what was written since the last call.
    pub(super) fn flush(&mut self, net: &mut Net) {
        if !std::mem::take(&mut self.wrote) {
            return;
        }
        if let Err(error) = net.flush() {
            fatal(ExitCode::Unexpected, format!("{} fails: {error}", net.backend()));
        }
        self.count_what_left(net);
    }

    fn count_what_left(&mut self, net: &Net) {
        let PeerNet { sending, conns, heard, .. } = self;
        sending.retain(|conn| {
            let Some(open) = conns.get_mut(conn).filter(|open| open.is_open) else { return false };
            let unsent = net.queued(*conn);
            assert!(unsent <= open.unsent, "{unsent} bytes of {} wait on {conn}", open.unsent);
            let bytes = open.unsent - unsent;
            // A writer of votes only hears that all has left.
            if bytes > 0 && (unsent == 0 || matches!(open.owner, Owner::Role(_))) {
                heard.push_back(Heard::Left { conn: *conn, bytes });
            }
            open.unsent = unsent;
            unsent > 0
        });
    }

    /// Whether nothing waits for the peer.
    pub(super) fn is_idle(&self) -> bool {
        self.heard.is_empty()
    }

    /// When [`PeerNet::turn`] is due, in milliseconds of the monotonic clock. It is due whenever the bell has rung, too.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        let rest = (!self.ended.is_empty() || !self.fresh.is_empty()).then_some(i64::MIN);
        earliest([self.dialer.deadline_ms(), self.ports.deadline_ms(), rest])
    }
}
