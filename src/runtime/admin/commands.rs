//! The commands of the admin server: their names, and their answers as JSON with ZooKeeper's keys in ZooKeeper's order.
//! Mirrors `admin.Commands`.

use serde_json::{Map, Value, json};

use super::four_letter::{last_op, whole_average};
use super::java;
use super::metrics::{self, Number};
use super::report::{Report, Wanted, or_minus_one};
use super::{ensemble, host};
use crate::shard::status::ConnStatus;

/// The fields of an answer without the last two, `command` and `error`.
pub(super) type Fields = Map<String, Value>;

/// The commands in the order of the list page, each with its aliases.
const NAMES: [(&str, &[&str]); 28] = [
    ("configuration", &["conf", "config"]),
    ("connection_stat_reset", &["crst"]),
    ("connections", &["cons"]),
    ("dirs", &[]),
    ("dump", &[]),
    ("environment", &["env", "envi"]),
    ("get_trace_mask", &["gtmk"]),
    ("hash", &[]),
    ("initial_configuration", &["icfg"]),
    ("is_read_only", &["isro"]),
    ("last_snapshot", &["lsnp"]),
    ("leader", &["lead"]),
    ("monitor", &["mntr"]),
    ("observer_connection_stat_reset", &["orst"]),
    ("observers", &["obsr"]),
    ("restore", &["rest"]),
    ("ruok", &[]),
    ("server_stats", &["srvr"]),
    ("set_trace_mask", &["stmk"]),
    ("snapshot", &["snap"]),
    ("stat_reset", &["srst"]),
    ("stats", &["stat"]),
    ("system_properties", &["sysp"]),
    ("voting_view", &[]),
    ("watch_summary", &["wchs"]),
    ("watches", &["wchc"]),
    ("watches_by_path", &["wchp"]),
    ("zabstate", &[]),
];

/// The command that a name or an alias stands for.
pub(super) fn resolve(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(primary, others)| *primary == name || others.contains(&name)).map(|(primary, _)| *primary)
}

/// The HTML page that lists the commands.
pub(super) fn list(command_url: &str) -> String {
    NAMES.iter().map(|(name, _)| format!("<a href=\"{command_url}/{name}\">{name}</a>\n<br/>\n")).collect()
}

/// The lists that the answer of a command needs.
pub(super) fn wanted(command: &str) -> Wanted {
    Wanted {
        connections: matches!(command, "connections" | "stats"),
        watches: matches!(command, "watches" | "watches_by_path"),
        watch_paths: command == "watch_summary",
        sessions: command == "dump",
    }
}

/// Whether only a server that serves answers the command. ZooKeeper's `monitor` fails otherwise.
pub(super) fn needs_server(command: &str) -> bool {
    !matches!(command, "environment" | "get_trace_mask" | "set_trace_mask" | "system_properties" | "zabstate")
}

