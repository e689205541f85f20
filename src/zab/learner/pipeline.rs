//! A learner's transactions between PROPOSAL and the tree: what is in the log, what is durable, what is acknowledged, what is
//! committed, and what has to wait behind that. One queue from the first packet of the synchronisation to the end of the term.

use std::collections::VecDeque;

use super::want::{MAX_UNCOMMITTED, Why};
use crate::types::{Cxid, Epoch, ServerId, SessionId, Zxid};

/// What happens only when all that was committed before has been wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    Activate { designated: ServerId },
    Serve,
    SyncDone { session: SessionId, cxid: Cxid },
    Revalidated { session: SessionId, valid: bool },
}

/// What is due: see [`Pipeline::next_due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Commit(Zxid),
    Behind(Zxid, Behind),
}

/// A proposal and the bytes of its transaction.
#[derive(Debug, Clone, Copy)]
struct Proposal {
    zxid: Zxid,
    len: usize,
}

/// Always: released ≤ committed ≤ appended and released ≤ durable ≤ appended.
#[derive(Debug)]
pub(super) struct Pipeline {
    uncommitted: VecDeque<Proposal>,
    uncommitted_bytes: usize,
    unsynced: VecDeque<Proposal>,
    unsynced_bytes: usize,
    /// Proposals that get an ACK each, from NEWLEADER on; `None` where there are no ACKs.
    unacked: Option<VecDeque<Zxid>>,
    behind: VecDeque<(Zxid, Behind)>,
    /// The last one that was given to the log.
    appended: Zxid,
    /// The last one that is durable.
    durable: Zxid,
    /// The last one that the leader committed.
    committed: Zxid,
    /// The last one that the owner was told to apply.
    released: Zxid,
}

/// Whether `zxid` is the next transaction after `last`: the next of its epoch, or the first of a later one.
fn is_next(last: Zxid, zxid: Zxid) -> bool {
    last.0.checked_add(1) == Some(zxid.0) || (zxid.epoch() > last.epoch() && zxid.counter() == 1)
}

impl Pipeline {
    /// Nothing waits, and the history ends at `last`.
    pub(super) fn new(last: Zxid) -> Pipeline {
        Pipeline {
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            unacked: None,
            behind: VecDeque::new(),
            appended: last,
            durable: last,
            committed: last,
            released: last,
        }
    }

    pub(super) fn appended(&self) -> Zxid {
        self.appended
    }

    pub(super) fn durable(&self) -> Zxid {
        self.durable
    }

    pub(super) fn committed(&self) -> Zxid {
        self.committed
    }

