//! The tree as of one zxid, written in pieces while transactions go on. Plays the part of `DataTree.serialize`, without its
//! fuzziness: what is written is exactly the tree at the moment the image began.
//!
//! An image is a walk over the slots. Before a transaction changes a slot that the walk has not reached, the slot's old
//! record is kept and written when its turn comes. Slots that are filled later are skipped.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::jute::Put;
use crate::jute::stat::put_stat_persisted;
use crate::types::acl::SharedAcl;
use crate::types::{Acl, AclId, Zxid};

use super::Tree;

/// One image that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageId(u64);

/// What an image contains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageHead {
    /// The last transaction in it.
    pub zxid: Zxid,
    /// The tree's digest then; 0 while digests are off.
    pub digest: u64,
    /// Znodes, the root counted once.
    pub nodes: usize,
    /// The ACL lists its znodes refer to, ascending.
    pub acls: Vec<(AclId, Arc<[Acl]>)>,
}

struct Image {
    id: ImageId,
    head: ImageHead,
    /// The next slot to write, and the end of the slots there were.
    cursor: u32,
    end: u32,
    kept: Kept,
}

/// Records of slots that changed before the walk reached them.
///
/// They are stored one after the other in large blocks. An allocation for each record would lie between those of the znodes, and
/// would keep their pages from being freed.
#[derive(Default)]
struct Kept {
    places: HashMap<u32, Place>,
    blocks: Vec<Block>,
    /// The record that is being made.
    scratch: Vec<u8>,
}

/// Where a record is; a slot that was free has one of no bytes.
struct Place {
    block: u32,
    at: u32,
    len: u32,
}

struct Block {
    bytes: Vec<u8>,
    /// Records not taken yet.
    left: u32,
}

impl Kept {
    const BLOCK: usize = 1 << 20;

    fn contains(&self, slot: u32) -> bool {
        self.places.contains_key(&slot)
    }

    /// Keeps what `put` appends as the record of `slot`.
    fn keep(&mut self, slot: u32, put: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        put(&mut self.scratch);
        let len = self.scratch.len();
        if self.blocks.last().is_none_or(|b| b.bytes.capacity() - b.bytes.len() < len) {
            self.blocks.push(Block { bytes: Vec::with_capacity(len.max(Kept::BLOCK)), left: 0 });
        }
        let block = self.blocks.len() - 1;
        let Block { bytes, left } = &mut self.blocks[block];
        self.places.insert(slot, Place { block: block as u32, at: bytes.len() as u32, len: len as u32 });
        bytes.extend_from_slice(&self.scratch);
        *left += 1;
        if self.scratch.capacity() > Kept::BLOCK {
            self.scratch = Vec::new();
        }
    }

    /// Appends the record of `slot` and forgets it; `false` if there is none.
    fn take(&mut self, slot: u32, out: &mut Vec<u8>) -> bool {
        let Some(Place { block, at, len }) = self.places.remove(&slot) else { return false };
        let Block { bytes, left } = &mut self.blocks[block as usize];
        out.extend_from_slice(&bytes[at as usize..][..len as usize]);
        *left -= 1;
        if *left == 0 {
            *bytes = Vec::new();
        }
        true
    }
}

/// All images that have begun.
#[derive(Default)]
pub(super) struct Images {
    last: u64,
    open: Vec<Image>,
}

impl Tree {
    /// Begins an image of the tree as it is now. Several may be in progress at once. Copies the ACL table.
    pub fn begin_image(&mut self) -> ImageId {
        self.images.last += 1;
        let id = ImageId(self.images.last);
        let head =
            ImageHead { zxid: self.last_zxid, digest: self.digest, nodes: self.slab.live(), acls: self.acls.lists() };
        self.images.open.push(Image { id, head, cursor: 0, end: self.slab.end(), kept: Kept::default() });
        id
    }

    /// What an image is of; `None` once it is done or dropped.
    pub fn image_head(&self, id: ImageId) -> Option<&ImageHead> {
        self.images.open.iter().find(|i| i.id == id).map(|i| &i.head)
    }

    /// The ACL lists of an image, as the snapshot's table wants them: never the open one.
    pub fn image_acls(&self, id: ImageId) -> Vec<(AclId, SharedAcl)> {
        let lists = self.image_head(id).map(|h| h.acls.as_slice()).unwrap_or_default();
        lists.iter().map(|(id, list)| (*id, Some(Arc::clone(list)))).collect()
    }

