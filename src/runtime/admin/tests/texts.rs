//! Words, commands and metrics of the report made by hand.

use serde_json::{Value, json};

use super::super::report::Report;
use super::super::{commands, four_letter, host, java};
use super::{NOW, report};
use crate::proto::four_letter::WORDS;
use crate::types::{Op, Zxid};

fn word(word: &str) -> String {
    four_letter::text(word, &report()).unwrap()
}

fn lines(lines: &[&str]) -> String {
    lines.iter().map(|l| format!("{l}\n")).collect()
}

#[test]
fn conf_dirs_and_the_short_ones() {
    let conf = [
        "clientPort=2181",
        "secureClientPort=-1",
        "dataDir=/data/version-2",
        "dataDirSize=67109358",
        "dataLogDir=/log/version-2",
        "dataLogSize=67109300",
        "tickTime=500",
        "maxClientCnxns=60",
        "minSessionTimeout=1000",
        "maxSessionTimeout=600000",
        "clientPortListenBacklog=-1",
        "serverId=0",
    ];
    assert_eq!(word("conf"), lines(&conf));
    assert_eq!(word("dirs"), "datadir_size: 67109358\nlogdir_size: 67109300\n");
    assert_eq!((word("ruok"), word("isro"), word("gtmk")), ("imok".into(), "rw".into(), "306".into()));
    // A digest is a Java long.
    assert_eq!(word("hash"), "80: 267465987447\n100: -1\n");
    assert!(word("envi").starts_with(&format!("Environment:\nzookeeper.version={}\nhost.name=", host::version())));
}

#[test]
fn every_word_is_here_or_does_something() {
    for w in WORDS {
        let shows = four_letter::text(w, &report()).is_some();
        assert_eq!(shows, !["crst", "srst", "stmk"].contains(&w), "{w}");
    }
}

#[test]
fn cons() {
    let want = [
        " /127.0.0.1:34752[1](queued=0,recved=309,sent=310,sid=0x1000027a5080000,lop=SETD,est=1795218611177,to=600000,lcxid=0x134,lzxid=0x136,lresp=2632883,llat=5,minlat=0,avglat=1,maxlat=9)",
        " /127.0.0.1:34760[1](queued=0,recved=7,sent=8,sid=0x1000027a5080001,lop=ADDW,est=1795218611199,to=600000,lcxid=0x6,lzxid=0x135,lresp=2632878,llat=1,minlat=0,avglat=0,maxlat=1)",
        " /127.0.0.1:34774[0](queued=0,recved=1,sent=0)",
        "",
    ];
    assert_eq!(word("cons"), lines(&want));
}

#[test]
fn a_connection_after_crst() {
    let mut r = report();
    let c = &mut r.shards[0].connections;
    c.truncate(1);
    (c[0].last_op, c[0].last_cxid, c[0].last_zxid) = (Op::NOTIFICATION, -1, Zxid::NONE);
    let text = four_letter::text("cons", &r).unwrap();
    assert!(text.contains(",lop=NA,est=1795218611177,to=600000,lzxid=0xffffffffffffffff,lresp="), "{text}");
}

#[test]
fn srvr_and_stat() {
    let version = format!("Zookeeper version: {}", host::version());
    let figures = [
        "Latency min/avg/max: 0/1.2595/9",
        "Received: 324",
        "Sent: 325",
        "Connections: 3",
        "Outstanding: 0",
        "Zxid: 0x136",
        "Mode: standalone",
        "Node count: 312",
    ];
    assert_eq!(word("srvr"), format!("{version}\n{}", lines(&figures)));
    let clients = [
        "Clients:",
        " /127.0.0.1:34752[1](queued=0,recved=309,sent=310)",
        " /127.0.0.1:34760[1](queued=0,recved=7,sent=8)",
        " /127.0.0.1:34774[0](queued=0,recved=1,sent=0)",
        "",
    ];
    assert_eq!(word("stat"), format!("{version}\n{}{}", lines(&clients), lines(&figures)));
}

