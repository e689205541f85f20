//! One server process on [`oracle::memory`](crate::oracle::memory): the shipped turns of shards and peer core, and the
//! state machines of log and snapshots; each of their steps is a call. As in the real loop, a core sleeps after a turn
//! without work until it is woken.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use crate::jute::Reader;
use crate::oracle::memory::{Mail, MemoryLog, MemorySockets, MemoryTree};
use crate::oracle::test_disk::TestDisk;
use crate::peer::disk::{DiskDone, DiskJob, DiskJobs};
use crate::peer::feed::{FeedAnswer, FeedWant};
use crate::peer::net::{NetEvent, NetWant, QuorumEvent};
use crate::peer::snapshot_requests::SnapshotRequests;
use crate::peer::turn::{Bounds, PeerTurn, TreeAccess};
use crate::peer::{self, Append, Peer, SnapshotRefused};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::ToPeer;
use crate::shard::turn::ShardTurn;
use crate::shard::{self, Shard};
use crate::tree::Tree;
use crate::txn::TxnHeader;
use crate::txnlog::feed::Feeder;
use crate::txnlog::log::{Log, LogSink};
use crate::txnlog::snapshotter::{SnapshotEvent, SnapshotPart, Snapshotter};
use crate::txnlog::writer::LogWriter;
use crate::types::{ConnId, Now, Op, ShardId, Zxid};
use crate::watch::{Interest, WatchTable};

/// Why something was proposed.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// A write of a client.
    Client(Box<WriteRequest>),
    /// A handshake.
    Handshake,
    /// The server itself: a session expired, or a container or TTL znode is due.
    Server,
}

impl Cause {
    /// The cause of proposals that a message may lead to.
    fn of(message: &peer::Input) -> Option<Cause> {
        match message {
            peer::Input::FromShard(ToPeer::Write { request, .. }) => Some(Cause::Client(Box::new(request.clone()))),
            peer::Input::FromShard(ToPeer::NewSession { .. }) => Some(Cause::Handshake),
            _ => None,
        }
    }

    /// Whether this cause can lead to a proposal with this header.
    fn explains(&self, header: &TxnHeader) -> bool {
        match self {
            Cause::Client(w) => (w.session, w.cxid) == (header.session, header.cxid),
            Cause::Handshake => header.op == Op::CREATE_SESSION,
            Cause::Server => true,
        }
    }
}

/// A proposal as the peer core passed it to the log.
#[derive(Debug)]
pub(super) struct Proposed {
    /// Header, transaction and digest.
    pub(super) append: Append,
    /// Its cause.
    pub(super) cause: Cause,
}

/// An answer to an administrator who asked for a snapshot.
#[derive(Debug)]
pub(super) struct SnapshotTold {
    /// The last transaction that was applied when the administrator asked.
    pub(super) applied: Zxid,
    /// The answer.
    pub(super) result: Result<Zxid, SnapshotRefused>,
    /// The history was not cut or replaced since then.
    pub(super) is_same: bool,
    /// How many waited for a snapshot before the turn that answered.
    pub(super) waiting: usize,
}

/// What a turn of a shard did to its connections.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Bytes for clients, in order.
    pub(super) sent: Vec<(ConnId, Vec<u8>)>,
    /// Connections that it closed after that.
    pub(super) closed: Vec<ConnId>,
}

/// A shard's core.
struct Core {
    turn: ShardTurn,
    sockets: MemorySockets,
}

/// The log on the simulated disk.
pub(super) struct Sink {
    pub(super) writer: LogWriter<TestDisk>,
    /// It reports syncs that it did not do: see `Options::lie_about_syncs`.
    pub(super) lies: bool,
}

impl LogSink for Sink {
    fn last(&self) -> Zxid {
        self.writer.last()
    }

    fn keeps(&self) -> bool {
        self.writer.keeps()
    }

    fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<()> {
        self.writer.append(zxid, payload)
    }

    fn sync(&mut self) -> io::Result<Zxid> {
        if self.lies { Ok(self.writer.last()) } else { self.writer.sync() }
    }

    fn expect_write(&mut self) {
        self.writer.expect_write();
    }

    fn prepare(&mut self) {
        self.writer.prepare();
    }

    fn roll(&mut self) -> io::Result<()> {
        self.writer.roll()
    }

