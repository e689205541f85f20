//! The texts of the four-letter words, byte for byte as in ZooKeeper. Mirrors `server.command.*`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::java;
use super::report::{Report, Wanted};
use super::{ensemble, host};
use crate::config::MetricsProvider;
use crate::shard::status::ConnStatus;
use crate::types::{Op, SessionId};

/// The lists that the text of a word needs.
pub(super) fn wanted(word: &str) -> Wanted {
    Wanted {
        connections: matches!(word, "cons" | "stat" | "dump"),
        watches: matches!(word, "wchc" | "wchp"),
        watch_paths: word == "wchs",
        sessions: word == "dump",
    }
}

/// The text of a word on a server that does not serve; `None` if the word is answered nevertheless.
pub(super) fn refusal(word: &str) -> Option<&'static str> {
    match word {
        "envi" | "gtmk" | "ruok" | "stmk" => None,
        "isro" => Some("null"),
        "hash" => Some(NOT_SERVING),
        _ => Some(NOT_SERVING_LINE),
    }
}

/// The text of a word that changes nothing; `None` for other words.
pub(super) fn text(word: &str, r: &Report) -> Option<String> {
    Some(match word {
        "conf" => conf(r),
        "cons" => cons(r),
        "dirs" => format!("datadir_size: {}\nlogdir_size: {}\n", r.host.data_dir_size, r.host.log_dir_size),
        "dump" => dump(r),
        "envi" => envi(),
        "gtmk" => r.control.trace_mask.to_string(),
        "ruok" => "imok".into(),
        "srvr" => banner(r) + &srvr(r),
        "stat" => stat(r),
        "wchc" => wchc(r),
        "wchp" => wchp(r),
        "wchs" => wchs(r),
        "mntr" => mntr(r),
        "isro" => if r.is_read_only() { "ro" } else { "rw" }.into(),
        "hash" => hash(r),
        _ => return None,
    })
}

/// The answer to most words when no client is served.
pub(super) const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";
const NOT_SERVING_LINE: &str = "This ZooKeeper instance is not currently serving requests\n";
/// The answer to `crst`.
pub(super) const RESET_CONNECTIONS: &str = "Connection stats reset.\n";
/// The answer to `srst`.
pub(super) const RESET_SERVER: &str = "Server stats reset.\n";

// Writing to a `String` cannot fail.
macro_rules! put {
    ($to:expr, $($arg:tt)*) => {{ let _ = write!($to, $($arg)*); }};
}

fn conf(r: &Report) -> String {
    let c = &r.config;
    let (data_dir, data_log_dir) = c.shown_dirs();
    let mut t = String::new();
    put!(t, "clientPort={}\n", c.client.port);
    put!(t, "secureClientPort=-1\n");
    put!(t, "dataDir={data_dir}\n");
    put!(t, "dataDirSize={}\n", r.host.data_dir_size);
    put!(t, "dataLogDir={data_log_dir}\n");
    put!(t, "dataLogSize={}\n", r.host.log_dir_size);
    put!(t, "tickTime={}\n", c.tick_ms);
    put!(t, "maxClientCnxns={}\n", c.client.max_per_ip);
    put!(t, "minSessionTimeout={}\n", c.min_session_timeout_ms);
    put!(t, "maxSessionTimeout={}\n", c.max_session_timeout_ms);
    put!(t, "clientPortListenBacklog={}\n", c.client.listen_backlog);
    put!(t, "serverId={}\n", r.shown_id());
    t + &ensemble::conf(r).unwrap_or_default()
}

