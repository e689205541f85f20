//! One server process: the shipped machines, wired as `runtime::core`, `runtime::log_thread` and `runtime::snapshot_thread`
//! wire them, every step of theirs a call.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::limits;
use crate::oracle::test_disk::TestDisk;
use crate::peer::apply::Cursors;
use crate::peer::{self, Append, Peer, SnapshotPart};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::{self, CloseHow, Input, Shard};
use crate::tree::Tree;
use crate::txnlog::log::{Batch, Log, LogEvent, LogSink};
use crate::txnlog::snapshotter::{SnapshotEvent, Snapshotter};
use crate::txnlog::writer::LogWriter;
use crate::types::{ConnId, Now, ShardId, Zxid};
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
    /// It does not read what it is sent, or reads again.
    Full(ConnId, bool),
}

struct Seat {
    shard: Shard,
    out: shard::Outbox,
    stream: VecDeque<ToShard>,
    /// On their way to the peer core.
    to_peer: VecDeque<ToPeer>,
}

struct Cursor(Vec<Zxid>);

impl Cursors for Cursor {
    fn cursor(&self, shard: ShardId) -> Zxid {
        self.0[shard.index()]
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
    /// One per shard.
    pub(super) shards: Vec<Shard>,
    /// What the shards' tables share.
    pub(super) interest: Arc<Interest>,
    /// Behind the tree's last zxid.
    pub(super) log: Log<Sink>,
    /// Where snapshots go.
    pub(super) snapshotter: Snapshotter<TestDisk>,
}

/// The process.
pub(super) struct Process {
    tree: Tree,
    peer: Peer,
    out: peer::Outbox,
    seats: Vec<Seat>,
    cursor: Cursor,
    interest: Arc<Interest>,
    log: LogThread,
    snapshotter: Snapshotter<TestDisk>,
    /// On their way to the snapshot thread.
    parts: VecDeque<SnapshotPart>,
    /// What the log thread and the snapshot thread told and nobody heard yet.
    events: VecDeque<peer::Input>,
    /// Last durable zxid of each sync since the world looked.
    pub(super) synced: Vec<Zxid>,
}

impl Process {
    /// Puts it together; [`Process::start`] follows.
    pub(super) fn new(parts: Parts) -> Process {
        let cursor = Cursor(vec![parts.tree.last_zxid(); parts.shards.len()]);
        let seat =
            |shard| Seat { shard, out: shard::Outbox::default(), stream: VecDeque::new(), to_peer: VecDeque::new() };
        Process {
            tree: parts.tree,
            peer: parts.peer,
            out: peer::Outbox::default(),
            seats: parts.shards.into_iter().map(seat).collect(),
            cursor,
            interest: parts.interest,
            log: LogThread { log: parts.log, queue: VecDeque::new(), busy: None },
            snapshotter: parts.snapshotter,
            parts: VecDeque::new(),
            events: VecDeque::new(),
            synced: Vec::new(),
        }
    }

    /// The applied state.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Shards.
    pub(super) fn shards(&self) -> usize {
        self.seats.len()
    }

    /// The first step.
    pub(super) fn start(&mut self, now: Now) -> Vec<Proposed> {
        self.peer.start(now, &self.tree, &mut self.out);
        self.proposed(Cause::Server)
    }

    /// A shard's turn, in the order of `Core::shard_turn`: the stream, the waiting reads, the sockets, the clock.
    pub(super) fn shard_turn(&mut self, number: usize, now: Now, arrivals: Vec<Arrival>) -> Turn {
        let Process { seats, tree, cursor, .. } = self;
        let Seat { shard, out, stream, to_peer } = &mut seats[number];
        while let Some(message) = stream.pop_front() {
            shard.handle(now, Input::Stream(message), tree, out);
        }
        shard.handle(now, Input::Drained, tree, out);
        for arrival in &arrivals {
            let input = match arrival {
                Arrival::Accepted(id) => Input::Accepted { conn: *id, peer: ([127, 0, 0, 1], 40_000).into() },
                Arrival::Bytes(id, bytes) => Input::Data { conn: *id, bytes },
                Arrival::Eof(id) => Input::Eof { conn: *id },
                Arrival::Full(id, full) => {
                    let bytes = if *full { limits::OUT_HIGH_WATER + 1 } else { 0 };
                    Input::Backlog { conn: *id, bytes }
                }
                Arrival::Gone(id) => Input::Disconnected { conn: *id },
            };
            shard.handle(now, input, tree, out);
        }
        if shard.deadline().is_some_and(|at| at <= now.mono_ms) {
            shard.handle(now, Input::Tick, tree, out);
        }
        let mut turn = Turn::default();
        for conn in std::mem::take(&mut out.dirty) {
            let mut bytes = Vec::new();
            shard.take_output(conn, &mut bytes);
            turn.sent.push((conn, bytes));
        }
        for (conn, how) in std::mem::take(&mut out.close) {
            if how == CloseHow::Abort {
                turn.sent.retain(|(id, _)| *id != conn);
            }
            turn.closed.push(conn);
            shard.handle(now, Input::Disconnected { conn }, tree, out);
        }
        cursor.0[number] = tree.last_zxid();
        to_peer.extend(out.to_peer.drain(..));
        turn
    }