#[test]
fn dump() {
    let at = |mono_ms: i64| java::date(NOW.wall_ms + mono_ms - NOW.mono_ms);
    let want = [
        "SessionTracker dump:",
        "Session Sets (2)/(2):",
        &format!("1 expire at {}:", at(3_232_500)),
        "\t0x1000027a5080000",
        &format!("1 expire at {}:", at(3_233_000)),
        "\t0x1000027a5080001",
        "ephemeral nodes dump:",
        "Sessions with Ephemerals (2):",
        "0x1000027a5080000:",
        "\t/words/e1",
        "\t/words/e2",
        "0x1000027a5080001:",
        "\t/words/b1",
        "Connections dump:",
        "Connections Sets (2)/(3):",
        // 2632990 + 10000 and 2632800 + 600000, each in the bucket of ten seconds that ends after it.
        &format!("1 expire at {}:", at(2_650_000)),
        "\tip: /127.0.0.1:34774 sessionId: 0x0",
        &format!("2 expire at {}:", at(3_240_000)),
        "\tip: /127.0.0.1:34752 sessionId: 0x1000027a5080000",
        "\tip: /127.0.0.1:34760 sessionId: 0x1000027a5080001",
    ];
    assert_eq!(word("dump"), lines(&want));
}

#[test]
fn watches() {
    assert_eq!(word("wchs"), "1 connections watching 3 paths\nTotal watches:3\n");
    assert_eq!(word("wchc"), "0x1000027a5080001\n\t/words/n002\n\t/words/n003\n\t/words/none\n\n");
    let by_path = ["/words/n002", "/words/n003", "/words/none"].map(|p| format!("{p}\n\t0x1000027a5080001\n"));
    assert_eq!(word("wchp"), by_path.concat() + "\n");
    // A path on two shards is one path.
    let mut r = report();
    r.shards.push(r.shards[0].clone());
    assert_eq!(four_letter::text("wchs", &r).unwrap(), "2 connections watching 3 paths\nTotal watches:6\n");
    r.watches.clear();
    assert_eq!(four_letter::text("wchs", &r).unwrap(), "2 connections watching 6 paths\nTotal watches:6\n");
}

fn key<'t>(text: &'t str, key: &str) -> &'t str {
    let mut found = text.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('\t'));
    let value = found.next().unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(found.next(), None, "{key} twice");
    value
}

#[test]
fn mntr() {
    let text = word("mntr");
    assert!(text.starts_with(&format!(
        "zk_version\t{}\nzk_server_state\tstandalone\nzk_ephemerals_count\t3\n",
        host::version()
    )));
    for (name, value) in [
        ("zk_num_alive_connections", "3"),
        ("zk_avg_latency", "1.2595"),
        ("zk_znode_count", "312"),
        ("zk_highest_sequence_number", "7"),
        ("zk_sequential_creates_near_end", "0"),
        ("zk_global_sessions", "2"),
        ("zk_watch_count", "4"),
        ("zk_last_client_response_size", "84"),
        ("zk_max_client_response_size", "2438"),
        ("zk_min_client_response_size", "16"),
        ("zk_connection_drop_probability", "0.0"),
        ("zk_connection_rejected", "7"),
        ("zk_uptime", "35171"),
        ("zk_outstanding_changes_removed", "614"),
        ("zk_sum_sync_processor_batch_size", "31"),
        ("zk_words_quota_bytes_limit_per_namespace", "100000"),
        ("zk_words_quota_count_usage_per_namespace", "304"),
        ("zk_watch_bytes", "78"),
        ("zk_avg_readlatency", "1.0"),
        ("zk_min_readlatency", "0"),
        ("zk_max_readlatency", "2"),
        ("zk_cnt_readlatency", "6"),
        ("zk_sum_readlatency", "6"),
        ("zk_p50_readlatency", "1"),
        ("zk_p95_readlatency", "2"),
        ("zk_p999_readlatency", "2"),
        ("zk_avg_words_read_per_namespace", "378.5"),
        ("zk_cnt_words_read_per_namespace", "4"),
        ("zk_avg_node_changed_watch_count", "2.0"),
        ("zk_cnt_fsynctime", "3"),
        ("zk_max_fsynctime", "6"),
        ("zk_cnt_election_time", "0"),
        ("zk_sum_dbinittime", "12"),
        ("zk_sum_startup_txns_loaded", "3"),
        ("zk_sum_startup_txns_load_time", "6"),
        ("zk_sum_startup_snap_load_time", "5"),
        ("zk_cnt_snapshottime", "1"),
        ("zk_words_quota_exceeded_error_per_namespace", "2"),
    ] {
        assert_eq!(key(&text, name), value, "{name}");
    }
    // Two header lines; 25 gauges, 4 of a quota; 52 counters and one of a namespace; 42 summaries and one of a namespace of 5 lines; 23 of 9.
    assert_eq!(text.lines().count(), 2 + 25 + 4 + 53 + 43 * 5 + 23 * 9);
    let mut r = report();
    r.shards[0].stats.since_reset = Default::default();
    assert_eq!(key(&four_letter::text("mntr", &r).unwrap(), "zk_last_client_response_size"), "-1");
}

