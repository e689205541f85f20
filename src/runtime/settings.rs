//! Translates the configuration into the settings of each part.

use std::sync::Arc;
use std::time::Duration;

use super::cores;
use super::disk::SyncMethod;
use super::log_thread::LogThreadOptions;
use super::net::{Backend, ListenAddr, ListenOptions};
use crate::auth::Providers;
use crate::config::{self, Config};
use crate::peer::{PeerOptions, SweepOptions};
use crate::pipeline::messages::touch_interval_ms;
use crate::pipeline::prep::PrepOptions;
use crate::proto::four_letter;
use crate::session::{LargeRequests, SharedConnectionThrottle};
use crate::shard::ShardOptions;
use crate::shard::Throttles;
use crate::shard::request_throttler::RequestThrottle;
use crate::tree::TreeOptions;
use crate::txnlog::appender::AppenderOptions;
use crate::txnlog::names::Compression;
use crate::txnlog::recovery::RecoveryOptions;
use crate::txnlog::snapshot::SnapshotOptions;
use crate::txnlog::writer::LogOptions;
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Now, ServerId, ShardId};

/// The id of a standalone server, whatever `myid` says: session ids have it in their top byte.
const STANDALONE_ID: ServerId = ServerId(1);

fn extended(c: &Config) -> ExtendedTypes {
    ExtendedTypes { enabled: c.storage.extended_types, emulate_353: c.storage.emulate_353_ttl }
}

pub(super) fn tree(c: &Config) -> TreeOptions {
    TreeOptions { extended: extended(c), digest_enabled: c.storage.digest }
}

pub(super) fn providers(c: &Config) -> Providers {
    Providers {
        digest: c.auth.digest,
        digest_alg: c.auth.digest_alg,
        super_digest: c.auth.super_digest.clone(),
        sasl: false,
        x509: false,
        ensemble: c.auth.ensemble.then(|| c.auth.ensemble_names.clone()),
    }
}

pub(super) fn peer(c: &Config, shards: usize) -> PeerOptions {
    PeerOptions {
        me: STANDALONE_ID,
        tick_ms: c.tick_ms,
        prep: PrepOptions {
            extended: extended(c),
            skip_acl: c.auth.skip_acl,
            enforce_quota: c.limits.enforce_quota,
            digest_enabled: c.storage.digest,
            close_session_txn: c.storage.close_session_txn,
            reconfig_enabled: c.ensemble.reconfig_enabled,
            max_txn_bytes: c.storage.jute_max_buffer.saturating_add(c.storage.jute_max_buffer_extra) as usize,
            providers: providers(c),
        },
        sweep: SweepOptions {
            interval_ms: i64::from(c.storage.container_check_interval_ms),
            max_per_minute: i64::from(c.storage.container_max_per_minute),
            max_never_used_ms: c.storage.container_max_never_used_ms,
        },
        shards,
    }
}

/// The throttles of one of `shards` shards. What the shards share is created here, once.
pub(super) fn throttles(c: &Config, shards: usize, now: Now, seed: u64) -> Throttles {
    let (l, r) = (&c.limits, &c.limits.requests);
    let bucket = || Arc::new(SharedConnectionThrottle::new(l.connections, now.mono_ms, seed));
    let large = || Arc::new(LargeRequests::new(l.large_request_max_bytes, l.large_request_threshold_bytes));
    Throttles {
        connections: (l.connections.tokens > 0).then(bucket),
        large: Some(large()),
        requests: RequestThrottle {
            max_requests: match usize::try_from(r.max_requests) {
                Ok(0) | Err(_) => usize::MAX,
                Ok(all) => all.div_ceil(shards),
            },
            stall_ms: i64::from(r.stall_ms.max(1)),
            drop_stale: r.drop_stale,
            stale_latency_check: r.stale_latency_check,
            stale_connection_check: r.stale_connection_check,
            op_wait_ms: i64::from(l.throttled_op_wait_ms),
        },
    }
}

pub(super) fn shard(c: &Config, id: ShardId, shards: usize, throttles: Throttles) -> ShardOptions {
    let all = c.limits.four_letter_words.iter().any(|w| w == "*");
    let allowed = |w: &&'static str| all || c.limits.four_letter_words.iter().any(|a| a == w);
    ShardOptions {
        id,
        max_frame: c.storage.jute_max_buffer as usize,
        session_timeout_ms: (c.min_session_timeout_ms, c.max_session_timeout_ms),
        handshake_timeout_ms: i64::from(c.client.sessionless_timeout_ms),
        outstanding_limit: (c.limits.global_outstanding.max(1) as usize).div_ceil(shards),
        touch_interval_ms: touch_interval_ms(c.tick_ms),
        bounds: Default::default(),
        skip_acl: c.auth.skip_acl,
        words: four_letter::WORDS.into_iter().filter(allowed).collect(),
        enforced_schemes: if c.auth.enforce { c.auth.enforced_schemes.clone() } else { Vec::new() },
        auth: Arc::new(providers(c)),
        throttles,
    }
}

pub(super) fn log(c: &Config) -> LogOptions {
    LogOptions {
        prealloc_bytes: c.storage.preallocate_bytes,
        roll_at_bytes: c.storage.txn_log_size_limit_bytes,
        force_sync: c.storage.force_sync,
    }
}

