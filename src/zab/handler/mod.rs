//! One learner's connection, on a leader: what the learner says becomes inputs of the leader, what the leader wants becomes
//! packets. Mirrors `LearnerHandler`.
//!
//! # The conversation
//!
//! | phase | the learner sends | is answered by |
//! |---|---|---|
//! | introduction | FOLLOWERINFO or OBSERVERINFO | LEADERINFO ([`Handler::lead`]) |
//! | promise | ACKEPOCH | DIFF, TRUNC or SNAP ([`Handler::sync`]), what it misses, what is outstanding, NEWLEADER |
//! | new leader | ACK of NEWLEADER | UPTODATE ([`Handler::up_to_date`]) |
//! | service | ACK, PING, REVALIDATE, REQUEST | |
//!
//! A learner takes part in the broadcast from NEWLEADER on: PROPOSAL, COMMIT and PING may come before its UPTODATE. The owner
//! calls [`Handler::proposal`], [`Handler::commit`] and the others for every learner; those of learners that are not that far
//! are passed over, because [`Fed::Proposals`] will contain them.
//!
//! Whatever a learner does, it ends its own connection at most: what it sends is bounded before it is kept, what it is sent
//! waits for room, and nothing here waits for a socket. Time-outs are the leader's: it hears of all progress
//! ([`Want::Heard`]).

mod stream;
mod wants;

pub use self::stream::LearnerRoom;
use self::stream::Stream;
pub use self::wants::{End, Fault, Fed, Feed, Outgoing, Request, Want};
use super::message::{Forwarded, FromLeader, FromLearner, LearnerInfo, PROTOCOL_VERSION};
use super::packet::{self, Split};
use super::state::Traffic;
use super::sync_plan::Plan;
use crate::jute::Put;
use crate::jute::chunk::Chunk;
use crate::limits::{KEPT_CAPACITY, MAX_CONNECT_FRAME};
use crate::types::{Epoch, Op, PEER_LOG, ServerId, SessionId, Zxid};

/// What ends the stream of a snapshot.
const SIGNATURE: &[u8] = b"BenWasHere";

/// How far the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// FOLLOWERINFO or OBSERVERINFO is due.
    Introduction,
    /// The leader must name its epoch.
    Introduced { accepted: Zxid },
    /// ACKEPOCH is due.
    Promise { epoch: Epoch },
    /// The leader must begin the synchronisation.
    Promised { epoch: Epoch, peer: Zxid },
    /// A snapshot is sent.
    Snapshot { epoch: Epoch, begun: bool },
    /// What the learner misses is sent.
    Missing { epoch: Epoch },
    /// NEWLEADER was sent: its ACK is due.
    NewLeader { epoch: Epoch },
    /// The learner waits for UPTODATE.
    Ready { epoch: Epoch },
    /// The learner serves clients.
    Service { epoch: Epoch },
    /// The connection is closed.
    Closed,
}

/// One learner's connection.
#[derive(Debug)]
pub struct Handler {
    phase: Phase,
    /// Most bytes of a packet's data: `jute.maxbuffer` and `zookeeper.jute.maxbuffer.extrasize`.
    limit: usize,
    observer: bool,
    /// The learner's protocol has LEADERINFO and ACKEPOCH; older than 0x10000 has not.
    has_epochs: bool,
    stream: Stream,
    /// An incomplete packet, and the least length at which it can be complete.
    unread: Vec<u8>,
    need: usize,
    bodies: Chunk,
}

impl Handler {
    /// A connection that was just accepted. Packets with more than `limit` bytes of data close it.
    pub fn new(limit: usize, room: LearnerRoom) -> Handler {
        assert!(limit >= MAX_CONNECT_FRAME, "a limit of {limit} bytes");
        Handler {
            phase: Phase::Introduction,
            limit,
            observer: false,
            has_epochs: true,
            stream: Stream::new(room),
            unread: Vec::new(),
            need: 0,
            bodies: Chunk::default(),
        }
    }

    /// Whether the connection is to be closed. Inputs that still come are passed over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The last proposal that was sent, and the last commit.
    pub fn sent(&self) -> (Zxid, Zxid) {
        (self.stream.proposed(), self.stream.committed())
    }

    /// What went over the connection.
    pub fn traffic(&self) -> Traffic {
        self.stream.traffic
    }

    /// Counts it from now on.
    pub fn reset_traffic(&mut self) {
        self.stream.traffic = Traffic::default();
    }

