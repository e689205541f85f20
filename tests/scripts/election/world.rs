//! Servers, the network between them and a clock, and the commands that control them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use zabra::quorum::{Member, Members, Role};
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::{Candidate, Electorate, Timing};
use zabra::zab::links::ElectionWant;
use zabra::zab::messenger::{Messenger, Want};
use zabra::zab::notification::Notification;

use super::net::{Moving, Net, Sent};
use super::show;
use crate::scripts::command::Args;

/// How long a dial is tried (`zookeeper.cnxTimeout`).
const DIAL_MS: i64 = 5000;

/// How long a connection may take to say who it is.
const HELLO_MS: i64 = 10_000;

/// The state of a script.
#[derive(Default)]
pub struct World {
    pub(super) now_ms: i64,
    /// The time that the last line of output was about.
    shown_ms: i64,
    /// The configuration of servers that are started from now on.
    config: Option<Arc<Members>>,
    pub(super) servers: BTreeMap<ServerId, Server>,
    /// What servers have on their disks.
    disks: BTreeMap<ServerId, (Epoch, Zxid)>,
    /// Servers that the script speaks for.
    pub(super) hands: BTreeSet<ServerId>,
    /// Hosts that answer nothing.
    lost: BTreeSet<ServerId>,
    pub(super) net: Net,
    said: Vec<String>,
}

/// One of our servers.
pub struct Server {
    pub(super) messenger: Messenger,
    role: Role,
    config: Arc<Members>,
    /// Stopped, as by SIGSTOP.
    stopped: bool,
}

impl World {
    /// Runs a command and returns its output.
    pub fn command(&mut self, line: &str) -> Vec<String> {
        let mut args = Args::new(line);
        let what = args.need("command");
        self.shown_ms = self.now_ms;
        self.perform(what, &mut args);
        args.end();
        self.servers.values().for_each(|server| server.messenger.check());
        std::mem::take(&mut self.said)
    }

    fn perform(&mut self, what: &str, args: &mut Args<'_>) {
        match what {
            "servers" => self.configure(args),
            "start" => self.start(args),
            "elect" => {
                let id = server(args);
                self.history(id, args);
                self.look(id);
            }
            "established" => self.established(args),
            "kill" | "lose" => self.end_server(server(args), what == "lose"),
            "stop" | "go" => {
                let id = server(args);
                self.servers.get_mut(&id).expect("it runs").stopped = what == "stop";
            }
            "cut" | "heal" => {
                let (a, b) = (server(args), server(args));
                self.net.cut(a, b, what == "cut");
            }
            "step" => {
                let ends = ends(args);
                assert!(self.arrive(Some(ends)), "nothing is on its way");
            }
            "settle" => while self.arrive(None) {},
            "run" => self.pass(args, true),
            "tick" => self.pass(args, false),
            "hand" => _ = self.hands.insert(server(args)),
            "dial" => self.hand_dials(args),
            "say" => self.hand_says(args),
            "bytes" => self.hand_sends(args),
            "end" => {
                let (from, to) = ends(args);
                let number = args.number("conn").map(|number| number as u64);
                let conn = number.map_or_else(|| self.net.newest(from, to), |number| self.net.numbered(from, number));
                self.net.close(conn.expect("a connection"), false);
            }
            "show" => self.show(args),
            other => panic!("there is no command {other}"),
        }
    }

    pub(super) fn say(&mut self, line: String) {
        if self.now_ms != self.shown_ms {
            self.said.push(format!("[{} ms]", self.now_ms));
            self.shown_ms = self.now_ms;
        }
        self.said.push(line);
    }

