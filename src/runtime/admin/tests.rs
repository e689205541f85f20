//! A report made by hand and a server made of one thread, for the tests of this folder. The expected texts are Apache
//! ZooKeeper 3.9.5's, asked about the same state.

mod members;
mod over_http;
mod prometheus;
mod texts;

use std::sync::Arc;

use super::host::Host;
use super::process::Process;
use super::report::{Figures, Report, Startup};
use crate::config::Config;
use crate::peer::role_status::RoleStatus;
use crate::peer::status::{PeerStats, PeerStatus, ZxidDigest};
use crate::pipeline::prep::PrepStatus;
use crate::shard::latency::Latency;
use crate::shard::status::{ConnStatus, ShardStats, ShardStatus};
use crate::tree::{QuotaState, StatsTrack};
use crate::types::{Distribution, EventType, Namespaces, Now, Op, ServerId, SessionId, Zxid};
use crate::watch::Summary;

const A: SessionId = SessionId(0x1000027a5080000);
const B: SessionId = SessionId(0x1000027a5080001);

const NOW: Now = Now { mono_ms: 2_633_000, wall_ms: 1_795_218_612_000, mono_ns: 0 };

fn config() -> Config {
    Config {
        data_dir: "/data".into(),
        data_log_dir: "/log".into(),
        tick_ms: 500,
        min_session_timeout_ms: 1000,
        max_session_timeout_ms: 600_000,
        properties: [("zookeeper.a".into(), "b".into()), ("zookeeper.superDigest".into(), "super:hash".into())].into(),
        source: crate::config::Source { file: None, text: "a=b\nsuperDigest=super:hash\n# superDigest=none\n".into() },
        ..Config::default()
    }
}

/// Two sessions and a connection that asks.
fn connections() -> Vec<ConnStatus> {
    let a = ConnStatus {
        peer: "127.0.0.1:34752".parse().unwrap(),
        reading: true,
        queued: 0,
        received: 309,
        sent: 310,
        session: A,
        last_op: Op::SET_DATA,
        established_wall_ms: 1_795_218_611_177,
        timeout_ms: 600_000,
        last_cxid: 0x134,
        last_zxid: Zxid(0x136),
        last_response_ms: 2_632_883,
        last_latency_ms: 5,
        latency: Latency { min_ms: 0, max_ms: 9, total_ms: 399, count: 309 },
        heard_ms: 2_632_800,
    };
    let b = ConnStatus {
        peer: "127.0.0.1:34760".parse().unwrap(),
        received: 7,
        sent: 8,
        session: B,
        last_op: Op::ADD_WATCH,
        established_wall_ms: 1_795_218_611_199,
        last_cxid: 6,
        last_zxid: Zxid(0x135),
        last_response_ms: 2_632_878,
        last_latency_ms: 1,
        latency: Latency { min_ms: 0, max_ms: 1, total_ms: 4, count: 7 },
        ..a.clone()
    };
    let word = ConnStatus {
        peer: "127.0.0.1:34774".parse().unwrap(),
        reading: false,
        received: 1,
        sent: 0,
        session: SessionId::NONE,
        last_op: Op::NOTIFICATION,
        last_cxid: -1,
        last_zxid: Zxid::NONE,
        latency: Latency::default(),
        heard_ms: 2_632_990,
        ..a.clone()
    };
    vec![a, b, word]
}

fn stats() -> ShardStats {
    let mut s = ShardStats::default();
    s.since_reset.packets_received = 324;
    s.since_reset.packets_sent = 325;
    s.since_reset.latency = Latency { min_ms: 0, max_ms: 9, total_ms: 398, count: 316 };
    s.since_reset.last_response_size = 84;
    s.since_reset.min_response_size = 16;
    s.since_reset.max_response_size = 2438;
    [0, 1, 1, 1, 1, 2].into_iter().for_each(|ms| s.read_latency.record(ms * 1000 + 250));
    s.watch_events[EventType::NodeDataChanged as usize].record(2);
    s.watch_bytes = 78;
    [12, 12, 12, 1206].into_iter().for_each(|v| s.reads.record("/words/n001", v + 68));
    s
}

fn shard() -> ShardStatus {
    ShardStatus {
        stats: stats(),
        outstanding: 0,
        connection_count: 3,
        connections: connections(),
        watch_count: 4,
        watch_summary: Summary { connections: 1, paths: 3, watches: 3 },
    }
}

fn peer() -> PeerStatus {
    let mut stats = PeerStats::new(Now { mono_ms: NOW.mono_ms - 35_171, ..NOW });
    stats.proposals = 310;
    stats.commits = 310;
    stats.digests.push_back(ZxidDigest { zxid: Zxid(0x80), version: 2, digest: 267_465_987_447 });
    stats.digests.push_back(ZxidDigest { zxid: Zxid(0x100), version: 2, digest: u64::MAX });
    [0, 180, 6001].into_iter().for_each(|us| stats.fsync_us.record(us));
    stats.batches.record(31);
    let mut quota_refusals = Namespaces::default();
    (0..2).for_each(|_| quota_refusals.record("/words/n", 1));
    PeerStatus {
        stats,
        role: RoleStatus::standalone(ServerId(1)),
        prep: PrepStatus {
            outstanding_changes: 0,
            outstanding_changes_queued: 615,
            outstanding_changes_removed: 614,
            highest_sequence_number: 7,
            sequential_creates_near_end: 0,
            quota_refusals,
        },
        last_zxid: Zxid(0x136),
        outstanding: 0,
        znode_count: 312,
        ephemerals_count: 3,
        approximate_data_size: 3825,
        digest: 5,
        global_sessions: 2,
        local_sessions: None,
        last_snapshot: None,
        quotas: vec![QuotaState {
            prefix: "/words".into(),
            limits: StatsTrack::parse(Some(b"count=1000,bytes=100000")),
            usage: Some(StatsTrack::parse(Some(b"count=304,bytes=311"))),
        }],
    }
}

fn report() -> Report {
    Report {
        now: NOW,
        config: Arc::new(config()),
        shards: vec![shard()],
        peer: peer(),
        watches: ["/words/n002", "/words/n003", "/words/none"].map(|p| (B, p.to_owned())).to_vec(),
        expiry: vec![(3_232_500, vec![A]), (3_233_000, vec![B])],
        local_expiry: None,
        ephemerals: vec![(A, vec!["/words/e1".into(), "/words/e2".into()]), (B, vec!["/words/b1".into()])],
        process: Some(Process {
            cpu_seconds: 1.88,
            start_seconds: 1_795_218_576.5,
            virtual_bytes: 2_935_599_104,
            resident_bytes: 83_501_056,
        }),
        host: Host { data_dir_size: 67_109_358, log_dir_size: 67_109_300, open_fds: 56, max_fds: 20_000 },
        control: Figures {
            trace_mask: 306,
            snapshots_limited: 0,
            snapshots_failed: 0,
            connections_refused: 7,
            startup: Startup {
                load_ms: Distribution::of(12),
                snapshot_load_ms: Distribution::of(5),
                log_load_ms: Distribution::of(6),
                replayed: Distribution::of(3),
                first_snapshot_ms: Distribution::of(1),
            },
        },
        earlier: None,
    }
}
