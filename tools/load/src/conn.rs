//! One client session: its socket, its unanswered requests, and the checks that every reply must pass.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use zabra::proto::request::xid;
use zabra::proto::{ConnectRequest, ConnectResponse};
use zabra::types::{ErrorCode, SessionId, Zxid};

use crate::Result;
use crate::poll::{Poll, reset_on_close};

/// Longest reply that is accepted; a larger length is an error.
const MAX_REPLY: usize = 64 << 20;
/// How long a TCP connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// Its xid.
    pub xid: i32,
    /// Its kind: the index of its histogram.
    pub kind: u8,
    /// The znode's number, or anything else that the load needs when the reply comes.
    pub arg: u64,
    /// When it should have been sent; latency counts from here.
    pub planned_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
}

/// The parts of a reply or an event.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The xid.
    pub xid: i32,
    /// The zxid in the header.
    pub zxid: i64,
    /// 0 is success.
    pub err: i32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    fn read(frame: &'a [u8]) -> Result<Reply<'a>> {
        let (head, body) =
            frame.split_first_chunk::<16>().ok_or_else(|| format!("a reply of {} bytes", frame.len()))?;
        let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let zxid = i64::from(number(4)) << 32 | i64::from(number(8) as u32);
        Ok(Reply { xid: number(0), zxid, err: number(12), body })
    }

    /// The error's name, for messages.
    pub fn error_name(&self) -> String {
        match ErrorCode::from_code(self.err) {
            Some(code) => format!("{code:?} ({})", self.err),
            None => format!("error {}", self.err),
        }
    }
}

