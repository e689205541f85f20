//! What one learner was sent of the history, and how much of that has not left yet.
//!
//! A learner either *reads*: it is given committed proposals in chunks, as it takes them; or it is *live*: it is sent what
//! the leader broadcasts. It begins with reading and becomes live at the end of the history, in the same step. A live
//! learner that takes less than is broadcast reads again. So the bytes that wait for it are bounded, and it makes
//! progress as long as it reads at all.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::history::{Committed, is_next};
use super::super::message::FromLeader;
use super::wants::{Fault, Outgoing, Want};
use crate::jute::chunk::Chunk;
use crate::limits::{LEARNER_ANSWERS, LEARNER_CHUNK, LEARNER_QUEUE, LEARNER_SYNCS};
use crate::types::{ServerId, Zxid};
use crate::zab::state::Traffic;

/// How many bytes may wait for one learner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LearnerRoom {
    /// Bytes of a snapshot or of missed proposals that are given at a time. More are read when less than this waits.
    pub chunk: usize,
    /// When more bytes wait, the learner is not sent what is broadcast: it reads it later. A single proposal may exceed it.
    pub queue: usize,
}

/// [`LEARNER_CHUNK`] and [`LEARNER_QUEUE`].
impl Default for LearnerRoom {
    fn default() -> LearnerRoom {
        LearnerRoom { chunk: LEARNER_CHUNK, queue: LEARNER_QUEUE }
    }
}

/// The state of one learner's stream.
#[derive(Debug)]
pub(super) struct Stream {
    room: LearnerRoom,
    observer: bool,
    /// NEWLEADER was sent: an observer now gets INFORM instead of PROPOSAL and COMMIT.
    begun: bool,
    /// The last proposal that was sent, or the position where sending began.
    proposed: Zxid,
    /// The last commit that was sent, or the position where sending began.
    committed: Zxid,
    live: bool,
    /// Something was asked for and has not been read yet.
    pub(super) asked: bool,
    /// Bytes that were written and have not left.
    unsent: usize,
    /// Bytes of answers that were written since less than a chunk was unsent.
    answers: usize,
    /// For each unanswered sync, what must be committed before it is answered.
    syncs: VecDeque<Zxid>,
    /// What was sent, for those who ask.
    pub(super) traffic: Traffic,
    chunk: Chunk,
    scratch: Vec<u8>,
}

impl Stream {
    pub(super) fn new(room: LearnerRoom) -> Stream {
        Stream {
            room,
            observer: false,
            begun: false,
            proposed: Zxid::NONE,
            committed: Zxid::NONE,
            live: false,
            asked: false,
            unsent: 0,
            answers: 0,
            syncs: VecDeque::new(),
            traffic: Traffic::default(),
            chunk: Chunk::default(),
            scratch: Vec::new(),
        }
    }