/// The answer of a command that changes nothing; `None` for other commands.
pub(super) fn answer(command: &str, r: &Report) -> Option<Fields> {
    let value = match command {
        "configuration" => configuration(r),
        "connections" => {
            json!({"connections": r.connections().map(connection).collect::<Vec<_>>(), "secure_connections": []})
        }
        "dirs" => json!({"datadir_size": r.host.data_dir_size, "logdir_size": r.host.log_dir_size}),
        "dump" => dump(r),
        "environment" => {
            Value::Object(host::environment().into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect())
        }
        "get_trace_mask" => json!({"tracemask": r.control.trace_mask}),
        "hash" => hash(r),
        "initial_configuration" => json!({"initial_configuration": without_secrets(&r.config.source.text)}),
        "is_read_only" => json!({"read_only": r.is_read_only()}),
        "last_snapshot" => last_snapshot(r),
        "leader" => ensemble::leader(r),
        "monitor" => monitor(r),
        "observers" => ensemble::observers(r),
        "ruok" => json!({}),
        "server_stats" => server_stats(r),
        "stats" => stats(r),
        "system_properties" => system_properties(r),
        "voting_view" => ensemble::voting_view(r),
        "watch_summary" => {
            let s = r.watch_summary();
            json!({"num_connections": s.connections, "num_paths": s.paths, "num_total_watches": s.watches})
        }
        "watches" => watches(r),
        "watches_by_path" => watches_by_path(r),
        "zabstate" => ensemble::zab_state(r),
        _ => return None,
    };
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn configuration(r: &Report) -> Value {
    let c = &r.config;
    let (data_dir, data_log_dir) = c.shown_dirs();
    json!({
        "client_port": c.client.port,
        "data_dir": data_dir,
        "data_log_dir": data_log_dir,
        "tick_time": c.tick_ms,
        "max_client_cnxns": c.client.max_per_ip,
        "min_session_timeout": c.min_session_timeout_ms,
        "max_session_timeout": c.max_session_timeout_ms,
        "server_id": r.shown_id(),
        "client_port_listen_backlog": c.client.listen_backlog,
    })
}

/// The fields of a connection that `stats` shows.
fn brief(c: &ConnStatus) -> Fields {
    let mut f = Fields::new();
    f.insert("remote_socket_address".into(), java::socket_address(&c.peer).into());
    f.insert("interest_ops".into(), i32::from(c.reading).into());
    f.insert("outstanding_requests".into(), c.queued.into());
    f.insert("packets_received".into(), c.received.into());
    f.insert("packets_sent".into(), c.sent.into());
    f
}

fn connection(c: &ConnStatus) -> Value {
    let mut f = brief(c);
    let more: [(&str, Value); 11] = [
        ("session_id", c.session.0.into()),
        ("last_operation", last_op(c).into()),
        ("established", c.established_wall_ms.into()),
        ("session_timeout", c.timeout_ms.into()),
        ("last_cxid", c.last_cxid.into()),
        ("last_zxid", c.last_zxid.0.into()),
        ("last_response_time", c.last_response_ms.into()),
        ("last_latency", c.last_latency_ms.into()),
        ("min_latency", c.latency.min_ms.into()),
        ("avg_latency", whole_average(c).into()),
        ("max_latency", c.latency.max_ms.into()),
    ];
    f.extend(more.map(|(k, v)| (k.to_owned(), v)));
    Value::Object(f)
}

fn dump(r: &Report) -> Value {
    let ids = |ids: &[crate::types::SessionId]| Value::from(ids.iter().map(|s| s.0).collect::<Vec<_>>());
    // As in ZooKeeper without local sessions, and without those of whose expiry this server knows nothing.
    let expiry = r.expiry.iter().filter(|_| r.tracks_sessions());
    let expiry: Fields = expiry.map(|(ms, sessions)| (ms.to_string(), ids(sessions))).collect();
    let ephemerals: Fields =
        r.ephemerals.iter().map(|(session, paths)| (session.0.to_string(), paths.clone().into())).collect();
    json!({"expiry_time_to_session_ids": expiry, "session_id_to_ephemeral_paths": ephemerals})
}

fn hash(r: &Report) -> Value {
    let digest = |d: &crate::peer::status::ZxidDigest| {
        // Java prints it as a signed number.
        json!({"zxid": d.zxid.0, "digest": d.digest as i64, "digest_version": d.version})
    };
    json!({"digests": r.peer.stats.digests.iter().map(digest).collect::<Vec<_>>()})
}

fn last_snapshot(r: &Report) -> Value {
    // The last snapshot of this process, otherwise the newest file.
    let (zxid, timestamp) = match &r.peer.last_snapshot {
        Some(s) => (s.zxid.0, s.at_wall_ms / 1000),
        None => host::newest_snapshot(&r.config.data_dir.join("version-2")).map_or((-1, -1), |(zxid, s)| (zxid.0, s)),
    };
    json!({"zxid": format!("{zxid:x}"), "timestamp": timestamp})
}

fn monitor(r: &Report) -> Value {
    let mut f = Fields::new();
    f.insert("version".into(), host::version().into());
    f.insert("server_state".into(), r.mode().into());
    if r.members().is_some() {
        f.insert("peer_state".into(), r.peer.role.peer_state().into());
    }
    if let Some(leader) = r.observed_leader() {
        f.insert("observer_master_id".into(), leader.into());
    }
    for (key, value) in metrics::flat(r) {
        let value = match value {
            Number::Whole(n) => n.into(),
            // JSON has no NaN; Jackson writes it as a string.
            Number::Decimal(d) if d.is_nan() => "NaN".into(),
            Number::Decimal(d) => d.into(),
        };
        f.insert(key, value);
    }
    Value::Object(f)
}

fn server_stats(r: &Report) -> Value {
    let s = r.since_reset();
    let sizes = json!({
        "last_buffer_size": or_minus_one(s.last_response_size),
        "min_buffer_size": or_minus_one(s.min_response_size),
        "max_buffer_size": or_minus_one(s.max_response_size),
    });
    let mut all = json!({
        "version": host::version(),
        "read_only": r.is_read_only(),
        "server_stats": {
            "packets_sent": s.packets_sent,
            "packets_received": s.packets_received,
            "fsync_threshold_exceed_count": r.peer.stats.slow_syncs,
            "client_response_stats": sizes,
            "provider_null": r.config.metrics.provider == crate::config::MetricsProvider::Null,
            "data_dir_size": r.host.data_dir_size,
            "log_dir_size": r.host.log_dir_size,
            "last_processed_zxid": r.peer.last_zxid.0,
            "outstanding_requests": r.outstanding(),
            "server_state": r.mode(),
            "avg_latency": java::rounded(s.latency.average_ms()),
            "max_latency": s.latency.max_ms,
            "min_latency": s.latency.min_ms,
            "num_alive_client_connections": r.connection_count(),
            "uptime": r.uptime_ms(),
            "auth_failed_count": r.shard_stats().auth_failed,
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
        },
        "client_response": sizes,
    });
    if let Some(proposals) = ensemble::proposal_stats(r) {
        all["proposal_stats"] = proposals;
    }
    all["node_count"] = r.peer.znode_count.into();
    all
}

fn stats(r: &Report) -> Value {
    let mut v = server_stats(r);
    v["connections"] = r.connections().map(brief).map(Value::Object).collect();
    v["secure_connections"] = json!([]);
    v
}

fn system_properties(r: &Report) -> Value {
    let shown = |key: &str, value: &str| if is_secret(key) { SECRET.to_owned() } else { value.to_owned() };
    Value::Object(r.config.properties.iter().map(|(k, v)| (k.clone(), shown(k, v).into())).collect())
}

/// Session ids in decimal, each with its watched paths.
fn watches(r: &Report) -> Value {
    let mut f = Fields::new();
    for (session, path) in &r.watches {
        push(&mut f, session.0.to_string(), path.as_str().into());
    }
    json!({"session_id_to_watched_paths": f})
}

fn watches_by_path(r: &Report) -> Value {
    let mut all: Vec<_> = r.watches.iter().map(|(session, path)| (path, session)).collect();
    all.sort_unstable();
    let mut f = Fields::new();
    for (path, session) in all {
        push(&mut f, path.clone(), session.0.into());
    }
    json!({"path_to_session_ids": f})
}

fn push(f: &mut Fields, key: String, item: Value) {
    match f.entry(key).or_insert_with(|| json!([])) {
        Value::Array(items) => items.push(item),
        _ => unreachable!("only arrays are put there"),
    }
}

/// Shown instead of passwords and their hashes, which ZooKeeper's admin server does show.
const SECRET: &str = "********";

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.contains("superdigest") || key.contains("passwd") || key.contains("password")
}

/// The text of a configuration file without the values of secret keys.
fn without_secrets(text: &str) -> String {
    let line = |line: &str| match line.split_once(['=', ':']) {
        Some((key, _)) if is_secret(key) && !line.trim_start().starts_with(['#', '!']) => {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            format!("{key}={SECRET}{end}")
        }
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}
