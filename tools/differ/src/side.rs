//! One server: its sessions, and what it sends in each step. Nothing is compared or translated here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use zabra::jute::Reader;
use zabra::jute::stat::read_stat;
use zabra::proto::request::{put_framed_body, xid};
use zabra::proto::{ConnectResponse, ReplyHeader};
use zabra::types::{Acl, Op, Stat};

use crate::Result;
use crate::conn::{Conn, Frame, connect_request};
use crate::request::Request;
use crate::stream::{Burst, Step};

/// The requested session timeout; longer than any run.
const TIMEOUT_MS: i32 = 300_000;

/// One thing that a session received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A reply. `request` is its index in the burst; `None` for the ping that ends each step.
    Reply { request: Option<usize>, asked: Option<Request>, xid: i32, zxid: i64, err: i32, body: Vec<u8> },
    /// A watch event.
    Event { zxid: i64, err: i32, body: Vec<u8> },
    /// A response to a handshake: timeout and readOnly; `None` is a refusal.
    Handshake(Option<(i32, Option<bool>)>),
    /// The server closed the connection.
    Closed,
    /// A reply did not arrive.
    Silence { unanswered: usize },
    /// Something that the protocol does not allow.
    Garbage(String),
}

struct Session {
    conn: Option<Conn>,
    id: i64,
    passwd: [u8; 16],
    seen: i64,
    xid: i32,
}

/// The state before the first step; later answers are given relative to it.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// The last zxid.
    pub zxid: i64,
    /// Stats of the system paths.
    pub stats: Vec<(&'static str, Stat)>,
    /// Number of descendants of the root.
    pub nodes: i32,
}

/// Paths that exist before and after a run.
pub const SYSTEM: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// One server under test.
pub struct Side {
    addr: SocketAddr,
    patience: Duration,
    sessions: Vec<Session>,
    /// The ids of all sessions of this run, in the order in which they were opened.
    pub ids: Vec<i64>,
    /// The state before the first step.
    pub base: Base,
    root: String,
    heard: Vec<Vec<Heard>>,
}

impl Side {
    /// Deletes what an earlier run left below `root`, creates the run's parent znodes and opens `sessions` sessions.
    pub fn open(addr: SocketAddr, patience: Duration, root: &str, areas: &[&str], sessions: usize) -> Result<Side> {
        let mut side = Side {
            addr,
            patience,
            sessions: Vec::new(),
            ids: Vec::new(),
            base: Base::default(),
            root: root.to_owned(),
            heard: Vec::new(),
        };
        let mut caller = Caller::open(addr, patience)?;
        caller.clear(root)?;
        caller.create(root)?;
        caller.create(&format!("/zookeeper/quota{root}"))?;
        for area in areas {
            caller.create(&format!("{root}/{area}"))?;
        }
        caller.create(&format!("/zookeeper/quota{root}/q"))?;
        for path in SYSTEM {
            let reply = caller.must(Request::Read { op: Op::EXISTS, path: path.to_owned(), watch: false })?;
            let stat = read_stat(&mut Reader::new(&reply)).map_err(|e| format!("stat of {path}: {e}"))?;
            side.base.stats.push((path, stat));
        }
        let count = caller.must(Request::Path { op: Op::GET_ALL_CHILDREN_NUMBER, path: Some("/".to_owned()) })?;
        side.base.nodes = Reader::new(&count).i32().map_err(|e| e.to_string())?;
        caller.close()?;
        side.base.zxid = caller.seen;
        for _ in 0..sessions {
            let session = side.connect()?;
            side.sessions.push(session);
            side.heard.push(Vec::new());
        }
        Ok(side)
    }

    /// Closes every session and deletes what the run created.
    pub fn close(mut self) -> Result<()> {
        for s in &mut self.sessions {
            if let Some(conn) = &mut s.conn {
                conn.send(&framed(1, Op::CLOSE_SESSION, &[])).map_err(|e| format!("closing a session: {e}"))?;
            }
        }
        let mut caller = Caller::open(self.addr, self.patience)?;
        caller.clear(&self.root)?;
        caller.close()
    }