    /// `servers N[:observer]... [version=Z] [addresses=two]`
    fn configure(&mut self, args: &mut Args<'_>) {
        let version = args.zxid("version").unwrap_or_default();
        let two = args.value("addresses").is_some_and(|what| what == "two");
        let member = |word: &str| {
            let (id, role) = word.split_once(':').unwrap_or((word, "participant"));
            let further = if two { format!("|g{id}:2889:388{id}") } else { String::new() };
            let member = Member::parse(&format!("h{id}:2888:388{id}:{role}{further}")).expect("a member");
            (ServerId(id.parse().expect("a server's number")), member)
        };
        let members = std::iter::from_fn(|| args.next()).map(member).collect();
        self.config = Some(Arc::new(Members::majority(members, version).expect("members")));
    }

    /// `[last=Z] [epoch=E]`: what the server has on its disk.
    fn history(&mut self, id: ServerId, args: &mut Args<'_>) {
        let disk = self.disks.entry(id).or_insert((Epoch(0), Zxid::ZERO));
        if let Some(last) = args.zxid("last") {
            *disk = (last.epoch(), last);
        }
        if let Some(epoch) = args.number("epoch") {
            disk.0 = Epoch(epoch);
        }
    }

    /// `start N [last=Z] [epoch=E] [hello=all] [reconfig]`
    fn start(&mut self, args: &mut Args<'_>) {
        let id = server(args);
        self.history(id, args);
        let (reconfig, all) = (args.flag("reconfig"), args.value("hello").is_some_and(|form| form == "all"));
        let config = self.config.clone().expect("`servers` comes first");
        let role = config.get(id).map_or(Role::Participant, |member| member.role);
        let electorate = Electorate { members: config.clone(), next: None };
        let messenger = Messenger::new(id, Timing::default(), electorate, reconfig, all, HELLO_MS);
        self.lost.remove(&id);
        let before = self.servers.insert(id, Server { messenger, role, config, stopped: false });
        assert!(before.is_none(), "{id:?} runs already");
        self.look(id);
    }

    fn look(&mut self, id: ServerId) {
        let (epoch, last) = self.disks[&id];
        let now_ms = self.now_ms;
        self.with(id, |server, wants| {
            server.messenger.start(now_ms, Candidate { role: server.role, last, epoch }, wants);
        });
    }

    /// `established E [N...]`: the leader that these servers, or all that have one, elected is established.
    fn established(&mut self, args: &mut Args<'_>) {
        let epoch = Epoch(args.need("epoch").parse().expect("an epoch"));
        let named: Vec<_> = std::iter::from_fn(|| args.next()).map(id).collect();
        for (id, server) in &mut self.servers {
            let looks = server.messenger.election().deadline_ms().is_some();
            if named.contains(id) || named.is_empty() && !looks && !server.stopped {
                server.messenger.established(epoch);
                self.disks.insert(*id, (epoch, self.disks[id].1));
            }
        }
    }

    fn end_server(&mut self, id: ServerId, silently: bool) {
        self.servers.remove(&id).expect("it runs");
        self.net.forget_dials(id);
        self.net.ends_at(id).into_iter().for_each(|conn| self.net.close(conn, silently));
        if silently {
            self.lost.insert(id);
        }
    }

    /// Runs one of the messengers and does what it wants.
    pub(super) fn with(&mut self, id: ServerId, act: impl FnOnce(&mut Server, &mut Vec<Want>)) {
        let mut wants = Vec::new();
        act(self.servers.get_mut(&id).expect("it runs"), &mut wants);
        let mut wants = VecDeque::from(wants);
        while let Some(want) = wants.pop_front() {
            let mut more = Vec::new();
            self.want(id, want, &mut more);
            wants.extend(more);
        }
        self.servers[&id].messenger.check();
    }

