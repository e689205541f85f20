//! The answers of members of an ensemble. The expected texts are what three voters and an observer of Apache ZooKeeper 3.9.5
//! answered in the same roles.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::report::Report;
use super::super::{commands, four_letter, metrics};
use super::report;
use crate::config::Config;
use crate::peer::role_status::{LeadingStatus, Mode, ObserverStatus, RoleStatus};
use crate::peer::status::{LearnerStats, QueueStats};
use crate::quorum::{Member, Members, Role};
use crate::types::{ConnId, Distribution, Latencies, ServerId, Zxid};
use crate::zab::state::{LeaderFigures, Traffic, ZabState};

const SERVERS: &str = "server.1=127.0.0.1:24381:24481:participant\nserver.2=127.0.0.1:24382:24482:participant\n\
                       server.3=127.0.0.1:24383:24483:participant\nserver.4=127.0.0.1:24384:24484:observer\nversion=0";

fn members() -> Arc<Members> {
    let lines = SERVERS.lines().filter_map(|line| line.strip_prefix("server.")?.split_once('='));
    let all: BTreeMap<_, _> = lines
        .map(|(id, line)| (ServerId(id.parse().expect("an id")), Member::parse(line).expect("a member")))
        .collect();
    Members::majority(all, Zxid::ZERO).expect("a membership").into()
}

/// The report of server `me` in a role; server 2 leads.
fn of(me: i64, mode: Mode) -> Report {
    let r = report();
    let mut config = Config::clone(&r.config);
    (config.ensemble.init_limit, config.ensemble.sync_limit) = (10, 5);
    config.client.port = 24180 + me as u16;
    let mut role = RoleStatus {
        mode,
        leader: Some(ServerId(2)),
        members: Some(members()),
        ..RoleStatus::standalone(ServerId(me))
    };
    if mode == Mode::Leader {
        let learners = LeaderFigures {
            learners: 3,
            synced_followers: 2,
            observers: vec![(ConnId(9), ServerId(4))],
            pending_syncs: 1,
            ..LeaderFigures::default()
        };
        let since_ms = r.now.mono_ms - 10_627;
        let observers = vec![ObserverStatus {
            server: ServerId(4),
            from: ([127, 0, 0, 1], 55544).into(),
            since_wall_ms: 1_795_817_079_731,
            queued_packets: 2,
            queued_bytes: 234,
            traffic: Traffic { sent: 325, received: 19, requests: 4, last_zxid: Zxid(0x1_0000_0133) },
        }];
        role.leading = Some(LeadingStatus { since_ms, learners, observers, proposal_sizes: None });
    }
    if matches!(mode, Mode::Looking | Mode::ReadOnly) {
        let serves = mode == Mode::ReadOnly;
        (role.zab, role.is_running, role.serves_clients, role.leader) = (ZabState::Election, serves, serves, None);
    }
    Report { config: Arc::new(config), peer: crate::peer::status::PeerStatus { role, ..r.peer }, ..r }
}

fn word(word: &str, r: &Report) -> String {
    four_letter::text(word, r).expect("a word")
}

fn command(name: &str, r: &Report) -> Value {
    Value::Object(commands::answer(name, r).expect("a command"))
}

#[test]
fn srvr_names_the_mode_and_a_leader_its_proposals() {
    let mut leader = of(2, Mode::Leader);
    assert!(word("srvr", &leader).ends_with("Mode: leader\nNode count: 312\nProposal sizes last/min/max: -1/-1/-1\n"));
    if let Some(leading) = &mut leader.peer.role.leading {
        leading.proposal_sizes = Some((48, 32, 90));
    }
    assert!(word("stat", &leader).ends_with("Proposal sizes last/min/max: 48/32/90\n"));
    let stats = json!({"last_buffer_size": 48, "min_buffer_size": 32, "max_buffer_size": 90});
    assert_eq!(command("server_stats", &leader)["proposal_stats"], stats);
    for (mode, shown) in [(Mode::Follower, "follower"), (Mode::Observer, "observer"), (Mode::ReadOnly, "read-only")] {
        let r = of(1, mode);
        assert!(word("srvr", &r).ends_with(&format!("Mode: {shown}\nNode count: 312\n")), "{shown}");
        let stats = command("server_stats", &r);
        assert_eq!((&stats["server_stats"]["server_state"], stats.get("proposal_stats")), (&json!(shown), None));
    }
}

