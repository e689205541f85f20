//! Members, connections and a clock, and the commands that control them.

use std::collections::BTreeMap;

use zabra::oracle::memory::MemorySockets;
use zabra::peer::{Input, SnapshotTicket};
use zabra::types::{ConnId, Now, SessionId, Zxid};

use super::client::Client;
use super::command::{self, Args};
use super::journal::{Item, Journal};
use super::member::Member;

/// The member of a command that names none.
const DEFAULT: i64 = 1;

/// The state of a script.
pub struct World {
    now: Now,
    members: BTreeMap<i64, Member>,
    clients: BTreeMap<String, Client>,
    /// Sessions, in the order in which they were first shown.
    sessions: Vec<String>,
    journal: Journal,
}

impl Default for World {
    fn default() -> World {
        World {
            now: Now { mono_ms: 100_000, wall_ms: 1_700_000_000_000, mono_ns: 100_000_000_000 },
            members: BTreeMap::new(),
            clients: BTreeMap::new(),
            sessions: Vec::new(),
            journal: Journal::default(),
        }
    }
}

impl World {
    /// Runs a command and returns its output.
    pub fn command(&mut self, line: &str) -> Vec<String> {
        let mut args = Args::new(line);
        let first = args.need("command");
        // `2: turn peer` is for member 2.
        let (id, what) = match first.strip_suffix(':') {
            Some(id) => (id.parse().expect("a member's number"), args.need("command")),
            None => (DEFAULT, first),
        };
        if what != "member" && !self.members.contains_key(&id) {
            assert_eq!(id, DEFAULT, "member {id} is not there");
            self.add_member(id, &mut Args::new(""));
        }
        let mut lines = self.perform(id, what, &mut args);
        args.end();
        self.members.values().for_each(Member::check);
        for line in &mut lines {
            *line = self.with_short_sessions(line);
        }
        lines
    }

    fn perform(&mut self, id: i64, what: &str, args: &mut Args<'_>) -> Vec<String> {
        match what {
            "member" => {
                let id = args.next().map_or(DEFAULT, |n| n.parse().expect("a member's number"));
                self.add_member(id, args);
            }
            "steps" => self.journal.set_steps(args.need("on or off") == "on"),
            "connect" => self.connect(id, args),
            "send" => self.send(args),
            "drop" => self.end(args, MemorySockets::gone),
            "eof" => self.end(args, MemorySockets::eof),
            "turn" => match args.need("core") {
                "peer" => self.members.get_mut(&id).expect("checked").peer_turn(self.now),
                "shard" => return self.shard_turns(id, args.next()),
                other => panic!("there is no core {other}"),
            },
            "sync" => {
                assert_eq!(args.need("log"), "log");
                let once = args.flag("once");
                self.member(id).sync_log(once);
            }
            "write" => {
                assert_eq!(args.need("snapshot"), "snapshot");
                self.member(id).write_snapshot();
            }
            "snapshot" => {
                let input = match args.need("due or a ticket") {
                    "due" => Input::SnapshotDue,
                    ticket => Input::SnapshotAsked(SnapshotTicket(ticket.parse().expect("a ticket's number"))),
                };
                self.member(id).member.tell(input);
            }
            "tick" => {
                let ms: i64 = args.need("milliseconds").parse().expect("milliseconds");
                self.now.mono_ms += ms;
                self.now.wall_ms += ms;
                self.now.mono_ns += ms as u64 * 1_000_000;
            }
            "settle" => return self.settle(),
            "show" => return self.show(id, args),
            other => panic!("there is no command {other}"),
        }
        self.said(id, Vec::new())
    }

    fn add_member(&mut self, id: i64, args: &mut Args<'_>) {
        let member = Member::new(id, args, self.now, &self.journal);
        assert!(self.members.insert(id, member).is_none(), "member {id} is there already");
    }

