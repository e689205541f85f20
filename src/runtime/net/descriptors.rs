//! How many of the process's file descriptors connections may use. The rest is reserved for files: a server that cannot
//! open its next log segment or snapshot has to stop, so clients must never be able to take the last descriptor.
//!
//! The kernel always gives out the lowest free number. So if no connection has a number above [`Descriptors::most`],
//! all higher numbers are free for files, and nothing else has to be counted, whatever the process has open.
//!
//! Connections to other servers are few, and needed as much as files: when clients have to wait, half of the reserve is for them.

use std::os::fd::RawFd;

/// Most connections that can wait on a listener (`net.core.somaxconn` is 4096 unless it was raised). One multishot
/// accept may return all of them before it can be stopped.
const BACKLOG: u64 = 4096;

/// The descriptor numbers at which accepting stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    near: RawFd,
    most: RawFd,
    full: RawFd,
}

impl Descriptors {
    /// For a process that may have `limit` descriptors (`RLIMIT_NOFILE`): an eighth is reserved for files, at least 32,
    /// at most 1024. If the limit is so low that nothing would be left, connections get half of it.
    pub(super) fn of_limit(limit: u64) -> Descriptors {
        let kept = (limit / 8).clamp(32, 1024).min(limit / 2);
        let number = |n: u64| RawFd::try_from(n).unwrap_or(RawFd::MAX);
        Descriptors {
            near: number((limit - kept).saturating_sub(BACKLOG)),
            most: number(limit - kept),
            full: number(limit - kept / 2),
        }
    }

    /// For this process, by its current limit.
    pub(super) fn of_process() -> Descriptors {
        Descriptors::of_limit(super::error::limit(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX))
    }

    /// The first number that is reserved for files.
    pub(super) fn most(self) -> RawFd {
        self.most
    }

    /// From this number on connections are accepted one at a time, so that none is accepted beyond the limit.
    pub(super) fn is_near(self, fd: RawFd) -> bool {
        fd >= self.near
    }

    /// Whether a connection with this number is the last one for now.
    pub(super) fn is_last(self, fd: RawFd) -> bool {
        fd >= self.most
    }

    /// Whether a connection with this number is beyond the limit: it was accepted before accepting could be stopped.
    pub(super) fn is_too_many(self, fd: RawFd) -> bool {
        fd >= self.full
    }

    /// Whether the next descriptor may be used for a connection. `any` is an open descriptor.
    pub(super) fn has_room(self, any: RawFd) -> bool {
        // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
        let next = unsafe { libc::fcntl(any, libc::F_DUPFD_CLOEXEC, 0) };
        if next >= 0 {
            // SAFETY: the descriptor is ours, see above.
            unsafe { libc::close(next) };
        }
        (0..self.most).contains(&next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_a_share() {
        let of = |limit| (Descriptors::of_limit(limit).most, Descriptors::of_limit(limit).full);
        assert_eq!(of(1024), (896, 960));
        assert_eq!(of(128), (96, 112));
        assert_eq!(of(40), (20, 30));
        assert_eq!(of(1 << 20), ((1 << 20) - 1024, (1 << 20) - 512));
        assert_eq!(of(u64::MAX), (RawFd::MAX, RawFd::MAX));
        let d = Descriptors::of_limit(10_000);
        assert!(!d.is_near(4879) && d.is_near(4880));
        let d = Descriptors::of_limit(1024);
        assert!(d.is_near(0));
        assert!(!d.is_last(895) && d.is_last(896) && !d.is_too_many(959) && d.is_too_many(960));
    }

    #[test]
    fn room_is_told_by_the_next_number() {
        assert!(Descriptors::of_limit(1 << 20).has_room(0));
        assert!(!Descriptors { near: 0, most: 0, full: 0 }.has_room(0));
    }
}
