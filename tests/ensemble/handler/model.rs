//! A handler between a model of a leader and a model of a learner, in a random order of steps. Whatever the order and the
//! pace, the learner gets the history without a gap or a repeat, everything in its place, and little waits for it.

use std::collections::{BTreeMap, VecDeque};

use super::{LIMIT, hear_in_pieces, packet};
use bytes::Bytes;
use zabra::limits::{LEARNER_CHUNK, LEARNER_QUEUE};
use zabra::types::{Cxid, Epoch, Op, ServerId, SessionId, Zxid};
use zabra::zab::handler::{End, Fed, Feed, Handler, LearnerRoom, Outgoing, Want};
use zabra::zab::history::{Committed, History, HistoryLimits, is_next};
use zabra::zab::message::{Forwarded, FromLeader, FromLearner, LearnerInfo, Touched};
use zabra::zab::packet::{Split, split};
use zabra::zab::sync_plan::{OnDisk, Plan, SnapshotFile, SyncPolicy, located, plan};

/// The leader's.
pub const EPOCH: Epoch = Epoch(3);
const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

fn txn(zxid: Zxid, len: usize) -> Bytes {
    let mut txn = vec![0; len];
    // Its place in a transaction's header.
    txn[12..20].copy_from_slice(&zxid.0.to_be_bytes());
    txn.into()
}

/// The leader: all that is committed is in its log, the newest in memory too.
pub struct Leader {
    pub history: History,
    pub log: Vec<Committed>,
    outstanding: VecDeque<Outgoing>,
    pub last_proposed: Zxid,
    snapshot: Zxid,
    /// What is left of the snapshot that is being sent.
    pieces: usize,
}

impl Leader {
    pub fn new(rng: &mut fastrand::Rng) -> Leader {
        let history = History::new(HistoryLimits { count: rng.usize(1..12), bytes: 64 << 20 }, Zxid::ZERO);
        let (log, outstanding) = (Vec::new(), VecDeque::new());
        let mut leader =
            Leader { history, log, outstanding, last_proposed: Zxid::ZERO, snapshot: Zxid::ZERO, pieces: 0 };
        for epoch in 1..=2 {
            for counter in 1..=rng.u32(1..15) {
                leader.committed(Zxid::new(Epoch(epoch), counter), txn(Zxid::new(Epoch(epoch), counter), 40));
            }
        }
        leader.history.begin_epoch(Zxid::new(EPOCH, 0));
        leader.last_proposed = Zxid::new(EPOCH, 0);
        leader.snapshot = leader.log[rng.usize(..leader.log.len())].zxid;
        leader
    }

    /// Where a learner's history may end: at some transaction, behind the last of an epoch, or where an epoch begins.
    pub fn learner_at(&self, rng: &mut fastrand::Rng) -> Zxid {
        let at = self.log[rng.usize(..self.log.len())].zxid;
        let own = self.log.iter().rfind(|c| c.zxid.epoch() == at.epoch()).expect("it has itself").zxid;
        [at, Zxid(own.0 + 2), Zxid::new(Epoch(2), 0), Zxid::ZERO][rng.usize(..4)]
    }

    /// The next proposal, with a transaction of this length.
    pub fn propose(&mut self, len: usize) -> Outgoing {
        let zxid = Zxid(self.last_proposed.0 + 1);
        let outgoing = Outgoing::new(zxid, txn(zxid, len));
        self.last_proposed = zxid;
        self.outstanding.push_back(outgoing.clone());
        outgoing
    }

    /// The oldest outstanding proposal is committed.
    pub fn commit(&mut self) -> Option<Outgoing> {
        let outgoing = self.outstanding.pop_front()?;
        self.committed(outgoing.zxid(), outgoing.txn().clone());
        Some(outgoing)
    }

    fn committed(&mut self, zxid: Zxid, txn: Bytes) {
        self.history.push(zxid, txn.clone());
        self.log.push(Committed { zxid, txn });
    }

