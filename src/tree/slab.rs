//! Slots for znodes, in chunks that never move: growing copies nothing. A child's slot is always above its parent's, so
//! that slot order lists parents before children.

use std::collections::BTreeSet;

use super::node::{FREE, Node};

/// 7 MiB a chunk: an allocation of its own, of whole pages. (4,096 nodes fell into a size class a seventh larger.) What is not
/// used yet of a chunk takes no memory.
const CHUNK_BITS: u32 = 16;
const CHUNK: usize = 1 << CHUNK_BITS;
const _: () = assert!((CHUNK * size_of::<Node>()).is_multiple_of(256 << 10), "the allocator would round it up");

/// Where the nodes live.
#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Vec<Node>>,
    len: u32,
    free: BTreeSet<u32>,
}

impl Slab {
    /// One past the highest slot ever used.
    pub(super) fn end(&self) -> u32 {
        self.len
    }

    /// Nodes in it.
    pub(super) fn live(&self) -> usize {
        self.len as usize - self.free.len()
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Node {
        &self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Node {
        &mut self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    /// Where the next child of `parent` goes: the lowest free slot above it. (The highest would let a short-lived parent
    /// with a short-lived child climb by one slot each time.)
    pub(super) fn slot_above(&self, parent: u32) -> u32 {
        self.free.range(parent + 1..).next().copied().unwrap_or(self.len)
    }

    /// Fills a slot that [`Slab::slot_above`] named.
    pub(super) fn put(&mut self, slot: u32, node: Node) {
        if slot < self.len {
            assert!(self.free.remove(&slot), "slot {slot} is in use");
            *self.get_mut(slot) = node;
            return;
        }
        assert!(slot == self.len && slot < FREE - 1, "no slot {slot}");
        if slot as usize & (CHUNK - 1) == 0 {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[(slot >> CHUNK_BITS) as usize].push(node);
        self.len += 1;
    }

    /// Empties a slot and returns what was there.
    pub(super) fn take(&mut self, slot: u32) -> Node {
        let node = std::mem::replace(self.get_mut(slot), Node::vacant());
        assert!(self.free.insert(slot), "slot {slot} was free already");
        node
    }

    /// The node of a slot, unless it is free or past the end.
    pub(super) fn occupied(&self, slot: u32) -> Option<&Node> {
        (slot < self.len).then(|| self.get(slot)).filter(|n| !n.is_vacant())
    }

    /// All used slots, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|s| !self.get(*s).is_vacant())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::acl_table::AclRef;
    use crate::types::StatPersisted;

    fn node(parent: u32) -> Node {
        Node::new(parent, "n", None, AclRef::OPEN, StatPersisted::default())
    }

    #[test]
    fn a_short_lived_parent_with_a_child_does_not_climb() {
        let mut s = Slab::default();
        s.put(0, node(u32::MAX));
        for _ in 0..10_000 {
            let p = s.slot_above(0);
            s.put(p, node(0));
            let c = s.slot_above(p);
            s.put(c, node(p));
            assert!(c > p);
            s.take(c);
            s.take(p);
        }
        assert_eq!((s.end(), s.live()), (3, 1));
    }

    #[test]
    fn chunks_are_crossed() {
        let mut s = Slab::default();
        for i in 0..3 * CHUNK as u32 + 1 {
            s.put(i, node(i.wrapping_sub(1)));
        }
        assert_eq!(s.get(2 * CHUNK as u32).parent, 2 * CHUNK as u32 - 1);
        assert_eq!(s.live(), 3 * CHUNK + 1);
        assert!(s.occupied(s.end()).is_none());
    }
}
