//! Hands out session ids. Mirrors `SessionTrackerImpl.nextSessionId`.

use crate::types::{Now, ServerId, SessionId};

/// The 56 bits that count up; the byte above them is the server's id.
const COUNTER: i64 = (1 << 56) - 1;

/// The session ids that one server process gives out: [`SessionId::first`], then each one higher.
///
/// ZooKeeper derives the first id only from the machine's uptime, so after a reboot it can give out an id again. Here
/// [`skip`](SessionIds::skip) excludes every id that recovery or another server has used.
#[derive(Clone, Debug)]
pub struct SessionIds {
    next: SessionId,
}

impl SessionIds {
    /// Starts at the first id of a process that starts now.
    pub fn new(server: ServerId, now: Now) -> SessionIds {
        SessionIds { next: usable(SessionId::first(server, now.mono_ms)) }
    }

    /// A new id.
    pub fn next_id(&mut self) -> SessionId {
        let id = self.next;
        self.next = after(id);
        id
    }

    /// If `seen` is an id of this server, no id up to and including it is given out from now on.
    pub fn skip(&mut self, seen: SessionId) {
        let ours = seen.0 & !COUNTER == self.next.0 & !COUNTER;
        if ours && seen.0 & COUNTER >= self.next.0 & COUNTER {
            self.next = after(seen);
        }
    }
}

/// The id after this one. The counter wraps around below the server's byte instead of changing it.
fn after(id: SessionId) -> SessionId {
    usable(SessionId((id.0 & !COUNTER) | (id.0.wrapping_add(1) & COUNTER)))
}

/// Skips 0, which means "no session", and the value that would be read as a container's owner.
fn usable(id: SessionId) -> SessionId {
    if id == SessionId::NONE || id.0 == i64::MIN { SessionId(id.0 + 1) } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: i64) -> Now {
        Now { mono_ms, ..Now::default() }
    }

    #[test]
    fn ids_count_up_from_the_first() {
        let mut ids = SessionIds::new(ServerId(3), at(1_000));
        let first = SessionId::first(ServerId(3), 1_000);
        assert_eq!([ids.next_id(), ids.next_id()], [first, SessionId(first.0 + 1)]);
    }

    #[test]
    fn ids_seen_elsewhere_are_stepped_over() {
        let mut ids = SessionIds::new(ServerId(3), at(1_000));
        let first = SessionId::first(ServerId(3), 1_000);
        ids.skip(SessionId(first.0 - 5));
        ids.skip(SessionId(first.0 + 7 + (1 << 56)));
        assert_eq!(ids.next_id(), first, "older ones and other servers' do not matter");
        ids.skip(SessionId(first.0 + 7));
        assert_eq!(ids.next_id(), SessionId(first.0 + 8));
    }

    #[test]
    fn the_counter_never_runs_into_the_servers_byte() {
        for server in [0, 1, 127, 128, 255] {
            let mut ids = SessionIds::new(ServerId(server), at(0));
            ids.skip(SessionId((server << 56) | COUNTER));
            let id = ids.next_id();
            assert_eq!(id.0 & !COUNTER, server << 56);
            assert!(id != SessionId::NONE && id.0 != i64::MIN, "{id}");
        }
    }
}
