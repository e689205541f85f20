//! Election connections: who dials whom, which of two connections stays, and one newest message for each server. Mirrors
//! `QuorumCnxManager`. Nothing here waits for a socket: a message that cannot leave yet is replaced by the next one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;

use super::election::Electorate;
use super::hello::{self, Addresses, ElectionAddress, Hello};
use super::notification::{self, Notification};
use crate::quorum::Member;
use crate::types::{ConnId, PEER_LOG, ServerId};

/// Connections that have not said who they are. One more closes the oldest.
const MAX_UNKNOWN: usize = 64;

/// Servers that are in no configuration and have a connection. One more closes that of the smallest id. Joining servers are such.
const MAX_STRANGERS: usize = 64;

/// Old releases let observers say this id, all of them the same.
const OBSERVER_ID: ServerId = ServerId(i64::MAX);

/// What is wanted of the connections for elections.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum ElectionWant {
    /// Connect to a server, by the first address that answers. To be answered by [`Links::dialed`] or [`Links::dial_failed`].
    Dial {
        /// The server.
        to: ServerId,
        /// Its addresses. Names are looked up now, at every dial.
        addresses: Vec<ElectionAddress>,
        /// The only address that may be dialled: whoever is in no configuration must not make us connect to others.
        only: Option<IpAddr>,
    },
    /// Send these bytes, in one piece. To be answered by [`Links::written`].
    Write {
        /// On this connection.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Close the connection once everything written has left. No answer is wanted.
    Close {
        /// The connection.
        conn: ConnId,
    },
}

/// What the links want done.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Of a connection.
    Net(ElectionWant),
    /// A server said this.
    Heard {
        /// The server.
        from: ServerId,
        /// Its message.
        said: Notification,
    },
}

/// A server that something was said to, or that has a connection.
#[derive(Debug, Default)]
struct Peer {
    conn: Option<ConnId>,
    dialing: bool,
    /// What waits to be sent.
    waiting: Option<Bytes>,
    /// What was sent last. A new connection begins with it when nothing waits: the old one may have taken it to its grave.
    last_sent: Option<Bytes>,
    /// Where a server that is in no configuration came from and says it listens.
    stranger: Option<(Vec<ElectionAddress>, IpAddr)>,
}

/// A connection.
#[derive(Debug)]
struct Conn {
    /// The server at the other end, once it is known.
    server: Option<ServerId>,
    from: Option<IpAddr>,
    /// When it has to have said who it is.
    hello_until_ms: i64,
    /// Whether a write was not answered yet.
    writing: bool,
    unread: Vec<u8>,
}

/// All election connections of one server.
#[derive(Debug)]
pub struct Links {
    me: ServerId,
    electorate: Electorate,
    /// This server's addresses.
    own: Vec<ElectionAddress>,
    /// Whether the hello names all addresses (`multiAddress.enabled`).
    all_addresses: bool,
    hello_timeout_ms: i64,
    peers: BTreeMap<ServerId, Peer>,
    conns: BTreeMap<ConnId, Conn>,
    /// The next id for an old observer, which has none of its own.
    next_observer: i64,
}

impl Links {
    /// The links of server `me`. A connection has to say who it is within `hello_timeout_ms`.
    pub fn new(me: ServerId, electorate: Electorate, all_addresses: bool, hello_timeout_ms: i64) -> Links {
        assert!(hello_timeout_ms > 0, "a time-out of {hello_timeout_ms} ms");
        let (peers, conns) = (BTreeMap::new(), BTreeMap::new());
        let own = electorate.member(me).map(election_addresses).unwrap_or_default();
        assert!(hello::fits(&own), "{me:?} has no addresses for a hello in its first configuration: {own:?}");
        Links { me, electorate, own, all_addresses, hello_timeout_ms, peers, conns, next_observer: -1 }
    }

