//! The peer on its core: moves messages between [`PeerTurn`] and the mailboxes, the log thread, the snapshot thread and the
//! connections to other servers.
//! The order of work is decided in `PeerTurn`.

use std::collections::VecDeque;

use crossbeam::channel;

use super::log_thread::{LogMail, LogThread};
use super::mailbox::Receiver;
use super::member::MemberLinks;
use super::net::Net;
use super::peer_net::PeerNet;
use super::shard_core::say;
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
use crate::types::{Now, ShardId, Term, Zxid, earliest};

/// The peer and everything that belongs to it on its core.
pub(super) struct PeerCore {
    turn: PeerTurn,
    mail: Mail,
    log: LogThread,
    snapshots: channel::Sender<SnapshotPart>,
    /// `None`: a standalone server.
    member: Option<MemberLinks>,
    /// Bit set of the shards that were sent something and not woken yet.
    rung: u64,
}

/// Messages to the peer.
struct Mail {
    inbox: Receiver<PeerMail>,
    /// Messages from a shard on the same core, which need no mailbox.
    local: VecDeque<ToPeer>,
    log: Receiver<LogMail>,
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
        (log, events): (LogThread, Receiver<LogMail>),
        snapshots: channel::Sender<SnapshotPart>,
        member: Option<MemberLinks>,
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
            member,
            rung: 0,
        }
    }

    /// To be called before the first turn.
    pub(super) fn start(&mut self, now: Now, net: &mut Net, shared: &Shared) {
        self.member.iter_mut().for_each(|member| member.net.start(net, now.mono_ms));
        let (turn, mut links) = self.links(now, net, shared, None);
        turn.start(now, &shared.tree, &mut links);
    }

    /// Runs one turn. `local` is the stream of a shard on the same core. Returns `None` to stop, else whether there was
    /// work.
    pub(super) fn turn(
        &mut self,
        now: Now,
        net: &mut Net,
        shared: &Shared,
        local: Option<(ShardId, &mut VecDeque<ToShard>)>,
    ) -> Option<bool> {
        self.member.iter_mut().for_each(|member| member.net.turn(net, now.mono_ms));
        let (turn, mut links) = self.links(now, net, shared, local);
        let busy = turn.turn(now, &shared.tree, &mut links);
        self.member.iter_mut().for_each(|member| member.net.flush(net));
        let commands = !self.mail.commands.is_empty();
        for command in self.mail.commands.drain(..) {
            match command {
                PeerCommand::Status { reply } => {
                    // The administrator may have stopped waiting.
                    let _ = reply.send(self.turn.peer().status(&shared.tree.read()));
                }
                PeerCommand::Sessions { from, reply } => {
                    let _ = reply.send(self.turn.peer().list_sessions(from, limits::LIST_PIECE));
                }
                PeerCommand::Ephemerals { after, reply } => {
                    let _ = reply.send(shared.tree.read().list_ephemerals(after, limits::LIST_PIECE));
                }
                PeerCommand::ResetStats => self.turn.peer_mut().reset_stats(),
                PeerCommand::ResetObservers => self.turn.peer_mut().reset_observers(),
                PeerCommand::Stop => return None,
            }
        }
        Some(busy || commands)
    }

    fn links<'a>(
        &'a mut self,
        now: Now,
        net: &'a mut Net,
        shared: &'a Shared,
        local: Option<(ShardId, &'a mut VecDeque<ToShard>)>,
    ) -> (&'a mut PeerTurn, PeerLinks<'a>) {
        let PeerCore { turn, mail, log, snapshots, member, rung } = self;
        let (now_ms, member) = (now.mono_ms, member.as_mut().map(|member| (member, net)));
        (turn, PeerLinks { now_ms, mail, log, snapshots, member, rung, shared, heard_log: false, local })
    }

    /// What a shard on the same core needs: the inbox for it, and the connections to other servers.
    pub(super) fn for_shard(&mut self) -> (&mut VecDeque<ToPeer>, Option<&mut PeerNet>) {
        (&mut self.mail.local, self.member.as_mut().map(|member| &mut member.net))
    }

    /// Takes what arrived on the sockets of a core without a shard. Returns the number of things handled.
    pub(super) fn reap(&mut self, net: &mut Net) -> usize {
        match &mut self.member {
            Some(member) => net.reap(&mut |event| {
                if let Some(other) = member.net.hear(event) {
                    say(&other);
                }
            }),
            // There are only wake-ups.
            None => net.reap(&mut |_| ()),
        }
    }

    /// Whether no message waits.
    pub(super) fn is_idle(&self) -> bool {
        self.mail.local.is_empty()
            && self.mail.inbox.is_empty()
            && self.mail.log.is_empty()
            && self.member.as_ref().is_none_or(|member| member.net.is_idle())
    }

    /// When it needs a turn because of a timer, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        let net = self.member.as_ref().and_then(|member| member.net.deadline_ms());
        earliest([self.turn.deadline(), net])
    }
}

/// How the peer reaches the other cores and threads.
struct PeerLinks<'a> {
    now_ms: i64,
    mail: &'a mut Mail,
    log: &'a LogThread,
    snapshots: &'a channel::Sender<SnapshotPart>,
    /// `None`: a standalone server.
    member: Option<(&'a mut MemberLinks, &'a mut Net)>,
    rung: &'a mut u64,
    shared: &'a Shared,
    /// The log's mailbox was found empty in this turn; it is not looked at again.
    heard_log: bool,
    local: Option<(ShardId, &'a mut VecDeque<ToShard>)>,
}

impl Links for PeerLinks<'_> {
    fn next(&mut self) -> Option<Input> {
        while !self.heard_log {
            match self.mail.log.pop() {
                Some(LogMail::Event(event)) => {
                    if let Some(input) = Input::from_log(event) {
                        return Some(input);
                    }
                }
                Some(LogMail::Answer(answer)) => return Some(Input::Disk(answer)),
                None => self.heard_log = true,
            }
        }
        // Before the clients: what other servers say decides what may be committed.
        if let Some((member, _)) = &mut self.member
            && let Some(event) = member.net.next()
        {
            return Some(Input::Net(event));
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
        self.log.ask(request);
    }

    fn net(&mut self, want: NetWant) {
        let Some((member, net)) = &mut self.member else { panic!("{want:?} of a standalone server") };
        member.net.want(net, self.now_ms, want);
    }

    fn feed(&mut self, want: FeedWant) {
        let Some((member, _)) = &self.member else { panic!("{want:?} of a standalone server") };
        // Cannot fail: the feeder lives as long as this core.
        let _ = member.feeds.send(want);
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
        let has_local = self.local.as_ref().is_none_or(|(_, stream)| stream.len() < high_water);
        has_local && self.shared.shards.iter().all(|mail| mail.len() < high_water)
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