    /// Does one step; returns what each session received in it.
    pub fn step(&mut self, step: &Step) -> Result<Vec<Vec<Heard>>> {
        match step {
            Step::Burst(bursts) => self.bursts(bursts)?,
            Step::Away { session, meanwhile, back } => {
                if let Some(conn) = self.sessions[*session].conn.take() {
                    conn.cut();
                }
                self.bursts(meanwhile)?;
                self.resume(*session, back)?;
            }
            Step::WrongPassword(session) => self.wrong_password(*session)?,
        }
        for session in 0..self.sessions.len() {
            self.ping(session)?;
        }
        for session in 0..self.sessions.len() {
            if self.sessions[session].conn.is_none() {
                self.resume(session, &[])?;
            }
            if self.sessions[session].conn.is_none() {
                self.sessions[session] = self.connect()?;
            }
        }
        Ok(self.heard.iter_mut().map(std::mem::take).collect())
    }

    fn bursts(&mut self, bursts: &[Burst]) -> Result<()> {
        if let [Burst { session, requests }] = bursts
            && requests.iter().any(Request::is_alone)
        {
            for (place, request) in requests.iter().enumerate() {
                let waiting = self.ask(*session, &[], std::slice::from_ref(request), place, false)?;
                self.listen(*session, waiting)?;
                if self.must_close(*session) {
                    self.await_close(*session)?;
                } else {
                    self.ping(*session)?;
                }
            }
            return Ok(());
        }
        let mut waiting = Vec::new();
        for b in bursts {
            waiting.push((b.session, self.ask(b.session, &[], &b.requests, 0, true)?));
        }
        for (session, waiting) in waiting {
            self.listen(session, waiting)?;
        }
        Ok(())
    }

    /// Whether the last reply means that the server will close the connection. A ping sent now may or may not be
    /// answered.
    fn must_close(&self, session: usize) -> bool {
        let Some(Heard::Reply { asked, err, .. }) = self.heard[session].last() else { return false };
        matches!((asked, err), (_, -6 | -115) | (Some(Request::Bare(Op::CLOSE_SESSION)), 0))
    }

    fn await_close(&mut self, session: usize) -> Result<()> {
        let Some(mut conn) = self.sessions[session].conn.take() else { return Ok(()) };
        let last = loop {
            match conn.frame().map_err(|e| format!("reading from {}: {e}", self.addr))? {
                Frame::Bytes(bytes) => match read_reply(&bytes) {
                    Some((-1, zxid, err, body)) => {
                        self.heard[session].push(Heard::Event { zxid, err, body: body.to_vec() });
                    }
                    _ => break Heard::Garbage(format!("{bytes:02x?} instead of the end")),
                },
                Frame::Closed => break Heard::Closed,
                Frame::Silence => break Heard::Silence { unanswered: 0 },
                Frame::Garbage(what) => break Heard::Garbage(what),
            }
        };
        self.heard[session].push(last);
        Ok(())
    }

    fn ping(&mut self, session: usize) -> Result<()> {
        let waiting = self.ask(session, &[], &[], 0, true)?;
        self.listen(session, waiting)
    }

    /// Sends requests after the bytes `before` in one packet; returns the replies to expect.
    fn ask(
        &mut self,
        session: usize,
        before: &[u8],
        requests: &[Request],
        first: usize,
        ping: bool,
    ) -> Result<VecDeque<Waiting>> {
        let s = &mut self.sessions[session];
        let Some(conn) = &mut s.conn else { return Ok(VecDeque::new()) };
        let mut bytes = before.to_vec();
        let mut waiting = VecDeque::new();
        for (i, r) in requests.iter().enumerate() {
            let xid = r.xid().unwrap_or(s.xid);
            s.xid += 1;
            bytes.extend_from_slice(&framed(xid, r.op(), &r.body(s.seen)));
            waiting.push_back(Waiting { request: Some(first + i), asked: Some(r.clone()), xid });
        }
        if ping {
            bytes.extend_from_slice(&framed(xid::PING, Op::PING, &[]));
            waiting.push_back(Waiting { request: None, asked: None, xid: -2 });
        }
        conn.send(&bytes).map_err(|e| format!("sending to {}: {e}", self.addr))?;
        Ok(waiting)
    }

