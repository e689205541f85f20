use std::collections::BTreeMap;
use std::sync::Arc;

mod strays;
mod syncs;

use super::*;
use crate::quorum::{Member, Role};
use crate::zab::state::{LeaderFigures, ZabState};

fn members(voters: &[i64], observers: &[i64], version: Zxid) -> Arc<Members> {
    let member = |id: &i64, role: &str| (ServerId(*id), Member::parse(&format!("h{id}:1:2:{role}")).expect("a member"));
    let all =
        voters.iter().map(|id| member(id, "participant")).chain(observers.iter().map(|id| member(id, "observer")));
    Members::majority(all.collect(), version).expect("members").into()
}

/// Leader 3 of voters 1 to 5, observer 6; server 9 is in no configuration. Its history: epoch 2, zxid 0x200000005.
struct Three {
    leader: Leader,
    wants: Vec<Want>,
    now_ms: i64,
}

const OWN: History = History { accepted: Epoch(2), current: Epoch(2), last: Zxid(0x2_0000_0005) };

impl Three {
    fn with(electorate: &Electorate) -> Three {
        let options = LeaderOptions { max_snaps: 1, max_diffs: 2, ..LeaderOptions::default() };
        Three::led_by(options, electorate)
    }

    fn led_by(options: LeaderOptions, electorate: &Electorate) -> Three {
        let mut wants = Vec::new();
        let leader = Leader::new(0, ServerId(3), options, electorate, OWN, &mut wants);
        Three { leader, wants, now_ms: 0 }
    }

    fn new() -> Three {
        Three::with(&Electorate { members: members(&[1, 2, 3, 4, 5], &[6], Zxid::ZERO), next: None })
    }

    fn wants(&mut self) -> Vec<Want> {
        self.leader.check();
        std::mem::take(&mut self.wants)
    }

    fn comes(&mut self, server: i64, accepted: i64) -> ConnId {
        let conn = ConnId(server as u64);
        self.leader.connected(conn, &mut self.wants);
        let (server, accepted) = (Some(ServerId(server)), Epoch(accepted));
        let said = Introduction { server, observer: server == Some(ServerId(6)), accepted, config_version: None };
        self.leader.info(conn, said, &mut self.wants);
        conn
    }

    fn promises(&mut self, server: i64, current: Option<i64>, last: Zxid) {
        self.leader.epoch_ack(ConnId(server as u64), current.map(Epoch), last, &mut self.wants);
    }

    /// Has epoch 3 and its promise.
    fn discovered() -> Three {
        let mut three = Three::new();
        three.comes(1, 2);
        three.comes(2, 2);
        assert_eq!(three.wants(), [Want::SaveAccepted(Epoch(3))]);
        three.leader.accepted_saved(Epoch(3), &mut three.wants);
        let told = |server| Want::LeaderInfo { conn: ConnId(server), epoch: Epoch(3) };
        assert_eq!(three.wants(), [told(1), told(2)]);
        three
    }

    /// Servers 1 and 2 are sent what they miss.
    fn accepted() -> Three {
        let mut three = Three::discovered();
        three.promises(1, Some(2), OWN.last);
        assert_eq!(three.wants(), []);
        three.promises(2, Some(1), Zxid(0x1_0000_0009));
        let sync = |server: i64, last| Want::Synchronise {
            conn: ConnId(server as u64),
            server: ServerId(server),
            observer: false,
            last,
        };
        let wanted = [Want::SaveCurrent(Epoch(3)), sync(1, OWN.last), sync(2, Zxid(0x1_0000_0009))];
        assert_eq!(three.wants(), wanted);
        three
    }

    fn takes_over(&mut self, server: i64) {
        self.leader.new_leader_sent(ConnId(server as u64));
        self.leader.ack(ConnId(server as u64), zxid(0), &mut self.wants);
    }

    /// Servers 1 and 2 follow.
    fn established() -> Three {
        let mut three = Three::accepted();
        three.leader.current_saved(Epoch(3), &mut three.wants);
        three.takes_over(1);
        assert_eq!(three.wants(), []);
        three.takes_over(2);
        let ready = |server| Want::UpToDate { conn: ConnId(server) };
        assert_eq!(three.wants(), [Want::Established(Epoch(3)), ready(1), ready(2)]);
        three
    }