    /// Says `message` to a server: at once, or when there is a connection. What waited for it is replaced.
    pub fn tell(&mut self, to: ServerId, message: Bytes, wants: &mut Vec<Want>) {
        assert!(to != self.me, "a message to this server itself goes over no connection");
        self.peers.entry(to).or_default().waiting = Some(message);
        self.send(to, wants);
        self.dial(to, wants);
    }

    /// Dials every server that something was ever said to and that has no connection.
    pub fn connect(&mut self, wants: &mut Vec<Want>) {
        let servers: Vec<_> = self.peers.keys().copied().collect();
        servers.into_iter().for_each(|server| self.dial(server, wants));
    }

    /// Whether to some server everything that was said has left. Not, when nothing was ever said.
    pub fn has_delivered(&self) -> bool {
        self.peers.values().any(|peer| peer.waiting.is_none() && peer.last_sent.is_some())
    }

    /// A dial came through. `conn` is new.
    pub fn dialed(&mut self, to: ServerId, conn: ConnId, wants: &mut Vec<Want>) {
        assert!(!self.conns.contains_key(&conn), "connection {conn} is there twice");
        self.peers.entry(to).or_default().dialing = false;
        let mut bytes = Vec::new();
        self.hello().put(&mut bytes);
        wants.push(Want::Net(ElectionWant::Write { conn, bytes: bytes.into() }));
        if to > self.me {
            // Only the larger id's dial stays: it dials back.
            wants.push(Want::Net(ElectionWant::Close { conn }));
            return;
        }
        let open = Conn { server: Some(to), from: None, hello_until_ms: i64::MAX, writing: true, unread: Vec::new() };
        self.conns.insert(conn, open);
        self.join(to, conn, wants);
    }

    /// A dial did not come through. The next message, or [`Links::connect`], dials again.
    pub fn dial_failed(&mut self, to: ServerId) {
        self.peers.entry(to).or_default().dialing = false;
    }

    /// Somebody at `from` dialled us. `conn` is new.
    pub fn accepted(&mut self, now_ms: i64, conn: ConnId, from: IpAddr, wants: &mut Vec<Want>) {
        let hello_until_ms = now_ms + self.hello_timeout_ms;
        let open = Conn { server: None, from: Some(from), hello_until_ms, writing: false, unread: Vec::new() };
        let before = self.conns.insert(conn, open);
        assert!(before.is_none(), "connection {conn} is there twice");
        let mut unknown = self.conns.iter().filter(|(_, c)| c.server.is_none());
        if unknown.clone().count() > MAX_UNKNOWN
            && let Some((oldest, _)) = unknown.next()
        {
            self.close(*oldest, wants);
        }
    }

    /// Bytes came.
    pub fn bytes(&mut self, conn: ConnId, bytes: &[u8], wants: &mut Vec<Want>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.unread.extend_from_slice(bytes);
        if open.server.is_none() && !self.read_hello(conn, wants) {
            return;
        }
        self.read_messages(conn, wants);
    }

    /// What was written last on this connection has left.
    pub fn written(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.writing = false;
        if let Some(server) = open.server {
            self.send(server, wants);
        }
    }

    /// The other side closed, or the connection broke.
    pub fn closed(&mut self, conn: ConnId) {
        self.forget(conn);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        let late = self.conns.iter().filter(|(_, c)| c.server.is_none() && c.hello_until_ms <= now_ms);
        let late: Vec<_> = late.map(|(conn, _)| *conn).collect();
        late.into_iter().for_each(|conn| self.close(conn, wants));
    }

    /// When [`Links::tick`] wants to be called, on the monotonic clock.
    pub fn deadline_ms(&self) -> Option<i64> {
        self.conns.values().filter(|c| c.server.is_none()).map(|c| c.hello_until_ms).min()
    }

