//! One server, alone or a member of an ensemble: its clock, its disks, which outlive its processes, and its start. Mirrors
//! `runtime::boot`.

use std::sync::Arc;

use super::clock::Clock;
use super::net::NodeId;
use super::process::{self, Parts, Process, Sink};
use crate::auth::Providers;
use crate::oracle::test_disk::{Fault, TestDisk};
use crate::peer::disk::DiskJobs;
use crate::peer::{self, EnsembleOptions, Found, LocalSessionOptions, Peer, PeerOptions, SweepOptions};
use crate::pipeline::messages::touch_interval_ms;
use crate::pipeline::prep::PrepOptions;
use crate::shard::{self, ShardOptions};
use crate::tree::{Tree, TreeOptions};
use crate::txnlog::appender::AppenderOptions;
use crate::txnlog::disk::Dir;
use crate::txnlog::epoch::{self, Epochs};
use crate::txnlog::feed::Feeder;
use crate::txnlog::log::{Log, RunOptions};
use crate::txnlog::names::Compression;
use crate::txnlog::purge;
use crate::txnlog::recovery::{Recovered, RecoveryError, RecoveryOptions};
use crate::txnlog::restore::recover_tree;
use crate::txnlog::snapshot::SnapshotOptions;
use crate::txnlog::snapshotter::{Snapshotter, first_snapshot};
use crate::txnlog::writer::{LogOptions, LogWriter, SnapshotRoom};
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Epoch, ServerId, SessionId, ShardId, Zxid};
use crate::watch::Interest;

/// TTL nodes are enabled.
pub(super) const EXTENDED: ExtendedTypes = ExtendedTypes { enabled: true, emulate_353: false };

/// Settings of every tree.
pub(super) const TREE: TreeOptions = TreeOptions { extended: EXTENDED, digest_enabled: true };

/// Settings that differ from run to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(super) struct NodeOptions {
    /// `tickTime` in milliseconds.
    pub(super) tick_ms: i32,
    pub(super) shards: usize,
    pub(super) log: LogOptions,
    pub(super) appender: AppenderOptions,
    pub(super) compression: Compression,
    /// `dataLogDir` is a separate directory.
    pub(super) two_dirs: bool,
    /// `zookeeper.db.autocreate`: a server without files begins a new history.
    pub(super) autocreate: bool,
    /// Bytes that are read at a time for a learner.
    pub(super) feed_chunk: usize,
    pub(super) outstanding_limit: usize,
    /// After this many milliseconds without work the log gets an end mark.
    pub(super) mark_after_ms: u64,
    /// Limits of connections.
    pub(super) shard: shard::Bounds,
    /// Limits of the peer core's turns and of the streams.
    pub(super) peer: peer::turn::Bounds,
}

impl NodeOptions {
    /// Random settings, with small sizes, so that much happens in a short time.
    pub(super) fn random(tick_ms: i32, rng: &mut fastrand::Rng) -> NodeOptions {
        NodeOptions {
            tick_ms,
            shards: rng.usize(1..=3),
            log: LogOptions {
                prealloc_bytes: 4096 << rng.u32(..3),
                roll_at_bytes: rng.bool().then(|| rng.u64(500..20_000)),
                force_sync: true,
                keeps: true,
            },
            appender: AppenderOptions {
                max_idle_ms: None,
                // Syncs take the time that the seed says, so waiting for more records would only reorder the trace.
                most_commit_delay_ns: 0,
                max_batch_records: rng.u64(..20),
                max_batch_bytes: 1 << rng.u32(9..20),
                flush_delay_ms: if rng.u32(..4) == 0 { 5 } else { 0 },
                snap_count: rng.u64(4..80),
                snap_size_bytes: 0,
            },
            compression: [Compression::None, Compression::Gzip, Compression::Snappy][rng.usize(..3)],
            two_dirs: rng.bool(),
            autocreate: true,
            feed_chunk: rng.usize(100..2000),
            outstanding_limit: if rng.u32(..4) == 0 { 2 } else { 1000 },
            mark_after_ms: [0, 2, 50][rng.usize(..3)],
            shard: shard_bounds(rng),
            peer: peer_bounds(rng),
        }
    }

    /// How snapshots are written.
    pub(super) fn snapshot(&self) -> SnapshotOptions {
        SnapshotOptions { compression: self.compression, ..SnapshotOptions::default() }
    }

    fn run(&self, records_since_snapshot: u64) -> RunOptions {
        let mark_after_ns = self.mark_after_ms * 1_000_000;
        RunOptions { appender: self.appender, records_since_snapshot, mark_after_ns, ..RunOptions::default() }
    }

    fn peer(&self, me: ServerId) -> PeerOptions {
        PeerOptions {
            me,
            tick_ms: self.tick_ms,
            prep: PrepOptions { extended: EXTENDED, ..PrepOptions::default() },
            sweep: SweepOptions { interval_ms: 700, max_per_minute: 10_000, max_never_used_ms: 0 },
            shards: self.shards,
        }
    }