    /// Server or observer `server` follows too.
    fn joined(&mut self, server: i64) {
        let conn = self.comes(server, 2);
        self.promises(server, None, OWN.last);
        self.takes_over(server);
        assert_eq!(self.wants().last(), Some(&Want::UpToDate { conn }));
    }

    fn proposes(&mut self, count: u32) -> Zxid {
        (0..count).filter_map(|_| self.leader.propose(&mut self.wants)).last().expect("a zxid")
    }

    fn acks(&mut self, server: i64, counter: u32) -> Vec<Want> {
        self.leader.ack(ConnId(server as u64), zxid(counter), &mut self.wants);
        self.wants()
    }

    fn half_ticks(&mut self, count: usize) -> Vec<Want> {
        for _ in 0..count {
            self.now_ms += 1000;
            self.leader.tick(self.now_ms, &mut self.wants);
        }
        self.wants()
    }

    fn hears(&mut self, servers: &[i64]) {
        servers.iter().for_each(|server| self.leader.heard(ConnId(*server as u64)));
    }
}

fn zxid(counter: u32) -> Zxid {
    Zxid::new(Epoch(3), counter)
}

fn commit(counter: u32) -> Want {
    Want::Commit { upto: zxid(counter) }
}

#[test]
fn what_a_leader_shows() {
    let three = Three::new();
    assert_eq!((three.leader.state(), three.leader.figures()), (ZabState::Discovery, LeaderFigures::default()));
    let three = Three::accepted();
    assert_eq!(three.leader.state(), ZabState::Synchronization);
    let figures = three.leader.figures();
    assert_eq!((figures.learners, figures.synced_followers), (2, 0), "they are sent what they miss");
    let mut three = Three::established();
    assert_eq!(three.leader.state(), ZabState::Broadcast);
    three.joined(6);
    three.joined(9);
    three.comes(4, 2);
    three.proposes(1);
    three.leader.sync_asked(ConnId(1), &mut three.wants);
    let wanted = LeaderFigures {
        learners: 5,
        synced_followers: 3,
        synced_non_voting_followers: 1,
        observers: vec![(ConnId(6), ServerId(6))],
        pending_syncs: 1,
    };
    assert_eq!(three.leader.figures(), wanted);
}

#[test]
fn the_epoch_is_one_more_than_anybody_has_accepted() {
    let mut three = Three::new();
    three.comes(6, 7);
    three.comes(9, 8);
    three.comes(1, 4);
    assert_eq!(three.wants(), [], "observers and strangers are no quorum");
    three.comes(2, -1);
    assert_eq!(three.wants(), [Want::SaveAccepted(Epoch(9))]);
    three.comes(4, 8);
    three.comes(5, 9);
    assert_eq!(three.wants(), [], "nobody is told before the promise is durable");
    three.leader.accepted_saved(Epoch(9), &mut three.wants);
    assert_eq!(three.wants().len(), 6);
    assert_eq!(three.leader.epoch(), Epoch(9));
}

#[test]
fn who_cannot_follow_is_refused() {
    let mut three = Three::discovered();
    let refused = |three: &mut Three, server, accepted, version| {
        let conn = ConnId(77);
        three.leader.connected(conn, &mut three.wants);
        let (server, accepted) = (Some(ServerId(server)), Epoch(accepted));
        let said = Introduction { server, observer: false, accepted, config_version: Some(Zxid(version)) };
        assert_eq!(three.leader.info(conn, said, &mut three.wants), None);
        match &three.wants()[..] {
            [Want::Drop { conn: ConnId(77), why }] => *why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&mut three, 3, 2, 0), DropReason::OwnId);
    assert_eq!(refused(&mut three, 4, 4, 0), DropReason::NewerEpoch { theirs: Epoch(4), ours: Epoch(3) });
    assert_eq!(refused(&mut three, 4, -2, 0), DropReason::NoEpoch(Epoch(-2)));
    assert_eq!(refused(&mut three, 4, i64::from(i32::MAX), 0), DropReason::NoEpoch(Epoch(i64::from(i32::MAX))));
    assert_eq!(refused(&mut three, 4, 2, 1), DropReason::NewerConfig { theirs: Zxid(1), ours: Zxid::ZERO });
    assert_eq!(three.leader.learners().count(), 2);
}