    /// Reads until everything is answered or nothing more can come.
    fn listen(&mut self, session: usize, mut waiting: VecDeque<Waiting>) -> Result<()> {
        let s = &mut self.sessions[session];
        let heard = &mut self.heard[session];
        while !waiting.is_empty() {
            let Some(conn) = &mut s.conn else { return Ok(()) };
            let end = match conn.frame().map_err(|e| format!("reading from {}: {e}", self.addr))? {
                Frame::Bytes(bytes) => match read_reply(&bytes) {
                    Some((-1, zxid, err, body)) if waiting.front().is_some_and(|w| w.xid != -1) => {
                        heard.push(Heard::Event { zxid, err, body: body.to_vec() });
                        continue;
                    }
                    Some((xid, zxid, err, body)) => {
                        if zxid > 0 {
                            s.seen = zxid;
                        }
                        let Some(w) = waiting.pop_front() else { continue };
                        heard.push(Heard::Reply {
                            request: w.request,
                            asked: w.asked,
                            xid,
                            zxid,
                            err,
                            body: body.to_vec(),
                        });
                        if xid == w.xid {
                            continue;
                        }
                        Heard::Garbage(format!("xid {xid} instead of {}", w.xid))
                    }
                    None => Heard::Garbage(format!("a reply of {} bytes", bytes.len())),
                },
                Frame::Closed => Heard::Closed,
                Frame::Silence => Heard::Silence { unanswered: waiting.len() },
                Frame::Garbage(what) => Heard::Garbage(what),
            };
            heard.push(end);
            s.conn = None;
        }
        Ok(())
    }

    /// Opens a new session.
    fn connect(&mut self) -> Result<Session> {
        let mut conn = self.dial()?;
        conn.send(&connect_request(0, &[0; 16], 0, TIMEOUT_MS)).map_err(|e| e.to_string())?;
        let r = granted(&mut conn, self.addr)?;
        self.ids.push(r.session.0);
        Ok(Session { conn: Some(conn), id: r.session.0, passwd: r.passwd, seen: 0, xid: 1 })
    }

    /// Resumes the session on a new connection; the requests follow the handshake without waiting for its response.
    fn resume(&mut self, session: usize, requests: &[Request]) -> Result<()> {
        let mut conn = self.dial()?;
        let s = &mut self.sessions[session];
        let mut before = connect_request(s.id, &s.passwd, s.seen, TIMEOUT_MS);
        if requests.is_empty() {
            conn.send(&before).map_err(|e| e.to_string())?;
            before.clear();
        }
        s.conn = Some(conn);
        let waiting =
            if requests.is_empty() { VecDeque::new() } else { self.ask(session, &before, requests, 0, true)? };
        if self.hear_handshake(session)? {
            self.listen(session, waiting)?;
        }
        Ok(())
    }

    /// Whether the session is alive; if not, its connection is dropped.
    fn hear_handshake(&mut self, session: usize) -> Result<bool> {
        let s = &mut self.sessions[session];
        let Some(conn) = &mut s.conn else { return Ok(false) };
        let answer = conn.handshake().map_err(|e| e.to_string())?;
        let lives = matches!(&answer, Ok(r) if r.timeout_ms > 0);
        self.heard[session].push(heard_handshake(answer));
        if !lives {
            s.conn = None;
        }
        Ok(lives)
    }

    fn wrong_password(&mut self, session: usize) -> Result<()> {
        let mut conn = self.dial()?;
        let s = &self.sessions[session];
        let mut wrong = s.passwd;
        wrong[3] ^= 1;
        conn.send(&connect_request(s.id, &wrong, s.seen, TIMEOUT_MS)).map_err(|e| e.to_string())?;
        let answer = conn.handshake().map_err(|e| e.to_string())?;
        self.heard[session].push(heard_handshake(answer));
        let end = conn.frame().map_err(|e| e.to_string())?;
        self.heard[session].push(match end {
            Frame::Closed => Heard::Closed,
            other => Heard::Garbage(format!("after a refusal: {other:?}")),
        });
        Ok(())
    }

    fn dial(&self) -> Result<Conn> {
        Conn::open(self.addr, self.patience).map_err(|e| format!("connecting to {}: {e}", self.addr))
    }
}

