//! Servers that elect each other, their connections, and strangers; every step is the input's choice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use zabra::quorum::{Members, Role};
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::{Candidate, Electorate};
use zabra::zab::links::ElectionWant;
use zabra::zab::messenger::{Messenger, Want};
use zabra::zab::notification::Notification;
use zabra::zab::vote::ServerState;

use crate::election_said::{assert_readable, configuration, hello, messenger, parse, said};
use crate::input::Input;

const STEPS: usize = 600;

/// Where strangers come from.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

/// How long a server that leads nobody, or follows nobody who leads, waits before it elects again.
const GIVE_UP_MS: i64 = 1000;

struct Server {
    messenger: Messenger,
    members: Arc<Members>,
    candidate: Candidate,
    since_ms: i64,
}

/// One end of a connection. `at` is `None` for a stranger's.
struct End {
    at: Option<ServerId>,
    peer: ConnId,
    dialled: bool,
    has_written: bool,
    writing: bool,
    /// What is on its way to this end; `None` is the end of the connection.
    coming: VecDeque<Option<Bytes>>,
}

pub(crate) struct World {
    now_ms: i64,
    servers: BTreeMap<ServerId, Server>,
    members: Arc<Members>,
    ends: BTreeMap<ConnId, End>,
    next: u64,
    dials: VecDeque<(ServerId, ServerId)>,
    dialling: BTreeSet<(ServerId, ServerId)>,
    reconfig: bool,
    all_addresses: bool,
}

impl World {
    pub(crate) fn new(flags: u8, input: &mut Input<'_>) -> World {
        let voters = 1 + i64::from(flags >> 1 & 3);
        World {
            now_ms: 0,
            servers: BTreeMap::new(),
            members: configuration(voters),
            ends: BTreeMap::new(),
            next: 0,
            dials: VecDeque::new(),
            dialling: BTreeSet::new(),
            reconfig: flags & 8 != 0,
            all_addresses: input.flag(),
        }
    }

    pub(crate) fn run(mut self, input: &mut Input<'_>) {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            self.step(input);
            self.servers.values().for_each(|server| server.messenger.check());
        }
        // An adopted configuration may be one in which nobody can lead.
        if !self.reconfig {
            self.heal();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let ids: Vec<ServerId> = self.members.iter().map(|(id, _)| id).collect();
        match input.below(13) {
            0..=3 => self.arrive(input.below(256)),
            4 => {
                let to = *input.pick(&ids);
                if self.servers.contains_key(&to) {
                    let conn = self.connect(None, to);
                    let mut bytes = Vec::new();
                    hello(input, &mut bytes);
                    self.push(conn, Some(bytes.into()));
                }
            }
            5 => {
                let bytes = Bytes::copy_from_slice(input.piece());
                self.stranger(input).into_iter().for_each(|conn| self.push(conn, Some(bytes.clone())));
            }
            6 | 7 => {
                let mut bytes = Vec::new();
                said(input, &mut bytes);
                self.stranger(input).into_iter().for_each(|conn| self.push(conn, Some(bytes.clone().into())));
            }
            8 => self.stranger(input).into_iter().for_each(|conn| self.end(conn)),
            9 => {
                self.now_ms += i64::from(input.u8()) * 4;
                self.tick();
            }
            10 => {
                let open: Vec<_> = self.ends.keys().copied().collect();
                if let Some(conn) = open.get(input.below(open.len())) {
                    self.cut(*conn);
                }
            }
            11 => {
                let id = *input.pick(&ids);
                if self.servers.contains_key(&id) {
                    self.kill(id);
                } else {
                    self.boot(id, input);
                }
            }
            _ => {
                let id = *input.pick(&ids);
                if self.servers.contains_key(&id) {
                    self.look(id);
                }
            }
        }
    }

    fn boot(&mut self, id: ServerId, input: &mut Input<'_>) {
        let epoch = Epoch(input.below(3) as i64);
        let last = Zxid::new(epoch, input.below(3) as u32);
        let role = self.members.get(id).map_or(Role::Participant, |member| member.role);
        let members = self.members.clone();
        let messenger = messenger(id, members.clone(), self.reconfig, self.all_addresses);
        let candidate = Candidate { role, last, epoch };
        self.servers.insert(id, Server { messenger, members, candidate, since_ms: self.now_ms });
        self.look(id);
    }

    fn kill(&mut self, id: ServerId) {
        self.servers.remove(&id);
        self.dials.retain(|(from, _)| *from != id);
        self.dialling.retain(|(from, _)| *from != id);
        let own: Vec<_> = self.ends.iter().filter(|(_, end)| end.at == Some(id)).map(|(conn, _)| *conn).collect();
        own.into_iter().for_each(|conn| self.end(conn));
    }