    pub fn plan(&self, peer: Zxid, force_snapshot: bool) -> Plan {
        let snapshot = Some(SnapshotFile { zxid: self.snapshot, bytes: 1 });
        let disk = OnDisk { chain: Some(Zxid::ZERO), logs: &[], snapshot };
        let policy = SyncPolicy { force_snapshot, ..SyncPolicy::default() };
        plan(peer, EPOCH, &self.history, &disk, &policy)
    }

    pub fn located(&self, peer: Zxid) -> Plan {
        let disk = OnDisk { chain: Some(Zxid::ZERO), ..OnDisk::default() };
        let nearest = self.log.iter().rfind(|c| c.zxid <= peer).map_or(Zxid::ZERO, |c| c.zxid);
        located(peer, Some(nearest), &self.history, &disk)
    }

    pub fn after(&self, position: Zxid, rng: &mut fastrand::Rng) -> Fed<'_> {
        let in_memory = self.history.has_position(position);
        let all: Vec<Committed> = if in_memory {
            self.history.after(position).cloned().collect()
        } else {
            // The log is read by somebody else, who knows only what was committed when the reading began.
            self.log.iter().filter(|c| c.zxid > position && c.zxid <= self.history.base()).cloned().collect()
        };
        let mut bytes = 0;
        let most = rng.usize(1..=all.len().max(1));
        let fits = |c: &&Committed| {
            bytes += c.txn.len();
            bytes == c.txn.len() || bytes <= LEARNER_CHUNK
        };
        let list: Vec<Committed> = all.iter().take(most).take_while(fits).cloned().collect();
        let config = b"version=0";
        let is_end = in_memory && list.len() == all.len();
        let end = is_end.then(|| End { outstanding: self.outstanding.iter().collect(), config });
        Fed::Proposals { list, end }
    }
}

/// The learner's side of the connection.
#[derive(Default)]
struct Learner {
    observer: bool,
    peer: Zxid,
    unread: Vec<u8>,
    in_snapshot: bool,
    /// Where its history ends, including what is not committed.
    queued: Zxid,
    pending: VecDeque<(Zxid, Vec<u8>)>,
    committed: Vec<(Zxid, Vec<u8>)>,
    base: Zxid,
    begun: bool,
    serves: bool,
    /// What is acknowledged once it serves.
    to_ack: Vec<Zxid>,
    acked: Zxid,
    to_say: VecDeque<Vec<u8>>,
    /// For each sync that is not answered, what must be committed then.
    syncs: VecDeque<Zxid>,
    pings: usize,
}

impl Learner {
    fn read(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        loop {
            if self.in_snapshot {
                let Some(at) = rest.windows(SIGNATURE.len()).position(|w| w == SIGNATURE) else { break };
                assert!(rest[..at].iter().all(|b| *b == 0xab), "not the snapshot");
                rest = &rest[at + SIGNATURE.len()..];
                self.in_snapshot = false;
            }
            let Split::Whole(packet, len) = split(rest, LIMIT).expect("a packet") else { break };
            self.hear(FromLeader::read(&packet).expect("a message"));
            rest = &rest[len..];
        }
        self.unread = rest.to_vec();
    }

    fn say(&mut self, said: &FromLearner<'_>) {
        self.to_say.push_back(packet(said));
    }

    fn ack(&mut self, zxid: Zxid) {
        self.acked = zxid;
        self.say(&FromLearner::Ack(zxid));
    }

    fn begin(&mut self, base: Zxid) {
        assert!(!self.begun && self.queued == Zxid::ZERO, "two beginnings");
        (self.base, self.queued) = (base, base);
    }

    fn queue(&mut self, zxid: Zxid, txn: &[u8]) {
        assert!(is_next(self.queued, zxid), "{zxid} behind {}", self.queued);
        assert_eq!(txn[12..20], zxid.0.to_be_bytes());
        self.queued = zxid;
        self.pending.push_back((zxid, txn.to_vec()));
    }

    fn commit(&mut self, zxid: Zxid) {
        let (head, txn) = self.pending.pop_front().unwrap_or_else(|| panic!("COMMIT of {zxid}, nothing is pending"));
        assert_eq!(head, zxid, "COMMIT of another proposal than the head");
        self.committed.push((zxid, txn));
    }

