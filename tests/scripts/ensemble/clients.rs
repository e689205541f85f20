//! The clients of members. The script stands in for the shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use zabra::jute::Reader;
use zabra::peer::Input;
use zabra::pipeline::WriteRequest;
use zabra::pipeline::messages::{Entry, Outcome, Service, ToPeer, ToShard};
use zabra::proto::ReplyHeader;
use zabra::types::{ConnId, Cxid, Id, Op, Origin, ServerId, SessionId, ShardId};

use super::show;
use super::world::World;
use crate::scripts::command::{self, Args};
use crate::scripts::show::{arguments, code};

const SHARD: ShardId = ShardId(0);

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    at: ServerId,
    conn: ConnId,
    /// The name of its session: that of the client that got it.
    session: String,
    cxid: i32,
    /// What it has shown of itself.
    identities: Arc<[Id]>,
    /// What was asked for and not answered.
    asked: BTreeMap<i32, String>,
}

/// The names of sessions: those of the clients that got them.
#[derive(Debug, Default)]
pub struct Sessions {
    names: BTreeMap<SessionId, String>,
}

impl Sessions {
    pub fn name(&self, session: SessionId) -> String {
        self.names.get(&session).cloned().unwrap_or_else(|| "a new session".into())
    }

    pub fn name_if_new(&mut self, session: SessionId, name: &str) {
        self.names.entry(session).or_insert_with(|| name.to_owned());
    }

    fn of(&self, name: &str) -> Option<SessionId> {
        self.names.iter().find(|(_, other)| *other == name).map(|(session, _)| *session)
    }

    /// A session as it is named in a script, or by its number.
    pub fn named(&self, name: &str) -> SessionId {
        self.of(name).unwrap_or_else(|| panic!("there is no session of {name}"))
    }
}

impl World {
    fn shard(&mut self, at: ServerId, message: ToPeer) {
        self.member(at).mail.inbox.push_back(Input::FromShard(message));
        self.has_news = true;
    }

    /// `client NAME N [timeout=MS] [known=SCHEME:ID,...]`
    pub(super) fn client(&mut self, args: &mut Args<'_>) {
        let (name, at) = (args.need("name").to_owned(), super::world::server_id(args));
        let timeout_ms = args.number("timeout").unwrap_or(30_000) as i32;
        let identity = |text: &str| {
            let (scheme, id) = text.split_once(':').expect("scheme:id");
            Id::new(scheme, id)
        };
        let known = args.value("known").into_iter().flat_map(|all| all.split(','));
        let identities: Arc<[Id]> = known.map(identity).collect();
        let (conn, auth, asked) = (self.net.next_conn(), identities.clone(), BTreeMap::new());
        self.clients.insert(name.clone(), Client { at, conn, session: name, cxid: 0, identities, asked });
        self.shard(at, ToPeer::NewSession { shard: SHARD, conn, timeout_ms, auth });
    }

    /// `resume NAME N [as OTHER] [passwd=wrong]`: the client comes to server N with its session; as OTHER it keeps its old
    /// connection too. `resume NAME N session=HEX`: a client that nobody knows comes with this session.
    pub(super) fn resume(&mut self, args: &mut Args<'_>) {
        let (name, at) = (args.need("name"), super::world::server_id(args));
        let new = if args.flag("as") { args.need("another name") } else { name };
        let passwd_matches = args.value("passwd").is_none();
        let conn = self.net.next_conn();
        let (session, client) = match args.value("session") {
            Some(hex) => {
                let session = SessionId(i64::from_str_radix(hex, 16).expect("hexadecimal"));
                self.sessions.names.insert(session, name.to_owned());
                let identities = [].into();
                (session, Client { at, conn, session: name.to_owned(), cxid: 0, identities, asked: BTreeMap::new() })
            }
            None => {
                let Client { session: of, cxid, identities, .. } = &self.clients[name];
                let (cxid, identities, of) = (*cxid, identities.clone(), of.clone());
                let session = self.sessions.named(&of);
                (session, Client { at, conn, session: of, cxid, identities, asked: BTreeMap::new() })
            }
        };
        self.clients.insert(new.to_owned(), client);
        let (shard, timeout_ms) = (SHARD, 30_000);
        self.shard(at, ToPeer::Resume { shard, conn, session, timeout_ms, passwd_matches });
    }

    /// `touch NAME`: the client's ping reaches its server.
    pub(super) fn touch(&mut self, args: &mut Args<'_>) {
        let name = args.need("name");
        let client = &self.clients[name];
        let (at, session, heard_ms) = (client.at, self.sessions.named(&client.session), self.now.mono_ms);
        self.shard(at, ToPeer::Touch { session, heard_ms });
    }

