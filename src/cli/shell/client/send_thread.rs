//! The thread that maintains a session: it sends requests, matches replies to them, pings, reconnects and notices
//! expiry. Mirrors `ClientCnxn.SendThread`. It also does the work of Java's event thread, so an event is always
//! delivered before any later reply.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::dial::{dial, probe};
use super::error::code;
use super::event::{EventKind, KeeperState, WatchedEvent};
use super::hosts::{Host, Rotation};
use super::input::{Input, Packet, Reply, WatchChange};
use super::state::{Shared, State};
use super::watches::Watches;
use super::{Options, chroot};
use crate::jute::Reader;
use crate::proto::request::{Request, put_auth, put_framed_body, put_ping, xid};
use crate::proto::{ConnectRequest, ConnectResponse, ReplyHeader};
use crate::runtime::threads;
use crate::types::{Op, SessionId, Zxid, path};

/// Most inputs that may wait. A faster reader thread blocks, so memory stays bounded.
const QUEUE: usize = 64;
const MAX_PING_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_PROBE: Duration = Duration::from_millis(100);
const LAST_PROBE: Duration = Duration::from_secs(60);
/// Longest pause before reconnecting.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Pause after all servers were tried without success.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

enum Link {
    /// Not connected; the next attempt is at this time.
    Waiting(Instant),
    Dialing,
    /// The handshake was sent.
    Greeting(TcpStream),
    Up(TcpStream),
}

/// Receives the session's events, in order.
pub(crate) type Watcher = Box<dyn FnMut(&WatchedEvent) + Send>;

pub(crate) struct Keeper {
    options: Options,
    chroot: Option<String>,
    rotation: Rotation,
    preferred: Option<Host>,
    shared: Arc<Shared>,
    tx: SyncSender<Input>,
    watcher: Watcher,
    told: KeeperState,
    /// The last event was delivered; no further one is.
    mute: bool,
    watches: Watches,
    auths: Vec<(String, Option<Vec<u8>>)>,
    session: SessionId,
    passwd: Vec<u8>,
    seen_writable: bool,
    reached_one: bool,
    last_zxid: Zxid,
    next_xid: i32,
    outgoing: VecDeque<Packet>,
    pending: VecDeque<(i32, Packet)>,
    closing: bool,
    link: Link,
    attempt: u64,
    last_sent: Instant,
    last_heard: Instant,
    /// The negotiated timeout; before the handshake the requested one.
    timeout: Duration,
    connect_timeout: Duration,
    probe_interval: Duration,
    last_probe: Instant,
}

/// Starts the thread of a session. It runs until the session has ended and its [`super::Client`] is dropped.
///
/// # Errors
/// No thread can be had.
pub(crate) fn start(
    options: Options,
    hosts: Vec<Host>,
    chroot: Option<String>,
    watcher: Watcher,
) -> io::Result<(SyncSender<Input>, Arc<Shared>)> {
    let (tx, rx) = sync_channel(QUEUE);
    let shared = Arc::new(Shared::new());
    let now = Instant::now();
    let timeout = Duration::from_millis(options.timeout_ms.max(0) as u64);
    let rotation = Rotation::new(hosts);
    let keeper = Keeper {
        connect_timeout: (timeout / rotation.len() as u32).max(Duration::from_millis(1)),
        options,
        chroot,
        rotation,
        preferred: None,
        shared: shared.clone(),
        tx: tx.clone(),
        watcher,
        told: KeeperState::Disconnected,
        mute: false,
        watches: Watches::default(),
        auths: Vec::new(),
        session: SessionId::NONE,
        passwd: vec![0; 16],
        seen_writable: false,
        reached_one: false,
        last_zxid: Zxid::ZERO,
        next_xid: 1,
        outgoing: VecDeque::new(),
        pending: VecDeque::new(),
        closing: false,
        link: Link::Waiting(now),
        attempt: 0,
        last_sent: now,
        last_heard: now,
        timeout,
        probe_interval: FIRST_PROBE,
        last_probe: now,
    };
    threads::start("session", move || keeper.run(rx))?;
    Ok((tx, shared))
}