    fn look(&mut self, id: ServerId) {
        let now_ms = self.now_ms;
        self.with(id, |server, wants| server.messenger.start(now_ms, server.candidate, wants));
    }

    fn stranger(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let all: Vec<_> = self.ends.iter().filter(|(_, end)| end.at.is_none()).map(|(conn, _)| *conn).collect();
        all.get(input.below(all.len())).copied()
    }

    /// Runs one server's messenger and does what it wants.
    fn with(&mut self, id: ServerId, act: impl FnOnce(&mut Server, &mut Vec<Want>)) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let mut wants = Vec::new();
        act(server, &mut wants);
        let mut wants = VecDeque::from(wants);
        while let Some(want) = wants.pop_front() {
            let mut more = Vec::new();
            self.want(id, want, &mut more);
            wants.extend(more);
        }
    }

    fn want(&mut self, id: ServerId, want: Want, more: &mut Vec<Want>) {
        match want {
            Want::Net(ElectionWant::Dial { to, addresses, only }) => {
                assert!(to != id && !addresses.is_empty() && self.dialling.insert((id, to)), "{id:?} dials {to:?}");
                match only {
                    // Whoever is left out of an adopted configuration is a stranger, too.
                    Some(ip) => assert!(ip == ELSEWHERE || self.reconfig, "only where a stranger came from, not {ip}"),
                    None => {
                        let known = self.servers[&id].members.get(to).expect("a member");
                        assert!(addresses.iter().all(|a| known.addresses.iter().any(|k| k.host == a.host)));
                    }
                }
                self.dials.push_back((id, to));
            }
            Want::Net(ElectionWant::Write { conn, bytes }) => {
                let end = self.ends.get_mut(&conn).expect("it is open");
                assert!(end.at == Some(id) && !end.writing, "{id:?} writes before its last write has left");
                assert_readable(&bytes, end.dialled && !end.has_written);
                (end.writing, end.has_written) = (true, true);
                self.push(conn, Some(bytes));
            }
            Want::Net(ElectionWant::Close { conn }) => self.end(conn),
            Want::Elected(held) => {
                let now_ms = self.now_ms;
                let server = self.servers.get_mut(&id).expect("it runs");
                server.since_ms = now_ms;
                assert_eq!(held.state, server.messenger.election().state());
            }
            Want::Looks(looker) => {
                assert!(looker.server != id && self.servers[&id].messenger.election().state() == ServerState::Leading);
            }
            Want::Adopt { from, said } => self.adopt(id, from, said, more),
        }
    }

    fn adopt(&mut self, id: ServerId, from: ServerId, said: Notification, more: &mut Vec<Want>) {
        let now_ms = self.now_ms;
        let (Some(text), Some(version)) = (&said.config, said.config_version()) else { panic!("{said:?}") };
        let server = self.servers.get_mut(&id).expect("it runs");
        assert!(self.reconfig, "{id:?} adopts a configuration");
        if server.messenger.election().state() != ServerState::Looking || version <= server.members.version() {
            return;
        }
        match parse(text, version) {
            Some(members) => {
                server.members = Arc::new(members);
                let electorate = Electorate { members: server.members.clone(), next: None };
                server.messenger.set_electorate(electorate, more);
                server.messenger.start(now_ms, server.candidate, more);
            }
            None => server.messenger.heard(now_ms, from, &Notification { config: None, ..said }, more),
        }
    }

    /// Connects to a server; the dialler's end.
    fn connect(&mut self, from: Option<ServerId>, to: ServerId) -> ConnId {
        let (here, there) = (ConnId(self.next), ConnId(self.next + 1));
        self.next += 2;
        let end =
            |at, peer, dialled| End { at, peer, dialled, has_written: false, writing: false, coming: VecDeque::new() };
        self.ends.insert(here, end(from, there, true));
        let is_server = self.servers.contains_key(&to);
        self.ends.insert(there, end(is_server.then_some(to), here, false));
        let ip = from.map_or(ELSEWHERE, |from| IpAddr::from([10, 0, 1, from.0 as u8]));
        let now_ms = self.now_ms;
        self.with(to, |server, wants| server.messenger.accepted(now_ms, there, ip, wants));
        here
    }

    /// Something leaves for the other end.
    fn push(&mut self, conn: ConnId, what: Option<Bytes>) {
        let peer = self.ends.get(&conn).map(|end| end.peer);
        if let Some(peer) = peer.and_then(|peer| self.ends.get_mut(&peer)) {
            peer.coming.push_back(what);
        }
    }

    /// This end closes.
    fn end(&mut self, conn: ConnId) {
        self.push(conn, None);
        self.ends.remove(&conn);
    }

    /// A connection breaks, with everything on its way.
    fn cut(&mut self, conn: ConnId) {
        let Some(end) = self.ends.remove(&conn) else { return };
        let other = self.ends.remove(&end.peer);
        for (conn, at) in [(conn, end.at), (end.peer, other.and_then(|other| other.at))] {
            let server = at.and_then(|at| self.servers.get_mut(&at));
            server.into_iter().for_each(|server| server.messenger.closed(conn));
        }
    }

    /// The `at`-th thing on its way arrives, in the order of each connection.
    fn arrive(&mut self, at: usize) {
        let full: Vec<_> = self.ends.iter().filter(|(_, end)| !end.coming.is_empty()).map(|(conn, _)| *conn).collect();
        let count = full.len() + self.dials.len();
        let Some(at) = at.checked_rem(count) else { return };
        let Some(conn) = full.get(at).copied() else {
            let (from, to) = self.dials.remove(at - full.len()).expect("counted");
            return self.dial_arrives(from, to);
        };
        let end = self.ends.get_mut(&conn).expect("it is open");
        let (at, peer) = (end.at, end.peer);
        match end.coming.pop_front().expect("something") {
            Some(bytes) => {
                let now_ms = self.now_ms;
                if let Some(at) = at {
                    self.with(at, |server, wants| server.messenger.bytes(now_ms, conn, &bytes, wants));
                }
                let sender = self.ends.get_mut(&peer).and_then(|end| {
                    end.writing = false;
                    end.at
                });
                if let Some(sender) = sender {
                    self.with(sender, |server, wants| server.messenger.written(peer, wants));
                }
            }
            None => {
                self.ends.remove(&conn);
                let server = at.and_then(|at| self.servers.get_mut(&at));
                server.into_iter().for_each(|server| server.messenger.closed(conn));
            }
        }
    }

    fn dial_arrives(&mut self, from: ServerId, to: ServerId) {
        self.dialling.remove(&(from, to));
        let is_member = self.members.get(to).is_some();
        if is_member && !self.servers.contains_key(&to) {
            return self.with(from, |server, _| server.messenger.dial_failed(to));
        }
        let conn = self.connect(Some(from), to);
        self.with(from, |server, wants| server.messenger.dialed(to, conn, wants));
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms;
        let ids: Vec<_> = self.servers.keys().copied().collect();
        for id in ids {
            self.with(id, |server, wants| server.messenger.tick(now_ms, wants));
        }
    }

    /// The strangers go, every server runs, and nothing breaks any more: then there is a leader.
    fn heal(&mut self) {
        let strangers: Vec<_> = self.ends.iter().filter(|(_, end)| end.at.is_none()).map(|(conn, _)| *conn).collect();
        strangers.into_iter().for_each(|conn| self.end(conn));
        let ids: Vec<ServerId> = self.members.iter().map(|(id, _)| id).collect();
        for id in ids {
            if !self.servers.contains_key(&id) {
                self.boot(id, &mut Input::new(&[]));
            }
        }
        let end_ms = self.now_ms + 600_000;
        while !self.has_leader() {
            assert!(self.now_ms < end_ms, "no leader after ten minutes");
            let mut arrived = 0;
            while !self.dials.is_empty() || self.ends.values().any(|end| !end.coming.is_empty()) {
                self.arrive(0);
                arrived += 1;
                assert!(arrived < 20_000, "the servers talk without end");
            }
            self.now_ms += 50;
            self.tick();
            self.give_up();
        }
    }

    fn follows(&self, id: ServerId) -> Option<ServerId> {
        let election = self.servers.get(&id)?.messenger.election();
        (election.state() != ServerState::Looking).then(|| election.current().vote.leader)
    }

    /// Without a leader that leads, and without a quorum of followers, a server elects again.
    fn give_up(&mut self) {
        let leads = |id: ServerId| {
            let behind = |other: ServerId| self.follows(other) == Some(id);
            behind(id) && self.members.verifier().contains_quorum_by(behind)
        };
        let lost = self.servers.iter().filter(|(id, server)| {
            let leader = self.follows(**id);
            self.now_ms > server.since_ms + GIVE_UP_MS && leader.is_some_and(|leader| !leads(leader))
        });
        let lost: Vec<_> = lost.map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.look(id));
    }

    fn has_leader(&self) -> bool {
        let mut leaders = self.servers.keys().map(|id| self.follows(*id));
        let Some(Some(first)) = leaders.next() else { return false };
        leaders.all(|leader| leader == Some(first))
            && self.servers.get(&first).is_some_and(|s| s.messenger.election().state() == ServerState::Leading)
    }
}
