//! The peer on its core: moves messages between [`PeerTurn`] and the mailboxes, the log thread and the snapshot thread.
//! The order of work is decided in `PeerTurn`.

use std::collections::VecDeque;

use crossbeam::channel;

use super::disk::FsDir;
use super::log_thread::{LogEvent, LogThread};
use super::mailbox::Receiver;
use super::shared::{PeerCommand, PeerMail, ShardMail, Shared, SnapshotReply};
use crate::limits;
use crate::peer::disk::DiskRequest;
use crate::peer::feed::FeedWant;
use crate::peer::net::NetWant;
use crate::peer::snapshot_requests::SnapshotRequests;
use crate::peer::turn::{Bounds, Links, PeerTurn, Streams, TreeAccess};
use crate::peer::{Append, Input, Peer, SnapshotAnswer, SnapshotPart};
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::turn::Letter;
use crate::txnlog::writer::LogWriter;
use crate::types::{Now, ShardId, Term, Zxid};

/// The peer and everything that belongs to it on its core.
pub(super) struct PeerCore {
    turn: PeerTurn,
    mail: Mail,
    log: LogThread<LogWriter<FsDir>>,
    snapshots: channel::Sender<SnapshotPart>,
    /// Bit set of the shards that were sent something and not woken yet.
    rung: u64,
}

/// Messages to the peer.
struct Mail {
    inbox: Receiver<PeerMail>,
    /// Messages from a shard on the same core, which need no mailbox.
    local: VecDeque<ToPeer>,
    log: Receiver<LogEvent>,
    /// Administrators who wait for a snapshot.
    snapshots: SnapshotRequests<SnapshotReply>,
    /// Commands, handled after the turn.
    commands: Vec<PeerCommand>,
}

impl PeerCore {
    /// `last` is the zxid of the tree's last transaction.
    pub(super) fn new(
        peer: Peer,
        last: Zxid,
        inbox: Receiver<PeerMail>,
        log: LogThread<LogWriter<FsDir>>,
        events: Receiver<LogEvent>,
        snapshots: channel::Sender<SnapshotPart>,
    ) -> PeerCore {
        PeerCore {
            turn: PeerTurn::new(peer, last, Bounds::default()),
            mail: Mail {
                inbox,
                local: VecDeque::new(),
                log: events,
                snapshots: SnapshotRequests::default(),
                commands: Vec::new(),
            },
            log,
            snapshots,
            rung: 0,
        }
    }

    /// To be called before the first turn.
    pub(super) fn start(&mut self, now: Now, shared: &Shared) {
        let (turn, mut links) = self.links(shared, None);
        turn.start(now, &shared.tree, &mut links);
    }

    /// Runs one turn. `local` is the stream of a shard on the same core. Returns `None` to stop, else whether there was
    /// work.
    pub(super) fn turn(
        &mut self,
        now: Now,
        shared: &Shared,
        local: Option<(ShardId, &mut VecDeque<ToShard>)>,
    ) -> Option<bool> {
        let (turn, mut links) = self.links(shared, local);
        let busy = turn.turn(now, &shared.tree, &mut links);
        let commands = !self.mail.commands.is_empty();
        for command in self.mail.commands.drain(..) {
            match command {
                PeerCommand::Status { reply } => {
                    // The administrator may have stopped waiting.
                    let _ = reply.send(self.turn.peer().status(&shared.tree.read()));
                }
                PeerCommand::Sessions { after, reply } => {
                    let _ = reply.send(self.turn.peer().list_sessions(after, limits::LIST_PIECE));
                }
                PeerCommand::Ephemerals { after, reply } => {
                    let _ = reply.send(shared.tree.read().list_ephemerals(after, limits::LIST_PIECE));
                }
                PeerCommand::ResetStats => self.turn.peer_mut().reset_stats(),
                PeerCommand::Stop => return None,
            }
        }
        Some(busy || commands)
    }

    fn links<'a>(
        &'a mut self,
        shared: &'a Shared,
        local: Option<(ShardId, &'a mut VecDeque<ToShard>)>,
    ) -> (&'a mut PeerTurn, PeerLinks<'a>) {
        let PeerCore { turn, mail, log, snapshots, rung } = self;
        (turn, PeerLinks { mail, log, snapshots, rung, shared, heard_log: false, local })
    }

    /// The inbox for a shard on the same core.
    pub(super) fn inbox(&mut self) -> &mut VecDeque<ToPeer> {
        &mut self.mail.local
    }

    /// Whether no message waits.
    pub(super) fn is_idle(&self) -> bool {
        self.mail.local.is_empty() && self.mail.inbox.is_empty() && self.mail.log.is_empty()
    }

    /// When it needs a turn because of a timer, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.turn.deadline()
    }
}

/// How the peer reaches the other cores and threads.
struct PeerLinks<'a> {
    mail: &'a mut Mail,
    log: &'a LogThread<LogWriter<FsDir>>,
    snapshots: &'a channel::Sender<SnapshotPart>,
    rung: &'a mut u64,
    shared: &'a Shared,
    /// The log's mailbox was found empty in this turn; it is not looked at again.
    heard_log: bool,
    local: Option<(ShardId, &'a mut VecDeque<ToShard>)>,
}

impl Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<Input> {
        while !self.heard_log {
            match self.mail.log.pop().map(Input::from_log) {
                Some(Some(input)) => return Some(input),
                Some(None) => {}
                None => self.heard_log = true,
            }
        }
        if let Some(message) = self.mail.local.pop_front() {
            return Some(Input::FromShard(message));
        }
        loop {
            match self.mail.inbox.pop()? {
                PeerMail::Input(input) => return Some(input),
                PeerMail::Snapshot { reply } => return Some(self.mail.snapshots.ask(reply)),
                PeerMail::Command(command) => self.mail.commands.push(command),
            }
        }
    }

    fn append(&mut self, term: Term, appends: &mut Vec<Append>) {
        let mut batch = self.log.batch();
        batch.term = term;
        for append in appends.drain(..) {
            batch.push(append.zxid, &append.payload);
        }
        self.log.append(batch);
    }

    fn disk(&mut self, request: DiskRequest) {
        // The configuration allows no ensembles yet.
        panic!("{request:?} of a standalone server");
    }

    fn net(&mut self, want: NetWant) {
        panic!("{want:?} of a standalone server");
    }

    fn feed(&mut self, want: FeedWant) {
        panic!("{want:?} of a standalone server");
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        // Cannot fail: the snapshot thread lives as long as the process.
        let _ = self.snapshots.send(part);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        let (reply, result) = self.mail.snapshots.answer(answer);
        // The administrator may have stopped waiting.
        let _ = reply.send(result);
    }
}

impl Streams for PeerLinks<'_> {
    /// If a shard stays full because its core is stuck, the watchdog ends the process.
    fn has_room(&self, high_water: usize) -> bool {
        self.shared.shards.iter().all(|mail| mail.len() < high_water)
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        match &mut self.local {
            Some((number, stream)) if *number == shard => stream.push_back(message),
            _ => {
                self.shared.shards[shard.index()].push(ShardMail::Letter(Letter::Stream(message)));
                *self.rung |= 1 << shard.0;
            }
        }
    }

    fn ring(&mut self) {
        while *self.rung != 0 {
            let shard = self.rung.trailing_zeros() as usize;
            self.shared.shards[shard].ring();
            *self.rung &= *self.rung - 1;
        }
    }
}