impl Keeper {
    fn run(mut self, rx: Receiver<Input>) {
        while self.shared.state().is_alive() {
            let now = Instant::now();
            self.tick(now);
            if !self.shared.state().is_alive() {
                break;
            }
            match rx.recv_timeout(self.wake(now).saturating_duration_since(now)) {
                Ok(Input::Abandon) => {
                    self.drop_link();
                    return;
                }
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        self.drop_link();
        self.fail_all();
        let code = self.loss_code();
        // Callers that come too late still get an answer. Our own sender must be dropped, or the loop would never end.
        drop(self.tx);
        for input in rx {
            match input {
                Input::Submit(p) => {
                    let _ = p.reply.send(Reply { err: code, body: Vec::new() });
                }
                Input::Abandon => return,
                _ => {}
            }
        }
    }

    fn state(&self) -> State {
        self.shared.state()
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Submit(p) => self.submit(p),
            Input::Auth { scheme, auth } => {
                if matches!(self.link, Link::Up(_)) {
                    let mut out = Vec::new();
                    put_auth(&mut out, &scheme, auth.as_deref());
                    self.write(&out);
                }
                self.auths.push((scheme, auth));
            }
            Input::Abort => self.disconnected("no reply in time"),
            Input::Dialed { attempt, stream } if attempt == self.attempt => self.greet(stream),
            Input::Frame { attempt, bytes } if attempt == self.attempt => {
                self.last_heard = Instant::now();
                let read = match self.link {
                    Link::Greeting(_) => self.welcomed(&bytes),
                    Link::Up(_) => self.frame(&bytes),
                    _ => Ok(()),
                };
                if let Err(e) = read {
                    self.disconnected(&e);
                }
            }
            Input::Broken { attempt, error } if attempt == self.attempt => self.disconnected(&error),
            Input::Writable(host) if self.state() == State::ConnectedReadOnly => {
                self.preferred = Some(host);
                self.probe_interval = FIRST_PROBE;
                self.disconnected("a server that takes writes was found");
            }
            // From an earlier connection attempt: shut the socket down so that its reader thread ends.
            Input::Dialed { stream, .. } => drop(stream.shutdown(Shutdown::Both)),
            Input::Frame { .. } | Input::Broken { .. } | Input::Writable(_) => {}
            Input::Abandon => {}
        }
    }

    fn read_timeout(&self) -> Duration {
        self.timeout * 2 / 3
    }

    /// When the thread must act next without any input.
    fn wake(&self, now: Instant) -> Instant {
        let mut at = match &self.link {
            Link::Waiting(until) => *until,
            Link::Dialing | Link::Greeting(_) => self.last_sent + self.connect_timeout,
            Link::Up(_) => (self.last_heard + self.read_timeout()).min(self.ping_due()),
        };
        if self.session != SessionId::NONE {
            at = at.min(self.last_heard + self.timeout * 4 / 3);
        }
        if self.state() == State::ConnectedReadOnly {
            at = at.min(self.last_probe + self.probe_interval);
        }
        at.max(now)
    }

    /// When to ping: a second early, so that a slow network does not delay it beyond the timeout.
    fn ping_due(&self) -> Instant {
        let half = self.read_timeout() / 2;
        let due = if half > Duration::from_secs(2) { half - Duration::from_secs(1) } else { half };
        self.last_sent + due.min(MAX_PING_INTERVAL)
    }

    /// Does everything that is due.
    fn tick(&mut self, now: Instant) {
        if self.session != SessionId::NONE && now >= self.last_heard + self.timeout * 4 / 3 {
            return self.expire();
        }
        match &self.link {
            Link::Waiting(until) if now >= *until => self.dial(now),
            Link::Waiting(_) => {}
            Link::Dialing | Link::Greeting(_) if now >= self.last_sent + self.connect_timeout => {
                self.disconnected("no connection in time");
            }
            Link::Dialing | Link::Greeting(_) => {}
            Link::Up(_) if now >= self.last_heard + self.read_timeout() => {
                self.disconnected("nothing heard from the server");
            }
            Link::Up(_) if now >= self.ping_due() => {
                let mut out = Vec::new();
                put_ping(&mut out);
                self.write(&out);
            }
            Link::Up(_) => {}
        }
        if self.state() == State::ConnectedReadOnly && now >= self.last_probe + self.probe_interval {
            self.last_probe = now;
            self.probe_interval = (self.probe_interval * 2).min(LAST_PROBE);
            probe(self.rotation.next().0, self.tx.clone());
        }
    }

    fn dial(&mut self, now: Instant) {
        let host = match self.preferred.take() {
            Some(h) => h,
            None => {
                let (host, pause) = self.rotation.next();
                if pause {
                    self.preferred = Some(host);
                    self.link = Link::Waiting(now + ROUND_PAUSE.min(self.timeout / 6));
                    return;
                }
                host
            }
        };
        self.attempt += 1;
        self.last_sent = now;
        self.link = Link::Dialing;
        let dialed = dial(host, self.attempt, self.connect_timeout, self.options.max_frame, self.tx.clone());
        if let Err(e) = dialed {
            self.disconnected(&e.to_string());
        }
    }

    /// The socket is connected: sends handshake, credentials and watches together; the server reads them in order.
    fn greet(&mut self, stream: TcpStream) {
        self.reached_one = true;
        self.last_heard = Instant::now();
        if let Err(e) = stream.set_write_timeout(Some(self.read_timeout().max(Duration::from_millis(1)))) {
            return self.disconnected(&e.to_string());
        }
        self.link = Link::Greeting(stream);
        let mut out = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.options.timeout_ms,
            // Other servers do not know a session that a read-only server created.
            session: if self.seen_writable { self.session } else { SessionId::NONE },
            passwd: self.passwd.clone(),
            read_only: Some(self.options.read_only),
        }
        .put(&mut out);
        for (scheme, auth) in &self.auths {
            put_auth(&mut out, scheme, auth.as_deref());
        }
        if self.options.rearm_watches {
            // The watch on the configuration znode is outside the chroot.
            let server =
                |p: &str| if p == path::CONFIG { p.to_owned() } else { chroot::add(self.chroot.as_deref(), p) };
            for batch in self.watches.rearm(self.last_zxid, server) {
                // Old servers know setWatches but not setWatches2.
                let is_old = batch.persistent.is_empty() && batch.persistent_recursive.is_empty();
                let op = if is_old { Op::SET_WATCHES } else { Op::SET_WATCHES2 };
                Request::SetWatches(batch).put_framed(xid::SET_WATCHES, op, &mut out);
            }
        }
        self.write(&out);
    }

