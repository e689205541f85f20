//! One server during one term as a learner: the machine, with an owner and a disk around it that judge everything it wants, so
//! that nothing is said, saved or applied too early. The disk answers only when it is told to.

use std::collections::VecDeque;

use crate::jute::Put;
use crate::quorum::Role;
use crate::txn::TxnHeader;
use crate::types::{Cxid, Epoch, Op, ServerId, SessionId, Zxid};
use crate::zab::learner::{History, Install, Learner, Options, Want, Why};
use crate::zab::message::{FromLeader, FromLearner};
use crate::zab::packet::{Split, kind, split};

/// How long the leader may be silent before the ACK of NEWLEADER, in milliseconds.
pub const INIT_MS: i64 = 3000;
/// And after it.
pub const SYNC_MS: i64 = 1000;
/// The most bytes of a packet's data. Apache's default: twice `jute.maxbuffer`.
pub const LIMIT: usize = 2 * 0xf_ffff;

/// Something that the disk was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Accepted(Epoch),
    Current(Epoch),
    Truncate(Zxid),
    Install(Zxid),
}

/// A transaction in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Its zxid.
    pub zxid: Zxid,
    /// See `Want::Append`.
    pub exact: bool,
}

/// One server during one term.
pub struct Server {
    /// The machine.
    pub learner: Learner,
    /// The time, in milliseconds.
    pub now_ms: i64,
    role: Role,
    wants: Vec<Want>,
    /// The zxid below the log.
    pub base: Zxid,
    /// What was appended behind it.
    pub log: Vec<Logged>,
    /// The last one of it that is durable.
    pub durable: Zxid,
    /// `acceptedEpoch` on the disk.
    pub accepted: Epoch,
    /// `currentEpoch` on the disk.
    pub current: Epoch,
    job: Option<Job>,
    /// Parts of the snapshot that are not stored.
    chunks: VecDeque<usize>,
    /// The snapshot that is being received: its zxid and bytes.
    pub image: Option<(Zxid, Vec<u8>)>,
    /// Packets to the leader: type, zxid and all bytes.
    pub said: Vec<(i32, Zxid, Vec<u8>)>,
    /// What was wanted from the owner, without what the connection and the disk do.
    pub told: Vec<Want>,
    /// The last transaction in the tree.
    pub applied: Zxid,
    /// PINGs to be answered.
    pub pings: VecDeque<Zxid>,
    /// Why the term ended.
    pub left: Option<Why>,
}

/// What a server begins with.
pub fn history(last: i64, accepted: i64, current: i64) -> History {
    History { last: Zxid(last), accepted: Epoch(accepted), current: Epoch(current) }
}

impl Server {
    /// The server, whose connection is there.
    pub fn new(options: Options, history: History) -> Server {
        let mut server = Server {
            learner: Learner::new(options, history),
            now_ms: 10,
            role: options.role,
            wants: Vec::new(),
            base: history.last,
            log: Vec::new(),
            durable: history.last,
            accepted: history.accepted,
            current: history.current,
            job: None,
            chunks: VecDeque::new(),
            image: None,
            said: Vec::new(),
            told: Vec::new(),
            applied: history.last,
            pings: VecDeque::new(),
            left: None,
        };
        server.step(Learner::connected);
        server
    }

    /// A participant, or an observer.
    pub fn with(role: Role, history: History) -> Server {
        let me = ServerId(1);
        let config_version = Zxid::ZERO;
        let options = Options { me, role, config_version, init_ms: INIT_MS, sync_ms: SYNC_MS, packet_limit: LIMIT };
        Server::new(options, history)
    }

    /// A follower of epoch 2 whose history ends at `last`, in broadcast.
    pub fn in_broadcast(role: Role, last: i64) -> Server {
        let mut server = Server::with(role, history(last, 2, 2));
        let zxid = Zxid::new(Epoch(2), 0);
        server.hear(FromLeader::LeaderInfo { epoch: Epoch(2), protocol: 0x10000, extra: &[] });
        server.hear(FromLeader::Diff(Zxid(last)));
        server.hear(FromLeader::NewLeader { zxid, config: None });
        server.work();
        server.hear(FromLeader::UpToDate);
        assert!(server.learner.is_serving(), "{:?}", server.left);
        server.said.clear();
        server.told.clear();
        server
    }

    /// The term ends now, if it has not, and the disk answers for everything: what it has is what the learner says.
    pub fn settle(&mut self) {
        self.close();
        self.work();
        assert_eq!(self.durable, self.appended());
        let has = History { last: self.durable, accepted: self.accepted, current: self.current };
        assert_eq!(self.learner.settled(), Some(has), "what the disk has after the end");
    }

    /// Something happens to the learner, and the owner does what it wants.
    pub fn step(&mut self, input: impl FnOnce(&mut Learner, i64, &mut Vec<Want>)) {
        input(&mut self.learner, self.now_ms, &mut self.wants);
        for want in std::mem::take(&mut self.wants) {
            self.owner(want);
        }
        self.learner.check();
    }

