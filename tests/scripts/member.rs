//! One server: the turns of its cores, its log and its writer of snapshots; each step is a call.

use std::sync::Arc;

use zabra::oracle::memory::{Mail, MemoryLog, MemorySockets, MemoryTree};
use zabra::oracle::replica::SMALL;
use zabra::oracle::test_disk::TestDisk;
use zabra::peer::status::SessionPlace;
use zabra::peer::turn::{Bounds, PeerTurn, TreeAccess};
use zabra::peer::{self, Peer, PeerOptions, SweepOptions};
use zabra::pipeline::messages::touch_interval_ms;
use zabra::pipeline::prep::PrepOptions;
use zabra::shard::turn::ShardTurn;
use zabra::shard::{Shard, ShardOptions};
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{Txn, TxnHeader};
use zabra::txnlog::appender::AppenderOptions;
use zabra::txnlog::log::{Log, LogEvent, RunOptions};
use zabra::txnlog::snapshot::SnapshotOptions;
use zabra::txnlog::snapshotter::{SnapshotEvent, Snapshotter};
use zabra::txnlog::writer::LogWriter;
use zabra::types::stat::owner::ExtendedTypes;
use zabra::types::{ConnId, Cxid, ErrorCode, Now, Op, ServerId, SessionId, ShardId};
use zabra::watch::{Interest, WatchTable};

use super::command::Args;
use super::doubles::{Names, TracedLinks, TracedMail, TracedSockets, TracedTree};
use super::journal::Journal;
use super::show;

/// `tickTime` in milliseconds.
const TICK_MS: i32 = 2000;

pub struct Member {
    tree: TracedTree,
    mail: Mail,
    peer: PeerTurn,
    shards: Vec<ShardTurn>,
    /// The connections of each shard.
    sockets: Vec<MemorySockets>,
    log: MemoryLog<LogWriter<TestDisk>>,
    snapshotter: Snapshotter<TestDisk>,
    names: Names,
    next_conn: u64,
    journal: Journal,
}

