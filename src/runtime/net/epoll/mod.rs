//! The back end for epoll, for hosts that do not allow io_uring. Sockets are registered once, edge-triggered. The last
//! known state is stored in the connection (`readable`, `writable`) until a call returns that there is no more.

mod ready;

use super::conn::Phase;
use super::driver::Driver;
use super::error::NetError;
use super::event::{NetEvent, NetOptions};
use super::socket;
use super::table::{FLUSH_MAX, REAP_MAX, SEND_MAX, SEND_SMALL, TICK, Table};
use super::waker::Waker;
use crate::types::ConnId;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// The registration of the waker's eventfd. No connection has generation 0, and no listener has this number.
const BELL: Token = Token(u32::MAX as usize);

/// Size of one read from a connection, as a number of receive buffers.
const BUFFERS_PER_READ: usize = 8;

/// The registration of a connection. Listeners are registered under their numbers.
fn token(id: ConnId) -> Token {
    const { assert!(usize::BITS >= 64, "a connection id must fit into a token") }
    Token(id.0 as usize)
}

/// See the module.
pub(super) struct Epoll {
    poll: Poll,
    events: Events,
    /// `events` contains events that were not handled yet.
    fetched: bool,
    /// The last park has just asked the kernel, so asking again now would find little: the next reap skips that call.
    fresh: bool,
    /// The eventfd, which must live as long as its registration.
    _waker: Waker,
    /// Connections that may have bytes to read, oldest first.
    queue: VecDeque<ConnId>,
    /// Buffer for received bytes.
    buffer: Vec<u8>,
    /// About how many bytes are read in one reap at most.
    reap_bytes: usize,
    /// Connections that failed in a flush, or as soon as they were to be made: the next reap reports them.
    failed: Vec<(ConnId, i32)>,
    /// Connections whose bytes the kernel has taken completely and whose owners asked to be told.
    emptied: Vec<ConnId>,
    tick_at: Option<Instant>,
    enters: u64,
}

impl Epoll {
    pub(super) fn new(options: &NetOptions, waker: &Waker) -> Result<Epoll, NetError> {
        let poll = Poll::new().map_err(|e| NetError::Io { call: "epoll_create1", error: e })?;
        // Each wake-up gives an edge, so the counter need not be read.
        poll.registry()
            .register(&mut SourceFd(&waker.fd()), BELL, Interest::READABLE)
            .map_err(|e| NetError::Io { call: "epoll_ctl", error: e })?;
        let buffer_len = options.buffer_len as usize;
        Ok(Epoll {
            poll,
            events: Events::with_capacity(REAP_MAX),
            fetched: false,
            fresh: false,
            _waker: waker.clone(),
            queue: VecDeque::new(),
            buffer: vec![0; buffer_len * BUFFERS_PER_READ],
            reap_bytes: buffer_len * usize::from(options.buffers),
            failed: Vec::new(),
            emptied: Vec::new(),
            tick_at: None,
            enters: 0,
        })
    }

    /// Number of calls of epoll_wait.
    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Asks the kernel for events.
    fn fetch(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.enters += 1;
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(e) => return Err(e),
        }
        self.fetched = !self.events.is_empty();
        Ok(self.fetched)
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), token, interest)
    }

    /// Adds a connection that may have bytes to the queue.
    fn enqueue(&mut self, t: &mut Table, id: ConnId) {
        if let Some(c) = t.slab.get(id)
            && c.readable
            && !c.in_queue
            && !c.paused
            && !c.eof
            && !matches!(c.phase, Phase::Connecting | Phase::Dead)
        {
            c.in_queue = true;
            self.queue.push_back(id);
        }
    }

    /// Sends once. Returns whether there are more bytes that the kernel may take.
    fn send(&mut self, t: &mut Table, id: ConnId) -> bool {
        let Some(c) = t.slab.get(id) else { return false };
        if c.sending.is_empty() {
            std::mem::swap(&mut c.sending, &mut c.out);
            c.sent = 0;
        }
        if c.sending.is_empty() {
            // The buffer was requested but nothing was appended.
            t.spares.put(std::mem::take(&mut c.sending));
            return false;
        }
        let part = &c.sending[c.sent..];
        let part = &part[..part.len().min(SEND_MAX)];
        let n = match socket::send(c.fd(), part) {
            Ok(n) => n,
            Err(e) => match e.raw_os_error() {
                Some(libc::EINTR) => return true,
                Some(libc::EAGAIN) => {
                    c.writable = false;
                    return false;
                }
                errno => {
                    self.failed.push((id, errno.unwrap_or(libc::EIO)));
                    return false;
                }
            },
        };
        // If the kernel took fewer bytes than it was given, it has no room; it will report when it has.
        c.writable = n == part.len();
        t.stats.bytes_out += n as u64;
        c.sent += n;
        if c.sent == c.sending.len() {
            c.sent = 0;
            t.spares.put(std::mem::take(&mut c.sending));
        }
        if c.queued() > 0 {
            return c.writable;
        }
        t.spares.put(std::mem::take(&mut c.out));
        if c.phase == Phase::Flushing {
            self.finish(t, id);
        } else if c.wants_writable {
            self.emptied.push(id);
        }
        false
    }
}