/// The line of a connection without its line break; `stat` shows the `brief` form.
fn connection(c: &ConnStatus, brief: bool) -> String {
    let mut t = String::new();
    put!(t, " /{}[{}]", java::socket_address(&c.peer), i32::from(c.reading));
    put!(t, "(queued={},recved={},sent={}", c.queued, c.received, c.sent);
    if !brief && c.session.0 != 0 {
        put!(t, ",sid={},lop={},est={},to={}", c.session, last_op(c), c.established_wall_ms, c.timeout_ms);
        if c.last_cxid >= 0 {
            put!(t, ",lcxid={:#x}", c.last_cxid);
        }
        put!(t, ",lzxid={},lresp={},llat={}", c.last_zxid, c.last_response_ms, c.last_latency_ms);
        let l = &c.latency;
        put!(t, ",minlat={},avglat={},maxlat={}", l.min_ms, whole_average(c), l.max_ms);
    }
    t.push(')');
    t
}

/// The name of a connection's last operation; `NA` before the first.
pub(super) fn last_op(c: &ConnStatus) -> &'static str {
    if c.last_op == Op::NOTIFICATION { "NA" } else { c.last_op.short_name() }
}

/// The mean latency of a connection, which is a whole number in ZooKeeper.
pub(super) fn whole_average(c: &ConnStatus) -> i64 {
    if c.latency.count == 0 { 0 } else { c.latency.total_ms / c.latency.count as i64 }
}

fn cons(r: &Report) -> String {
    let mut t = String::new();
    for c in r.connections() {
        put!(t, "{}\n", connection(c, false));
    }
    t.push('\n');
    t
}

fn banner(r: &Report) -> String {
    let only_reads = if r.is_read_only() { "READ-ONLY mode; serving only read-only clients\n" } else { "" };
    format!("Zookeeper version: {}\n{only_reads}", host::version())
}

fn srvr(r: &Report) -> String {
    let s = r.since_reset();
    let l = &s.latency;
    let mut t = String::new();
    let average = java::double(java::rounded(l.average_ms()));
    put!(t, "Latency min/avg/max: {}/{average}/{}\n", l.min_ms, l.max_ms);
    put!(t, "Received: {}\n", s.packets_received);
    put!(t, "Sent: {}\n", s.packets_sent);
    put!(t, "Connections: {}\n", r.connection_count());
    put!(t, "Outstanding: {}\n", r.outstanding());
    put!(t, "Zxid: {}\n", r.peer.last_zxid);
    put!(t, "Mode: {}\n", r.mode());
    put!(t, "Node count: {}\n", r.peer.znode_count);
    if let Some(leading) = &r.peer.role.leading {
        let (last, min, max) = ensemble::shown_sizes(leading.proposal_sizes);
        put!(t, "Proposal sizes last/min/max: {last}/{min}/{max}\n");
    }
    t
}

fn stat(r: &Report) -> String {
    let mut t = banner(r);
    t.push_str("Clients:\n");
    for c in r.connections() {
        put!(t, "{}\n", connection(c, true));
    }
    t.push('\n');
    t.push_str(&srvr(r));
    t
}

