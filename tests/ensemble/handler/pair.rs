//! Our handler and our learner with each other, in a random order of steps, with a disk that takes its time.

use std::collections::BTreeMap;

use super::model::{EPOCH, Leader};
use super::{LIMIT, hear_in_pieces};
use bytes::Bytes;
use zabra::oracle::learner::{Server, history, image};
use zabra::quorum::Role;
use zabra::types::{Epoch, Zxid};
use zabra::zab::handler::{Fed, Feed, Handler, LearnerRoom, Outgoing, Want};
use zabra::zab::packet::kind;
use zabra::zab::sync_plan::Plan;

struct Pair {
    rng: fastrand::Rng,
    leader: Leader,
    handler: Handler,
    server: Server,
    wants: Vec<Want>,
    wire: Vec<u8>,
    /// How many of the server's packets have arrived.
    arrived: usize,
    feed: Option<Feed>,
    image: Vec<u8>,
    acks: Vec<Zxid>,
    plan: &'static str,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let mut rng = fastrand::Rng::with_seed(seed);
        let leader = Leader::new(&mut rng);
        let peer = leader.learner_at(&mut rng);
        let role = if rng.bool() { Role::Participant } else { Role::Observer };
        let server = Server::with(role, history(peer.0, 2, 2));
        let (wants, wire, acks) = (Vec::new(), Vec::new(), Vec::new());
        let (handler, image) = (Handler::new(LIMIT, LearnerRoom::default()), image(b"data"));
        Pair { rng, leader, handler, server, wants, wire, arrived: 0, feed: None, image, acks, plan: "none" }
    }

    fn settle(&mut self) {
        while !self.wants.is_empty() {
            for want in std::mem::take(&mut self.wants) {
                match want {
                    Want::Write(bytes) => self.wire.extend_from_slice(&bytes),
                    Want::Close(fault) => panic!("{fault}"),
                    Want::Feed(feed) => self.feed = Some(feed),
                    Want::Info { .. } => self.handler.lead(EPOCH, &mut self.wants),
                    Want::EpochAck { last, current } => {
                        assert_eq!(current, Some(Epoch(2)));
                        let plan = self.leader.plan(last, self.rng.u8(..4) == 0);
                        self.sync(plan);
                    }
                    Want::Ack(zxid) => {
                        if self.acks.is_empty() {
                            assert_eq!(zxid, Zxid::new(EPOCH, 0), "another ACK than NEWLEADER's is the first");
                            self.handler.up_to_date(&mut self.wants);
                        }
                        self.acks.push(zxid);
                    }
                    Want::NewLeaderSent | Want::Heard => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        self.handler.check();
        assert_eq!(self.server.left, None);
    }

    fn sync(&mut self, plan: Plan) {
        match plan {
            Plan::Diff { .. } => self.plan = "diff",
            Plan::Trunc { .. } => self.plan = "trunc",
            Plan::Snap { .. } => self.plan = "snap",
            Plan::Locate { .. } => {}
        }
        self.handler.sync(plan, &mut self.wants);
    }

    fn answer_feed(&mut self) {
        match self.feed.take() {
            None => {}
            Some(Feed::Locate { peer }) => {
                let plan = self.leader.located(peer);
                self.sync(plan);
            }
            Some(Feed::Snapshot(file)) => {
                let zxid = file.unwrap_or(self.leader.history.last());
                self.handler.fed(Fed::Snapshot { zxid }, &mut self.wants);
            }
            Some(Feed::Piece) => {
                let rest = self.image.split_off(self.rng.usize(0..=self.image.len()));
                let bytes = Bytes::from(std::mem::replace(&mut self.image, rest));
                self.handler.fed(Fed::Piece { bytes, last: self.image.is_empty() }, &mut self.wants);
            }
            Some(Feed::After(position)) => {
                let fed = self.leader.after(position, &mut self.rng);
                self.handler.fed(fed, &mut self.wants);
            }
        }
    }

    fn deliver(&mut self, most: usize) {
        if !self.wire.is_empty() && self.server.learner.is_reading() {
            let rest = self.wire.split_off(self.rng.usize(1..=self.wire.len().min(most)));
            let bytes = std::mem::replace(&mut self.wire, rest);
            self.handler.left(bytes.len(), &mut self.wants);
            self.server.bytes(&bytes);
        }
    }

    fn speak(&mut self) {
        if let Some(zxid) = self.server.pings.pop_front() {
            self.server.step(|learner, _, wants| learner.pong(zxid, [], wants));
        }
        if let Some((.., bytes)) = self.server.said.get(self.arrived) {
            hear_in_pieces(&mut self.handler, bytes, &mut self.rng, &mut self.wants);
            self.arrived += 1;
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..14) {
            0 => {
                let outgoing: Outgoing = self.leader.propose(60);
                self.handler.proposal(&outgoing, &mut self.wants);
            }
            1 => {
                if let Some(outgoing) = self.leader.commit() {
                    self.handler.commit(&outgoing, &mut self.wants);
                }
            }
            2..=4 => self.answer_feed(),
            5..=7 => self.deliver(500),
            8..=9 => self.speak(),
            10 => self.handler.ping(self.leader.last_proposed, &mut self.wants),
            _ => _ = self.server.work_a_little(&mut self.rng),
        }
        self.settle();
    }

    fn finish(&mut self, seed: u64) {
        while let Some(outgoing) = self.leader.commit() {
            self.handler.commit(&outgoing, &mut self.wants);
        }
        for _ in 0..10_000 {
            self.answer_feed();
            self.deliver(usize::MAX);
            self.server.work();
            self.speak();
            self.settle();
        }
        assert!(self.server.learner.is_serving() && self.handler.is_live(), "seed {seed}: {}", self.plan);
        let last = self.leader.log.last().expect("some").zxid;
        assert_eq!((self.server.applied, self.server.appended()), (last, last), "seed {seed}: {}", self.plan);
        let base = self.server.base;
        let logged = self.server.log.iter().map(|l| l.zxid);
        assert!(self.leader.log.iter().map(|c| c.zxid).filter(|zxid| *zxid > base).eq(logged), "seed {seed}");
        // NEWLEADER's and UPTODATE's, then each proposal's.
        let said = self.server.zxids_of(kind::ACK);
        assert!(self.acks == said && said[..2] == [Zxid::new(EPOCH, 0); 2], "seed {seed}: {said:?}");
    }
}

#[test]
fn our_learner_follows_our_leader() {
    let mut plans: BTreeMap<&str, usize> = BTreeMap::new();
    let mut acks = 0;
    for seed in 0..400 {
        let mut pair = Pair::new(seed);
        for _ in 0..400 {
            pair.step();
        }
        pair.finish(seed);
        acks += pair.acks.len() - 2;
        *plans.entry(pair.plan).or_default() += 1;
    }
    assert!(["diff", "trunc", "snap"].iter().all(|plan| plans.get(plan).is_some_and(|n| *n > 20)), "{plans:?}");
    assert!(acks > 1000, "{acks}");
}
