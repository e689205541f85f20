//! One server process: the shipped machines, wired as `runtime::core`, `runtime::log_thread` and `runtime::snapshot_thread`
//! wire them, every step of theirs a call.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::limits;
use crate::oracle::test_disk::{TestDisk, TestWriter};
use crate::peer::apply::Cursors;
use crate::peer::{self, Append, Peer, SnapshotPart};
use crate::pipeline::WriteRequest;
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::{self, CloseHow, Input, Shard};
use crate::tree::Tree;
use crate::txn::TxnDigest;
use crate::txnlog::appender::{self, Appender};
use crate::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
use crate::txnlog::writer::LogWriter;
use crate::types::{Acl, ConnId, Now, ShardId, Zxid};
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

/// The log thread between two calls: mirrors `Runner` of `runtime::log_thread`.
struct Log {
    writer: LogWriter<TestDisk>,
    appender: Appender,
    queue: VecDeque<Job>,
    /// A slow sync ends then, on the monotonic clock.
    syncing: Option<i64>,
    random: fastrand::Rng,
    lies: bool,
}

enum Job {
    Append(Append),
    SnapshotDone,
}

/// The snapshot thread between two calls: mirrors `write_all` of `runtime::snapshot_thread`.
struct Snapshots {
    dir: TestDisk,
    options: SnapshotOptions,
    parts: VecDeque<SnapshotPart>,
    open: Option<(SnapshotWriter<TestWriter>, Zxid, Option<TxnDigest>, i64)>,
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
    pub(super) writer: LogWriter<TestDisk>,
    /// Fresh.
    pub(super) appender: Appender,
    /// Where snapshots go.
    pub(super) snap: TestDisk,
    /// How they are written.
    pub(super) snapshot: SnapshotOptions,
    /// For the log thread's random bits.
    pub(super) seed: u64,
    /// See `Options::lie_about_syncs`.
    pub(super) lies: bool,
}

/// The process.
pub(super) struct Process {
    tree: Tree,
    peer: Peer,
    out: peer::Outbox,
    seats: Vec<Seat>,
    cursor: Cursor,
    interest: Arc<Interest>,
    log: Log,
    snapshots: Snapshots,
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
            log: Log {
                writer: parts.writer,
                appender: parts.appender,
                queue: VecDeque::new(),
                syncing: None,
                random: fastrand::Rng::with_seed(parts.seed),
                lies: parts.lies,
            },
            snapshots: Snapshots { dir: parts.snap, options: parts.snapshot, parts: VecDeque::new(), open: None },
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
        if matches!(event, peer::Input::SnapshotDone { .. }) {
            self.log.queue.push_back(Job::SnapshotDone);
        }
        self.peer.handle(now, event, &self.tree, &mut self.out);
    }

    /// The tree's writer works for a while.
    pub(super) fn apply(&mut self) -> usize {
        if !self.peer.has_work() {
            return 0;
        }
        let count = self.peer.apply(&mut self.tree, &self.cursor, &self.interest, &mut self.out);
        self.publish();
        self.snapshots.parts.extend(self.out.snapshot.drain(..));
        count
    }

    fn publish(&mut self) {
        for (shard, message) in self.out.to_shards.drain(..) {
            self.seats[shard.index()].stream.push_back(message);
        }
    }

    /// Hands proposals to the log. All of one step have the same cause.
    fn proposed(&mut self, cause: Cause) -> Vec<Proposed> {
        let mut all = Vec::new();
        for append in self.out.append.drain(..) {
            let copy = Append { zxid: append.zxid, payload: append.payload.clone() };
            self.log.queue.push_back(Job::Append(append));
            all.push(Proposed { append: copy, cause: cause.clone() });
        }
        all
    }

    /// One step of the log thread; a sync takes `sync_ms`.
    ///
    /// # Errors
    /// The disk's: fatal.
    pub(super) fn log_step(&mut self, now: Now, sync_ms: i64) -> io::Result<()> {
        let before = self.log.writer.durable();
        self.log_work(now, sync_ms)?;
        let durable = self.log.writer.durable();
        if durable != before {
            self.synced.push(durable);
        }
        Ok(())
    }

    fn log_work(&mut self, now: Now, sync_ms: i64) -> io::Result<()> {
        let Process { log, events, .. } = self;
        if let Some(until) = log.syncing {
            if now.mono_ms < until {
                return Ok(());
            }
            return log.finish_sync(now, events);
        }
        match log.queue.pop_front() {
            Some(Job::Append(append)) => {
                log.writer.append(append.zxid, &append.payload)?;
                let bytes = append.payload.len() as u64;
                let input = appender::Input::Appended { zxid: append.zxid, bytes, random: log.random.u64(..) };
                log.decide(now, input, sync_ms, events)
            }
            Some(Job::SnapshotDone) => log.decide(now, appender::Input::SnapshotDone, sync_ms, events),
            None => {
                log.decide(now, appender::Input::Drained, sync_ms, events)?;
                // Nothing came for a moment.
                let idle = log.appender.pending_records() == 0 && log.syncing.is_none();
                if idle && log.random.u32(..4) == 0 { log.writer.mark() } else { Ok(()) }
            }
        }
    }

    /// The log's end, once a mark tells of it.
    pub(super) fn marked(&self) -> Option<Zxid> {
        self.log.writer.ends_with_mark().then(|| self.log.writer.durable())
    }

    /// One step of the snapshot thread: whether a snapshot is finished.
    ///
    /// # Errors
    /// The disk's: fatal.
    pub(super) fn snapshot_step(&mut self, now: Now) -> io::Result<bool> {
        let Some(part) = self.snapshots.parts.pop_front() else { return Ok(false) };
        let Some(event) = self.snapshots.take(part, now)? else { return Ok(false) };
        let done = matches!(event, peer::Input::SnapshotDone { .. });
        self.events.push_back(event);
        Ok(done)
    }

    /// Whether nothing is left to do but wait for clients and clocks.
    pub(super) fn is_idle(&self) -> bool {
        self.peer.is_idle()
            && self.events.is_empty()
            && self.log.queue.is_empty()
            && self.log.syncing.is_none()
            && self.log.appender.pending_records() == 0
            && self.snapshots.parts.is_empty()
            && self.seats.iter().all(|s| s.stream.is_empty() && s.to_peer.is_empty() && !s.shard.has_ready())
    }

    /// The earliest moment a clock is wanted.
    pub(super) fn deadline(&self) -> Option<i64> {
        let shards = self.seats.iter().filter_map(|s| s.shard.deadline());
        shards.chain(self.peer.deadline()).chain(self.log.syncing).min()
    }

    /// Whether a shard's clock is due.
    pub(super) fn is_due(&self, number: usize, now: Now) -> bool {
        self.seats[number].shard.deadline().is_some_and(|at| at <= now.mono_ms)
    }

    /// The machines' invariants.
    pub(super) fn check(&self) {
        self.peer.check(&self.tree);
        self.seats.iter().for_each(|s| s.shard.check());
    }
}