fn dump(r: &Report) -> String {
    let mut t = String::from("SessionTracker dump:\n");
    if let Some(local) = &r.local_expiry {
        t.push_str("Local ");
        session_sets(&mut t, r, local);
    }
    if r.tracks_sessions() {
        t.push_str(if r.local_expiry.is_some() { "Global " } else { "" });
        session_sets(&mut t, r, &r.expiry);
    } else {
        let mut all: Vec<_> = r.expiry.iter().flat_map(|(ms, ids)| ids.iter().map(move |id| (id, ms))).collect();
        all.sort_unstable();
        put!(t, "Global Sessions({}):\n", all.len());
        all.iter().for_each(|(id, timeout_ms)| put!(t, "{id}\t{timeout_ms}ms\n"));
    }
    put!(t, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", r.ephemerals.len());
    for (session, paths) in &r.ephemerals {
        put!(t, "{session}:\n");
        paths.iter().for_each(|path| put!(t, "\t{path}\n"));
    }
    let mut buckets: BTreeMap<i64, Vec<&ConnStatus>> = BTreeMap::new();
    for c in r.connections() {
        buckets.entry(connection_expiry(r, c)).or_default().push(c);
    }
    put!(t, "Connections dump:\nConnections Sets ({})/({}):\n", buckets.len(), r.connection_count());
    for (mono_ms, conns) in buckets {
        put!(t, "{} expire at {}:\n", conns.len(), java::date(r.wall_of(mono_ms)));
        for c in conns {
            put!(t, "\tip: /{} sessionId: {}\n", java::socket_address(&c.peer), c.session);
        }
    }
    t
}

/// Sessions by the time at which they expire.
fn session_sets(t: &mut String, r: &Report, sets: &[(i64, Vec<SessionId>)]) {
    let count: usize = sets.iter().map(|(_, ids)| ids.len()).sum();
    put!(t, "Session Sets ({})/({count}):\n", sets.len());
    for (mono_ms, ids) in sets {
        put!(t, "{} expire at {}:\n", ids.len(), java::date(r.wall_of(*mono_ms)));
        ids.iter().for_each(|id| put!(t, "\t{id}\n"));
    }
}

/// When a silent connection is closed, rounded up to the interval by which ZooKeeper sorts connections.
fn connection_expiry(r: &Report, c: &ConnStatus) -> i64 {
    let interval = i64::from(r.config.client.sessionless_timeout_ms).max(1);
    let timeout = if c.session.0 == 0 { interval } else { i64::from(c.timeout_ms) };
    ((c.heard_ms + timeout) / interval + 1) * interval
}

fn envi() -> String {
    let mut t = String::from("Environment:\n");
    for (key, value) in host::environment() {
        put!(t, "{key}={value}\n");
    }
    t
}

fn wchs(r: &Report) -> String {
    let s = r.watch_summary();
    format!("{} connections watching {} paths\nTotal watches:{}\n", s.connections, s.paths, s.watches)
}

fn wchc(r: &Report) -> String {
    let mut t = String::new();
    let mut last = None;
    for (session, path) in &r.watches {
        if last != Some(session) {
            put!(t, "{session}\n");
            last = Some(session);
        }
        put!(t, "\t{path}\n");
    }
    t.push('\n');
    t
}

fn wchp(r: &Report) -> String {
    let mut t = String::new();
    let mut by_path: Vec<_> = r.watches.iter().map(|(session, path)| (path, session)).collect();
    by_path.sort_unstable();
    let mut last = None;
    for (path, session) in by_path {
        if last != Some(path) {
            put!(t, "{path}\n");
            last = Some(path);
        }
        put!(t, "\t{session}\n");
    }
    t.push('\n');
    t
}

fn hash(r: &Report) -> String {
    let mut t = String::new();
    for d in &r.peer.stats.digests {
        put!(t, "{:x}: {}\n", d.zxid.0, d.digest as i64);
    }
    t
}

fn mntr(r: &Report) -> String {
    let mut t = format!("zk_version\t{}\nzk_server_state\t{}\n", host::version(), r.mode());
    if r.members().is_some() {
        put!(t, "zk_peer_state\t{}\n", r.peer.role.peer_state());
    }
    if let Some(leader) = r.observed_leader() {
        put!(t, "zk_observer_master_id\t{leader}\n");
    }
    for (key, value) in super::metrics::flat(r) {
        put!(t, "zk_{}\t{value}\n", on_one_line(r, &key));
    }
    t
}

/// A key that no reader of `mntr` splits or unquotes. A namespace may contain any character, so blanks, quotes,
/// backslashes and percent signs are percent-encoded. The keys of Prometheus already escape quotes and backslashes.
fn on_one_line<'k>(r: &Report, key: &'k str) -> Cow<'k, str> {
    let is_quoted = r.config.metrics.provider == MetricsProvider::Prometheus;
    let splits = |c: char| c.is_whitespace() || c.is_control() || c == '%';
    let ends = |c: char| splits(c) || !is_quoted && matches!(c, '"' | '\'' | '\\');
    if !key.contains(ends) {
        return key.into();
    }
    let mut safe = String::with_capacity(key.len() + 16);
    for c in key.chars() {
        if ends(c) {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| put!(safe, "%{byte:02X}"));
        } else {
            safe.push(c);
        }
    }
    safe.into()
}
