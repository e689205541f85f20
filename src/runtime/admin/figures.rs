//! All metrics: name, help text, and value in a report. `mntr`, `/commands/monitor` and Prometheus share this list, in
//! the order of `mntr`. Mirrors `ServerMetrics` and the gauges of `ServerStats`.
//!
//! Metrics of parts that only ZooKeeper has (queues between threads, the response cache, Netty, the JVM) are listed as
//! counters at 0 and summaries without observations.

use super::ensemble::shown_sizes;
use super::report::{Report, Startup, or_minus_one};
use crate::config::MetricsProvider;
use crate::peer::role_status::Mode;
use crate::peer::status::{LearnerStats, TxnLatencies};
use crate::quorum::Role;
use crate::shard::status::ShardStats;
use crate::tree::StatsTrack;
use crate::types::{Distribution, EventType, Latencies, Namespaces};

/// A metric's value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A value that goes up and down.
    Gauge(i64),
    /// A gauge with a fraction.
    Fraction(f64),
    /// A value that only grows.
    Counter(u64),
    /// A counter with a fraction.
    FractionCounter(f64),
    /// One gauge per namespace.
    Gauges(Vec<(String, i64)>),
    /// One counter per namespace.
    Counters(Vec<(String, u64)>),
    /// Average, minimum, maximum, count and sum; for Prometheus also a median.
    Summary(Distribution),
    /// A summary of microseconds, shown in milliseconds.
    Duration(Distribution),
    /// A summary per namespace.
    Summaries(Vec<(String, Distribution)>),
    /// Latencies with percentiles, shown in milliseconds.
    Percentiles(Box<Latencies>),
    /// The same per server.
    PercentilesBy(Vec<(String, Latencies)>),
}

/// A metric with its value.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: Value,
}

/// A report, and sums over its shards that several metrics need.
struct Sums<'r> {
    r: &'r Report,
    all: ShardStats,
}