/// What a frame is.
pub enum Incoming<'a> {
    /// The response to the handshake: the session is established.
    Opened,
    /// The reply to the oldest request in flight.
    Reply(Flight, Reply<'a>),
    /// A watch event.
    Event(Reply<'a>),
    /// The reply to a ping.
    Pong,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Handshake,
    Open,
    /// closeSession was sent: the server may close the connection.
    Closing,
}

/// A session.
pub struct Conn {
    stream: TcpStream,
    phase: Phase,
    /// Given by the server.
    pub session: SessionId,
    passwd: [u8; 16],
    next_xid: i32,
    flights: VecDeque<Flight>,
    out: Vec<u8>,
    written: usize,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
    last_zxid: i64,
    wants_room: bool,
    /// When something was last queued.
    pub last_sent_ns: u64,
}

impl Conn {
    /// Connects and queues the handshake; `old` is the session to resume. The socket is non-blocking after this.
    pub fn dial(server: SocketAddr, timeout_ms: i32, old: Option<&Conn>) -> Result<Conn> {
        let stream =
            TcpStream::connect_timeout(&server, CONNECT_TIMEOUT).map_err(|e| format!("connect to {server}: {e}"))?;
        let prepared = stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true));
        prepared.map_err(|e| format!("socket to {server}: {e}"))?;
        let (session, passwd) = old.map_or((SessionId::NONE, [0; 16]), |c| (c.session, c.passwd));
        let last_zxid = old.map_or(0, |c| c.last_zxid);
        let mut out = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(last_zxid),
            timeout_ms,
            session,
            passwd: passwd.to_vec(),
            read_only: Some(false),
        }
        .put(&mut out);
        Ok(Conn {
            stream,
            phase: Phase::Handshake,
            session,
            passwd,
            next_xid: 1,
            flights: VecDeque::new(),
            out,
            written: 0,
            partial: Vec::new(),
            last_zxid,
            wants_room: false,
            last_sent_ns: 0,
        })
    }

    /// Registers the socket with `poll`.
    pub fn register(&self, poll: &Poll, token: usize) -> Result<()> {
        poll.add(self.stream.as_raw_fd(), token).map_err(|e| format!("epoll: {e}"))
    }

    /// Resets the TCP connection as if the host had died; the session lives on.
    pub fn cut(&self) -> Result<()> {
        reset_on_close(self.stream.as_raw_fd()).map_err(|e| format!("SO_LINGER: {e}"))
    }

    /// Whether requests may be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Number of requests without a reply.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The newest zxid that the client has seen.
    pub fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    /// Queues a request; `put` gets the xid and appends the complete frame.
    #[inline]
    pub fn request(&mut self, kind: u8, arg: u64, planned_ns: u64, now_ns: u64, put: impl FnOnce(&mut Vec<u8>, i32)) {
        let xid = self.next_xid;
        self.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
        put(&mut self.out, xid);
        self.flights.push_back(Flight { xid, kind, arg, planned_ns, sent_ns: now_ns });
        self.last_sent_ns = now_ns;
    }

    /// Queues closeSession.
    pub fn close_session(&mut self, now_ns: u64) {
        self.phase = Phase::Closing;
        self.request(0, 0, now_ns, now_ns, |out, xid| {
            out.extend_from_slice(&[0, 0, 0, 8]);
            out.extend_from_slice(&xid.to_be_bytes());
            out.extend_from_slice(&zabra::types::Op::CLOSE_SESSION.0.to_be_bytes());
        });
    }

    /// Queues a ping.
    pub fn ping(&mut self, now_ns: u64) {
        self.out.extend_from_slice(&[0, 0, 0, 8]);
        self.out.extend_from_slice(&xid::PING.to_be_bytes());
        self.out.extend_from_slice(&zabra::types::Op::PING.0.to_be_bytes());
        self.last_sent_ns = now_ns;
    }

    /// Whether there are bytes that the kernel has not taken yet.
    pub fn has_output(&self) -> bool {
        self.written < self.out.len()
    }

    /// Writes what is queued until the kernel takes no more, and asks `poll` to report when it does again.
    pub fn flush(&mut self, poll: &Poll, token: usize) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err("the server takes no more bytes".to_owned()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("write: {e} ({} requests unanswered)", self.flights.len())),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let wants = self.has_output();
        if wants != self.wants_room {
            self.wants_room = wants;
            poll.want_write(self.stream.as_raw_fd(), token, wants).map_err(|e| format!("epoll: {e}"))?;
        }
        Ok(())
    }

    /// Reads once into `scratch`; `None` if there was nothing.
    pub fn read(&mut self, scratch: &mut [u8]) -> Result<Option<usize>> {
        loop {
            return match self.stream.read(scratch) {
                Ok(0) if self.phase == Phase::Closing && self.flights.is_empty() => Ok(None),
                Ok(0) if self.phase == Phase::Handshake => {
                    Err("the server closed the connection before the handshake (maxClientCnxns?)".to_owned())
                }
                Ok(0) => Err(format!("the server closed the connection ({} requests unanswered)", self.flights.len())),
                Ok(n) => Ok(Some(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(format!("read: {e} ({} requests unanswered)", self.flights.len())),
            };
        }
    }

    /// Splits bytes into frames and passes each to `f`, after the checks that hold for all: replies in the order of the
    /// requests, and zxids that never decrease.
    pub fn parse(&mut self, bytes: &[u8], f: &mut impl FnMut(&mut Conn, Incoming<'_>) -> Result<()>) -> Result<()> {
        if self.partial.is_empty() {
            let used = self.frames(bytes, f)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.frames(&all, f)?;
            all.drain(..used);
            self.partial = all;
        }
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], f: &mut impl FnMut(&mut Conn, Incoming<'_>) -> Result<()>) -> Result<usize> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            if len > MAX_REPLY {
                return Err(format!("a reply that claims {len} bytes"));
            }
            let Some(frame) = bytes[at + 4..].get(..len) else { break };
            at += 4 + len;
            let incoming = self.frame(frame)?;
            f(self, incoming)?;
        }
        Ok(at)
    }

    #[inline]
    fn frame<'a>(&mut self, frame: &'a [u8]) -> Result<Incoming<'a>> {
        if self.phase == Phase::Handshake {
            return self.handshake(frame);
        }
        let reply = Reply::read(frame)?;
        match reply.xid {
            xid::NOTIFICATION => return Ok(Incoming::Event(reply)),
            xid::PING => return Ok(Incoming::Pong),
            _ => {}
        }
        let flight = self.flights.pop_front().ok_or_else(|| format!("a reply nobody asked for: xid {}", reply.xid))?;
        if flight.xid != reply.xid {
            return Err(format!("reply out of order: xid {} where {} was due", reply.xid, flight.xid));
        }
        if reply.zxid < self.last_zxid {
            return Err(format!("zxid fell from {:#x} to {:#x} on one connection", self.last_zxid, reply.zxid));
        }
        self.last_zxid = reply.zxid;
        Ok(Incoming::Reply(flight, reply))
    }

    fn handshake(&mut self, frame: &[u8]) -> Result<Incoming<'static>> {
        let response = ConnectResponse::read(frame).map_err(|e| format!("handshake: {e}"))?;
        if response.timeout_ms == 0 {
            return Err(format!("the server refused session {}: it is expired", self.session));
        }
        if self.session != SessionId::NONE && self.session != response.session {
            return Err(format!("resumed session {} but was given {}", self.session, response.session));
        }
        self.session = response.session;
        self.passwd = response.passwd;
        self.phase = Phase::Open;
        Ok(Incoming::Opened)
    }
}
