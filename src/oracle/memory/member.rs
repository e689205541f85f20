//! A member of an ensemble without its threads, sockets and shards: the shipped turn of its peer core, and the shipped machines
//! of its log thread, its snapshot writer and the reader of its disk. Each of their steps is a call; the caller stands in for
//! the network and the shards.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::{Mail, MemoryLog, MemoryTree};
use crate::limits::LEARNER_CHUNK;
use crate::oracle::replica::SMALL;
use crate::oracle::test_disk::TestDisk;
use crate::peer::disk::DiskJobs;
use crate::peer::feed::FeedAnswer;
use crate::peer::net::NetWant;
use crate::peer::turn::{Bounds, PeerTurn, TreeAccess};
use crate::peer::{EnsembleOptions, Found, Input, LocalSessionOptions, Peer, PeerOptions, SweepOptions};
use crate::pipeline::messages::ToShard;
use crate::pipeline::prep::PrepOptions;
use crate::quorum::{Members, Role};
use crate::tree::TreeOptions;
use crate::txnlog::epoch;
use crate::txnlog::feed::{Ask, Feeder};
use crate::txnlog::log::{Log, RunOptions};
use crate::txnlog::recovery::RecoveryOptions;
use crate::txnlog::restore::recover_tree;
use crate::txnlog::snapshot::SnapshotOptions;
use crate::txnlog::snapshotter::{Snapshotter, first_snapshot};
use crate::txnlog::writer::{LogOptions, LogWriter};
use crate::types::{Now, ServerId, SessionId, ShardId, Zxid};
use crate::watch::Interest;
use crate::zab::election::{Electorate, Timing};

/// What a member is started with.
#[derive(Debug, Clone)]
pub struct MemberSettings {
    /// Settings of its peer core, with one shard.
    pub peer: PeerOptions,
    /// Settings of its part in the ensemble.
    pub ensemble: EnsembleOptions,
    /// Whether it has local sessions, and may make them global ones.
    pub local_sessions: Option<LocalSessionOptions>,
    /// Whether it has a log (`syncEnabled`).
    pub keeps_log: bool,
}

impl MemberSettings {
    /// Settings of server `me` among `members`: ZooKeeper's defaults with a `tickTime` of 2 seconds. `packet_limit`: most bytes
    /// of a packet's data between members.
    pub fn new(me: ServerId, members: Arc<Members>, packet_limit: usize) -> MemberSettings {
        let ensemble = EnsembleOptions {
            role: members.get(me).map_or(Role::Participant, |member| member.role),
            electorate: Electorate { members, next: None },
            timing: Timing::default(),
            all_addresses: false,
            hello_timeout_ms: 1000,
            init_ms: 20_000,
            sync_ms: 10_000,
            packet_limit,
            leader: Default::default(),
            sync: Default::default(),
            room: Default::default(),
            history: Default::default(),
            leader_serves: true,
            read_only_after_ms: None,
        };
        let peer = PeerOptions {
            me,
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: SweepOptions { interval_ms: 60_000, max_per_minute: 600, max_never_used_ms: 0 },
            shards: 1,
        };
        MemberSettings { peer, ensemble, local_sessions: None, keeps_log: true }
    }
}

/// The process of a member.
pub struct MemoryMember {
    /// Its tree.
    pub tree: MemoryTree,
    /// The mailboxes of its peer core.
    pub mail: Mail,
    /// Its peer core.
    pub turn: PeerTurn,
    log: MemoryLog<LogWriter<TestDisk>>,
    snapshots: Snapshotter<TestDisk>,
    feeder: Feeder<TestDisk>,
    /// Snapshots that were opened for learners.
    pub snapshots_fed: usize,
    /// Lists of proposals that were read from the log for learners.
    pub lists_fed: usize,
}

