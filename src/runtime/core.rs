//! One core's loop: sockets, then the shard, then the peer, then sleep. Both machines may sit on the same core; nothing here
//! decides anything about the protocol.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam::channel;
use crossbeam::sync::ShardedLockReadGuard;
use hashbrown::HashMap;

use super::clock::Clock;
use super::disk::FsDir;
use super::fatal::fatal;
use super::log_thread::{LogEvent, LogThread};
use super::mailbox::Receiver;
use super::net::{Close, Net, NetEvent};
use super::shared::{CoreMail, Shared, WordRequest};
use super::snapshot_requests::SnapshotRequests;
use crate::config::ExitCode;
use crate::limits;
use crate::peer::{self, Peer, SnapshotPart};
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::{self, CloseHow, Input, Shard};
use crate::tree::Tree;
use crate::txnlog::writer::LogWriter;
use crate::types::{CLIENT_LOG, ConnId, Now, ShardId};

/// A core that has nothing to do looks up at least this often, for the watchdog.
const LONGEST_PARK_MS: i64 = 1000;

/// A shard and what belongs to it on its core.
pub(super) struct ShardSeat {
    pub(super) number: ShardId,
    pub(super) shard: Shard,
    out: shard::Outbox,
    stream: VecDeque<ToShard>,
    addresses: HashMap<ConnId, IpAddr>,
    refused: Vec<ConnId>,
}

impl ShardSeat {
    pub(super) fn new(number: ShardId, shard: Shard) -> ShardSeat {
        ShardSeat {
            number,
            shard,
            out: shard::Outbox::default(),
            stream: VecDeque::new(),
            addresses: HashMap::new(),
            refused: Vec::new(),
        }
    }
}

/// The peer and what belongs to it on its core.
pub(super) struct PeerSeat {
    pub(super) peer: Peer,
    pub(super) out: peer::Outbox,
    inbox: VecDeque<ToPeer>,
    log: LogThread<LogWriter<FsDir>>,
    events: Receiver<LogEvent>,
    snapshots: channel::Sender<SnapshotPart>,
    snapshot_requests: SnapshotRequests,
}

impl PeerSeat {
    pub(super) fn new(
        peer: Peer,
        log: LogThread<LogWriter<FsDir>>,
        events: Receiver<LogEvent>,
        snapshots: channel::Sender<SnapshotPart>,
    ) -> PeerSeat {
        PeerSeat {
            peer,
            out: peer::Outbox::default(),
            inbox: VecDeque::new(),
            log,
            events,
            snapshots,
            snapshot_requests: SnapshotRequests::default(),
        }
    }

    /// What the log thread told. Anything but `Synced` is rare.
    fn hear_log(&mut self, now: Now, tree: &Tree) -> bool {
        let mut any = false;
        while let Some(event) = self.events.pop() {
            any = true;
            if let Some(input) = peer::Input::from_log(event) {
                self.peer.handle(now, input, tree, &mut self.out);
            }
        }
        any
    }
}

/// One core.
pub(super) struct Core {
    number: usize,
    net: Net,
    mail: Receiver<CoreMail>,
    shard: Option<ShardSeat>,
    peer: Option<PeerSeat>,
    shared: Arc<Shared>,
}

impl Core {
    /// Puts a core together on its own thread and begins to accept clients.
    pub(super) fn new(
        number: usize,
        mut net: Net,
        listener: Option<TcpListener>,
        mail: Receiver<CoreMail>,
        shard: Option<ShardSeat>,
        mut peer: Option<PeerSeat>,
        shared: Arc<Shared>,
    ) -> io::Result<Core> {
        if let Some(listener) = listener {
            net.add_listener(listener)?;
        }
        if let Some(seat) = &mut peer {
            let tree = read(&shared);
            seat.peer.start(Clock::now(), &tree, &mut seat.out);
        }
        Ok(Core { number, net, mail, shard, peer, shared })
    }

    /// Runs until [`CoreMail::Stop`], as the one task of a glommio executor.
    pub(super) async fn run_on_glommio(mut self) {
        while self.turn() {
            glommio::yield_if_needed().await;
        }
    }

