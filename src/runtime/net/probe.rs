//! Before any core is created, tries the system features that the runtime needs: so the right back end is chosen, and a
//! failure can be explained.

use super::error::NetError;
use super::event::{Backend, NetEvent, NetOptions};
use super::transport::Net;
use crate::runtime::core_threads::no_helpers;
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The chosen back end.
#[derive(Debug)]
pub struct Choice {
    /// The back end.
    pub backend: Backend,
    /// If io_uring was not excluded by the setting but does not work: why. The text says how to allow it.
    pub refused: Option<NetError>,
}

/// Chooses by the setting (`None`: io_uring if it works, else epoll) and by what this host allows.
///
/// # Errors
/// The setting requires io_uring, and it does not work here.
pub fn choose(wanted: Option<Backend>) -> Result<Choice, NetError> {
    let refused = match wanted {
        Some(Backend::Epoll) => return Ok(Choice { backend: Backend::Epoll, refused: None }),
        Some(Backend::Uring) => probe().map(|()| None)?,
        None => probe().err(),
    };
    let backend = if refused.is_none() { Backend::Uring } else { Backend::Epoll };
    Ok(Choice { backend, refused })
}

/// Whether this host supports what the io_uring back end needs: multishot receive into provided buffers, and a glommio
/// executor. Opens a loopback connection for a moment and takes some milliseconds.
pub(super) fn probe() -> Result<(), NetError> {
    probe_ring()?;
    let executor =
        LocalExecutorBuilder::new(Placement::Unbound).blocking_thread_pool_placement(no_helpers()).name("probe");
    match executor.make() {
        Ok(_executor) => Ok(()),
        Err(e) => Err(NetError::of_executor(e.into())),
    }
}

/// Receives bytes from a loopback connection in the same way as from clients.
fn probe_ring() -> Result<(), NetError> {
    let io = |call| move |error| NetError::Io { call, error };
    let options = NetOptions { entries: 8, buffers: 8, buffer_len: 64, max_conns: 1, linger: Duration::ZERO };
    let mut net = Net::new(Backend::Uring, &options)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("bind on 127.0.0.1"))?;
    let at = listener.local_addr().map_err(io("getsockname"))?;
    let mut client = TcpStream::connect(at).map_err(io("connect to 127.0.0.1"))?;
    let (served, _) = listener.accept().map_err(io("accept on 127.0.0.1"))?;
    net.adopt(served).map_err(|_| NetError::Io { call: "fcntl", error: io::Error::from_raw_os_error(libc::EBADF) })?;
    // Two messages: the second shows that the receive stays armed.
    for round in [1u8, 2] {
        client.write_all(&[round]).map_err(io("send to 127.0.0.1"))?;
        let until = Instant::now() + Duration::from_secs(5);
        let mut outcome = None;
        while outcome.is_none() && Instant::now() < until {
            net.park(Some(Duration::from_millis(100))).map_err(|e| NetError::of("io_uring_enter", e))?;
            net.reap(&mut |event| match event {
                NetEvent::Data { bytes, .. } if bytes == [round] => outcome = Some(Ok(())),
                NetEvent::Closed { reason, .. } => outcome = Some(Err(reason)),
                _ => {}
            });
        }
        match outcome {
            Some(Ok(())) => {}
            Some(Err(e)) if e.raw_os_error() == Some(libc::EINVAL) => {
                return Err(NetError::kernel_lacks("multishot receive on io_uring"));
            }
            Some(Err(error)) => return Err(NetError::Io { call: "multishot receive on io_uring", error }),
            None => {
                return Err(NetError::Io {
                    call: "multishot receive on io_uring",
                    error: io::ErrorKind::TimedOut.into(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::in_own_process;

    #[test]
    fn this_host_s_choice_is_what_the_setting_allows() {
        use crate::runtime::net::tests::backends;
        let works = backends().contains(&Backend::Uring);
        assert_eq!(choose(Some(Backend::Uring)).is_ok(), works);
        let auto = choose(None).unwrap();
        assert_eq!((auto.backend == Backend::Uring, auto.refused.is_none()), (works, works));
        let epoll = choose(Some(Backend::Epoll)).unwrap();
        assert_eq!((epoll.backend, epoll.refused.is_none()), (Backend::Epoll, true));
    }

    /// Makes io_uring_setup fail with `errno` on this thread, as the seccomp profile of a container does.
    fn forbid_io_uring(errno: i32) {
        let op = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
        let filter = [
            op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the system call's number
            op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 0, 1),
            op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
            op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program and its filter live until the calls, which copy them, have returned.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
        }
    }

    #[test]
    fn a_container_s_filter_and_an_old_kernel_are_told_apart() {
        in_own_process!("behind_a_filter");
    }

    #[test]
    #[ignore = "run by a_container_s_filter_and_an_old_kernel_are_told_apart"]
    fn behind_a_filter() {
        let with = |errno| {
            let probed = std::thread::spawn(move || {
                forbid_io_uring(errno);
                probe()
            });
            probed.join().unwrap().unwrap_err().to_string()
        };
        let said = with(libc::EPERM);
        assert!(said.contains("seccomp") && said.starts_with("io_uring_setup was refused"), "{said}");
        let said = with(libc::ENOSYS);
        assert!(said.starts_with("the kernel does not provide io_uring"), "{said}");
    }

    #[test]
    fn too_little_locked_memory_is_told_by_name() {
        let e = NetError::of_executor(io::Error::other("MemLockLimit(65536/524288)"));
        assert!(e.to_string().contains("LimitMEMLOCK"), "{e}");
        let e = NetError::of_executor(io::Error::other("no such cpu"));
        assert_eq!(e.to_string(), "the executor of a core could not be created: no such cpu");
    }
}