#[test]
fn learners_without_an_id_get_one() {
    let mut three = Three::new();
    let mut id = |conn| {
        three.leader.connected(ConnId(conn), &mut three.wants);
        let said = Introduction { server: None, observer: false, accepted: Epoch(0), config_version: None };
        three.leader.info(ConnId(conn), said, &mut three.wants)
    };
    assert_eq!((id(1), id(2)), (Some(ServerId(-1)), Some(ServerId(-2))));
    assert_eq!(three.wants(), []);
}

#[test]
fn a_repeated_promise_and_one_without_a_history_count_for_no_quorum() {
    let mut three = Three::discovered();
    three.promises(1, None, OWN.last);
    three.promises(2, Some(-1), Zxid::NONE);
    three.comes(6, 2);
    three.promises(6, Some(2), OWN.last);
    three.comes(9, 2);
    three.promises(9, Some(2), OWN.last);
    assert!(!three.wants().iter().any(|want| matches!(want, Want::SaveCurrent(_) | Want::Synchronise { .. })));
    three.comes(4, 2);
    three.promises(4, Some(2), OWN.last);
    assert!(!three.wants().contains(&Want::SaveCurrent(Epoch(3))));
    three.comes(5, 0);
    three.promises(5, Some(0), Zxid::ZERO);
    // Everybody is brought up to date, whether it counted or not.
    let wants = three.wants();
    assert!(wants.contains(&Want::SaveCurrent(Epoch(3))), "{wants:?}");
    assert_eq!(wants.iter().filter(|want| matches!(want, Want::Synchronise { .. })).count(), 6);
}

#[test]
fn a_voter_with_a_newer_history_must_lead() {
    for (current, last) in [(2, Zxid(OWN.last.0 + 1)), (2, Zxid(0x2_0000_0100))] {
        let mut three = Three::discovered();
        three.promises(1, Some(current), last);
        let why = StepDownReason::Ahead { server: ServerId(1), current: Epoch(current), last };
        assert_eq!(three.wants(), [Want::StepDown(why)]);
        // It is over: nothing is wanted any more.
        three.promises(2, Some(2), OWN.last);
        three.comes(4, 2);
        three.leader.current_saved(Epoch(3), &mut three.wants);
        assert_eq!((three.half_ticks(100), three.leader.deadline_ms()), (vec![], None));
    }
    // An observer cannot lead, however new its history is.
    let mut three = Three::discovered();
    three.comes(6, 2);
    three.promises(6, Some(2), Zxid(OWN.last.0 + 1));
    let why = DropReason::Ahead { current: Epoch(2), last: Zxid(OWN.last.0 + 1) };
    assert_eq!(three.wants().last(), Some(&Want::Drop { conn: ConnId(6), why }));
}

#[test]
fn a_history_of_this_epoch_needs_its_promise() {
    let mut three = Three::established();
    three.proposes(2);
    three.comes(4, 2);
    three.promises(4, Some(3), zxid(1));
    three.comes(5, 3);
    three.promises(5, None, zxid(3));
    let drops: Vec<_> = three.wants().into_iter().filter(|want| matches!(want, Want::Drop { .. })).collect();
    let why = [
        DropReason::NewerEpoch { theirs: Epoch(3), ours: Epoch(3) },
        DropReason::NeverProposed { claimed: zxid(3), proposed: zxid(2) },
    ];
    assert_eq!(drops, [(4, why[0]), (5, why[1])].map(|(conn, why)| Want::Drop { conn: ConnId(conn), why }));
}

#[test]
fn it_is_established_by_a_quorum_and_its_own_epoch_on_disk() {
    let mut three = Three::accepted();
    three.takes_over(1);
    three.takes_over(2);
    assert_eq!((three.wants(), three.leader.is_established()), (vec![], false));
    three.leader.current_saved(Epoch(3), &mut three.wants);
    assert_eq!(three.wants()[0], Want::Established(Epoch(3)));
    assert_eq!((three.leader.last_committed(), three.leader.last_proposed()), (zxid(0), zxid(0)));
    assert!(three.leader.learners().all(|(_, _, follows)| follows));
}