    fn member(&mut self, id: i64) -> MemberNow<'_> {
        MemberNow { member: self.members.get_mut(&id).expect("checked before"), now: self.now }
    }

    /// `connect NAME [shard=N] [timeout=MS] [resume=NAME] [seen=ZXID] [passwd=wrong]`
    fn connect(&mut self, id: i64, args: &mut Args<'_>) {
        let name = args.need("connection");
        let shard = args.number("shard").map_or(0, |n| n as usize);
        let timeout_ms = args.number("timeout").map_or(4000, |n| n as i32);
        let resumed = args.value("resume").map(|of| &self.clients[of]);
        let session = resumed.map_or(SessionId::NONE, |c| c.session.expect("a session to resume").0);
        let seen = args.zxid("seen").unwrap_or_else(|| resumed.map_or(Zxid::ZERO, |c| c.last_zxid));
        let mut passwd = if session == SessionId::NONE { [0; 16] } else { session.passwd() };
        if args.value("passwd").is_some() {
            passwd[0] ^= 1;
        }
        let member = self.members.get_mut(&id).expect("checked before");
        assert!(shard < member.shards(), "there is no shard {shard}");
        let conn = member.accept(name, shard);
        let client = Client::new(name, id, shard, conn);
        member.sockets(shard).data(conn, client.hello(session, passwd, timeout_ms, seen, false).into());
        assert!(self.clients.insert(name.to_owned(), client).is_none(), "there is a connection {name}");
    }

    /// `send NAME [xid=N] REQUEST`
    fn send(&mut self, args: &mut Args<'_>) {
        let client = self.clients.get_mut(args.need("connection")).expect("a connection");
        let xid = args.number("xid").map(|n| n as i32);
        let (op, request) = command::request(args.need("request"), args);
        let xid = if op == zabra::types::Op::PING { Some(zabra::proto::request::xid::PING) } else { xid };
        let bytes = client.ask(xid, op, &request);
        let member = self.members.get_mut(&client.member).expect("a connection's member");
        member.sockets(client.shard).data(client.conn, bytes.into());
    }

    fn end(&mut self, args: &mut Args<'_>, how: impl FnOnce(&mut MemorySockets, ConnId)) {
        let client = &self.clients[args.need("connection")];
        let member = self.members.get_mut(&client.member).expect("a connection's member");
        how(member.sockets(client.shard), client.conn);
    }

    /// `turn shard [N]`: without a number, each in turn.
    fn shard_turns(&mut self, id: i64, number: Option<&str>) -> Vec<String> {
        let shards = match number {
            Some(n) => vec![n.parse().expect("a shard's number")],
            None => (0..self.members[&id].shards()).collect(),
        };
        let mut lines = Vec::new();
        for shard in shards {
            let MemberNow { member, now } = self.member(id);
            let sent = member.shard_turn(shard, now);
            lines.extend(self.said(id, sent));
        }
        lines
    }

    /// What was recorded since the last call. `sent` are the bytes that clients of member `id` got meanwhile.
    fn said(&mut self, id: i64, mut sent: Vec<(ConnId, Vec<u8>)>) -> Vec<String> {
        let mut lines = Vec::new();
        for item in self.journal.take() {
            match item {
                Item::Said(line) => lines.push(line),
                Item::Sent(conn) => {
                    let client = self.clients.values_mut().find(|c| (c.member, c.conn) == (id, conn));
                    let client = client.expect("a connection's client");
                    let bytes = sent.iter_mut().find(|(to, _)| *to == conn).map(|(_, bytes)| std::mem::take(bytes));
                    lines.extend(client.read(&bytes.unwrap_or_default()));
                }
            }
        }
        lines
    }

    /// Makes turns, syncs and writes until nobody has anything to do. Shows only what clients get.
    fn settle(&mut self) -> Vec<String> {
        let mut lines = self.said(DEFAULT, Vec::new());
        for _ in 0..100 {
            if self.members.values().all(Member::is_idle) {
                return lines;
            }
            for id in self.members.keys().copied().collect::<Vec<_>>() {
                let shown = self.shard_turns(id, None);
                lines.extend(
                    shown
                        .into_iter()
                        .filter(|l| l.contains(" <- ") || [" is closed", " is reset"].iter().any(|e| l.ends_with(e))),
                );
                let mut member = self.member(id);
                member.member.peer_turn(member.now);
                member.sync_log(false);
                member.write_snapshot();
                self.said(id, Vec::new());
            }
        }
        panic!("there is always something to do");
    }

    fn show(&self, id: i64, args: &mut Args<'_>) -> Vec<String> {
        match args.next() {
            None => self.members[&id].show(self.now),
            Some(path) => vec![self.members[&id].node(path)],
        }
    }

    /// Session ids are long: they are shown as S1, S2, ... in the order of their appearance.
    fn with_short_sessions(&mut self, line: &str) -> String {
        let mut short = String::new();
        let mut rest = line;
        while let Some(at) = rest.find("0x") {
            let hex = rest[at + 2..].find(|c: char| !c.is_ascii_hexdigit()).map_or(rest.len(), |n| at + 2 + n);
            short.push_str(&rest[..at]);
            let number = &rest[at..hex];
            if number.len() > 12 {
                let seen = self.sessions.iter().position(|s| s == number).unwrap_or_else(|| {
                    self.sessions.push(number.to_owned());
                    self.sessions.len() - 1
                });
                short.push_str(&format!("S{}", seen + 1));
            } else {
                short.push_str(number);
            }
            rest = &rest[hex..];
        }
        short.push_str(rest);
        short
    }
}

/// A member at a moment.
struct MemberNow<'a> {
    member: &'a mut Member,
    now: Now,
}

impl MemberNow<'_> {
    fn sync_log(&mut self, once: bool) {
        self.member.sync_log(self.now, once);
    }

    fn write_snapshot(&mut self) {
        self.member.write_snapshot(self.now);
    }
}
