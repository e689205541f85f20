//! The leader's half of broadcast: hands out zxids, gathers acks, commits in zxid order. A standalone server is the leader
//! of a quorum of one: its own durable log is the only ack. Mirrors `Leader.propose`, `Leader.processAck`, `Leader.tryToCommit`.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::quorum::{Majority, Verifier};
use crate::types::{Epoch, ServerId, Zxid};

/// The epoch's 2^32-1 zxids are used up: a new epoch must begin before anything more is proposed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the zxids of this epoch are used up after {0}")]
pub struct EpochExhausted(pub Zxid);

/// What was proposed, how far each server has acknowledged it, how far a quorum has.
///
/// Acks are cumulative: a server that acknowledges a zxid has every earlier proposal on its durable log too, which holds for
/// followers (they log and ack in order) and for our own log thread (one sync covers all that was appended before).
#[derive(Debug)]
pub struct Leader {
    me: ServerId,
    verifier: Verifier,
    last_proposed: Zxid,
    last_committed: Zxid,
    acked: BTreeMap<ServerId, Zxid>,
}

impl Leader {
    /// The leader `me` of the servers that `verifier` knows, whose history ends, committed, at `last`.
    ///
    /// # Panics
    /// If `me` is not one of the voters: nobody else can be elected.
    pub fn new(me: ServerId, verifier: Verifier, last: Zxid) -> Leader {
        assert!(verifier.voters().contains(&me), "{me:?} leads, but is not one of the voters");
        assert!(last >= Zxid::ZERO, "a history ends at {last}");
        Leader { me, verifier, last_proposed: last, last_committed: last, acked: BTreeMap::new() }
    }

    /// The leader of an ensemble of one.
    pub fn alone(me: ServerId, last: Zxid) -> Leader {
        let voters = Majority::new([me].into()).expect("one voter is there");
        let leader = Leader::new(me, Verifier::Majority(voters), last);
        assert!(leader.is_alone(), "{me:?} is no quorum of itself");
        leader
    }

    /// The newest zxid handed out, or the epoch's zeroth when nothing was proposed in it.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    /// The newest zxid a quorum has.
    pub fn last_committed(&self) -> Zxid {
        self.last_committed
    }

    /// Whether this epoch has no zxid left.
    pub fn is_exhausted(&self) -> bool {
        self.last_proposed.next().is_none()
    }

    /// Takes the next zxid for a proposal.
    ///
    /// # Errors
    /// [`EpochExhausted`]: see [`Leader::begin_epoch`].
    pub fn propose(&mut self) -> Result<Zxid, EpochExhausted> {
        let zxid = self.last_proposed.next().ok_or(EpochExhausted(self.last_proposed))?;
        assert!(self.last_proposed.precedes(zxid), "{zxid} is proposed behind {}", self.last_proposed);
        assert!(zxid.epoch() == self.last_proposed.epoch() && zxid.counter() > 0, "{zxid} is no zxid for a proposal");
        self.last_proposed = zxid;
        assert!(self.last_committed < zxid, "{zxid} is proposed and committed already");
        Ok(zxid)
    }

    /// Starts the epoch after the current one, whose last proposals keep their zxids. Returns the new epoch.
    ///
    /// # Panics
    /// If other servers vote: they have to elect a leader for a new epoch.
    pub fn begin_epoch(&mut self) -> Epoch {
        let old = self.last_proposed.epoch();
        assert!(self.is_alone(), "a leader of others begins an epoch behind {old:?} without them");
        let epoch = Epoch(old.0 + 1);
        assert!(epoch.0 <= i64::from(i32::MAX), "no epoch is left behind {old:?}");
        let first = Zxid::new(epoch, 0);
        assert!(first > self.last_proposed, "the epoch falls from {} to {first}", self.last_proposed);
        self.last_proposed = first;
        assert!(!self.is_exhausted(), "an epoch begins without zxids at {first}");
        epoch
    }

    /// Whether this server is a quorum.
    pub fn is_alone(&self) -> bool {
        self.verifier.contains_quorum_by(|server| server == self.me)
    }

