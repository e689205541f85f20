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

/// Names one question for a snapshot, so that its answer finds back to whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnapshotTicket(pub u64);

/// Why no snapshot is taken for who asked. One that cannot be written ends the process instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotRefused {
    /// Too many wait for one already.
    #[error("{} others already wait for a snapshot", limits::SNAPSHOTS_ASKED)]
    TooMany,
}

/// The answer to [`Input::SnapshotAsked`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotAnswer {
    /// The question's.
    pub ticket: SnapshotTicket,
    /// The last transaction in a durable snapshot that holds all that was applied when it was asked for.
    pub result: Result<Zxid, SnapshotRefused>,
}

/// Whether a snapshot is being taken, how far it is, and who waits for one. Nobody else keeps any of this.
#[derive(Debug, Default)]
pub(super) struct Imaging {
    state: State,
    /// Bytes made and not yet written.
    backlog: usize,
    /// Who asked, and the last transaction that was applied then.
    asked: Vec<(SnapshotTicket, Zxid)>,
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
    /// The next [`Peer::apply`] begins one.
    Due,
    /// As of this transaction, a piece at a time.
    Making(ImageId, Zxid),
    /// All pieces of the one as of this transaction are made.
    Writing(Zxid),
}

impl Imaging {
    pub(super) fn is_running(&self) -> bool {
        self.state != State::None
    }

    pub(super) fn has_work(&self) -> bool {
        match self.state {
            State::Due => true,
            State::Making(..) => self.backlog < limits::IMAGE_BACKLOG,
            State::None | State::Writing(_) => false,
        }
    }

    /// The log wants a snapshot.
    pub(super) fn due(&mut self) {
        if self.is_running() {
            tracing::warn!("too busy to snapshot: the previous one is still being written");
            return;
        }
        self.state = State::Due;
    }

    /// Somebody wants a snapshot of all that is applied now. One that is under way will do if it is as of `applied`; otherwise
    /// another one follows it.
    pub(super) fn ask(&mut self, ticket: SnapshotTicket, applied: Zxid, out: &mut Outbox) {
        assert!(self.asked.iter().all(|(other, _)| *other != ticket), "{ticket:?} is used twice");
        if self.asked.len() == limits::SNAPSHOTS_ASKED {
            out.snapshot_answers.push(SnapshotAnswer { ticket, result: Err(SnapshotRefused::TooMany) });
            return;
        }
        self.asked.push((ticket, applied));
        if !self.is_running() {
            self.state = State::Due;
        }
    }

    /// The writer took this many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        assert!(bytes <= self.backlog, "{bytes} bytes of a snapshot are written, but only {} were made", self.backlog);
        self.backlog -= bytes;
    }

    /// The snapshot is durable under its name.
    pub(super) fn done(&mut self, zxid: Zxid, took_ms: i64, now: Now, out: &mut Outbox) {
        assert_eq!(self.state, State::Writing(zxid), "a snapshot of {zxid} is finished");
        assert_eq!(self.backlog, 0, "a snapshot is finished before it is written");
        tracing::info!(%zxid, took_ms, "snapshot written");
        self.last = Some(Finished { zxid, took_ms, at_wall_ms: now.wall_ms });
        let answered = self.asked.extract_if(.., |(_, applied)| *applied <= zxid);
        out.snapshot_answers.extend(answered.map(|(ticket, _)| SnapshotAnswer { ticket, result: Ok(zxid) }));
        self.state = if self.asked.is_empty() { State::None } else { State::Due };
    }

    /// Asserts the invariants; `applied` is the tree's last transaction.
    pub(super) fn check(&self, applied: Zxid) {
        assert!(self.asked.is_empty() || self.is_running(), "nobody will answer {:?}", self.asked);
        assert!(self.asked.len() <= limits::SNAPSHOTS_ASKED);
        assert!(
            self.asked.iter().all(|(_, asked)| *asked <= applied),
            "a snapshot of what is not applied is waited for"
        );
        match self.state {
            State::Making(_, zxid) | State::Writing(zxid) => assert!(zxid <= applied, "a snapshot of {zxid}"),
            State::None | State::Due => assert_eq!(self.backlog, 0, "pieces of no snapshot wait to be written"),
        }
    }
}

impl Peer {
    /// Makes the next piece, if a snapshot is in the making and its writer keeps up.
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
        assert!(last.is_none_or(|last| last <= zxid), "a snapshot of {zxid} behind one of {last:?}");
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