    fn is_marked(&self) -> bool {
        self.writer.is_marked()
    }

    fn mark(&mut self) -> io::Result<()> {
        self.writer.mark()
    }

    fn name(&self) -> String {
        LogSink::name(&self.writer)
    }
}

/// The parts from which a new process is made.
pub(super) struct Parts {
    /// The recovered tree.
    pub(super) tree: Tree,
    /// A new peer for `tree`.
    pub(super) peer: Peer,
    /// How much the peer core handles at a time.
    pub(super) bounds: Bounds,
    /// One for each shard.
    pub(super) shards: Vec<Shard>,
    /// The interest map that the shards' watch tables share.
    pub(super) interest: Arc<Interest>,
    /// The log, which continues after the tree's last zxid.
    pub(super) log: Log<Sink>,
    /// The writer of snapshots.
    pub(super) snapshotter: Snapshotter<TestDisk>,
    /// Does what a member of an ensemble wants of its disk besides.
    pub(super) jobs: Option<DiskJobs<TestDisk>>,
    /// Reads its disk for the learners of a member that leads.
    pub(super) feeder: Option<Feeder<TestDisk>>,
    /// Seed for the random choices of how much of a mailbox has arrived.
    pub(super) seed: u64,
}

/// The process.
pub(super) struct Process {
    tree: MemoryTree,
    mail: Mail,
    peer: PeerTurn,
    cores: Vec<Core>,
    log: MemoryLog<Sink>,
    snapshotter: Snapshotter<TestDisk>,
    /// Events of the log thread and the snapshot thread on their way to the peer core.
    under_way: VecDeque<peer::Input>,
    feeder: Option<Feeder<TestDisk>>,
    /// Answers of the feeder, on their way to the peer core.
    fed: VecDeque<FeedAnswer>,
    /// News of connections to other members, on their way to the peer core.
    heard: VecDeque<NetEvent>,
    /// The zxid of a leader's snapshot that is being received.
    receiving: Zxid,
    /// Since the world last asked, the disk was told to end the history here.
    pub(super) cut: Option<Zxid>,
    /// Since the world last asked, the disk has replaced the history by one that ends here.
    pub(super) replaced: Option<Zxid>,
    /// For each message that has reached the peer core and was not handled yet: the cause of proposals it may lead to.
    causes: VecDeque<Option<Cause>>,
    /// Requests for a snapshot on their way: what was applied when each was made, and which history that was.
    asking: VecDeque<(Zxid, u64)>,
    /// Requests that have reached the peer core, with the same.
    snapshots: SnapshotRequests<(Zxid, u64)>,
    /// How often the tree was replaced, because the history was cut or another one came.
    replacements: u64,
    /// A leader said TRUNC to where the history cannot be cut, so it is to be replaced.
    pub(super) is_uncut: bool,
    /// The same, since the world last asked.
    pub(super) stays: bool,
    /// The answers since the world last asked.
    pub(super) snapshots_told: Vec<SnapshotTold>,
    random: fastrand::Rng,
    /// The last durable zxid of each sync since the world last asked.
    pub(super) synced: Vec<Zxid>,
}

/// What has arrived in the peer core's mailboxes when its turn begins.
pub(super) enum Reached {
    /// Everything.
    All,
    /// A random part of each mailbox.
    Some,
}

impl Process {
    /// Creates the process; call [`Process::start`] next.
    pub(super) fn new(parts: Parts) -> Process {
        let last = parts.tree.last_zxid();
        let shards = parts.shards.len();
        let mut mail = Mail::new(shards);
        mail.peer_is_rung = true;
        mail.shards.iter_mut().for_each(|shard| shard.is_rung = true);
        let core = |shard| Core { turn: ShardTurn::new(shard), sockets: MemorySockets::default() };
        let log = match parts.jobs {
            Some(mut jobs) => {
                MemoryLog::with_jobs(parts.log, move |request, sink: &mut Sink| jobs.perform(request, &mut sink.writer))
            }
            None => MemoryLog::new(parts.log),
        };
        Process {
            tree: MemoryTree::new(parts.tree, shards, parts.interest),
            mail,
            peer: PeerTurn::new(parts.peer, last, parts.bounds),
            cores: parts.shards.into_iter().map(core).collect(),
            log,
            snapshotter: parts.snapshotter,
            under_way: VecDeque::new(),
            feeder: parts.feeder,
            fed: VecDeque::new(),
            heard: VecDeque::new(),
            receiving: Zxid::ZERO,
            cut: None,
            replaced: None,
            causes: VecDeque::new(),
            asking: VecDeque::new(),
            snapshots: SnapshotRequests::default(),
            replacements: 0,
            is_uncut: false,
            stays: false,
            snapshots_told: Vec::new(),
            random: fastrand::Rng::with_seed(!parts.seed),
            synced: Vec::new(),
        }
    }

