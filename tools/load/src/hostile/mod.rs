//! Hostile clients at a given rate, while another load measures what ordinary clients notice.
//!
//! Unlike the other loads, this one expects to be disconnected, refused or kept waiting; it counts that and continues.
//! It prints `ready` on standard output when all hostile connections are in place, and after `--seconds` what it did
//! (JSON).

mod plan;
mod socket;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::args::{Args, Attack};
use crate::engine::Engine;
use crate::poll::{Poll, Ready, now_ns};
use crate::steady::batch;
use plan::Plan;
use socket::{Socket, State};

/// Most bytes read from a connection at a time.
const SCRATCH: usize = 256 << 10;
/// Most connections that are being opened at a time, and the shortest time between two. The server's listen queue has
/// no more than 50 places (`clientPortListenBacklog`), and a client that finds it full retries only after a second.
const DIALLING: usize = 32;
const DIAL_GAP_NS: u64 = 300_000;
/// Time between two pings of a session.
const PING_GAP_NS: u64 = 5_000_000_000;
/// Number of addresses from which connections come (127.0.0.2 and following): a single address has too few ports.
const ADDRESSES: u32 = 64;

/// Counts of what happened.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    opened: u64,
    /// Closed by the server, at any time.
    closed: u64,
    sessions: u64,
    requests: u64,
    replies: u64,
    /// Replies with an error code.
    errors: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// Connection attempts that failed.
    refused: u64,
}

/// All hostile connections.
struct Crowd<'a> {
    args: &'a Args,
    plan: Plan,
    poll: Poll,
    sockets: Vec<Option<Socket>>,
    /// Slots without a connection that need one.
    vacant: Vec<usize>,
    dialling: usize,
    dialled: u64,
    next_dial_ns: u64,
    tally: Tally,
    scratch: Vec<u8>,
    /// When each rate began, and how much of it was used.
    began_ns: u64,
    paced: u64,
    /// The connection that sends the next request.
    next: usize,
    next_second_ns: u64,
    next_ping_ns: u64,
    pinged: usize,
}

/// Creates the needed znodes, attacks for `--warm-up` and `--seconds`, prints what was done.
pub fn run(args: &Args, attack: Attack) -> Result<()> {
    let plan = Plan::new(args, attack);
    let mut engine = Engine::new(Duration::from_secs_f64(args.stall))?;
    engine.open(args.server, 1, args.session_timeout_ms)?;
    for (path, data) in plan.znodes() {
        batch(&mut engine, [path].into_iter(), Some(&data))?;
    }
    batch(&mut engine, plan.children(), Some(b""))?;
    engine.close()?;
    let mut crowd = Crowd::new(args, plan)?;
    crowd.fill(Duration::from_secs_f64(args.stall))?;
    println!("ready");
    std::io::stdout().flush().map_err(|e| format!("standard output: {e}"))?;
    let result = crowd.attack()?;
    println!("{result:#}");
    Ok(())
}