    /// Bytes that the log has not made durable yet.
    pub(super) fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// Whether the log has answered for everything.
    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.appended
    }

    /// The log was cut or replaced: the history ends at `last`.
    pub(super) fn rebase(&mut self, last: Zxid) {
        let waits = self.uncommitted.len() + self.unsynced.len() + self.behind.len();
        assert_eq!(waits, 0, "the history is made to end at {last}, and {waits} things wait");
        assert!(self.unacked.is_none(), "the history is made to end at {last} behind NEWLEADER");
        *self = Pipeline::new(last);
    }

    /// A proposal for the log.
    pub(super) fn propose(&mut self, zxid: Zxid, len: usize) -> Result<(), Why> {
        if !is_next(self.appended, zxid) {
            return Err(Why::Gap { last: self.appended, zxid });
        }
        let bytes = self.uncommitted_bytes + len;
        if bytes > MAX_UNCOMMITTED {
            return Err(Why::TooMuch { bytes });
        }
        assert!(zxid > self.durable && zxid > self.committed, "{zxid} is proposed and durable or committed already");
        self.appended = zxid;
        self.uncommitted_bytes = bytes;
        self.unsynced_bytes += len;
        self.uncommitted.push_back(Proposal { zxid, len });
        self.unsynced.push_back(Proposal { zxid, len });
        self.unacked.iter_mut().for_each(|unacked| unacked.push_back(zxid));
        Ok(())
    }

    /// A COMMIT. Only the oldest proposal can be committed.
    pub(super) fn commit(&mut self, zxid: Zxid) -> Result<(), Why> {
        let oldest = self.uncommitted.front().copied();
        let Some(proposal) = oldest.filter(|oldest| oldest.zxid == zxid) else {
            return Err(Why::NotOldest { zxid, oldest: oldest.map(|oldest| oldest.zxid) });
        };
        assert!(zxid > self.committed, "the commit point falls from {} to {zxid}", self.committed);
        self.uncommitted.pop_front();
        self.uncommitted_bytes -= proposal.len;
        self.committed = zxid;
        Ok(())
    }

    /// `what` is due once everything that is committed now is.
    pub(super) fn wait_behind(&mut self, what: Behind) {
        self.behind.push_back((self.committed, what));
    }

    /// Everything up to `zxid` is durable.
    pub(super) fn synced(&mut self, zxid: Zxid) {
        assert!(zxid <= self.appended, "{zxid} is durable, and only {} was appended", self.appended);
        assert!(zxid >= self.durable, "what is durable falls from {} to {zxid}", self.durable);
        while let Some(proposal) = self.unsynced.pop_front_if(|proposal| proposal.zxid <= zxid) {
            self.unsynced_bytes -= proposal.len;
        }
        self.durable = zxid;
    }

    /// From now on each proposal gets its ACK, and so do those of this epoch without COMMIT: the leader may count on this
    /// server for them. For what is older the ACK of NEWLEADER stands.
    pub(super) fn owe_acks(&mut self, epoch: Epoch) {
        assert!(self.unacked.is_none(), "ACKs are owed from two points on");
        let waiting = self.uncommitted.iter().map(|proposal| proposal.zxid);
        self.unacked = Some(waiting.filter(|zxid| zxid.epoch() == epoch).collect());
    }

    /// The next proposal that may be acknowledged.
    pub(super) fn next_ack(&mut self) -> Option<Zxid> {
        let durable = self.durable;
        let zxid = self.unacked.as_mut()?.pop_front_if(|zxid| *zxid <= durable)?;
        assert!(zxid <= self.durable, "{zxid} is acknowledged, and {} is durable", self.durable);
        Some(zxid)
    }

    /// What the owner has to do next, because it is committed and durable.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        let due = self.committed.min(self.durable);
        let first = self.behind.front().map(|(zxid, _)| *zxid).filter(|zxid| *zxid <= due);
        let upto = first.unwrap_or(due);
        if self.released < upto {
            self.released = upto;
            return Some(Due::Commit(upto));
        }
        let (zxid, what) = first.and_then(|_| self.behind.pop_front())?;
        assert!(zxid <= self.released, "{what:?} waits for {zxid}, and {} was wanted", self.released);
        Some(Due::Behind(zxid, what))
    }

    /// `zxid` and what is behind it was not appended after all.
    pub(super) fn take_back(&mut self, zxid: Zxid) {
        assert!(self.durable < zxid && zxid <= self.appended, "{zxid} is taken back, {} is durable", self.durable);
        while let Some(proposal) = self.unsynced.pop_back_if(|proposal| proposal.zxid >= zxid) {
            self.unsynced_bytes -= proposal.len;
        }
        while let Some(proposal) = self.uncommitted.pop_back_if(|proposal| proposal.zxid >= zxid) {
            self.uncommitted_bytes -= proposal.len;
        }
        self.appended = self.unsynced.back().map_or(self.durable, |last| last.zxid);
        self.committed = self.committed.min(self.appended);
        self.unacked.iter_mut().for_each(|unacked| unacked.retain(|acked| *acked < zxid));
        self.behind.retain(|(at, _)| *at < zxid);
    }

    /// The term is over. Only the log's answers are still waited for.
    pub(super) fn end(&mut self) {
        self.uncommitted.clear();
        self.uncommitted_bytes = 0;
        self.unacked = None;
        self.behind.clear();
        assert!(self.released <= self.durable, "{} was wanted, {} is durable", self.released, self.durable);
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        let Pipeline { appended, durable, committed, released, .. } = *self;
        assert!(released <= committed && released <= durable, "{released} of {committed}, {durable} was wanted");
        assert!(durable <= appended && committed <= appended, "{durable}, {committed} of {appended}");
        let bytes = |queue: &VecDeque<Proposal>| queue.iter().map(|proposal| proposal.len).sum::<usize>();
        assert_eq!(bytes(&self.uncommitted), self.uncommitted_bytes, "bytes without COMMIT");
        assert_eq!(bytes(&self.unsynced), self.unsynced_bytes, "bytes that are not durable");
        let rises = |queue: &VecDeque<Proposal>| queue.iter().is_sorted_by(|a, b| is_next(a.zxid, b.zxid));
        assert!(rises(&self.uncommitted) && rises(&self.unsynced), "a hole between the proposals");
        assert_eq!(self.unsynced.is_empty(), durable == appended, "what is not durable up to {appended}");
        assert!(self.behind.iter().is_sorted_by_key(|(zxid, _)| *zxid), "what waits is out of order");
    }
}