    /// Appends further znodes in ZooKeeper's snapshot form (path, data, ACL id, stat; the root's path is empty), parents before
    /// children, until at least `max_bytes` were added; `true` once all are written, and then the image is over. The
    /// terminating `/` is the caller's.
    ///
    /// Looks at no more than `max_bytes / 64 + 1024` slots, so that a tree with many free slots causes no long pause either.
    pub fn image_chunk(&mut self, id: ImageId, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        let Some(at) = self.images.open.iter().position(|i| i.id == id) else { return true };
        let mut image = self.images.open.swap_remove(at);
        let begin = out.len();
        let mut looks = max_bytes / 64 + 1024;
        let mut parent = ParentPath::default();
        while image.cursor < image.end && out.len() - begin < max_bytes.max(1) && looks > 0 {
            let slot = image.cursor;
            image.cursor += 1;
            looks -= 1;
            if !image.kept.take(slot, out) {
                self.put_node(slot, &mut parent, out);
            }
        }
        let done = image.cursor == image.end;
        if !done {
            self.images.open.push(image);
        }
        done
    }

    /// Drops an image that is not wanted any more.
    pub fn end_image(&mut self, id: ImageId) {
        self.images.open.retain(|i| i.id != id);
    }

    /// Images in progress.
    pub fn images_open(&self) -> usize {
        self.images.open.len()
    }

    /// To be called before a slot is filled, emptied or changed in what a snapshot says of it.
    #[inline]
    pub(super) fn before_change(&mut self, slot: u32) {
        if !self.images.open.is_empty() {
            self.keep_for_images(slot);
        }
    }

    fn keep_for_images(&mut self, slot: u32) {
        let mut images = std::mem::take(&mut self.images);
        for image in &mut images.open {
            if (image.cursor..image.end).contains(&slot) && !image.kept.contains(slot) {
                image.kept.keep(slot, |record| self.put_node(slot, &mut ParentPath::default(), record));
            }
        }
        self.images = images;
    }

    /// Appends the record of a slot's node, if there is one.
    fn put_node(&self, slot: u32, parent: &mut ParentPath, out: &mut Vec<u8>) {
        let Some(n) = self.slab.occupied(slot) else { return };
        let frame = out.begin_frame();
        if slot != super::ROOT {
            if parent.slot != n.parent {
                parent.slot = n.parent;
                parent.path.clear();
                self.put_path(n.parent, &mut parent.path);
            }
            out.extend_from_slice(&parent.path);
            out.push(b'/');
            out.extend_from_slice(n.name_bytes());
        }
        out.end_frame(frame);
        out.put_buffer(n.data());
        out.put_i64(self.acls.id(n.acl).0);
        put_stat_persisted(out, &n.stat);
    }
}

/// The path of the parent last written: siblings often follow each other.
struct ParentPath {
    slot: u32,
    path: Vec<u8>,
}

impl Default for ParentPath {
    fn default() -> ParentPath {
        ParentPath { slot: super::NONE, path: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_set_aside_come_back_once_and_their_blocks_go_with_the_last() {
        let mut kept = Kept::default();
        let record = |slot: u32| vec![slot as u8; (slot as usize * 7919) % 3000];
        for slot in 0..3000 {
            kept.keep(slot, |out| out.extend(record(slot)));
        }
        kept.keep(3000, |out| out.resize(3 * Kept::BLOCK, 1));
        kept.keep(3001, |_| {});
        assert!(kept.blocks.len() > 4 && kept.scratch.capacity() <= Kept::BLOCK);
        for slot in (0..3000).rev() {
            let mut out = vec![9];
            assert!(kept.contains(slot) && kept.take(slot, &mut out) && !kept.contains(slot));
            assert!(out[0] == 9 && out[1..] == record(slot), "slot {slot}");
            assert!(!kept.take(slot, &mut out));
        }
        assert_eq!(kept.blocks.iter().filter(|b| b.bytes.capacity() > 0).count(), 1, "only the long one is left");
        let mut out = Vec::new();
        assert!(kept.take(3000, &mut out) && out.len() == 3 * Kept::BLOCK);
        assert!(kept.take(3001, &mut out) && out.len() == 3 * Kept::BLOCK, "a free slot has no bytes");
        kept.keep(1, |out| out.push(5));
        assert!(kept.take(1, &mut out) && out.ends_with(&[1, 5]));
    }
}