    fn shard(&self, id: usize) -> ShardOptions {
        ShardOptions {
            throttles: Default::default(),
            id: ShardId(id as u32),
            max_frame: 1 << 20,
            session_timeout_ms: (2 * self.tick_ms, 20 * self.tick_ms),
            handshake_timeout_ms: 10_000,
            outstanding_limit: self.outstanding_limit,
            touch_interval_ms: touch_interval_ms(self.tick_ms),
            bounds: self.shard,
            skip_acl: false,
            words: Vec::new(),
            enforced_schemes: Vec::new(),
            auth: Arc::new(Providers::default()),
        }
    }
}

/// Small limits in half of the worlds.
fn shard_bounds(rng: &mut fastrand::Rng) -> shard::Bounds {
    if rng.bool() {
        return shard::Bounds::default();
    }
    shard::Bounds {
        out_high_water: rng.usize(1..4000),
        in_high_water: rng.usize(1..400),
        max_unanswered: rng.usize(1..10),
        max_reads_between_writes: rng.usize(1..4),
    }
}

/// Small limits in half of the worlds.
fn peer_bounds(rng: &mut fastrand::Rng) -> peer::turn::Bounds {
    if rng.bool() {
        return peer::turn::Bounds::default();
    }
    peer::turn::Bounds {
        submit_burst: rng.usize(1..8),
        append_burst: rng.usize(1..4),
        apply_burst: rng.usize(1..8),
        stream_high_water: rng.usize(1..6),
    }
}

/// A server.
pub(super) struct Node {
    /// Its id in the world.
    pub(super) id: NodeId,
    /// Its clock.
    pub(super) clock: Clock,
    /// Its settings.
    pub(super) options: NodeOptions,
    /// `dataDir/version-2`.
    pub(super) snap: TestDisk,
    /// `dataLogDir/version-2`; may be the same.
    pub(super) log: TestDisk,
    /// The process, if it is running.
    pub(super) process: Option<Process>,
    /// The last durable zxid of each sync, newest last.
    pub(super) syncs: Vec<Zxid>,
    /// The last zxid of the log while an end mark follows it, else zero.
    pub(super) marked: Zxid,
    /// `None`: it is alone.
    ensemble: Option<EnsembleOptions>,
    local: Option<LocalSessionOptions>,
    /// Something on its disks was damaged since its last process.
    pub(super) is_damaged: bool,
    /// It may begin a new history when its directory is empty.
    may_create: bool,
    lies: bool,
}

/// The state that a start found.
#[derive(Debug)]
#[allow(missing_docs)]
pub(super) struct Booted {
    pub(super) last: Zxid,
    pub(super) sessions: Vec<(SessionId, i32)>,
    /// Of a member.
    pub(super) epochs: Option<Epochs>,
}

impl Node {
    /// A server with an empty data directory.
    pub(super) fn new(
        id: NodeId,
        clock: Clock,
        options: NodeOptions,
        (ensemble, local): (Option<EnsembleOptions>, Option<LocalSessionOptions>),
        lies: bool,
    ) -> Node {
        let snap = TestDisk::new();
        let log = if options.two_dirs { TestDisk::new() } else { snap.clone() };
        let (process, syncs, marked) = (None, Vec::new(), Zxid::ZERO);
        let (is_damaged, may_create) = (false, true);
        Node { id, clock, options, snap, log, process, syncs, marked, ensemble, local, is_damaged, may_create, lies }
    }

    /// Its id in the ensemble.
    pub(super) fn server(&self) -> ServerId {
        ServerId(i64::from(self.id.0) + 1)
    }

    /// Whether it has a log, and not only snapshots.
    pub(super) fn keeps_log(&self) -> bool {
        self.options.log.keeps
    }

    /// The epoch in this file that a power failure leaves.
    pub(super) fn durable_epoch(&self, name: &str, rng: &mut fastrand::Rng) -> Result<Epoch, String> {
        let mut disk = self.snap.clone();
        if !disk.is_synced(name) {
            disk = disk.fork();
            disk.power_cycle(rng.u64(..));
        }
        epoch::read_epoch(&disk, name).map_err(|e| e.to_string()).map(|epoch| epoch.unwrap_or(Epoch(0)))
    }

    /// Independent copies of its disks.
    pub(super) fn fork_disks(&self) -> (TestDisk, TestDisk) {
        let snap = self.snap.fork();
        let log = if self.options.two_dirs { self.log.fork() } else { snap.clone() };
        (snap, log)
    }

    /// Its disks, each once.
    pub(super) fn disks(&self) -> Vec<&TestDisk> {
        if self.options.two_dirs { vec![&self.snap, &self.log] } else { vec![&self.snap] }
    }