    fn welcomed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let response = ConnectResponse::read(bytes).map_err(|e| e.to_string())?;
        if response.timeout_ms <= 0 {
            self.expire();
            return Ok(());
        }
        let read_only = response.read_only == Some(true);
        self.timeout = Duration::from_millis(response.timeout_ms as u64);
        self.connect_timeout = (self.timeout / self.rotation.len() as u32).max(Duration::from_millis(1));
        self.rotation.connected();
        self.session = response.session;
        self.passwd = response.passwd.to_vec();
        self.seen_writable |= !read_only;
        let (state, told) = if read_only {
            (State::ConnectedReadOnly, KeeperState::ConnectedReadOnly)
        } else {
            (State::Connected, KeeperState::SyncConnected)
        };
        if let Link::Greeting(stream) = std::mem::replace(&mut self.link, Link::Dialing) {
            self.link = Link::Up(stream);
        }
        self.last_probe = Instant::now();
        self.shared.set(state);
        self.tell(WatchedEvent::session(told));
        if state == State::Connected {
            self.shared.set_told();
        }
        while let Some(p) = self.outgoing.pop_front() {
            self.send(p);
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text = |e: crate::jute::JuteError| e.to_string();
        let mut r = Reader::new(bytes);
        let ReplyHeader { xid: got, zxid, err } = ReplyHeader::read(&mut r).map_err(text)?;
        match got {
            xid::PING | xid::SET_WATCHES => return Ok(()),
            xid::AUTH => {
                if err == code::AUTH_FAILED {
                    self.shared.set(State::AuthFailed);
                    self.tell(WatchedEvent::session(KeeperState::AuthFailed));
                    self.mute = true;
                }
                return Ok(());
            }
            xid::NOTIFICATION => {
                let mut event = WatchedEvent::read(&mut r, zxid.0).map_err(text)?;
                event.path = event.path.map(|p| chroot::strip(self.chroot.as_deref(), &p).to_owned());
                self.tell(event);
                return Ok(());
            }
            _ => {}
        }
        let Some((expected, packet)) = self.pending.pop_front() else {
            return Err(format!("Nothing in the queue, but got {got}"));
        };
        if got != expected {
            self.finish(packet, code::CONNECTION_LOSS, &[]);
            return Err(format!("Xid out of order. Got Xid {got} expected Xid {expected}"));
        }
        if zxid > Zxid::ZERO {
            self.last_zxid = zxid;
        }
        let closed = packet.op == Op::CLOSE_SESSION;
        if closed {
            // Before the reply is passed on, because the caller will look at the state next.
            self.close();
        }
        self.finish(packet, err, r.rest());
        Ok(())
    }

