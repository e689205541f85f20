//! The shipped shards of members, for scripts that ask how their clients are answered: bytes on connections go in and come out.

use zabra::oracle::memory::{MemoryMember, MemorySockets};
use zabra::peer::turn::TreeAccess;
use zabra::pipeline::messages::{Service, ToShard};
use zabra::shard::Shard;
use zabra::shard::turn::{Letter, ShardTurn};
use zabra::types::{ConnId, Now, ServerId, SessionId, ShardId, Zxid};
use zabra::watch::WatchTable;

use super::world::World;
use crate::scripts::client::Client;
use crate::scripts::command::{self, Args};
use crate::scripts::member::shard_options;

const SHARD: ShardId = ShardId(0);

/// The core of a member's only shard.
pub struct Core {
    turn: ShardTurn,
    sockets: MemorySockets,
}

impl Core {
    pub fn new(member: &MemoryMember) -> Core {
        let table = WatchTable::new(SHARD, member.tree.shared_interest());
        Core { turn: ShardTurn::new(Shard::new(shard_options(0), table)), sockets: MemorySockets::default() }
    }

    fn is_due(&self, member: &MemoryMember, now: Now) -> bool {
        let is_late = self.turn.deadline().is_some_and(|at| at <= now.mono_ms);
        let has_news = !member.mail.shards[SHARD.index()].letters.is_empty() || !self.sockets.is_quiet();
        is_late || has_news || self.turn.shard().has_ready()
    }

    /// One turn. Returns what was sent on connections, and those that were closed.
    fn turn(&mut self, member: &mut MemoryMember, now: Now) -> (Vec<(ConnId, Vec<u8>)>, Vec<ConnId>) {
        let MemoryMember { tree, mail, .. } = member;
        let mut links = mail.of_shard(SHARD, tree);
        self.turn.turn(now, tree.read(), &mut self.sockets, &mut links);
        self.turn.check();
        mail.deliver();
        let open = self.sockets.conns().iter_mut().map(|conn| (conn.id, std::mem::take(&mut conn.out)));
        let mut sent: Vec<_> = open.filter(|(_, bytes)| !bytes.is_empty()).collect();
        let ended = self.sockets.take_ended();
        let closed = ended.iter().map(|(conn, _)| conn.id).collect();
        sent.extend(ended.into_iter().map(|(conn, _)| (conn.id, conn.out)));
        (sent, closed)
    }
}

/// A client's end of a connection.
pub struct Connection {
    at: ServerId,
    client: Client,
}

impl World {
    /// `connect NAME N [timeout=MS] [read-only] [resume=NAME]`: a client with a connection of bytes; with a session that another
    /// one got.
    pub(super) fn connect_client(&mut self, args: &mut Args<'_>) {
        let (name, at) = (args.need("name").to_owned(), super::world::server_id(args));
        let (read_only, timeout_ms) = (args.flag("read-only"), args.number("timeout").unwrap_or(30_000) as i32);
        let session = args.value("resume").map_or(SessionId::NONE, |of| self.connections[of].session());
        let passwd = if session == SessionId::NONE { [0; 16] } else { session.passwd() };
        let conn = self.net.next_conn();
        let client = Client::new(&name, at.0, SHARD.index(), conn);
        let hello = client.hello(session, passwd, timeout_ms, Zxid::ZERO, read_only);
        let sockets = self.sockets(at);
        sockets.accept(conn, ([10, 0, 0, 9], 5000).into());
        sockets.data(conn, hello.into());
        let before = self.connections.insert(name, Connection { at, client });
        assert!(before.is_none(), "there is such a connection");
    }

    /// `ask NAME REQUEST`
    pub(super) fn ask(&mut self, args: &mut Args<'_>) {
        let Connection { at, client } = self.connections.get_mut(args.need("connection")).expect("a connection");
        let (op, request) = command::request(args.need("request"), args);
        let bytes = client.ask(None, op, &request);
        let (at, conn) = (*at, client.conn);
        self.sockets(at).data(conn, bytes.into());
    }

    fn sockets(&mut self, at: ServerId) -> &mut MemorySockets {
        &mut self.server(at).core.as_mut().expect("a server with a shard of its own").sockets
    }

    /// One turn of a server's shard, if it has one and a reason.
    pub(super) fn shard_turn(&mut self, id: ServerId) {
        let now = self.now;
        let server = self.server(id);
        let (Some(core), Some(member), false) = (&mut server.core, &mut server.member, server.is_frozen) else {
            return;
        };
        if !core.is_due(member, now) {
            return;
        }
        let letters = member.mail.shards[SHARD.index()].letters.iter();
        let told: Vec<Option<Service>> = letters.filter_map(service).collect();
        let (sent, closed) = core.turn(member, now);
        self.has_news = true;
        told.into_iter().for_each(|service| self.serves(id, service));
        for (conn, bytes) in sent {
            let connection = self.connections.values_mut().find(|one| one.client.conn == conn);
            let client = &mut connection.expect("a client's connection").client;
            let mut lines = client.read(&bytes);
            if let Some((session, _)) = client.session {
                let name = format!("of {}", client.name);
                lines.iter_mut().for_each(|line| *line = line.replace(&session.to_string(), &name));
                self.sessions.name_if_new(session, &client.name);
            }
            lines.into_iter().for_each(|line| self.say(line));
        }
        for conn in closed {
            let found = self.connections.iter().find(|(_, one)| one.client.conn == conn);
            let name = found.expect("a client's connection").0.clone();
            self.say(format!("{name} <- is disconnected"));
        }
    }
}

impl Connection {
    fn session(&self) -> SessionId {
        self.client.session.expect("a session").0
    }
}

/// How the clients of a server are served from this message on; `None`: not at all.
fn service(letter: &Letter) -> Option<Option<Service>> {
    match letter {
        Letter::Stream(ToShard::Suspend) => Some(None),
        Letter::Stream(ToShard::Serve(service)) => Some(Some(*service)),
        _ => None,
    }
}