    /// Follower or observer.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Bytes come from the leader.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.step(|learner, now_ms, wants| learner.bytes(now_ms, bytes, wants));
    }

    /// A whole packet comes.
    pub fn hear(&mut self, said: FromLeader<'_>) {
        let mut bytes = Vec::new();
        said.put(&mut bytes);
        self.bytes(&bytes);
    }

    /// The connection breaks.
    pub fn close(&mut self) {
        self.step(|learner, _, wants| learner.closed(wants));
    }

    /// The last transaction that was given to the log.
    pub fn appended(&self) -> Zxid {
        self.log.last().map_or(self.base, |logged| logged.zxid)
    }

    /// The last transaction that was proposed before NEWLEADER.
    fn history(&self) -> Zxid {
        self.log.iter().filter(|l| !l.exact).map(|l| l.zxid).max().unwrap_or(self.base)
    }

    /// Packets of one type that were said, by their zxids.
    pub fn zxids_of(&self, kind: i32) -> Vec<Zxid> {
        self.said.iter().filter(|(k, ..)| *k == kind).map(|(_, zxid, _)| *zxid).collect()
    }

    /// Everything up to `zxid` becomes durable.
    pub fn sync(&mut self, zxid: Zxid) {
        assert!(self.durable <= zxid && zxid <= self.appended());
        self.durable = zxid;
        self.step(|learner, now_ms, wants| learner.synced(now_ms, zxid, wants));
    }

    /// One thing that the disk has to do, or a part of it; whether there was any.
    pub fn work_a_little(&mut self, rng: &mut fastrand::Rng) -> bool {
        let waiting: Vec<_> = self.log.iter().map(|l| l.zxid).filter(|zxid| *zxid > self.durable).collect();
        let mut choices = Vec::new();
        choices.extend((!waiting.is_empty()).then_some(0));
        choices.extend((!self.chunks.is_empty()).then_some(1));
        choices.extend(self.job.map(|_| 2));
        match rng.choice(choices) {
            Some(0) => self.sync(waiting[rng.usize(..waiting.len())]),
            Some(1) => self.store(),
            Some(_) => self.finish(),
            None => return false,
        }
        true
    }

    /// Everything that the disk has to do.
    pub fn work(&mut self) {
        let mut rng = fastrand::Rng::with_seed(0);
        while self.work_a_little(&mut rng) {}
    }

    /// A part of the snapshot is stored.
    pub fn store(&mut self) {
        let bytes = self.chunks.pop_front().expect("a part of a snapshot");
        self.step(|learner, now_ms, _| learner.stored(now_ms, bytes));
    }

    /// The disk answers.
    pub fn finish(&mut self) {
        match self.job.take().expect("the disk was asked for something") {
            Job::Accepted(epoch) => {
                self.accepted = epoch;
                self.step(|learner, now_ms, wants| learner.saved_accepted(now_ms, epoch, wants));
            }
            Job::Current(epoch) => {
                self.current = epoch;
                self.step(|learner, now_ms, wants| learner.saved_current(now_ms, epoch, wants));
            }
            Job::Truncate(to) => {
                self.rebase(to);
                self.step(|learner, now_ms, wants| learner.truncated(now_ms, to, wants));
            }
            Job::Install(zxid) => {
                self.rebase(zxid);
                while !self.chunks.is_empty() {
                    self.store();
                }
                self.step(|learner, now_ms, wants| learner.installed(now_ms, zxid, wants));
            }
        }
    }

    /// Whether the disk was asked for something else than to log.
    pub fn has_job(&self) -> bool {
        self.job.is_some()
    }

    fn rebase(&mut self, last: Zxid) {
        self.log.clear();
        (self.base, self.durable, self.applied) = (last, last, last);
    }

    fn ask(&mut self, job: Job) {
        assert_eq!(self.job, None, "{job:?} is asked for at the same time");
        self.job = Some(job);
    }

    fn owner(&mut self, want: Want) {
        assert_eq!(self.left, None, "{want:?} behind the end of the term");
        match want {
            Want::Write(bytes) => self.write(&bytes),
            Want::SaveAccepted(epoch) => self.ask(Job::Accepted(epoch)),
            Want::SaveCurrent(epoch) => {
                assert!(self.history() <= self.durable, "currentEpoch is saved before the history");
                self.ask(Job::Current(epoch));
            }
            Want::Truncate { to } => {
                assert!(to <= self.appended(), "the log of {} is cut at {to}", self.appended());
                self.ask(Job::Truncate(to));
            }
            Want::Install(Install::Begin { zxid }) => {
                assert_eq!(self.image, None, "two snapshots");
                self.image = Some((zxid, Vec::new()));
            }
            Want::Install(Install::Chunk(bytes)) => {
                self.chunks.push_back(bytes.len());
                self.image.as_mut().expect("a snapshot has begun").1.extend_from_slice(&bytes);
            }
            Want::Install(Install::End) => {
                let zxid = self.image.as_ref().expect("a snapshot has begun").0;
                self.ask(Job::Install(zxid));
            }
            Want::Install(Install::Abandon) => {
                assert!(self.image.take().is_some() && self.job.is_none(), "no snapshot is being received");
                self.told.push(want);
            }
            Want::Append { zxid, exact, txn } => {
                assert!(txn.len() >= 36, "a transaction of {} bytes", txn.len());
                assert!(
                    self.job.is_none_or(|job| matches!(job, Job::Current(_))),
                    "{zxid} is logged during {:?}",
                    self.job
                );
                let last = self.appended();
                let follows = zxid.0 == last.0 + 1 || (zxid.epoch() > last.epoch() && zxid.counter() == 1);
                assert!(follows, "{zxid} is logged behind {last}");
                self.log.push(Logged { zxid, exact });
            }
            Want::Commit { upto } => {
                assert!(upto <= self.durable, "{upto} is applied, and {} is durable", self.durable);
                assert!(upto > self.applied && self.log.iter().any(|l| l.zxid == upto), "{upto} is applied");
                self.applied = upto;
            }
            Want::Ping { zxid } => self.pings.push_back(zxid),
            Want::Rejoin { why } => self.left = Some(why),
            Want::Serve { epoch } => {
                assert_eq!(epoch, self.current, "clients are served in another epoch than that on the disk");
                self.told.push(want);
            }
            Want::SeenConfig(_) | Want::Activate { .. } | Want::Revalidated { .. } | Want::SyncDone { .. } => {
                self.told.push(want);
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(Split::Whole(said, taken)) = split(bytes, LIMIT) else { panic!("{bytes:02x?}") };
            let (kind, zxid) = (said.kind, said.zxid);
            self.judge(&FromLearner::read(said).expect("a learner's packet"));
            self.said.push((kind, zxid, bytes[..taken].to_vec()));
            bytes = &bytes[taken..];
        }
    }

    /// Whether this may be said now.
    fn judge(&self, said: &FromLearner<'_>) {
        let epoch = self.learner.epoch();
        let acks = self.zxids_of(kind::ACK);
        match said {
            FromLearner::AckEpoch { last, current } => {
                // What an observer promises counts for nobody.
                let is_older = self.role == Role::Observer && epoch < Some(self.accepted) && current.is_none();
                assert!(is_older || epoch == Some(self.accepted), "{epoch:?} is accepted and is not on the disk");
                assert!(*last == self.durable && current.is_none_or(|current| current == self.current));
            }
            FromLearner::Ack(zxid) if zxid.counter() == 0 && acks.len() < 2 => {
                assert_eq!(Some(zxid.epoch()), epoch);
                assert!(self.history() <= self.durable, "NEWLEADER is acknowledged before its history is durable");
                assert_eq!(Some(self.current), epoch, "NEWLEADER is acknowledged before currentEpoch is durable");
            }
            FromLearner::Ack(zxid) => {
                assert_eq!(self.role, Role::Participant, "an observer acknowledges {zxid}");
                assert!(*zxid <= self.durable, "{zxid} is acknowledged, and {} is durable", self.durable);
                assert!(acks.last() < Some(zxid), "{zxid} is acknowledged behind {acks:?}");
                let is_late = acks.iter().filter(|ack| ack.counter() == 0).count() == 2 || self.learner.is_serving();
                assert!(is_late, "{zxid} is acknowledged before UPTODATE");
            }
            FromLearner::Ping { .. } => assert!(self.learner.is_serving() || acks.len() >= 2),
            _ => {}
        }
    }
}

/// A refused write, which has a zxid like every other: the shortest transaction.
pub fn txn(zxid: Zxid) -> Vec<u8> {
    let mut bytes = Vec::new();
    TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid, time_ms: 0, op: Op::ERROR }.put(&mut bytes);
    bytes.put_i32(-101);
    bytes
}

/// The stream of a snapshot with one session, one ACL list and `data` in its znodes, without its signature.
pub fn image(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_i32(1);
    bytes.put_i64(77);
    bytes.put_i32(6000);
    bytes.put_i32(1);
    bytes.put_i64(1);
    bytes.put_i32(2);
    for scheme in ["digest", "ip"] {
        bytes.put_i32(31);
        bytes.put_string(scheme);
        bytes.put_string("a:b");
    }
    for path in ["", "/a", "x"] {
        bytes.put_string(path);
        bytes.put_buffer(if path.is_empty() { None } else { Some(data) });
        bytes.put_i64(-1);
        bytes.extend_from_slice(&[0; 60]);
    }
    bytes.put_string("/");
    bytes
}

/// What is sent behind SNAP: the stream with its signature.
pub fn signed(mut image: Vec<u8>) -> Vec<u8> {
    image.put_string("BenWasHere");
    image
}
