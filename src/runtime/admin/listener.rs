//! The listening side of the HTTP ports: the number of connections is bounded, and an idle one is closed for a new one.
//! Plays the part of Jetty's `ServerConnector`.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use crate::types::CLIENT_LOG;

/// Most connections of one port. A new one beyond that closes the connection that has been idle for longest, and waits
/// only if none is idle.
pub(super) const CONNECTIONS: usize = 64;

/// How long to accept no connections after an error such as "too many open files".
const REST: Duration = Duration::from_secs(1);

/// Binds a port so that a restart does not have to wait for old connections.
///
/// # Errors
/// The address cannot be bound.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    // The standard library sets SO_REUSEADDR.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A listening port.
pub(super) struct BoundedListener {
    listener: TcpListener,
    idle: Duration,
    table: Arc<Table>,
}

impl BoundedListener {
    /// Takes over a bound port. Connections on which no byte moves for `idle` are closed.
    ///
    /// # Errors
    /// The runtime does not accept the socket.
    pub(super) fn new(listener: std::net::TcpListener, idle: Duration) -> io::Result<BoundedListener> {
        Ok(BoundedListener { listener: TcpListener::from_std(listener)?, idle, table: Arc::default() })
    }
}

impl Listener for BoundedListener {
    type Io = IdleStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (IdleStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    self.table.make_room().await;
                    return (IdleStream::new(stream, self.idle, &self.table), from);
                }
                Err(error) => {
                    tracing::warn!(target: CLIENT_LOG, %error, "the admin port cannot accept a connection");
                    sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connections of a port.
#[derive(Default)]
struct Table {
    places: Mutex<Places>,
    /// Notified when a connection ends or becomes idle.
    changed: Notify,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, Place>,
}

/// The state of a connection.
struct Place {
    /// Requests that are being answered.
    busy: usize,
    /// When the client was last accepted, answered, or took some bytes of an answer.
    served: Instant,
    /// Dropped to end the connection.
    keep: Option<oneshot::Sender<()>>,
}

impl Table {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is room for a connection.
    async fn make_room(&self) {
        if self.places().is_full() {
            // Reads first what the other connections have sent, so that accepting does not outrun it.
            yield_now().await;
        }
        while !self.places().make_room() {
            self.changed.notified().await;
        }
    }
}

impl Places {
    fn is_full(&self) -> bool {
        self.taken.values().filter(|p| p.keep.is_some()).count() >= CONNECTIONS
    }

    /// Whether there is room for a connection. If needed, tells the one that has been idle for longest to end.
    fn make_room(&mut self) -> bool {
        if !self.is_full() {
            return true;
        }
        let idle = self.taken.values_mut().filter(|p| p.busy == 0 && p.keep.is_some());
        idle.min_by_key(|p| p.served).map(|p| p.keep = None).is_some()
    }
}

/// A connection's place in the table, which is freed on drop.
struct Ticket {
    number: u64,
    table: Arc<Table>,
}

impl Ticket {
    fn new(table: &Arc<Table>) -> (Arc<Ticket>, oneshot::Receiver<()>) {
        let (keep, ended) = oneshot::channel();
        let mut places = table.places();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Place { busy: 0, served: Instant::now(), keep: Some(keep) });
        (Arc::new(Ticket { number, table: table.clone() }), ended)
    }

    fn with<T: Default>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        self.table.places().taken.get_mut(&self.number).map(change).unwrap_or_default()
    }

    fn is_busy(&self) -> bool {
        self.with(|p| p.busy > 0)
    }

    fn served(&self) {
        self.with(|p| p.served = Instant::now());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.places().taken.remove(&self.number);
        self.table.changed.notify_one();
    }
}

/// The client of a connection.
#[derive(Clone)]
pub(super) struct From {
    pub(super) address: SocketAddr,
    ticket: Arc<Ticket>,
}

impl From {
    /// The connection is not closed for another one until the result is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.ticket.with(|p| p.busy += 1);
        Busy(self.ticket.clone())
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for From {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> From {
        From { address: *stream.remote_addr(), ticket: stream.io().ticket.clone() }
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Ticket>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.with(|p| {
            p.busy -= 1;
            p.served = Instant::now();
        });
        self.0.table.changed.notify_one();
    }
}

/// A connection that ends when no byte moves for too long, or when another one needs its place.
pub(super) struct IdleStream {
    stream: TcpStream,
    idle: Duration,
    patience: Pin<Box<Sleep>>,
    ended: oneshot::Receiver<()>,
    ticket: Arc<Ticket>,
}

impl IdleStream {
    fn new(stream: TcpStream, idle: Duration, table: &Arc<Table>) -> IdleStream {
        let (ticket, ended) = Ticket::new(table);
        IdleStream { stream, idle, patience: Box::pin(sleep(idle)), ended, ticket }
    }

    /// Passes on the result of the stream. The time-out starts again whenever bytes moved.
    fn timed<T>(&mut self, cx: &mut Context<'_>, did: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if did.is_ready() {
            self.patience.as_mut().reset(Instant::now() + self.idle);
            return did;
        }
        if Pin::new(&mut self.ended).poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            ready!(self.patience.as_mut().poll(cx));
            if !self.ticket.is_busy() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // The client waits for an answer, so it is not idle.
            self.patience.as_mut().reset(Instant::now() + self.idle);
        }
    }
}

impl AsyncRead for IdleStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let did = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.timed(cx, did)
    }
}

impl AsyncWrite for IdleStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let did = Pin::new(&mut self.stream).poll_write(cx, buf);
        if did.is_ready() {
            self.ticket.served();
        }
        self.timed(cx, did)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_idle_for_longest_gives_way_and_a_busy_one_never() {
        let table = Arc::<Table>::default();
        let mut all: Vec<_> = (0..CONNECTIONS).map(|_| Ticket::new(&table)).collect();
        let begin = Instant::now();
        for (i, (ticket, _)) in all.iter().enumerate() {
            ticket.with(|p| p.served = begin + Duration::from_millis(i as u64));
        }
        let is_ended =
            |ended: &mut oneshot::Receiver<()>| ended.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        let from = |ticket: &Arc<Ticket>| From { address: ([127, 0, 0, 1], 1).into(), ticket: ticket.clone() };
        let busy = from(&all[0].0).busy();
        assert!(table.places().make_room(), "the second is idle");
        let ended: Vec<usize> = (0..all.len()).filter(|i| is_ended(&mut all[*i].1)).collect();
        assert_eq!(ended, [1]);
        // It was told to end, so there is room, even if it has not ended yet.
        assert!(table.places().make_room());
        let new = Ticket::new(&table);
        let all_busy: Vec<Busy> = all[2..].iter().map(|(t, _)| from(t).busy()).chain([from(&new.0).busy()]).collect();
        assert!(!table.places().make_room(), "everybody is busy");
        drop(all_busy);
        drop(busy);
        assert!(table.places().make_room(), "the first is idle now, but was served last");
        let ended: Vec<usize> = (0..all.len()).filter(|i| is_ended(&mut all[*i].1)).collect();
        assert_eq!(ended, [1, 2]);
        all.truncate(1);
        assert!(table.places().make_room());
        assert_eq!(table.places().taken.len(), 2);
    }
}