impl Crowd<'_> {
    fn new(args: &Args, plan: Plan) -> Result<Crowd<'_>> {
        let poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
        let many = args.connections as usize;
        Ok(Crowd {
            args,
            plan,
            poll,
            sockets: (0..many).map(|_| None).collect(),
            vacant: (0..many).rev().collect(),
            dialling: 0,
            dialled: 0,
            next_dial_ns: 0,
            tally: Tally::default(),
            scratch: vec![0; SCRATCH],
            began_ns: now_ns(),
            paced: 0,
            next: 0,
            next_second_ns: 0,
            next_ping_ns: now_ns(),
            pinged: 0,
        })
    }

    /// Waits until every permanent connection is there and has sent its first requests.
    fn fill(&mut self, patience: Duration) -> Result<()> {
        if self.plan.is_paced_by_connects() {
            return Ok(());
        }
        let end = now_ns() + patience.as_nanos() as u64;
        while self.sockets.iter().flatten().filter(|s| s.is_settled()).count() < self.sockets.len() {
            if now_ns() > end {
                let there = self.sockets.iter().flatten().filter(|s| s.is_settled()).count();
                let why = format!("{:?}", self.tally);
                return Err(format!("only {there} of {} connections are settled (--stall): {why}", self.sockets.len()));
            }
            self.turn(Duration::from_millis(2))?;
        }
        Ok(())
    }

    fn attack(&mut self) -> Result<Value> {
        let began = now_ns();
        (self.began_ns, self.paced) = (began, 0);
        let end = began + ((self.args.warm_up + self.args.seconds) * 1e9) as u64;
        let before = std::mem::take(&mut self.tally);
        while now_ns() < end {
            let mut wait = Duration::from_millis(if self.vacant.is_empty() { 20 } else { 2 });
            if let Some(rate) = self.args.rate {
                // A tenth of the interval: precise enough, without busy waiting.
                wait = wait.min(Duration::from_secs_f64(0.1 / rate)).max(Duration::from_micros(200));
            }
            self.turn(wait)?;
        }
        let seconds = (now_ns() - began) as f64 / 1e9;
        let t = &self.tally;
        let there = self.sockets.iter().flatten().count();
        Ok(json!({
            "attack": self.plan.name(),
            "connections": self.args.connections,
            "depth": self.args.depth,
            "rate": self.args.rate,
            "seconds": seconds,
            "connected_at_end": there,
            "sessions_before": before.sessions,
            "opened": t.opened,
            "refused": t.refused,
            "closed_by_server": t.closed,
            "sessions": t.sessions,
            "requests": t.requests,
            "replies": t.replies,
            "errors": t.errors,
            "bytes_sent": t.bytes_sent,
            "bytes_received": t.bytes_received,
        }))
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        self.dial()?;
        self.ask()?;
        self.ping()?;
        if now_ns() >= self.next_second_ns {
            self.next_second_ns = now_ns() + 1_000_000_000;
            self.every_second()?;
        }
        let mut ready = Vec::new();
        self.poll.wait(wait, &mut ready).map_err(|e| format!("epoll: {e}"))?;
        ready.iter().try_for_each(|r| self.handle(r))
    }

    /// Opens missing connections as fast as the rate and the listen queue allow.
    fn dial(&mut self) -> Result<()> {
        while self.dialling < DIALLING && !self.vacant.is_empty() {
            let now = now_ns();
            if now < self.next_dial_ns {
                return Ok(());
            }
            if self.plan.is_paced_by_connects() && !self.take_from_rate() {
                return Ok(());
            }
            let Some(at) = self.vacant.pop() else { return Ok(()) };
            self.dialled += 1;
            // Makes up for a short delay, but not for more.
            self.next_dial_ns = self.next_dial_ns.max(now.saturating_sub(10 * DIAL_GAP_NS)) + DIAL_GAP_NS;
            let from = self.source();
            match Socket::dial(self.args.server, from, &self.poll, at, self.plan.hello(at)) {
                Ok(socket) => {
                    self.dialling += 1;
                    self.sockets[at] = Some(socket);
                }
                Err(_) => {
                    self.tally.refused += 1;
                    self.vacant.insert(0, at);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A different loopback address for each connection, if the server is on loopback.
    fn source(&self) -> Option<SocketAddr> {
        let IpAddr::V4(ip) = self.args.server.ip() else { return None };
        let host = 2 + (self.dialled % u64::from(ADDRESSES)) as u32;
        ip.is_loopback().then(|| SocketAddr::new(Ipv4Addr::from_bits(0x7f00_0000 + host).into(), 0))
    }

    /// Whether the rate allows one more request now; always true without a rate.
    fn take_from_rate(&mut self) -> bool {
        let Some(rate) = self.args.rate else { return true };
        let due = (now_ns() - self.began_ns) as f64 / 1e9 * rate;
        if (self.paced as f64) >= due {
            return false;
        }
        // Delays are not made up for: an attack is never faster than its rate.
        self.paced = self.paced.max((due - rate.min(1000.0) / 100.0) as u64) + 1;
        true
    }

    /// Sends requests, for attacks that send them continuously.
    fn ask(&mut self) -> Result<()> {
        if !self.plan.asks() {
            return Ok(());
        }
        let depth = self.args.depth as usize;
        for _ in 0..self.sockets.len() {
            let at = self.next;
            self.next = (self.next + 1) % self.sockets.len();
            let Some(socket) = &self.sockets[at] else { continue };
            if socket.state() != State::Served || socket.in_flight() >= depth || socket.has_output() {
                continue;
            }
            if !self.take_from_rate() {
                return Ok(());
            }
            let Some(socket) = &mut self.sockets[at] else { continue };
            self.tally.requests += 1;
            socket.queue(|out, xid| self.plan.put_request(out, xid));
            self.flush(at)?;
        }
        Ok(())
    }

    /// Pings each session every five seconds, one after the other, since real idle clients are not synchronised.
    fn ping(&mut self) -> Result<()> {
        let now = now_ns();
        while now >= self.next_ping_ns {
            self.next_ping_ns =
                self.next_ping_ns.max(now.saturating_sub(PING_GAP_NS)) + PING_GAP_NS / self.sockets.len() as u64;
            self.pinged = (self.pinged + 1) % self.sockets.len();
            let at = self.pinged;
            if let (plan::Trickle::Ping, Some(socket)) = (self.plan.trickle(at), &mut self.sockets[at])
                && socket.state() == State::Served
            {
                socket.queue_ping();
                self.flush(at)?;
            }
        }
        Ok(())
    }

    /// Sends and reads single bytes, once a second.
    fn every_second(&mut self) -> Result<()> {
        for at in 0..self.sockets.len() {
            let Some(socket) = &mut self.sockets[at] else { continue };
            let outcome = match self.plan.trickle(at) {
                plan::Trickle::Nothing | plan::Trickle::Ping => Ok(()),
                plan::Trickle::SendByte => {
                    socket.trickle_out();
                    Ok(())
                }
                plan::Trickle::ReadByte => socket.trickle_in(&mut self.tally),
            };
            match outcome {
                Ok(()) => self.flush(at)?,
                Err(_) => self.gone(at, true),
            }
        }
        Ok(())
    }

    fn handle(&mut self, ready: &Ready) -> Result<()> {
        let at = ready.token;
        if self.sockets[at].is_none() {
            return Ok(());
        }
        if ready.write {
            self.connected(at);
            self.flush(at)?;
        }
        if ready.read {
            self.readable(at)?;
        }
        Ok(())
    }

    fn connected(&mut self, at: usize) {
        let Some(socket) = &mut self.sockets[at] else { return };
        if socket.state() != State::Dialling {
            return;
        }
        self.tally.opened += 1;
        socket.is_connected();
        self.dialling -= usize::from(!socket.is_arriving());
        if self.plan.leaves_at_once() {
            self.gone(at, false);
        }
    }

    fn readable(&mut self, at: usize) -> Result<()> {
        let Some(socket) = &mut self.sockets[at] else { return Ok(()) };
        if socket.state() == State::Served && !self.plan.reads() {
            if socket.stop_reading(&self.poll, at).is_err() {
                self.gone(at, true);
            }
            return Ok(());
        }
        let was = socket.state();
        if socket.read(&mut self.scratch, &mut self.tally).is_err() {
            self.gone(at, true);
            return Ok(());
        }
        if was != State::Served && socket.state() == State::Served {
            self.tally.sessions += 1;
            self.dialling -= 1;
            for n in 0..self.plan.first_requests() {
                self.tally.requests += 1;
                socket.queue(|out, xid| self.plan.put_first(out, xid, n));
            }
            if let Some(bytes) = self.plan.unfinished() {
                socket.queue_unfinished(&bytes);
            }
            if self.plan.closes_sessions() {
                socket.queue_close();
            }
            self.flush(at)?;
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> Result<()> {
        let Some(socket) = &mut self.sockets[at] else { return Ok(()) };
        if socket.flush(&self.poll, at, &mut self.tally).is_err() {
            self.gone(at, true);
        }
        Ok(())
    }

    /// Frees the slot for another connection.
    fn gone(&mut self, at: usize, by_server: bool) {
        let Some(socket) = self.sockets[at].take() else { return };
        self.dialling -= usize::from(socket.is_arriving());
        if socket.state() == State::Dialling {
            self.tally.refused += 1;
        } else {
            self.tally.closed += u64::from(by_server);
        }
        if !by_server {
            // Otherwise each of many thousand connections would occupy its port for a minute.
            socket.reset();
        }
        self.vacant.insert(0, at);
    }
}