    fn hear(&mut self, said: FromLeader<'_>) {
        match said {
            FromLeader::LeaderInfo { epoch, .. } => {
                assert_eq!(epoch, EPOCH);
                let (last, current) = (self.peer, Some(Epoch(2)));
                self.say(&FromLearner::AckEpoch { last, current });
            }
            FromLeader::Diff(_) => self.begin(self.peer),
            FromLeader::Trunc(to) => {
                assert!(to < self.peer);
                self.begin(to);
            }
            FromLeader::Snap(zxid) => {
                self.begin(zxid);
                self.in_snapshot = true;
            }
            FromLeader::NewLeader { zxid, config } => {
                assert_eq!((zxid, config), (Zxid::new(EPOCH, 0), Some(&b"version=0"[..])));
                assert!(!self.begun, "NEWLEADER twice");
                self.begun = true;
                if !self.observer {
                    self.to_ack = self.pending.iter().map(|(zxid, _)| *zxid).collect();
                }
                self.say(&FromLearner::Ack(zxid));
            }
            FromLeader::UpToDate => {
                assert!(self.begun && !self.serves);
                self.serves = true;
                self.say(&FromLearner::Ack(Zxid::new(EPOCH, 0)));
                std::mem::take(&mut self.to_ack).into_iter().for_each(|zxid| self.ack(zxid));
            }
            FromLeader::Proposal { zxid, txn } => {
                assert!(!self.observer || !self.begun, "PROPOSAL to an observer");
                self.queue(zxid, txn);
                match (self.serves, self.begun) {
                    (true, _) => self.ack(zxid),
                    (false, true) => self.to_ack.push(zxid),
                    _ => {}
                }
            }
            FromLeader::Commit(zxid) => self.commit(zxid),
            FromLeader::Inform { zxid, txn } => {
                assert!(self.observer && self.begun, "INFORM too early, or to a follower");
                self.queue(zxid, txn);
                self.commit(zxid);
            }
            FromLeader::Ping(zxid) => {
                assert!(self.begun, "PING before NEWLEADER");
                self.pings += 1;
                let mut room = Vec::new();
                let touched = Touched::write(&mut room, [(SessionId(7), 4000)]);
                self.to_say.push_back(packet(&FromLearner::Ping { zxid, touched }));
            }
            FromLeader::Sync => {
                let at = self.syncs.pop_front().expect("a sync was asked for");
                assert!(self.last_committed() >= at, "SYNC before {at} is committed");
            }
            other => panic!("{other:?}"),
        }
    }

    fn last_committed(&self) -> Zxid {
        self.committed.last().map_or(self.base, |(zxid, _)| *zxid)
    }
}

