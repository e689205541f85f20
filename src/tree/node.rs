//! One znode in 112 bytes and one allocation. Mirrors `DataNode`.

use crate::types::StatPersisted;

use super::acl_table::AclRef;

/// "No node" in a link.
pub(super) const NONE: u32 = u32::MAX;
/// In `parent`: the slot holds no node.
pub(super) const FREE: u32 = u32::MAX - 1;
/// The root's slot.
pub(super) const ROOT: u32 = 0;

const NULL_DATA: u32 = 1 << 31;

/// A znode. Name and data share one allocation. The path follows from the chain of parents.
///
/// Siblings form a list in order of creation: `next` of the last is [`NONE`], `prev` of the first is the last.
pub(super) struct Node {
    pub(super) stat: StatPersisted,
    payload: Box<[u8]>,
    /// Bytes of `payload` that are the name; the top bit says that data is null.
    name_len: u32,
    /// What it adds to the digest, if it is digested (see [`super::digest`]); 0 while digests are off.
    pub(super) share: u32,
    pub(super) acl: AclRef,
    pub(super) parent: u32,
    pub(super) first_child: u32,
    pub(super) next: u32,
    pub(super) prev: u32,
    pub(super) num_children: u32,
}

const _: () = assert!(size_of::<Node>() == 112, "every byte here is paid for by each of a hundred million znodes");

fn payload(name: &[u8], data: Option<&[u8]>) -> Box<[u8]> {
    let data = data.unwrap_or_default();
    let mut bytes = Vec::with_capacity(name.len() + data.len());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(data);
    bytes.into_boxed_slice()
}

impl Node {
    /// A node without links except to its parent.
    pub(super) fn new(parent: u32, name: &str, data: Option<&[u8]>, acl: AclRef, stat: StatPersisted) -> Node {
        assert!(name.len() < NULL_DATA as usize, "a name of {} bytes", name.len());
        Node {
            stat,
            payload: payload(name.as_bytes(), data),
            name_len: name.len() as u32 | if data.is_none() { NULL_DATA } else { 0 },
            share: 0,
            acl,
            parent,
            first_child: NONE,
            next: NONE,
            prev: NONE,
            num_children: 0,
        }
    }

    /// The content of a slot that is not used.
    pub(super) fn vacant() -> Node {
        Node::new(FREE, "", None, AclRef::OPEN, StatPersisted::default())
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.parent == FREE
    }

    fn name_end(&self) -> usize {
        (self.name_len & !NULL_DATA) as usize
    }

    #[inline]
    pub(super) fn name_bytes(&self) -> &[u8] {
        &self.payload[..self.name_end()]
    }

    /// The last component of the path; empty for the root.
    #[inline]
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(self.name_bytes()).expect("a name is made from a str")
    }

    #[inline]
    pub(super) fn data(&self) -> Option<&[u8]> {
        (self.name_len & NULL_DATA == 0).then(|| &self.payload[self.name_end()..])
    }

    /// Bytes of data; null has none.
    #[inline]
    pub(super) fn data_len(&self) -> usize {
        self.payload.len() - self.name_end()
    }

    /// Replaces the data, without allocating if the length stays.
    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        let name_end = self.name_end();
        let bytes = data.unwrap_or_default();
        if self.payload.len() - name_end == bytes.len() {
            self.payload[name_end..].copy_from_slice(bytes);
        } else {
            self.payload = payload(&self.payload[..name_end], data);
        }
        self.name_len = name_end as u32 | if data.is_none() { NULL_DATA } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_data_differ_and_the_name_survives() {
        let mut n = Node::new(ROOT, "name", None, AclRef::OPEN, StatPersisted::default());
        for data in [None, Some(&b""[..]), Some(b"abc"), Some(b"xyz"), Some(b""), None, Some(b"longer than before")] {
            n.set_data(data);
            assert_eq!((n.name(), n.data(), n.data_len()), ("name", data, data.map_or(0, <[u8]>::len)));
        }
        assert!(Node::vacant().is_vacant() && !n.is_vacant());
    }
}
