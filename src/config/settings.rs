//! The typed configuration: plain data, every bound already checked. Mirrors `ServerConfig` and `QuorumPeerConfig`'s fields and
//! the statics that ZooKeeper reads from system properties.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::address::HostAddr;
use super::ensemble::Ensemble;
use crate::auth::DigestAlg;
use crate::session::throttle::ThrottleSettings;

/// Everything a server is told before it starts. `Default` is ZooKeeper 3.9's, but for the purge, which is on.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where it came from.
    pub source: Source,
    /// Parent of `version-2` with snapshots and epoch files; `myid` lies here.
    pub data_dir: PathBuf,
    /// Parent of `version-2` with logs; as `data_dir` unless told.
    pub data_log_dir: PathBuf,
    /// The base unit of time.
    pub tick_ms: i32,
    /// Session timeouts asked for below this are raised to it.
    pub min_session_timeout_ms: i32,
    /// Session timeouts asked for above this are lowered to it.
    pub max_session_timeout_ms: i32,
    /// The number in `myid`, if there is such a file.
    pub my_id: Option<i64>,
    /// The client port.
    pub client: Client,
    /// Log, snapshots, tree.
    pub storage: Storage,
    /// Throttles and limits.
    pub limits: Limits,
    /// Who may do what.
    pub auth: Auth,
    /// The HTTP admin server.
    pub admin: Admin,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Members and timing of an ensemble; unused by a standalone server.
    pub ensemble: Ensemble,
    /// What only Zabra has.
    pub host: Host,
    /// All properties that were set, by full name, for the admin server's `system_properties`.
    pub properties: BTreeMap<String, String>,
}

impl Config {
    /// Where snapshots and logs lie, as absolute paths: for whoever asks the server from another directory.
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

/// Where a configuration came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The file; none for positional arguments and built-in defaults.
    pub file: Option<PathBuf>,
    /// The file's text as it was read: what `initial_configuration` answers.
    pub text: String,
}

/// The port for clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Address to bind; none binds every address, IPv6 and IPv4, as Java does.
    pub host: Option<HostAddr>,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// Argument of `listen`; -1 is the system's default.
    pub listen_backlog: i32,
    /// Connections per source address; 0 is no limit.
    pub max_per_ip: i32,
    /// Connections in all; 0 is no limit.
    pub max_total: i32,
    /// SO_KEEPALIVE on client sockets.
    pub tcp_keep_alive: bool,
    /// A connection without a handshake is closed after this.
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
    /// Bytes allocated for a log segment at a time.
    pub preallocate_bytes: u64,
    /// Transactions between snapshots (the moment is random between half of it and all).
    pub snap_count: i32,
    /// Log bytes since the last snapshot that force one; none is no such limit.
    pub snap_size_limit_bytes: Option<u64>,
    /// A log file longer than this is rolled; none rolls at snapshots only.
    pub txn_log_size_limit_bytes: Option<u64>,
    /// False acknowledges before data are durable.
    pub force_sync: bool,
    /// Transactions per sync at most; 0 or less is no limit.
    pub max_batch_size: i32,
    /// How long a batch of transactions may wait for more before it is synced; 0 or less: not at all.
    pub flush_delay_ms: i64,
    /// How long it may wait for the next one; none is a third of the delay.
    pub max_write_queue_poll_ms: Option<i64>,
    /// A sync that takes longer is warned of and counted.
    pub fsync_warning_ms: i64,
    /// Compression of new snapshots.
    pub snapshot_compression: Compression,
    /// Accepts logs without any snapshot (upgrade from 3.4).
    pub trust_empty_snapshot: bool,
    /// Writes the last processed zxid at a snapshot's end.
    pub serialize_last_processed_zxid: bool,
    /// Keeps and checks the tree's digest.
    pub digest: bool,
    /// A session's closing transaction lists the paths it deletes.
    pub close_session_txn: bool,
    /// Creates missing data directories.
    pub data_dir_autocreate: bool,
    /// An empty data directory may start; false wants an `initialize` file.
    pub db_autocreate: bool,
    /// TTL znodes are allowed.
    pub extended_types: bool,
    /// Reads TTLs as ZooKeeper 3.5.3 encoded them.
    pub emulate_353_ttl: bool,
    /// Time between sweeps of containers and TTL znodes.
    pub container_check_interval_ms: i32,
    /// Deletions of containers and TTL znodes per minute at most.
    pub container_max_per_minute: i32,
    /// A container that never had a child is removed after this; 0 never.
    pub container_max_never_used_ms: i64,
    /// The largest request, and the largest buffer in a record, in bytes.
    pub jute_max_buffer: i32,
    /// Slack added to it for what the server adds to a transaction, in bytes.
    pub jute_max_buffer_extra: i32,
    /// Snapshots that a purge keeps; 3 or more.
    pub purge_retain: i32,
    /// Time between purges; 0 never purges.
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

