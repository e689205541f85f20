//! Translates the configuration into the settings of each part.

use std::sync::Arc;
use std::time::Duration;

use super::cores;
use super::disk::SyncMethod;
use super::log_thread::LogThreadOptions;
use super::net::{Backend, ListenAddr, ListenOptions};
use super::peer_net::PeerNetOptions;
use crate::auth::Providers;
use crate::config::{self, Config};
use crate::peer::{EnsembleOptions, LocalSessionOptions, PeerOptions, SweepOptions};
use crate::pipeline::messages::touch_interval_ms;
use crate::pipeline::prep::PrepOptions;
use crate::proto::four_letter;
use crate::quorum;
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
use crate::zab::election::{Electorate, Timing};
use crate::zab::handler::LearnerRoom;
use crate::zab::history::HistoryLimits;
use crate::zab::leader::LeaderOptions;
use crate::zab::sync_plan::SyncPolicy;

/// The id of a standalone server, whatever `myid` says: session ids have it in their top byte.
const STANDALONE_ID: ServerId = ServerId(1);

/// The id of this server.
pub(super) fn me(c: &Config) -> ServerId {
    if c.is_member() { ServerId(c.my_id.expect("a member has an id")) } else { STANDALONE_ID }
}

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
        me: me(c),
        tick_ms: c.tick_ms,
        prep: PrepOptions {
            extended: extended(c),
            skip_acl: c.auth.skip_acl,
            enforce_quota: c.limits.enforce_quota,
            digest_enabled: c.storage.digest,
            close_session_txn: c.storage.close_session_txn,
            reconfig_enabled: c.ensemble.reconfig_enabled,
            max_txn_bytes: max_txn_bytes(c),
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

/// A server looks at least so long for a leader before it serves clients that only read, in milliseconds.
const MIN_READ_ONLY_MS: i64 = 2000;

/// What a member of an ensemble is told; `None` for a standalone server.
pub(super) fn ensemble(c: &Config) -> Option<EnsembleOptions> {
    let members = c.ensemble.members.as_ref().filter(|_| c.is_member())?;
    let e = &c.ensemble;
    let ticks = |limit: i32| i64::from(c.tick_ms) * i64::from(limit);
    let sync_ms = ticks(e.sync_limit);
    Some(EnsembleOptions {
        role: e.peer_type,
        electorate: Electorate { members: Arc::new(members.clone()), next: None },
        timing: Timing {
            min_interval_ms: i64::from(e.min_notification_interval_ms),
            max_interval_ms: i64::from(e.max_notification_interval_ms),
            ..Timing::default()
        },
        all_addresses: e.multi_address,
        hello_timeout_ms: if e.cnxn_timeout_ms > 0 { i64::from(e.cnxn_timeout_ms) } else { sync_ms },
        init_ms: ticks(e.init_limit),
        sync_ms,
        packet_limit: max_txn_bytes(c),
        leader: LeaderOptions {
            tick_ms: i64::from(c.tick_ms),
            init_limit: i64::from(e.init_limit),
            max_epoch_wait_ms: Some(i64::from(e.max_time_to_wait_for_epoch_ms)).filter(|ms| *ms >= 0),
            sync_limit: i64::from(e.sync_limit),
            max_snaps: e.max_concurrent_snap_syncs.max(0) as usize,
            max_diffs: e.max_concurrent_diff_syncs.max(0) as usize,
        },
        sync: SyncPolicy { force_snapshot: e.force_snapshot_sync, snapshot_size_factor: e.snapshot_size_factor },
        room: LearnerRoom::default(),
        history: HistoryLimits { count: e.commit_log_count.max(1) as usize, ..HistoryLimits::default() },
        leader_serves: e.leader_serves,
        read_only_after_ms: e.read_only_mode.then_some(i64::from(c.tick_ms).max(MIN_READ_ONLY_MS)),
    })
}

/// Local sessions, if this is a member that has them.
pub(super) fn local_sessions(c: &Config) -> Option<LocalSessionOptions> {
    let options = LocalSessionOptions { upgrading: c.ensemble.local_sessions_upgrading };
    (c.is_member() && c.ensemble.local_sessions).then_some(options)
}

/// Most bytes of a transaction, and of the data of a packet between servers.
fn max_txn_bytes(c: &Config) -> usize {
    c.storage.jute_max_buffer.saturating_add(c.storage.jute_max_buffer_extra) as usize
}

/// The connections of a member to the others.
pub(super) fn peer_net(c: &Config, ensemble: &EnsembleOptions) -> PeerNetOptions {
    let (tick_ms, limits) = (i64::from(c.tick_ms), &c.ensemble);
    let ticks = match limits.connect_to_learner_master_limit {
        0 => limits.init_limit,
        ticks => ticks,
    };
    PeerNetOptions {
        me: me(c),
        members: ensemble.electorate.members.clone(),
        on_all_ips: limits.quorum_listen_on_all_ips,
        keepalive: limits.tcp_keep_alive,
        election_tries: limits.election_port_bind_retry.max(0) as u32,
        election_dial_ms: i64::from(limits.cnx_timeout_ms.max(1)),
        leader_dial_ms: (tick_ms * i64::from(ticks)).max(1),
    }
}

/// The throttles of one of `shards` shards. What the shards share is created here, once.
pub(super) fn throttles(c: &Config, shards: usize, now: Now, seed: u64) -> Throttles {
    let (l, r) = (&c.limits, &c.limits.requests);
    let bucket = || Arc::new(SharedConnectionThrottle::new(l.connections, now.mono_ms, seed));
    let large = || Arc::new(LargeRequests::new(l.large_request_max_bytes, l.large_request_threshold_bytes));
    Throttles {
        connections: (l.connections.tokens > 0).then(bucket),
        local_sessions: local_sessions(c).is_some(),
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

/// Whether this server has a log. Only an observer may be without (`syncEnabled=false`).
pub(super) fn keeps_log(c: &Config) -> bool {
    let is_observer = c.is_member() && c.ensemble.peer_type == quorum::Role::Observer;
    c.ensemble.sync_enabled || !is_observer
}

pub(super) fn log(c: &Config) -> LogOptions {
    LogOptions {
        prealloc_bytes: c.storage.preallocate_bytes,
        roll_at_bytes: c.storage.txn_log_size_limit_bytes,
        force_sync: c.storage.force_sync,
        keeps: keeps_log(c),
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
        keep_last: if c.is_member() { c.ensemble.commit_log_count as usize } else { 0 },
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
    use crate::quorum::Role;

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
    fn member(lines: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zoo.cfg");
        let text = format!(
            "dataDir={}\nclientPort=1\ntickTime=2000\ninitLimit=10\nsyncLimit=5\nserver.1=a:1:2\nserver.2=b:1:2\n\
             server.7=c:1:2:observer\n{lines}",
            dir.path().display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join("myid"), "7").unwrap();
        Config::load(&path, &[]).unwrap().0
    }

    #[test]
    fn a_standalone_server_is_told_of_no_ensemble() {
        let c = Config { my_id: Some(7), ..Config::default() };
        assert!(ensemble(&c).is_none());
        assert_eq!((me(&c), peer(&c, 1).me, recovery(&c, false).keep_last), (ServerId(1), ServerId(1), 0));
    }

    #[test]
    fn only_an_observer_may_be_without_a_log() {
        let keeps = |c: &Config| log(c).keeps;
        assert!(keeps(&member("")) && !keeps(&member("syncEnabled=false")));
        let mut c = member("syncEnabled=false");
        c.ensemble.peer_type = Role::Participant;
        assert!(keeps(&c), "a voter");
        let alone =
            Config { ensemble: config::Ensemble { sync_enabled: false, ..Default::default() }, ..Config::default() };
        assert!(keeps(&alone), "a standalone server");
    }

    #[test]
    fn a_member_is_told_of_its_ensemble() {
        let c = member("commitLogCount=700");
        assert_eq!((me(&c), peer(&c, 1).me, recovery(&c, false).keep_last), (ServerId(7), ServerId(7), 700));
        let e = ensemble(&c).unwrap();
        assert_eq!(e.role, Role::Observer);
        assert_eq!((e.electorate.members.iter().len(), e.electorate.members.voters().len()), (3, 2));
        assert_eq!((e.init_ms, e.sync_ms, e.hello_timeout_ms), (20_000, 10_000, 10_000));
        assert_eq!((e.timing.min_interval_ms, e.timing.max_interval_ms, e.timing.finalize_ms), (200, 60_000, 200));
        assert_eq!((e.all_addresses, e.packet_limit), (false, 2 * 0xf_ffff));
        assert_eq!((e.leader.tick_ms, e.leader.init_limit, e.leader.sync_limit), (2000, 10, 5));
        assert_eq!((e.history.count, e.sync.force_snapshot, e.leader_serves), (700, false, true));
        let lines = "quorumCnxnTimeoutMs=77\nfastleader.minNotificationInterval=5\nmultiAddress.enabled=true\n\
                     forceSnapshotSync=true\nleaderServes=no\nleader.maxConcurrentSnapSyncs=3\n\
                     leader.maxTimeToWaitForEpoch=2500\nsnapshotSizeFactor=-1";
        let e = ensemble(&member(lines)).unwrap();
        assert_eq!((e.sync.force_snapshot, e.sync.snapshot_size_factor), (true, -1.0));
        assert_eq!((e.leader.max_snaps, e.leader.max_diffs, e.leader_serves), (3, 100, false));
        assert_eq!(e.leader.max_epoch_wait_ms, Some(2500));
        assert_eq!((e.hello_timeout_ms, e.timing.min_interval_ms, e.all_addresses), (77, 5, true));
    }
}
