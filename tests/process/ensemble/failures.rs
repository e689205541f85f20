//! Members that fail under load.

use std::fs;

use super::super::server::wait_until;
use super::super::wire::Client;
use super::load::{Load, create_somewhere};
use super::{Ensemble, QUICK, sync};

/// Rounds that every writer makes between two failures.
const ROUNDS: usize = 20;

#[test]
fn kill_9_of_leader_and_follower_loses_nothing() {
    let mut three = Ensemble::started(3, QUICK);
    let load = Load::on(&three);
    load.goes_on(ROUNDS);
    for _ in 0..2 {
        let leader = three.leader();
        three.kill(leader);
        load.goes_on(ROUNDS);
        three.start(leader);
        three.all_serve();
        let follower = three.follower();
        three.kill(follower);
        load.goes_on(ROUNDS);
        three.start(follower);
        three.all_serve();
    }
    load.check(&mut three);
}

/// A member that stands still is left behind, and takes its place again when it goes on: a leader that slept leads no more.
#[test]
fn a_pause_of_leader_and_follower_loses_nothing() {
    let mut three = Ensemble::started(3, QUICK);
    let load = Load::on(&three);
    load.goes_on(ROUNDS);
    let old = three.leader();
    three.pause(old);
    let new = three.leader_after(old);
    load.goes_on(ROUNDS);
    three.resume(old);
    load.goes_on(ROUNDS);
    three.all_serve();
    let follower = three.ids().find(|id| ![old, new].contains(id)).expect("three");
    three.pause(follower);
    load.goes_on(2 * ROUNDS);
    three.resume(follower);
    load.goes_on(ROUNDS);
    load.check(&mut three);
}

/// Every member is stopped and started again, one at a time, and then starts with an empty directory.
#[test]
fn rolling_restart_and_wiped_directories() {
    let mut three = Ensemble::started(3, QUICK);
    let load = Load::on(&three);
    load.goes_on(ROUNDS);
    for id in three.ids() {
        three.stop(id);
        load.goes_on(ROUNDS);
        three.start(id);
        three.all_serve();
    }
    for id in three.ids() {
        three.kill(id);
        three.wipe(id);
        three.start(id);
        three.all_serve();
        load.goes_on(ROUNDS);
    }
    load.check(&mut three);
}

/// A torn write at the end of a member's log is cut off, and what it lacks comes from the leader.
#[test]
fn a_torn_log_is_made_whole_by_the_others() {
    let mut three = Ensemble::started(3, QUICK);
    let load = Load::on(&three);
    load.goes_on(ROUNDS);
    let follower = three.follower();
    three.kill(follower);
    let log = three.home(follower).logs().pop().expect("a log");
    let bytes = fs::read(&log).expect("read");
    let used = bytes.iter().rposition(|b| *b != 0).expect("records");
    let file = fs::File::options().write(true).open(&log).expect("opened");
    file.set_len(used as u64 - 20).expect("cut");
    load.goes_on(ROUNDS);
    three.start(follower);
    three.all_serve();
    load.goes_on(ROUNDS);
    load.check(&mut three);
}

/// Five members serve with two down, among them the leader, and a session that nobody hears expires under the new leader, but
/// one that is heard does not.
#[test]
fn five_members_serve_with_two_down() {
    let mut five = Ensemble::started(5, QUICK);
    let load = Load::on(&five);
    load.goes_on(ROUNDS);
    let leader = five.leader();
    let silent = Client::with_timeout(five.addr(leader), 4000);
    let mut owner = Client::handshake(five.addr(leader), &silent.resumption()).expect("an answer").expect("it lives");
    owner.create_mode("/silent", b"", 1).expect("new");
    let follower = five.follower();
    five.kill(leader);
    five.kill(follower);
    load.goes_on(ROUNDS);
    let new = five.leader();
    let mut seer = five.client(new);
    wait_until("the silent session has expired", || {
        sync(&mut seer);
        seer.exists("/silent", false) == Err(-101)
    });
    drop(seer);
    five.start(leader);
    five.start(follower);
    create_somewhere(&mut five, "/after");
    load.check(&mut five);
}
