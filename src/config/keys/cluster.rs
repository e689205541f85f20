//! Keys and properties of an ensemble: members, timing, peer security.

use std::path::PathBuf;

use super::Scope::{Bare, File, Property};
use super::{Key, Set, ensemble, int, meaningless, port, refused};
use crate::quorum::Role;

const PEER_TLS: &str = "TLS between servers";
const PEER_SASL: &str = "SASL between servers";
const OWN_DIAL: &str = "an address that does not answer is passed over for the next one";
const NO_THREADS: &str = "connections to other servers take no threads";
const NODELAY: &str = "TCP_NODELAY is always set";
const NO_PAUSE: &str = "an observer looks for its leader at once";
const NO_TRACKER: &str = "quorum packets are not kept for debugging";
const ONLY_TESTS: &str = "it is only for ZooKeeper's own tests";
const OWN_IO: &str = "peer sockets are closed and written without blocking anyway";

pub(super) const KEYS: &[Key] = &[
    ensemble(File, "initLimit", "0", int(0, |c, v| c.ensemble.init_limit = v as i32)),
    ensemble(File, "syncLimit", "0", int(0, |c, v| c.ensemble.sync_limit = v as i32)),
    ensemble(
        File,
        "connectToLearnerMasterLimit",
        "0",
        int(0, |c, v| c.ensemble.connect_to_learner_master_limit = v as i32),
    ),
    ensemble(
        File,
        "electionAlg",
        "3",
        Set::Text(|_, v| match v {
            "3" => Ok(()),
            _ => Err(format!("{v:?} is not supported: only 3 is, so remove the line")),
        }),
    ),
    ensemble(
        File,
        "peerType",
        "participant",
        Set::Text(|c, v| {
            c.ensemble.peer_type = Role::parse(v)?;
            Ok(())
        }),
    ),
    ensemble(File, "syncEnabled", "true", Set::Bool(|c, v| c.ensemble.sync_enabled = v)),
    ensemble(File, "quorumListenOnAllIPs", "false", Set::Bool(|c, v| c.ensemble.quorum_listen_on_all_ips = v)),
    ensemble(
        File,
        "dynamicConfigFile",
        "",
        Set::Text(|c, v| {
            if v.is_empty() {
                return Err("is empty: write a file, or remove the line".into());
            }
            c.ensemble.dynamic_config_file = Some(PathBuf::from(v));
            Ok(())
        }),
    ),
    ensemble(File, "standaloneEnabled", "true", Set::Bool(|c, v| c.ensemble.standalone_enabled = v)),
    ensemble(File, "reconfigEnabled", "false", Set::Bool(|c, v| c.ensemble.reconfig_enabled = v)),
    ensemble(File, "localSessionsEnabled", "false", Set::Bool(|c, v| c.ensemble.local_sessions = v)),
    ensemble(File, "localSessionsUpgradingEnabled", "false", Set::Bool(|c, v| c.ensemble.local_sessions_upgrading = v)),
    ensemble(File, "observerMasterPort", "0", port(|c, v| c.ensemble.observer_master_port = v as i32)),
    ensemble(Property, "multiAddress.enabled", "false", Set::Bool(|c, v| c.ensemble.multi_address = v)),
    meaningless(Property, "multiAddress.reachabilityCheckTimeoutMs", "1000", OWN_DIAL),
    meaningless(Property, "multiAddress.reachabilityCheckEnabled", "true", OWN_DIAL),
    ensemble(
        File,
        "oraclePath",
        "",
        Set::Text(|c, v| {
            c.ensemble.oracle_path = Some(PathBuf::from(v)).filter(|p| !p.as_os_str().is_empty());
            Ok(())
        }),
    ),
    meaningless(File, "quorum.cnxn.threads.size", "20", NO_THREADS),
    // Security between servers.
    refused(File, "sslQuorum", "false", PEER_TLS),
    refused(File, "portUnification", "false", PEER_TLS),
    refused(File, "sslQuorumReloadCertFiles", "false", PEER_TLS),
    refused(File, "quorum.auth.enableSasl", "false", PEER_SASL),
    refused(File, "quorum.auth.serverRequireSasl", "false", PEER_SASL),
    refused(File, "quorum.auth.learnerRequireSasl", "false", PEER_SASL),
    refused(File, "quorum.auth.learner.saslLoginContext", "QuorumLearner", PEER_SASL),
    refused(File, "quorum.auth.server.saslLoginContext", "QuorumServer", PEER_SASL),
    refused(File, "quorum.auth.kerberos.servicePrincipal", "zkquorum/localhost", PEER_SASL),
    refused(File, "quorum.auth.", "", PEER_SASL),
    // System properties.
    ensemble(Property, "leaderServes", "yes", Set::YesNo(|c, v| c.ensemble.leader_serves = v)),
    ensemble(Property, "cnxTimeout", "5000", int(1, |c, v| c.ensemble.cnx_timeout_ms = v as i32)),
    ensemble(Property, "quorumCnxnTimeoutMs", "-1", int(-1, |c, v| c.ensemble.cnxn_timeout_ms = v as i32)),
    ensemble(Property, "electionPortBindRetry", "3", int(0, |c, v| c.ensemble.election_port_bind_retry = v as i32)),
    ensemble(Property, "tcpKeepAlive", "false", Set::Bool(|c, v| c.ensemble.tcp_keep_alive = v)),
    ensemble(
        Property,
        "fastleader.minNotificationInterval",
        "200",
        int(1, |c, v| c.ensemble.min_notification_interval_ms = v as i32),
    ),
    ensemble(
        Property,
        "fastleader.maxNotificationInterval",
        "60000",
        int(1, |c, v| c.ensemble.max_notification_interval_ms = v as i32),
    ),
    ensemble(
        Property,
        "leader.maxConcurrentSnapSyncs",
        "10",
        int(1, |c, v| c.ensemble.max_concurrent_snap_syncs = v as i32),
    ),
    ensemble(
        Property,
        "leader.maxConcurrentDiffSyncs",
        "100",
        int(1, |c, v| c.ensemble.max_concurrent_diff_syncs = v as i32),
    ),
    ensemble(
        Property,
        "leader.maxTimeToWaitForEpoch",
        "-1",
        int(i32::MIN as i64, |c, v| c.ensemble.max_time_to_wait_for_epoch_ms = v as i32),
    ),
    meaningless(Property, "leader.ackLoggingFrequency", "1000", "every ack is measured"),
    meaningless(Property, "leaderConnectDelayDuringRetryMs", "100", "a leader is dialled again after 100 ms"),
    meaningless(Bare, "leader.nodelay", "true", NODELAY),
    meaningless(Bare, "follower.nodelay", "true", NODELAY),
    meaningless(Property, "leader.closeSocketAsync", "false", OWN_IO),
    meaningless(Property, "learner.closeSocketAsync", "false", OWN_IO),
    meaningless(Property, "learner.asyncSending", "false", OWN_IO),
    meaningless(
        Property,
        "forward_learner_requests_to_commit_processor_disabled",
        "false",
        "there is no CommitProcessor queue",
    ),
    meaningless(Property, "follower.skipLearnerRequestToNextProcessor", "false", "there is no CommitProcessor queue"),
    meaningless(Property, "observer.reconnectDelayMs", "0", NO_PAUSE),
    meaningless(Property, "observer.election.DelayMs", "200", NO_PAUSE),
    meaningless(Property, "observerMaster.sizeLimit", "33554432", "only a leader serves observers"),
    ensemble(Property, "observer.syncEnabled", "true", Set::Bool(|c, v| c.ensemble.sync_enabled = v)),
    ensemble(Bare, "readonlymode.enabled", "false", Set::Bool(|c, v| c.ensemble.read_only_mode = v)),
    ensemble(Property, "forceSnapshotSync", "false", Set::Bool(|c, v| c.ensemble.force_snapshot_sync = v)),
    meaningless(Property, "enableEagerACLCheck", "false", "the leader checks every ACL"),
    meaningless(Property, "messageTracker.Enabled", "false", NO_TRACKER),
    meaningless(Property, "messageTracker.BufferSize", "10", NO_TRACKER),
    meaningless(Property, "testingonly.initialZxid", "0", ONLY_TESTS),
    meaningless(Property, "test.allowDiscontinuousProposals", "false", ONLY_TESTS),
];