impl Member {
    /// A standalone server. `args`: `shards`, `zxid` (the last one of its history), `submit_burst`, `append_burst`,
    /// `apply_burst`, `stream_high_water`, `snap_count`, `max_batch_records`.
    pub fn new(id: i64, args: &mut Args<'_>, now: Now, journal: &Journal) -> Member {
        let shards = args.number("shards").map_or(1, |n| n as usize);
        let extended = ExtendedTypes { enabled: true, emulate_353: false };
        let mut tree = Tree::new(TreeOptions { extended, digest_enabled: true });
        if let Some(zxid) = args.zxid("zxid") {
            let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid, time_ms: 0, op: Op::ERROR };
            tree.apply(&header, &Txn::Error { err: ErrorCode::NoNode.code() }, &mut |_| ());
        }
        let last = tree.last_zxid();
        let interest = Arc::new(Interest::new());
        let options = PeerOptions {
            me: ServerId(id),
            tick_ms: TICK_MS,
            prep: PrepOptions { extended, ..PrepOptions::default() },
            sweep: SweepOptions { interval_ms: 60_000, max_per_minute: 600, max_never_used_ms: 0 },
            shards,
        };
        let peer = PeerTurn::new(Peer::new(options, &tree, &[], now), last, bounds(args));
        let disk = TestDisk::new();
        let writer = LogWriter::new(disk.clone(), last, SMALL);
        let snap_count = args.number("snap_count").map_or(100_000, |n| n as u64);
        let max_batch_records = args.number("max_batch_records").map_or(1000, |n| n as u64);
        let appender =
            AppenderOptions { most_commit_delay_ns: 0, snap_count, max_batch_records, ..AppenderOptions::default() };
        let table = |i| WatchTable::new(ShardId(i as u32), interest.clone());
        let shard = |i| ShardTurn::new(Shard::new(shard_options(i), table(i)));
        let mut member = Member {
            peer,
            shards: (0..shards).map(shard).collect(),
            mail: Mail::new(shards),
            sockets: (0..shards).map(|_| MemorySockets::default()).collect(),
            log: MemoryLog::new(Log::new(writer, RunOptions { appender, ..RunOptions::default() }, 1)),
            snapshotter: Snapshotter::new(disk, SnapshotOptions::default()),
            names: Names::new(),
            next_conn: 1,
            journal: journal.clone(),
            tree: TracedTree { tree: MemoryTree::new(tree, shards, interest), journal: journal.clone() },
        };
        let (peer, tree, mut links) = member.peer_parts();
        peer.start(now, tree, &mut links);
        member.feed_log();
        member
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A connection is accepted at the shard's next turn.
    pub fn accept(&mut self, name: &str, shard: usize) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.names.insert(conn, name.to_owned());
        self.sockets[shard].accept(conn, ([10, 0, 0, 1], 5000).into());
        conn
    }

    /// The connections of a shard, for what clients do.
    pub fn sockets(&mut self, shard: usize) -> &mut MemorySockets {
        &mut self.sockets[shard]
    }

    /// One turn of a shard; returns what it sent on which connection. Its messages reach the peer core.
    pub fn shard_turn(&mut self, number: usize, now: Now) -> Vec<(ConnId, Vec<u8>)> {
        let Member { shards, sockets, tree, mail, names, journal, .. } = self;
        let sockets = &mut sockets[number];
        let shard = ShardId(number as u32);
        let links = mail.of_shard(shard, &tree.tree);
        let mut links = TracedLinks { number: shard, links, names, journal: journal.clone() };
        let mut traced = TracedSockets { sockets: &mut *sockets, names, journal: journal.clone() };
        shards[number].turn(now, tree.hold(shard), &mut traced, &mut links);
        mail.deliver();
        let open = sockets.conns().iter_mut().map(|conn| (conn.id, std::mem::take(&mut conn.out)));
        let mut sent: Vec<_> = open.collect();
        sent.extend(sockets.take_ended().into_iter().map(|(conn, _)| (conn.id, conn.out)));
        sent
    }

    pub fn peer_turn(&mut self, now: Now) {
        let (peer, tree, mut links) = self.peer_parts();
        peer.turn(now, tree, &mut links);
        self.feed_log();
    }

    /// What the peer core proposed is on its way to the log.
    fn feed_log(&mut self) {
        self.mail.appended.drain(..).for_each(|burst| self.log.send(&burst));
    }

    fn peer_parts(&mut self) -> (&mut PeerTurn, &TracedTree, TracedMail<'_>) {
        let Member { peer, tree, mail, names, journal, .. } = self;
        let rung = vec![false; mail.shards.len()];
        (peer, tree, TracedMail { mail, names, journal: journal.clone(), rung })
    }

    /// Runs the log thread until it has nothing to do or, with `once`, until it has told of something.
    pub fn sync_log(&mut self, now: Now, once: bool) {
        let mut told = Vec::new();
        loop {
            let before = told.len();
            self.log.step(now, 0, &mut told).expect("this disk has no faults");
            let is_news = told.len() > before;
            if is_news && once || !is_news && self.log.is_idle() {
                break;
            }
        }
        for event in told {
            match event {
                LogEvent::Synced { zxid, records, .. } => {
                    let zxid = show::zxid(zxid);
                    self.journal.say(format!("log -> peer: durable up to {zxid}, records {records}"));
                }
                LogEvent::SnapshotDue => self.journal.say("log -> peer: a snapshot is due".into()),
                LogEvent::Restarted { .. } | LogEvent::Stopped => panic!("{event:?}: nobody asked for that"),
            }
            self.mail.told.extend(peer::Input::from_log(event));
        }
    }

    /// Runs the snapshot thread until everything it was given is written.
    pub fn write_snapshot(&mut self, now: Now) {
        while let Some(part) = self.mail.snapshot.pop_front() {
            let Some(event) = self.snapshotter.take(now, part).expect("this disk has no faults") else { continue };
            self.journal.say(match event {
                SnapshotEvent::Took(bytes) => format!("snapshot -> peer: {bytes} bytes are written"),
                SnapshotEvent::Done { zxid, .. } => format!("snapshot -> peer: durable as of {}", show::zxid(zxid)),
                SnapshotEvent::Abandoned => "snapshot -> peer: abandoned".into(),
            });
            self.mail.told.push_back(event.into());
        }
    }

    /// Sends the peer an input that comes neither from a shard, nor the log, nor the writer of snapshots.
    pub fn tell(&mut self, input: peer::Input) {
        self.mail.inbox.push_back(input);
    }

    /// Whether nothing is left to do except to wait for clients and timers.
    pub fn is_idle(&self) -> bool {
        self.peer.peer().is_idle()
            && !self.mail.is_for_peer()
            && self.mail.shards.iter().all(|shard| shard.letters.is_empty())
            && self.mail.snapshot.is_empty()
            && self.sockets.iter().all(MemorySockets::is_quiet)
            && self.log.is_idle()
            && self.shards.iter().all(|s| !s.shard().has_ready())
    }

    /// Checks the invariants of all state machines.
    pub fn check(&self) {
        self.peer.check(&self.tree.read());
        self.shards.iter().for_each(ShardTurn::check);
        self.log.log().check();
    }

    /// The state of everything, as text.
    pub fn show(&self, now: Now) -> Vec<String> {
        let tree = self.tree.read();
        let status = self.peer.peer().status(&tree);
        let committed = show::zxid(self.peer.peer().committed());
        let durable = show::zxid(self.log.log().sink().durable());
        let mut lines = vec![
            format!("applied {}, committed {committed}, durable {durable}", show::zxid(tree.last_zxid())),
            format!("not applied {}, sessions {}", status.outstanding, status.global_sessions),
        ];
        for (shard, turn) in self.shards.iter().enumerate() {
            let unread = self.mail.shards[shard].letters.len();
            lines.push(format!("shard {shard} at {}, {unread} on its stream", show::zxid(turn.cursor())));
        }
        let mut expiry = self.peer.peer().list_sessions(SessionPlace::Global(None), usize::MAX).sessions;
        expiry.sort_unstable();
        lines
            .extend(expiry.iter().map(|(at, session)| format!("session {session} expires in {} ms", at - now.mono_ms)));
        lines
    }

    /// A znode as text, without a client's request.
    pub fn node(&self, path: &str) -> String {
        let tree = self.tree.read();
        let node = tree.get(path);
        node.map_or_else(
            || format!("{path} is not there"),
            |n| format!("{path} {}, {}", show::data(n.data()), show::stat(&n.stat())),
        )
    }
}

fn bounds(args: &mut Args<'_>) -> Bounds {
    let mut bounds = Bounds::default();
    let all = [
        ("submit_burst", &mut bounds.submit_burst),
        ("append_burst", &mut bounds.append_burst),
        ("apply_burst", &mut bounds.apply_burst),
        ("stream_high_water", &mut bounds.stream_high_water),
    ];
    for (name, bound) in all {
        if let Some(n) = args.number(name) {
            *bound = n as usize;
        }
    }
    bounds
}

pub fn shard_options(id: usize) -> ShardOptions {
    ShardOptions {
        id: ShardId(id as u32),
        max_frame: 1 << 20,
        session_timeout_ms: (2 * TICK_MS, 20 * TICK_MS),
        handshake_timeout_ms: 10_000,
        outstanding_limit: 1000,
        touch_interval_ms: touch_interval_ms(TICK_MS),
        bounds: Default::default(),
        skip_acl: false,
        words: Vec::new(),
        enforced_schemes: Vec::new(),
        auth: Arc::default(),
        throttles: Default::default(),
    }
}
