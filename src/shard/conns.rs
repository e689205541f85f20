//! The connections of a shard by their ids. A request looks its connection up several times, so this is a vector
//! instead of a hash table.

use super::conn::Conn;
use crate::types::ConnId;

/// Connections by id. The lower 32 bits of an id are its slot: a small number that a later connection may use again;
/// the upper bits of its id then differ.
#[derive(Default)]
pub(super) struct Conns {
    slots: Vec<Option<Box<(ConnId, Conn)>>>,
    len: usize,
}

fn slot(conn: ConnId) -> usize {
    conn.0 as u32 as usize
}

impl Conns {
    /// Number of connections.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, conn: ConnId) -> Option<&Conn> {
        match self.slots.get(slot(conn)) {
            Some(Some(entry)) if entry.0 == conn => Some(&entry.1),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        match self.slots.get_mut(slot(conn)) {
            Some(Some(entry)) if entry.0 == conn => Some(&mut entry.1),
            _ => None,
        }
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// If its slot is in use: the transport must choose free slots.
    pub(super) fn insert(&mut self, conn: ConnId, what: Conn) {
        let at = slot(conn);
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        assert!(self.slots[at].is_none(), "{conn:?} is opened in a slot that is in use");
        self.slots[at] = Some(Box::new((conn, what)));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        self.get(conn)?;
        let (number, c) = *self.slots[slot(conn)].take()?;
        assert_eq!(number, conn, "another connection was removed");
        assert!(self.len > 0, "{conn} is removed from none");
        self.len -= 1;
        Some(c)
    }

    /// Its invariants.
    pub(super) fn check(&self) {
        assert_eq!(self.iter().count(), self.len, "connections");
        assert!(
            self.slots.iter().enumerate().all(|(at, s)| s.as_ref().is_none_or(|s| slot(s.0) == at)),
            "a wrong slot"
        );
    }

    /// All connections, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter().flatten().map(|entry| (entry.0, &entry.1))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Conn> {
        self.iter().map(|(_, c)| c)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.slots.iter_mut().flatten().map(|entry| &mut entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Now;

    #[test]
    fn a_slot_used_again_is_another_connection() {
        let conn = |port| Conn::new(([127, 0, 0, 1], port).into(), Now::default());
        let (first, later) = (ConnId(3), ConnId(1 << 32 | 3));
        let mut conns = Conns::default();
        conns.insert(first, conn(1));
        conns.insert(ConnId(0), conn(2));
        assert!(conns.get(later).is_none() && [1, u64::MAX].iter().all(|n| conns.get(ConnId(*n)).is_none()));
        assert_eq!(conns.iter().map(|(n, _)| n).collect::<Vec<_>>(), [ConnId(0), first]);
        assert!(conns.remove(later).is_none());
        assert_eq!(conns.remove(first).map(|c| c.peer.port()), Some(1));
        conns.insert(later, conn(3));
        assert!(conns.get_mut(first).is_none());
        assert_eq!((conns.get(later).map(|c| c.peer.port()), conns.len()), (Some(3), 2));
    }
}