#[test]
fn commits_are_made_in_order_by_a_quorum_of_voters() {
    let mut three = Three::established();
    three.joined(6);
    three.joined(9);
    assert_eq!((three.proposes(1), three.proposes(2)), (zxid(1), zxid(3)));
    assert_eq!(three.acks(1, 2), []);
    assert_eq!((three.acks(6, 3), three.acks(9, 3)), (vec![], vec![]));
    three.leader.synced(zxid(1), &mut three.wants);
    assert_eq!(three.wants(), []);
    assert_eq!(three.acks(2, 3), [commit(1)]);
    assert_eq!(three.acks(2, 1), [], "an old ack");
    assert_eq!(three.acks(2, 0), [], "UPTODATE's");
    three.leader.synced(zxid(3), &mut three.wants);
    assert_eq!(three.wants(), [commit(2)]);
    assert_eq!(three.acks(1, 3), [commit(3)]);
    let why = DropReason::NeverProposed { claimed: zxid(4), proposed: zxid(3) };
    assert_eq!(three.acks(1, 4), [Want::Drop { conn: ConnId(1), why }]);
}

#[test]
fn an_ack_before_that_of_newleader_counts_with_it() {
    let mut three = Three::established();
    three.proposes(2);
    three.comes(4, 2);
    three.promises(4, None, OWN.last);
    three.wants();
    three.leader.synced(zxid(2), &mut three.wants);
    assert_eq!(three.acks(1, 2), []);
    assert_eq!(three.acks(4, 2), [], "it may have got the proposal, but not NEWLEADER");
    three.leader.new_leader_sent(ConnId(4));
    assert_eq!(three.acks(4, 1), []);
    assert_eq!(three.acks(4, 0), [Want::UpToDate { conn: ConnId(4) }, commit(2)]);
}

#[test]
fn what_a_closed_connection_acknowledged_does_not_count() {
    let mut three = Three::established();
    three.proposes(1);
    assert_eq!(three.acks(1, 1), []);
    three.leader.closed(ConnId(1));
    assert_eq!(three.acks(2, 1), []);
    three.leader.synced(zxid(1), &mut three.wants);
    assert_eq!(three.wants(), []);
    three.joined(1);
    assert_eq!(three.acks(1, 1), [commit(1)]);
}

#[test]
fn each_step_has_initlimit() {
    let mut three = Three::new();
    assert_eq!(three.half_ticks(20), []);
    assert_eq!(three.half_ticks(1), [Want::StepDown(StepDownReason::NoQuorumCame(vec![ServerId(3)]))]);
    let mut three = Three::discovered();
    three.promises(1, Some(2), OWN.last);
    three.hears(&[2]);
    assert_eq!(three.half_ticks(20), []);
    let why = DropReason::Silent { ticks: 10 };
    let gone = Want::StepDown(StepDownReason::NoQuorumAccepted(vec![ServerId(1), ServerId(3)]));
    assert_eq!(three.half_ticks(1), [Want::Drop { conn: ConnId(2), why }, gone]);
}

#[test]
fn who_makes_progress_gets_the_time_it_needs() {
    let mut three = Three::accepted();
    three.leader.current_saved(Epoch(3), &mut three.wants);
    for _ in 0..10 {
        let wants = three.half_ticks(10);
        assert!(wants.iter().all(|want| matches!(want, Want::Ping { .. })), "{wants:?}");
        three.hears(&[1, 2]);
    }
    // Who comes anew now is not waited for: server 2 would come and go for ever.
    three.leader.closed(ConnId(2));
    three.comes(2, 3);
    let wants = three.half_ticks(1);
    assert_eq!(wants.last(), Some(&Want::StepDown(StepDownReason::NoQuorumSynced(vec![ServerId(3)]))));
}

#[test]
fn followers_are_pinged_and_missed_once_a_tick() {
    let mut three = Three::established();
    three.joined(6);
    let ping = Want::Ping { last_proposed: zxid(0) };
    assert_eq!(three.half_ticks(2), [ping.clone(), ping.clone()]);
    three.hears(&[1]);
    assert_eq!(three.half_ticks(8).len(), 8);
    three.hears(&[6]);
    let silent = |server| Want::Drop { conn: ConnId(server), why: DropReason::Silent { ticks: 5 } };
    assert_eq!(three.half_ticks(1), [silent(2), ping.clone()]);
    let lost = Want::StepDown(StepDownReason::QuorumLost(vec![ServerId(1), ServerId(3)]));
    assert_eq!(three.half_ticks(1), [lost]);
}

#[test]
fn a_pause_is_nobodys_silence() {
    let mut three = Three::established();
    three.now_ms += 3_600_000;
    assert_eq!(three.half_ticks(1).len(), 1);
    assert_eq!(three.leader.deadline_ms(), Some(three.now_ms + 1000));
    three.leader.tick(three.now_ms + 999, &mut three.wants);
    assert_eq!(three.wants(), []);
}

