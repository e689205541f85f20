//! Listening sockets, bound as Java binds them.

use super::socket::{self, SockAddr};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// The address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenAddr {
    /// Every address of the host: IPv6 and IPv4 through one socket if the host has IPv6. This is what Java does for a
    /// port without an address.
    Any(u16),
    /// One address. `0.0.0.0` is IPv4 only, `[::]` both.
    At(SocketAddr),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Any(port) => write!(f, "*:{port}"),
            ListenAddr::At(a) => a.fmt(f),
        }
    }
}

/// Options of a listener. Accepted sockets inherit them, and also `TCP_NODELAY`, which is always set.
#[derive(Clone, Copy, Default, Debug)]
pub struct ListenOptions {
    /// Length of the kernel's queue of connections not yet accepted (`clientPortListenBacklog`); `None` means Java's
    /// default, 50.
    pub backlog: Option<i32>,
    /// Several sockets share the port, one per shard; the kernel distributes the clients over them.
    pub reuse_port: bool,
    /// `clientTcpKeepAlive`.
    pub keepalive: bool,
}

/// Why a port could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub addr: ListenAddr,
    /// The call that failed.
    pub call: &'static str,
    /// Its error.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}: {}", self.addr, self.call, self.error)?;
        f.write_str(match self.error.raw_os_error() {
            Some(libc::EADDRINUSE) => " (another process, perhaps another server, has this port: see `ss -ltnp`)",
            Some(libc::EADDRNOTAVAIL) => " (no interface of this host has this address)",
            Some(libc::EACCES) => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
            _ => "",
        })
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// How long to wait for a port that is in use. When a process with an io_uring is killed, the kernel closes its sockets
/// only a moment *after* the process is gone, so a server that is restarted at once needs some of this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens a listening socket. If the port is in use this blocks for up to two seconds.
pub fn listen(addr: ListenAddr, options: &ListenOptions) -> Result<TcpListener, BindError> {
    listen_within(addr, options, PATIENCE)
}

/// Opens a listening socket without waiting: on a core nothing may block.
///
/// # Errors
/// As [`listen`] has them.
pub fn listen_now(addr: ListenAddr, options: &ListenOptions) -> Result<TcpListener, BindError> {
    listen_within(addr, options, Duration::ZERO)
}

/// Like [`listen`], but waits for another time.
pub(super) fn listen_within(
    addr: ListenAddr,
    options: &ListenOptions,
    patience: Duration,
) -> Result<TcpListener, BindError> {
    let until = Instant::now() + patience;
    let on = |at: SocketAddr| {
        loop {
            match listen_at(at, options) {
                Err((_, e)) if e.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                outcome => return outcome.map_err(|(call, error)| BindError { addr, call, error }),
            }
        }
    };
    match addr {
        ListenAddr::At(at) => on(at),
        ListenAddr::Any(port) => match on(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(e) if matches!(e.error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
            }
            other => other,
        },
    }
}

fn listen_at(at: SocketAddr, options: &ListenOptions) -> Result<TcpListener, (&'static str, io::Error)> {
    let socket = socket::tcp_for(at, 0).map_err(|e| ("socket", e))?;
    let fd = socket.as_raw_fd();
    let set = |level, name, value: bool, call| {
        socket::set_option(fd, level, name, &libc::c_int::from(value)).map_err(|e| (call, e))
    };
    set(libc::SOL_SOCKET, libc::SO_REUSEADDR, true, "SO_REUSEADDR")?;
    if options.reuse_port {
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, true, "SO_REUSEPORT")?;
    }
    set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, options.keepalive, "SO_KEEPALIVE")?;
    set(libc::IPPROTO_TCP, libc::TCP_NODELAY, true, "TCP_NODELAY")?;
    if at.is_ipv6() {
        // Set explicitly, so that net.ipv6.bindv6only has no influence.
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, false, "IPV6_V6ONLY")?;
    }
    let name = SockAddr::from(at);
    // SAFETY: the address is valid for its length, which the kernel copies.
    if unsafe { libc::bind(fd, name.as_ptr(), name.len()) } != 0 {
        return Err(("bind", io::Error::last_os_error()));
    }
    let backlog = options.backlog.filter(|&b| b > 0).unwrap_or(50);
    // SAFETY: no pointers; the descriptor is open.
    if unsafe { libc::listen(fd, backlog) } != 0 {
        return Err(("listen", io::Error::last_os_error()));
    }
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_bare_port_serves_both_families() {
        let l = listen(ListenAddr::Any(0), &ListenOptions::default()).unwrap();
        let port = l.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (s, peer) = l.accept().unwrap();
        assert!(s.nodelay().unwrap(), "inherited from the listener");
        assert!(peer.ip().to_canonical().is_ipv4());
        if l.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            l.accept().unwrap();
        }
    }

    #[test]
    fn a_taken_port_says_so_unless_it_is_shared() {
        let at = |p| ListenAddr::At(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), p));
        let shared = ListenOptions { reuse_port: true, ..Default::default() };
        let first = listen(at(0), &shared).unwrap();
        let port = first.local_addr().unwrap().port();
        let said = listen_within(at(port), &ListenOptions::default(), Duration::ZERO).unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot listen on 127.0.0.1:{port}: bind: ")), "{said}");
        assert!(said.contains("another process"), "{said}");
        listen(at(port), &shared).unwrap();
        // If the port becomes free while we wait, the bind succeeds.
        let waiting = thread::spawn(move || listen(at(port), &ListenOptions::default()));
        thread::sleep(Duration::from_millis(50));
        drop(first);
        waiting.join().unwrap().unwrap();
        let elsewhere = ListenAddr::At("192.0.2.1:22200".parse().unwrap());
        let said = listen(elsewhere, &shared).unwrap_err().to_string();
        assert!(said.contains("no interface of this host"), "{said}");
    }
}
