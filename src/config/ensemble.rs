//! Settings of an ensemble. Mirrors the quorum half of `QuorumPeerConfig`. A standalone server reads none of them.

use std::path::PathBuf;

use crate::quorum::{Members, Role};

/// Members and timing of an ensemble.
#[derive(Clone, PartialEq, Debug)]
pub struct Ensemble {
    /// What the `server.N`, `group.N` and `weight.N` lines say; none without a server line.
    pub members: Option<Members>,
    /// The file they came from, if not the main one.
    pub dynamic_config_file: Option<PathBuf>,
    /// One voter means standalone.
    pub standalone_enabled: bool,
    /// `reconfig` is allowed.
    pub reconfig_enabled: bool,
    /// Ticks to join and to sync; 0 is unset.
    pub init_limit: i32,
    /// Ticks a follower may lag; 0 is unset.
    pub sync_limit: i32,
    /// Ticks to reach a learner master; 0 takes `init_limit`.
    pub connect_to_learner_master_limit: i32,
    /// What `peerType` says; the members' list decides.
    pub peer_type: Role,
    /// Observers keep logs and snapshots.
    pub sync_enabled: bool,
    /// Quorum and election ports bind every address.
    pub quorum_listen_on_all_ips: bool,
    /// Local sessions are allowed.
    pub local_sessions: bool,
    /// A local session becomes global with its first ephemeral.
    pub local_sessions_upgrading: bool,
    /// Port on which followers serve observers; 0 is off.
    pub observer_master_port: i32,
    /// Several addresses per server are allowed.
    pub multi_address: bool,
    /// How long a reachability check may take.
    pub multi_address_check_timeout_ms: i32,
    /// Addresses are checked before use.
    pub multi_address_check: bool,
    /// Failure detector's file for two servers.
    pub oracle_path: Option<PathBuf>,
    /// Connects to peers at a time.
    pub cnxn_threads: i32,
    /// The leader serves clients.
    pub leader_serves: bool,
    /// Connect timeout of the election port.
    pub cnx_timeout_ms: i32,
    /// Handshake timeout of the election port; -1 is `sync_limit` ticks.
    pub cnxn_timeout_ms: i32,
    /// Tries to bind the election port; 0 is for ever.
    pub election_port_bind_retry: i32,
    /// SO_KEEPALIVE on election sockets.
    pub tcp_keep_alive: bool,
    /// Shortest wait for votes.
    pub min_notification_interval_ms: i32,
    /// Longest wait for votes.
    pub max_notification_interval_ms: i32,
    /// SNAP syncs at a time.
    pub max_concurrent_snap_syncs: i32,
    /// DIFF syncs at a time.
    pub max_concurrent_diff_syncs: i32,
    /// Wait for a voter that turned LOOKING; -1 is for ever.
    pub max_time_to_wait_for_epoch_ms: i32,
    /// One slow ack in so many is logged.
    pub ack_logging_frequency: i32,
    /// Gap between a learner's tries.
    pub leader_connect_retry_ms: i32,
    /// TCP_NODELAY on the leader's side.
    pub leader_nodelay: bool,
    /// TCP_NODELAY on the learner's side.
    pub follower_nodelay: bool,
    /// Wait of an observer before it connects again.
    pub observer_reconnect_delay_ms: i64,
    /// Wait of an observer before it looks for a leader.
    pub observer_election_delay_ms: i64,
    /// Bytes kept for late observers.
    pub observer_master_size_limit: i32,
    /// A server cut off serves read-only clients.
    pub read_only_mode: bool,
    /// Learners always get a snapshot.
    pub force_snapshot_sync: bool,
    /// A learner refuses writes that an ACL forbids.
    pub eager_acl_check: bool,
    /// Transactions kept in memory for DIFF syncs; 500 or more.
    pub commit_log_count: i32,
    /// How much of the log, as a part of the snapshot, may be sent as a DIFF; below 0 never.
    pub snapshot_size_factor: f64,
    /// First counter value, for tests of the roll-over.
    pub testing_initial_zxid: i64,
    /// Gaps between proposals are accepted, for tests.
    pub testing_discontinuous_proposals: bool,
    /// Quorum packets are kept for debugging.
    pub message_tracker: bool,
    /// How many.
    pub message_tracker_size: i32,
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
            multi_address_check_timeout_ms: 1000,
            multi_address_check: true,
            oracle_path: None,
            cnxn_threads: 20,
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
            ack_logging_frequency: 1000,
            leader_connect_retry_ms: 100,
            leader_nodelay: true,
            follower_nodelay: true,
            observer_reconnect_delay_ms: 0,
            observer_election_delay_ms: 200,
            observer_master_size_limit: 32 << 20,
            read_only_mode: false,
            force_snapshot_sync: false,
            eager_acl_check: false,
            commit_log_count: 500,
            snapshot_size_factor: 0.33,
            testing_initial_zxid: 0,
            testing_discontinuous_proposals: false,
            message_tracker: false,
            message_tracker_size: 10,
        }
    }
}