#[test]
fn who_acknowledges_nothing_is_dropped_though_it_answers() {
    let mut three = Three::established();
    three.joined(4);
    three.proposes(3);
    for round in 0..4 {
        three.hears(&[1, 2, 4]);
        three.acks(1, round);
        three.acks(2, 3);
        three.half_ticks(3);
    }
    // Server 4 was sent nothing that it must acknowledge, or so it seems, until something is proposed.
    let left: Vec<_> = three.leader.learners().map(|(_, server, _)| server.0).collect();
    assert_eq!(left, [1, 2]);
}

#[test]
fn what_was_committed_before_newleader_is_not_missed() {
    let mut three = Three::established();
    three.proposes(3);
    three.leader.synced(zxid(3), &mut three.wants);
    three.acks(1, 3);
    assert_eq!(three.acks(2, 3), [commit(3)]);
    three.joined(4);
    for _ in 0..20 {
        three.hears(&[1, 2, 4]);
        assert_eq!(three.half_ticks(2).len(), 2);
    }
}

#[test]
fn the_counter_ends_where_apaches_does() {
    let mut three = Three::established();
    three.leader.last_proposed = zxid(u32::MAX - 2);
    assert_eq!(three.proposes(1), zxid(u32::MAX - 1));
    assert_eq!(three.leader.propose(&mut three.wants), None);
    assert_eq!(three.wants, [Want::StepDown(StepDownReason::EpochExhausted(zxid(u32::MAX - 1)))]);
}

#[test]
fn observers_are_brought_up_to_date_a_few_at_a_time() {
    let mut three = Three::established();
    let syncs = |three: &mut Three, server, kind| {
        let conn = three.comes(server, 2);
        three.promises(server, None, Zxid::ZERO);
        three.wants();
        three.leader.sync_begins(conn, kind, &mut three.wants);
        three.wants()
    };
    assert_eq!(syncs(&mut three, 4, SyncKind::Snap), []);
    let why = DropReason::TooManySyncs(1);
    assert_eq!(syncs(&mut three, 6, SyncKind::Snap), [Want::Drop { conn: ConnId(6), why }]);
    assert_eq!(syncs(&mut three, 5, SyncKind::Snap), [], "a voter is never refused");
    assert_eq!(syncs(&mut three, 6, SyncKind::Diff), []);
}

#[test]
fn a_reconfig_needs_old_and_new_quorums_from_its_zxid_on() {
    let mut three = Three::established();
    three.joined(4);
    three.joined(6);
    three.joined(9);
    three.proposes(2);
    // Now 3, 9 and 10 vote.
    three.leader.proposed_members(members(&[3, 9, 10], &[], zxid(2)));
    three.proposes(2);
    three.leader.synced(zxid(4), &mut three.wants);
    assert_eq!(three.acks(1, 4), []);
    assert_eq!(three.acks(2, 4), [commit(1)], "the old quorum alone decides before the reconfig only");
    assert_eq!(three.acks(9, 3), [Want::Activate { zxid: zxid(2), designated: ServerId(3) }, commit(3)]);
    three.proposes(1);
    three.leader.synced(zxid(5), &mut three.wants);
    three.leader.closed(ConnId(1));
    three.leader.closed(ConnId(2));
    assert_eq!(three.acks(9, 5), [], "0x300000004 was proposed while both decided");
    assert_eq!(three.acks(4, 4), []);
    three.joined(1);
    assert_eq!(three.acks(1, 4), [commit(5)]);
    three.leader.closed(ConnId(1));
    three.leader.closed(ConnId(4));
    three.proposes(1);
    three.leader.synced(zxid(6), &mut three.wants);
    assert_eq!(three.acks(9, 6), [commit(6)], "only the new quorum decides");
}

#[test]
fn a_leader_that_is_not_designated_commits_nothing_more() {
    let mut three = Three::established();
    three.proposes(1);
    three.leader.proposed_members(members(&[1, 2], &[3], zxid(1)));
    three.proposes(1);
    three.leader.synced(zxid(2), &mut three.wants);
    assert_eq!(three.acks(1, 1), []);
    assert_eq!(three.acks(2, 2), [Want::Activate { zxid: zxid(1), designated: ServerId(2) }]);
    assert_eq!(three.acks(1, 2), []);
    assert_eq!(three.leader.last_committed(), zxid(1));
}

