//! The leader's learners: one handler for each connection, what is read for it, and what all of them are told. Mirrors
//! `Leader.learners`, and the part of `LearnerHandler` that reads `ZKDatabase` and the log.
//!
//! A handler asks for one thing at a time. What memory has is answered at once; the rest is asked of the reader of the disk, so
//! that nothing here waits for a file.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::send_queue::SendQueue;
use crate::peer::ensemble::Ensemble;
use crate::peer::feed::{FeedAnswer, FeedWant};
use crate::peer::net::{NetWant, QuorumWant};
use crate::peer::replicated::Replicated;
use crate::peer::role_status::ObserverStatus;
use crate::peer::shared::{Shared, Step};
use crate::txnlog::feed::{Ask, Fed as Read, Survey};
use crate::types::{ConnId, Epoch, ServerId, Term, Zxid};
use crate::zab::handler::{End, Fed, Feed, Handler, LearnerRoom, Outgoing, Want};
use crate::zab::history::Committed;
use crate::zab::leader::SyncKind;
use crate::zab::sync_plan::{LogFile, OnDisk, Plan, SnapshotFile, SyncPolicy, located, plan};

/// What is being read for a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing.
    Nothing,
    /// Which files there are, to plan how a learner at `peer` is brought up to date.
    Survey { peer: Zxid },
    /// Where its history leaves the log.
    Locate { peer: Zxid },
    /// A snapshot that is to be sent.
    Snapshot,
    /// Its next piece.
    Piece,
    /// Proposals from the log.
    Proposals,
    /// Nothing yet: a snapshot of at least this zxid must be taken first.
    TakesSnapshot { least: Zxid },
    /// Nothing yet: what follows this position is committed, but not durable here.
    WaitsForSync { after: Zxid },
}

/// One learner's connection.
#[derive(Debug)]
struct Conn {
    handler: Handler,
    /// Who it is, once it has said so.
    server: Option<ServerId>,
    from: SocketAddr,
    /// When it came, in milliseconds since 1970.
    since_wall_ms: i64,
    queue: SendQueue,
    reading: Reading,
    /// The reader has something open for it.
    has_asked: bool,
    files: Survey,
    /// It says that it has no state, but it had some in this or an earlier epoch: it may have acknowledged anything.
    had_state: bool,
    /// A snapshot for it must have all up to here, lest it loses for a while what it has acknowledged.
    least: Zxid,
}

impl Conn {
    fn disk<'a>(&self, chain: Zxid, logs: &'a [LogFile]) -> OnDisk<'a> {
        let snapshot = self.files.snapshot.map(|(zxid, bytes)| SnapshotFile { zxid, bytes });
        OnDisk { chain: Some(chain), logs, snapshot }
    }

    fn logs(&self) -> Vec<LogFile> {
        self.files.logs.iter().map(|(first, bytes)| LogFile { first: *first, bytes: *bytes }).collect()
    }
}

/// All connections to the quorum port of a leader.
#[derive(Debug)]
pub(super) struct Learners {
    term: Term,
    packet_limit: usize,
    room: LearnerRoom,
    policy: SyncPolicy,
    /// The text of the configuration in force, for NEWLEADER.
    config: Bytes,
    /// The leader's epoch, once it is known.
    epoch: Epoch,
    conns: BTreeMap<ConnId, Conn>,
    /// What the handlers want, in the order in which it came up.
    wants: VecDeque<(ConnId, Want)>,
    scratch: Vec<Want>,
}