impl MemoryMember {
    /// Starts a member on what its disk has.
    ///
    /// # Panics
    /// If what is on the disk cannot be recovered.
    pub fn start(settings: MemberSettings, disk: &TestDisk, now: Now) -> MemoryMember {
        let MemberSettings { peer, ensemble, local_sessions, keeps_log } = settings;
        assert_eq!(peer.shards, 1, "the caller stands in for one shard");
        let recovery = RecoveryOptions { keep_last: ensemble.history.count, ..RecoveryOptions::default() };
        let options = TreeOptions { extended: peer.prep.extended, ..TreeOptions::default() };
        let recovered = recover_tree(&mut disk.clone(), &mut disk.clone(), options, recovery);
        let recovered = recovered.unwrap_or_else(|e| panic!("{e}"));
        let tree = recovered.state;
        if recovered.fresh {
            first_snapshot(&mut disk.clone(), &tree, SnapshotOptions::default()).expect("this disk has no faults");
        }
        let last = tree.last_zxid();
        let epochs = epoch::load(&mut disk.clone(), last).expect("the epochs can be read");
        let named = |name: &String| name.split('.').nth(1).and_then(|hex| i64::from_str_radix(hex, 16).ok());
        let chain =
            recovered.report.snapshot.as_ref().map_or(last, |name| Zxid(named(name).expect("a snapshot's name")));
        let mut sessions: Vec<(SessionId, i32)> = recovered.sessions.into_iter().collect();
        sessions.sort_unstable();
        let found = Found { epochs, recent: recovered.tail, chain };
        let peer = Peer::member(peer, ensemble, found, &tree, &sessions, now).with_local_sessions(local_sessions, now);
        let writer = LogWriter::new(disk.clone(), last, LogOptions { keeps: keeps_log, ..SMALL });
        let mut jobs = DiskJobs::new(disk.clone(), options, RecoveryOptions::default());
        let perform = move |request, sink: &mut LogWriter<TestDisk>| jobs.perform(request, sink);
        let mut member = MemoryMember {
            tree: MemoryTree::new(tree, 1, Arc::new(Interest::new())),
            mail: Mail::new(1),
            turn: PeerTurn::new(peer, last, Bounds::default()),
            log: MemoryLog::with_jobs(Log::new(writer, RunOptions::default(), 1), perform),
            snapshots: Snapshotter::new(disk.clone(), SnapshotOptions::default()).raising_epoch(!keeps_log),
            feeder: Feeder::new(disk.clone(), disk.clone(), LEARNER_CHUNK),
            snapshots_fed: 0,
            lists_fed: 0,
        };
        member.turn.start(now, &member.tree, &mut member.mail);
        member.feed_log();
        member
    }

    /// One turn of the peer core. Returns whether it has to be repeated.
    pub fn turn(&mut self, now: Now) -> bool {
        let is_busy = self.turn.turn(now, &self.tree, &mut self.mail);
        self.turn.check(&self.tree.read());
        self.feed_log();
        is_busy
    }

    /// What the peer core wants of its disk is on its way there.
    fn feed_log(&mut self) {
        self.mail.appended.drain(..).for_each(|burst| self.log.send(&burst));
        self.mail.disk.drain(..).for_each(|request| self.log.ask(request));
    }

    /// What the shard was sent since the last call.
    pub fn take_stream(&mut self) -> Vec<ToShard> {
        self.mail.take_stream(ShardId(0))
    }

    /// What was wanted of the network since the last call.
    pub fn take_net(&mut self) -> VecDeque<NetWant> {
        std::mem::take(&mut self.mail.net)
    }

    /// One step of the log thread. What it did is behind what `mail.told` had.
    ///
    /// # Errors
    /// The disk's, which end the process.
    pub fn log_step(&mut self, now: Now) -> io::Result<()> {
        let mut told = Vec::new();
        self.log.step(now, 0, &mut told)?;
        self.mail.told.extend(told.into_iter().filter_map(Input::from_log));
        self.mail.told.extend(self.log.take_answers().into_iter().map(Input::Disk));
        Ok(())
    }

    /// One step of the snapshot writer and one of the reader of the disk. What they did is behind what `mail.told` had.
    pub fn disk_step(&mut self, now: Now) {
        if let Some(part) = self.mail.snapshot.pop_front() {
            let done = self.snapshots.take(now, part).expect("this disk has no faults");
            self.mail.told.extend(done.map(Input::from));
        }
        let Some(want) = self.mail.feed.pop_front() else { return };
        match want.ask {
            None => self.feeder.forget(want.conn),
            Some(ask) => {
                self.snapshots_fed += usize::from(matches!(ask, Ask::Snapshot(_)));
                self.lists_fed += usize::from(matches!(ask, Ask::Proposals { .. }));
                let result = self.feeder.answer(want.conn, ask).map_err(|why| why.to_string());
                self.mail.told.push_back(Input::Fed(FeedAnswer { conn: want.conn, result }));
            }
        }
    }

    /// Whether the log thread has nothing to do.
    pub fn log_is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// Whether the snapshot writer and the reader of the disk have nothing to do.
    pub fn disk_is_idle(&self) -> bool {
        self.mail.snapshot.is_empty() && self.mail.feed.is_empty()
    }
}