    /// The peer core takes one message of a shard.
    pub(super) fn submit(&mut self, number: usize, now: Now) -> Vec<Proposed> {
        let Some(message) = self.seats[number].to_peer.pop_front() else { return Vec::new() };
        let cause = match &message {
            ToPeer::Write { request, .. } => Cause::Client(Box::new(request.clone())),
            ToPeer::NewSession { .. } => Cause::Handshake,
            ToPeer::Resume { .. } | ToPeer::Touch { .. } => Cause::Server,
        };
        self.peer.handle(now, peer::Input::FromShard(message), &self.tree, &mut self.out);
        let proposed = self.proposed(cause);
        self.publish();
        proposed
    }

    /// The peer core's clock. As in `Core`, only after everything that was heard was counted.
    pub(super) fn peer_tick(&mut self, now: Now) -> Vec<Proposed> {
        assert!(self.seats.iter().all(|s| s.to_peer.is_empty()), "the clock comes after what was heard");
        if self.peer.deadline().is_none_or(|at| at > now.mono_ms) {
            return Vec::new();
        }
        self.peer.handle(now, peer::Input::Tick, &self.tree, &mut self.out);
        let proposed = self.proposed(Cause::Server);
        self.publish();
        proposed
    }

    /// Messages of shards that the peer core has not taken.
    pub(super) fn unheard(&self, number: usize) -> usize {
        self.seats[number].to_peer.len()
    }

    /// The peer core hears one thing of the log or the snapshot thread.
    pub(super) fn hear(&mut self, now: Now) {
        let Some(event) = self.events.pop_front() else { return };
        self.peer.handle(now, event, &self.tree, &mut self.out);
    }

    /// The tree's writer works for a while.
    pub(super) fn apply(&mut self) -> usize {
        if !self.peer.has_work() {
            return 0;
        }
        let count = self.peer.apply(&mut self.tree, &self.cursor, &self.interest, &mut self.out);
        self.publish();
        self.parts.extend(self.out.snapshot.drain(..));
        count
    }

    fn publish(&mut self) {
        for (shard, message) in self.out.to_shards.drain(..) {
            self.seats[shard.index()].stream.push_back(message);
        }
    }

    /// Hands proposals to the log. All of one step have the same cause.
    fn proposed(&mut self, cause: Cause) -> Vec<Proposed> {
        if self.out.append.is_empty() {
            return Vec::new();
        }
        let mut batch = Batch::default();
        let mut all = Vec::new();
        for append in self.out.append.drain(..) {
            batch.push(append.zxid, &append.payload);
            all.push(Proposed { append, cause: cause.clone() });
        }
        self.log.queue.push_back(batch);
        all
    }

    /// One step of the log thread; a sync takes `sync_ms`.
    ///
    /// # Errors
    /// The disk's: fatal.
    pub(super) fn log_step(&mut self, now: Now, sync_ms: i64) -> io::Result<()> {
        let before = self.log.log.sink().writer.durable();
        let mut told = Vec::new();
        self.log.step(now, sync_ms, &mut told)?;
        self.events.extend(told.into_iter().filter_map(peer::Input::from_log));
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
        self.events.push_back(event.into());
        Ok(matches!(event, SnapshotEvent::Done { .. }))
    }

    /// Whether nothing is left to do but wait for clients and clocks.
    pub(super) fn is_idle(&self) -> bool {
        self.peer.is_idle()
            && self.events.is_empty()
            && self.log.queue.is_empty()
            && self.log.log.is_idle()
            && self.parts.is_empty()
            && self.seats.iter().all(|s| s.stream.is_empty() && s.to_peer.is_empty() && !s.shard.has_ready())
    }

    /// The earliest moment a clock is wanted.
    pub(super) fn deadline(&self) -> Option<i64> {
        let shards = self.seats.iter().filter_map(|s| s.shard.deadline());
        shards.chain(self.peer.deadline()).chain(self.log.busy.map(|(_, until)| until)).min()
    }

    /// Whether a shard's clock is due.
    pub(super) fn is_due(&self, number: usize, now: Now) -> bool {
        self.seats[number].shard.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// The machines' invariants.
    pub(super) fn check(&self) {
        self.peer.check(&self.tree);
        self.log.log.check();
        self.seats.iter().for_each(|s| s.shard.check());
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
