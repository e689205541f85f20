//! A small blocking client that gives access to every byte; it has one connection.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use zabra::jute::stat::read_stat;
use zabra::jute::{Put, Reader};
use zabra::proto::multi::MultiHeader;
use zabra::proto::request::{put_framed_body, put_ping, xid};
use zabra::proto::response::read_data;
use zabra::proto::{ConnectRequest, ConnectResponse, CreateRequest, ReplyHeader, Request, WatcherEvent};
use zabra::types::{Acl, Op, SessionId, Stat, Zxid};

use super::server::PATIENCE;

/// A reply whose body is not decoded yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

/// A watch event: its type, path and zxid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub kind: i32,
    pub path: String,
    pub zxid: i64,
}

/// The handshake of a client that asks for a new session.
pub fn new_session(timeout_ms: i32) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms,
        session: SessionId(0),
        passwd: vec![0; 16],
        read_only: Some(false),
    }
}

/// A connection without a session.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub fn connect(addr: SocketAddr) -> Raw {
        Raw::try_connect(addr).expect("the server accepts")
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Raw> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Raw { stream })
    }

    /// Reading fails when nothing has come for this long.
    pub fn impatient(&mut self, silence: Duration) {
        self.stream.set_read_timeout(Some(silence)).expect("a timeout");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame, without its length.
    pub fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let len = i32::from_be_bytes(head);
        let len = usize::try_from(len).map_err(|_| io::Error::other(format!("the server sent length {len}")))?;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Checks that the server closes this connection; returns what it sent before.
    pub fn closed(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        let mut part = [0; 4096];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return sent,
                Ok(n) => sent.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => panic!("the server keeps the connection open"),
                Err(_) => return sent,
            }
        }
    }

    pub fn handshake(&mut self, request: &ConnectRequest) -> io::Result<ConnectResponse> {
        let mut bytes = Vec::new();
        request.put(&mut bytes);
        self.send(&bytes)?;
        let frame = self.frame()?;
        ConnectResponse::read(&frame).map_err(io::Error::other)
    }
}

/// A session on one connection.
pub struct Client {
    raw: Raw,
    pub session: SessionId,
    pub passwd: [u8; 16],
    pub timeout_ms: i32,
    /// The zxid of the last reply.
    pub zxid: i64,
    pub events: VecDeque<Event>,
    next_xid: i32,
}

impl Client {
    /// A new session with a timeout longer than any test.
    pub fn connect(addr: SocketAddr) -> Client {
        Client::with_timeout(addr, 600_000)
    }

    pub fn with_timeout(addr: SocketAddr, timeout_ms: i32) -> Client {
        let client = Client::handshake(addr, &new_session(timeout_ms)).expect("a handshake");
        client.expect("a new session is not refused")
    }

    /// Sends a handshake. `None`: the server replied that the session has expired.
    pub fn handshake(addr: SocketAddr, request: &ConnectRequest) -> io::Result<Option<Client>> {
        Client::handshake_within(addr, request, PATIENCE)
    }

    /// The same, if the answer takes no longer than `patience`: a server that stands still accepts connections.
    pub fn handshake_within(
        addr: SocketAddr,
        request: &ConnectRequest,
        patience: Duration,
    ) -> io::Result<Option<Client>> {
        let mut raw = Raw::try_connect(addr)?;
        raw.stream.set_read_timeout(Some(patience))?;
        let r = raw.handshake(request)?;
        raw.stream.set_read_timeout(Some(PATIENCE))?;
        if r.timeout_ms <= 0 {
            assert_eq!((r.session, r.passwd), (SessionId(0), [0; 16]), "a refusal says nothing else");
            return Ok(None);
        }
        Ok(Some(Client {
            raw,
            session: r.session,
            passwd: r.passwd,
            timeout_ms: r.timeout_ms,
            zxid: 0,
            events: VecDeque::new(),
            next_xid: 1,
        }))
    }

    /// The handshake with which another connection can take over this session.
    pub fn resumption(&self) -> ConnectRequest {
        ConnectRequest {
            last_zxid_seen: Zxid(self.zxid),
            session: self.session,
            passwd: self.passwd.to_vec(),
            ..new_session(self.timeout_ms)
        }
    }

    pub fn raw(&mut self) -> &mut Raw {
        &mut self.raw
    }

    /// Closes the connection without closing the session, which lives on.
    pub fn disconnect(self) {
        // The server may have closed it already.
        let _ = self.raw.stream.shutdown(Shutdown::Both);
    }

    /// Sends a request without waiting; returns its xid.
    pub fn try_send(&mut self, op: Op, body: &[u8]) -> io::Result<i32> {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.raw.send(&framed(xid, op, body))?;
        Ok(xid)
    }

    pub fn send(&mut self, op: Op, body: &[u8]) -> i32 {
        self.try_send(op, body).expect("the request is sent")
    }

