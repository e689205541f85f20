//! Broadcast: zxids are handed out, acks counted, commits made in order, syncs answered. Mirrors `Leader.propose`,
//! `Leader.processAck`, `Leader.tryToCommit`, `Leader.processSync`.

use std::sync::Arc;

use super::learners::Stage;
use super::{DropReason, Leader, Phase, StepDownReason, Want};
use crate::quorum::Members;
use crate::types::{ConnId, Epoch, ServerId, Zxid};

impl Leader {
    /// The newest zxid handed out, or the epoch's zeroth when nothing was proposed in it.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    /// The newest zxid a quorum has; 0 until the leader is established.
    pub fn last_committed(&self) -> Zxid {
        self.last_committed
    }

    /// Whether this epoch has no zxid left.
    pub fn is_exhausted(&self) -> bool {
        self.last_proposed.counter() >= self.last_counter
    }

    /// Takes the next zxid for a proposal. `None` when the zxids of the epoch are used up: then the leader has stepped down,
    /// so that an election begins the next epoch, or, being alone, should have called [`Leader::begin_epoch`] before.
    ///
    /// # Panics
    /// If the leader is not established.
    #[inline]
    pub fn propose(&mut self, wants: &mut Vec<Want>) -> Option<Zxid> {
        assert!(self.phase == Phase::Broadcast, "a proposal in {:?}", self.phase);
        if self.is_exhausted() {
            self.step_down(StepDownReason::EpochExhausted(self.last_proposed), wants);
            return None;
        }
        let zxid = Zxid(self.last_proposed.0 + 1);
        assert!(zxid.epoch() == self.last_proposed.epoch() && zxid.counter() > 0, "{zxid} is no zxid for a proposal");
        self.last_proposed = zxid;
        assert!(self.last_committed < zxid, "{zxid} is proposed and committed already");
        Some(zxid)
    }

    /// The proposal that was just handed a zxid is a reconfig to `members`: from it on, a quorum of them is needed too.
    ///
    /// # Panics
    /// If another reconfig is not committed yet, or the members' version is not this zxid.
    pub fn proposed_members(&mut self, members: Arc<Members>) {
        assert!(self.phase == Phase::Broadcast && self.may_commit, "a reconfig in {:?}", self.phase);
        assert_eq!(members.version(), self.last_proposed, "a configuration with the version of another proposal");
        self.quorums.propose(members, self.last_proposed);
    }

    /// Starts the epoch after the current one, whose last proposals keep their zxids. Returns the new epoch.
    ///
    /// # Panics
    /// If this server is not the only member: others have to elect a leader for a new epoch.
    pub fn begin_epoch(&mut self) -> Epoch {
        let old = self.last_proposed.epoch();
        assert!(
            self.quorums.current().is_standalone(),
            "a leader of others begins an epoch behind {old:?} without them"
        );
        let epoch = Epoch(old.0 + 1);
        assert!(epoch.0 <= i64::from(i32::MAX), "no epoch is left behind {old:?}");
        let first = Zxid::new(epoch, 0);
        assert!(first > self.last_proposed, "the epoch falls from {} to {first}", self.last_proposed);
        self.last_proposed = first;
        self.epoch = epoch;
        assert!(!self.is_exhausted(), "an epoch begins without zxids at {first}");
        epoch
    }

    /// This server's own log has everything up to `zxid` durably: its own ack.
    ///
    /// # Panics
    /// If that was never proposed.
    pub fn synced(&mut self, zxid: Zxid, wants: &mut Vec<Want>) {
        if self.phase == Phase::Over {
            return;
        }
        assert!(zxid <= self.last_proposed, "{zxid} is durable, but only {} was proposed", self.last_proposed);
        assert!(zxid >= Zxid::ZERO, "{zxid} is durable, which is no transaction");
        self.count(self.me, false, zxid, wants);
    }

