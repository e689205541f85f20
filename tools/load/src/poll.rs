//! The interface to the kernel: readiness of sockets, the clock, CPU pinning, the limit on descriptors. All unsafe code
//! of this crate except that of the bare server.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Nanoseconds on the monotonic clock.
pub fn now_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for writing; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was added with.
    pub token: usize,
    /// There are bytes, an end of stream or an error to read.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
}

/// A level-triggered epoll.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// An empty set.
    pub fn new() -> io::Result<Poll> {
        // SAFETY: no pointers; the descriptor is checked, and nobody else owns it.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and is ours.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Poll { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    fn control(&self, how: i32, fd: RawFd, token: usize, read: bool, write: bool) -> io::Result<()> {
        let wanted = if read { libc::EPOLLIN as u32 } else { 0 } | if write { libc::EPOLLOUT as u32 } else { 0 };
        let mut event = libc::epoll_event { events: wanted, u64: token as u64 };
        // SAFETY: `event` is valid for the call; a bad descriptor is an error, not undefined behaviour.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), how, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Watches a socket for reading. Closing the socket removes it.
    pub fn add(&self, fd: RawFd, token: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, true, false)
    }

    /// Watches it for writing too, or no longer.
    pub fn want_write(&self, fd: RawFd, token: usize, write: bool) -> io::Result<()> {
        self.want_only(fd, token, true, write)
    }

    /// Watches it for exactly this; its end is reported in any case.
    pub fn want_only(&self, fd: RawFd, token: usize, read: bool, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, read, write)
    }

    /// Sleeps until something is ready or `timeout` has passed, with a precision of nanoseconds. Puts what is ready
    /// into `ready`.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let t = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        // SAFETY: `events` is valid for its length, and `t` for the call; there is no signal mask. epoll_pwait2 (Linux
        // 5.11) is called by its number because the C library may be older.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                &raw const t,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        for event in &self.events[..n as usize] {
            let bits = event.events;
            ready.push(Ready {
                token: event.u64 as usize,
                read: bits & !(libc::EPOLLOUT as u32) != 0,
                write: bits & libc::EPOLLOUT as u32 != 0,
            });
        }
        Ok(())
    }
}

/// Runs this thread on one CPU only.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
    }
    // SAFETY: an all-zero cpu_set_t is an empty set; `cpu` is below CPU_SETSIZE; the set is valid for the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes timers as precise as the kernel can, since planned send times are microseconds apart.
pub fn precise_timers() {
    // SAFETY: no pointers. It only affects this thread, and a refusal only reduces the precision.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000usize) };
}

/// Raises the soft limit on open files to the hard limit and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Starts connecting to `server`, from the given local address if there is one. When the socket becomes writable it is
/// connected.
pub fn dial_from(server: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    let stream = unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        TcpStream::from_raw_fd(fd)
    };
    let with_address = |address: SocketAddr, call: unsafe extern "C" fn(i32, *const libc::sockaddr, u32) -> i32| {
        let fd = stream.as_raw_fd();
        // SAFETY: each branch passes a live sockaddr of the socket's family and its size; all zeroes is a value of both.
        let done = unsafe {
            match address {
                SocketAddr::V4(a) => {
                    let mut to: libc::sockaddr_in = std::mem::zeroed();
                    to.sin_family = libc::AF_INET as libc::sa_family_t;
                    to.sin_port = a.port().to_be();
                    to.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
                    call(fd, (&raw const to).cast(), size_of_val(&to) as u32)
                }
                SocketAddr::V6(a) => {
                    let mut to: libc::sockaddr_in6 = std::mem::zeroed();
                    to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                    to.sin6_port = a.port().to_be();
                    to.sin6_addr.s6_addr = a.ip().octets();
                    to.sin6_scope_id = a.scope_id();
                    call(fd, (&raw const to).cast(), size_of_val(&to) as u32)
                }
            }
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if let Some(from) = from {
        with_address(from, libc::bind)?;
    }
    match with_address(server, libc::connect) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
        _ => {}
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Clock ticks per second of `/proc/PID/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// Makes closing a socket send a reset, as if the client's host had died.
pub fn reset_on_close(fd: RawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: `linger` is valid for `len` bytes; a bad descriptor is an error.
    match unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets TCP_NODELAY.
pub fn no_delay(fd: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` is valid for `len` bytes; a bad descriptor is an error.
    match unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Shuts down both directions of a socket, so that armed requests on it complete.
pub fn shut_down(fd: RawFd) {
    // SAFETY: no pointers. It fails if the other side was faster, which has the same effect.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Makes this process end when its parent process ends, however that happens.
pub fn die_with_parent() {
    // SAFETY: no pointers. If it is refused, the parent has to end us.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Allocates `length` bytes of blocks for a file.
pub fn allocate(fd: RawFd, length: u64) -> io::Result<()> {
    // SAFETY: no pointers; a bad descriptor is an error.
    match unsafe { libc::fallocate(fd, 0, 0, length as libc::off_t) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