impl Driver for Epoll {
    fn watch_listener(&mut self, t: &mut Table, number: usize) -> io::Result<()> {
        let Some(l) = t.listeners[number].as_ref() else { return Ok(()) };
        self.register(l.socket.as_raw_fd(), Token(number), Interest::READABLE)
    }

    fn stop_accepting(&mut self, t: &mut Table, number: usize) {
        t.listeners[number] = None;
    }

    fn admit(&mut self, t: &mut Table, id: ConnId) -> Result<(), OwnedFd> {
        let Some(c) = t.slab.get(id) else { return Ok(()) };
        // The kernel reports at once what a newly registered socket is ready for.
        if self.register(c.fd(), token(id), Interest::READABLE | Interest::WRITABLE).is_ok() {
            return Ok(());
        }
        // The limit `fs.epoll.max_user_watches` is reached, or the kernel has no memory.
        t.slab.withdraw(id).map_or(Ok(()), Err)
    }

    fn begin_connect(&mut self, t: &mut Table, id: ConnId, to: SocketAddr) {
        let Some(c) = t.slab.get(id) else { return };
        let begun = socket::connect(c.fd(), to)
            .and_then(|()| self.register(c.fd(), token(id), Interest::READABLE | Interest::WRITABLE));
        if let Err(e) = begun {
            self.failed.push((id, e.raw_os_error().unwrap_or(libc::EIO)));
        }
    }

    fn stop_reading(&mut self, _: &mut Table, _: ConnId) {}

    fn resume_reading(&mut self, t: &mut Table, id: ConnId) {
        self.enqueue(t, id);
    }

    fn read_on(&mut self, t: &mut Table, id: ConnId) {
        self.enqueue(t, id);
    }

    fn cancel_operations(&mut self, _: &mut Table, _: ConnId) {}

    fn tick_soon(&mut self, _: &mut Table) {
        if self.tick_at.is_none() {
            self.tick_at = Some(Instant::now() + TICK);
        }
    }

    fn reap(&mut self, t: &mut Table, f: &mut impl FnMut(NetEvent<'_>)) -> usize {
        let mut n = self.tell_outcomes(t, f);
        if !self.fetched && !std::mem::take(&mut self.fresh) {
            // An error will show again in the next park.
            let _ = self.fetch(Some(Duration::ZERO));
        }
        n += self.note_events(t, f);
        n += self.accept(t, f);
        n += self.read(t, f);
        if self.tick_at.is_some_and(|at| at <= Instant::now()) {
            self.tick_at = None;
            self.ticked(t, f);
        }
        n
    }

    fn flush(&mut self, t: &mut Table) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut t.dirty);
        let mut long = 0;
        dirty.retain(|&id| {
            let Some(c) = t.slab.get(id) else { return false };
            if c.writable && matches!(c.phase, Phase::Open | Phase::Flushing) {
                let bytes = c.queued().min(SEND_MAX);
                if bytes > SEND_SMALL {
                    if long >= FLUSH_MAX {
                        return true;
                    }
                    long += bytes;
                }
                if self.send(t, id) {
                    return true;
                }
            }
            if let Some(c) = t.slab.get(id) {
                c.dirty = false;
            }
            false
        });
        // A connection that is done may have been closed meanwhile; nothing else becomes dirty here.
        dirty.append(&mut t.dirty);
        t.dirty = dirty;
        Ok(())
    }

    fn has_work(&mut self, t: &mut Table) -> bool {
        self.fetched
            || !t.dirty.is_empty()
            || !self.queue.is_empty()
            || !self.failed.is_empty()
            || !self.emptied.is_empty()
            || self.has_ready_listener(t)
    }

    fn wait(&mut self, _: &mut Table, timeout: Option<Duration>) -> io::Result<bool> {
        let tick = self.tick_at.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = match (timeout, tick) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.fresh = true;
        let ready = self.fetch(wait)?;
        Ok(ready || self.tick_at.is_some_and(|at| at <= Instant::now()))
    }
}
