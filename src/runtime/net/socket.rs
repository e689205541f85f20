//! System calls on TCP sockets that the standard library does not offer.

use std::io;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An address in the kernel's format.
pub(super) enum SockAddr {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl SockAddr {
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            SockAddr::V4(a) => (&raw const *a).cast(),
            SockAddr::V6(a) => (&raw const *a).cast(),
        }
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        let len = match self {
            SockAddr::V4(_) => size_of::<libc::sockaddr_in>(),
            SockAddr::V6(_) => size_of::<libc::sockaddr_in6>(),
        };
        len as libc::socklen_t
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(a: SocketAddr) -> SockAddr {
        match a {
            SocketAddr::V4(a) => SockAddr::V4(sockaddr_in(a)),
            SocketAddr::V6(a) => SockAddr::V6(sockaddr_in6(a)),
        }
    }
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

/// A new TCP socket for the address family of `at`.
pub(super) fn tcp_for(at: SocketAddr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket for connecting to `to`, with TCP_NODELAY.
pub(super) fn tcp(to: SocketAddr, nonblocking: bool) -> io::Result<OwnedFd> {
    let fd = tcp_for(to, if nonblocking { libc::SOCK_NONBLOCK } else { 0 })?;
    set_option(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &libc::c_int::from(true))?;
    Ok(fd)
}

/// `setsockopt`.
pub(super) fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is valid for `len` bytes, which the kernel copies.
    let done = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts to connect a non-blocking socket. `EINPROGRESS` is no error.
pub(super) fn connect(fd: RawFd, to: SocketAddr) -> io::Result<()> {
    let to = SockAddr::from(to);
    // SAFETY: the address is valid for its length, which the kernel copies.
    let done = unsafe { libc::connect(fd, to.as_ptr(), to.len()) };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(()),
        e if [Some(libc::EINPROGRESS), Some(libc::EINTR)].contains(&e.raw_os_error()) => Ok(()),
        e => Err(e),
    }
}

/// The error with which a connection attempt ended, 0 if there was none; the call also clears it.
pub(super) fn take_error(fd: RawFd) -> i32 {
    let mut error: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both are valid places for the result.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &raw mut len) };
    if done == 0 { error } else { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
}

/// Receives without blocking.
pub(super) fn recv(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` is writable for its length.
    let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends without blocking; returns the number of bytes that the kernel took.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is readable for its length.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Accepts a connection from a non-blocking listener.
pub(super) fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers but null ones, which mean that the address is not wanted.
    let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends FIN after the queued bytes. Fails only if the connection is gone, which the next read will report.
pub(super) fn shutdown_write(fd: RawFd) {
    // SAFETY: no pointers; the descriptor is open.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}

/// Lets the kernel ask a silent peer whether it is there.
pub(super) fn keep_alive(fd: RawFd) {
    // This cannot fail for a TCP socket. If it did, a peer that is gone would be noticed only by the next send.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &libc::c_int::from(true));
}

/// Makes closing this socket send a reset and drop the queued bytes.
pub(super) fn reset_on_close(fd: RawFd) {
    // This cannot fail for a TCP socket. If it did, the connection would be closed with FIN instead.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// Number of sent bytes that the peer has not acknowledged. A FIN counts as one byte.
pub(super) fn unacknowledged(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: a valid place for the result.
    let done = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    // Fails only if there is no connection any more; then nothing is unacknowledged.
    if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}