/// Whoever reads `mntr` splits a line at its tab, or at any blank, and may quote what it finds.
#[test]
fn a_name_of_a_znode_does_not_break_the_lines_of_mntr() {
    let mut r = report();
    let names = ["my \"app\"", "it's", "a\\b", "a\u{a0}b\u{2028}c", "50%", "é-x.y"];
    names.iter().for_each(|n| r.shards[0].stats.reads.record(&format!("/{n}/child"), 1));
    let text = four_letter::text("mntr", &r).unwrap();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((fields.len(), line.split('\t').count()), (2, 2), "{line}");
        assert!(fields[1] == "standalone" || fields[1].parse::<f64>().is_ok(), "{line}");
        assert!(!line.contains(['"', '\'', '\\']), "{line}");
    }
    for shown in ["my%20%22app%22", "it%27s", "a%5Cb", "a%C2%A0b%E2%80%A8c", "50%25", "é-x.y"] {
        assert_eq!(key(&text, &format!("zk_cnt_{shown}_read_per_namespace")), "1");
    }
    // JSON has quotes of its own.
    assert_eq!(command_of("monitor", &r)["cnt_my \"app\"_read_per_namespace"], json!(1));
}

fn command_of(name: &str, r: &Report) -> Value {
    Value::Object(commands::answer(name, r).unwrap())
}

fn command(name: &str) -> Value {
    command_of(name, &report())
}

/// Keys in order as well as values.
fn same(name: &str, want: Value) {
    assert_eq!(command(name).to_string(), want.to_string());
}

#[test]
fn commands_that_show() {
    same(
        "configuration",
        json!({"client_port": 2181, "data_dir": "/data/version-2", "data_log_dir": "/log/version-2",
        "tick_time": 500, "max_client_cnxns": 60, "min_session_timeout": 1000, "max_session_timeout": 600_000,
        "server_id": 0, "client_port_listen_backlog": -1}),
    );
    same("dirs", json!({"datadir_size": 67_109_358, "logdir_size": 67_109_300}));
    same(
        "dump",
        json!({"expiry_time_to_session_ids": {"3232500": [72_057_764_310_417_408_i64], "3233000": [72_057_764_310_417_409_i64]},
        "session_id_to_ephemeral_paths": {"72057764310417408": ["/words/e1", "/words/e2"], "72057764310417409": ["/words/b1"]}}),
    );
    same("get_trace_mask", json!({"tracemask": 306}));
    same(
        "hash",
        json!({"digests": [{"zxid": 128, "digest": 267_465_987_447_i64, "digest_version": 2},
        {"zxid": 256, "digest": -1, "digest_version": 2}]}),
    );
    same("initial_configuration", json!({"initial_configuration": "a=b\nsuperDigest=********\n# superDigest=none\n"}));
    same("system_properties", json!({"zookeeper.a": "b", "zookeeper.superDigest": "********"}));
    same("is_read_only", json!({"read_only": false}));
    same("last_snapshot", json!({"zxid": "ffffffffffffffff", "timestamp": -1}));
    same("leader", json!({"error": "server is not initialized"}));
    same("observers", json!({"synced_observers": 0, "observers": []}));
    same("ruok", json!({}));
    same("voting_view", json!({"current_config": {}}));
    same("watch_summary", json!({"num_connections": 1, "num_paths": 3, "num_total_watches": 3}));
    same(
        "watches",
        json!({"session_id_to_watched_paths": {"72057764310417409": ["/words/n002", "/words/n003", "/words/none"]}}),
    );
    let b = 72_057_764_310_417_409_i64;
    same(
        "watches_by_path",
        json!({"path_to_session_ids": {"/words/n002": [b], "/words/n003": [b], "/words/none": [b]}}),
    );
    same("zabstate", json!({"voting": false, "zabstate": ""}));
}

