//! The typed configuration: plain data whose bounds are already checked. Mirrors the fields of `ServerConfig` and
//! `QuorumPeerConfig`, and the static fields that ZooKeeper sets from system properties.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::address::HostAddr;
use super::ensemble::Ensemble;
use crate::auth::DigestAlg;
use crate::session::connection_throttle::ThrottleSettings;

/// Everything a server is configured with. `Default` has the defaults of ZooKeeper 3.9, except that purging is on.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where the configuration was read from.
    pub source: Source,
    /// Directory that holds `myid`, and `version-2` with snapshots and epoch files.
    pub data_dir: PathBuf,
    /// Directory that holds `version-2` with the transaction logs; the same as `data_dir` unless set.
    pub data_log_dir: PathBuf,
    /// Milliseconds per tick.
    pub tick_ms: i32,
    /// Session timeouts asked for below this are raised to it.
    pub min_session_timeout_ms: i32,
    /// Session timeouts asked for above this are lowered to it.
    pub max_session_timeout_ms: i32,
    /// The id in the `myid` file, if there is one.
    pub my_id: Option<i64>,
    /// The port for clients.
    pub client: Client,
    /// Log, snapshots and tree.
    pub storage: Storage,
    /// Throttles and limits.
    pub limits: Limits,
    /// Authentication and access control.
    pub auth: Auth,
    /// The HTTP admin server.
    pub admin: Admin,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Members and timing of an ensemble; unused by a standalone server.
    pub ensemble: Ensemble,
    /// Settings that only Zabra has.
    pub host: Host,
    /// All properties that were set, by full name: the answer of the admin server's `system_properties`.
    pub properties: BTreeMap<String, String>,
}

impl Config {
    /// Whether this server is a member of an ensemble. One voter alone is a standalone server, unless `standaloneEnabled` is
    /// false. Mirrors `QuorumPeerConfig.isDistributed`.
    pub fn is_member(&self) -> bool {
        let Ensemble { members, standalone_enabled, .. } = &self.ensemble;
        members.as_ref().is_some_and(|m| !standalone_enabled || m.voters().len() > 1)
    }

    /// The data and log directories as absolute paths, so that they also mean something in another working directory.
    pub fn shown_dirs(&self) -> (String, String) {
        let shown = |parent: &PathBuf| {
            let dir = parent.join("version-2");
            std::path::absolute(&dir).unwrap_or(dir).display().to_string()
        };
        (shown(&self.data_dir), shown(&self.data_log_dir))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            source: Source::default(),
            data_dir: PathBuf::new(),
            data_log_dir: PathBuf::new(),
            tick_ms: 3000,
            min_session_timeout_ms: 6000,
            max_session_timeout_ms: 60_000,
            my_id: None,
            client: Client::default(),
            storage: Storage::default(),
            limits: Limits::default(),
            auth: Auth::default(),
            admin: Admin::default(),
            metrics: Metrics::default(),
            ensemble: Ensemble::default(),
            host: Host::default(),
            properties: BTreeMap::new(),
        }
    }
}

/// Where a configuration was read from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The file; `None` for positional arguments and built-in defaults.
    pub file: Option<PathBuf>,
    /// The file's text: the answer of the admin command `initial_configuration`.
    pub text: String,
}

/// The port for clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Address to bind; `None` binds every address, IPv6 and IPv4, as Java does.
    pub host: Option<HostAddr>,
    /// Port to bind; 0 lets the operating system choose one.
    pub port: u16,
    /// Argument of `listen`; 0 or less means Java's default of 50.
    pub listen_backlog: i32,
    /// Connections per source address; 0 is no limit.
    pub max_per_ip: i32,
    /// Connections in all; 0 is no limit.
    pub max_total: i32,
    /// SO_KEEPALIVE on client sockets.
    pub tcp_keep_alive: bool,
    /// Milliseconds after which a connection without a handshake is closed.
    pub sessionless_timeout_ms: i32,
}

impl Default for Client {
    fn default() -> Self {
        Client {
            host: None,
            port: 2181,
            listen_backlog: -1,
            max_per_ip: 60,
            max_total: 0,
            tcp_keep_alive: false,
            sessionless_timeout_ms: 10_000,
        }
    }
}

/// How snapshots are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
}

