//! A server that follows a leader, from the connection to the end of the term: it learns the epoch, completes its history, logs
//! and acknowledges what is proposed, and says what is committed. Followers and observers are the same machine. Mirrors
//! `Learner`, `Follower` and `Observer`.
//!
//! One [`Learner`] is one term with one leader. Its owner (`peer::learning`) dials, gives it what it hears from the connection
//! and the disk, and does what it wants, in order. The order in which things become durable:
//!
//! - `acceptedEpoch` before ACKEPOCH;
//! - the history that the leader sent, then `currentEpoch`, then the ACK of NEWLEADER;
//! - every proposal before its ACK, and on this server before [`Want::Commit`].
//!
//! When the term ends ([`Want::Rejoin`]) the machine still counts the disk's answers. The owner takes part in the next
//! election when [`Learner::settled`] says what the history is.

mod broadcast;
mod image;
mod pipeline;
mod sync;
mod want;

use std::collections::VecDeque;

use super::message::{Forwarded, FromLeader, FromLearner, LearnerInfo, Touched};
use super::packet::{Split, name, split};
use super::state::ZabState;
use crate::limits::KEPT_CAPACITY;
use crate::quorum::Role;
use crate::types::{Cxid, Epoch, Op, ServerId, SessionId, Zxid};
use image::Image;
pub use image::ImageError;
use pipeline::Pipeline;
pub use want::*;

/// What the disk was asked for and has not answered. There is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Accepted(Epoch),
    Current(Epoch),
    Truncate(Zxid),
    Install(Zxid),
}

/// How far the term has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection yet.
    Dialing,
    /// FOLLOWERINFO or OBSERVERINFO is sent: the next is LEADERINFO.
    Discovery,
    /// `acceptedEpoch` is being saved.
    Accepting,
    /// ACKEPOCH is sent: the next is DIFF, TRUNC or SNAP.
    Choosing,
    /// The log is being cut.
    Truncating,
    /// The snapshot comes.
    Receiving,
    /// The snapshot is being made the base of the history.
    Installing,
    /// Transactions come, until NEWLEADER.
    Syncing,
    /// NEWLEADER came. Its ACK waits for the history up to here, and for `currentEpoch`.
    Logging(Zxid),
    /// `currentEpoch` is being saved.
    Saving,
    /// NEWLEADER is acknowledged: UPTODATE is waited for.
    Joining,
    /// The leader counts on this server.
    Broadcast,
    /// The term is over.
    Ended,
}

/// One term of a server that is not the leader. See the [module](self).
#[derive(Debug)]
pub struct Learner {
    options: Options,
    phase: Phase,
    /// The epoch of the leader, once it has said it.
    epoch: Epoch,
    accepted: Epoch,
    current: Epoch,
    /// `currentEpoch` goes into ACKEPOCH only if the epoch was not accepted before.
    is_new_epoch: bool,
    job: Option<Job>,
    pipeline: Pipeline,
    image: Option<Image>,
    /// Bytes of the snapshot that the disk does not have yet.
    unstored: usize,
    /// The zxid of DIFF.
    promised: Option<Zxid>,
    caught_up: CaughtUp,
    /// The zxid of SNAP, until NEWLEADER.
    in_image: Option<Zxid>,
    /// See [`Want::Append`].
    is_exact: bool,
    /// Forwarded syncs without an answer, oldest first.
    syncs: VecDeque<(SessionId, Cxid)>,
    serving: bool,
    /// The beginning of a packet that is not whole, or what cannot be looked at yet.
    unread: Vec<u8>,
    /// When the leader was heard last, or when this server stopped keeping it waiting.
    heard_ms: i64,
}

impl Learner {
    /// A term of a server with this history.
    ///
    /// # Panics
    /// If `history` is not possible: an epoch is negative or has more than 31 bits, or `currentEpoch` is above
    /// `acceptedEpoch`.
    pub fn new(options: Options, history: History) -> Learner {
        assert!(options.init_ms > 0 && options.sync_ms > 0, "deadlines of {options:?}");
        assert!(options.packet_limit > 0, "packets of {} bytes", options.packet_limit);
        let History { last, accepted, current } = history;
        assert!(last >= Zxid::NONE, "a history ends at {last}");
        let is_possible = Epoch(0) <= current && current <= accepted && accepted.0 <= i64::from(i32::MAX);
        assert!(is_possible, "{history:?} has impossible epochs");
        Learner {
            options,
            phase: Phase::Dialing,
            epoch: Epoch(-1),
            accepted,
            current,
            is_new_epoch: false,
            job: None,
            pipeline: Pipeline::new(last),
            image: None,
            unstored: 0,
            promised: None,
            caught_up: CaughtUp::default(),
            in_image: None,
            is_exact: false,
            syncs: VecDeque::new(),
            serving: false,
            unread: Vec::new(),
            heard_ms: 0,
        }
    }

