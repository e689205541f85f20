//! Makes the image of a snapshot: the tree as of one zxid, a piece at a time between transactions, so that no request
//! waits for more than one piece.

use super::Outbox;
use super::shared::Shared;
use super::snapshot::{SnapshotPart, State};
use crate::limits;
use crate::tree::{ImageId, Tree};
use crate::txn::TxnDigest;
use crate::types::Zxid;

impl Shared {
    /// Makes the next piece, if a snapshot is in progress and its writer keeps up.
    pub(super) fn image_turn(&mut self, tree: &mut Tree, out: &mut Outbox) {
        if !self.imaging.has_work() {
            return;
        }
        let (image, zxid) = match self.imaging.state {
            State::Making(image, zxid) => (image, zxid),
            _ => self.begin_image(tree, out),
        };
        let mut nodes = Vec::with_capacity(limits::IMAGE_CHUNK + 1024);
        let done = tree.image_chunk(image, limits::IMAGE_CHUNK, &mut nodes);
        self.imaging.backlog += nodes.len();
        out.snapshot.push(SnapshotPart::Nodes(nodes));
        if done {
            out.snapshot.push(SnapshotPart::End);
            self.imaging.state = State::Writing(zxid);
        }
    }

    fn begin_image(&mut self, tree: &mut Tree, out: &mut Outbox) -> (ImageId, Zxid) {
        assert_eq!((self.imaging.state, self.imaging.backlog), (State::Due, 0), "a snapshot begins inside another");
        let zxid = tree.last_zxid();
        let last = self.imaging.last.map(|last| last.zxid);
        assert!(last.is_none_or(|last| last <= zxid), "a snapshot of {zxid} after one of {last:?}");
        let image = tree.begin_image();
        let digest = TxnDigest { version: TxnDigest::VERSION, digest: tree.digest() };
        out.snapshot.push(SnapshotPart::Begin {
            zxid,
            digest: self.options.prep.digest_enabled.then_some(digest),
            sessions: self.sessions.iter().collect(),
            acls: tree.image_acls(image),
        });
        self.imaging.state = State::Making(image, zxid);
        (image, zxid)
    }
}
