//! The network between the servers of a script: connections, what is on its way, and what is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use zabra::types::{ConnId, ServerId};
use zabra::zab::hello::ElectionAddress;

/// Something on its way to a server.
#[derive(Debug)]
pub enum Moving {
    /// The beginning of a connection. The sender hears whether it succeeded.
    Dial { to: ServerId, addresses: Vec<ElectionAddress>, only: Option<IpAddr> },
    /// A connection that was dialled: its other end.
    Accept { conn: ConnId },
    /// Bytes for this end of a connection.
    Bytes { conn: ConnId, bytes: Bytes },
    /// The other side closed or died.
    End { conn: ConnId },
}

/// A thing on its way.
#[derive(Debug)]
pub struct Sent {
    pub from: ServerId,
    pub to: ServerId,
    pub what: Moving,
    /// When a dial is given up.
    pub until_ms: i64,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub at: ServerId,
    /// The other end.
    pub peer: ServerId,
    pub peer_conn: ConnId,
    /// The number of the connection, as it is shown.
    pub number: u64,
    /// It dialled and has written nothing yet: its next bytes are the hello.
    pub says_hello: bool,
    closed: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Net {
    ends: BTreeMap<ConnId, End>,
    moving: VecDeque<Sent>,
    /// Pairs of servers, the smaller first, between which nothing arrives.
    cut: BTreeSet<(ServerId, ServerId)>,
    numbers: u64,
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

impl Net {
    pub fn cut(&mut self, a: ServerId, b: ServerId, on: bool) {
        if on {
            self.cut.insert(pair(a, b));
        } else {
            assert!(self.cut.remove(&pair(a, b)), "nothing is cut between {a:?} and {b:?}");
        }
    }

    pub fn send(&mut self, sent: Sent) {
        self.moving.push_back(sent);
    }

    /// Connects two servers: the dialler's end and the acceptor's.
    pub fn connect(&mut self, dialler: ServerId, acceptor: ServerId) -> (ConnId, ConnId) {
        self.numbers += 1;
        let number = self.numbers;
        let ends = (ConnId(2 * number), ConnId(2 * number + 1));
        let end = |at, peer, peer_conn, says_hello| End { at, peer, peer_conn, number, says_hello, closed: false };
        self.ends.insert(ends.0, end(dialler, acceptor, ends.1, true));
        self.ends.insert(ends.1, end(acceptor, dialler, ends.0, false));
        ends
    }

    pub fn end(&self, conn: ConnId) -> End {
        self.ends[&conn]
    }

    pub fn is_open(&self, conn: ConnId) -> bool {
        self.ends.get(&conn).is_some_and(|end| !end.closed)
    }

    /// The newest end that is open at `at` of a connection with `peer`.
    pub fn newest(&self, at: ServerId, peer: ServerId) -> Option<ConnId> {
        let mut open = self.ends.iter().rev().filter(|(_, end)| !end.closed);
        open.find(|(_, end)| (end.at, end.peer) == (at, peer)).map(|(conn, _)| *conn)
    }

    /// The end of connection `number` that is open at `at`.
    pub fn numbered(&self, at: ServerId, number: u64) -> Option<ConnId> {
        let fits = |end: &End| !end.closed && (end.at, end.number) == (at, number);
        self.ends.iter().find(|(_, end)| fits(end)).map(|(conn, _)| *conn)
    }

    /// The open ends at a server.
    pub fn ends_at(&self, at: ServerId) -> Vec<ConnId> {
        self.ends.iter().filter(|(_, end)| end.at == at && !end.closed).map(|(conn, _)| *conn).collect()
    }

    /// Bytes leave.
    pub fn write(&mut self, conn: ConnId, bytes: Bytes) {
        let end = self.ends.get_mut(&conn).expect("a connection");
        end.says_hello = false;
        let End { at, peer, peer_conn, closed, .. } = *end;
        assert!(!closed, "{at:?} writes on a connection that it closed");
        self.send(Sent { from: at, to: peer, what: Moving::Bytes { conn: peer_conn, bytes }, until_ms: i64::MAX });
    }

    /// One side closes; the other hears of it behind what was written, unless its host is gone.
    pub fn close(&mut self, conn: ConnId, silently: bool) {
        let Some(end) = self.ends.get_mut(&conn).filter(|end| !end.closed) else { return };
        end.closed = true;
        let End { at, peer, peer_conn, .. } = *end;
        if !silently {
            self.send(Sent { from: at, to: peer, what: Moving::End { conn: peer_conn }, until_ms: i64::MAX });
        }
    }

    /// Takes the first thing that can arrive, according to `can`, between these servers or any.
    pub fn arrive(&mut self, between: Option<(ServerId, ServerId)>, can: impl Fn(&Sent) -> bool) -> Option<Sent> {
        let fits = |sent: &Sent| {
            between.is_none_or(|ends| ends == (sent.from, sent.to))
                && !self.cut.contains(&pair(sent.from, sent.to))
                && can(sent)
        };
        let at = self.moving.iter().position(fits)?;
        self.moving.remove(at)
    }

    /// Dials that have waited for too long.
    pub fn given_up(&mut self, now_ms: i64) -> Vec<(ServerId, ServerId)> {
        let mut late = Vec::new();
        self.moving.retain(|sent| {
            let is_late = sent.until_ms <= now_ms;
            if is_late {
                late.push((sent.from, sent.to));
            }
            !is_late
        });
        late
    }

    /// When the first dial is given up.
    pub fn deadline_ms(&self) -> Option<i64> {
        self.moving.iter().map(|sent| sent.until_ms).min().filter(|at| *at < i64::MAX)
    }

    /// Removes what was sent by a server that is gone and never left its host: dials. What it had written arrives.
    pub fn forget_dials(&mut self, from: ServerId) {
        self.moving.retain(|sent| sent.from != from || !matches!(sent.what, Moving::Dial { .. }));
    }
}