    /// Another configuration is in force. If more than its version has changed, every connection is closed, as on Apache; they
    /// come back when something has to be said.
    pub fn set_electorate(&mut self, electorate: Electorate, wants: &mut Vec<Want>) {
        let same = electorate.members.is_same_but_for_version(&self.electorate.members);
        self.electorate = electorate;
        // A server that is in no configuration, or there with addresses that no hello can contain, keeps those that it had.
        let own = self.electorate.member(self.me).map(election_addresses);
        if let Some(own) = own.filter(|own| hello::fits(own)) {
            self.own = own;
        }
        if same {
            return;
        }
        let all: Vec<_> = self.conns.keys().copied().collect();
        all.into_iter().for_each(|conn| self.close(conn, wants));
    }

    /// The server at the other end of a connection.
    pub fn server(&self, conn: ConnId) -> Option<ServerId> {
        self.conns.get(&conn)?.server
    }

    /// Its invariants.
    pub fn check(&self) {
        assert!(!self.peers.contains_key(&self.me), "this server has a connection to itself");
        assert!(self.next_observer < 0, "an observer gets the id {}", self.next_observer);
        for (server, peer) in &self.peers {
            let at = peer.conn.map(|conn| self.conns.get(&conn).and_then(|open| open.server));
            assert!(at.is_none_or(|at| at == Some(*server)), "the connection of {server:?} is that of {at:?}");
        }
        for (conn, open) in self.conns.iter().filter_map(|(conn, open)| Some((conn, open.server?))) {
            assert_eq!(self.peers.get(&open).and_then(|peer| peer.conn), Some(*conn), "{open:?} has two connections");
        }
        assert!(self.conns.values().filter(|c| c.server.is_none()).count() <= MAX_UNKNOWN, "too many that are unknown");
    }

    fn hello(&self) -> Hello {
        let addresses = match (&self.own[..], self.all_addresses) {
            (all, true) => Addresses::Several(all.to_vec()),
            (all, false) => Addresses::One(all[0].clone()),
        };
        Hello { server: self.me, addresses }
    }

    /// Reads who is there and settles which connection stays. Whether this one does.
    fn read_hello(&mut self, conn: ConnId, wants: &mut Vec<Want>) -> bool {
        let Some(open) = self.conns.get_mut(&conn) else { return false };
        let (hello, taken) = match Hello::read(&open.unread) {
            Ok(Some(whole)) => whole,
            Ok(None) => return false,
            Err(refused) => {
                tracing::warn!(target: PEER_LOG, from = ?open.from, "an election connection is closed: {refused}");
                self.close(conn, wants);
                return false;
            }
        };
        open.unread.drain(..taken);
        let from = open.from;
        let server = if hello.server == OBSERVER_ID {
            self.next_observer -= 1;
            ServerId(self.next_observer + 1)
        } else {
            hello.server
        };
        if server == self.me {
            tracing::warn!(target: PEER_LOG, ?from, "an election connection is closed: it says that it is this server");
            self.close(conn, wants);
            return false;
        }
        self.take_in(server, hello.addresses, from, wants);
        if server < self.me {
            // Only the larger id's dial stays. The server may be a new process: its old connection goes as well.
            let old = self.peers.get(&server).and_then(|peer| peer.conn);
            old.into_iter().chain([conn]).for_each(|conn| self.close(conn, wants));
            self.dial(server, wants);
            return false;
        }
        if let Some(open) = self.conns.get_mut(&conn) {
            open.server = Some(server);
        }
        self.join(server, conn, wants);
        true
    }

    /// Remembers where a server that is in no configuration can be dialled back.
    fn take_in(&mut self, server: ServerId, said: Addresses, from: Option<IpAddr>, wants: &mut Vec<Want>) {
        if self.electorate.member(server).is_some() {
            return;
        }
        let said = match said {
            Addresses::Unsaid => Vec::new(),
            Addresses::One(address) => vec![address],
            Addresses::Several(addresses) => addresses,
        };
        self.peers.entry(server).or_default().stranger = from.map(|from| (said, from));
        let strangers = self.peers.iter().filter(|(id, peer)| peer.stranger.is_some() && **id != server);
        if strangers.clone().count() >= MAX_STRANGERS
            && let Some(first) = strangers.map(|(id, _)| *id).next()
        {
            let gone = self.peers.remove(&first).and_then(|peer| peer.conn);
            gone.into_iter().for_each(|conn| self.close(conn, wants));
        }
    }