    /// Bytes that were written and have not left.
    pub fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    /// Bytes of an incomplete packet.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Whether the learner is sent everything at the moment at which the leader says it.
    pub fn is_live(&self) -> bool {
        self.stream.is_live() && !self.is_closed()
    }

    /// The learner has sent these bytes.
    pub fn heard(&mut self, bytes: &[u8], wants: &mut Vec<Want>) {
        if self.is_closed() || bytes.is_empty() {
            return;
        }
        // Before the introduction every byte would count as progress otherwise.
        let is_known = self.phase != Phase::Introduction;
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let taken = if unread.len() < self.need { 0 } else { self.take_packets(&unread, wants) };
        if self.is_closed() {
            return;
        }
        unread.drain(..taken);
        if unread.is_empty() && unread.capacity() > KEPT_CAPACITY {
            unread = Vec::new();
        }
        self.unread = unread;
        if is_known {
            wants.push(Want::Heard);
        }
    }

    /// Handles the complete packets. Returns how many bytes they have.
    fn take_packets(&mut self, unread: &[u8], wants: &mut Vec<Want>) -> usize {
        let mut taken = 0;
        while !self.is_closed() {
            // An introduction is short, and whoever sends it may be anybody.
            let limit = if self.phase == Phase::Introduction { MAX_CONNECT_FRAME } else { self.limit };
            let read = match packet::split(&unread[taken..], limit) {
                Ok(Split::Need(need)) => {
                    self.need = need;
                    break;
                }
                Ok(Split::Whole(packet, len)) => {
                    taken += len;
                    FromLearner::read(packet)
                }
                Err(e) => Err(e),
            };
            let handled = read.map_err(Fault::from).and_then(|said| self.hear(said, wants));
            self.settle(handled, wants);
        }
        assert!(taken <= unread.len(), "{taken} of {} bytes were read", unread.len());
        taken
    }

    fn settle(&mut self, handled: Result<(), Fault>, wants: &mut Vec<Want>) {
        if let Err(fault) = handled {
            self.phase = Phase::Closed;
            self.unread = Vec::new();
            wants.push(Want::Close(fault));
        }
    }

    fn hear(&mut self, said: FromLearner<'_>, wants: &mut Vec<Want>) -> Result<(), Fault> {
        self.stream.traffic.received += u64::from(matches!(self.phase, Phase::Service { .. }));
        match (self.phase, said) {
            (Phase::Introduction, FromLearner::Info { observer, accepted, info }) => {
                self.introduced(observer, accepted, &info, wants);
            }
            (Phase::Promise { epoch }, FromLearner::AckEpoch { last, current }) => {
                self.promised(epoch, current, last, wants)?;
            }
            (
                Phase::NewLeader { epoch } | Phase::Ready { epoch } | Phase::Service { epoch },
                FromLearner::Ack(zxid),
            ) => self.acked(epoch, zxid, wants)?,
            (Phase::Service { .. }, said) => self.serve(said, wants)?,
            (phase, said) => return Err(Fault::Unexpected { said: name(&said), wanted: phase.wanted() }),
        }
        Ok(())
    }

    fn introduced(&mut self, observer: bool, accepted: Zxid, info: &LearnerInfo<'_>, wants: &mut Vec<Want>) {
        self.observer = observer;
        self.has_epochs = info.protocol() >= PROTOCOL_VERSION;
        self.phase = Phase::Introduced { accepted };
        let (server, config_version) = (info.server, info.config_version);
        wants.push(Want::Info { server, observer, accepted: accepted.epoch(), config_version });
    }

    /// The leader names its epoch. LEADERINFO.
    pub fn lead(&mut self, epoch: Epoch, wants: &mut Vec<Want>) {
        let Phase::Introduced { accepted } = self.phase else {
            assert!(self.is_closed(), "an epoch is named in {:?}", self.phase);
            return;
        };
        // An observer may have accepted a newer one, which binds it to nothing.
        let may_follow = epoch >= accepted.epoch() || self.observer;
        assert!(may_follow, "{epoch:?} is named to a server that has accepted {accepted}");
        self.phase = Phase::Promise { epoch };
        if self.has_epochs {
            self.stream.say(&FromLeader::LeaderInfo { epoch, protocol: PROTOCOL_VERSION, extra: &[] }, wants);
            return;
        }
        // Such an old learner has told its history at once.
        let handled = self.promised(epoch, Some(accepted.epoch()), accepted, wants);
        self.settle(handled, wants);
    }

