//! The listening side of the HTTP ports: a bounded number of connections, and none that is silent for long. Plays the part of
//! Jetty's `ServerConnector`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::types::CLIENT_LOG;

/// Connections of one port at a time; further ones wait in the system's queue.
const CONNECTIONS: usize = 64;

/// How long accepting rests after an error such as "too many open files".
const REST: Duration = Duration::from_secs(1);

/// Binds a port, in a way that a restart does not have to wait for old connections.
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
pub(super) struct Door {
    listener: TcpListener,
    idle: Duration,
    places: Arc<Semaphore>,
}

impl Door {
    /// Takes over a bound port; connections are closed when nothing moves for `idle`.
    ///
    /// # Errors
    /// The runtime does not take it.
    pub(super) fn new(listener: std::net::TcpListener, idle: Duration) -> io::Result<Door> {
        let listener = TcpListener::from_std(listener)?;
        Ok(Door { listener, idle, places: Arc::new(Semaphore::new(CONNECTIONS)) })
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = self.places.clone().acquire_owned().await else { std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let patience = Box::pin(sleep(self.idle));
                    return (Visitor { stream, idle: self.idle, patience, _place: place }, from);
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

/// Who is connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct From(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for From {
    fn connect_info(stream: IncomingStream<'_, Door>) -> From {
        From(*stream.remote_addr())
    }
}

/// A connection that ends when nothing moves for too long.
pub(super) struct Visitor {
    stream: TcpStream,
    idle: Duration,
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    /// Passes on what the stream did; waiting is counted, moving starts the count again.
    fn timed<T>(&mut self, cx: &mut Context<'_>, did: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if did.is_ready() {
            let next = Instant::now() + self.idle;
            self.patience.as_mut().reset(next);
            return did;
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let did = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.timed(cx, did)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let did = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.timed(cx, did)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