    /// The learner's history ends at `position`, now or when it has read what was sent.
    pub(super) fn begin(&mut self, observer: bool, position: Zxid) {
        assert!(self.proposed == Zxid::NONE && !self.live, "the stream began at {} already", self.proposed);
        assert!(position >= Zxid::ZERO, "a stream behind {position}");
        self.observer = observer;
        (self.proposed, self.committed) = (position, position);
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn committed(&self) -> Zxid {
        self.committed
    }

    pub(super) fn proposed(&self) -> Zxid {
        self.proposed
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether there is room for another chunk.
    pub(super) fn has_room(&self) -> bool {
        self.unsent < self.room.chunk
    }

    pub(super) fn write(&mut self, bytes: Bytes, wants: &mut Vec<Want>) {
        assert!(!bytes.is_empty(), "nothing is written");
        self.unsent += bytes.len();
        wants.push(Want::Write(bytes));
    }

    /// Writes a short packet.
    pub(super) fn say(&mut self, message: &FromLeader<'_>, wants: &mut Vec<Want>) {
        self.scratch.clear();
        message.put(&mut self.scratch);
        let bytes = self.chunk.keep(&self.scratch);
        self.packet(bytes, wants);
    }

    fn packet(&mut self, bytes: Bytes, wants: &mut Vec<Want>) {
        self.traffic.sent += 1;
        self.write(bytes, wants);
    }

    /// Writes an answer. They are not held back when the learner does not read, so their number is bounded.
    pub(super) fn answer(&mut self, message: &FromLeader<'_>, wants: &mut Vec<Want>) -> Result<(), Fault> {
        let before = self.unsent;
        self.say(message, wants);
        self.answers += self.unsent - before;
        if self.answers > LEARNER_ANSWERS { Err(Fault::AnswersUnread) } else { Ok(()) }
    }

    /// So many bytes have left.
    pub(super) fn left(&mut self, bytes: usize) {
        assert!(bytes <= self.unsent, "{bytes} bytes have left, {} were written", self.unsent);
        self.unsent -= bytes;
        if self.has_room() {
            self.answers = 0;
        }
    }

    /// Sends committed proposals that were read.
    ///
    /// # Errors
    /// They are not the ones behind what was sent before.
    pub(super) fn feed(&mut self, list: &[Committed], wants: &mut Vec<Want>) -> Result<(), Fault> {
        assert!(!self.live, "a live learner is fed");
        let mut out = Vec::new();
        for Committed { zxid, txn } in list {
            let zxid = *zxid;
            if !is_next(self.committed, zxid) {
                return Err(Fault::Unreadable(format!("{zxid} comes behind {}", self.committed)));
            }
            if self.observer && self.begun {
                FromLeader::Inform { zxid, txn }.put(&mut out);
            } else {
                if zxid > self.proposed {
                    FromLeader::Proposal { zxid, txn }.put(&mut out);
                    self.traffic.sent += 1;
                }
                FromLeader::Commit(zxid).put(&mut out);
            }
            self.traffic.sent += 1;
            self.traffic.last_zxid = zxid;
            self.committed = zxid;
            self.proposed = self.proposed.max(zxid);
            if self.syncs.front().is_some_and(|at| *at <= zxid) {
                // Directly behind that commit: the next one may be that of a write which was asked for after the sync.
                self.write(std::mem::take(&mut out).into(), wants);
                self.answer_syncs(wants)?;
            }
        }
        if !out.is_empty() {
            self.write(out.into(), wants);
        }
        self.answer_syncs(wants)
    }

    /// Sends what is outstanding and makes the learner live, unless there is no room for all of it: then it reads on.
    ///
    /// # Errors
    /// See [`Stream::answer`].
    pub(super) fn join(&mut self, outstanding: &[&Outgoing], wants: &mut Vec<Want>) -> Result<(), Fault> {
        assert!(!self.live, "a learner joins twice");
        let mut last = self.committed;
        for outgoing in outstanding {
            let zxid = outgoing.zxid();
            assert!(is_next(last, zxid), "{zxid} is outstanding behind {last}");
            last = zxid;
            if self.observer || zxid <= self.proposed {
                continue;
            }
            if self.unsent > self.room.queue {
                return Ok(());
            }
            self.propose(outgoing, wants);
        }
        assert!(self.observer || self.proposed == last, "{last} is outstanding, {} was proposed", self.proposed);
        self.live = true;
        self.answer_syncs(wants)
    }

    /// NEWLEADER is written next.
    pub(super) fn begin_epoch(&mut self) {
        assert!(self.live && !self.begun, "an epoch begins twice, or in the middle of the history");
        self.begun = true;
    }

    /// The leader proposes something.
    pub(super) fn proposal(&mut self, outgoing: &Outgoing, wants: &mut Vec<Want>) {
        if !self.live || self.observer {
            return;
        }
        if self.unsent > self.room.queue {
            self.live = false;
            return;
        }
        self.propose(outgoing, wants);
    }

    fn propose(&mut self, outgoing: &Outgoing, wants: &mut Vec<Want>) {
        let zxid = outgoing.zxid();
        assert!(is_next(self.proposed, zxid), "{zxid} is proposed behind {}", self.proposed);
        assert!(!self.observer, "{zxid} is proposed to an observer");
        self.packet(outgoing.proposal(), wants);
        self.proposed = zxid;
        self.traffic.last_zxid = zxid;
    }

    /// The leader commits something.
    pub(super) fn commit(&mut self, outgoing: &Outgoing, wants: &mut Vec<Want>) -> Result<(), Fault> {
        if self.live && self.observer && self.unsent > self.room.queue {
            self.live = false;
        }
        if !self.live {
            return Ok(());
        }
        let zxid = self.next_commit(outgoing);
        if self.observer {
            assert!(self.begun, "INFORM of {zxid} before NEWLEADER");
            self.packet(outgoing.inform(), wants);
        } else {
            self.say(&FromLeader::Commit(zxid), wants);
        }
        self.answer_syncs(wants)
    }

    /// The leader commits a reconfig, which takes effect.
    pub(super) fn activate(
        &mut self,
        outgoing: &Outgoing,
        designated: ServerId,
        wants: &mut Vec<Want>,
    ) -> Result<(), Fault> {
        if !self.live {
            // Before NEWLEADER it is a commit as any other: the configuration comes with NEWLEADER.
            return if self.begun { Err(Fault::BehindReconfig(outgoing.zxid())) } else { Ok(()) };
        }
        let zxid = self.next_commit(outgoing);
        if self.observer {
            let txn = outgoing.txn();
            self.say(&FromLeader::InformAndActivate { zxid, designated, txn }, wants);
        } else {
            self.say(&FromLeader::CommitAndActivate { zxid, designated }, wants);
        }
        self.answer_syncs(wants)
    }

    fn next_commit(&mut self, outgoing: &Outgoing) -> Zxid {
        let zxid = outgoing.zxid();
        assert!(is_next(self.committed, zxid), "{zxid} is committed behind {}", self.committed);
        assert!(self.observer || zxid <= self.proposed, "{zxid} is committed, but only {} was proposed", self.proposed);
        self.committed = zxid;
        self.proposed = self.proposed.max(zxid);
        self.traffic.last_zxid = zxid;
        zxid
    }

    /// A sync may be answered once everything up to `at` is committed at the learner.
    pub(super) fn sync_done(&mut self, at: Zxid, wants: &mut Vec<Want>) -> Result<(), Fault> {
        assert!(self.syncs.back().is_none_or(|last| *last <= at), "a sync at {at} is done before an older one");
        self.syncs.push_back(at);
        if self.syncs.len() > LEARNER_SYNCS {
            return Err(Fault::AnswersUnread);
        }
        self.answer_syncs(wants)
    }

    fn answer_syncs(&mut self, wants: &mut Vec<Want>) -> Result<(), Fault> {
        while self.syncs.pop_front_if(|at| *at <= self.committed || self.live).is_some() {
            self.answer(&FromLeader::Sync, wants)?;
        }
        Ok(())
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        assert!(self.committed <= self.proposed, "{} is committed, {} proposed", self.committed, self.proposed);
        assert!(!self.observer || self.committed == self.proposed, "an observer was proposed {}", self.proposed);
        assert!(!(self.live && self.asked), "a live learner waits for something to be read");
        assert!(self.syncs.iter().is_sorted(), "syncs are answered out of order");
        assert!(self.syncs.is_empty() || !self.live, "a sync of a live learner is not answered");
        assert!(self.answers <= LEARNER_ANSWERS, "{} bytes of answers wait", self.answers);
        assert!(!self.live || self.proposed >= Zxid::ZERO, "live before anything was sent");
    }
}