#[test]
fn a_newer_configuration_seen_before_decides_too_and_comes_into_force() {
    let now = members(&[1, 2, 3], &[], Zxid(1));
    let next = members(&[3, 4, 5], &[], Zxid(2));
    let mut three = Three::with(&Electorate { members: now, next: Some(next) });
    three.comes(4, 2);
    three.comes(5, 2);
    assert_eq!(three.wants(), [], "only the configuration in force decides about the epoch");
    three.comes(1, 2);
    three.leader.accepted_saved(Epoch(3), &mut three.wants);
    three.wants();
    for server in [4, 5, 1] {
        three.promises(server, Some(2), OWN.last);
    }
    three.leader.current_saved(Epoch(3), &mut three.wants);
    three.wants();
    three.takes_over(1);
    assert_eq!(three.wants(), []);
    three.takes_over(5);
    let active = Want::Activate { zxid: zxid(0), designated: ServerId(3) };
    let ready = |server| Want::UpToDate { conn: ConnId(server) };
    assert_eq!(three.wants(), [Want::Established(Epoch(3)), active, ready(1), ready(5)]);
    three.proposes(1);
    three.leader.synced(zxid(1), &mut three.wants);
    assert_eq!(three.acks(5, 1), [commit(1)]);
}

#[test]
fn a_server_without_weight_does_not_make_another_step_down() {
    let all: BTreeMap<_, _> = (1..=4).map(|id| (ServerId(id), Member::parse("h:1:2").expect("a member"))).collect();
    assert!(all.values().all(|member| member.role == Role::Participant));
    let groups = [(1, (1..=4).map(ServerId).collect())].into();
    let weighed = Members::hierarchical(all, groups, [(ServerId(4), 0)].into(), Zxid::ZERO).expect("members");
    let mut three = Three::with(&Electorate { members: weighed.into(), next: None });
    three.comes(1, 2);
    three.comes(4, 2);
    three.leader.accepted_saved(Epoch(3), &mut three.wants);
    three.wants();
    three.promises(4, Some(2), Zxid(OWN.last.0 + 1));
    assert!(matches!(three.wants()[..], [Want::Drop { why: DropReason::Ahead { .. }, .. }]));
}

/// A leader alone, and what it wants.
fn alone(last: Zxid) -> (Leader, Vec<Want>) {
    (Leader::alone(ServerId(1), last), Vec::new())
}

#[test]
fn alone_the_own_log_commits() {
    let (mut leader, mut wants) = alone(Zxid(5));
    assert_eq!([leader.propose(&mut wants), leader.propose(&mut wants)], [Some(Zxid(6)), Some(Zxid(7))]);
    assert_eq!((leader.last_committed(), leader.deadline_ms()), (Zxid(5), None));
    leader.synced(Zxid(7), &mut wants);
    leader.synced(Zxid(6), &mut wants);
    assert_eq!(wants, [Want::Commit { upto: Zxid(7) }]);
    leader.check();
}

#[test]
fn alone_an_epoch_ends_with_its_counter() {
    let last = Zxid::new(Epoch(2), u32::MAX);
    let (mut leader, mut wants) = alone(Zxid(last.0 - 1));
    assert!(!leader.is_exhausted());
    assert_eq!((leader.propose(&mut wants), leader.is_exhausted()), (Some(last), true));
    assert_eq!(leader.begin_epoch(), Epoch(3));
    assert_eq!((leader.propose(&mut wants), leader.is_exhausted()), (Some(zxid(1)), false));
    // The old epoch's last proposal is acknowledged in the new one.
    leader.synced(last, &mut wants);
    assert_eq!(wants, [Want::Commit { upto: last }]);
    leader.check();
}

#[test]
#[should_panic(expected = "without them")]
fn the_leader_of_others_begins_no_epoch() {
    Three::established().leader.begin_epoch();
}

#[test]
#[should_panic(expected = "0x9 is durable")]
fn what_was_never_proposed_cannot_be_durable() {
    let (mut leader, mut wants) = alone(Zxid::ZERO);
    leader.synced(Zxid(9), &mut wants);
}

#[test]
#[should_panic(expected = "a proposal in Synchronisation")]
fn nothing_is_proposed_before_the_leader_is_established() {
    let mut three = Three::accepted();
    three.leader.propose(&mut three.wants);
}