    fn want(&mut self, id: ServerId, want: Want, more: &mut Vec<Want>) {
        match want {
            Want::Net(ElectionWant::Dial { to, addresses, only }) => {
                let only_at = only.map_or_else(String::new, |ip| format!(", only if that is {ip}"));
                self.say(format!("{} dials {} at {}{only_at}", id.0, to.0, show::addresses(&addresses)));
                let what = Moving::Dial { to, addresses, only };
                self.net.send(Sent { from: id, to, what, until_ms: self.now_ms + DIAL_MS });
            }
            Want::Net(ElectionWant::Write { conn, bytes }) => {
                self.tell_bytes(conn, &bytes);
                self.net.write(conn, bytes);
                self.servers.get_mut(&id).expect("it runs").messenger.written(conn, more);
            }
            Want::Net(ElectionWant::Close { conn }) => {
                self.say(format!("{} closes c{}", id.0, self.net.end(conn).number));
                self.net.close(conn, false);
            }
            Want::Elected(held) => self.say(format!("{} is {}", id.0, show::held(&held))),
            Want::Looks(looker) if looker.supports => {
                self.say(format!("{} hears that its voter {} looks again", id.0, looker.server.0));
            }
            Want::Looks(_) => {}
            Want::Adopt { from, said } => self.adopt(id, from, &said, more),
        }
    }