    /// Runs until [`CoreMail::Stop`], on a thread of its own.
    pub(super) fn run(mut self) {
        while self.turn() {}
    }

    /// One turn. False: stop.
    fn turn(&mut self) -> bool {
        let shared = self.shared.clone();
        let now = Clock::now();
        shared.turns[self.number].fetch_add(1, Ordering::Relaxed);
        // The stream is emptied only once the tree stands still: everything the tree shows was put on the streams before the
        // writer let go of it (W2), so nothing is read that was not drained.
        let tree = read(&shared);
        let Some(letters) = self.read_mail(now, &tree) else { return false };
        let answered = self.shard_turn(now, &tree);
        drop(tree);
        self.end_shard_turn();
        let applied = self.peer_turn(now);
        if !(letters || answered || applied) && self.is_idle() {
            self.park();
        }
        true
    }

    /// `None`: stop. Otherwise whether there were letters.
    fn read_mail(&mut self, now: Now, tree: &Tree) -> Option<bool> {
        let mut any = false;
        if let Some(seat) = &mut self.peer {
            any |= seat.hear_log(now, tree);
        }
        while let Some(letter) = self.mail.pop() {
            any = true;
            match (letter, &mut self.shard, &mut self.peer) {
                (CoreMail::Stream(message), Some(seat), _) => seat.stream.push_back(message),
                (CoreMail::FromShard(message), _, Some(seat)) => seat.inbox.push_back(message),
                (CoreMail::Peer(input), _, Some(seat)) => {
                    seat.peer.handle(now, input, tree, &mut seat.out);
                }
                (CoreMail::Snapshot { reply }, _, Some(seat)) => {
                    let input = seat.snapshot_requests.ask(reply);
                    seat.peer.handle(now, input, tree, &mut seat.out);
                }
                (CoreMail::WordAnswer { conn, text }, Some(seat), _) => {
                    seat.shard.handle(now, Input::WordAnswer { conn, text: &text }, tree, &mut seat.out);
                }
                (CoreMail::ShardStatus { detail, reply }, Some(seat), _) => {
                    // Nobody may be waiting any more.
                    let _ = reply.send(seat.shard.status(detail));
                }
                (CoreMail::PeerStatus { with_sessions, reply }, _, Some(seat)) => {
                    let _ = reply.send(seat.peer.status(tree, with_sessions));
                }
                (CoreMail::ResetStats { metrics }, Some(seat), _) => seat.shard.reset_stats(metrics),
                (CoreMail::ResetPeerStats, _, Some(seat)) => seat.peer.reset_stats(),
                (CoreMail::ResetConnectionStats, Some(seat), _) => seat.shard.reset_connection_stats(),
                (CoreMail::Stop, _, _) => return None,
                _ => unreachable!("a letter for a machine that is not on core {}", self.number),
            }
        }
        Some(any)
    }