    /// `from` has everything up to `zxid` on its durable log. Returns the new commit point if it moved.
    ///
    /// # Panics
    /// If that was never proposed, or `from` does not vote: a bug (ours) or a broken peer (which its handler refuses first).
    pub fn ack(&mut self, from: ServerId, zxid: Zxid) -> Option<Zxid> {
        assert!(zxid <= self.last_proposed, "ack of {zxid} by {from:?}, but only {} was proposed", self.last_proposed);
        assert!(self.verifier.voters().contains(&from), "ack of {zxid} by {from:?}, who does not vote");
        assert!(zxid >= Zxid::ZERO, "ack of {zxid} by {from:?}, which is no transaction");
        let known = self.acked.entry(from).or_insert(Zxid::ZERO);
        if zxid <= *known {
            return None;
        }
        *known = zxid;
        let quorum = self.quorum_point()?;
        assert!(quorum <= self.last_proposed, "a quorum has {quorum}, only {} was proposed", self.last_proposed);
        (quorum > self.last_committed).then(|| {
            self.last_committed = quorum;
            quorum
        })
    }

    /// The greatest zxid such that the servers at or past it are a quorum.
    fn quorum_point(&self) -> Option<Zxid> {
        let mut points: Vec<Zxid> = self.acked.values().copied().collect();
        points.sort_unstable_by(|a, b| b.cmp(a));
        points.into_iter().find(|point| {
            self.verifier.contains_quorum_by(|server| self.acked.get(&server).is_some_and(|z| z >= point))
        })
    }

    /// Its invariants.
    pub fn check(&self) {
        self.verifier.check();
        assert!(self.verifier.voters().contains(&self.me), "{:?} leads, but does not vote any more", self.me);
        assert!(self.last_committed >= Zxid::ZERO, "{} is committed", self.last_committed);
        assert!(self.last_committed <= self.last_proposed, "{} > {}", self.last_committed, self.last_proposed);
        assert!(self.acked.values().all(|z| *z <= self.last_proposed), "an ack of what was not proposed");
        assert!(self.acked.keys().all(|server| self.verifier.voters().contains(server)), "an ack that does not count");
        let quorum = self.quorum_point();
        assert!(quorum.is_none_or(|quorum| quorum <= self.last_committed), "{quorum:?} is not committed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(voters: i64, last: Zxid) -> Leader {
        let voters = (1..=voters).map(ServerId).collect();
        Leader::new(ServerId(1), Verifier::Majority(Majority::new(voters).unwrap()), last)
    }

    #[test]
    fn alone_the_own_log_commits() {
        let mut l = Leader::alone(ServerId(1), Zxid(5));
        assert_eq!((l.propose(), l.propose()), (Ok(Zxid(6)), Ok(Zxid(7))));
        assert_eq!(l.last_committed(), Zxid(5));
        assert_eq!(l.ack(ServerId(1), Zxid(7)), Some(Zxid(7)));
        assert_eq!(l.ack(ServerId(1), Zxid(6)), None);
        l.check();
    }

    #[test]
    fn three_commit_what_two_have() {
        let mut l = leader(3, Zxid::ZERO);
        for _ in 0..5 {
            l.propose().unwrap();
        }
        assert_eq!(l.ack(ServerId(1), Zxid(5)), None);
        assert_eq!(l.ack(ServerId(2), Zxid(2)), Some(Zxid(2)));
        assert_eq!(l.ack(ServerId(3), Zxid(1)), None);
        assert_eq!(l.ack(ServerId(3), Zxid(4)), Some(Zxid(4)));
        assert_eq!(l.ack(ServerId(2), Zxid(5)), Some(Zxid(5)));
        l.check();
    }

    #[test]
    fn an_epoch_ends_with_its_counter() {
        let last = Zxid::new(Epoch(2), u32::MAX);
        let mut l = leader(1, Zxid(last.0 - 1));
        assert!(!l.is_exhausted());
        assert_eq!((l.propose(), l.is_exhausted()), (Ok(last), true));
        assert_eq!(l.propose(), Err(EpochExhausted(last)));
        assert_eq!(l.begin_epoch(), Epoch(3));
        assert_eq!((l.propose(), l.is_exhausted()), (Ok(Zxid::new(Epoch(3), 1)), false));
        // The old epoch's last proposal is acknowledged in the new one.
        assert_eq!(l.ack(ServerId(1), last), Some(last));
        l.check();
    }

    #[test]
    #[should_panic(expected = "without them")]
    fn the_leader_of_others_begins_no_epoch() {
        leader(3, Zxid(5)).begin_epoch();
    }

    #[test]
    #[should_panic(expected = "ack of 0x9")]
    fn an_ack_from_the_future_is_a_bug() {
        leader(1, Zxid::ZERO).ack(ServerId(1), Zxid(9));
    }

    #[test]
    #[should_panic(expected = "does not vote")]
    fn an_observer_acknowledges_nothing() {
        let mut l = leader(1, Zxid::ZERO);
        l.propose().unwrap();
        l.ack(ServerId(2), Zxid(1));
    }
}
