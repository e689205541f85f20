//! One learner of the leader that is fuzzed: what it would say if it made no mistakes, and a judge of what it is sent.

use std::collections::{BTreeMap, VecDeque};

use zabra::quorum::Role;
use zabra::types::{Epoch, ServerId, Zxid};
use zabra::zab::history::is_next;
use zabra::zab::message::{FromLeader, FromLearner, LearnerInfo, Touched};
use zabra::zab::packet::{Split, split};

/// Most bytes of a packet's data.
pub(crate) const LIMIT: usize = 1 << 20;

/// The end of a snapshot's stream.
const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

/// How far the leader has come with this learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The next is LEADERINFO.
    Discovery,
    /// The next is DIFF, TRUNC or SNAP.
    Choosing,
    /// A snapshot's stream comes.
    Snapshot,
    /// Transactions come, and NEWLEADER.
    Syncing,
    /// NEWLEADER came: UPTODATE may.
    Joining,
    Broadcast,
}

/// A learner's end of a connection.
pub(crate) struct Learner {
    pub(crate) server: ServerId,
    role: Role,
    accepted: Epoch,
    last: Zxid,
    stage: Stage,
    epoch: Epoch,
    unread: Vec<u8>,
    /// What it said that is not a whole packet yet.
    unsaid: Vec<u8>,
    /// The end of what it was sent.
    queued: Zxid,
    uncommitted: VecDeque<Zxid>,
    /// Proposals that are acknowledged behind UPTODATE.
    unacked: Vec<Zxid>,
    /// What it would say.
    pub(crate) to_say: VecDeque<Vec<u8>>,
    /// The first end of a history that it said in an ACKEPOCH, and whether that counts for a quorum.
    pub(crate) claimed: Option<(Zxid, bool)>,
    /// ACKs that it said.
    pub(crate) acks: Vec<Zxid>,
    /// It introduced itself as a participant.
    pub(crate) is_voter: bool,
}

impl Learner {
    pub(crate) fn new(server: ServerId, role: Role, accepted: Epoch, last: Zxid) -> Learner {
        let mut learner = Learner {
            server,
            role,
            accepted,
            last,
            stage: Stage::Discovery,
            epoch: Epoch(0),
            unread: Vec::new(),
            unsaid: Vec::new(),
            queued: Zxid::NONE,
            uncommitted: VecDeque::new(),
            unacked: Vec::new(),
            to_say: VecDeque::new(),
            claimed: None,
            acks: Vec::new(),
            is_voter: false,
        };
        let info = LearnerInfo::new(server, Zxid::ZERO);
        learner.will_say(&FromLearner::Info {
            observer: role == Role::Observer,
            accepted: Zxid::new(accepted, 0),
            info,
        });
        learner
    }

    fn will_say(&mut self, said: &FromLearner<'_>) {
        let mut bytes = Vec::new();
        said.put(&mut bytes);
        self.to_say.push_back(bytes);
    }

    /// It says this, packets or something else.
    pub(crate) fn says(&mut self, bytes: &[u8]) {
        let mut unsaid = std::mem::take(&mut self.unsaid);
        unsaid.extend_from_slice(bytes);
        let mut bytes = &unsaid[..];
        while let Ok(Split::Whole(packet, len)) = split(bytes, LIMIT) {
            match FromLearner::read(packet) {
                Ok(FromLearner::Info { observer, .. }) => self.is_voter |= !observer,
                Ok(FromLearner::AckEpoch { last, current }) => {
                    self.claimed.get_or_insert((last, current.is_some()));
                }
                Ok(FromLearner::Ack(zxid)) => self.acks.push(zxid),
                _ => {}
            }
            bytes = &bytes[len..];
        }
        self.unsaid = bytes.to_vec();
    }