struct World {
    rng: fastrand::Rng,
    leader: Leader,
    handler: Handler,
    learner: Learner,
    wants: Vec<Want>,
    /// What was written and has not reached the learner.
    wire: VecDeque<Bytes>,
    feed: Option<Feed>,
    acked: Zxid,
    is_acked: bool,
    lagged: usize,
    /// The longest transaction.
    longest: usize,
    syncs: VecDeque<Zxid>,
    seen: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(seed: u64, longest: usize) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let leader = Leader::new(&mut rng);
        let peer = leader.learner_at(&mut rng);
        let learner = Learner { observer: rng.bool(), peer, ..Learner::default() };
        World {
            rng,
            leader,
            handler: Handler::new(LIMIT, LearnerRoom::default()),
            learner,
            wants: Vec::new(),
            wire: VecDeque::new(),
            feed: None,
            acked: Zxid::ZERO,
            is_acked: false,
            lagged: 0,
            longest,
            syncs: VecDeque::new(),
            seen: BTreeMap::new(),
        }
    }

    fn start(&mut self) {
        let info = LearnerInfo::new(ServerId(2), Zxid::ZERO);
        let accepted = Zxid::new(Epoch(2), 0);
        let info = packet(&FromLearner::Info { observer: self.learner.observer, accepted, info });
        self.learner.to_say.push_back(info);
    }

    fn settle(&mut self) {
        while !self.wants.is_empty() {
            for want in std::mem::take(&mut self.wants) {
                self.want(want);
            }
        }
        self.handler.check();
        let most = LEARNER_QUEUE + LEARNER_CHUNK + 2 * self.longest + 4096;
        assert!(self.handler.unsent() <= most, "{} bytes wait", self.handler.unsent());
    }

    fn want(&mut self, want: Want) {
        match want {
            Want::Write(bytes) => self.wire.push_back(bytes),
            Want::Close(fault) => panic!("{fault}"),
            Want::Feed(feed) => assert_eq!(self.feed.replace(feed), None, "two things at a time"),
            Want::Info { server, observer, .. } => {
                assert_eq!((server, observer), (Some(ServerId(2)), self.learner.observer));
                self.handler.lead(EPOCH, &mut self.wants);
            }
            Want::EpochAck { last, .. } => {
                let force = self.rng.u8(..3) == 0;
                let plan = self.leader.plan(last, force);
                let name = match plan {
                    Plan::Diff { .. } => "diff",
                    Plan::Trunc { .. } => "trunc",
                    Plan::Snap { .. } => "snap",
                    Plan::Locate { .. } => "locate",
                };
                *self.seen.entry(name).or_default() += 1;
                self.handler.sync(plan, &mut self.wants);
            }
            Want::NewLeaderSent => {}
            Want::Ack(zxid) if zxid == Zxid::new(EPOCH, 0) => {
                if !self.is_acked {
                    self.handler.up_to_date(&mut self.wants);
                }
                self.is_acked = true;
            }
            Want::Ack(zxid) => {
                assert!(self.is_acked && !self.learner.observer && zxid > self.acked, "{zxid} behind {}", self.acked);
                self.acked = zxid;
            }
            Want::SyncAsked { .. } => {
                let behind = self.leader.last_proposed;
                self.learner.syncs.push_back(behind);
                self.syncs.push_back(behind);
            }
            Want::Touch { session, timeout_ms } => assert_eq!((session, timeout_ms), (SessionId(7), 4000)),
            Want::Heard => {}
            other => panic!("{other:?}"),
        }
        self.answer_syncs();
    }

    fn answer_syncs(&mut self) {
        let done = |at: &mut Zxid| *at <= self.leader.history.last();
        if let Some(behind) = self.syncs.pop_front_if(done) {
            self.handler.sync_done(behind, &mut self.wants);
        }
    }

    fn propose(&mut self) {
        let len = if self.rng.u8(..3) == 0 { self.longest } else { 100 };
        let outgoing = self.leader.propose(len);
        let was_live = self.handler.is_live();
        self.handler.proposal(&outgoing, &mut self.wants);
        self.lagged += usize::from(was_live && !self.handler.is_live());
    }

    fn commit(&mut self) -> bool {
        let Some(outgoing) = self.leader.commit() else { return false };
        let was_live = self.handler.is_live();
        self.handler.commit(&outgoing, &mut self.wants);
        self.lagged += usize::from(was_live && !self.handler.is_live());
        self.answer_syncs();
        true
    }

    fn answer_feed(&mut self) {
        let Some(feed) = self.feed.take() else { return };
        match feed {
            Feed::Locate { peer } => {
                let plan = self.leader.located(peer);
                self.handler.sync(plan, &mut self.wants);
            }
            Feed::Snapshot(file) => {
                let zxid = file.unwrap_or(self.leader.history.last());
                self.leader.pieces = self.rng.usize(1..5);
                self.handler.fed(Fed::Snapshot { zxid }, &mut self.wants);
            }
            Feed::Piece => {
                self.leader.pieces -= 1;
                let bytes = vec![0xab; self.rng.usize(..2000)].into();
                self.handler.fed(Fed::Piece { bytes, last: self.leader.pieces == 0 }, &mut self.wants);
            }
            Feed::After(position) => {
                let fed = self.leader.after(position, &mut self.rng);
                self.handler.fed(fed, &mut self.wants);
            }
        }
    }

    /// Some of what was written reaches the learner: `most` bytes at most.
    fn deliver(&mut self, most: usize) {
        let mut rest = self.rng.usize(1..=most);
        while rest > 0 {
            let Some(mut bytes) = self.wire.pop_front() else { return };
            let first = bytes.split_to(bytes.len().min(rest));
            if !bytes.is_empty() {
                self.wire.push_front(bytes);
            }
            rest -= first.len();
            self.handler.left(first.len(), &mut self.wants);
            self.learner.read(&first);
        }
    }

    fn speak(&mut self) {
        if let Some(said) = self.learner.to_say.pop_front() {
            hear_in_pieces(&mut self.handler, &said, &mut self.rng, &mut self.wants);
        }
    }

    fn ask_sync(&mut self) {
        if self.learner.serves {
            let (session, cxid, op) = (SessionId(7), Cxid(1), Op::SYNC);
            self.learner.say(&FromLearner::Request(Forwarded { session, cxid, op, body: b"", identities: None }));
        }
    }

    fn step(&mut self, busy: bool, pace: usize) {
        match self.rng.u8(..12) {
            0 | 1 if busy => self.propose(),
            2 | 3 if busy => _ = self.commit(),
            4 | 5 => self.answer_feed(),
            6..=8 => self.deliver(pace),
            9 | 10 => self.speak(),
            11 if self.rng.bool() => self.ask_sync(),
            _ => self.handler.ping(self.leader.last_proposed, &mut self.wants),
        }
        self.settle();
    }

    fn finish(&mut self, seed: u64) {
        while self.commit() {
            self.settle();
        }
        for _ in 0..100_000 {
            let is_idle = self.wire.is_empty() && self.feed.is_none() && self.learner.to_say.is_empty();
            if is_idle && self.handler.is_live() {
                break;
            }
            self.answer_feed();
            self.deliver(32 << 20);
            self.speak();
            self.settle();
        }
        assert!(self.handler.is_live() && self.learner.serves, "seed {seed}: it never joins");
        assert!(self.learner.pending.is_empty() && self.learner.syncs.is_empty(), "seed {seed}: something is left");
        assert_eq!(self.learner.last_committed(), self.leader.log.last().expect("some").zxid, "seed {seed}");
        let had = self.leader.log.iter().filter(|c| c.zxid > self.learner.base);
        assert!(had.map(|c| (c.zxid, &c.txn[..])).eq(self.learner.committed.iter().map(|(z, t)| (*z, &t[..]))));
        assert_eq!(self.acked, self.learner.acked, "seed {seed}");
        let is_acked = self.learner.observer || self.acked == Zxid::ZERO || self.acked == self.leader.last_proposed;
        assert!(is_acked, "seed {seed}: {} is acknowledged", self.acked);
    }
}