    fn promised(
        &mut self,
        epoch: Epoch,
        current: Option<Epoch>,
        last: Zxid,
        wants: &mut Vec<Want>,
    ) -> Result<(), Fault> {
        if last < Zxid::NONE {
            return Err(Fault::Zxid { what: "ACKEPOCH", zxid: last, why: "which is none" });
        }
        self.phase = Phase::Promised { epoch, peer: last };
        wants.push(Want::EpochAck { current, last });
        Ok(())
    }

    /// The leader begins the synchronisation. Also called to answer [`Feed::Locate`].
    pub fn sync(&mut self, plan: Plan, wants: &mut Vec<Want>) {
        let Phase::Promised { epoch, peer } = self.phase else {
            assert!(self.is_closed(), "a synchronisation begins in {:?}", self.phase);
            return;
        };
        match plan {
            Plan::Locate { peer: of } => {
                assert!(of == peer && !self.stream.asked, "{of} is to be found for a learner at {peer}");
                self.ask(Feed::Locate { peer }, wants);
            }
            Plan::Diff { from, upto } => {
                assert!(from == peer, "DIFF from {from} for a learner at {peer}");
                self.begin(epoch, from, &FromLeader::Diff(upto), wants);
            }
            Plan::Trunc { to } => {
                assert!(to < peer, "TRUNC to {to} for a learner at {peer}");
                self.begin(epoch, to, &FromLeader::Trunc(to), wants);
            }
            Plan::Snap { file } => {
                self.stream.asked = false;
                self.phase = Phase::Snapshot { epoch, begun: false };
                self.ask(Feed::Snapshot(file), wants);
            }
        }
    }

    fn begin(&mut self, epoch: Epoch, position: Zxid, message: &FromLeader<'_>, wants: &mut Vec<Want>) {
        self.stream.asked = false;
        self.stream.begin(self.observer, position);
        self.stream.say(message, wants);
        self.phase = Phase::Missing { epoch };
        self.ask_more(wants);
    }

    fn ask(&mut self, feed: Feed, wants: &mut Vec<Want>) {
        assert!(!self.stream.asked, "{feed:?} is asked for before the last was answered");
        self.stream.asked = true;
        wants.push(Want::Feed(feed));
    }

    /// Asks for what comes next, if the learner reads and there is room.
    fn ask_more(&mut self, wants: &mut Vec<Want>) {
        if self.stream.asked || !self.stream.has_room() {
            return;
        }
        match self.phase {
            Phase::Snapshot { begun: true, .. } => self.ask(Feed::Piece, wants),
            _ if self.is_reading() => self.ask(Feed::After(self.stream.committed()), wants),
            _ => {}
        }
    }

    /// Whether the learner is between the end of TRUNC, DIFF or SNAP and the end of the history.
    fn is_reading(&self) -> bool {
        let has_begun = matches!(self.phase, Phase::Missing { .. } | Phase::NewLeader { .. })
            || matches!(self.phase, Phase::Ready { .. } | Phase::Service { .. });
        has_begun && !self.stream.is_live()
    }

    /// Of what was written, so many bytes more have left.
    pub fn left(&mut self, bytes: usize, wants: &mut Vec<Want>) {
        if self.is_closed() {
            return;
        }
        self.stream.left(bytes);
        // A learner that has much to read says nothing until it has read it.
        if matches!(self.phase, Phase::Snapshot { .. } | Phase::NewLeader { .. }) || self.is_reading() {
            wants.push(Want::Heard);
        }
        self.ask_more(wants);
    }

    /// What was asked for.
    pub fn fed(&mut self, fed: Fed<'_>, wants: &mut Vec<Want>) {
        if self.is_closed() {
            return;
        }
        assert!(self.stream.asked, "{fed:?} was not asked for");
        self.stream.asked = false;
        let handled = self.take(fed, wants);
        self.settle(handled, wants);
        self.ask_more(wants);
    }