impl Log {
    fn decide(
        &mut self,
        now: Now,
        input: appender::Input,
        sync_ms: i64,
        events: &mut VecDeque<peer::Input>,
    ) -> io::Result<()> {
        let mut outputs = Vec::new();
        self.appender.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                appender::Output::Sync if sync_ms > 0 => self.syncing = Some(now.mono_ms + sync_ms),
                appender::Output::Sync => self.finish_sync(now, events)?,
                appender::Output::RollComes => self.writer.prepare(),
                appender::Output::Roll => self.writer.roll()?,
                appender::Output::Snapshot => events.push_back(peer::Input::SnapshotDue),
                appender::Output::SnapshotSkipped => {}
                appender::Output::Durable(zxid) => unreachable!("{zxid} is said to be durable outside a sync"),
            }
        }
        Ok(())
    }

    fn finish_sync(&mut self, now: Now, events: &mut VecDeque<peer::Input>) -> io::Result<()> {
        self.syncing = None;
        let zxid = if self.lies { self.writer.last() } else { self.writer.sync()? };
        let mut outputs = Vec::new();
        self.appender.handle(now, appender::Input::Synced { zxid, took_ns: 0 }, &mut outputs);
        for output in outputs {
            match output {
                appender::Output::Durable(zxid) => {
                    events.push_back(peer::Input::Synced { zxid, sync_ns: 1, records: 1, slow: false })
                }
                other => unreachable!("{other:?} after a sync"),
            }
        }
        Ok(())
    }
}

impl Snapshots {
    fn take(&mut self, part: SnapshotPart, now: Now) -> io::Result<Option<peer::Input>> {
        match part {
            SnapshotPart::Begin { zxid, digest, sessions, acls } => {
                let mut writer = SnapshotWriter::begin(&mut self.dir, zxid, self.options)?;
                let mut head = Vec::new();
                put_sessions(&mut head, sessions.iter().copied());
                let lists: Vec<_> =
                    acls.iter().filter_map(|(id, list)| Some((*id, list.as_deref()? as &[Acl]))).collect();
                put_acl_table(&mut head, lists.into_iter());
                writer.put(&head)?;
                self.open = Some((writer, zxid, digest, now.mono_ms));
                Ok(None)
            }
            SnapshotPart::Nodes(nodes) => {
                if let Some((writer, ..)) = &mut self.open {
                    writer.put(&nodes)?;
                }
                Ok(Some(peer::Input::SnapshotTook(nodes.len())))
            }
            SnapshotPart::End => {
                let Some((writer, zxid, digest, began_ms)) = self.open.take() else { return Ok(None) };
                let digest = digest.map(|d| ZxidDigest { zxid, version: d.version, digest: d.digest });
                writer.finish(&mut self.dir, digest, zxid)?;
                Ok(Some(peer::Input::SnapshotDone { zxid, took_ms: now.mono_ms - began_ms }))
            }
        }
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