pub(super) fn log_thread(c: &Config, replayed: u64, cpus: Vec<usize>) -> LogThreadOptions {
    LogThreadOptions {
        appender: AppenderOptions {
            snap_count: c.storage.snap_count as u64,
            snap_size_bytes: c.storage.snap_size_limit_bytes.unwrap_or(0),
            max_batch_records: c.storage.max_batch_size.max(0) as u64,
            flush_delay_ms: c.storage.flush_delay_ms,
            max_idle_ms: c.storage.max_write_queue_poll_ms,
            ..AppenderOptions::default()
        },
        records_since_snapshot: replayed,
        fsync_warning: Duration::from_millis(c.storage.fsync_warning_ms.max(0) as u64),
        // The log thread may run on any CPU, even if a pinned thread starts it.
        cpus: Some(cpus),
        spin: Duration::ZERO,
    }
}

pub(super) fn snapshot(c: &Config) -> SnapshotOptions {
    SnapshotOptions {
        compression: match c.storage.snapshot_compression {
            config::Compression::None => Compression::None,
            config::Compression::Gzip => Compression::Gzip,
            config::Compression::Snappy => Compression::Snappy,
        },
        digest_block: c.storage.digest,
        last_zxid_block: c.storage.serialize_last_processed_zxid,
    }
}

pub(super) fn recovery(c: &Config, initialize: bool) -> RecoveryOptions {
    RecoveryOptions {
        trust_empty_snapshot: c.storage.trust_empty_snapshot,
        may_create: c.storage.db_autocreate || initialize,
        verify_digests: c.storage.digest,
        // No learner synchronises with a standalone server.
        keep_last: 0,
    }
}

pub(super) fn sync_method(c: &Config) -> SyncMethod {
    match c.host.log_sync {
        config::LogSync::Fdatasync => SyncMethod::Fdatasync,
        config::LogSync::Msync => SyncMethod::Msync,
        config::LogSync::Dsync => SyncMethod::Dsync,
    }
}

pub(super) fn cores(c: &Config) -> cores::Cores {
    match &c.host.cores {
        config::Cores::Auto => cores::Cores::Auto,
        config::Cores::List(list) => cores::Cores::List(list.clone()),
    }
}

/// The back end; `None` means the best one that works here.
pub(super) fn io(c: &Config) -> Option<Backend> {
    match c.host.io {
        config::Io::Auto => None,
        config::Io::Uring => Some(Backend::Uring),
        config::Io::Epoll => Some(Backend::Epoll),
    }
}

pub(super) fn listen(c: &Config, shards: usize) -> (ListenAddr, ListenOptions) {
    let addr = match c.client.host {
        Some(host) => ListenAddr::At(host.at(c.client.port)),
        None => ListenAddr::Any(c.client.port),
    };
    let options = ListenOptions {
        backlog: (c.client.listen_backlog > 0).then_some(c.client.listen_backlog),
        reuse_port: shards > 1,
        keepalive: c.client.tcp_keep_alive,
    };
    (addr, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::DigestAlg;

    #[test]
    fn throttles_are_off_by_default_and_shared_between_shards() {
        let off = throttles(&Config::default(), 2, Now::default(), 1);
        assert!(off.connections.is_none());
        assert_eq!(off.requests, RequestThrottle::default());
        let mut c = Config::default();
        c.limits.connections.tokens = 2;
        c.limits.large_request_threshold_bytes = 10;
        c.limits.large_request_max_bytes = 20;
        c.limits.requests.max_requests = 5;
        let on = throttles(&c, 2, Now::default(), 1);
        let (a, b) = (shard(&c, ShardId(0), 2, on.clone()).throttles, shard(&c, ShardId(1), 2, on).throttles);
        assert_eq!((a.requests.max_requests, b.requests.max_requests), (3, 3));
        let connect = |t: &Throttles| {
            t.connections.as_ref().unwrap().admit(1, crate::session::connection_throttle::Wanted::Global)
        };
        assert_eq!([&a, &b, &a].map(connect), [Some(1), Some(2), None]);
        let _held = a.large.as_ref().unwrap().admit(15, true).unwrap();
        assert!(b.large.as_ref().unwrap().admit(11, true).is_err());
    }

    #[test]
    fn the_schemes_and_the_log_are_as_configured() {
        let mut c = Config::default();
        assert_eq!(providers(&c).ensemble, None);
        assert_eq!(log_thread(&c, 0, vec![]).appender, AppenderOptions::default());
        c.auth.digest_alg = DigestAlg::Sha512;
        (c.auth.ensemble, c.auth.ensemble_names) = (true, vec!["blue".into()]);
        (c.storage.max_batch_size, c.storage.flush_delay_ms) = (-1, 7);
        let p = providers(&c);
        assert_eq!((p.digest_alg, p.ensemble), (DigestAlg::Sha512, Some(vec!["blue".to_string()])));
        let appender = log_thread(&c, 0, vec![]).appender;
        assert_eq!((appender.max_batch_records, appender.flush_delay_ms), (0, 7));
    }
}
