//! What a leader hears from its learners and what it wants done.

use thiserror::Error;

use crate::types::{ConnId, Epoch, ServerId, Zxid};

/// How a server leads: the waiting times and what it may do at the same time.
#[derive(Debug, Clone, Copy)]
pub struct LeaderOptions {
    /// `tickTime`, milliseconds.
    pub tick_ms: i64,
    /// `initLimit`, ticks: for each step until the epoch is established, and for a learner's first synchronisation.
    pub init_limit: i64,
    /// `zookeeper.leader.maxTimeToWaitForEpoch`, milliseconds: for longer than this a leader does not wait for the quorum that
    /// tells it its epoch when a server that elected it looks for a leader again. `None`: it waits `init_limit` in any case.
    pub max_epoch_wait_ms: Option<i64>,
    /// `syncLimit`, ticks: how long a learner that follows may be silent, or acknowledge nothing of what it was proposed.
    pub sync_limit: i64,
    /// Observers that may be sent a snapshot at a time (`zookeeper.leader.maxConcurrentSnapSyncs`).
    pub max_snaps: usize,
    /// Observers that may be sent missing transactions at a time (`zookeeper.leader.maxConcurrentDiffSyncs`).
    pub max_diffs: usize,
}

impl Default for LeaderOptions {
    fn default() -> LeaderOptions {
        LeaderOptions {
            tick_ms: 2000,
            init_limit: 10,
            max_epoch_wait_ms: None,
            sync_limit: 5,
            max_snaps: 10,
            max_diffs: 100,
        }
    }
}

/// What a server has on its disk when it begins to lead. All of its history is durable.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// `acceptedEpoch`: it promised to follow no leader of an older epoch.
    pub accepted: Epoch,
    /// `currentEpoch`: the epoch of its history.
    pub current: Epoch,
    /// The last zxid of its history, committed or not. What was not committed is, once the leader is established.
    pub last: Zxid,
}

/// How a learner introduces itself: FOLLOWERINFO or OBSERVERINFO.
#[derive(Debug, Clone, Copy)]
pub struct Introduction {
    /// Its id. A learner without one gets a negative number.
    pub server: Option<ServerId>,
    /// Whether it sent OBSERVERINFO: then it counts for no quorum, whatever the configuration says.
    pub observer: bool,
    /// The epoch it has accepted.
    pub accepted: Epoch,
    /// The version of the configuration it has activated; `None` from an old learner.
    pub config_version: Option<Zxid>,
}

/// How a learner is brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    /// DIFF or TRUNC, with the transactions it misses.
    Diff,
    /// SNAP: the whole state.
    Snap,
}

/// What a leader wants done. The owner does it in this order: a COMMIT goes to all learners before a SYNC that is wanted later.
///
/// There is no want for a PROPOSAL: [`Leader::propose`](super::Leader::propose) only hands out the zxid. The owner makes the
/// record and gives it to its log and to every learner that has joined the broadcast.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Want {
    /// Make this the durable `acceptedEpoch`, then call [`Leader::accepted_saved`](super::Leader::accepted_saved).
    SaveAccepted(Epoch),
    /// Make this the durable `currentEpoch`, then call [`Leader::current_saved`](super::Leader::current_saved).
    SaveCurrent(Epoch),
    /// Send LEADERINFO with this epoch. A learner of a protocol older than 0x10000 does not understand it: its handler answers
    /// for it at once, by [`Leader::epoch_ack`](super::Leader::epoch_ack) with the epoch and the zxid of its introduction.
    LeaderInfo {
        /// To this learner.
        conn: ConnId,
        /// The epoch.
        epoch: Epoch,
    },
    /// Bring the learner up to date: see [`Leader::sync_begins`](super::Leader::sync_begins). When it has been sent all that it
    /// misses it joins the broadcast, all in one step: it gets what is proposed and not committed, then NEWLEADER
    /// ([`Leader::new_leader_sent`](super::Leader::new_leader_sent)), and from then on every PROPOSAL and COMMIT (an observer
    /// every INFORM).
    Synchronise {
        /// The learner.
        conn: ConnId,
        /// Its id.
        server: ServerId,
        /// Whether it is an observer.
        observer: bool,
        /// The last zxid of its history; [`Zxid::NONE`] if it has none.
        last: Zxid,
    },
    /// Send UPTODATE: the learner may serve clients.
    UpToDate {
        /// To this learner.
        conn: ConnId,
    },
    /// A quorum has acknowledged NEWLEADER. All of this server's history is committed, its last zxid is now the epoch's zeroth,
    /// and [`Leader::propose`](super::Leader::propose) may be called. Serve clients; the vote gets this epoch.
    Established(Epoch),
    /// Everything up to here is committed. Send COMMIT of it to the learners that follow (and INFORM to observers).
    Commit {
        /// The newest zxid that is.
        upto: Zxid,
    },
    /// The reconfig `zxid`, and nothing after it, is committed too: COMMITANDACTIVATE (INFORMANDACTIVATE to observers). With the
    /// epoch's zeroth zxid it is no transaction, but the newer configuration that this server had seen when it was elected: it
    /// went to the learners in NEWLEADER, and nothing is sent.
    Activate {
        /// The reconfig's zxid.
        zxid: Zxid,
        /// The server that leads from now on. If it is another one, this one commits nothing any more.
        designated: ServerId,
    },
    /// Send SYNC, the answer to the oldest unanswered one of this learner.
    SyncDone {
        /// To this learner.
        conn: ConnId,
        /// Behind the COMMIT of this zxid, if that has not left yet.
        behind: Zxid,
    },
    /// Send a PING to every learner that was sent NEWLEADER.
    Ping {
        /// The newest zxid handed out.
        last_proposed: Zxid,
    },
    /// Close the connection; it is forgotten already. What is still wanted for it is not done.
    Drop {
        /// The connection.
        conn: ConnId,
        /// Why: for the log.
        why: DropReason,
    },
    /// Lead no longer: close all connections and look for a leader. The last want of all.
    StepDown(StepDownReason),
}