    fn submit(&mut self, p: Packet) {
        if self.closing {
            return self.finish(p, self.loss_code(), &[]);
        }
        if p.op == Op::CLOSE_SESSION {
            self.closing = true;
            if !matches!(self.link, Link::Up(_)) {
                self.close();
                return self.finish(p, self.loss_code(), &[]);
            }
        }
        match self.link {
            Link::Up(_) => self.send(p),
            _ => self.outgoing.push_back(p),
        }
    }

    fn send(&mut self, p: Packet) {
        if !matches!(self.link, Link::Up(_)) {
            return self.finish(p, self.loss_code(), &[]);
        }
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        let mut frame = Vec::with_capacity(p.body.len() + 12);
        put_framed_body(&mut frame, xid, p.op, &p.body);
        self.pending.push_back((xid, p));
        self.write(&frame);
    }

    fn write(&mut self, bytes: &[u8]) {
        let (Link::Greeting(stream) | Link::Up(stream)) = &mut self.link else { return };
        match stream.write_all(bytes) {
            Ok(()) => self.last_sent = Instant::now(),
            Err(e) => self.disconnected(&e.to_string()),
        }
    }

    /// Updates the watches, then answers the caller.
    fn finish(&mut self, p: Packet, err: i32, body: &[u8]) {
        let err = match p.watch {
            WatchChange::None => err,
            WatchChange::Register(what, path) => {
                self.watches.register(what, &path, err);
                err
            }
            WatchChange::Remove { path, kind, local } => match self.watches.remove(&path, kind, local, err) {
                Err(e) => e,
                Ok(removed) => {
                    let lost = matches!(err, code::CONNECTION_LOSS | code::SESSION_EXPIRED);
                    let state = if lost { KeeperState::Disconnected } else { KeeperState::SyncConnected };
                    for kind in removed {
                        self.emit(WatchedEvent { kind, state, path: Some(path.clone()), zxid: -1 });
                    }
                    code::OK
                }
            },
        };
        // It is no error if the caller no longer waits.
        let _ = p.reply.send(Reply { err, body: if err == code::OK { body.to_vec() } else { Vec::new() } });
    }

    /// Passes an event to the watcher if the session state changed or if a watch is set for it.
    fn tell(&mut self, event: WatchedEvent) {
        if event.kind == EventKind::None {
            if event.state == self.told {
                return;
            }
            if !self.options.rearm_watches && event.state != KeeperState::SyncConnected {
                self.watches.forget_one_shots();
            }
        } else if !event.path.as_deref().is_some_and(|p| self.watches.fire(event.kind, p)) {
            self.told = event.state;
            return;
        }
        self.emit(event);
    }

    fn emit(&mut self, event: WatchedEvent) {
        self.told = event.state;
        if !self.mute {
            (self.watcher)(&event);
        }
    }

    fn loss_code(&self) -> i32 {
        match self.state() {
            State::AuthFailed => code::AUTH_FAILED,
            State::Closed => code::SESSION_EXPIRED,
            _ => code::CONNECTION_LOSS,
        }
    }

    fn drop_link(&mut self) {
        // Anything that the reader thread still sends belongs to an earlier attempt.
        self.attempt += 1;
        if let Link::Greeting(stream) | Link::Up(stream) =
            std::mem::replace(&mut self.link, Link::Waiting(Instant::now()))
        {
            // Fails only if the server has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn fail_all(&mut self) {
        let code = self.loss_code();
        while let Some((_, p)) = self.pending.pop_front() {
            self.finish(p, code, &[]);
        }
        while let Some(p) = self.outgoing.pop_front() {
            self.finish(p, code, &[]);
        }
    }

    fn disconnected(&mut self, why: &str) {
        tracing::debug!("session {}: {why}", self.session);
        self.drop_link();
        if self.closing {
            self.close();
        }
        if !self.state().is_alive() {
            return self.fail_all();
        }
        // A random pause, so that the clients of a lost server do not all come back at once. It is short enough that a
        // session with a short timeout does not expire meanwhile.
        let most = MAX_PAUSE.min(self.timeout / 6);
        let pause = if self.reached_one { most.mul_f64(fastrand::f64()) } else { Duration::ZERO };
        self.link = Link::Waiting(Instant::now() + pause);
        self.shared.set(State::Connecting);
        self.fail_all();
        self.tell(WatchedEvent::session(KeeperState::Disconnected));
    }

    fn expire(&mut self) {
        self.shared.set(State::Closed);
        self.tell(WatchedEvent::session(KeeperState::Expired));
        self.mute = true;
    }

    fn close(&mut self) {
        if self.state().is_alive() {
            self.shared.set(State::Closed);
            self.tell(WatchedEvent::session(KeeperState::Closed));
            self.mute = true;
        }
    }
}
