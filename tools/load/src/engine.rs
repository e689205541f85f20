//! All connections on one thread: read what is ready, pass it to the driver, which may send more requests, write.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Result;
use crate::conn::{Conn, Flight, Incoming, Reply};
use crate::poll::{Poll, Ready, now_ns};

const SCRATCH: usize = 256 << 10;

/// What a load does with incoming frames.
pub trait Driver {
    /// The handshake is done.
    fn opened(&mut self, _at: usize, _conn: &mut Conn, _now: u64) -> Result<()> {
        Ok(())
    }
    /// A reply to one of the load's requests, in order.
    fn reply(&mut self, at: usize, conn: &mut Conn, flight: &Flight, reply: &Reply<'_>, now: u64) -> Result<()>;
    /// A watch event.
    fn event(&mut self, _at: usize, _conn: &mut Conn, event: &Reply<'_>, _now: u64) -> Result<()> {
        Err(format!("a watch event where none was armed: {event:?}"))
    }
    /// Called after everything from one read was handled: the place to send more requests.
    fn refill(&mut self, _at: usize, _conn: &mut Conn, _now: u64) -> Result<()> {
        Ok(())
    }
}

/// The connections.
pub struct Engine {
    poll: Poll,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    /// Their indices are the `at` of a [`Driver`].
    pub conns: Vec<Conn>,
    /// When the server last sent anything.
    last_heard_ns: u64,
    /// How long it may be silent while replies are due.
    stall_ns: u64,
}

impl Engine {
    /// An engine without connections.
    pub fn new(stall: Duration) -> Result<Engine> {
        let poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
        let stall_ns = stall.as_nanos() as u64;
        let scratch = vec![0; SCRATCH];
        Ok(Engine { poll, ready: Vec::new(), scratch, conns: Vec::new(), last_heard_ns: now_ns(), stall_ns })
    }

    /// Opens `count` more sessions and waits until all are established.
    pub fn open(&mut self, server: SocketAddr, count: usize, timeout_ms: i32) -> Result<()> {
        struct Nothing;
        impl Driver for Nothing {
            fn reply(&mut self, _: usize, _: &mut Conn, _: &Flight, reply: &Reply<'_>, _: u64) -> Result<()> {
                Err(format!("a reply before any request: {reply:?}"))
            }
        }
        // A few at a time: a listen queue has 50 places (`clientPortListenBacklog`), and a client that finds it full
        // retries only after a second.
        const AT_ONCE: usize = 32;
        let end = self.conns.len() + count;
        while self.conns.len() < end {
            for _ in 0..AT_ONCE.min(end - self.conns.len()) {
                let conn = Conn::dial(server, timeout_ms, None)?;
                conn.register(&self.poll, self.conns.len())?;
                self.conns.push(conn);
                self.flush(self.conns.len() - 1)?;
            }
            while self.conns.iter().rev().take(AT_ONCE).any(|c| !c.is_open()) {
                self.turn(&mut Nothing, Duration::from_millis(100))?;
            }
        }
        Ok(())
    }

    /// Replaces a connection by a new one and drops the old one.
    pub fn replace(&mut self, at: usize, conn: Conn) -> Result<()> {
        conn.register(&self.poll, at)?;
        self.conns[at] = conn;
        self.flush(at)
    }

    /// Writes what connection `at` has queued.
    pub fn flush(&mut self, at: usize) -> Result<()> {
        self.conns[at].flush(&self.poll, at).map_err(|e| format!("connection {at}: {e}"))
    }

    /// Number of requests without a reply on all connections.
    pub fn in_flight(&self) -> usize {
        self.conns.iter().map(Conn::in_flight).sum()
    }

    /// Waits at most `timeout`, then handles everything that has arrived.
    pub fn turn(&mut self, driver: &mut impl Driver, timeout: Duration) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(timeout, &mut ready).map_err(|e| format!("epoll: {e}"))?;
        for r in &ready {
            if r.write {
                self.flush(r.token)?;
            }
            if r.read {
                self.readable(r.token, driver).map_err(|e| format!("connection {}: {e}", r.token))?;
            }
        }
        let idle = ready.is_empty();
        self.ready = ready;
        if idle { self.check_stall() } else { Ok(()) }
    }

    fn readable(&mut self, at: usize, driver: &mut impl Driver) -> Result<()> {
        let conn = &mut self.conns[at];
        let Some(n) = conn.read(&mut self.scratch)? else { return Ok(()) };
        let now = now_ns();
        self.last_heard_ns = now;
        conn.parse(&self.scratch[..n], &mut |conn, incoming| match incoming {
            Incoming::Reply(flight, reply) => driver.reply(at, conn, &flight, &reply, now),
            Incoming::Event(event) => driver.event(at, conn, &event, now),
            Incoming::Opened => driver.opened(at, conn, now),
            Incoming::Pong => Ok(()),
        })?;
        driver.refill(at, conn, now)?;
        conn.flush(&self.poll, at)
    }

    fn check_stall(&mut self) -> Result<()> {
        let now = now_ns();
        let waiting = self.conns.iter().filter(|c| c.in_flight() > 0 || !c.is_open()).count();
        if waiting == 0 {
            self.last_heard_ns = now;
            return Ok(());
        }
        if now - self.last_heard_ns > self.stall_ns {
            let unanswered = self.in_flight();
            let seconds = self.stall_ns / 1_000_000_000;
            return Err(format!(
                "no answer for {seconds} s (--stall): {waiting} connections wait, {unanswered} requests unanswered"
            ));
        }
        Ok(())
    }

    /// Pings sessions that have sent nothing for `quiet`.
    pub fn keep_alive(&mut self, quiet: Duration) -> Result<()> {
        let now = now_ns();
        for at in 0..self.conns.len() {
            let conn = &mut self.conns[at];
            if conn.is_open() && now.saturating_sub(conn.last_sent_ns) > quiet.as_nanos() as u64 {
                conn.ping(now);
                self.flush(at)?;
            }
        }
        Ok(())
    }

    /// Closes all sessions, so that nothing of this run stays in the server.
    pub fn close(&mut self) -> Result<()> {
        struct Closing;
        impl Driver for Closing {
            fn reply(&mut self, _: usize, _: &mut Conn, _: &Flight, reply: &Reply<'_>, _: u64) -> Result<()> {
                if reply.err == 0 { Ok(()) } else { Err(format!("closeSession: {}", reply.error_name())) }
            }
            fn event(&mut self, _: usize, _: &mut Conn, _: &Reply<'_>, _: u64) -> Result<()> {
                Ok(())
            }
        }
        let now = now_ns();
        for at in 0..self.conns.len() {
            self.conns[at].close_session(now);
            self.flush(at)?;
        }
        self.drain(&mut Closing)
    }

    /// Runs turns until no request is in flight.
    pub fn drain(&mut self, driver: &mut impl Driver) -> Result<()> {
        while self.in_flight() > 0 {
            self.turn(driver, Duration::from_millis(100))?;
        }
        Ok(())
    }
}