    /// `conn` is the connection to `server` from now on.
    fn join(&mut self, server: ServerId, conn: ConnId, wants: &mut Vec<Want>) {
        let at = self.conns.get(&conn).and_then(|open| open.server);
        assert_eq!(at, Some(server), "connection {conn} becomes that of another server");
        let peer = self.peers.entry(server).or_default();
        let old = peer.conn.replace(conn);
        assert!(old != Some(conn), "connection {conn} of {server:?} replaces itself");
        if peer.waiting.is_none() {
            peer.waiting = peer.last_sent.clone();
        }
        old.into_iter().for_each(|old| self.close(old, wants));
        self.send(server, wants);
    }

    fn send(&mut self, server: ServerId, wants: &mut Vec<Want>) {
        let Some(peer) = self.peers.get_mut(&server) else { return };
        let Some(conn) = peer.conn else { return };
        assert!(self.conns.contains_key(&conn), "connection {conn} of {server:?} is closed and was not forgotten");
        let open = self.conns.get_mut(&conn).filter(|open| !open.writing);
        if let Some(open) = open
            && let Some(message) = peer.waiting.take()
        {
            open.writing = true;
            peer.last_sent = Some(message.clone());
            wants.push(Want::Net(ElectionWant::Write { conn, bytes: message }));
        }
    }

    fn dial(&mut self, to: ServerId, wants: &mut Vec<Want>) {
        assert!(to != self.me, "this server dials itself");
        let known: Vec<_> = self.electorate.all_of(to).flat_map(election_addresses).collect();
        let peer = self.peers.entry(to).or_default();
        if peer.conn.is_some() || peer.dialing {
            return;
        }
        let (mut addresses, mut only) = (known, None);
        if addresses.is_empty()
            && let Some((said, from)) = &peer.stranger
        {
            (addresses, only) = (said.clone(), Some(*from));
        }
        if !addresses.is_empty() {
            peer.dialing = true;
            wants.push(Want::Net(ElectionWant::Dial { to, addresses, only }));
        }
    }

    fn read_messages(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let Some(from) = open.server else { return };
        let mut at = 0;
        let refused = loop {
            match notification::split(&open.unread[at..]) {
                Ok(None) => break None,
                Ok(Some((message, taken))) => {
                    match Notification::read(message) {
                        Ok(said) => wants.push(Want::Heard { from, said }),
                        Err(e) => tracing::warn!(target: PEER_LOG, server = from.0, "passed over: {e}"),
                    }
                    // Or the same bytes would be read for ever.
                    assert!(taken > 4, "a message of {taken} bytes with its length");
                    at += taken;
                }
                Err(len) => break Some(len),
            }
        };
        open.unread.drain(..at);
        if let Some(len) = refused {
            tracing::warn!(target: PEER_LOG, server = from.0, "an election connection is closed: a message of {len} bytes");
            self.close(conn, wants);
        }
    }

    fn close(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        self.forget(conn);
        wants.push(Want::Net(ElectionWant::Close { conn }));
    }

    fn forget(&mut self, conn: ConnId) {
        let Some(server) = self.conns.remove(&conn).and_then(|open| open.server) else { return };
        if let Some(peer) = self.peers.get_mut(&server).filter(|peer| peer.conn == Some(conn)) {
            peer.conn = None;
        }
    }
}

fn election_addresses(member: &Member) -> Vec<ElectionAddress> {
    let address = |a: &crate::quorum::PeerAddress| ElectionAddress { host: a.host.clone(), port: a.election_port };
    member.addresses.iter().map(address).collect()
}