    /// The shard's turn: the tree stands still from its first line to its last (DESIGN section 7).
    fn shard_turn(&mut self, now: Now, tree: &Tree) -> bool {
        let Core { net, shard: Some(seat), shared, .. } = self else {
            let reaped = self.net.reap(&mut |_| ());
            return reaped > 0;
        };
        let ShardSeat { shard, out, stream, addresses, refused, .. } = seat;
        let mut busy = !stream.is_empty();
        while let Some(message) = stream.pop_front() {
            shard.handle(now, Input::Stream(message), tree, out);
        }
        shard.handle(now, Input::Drained, tree, out);
        let reaped = net.reap(&mut |event| match event {
            NetEvent::Data { conn, bytes } => {
                shard.handle(now, Input::Data { conn, bytes }, tree, out);
            }
            NetEvent::Accepted { conn, peer, .. } => match shared.conn_limits.admit(peer.ip()) {
                Ok(()) => {
                    addresses.insert(conn, peer.ip());
                    shard.handle(now, Input::Accepted { conn, peer }, tree, out);
                }
                Err(reason) => {
                    tracing::warn!(target: CLIENT_LOG, %peer, %reason, "refusing a connection");
                    refused.push(conn);
                }
            },
            NetEvent::Eof { conn } => shard.handle(now, Input::Eof { conn }, tree, out),
            NetEvent::Closed { conn, .. } => {
                                if let Some(address) = addresses.remove(&conn) {
                    shared.conn_limits.release(address);
                }
                shard.handle(now, Input::Disconnected { conn }, tree, out);
            }
            NetEvent::Writable { conn } => {
                shard.handle(now, Input::Backlog { conn, bytes: 0 }, tree, out);
            }
            NetEvent::Refused { peer } => {
                tracing::warn!(target: CLIENT_LOG, %peer, "refusing a connection: no room for it")
            }
            NetEvent::AcceptFailed { error, .. } => {
                tracing::error!(target: CLIENT_LOG, %error, "cannot accept connections")
            }
            NetEvent::AcceptPaused { descriptors, .. } => tracing::warn!(
                "connections take {descriptors} file descriptors, the rest of RLIMIT_NOFILE is for files: no more are accepted \
                 until some are closed; raise the limit (LimitNOFILE in the systemd unit) or set maxCnxns"
            ),
            NetEvent::AcceptResumed { .. } => tracing::info!("accepting connections again"),
            NetEvent::Connected { .. } | NetEvent::ConnectFailed { .. } => unreachable!("a shard connects to nobody"),
            NetEvent::Woken => {}
        });
        busy |= reaped > 0;
        if shard.deadline().is_some_and(|at| at <= now.mono_ms) {
            shard.handle(now, Input::Tick, tree, out);
        }
        for conn in refused.drain(..) {
            net.close(conn, Close::Graceful);
        }
        send(net, shard, out, tree, now);
        busy |= shard.has_ready();
        end(net, shard, out, tree, now, addresses, shared);
        shared.moved_on(seat.number, tree.last_zxid());
        busy
    }

    /// What of the shard's turn needs no tree.
    fn end_shard_turn(&mut self) {
        if self.shard.is_none() {
            return;
        }
        if let Err(error) = self.net.flush() {
            fatal(ExitCode::Unexpected, format!("{} fails: {error}", self.net.backend()));
        }
        self.deliver();
    }

    /// What the shard wants of others.
    fn deliver(&mut self) {
        let Core { shard: Some(seat), peer, shared, net, .. } = self else { return };
        for (conn, pause) in seat.out.pause.drain(..) {
            if pause { net.pause_recv(conn) } else { net.resume_recv(conn) }
        }
        for (conn, word, argument) in seat.out.words.drain(..) {
            // The control thread lives as long as the process.
            let _ = shared.words.send(WordRequest { shard: seat.number, conn, word, argument });
        }
        match peer {
            Some(p) => p.inbox.extend(seat.out.to_peer.drain(..)),
            None => {
                for message in seat.out.to_peer.drain(..) {
                    shared.to_peer(CoreMail::FromShard(message));
                }
            }
        }
    }

    fn peer_turn(&mut self, now: Now) -> bool {
        let Core { shard, peer: Some(seat), shared, .. } = self else { return false };
        let PeerSeat { peer, out, inbox, log, snapshots, snapshot_requests, .. } = seat;
        let mut busy = !inbox.is_empty();
        {
            let tree = read(shared);
            for _ in 0..limits::SUBMIT_BURST {
                let Some(message) = inbox.pop_front() else { break };
                peer.handle(now, peer::Input::FromShard(message), &tree, out);
                if out.append.len() >= limits::APPEND_BURST {
                    append(log, out);
                }
            }
            if inbox.is_empty() && peer.deadline().is_some_and(|at| at <= now.mono_ms) {
                // Only after everything that was heard was counted: a pause of this process expires nobody unheard.
                peer.handle(now, peer::Input::Tick, &tree, out);
            }
        }
        append(log, out);
        if peer.has_work() && shared.has_room() {
            let mut tree = shared.tree.write().unwrap_or_else(PoisonError::into_inner);
            busy |= peer.apply(&mut tree, &**shared, &shared.interest, out) > 0;
            publish(out, shard, shared);
        } else {
            publish(out, shard, shared);
        }
        for part in out.snapshot.drain(..) {
            busy = true;
            // The snapshot thread lives as long as the process.
            let _ = snapshots.send(part);
        }
        out.snapshot_answers.drain(..).for_each(|answer| snapshot_requests.answer(answer));
        // What is committed and still not applied waits for a shard. The first time that is found there is another look, for
        // the shard may have moved on just before it was told to say so.
        let waits = !busy && peer.has_work();
        busy | shared.peer_waits(waits)
    }

