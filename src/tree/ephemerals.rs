//! Which ephemeral znodes each session owns. Mirrors `DataTree.ephemerals`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::types::{SessionId, Zxid};

/// Above this many, a session's znodes move from a sorted vector to a tree.
const FEW: usize = 64;

/// A session's slots in order of creation.
enum Owned {
    Few(Vec<(Zxid, u32)>),
    Many(BTreeSet<(Zxid, u32)>),
}

impl Owned {
    fn insert(&mut self, key: (Zxid, u32)) {
        match self {
            Owned::Few(v) if v.len() < FEW => {
                if let Err(at) = v.binary_search(&key) {
                    v.insert(at, key);
                }
            }
            Owned::Few(v) => {
                let mut set: BTreeSet<_> = v.drain(..).collect();
                set.insert(key);
                *self = Owned::Many(set);
            }
            Owned::Many(set) => {
                set.insert(key);
            }
        }
    }

    fn remove(&mut self, key: &(Zxid, u32)) -> bool {
        match self {
            Owned::Few(v) => v.binary_search(key).map(|at| v.remove(at)).is_ok(),
            Owned::Many(set) => set.remove(key),
        }
    }

    fn contains(&self, key: &(Zxid, u32)) -> bool {
        match self {
            Owned::Few(v) => v.binary_search(key).is_ok(),
            Owned::Many(set) => set.contains(key),
        }
    }

    fn len(&self) -> usize {
        match self {
            Owned::Few(v) => v.len(),
            Owned::Many(set) => set.len(),
        }
    }

    /// Those after `place` in order; all of them without a place.
    fn after(&self, place: Option<(Zxid, u32)>) -> impl Iterator<Item = (Zxid, u32)> + '_ {
        let (few, many) = match self {
            Owned::Few(v) => (Some(v[place.map_or(0, |p| v.partition_point(|k| *k <= p))..].iter()), None),
            Owned::Many(set) => {
                let begin = place.map_or(Bound::Unbounded, Bound::Excluded);
                (None, Some(set.range((begin, Bound::Unbounded))))
            }
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }

    fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let (few, many) = match self {
            Owned::Few(v) => (Some(v.iter()), None),
            Owned::Many(set) => (None, Some(set.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).map(|k| k.1)
    }
}

/// Where an ephemeral stands in the list of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EphemeralPlace {
    session: SessionId,
    czxid: Zxid,
    pub(super) slot: u32,
}

impl EphemeralPlace {
    pub(super) fn owner(self) -> (SessionId, Zxid) {
        (self.session, self.czxid)
    }
}

/// A piece of the list of all ephemerals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EphemeralPiece {
    /// Owner, the transaction that created it, path.
    pub ephemerals: Vec<(SessionId, Zxid, String)>,
    /// What the next piece comes after; `None`: there is none.
    pub last: Option<EphemeralPlace>,
}

/// All sessions that own something.
#[derive(Default)]
pub(super) struct Ephemerals {
    by_session: BTreeMap<SessionId, Owned>,
    count: usize,
}

impl Ephemerals {
    pub(super) fn insert(&mut self, session: SessionId, czxid: Zxid, slot: u32) {
        self.by_session.entry(session).or_insert_with(|| Owned::Few(Vec::with_capacity(1))).insert((czxid, slot));
        self.count += 1;
    }

    pub(super) fn remove(&mut self, session: SessionId, czxid: Zxid, slot: u32) {
        let owned = self.by_session.get_mut(&session).expect("an ephemeral's session is listed");
        assert!(owned.remove(&(czxid, slot)), "slot {slot} is not listed under {session}");
        self.count -= 1;
        if owned.len() == 0 {
            self.by_session.remove(&session);
        }
    }

    pub(super) fn contains(&self, session: SessionId, czxid: Zxid, slot: u32) -> bool {
        self.by_session.get(&session).is_some_and(|o| o.contains(&(czxid, slot)))
    }

    /// All of them, over all sessions.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn of(&self, session: SessionId) -> impl Iterator<Item = u32> + '_ {
        self.by_session.get(&session).into_iter().flat_map(Owned::slots)
    }

    /// Those after `place`, by session, transaction and slot; all of them without a place.
    pub(super) fn after(&self, place: Option<EphemeralPlace>) -> impl Iterator<Item = EphemeralPlace> + '_ {
        let begin = place.map_or(SessionId(i64::MIN), |p| p.session);
        self.by_session.range(begin..).flat_map(move |(&session, owned)| {
            let place = place.filter(|p| p.session == session).map(|p| (p.czxid, p.slot));
            owned.after(place).map(move |(czxid, slot)| EphemeralPlace { session, czxid, slot })
        })
    }

    /// Sessions that own at least one, ascending.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.by_session.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_creation_few_and_many() {
        let mut e = Ephemerals::default();
        let s = SessionId(9);
        for i in 0..200u32 {
            e.insert(s, Zxid(i64::from(i)), 1000 - i);
        }
        e.insert(SessionId(3), Zxid(7), 5);
        e.remove(s, Zxid(1), 999);
        let want: Vec<u32> = (0..200).filter(|i| *i != 1).map(|i| 1000 - i).collect();
        assert_eq!(e.of(s).collect::<Vec<_>>(), want);
        assert_eq!((e.count(), e.sessions().collect::<Vec<_>>()), (200, vec![SessionId(3), s]));
        e.remove(SessionId(3), Zxid(7), 5);
        assert_eq!(e.of(SessionId(3)).count(), 0);
        assert_eq!(e.sessions().count(), 1);
    }

    #[test]
    fn the_list_goes_on_after_any_place_whatever_happened_to_it() {
        let mut e = Ephemerals::default();
        for session in [-4, 0, 7] {
            (0..130u32).for_each(|i| e.insert(SessionId(session), Zxid(i64::from(i / 2)), 1000 + i));
        }
        e.insert(SessionId(3), Zxid(1), 5);
        let all: Vec<EphemeralPlace> = e.after(None).collect();
        assert_eq!(all.len(), 391);
        for (i, place) in all.iter().enumerate() {
            assert!(e.after(Some(*place)).eq(all[i + 1..].iter().copied()));
        }
        let at = all[200];
        e.remove(at.session, at.czxid, at.slot);
        assert!(e.after(Some(at)).eq(all[201..].iter().copied()));
    }

    #[test]
    fn a_replayed_older_create_sorts_in() {
        let mut e = Ephemerals::default();
        for (z, slot) in [(5, 50), (3, 30), (4, 40)] {
            e.insert(SessionId(1), Zxid(z), slot);
        }
        assert_eq!(e.of(SessionId(1)).collect::<Vec<_>>(), [30, 40, 50]);
    }
}
