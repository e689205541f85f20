//! A core's end of its connections. Whoever owns this between two turns plays the other end.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::shard::CloseHow;
use crate::shard::turn::{SocketEvent, Sockets};
use crate::types::ConnId;

/// The connections of one core, which are few enough to be searched.
#[derive(Debug, Default)]
pub struct MemorySockets {
    /// Open connections, in the order in which they were accepted.
    conns: Vec<MemoryConn>,
    /// What the next turns will see.
    arrivals: VecDeque<Arrival>,
    /// Connections that the shard closed since they were last taken.
    ended: Vec<(MemoryConn, CloseHow)>,
    /// Receives bytes for connections that are gone.
    sink: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct MemoryConn {
    /// Its id.
    pub id: ConnId,
    /// What the server sent, to be taken by the client's side.
    pub out: Vec<u8>,
    /// Bytes that were taken from `out` and have not reached the client yet; they count as queued.
    pub untaken: usize,
    /// The server wants to know when the client has received everything.
    pub wants_writable: bool,
    /// The server does not read from it, so input is held back.
    pub paused: bool,
}

#[derive(Debug)]
enum Arrival {
    Accepted(ConnId, SocketAddr),
    Data(ConnId, Bytes),
    Eof(ConnId),
    Gone(ConnId),
}

impl Arrival {
    fn conn(&self) -> ConnId {
        match self {
            Arrival::Accepted(conn, _) | Arrival::Data(conn, _) | Arrival::Eof(conn) | Arrival::Gone(conn) => *conn,
        }
    }
}

impl MemorySockets {
    /// A client connected.
    ///
    /// # Panics
    /// If the id is in use.
    pub fn accept(&mut self, id: ConnId, peer: SocketAddr) {
        assert!(self.conn(id).is_none(), "{id:?} is open already");
        let conn = MemoryConn { id, out: Vec::new(), untaken: 0, wants_writable: false, paused: false };
        self.conns.push(conn);
        self.arrivals.push_back(Arrival::Accepted(id, peer));
    }

    /// Bytes of a client arrive. If the server has closed the connection they are lost.
    pub fn data(&mut self, conn: ConnId, bytes: Bytes) {
        self.arrive(Arrival::Data(conn, bytes));
    }

    /// The client closes its sending side.
    pub fn eof(&mut self, conn: ConnId) {
        self.arrive(Arrival::Eof(conn));
    }

    /// The connection breaks. The shard is told after everything that arrived before, even if it does not read.
    pub fn gone(&mut self, conn: ConnId) {
        self.arrive(Arrival::Gone(conn));
    }

    fn arrive(&mut self, arrival: Arrival) {
        if self.conn(arrival.conn()).is_some() {
            self.arrivals.push_back(arrival);
        }
    }

    /// A connection that is open.
    pub fn conn(&mut self, id: ConnId) -> Option<&mut MemoryConn> {
        self.conns.iter_mut().find(|conn| conn.id == id)
    }

    /// The open connections.
    pub fn conns(&mut self) -> &mut [MemoryConn] {
        &mut self.conns
    }

    /// The connections that the shard closed since the last call, in that order. For an aborted one nothing is left to
    /// send.
    pub fn take_ended(&mut self) -> Vec<(MemoryConn, CloseHow)> {
        std::mem::take(&mut self.ended)
    }

    /// Whether the next turn will see nothing.
    pub fn is_quiet(&self) -> bool {
        let is_told = |arrival: &Arrival| !self.holds_back(arrival);
        !self.arrivals.iter().any(is_told) && !self.conns.iter().any(MemoryConn::is_writable)
    }

    /// Whether this arrival must wait because the connection is paused. A broken connection is reported all the same, a
    /// half-closed one only when it is read.
    fn holds_back(&self, arrival: &Arrival) -> bool {
        matches!(arrival, Arrival::Data(..) | Arrival::Eof(_))
            && self.conns.iter().any(|conn| conn.id == arrival.conn() && conn.paused)
    }

    fn remove(&mut self, id: ConnId) -> Option<MemoryConn> {
        let at = self.conns.iter().position(|conn| conn.id == id)?;
        self.arrivals.retain(|arrival| arrival.conn() != id);
        Some(self.conns.remove(at))
    }
}

impl MemoryConn {
    fn is_writable(&self) -> bool {
        self.wants_writable && self.out.is_empty() && self.untaken == 0
    }
}

impl Sockets for MemorySockets {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) {
        let mut any_paused = false;
        for conn in &mut self.conns {
            any_paused |= conn.paused;
            if conn.is_writable() {
                conn.wants_writable = false;
                f(SocketEvent::Writable { conn: conn.id });
            }
        }
        for _ in 0..self.arrivals.len() {
            // There may be fewer: a connection that is gone also removes its input that was held back.
            let Some(arrival) = self.arrivals.pop_front() else { break };
            if any_paused && self.holds_back(&arrival) {
                self.arrivals.push_back(arrival);
                continue;
            }
            match arrival {
                Arrival::Accepted(conn, peer) => f(SocketEvent::Accepted { conn, peer }),
                Arrival::Data(conn, bytes) => f(SocketEvent::Data { conn, bytes: &bytes }),
                Arrival::Eof(conn) => f(SocketEvent::Eof { conn }),
                Arrival::Gone(conn) => {
                    self.remove(conn);
                    f(SocketEvent::Closed { conn });
                }
            }
        }
    }

    fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        match self.conns.iter_mut().find(|conn| conn.id == id) {
            Some(conn) => &mut conn.out,
            None => {
                self.sink.clear();
                &mut self.sink
            }
        }
    }

    fn queued(&self, id: ConnId) -> usize {
        self.conns.iter().find(|conn| conn.id == id).map_or(0, |conn| conn.untaken + conn.out.len())
    }

    fn want_writable(&mut self, conn: ConnId) {
        if let Some(conn) = self.conn(conn) {
            conn.wants_writable = true;
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(conn) = self.conn(conn) {
            conn.paused = paused;
        }
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        if let Some(mut conn) = self.remove(conn) {
            if how == CloseHow::Abort {
                conn.out.clear();
            }
            self.ended.push((conn, how));
        }
    }

    /// Nothing to do: the client's side takes what was appended.
    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 40_000);
    const ONE: ConnId = ConnId(1);
    const TWO: ConnId = ConnId(2);

    fn sockets() -> MemorySockets {
        let mut sockets = MemorySockets::default();
        sockets.accept(ONE, PEER.into());
        sockets.accept(TWO, PEER.into());
        assert_eq!(heard(&mut sockets), ["accepted 1", "accepted 2"]);
        sockets
    }

    fn heard(sockets: &mut MemorySockets) -> Vec<String> {
        let mut all = Vec::new();
        sockets.reap(&mut |event| {
            all.push(match event {
                SocketEvent::Accepted { conn, .. } => format!("accepted {}", conn.0),
                SocketEvent::Data { conn, bytes } => format!("data {} {}", conn.0, bytes.escape_ascii()),
                SocketEvent::Eof { conn } => format!("eof {}", conn.0),
                SocketEvent::Closed { conn } => format!("closed {}", conn.0),
                SocketEvent::Writable { conn } => format!("writable {}", conn.0),
            });
        });
        all
    }

    #[test]
    fn what_a_paused_connection_sends_comes_later_and_in_order() {
        let mut sockets = sockets();
        sockets.pause(ONE, true);
        sockets.data(ONE, "a".into());
        sockets.data(TWO, "x".into());
        sockets.data(ONE, "b".into());
        sockets.eof(ONE);
        assert_eq!(heard(&mut sockets), ["data 2 x"]);
        assert!(sockets.is_quiet());
        sockets.pause(ONE, false);
        assert_eq!(heard(&mut sockets), ["data 1 a", "data 1 b", "eof 1"]);
    }

    #[test]
    fn of_a_connection_that_is_gone_nothing_follows() {
        let mut sockets = sockets();
        sockets.pause(ONE, true);
        sockets.data(ONE, "held back".into());
        sockets.gone(ONE);
        sockets.data(ONE, "lost".into());
        assert_eq!(heard(&mut sockets), ["closed 1"]);
        assert_eq!(heard(&mut sockets), [""; 0]);
        sockets.out(ONE).push(b'x');
        assert_eq!((sockets.queued(ONE), sockets.out(ONE).len()), (0, 0));
    }

    #[test]
    fn an_ended_connection_keeps_what_it_was_sent_unless_it_is_aborted() {
        let mut sockets = sockets();
        for (conn, how) in [(ONE, CloseHow::Flush), (TWO, CloseHow::Abort)] {
            sockets.out(conn).extend(b"bye");
            sockets.close(conn, how);
            sockets.data(conn, "lost".into());
        }
        assert!(sockets.is_quiet() && sockets.conns().is_empty());
        let ended = sockets.take_ended();
        let ended: Vec<_> = ended.iter().map(|(conn, how)| (conn.id, &conn.out[..], *how)).collect();
        assert_eq!(ended, [(ONE, &b"bye"[..], CloseHow::Flush), (TWO, b"", CloseHow::Abort)]);
    }

    #[test]
    fn writable_is_told_once_when_the_client_has_everything() {
        let mut sockets = sockets();
        sockets.out(ONE).extend(b"12345");
        sockets.want_writable(ONE);
        assert_eq!((sockets.queued(ONE), heard(&mut sockets)), (5, vec![]));
        let conn = sockets.conn(ONE).unwrap();
        conn.untaken = std::mem::take(&mut conn.out).len();
        assert_eq!((sockets.queued(ONE), heard(&mut sockets)), (5, vec![]));
        sockets.conn(ONE).unwrap().untaken = 0;
        assert_eq!(heard(&mut sockets), ["writable 1"]);
        assert_eq!((sockets.queued(ONE), heard(&mut sockets)), (0, vec![]));
    }
}