    /// The applied state.
    pub(super) fn tree(&self) -> impl Deref<Target = Tree> + '_ {
        self.tree.read()
    }

    /// Number of shards.
    pub(super) fn shards(&self) -> usize {
        self.cores.len()
    }

    /// A shard's end of its connections.
    pub(super) fn sockets(&mut self, shard: usize) -> &mut MemorySockets {
        &mut self.cores[shard].sockets
    }

    /// Starts the peer core.
    pub(super) fn start(&mut self, now: Now) -> Vec<Proposed> {
        self.peer.start(now, &self.tree, &mut self.mail);
        self.proposed(0)
    }

    /// One turn of a shard with input from its sockets, if its core has a reason for one.
    pub(super) fn shard_turn(&mut self, number: usize, now: Now) -> Turn {
        let due = self.is_due(number, now);
        let Process { cores, tree, mail, .. } = self;
        let Core { turn, sockets } = &mut cores[number];
        let mut done = Turn::default();
        if !mail.shards[number].is_rung && !due && sockets.is_quiet() {
            return done;
        }
        let busy = turn.turn(now, tree.read(), sockets, &mut mail.of_shard(ShardId(number as u32), tree));
        mail.shards[number].is_rung = busy;
        assert!(mail.shards[number].words.is_empty(), "nobody sends four-letter words");
        let sent = sockets.conns().iter_mut().map(|conn| (conn.id, std::mem::take(&mut conn.out)));
        done.sent.extend(sent.filter(|(_, bytes)| !bytes.is_empty()));
        for (conn, _) in sockets.take_ended() {
            if !conn.out.is_empty() {
                done.sent.push((conn.id, conn.out));
            }
            done.closed.push(conn.id);
        }
        done
    }

    /// One turn of the peer core, if it has a reason for one; returns what it proposed.
    pub(super) fn peer_turn(&mut self, now: Now, reached: Reached) -> Vec<Proposed> {
        if !self.mail.peer_is_rung && !self.peer_is_due(now) {
            return Vec::new();
        }
        self.mail.peer_is_rung = false;
        self.reach(reached);
        let before = self.mail.inbox.len();
        let (waiting, parts) = (self.snapshots.len(), self.mail.snapshot.len());
        let busy = self.peer.turn(now, &self.tree, &mut self.mail);
        // A tree that was replaced goes to the writer of snapshots.
        let forgotten = self.mail.snapshot.iter().skip(parts).filter(|part| matches!(part, SnapshotPart::Forget(_)));
        self.replacements += forgotten.count() as u64;
        self.mail.peer_is_rung |= busy || self.unheard();
        for answer in self.mail.snapshot_answers.drain(..) {
            let ((applied, history), result) = self.snapshots.answer(answer);
            let is_same = history == self.replacements;
            self.snapshots_told.push(SnapshotTold { applied, result, is_same, waiting });
        }
        self.proposed(before - self.mail.inbox.len())
    }

    /// Moves messages to the peer core; those of one mailbox keep their order.
    fn reach(&mut self, reached: Reached) {
        let Process { mail, under_way, fed, heard, causes, asking, snapshots, random, .. } = self;
        let mut some = |len: usize| match reached {
            Reached::Some if len > 0 => random.usize(..=len),
            _ => len,
        };
        let (mut told, mut news) = (some(under_way.len()), some(heard.len()));
        let (read, asked) = (some(fed.len()), some(asking.len()));
        let mut left: Vec<usize> = mail.shards.iter().map(|shard| some(shard.submitted.len())).collect();
        while told + news > 0 {
            if random.usize(..told + news) < told {
                told -= 1;
                mail.told.extend(under_way.pop_front());
            } else {
                news -= 1;
                mail.told.extend(heard.pop_front().map(peer::Input::Net));
            }
        }
        mail.told.extend(fed.drain(..read).map(peer::Input::Fed));
        for asker in asking.drain(..asked) {
            causes.push_back(None);
            mail.inbox.push_back(snapshots.ask(asker));
        }
        let mut order = fastrand::Rng::with_seed(random.u64(..));
        loop {
            let waiting: Vec<usize> = (0..left.len()).filter(|shard| left[*shard] > 0).collect();
            let Some(shard) = order.choice(&waiting) else { return };
            left[*shard] -= 1;
            let message = mail.shards[*shard].submitted.pop_front().expect("no more than it has were counted");
            causes.push_back(Cause::of(&message));
            mail.inbox.push_back(message);
        }
    }

    /// Takes what was proposed when `heard` messages were handled; it is now on its way to the log. Proposals come in
    /// the order in which their causes were handled. If a write was handled but not proposed, it came on a connection
    /// that its session had left. A proposal without such a cause is the server's own.
    fn proposed(&mut self, heard: usize) -> Vec<Proposed> {
        let mut heard: VecDeque<Cause> = self.causes.drain(..heard).flatten().collect();
        let mut proposed = Vec::new();
        for burst in self.mail.appended.drain(..) {
            self.log.send(&burst);
            for append in burst.appends {
                let header = TxnHeader::read(&mut Reader::new(&append.payload)).expect("a proposal has a header");
                let cause = match heard.iter().position(|cause| cause.explains(&header)) {
                    Some(at) => heard.drain(..=at).next_back(),
                    None => None,
                };
                proposed.push(Proposed { append, cause: cause.unwrap_or(Cause::Server) });
            }
        }
        for request in self.mail.disk.drain(..) {
            match request.job {
                DiskJob::Truncate(to) => self.cut = Some(to),
                DiskJob::Receive(zxid) => self.receiving = zxid,
                DiskJob::Install => self.cut = Some(self.receiving),
                _ => {}
            }
            self.log.ask(request);
        }
        proposed
    }

    /// Takes what the peer core wants of connections to other members.
    pub(super) fn net_wants(&mut self) -> Vec<NetWant> {
        self.mail.net.drain(..).collect()
    }

    /// There is news of a connection to another member.
    pub(super) fn hear_net(&mut self, event: NetEvent) {
        self.heard.push_back(event);
        self.mail.peer_is_rung = true;
    }

    /// No news of this connection comes any more: the peer has closed it.
    pub(super) fn forget(&mut self, closed: ConnId) {
        let is_of = |event: &NetEvent| match event {
            NetEvent::Quorum {
                event:
                    QuorumEvent::Accepted { conn, .. }
                    | QuorumEvent::Dialed { conn }
                    | QuorumEvent::Bytes { conn, .. }
                    | QuorumEvent::Left { conn, .. }
                    | QuorumEvent::Closed { conn },
                ..
            } => *conn == closed,
            NetEvent::Quorum { event: QuorumEvent::DialFailed, .. } | NetEvent::Election(_) => false,
        };
        self.heard.retain(|event| !is_of(event));
        self.mail.told.retain(|input| !matches!(input, peer::Input::Net(event) if is_of(event)));
    }

    /// The peer.
    pub(super) fn peer(&self) -> &Peer {
        self.peer.peer()
    }

    /// Whether clients are let in everywhere.
    pub(super) fn is_serving(&self) -> bool {
        self.cores.iter().all(|core| !core.turn.shard().is_suspended())
    }

    /// Whether a message waits in the peer core's mailboxes.
    pub(super) fn unheard(&self) -> bool {
        !self.under_way.is_empty()
            || !self.heard.is_empty()
            || !self.fed.is_empty()
            || !self.asking.is_empty()
            || self.mail.is_for_peer()
    }

    /// Whether a timer of the peer core is due.
    pub(super) fn peer_is_due(&self, now: Now) -> bool {
        self.peer.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// An administrator asks for a snapshot of everything that is applied.
    pub(super) fn ask_for_snapshot(&mut self) {
        let applied = self.tree().last_zxid();
        self.asking.push_back((applied, self.replacements));
        self.mail.peer_is_rung = true;
    }

    /// A thread sends an event to the peer core.
    fn tell(&mut self, event: peer::Input) {
        self.under_way.push_back(event);
        self.mail.peer_is_rung = true;
    }

    /// One step of the log thread; a sync takes `sync_ms`.
    ///
    /// # Errors
    /// I/O errors of the disk, which end the process.
    pub(super) fn log_step(&mut self, now: Now, sync_ms: i64) -> io::Result<()> {
        let before = self.writer().durable();
        let mut told = Vec::new();
        self.log.step(now, sync_ms, &mut told)?;
        told.into_iter().filter_map(peer::Input::from_log).for_each(|event| self.tell(event));
        for answer in self.log.take_answers() {
            if let DiskDone::Truncated(loaded) | DiskDone::Installed(loaded) = &answer.done {
                self.replaced = Some(loaded.tree.last_zxid());
            }
            self.stays |= matches!(answer.done, DiskDone::Uncut { .. } | DiskDone::Damaged(_));
            self.is_uncut = match answer.done {
                DiskDone::Uncut { .. } => true,
                DiskDone::Installed(_) => false,
                _ => self.is_uncut,
            };
            self.tell(peer::Input::Disk(answer));
        }
        let durable = self.writer().durable();
        if durable != before {
            self.synced.push(durable);
        }
        Ok(())
    }

    /// The end of what is durable in the log.
    pub(super) fn durable(&self) -> Zxid {
        self.writer().durable()
    }

    fn writer(&self) -> &LogWriter<TestDisk> {
        &self.log.log().sink().writer
    }

    /// The last zxid of the log, if an end mark follows it.
    pub(super) fn marked(&self) -> Option<Zxid> {
        self.writer().ends_with_mark().then(|| self.writer().durable())
    }

    /// One step of the snapshot thread; returns the zxid of a snapshot that is finished.
    ///
    /// # Errors
    /// I/O errors of the disk, which end the process.
    pub(super) fn snapshot_step(&mut self, now: Now) -> io::Result<Option<Zxid>> {
        let Some(part) = self.mail.snapshot.pop_front() else { return Ok(None) };
        let Some(event) = self.snapshotter.take(now, part)? else { return Ok(None) };
        self.tell(event.into());
        match event {
            SnapshotEvent::Done { zxid, .. } => Ok(Some(zxid)),
            _ => Ok(None),
        }
    }

    /// One step of the reader of the disk.
    ///
    /// # Errors
    /// What it cannot read; the learner needs another plan then.
    pub(super) fn feed_step(&mut self) -> Result<(), String> {
        let Some(FeedWant { conn, ask }) = self.mail.feed.pop_front() else { return Ok(()) };
        let feeder = self.feeder.as_mut().expect("only a leader of others asks for that");
        let Some(ask) = ask else {
            feeder.forget(conn);
            return Ok(());
        };
        let result = feeder.answer(conn, ask).map_err(|e| e.to_string());
        let outcome = result.as_ref().map(drop).map_err(Clone::clone);
        self.fed.push_back(FeedAnswer { conn, result });
        self.mail.peer_is_rung = true;
        outcome
    }

    /// Whether nothing is left to do except to wait for clients and timers.
    pub(super) fn is_idle(&self) -> bool {
        self.peer.peer().is_idle()
            && !self.unheard()
            && self.log.is_idle()
            && self.mail.snapshot.is_empty()
            && self.mail.feed.is_empty()
            && self.snapshots.is_empty()
            && self.mail.shards.iter().all(|shard| shard.letters.is_empty())
            && self.cores.iter().all(|core| !core.turn.shard().has_ready())
    }

    /// When the next timer is due.
    pub(super) fn deadline(&self) -> Option<i64> {
        let shards = self.cores.iter().filter_map(|core| core.turn.deadline());
        shards.chain(self.peer.deadline()).chain(self.log.deadline()).min()
    }

    /// Whether a timer of a shard is due.
    pub(super) fn is_due(&self, number: usize, now: Now) -> bool {
        self.cores[number].turn.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// Checks the invariants of all state machines.
    pub(super) fn check(&self) {
        self.peer.check(&self.tree());
        self.log.log().check();
        self.cores.iter().for_each(|core| core.turn.check());
    }
}

/// Creates the shards and their watch tables.
pub(super) fn shards(options: impl Iterator<Item = shard::ShardOptions>, interest: &Arc<Interest>) -> Vec<Shard> {
    options
        .map(|o| {
            let table = WatchTable::new(o.id, interest.clone());
            Shard::new(o, table)
        })
        .collect()
}
