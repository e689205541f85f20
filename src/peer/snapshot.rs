//! Snapshots taken while serving: the tree's image as of one zxid, made a piece at a time between transactions, so that no
//! request waits for more than one piece. Mirrors the snapshot thread of `SyncRequestProcessor`.

use super::{Input, Outbox, Peer};
use crate::limits;
use crate::tree::{ImageId, Tree};
use crate::txn::TxnDigest;
use crate::txnlog::snapshotter::SnapshotEvent;
pub use crate::txnlog::snapshotter::SnapshotPart;
use crate::types::{Now, Zxid};

impl From<SnapshotEvent> for Input {
    fn from(event: SnapshotEvent) -> Input {
        match event {
            SnapshotEvent::Took(bytes) => Input::SnapshotTook(bytes),
            SnapshotEvent::Done { zxid, took_ms } => Input::SnapshotDone { zxid, took_ms },
        }
    }
}

/// Where the snapshot in the making stands.
#[derive(Debug, Default)]
pub(super) struct Imaging {
    state: State,
    /// Bytes made and not yet written.
    backlog: usize,
    /// Of the last finished one.
    pub(super) last: Option<Finished>,
}

/// A finished snapshot.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Finished {
    pub zxid: Zxid,
    pub took_ms: i64,
    /// Milliseconds since 1970.
    pub at_wall_ms: i64,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    None,
    Asked,
    Making(ImageId),
    Writing,
}

impl Imaging {
    pub(super) fn is_running(&self) -> bool {
        self.state != State::None
    }

    pub(super) fn has_work(&self) -> bool {
        match self.state {
            State::Asked => true,
            State::Making(_) => self.backlog < limits::IMAGE_BACKLOG,
            State::None | State::Writing => false,
        }
    }

    pub(super) fn ask(&mut self, zxid: Zxid) {
        tracing::debug!(%zxid, "a snapshot is due");
        self.state = State::Asked;
        self.backlog = 0;
    }

    pub(super) fn took(&mut self, bytes: usize) {
        self.backlog -= bytes;
    }

    pub(super) fn done(&mut self, zxid: Zxid, took_ms: i64, now: Now) {
        tracing::info!(%zxid, took_ms, "snapshot written");
        self.state = State::None;
        self.last = Some(Finished { zxid, took_ms, at_wall_ms: now.wall_ms });
    }
}

impl Peer {
    /// Makes the next piece, if a snapshot is in the making and its writer keeps up.
    pub(super) fn image_turn(&mut self, tree: &mut Tree, out: &mut Outbox) {
        if !self.imaging.has_work() {
            return;
        }
        let image = match self.imaging.state {
            State::Making(image) => image,
            _ => self.begin_image(tree, out),
        };
        let mut nodes = Vec::with_capacity(limits::IMAGE_CHUNK + 1024);
        let done = tree.image_chunk(image, limits::IMAGE_CHUNK, &mut nodes);
        self.imaging.backlog += nodes.len();
        out.snapshot.push(SnapshotPart::Nodes(nodes));
        if done {
            out.snapshot.push(SnapshotPart::End);
            self.imaging.state = State::Writing;
        }
    }

    fn begin_image(&mut self, tree: &mut Tree, out: &mut Outbox) -> ImageId {
        let image = tree.begin_image();
        let digest = TxnDigest { version: TxnDigest::VERSION, digest: tree.digest() };
        out.snapshot.push(SnapshotPart::Begin {
            zxid: tree.last_zxid(),
            digest: self.options.prep.digest_enabled.then_some(digest),
            sessions: self.sessions.iter().collect(),
            acls: tree.image_acls(image),
        });
        self.imaging.state = State::Making(image);
        image
    }
}