    /// Bytes come from the leader. `proposed`: every transaction that any learner was sent.
    pub(crate) fn hears(&mut self, bytes: &[u8], proposed: &mut BTreeMap<Zxid, Vec<u8>>) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &unread[at..];
            if self.stage == Stage::Snapshot {
                let Some(end) = rest.windows(SIGNATURE.len()).position(|window| window == SIGNATURE) else { break };
                at += end + SIGNATURE.len();
                self.stage = Stage::Syncing;
                continue;
            }
            let Split::Whole(packet, len) = split(rest, LIMIT).expect("a leader's packet") else { break };
            let said = FromLeader::read(&packet).expect("a leader's message");
            self.judge(&said, proposed);
            at += len;
        }
        unread.drain(..at);
        self.unread = unread;
    }

    fn judge(&mut self, said: &FromLeader<'_>, proposed: &mut BTreeMap<Zxid, Vec<u8>>) {
        let is_observer = !self.is_voter;
        match *said {
            FromLeader::LeaderInfo { epoch, .. } => {
                assert_eq!(self.stage, Stage::Discovery, "LEADERINFO at another place");
                (self.epoch, self.stage) = (epoch, Stage::Choosing);
                let current = (epoch > self.accepted).then_some(self.accepted);
                self.will_say(&FromLearner::AckEpoch { last: self.last, current });
            }
            FromLeader::Diff(_) | FromLeader::Trunc(_) | FromLeader::Snap(_) => self.begins(said),
            FromLeader::NewLeader { zxid, .. } => {
                assert_eq!((self.stage, zxid), (Stage::Syncing, Zxid::new(self.epoch, 0)));
                self.stage = Stage::Joining;
                if !is_observer {
                    self.unacked = self.uncommitted.iter().copied().collect();
                }
                self.will_say(&FromLearner::Ack(zxid));
            }
            FromLeader::UpToDate => {
                let begin = Zxid::new(self.epoch, 0);
                assert!(self.stage == Stage::Joining && self.acks.contains(&begin), "UPTODATE too early");
                self.stage = Stage::Broadcast;
                self.will_say(&FromLearner::Ack(begin));
                for zxid in std::mem::take(&mut self.unacked) {
                    self.will_say(&FromLearner::Ack(zxid));
                }
            }
            FromLeader::Proposal { zxid, txn } => {
                assert!(!is_observer || self.stage == Stage::Syncing, "{zxid} is proposed to an observer");
                self.queue(zxid, txn, proposed);
                match self.stage {
                    Stage::Joining => self.unacked.push(zxid),
                    Stage::Broadcast => self.will_say(&FromLearner::Ack(zxid)),
                    _ => {}
                }
            }
            FromLeader::Inform { zxid, txn } => {
                assert!(is_observer && self.stage >= Stage::Joining, "{zxid} is told to a voter");
                self.queue(zxid, txn, proposed);
                assert_eq!(self.uncommitted.pop_front(), Some(zxid), "{zxid} is told before what was proposed");
            }
            FromLeader::Commit(zxid) => {
                assert!(self.stage >= Stage::Syncing, "COMMIT before a history");
                assert_eq!(self.uncommitted.pop_front(), Some(zxid), "a COMMIT that is not for the oldest proposal");
            }
            FromLeader::Ping(zxid) => {
                assert!(self.stage >= Stage::Joining, "PING before NEWLEADER");
                let mut room = Vec::new();
                self.will_say(&FromLearner::Ping { zxid, touched: Touched::write(&mut room, []) });
            }
            FromLeader::Revalidate { .. } | FromLeader::Sync => {
                assert!(self.stage >= Stage::Joining, "{said:?} before NEWLEADER");
            }
            _ => panic!("{said:?} is never said"),
        }
    }

    fn begins(&mut self, said: &FromLeader<'_>) {
        assert_eq!(self.stage, Stage::Choosing, "{said:?} at another place");
        let (claimed, _) = self.claimed.expect("its history is not known");
        match *said {
            FromLeader::Diff(upto) => {
                assert!(claimed <= upto || claimed.counter() == 0, "DIFF back from {claimed} to {upto}");
                (self.queued, self.stage) = (claimed, Stage::Syncing);
            }
            FromLeader::Trunc(to) => {
                assert!(
                    to < claimed && to.epoch() == claimed.epoch() && to.counter() > 0,
                    "TRUNC from {claimed} to {to}"
                );
                (self.queued, self.stage) = (to, Stage::Syncing);
            }
            FromLeader::Snap(zxid) => (self.queued, self.stage) = (zxid, Stage::Snapshot),
            _ => unreachable!("it begins nothing"),
        }
    }

    fn queue(&mut self, zxid: Zxid, txn: &[u8], proposed: &mut BTreeMap<Zxid, Vec<u8>>) {
        assert!(self.stage >= Stage::Syncing, "{zxid} before a history");
        assert!(is_next(self.queued, zxid), "{zxid} is sent behind {}", self.queued);
        assert!(zxid.epoch() <= self.epoch, "{zxid} in {:?}", self.epoch);
        let first = proposed.entry(zxid).or_insert_with(|| txn.to_vec());
        assert_eq!(first, txn, "{zxid} is two transactions");
        self.queued = zxid;
        self.uncommitted.push_back(zxid);
    }

    /// Follower or observer, as it will say.
    pub(crate) fn role(&self) -> Role {
        self.role
    }
}