/// Why a learner's connection is closed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum DropReason {
    /// There are too many connections that have not said who they are.
    #[error("too many connections have not said who they are")]
    TooManyUnknown,
    /// It said nothing for as long as it may be silent.
    #[error("it was silent for {ticks} ticks")]
    Silent {
        /// `initLimit` or `syncLimit`.
        ticks: i64,
    },
    /// It acknowledged nothing for `syncLimit`, although there was something to acknowledge.
    #[error("it acknowledged nothing behind {acked} for {ticks} ticks, {proposed} is proposed")]
    NoAck {
        /// The last zxid it acknowledged.
        acked: Zxid,
        /// The last zxid it was proposed.
        proposed: Zxid,
        /// `syncLimit`.
        ticks: i64,
    },
    /// There is a newer connection of the same server.
    #[error("the server has connected again")]
    Replaced,
    /// It says that it is this server.
    #[error("it says that it is this server")]
    OwnId,
    /// It has activated a newer configuration than this server's.
    #[error("it has activated the configuration {theirs}, which is newer than {ours}")]
    NewerConfig {
        /// The learner's.
        theirs: Zxid,
        /// This server's.
        ours: Zxid,
    },
    /// It has accepted a newer epoch than this leader's, so it must not follow this leader.
    #[error("it has accepted epoch {theirs}, this is epoch {ours}", theirs = .theirs.0, ours = .ours.0)]
    NewerEpoch {
        /// The learner's.
        theirs: Epoch,
        /// This leader's.
        ours: Epoch,
    },
    /// The epoch it claims is none.
    #[error("it claims epoch {epoch}, which no server can have", epoch = .0.0)]
    NoEpoch(Epoch),
    /// Its history is newer than this leader's, and it is not a voter that could lead in its place.
    #[error("its history {last} of epoch {current} is newer than this server's", current = .current.0)]
    Ahead {
        /// The epoch of its history.
        current: Epoch,
        /// The last zxid of it.
        last: Zxid,
    },
    /// It claims to have what was never proposed.
    #[error("it claims to have {claimed}, but only {proposed} was proposed")]
    NeverProposed {
        /// What it claims.
        claimed: Zxid,
        /// The newest zxid handed out.
        proposed: Zxid,
    },
    /// It sent a message that has no place here.
    #[error("it sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// As many observers as are allowed are being brought up to date.
    #[error("{0} observers are being brought up to date already")]
    TooManySyncs(usize),
}

/// Why a leader leads no longer.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum StepDownReason {
    /// No quorum introduced itself within `initLimit`.
    #[error("no quorum came within initLimit, only {0:?}")]
    NoQuorumCame(Vec<ServerId>),
    /// It has waited longer than `leader.maxTimeToWaitForEpoch` for a quorum, and a server that elected it looks for a leader
    /// again. Mirrors `Leader.quitLeading`.
    #[error("after {waited_ms} ms without a quorum server {server}, which elected this one, looks for a leader again", server = .server.0)]
    SupporterLeft {
        /// The server.
        server: ServerId,
        /// Milliseconds since this server was elected.
        waited_ms: i64,
    },
    /// A voter comes again and again that has accepted a newer epoch, so that only an election can bring it back.
    #[error(
        "server {server} has accepted epoch {theirs} and cannot follow in epoch {ours}: an election begins a newer one",
        server = .server.0, theirs = .theirs.0, ours = .ours.0
    )]
    NewerEpoch {
        /// The voter.
        server: ServerId,
        /// What it has accepted.
        theirs: Epoch,
        /// This leader's.
        ours: Epoch,
    },
    /// No quorum accepted the epoch within `initLimit`.
    #[error("no quorum accepted the epoch within initLimit, only {0:?}")]
    NoQuorumAccepted(Vec<ServerId>),
    /// No quorum was brought up to date within `initLimit`, and not enough servers are still on their way.
    #[error("no quorum was brought up to date within initLimit, only {0:?}")]
    NoQuorumSynced(Vec<ServerId>),
    /// Not enough servers were heard of. Mirrors "Not sufficient followers synced".
    #[error("no quorum follows any more, only {0:?}")]
    QuorumLost(Vec<ServerId>),
    /// A voter has a newer history: it must lead.
    #[error("server {server} has a newer history, {last} of epoch {current}", server = .server.0, current = .current.0)]
    Ahead {
        /// The voter.
        server: ServerId,
        /// The epoch of its history.
        current: Epoch,
        /// The last zxid of it.
        last: Zxid,
    },
    /// The zxids of the epoch are used up: an election must begin the next one. Mirrors `XidRolloverException`.
    #[error("the zxids of the epoch are used up after {0}")]
    EpochExhausted(Zxid),
    /// No number is left for an epoch.
    #[error("no epoch is left behind {epoch}", epoch = .0.0)]
    NoEpochLeft(Epoch),
}