    fn tell_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        let end = self.net.end(conn);
        let version = self.config.as_ref().map_or(Zxid::ZERO, |config| config.version());
        for said in show::bytes(bytes, end.says_hello, version) {
            self.say(format!("{} -> {} on c{}: {said}", end.at.0, end.peer.0, end.number));
        }
    }

    fn adopt(&mut self, id: ServerId, from: ServerId, said: &Notification, more: &mut Vec<Want>) {
        let text = said.config.as_deref().expect("it has a configuration");
        let version = said.config_version().expect("it has a version");
        let now_ms = self.now_ms;
        if version <= self.servers[&id].config.version() {
            return self.say(format!("{} has the configuration of {} already", id.0, from.0));
        }
        let line = |line: &str| {
            let (id, member) = line.strip_prefix("server.")?.split_once('=')?;
            Some((ServerId(id.parse().ok()?), Member::parse(member).ok()?))
        };
        let Ok(members) = Members::majority(text.lines().filter_map(line).collect(), version) else {
            self.say(format!("{} does not understand the configuration of {}", id.0, from.0));
            let said = Notification { config: None, ..said.clone() };
            return self.servers.get_mut(&id).expect("it runs").messenger.heard(now_ms, from, &said, more);
        };
        self.say(format!("{} adopts the configuration of {} and elects again", id.0, from.0));
        let server = self.servers.get_mut(&id).expect("it runs");
        server.config = Arc::new(members);
        server.role = server.config.get(id).map_or(Role::Participant, |member| member.role);
        let (epoch, last) = self.disks[&id];
        let electorate = Electorate { members: server.config.clone(), next: None };
        server.messenger.set_electorate(electorate, more);
        server.messenger.start(now_ms, Candidate { role: server.role, last, epoch }, more);
    }

    /// The first thing on its way that can arrive does. False: there is none.
    fn arrive(&mut self, between: Option<(ServerId, ServerId)>) -> bool {
        let stopped = |id: ServerId| self.servers.get(&id).is_some_and(|server| server.stopped);
        let can = |sent: &Sent| match sent.what {
            // The kernel of a stopped process takes connections all the same.
            Moving::Dial { .. } => !self.lost.contains(&sent.to) && !stopped(sent.from),
            _ => !self.lost.contains(&sent.to) && !stopped(sent.to),
        };
        let Some(Sent { from, to, what, .. }) = self.net.arrive(between, can) else { return false };
        let now_ms = self.now_ms;
        match what {
            Moving::Dial { to, addresses, only } => self.dial_arrives(from, to, &addresses, only),
            Moving::Accept { conn } => {
                if self.net.is_open(conn) && self.servers.contains_key(&to) {
                    self.with(to, |s, wants| s.messenger.accepted(now_ms, conn, host(from), wants));
                }
            }
            Moving::Bytes { conn, bytes } => {
                if self.net.is_open(conn) && self.servers.contains_key(&to) {
                    self.with(to, |s, wants| s.messenger.bytes(now_ms, conn, &bytes, wants));
                }
            }
            Moving::End { conn } => {
                if self.net.is_open(conn) {
                    self.net.close(conn, true);
                    self.say(format!("c{} ends for {}", self.net.end(conn).number, to.0));
                    if let Some(server) = self.servers.get_mut(&to) {
                        server.messenger.closed(conn);
                    }
                }
            }
        }
        true
    }

    fn dial_arrives(
        &mut self,
        from: ServerId,
        to: ServerId,
        addresses: &[zabra::zab::hello::ElectionAddress],
        only: Option<IpAddr>,
    ) {
        if let Some(only) = only
            && !addresses.iter().any(|address| address.host.parse() == Ok(only))
        {
            self.say(format!("{} may not dial there", from.0));
            return self.with(from, |server, _| server.messenger.dial_failed(to));
        }
        if !self.servers.contains_key(&to) && !self.hands.contains(&to) {
            self.say(format!("{} refuses {}", to.0, from.0));
            return self.with(from, |server, _| server.messenger.dial_failed(to));
        }
        let (conn, theirs) = self.net.connect(from, to);
        self.say(format!("c{}: {} has dialled {}", self.net.end(conn).number, from.0, to.0));
        self.net.send(Sent { from, to, what: Moving::Accept { conn: theirs }, until_ms: i64::MAX });
        self.with(from, |server, wants| server.messenger.dialed(to, conn, wants));
    }

    /// `run MS`, `tick MS`: time passes. `arrives`: what is on its way takes no time.
    fn pass(&mut self, args: &mut Args<'_>, arrives: bool) {
        let ms: i64 = args.need("milliseconds").parse().expect("milliseconds");
        let end_ms = self.now_ms + ms;
        loop {
            while arrives && self.arrive(None) {}
            let running = self.servers.iter().filter(|(_, server)| !server.stopped);
            let deadlines = running.filter_map(|(_, server)| server.messenger.deadline_ms());
            let Some(next_ms) = deadlines.chain(self.net.deadline_ms()).min().filter(|at| *at <= end_ms) else { break };
            self.now_ms = self.now_ms.max(next_ms);
            self.tick();
        }
        self.now_ms = end_ms;
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms;
        for (from, to) in self.net.given_up(now_ms) {
            self.say(format!("{} gives up dialling {}", from.0, to.0));
            self.with(from, |server, _| server.messenger.dial_failed(to));
        }
        let due = |server: &Server| !server.stopped && server.messenger.deadline_ms().is_some_and(|at| at <= now_ms);
        let due: Vec<_> = self.servers.iter().filter(|(_, server)| due(server)).map(|(id, _)| *id).collect();
        for id in due {
            self.with(id, |server, wants| server.messenger.tick(now_ms, wants));
        }
    }

    /// A server of the script connects, without a word.
    pub(super) fn hand_connects(&mut self, from: ServerId, to: ServerId) -> ConnId {
        self.hands.insert(from);
        assert!(self.servers.contains_key(&to), "{to:?} does not run");
        let (conn, theirs) = self.net.connect(from, to);
        self.say(format!("c{}: {} has dialled {}", self.net.end(conn).number, from.0, to.0));
        self.net.send(Sent { from, to, what: Moving::Accept { conn: theirs }, until_ms: i64::MAX });
        conn
    }

    pub(super) fn hand_writes(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.net.write(conn, Bytes::from(bytes));
    }
}

pub(super) fn id(text: &str) -> ServerId {
    ServerId(text.parse().unwrap_or_else(|e| panic!("server {text}: {e}")))
}

fn server(args: &mut Args<'_>) -> ServerId {
    id(args.need("server"))
}

/// `A>B`
pub(super) fn ends(args: &mut Args<'_>) -> (ServerId, ServerId) {
    let text = args.need("sender and receiver");
    let (from, to) = text.split_once('>').unwrap_or_else(|| panic!("{text} is not A>B"));
    (id(from), id(to))
}

/// The IP address of a server's host.
fn host(server: ServerId) -> IpAddr {
    IpAddr::from([10, 0, 0, server.0 as u8])
}
