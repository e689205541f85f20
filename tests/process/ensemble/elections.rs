//! Who leads, and that nobody does without a quorum.

use zabra::types::Op;

use super::super::server::wait_until;
use super::super::wire::{Client, new_session, set_body};
use super::{CALM, Ensemble, QUICK, ask, sync};

/// The first start of five servers, one by one: the third makes the quorum and has the highest id, so it leads; those that come
/// later follow it, although their ids are higher. After a restart of all the newest history decides.
#[test]
fn the_third_of_five_servers_started_leads_and_the_others_follow() {
    let mut five = Ensemble::new(5, CALM);
    for id in 1..=2 {
        five.start(id);
        wait_until("it answers, but does not serve", || {
            ask(five.addr(id), "srvr").is_some_and(|answer| answer.contains("not currently serving requests"))
        });
    }
    five.start(3);
    (1..=3).for_each(|id| five.serves(id));
    let roles =
        |five: &mut Ensemble, ids: std::ops::RangeInclusive<usize>| ids.map(|id| five.role(id)).collect::<Vec<_>>();
    let want = |names: &[&str]| names.iter().map(|n| Some(n.to_string())).collect::<Vec<_>>();
    assert_eq!(roles(&mut five, 1..=3), want(&["follower", "follower", "leader"]));
    let mut client = five.client(1);
    client.create("/before", b"4 and 5 come").expect("new");
    for id in 4..=5 {
        five.start(id);
        five.serves(id);
        let mut other = five.client(id);
        sync(&mut other);
        assert_eq!(other.get("/before", false).expect("there").0, b"4 and 5 come");
    }
    assert_eq!(roles(&mut five, 1..=5), want(&["follower", "follower", "leader", "follower", "follower"]));
    // 4 and 5 do not get the last write, so neither may lead.
    five.stop(4);
    five.stop(5);
    client.create("/after", b"").expect("new");
    drop(client);
    (1..=3).for_each(|id| five.kill(id));
    [4, 5, 1].into_iter().for_each(|id| five.start(id));
    assert_eq!(five.leader(), 1, "it has the newest history");
    [2, 3].into_iter().for_each(|id| five.start(id));
    five.all_serve();
    assert_eq!(five.leader(), 1);
    for id in five.ids() {
        let mut client = five.client(id);
        sync(&mut client);
        assert_eq!(client.children("/", false), Ok(vec!["after".into(), "before".into(), "zookeeper".into()]));
    }
}

/// A member without a quorum closes its clients' connections and answers nobody, however long the others are away.
#[test]
fn a_minority_serves_nothing_and_a_quorum_serves_again() {
    let mut three = Ensemble::started(3, QUICK);
    let leader = three.leader();
    let others: Vec<usize> = three.ids().filter(|id| *id != leader).collect();
    let mut client = three.client(leader);
    client.create("/kept", b"").expect("new");
    client.create_mode("/owned", b"", 1).expect("new");
    three.kill(others[0]);
    client.set("/kept", b"with two", -1).expect("two of three are a quorum");
    three.kill(others[1]);
    // It may be proposed, but is never acknowledged.
    let answer = client.try_call(Op::SET_DATA, &set_body("/kept", b"alone", -1));
    assert!(!answer.is_ok_and(|reply| reply.err == 0));
    wait_until("it does not serve", || three.role(leader).is_none());
    let refused = Client::handshake(three.addr(leader), &new_session(10_000));
    assert!(refused.is_err(), "a minority opens no session");
    three.start(others[1]);
    three.serves(leader);
    three.serves(others[1]);
    let client = Client::handshake(three.addr(others[1]), &client.resumption()).expect("an answer");
    let mut client = client.expect("the session lives");
    sync(&mut client);
    assert_eq!(client.exists("/owned", false).map(|s| s.ephemeral_owner), Ok(client.session.0));
    let (data, _) = client.get("/kept", false).expect("there");
    assert!([&b"with two"[..], b"alone"].contains(&&data[..]), "{data:?}");
    client.close();
}

/// README's way from one server to three: the one with the data starts first, and is followed by an empty one before the
/// third comes. Data, sessions and ephemerals stay.
#[test]
fn one_server_becomes_three() {
    let mut three = Ensemble::new(3, CALM);
    three.is_alone(1, true);
    three.start(1);
    wait_until("it serves alone", || three.role(1).as_deref() == Some("standalone"));
    let mut client = three.client(1);
    client.create("/kept", b"data").expect("new");
    client.create_mode("/owned", b"", 1).expect("new");
    three.stop(1);
    three.is_alone(1, false);
    for id in 1..=2 {
        three.start(id);
    }
    three.serves(1);
    three.serves(2);
    assert_eq!(three.leader(), 1, "it has the history");
    three.start(3);
    for id in [2, 3, 1] {
        three.serves(id);
        let resumed = Client::handshake(three.addr(id), &client.resumption()).expect("an answer");
        client = resumed.expect("the session lives");
        sync(&mut client);
        assert_eq!(client.get("/kept", false).expect("there").0, b"data");
        assert_eq!(client.exists("/owned", false).map(|s| s.ephemeral_owner), Ok(client.session.0));
    }
    client.close();
}
