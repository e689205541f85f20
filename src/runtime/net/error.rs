//! Why io_uring (or glommio, which uses it) is not available on this host. The messages name the setting that allows
//! it.

use std::fmt;
use std::fs;
use std::io;

/// Why a core's sockets cannot be set up.
#[derive(Debug)]
pub enum NetError {
    /// The kernel has no io_uring, or lacks a required feature.
    KernelTooOld {
        /// The missing feature.
        missing: &'static str,
        /// The version of the running kernel, from `uname -r`.
        release: String,
    },
    /// `kernel.io_uring_disabled` is set.
    DisabledBySysctl {
        /// Its value, 1 or 2.
        value: u8,
    },
    /// `EPERM` although the sysctl allows io_uring: a seccomp filter blocks it, as in containers.
    Forbidden {
        /// The system call that was refused.
        call: &'static str,
    },
    /// The limit of locked memory is reached.
    LockedMemory {
        /// `RLIMIT_MEMLOCK` in bytes; `None` means unlimited.
        limit: Option<u64>,
        /// The operation that failed.
        call: &'static str,
    },
    /// No file descriptors are left.
    Descriptors {
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// glommio refused to create an executor for a reason of its own.
    Executor(String),
    /// Any other error.
    Io {
        /// The call that failed.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
}

impl NetError {
    pub(super) fn kernel_lacks(missing: &'static str) -> NetError {
        NetError::KernelTooOld { missing, release: release() }
    }

    /// Derives the reason from the errno of a failed call, the sysctl and the limits.
    pub(crate) fn of(call: &'static str, error: io::Error) -> NetError {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => NetError::kernel_lacks("io_uring"),
            Some(libc::EPERM | libc::EACCES) => match disabled_sysctl() {
                Some(value @ 1..) => NetError::DisabledBySysctl { value },
                _ => NetError::Forbidden { call },
            },
            Some(libc::ENOMEM) => NetError::LockedMemory { limit: limit(libc::RLIMIT_MEMLOCK), call },
            Some(libc::EMFILE) => NetError::Descriptors { limit: limit(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX) },
            _ => NetError::Io { call, error },
        }
    }

    /// Derives the reason from glommio's error.
    pub(in crate::runtime) fn of_executor(error: io::Error) -> NetError {
        const CALL: &str = "creating a glommio executor";
        match NetError::of(CALL, error) {
            NetError::Io { error, .. } if error.to_string().contains("MemLockLimit") => {
                NetError::of(CALL, io::Error::from_raw_os_error(libc::ENOMEM))
            }
            NetError::Io { error, .. } => NetError::Executor(error.to_string()),
            other => other,
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::KernelTooOld { missing, release } => write!(
                f,
                "the kernel does not provide {missing} (running: {release}): that needs Linux 6.0 or later, 6.1 or later is \
                 recommended. Some sandboxes (gVisor) answer the same way"
            ),
            NetError::DisabledBySysctl { value: 1 } => write!(
                f,
                "io_uring is disabled for this user: kernel.io_uring_disabled = 1 (/proc/sys/kernel/io_uring_disabled). Set it \
                 to 0 with `sysctl -w kernel.io_uring_disabled=0`, or add the server's group to kernel.io_uring_group, or give \
                 the process CAP_SYS_ADMIN"
            ),
            NetError::DisabledBySysctl { value } => write!(
                f,
                "io_uring is disabled on this host: kernel.io_uring_disabled = {value} (/proc/sys/kernel/io_uring_disabled). \
                 Set it to 0 with `sysctl -w kernel.io_uring_disabled=0`, or to 1 and add the server's group to \
                 kernel.io_uring_group"
            ),
            NetError::Forbidden { call } => write!(
                f,
                "{call} was refused (EPERM) although kernel.io_uring_disabled allows io_uring: a seccomp filter or an LSM blocks \
                 it, as the default profile of Docker and containerd does. Run the container with a profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register, e.g. --security-opt seccomp=<profile> \
                 (Kubernetes: securityContext.seccompProfile)"
            ),
            NetError::LockedMemory { limit, call } => {
                write!(f, "{call} ran out of lockable memory (ENOMEM): RLIMIT_MEMLOCK is ")?;
                match limit {
                    Some(bytes) => write!(f, "{} KiB", bytes / 1024)?,
                    None => {
                        f.write_str("unlimited, so the host itself (or the cgroup's memory.max) is short of memory")?
                    }
                }
                f.write_str(
                    ". Raise it: LimitMEMLOCK=infinity in the systemd unit, --ulimit memlock=-1 for a container, or `memlock` in \
                     /etc/security/limits.conf",
                )
            }
            NetError::Descriptors { limit } => write!(
                f,
                "no file descriptor left: RLIMIT_NOFILE is {limit}. Raise it: LimitNOFILE=1048576 in the systemd unit, --ulimit \
                 nofile=1048576 for a container"
            ),
            NetError::Executor(why) => write!(f, "the executor of a core could not be created: {why}"),
            NetError::Io { call, error } => write!(f, "{call} failed: {error}"),
        }
    }
}

impl std::error::Error for NetError {}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}

/// The value of `kernel.io_uring_disabled`; `None` on kernels without it (before 6.6).
fn disabled_sysctl() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// A soft limit; `None` means unlimited.
#[allow(clippy::unnecessary_cast)] // the resource's type differs between C libraries
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `l` is a valid place for the result.
    let done = unsafe { libc::getrlimit(resource, &mut l) };
    (done == 0 && l.rlim_cur != libc::RLIM_INFINITY).then_some(l.rlim_cur as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32) -> NetError {
        NetError::of("io_uring_setup", io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn messages_name_the_setting_that_mends_it() {
        assert!(of(libc::ENOSYS).to_string().contains("6.0 or later"));
        assert!(of(libc::ENOMEM).to_string().contains("LimitMEMLOCK"));
        assert!(of(libc::EMFILE).to_string().contains("LimitNOFILE"));
        let eperm = of(libc::EPERM).to_string();
        assert!(eperm.contains("seccomp") || eperm.contains("kernel.io_uring_disabled = "), "{eperm}");
        assert!(NetError::DisabledBySysctl { value: 2 }.to_string().contains("kernel.io_uring_disabled = 2"));
        assert!(NetError::DisabledBySysctl { value: 1 }.to_string().contains("kernel.io_uring_group"));
        assert_eq!(of(libc::EIO).to_string(), "io_uring_setup failed: Input/output error (os error 5)");
    }
}
