//! The replicated table of sessions: what every server knows at a zxid and writes into its snapshots. Mirrors
//! `ZKDatabase.sessionsWithTimeouts`.

use crate::types::SessionId;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Committed sessions with their timeouts in milliseconds, in the order of their ids: the same on every server at the same
/// zxid, so snapshots and digests compare.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SessionTable {
    timeouts: BTreeMap<SessionId, i32>,
}

impl SessionTable {
    /// No session.
    pub fn new() -> SessionTable {
        SessionTable::default()
    }

    /// Applies a createSession. `false` if the session was there; it has the new timeout then.
    pub fn commit(&mut self, id: SessionId, timeout_ms: i32) -> bool {
        self.timeouts.insert(id, timeout_ms).is_none()
    }

    /// Applies a closeSession. The timeout it had, or `None` if there was no such session.
    pub fn remove(&mut self, id: SessionId) -> Option<i32> {
        self.timeouts.remove(&id)
    }

    /// Whether the session is committed and not closed.
    pub fn contains(&self, id: SessionId) -> bool {
        self.timeouts.contains_key(&id)
    }

    /// The session's timeout in milliseconds.
    pub fn timeout_of(&self, id: SessionId) -> Option<i32> {
        self.timeouts.get(&id).copied()
    }

    /// Sessions and timeouts in the order of the ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> {
        self.timeouts.iter().map(|(id, timeout_ms)| (*id, *timeout_ms))
    }

    /// The sessions after `place` in the order of their ids; all of them without a place.
    pub fn after(&self, place: Option<SessionId>) -> impl Iterator<Item = SessionId> {
        let begin = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.timeouts.range((begin, Bound::Unbounded)).map(|(id, _)| *id)
    }

    /// Number of sessions: `global_sessions`.
    pub fn len(&self) -> usize {
        self.timeouts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.timeouts.is_empty()
    }
}

impl FromIterator<(SessionId, i32)> for SessionTable {
    fn from_iter<I: IntoIterator<Item = (SessionId, i32)>>(sessions: I) -> SessionTable {
        SessionTable { timeouts: sessions.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_depend_on_history() {
        let mut t = SessionTable::new();
        assert!(t.commit(SessionId(2), 10));
        assert!(t.commit(SessionId(-1), 30));
        assert!(t.commit(SessionId(1), 20));
        assert!(!t.commit(SessionId(1), 25));
        assert_eq!((t.remove(SessionId(2)), t.remove(SessionId(2))), (Some(10), None));
        assert!(t.commit(SessionId(2), 40));
        assert_eq!(t.iter().collect::<Vec<_>>(), [(SessionId(-1), 30), (SessionId(1), 25), (SessionId(2), 40)]);
        assert_eq!(t, t.iter().collect());
        assert_eq!(t.after(None).collect::<Vec<_>>(), [SessionId(-1), SessionId(1), SessionId(2)]);
        assert_eq!(t.after(Some(SessionId(0))).collect::<Vec<_>>(), [SessionId(1), SessionId(2)]);
        assert_eq!(t.after(Some(SessionId(2))).next(), None);
        assert_eq!((t.len(), t.contains(SessionId(3)), t.timeout_of(SessionId(2))), (3, false, Some(40)));
    }
}