    /// The connection to the leader is there (and what SASL or TLS need is done): this server introduces itself.
    ///
    /// # Panics
    /// At the second call.
    pub fn connected(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        assert_eq!(self.phase, Phase::Dialing, "a term has one connection");
        self.heard_ms = now_ms;
        let observer = self.options.role == Role::Observer;
        let info = LearnerInfo::new(self.options.me, self.options.config_version);
        say(&FromLearner::Info { observer, accepted: Zxid::new(self.accepted, 0), info }, wants);
        self.phase = Phase::Discovery;
        self.check_in_debug_builds();
    }

    /// Bytes came from the leader, cut anywhere.
    pub fn bytes(&mut self, now_ms: i64, bytes: &[u8], wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        assert!(self.phase != Phase::Dialing, "bytes come before there is a connection");
        self.heard_ms = now_ms;
        if self.unread.is_empty() {
            let taken = self.read(bytes, wants);
            self.unread.extend_from_slice(&bytes[taken..]);
        } else {
            self.unread.extend_from_slice(bytes);
            self.read_on(wants);
        }
        self.check_in_debug_builds();
    }

    /// The leader closed the connection, or it broke, or there was none to be had.
    pub fn closed(&mut self, wants: &mut Vec<Want>) {
        self.end(Why::Closed, wants);
    }

    /// Ends the term for a reason that the owner has: a digest that differs, a role that changes, a stop.
    pub fn leave(&mut self, why: String, wants: &mut Vec<Want>) {
        self.end(Why::Refused(why), wants);
    }

    /// The proposal `zxid` cannot be decoded. Neither it nor anything behind it was appended or will be; the term ends.
    ///
    /// # Panics
    /// If it is durable already, or was never wanted.
    pub fn refuse(&mut self, zxid: Zxid, why: String, wants: &mut Vec<Want>) {
        self.pipeline.take_back(zxid);
        self.end(Why::Refused(why), wants);
    }

    /// [`Want::SaveAccepted`] is done.
    ///
    /// # Panics
    /// If this was not asked for. So do the next four.
    pub fn saved_accepted(&mut self, now_ms: i64, epoch: Epoch, wants: &mut Vec<Want>) {
        self.answered(now_ms, Job::Accepted(epoch));
        self.accepted = epoch;
        if self.phase != Phase::Ended {
            self.acknowledge_info(wants);
            self.read_on(wants);
        }
        self.check_in_debug_builds();
    }

    /// [`Want::SaveCurrent`] is done.
    pub fn saved_current(&mut self, now_ms: i64, epoch: Epoch, wants: &mut Vec<Want>) {
        self.answered(now_ms, Job::Current(epoch));
        self.current = epoch;
        if self.phase != Phase::Ended {
            self.acknowledge_epoch(wants);
        }
        self.check_in_debug_builds();
    }

    /// [`Want::Truncate`] is done: the history ends at `to`, and the tree is that of `to`.
    pub fn truncated(&mut self, now_ms: i64, to: Zxid, wants: &mut Vec<Want>) {
        self.answered(now_ms, Job::Truncate(to));
        self.rebase(to, wants);
    }

    /// [`Install::End`] is done: the history is the leader's snapshot, and the tree is what is in it.
    pub fn installed(&mut self, now_ms: i64, zxid: Zxid, wants: &mut Vec<Want>) {
        self.answered(now_ms, Job::Install(zxid));
        self.rebase(zxid, wants);
    }

    /// This many bytes of [`Install::Chunk`] are no longer in memory.
    pub fn stored(&mut self, now_ms: i64, bytes: usize) {
        assert!(bytes <= self.unstored, "{bytes} bytes are stored, and {} were not", self.unstored);
        self.keep_waiting_less(now_ms, |learner| learner.unstored -= bytes);
    }

    /// Everything appended up to here is durable. To be called also when the term is over.
    ///
    /// # Panics
    /// If it was never appended, or is less than before.
    pub fn synced(&mut self, now_ms: i64, zxid: Zxid, wants: &mut Vec<Want>) {
        self.keep_waiting_less(now_ms, |learner| learner.pipeline.synced(zxid));
        if self.phase != Phase::Ended {
            self.logged(wants);
        }
        self.check_in_debug_builds();
    }

    /// Forwards a client's write or sync. A sync is answered with [`Want::SyncDone`]; a write comes back as a transaction.
    /// Nothing happens if the term is over.
    ///
    /// # Panics
    /// Before [`Want::Serve`].
    pub fn forward(&mut self, request: Forwarded<'_>, wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        assert!(self.serving, "a request of {:?} is forwarded and clients are not served", request.session);
        if request.op == Op::SYNC {
            self.syncs.push_back((request.session, request.cxid));
        }
        say(&FromLearner::Request(request), wants);
    }

