//! One server process: the shipped turns of shards and peer core, and the log and snapshot machines, every step of theirs a
//! call. A core sleeps here as it does there: after a turn without
//! work, until somebody rings.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::net::Net;
use crate::jute::Reader;
use crate::oracle::test_disk::TestDisk;
use crate::peer::apply::Cursors;
use crate::peer::turn::{Bounds, PeerTurn, Streams, TreeAccess};
use crate::peer::{self, Append, Peer, SnapshotAnswer, SnapshotPart};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::turn::{Letter, ShardTurn, SocketEvent, Sockets};
use crate::shard::{self, CloseHow, Shard};
use crate::tree::Tree;
use crate::txn::TxnHeader;
use crate::txnlog::log::{Batch, Log, LogEvent, LogSink};
use crate::txnlog::snapshotter::{SnapshotEvent, Snapshotter};
use crate::txnlog::writer::LogWriter;
use crate::types::{ConnId, Now, ShardId, Zxid, op};
use crate::watch::{Interest, WatchTable};

/// Why something was proposed.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// A client's write.
    Client(Box<WriteRequest>),
    /// A handshake.
    Handshake,
    /// Expiry, or a sweep.
    Server,
}

impl Cause {
    /// Whether a proposal with this header may come of it.
    fn explains(&self, header: &TxnHeader) -> bool {
        match self {
            Cause::Client(w) => (w.session, w.cxid) == (header.session, header.cxid),
            Cause::Handshake => header.op == op::CREATE_SESSION,
            Cause::Server => true,
        }
    }
}

/// A proposal as it left the peer core.
#[derive(Debug)]
pub(super) struct Proposed {
    /// Header, transaction, digest.
    pub(super) append: Append,
    /// Why.
    pub(super) cause: Cause,
}

/// What a shard's turn did to its connections.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Bytes for clients, in order.
    pub(super) sent: Vec<(ConnId, Vec<u8>)>,
    /// Connections it ended after that.
    pub(super) closed: Vec<ConnId>,
}

/// What reaches a shard from its sockets.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A client connected.
    Accepted(ConnId),
    /// Its bytes.
    Bytes(ConnId, Vec<u8>),
    /// It sends no more.
    Eof(ConnId),
    /// It went away.
    Gone(ConnId),
    /// It has taken all it was sent.
    Writable(ConnId),
}

/// A shard's core.
struct Core {
    turn: ShardTurn,
    stream: VecDeque<ToShard>,
    /// Rung since it fell asleep, or not asleep.
    is_awake: bool,
    /// On their way to the peer core.
    to_peer: VecDeque<ToPeer>,
}

/// The tree and what the cores say about it: `runtime::tree_cell` for one thread.
struct SharedTree {
    tree: RefCell<Tree>,
    cursors: Vec<Cell<Zxid>>,
    peer_waits: Cell<bool>,
    interest: Arc<Interest>,
}

impl Cursors for SharedTree {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.cursors[shard.index()].get()
    }
}

impl TreeAccess for SharedTree {
    fn read(&self) -> impl Deref<Target = Tree> {
        self.tree.borrow()
    }

