//! The leader's half of broadcast: hands out zxids, gathers acks, commits in zxid order. A standalone server is the leader
//! of a quorum of one: its own durable log is the only ack. Mirrors `Leader.propose`, `Leader.processAck`, `Leader.tryToCommit`.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::quorum::Verifier;
use crate::types::{ServerId, Zxid};

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
    verifier: Verifier,
    last_proposed: Zxid,
    last_committed: Zxid,
    acked: BTreeMap<ServerId, Zxid>,
}

impl Leader {
    /// A leader whose history ends, committed, at `last`.
    pub fn new(verifier: Verifier, last: Zxid) -> Leader {
        Leader { verifier, last_proposed: last, last_committed: last, acked: BTreeMap::new() }
    }

    /// The newest zxid handed out.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    /// The newest zxid a quorum has.
    pub fn last_committed(&self) -> Zxid {
        self.last_committed
    }

    /// Takes the next zxid for a proposal.
    ///
    /// # Errors
    /// [`EpochExhausted`]: see [`Leader::begin_epoch`].
    pub fn propose(&mut self) -> Result<Zxid, EpochExhausted> {
        let zxid = self.last_proposed.next().ok_or(EpochExhausted(self.last_proposed))?;
        self.last_proposed = zxid;
        Ok(zxid)
    }

    /// Starts the epoch after the current one, whose last proposals keep their zxids. An ensemble elects to get here; a
    /// quorum of one may simply go on.
    pub fn begin_epoch(&mut self) {
        let epoch = crate::types::Epoch(self.last_proposed.epoch().0 + 1);
        self.last_proposed = Zxid::new(epoch, 0);
    }

    /// `from` has everything up to `zxid` on its durable log. Returns the new commit point if it moved.
    ///
    /// An ack for something never proposed is a bug (ours) or a broken peer (which its handler refuses first).
    pub fn ack(&mut self, from: ServerId, zxid: Zxid) -> Option<Zxid> {
        assert!(zxid <= self.last_proposed, "ack of {zxid} by {from:?}, but only {} was proposed", self.last_proposed);
        let known = self.acked.entry(from).or_insert(Zxid::ZERO);
        if zxid <= *known {
            return None;
        }
        *known = zxid;
        let quorum = self.quorum_point()?;
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
        assert!(self.last_committed <= self.last_proposed);
        assert!(self.acked.values().all(|z| *z <= self.last_proposed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Majority;
    use crate::types::Epoch;

    fn leader(voters: i64, last: Zxid) -> Leader {
        let voters = (1..=voters).map(ServerId).collect();
        Leader::new(Verifier::Majority(Majority::new(voters).unwrap()), last)
    }

    #[test]
    fn alone_the_own_log_commits() {
        let mut l = leader(1, Zxid(5));
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
    }

    #[test]
    fn an_epoch_ends_with_its_counter() {
        let last = Zxid::new(Epoch(2), u32::MAX);
        let mut l = leader(1, last);
        assert_eq!(l.propose(), Err(EpochExhausted(last)));
        l.begin_epoch();
        assert_eq!(l.propose(), Ok(Zxid::new(Epoch(3), 1)));
    }

    #[test]
    #[should_panic(expected = "ack of 0x9")]
    fn an_ack_from_the_future_is_a_bug() {
        leader(1, Zxid::ZERO).ack(ServerId(1), Zxid(9));
    }
}
