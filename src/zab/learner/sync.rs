//! From the introduction to NEWLEADER's ACK: discovery of the epoch, and the history that the leader sends. Mirrors
//! `Learner.registerWithLeader` and `Learner.syncWithLeader`.

use bytes::Bytes;

use super::image::{Image, Walked};
use super::*;
use crate::zab::message::{FromLeader, FromLearner};

impl Learner {
    /// LEADERINFO: a leader of an epoch that is over is not followed, even if it is established. Nobody else looks at that. An
    /// observer's promise counts for nobody, so it follows unless its history is of a newer epoch; Apache's never does.
    pub(super) fn discover(
        &mut self,
        said: FromLeader<'_>,
        name: &'static str,
        wants: &mut Vec<Want>,
    ) -> Result<(), Why> {
        let FromLeader::LeaderInfo { epoch, .. } = said else { return Err(self.unexpected(name)) };
        let is_bound = self.options.role == Role::Participant;
        let least = if is_bound { self.accepted } else { self.current };
        if epoch < least {
            return Err(Why::OldEpoch { epoch, accepted: least });
        }
        self.epoch = epoch;
        self.is_new_epoch = epoch > self.accepted;
        if self.is_new_epoch {
            self.phase = Phase::Accepting;
            self.ask(Job::Accepted(epoch), Want::SaveAccepted(epoch), wants);
        } else {
            self.acknowledge_info(wants);
        }
        Ok(())
    }

    /// ACKEPOCH. The epoch is durable. If it was accepted before, perhaps for another leader, that promise counts for no
    /// quorum: so it goes without the epoch of the history.
    pub(super) fn acknowledge_info(&mut self, wants: &mut Vec<Want>) {
        let is_accepted = self.accepted == self.epoch || self.options.role == Role::Observer;
        assert!(is_accepted && self.accepted >= self.epoch, "{:?} is acknowledged and not durable", self.epoch);
        let current = self.is_new_epoch.then_some(self.current);
        say(&FromLearner::AckEpoch { last: self.pipeline.appended(), current }, wants);
        self.phase = Phase::Choosing;
    }

    /// DIFF, TRUNC or SNAP.
    pub(super) fn choose(
        &mut self,
        said: FromLeader<'_>,
        name: &'static str,
        wants: &mut Vec<Want>,
    ) -> Result<(), Why> {
        let last = self.pipeline.appended();
        match said {
            FromLeader::Diff(zxid) => {
                self.promised = Some(zxid);
                self.phase = Phase::Syncing;
            }
            FromLeader::Trunc(to) | FromLeader::Snap(to) if to < Zxid::ZERO => {
                return Err(Why::Nowhere { name, to, last });
            }
            FromLeader::Trunc(to) if to > last => return Err(Why::Nowhere { name, to, last }),
            FromLeader::Trunc(to) => {
                self.caught_up.by = By::Trunc(to);
                self.phase = Phase::Truncating;
                self.ask(Job::Truncate(to), Want::Truncate { to }, wants);
            }
            FromLeader::Snap(zxid) if zxid.epoch() > self.epoch => {
                return Err(Why::WrongEpoch { name, zxid, epoch: self.epoch });
            }
            FromLeader::Snap(zxid) => {
                self.phase = Phase::Receiving;
                self.image = Some(Image::new(zxid));
                self.caught_up.by = By::Snap { zxid, bytes: 0 };
                wants.push(Want::Install(Install::Begin { zxid }));
            }
            _ => return Err(self.unexpected(name)),
        }
        Ok(())
    }

    /// A part of the snapshot's stream, which ends with a signature. Returns how much of `bytes` was read.
    pub(super) fn read_image(&mut self, bytes: &[u8], wants: &mut Vec<Want>) -> Result<usize, Why> {
        let image = self.image.as_mut().expect("a snapshot is being received");
        let Walked { image: len, taken, is_whole } = image.walk(bytes)?;
        if len > 0 {
            self.unstored += len;
            match &mut self.caught_up.by {
                By::Snap { bytes: came, .. } => *came += len as u64,
                by => panic!("a snapshot comes after {by:?}"),
            }
            wants.push(Want::Install(Install::Chunk(Bytes::copy_from_slice(&bytes[..len]))));
        }
        if is_whole {
            let zxid = image.zxid();
            self.image = None;
            self.in_image = Some(zxid);
            self.phase = Phase::Installing;
            self.ask(Job::Install(zxid), Want::Install(Install::End), wants);
        }
        Ok(taken)
    }

    /// The history on the disk was cut or replaced.
    pub(super) fn rebase(&mut self, last: Zxid, wants: &mut Vec<Want>) {
        self.pipeline.rebase(last);
        if self.phase != Phase::Ended {
            assert!(matches!(self.phase, Phase::Truncating | Phase::Installing), "{:?} ends at {last}", self.phase);
            self.phase = Phase::Syncing;
            self.read_on(wants);
        }
        self.check_in_debug_builds();
    }

    /// NEWLEADER: the history is complete. It is acknowledged when it is durable, and `currentEpoch` after it.
    pub(super) fn new_leader(&mut self, zxid: Zxid, config: Option<&[u8]>, wants: &mut Vec<Want>) -> Result<(), Why> {
        assert_eq!(self.phase, Phase::Syncing, "NEWLEADER in {:?}", self.phase);
        if zxid != Zxid::new(self.epoch, 0) {
            return Err(Why::WrongEpoch { name: "NEWLEADER", zxid, epoch: self.epoch });
        }
        let last = self.pipeline.appended();
        if let Some(promised) = self.promised.filter(|promised| *promised > last) {
            return Err(Why::Short { last, promised });
        }
        self.in_image = None;
        if self.options.role == Role::Participant {
            self.pipeline.owe_acks(self.epoch);
        }
        // Apache takes one byte for no configuration.
        if let Some(config) = config.filter(|config| config.len() > 1) {
            wants.push(Want::SeenConfig(Bytes::copy_from_slice(config)));
        }
        self.phase = Phase::Logging(last);
        self.is_exact = true;
        self.save_epoch_if_logged(wants);
        Ok(())
    }

    /// Goes on once the whole history is durable.
    pub(super) fn save_epoch_if_logged(&mut self, wants: &mut Vec<Want>) {
        let Phase::Logging(last) = self.phase else { return };
        if self.pipeline.durable() < last {
            return;
        }
        if self.current == self.epoch {
            self.acknowledge_epoch(wants);
        } else {
            self.phase = Phase::Saving;
            self.ask(Job::Current(self.epoch), Want::SaveCurrent(self.epoch), wants);
        }
    }

    /// The ACK of NEWLEADER.
    pub(super) fn acknowledge_epoch(&mut self, wants: &mut Vec<Want>) {
        assert_eq!(self.current, self.epoch, "NEWLEADER is acknowledged and currentEpoch is not durable");
        assert!(self.epoch <= self.accepted, "{:?} begins and was not accepted", self.epoch);
        say(&FromLearner::Ack(Zxid::new(self.epoch, 0)), wants);
        self.phase = Phase::Joining;
    }
}
