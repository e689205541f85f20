//! Properties of log, snapshots and tree.

use super::{Key, Scope, Set, any, bare, ensemble, int, long, property};
use crate::config::settings::{Compression, Config};

/// Largest size in KiB whose number of bytes still fits a `u64`.
const MAX_KIB: i64 = i64::MAX >> 10;

pub(super) const KEYS: &[Key] = &[
    property("preAllocSize", "65536", Set::Int(1, MAX_KIB, |c, v| c.storage.preallocate_bytes = (v as u64) << 10)),
    property("snapCount", "100000", any(|c, v| c.storage.snap_count = v as i32)),
    property(
        "snapSizeLimitInKb",
        "4194304",
        Set::Int(i64::MIN, MAX_KIB, |c, v| c.storage.snap_size_limit_bytes = kib_or_off(v)),
    ),
    property(
        "txnLogSizeLimitInKb",
        "-1",
        Set::Int(i64::MIN, MAX_KIB, |c, v| c.storage.txn_log_size_limit_bytes = kib_or_off(v)),
    ),
    ensemble(Scope::Property, "commitLogCount", "500", int(0, |c, v| c.ensemble.commit_log_count = v as i32)),
    ensemble(
        Scope::Property,
        "snapshotSizeFactor",
        "0.33",
        Set::Float(-1e9, 1e9, |c, v| c.ensemble.snapshot_size_factor = v),
    ),
    property("forceSync", "yes", Set::YesNo(|c, v| c.storage.force_sync = v)),
    Key {
        scope: Scope::Any,
        ..property("fsync.warningthresholdms", "1000", long(0, |c, v| c.storage.fsync_warning_ms = v))
    },
    property("snapshot.compression.method", "", Set::Text(compression)),
    property("snapshot.trust.empty", "false", Set::Bool(|c, v| c.storage.trust_empty_snapshot = v)),
    property(
        "serializeLastProcessedZxid.enabled",
        "true",
        Set::Bool(|c, v| c.storage.serialize_last_processed_zxid = v),
    ),
    property("digest.enabled", "true", Set::Bool(|c, v| c.storage.digest = v)),
    property("closeSessionTxn.enabled", "true", Set::Bool(|c, v| c.storage.close_session_txn = v)),
    property("datadir.autocreate", "true", Set::Bool(|c, v| c.storage.data_dir_autocreate = v)),
    property("db.autocreate", "true", Set::Bool(|c, v| c.storage.db_autocreate = v)),
    property("extendedTypesEnabled", "false", Set::Bool(|c, v| c.storage.extended_types = v)),
    property("emulate353TTLNodes", "false", Set::Bool(|c, v| c.storage.emulate_353_ttl = v)),
    bare("znode.container.checkIntervalMs", "60000", int(1, |c, v| c.storage.container_check_interval_ms = v as i32)),
    bare("znode.container.maxPerMinute", "10000", int(1, |c, v| c.storage.container_max_per_minute = v as i32)),
    bare("znode.container.maxNeverUsedIntervalMs", "0", long(0, |c, v| c.storage.container_max_never_used_ms = v)),
    bare("jute.maxbuffer", "1048575", int(1, |c, v| c.storage.jute_max_buffer = v as i32)),
    property("jute.maxbuffer.extrasize", "= jute.maxbuffer", int(0, |c, v| c.storage.jute_max_buffer_extra = v as i32)),
];

fn kib_or_off(kib: i64) -> Option<u64> {
    u64::try_from(kib).ok().filter(|kib| *kib > 0).map(|kib| kib << 10)
}

fn compression(config: &mut Config, text: &str) -> Result<(), String> {
    config.storage.snapshot_compression = match text {
        "" => Compression::None,
        "gz" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        _ => return Err(format!("{text:?} is unknown: write gz or snappy, or nothing for none")),
    };
    Ok(())
}