#[test]
fn connections_and_stats() {
    let c = command("connections");
    let first = json!({"remote_socket_address": "127.0.0.1:34752", "interest_ops": 1, "outstanding_requests": 0,
        "packets_received": 309, "packets_sent": 310, "session_id": 72_057_764_310_417_408_i64, "last_operation": "SETD",
        "established": 1_795_218_611_177_i64, "session_timeout": 600_000, "last_cxid": 308, "last_zxid": 310,
        "last_response_time": 2_632_883, "last_latency": 5, "min_latency": 0, "avg_latency": 1, "max_latency": 9});
    assert_eq!(c["connections"][0].to_string(), first.to_string());
    assert_eq!((c["connections"].as_array().unwrap().len(), &c["secure_connections"]), (3, &json!([])));
    let sizes = json!({"last_buffer_size": 84, "min_buffer_size": 16, "max_buffer_size": 2438});
    let stats = command("stats");
    let keys: Vec<&String> = stats.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["version", "read_only", "server_stats", "client_response", "node_count", "connections", "secure_connections"]
    );
    let want = json!({"packets_sent": 325, "packets_received": 324, "fsync_threshold_exceed_count": 0,
        "client_response_stats": sizes, "provider_null": false, "data_dir_size": 67_109_358, "log_dir_size": 67_109_300,
        "last_processed_zxid": 310, "outstanding_requests": 0, "server_state": "standalone", "avg_latency": 1.2595,
        "max_latency": 9, "min_latency": 0, "num_alive_client_connections": 3, "uptime": 35171, "auth_failed_count": 0,
        "non_mtlsremote_conn_count": 0, "non_mtlslocal_conn_count": 0});
    assert_eq!(stats["server_stats"].to_string(), want.to_string());
    assert_eq!(
        stats["connections"][1].to_string(),
        json!({"remote_socket_address": "127.0.0.1:34760", "interest_ops": 1,
        "outstanding_requests": 0, "packets_received": 7, "packets_sent": 8})
        .to_string()
    );
    let monitor = command("monitor");
    let keys: Vec<&String> = monitor.as_object().unwrap().keys().take(4).collect();
    assert_eq!(keys, ["version", "server_state", "ephemerals_count", "num_alive_connections"]);
    assert_eq!((&monitor["avg_latency"], &monitor["p99_readlatency"]), (&json!(1.2595), &json!(2)));
}

#[test]
fn every_command_and_every_other_name() {
    let html = commands::list("/commands");
    assert!(html.starts_with(
        "<a href=\"/commands/configuration\">configuration</a>\n<br/>\n<a href=\"/commands/connection_stat_reset\">"
    ));
    // As long as ZooKeeper's.
    assert_eq!(html.len(), 1518);
    for (other, name) in [
        ("conf", "configuration"),
        ("config", "configuration"),
        ("cons", "connections"),
        ("crst", "connection_stat_reset"),
        ("env", "environment"),
        ("envi", "environment"),
        ("gtmk", "get_trace_mask"),
        ("icfg", "initial_configuration"),
        ("isro", "is_read_only"),
        ("lead", "leader"),
        ("lsnp", "last_snapshot"),
        ("mntr", "monitor"),
        ("obsr", "observers"),
        ("orst", "observer_connection_stat_reset"),
        ("rest", "restore"),
        ("snap", "snapshot"),
        ("srst", "stat_reset"),
        ("srvr", "server_stats"),
        ("stat", "stats"),
        ("stmk", "set_trace_mask"),
        ("sysp", "system_properties"),
        ("wchc", "watches"),
        ("wchp", "watches_by_path"),
        ("wchs", "watch_summary"),
        ("zabstate", "zabstate"),
    ] {
        assert_eq!(commands::resolve(other), Some(name));
    }
    assert_eq!(commands::resolve("nosuch"), None);
}
