//! Settings of an ensemble. Mirrors the quorum half of `QuorumPeerConfig`. A standalone server reads none of them.

use std::path::PathBuf;

use crate::quorum::{Members, Role};

/// Members and timing of an ensemble.
#[derive(Clone, PartialEq, Debug)]
pub struct Ensemble {
    /// What the `server.N`, `group.N` and `weight.N` lines say; none without a server line.
    pub members: Option<Members>,
    /// The dynamic configuration file the members were read from, if there is one.
    pub dynamic_config_file: Option<PathBuf>,
    /// Whether one voter means a standalone server rather than an ensemble of one.
    pub standalone_enabled: bool,
    /// Whether `reconfig` is allowed.
    pub reconfig_enabled: bool,
    /// Ticks that a follower may take to connect to the leader and synchronise; 0 means not set.
    pub init_limit: i32,
    /// Ticks that a follower may be behind the leader; 0 means not set.
    pub sync_limit: i32,
    /// Ticks that a learner may take to connect to its learner master; 0 means `init_limit`.
    pub connect_to_learner_master_limit: i32,
    /// The value of `peerType`. If it contradicts the server's own `server.N` line, the line wins.
    pub peer_type: Role,
    /// Whether an observer has a log (`syncEnabled`). Without one a start finds the last snapshot that a leader sent or an administrator
    /// asked for. For other servers it says nothing.
    pub sync_enabled: bool,
    /// Whether the quorum and election ports are bound on every address.
    pub quorum_listen_on_all_ips: bool,
    /// Whether local sessions are allowed.
    pub local_sessions: bool,
    /// Whether a local session becomes a global one when it creates its first ephemeral.
    pub local_sessions_upgrading: bool,
    /// Port on which followers serve observers; 0 means none.
    pub observer_master_port: i32,
    /// Whether a server may have several addresses.
    pub multi_address: bool,
    /// File of the external failure detector that decides between two servers (`oraclePath`).
    pub oracle_path: Option<PathBuf>,
    /// Whether the leader serves clients.
    pub leader_serves: bool,
    /// Timeout for connecting to an election port, in milliseconds.
    pub cnx_timeout_ms: i32,
    /// Timeout of the handshake on an election port, in milliseconds; -1 means `sync_limit` ticks.
    pub cnxn_timeout_ms: i32,
    /// How often binding the election port is tried; 0 means without end.
    pub election_port_bind_retry: i32,
    /// Whether election sockets use SO_KEEPALIVE.
    pub tcp_keep_alive: bool,
    /// Shortest time to wait for votes, in milliseconds.
    pub min_notification_interval_ms: i32,
    /// Longest time to wait for votes, in milliseconds.
    pub max_notification_interval_ms: i32,
    /// Most learners that are synchronised with a snapshot (SNAP) at the same time.
    pub max_concurrent_snap_syncs: i32,
    /// Most learners that are synchronised with a DIFF at the same time.
    pub max_concurrent_diff_syncs: i32,
    /// How long a leader that was just elected waits in any case for a quorum, in milliseconds: after that it leads no longer when
    /// a server that elected it looks for a leader again. A negative number means `init_limit` ticks.
    pub max_time_to_wait_for_epoch_ms: i32,
    /// Whether a server without a quorum serves read-only clients.
    pub read_only_mode: bool,
    /// Whether learners are always synchronised with a snapshot.
    pub force_snapshot_sync: bool,
    /// Transactions kept in memory for DIFFs; at least 500.
    pub commit_log_count: i32,
    /// The largest log that may be sent as a DIFF, as a share of the snapshot's size; a negative number means never.
    pub snapshot_size_factor: f64,
}

impl Default for Ensemble {
    fn default() -> Self {
        Ensemble {
            members: None,
            dynamic_config_file: None,
            standalone_enabled: true,
            reconfig_enabled: false,
            init_limit: 0,
            sync_limit: 0,
            connect_to_learner_master_limit: 0,
            peer_type: Role::Participant,
            sync_enabled: true,
            quorum_listen_on_all_ips: false,
            local_sessions: false,
            local_sessions_upgrading: false,
            observer_master_port: 0,
            multi_address: false,
            oracle_path: None,
            leader_serves: true,
            cnx_timeout_ms: 5000,
            cnxn_timeout_ms: -1,
            election_port_bind_retry: 3,
            tcp_keep_alive: false,
            min_notification_interval_ms: 200,
            max_notification_interval_ms: 60_000,
            max_concurrent_snap_syncs: 10,
            max_concurrent_diff_syncs: 100,
            max_time_to_wait_for_epoch_ms: -1,
            read_only_mode: false,
            force_snapshot_sync: false,
            commit_log_count: 500,
            snapshot_size_factor: 0.33,
        }
    }
}