    fn write(&self) -> impl DerefMut<Target = Tree> {
        self.tree.borrow_mut()
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn peer_waits(&self, waits: bool) -> bool {
        !self.peer_waits.replace(waits) && waits
    }
}

/// The log over the simulated disk.
pub(super) struct Sink {
    pub(super) writer: LogWriter<TestDisk>,
    /// It says that it synced and did not: see `Options::lie_about_syncs`.
    pub(super) lies: bool,
}

impl LogSink for Sink {
    fn last(&self) -> Zxid {
        self.writer.last()
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

/// The log thread between two calls.
struct LogThread {
    log: Log<Sink>,
    queue: VecDeque<Batch>,
    /// Since when the disk is busy with what is due, and until when, in milliseconds of the monotonic clock.
    busy: Option<(Now, i64)>,
}

/// What recovery and the settings give a new process.
pub(super) struct Parts {
    /// The recovered tree.
    pub(super) tree: Tree,
    /// Fresh, over `tree`.
    pub(super) peer: Peer,
    /// How much the peer core does at a time.
    pub(super) bounds: Bounds,
    /// One per shard.
    pub(super) shards: Vec<Shard>,
    /// What the shards' tables share.
    pub(super) interest: Arc<Interest>,
    /// Behind the tree's last zxid.
    pub(super) log: Log<Sink>,
    /// Where snapshots go.
    pub(super) snapshotter: Snapshotter<TestDisk>,
    /// For the random bits of mailboxes.
    pub(super) seed: u64,
}

/// The process.
pub(super) struct Process {
    tree: SharedTree,
    peer: PeerTurn,
    /// The peer core was rung since it fell asleep, or is not asleep.
    peer_awake: bool,
    cores: Vec<Core>,
    log: LogThread,
    snapshotter: Snapshotter<TestDisk>,
    /// On their way to the snapshot thread.
    parts: VecDeque<SnapshotPart>,
    /// What the log thread and the snapshot thread told and nobody heard yet.
    events: VecDeque<peer::Input>,
    random: fastrand::Rng,
    /// Last durable zxid of each sync since the world looked.
    pub(super) synced: Vec<Zxid>,
}

/// What has reached the peer core's mailboxes when its turn begins.
pub(super) enum Reached {
    /// Everything.
    All,
    /// Of each mailbox as much as chance has it.
    Some,
}

impl Process {
    /// Puts it together; [`Process::start`] follows.
    pub(super) fn new(parts: Parts) -> Process {
        let last = parts.tree.last_zxid();
        let core = |shard| Core {
            turn: ShardTurn::new(shard),
            stream: VecDeque::new(),
            is_awake: true,
            to_peer: VecDeque::new(),
        };
        Process {
            tree: SharedTree {
                tree: RefCell::new(parts.tree),
                cursors: parts.shards.iter().map(|_| Cell::new(last)).collect(),
                peer_waits: Cell::new(false),
                interest: parts.interest,
            },
            peer: PeerTurn::new(parts.peer, last, parts.bounds),
            peer_awake: true,
            cores: parts.shards.into_iter().map(core).collect(),
            log: LogThread { log: parts.log, queue: VecDeque::new(), busy: None },
            snapshotter: parts.snapshotter,
            parts: VecDeque::new(),
            events: VecDeque::new(),
            random: fastrand::Rng::with_seed(!parts.seed),
            synced: Vec::new(),
        }
    }

    /// The applied state.
    pub(super) fn tree(&self) -> impl Deref<Target = Tree> + '_ {
        self.tree.read()
    }

    /// Shards.
    pub(super) fn shards(&self) -> usize {
        self.cores.len()
    }

    /// The first step.
    pub(super) fn start(&mut self, now: Now) -> Vec<Proposed> {
        let (peer, tree, mut links) = self.peer_links(Reached::All);
        peer.start(now, tree, &mut links);
        links.proposed
    }

    /// A shard's turn with what its sockets bring, if its core has any reason for one.
    pub(super) fn shard_turn(&mut self, number: usize, now: Now, arrivals: Vec<Arrival>, net: &mut Net) -> Turn {
        let due = self.is_due(number, now);
        let Process { cores, tree, peer_awake, .. } = self;
        let Core { turn, stream, is_awake, to_peer } = &mut cores[number];
        if !*is_awake && !due && arrivals.is_empty() {
            return Turn::default();
        }
        let mut sockets = LinkSockets { net, arrivals, done: Turn::default(), sink: Vec::new() };
        let mut links = ShardLinks { number, stream, tree, to_peer, peer_awake };
        *is_awake = turn.turn(now, tree.read(), &mut sockets, &mut links);
        sockets.done
    }

    /// A turn of the peer core, if it has any reason for one: what it proposed.
    pub(super) fn peer_turn(&mut self, now: Now, reached: Reached) -> Vec<Proposed> {
        if !self.peer_awake && !self.peer_is_due(now) {
            return Vec::new();
        }
        let (peer, tree, mut links) = self.peer_links(reached);
        let busy = peer.turn(now, tree, &mut links);
        let proposed = links.proposed;
        self.peer_awake |= busy || self.unheard();
        proposed
    }

    fn peer_links(&mut self, reached: Reached) -> (&mut PeerTurn, &SharedTree, PeerLinks<'_>) {
        let Process { peer, tree, cores, events, log, parts, random, peer_awake, .. } = self;
        *peer_awake = false;
        let mut some = |len: usize| match reached {
            Reached::All => len,
            Reached::Some => random.usize(..=len),
        };
        let events_left = some(events.len());
        let messages_left = cores.iter().map(|core| some(core.to_peer.len())).collect();
        let seed = random.u64(..);
        let links = PeerLinks {
            rung: vec![false; cores.len()],
            cores,
            events,
            events_left,
            messages_left,
            order: fastrand::Rng::with_seed(seed),
            heard: VecDeque::new(),
            log: &mut log.queue,
            snapshots: parts,
            proposed: Vec::new(),
        };
        (peer, tree, links)
    }

    /// Whether something waits in the peer core's mailboxes.
    pub(super) fn unheard(&self) -> bool {
        !self.events.is_empty() || self.cores.iter().any(|core| !core.to_peer.is_empty())
    }

    /// Whether the peer core's clock is due.
    pub(super) fn peer_is_due(&self, now: Now) -> bool {
        self.peer.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// A thread tells the peer core something.
    fn tell(&mut self, event: peer::Input) {
        self.events.push_back(event);
        self.peer_awake = true;
    }

    /// One step of the log thread; a sync takes `sync_ms`.
    ///
    /// # Errors
    /// The disk's: fatal.
    pub(super) fn log_step(&mut self, now: Now, sync_ms: i64) -> io::Result<()> {
        let before = self.log.log.sink().writer.durable();
        let mut told = Vec::new();
        self.log.step(now, sync_ms, &mut told)?;
        told.into_iter().filter_map(peer::Input::from_log).for_each(|event| self.tell(event));
        let durable = self.log.log.sink().writer.durable();
        if durable != before {
            self.synced.push(durable);
        }
        Ok(())
    }

    /// The log's end, once a mark tells of it.
    pub(super) fn marked(&self) -> Option<Zxid> {
        let writer = &self.log.log.sink().writer;
        writer.ends_with_mark().then(|| writer.durable())
    }

    /// One step of the snapshot thread: whether a snapshot is finished.
    ///
    /// # Errors
    /// The disk's: fatal.
    pub(super) fn snapshot_step(&mut self, now: Now) -> io::Result<bool> {
        let Some(part) = self.parts.pop_front() else { return Ok(false) };
        let Some(event) = self.snapshotter.take(now, part)? else { return Ok(false) };
        self.tell(event.into());
        Ok(matches!(event, SnapshotEvent::Done { .. }))
    }

    /// Whether nothing is left to do but wait for clients and clocks.
    pub(super) fn is_idle(&self) -> bool {
        self.peer.peer().is_idle()
            && !self.unheard()
            && self.log.queue.is_empty()
            && self.log.log.is_idle()
            && self.parts.is_empty()
            && self.cores.iter().all(|core| core.stream.is_empty() && !core.turn.shard().has_ready())
    }

    /// The earliest moment a clock is wanted.
    pub(super) fn deadline(&self) -> Option<i64> {
        let shards = self.cores.iter().filter_map(|core| core.turn.deadline());
        shards.chain(self.peer.deadline()).chain(self.log.busy.map(|(_, until)| until)).min()
    }

    /// Whether a shard's clock is due.
    pub(super) fn is_due(&self, number: usize, now: Now) -> bool {
        self.cores[number].turn.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// The machines' invariants.
    pub(super) fn check(&self) {
        self.peer.check(&self.tree());
        self.log.log.check();
        self.cores.iter().for_each(|core| core.turn.check());
    }
}

/// The way from a shard to the other cores.
struct ShardLinks<'a> {
    number: usize,
    stream: &'a mut VecDeque<ToShard>,
    tree: &'a SharedTree,
    to_peer: &'a mut VecDeque<ToPeer>,
    peer_awake: &'a mut bool,
}

impl shard::turn::Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        self.stream.pop_front().map(Letter::Stream)
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.tree.cursors[self.number].set(cursor);
        *self.peer_awake |= self.tree.peer_waits.take();
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        self.to_peer.extend(messages.drain(..));
        *self.peer_awake = true;
    }