/// The gate before the pipeline. Mirrors `RequestThrottler`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// Requests in the pipeline at most; 0 is off.
    pub max_requests: i32,
    /// Time to wait for room before looking again.
    pub stall_ms: i32,
    /// Requests gone stale while they waited are dropped.
    pub drop_stale: bool,
    /// A request is stale when its latency has passed the session's timeout.
    pub stale_latency_check: bool,
    /// A request is stale when its connection is closed.
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
    /// Requests in the server before it stops reading from clients.
    pub global_outstanding: i32,
    /// New connections.
    pub connections: ThrottleSettings,
    /// Requests.
    pub requests: RequestThrottle,
    /// A request that waited longer in the queue is answered THROTTLEDOP; 0 is off.
    pub throttled_op_wait_ms: i32,
    /// Bytes of large requests in the server at a time.
    pub large_request_max_bytes: i32,
    /// Requests longer than this are large; -1 is off.
    pub large_request_threshold_bytes: i32,
    /// Hard quotas refuse writes.
    pub enforce_quota: bool,
    /// Four-letter words that are answered: names, or `*`.
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
    /// The digest scheme is offered.
    pub digest: bool,
    /// Its hash.
    pub digest_alg: DigestAlg,
    /// `super:base64(hash(super:password))` of the administrator.
    pub super_digest: Option<String>,
    /// ACLs are not looked at.
    pub skip_acl: bool,
    /// Sessions must authenticate by one of `enforced_schemes` before anything else.
    pub enforce: bool,
    /// Not empty if `enforce`.
    pub enforced_schemes: Vec<String>,
    /// The ensemble scheme is offered.
    pub ensemble: bool,
    /// Names of ensembles that clients may expect here; empty accepts every name.
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
    /// Whether it runs.
    pub enabled: bool,
    /// Address to bind.
    pub host: HostAddr,
    /// Port to bind.
    pub port: u16,
    /// Path before the commands' names; begins with `/`.
    pub command_url: String,
    /// A silent connection is closed after this.
    pub idle_timeout_ms: i32,
    /// The `snapshot` command is allowed.
    pub snapshot: bool,
    /// Least time between two `snapshot` commands.
    pub rate_limit_ms: i32,
    /// A port that cannot be bound ends the server; false only warns (built-in defaults).
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

/// Which of ZooKeeper's metrics providers is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MetricsProvider {
    /// `mntr` and the admin server.
    #[default]
    Default,
    /// None at all.
    Null,
    /// As the default, and an HTTP port for Prometheus.
    Prometheus,
}

/// Where metrics go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    /// The provider.
    pub provider: MetricsProvider,
    /// Address of the Prometheus port.
    pub http_host: HostAddr,
    /// The Prometheus port, opened only by that provider.
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
    /// Mapped segment, `fdatasync`.
    #[default]
    Fdatasync,
    /// Mapped segment, `msync`.
    Msync,
    /// Writes through a descriptor opened with `O_DSYNC`.
    Dsync,
}

/// What sockets are read and written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Io {
    /// io_uring where the host allows it, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// Which CPUs to use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Cores {
    /// Fitted to the host.
    #[default]
    Auto,
    /// These, the peer core on the first; not empty, no repetition.
    List(Vec<usize>),
}

/// What only Zabra has: keys that begin with `zabra.`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// CPUs for shards and peer core.
    pub cores: Cores,
    /// Client shards; 0 fits them to the cores.
    pub shards: usize,
    /// What sockets are on.
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
