//! Properties of throughput, throttling and limits.

use super::Scope::Property;
use super::{Key, Set, any, int, long, meaningless, property};

const THREADS: &str = "threads are set by zabra.cores and zabra.shards";
const TRANSPORT: &str = "the client transport is chosen by zabra.io";
const NO_CACHE: &str = "replies are encoded from the tree, there is no cache of them";
const WATCH_TABLE: &str = "there is one kind of watch table, cleaned when a connection closes";
const PATH_STATS: &str = "request path statistics are not available in this version";

pub(super) const KEYS: &[Key] = &[
    property("globalOutstandingLimit", "1000", int(1, |c, v| c.limits.global_outstanding = v as i32)),
    property("maxCnxns", "0", any(|c, v| c.client.max_total = v as i32)),
    property("clientTcpKeepAlive", "false", Set::Bool(|c, v| c.client.tcp_keep_alive = v)),
    meaningless(Property, "serverCnxnFactory", "org.apache.zookeeper.server.NIOServerCnxnFactory", TRANSPORT),
    meaningless(Property, "nio.numSelectorThreads", "= sqrt(cores / 2)", THREADS),
    meaningless(Property, "nio.numWorkerThreads", "= 2 * cores", THREADS),
    meaningless(Property, "nio.directBufferBytes", "65536", TRANSPORT),
    property("nio.sessionlessCnxnTimeout", "10000", int(1, |c, v| c.client.sessionless_timeout_ms = v as i32)),
    meaningless(Property, "nio.shutdownTimeout", "5000", THREADS),
    meaningless(Property, "netty.advancedFlowControl.enabled", "false", TRANSPORT),
    meaningless(Property, "netty.server.outstandingHandshake.limit", "-1", TRANSPORT),
    meaningless(Property, "netty.server.earlyDropSecureConnectionHandshakes", "false", TRANSPORT),
    meaningless(Property, "intBufferStartingSizeBytes", "1024", TRANSPORT),
    meaningless(Property, "commitProcessor.numWorkerThreads", "= cores", THREADS),
    meaningless(Property, "commitProcessor.shutdownTimeout", "5000", THREADS),
    meaningless(Property, "commitProcessor.maxReadBatchSize", "-1", THREADS),
    meaningless(Property, "commitProcessor.maxCommitBatchSize", "1", THREADS),
    property("flushDelay", "0", long(i64::MIN, |c, v| c.storage.flush_delay_ms = v)),
    property(
        "maxWriteQueuePollTime",
        "= flushDelay / 3",
        long(i64::MIN, |c, v| c.storage.max_write_queue_poll_ms = Some(v.max(0))),
    ),
    property("maxBatchSize", "1000", any(|c, v| c.storage.max_batch_size = v as i32)),
    meaningless(Property, "maxResponseCacheSize", "400", NO_CACHE),
    meaningless(Property, "maxGetChildrenResponseCacheSize", "400", NO_CACHE),
    meaningless(Property, "watchManagerName", "org.apache.zookeeper.server.watch.WatchManager", WATCH_TABLE),
    meaningless(Property, "watcherCleanThreadsNum", "2", WATCH_TABLE),
    meaningless(Property, "watcherCleanThreshold", "1000", WATCH_TABLE),
    meaningless(Property, "watcherCleanIntervalInSeconds", "600", WATCH_TABLE),
    meaningless(Property, "maxInProcessingDeadWatchers", "-1", WATCH_TABLE),
    meaningless(Property, "bitHashCacheSize", "10", WATCH_TABLE),
    property("connection_throttle_tokens", "0", int(0, |c, v| c.limits.connections.tokens = v as i32)),
    property("connection_throttle_fill_time", "1", int(1, |c, v| c.limits.connections.fill_time_ms = v as i32)),
    property("connection_throttle_fill_count", "1", int(0, |c, v| c.limits.connections.fill_count = v as i32)),
    property("connection_throttle_freeze_time", "-1", int(-1, |c, v| c.limits.connections.freeze_time_ms = v as i32)),
    property(
        "connection_throttle_drop_increase",
        "0.02",
        Set::Float(0.0, 1.0, |c, v| c.limits.connections.drop_increase = v),
    ),
    property(
        "connection_throttle_drop_decrease",
        "0.002",
        Set::Float(0.0, 1.0, |c, v| c.limits.connections.drop_decrease = v),
    ),
    property(
        "connection_throttle_decrease_ratio",
        "0",
        Set::Float(0.0, 1.0, |c, v| c.limits.connections.decrease_ratio = v),
    ),
    property("connection_throttle_weight_enabled", "false", Set::Bool(|c, v| c.limits.connections.weighted = v)),
    property(
        "connection_throttle_global_session_weight",
        "3",
        int(1, |c, v| c.limits.connections.weights.global = v as i32),
    ),
    property(
        "connection_throttle_local_session_weight",
        "1",
        int(1, |c, v| c.limits.connections.weights.local = v as i32),
    ),
    property(
        "connection_throttle_renew_session_weight",
        "2",
        int(1, |c, v| c.limits.connections.weights.renew = v as i32),
    ),
    property("request_throttle_max_requests", "0", any(|c, v| c.limits.requests.max_requests = v.max(0) as i32)),
    property("request_throttle_stall_time", "100", int(1, |c, v| c.limits.requests.stall_ms = v as i32)),
    property("request_throttle_drop_stale", "true", Set::Bool(|c, v| c.limits.requests.drop_stale = v)),
    property("request_stale_latency_check", "false", Set::Bool(|c, v| c.limits.requests.stale_latency_check = v)),
    property("request_stale_connection_check", "true", Set::Bool(|c, v| c.limits.requests.stale_connection_check = v)),
    meaningless(Property, "request_throttler.shutdownTimeout", "10000", THREADS),
    property("throttled_op_wait_time", "0", any(|c, v| c.limits.throttled_op_wait_ms = v.max(0) as i32)),
    property("largeRequestMaxBytes", "104857600", int(1, |c, v| c.limits.large_request_max_bytes = v as i32)),
    property("largeRequestThreshold", "-1", any(|c, v| c.limits.large_request_threshold_bytes = v as i32)),
    property("enforceQuota", "false", Set::Bool(|c, v| c.limits.enforce_quota = v)),
    meaningless(Property, "pathStats.enabled", "false", PATH_STATS),
    meaningless(Property, "pathStats.slotCapacity", "60", PATH_STATS),
    meaningless(Property, "pathStats.slotDuration", "15", PATH_STATS),
    meaningless(Property, "pathStats.maxDepth", "6", PATH_STATS),
    meaningless(Property, "pathStats.sampleRate", "0.1", PATH_STATS),
    meaningless(Property, "pathStats.initialDelay", "5", PATH_STATS),
    meaningless(Property, "pathStats.delay", "5", PATH_STATS),
    meaningless(Property, "pathStats.topPathMax", "20", PATH_STATS),
];