    fn word(&mut self, conn: ConnId, word: &'static str, _: i64) {
        panic!("connection {conn:?} sent the word {word}");
    }
}

/// A core's end of its connections.
struct LinkSockets<'a> {
    net: &'a mut Net,
    arrivals: Vec<Arrival>,
    done: Turn,
    /// Where bytes for connections go that are gone.
    sink: Vec<u8>,
}

impl Sockets for LinkSockets<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) -> usize {
        for arrival in &self.arrivals {
            f(match arrival {
                Arrival::Accepted(id) => SocketEvent::Accepted { conn: *id, peer: ([127, 0, 0, 1], 40_000).into() },
                Arrival::Bytes(id, bytes) => SocketEvent::Data { conn: *id, bytes },
                Arrival::Eof(id) => SocketEvent::Eof { conn: *id },
                Arrival::Gone(id) => SocketEvent::Closed { conn: *id },
                Arrival::Writable(id) => SocketEvent::Writable { conn: *id },
            });
        }
        self.arrivals.len()
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        if self.net.get(conn).is_none_or(|link| !link.server_open) {
            self.sink.clear();
            return &mut self.sink;
        }
        let sent = &mut self.done.sent;
        let at = sent.iter().position(|(to, _)| *to == conn).unwrap_or_else(|| {
            sent.push((conn, Vec::new()));
            sent.len() - 1
        });
        &mut sent[at].1
    }

    fn queued(&self, conn: ConnId) -> usize {
        let appended = self.done.sent.iter().find(|(to, _)| *to == conn).map_or(0, |(_, bytes)| bytes.len());
        appended + self.net.unread(conn)
    }

    fn want_writable(&mut self, conn: ConnId) {
        if let Some(link) = self.net.get(conn) {
            link.wants_writable = true;
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(link) = self.net.get(conn) {
            link.paused = paused;
        }
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        if how == CloseHow::Abort {
            self.done.sent.retain(|(to, _)| *to != conn);
        }
        self.done.closed.push(conn);
    }

    /// The world sends what was appended when the turn is over.
    fn flush(&mut self) {}
}