    fn take(&mut self, fed: Fed<'_>, wants: &mut Vec<Want>) -> Result<(), Fault> {
        match (fed, self.phase) {
            (Fed::Failed(why), _) => return Err(Fault::Unreadable(why)),
            (Fed::Snapshot { zxid }, Phase::Snapshot { epoch, begun: false }) => {
                self.stream.begin(self.observer, zxid);
                self.stream.say(&FromLeader::Snap(zxid), wants);
                self.phase = Phase::Snapshot { epoch, begun: true };
            }
            (Fed::Piece { bytes, last }, Phase::Snapshot { epoch, begun: true }) => {
                if !bytes.is_empty() {
                    self.stream.write(bytes, wants);
                }
                if last {
                    let mut signature = Vec::new();
                    signature.put_buffer(Some(SIGNATURE));
                    self.stream.write(signature.into(), wants);
                    self.phase = Phase::Missing { epoch };
                }
            }
            (Fed::Proposals { list, end }, _) if self.is_reading() => {
                self.stream.feed(&list, wants)?;
                if let Some(end) = end {
                    self.join(&end, wants)?;
                }
            }
            (fed, phase) => panic!("{fed:?} in {phase:?}"),
        }
        Ok(())
    }

    /// Everything committed was sent.
    fn join(&mut self, end: &End<'_>, wants: &mut Vec<Want>) -> Result<(), Fault> {
        self.stream.join(&end.outstanding, wants)?;
        if let Phase::Missing { epoch } = self.phase
            && self.stream.is_live()
        {
            self.stream.begin_epoch();
            // An old learner does not know of configurations.
            let config = self.has_epochs.then_some(end.config);
            self.stream.traffic.last_zxid = Zxid::new(epoch, 0);
            self.stream.say(&FromLeader::NewLeader { zxid: Zxid::new(epoch, 0), config }, wants);
            self.phase = Phase::NewLeader { epoch };
            wants.push(Want::NewLeaderSent);
        }
        Ok(())
    }

    fn acked(&mut self, epoch: Epoch, zxid: Zxid, wants: &mut Vec<Want>) -> Result<(), Fault> {
        if zxid != Zxid::new(epoch, 0) {
            // Some releases of Apache's follower acknowledge proposals before NEWLEADER. The leader does not count these.
            self.can_be_acked(zxid)?;
        } else if self.phase == (Phase::NewLeader { epoch }) {
            self.phase = Phase::Ready { epoch };
        }
        wants.push(Want::Ack(zxid));
        Ok(())
    }

    fn can_be_acked(&self, zxid: Zxid) -> Result<(), Fault> {
        let why = match zxid {
            _ if zxid > self.stream.proposed() => "which it was not sent",
            _ if zxid < Zxid::ZERO || zxid.counter() == 0 => "which is no transaction",
            _ => return Ok(()),
        };
        Err(Fault::Zxid { what: "ACK", zxid, why })
    }

    fn serve(&mut self, said: FromLearner<'_>, wants: &mut Vec<Want>) -> Result<(), Fault> {
        self.stream.traffic.requests += u64::from(matches!(said, FromLearner::Request(_)));
        match said {
            FromLearner::Ping { touched, .. } => {
                wants.extend(touched.iter().map(|(session, timeout_ms)| Want::Touch { session, timeout_ms }));
            }
            FromLearner::Revalidate { session, timeout_ms } => wants.push(Want::Revalidate { session, timeout_ms }),
            FromLearner::Request(Forwarded { session, cxid, op: Op::SYNC, .. }) => {
                wants.push(Want::SyncAsked { session, cxid });
            }
            FromLearner::Request(Forwarded { session, cxid, op, body, identities }) => {
                let body = self.bodies.keep(body);
                wants.push(Want::Request(Request { session, cxid, op, body, identities }));
            }
            FromLearner::Unknown(kind) => {
                tracing::warn!(target: PEER_LOG, kind, "a learner's packet of an unknown type is passed over");
            }
            FromLearner::Info { .. } | FromLearner::AckEpoch { .. } | FromLearner::Ack(_) => {
                return Err(Fault::Unexpected { said: name(&said), wanted: self.phase.wanted() });
            }
        }
        Ok(())
    }

    /// The leader is established and the learner has its history: UPTODATE.
    pub fn up_to_date(&mut self, wants: &mut Vec<Want>) {
        let Phase::Ready { epoch } = self.phase else {
            assert!(self.is_closed(), "UPTODATE in {:?}", self.phase);
            return;
        };
        self.stream.say(&FromLeader::UpToDate, wants);
        self.phase = Phase::Service { epoch };
    }

    /// The leader proposes something. PROPOSAL, to a follower.
    pub fn proposal(&mut self, outgoing: &Outgoing, wants: &mut Vec<Want>) {
        if !self.is_closed() {
            self.stream.proposal(outgoing, wants);
            self.ask_more(wants);
        }
    }

