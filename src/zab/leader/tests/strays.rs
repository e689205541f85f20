//! Voters that look for a leader while there is one.

use super::*;
use crate::zab::vote::Vote;

/// `syncLimit` in half ticks.
const PATIENCE: usize = 10;

impl Three {
    /// Server `server` looks; its vote is for this history.
    fn looks(&mut self, server: i64, epoch: i64, last: Zxid) {
        let vote = Vote { leader: ServerId(server), zxid: last, peer_epoch: Epoch(epoch) };
        self.leader.looks(self.now_ms, ServerId(server), &vote, false, &mut self.wants);
    }

    /// It comes and is refused. Returns what else is wanted.
    fn is_refused(&mut self, server: i64, accepted: i64) -> Option<Want> {
        let conn = self.comes(server, accepted);
        let mut wants = self.wants().into_iter();
        let why = DropReason::NewerEpoch { theirs: Epoch(accepted), ours: Epoch(3) };
        assert_eq!(wants.next(), Some(Want::Drop { conn, why }));
        let then = wants.next();
        assert_eq!(wants.next(), None);
        then
    }

    /// Time passes while servers 1 and 2 follow.
    fn passes(&mut self, half_ticks: usize) {
        for _ in 0..half_ticks {
            self.hears(&[1, 2]);
            assert!(!self.half_ticks(1).iter().any(|want| matches!(want, Want::StepDown(_))));
        }
    }
}

fn newer_epoch(server: i64, theirs: i64) -> Option<Want> {
    let (server, theirs) = (ServerId(server), Epoch(theirs));
    Some(Want::StepDown(StepDownReason::NewerEpoch { server, theirs, ours: Epoch(3) }))
}

#[test]
fn a_voter_that_promised_a_newer_epoch_brings_about_one_election_in_the_end() {
    let mut three = Three::established();
    three.looks(4, 2, OWN.last);
    assert_eq!(three.is_refused(4, 4), None);
    for _ in 1..PATIENCE {
        three.passes(1);
        three.looks(4, 2, OWN.last);
        assert_eq!(three.is_refused(4, 4), None, "a quorum may be on its way to the newer epoch");
    }
    three.passes(1);
    assert_eq!(three.is_refused(4, 4), newer_epoch(4, 4));
}

#[test]
fn a_voter_that_was_gone_meanwhile_begins_anew() {
    let mut three = Three::established();
    assert_eq!(three.is_refused(4, 4), None);
    three.looks(4, 3, zxid(0));
    three.passes(PATIENCE + 1);
    assert_eq!(three.is_refused(4, 4), None);
    three.passes(PATIENCE - 1);
    assert_eq!(three.is_refused(4, 4), None, "it was not heard to look again");
    three.looks(4, 3, zxid(0));
    three.passes(1);
    assert_eq!(three.is_refused(4, 4), newer_epoch(4, 4));
}

#[test]
fn nobody_steps_down_for_a_history_that_would_win_the_election() {
    for (epoch, last) in [(4, Zxid::new(Epoch(4), 7)), (3, zxid(2)), (4, Zxid::ZERO)] {
        let mut three = Three::established();
        three.proposes(1);
        three.acks(1, 1);
        three.acks(2, 1);
        assert_eq!(three.is_refused(4, 4), None);
        three.looks(4, epoch, last);
        for _ in 0..3 * PATIENCE {
            three.passes(1);
            assert_eq!(three.is_refused(4, 4), None, "{last} of epoch {epoch}");
        }
        // What all have is no newer history.
        three.looks(4, 3, zxid(1));
        assert_eq!(three.is_refused(4, 4), newer_epoch(4, 4));
    }
}

#[test]
fn servers_that_do_not_vote_make_nobody_step_down() {
    let mut three = Three::established();
    assert_eq!(three.is_refused(9, 4), None);
    for _ in 0..3 * PATIENCE {
        three.passes(1);
        three.looks(9, 2, OWN.last);
        assert_eq!(three.is_refused(9, 4), None);
    }
}

#[test]
fn an_observer_that_accepted_a_newer_epoch_may_follow() {
    let mut three = Three::established();
    let conn = three.comes(6, 4);
    assert_eq!(three.wants(), [Want::LeaderInfo { conn, epoch: Epoch(3) }]);
    three.promises(6, None, OWN.last);
    three.takes_over(6);
    assert_eq!(three.wants().last(), Some(&Want::UpToDate { conn }));
    // Unless its history is of that epoch.
    three.leader.closed(conn);
    let conn = three.comes(6, 4);
    three.promises(6, Some(4), OWN.last);
    let why = DropReason::NewerEpoch { theirs: Epoch(4), ours: Epoch(3) };
    assert_eq!(three.wants().last(), Some(&Want::Drop { conn, why }));
}

#[test]
fn a_leader_without_a_quorum_waits_for_servers_that_look_again_as_long_as_it_is_told() {
    let electorate = Electorate { members: members(&[1, 2, 3, 4, 5], &[], Zxid::ZERO), next: None };
    let vote = Vote { leader: ServerId(1), zxid: OWN.last, peer_epoch: OWN.current };
    let waits = |most, now_ms, supports| {
        let options = LeaderOptions { max_epoch_wait_ms: most, ..LeaderOptions::default() };
        let mut three = Three::led_by(options, &electorate);
        three.leader.looks(now_ms, ServerId(1), &vote, supports, &mut three.wants);
        three.wants()
    };
    assert_eq!(waits(None, 19_000, true), []);
    assert_eq!(waits(Some(3000), 3000, true), []);
    assert_eq!(waits(Some(3000), 9000, false), []);
    let left = StepDownReason::SupporterLeft { server: ServerId(1), waited_ms: 3001 };
    assert_eq!(waits(Some(3000), 3001, true), [Want::StepDown(left)]);
    // Later it does not matter.
    let mut three = Three::discovered();
    three.leader.options.max_epoch_wait_ms = Some(0);
    three.leader.looks(5000, ServerId(1), &vote, true, &mut three.wants);
    assert_eq!(three.wants(), []);
}
