//! Snapshots while serving: whether one is being taken, how far it is, and who waits for it. `image_turn` makes their
//! pieces. Mirrors the snapshot thread of `SyncRequestProcessor`.

use super::{Input, Outbox};
use crate::limits;
use crate::tree::ImageId;
use crate::txnlog::snapshotter::SnapshotEvent;
pub use crate::txnlog::snapshotter::SnapshotPart;
use crate::types::{Now, Zxid};

impl From<SnapshotEvent> for Input {
    fn from(event: SnapshotEvent) -> Input {
        match event {
            SnapshotEvent::Took(bytes) => Input::SnapshotTook(bytes),
            SnapshotEvent::Done { zxid, took_ms } => Input::SnapshotDone { zxid, took_ms },
            SnapshotEvent::Abandoned => Input::SnapshotAbandoned,
        }
    }
}

/// Identifies one request for a snapshot, so that its answer can be returned to whoever sent it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnapshotTicket(pub u64);

/// Why a request for a snapshot is refused. If a snapshot cannot be written the process ends instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotRefused {
    /// Too many requests are waiting already.
    #[error("{} others already wait for a snapshot: try again later", limits::SNAPSHOTS_ASKED)]
    TooMany,
    /// The server's directory was empty, and no leader has sent it a history yet.
    #[error("this server has no history yet: a snapshot can be taken once a leader has sent it one")]
    NoHistory,
}

/// The answer to [`Input::SnapshotAsked`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotAnswer {
    /// The ticket of the request.
    pub ticket: SnapshotTicket,
    /// The zxid of a durable snapshot that contains everything that was applied when it was requested.
    pub result: Result<Zxid, SnapshotRefused>,
}

/// Whether a snapshot is being taken, how far it is, and who waits for one. This is the only place with this state.
#[derive(Debug, Default)]
pub(super) struct Imaging {
    pub(super) state: State,
    /// Bytes made and not yet written.
    pub(super) backlog: usize,
    /// The requests, each with the last transaction applied when it came.
    asked: Vec<(SnapshotTicket, Zxid)>,
    /// The last finished snapshot.
    pub(super) last: Option<Finished>,
    /// The log asked for another one before the present one was written, and the log says so.
    is_told_late: bool,
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

/// How far a snapshot is.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(super) enum State {
    #[default]
    None,
    /// The next turn that applies begins a snapshot.
    Due,
    /// A snapshot of this zxid is being made, a piece at a time.
    Making(ImageId, Zxid),
    /// All pieces of the snapshot of this zxid are made, but not all are written.
    Writing(Zxid),
    /// The tree will be replaced: the writer was told to forget what it has. It may have finished just before.
    Abandoning,
    /// The writer has nothing any more; the tree will be replaced.
    Held,
}

impl Imaging {
    pub(super) fn is_running(&self) -> bool {
        self.state != State::None
    }

    pub(super) fn has_work(&self) -> bool {
        match self.state {
            State::Due => true,
            State::Making(..) => self.backlog < limits::IMAGE_BACKLOG,
            State::None | State::Writing(_) | State::Abandoning | State::Held => false,
        }
    }

    /// The tree will be replaced. The answer is [`Imaging::abandoned`].
    pub(super) fn abandon(&mut self, out: &mut Outbox) {
        assert!(!matches!(self.state, State::Abandoning | State::Held), "the tree is replaced twice");
        self.state = State::Abandoning;
        out.snapshot.push(SnapshotPart::Abandon);
    }

    /// Nothing of the tree is being written any more, and nothing will be before [`Imaging::replaced`].
    pub(super) fn abandoned(&mut self) {
        assert_eq!(self.state, State::Abandoning, "a snapshot is abandoned that should be written");
        (self.state, self.backlog) = (State::Held, 0);
    }

    /// The tree is another one, as of `last`, or stays what it was. Who waits for a snapshot gets one of what there is now.
    pub(super) fn replaced(&mut self, last: Zxid) {
        assert_eq!(self.state, State::Held, "the tree is replaced while a snapshot of it is made");
        self.last = None;
        self.asked.iter_mut().for_each(|(_, applied)| *applied = last.min(*applied));
        self.state = if self.asked.is_empty() { State::None } else { State::Due };
    }

    /// The log asks for a snapshot.
    pub(super) fn due(&mut self) {
        if matches!(self.state, State::Abandoning | State::Held) {
            // Of a history that will be gone.
            return;
        }
        if self.is_running() {
            // A member that catches up logs so fast that the log asks again and again.
            if !std::mem::replace(&mut self.is_told_late, true) {
                tracing::warn!("too busy to snapshot: the previous one is still being written");
            }
            return;
        }
        self.state = State::Due;
    }

    /// A learner needs a snapshot. One that is in progress is awaited.
    pub(super) fn wish(&mut self) {
        if !self.is_running() {
            self.state = State::Due;
        }
    }

    /// An administrator wants a snapshot of everything applied so far. If one of zxid `applied` is in progress it is
    /// enough; otherwise another one follows it.
    pub(super) fn ask(&mut self, ticket: SnapshotTicket, applied: Zxid, out: &mut Outbox) {
        assert!(self.asked.iter().all(|(other, _)| *other != ticket), "{ticket:?} is used twice");
        let refused = match self.asked.len() {
            _ if applied == Zxid::NONE => Some(SnapshotRefused::NoHistory),
            limits::SNAPSHOTS_ASKED => Some(SnapshotRefused::TooMany),
            _ => None,
        };
        if let Some(why) = refused {
            out.snapshot_answers.push(SnapshotAnswer { ticket, result: Err(why) });
            return;
        }
        self.asked.push((ticket, applied));
        if !self.is_running() {
            self.state = State::Due;
        }
    }

    /// The writer has written this many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        assert!(bytes <= self.backlog, "{bytes} bytes of a snapshot are written, but only {} were made", self.backlog);
        self.backlog -= bytes;
    }

    /// The snapshot is durable under its name.
    pub(super) fn done(&mut self, zxid: Zxid, took_ms: i64, now: Now, out: &mut Outbox) {
        tracing::info!(%zxid, took_ms, "snapshot written");
        if self.state == State::Abandoning {
            return;
        }
        assert_eq!(self.state, State::Writing(zxid), "a snapshot of {zxid} is finished");
        assert_eq!(self.backlog, 0, "a snapshot is finished before it is written");
        self.last = Some(Finished { zxid, took_ms, at_wall_ms: now.wall_ms });
        self.is_told_late = false;
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
            State::None | State::Due | State::Held => {
                assert_eq!(self.backlog, 0, "pieces of no snapshot wait to be written");
            }
            State::Abandoning => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    /// Counts lines of the log.
    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(usize::from(*event.metadata().level() == tracing::Level::WARN), Ordering::Relaxed);
        }
    }

    #[test]
    fn a_snapshot_that_takes_long_is_complained_of_once() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        let (mut imaging, mut out) = (Imaging::default(), Outbox::default());
        tracing::subscriber::with_default(subscriber, || {
            for zxid in [7, 9].map(Zxid) {
                imaging.due();
                let before = lines.0.load(Ordering::Relaxed);
                imaging.state = State::Writing(zxid);
                (0..50).for_each(|_| imaging.due());
                assert_eq!(lines.0.load(Ordering::Relaxed), before + 1);
                imaging.done(zxid, 5, Now::default(), &mut out);
            }
        });
    }
}