#[test]
fn a_learner_gets_everything_once_and_in_order() {
    let (mut seen, mut pings) = (BTreeMap::new(), 0);
    for seed in 0..1_000 {
        let mut world = World::new(seed, 200);
        world.start();
        for _ in 0..300 {
            world.step(true, 400);
        }
        world.finish(seed);
        world.seen.iter().for_each(|(name, count)| *seen.entry(*name).or_insert(0) += count);
        pings += world.learner.pings;
    }
    assert!(["diff", "trunc", "snap", "locate"].iter().all(|name| seen.get(name).is_some_and(|n| *n > 50)), "{seen:?}");
    assert!(pings > 1000, "{pings}");
}

/// A learner that takes less than is broadcast becomes a reader and catches up again.
#[test]
fn little_waits_for_a_learner_that_reads_slowly() {
    let mut lagged = [0, 0];
    for seed in 0..40 {
        let mut world = World::new(seed, 3 << 20);
        world.start();
        for step in 0..600 {
            let pace = if step / 100 % 2 == 0 { 32 << 20 } else { 50_000 };
            world.step(true, pace);
        }
        world.finish(seed);
        lagged[usize::from(world.learner.observer)] += world.lagged;
    }
    assert!(lagged.iter().all(|n| *n > 5), "{lagged:?}");
}