#[test]
fn conf_has_the_ensemble() {
    let text = word("conf", &of(2, Mode::Leader));
    let (_, ensemble) = text.split_once("clientPortListenBacklog=-1\n").expect("the fields of every server");
    let fields =
        "serverId=2\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=24482\nquorumPort=24382\npeerType=0\n";
    assert_eq!(ensemble, format!("{fields}membership: \n{SERVERS}"));
    assert!(word("conf", &of(4, Mode::Observer)).contains("quorumPort=24384\npeerType=1\n"));
    assert_eq!(command("configuration", &of(2, Mode::Leader))["server_id"], 2);
}

#[test]
fn mntr_has_the_figures_of_the_role() {
    let text = word("mntr", &of(2, Mode::Leader));
    assert!(
        text.contains("zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_ephemerals_count\t"),
        "{text}"
    );
    for line in [
        "zk_learners\t3",
        "zk_synced_followers\t2",
        "zk_synced_non_voting_followers\t0",
        "zk_synced_observers\t1",
        "zk_pending_syncs\t1",
        "zk_leader_uptime\t10627",
        "zk_last_proposal_size\t-1",
        "zk_max_proposal_size\t-1",
        "zk_min_proposal_size\t-1",
        "zk_quorum_size\t3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let text = word("mntr", &of(1, Mode::Follower));
    assert!(text.contains("zk_server_state\tfollower\nzk_peer_state\tfollowing - broadcast\nzk_ephemerals_count\t"));
    assert!(text.lines().any(|l| l == "zk_quorum_size\t3") && !text.contains("zk_learners"), "{text}");
    let text = word("mntr", &of(4, Mode::Observer));
    assert!(text.contains("zk_peer_state\tobserving - broadcast\nzk_observer_master_id\t2\n"), "{text}");
    let monitor = command("monitor", &of(4, Mode::Observer));
    assert_eq!((&monitor["peer_state"], &monitor["observer_master_id"]), (&json!("observing - broadcast"), &json!(2)));
    let alone = word("mntr", &report());
    assert!(!alone.contains("quorum_size") && !alone.contains("peer_state"), "{alone}");
}

#[test]
fn elections_are_counted_and_timed() {
    let mut r = of(1, Mode::Follower);
    let elections = &mut r.peer.role.elections;
    (elections.looked, elections.election_ms, elections.sync_ms) = (2, Distribution::of(961), Distribution::of(606));
    let text = word("mntr", &r);
    for line in ["zk_looking_count\t2", "zk_sum_election_time\t961", "zk_max_follower_sync_time\t606"] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    assert!(text.lines().any(|l| l == "zk_cnt_observer_sync_time\t0"), "{text}");
    let stats = &mut r.peer.stats;
    (stats.learner_proposals, stats.learner_commits, stats.snaps_sent, stats.diffs_sent) = (300, 299, 4, 5);
    let text = word("mntr", &r);
    for line in [
        "zk_proposal_count\t10",
        "zk_learner_proposal_received_count\t300",
        "zk_learner_commit_received_count\t299",
        "zk_snap_count\t4",
        "zk_diff_count\t5",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}

#[test]
fn a_leader_measures_every_server() {
    let mut r = of(2, Mode::Leader);
    let (mut acks, mut queue) = (Latencies::default(), QueueStats::default());
    acks.record(5_000);
    queue.len.record(3);
    queue.time.record(7_000);
    r.peer.stats.learners.insert(ServerId(4), LearnerStats { acks: Some(acks.clone()), queue: Some(queue) });
    r.peer.stats.learners.insert(ServerId(2), LearnerStats { acks: Some(acks), queue: None });
    let text = word("mntr", &r);
    assert!(text.contains("zk_cnt_2_ack_latency\t1\n") && !text.contains("2_learner_handler"), "{text}");
    for line in [
        "zk_avg_4_ack_latency\t5.0",
        "zk_p99_4_ack_latency\t5",
        "zk_max_4_learner_handler_qp_size\t3",
        "zk_cnt_4_learner_handler_qp_time_ms\t1",
        "zk_p50_4_learner_handler_qp_time_ms\t7",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let text = metrics::prometheus(&r, &[]);
    for line in ["ack_latency{key=\"4\",quantile=\"0.99\"} 5.0", "learner_handler_qp_size_sum{key=\"4\"} 3.0"] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}

#[test]
fn what_a_learner_does_not_do_is_not_counted() {
    let mut r = of(4, Mode::Observer);
    let mut config = Config::clone(&r.config);
    config.ensemble.peer_type = Role::Observer;
    r.config = Arc::new(config);
    (r.peer.stats.proposals, r.peer.stats.learner_proposals) = (310, 310);
    let text = word("mntr", &r);
    for key in ["proposal_count", "prep_processor_request_queued", "learner_proposal_received_count"] {
        assert!(text.lines().any(|l| l == format!("zk_{key}\t0")), "{key}: {text}");
    }
}

#[test]
fn the_commands_of_an_ensemble() {
    let (leader, follower) = (of(2, Mode::Leader), of(1, Mode::Follower));
    let names = |is_leader| json!({"is_leader": is_leader, "leader_id": 2, "leader_ip": "127.0.0.1"});
    assert_eq!(command("leader", &leader), names(true));
    assert_eq!(command("leader", &follower), names(false));
    let voter = |id: i64, client: &str| {
        json!({
            "server_addresses": [format!("127.0.0.1:{}", 24380 + id)],
            "election_addresses": [format!("127.0.0.1:{}", 24480 + id)],
            "client_address": client,
            "learner_type": "participant",
        })
    };
    let view = json!({"1": voter(1, ""), "2": voter(2, "0.0.0.0:24182"), "3": voter(3, "")});
    assert_eq!(command("voting_view", &leader), json!({"current_config": view}));
    let observer = json!({
        "remote_socket_address": "/127.0.0.1:55544",
        "sid": 4,
        "established": 1_795_817_079_731_i64,
        "queued_packets": 2,
        "queued_packets_size": 234,
        "packets_received": 19,
        "packets_sent": 325,
        "requests": 4,
        "last_zxid": 4_294_967_603_i64,
    });
    assert_eq!(command("observers", &leader), json!({"synced_observers": 1, "observers": [observer]}));
    assert_eq!(command("observers", &follower), json!({"synced_observers": 0, "observers": []}));
    assert_eq!(command("is_read_only", &follower), json!({"read_only": false}));
    assert_eq!(command("is_read_only", &of(1, Mode::ReadOnly)), json!({"read_only": true}));
    assert_eq!(command("leader", &report()), json!({"error": "server is not initialized"}));
}

/// It shows no more of its ensemble than Apache's, which is no `QuorumZooKeeperServer`.
#[test]
fn a_read_only_server() {
    let r = of(1, Mode::ReadOnly);
    let only_reads = "\nREAD-ONLY mode; serving only read-only clients\n";
    assert!(word("srvr", &r).contains(&format!("{only_reads}Latency min/avg/max: ")));
    assert!(word("stat", &r).contains(&format!("{only_reads}Clients:\n")));
    assert!(!word("srvr", &of(1, Mode::Follower)).contains(only_reads));
    let text = word("mntr", &r);
    assert!(text.contains("\nzk_server_state\tread-only\nzk_ephemerals_count\t"), "{text}");
    assert!(!text.contains("quorum_size"), "{text}");
    assert_eq!(command("monitor", &r).get("peer_state"), None);
    let conf = word("conf", &r);
    assert!(conf.contains("serverId=1\ninitLimit=10\n") && conf.ends_with("quorumPort=24381\npeerType=0\n"), "{conf}");
    assert_eq!(command("leader", &r), json!({"error": "server is not initialized"}));
    assert_eq!(command("voting_view", &r), json!({"current_config": {}}));
    assert_eq!(command("zabstate", &r), json!({"voting": false, "zabstate": ""}));
    assert_eq!(command("server_stats", &r)["read_only"], true);
    let r = Report { expiry: vec![(30_000, vec![super::B])], ..r };
    assert!(word("dump", &r).starts_with("SessionTracker dump:\nGlobal Sessions(1):\n0x1000027a5080001\t30000ms\n"));
}

#[test]
fn zab_state() {
    let mut leader = of(2, Mode::Leader);
    leader.peer.last_zxid = Zxid(1 << 32 | 7);
    let addresses = |port: u16| {
        let one = format!("127.0.0.1:{port}");
        json!({
            "empty": false,
            "all_addresses": [one],
            "wildcard_addresses": [format!("0.0.0.0:{port}")],
            "all_ports": [port],
            "all_host_strings": ["127.0.0.1"],
            "reachable_address": one,
            "all_reachable_addresses": [one],
            "all_reachable_addresses_or_all": [one],
            "reachable_or_one": one,
            "one": one,
        })
    };
    let wanted = json!({
        "myid": 2,
        "is_leader": true,
        "quorum_address": addresses(24382),
        "election_address": addresses(24482),
        "client_address": "0.0.0.0:24182",
        "voting": true,
        "last_zxid": "0x100000007",
        "zab_epoch": 1,
        "zab_counter": 7,
        "zabstate": "broadcast",
    });
    assert_eq!(command("zabstate", &leader), wanted);
    assert_eq!(command("zabstate", &of(4, Mode::Observer))["voting"], false);
    assert_eq!(command("zabstate", &of(1, Mode::Looking)), json!({"voting": false, "zabstate": ""}));
    assert_eq!(command("zabstate", &report()), json!({"voting": false, "zabstate": ""}));
}

#[test]
fn a_learner_lists_sessions_with_their_timeouts() {
    let follower = Report { expiry: vec![(30_000, vec![super::B]), (60_000, vec![super::A])], ..of(1, Mode::Follower) };
    let text = word("dump", &follower);
    let wanted = "SessionTracker dump:\nGlobal Sessions(2):\n0x1000027a5080000\t60000ms\n0x1000027a5080001\t30000ms\n\
                  ephemeral nodes dump:\n";
    assert!(text.starts_with(wanted), "{text}");
    assert_eq!(command("dump", &follower)["expiry_time_to_session_ids"], json!({}), "which it does not know");
    assert!(word("dump", &of(2, Mode::Leader)).starts_with("SessionTracker dump:\nSession Sets (2)/(2):\n"));
}

#[test]
fn local_sessions_are_listed_before_global_ones() {
    let with_local = |me, mode| Report { local_expiry: Some(vec![(3_232_500, vec![super::B])]), ..of(me, mode) };
    let local = "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at ";
    let leader = word("dump", &with_local(2, Mode::Leader));
    assert!(leader.starts_with(local), "{leader}");
    assert!(leader.contains(":\n\t0x1000027a5080001\nGlobal Session Sets (2)/(2):\n1 expire at "), "{leader}");
    let follower = word("dump", &with_local(1, Mode::Follower));
    assert!(follower.starts_with(local), "{follower}");
    assert!(follower.contains(":\n\t0x1000027a5080001\nGlobal Sessions(2):\n0x1000027a5080000\t"), "{follower}");
    let shown = command("dump", &with_local(2, Mode::Leader));
    assert_eq!(shown["expiry_time_to_session_ids"].as_object().map(|sets| sets.len()), Some(2), "{shown}");
}

#[test]
fn words_of_a_server_that_does_not_serve() {
    for word in ["envi", "gtmk", "ruok", "stmk"] {
        assert_eq!(four_letter::refusal(word), None, "{word} is answered nevertheless");
    }
    let text = "This ZooKeeper instance is not currently serving requests";
    for word in ["srvr", "stat", "mntr", "conf", "crst", "srst", "dirs", "wchs", "dump", "cons"] {
        assert_eq!(four_letter::refusal(word), Some(format!("{text}\n").as_str()), "{word}");
    }
    assert_eq!((four_letter::refusal("hash"), four_letter::refusal("isro")), (Some(text), Some("null")));
    assert_eq!(word("isro", &of(1, Mode::Follower)), "rw");
    assert_eq!(word("isro", &of(1, Mode::ReadOnly)), "ro");
}
