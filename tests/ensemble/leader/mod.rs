//! Leaders: what they do about learners that do not keep to the protocol.

mod chance;

use super::election::electorate;
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::leader::{DropReason, History, Introduction, Leader, LeaderOptions, StepDownReason, Want};

const VOTERS: [&str; 4] = ["server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2", "server.4=d:1:2:observer"];

const OWN: History = History { accepted: Epoch(1), current: Epoch(1), last: Zxid(0x1_0000_0003) };

/// Leader 3 of voters 1 and 2 and observer 4, whose connections have the numbers of the servers.
struct Stand {
    leader: Leader,
    wants: Vec<Want>,
}

/// What a learner says, in the order of the protocol.
const STEPS: [&str; 6] = ["connect", "FOLLOWERINFO", "ACKEPOCH", "ACK", "ACK of a proposal", "REQUEST"];

impl Stand {
    fn new() -> Stand {
        let mut wants = Vec::new();
        let leader = Leader::new(0, ServerId(3), LeaderOptions::default(), &electorate(VOTERS), OWN, &mut wants);
        Stand { leader, wants }
    }

    fn info(&mut self, conn: u64, server: i64, accepted: i64) {
        let (server, observer) = (Some(ServerId(server)), server == 4);
        let said = Introduction { server, observer, accepted: Epoch(accepted), config_version: Some(Zxid::ZERO) };
        self.leader.info(ConnId(conn), said, &mut self.wants);
    }

    fn step(&mut self, step: usize, conn: u64, server: i64) {
        let id = ConnId(conn);
        match step {
            0 => self.leader.connected(id, &mut self.wants),
            1 => self.info(conn, server, 1),
            2 => self.leader.epoch_ack(id, Some(Epoch(1)), OWN.last, &mut self.wants),
            3 => {
                self.leader.new_leader_sent(id);
                self.leader.ack(id, Zxid::new(Epoch(2), 0), &mut self.wants);
            }
            4 => self.leader.ack(id, Zxid::new(Epoch(2), 1), &mut self.wants),
            _ => self.leader.sync_asked(id, &mut self.wants),
        }
        for want in std::mem::take(&mut self.wants) {
            match want {
                Want::SaveAccepted(epoch) => self.leader.accepted_saved(epoch, &mut self.wants),
                Want::SaveCurrent(epoch) => self.leader.current_saved(epoch, &mut self.wants),
                Want::Established(_) => {
                    assert!(self.leader.propose(&mut self.wants).is_some());
                    self.wants.push(want);
                }
                _ => self.wants.push(want),
            }
        }
        self.leader.check();
    }

    /// Server 1 follows, and one proposal is out.
    fn established() -> Stand {
        let mut stand = Stand::new();
        (0..4).for_each(|step| stand.step(step, 1, 1));
        assert!(stand.leader.is_established(), "{:?}", stand.wants);
        stand.wants.clear();
        stand
    }

    fn dropped(&self) -> Vec<(u64, DropReason)> {
        let dropped = self.wants.iter().filter_map(|want| match want {
            Want::Drop { conn, why } => Some((conn.0, *why)),
            _ => None,
        });
        dropped.collect()
    }
}

/// After each beginning of the protocol every step but the next one closes the connection, or changes nothing.
#[test]
fn a_learner_that_skips_a_step_is_dropped() {
    for server in [2, 4] {
        for done in 1..=4 {
            for skipped in (1..STEPS.len()).filter(|step| *step != done && !(done == 4 && *step > 3)) {
                // The handler itself sends NEWLEADER once, and only when it is wanted.
                if skipped == 3 {
                    continue;
                }
                let mut stand = Stand::established();
                (0..done).for_each(|step| stand.step(step, 7, server));
                assert_eq!(stand.dropped(), [], "{server} after {:?}", &STEPS[..done]);
                stand.step(skipped, 7, server);
                let early_ack = done == 3 && skipped == 4;
                let dropped = !early_ack;
                let what = (server, &STEPS[..done], STEPS[skipped]);
                assert_eq!(stand.dropped().len(), usize::from(dropped), "{what:?}: {:?}", stand.wants);
                let known = stand.leader.learners().any(|(conn, ..)| conn == ConnId(7));
                assert_eq!(known, early_ack, "{what:?}");
                // What comes on the connection later changes nothing.
                stand.wants.clear();
                if dropped {
                    (1..STEPS.len()).filter(|step| *step != 3).for_each(|step| stand.step(step, 7, server));
                    assert_eq!(stand.wants, [], "{what:?}");
                }
            }
        }
    }
}

#[test]
fn the_newer_of_two_connections_of_one_server_stays() {
    let mut stand = Stand::established();
    (0..4).for_each(|step| stand.step(step, 8, 1));
    assert_eq!(stand.dropped(), [(1, DropReason::Replaced)]);
    let left: Vec<_> = stand.leader.learners().collect();
    assert_eq!(left, [(ConnId(8), ServerId(1), true)]);
    // A late ack of the old one, and the news that it is closed.
    stand.wants.clear();
    stand.leader.synced(Zxid::new(Epoch(2), 1), &mut stand.wants);
    stand.step(4, 1, 1);
    stand.leader.closed(ConnId(1));
    assert_eq!(stand.wants, []);
    stand.step(4, 8, 1);
    assert_eq!(stand.wants, [Want::Commit { upto: Zxid::new(Epoch(2), 1) }]);
}

#[test]
fn acks_of_an_observer_or_an_old_epoch_commit_nothing() {
    let mut stand = Stand::established();
    (0..5).for_each(|step| stand.step(step, 4, 4));
    stand.leader.synced(Zxid::new(Epoch(2), 1), &mut stand.wants);
    stand.leader.ack(ConnId(1), OWN.last, &mut stand.wants);
    stand.leader.ack(ConnId(1), Zxid::new(Epoch(1), u32::MAX), &mut stand.wants);
    assert!(!stand.wants.iter().any(|want| matches!(want, Want::Commit { .. })), "{:?}", stand.wants);
    assert_eq!(stand.dropped(), []);
    // A late ack, of a server that is behind, commits nothing again.
    stand.step(4, 1, 1);
    stand.step(4, 1, 1);
    let commits = stand.wants.iter().filter(|want| matches!(want, Want::Commit { .. })).count();
    assert_eq!(commits, 1);
}

#[test]
fn a_server_that_follows_a_newer_leader_is_refused_and_so_is_its_ack() {
    let mut stand = Stand::established();
    stand.leader.connected(ConnId(2), &mut stand.wants);
    stand.info(2, 2, 3);
    let why = DropReason::NewerEpoch { theirs: Epoch(3), ours: Epoch(2) };
    assert_eq!(stand.dropped(), [(2, why)]);
    stand.wants.clear();
    // It had accepted this epoch only, but has the history of a newer one.
    (0..2).for_each(|step| stand.step(step, 5, 2));
    stand.leader.epoch_ack(ConnId(5), Some(Epoch(3)), Zxid::new(Epoch(3), 1), &mut stand.wants);
    assert!(matches!(stand.dropped()[..], [(5, DropReason::NeverProposed { .. })]), "{:?}", stand.wants);
    // And a leader that has lost its followers to it leads no longer, a tick later.
    stand.wants.clear();
    stand.leader.closed(ConnId(1));
    (1..=2).for_each(|half| stand.leader.tick(half * 1000, &mut stand.wants));
    let lost = Want::StepDown(StepDownReason::QuorumLost(vec![ServerId(3)]));
    assert_eq!(stand.wants.last(), Some(&lost));
}