    /// Nothing waits that no socket and no letter will announce.
    fn is_idle(&self) -> bool {
        self.mail.is_empty()
            && self.shard.as_ref().is_none_or(|s| s.stream.is_empty())
            && self.peer.as_ref().is_none_or(|p| p.inbox.is_empty() && p.events.is_empty())
    }

    fn park(&mut self) {
        let now = Clock::now();
        let shard = self.shard.as_ref().and_then(|s| s.shard.deadline());
        let peer = self.peer.as_ref().and_then(|p| p.peer.deadline());
        let at = [shard, peer].into_iter().flatten().min().unwrap_or(i64::MAX);
        let wait = at.saturating_sub(now.mono_ms).clamp(0, LONGEST_PARK_MS) as u64;
        if let Err(error) = self.net.park(Some(Duration::from_millis(wait))) {
            fatal(ExitCode::Unexpected, format!("{} does not wait: {error}", self.net.backend()));
        }
    }
}

/// Hands what was proposed to the log thread.
fn append(log: &LogThread<LogWriter<FsDir>>, out: &mut peer::Outbox) {
    if out.append.is_empty() {
        return;
    }
    let mut batch = log.batch();
    for append in out.append.drain(..) {
        batch.push(append.zxid, &append.payload);
    }
    log.append(batch);
}

/// W2: the entries are on their way before the tree is let go.
fn publish(out: &mut peer::Outbox, local: &mut Option<ShardSeat>, shared: &Shared) {
    for (shard, message) in out.to_shards.drain(..) {
        match local {
            Some(seat) if seat.number == shard => seat.stream.push_back(message),
            _ => shared.to_shard(shard, CoreMail::Stream(message)),
        }
    }
}

/// Hands what the shard wrote to the sockets.
fn send(net: &mut Net, shard: &mut Shard, out: &mut shard::Outbox, tree: &Tree, now: Now) {
    let mut dirty = std::mem::take(&mut out.dirty);
    for conn in dirty.drain(..) {
        shard.take_output(conn, net.out(conn));
        let queued = net.queued(conn);
        if queued > limits::OUT_HIGH_WATER {
            net.want_writable(conn);
            shard.handle(now, Input::Backlog { conn, bytes: queued }, tree, out);
        }
    }
    dirty.append(&mut out.dirty);
    out.dirty = dirty;
}

/// Ends connections the shard is done with.
#[allow(clippy::too_many_arguments)]
fn end(
    net: &mut Net,
    shard: &mut Shard,
    out: &mut shard::Outbox,
    tree: &Tree,
    now: Now,
    addresses: &mut HashMap<ConnId, IpAddr>,
    shared: &Shared,
) {
    let mut closing = std::mem::take(&mut out.close);
    for (conn, how) in closing.drain(..) {
        let how = match how {
            CloseHow::Flush => Close::Graceful,
            CloseHow::Abort => Close::Abort,
        };
        net.close(conn, how);
        if let Some(address) = addresses.remove(&conn) {
            shared.conn_limits.release(address);
        }
        shard.handle(now, Input::Disconnected { conn }, tree, out);
    }
    out.close = closing;
}

/// The tree, to read. A poisoned lock cannot be met: a panic ends the process.
fn read(shared: &Shared) -> ShardedLockReadGuard<'_, Tree> {
    shared.tree.read().unwrap_or_else(PoisonError::into_inner)
}