    /// Asks the leader whether this session exists, since its client wants to go on with it here. Answered with
    /// [`Want::Revalidated`]. Nothing happens if the term is over.
    ///
    /// # Panics
    /// Before [`Want::Serve`].
    pub fn revalidate(&mut self, session: SessionId, timeout_ms: i32, wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        assert!(self.serving, "{session:?} is asked for and clients are not served");
        say(&FromLearner::Revalidate { session, timeout_ms }, wants);
    }

    /// Answers the PING that [`Want::Ping`] was for. `sessions`: those heard from since the last one, with their time-outs in
    /// milliseconds. Nothing happens if the term is over.
    pub fn pong(&mut self, zxid: Zxid, sessions: impl IntoIterator<Item = (SessionId, i32)>, wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        assert_eq!(self.phase, Phase::Broadcast, "a PING is answered too early");
        let mut room = Vec::new();
        say(&FromLearner::Ping { zxid, touched: Touched::write(&mut room, sessions) }, wants);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64, wants: &mut Vec<Want>) {
        if self.deadline_ms().is_some_and(|deadline| now_ms >= deadline) {
            self.end(Why::Silent { ms: now_ms - self.heard_ms }, wants);
        }
    }

    /// When [`Learner::tick`] must be called, in milliseconds of the monotonic clock. There is none while the leader waits for
    /// this server or its connection is not read.
    pub fn deadline_ms(&self) -> Option<i64> {
        if !self.waits() {
            return None;
        }
        let is_acked = matches!(self.phase, Phase::Joining | Phase::Broadcast);
        Some(self.heard_ms + if is_acked { self.options.sync_ms } else { self.options.init_ms })
    }

    /// Whether the connection should be read. What comes anyway is kept.
    pub fn is_reading(&self) -> bool {
        let is_blocked = matches!(self.phase, Phase::Accepting | Phase::Truncating | Phase::Installing);
        let is_full = self.pipeline.unsynced_bytes() >= LOG_HIGH_WATER || self.unstored >= INSTALL_HIGH_WATER;
        !matches!(self.phase, Phase::Dialing | Phase::Ended) && !is_blocked && !is_full
    }

    /// How far the term has come.
    pub fn state(&self) -> ZabState {
        match self.phase {
            Phase::Dialing | Phase::Discovery | Phase::Accepting => ZabState::Discovery,
            Phase::Choosing
            | Phase::Truncating
            | Phase::Receiving
            | Phase::Installing
            | Phase::Syncing
            | Phase::Logging(_)
            | Phase::Saving
            | Phase::Joining => ZabState::Synchronization,
            Phase::Broadcast => ZabState::Broadcast,
            Phase::Ended => ZabState::Election,
        }
    }

    /// Whether clients are served.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// How this server got the leader's history, or gets it.
    pub fn caught_up(&self) -> CaughtUp {
        self.caught_up
    }

    /// The leader's epoch, once it has said it.
    pub fn epoch(&self) -> Option<Epoch> {
        (self.epoch >= Epoch(0)).then_some(self.epoch)
    }

    /// The last zxid that was appended, durable or not.
    pub fn last(&self) -> Zxid {
        self.pipeline.appended()
    }

    /// The last zxid that the leader committed, durable here or not.
    pub fn committed(&self) -> Zxid {
        self.pipeline.committed()
    }

    /// After the end: what this server has, once the disk has answered for everything that was asked of it. `None`: it has
    /// not. The owner has to apply what is behind the last [`Want::Commit`].
    pub fn settled(&self) -> Option<History> {
        let is_settled = self.phase == Phase::Ended && self.job.is_none() && self.pipeline.is_durable();
        let (last, accepted, current) = (self.pipeline.appended(), self.accepted, self.current);
        is_settled.then_some(History { last, accepted, current })
    }

    /// Checks the invariants. Walks all that waits.
    pub fn check(&self) {
        self.pipeline.check();
        assert!(self.current <= self.accepted, "current {:?}, accepted {:?}", self.current, self.accepted);
        let job = match self.phase {
            Phase::Accepting => matches!(self.job, Some(Job::Accepted(epoch)) if epoch == self.epoch),
            Phase::Truncating => matches!(self.job, Some(Job::Truncate(_))),
            Phase::Installing => matches!(self.job, Some(Job::Install(_))),
            Phase::Saving => matches!(self.job, Some(Job::Current(epoch)) if epoch == self.epoch),
            Phase::Ended => true,
            _ => self.job.is_none(),
        };
        assert!(job, "{:?} with {:?}", self.phase, self.job);
        assert_eq!(self.image.is_some(), self.phase == Phase::Receiving, "{:?} of a snapshot", self.phase);
        if matches!(self.phase, Phase::Joining | Phase::Broadcast) {
            assert_eq!(self.current, self.epoch, "NEWLEADER is acknowledged and currentEpoch is not saved");
        }
        assert!(!self.serving || self.phase == Phase::Broadcast, "clients are served in {:?}", self.phase);
        assert!(self.serving || self.syncs.is_empty(), "{} syncs and no clients", self.syncs.len());
        assert!(self.phase != Phase::Ended || self.unread.is_empty(), "bytes are kept of a term that is over");
    }