    /// The next reply. Events that come before it are kept.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        loop {
            let frame = self.raw.frame()?;
            let mut r = Reader::new(&frame);
            let ReplyHeader { xid, zxid: Zxid(zxid), err } = ReplyHeader::read(&mut r).map_err(io::Error::other)?;
            if xid != xid::NOTIFICATION {
                if zxid > 0 {
                    self.zxid = zxid;
                }
                return Ok(Reply { xid, zxid, err, body: r.rest().to_vec() });
            }
            let event = WatcherEvent::read(&mut r).map_err(io::Error::other)?;
            assert_eq!(event.state, 3, "the server always says SyncConnected");
            self.events.push_back(Event { kind: event.kind, path: event.path.into_owned(), zxid });
        }
    }

    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply")
    }

    /// Sends a request and waits for the reply; fails if the connection does.
    pub fn try_call(&mut self, op: Op, body: &[u8]) -> io::Result<Reply> {
        let xid = self.try_send(op, body)?;
        let reply = self.try_reply()?;
        assert_eq!(reply.xid, xid, "replies come in order");
        Ok(reply)
    }

    /// Sends a request and waits for the reply.
    pub fn call(&mut self, op: Op, body: &[u8]) -> Reply {
        let xid = self.send(op, body);
        let reply = self.reply();
        assert_eq!(reply.xid, xid, "replies come in order");
        reply
    }

    fn call_ok(&mut self, op: Op, body: &[u8]) -> Result<Vec<u8>, i32> {
        let reply = self.call(op, body);
        if reply.err == 0 { Ok(reply.body) } else { Err(reply.err) }
    }

    /// Sends a ping and waits for the reply; everything sent before is answered by then.
    pub fn ping(&mut self) -> Reply {
        let mut ping = Vec::new();
        put_ping(&mut ping);
        self.raw.send(&ping).expect("a ping is sent");
        let reply = self.reply();
        assert_eq!((reply.xid, reply.err), (-2, 0));
        reply
    }

    pub fn create(&mut self, path: &str, data: &[u8]) -> Result<String, i32> {
        self.create_mode(path, data, 0)
    }

    pub fn create_mode(&mut self, path: &str, data: &[u8], flags: i32) -> Result<String, i32> {
        let body = self.call_ok(Op::CREATE, &create_body(path, data, flags))?;
        Ok(Reader::new(&body).string().expect("a path").into_owned())
    }

    pub fn delete(&mut self, path: &str, version: i32) -> Result<(), i32> {
        let body = Request::Delete { path: path.into(), version }.body(Op::DELETE);
        self.call_ok(Op::DELETE, &body).map(drop)
    }

    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, i32> {
        let body = self.call_ok(Op::SET_DATA, &set_body(path, data, version))?;
        Ok(read_stat(&mut Reader::new(&body)).expect("a stat"))
    }

    pub fn get(&mut self, path: &str, watch: bool) -> Result<(Vec<u8>, Stat), i32> {
        let body = self.call_ok(Op::GET_DATA, &read_body(path, watch))?;
        let (data, stat) = read_data(&mut Reader::new(&body)).expect("data and stat");
        Ok((data.unwrap_or_default().to_vec(), stat))
    }

    pub fn exists(&mut self, path: &str, watch: bool) -> Result<Stat, i32> {
        let body = self.call_ok(Op::EXISTS, &read_body(path, watch))?;
        Ok(read_stat(&mut Reader::new(&body)).expect("a stat"))
    }

    /// The names of the children, sorted.
    pub fn children(&mut self, path: &str, watch: bool) -> Result<Vec<String>, i32> {
        let body = self.call_ok(Op::GET_CHILDREN, &read_body(path, watch))?;
        let mut names = Reader::new(&body).strings().expect("names");
        names.sort();
        Ok(names)
    }

    /// Closes the session if the connection still works; returns whether there was a reply.
    pub fn close_if_alive(mut self) -> bool {
        let mut answered = false;
        if self.try_send(Op::CLOSE_SESSION, &[]).is_ok() {
            while self.try_reply().is_ok() {
                answered = true;
            }
        }
        answered
    }

    /// Closes the session; the server closes the connection after the reply.
    pub fn close(mut self) {
        let reply = self.call(Op::CLOSE_SESSION, &[]);
        assert_eq!(reply.err, 0);
        assert_eq!(self.raw.closed(), b"");
    }
}

pub fn framed(xid: i32, op: Op, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_framed_body(&mut out, xid, op, body);
    out
}

pub fn text(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_string(path);
    out
}

pub fn read_body(path: &str, watch: bool) -> Vec<u8> {
    Request::GetData { path: path.into(), watch }.body(Op::GET_DATA)
}

pub fn create_body(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let acl = vec![Acl::world_all()].into();
    let create = CreateRequest { path: path.into(), data: Some(data), acl, flags, ttl_ms: None };
    Request::Create(create).body(Op::CREATE)
}

pub fn set_body(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    Request::SetData { path: path.into(), data: Some(data), version }.body(Op::SET_DATA)
}

/// The body of a multi with these operations and bodies.
pub fn multi_body(ops: &[(Op, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (op, body) in ops {
        MultiHeader::asking(*op).put(&mut out);
        out.extend_from_slice(body);
    }
    MultiHeader::END.put(&mut out);
    out
}
