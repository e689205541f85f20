//! Listening sockets, bound as Java binds them.

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenAddr {
    /// Every address of the host, IPv4 and IPv6 through one socket where the host has IPv6 (what Java does for a bare port).
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

/// How to listen. What is set here is inherited by every accepted socket (as is `TCP_NODELAY`, always set).
#[derive(Clone, Copy, Default, Debug)]
pub struct ListenOptions {
    /// Connections the kernel holds ready (`clientPortListenBacklog`); `None` is Java's 50.
    pub backlog: Option<i32>,
    /// Several sockets share the port, the kernel spreads clients over them: one socket per shard.
    pub reuse_port: bool,
    /// `clientTcpKeepAlive`.
    pub keepalive: bool,
}

/// A port could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// Where.
    pub addr: ListenAddr,
    /// The call that failed.
    pub call: &'static str,
    /// Why.
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

/// How long a port in use is waited for. The kernel closes the sockets of an io_uring a moment *after* its process was killed
/// and reaped, so a server that is restarted at once needs some of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens a listening socket. Blocks for up to two seconds while the port is in use.
pub fn listen(addr: ListenAddr, options: &ListenOptions) -> Result<TcpListener, BindError> {
    listen_within(addr, options, PATIENCE)
}

/// [`listen`] with another patience.
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
    let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let failed = |call| (call, io::Error::last_os_error());
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(failed("socket"));
    }
    // SAFETY: as above.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let set = |level, name, value: bool, call| {
        let value = libc::c_int::from(value);
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is valid for `len` bytes, the descriptor is open.
        let done = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
        if done == 0 { Ok(()) } else { Err(failed(call)) }
    };
    set(libc::SOL_SOCKET, libc::SO_REUSEADDR, true, "SO_REUSEADDR")?;
    if options.reuse_port {
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, true, "SO_REUSEPORT")?;
    }
    set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, options.keepalive, "SO_KEEPALIVE")?;
    set(libc::IPPROTO_TCP, libc::TCP_NODELAY, true, "TCP_NODELAY")?;
    if at.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, false, "IPV6_V6ONLY")?;
    }
    // SAFETY: each branch passes a live, correctly sized sockaddr of the socket's family.
    let bound = unsafe {
        match at {
            SocketAddr::V4(a) => {
                let sa = sockaddr_in(a);
                libc::bind(fd, (&raw const sa).cast(), size_of_val(&sa) as libc::socklen_t)
            }
            SocketAddr::V6(a) => {
                let sa = sockaddr_in6(a);
                libc::bind(fd, (&raw const sa).cast(), size_of_val(&sa) as libc::socklen_t)
            }
        }
    };
    if bound != 0 {
        return Err(failed("bind"));
    }
    let backlog = options.backlog.filter(|&b| b > 0).unwrap_or(50);
    // SAFETY: no pointers; the descriptor is open.
    if unsafe { libc::listen(socket.as_raw_fd(), backlog) } != 0 {
        return Err(failed("listen"));
    }
    Ok(TcpListener::from(socket))
}

fn sockaddr_in(a: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: plain numbers, for which all zeroes is a value.
    let mut sa: libc::sockaddr_in = unsafe { mem::zeroed() };
    sa.sin_family = libc::AF_INET as libc::sa_family_t;
    sa.sin_port = a.port().to_be();
    sa.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
    sa
}

fn sockaddr_in6(a: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: as in `sockaddr_in`.
    let mut sa: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    sa.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    sa.sin6_port = a.port().to_be();
    sa.sin6_flowinfo = a.flowinfo();
    sa.sin6_addr.s6_addr = a.ip().octets();
    sa.sin6_scope_id = a.scope_id();
    sa
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
        // A port that is given up meanwhile is waited for.
        let waiting = thread::spawn(move || listen(at(port), &ListenOptions::default()));
        thread::sleep(Duration::from_millis(50));
        drop(first);
        waiting.join().unwrap().unwrap();
        let elsewhere = ListenAddr::At("192.0.2.1:22200".parse().unwrap());
        let said = listen(elsewhere, &shared).unwrap_err().to_string();
        assert!(said.contains("no interface of this host"), "{said}");
    }
}
