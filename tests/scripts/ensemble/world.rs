//! Servers, their disks, and the commands that control them.

use std::collections::BTreeMap;
use std::sync::Arc;

use zabra::oracle::memory::{MemberSettings, MemoryMember};
use zabra::oracle::test_disk::TestDisk;
use zabra::peer::{Input, LocalSessionOptions, SnapshotTicket};
use zabra::quorum::{Member, Members};
use zabra::txnlog::epoch::read_epoch;
use zabra::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use zabra::types::{Epoch, Now, ServerId, Term, Zxid};
use zabra::zab::history::HistoryLimits;

use super::clients::{Client, Sessions};
use super::hand::Hand;
use super::logs::Logs;
use super::net::Net;
use super::shards::{Connection, Core};
use crate::scripts::command::Args;

/// The state of a script.
pub struct World {
    pub(super) now: Now,
    /// The time that the last line of output was about.
    shown_ms: i64,
    config: Option<Arc<Members>>,
    history: HistoryLimits,
    local_sessions: Option<LocalSessionOptions>,
    read_only_after_ms: Option<i64>,
    has_shards: bool,
    /// The server with `syncEnabled=false`.
    without_log: Option<ServerId>,
    pub(super) servers: BTreeMap<ServerId, Server>,
    pub(super) hands: BTreeMap<ServerId, Hand>,
    pub(super) net: Net,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) sessions: Sessions,
    pub(super) connections: BTreeMap<String, Connection>,
    pub(super) shows_pings: bool,
    /// Something has happened since the scheduler last looked.
    pub(super) has_news: bool,
    said: Vec<String>,
}

impl Default for World {
    fn default() -> World {
        World {
            now: Now { mono_ms: 0, wall_ms: 1_700_000_000_000, mono_ns: 0 },
            shown_ms: 0,
            config: None,
            history: HistoryLimits::default(),
            local_sessions: None,
            read_only_after_ms: None,
            has_shards: false,
            without_log: None,
            servers: BTreeMap::new(),
            hands: BTreeMap::new(),
            net: Net::default(),
            clients: BTreeMap::new(),
            sessions: Sessions::default(),
            connections: BTreeMap::new(),
            shows_pings: false,
            has_news: false,
            said: Vec::new(),
        }
    }
}

/// One of our servers.
pub struct Server {
    pub disk: TestDisk,
    pub member: Option<MemoryMember>,
    /// Its shard, if scripts do not stand in for it.
    pub core: Option<Core>,
    /// The term that accepts learners.
    pub listens: Option<Term>,
    pub serves: bool,
    /// Stopped, as by SIGSTOP.
    pub is_frozen: bool,
    /// Its log thread waits for the disk.
    pub log_stands: bool,
    /// It has a reason for a turn.
    pub is_due: bool,
}

impl Server {
    fn new() -> Server {
        Server {
            disk: TestDisk::new(),
            member: None,
            core: None,
            listens: None,
            serves: false,
            is_frozen: false,
            log_stands: false,
            is_due: false,
        }
    }

    /// The epochs on the disk.
    pub fn epochs(&self) -> String {
        let read = |name| read_epoch(&self.disk, name).expect("it can be read").map_or(-1, |Epoch(epoch)| epoch);
        format!("acceptedEpoch {}, currentEpoch {}", read(ACCEPTED_EPOCH), read(CURRENT_EPOCH))
    }
}

impl World {
    /// Runs a command and returns its output.
    pub fn command(&mut self, line: &str) -> Vec<String> {
        self.shown_ms = self.now.mono_ms;
        let mut args = Args::new(line);
        let what = args.need("command");
        self.perform(what, &mut args);
        args.end();
        std::mem::take(&mut self.said)
    }

    fn perform(&mut self, what: &str, args: &mut Args<'_>) {
        match what {
            "servers" => self.configure(args),
            "hand" => self.add_hands(args),
            "hands" => self.vote(args),
            "start" => self.start(args),
            "kill" | "power" => self.end(args, what == "power"),
            "wipe" => self.wipe(args),
            "freeze" | "thaw" => {
                let server = self.server(server_id(args));
                server.is_frozen = what == "freeze";
                server.is_due = true;
            }
            "cut" | "heal" => {
                let (a, b) = (server_id(args), server_id(args));
                self.net.cut(a, b, what == "cut");
            }
            "hold" | "release" => {
                let (from, to) = ends(args);
                self.net.hold(from, to, what == "hold");
            }
            "let" => self.let_through(args),
            "disk" => self.disk(args),
            "settle" => self.settle(),
            "run" => self.run(args),
            "dial" => {
                let (from, to) = ends(args);
                self.dial_by_hand(from, to);
            }
            "say" => self.hand_says(args),
            "bytes" => self.hand_sends(args),
            "close" => self.hand_closes(args),
            "welcome" => self.welcome(args),
            "join" => self.join(args),
            "client" => self.client(args),
            "resume" => self.resume(args),
            "send" => self.send(args),
            "touch" => self.touch(args),
            "connect" => self.connect_client(args),
            "ask" => self.ask(args),
            "show" => self.show(args),
            "files" => {
                let id = server_id(args);
                let names = self.server(id).disk.names().join(" ");
                self.say(format!("{}: {names}", id.0));
            }
            "snapshot" => {
                let id = server_id(args);
                self.member(id).mail.inbox.push_back(Input::SnapshotAsked(SnapshotTicket(1)));
            }
            "pings" => self.shows_pings = args.need("on or off") == "on",
            other => panic!("there is no command {other}"),
        }
    }