    /// A learner acknowledges NEWLEADER, UPTODATE (both with the epoch's zeroth zxid), or a proposal and all before it:
    /// learners of every kind log and acknowledge in order.
    pub fn ack(&mut self, conn: ConnId, zxid: Zxid, wants: &mut Vec<Want>) {
        let (zeroth, proposed, now) = (Zxid::new(self.epoch, 0), self.last_proposed, self.half_ticks);
        let Some(learner) = self.learners.get_mut(conn) else { return };
        learner.heard = now;
        let (server, observer, stage) = (learner.server, learner.observer, learner.stage);
        if stage < Stage::Syncing || (stage == Stage::Syncing && zxid == zeroth) {
            return self.close(conn, DropReason::OutOfTurn("ACK"), wants);
        }
        if zxid > proposed {
            return self.close(conn, DropReason::NeverProposed { claimed: zxid, proposed }, wants);
        }
        if stage == Stage::Sent && zxid == zeroth {
            return self.new_leader_acked(conn, wants);
        }
        // What is older than the epoch is committed.
        if zxid <= learner.acked || zxid <= zeroth {
            return;
        }
        learner.acked = zxid;
        learner.progress = now;
        // Before NEWLEADER's ack it does not count: some learners acknowledge what synchronisation has brought too early.
        if stage > Stage::Sent {
            self.count(server, observer, zxid, wants);
        }
    }

    /// Counts an ack, and commits what a quorum has now.
    pub(super) fn count(&mut self, server: ServerId, observer: bool, zxid: Zxid, wants: &mut Vec<Want>) {
        if observer || !self.quorums.ack(server, zxid) || self.phase != Phase::Broadcast || !self.may_commit {
            return;
        }
        assert!(zxid <= self.last_proposed, "an ack of {zxid}, but only {} was proposed", self.last_proposed);
        loop {
            let held = self.quorums.commit_point(self.last_committed);
            if held <= self.last_committed {
                return;
            }
            assert!(held <= self.last_proposed, "a quorum has {held}, only {} was proposed", self.last_proposed);
            let Some(reconfig) = self.quorums.pending().filter(|reconfig| *reconfig <= held) else {
                return self.commit(held, wants);
            };
            let before = Zxid(reconfig.0 - 1);
            if before > self.last_committed {
                self.commit(before, wants);
            }
            let designated = self.quorums.designated(self.me, &self.quorums.holders(reconfig));
            self.activate(reconfig, designated, wants);
            // What comes behind it is committed by this server only if that still leads.
            if !self.may_commit {
                return;
            }
        }
    }

    fn commit(&mut self, upto: Zxid, wants: &mut Vec<Want>) {
        assert!(self.may_commit && upto > self.last_committed, "{upto} is committed behind {}", self.last_committed);
        // A SYNC leaves directly behind its COMMIT. The next one may be that of a write which the same client sent after its
        // sync, and whose reply must come later.
        while let Some((behind, _)) = self.syncs.front().copied().filter(|(behind, _)| *behind < upto) {
            assert!(behind > self.last_committed, "a sync behind {behind} was not answered");
            wants.push(Want::Commit { upto: behind });
            self.committed(behind, wants);
        }
        wants.push(Want::Commit { upto });
        self.committed(upto, wants);
    }

    /// The configuration that was proposed at `zxid` is in force.
    pub(super) fn activate(&mut self, zxid: Zxid, designated: ServerId, wants: &mut Vec<Want>) {
        assert!(self.may_commit, "{zxid} is activated, but this server is not designated");
        self.quorums.activate(self.last_proposed);
        wants.push(Want::Activate { zxid, designated });
        self.may_commit = designated == self.me;
        self.committed(zxid, wants);
    }

    fn committed(&mut self, upto: Zxid, wants: &mut Vec<Want>) {
        self.last_committed = upto;
        self.quorums.committed(upto);
        while let Some((behind, conn)) = self.syncs.front().copied().filter(|(behind, _)| *behind <= upto) {
            self.syncs.pop_front();
            wants.push(Want::SyncDone { conn, behind });
        }
    }

    /// A learner's client asks for a sync. It is answered when everything that is outstanding now is committed.
    pub fn sync_asked(&mut self, conn: ConnId, wants: &mut Vec<Want>) {
        let Some(learner) = self.learners.get(conn) else { return };
        if learner.stage != Stage::Follows {
            return self.close(conn, DropReason::OutOfTurn("REQUEST"), wants);
        }
        self.heard(conn);
        let behind = self.last_proposed;
        if behind == self.last_committed {
            wants.push(Want::SyncDone { conn, behind });
            return;
        }
        assert!(self.syncs.back().is_none_or(|(before, _)| *before <= behind), "a sync behind {behind} comes too late");
        self.syncs.push_back((behind, conn));
    }
}