    /// The injected fault, if it has occurred.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.disks().into_iter().find_map(TestDisk::fired)
    }

    /// The process ends. With `power`, everything that the kernel has not written is lost too.
    pub(super) fn down(&mut self, power: Option<u64>) {
        self.process = None;
        for (i, disk) in self.disks().into_iter().enumerate() {
            match power {
                Some(seed) => disk.power_cycle(seed.wrapping_add(i as u64)),
                None => disk.restart(),
            }
        }
    }

    /// Its disks are replaced by empty ones.
    pub(super) fn wipe(&mut self) {
        assert!(self.process.is_none(), "the directory of a running process is lost");
        self.snap = TestDisk::new();
        self.log = if self.options.two_dirs { TestDisk::new() } else { self.snap.clone() };
        (self.is_damaged, self.may_create) = (false, self.options.autocreate);
    }

    /// Starts a process.
    ///
    /// # Errors
    /// The start fails.
    pub(super) fn boot(&mut self, seed: u64) -> Result<Booted, RecoveryError> {
        let now = self.clock.now();
        let keep = self.ensemble.as_ref().map_or(0, |ensemble| ensemble.history.count);
        let options = RecoveryOptions { keep_last: keep, may_create: self.may_create, ..RecoveryOptions::default() };
        let recovered = recover_tree(&mut self.snap.clone(), &mut self.log.clone(), TREE, options)?;
        let mut tree = recovered.state;
        if let Some(ensemble) = &self.ensemble {
            let members = &ensemble.electorate.members;
            tree.set_config(members.text().as_bytes(), members.version(), now.wall_ms, &mut |_| {});
        }
        let io = |error| RecoveryError::Io { path: "the first snapshot".into(), error };
        if recovered.fresh && recovered.last != Zxid::NONE {
            first_snapshot(&mut self.snap.clone(), &tree, self.options.snapshot()).map_err(io)?;
        }
        let mut sessions: Vec<(SessionId, i32)> = recovered.sessions.into_iter().collect();
        sessions.sort_unstable();
        let last = tree.last_zxid();
        let interest = Arc::new(Interest::new());
        let (options, epochs) = (self.options.peer(self.server()), self.epochs(last)?);
        let peer = match self.ensemble.clone().zip(epochs) {
            Some((ensemble, epochs)) => {
                let snapshot = recovered.report.snapshot.as_deref().map(zxid_of).transpose()?;
                let found = Found { epochs, recent: recovered.tail, chain: snapshot.unwrap_or(Zxid::ZERO) };
                Peer::member(options, ensemble, found, &tree, &sessions, now).with_local_sessions(self.local, now)
            }
            None => Peer::new(options, &tree, &sessions, now),
        };
        let shards = process::shards((0..self.options.shards).map(|i| self.options.shard(i)), &interest);
        let room = if self.options.two_dirs { SnapshotRoom::default() } else { SnapshotRoom::new(0, 0) };
        // Without a history nothing is appended before a leader's snapshot has replaced it.
        let writer = LogWriter::new(self.log.clone(), last.max(Zxid::ZERO), self.options.log).leaving(room.clone());
        let sink = Sink { writer, lies: self.lies };
        self.process = Some(Process::new(Parts {
            peer,
            bounds: self.options.peer,
            shards,
            interest,
            log: Log::new(sink, self.options.run(recovered.report.replayed), seed),
            snapshotter: Snapshotter::new(self.snap.clone(), self.options.snapshot())
                .sharing(room)
                .raising_epoch(!self.options.log.keeps),
            feeder: epochs.map(|_| Feeder::new(self.snap.clone(), self.log.clone(), self.options.feed_chunk)),
            jobs: epochs.map(|_| DiskJobs::new(self.snap.clone(), TREE, RecoveryOptions::default())),
            seed,
            tree,
        }));
        Ok(Booted { last, sessions, epochs })
    }

    /// The epochs of a member whose history ends at `last`.
    fn epochs(&self, last: Zxid) -> Result<Option<Epochs>, RecoveryError> {
        let io = |error| RecoveryError::Io { path: "the epochs".into(), error: std::io::Error::other(error) };
        self.ensemble.is_some().then(|| epoch::load(&mut self.snap.clone(), last).map_err(io)).transpose()
    }

    /// Purges old files beside the running process (autopurge).
    ///
    /// # Errors
    /// I/O errors of the disk; the server only logs them.
    pub(super) fn purge(&mut self) -> std::io::Result<usize> {
        purge::purge(&mut self.snap.clone(), &mut self.log.clone(), purge::MIN_KEEP).map(|p| p.removed.len())
    }
}

/// Recovers the state, as a start does.
///
/// # Errors
/// The directories cannot be served.
pub(super) fn recover<D: Dir>(snap: &mut D, log: &mut D) -> Result<Recovered<Tree>, RecoveryError> {
    recover_tree(snap, log, TREE, RecoveryOptions::default())
}

/// The zxid in the name of a snapshot.
fn zxid_of(name: &str) -> Result<Zxid, RecoveryError> {
    let digits = name.split('.').nth(1).unwrap_or_default();
    let error = |error| RecoveryError::Io { path: name.into(), error: std::io::Error::other(error) };
    i64::from_str_radix(digits, 16).map(Zxid).map_err(error)
}