/// Connections.
impl Learners {
    pub(super) fn new(term: Term, ensemble: &Ensemble) -> Learners {
        Learners {
            term,
            packet_limit: ensemble.packet_limit(),
            room: ensemble.room(),
            policy: ensemble.sync_policy(),
            config: ensemble.config_text(),
            epoch: Epoch(0),
            conns: BTreeMap::new(),
            wants: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// What a handler wants next.
    pub(super) fn next_want(&mut self) -> Option<(ConnId, Want)> {
        self.wants.pop_front()
    }

    /// Calls the handler of a connection, if that is still there.
    pub(super) fn tell(&mut self, conn: ConnId, call: impl FnOnce(&mut Handler, &mut Vec<Want>)) {
        let Learners { conns, wants, scratch, .. } = self;
        if let Some(learner) = conns.get_mut(&conn) {
            call(&mut learner.handler, scratch);
            wants.extend(scratch.drain(..).map(|want| (conn, want)));
        }
    }

    /// Calls all handlers.
    pub(super) fn tell_all(&mut self, mut call: impl FnMut(&mut Handler, &mut Vec<Want>)) {
        let Learners { conns, wants, scratch, .. } = self;
        for (conn, learner) in conns {
            call(&mut learner.handler, scratch);
            wants.extend(scratch.drain(..).map(|want| (*conn, want)));
        }
    }

    /// Somebody connected.
    pub(super) fn connected(&mut self, conn: ConnId, from: SocketAddr, step: &mut Step<'_>) {
        let learner = Conn {
            handler: Handler::new(self.packet_limit, self.room),
            server: None,
            from,
            since_wall_ms: step.now.wall_ms,
            queue: SendQueue::default(),
            reading: Reading::Nothing,
            has_asked: false,
            files: Survey::default(),
            had_state: false,
            least: Zxid::ZERO,
        };
        let before = self.conns.insert(conn, learner);
        assert!(before.is_none(), "{conn:?} connects twice");
        self.net(QuorumWant::Read { conn, reads: true }, step);
    }

    /// It has said who it is.
    pub(super) fn introduced(&mut self, conn: ConnId, server: ServerId) {
        let Some(learner) = self.conns.get_mut(&conn) else { return };
        assert!(learner.server.is_none(), "{:?} introduces itself again, as {server:?}", learner.server);
        learner.server = Some(server);
    }

    /// Who it is, once it has said so.
    pub(super) fn server(&self, conn: ConnId) -> Option<ServerId> {
        self.conns.get(&conn)?.server
    }

    /// Bytes that were written have left.
    pub(super) fn left(&mut self, conn: ConnId, bytes: usize, step: &mut Step<'_>) {
        if let Some(learner) = self.conns.get_mut(&conn) {
            let figures = learner.server.and_then(|server| step.shared.stats.of_learner(server));
            learner.queue.left(bytes, step.now, figures);
        }
        self.tell(conn, |handler, wants| handler.left(bytes, wants));
    }

    /// What is shown of an observer.
    pub(super) fn observer_status(&self, conn: ConnId, server: ServerId) -> Option<ObserverStatus> {
        let Conn { handler, from, since_wall_ms, queue, .. } = self.conns.get(&conn)?;
        let (queued_packets, queued_bytes) = (queue.len(), queue.bytes());
        let (from, since_wall_ms, traffic) = (*from, *since_wall_ms, handler.traffic());
        Some(ObserverStatus { server, from, since_wall_ms, queued_packets, queued_bytes, traffic })
    }

    /// Counts what goes over these connections from now on.
    pub(super) fn reset_traffic(&mut self, of: impl IntoIterator<Item = ConnId>) {
        for conn in of {
            self.conns.get_mut(&conn).into_iter().for_each(|learner| learner.handler.reset_traffic());
        }
    }

    /// The connection is gone. Returns whether it was there.
    pub(super) fn forget(&mut self, conn: ConnId, step: &mut Step<'_>) -> bool {
        let Some(gone) = self.conns.remove(&conn) else { return false };
        if gone.has_asked {
            step.out.feed.push(FeedWant { conn, ask: None });
        }
        self.wants.retain(|(other, _)| *other != conn);
        true
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, conn: ConnId, step: &mut Step<'_>) {
        if self.forget(conn, step) {
            self.net(QuorumWant::Close { conn }, step);
        }
    }

    /// The leader's term is over.
    pub(super) fn end(&mut self, feed: &mut Vec<FeedWant>) {
        let gone = std::mem::take(&mut self.conns).into_iter().filter(|(_, learner)| learner.has_asked);
        feed.extend(gone.map(|(conn, _)| FeedWant { conn, ask: None }));
        self.wants.clear();
    }

    pub(super) fn write(&mut self, conn: ConnId, bytes: Bytes, step: &mut Step<'_>) {
        let learner = self.conns.get_mut(&conn);
        let learner = learner.unwrap_or_else(|| panic!("{} bytes for {conn:?}, which is gone", bytes.len()));
        learner.queue.wrote(bytes.len(), step.now);
        self.net(QuorumWant::Write { conn, bytes }, step);
    }

    pub(super) fn net(&self, want: QuorumWant, step: &mut Step<'_>) {
        step.out.net.push(NetWant::Quorum { term: self.term, want });
    }

    /// Connections for which this server's own disk is read: nobody can blame the learner for its silence.
    pub(super) fn served_from_disk(&self) -> Vec<ConnId> {
        let busy = self.conns.iter().filter(|(_, learner)| learner.reading != Reading::Nothing);
        busy.map(|(conn, _)| *conn).collect()
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        assert!(self.wants.is_empty() && self.scratch.is_empty(), "left undone: {:?}", self.wants);
        for learner in self.conns.values() {
            learner.handler.check();
            let (waits, unsent) = (learner.queue.bytes(), learner.handler.unsent());
            assert!(learner.handler.is_closed() || waits == unsent, "{waits} bytes wait, {unsent} have not left");
            let follows = learner.handler.sent().0.epoch() <= self.epoch;
            assert!(follows, "a learner was sent {:?} in {:?}", learner.handler.sent(), self.epoch);
            let asks = !matches!(learner.reading, Reading::Nothing | Reading::TakesSnapshot { .. });
            assert!(
                !asks || learner.has_asked || matches!(learner.reading, Reading::WaitsForSync { .. }),
                "{learner:?}"
            );
        }
    }
}

/// The broadcast.
impl Learners {
    /// The epoch is established, perhaps without any learner: an ensemble may have one voter.
    pub(super) fn established(&mut self, epoch: Epoch) {
        assert!(epoch >= self.epoch, "{epoch:?} is established after {:?}", self.epoch);
        self.epoch = epoch;
    }

    /// What was just appended is proposed to all.
    pub(super) fn propose(&mut self, replicated: &Replicated) {
        let newest = replicated.outstanding().back().expect("it was just appended");
        assert!(newest.zxid().epoch() == self.epoch, "{} is proposed in {:?}", newest.zxid(), self.epoch);
        self.tell_all(|handler, wants| handler.proposal(newest, wants));
    }

    /// Everything up to `upto` is committed, which `replicated` does not know yet.
    pub(super) fn commit(&mut self, upto: Zxid, replicated: &Replicated) {
        let first = replicated.outstanding().front().map(Outgoing::zxid);
        assert!(first.is_some_and(|first| first <= upto), "{upto} is committed, outstanding is {first:?}");
        for outgoing in replicated.outstanding().iter().take_while(|outgoing| outgoing.zxid() <= upto) {
            self.tell_all(|handler, wants| handler.commit(outgoing, wants));
        }
    }
}

/// Synchronisation. Each function returns how the learner is brought up to date, if that is known now.
impl Learners {
    /// A learner tells the epoch of its state, or `None` if it has accepted the leader's epoch before.
    pub(super) fn has_state_of(&mut self, conn: ConnId, current: Option<Epoch>) {
        if let Some(learner) = self.conns.get_mut(&conn) {
            learner.had_state = current.is_none_or(|current| current > Epoch(0));
        }
    }

    /// The leader wants a learner whose history ends at `peer` to be brought up to date.
    pub(super) fn synchronise(
        &mut self,
        conn: ConnId,
        peer: Zxid,
        epoch: Epoch,
        step: &mut Step<'_>,
    ) -> Option<(Plan, SyncKind)> {
        assert!(epoch >= self.epoch, "{epoch:?} is led after {:?}", self.epoch);
        self.epoch = epoch;
        let learner = self.conns.get_mut(&conn)?;
        let history = replicated(step.shared).history();
        let acknowledged = if peer < Zxid::ZERO && learner.had_state { history.newest() } else { peer };
        learner.least = acknowledged.min(history.newest());
        match plan(peer, epoch, history, &OnDisk::default(), &self.policy) {
            plan @ (Plan::Diff { .. } | Plan::Trunc { .. }) => Some((plan, SyncKind::Diff)),
            // Only the disk can tell.
            Plan::Locate { .. } | Plan::Snap { .. } => {
                learner.ask(conn, Reading::Survey { peer }, Ask::Survey, &mut step.out.feed);
                None
            }
        }
    }

    /// The answer of the reader of the disk.
    pub(super) fn read(&mut self, answer: FeedAnswer, step: &mut Step<'_>) -> Option<(ConnId, Plan, SyncKind)> {
        let FeedAnswer { conn, result } = answer;
        let learner = self.conns.get_mut(&conn)?;
        let reading = std::mem::replace(&mut learner.reading, Reading::Nothing);
        if let Err(why) = &result {
            tracing::warn!(?conn, ?reading, why, "what a learner needs cannot be read");
        }
        let (history, chain) = (replicated(step.shared).history(), replicated(step.shared).chain());
        let plan = match (reading, result) {
            (Reading::Survey { peer }, result) => {
                if let Ok(Read::Survey(files)) = result {
                    learner.files = files;
                }
                let logs = learner.logs();
                plan(peer, self.epoch, history, &learner.disk(chain, &logs), &self.policy)
            }
            (Reading::Locate { peer }, result) => {
                let nearest = match result {
                    Ok(Read::Located(nearest)) => Some(nearest),
                    _ => None,
                };
                let logs = learner.logs();
                located(peer, nearest, history, &learner.disk(chain, &logs))
            }
            (Reading::Snapshot, Ok(Read::Snapshot(zxid))) => {
                self.tell(conn, |handler, wants| handler.fed(Fed::Snapshot { zxid }, wants));
                return None;
            }
            // The purge was faster: another one is needed.
            (Reading::Snapshot, Err(_)) => {
                self.take_snapshot(conn, step);
                return None;
            }
            (Reading::Piece, Ok(Read::Piece { bytes, last })) => {
                self.tell(conn, |handler, wants| handler.fed(Fed::Piece { bytes, last }, wants));
                return None;
            }
            (Reading::Proposals, Ok(Read::Proposals { list, .. })) => {
                let list = list.into_iter().map(|(zxid, txn)| Committed { zxid, txn }).collect();
                // Whether it is all of it, memory will say.
                self.tell(conn, |handler, wants| handler.fed(Fed::Proposals { list, end: None }, wants));
                return None;
            }
            (Reading::Piece | Reading::Proposals, Err(why)) => {
                if reading == Reading::Proposals {
                    replicated_mut(step.shared).log_is_unreadable();
                }
                self.tell(conn, |handler, wants| handler.fed(Fed::Failed(why), wants));
                return None;
            }
            (reading, result) => panic!("{result:?} was read, and asked was {reading:?}"),
        };
        let kind = if matches!(plan, Plan::Snap { .. }) { SyncKind::Snap } else { SyncKind::Diff };
        Some((conn, plan, kind))
    }

    /// A handler wants something to be read.
    pub(super) fn feed(&mut self, conn: ConnId, feed: Feed, step: &mut Step<'_>) {
        let Some(learner) = self.conns.get_mut(&conn) else { return };
        let chain = replicated(step.shared).chain();
        match feed {
            Feed::Locate { peer } => {
                let chain = chain.min(peer);
                learner.ask(conn, Reading::Locate { peer }, Ask::Locate { peer, chain }, &mut step.out.feed);
            }
            Feed::Snapshot(Some(zxid)) if zxid >= learner.least => {
                learner.ask(conn, Reading::Snapshot, Ask::Snapshot(zxid), &mut step.out.feed);
            }
            Feed::Snapshot(_) => self.take_snapshot(conn, step),
            Feed::Piece => learner.ask(conn, Reading::Piece, Ask::Piece, &mut step.out.feed),
            Feed::After(position) => self.read_on(conn, position, step),
        }
    }

    /// Gives a learner what follows a position: from memory, or else from the log.
    fn read_on(&mut self, conn: ConnId, after: Zxid, step: &mut Step<'_>) {
        let Learners { conns, wants, scratch, config, .. } = self;
        let Some(learner) = conns.get_mut(&conn) else { return };
        let replicated = replicated(step.shared);
        if replicated.history().has_position(after) {
            let (list, is_all) = piece_of(replicated, after, self.room.chunk);
            let outstanding = || replicated.outstanding().iter().collect();
            let end = is_all.then(|| End { outstanding: outstanding(), config });
            learner.handler.fed(Fed::Proposals { list, end }, scratch);
            wants.extend(scratch.drain(..).map(|want| (conn, want)));
            return;
        }
        if after < replicated.chain() {
            // The log failed another learner meanwhile: this one comes again, and is sent a snapshot.
            let why = format!("the log is known from {} on only", replicated.chain());
            learner.handler.fed(Fed::Failed(why), scratch);
            wants.extend(scratch.drain(..).map(|want| (conn, want)));
            return;
        }
        let upto = replicated.history().newest().min(step.shared.commits.durable());
        if after >= upto {
            learner.reading = Reading::WaitsForSync { after };
            return;
        }
        learner.ask(conn, Reading::Proposals, Ask::Proposals { after, upto }, &mut step.out.feed);
    }

    /// More is durable here.
    pub(super) fn synced(&mut self, step: &mut Step<'_>) {
        let waiting = self.conns.iter_mut().filter_map(|(conn, learner)| match learner.reading {
            Reading::WaitsForSync { after } => {
                learner.reading = Reading::Nothing;
                Some((*conn, after))
            }
            _ => None,
        });
        for (conn, after) in waiting.collect::<Vec<_>>() {
            self.read_on(conn, after, step);
        }
    }

    /// No snapshot can be sent: one is taken first.
    fn take_snapshot(&mut self, conn: ConnId, step: &mut Step<'_>) {
        let Some(learner) = self.conns.get_mut(&conn) else { return };
        assert_eq!(learner.reading, Reading::Nothing, "{conn:?} needs a snapshot");
        learner.reading = Reading::TakesSnapshot { least: replicated(step.shared).chain().max(learner.least) };
        step.shared.imaging.wish();
    }

    /// A snapshot is durable.
    pub(super) fn snapshot_taken(&mut self, zxid: Zxid, step: &mut Step<'_>) {
        for (conn, learner) in &mut self.conns {
            match learner.reading {
                Reading::TakesSnapshot { least } if least <= zxid => {
                    learner.ask(*conn, Reading::Snapshot, Ask::Snapshot(zxid), &mut step.out.feed);
                }
                Reading::TakesSnapshot { .. } => step.shared.imaging.wish(),
                _ => {}
            }
        }
    }
}

impl Conn {
    fn ask(&mut self, conn: ConnId, reading: Reading, ask: Ask, feed: &mut Vec<FeedWant>) {
        let may_ask = matches!(self.reading, Reading::Nothing | Reading::TakesSnapshot { .. });
        assert!(may_ask, "{ask:?} is asked for {conn:?}, which waits for {:?}", self.reading);
        (self.reading, self.has_asked) = (reading, true);
        feed.push(FeedWant { conn, ask: Some(ask) });
    }
}

/// The first committed proposals behind a position that memory has, and whether they are all.
fn piece_of(replicated: &Replicated, after: Zxid, chunk: usize) -> (Vec<Committed>, bool) {
    let (mut list, mut bytes) = (Vec::new(), 0);
    for committed in replicated.history().after(after) {
        if bytes >= chunk {
            return (list, false);
        }
        bytes += committed.txn.len();
        list.push(committed.clone());
    }
    (list, true)
}

/// The transactions that a member keeps.
pub(super) fn replicated(shared: &Shared) -> &Replicated {
    shared.replicated.as_deref().expect("a leader of others is a member")
}

fn replicated_mut(shared: &mut Shared) -> &mut Replicated {
    shared.replicated.as_deref_mut().expect("a leader of others is a member")
}
