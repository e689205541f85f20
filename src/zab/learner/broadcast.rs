//! Transactions, from the first of the synchronisation to the last of the term, and what else a leader says to a learner that
//! it counts on. Mirrors `Follower.processPacket` and `Observer.processPacket`.

use bytes::Bytes;

use super::pipeline::{Behind, Due};
use super::*;
use crate::jute::Reader;
use crate::txn::TxnHeader;
use crate::types::PEER_LOG;
use crate::zab::message::{FromLeader, FromLearner};

impl Learner {
    /// A packet after DIFF, TRUNC or SNAP.
    pub(super) fn follow(
        &mut self,
        said: FromLeader<'_>,
        name: &'static str,
        wants: &mut Vec<Want>,
    ) -> Result<(), Why> {
        let is_observer = self.options.role == Role::Observer;
        let is_broadcast = self.phase == Phase::Broadcast;
        match said {
            FromLeader::Proposal { zxid, txn } => self.propose(zxid, txn, wants)?,
            FromLeader::Commit(zxid) => self.commit(zxid, None)?,
            FromLeader::CommitAndActivate { zxid, designated } => self.commit(zxid, Some(designated))?,
            FromLeader::Inform { zxid, txn } if is_observer => {
                self.propose(zxid, txn, wants)?;
                self.commit(zxid, None)?;
            }
            FromLeader::InformAndActivate { zxid, designated, txn } if is_observer => {
                self.propose(zxid, txn, wants)?;
                self.commit(zxid, Some(designated))?;
            }
            FromLeader::NewLeader { zxid, config } if self.phase == Phase::Syncing => {
                self.new_leader(zxid, config, wants)?;
            }
            FromLeader::UpToDate if self.phase == Phase::Joining => self.join(wants),
            FromLeader::Ping(zxid) => {
                assert!(is_broadcast, "a PING is to be answered in {:?}", self.phase);
                wants.push(Want::Ping { zxid });
            }
            FromLeader::Revalidate { session, valid } if is_broadcast => {
                self.pipeline.wait_behind(Behind::Revalidated { session, valid });
            }
            FromLeader::Sync if is_broadcast => match self.syncs.pop_front() {
                Some((session, cxid)) => self.pipeline.wait_behind(Behind::SyncDone { session, cxid }),
                None => {
                    tracing::warn!(target: PEER_LOG, "a SYNC of the leader is passed over: no sync was asked for")
                }
            },
            FromLeader::Unknown(kind) => {
                tracing::warn!(target: PEER_LOG, kind, "a packet of the leader is passed over: its type is unknown")
            }
            _ => return Err(self.unexpected(name)),
        }
        self.release(wants);
        Ok(())
    }

    /// More is durable than before.
    pub(super) fn logged(&mut self, wants: &mut Vec<Want>) {
        self.save_epoch_if_logged(wants);
        self.acknowledge(wants);
        self.release(wants);
    }

    /// Whether a transaction's changes are in the leader's snapshot. It sends such transactions when they were committed
    /// while it began with the snapshot, but not behind NEWLEADER.
    fn is_in_image(&self, zxid: Zxid) -> bool {
        self.in_image.is_some_and(|image| zxid <= image)
    }

    fn propose(&mut self, zxid: Zxid, txn: &[u8], wants: &mut Vec<Want>) -> Result<(), Why> {
        let header = TxnHeader::read(&mut Reader::new(txn));
        if !header.is_ok_and(|header| header.zxid == zxid) {
            return Err(Why::Header { zxid });
        }
        if self.is_in_image(zxid) {
            return Ok(());
        }
        let is_of_term = if self.is_exact { zxid.epoch() == self.epoch } else { zxid.epoch() <= self.epoch };
        // The begin of the epoch is NEWLEADER's.
        if !is_of_term || zxid == Zxid::new(self.epoch, 0) {
            return Err(Why::WrongEpoch { name: "PROPOSAL", zxid, epoch: self.epoch });
        }
        self.pipeline.propose(zxid, txn.len())?;
        self.caught_up.transactions += u64::from(!self.is_exact);
        wants.push(Want::Append { zxid, txn: Bytes::copy_from_slice(txn), exact: self.is_exact });
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid, designated: Option<ServerId>) -> Result<(), Why> {
        if !self.is_in_image(zxid) {
            self.pipeline.commit(zxid)?;
        }
        designated.into_iter().for_each(|designated| self.pipeline.wait_behind(Behind::Activate { designated }));
        Ok(())
    }

    /// UPTODATE. Its ACK comes before those of the proposals: until then the leader takes no other.
    fn join(&mut self, wants: &mut Vec<Want>) {
        assert_eq!(self.current, self.epoch, "UPTODATE of an epoch that is not saved");
        say(&FromLearner::Ack(Zxid::new(self.epoch, 0)), wants);
        self.phase = Phase::Broadcast;
        self.pipeline.wait_behind(Behind::Serve);
        self.acknowledge(wants);
    }

    /// An ACK for each proposal that became durable: an Apache leader does not take one for all before it.
    fn acknowledge(&mut self, wants: &mut Vec<Want>) {
        if self.phase != Phase::Broadcast {
            return;
        }
        let mut bytes = Vec::new();
        while let Some(zxid) = self.pipeline.next_ack() {
            assert!(zxid <= self.pipeline.durable(), "{zxid} is acknowledged and not durable");
            FromLearner::Ack(zxid).put(&mut bytes);
        }
        if !bytes.is_empty() {
            wants.push(Want::Write(bytes.into()));
        }
    }

    /// Hands on what is committed and durable, and what waited for that.
    fn release(&mut self, wants: &mut Vec<Want>) {
        while let Some(due) = self.pipeline.next_due() {
            wants.push(match due {
                Due::Commit(upto) => Want::Commit { upto },
                Due::Behind(zxid, Behind::Activate { designated }) => Want::Activate { zxid, designated },
                Due::Behind(_, Behind::SyncDone { session, cxid }) => Want::SyncDone { session, cxid },
                Due::Behind(_, Behind::Revalidated { session, valid }) => Want::Revalidated { session, valid },
                Due::Behind(_, Behind::Serve) => {
                    assert_eq!(self.phase, Phase::Broadcast, "clients are served in {:?}", self.phase);
                    self.serving = true;
                    Want::Serve { epoch: self.epoch }
                }
            });
        }
    }
}
