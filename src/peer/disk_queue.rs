//! The owner's requests to the disk, on their way: each answer must be that of the oldest.

use std::collections::VecDeque;

use super::Outbox;
use super::disk::{DiskAnswer, DiskDone, DiskJob, DiskRequest};
use crate::types::{Epoch, Term, Zxid};

/// A request without an answer.
#[derive(Debug)]
enum Asked {
    SaveAccepted(Epoch),
    SaveCurrent(Epoch),
    Truncate(Zxid),
    Receive,
    Chunk(usize),
    Install,
    Abandon,
}

impl Asked {
    fn of(job: &DiskJob) -> Asked {
        match job {
            DiskJob::SaveAccepted(epoch) => Asked::SaveAccepted(*epoch),
            DiskJob::SaveCurrent(epoch) => Asked::SaveCurrent(*epoch),
            DiskJob::Truncate(to) => Asked::Truncate(*to),
            DiskJob::Receive(_) => Asked::Receive,
            DiskJob::Chunk(bytes) => Asked::Chunk(bytes.len()),
            DiskJob::Install => Asked::Install,
            DiskJob::Abandon => Asked::Abandon,
        }
    }
}

impl Asked {
    /// Whether `done` is an answer to this.
    fn is_answered_by(&self, done: &DiskDone) -> bool {
        match (self, done) {
            (Asked::SaveAccepted(epoch), DiskDone::SavedAccepted(saved)) => epoch == saved,
            (Asked::SaveCurrent(epoch), DiskDone::SavedCurrent(saved) | DiskDone::UnsavedCurrent(saved)) => {
                epoch == saved
            }
            (Asked::Truncate(to), DiskDone::Truncated(loaded)) => loaded.tree.last_zxid() == *to,
            (Asked::Truncate(to), DiskDone::Uncut { to: asked, .. }) => asked == to,
            (Asked::Chunk(bytes), DiskDone::Stored(stored)) => bytes == stored,
            (Asked::Install, DiskDone::Installed(_) | DiskDone::Damaged(_)) => true,
            (Asked::Receive, DiskDone::Receiving) | (Asked::Abandon, DiskDone::Abandoned) => true,
            _ => false,
        }
    }
}

/// Requests on their way, oldest first. Requests that replace the tree wait until no snapshot of it is being
/// written: such a snapshot could get its name after the history that it belongs to is gone.
#[derive(Debug, Default)]
pub(super) struct DiskQueue {
    asked: VecDeque<(Term, Asked)>,
    /// Behind a request that replaces the tree; sent once [`DiskQueue::may_replace`] is called.
    held: VecDeque<DiskRequest>,
}

impl DiskQueue {
    /// Asks for a job. Returns whether it waits for [`DiskQueue::may_replace`].
    pub(super) fn ask(&mut self, term: Term, job: DiskJob, out: &mut Outbox) -> bool {
        let last = self.asked.back().map(|(term, _)| *term).max(self.held.back().map(|request| request.term));
        assert!(last.is_none_or(|last| last <= term), "{term:?} asks for {job:?} after {last:?}");
        let replaces = matches!(job, DiskJob::Truncate(_) | DiskJob::Install);
        let request = DiskRequest { term, job };
        if replaces || !self.held.is_empty() {
            self.held.push_back(request);
            return replaces;
        }
        self.send(request, out);
        false
    }

    /// No snapshot is being written, and none will begin before the tree is replaced.
    pub(super) fn may_replace(&mut self, out: &mut Outbox) {
        while let Some(request) = self.held.pop_front() {
            self.send(request, out);
        }
    }

    fn send(&mut self, request: DiskRequest, out: &mut Outbox) {
        self.asked.push_back((request.term, Asked::of(&request.job)));
        out.disk.push(request);
    }

    /// The oldest request is answered.
    ///
    /// # Panics
    /// If this was not asked for.
    pub(super) fn answered(&mut self, answer: &DiskAnswer) {
        let (term, asked) = self.asked.pop_front().unwrap_or_else(|| panic!("{answer:?} was not asked for"));
        assert_eq!(term, answer.term, "{asked:?} is answered in another term");
        assert!(asked.is_answered_by(&answer.done), "{asked:?} is answered with {:?}", answer.done);
    }

    /// Whether everything that was asked for is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.held.is_empty()
    }
}