    /// The leader commits something. COMMIT, or INFORM to an observer.
    pub fn commit(&mut self, outgoing: &Outgoing, wants: &mut Vec<Want>) {
        if !self.is_closed() {
            let handled = self.stream.commit(outgoing, wants);
            self.settle(handled, wants);
            self.ask_more(wants);
        }
    }

    /// The leader commits a reconfig that takes effect. COMMITANDACTIVATE, or INFORMANDACTIVATE to an observer.
    pub fn activate(&mut self, outgoing: &Outgoing, designated: ServerId, wants: &mut Vec<Want>) {
        if !self.is_closed() {
            let handled = self.stream.activate(outgoing, designated, wants);
            self.settle(handled, wants);
        }
    }

    /// Every half tick. PING, with the zxid of the last proposal. A learner that is not that far, or has much to read, gets
    /// none.
    pub fn ping(&mut self, last_proposed: Zxid, wants: &mut Vec<Want>) {
        let is_begun = matches!(self.phase, Phase::NewLeader { .. } | Phase::Ready { .. } | Phase::Service { .. });
        if is_begun && self.stream.has_room() {
            self.stream.traffic.last_zxid = last_proposed;
            self.stream.say(&FromLeader::Ping(last_proposed), wants);
        }
    }

    /// The oldest unanswered sync of this learner is done: SYNC, behind the COMMIT of `behind`.
    pub fn sync_done(&mut self, behind: Zxid, wants: &mut Vec<Want>) {
        if !self.is_closed() {
            assert!(matches!(self.phase, Phase::Service { .. }), "a sync is answered in {:?}", self.phase);
            let handled = self.stream.sync_done(behind, wants);
            self.settle(handled, wants);
        }
    }

    /// Whether a session exists and now belongs to the learner. REVALIDATE.
    pub fn revalidated(&mut self, session: SessionId, valid: bool, wants: &mut Vec<Want>) {
        if !self.is_closed() {
            assert!(matches!(self.phase, Phase::Service { .. }), "{session} is revalidated in {:?}", self.phase);
            let handled = self.stream.answer(&FromLeader::Revalidate { session, valid }, wants);
            self.settle(handled, wants);
        }
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        if self.is_closed() {
            return;
        }
        self.stream.check();
        let before = matches!(self.phase, Phase::Introduction | Phase::Introduced { .. } | Phase::Promise { .. });
        assert!(!before || self.stream.proposed() == Zxid::NONE, "{:?} with a history", self.phase);
        let must_ask = self.is_reading() && self.stream.has_room();
        assert!(!must_ask || self.stream.asked, "a learner has room and is given nothing");
        // Data, identities, and two strings that are waited for before the identities are counted together.
        assert!(self.need <= 4 * self.limit + 64, "{} bytes of a packet are waited for", self.need);
        assert!(self.unread.len() < self.need.max(1), "a complete packet is kept");
    }
}

impl Phase {
    /// What the learner should send, for messages.
    fn wanted(self) -> &'static str {
        match self {
            Phase::Introduction => "FOLLOWERINFO or OBSERVERINFO",
            Phase::Promise { .. } => "ACKEPOCH",
            Phase::NewLeader { .. } => "the ACK of NEWLEADER",
            Phase::Introduced { .. } | Phase::Promised { .. } | Phase::Snapshot { .. } | Phase::Missing { .. } => {
                "nothing"
            }
            Phase::Ready { .. } => "nothing but ACK",
            Phase::Service { .. } | Phase::Closed => "ACK, PING, REVALIDATE or REQUEST",
        }
    }
}

/// The name of a packet's type.
fn name(said: &FromLearner<'_>) -> &'static str {
    use packet::kind;
    packet::name(match said {
        FromLearner::Info { observer: false, .. } => kind::FOLLOWERINFO,
        FromLearner::Info { observer: true, .. } => kind::OBSERVERINFO,
        FromLearner::AckEpoch { .. } => kind::ACKEPOCH,
        FromLearner::Ack(_) => kind::ACK,
        FromLearner::Ping { .. } => kind::PING,
        FromLearner::Revalidate { .. } => kind::REVALIDATE,
        FromLearner::Request(_) => kind::REQUEST,
        FromLearner::Unknown(kind) => *kind,
    })
}