/// The way from the peer core to everybody else.
struct PeerLinks<'a> {
    cores: &'a mut Vec<Core>,
    events: &'a mut VecDeque<peer::Input>,
    /// How much of each mailbox has come: what is behind it is still under way.
    events_left: usize,
    messages_left: Vec<usize>,
    order: fastrand::Rng,
    /// Shards that were sent something and not woken yet.
    rung: Vec<bool>,
    /// What was heard and may be the cause of a proposal, in order.
    heard: VecDeque<Cause>,
    log: &'a mut VecDeque<Batch>,
    snapshots: &'a mut VecDeque<SnapshotPart>,
    proposed: Vec<Proposed>,
}

impl peer::turn::Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<peer::Input> {
        if self.events_left > 0 {
            self.events_left -= 1;
            return self.events.pop_front();
        }
        let waiting: Vec<usize> = (0..self.cores.len()).filter(|shard| self.messages_left[*shard] > 0).collect();
        let shard = *self.order.choice(&waiting)?;
        self.messages_left[shard] -= 1;
        let message = self.cores[shard].to_peer.pop_front()?;
        match &message {
            ToPeer::Write { request, .. } => self.heard.push_back(Cause::Client(Box::new(request.clone()))),
            ToPeer::NewSession { .. } => self.heard.push_back(Cause::Handshake),
            ToPeer::Resume { .. } | ToPeer::Touch { .. } => {}
        }
        Some(peer::Input::FromShard(message))
    }

    /// Proposals come in the order in which their causes were heard. A write that was heard and not proposed came on a connection
    /// that its session had left; what nothing heard explains is the server's own.
    fn append(&mut self, appends: &mut Vec<Append>) {
        let mut batch = Batch::default();
        for append in appends.drain(..) {
            let header = TxnHeader::read(&mut Reader::new(&append.payload)).expect("a proposal has a header");
            let cause = match self.heard.iter().position(|cause| cause.explains(&header)) {
                Some(at) => self.heard.drain(..=at).next_back(),
                None => None,
            };
            batch.push(append.zxid, &append.payload);
            self.proposed.push(Proposed { append, cause: cause.unwrap_or(Cause::Server) });
        }
        self.log.push_back(batch);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        unreachable!("nobody asked for a snapshot: {answer:?}");
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        self.snapshots.push_back(part);
    }
}

impl Streams for PeerLinks<'_> {
    fn has_room(&self, high_water: usize) -> bool {
        self.cores.iter().all(|core| core.stream.len() < high_water)
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        self.cores[shard.index()].stream.push_back(message);
        self.rung[shard.index()] = true;
    }

    fn ring(&mut self) {
        for (core, rung) in self.cores.iter_mut().zip(&mut self.rung) {
            core.is_awake |= std::mem::take(rung);
        }
    }
}

impl LogThread {
    /// One step; what is due with the disk takes `busy_ms`.
    fn step(&mut self, now: Now, busy_ms: i64, told: &mut Vec<LogEvent>) -> io::Result<()> {
        if let Some((began, until)) = self.busy {
            if now.mono_ms < until {
                return Ok(());
            }
            self.busy = None;
            return self.perform(began, now, told);
        }
        let mut due = self.log.work(now, told).map_err(|e| e.error)?;
        if due.is_none() {
            match self.queue.pop_front() {
                Some(batch) => {
                    self.log.append(batch);
                    due = self.log.work(now, told).map_err(|e| e.error)?;
                }
                None => due = self.log.idle(now),
            }
        }
        match due {
            None => Ok(()),
            Some(_) if busy_ms > 0 => {
                self.busy = Some((now, now.mono_ms + busy_ms));
                Ok(())
            }
            Some(_) => self.perform(now, now, told),
        }
    }

    fn perform(&mut self, began: Now, ended: Now, told: &mut Vec<LogEvent>) -> io::Result<()> {
        let mut times = [began, ended].into_iter();
        self.log.perform(|| times.next().unwrap_or(ended), told).map(drop).map_err(|e| e.error)
    }
}

/// The watch tables and the shards over them.
pub(super) fn shards(options: impl Iterator<Item = shard::ShardOptions>, interest: &Arc<Interest>) -> Vec<Shard> {
    options
        .map(|o| {
            let table = WatchTable::new(o.id.index(), interest.clone());
            Shard::new(o, table)
        })
        .collect()
}