/// Log, snapshots and the tree's options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Storage {
    /// Bytes allocated ahead for a log segment (`preAllocSize`).
    pub preallocate_bytes: u64,
    /// Transactions between two snapshots. The exact number is random, between half of this and all of it.
    pub snap_count: i32,
    /// Bytes of log since the last snapshot after which a new one is taken; `None` means no such limit.
    pub snap_size_limit_bytes: Option<u64>,
    /// A log segment longer than this is rolled; `None` rolls it only when a snapshot is taken.
    pub txn_log_size_limit_bytes: Option<u64>,
    /// Whether transactions are synced to disk before they are acknowledged.
    pub force_sync: bool,
    /// Most transactions per sync; 0 or less means no limit.
    pub max_batch_size: i32,
    /// How long a batch of transactions may wait for more before it is synced, in milliseconds; 0 or less means not at
    /// all.
    pub flush_delay_ms: i64,
    /// How long a batch may wait for the next transaction, in milliseconds; `None` means a third of `flush_delay_ms`.
    pub max_write_queue_poll_ms: Option<i64>,
    /// A sync that takes longer than this many milliseconds is logged and counted.
    pub fsync_warning_ms: i64,
    /// How new snapshots are compressed.
    pub snapshot_compression: Compression,
    /// Whether a log without any snapshot is accepted (upgrade from 3.4).
    pub trust_empty_snapshot: bool,
    /// Whether a snapshot ends with the last processed zxid.
    pub serialize_last_processed_zxid: bool,
    /// Whether the tree's digest is computed and checked.
    pub digest: bool,
    /// Whether a closeSession transaction lists the ephemerals it deletes.
    pub close_session_txn: bool,
    /// Whether missing data directories are created.
    pub data_dir_autocreate: bool,
    /// Whether a server with an empty data directory starts; if not, it needs a file named `initialize` there.
    pub db_autocreate: bool,
    /// Whether TTL znodes are allowed.
    pub extended_types: bool,
    /// Whether TTLs are read in the encoding of ZooKeeper 3.5.3.
    pub emulate_353_ttl: bool,
    /// Milliseconds between two checks for containers and TTL znodes that can be deleted.
    pub container_check_interval_ms: i32,
    /// Most deletions of containers and TTL znodes per minute.
    pub container_max_per_minute: i32,
    /// Milliseconds after which a container that never had a child is deleted; 0 means never.
    pub container_max_never_used_ms: i64,
    /// Largest request, and largest buffer inside a record, in bytes.
    pub jute_max_buffer: i32,
    /// Bytes added to it for a transaction, which is longer than its request.
    pub jute_max_buffer_extra: i32,
    /// Snapshots that a purge keeps; at least 3.
    pub purge_retain: i32,
    /// Milliseconds between two purges; 0 means no purges.
    pub purge_interval_ms: i64,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            preallocate_bytes: 65536 << 10,
            snap_count: 100_000,
            snap_size_limit_bytes: Some(4_194_304 << 10),
            txn_log_size_limit_bytes: None,
            force_sync: true,
            max_batch_size: 1000,
            flush_delay_ms: 0,
            max_write_queue_poll_ms: None,
            fsync_warning_ms: 1000,
            snapshot_compression: Compression::None,
            trust_empty_snapshot: false,
            serialize_last_processed_zxid: true,
            digest: true,
            close_session_txn: true,
            data_dir_autocreate: true,
            db_autocreate: true,
            extended_types: false,
            emulate_353_ttl: false,
            container_check_interval_ms: 60_000,
            container_max_per_minute: 10_000,
            container_max_never_used_ms: 0,
            jute_max_buffer: 0xf_ffff,
            jute_max_buffer_extra: 0xf_ffff,
            purge_retain: 3,
            purge_interval_ms: 3_600_000,
        }
    }
}

/// Limits on requests in the pipeline. Mirrors `RequestThrottler`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// Most requests in the pipeline; 0 means no limit.
    pub max_requests: i32,
    /// Milliseconds to wait before checking again whether there is room.
    pub stall_ms: i32,
    /// Whether requests that became stale while they waited are dropped.
    pub drop_stale: bool,
    /// Whether a request is stale when it has waited longer than its session's timeout.
    pub stale_latency_check: bool,
    /// Whether a request is stale when its connection is closed.
    pub stale_connection_check: bool,
}

impl Default for RequestThrottle {
    fn default() -> Self {
        RequestThrottle {
            max_requests: 0,
            stall_ms: 100,
            drop_stale: true,
            stale_latency_check: false,
            stale_connection_check: true,
        }
    }
}