    /// `send NAME REQUEST`
    pub(super) fn send(&mut self, args: &mut Args<'_>) {
        let (name, what) = (args.need("name"), args.need("request"));
        let garbage = args.flag("garbage");
        let client = self.clients.get_mut(name).expect("a client");
        let session = self.sessions.named(&client.session);
        client.cxid += 1;
        let (cxid, at, conn) = (Cxid(client.cxid), client.at, client.conn);
        let (op, request) = command::request(what, args);
        let shown = format!("{what} {}", arguments(&request)).trim_end().to_owned();
        client.asked.insert(cxid.0, shown);
        let mut body = request.body(op);
        if garbage {
            body.truncate(body.len() / 2);
        }
        let (auth, origin) = (client.identities.clone(), Origin::Local { shard: SHARD, conn });
        let request = WriteRequest { session, cxid, op, body: body.into(), auth, moved: false, origin };
        let message = match op {
            Op::SYNC => ToPeer::Sync(request),
            _ => ToPeer::Write { request, behind_read: false, large: None },
        };
        self.shard(at, message);
    }

    fn name_of(&self, conn: ConnId) -> Option<String> {
        self.clients.iter().find(|(_, client)| client.conn == conn).map(|(name, _)| name.clone())
    }

    /// What a server's shard was sent.
    pub(super) fn stream(&mut self, n: ServerId, message: ToShard) {
        match message {
            ToShard::Suspend => {
                self.serves(n, None);
                self.shard(n, ToPeer::Suspended { shard: SHARD });
            }
            ToShard::Serve(service) => self.serves(n, Some(service)),
            ToShard::Applied(Entry { outcome: Some((conn, outcome)), .. }) => self.outcome(conn, &outcome),
            ToShard::Applied(_) => {}
            ToShard::Synced { conn, zxid } => self.synced(conn, &show::zxid(zxid)),
            ToShard::Closed { conn, .. } => self.answer(conn, "closed"),
            ToShard::Resumed { conn, session: None } => self.answer(conn, "the session is gone"),
            ToShard::Resumed { conn, session: Some((session, timeout_ms)) } => {
                let is_new = !self.sessions.names.contains_key(&session);
                self.named(conn, session);
                let goes_on = "goes on with the session".to_owned();
                let what = if is_new { format!("a local session for {timeout_ms} ms") } else { goes_on };
                self.answer(conn, &what);
            }
            ToShard::Close { conn } => self.answer(conn, "is disconnected"),
        }
    }

    /// How a server's clients are served from now on; `None`: not at all.
    pub(super) fn serves(&mut self, n: ServerId, service: Option<Service>) {
        let before = std::mem::replace(&mut self.server(n).serves, service.is_some());
        match service {
            None if before => self.say(format!("{} serves nobody", n.0)),
            None => {}
            Some(Service::ReadOnly) => self.say(format!("{} serves clients that only read", n.0)),
            Some(_) => self.say(format!("{} serves", n.0)),
        }
    }

    fn named(&mut self, conn: ConnId, session: SessionId) {
        if let Some(name) = self.name_of(conn) {
            self.sessions.name_if_new(session, &name);
        }
    }

    fn answer(&mut self, conn: ConnId, what: &str) {
        if let Some(name) = self.name_of(conn) {
            self.say(format!("{name} <- {what}"));
        }
    }

    fn synced(&mut self, conn: ConnId, zxid: &str) {
        let client = self.clients.values_mut().find(|client| client.conn == conn);
        let oldest = client.and_then(|client| {
            let found = client.asked.iter().find(|(_, asked)| asked.starts_with("sync"));
            let cxid = *found?.0;
            client.asked.remove(&cxid)
        });
        self.answer(conn, &format!("{} ok at {zxid}", oldest.expect("a sync was asked for")));
    }

    fn outcome(&mut self, conn: ConnId, outcome: &Outcome) {
        match outcome {
            Outcome::SessionCreated { session, timeout_ms } => {
                self.named(conn, *session);
                self.answer(conn, &format!("a session for {timeout_ms} ms"));
            }
            Outcome::Closed(frame) if frame.is_empty() => self.answer(conn, "the session has ended"),
            Outcome::Reply(frame) | Outcome::Closed(frame) => {
                let header = ReplyHeader::read(&mut Reader::new(&frame[4..])).expect("a reply");
                let client = self.clients.values_mut().find(|client| client.conn == conn);
                let asked = client.and_then(|client| client.asked.remove(&header.xid)).unwrap_or_default();
                self.answer(conn, &format!("{asked}: {} at {}", code(header.err), show::zxid(header.zxid)));
            }
        }
    }
}