type Read = fn(&Sums<'_>) -> Value;
type Row = (&'static str, &'static str, Read);

/// All metrics, in the order of `mntr`.
pub(super) fn figures(r: &Report) -> Vec<Figure> {
    let sums = Sums { r, all: r.shard_stats() };
    let figure = |(name, help, read): &Row| Figure { name, help, value: read(&sums) };
    let mut all: Vec<Figure> = GAUGES.iter().map(figure).collect();
    all.extend(ensemble_figures(r));
    all.extend(COUNTERS.iter().chain(SUMMARIES).chain(PERCENTILES).chain(BY_NAMESPACE).map(figure));
    all
}

const SYNCED_OBSERVERS: &str = "synced_observers";

/// The gauges that only members of an ensemble have, most of them only the leader.
fn ensemble_figures(r: &Report) -> Vec<Figure> {
    let role = &r.peer.role;
    let mut all = Vec::new();
    let mut put = |name, help, value| all.push(Figure { name, help, value: Value::Gauge(value) });
    if let Some(leading) = &role.leading {
        let (last, min, max) = shown_sizes(leading.proposal_sizes);
        let learners = &leading.learners;
        put("learners", "Servers connected to this leader", learners.learners as i64);
        put("synced_followers", "Followers that are up to date", learners.synced_followers as i64);
        let non_voting = learners.synced_non_voting_followers as i64;
        put("synced_non_voting_followers", "Followers that are up to date and have no vote", non_voting);
        put(SYNCED_OBSERVERS, "Observers that are up to date", learners.observers.len() as i64);
        put("pending_syncs", "Sync requests that wait for a commit", learners.pending_syncs as i64);
        put("leader_uptime", "Milliseconds since this server was elected", r.now.mono_ms - leading.since_ms);
        put("last_proposal_size", "Bytes of the last proposal; -1 before the first", last);
        put("max_proposal_size", "Bytes of the largest proposal since srst; -1 before the first", max);
        put("min_proposal_size", "Bytes of the smallest proposal since srst; -1 before the first", min);
    }
    if role.mode == Mode::Follower && r.config.metrics.provider == MetricsProvider::Prometheus {
        // Of a follower ZooKeeper's other provider shows it only if observers may follow it.
        put(SYNCED_OBSERVERS, "Observers that follow this follower", 0);
    }
    if let Some(members) = r.members() {
        put("quorum_size", "Servers that vote", members.voters().len() as i64);
    }
    all
}

/// The standard metrics of a process, for Prometheus only. Its client libraries use these names in every language.
pub(super) fn process_figures(r: &Report) -> Vec<Figure> {
    let Some(p) = r.process else { return Vec::new() };
    let whole = |n: u64| Value::Gauge(n as i64);
    [
        ("process_cpu_seconds_total", "Seconds of user and system time", Value::FractionCounter(p.cpu_seconds)),
        (
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            Value::Fraction(p.start_seconds),
        ),
        ("process_open_fds", "Open file descriptors", Value::Gauge(r.host.open_fds)),
        ("process_max_fds", "Limit of open file descriptors", Value::Gauge(r.host.max_fds)),
        ("process_virtual_memory_bytes", "Bytes of address space", whole(p.virtual_bytes)),
        ("process_resident_memory_bytes", "Bytes of memory in use", whole(p.resident_bytes)),
    ]
    .map(|(name, help, value)| Figure { name, help, value })
    .into()
}

const NONE: Read = |_| Value::Counter(0);
const EMPTY: Read = |_| Value::Summary(Distribution::default());
const NO_PERCENTILES: Read = |_| Value::Percentiles(Box::default());

const NOT_HERE: &str = "Always 0: for compatibility";
const NOT_MEASURED: &str = "Without observations: for compatibility";

fn gauge(n: usize) -> Value {
    Value::Gauge(n as i64)
}

fn fired(s: &Sums<'_>, event: EventType) -> Value {
    Value::Summary(s.all.watch_events[event as usize].clone())
}

fn of_txns(s: &Sums<'_>, pick: fn(&TxnLatencies) -> &Latencies) -> Value {
    Value::Percentiles(Box::new(pick(&s.r.peer.stats.txns).clone()))
}

/// Of each server in the ensemble, on its leader.
fn of_servers<T>(s: &Sums<'_>, pick: fn(&LearnerStats) -> Option<T>) -> Vec<(String, T)> {
    let all = s.r.peer.stats.learners.iter();
    all.filter_map(|(server, stats)| Some((server.0.to_string(), pick(stats)?))).collect()
}

/// Proposals that came from a leader. To an observer none come: it is informed of what is committed.
fn learner_proposals(s: &Sums<'_>) -> Value {
    let votes = s.r.config.ensemble.peer_type == Role::Participant;
    Value::Counter(if votes { s.r.peer.stats.learner_proposals } else { 0 })
}

/// Proposals that did not come from a leader.
fn own_proposals(s: &Sums<'_>) -> Value {
    Value::Counter(s.r.peer.stats.proposals - s.r.peer.stats.learner_proposals)
}

fn of_startup(s: &Sums<'_>, pick: fn(&Startup) -> &Distribution) -> Value {
    Value::Summary(pick(&s.r.control.startup).clone())
}

/// How long this server needed to join leaders, if it does that as a `role`.
fn sync_time(s: &Sums<'_>, role: Role) -> Value {
    let is_mine = s.r.config.ensemble.peer_type == role;
    Value::Summary(if is_mine { s.r.peer.role.elections.sync_ms.clone() } else { Distribution::default() })
}

/// The first snapshot of a new database is written before the peer core starts to count snapshots.
fn snapshot_times(s: &Sums<'_>) -> Value {
    let mut all = s.r.peer.stats.snapshot_ms.clone();
    all.merge(&s.r.control.startup.first_snapshot_ms);
    Value::Summary(all)
}

/// Limit or usage of all quotas, summed by namespace.
fn quotas(s: &Sums<'_>, pick: fn(&StatsTrack, bool) -> i64, usage: bool) -> Value {
    let mut all: Vec<(String, i64)> = Vec::new();
    for q in &s.r.peer.quotas {
        let (Some(name), Some(track)) =
            (Namespaces::of(&q.prefix), if usage { q.usage.as_ref() } else { Some(&q.limits) })
        else {
            continue;
        };
        let v = pick(track, usage);
        match all.iter_mut().find(|(n, _)| n == name) {
            Some((_, sum)) => *sum += v,
            None => all.push((name.to_owned(), v)),
        }
    }
    Value::Gauges(all)
}

/// The limit is the hard limit if there is one, otherwise the soft limit.
fn count_of(t: &StatsTrack, usage: bool) -> i64 {
    if !usage && t.count_hard_limit() > -1 { t.count_hard_limit() } else { t.count() }
}

fn bytes_of(t: &StatsTrack, usage: bool) -> i64 {
    if !usage && t.byte_hard_limit() > -1 { t.byte_hard_limit() } else { t.bytes() }
}

/// One counter per namespace.
fn counts(n: &Namespaces) -> Value {
    Value::Counters(n.sorted().into_iter().map(|(name, values)| (name.to_owned(), values.tally().count)).collect())
}

fn by_namespace(n: &Namespaces) -> Value {
    Value::Summaries(n.sorted().into_iter().map(|(name, values)| (name.to_owned(), values.clone())).collect())
}

#[rustfmt::skip]
const GAUGES: &[Row] = &[
    ("ephemerals_count", "Ephemeral znodes", |s| gauge(s.r.peer.ephemerals_count)),
    ("num_alive_connections", "Client connections", |s| gauge(s.r.connection_count())),
    ("avg_latency", "Mean latency of requests in milliseconds since srst", |s| Value::Fraction(s.all.since_reset.latency.average_ms())),
    ("outstanding_requests", "Requests taken and not answered", |s| gauge(s.r.outstanding())),
    ("znode_count", "Znodes", |s| gauge(s.r.peer.znode_count)),
    ("highest_sequence_number", "Highest number given to a sequential znode since the start", |s| Value::Gauge(s.r.peer.prep.highest_sequence_number.into())),
    ("global_sessions", "Sessions", |s| gauge(s.r.peer.global_sessions)),
    ("non_mtls_remote_conn_count", NOT_HERE, |_| Value::Gauge(0)),
    ("last_client_response_size", "Bytes of a recent reply; -1 before the first", |s| Value::Gauge(or_minus_one(s.all.since_reset.last_response_size))),
    ("packets_sent", "Replies and events since srst", |s| Value::Gauge(s.all.since_reset.packets_sent as i64)),
    ("packets_received", "Requests since srst", |s| Value::Gauge(s.all.since_reset.packets_received as i64)),
    ("max_client_response_size", "Bytes of the longest reply since srst; -1 before the first", |s| Value::Gauge(or_minus_one(s.all.since_reset.max_response_size))),
    ("connection_drop_probability", "Part of new connections that the connection throttle refuses", |s| Value::Fraction(s.all.drop_probability)),
    ("watch_count", "Watches", |s| gauge(s.r.shards.iter().map(|s| s.watch_count).sum())),
    ("auth_failed_count", "Refused authentications", |s| Value::Gauge(s.all.auth_failed as i64)),
    ("min_latency", "Least latency in milliseconds since srst", |s| Value::Gauge(s.all.since_reset.latency.min_ms)),
    ("max_file_descriptor_count", "Limit of open file descriptors", |s| Value::Gauge(s.r.host.max_fds)),
    ("approximate_data_size", "Bytes of paths and data of all znodes", |s| Value::Gauge(s.r.peer.approximate_data_size as i64)),
    ("open_file_descriptor_count", "Open file descriptors", |s| Value::Gauge(s.r.host.open_fds)),
    ("local_sessions", "Local sessions", |s| gauge(s.r.peer.local_sessions.unwrap_or(0))),
    ("uptime", "Milliseconds since the start", |s| Value::Gauge(s.r.uptime_ms())),
    ("max_latency", "Greatest latency in milliseconds since srst", |s| Value::Gauge(s.all.since_reset.latency.max_ms)),
    ("outstanding_tls_handshake", NOT_HERE, |_| Value::Gauge(0)),
    ("min_client_response_size", "Bytes of the shortest reply since srst; -1 before the first", |s| Value::Gauge(or_minus_one(s.all.since_reset.min_response_size))),
    ("non_mtls_local_conn_count", NOT_HERE, |_| Value::Gauge(0)),
    ("quota_bytes_limit_per_namespace", "Bytes that a quota allows", |s| quotas(s, bytes_of, false)),
    ("quota_count_usage_per_namespace", "Znodes under a quota", |s| quotas(s, count_of, true)),
    ("quota_count_limit_per_namespace", "Znodes that a quota allows", |s| quotas(s, count_of, false)),
    ("quota_bytes_usage_per_namespace", "Bytes under a quota", |s| quotas(s, bytes_of, true)),
];

#[rustfmt::skip]
const COUNTERS: &[Row] = &[
    ("watch_bytes", "Bytes of events sent", |s| Value::Counter(s.all.watch_bytes)),
    ("stale_requests_dropped", "Connections closed because a request of theirs went stale waiting for room", |s| Value::Counter(s.all.stale_requests_dropped)),
    ("throttled_ops", "Requests answered THROTTLEDOP", |s| Value::Counter(s.all.throttled_ops)),
    ("sequential_creates_near_end", "Sequential creates with one of the last million numbers of their parent", |s| Value::Counter(s.r.peer.prep.sequential_creates_near_end)),
    ("insecure_admin_count", NOT_HERE, NONE),
    ("connection_rejected", "Connections refused by a limit", |s| Value::Counter(s.r.control.connections_refused + s.all.connections_rejected)),
    ("sessionless_connections_expired", "Connections closed because they sent no handshake", |s| Value::Counter(s.all.sessionless_expired)),
    ("dead_watchers_queued", NOT_HERE, NONE),
    ("stale_requests", "Requests executed although they had gone stale", |s| Value::Counter(s.all.stale_requests)),
    ("connection_drop_count", "Connections that the client ended", |s| Value::Counter(s.all.connections_dropped)),
    ("response_packet_cache_hits", NOT_HERE, NONE),
    ("bytes_received_count", "Bytes received from clients", |s| Value::Counter(s.all.bytes_received)),
    ("add_dead_watcher_stall_time", NOT_HERE, NONE),
    ("request_throttle_wait_count", "How often requests waited for room in the pipeline", |s| Value::Counter(s.all.throttle_waits)),
    ("requests_not_forwarded_to_commit_processor", NOT_HERE, NONE),
    ("response_packet_cache_misses", NOT_HERE, NONE),
    ("prep_processor_request_queued", "Writes validated by this server", own_proposals),
    ("stale_replies", "Replies to requests that had gone stale", |s| Value::Counter(s.all.stale_replies)),
    ("response_bytes", "Bytes of replies", |s| Value::Counter(s.all.response_bytes)),
    ("ensemble_auth_fail", "Clients that looked for another ensemble", |s| Value::Counter(s.all.ensemble_auth.fail)),
    ("diff_count", "Learners that were sent the transactions they missed", |s| Value::Counter(s.r.peer.stats.diffs_sent)),
    ("connection_revalidate_count", "Handshakes with a session", |s| Value::Counter(s.all.revalidations)),
    ("quit_leading_due_to_disloyal_voter", NOT_HERE, NONE),
    ("unrecoverable_error_count", NOT_HERE, NONE),
    ("unsuccessful_handshake", "Handshakes that gave no session", |s| Value::Counter(s.all.unsuccessful_handshakes)),
    ("commit_count", "Transactions that this server has committed and applied", |s| Value::Counter(s.r.peer.stats.commits)),
    ("outstanding_changes_queued", "Changes that later writes were checked against before they were applied", |s| Value::Counter(s.r.peer.prep.outstanding_changes_queued)),
    ("request_commit_queued", NOT_HERE, NONE),
    ("ensemble_auth_skip", "Clients that named no ensemble, or had nothing to be compared with", |s| Value::Counter(s.all.ensemble_auth.skip)),
    ("skip_learner_request_to_next_processor_count", NOT_HERE, NONE),
    ("proposal_count", "Transactions proposed by this server", own_proposals),
    ("large_requests_rejected", "Connections closed because of a request longer than jute.maxbuffer, or too many bytes of large requests", |s| Value::Counter(s.all.large_requests_rejected)),
    ("outstanding_changes_removed", "Those that are applied", |s| Value::Counter(s.r.peer.prep.outstanding_changes_removed)),
    ("restore_error_count", NOT_HERE, NONE),
    ("cnxn_closed_without_zk_server_running", NOT_HERE, NONE),
    ("looking_count", "How often this server began to look for a leader", |s| Value::Counter(s.r.peer.role.elections.looked)),
    ("snapshot_rate_limited_count", "Snapshot commands refused for coming too fast", |s| Value::Counter(s.r.control.snapshots_limited)),
    ("learner_proposal_received_count", "Proposals that came from a leader", learner_proposals),
    ("digest_mismatches_count", "Transactions after which the tree's digest is not the one in the log", |s| Value::Counter(s.r.peer.stats.digest_mismatches)),
    ("dead_watchers_cleared", NOT_HERE, NONE),
    ("ensemble_auth_success", "Clients that named this ensemble", |s| Value::Counter(s.all.ensemble_auth.success)),
    ("learner_commit_received_count", "Commits that came from a leader", |s| Value::Counter(s.r.peer.stats.learner_commits)),
    ("snapshot_error_count", "Snapshot commands that failed", |s| Value::Counter(s.r.control.snapshots_failed)),
    ("connection_request_count", "Handshakes received", |s| Value::Counter(s.all.connection_requests)),
    ("response_packet_get_children_cache_misses", NOT_HERE, NONE),
    ("snap_count", "Learners that were sent a snapshot", |s| Value::Counter(s.r.peer.stats.snaps_sent)),
    ("stale_sessions_expired", "Sessions expired", |s| Value::Counter(s.r.peer.stats.sessions_expired)),
    ("restore_rate_limited_count", NOT_HERE, NONE),
    ("response_packet_get_children_cache_hits", NOT_HERE, NONE),
    ("sync_processor_request_queued", "Transactions given to the log", |s| Value::Counter(s.r.peer.stats.proposals)),
    ("tls_handshake_exceeded", NOT_HERE, NONE),
    ("revalidate_count", "Sessions of which learners asked whether they exist", |s| Value::Counter(s.r.peer.stats.revalidations)),
    ("quota_exceeded_error_per_namespace", "Writes refused by a hard quota", |s| counts(&s.r.peer.prep.quota_refusals)),
];

#[rustfmt::skip]
const SUMMARIES: &[Row] = &[
    ("socket_closing_time", NOT_MEASURED, EMPTY),
    ("proposal_process_time", NOT_MEASURED, EMPTY),
    ("leader_unavailable_time", "Milliseconds without a leader until this server led", |s| Value::Summary(s.r.peer.role.elections.leader_unavailable_ms.clone())),
    ("node_created_watch_count", "Watchers told of a znode's creation", |s| fired(s, EventType::NodeCreated)),
    ("session_queues_drained", NOT_MEASURED, EMPTY),
    ("write_commit_proc_req_queued", NOT_MEASURED, EMPTY),
    ("connection_token_deficit", "Tokens missing after a handshake", |s| Value::Summary(s.all.token_deficit.clone())),
    ("read_commit_proc_req_queued", NOT_MEASURED, EMPTY),
    ("node_deleted_watch_count", "Watchers told of a znode's deletion", |s| fired(s, EventType::NodeDeleted)),
    ("startup_txns_load_time", "Milliseconds that replaying logs took at the start", |s| of_startup(s, |t| &t.log_load_ms)),
    ("sync_processor_queue_size", NOT_MEASURED, EMPTY),
    ("follower_sync_time", "Milliseconds from an election until this server served as a follower", |s| sync_time(s, Role::Participant)),
    ("prep_processor_queue_size", NOT_MEASURED, EMPTY),
    ("fsynctime", "Milliseconds that syncing the log took", |s| Value::Duration(s.r.peer.stats.fsync_us.clone())),
    ("inflight_snap_count", "Learners that are sent a snapshot, when one begins or ends", |s| Value::Summary(s.r.peer.stats.inflight_snaps.clone())),
    ("reads_issued_from_session_queue", NOT_MEASURED, EMPTY),
    ("restore_time", NOT_MEASURED, EMPTY),
    ("learner_request_processor_queue_size", NOT_MEASURED, EMPTY),
    ("snapshottime", "Milliseconds that writing a snapshot took", snapshot_times),
    ("unavailable_time", "Milliseconds without a leader or before it was joined", |s| Value::Summary(s.r.peer.role.elections.unavailable_ms.clone())),
    ("startup_txns_loaded", "Transactions replayed from logs at the start", |s| of_startup(s, |t| &t.replayed)),
    ("reads_after_write_in_session_queue", NOT_MEASURED, EMPTY),
    ("requests_in_session_queue", NOT_MEASURED, EMPTY),
    ("write_commit_proc_issued", NOT_MEASURED, EMPTY),
    ("prep_process_time", NOT_MEASURED, EMPTY),
    ("pending_session_queue_size", NOT_MEASURED, EMPTY),
    ("time_waiting_empty_pool_in_commit_processor_read_ms", NOT_MEASURED, EMPTY),
    ("commit_process_time", NOT_MEASURED, EMPTY),
    ("dbinittime", "Milliseconds that loading snapshot and logs took", |s| of_startup(s, |t| &t.load_ms)),
    ("inflight_diff_count", "Learners that are sent what they missed, when one begins or ends", |s| Value::Summary(s.r.peer.stats.inflight_diffs.clone())),
    ("netty_queued_buffer_capacity", NOT_MEASURED, EMPTY),
    ("election_time", "Milliseconds that an election took", |s| Value::Summary(s.r.peer.role.elections.election_ms.clone())),
    ("commit_commit_proc_req_queued", NOT_MEASURED, EMPTY),
    ("sync_processor_batch_size", "Transactions per sync of the log", |s| Value::Summary(s.r.peer.stats.batches.clone())),
    ("node_children_watch_count", "Watchers told of a change among a znode's children", |s| fired(s, EventType::NodeChildrenChanged)),
    ("write_batch_time_in_commit_processor", NOT_MEASURED, EMPTY),
    ("read_commit_proc_issued", NOT_MEASURED, EMPTY),
    ("concurrent_request_processing_in_commit_processor", NOT_MEASURED, EMPTY),
    ("observer_sync_time", "Milliseconds from an election until this server served as an observer", |s| sync_time(s, Role::Observer)),
    ("node_changed_watch_count", "Watchers told of a change of a znode's data", |s| fired(s, EventType::NodeDataChanged)),
    ("sync_process_time", NOT_MEASURED, EMPTY),
    ("startup_snap_load_time", "Milliseconds that loading the snapshot took at the start", |s| of_startup(s, |t| &t.snapshot_load_ms)),
];

#[rustfmt::skip]
const PERCENTILES: &[Row] = &[
    ("prep_processor_queue_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("jvm_pause_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("close_session_prep_time", NOT_MEASURED, NO_PERCENTILES),
    ("read_commitproc_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("updatelatency", "Milliseconds from a write's arrival to its reply", |s| Value::Percentiles(Box::new(s.all.update_latency.clone()))),
    ("local_write_committed_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("request_throttle_queue_time_ms", "Milliseconds that requests waited for room in the pipeline", |s| Value::Percentiles(Box::new(s.all.throttle_queue.clone()))),
    ("readlatency", "Milliseconds from a read's arrival to its reply", |s| Value::Percentiles(Box::new(s.all.read_latency.clone()))),
    ("quorum_ack_latency", "Milliseconds from a transaction's creation until a quorum has it, on a leader", |s| of_txns(s, |t| &t.quorum)),
    ("om_commit_process_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("read_final_proc_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("commit_propagation_latency", "Milliseconds from a transaction's creation until a learner may apply it", |s| of_txns(s, |t| &t.committed)),
    ("dead_watchers_cleaner_latency", NOT_MEASURED, NO_PERCENTILES),
    ("write_final_proc_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("proposal_ack_creation_latency", "Milliseconds from a transaction's creation until it is durable on this voter", |s| of_txns(s, |t| &t.durable)),
    ("proposal_latency", "Milliseconds from a transaction's creation until it comes to this follower", |s| of_txns(s, |t| &t.proposed)),
    ("om_proposal_process_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("sync_processor_queue_and_flush_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("propagation_latency", "Milliseconds from a transaction's creation until it is applied", |s| of_txns(s, |t| &t.applied)),
    ("server_write_committed_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("sync_processor_queue_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("sync_processor_queue_flush_time_ms", NOT_MEASURED, NO_PERCENTILES),
    ("write_commitproc_time_ms", NOT_MEASURED, NO_PERCENTILES),
];

#[rustfmt::skip]
const BY_NAMESPACE: &[Row] = &[
    ("ack_latency", "By server: milliseconds from a transaction's creation until it was acknowledged", |s| Value::PercentilesBy(of_servers(s, |l| l.acks.clone()))),
    ("learner_handler_qp_size", "By learner: packets that waited when one left", |s| Value::Summaries(of_servers(s, |l| l.queue.as_ref().map(|q| q.len.clone())))),
    ("learner_handler_qp_time_ms", "By learner: milliseconds until a packet left", |s| Value::PercentilesBy(of_servers(s, |l| l.queue.as_ref().map(|q| q.time.clone())))),
    ("read_per_namespace", "Bytes read: path, data and stat", |s| by_namespace(&s.all.reads)),
    ("write_per_namespace", "Bytes written: path and data", |s| by_namespace(&s.r.peer.stats.writes)),
];