    pub(super) fn say(&mut self, line: String) {
        if self.now.mono_ms != self.shown_ms {
            self.said.push(format!("[{} ms]", self.now.mono_ms));
            self.shown_ms = self.now.mono_ms;
        }
        self.said.push(line);
    }

    /// Whether there is a process at this address, or the script.
    pub(super) fn is_there(&self, id: ServerId) -> bool {
        self.hands.contains_key(&id) || self.servers.get(&id).is_some_and(|server| server.member.is_some())
    }

    pub(super) fn server(&mut self, id: ServerId) -> &mut Server {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no server {}", id.0))
    }

    pub(super) fn member(&mut self, id: ServerId) -> &mut MemoryMember {
        self.server(id).member.as_mut().unwrap_or_else(|| panic!("server {} does not run", id.0))
    }

    /// `servers N[:observer]... [history=COUNT] [sessions=local] [read_only=MS] [shards=shipped] [nolog=N]`
    fn configure(&mut self, args: &mut Args<'_>) {
        self.read_only_after_ms = args.number("read_only");
        self.has_shards = args.value("shards") == Some("shipped");
        self.history.count = args.number("history").map_or(self.history.count, |count| count as usize);
        if args.value("sessions") == Some("local") {
            self.local_sessions = Some(LocalSessionOptions { upgrading: true });
        }
        self.without_log = args.number("nolog").map(ServerId);
        let member = |word: &str| {
            let (id, role) = word.split_once(':').unwrap_or((word, "participant"));
            let member = Member::parse(&format!("h{id}:2888:388{id}:{role}")).expect("a member");
            (ServerId(id.parse().expect("a server's number")), member)
        };
        let members: BTreeMap<_, _> = std::iter::from_fn(|| args.next()).map(member).collect();
        self.config = Some(Arc::new(Members::majority(members.into_iter().collect(), Zxid::ZERO).expect("members")));
    }

    pub(super) fn config(&self) -> Arc<Members> {
        self.config.clone().expect("`servers` comes first")
    }

    fn settings(&self, id: ServerId) -> MemberSettings {
        let mut settings = MemberSettings::new(id, self.config(), super::show::LIMIT);
        settings.ensemble.history = self.history;
        settings.ensemble.read_only_after_ms = self.read_only_after_ms;
        settings.peer.prep.extended.enabled = true;
        settings.local_sessions = self.local_sessions;
        settings.keeps_log = self.without_log != Some(id);
        settings
    }

    /// `start N...`: on what their disks have.
    fn start(&mut self, args: &mut Args<'_>) {
        while let Some(id) = args.next().map(id) {
            let (settings, now, has_shards) = (self.settings(id), self.now, self.has_shards);
            assert!(!self.hands.contains_key(&id), "{id:?} is played by the script");
            let server = self.servers.entry(id).or_insert_with(Server::new);
            assert!(server.member.is_none(), "{id:?} runs already");
            let (member, lines) = Logs::of(|| MemoryMember::start(settings, &server.disk, now));
            server.core = has_shards.then(|| Core::new(&member));
            server.member = Some(member);
            server.is_due = true;
            self.logged(id, lines);
            self.after_turn(id);
        }
    }

    /// `kill N`, `power N`: the process ends; `power`: the disk loses what was not synced.
    fn end(&mut self, args: &mut Args<'_>, power: bool) {
        let id = server_id(args);
        let server = self.server(id);
        assert!(server.member.take().is_some() || power, "{id:?} does not run");
        match power {
            true => server.disk.power_cycle(0),
            false => server.disk.restart(),
        }
        self.has_ended(id);
    }

    pub(super) fn has_ended(&mut self, id: ServerId) {
        let server = self.server(id);
        (server.listens, server.serves, server.is_frozen, server.log_stands) = (None, false, false, false);
        server.core = None;
        self.net.ends_at(id, None).into_iter().for_each(|conn| self.close(conn));
    }

    /// `wipe N`: the server's directory is emptied.
    fn wipe(&mut self, args: &mut Args<'_>) {
        let server = self.server(server_id(args));
        assert!(server.member.is_none(), "it runs");
        server.disk = TestDisk::new();
    }

    /// `let A>B [COUNT]`: so many packets that are held arrive.
    fn let_through(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let count = args.next().map_or(1, |count| count.parse().expect("a number of packets"));
        let conn = self.net.newest(to, from, true).expect("a connection");
        for _ in 0..count {
            assert!(self.arrive(conn, true), "no packet is on its way");
        }
    }

    /// `disk N stands|works|once|dies [after=OPERATIONS]`
    fn disk(&mut self, args: &mut Args<'_>) {
        let id = server_id(args);
        match args.need("what happens") {
            "stands" => self.server(id).log_stands = true,
            "works" => self.server(id).log_stands = false,
            "once" => self.work_log(id, 1),
            "dies" => {
                let after = args.number("after").unwrap_or(0) as u64;
                let disk = &self.server(id).disk;
                disk.crash_at(disk.ops() + 1 + after);
            }
            other => panic!("a disk never {other}"),
        }
    }
}

pub(super) fn id(text: &str) -> ServerId {
    ServerId(text.parse().unwrap_or_else(|e| panic!("server {text}: {e}")))
}

pub(super) fn server_id(args: &mut Args<'_>) -> ServerId {
    id(args.need("server"))
}

/// `A>B`
pub(super) fn ends(args: &mut Args<'_>) -> (ServerId, ServerId) {
    let text = args.need("sender and receiver");
    let (from, to) = text.split_once('>').unwrap_or_else(|| panic!("{text} is not A>B"));
    (id(from), id(to))
}
