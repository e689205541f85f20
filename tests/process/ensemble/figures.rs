//! What members show of the way of transactions.

use super::{CALM, Ensemble, ask, sync};

/// A figure of `mntr`.
fn figure(ensemble: &Ensemble, id: usize, name: &str) -> u64 {
    let text = ask(ensemble.addr(id), "mntr").expect("an answer");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    value.unwrap_or_else(|| panic!("{name}: {text}")).parse().expect("a number")
}

#[test]
fn transactions_are_timed_on_every_member() {
    let mut three = Ensemble::started(3, CALM);
    let (leader, mut client) = (three.leader(), three.client(1));
    client.create("/timed", b"").expect("new");
    for version in 0..20 {
        client.set("/timed", b"", version).expect("there");
    }
    for id in three.ids() {
        sync(&mut three.client(id));
        let counts = ["quorum_ack", "proposal", "proposal_ack_creation", "commit_propagation", "propagation"]
            .map(|name| figure(&three, id, &format!("zk_cnt_{name}_latency")));
        let is_enough = |count: u64| count >= 20;
        let seen = counts.map(is_enough);
        assert_eq!(seen, [id == leader, id != leader, true, id != leader, true], "{id}: {counts:?}");
        let most = if id == leader { "quorum_ack" } else { "commit_propagation" };
        assert!(figure(&three, id, &format!("zk_max_{most}_latency")) < 60_000, "milliseconds");
    }
    // A quorum of two has acknowledged each write before it was committed.
    let acks = three.ids().filter_map(|id| {
        let text = ask(three.addr(leader), "mntr").expect("an answer");
        let key = format!("zk_cnt_{id}_ack_latency\t");
        text.lines().find_map(|line| line.strip_prefix(key.as_str())?.parse::<u64>().ok())
    });
    assert!(acks.sum::<u64>() >= 40, "acks of {leader} and its followers");
    for id in three.ids().filter(|id| *id != leader) {
        // PROPOSAL and COMMIT of each.
        assert!(figure(&three, leader, &format!("zk_cnt_{id}_learner_handler_qp_size")) >= 40, "{id}");
        assert!(figure(&three, leader, &format!("zk_cnt_{id}_learner_handler_qp_time_ms")) >= 40, "{id}");
    }
    client.close();
}