struct Waiting {
    request: Option<usize>,
    asked: Option<Request>,
    xid: i32,
}

fn heard_handshake(answer: std::result::Result<ConnectResponse, Frame>) -> Heard {
    match answer {
        Ok(r) if r.timeout_ms > 0 => Heard::Handshake(Some((r.timeout_ms, r.read_only))),
        Ok(_) => Heard::Handshake(None),
        Err(Frame::Closed) => Heard::Closed,
        Err(Frame::Silence) => Heard::Silence { unanswered: 1 },
        Err(other) => Heard::Garbage(format!("instead of a handshake: {other:?}")),
    }
}

fn granted(conn: &mut Conn, addr: SocketAddr) -> Result<ConnectResponse> {
    match conn.handshake().map_err(|e| e.to_string())? {
        Ok(r) if r.timeout_ms > 0 => Ok(r),
        other => Err(format!("{addr} refuses a new session: {other:?}")),
    }
}

fn read_reply(bytes: &[u8]) -> Option<(i32, i64, i32, &[u8])> {
    let mut r = Reader::new(bytes);
    let ReplyHeader { xid, zxid, err } = ReplyHeader::read(&mut r).ok()?;
    Some((xid, zxid.0, err, r.rest()))
}

fn framed(xid: i32, op: Op, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + body.len());
    put_framed_body(&mut out, xid, op, body);
    out
}

/// A session of the tool itself with super rights, for the work before and after a run.
struct Caller {
    conn: Conn,
    addr: SocketAddr,
    seen: i64,
}

impl Caller {
    fn open(addr: SocketAddr, patience: Duration) -> Result<Caller> {
        let mut conn = Conn::open(addr, patience).map_err(|e| format!("connecting to {addr}: {e}"))?;
        conn.send(&connect_request(0, &[0; 16], 0, TIMEOUT_MS)).map_err(|e| e.to_string())?;
        granted(&mut conn, addr)?;
        let mut caller = Caller { conn, addr, seen: 0 };
        caller.must(Request::Auth { scheme: "digest".to_owned(), auth: b"super:interop".to_vec() })?;
        Ok(caller)
    }

    fn call(&mut self, request: &Request) -> Result<(i32, Vec<u8>)> {
        self.conn.send(&framed(1, request.op(), &request.body(0))).map_err(|e| e.to_string())?;
        match self.conn.frame().map_err(|e| e.to_string())? {
            Frame::Bytes(b) => {
                let (_, zxid, err, body) = read_reply(&b).ok_or("a short reply")?;
                self.seen = self.seen.max(zxid);
                Ok((err, body.to_vec()))
            }
            other => Err(format!("{} answers {request} with {other:?}", self.addr)),
        }
    }

    fn must(&mut self, request: Request) -> Result<Vec<u8>> {
        match self.call(&request)? {
            (0, body) => Ok(body),
            (err, _) => Err(format!("{} answers {request} with {err}", self.addr)),
        }
    }

    fn create(&mut self, path: &str) -> Result<()> {
        let acl = vec![Acl::world_all()];
        self.must(Request::Create { op: Op::CREATE, path: path.to_owned(), data: None, acl, flags: 0, ttl_ms: 0 })
            .map(drop)
    }

    /// Deletes the run's znodes and quotas, if there are any.
    fn clear(&mut self, root: &str) -> Result<()> {
        self.remove(&format!("/zookeeper/quota{root}"))?;
        self.remove(root)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let (err, body) = self.call(&Request::Read { op: Op::GET_CHILDREN, path: path.to_owned(), watch: false })?;
        if err != 0 {
            return Ok(());
        }
        let names = Reader::new(&body).strings().map_err(|e| format!("children of {path}: {e}"))?;
        for name in names {
            self.remove(&format!("{path}/{name}"))?;
        }
        // Another session's closeSession may have deleted it first.
        match self.call(&Request::Delete { path: path.to_owned(), version: -1 })?.0 {
            0 | -101 => Ok(()),
            err => Err(format!("{} does not delete {path}: {err}", self.addr)),
        }
    }

    fn close(&mut self) -> Result<()> {
        self.must(Request::Bare(Op::CLOSE_SESSION)).map(drop)
    }
}