    /// The walk is too much for every packet in a release build.
    fn check_in_debug_builds(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// Whether it is the leader's turn to say something.
    fn waits(&self) -> bool {
        self.is_reading() && !matches!(self.phase, Phase::Logging(_) | Phase::Saving)
    }

    /// Runs `step`, after which the leader may have to be heard again: it gets its whole time then.
    fn keep_waiting_less(&mut self, now_ms: i64, step: impl FnOnce(&mut Learner)) {
        let waited = self.waits();
        step(self);
        if !waited {
            self.heard_ms = now_ms;
        }
    }

    fn ask(&mut self, job: Job, want: Want, wants: &mut Vec<Want>) {
        assert!(self.job.is_none(), "{job:?} is asked for before {:?} is answered", self.job);
        self.job = Some(job);
        wants.push(want);
    }

    fn answered(&mut self, now_ms: i64, job: Job) {
        assert_eq!(self.job, Some(job), "{job:?} is answered and was not asked for");
        self.job = None;
        self.heard_ms = now_ms;
    }

    /// Reads what was kept.
    fn read_on(&mut self, wants: &mut Vec<Want>) {
        let mut unread = std::mem::take(&mut self.unread);
        let taken = self.read(&unread, wants);
        if self.phase != Phase::Ended {
            unread.drain(..taken);
            if unread.is_empty() && unread.capacity() > KEPT_CAPACITY {
                unread = Vec::new();
            }
            self.unread = unread;
        }
    }

    /// Reads as much as is whole and may be looked at. Returns how much that was, or everything when the term is over.
    fn read(&mut self, bytes: &[u8], wants: &mut Vec<Want>) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let read = match self.phase {
                Phase::Ended => return bytes.len(),
                Phase::Accepting | Phase::Truncating | Phase::Installing => return at,
                Phase::Receiving => self.read_image(rest, wants),
                _ => self.read_packet(rest, wants),
            };
            match read {
                Ok(0) => return at,
                Ok(taken) => at += taken,
                Err(why) => self.end(why, wants),
            }
            assert!(at <= bytes.len(), "{at} of {} bytes are read", bytes.len());
        }
    }

    fn read_packet(&mut self, bytes: &[u8], wants: &mut Vec<Want>) -> Result<usize, Why> {
        match split(bytes, self.options.packet_limit)? {
            Split::Need(_) => Ok(0),
            Split::Whole(packet, taken) => {
                let said = FromLeader::read(&packet)?;
                self.heard(said, name(packet.kind), wants)?;
                Ok(taken)
            }
        }
    }

    fn heard(&mut self, said: FromLeader<'_>, name: &'static str, wants: &mut Vec<Want>) -> Result<(), Why> {
        match self.phase {
            // It comes at any place, also where no answer is waited for.
            _ if matches!(said, FromLeader::Ping(_)) && self.phase != Phase::Broadcast => Ok(()),
            Phase::Discovery => self.discover(said, name, wants),
            Phase::Choosing => self.choose(said, name, wants),
            _ => self.follow(said, name, wants),
        }
    }

    /// A packet that has no place where this learner is.
    fn unexpected(&self, name: &'static str) -> Why {
        let place = match self.phase {
            Phase::Discovery => "instead of LEADERINFO",
            Phase::Choosing => "instead of DIFF, TRUNC or SNAP",
            Phase::Syncing => "before NEWLEADER",
            Phase::Logging(_) | Phase::Saving => "before NEWLEADER was acknowledged",
            Phase::Joining => "before UPTODATE",
            Phase::Broadcast => "to a learner that is up to date",
            _ => panic!("{name} is read in {:?}", self.phase),
        };
        Why::Unexpected { name, place }
    }

    /// The term is over.
    fn end(&mut self, why: Why, wants: &mut Vec<Want>) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.image.take().is_some() {
            wants.push(Want::Install(Install::Abandon));
        }
        self.phase = Phase::Ended;
        self.serving = false;
        self.unread = Vec::new();
        self.syncs.clear();
        self.pipeline.end();
        wants.push(Want::Rejoin { why });
        self.check_in_debug_builds();
    }
}

fn say(message: &FromLearner<'_>, wants: &mut Vec<Want>) {
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    assert!(!bytes.is_empty(), "{message:?} has no bytes");
    wants.push(Want::Write(bytes.into()));
}