/// Throttles and limits on requests.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Requests in the server above which it stops reading from clients.
    pub global_outstanding: i32,
    /// Throttle for new connections.
    pub connections: ThrottleSettings,
    /// Throttle for requests.
    pub requests: RequestThrottle,
    /// A request that waited longer than this many milliseconds is answered with THROTTLEDOP; 0 means never.
    pub throttled_op_wait_ms: i32,
    /// Most bytes of large requests in the server at the same time.
    pub large_request_max_bytes: i32,
    /// A request longer than this many bytes is large; -1 means none is.
    pub large_request_threshold_bytes: i32,
    /// Whether writes that exceed a hard quota are refused.
    pub enforce_quota: bool,
    /// Four-letter words that are answered: their names, or `*`.
    pub four_letter_words: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            global_outstanding: 1000,
            connections: ThrottleSettings::default(),
            requests: RequestThrottle::default(),
            throttled_op_wait_ms: 0,
            large_request_max_bytes: 100 << 20,
            large_request_threshold_bytes: -1,
            enforce_quota: false,
            four_letter_words: vec!["srvr".into()],
        }
    }
}

/// Authentication and ACLs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// Whether the digest scheme is available.
    pub digest: bool,
    /// The hash of the digest scheme.
    pub digest_alg: DigestAlg,
    /// `super:base64(hash(super:password))`: the digest of the super user.
    pub super_digest: Option<String>,
    /// Whether ACLs are ignored.
    pub skip_acl: bool,
    /// Whether a session must authenticate with one of `enforced_schemes` before it may do anything else.
    pub enforce: bool,
    /// Not empty if `enforce` is set.
    pub enforced_schemes: Vec<String>,
    /// Whether the ensemble scheme is available.
    pub ensemble: bool,
    /// Ensemble names that a client may ask for; if empty, every name is accepted.
    pub ensemble_names: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            digest: true,
            digest_alg: DigestAlg::Sha1,
            super_digest: None,
            skip_acl: false,
            enforce: false,
            enforced_schemes: Vec::new(),
            ensemble: false,
            ensemble_names: Vec::new(),
        }
    }
}

/// The HTTP admin server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// Whether the admin server runs.
    pub enabled: bool,
    /// Address to bind.
    pub host: HostAddr,
    /// Port to bind.
    pub port: u16,
    /// URL path in front of the command names; begins with `/`.
    pub command_url: String,
    /// Milliseconds after which an idle connection is closed.
    pub idle_timeout_ms: i32,
    /// Whether the `snapshot` command is allowed.
    pub snapshot: bool,
    /// Least milliseconds between two `snapshot` commands.
    pub rate_limit_ms: i32,
    /// Whether the server stops if the admin port cannot be bound; if not, it only warns (built-in defaults).
    pub required: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            enabled: true,
            host: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            command_url: "/commands".into(),
            idle_timeout_ms: 30_000,
            snapshot: true,
            rate_limit_ms: 300_000,
            required: true,
        }
    }
}

/// ZooKeeper's metrics providers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MetricsProvider {
    /// Metrics in `mntr` and on the admin server.
    #[default]
    Default,
    /// No metrics.
    Null,
    /// As `Default`, and also on an HTTP port for Prometheus.
    Prometheus,
}

/// Where metrics are published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    /// The provider.
    pub provider: MetricsProvider,
    /// Address of the Prometheus port.
    pub http_host: HostAddr,
    /// The Prometheus port; only opened with [`MetricsProvider::Prometheus`].
    pub http_port: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { provider: MetricsProvider::Default, http_host: Ipv4Addr::UNSPECIFIED.into(), http_port: 7000 }
    }
}

/// How a log segment is made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogSync {
    /// Memory-mapped segment, synced with `fdatasync`.
    #[default]
    Fdatasync,
    /// Memory-mapped segment, synced with `msync`.
    Msync,
    /// Written through a descriptor opened with `O_DSYNC`.
    Dsync,
}

/// Which system interface serves the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Io {
    /// io_uring if the host allows it, else epoll.
    #[default]
    Auto,
    /// io_uring; the server does not start without it.
    Uring,
    /// epoll.
    Epoll,
}

/// Which CPUs to use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Cores {
    /// Chosen by the number of CPUs available.
    #[default]
    Auto,
    /// These CPUs; the peer core runs on the first one. Not empty, without repetition.
    List(Vec<usize>),
}

/// Settings that only Zabra has: their keys begin with `zabra.`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// CPUs for the shards and the peer core.
    pub cores: Cores,
    /// Number of client shards; 0 means it depends on the number of cores.
    pub shards: usize,
    /// System interface for sockets.
    pub io: Io,
    /// How the log is synced.
    pub log_sync: LogSync,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_shown_as_absolute_paths() {
        let config = Config { data_dir: "./data".into(), data_log_dir: "/log".into(), ..Config::default() };
        let here = std::env::current_dir().expect("a directory");
        let data = here.join("data/version-2").display().to_string();
        assert_eq!(config.shown_dirs(), (data, "/log/version-2".to_string()));
    }
}
