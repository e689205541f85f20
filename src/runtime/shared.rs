//! What the cores of one server share, and how anybody else speaks to them.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam::channel;
use crossbeam::utils::CachePadded;

use super::conn_limits::ConnLimits;
use super::mailbox::Sender;
use super::snapshot_requests::SnapshotReply;
use super::tree_cell::TreeCell;
use crate::peer::Input;
use crate::peer::status::PeerStatus;
use crate::shard::status::{Detail, ShardStatus};
use crate::shard::turn::Letter;
use crate::types::{ConnId, ShardId, Zxid};

/// A letter to a shard's core.
pub enum ShardMail {
    /// For the shard's next turn.
    Letter(Letter),
    /// For the core.
    Command(ShardCommand),
}

/// What an administrator wants of a shard; it has no place in the order of answers.
pub enum ShardCommand {
    /// Show yourself.
    Status {
        /// What to list.
        detail: Detail,
        /// Where to.
        reply: channel::Sender<ShardStatus>,
    },
    /// `srst`.
    ResetStats {
        /// The counters of the metrics too.
        metrics: bool,
    },
    /// `crst`.
    ResetConnectionStats,
    /// Leave the loop.
    Stop,
}

/// A letter to the peer core.
pub enum PeerMail {
    /// For the peer's next turn.
    Input(Input),
    /// An administrator wants a snapshot of all that is applied.
    Snapshot {
        /// Told when it is durable.
        reply: SnapshotReply,
    },
    /// For the core.
    Command(PeerCommand),
}

/// What an administrator wants of the peer core.
pub enum PeerCommand {
    /// Show yourself.
    Status {
        /// List sessions and ephemerals too.
        with_sessions: bool,
        /// Where to.
        reply: channel::Sender<PeerStatus>,
    },
    /// `srst`, for the counters of the metrics.
    ResetStats,
    /// Leave the loop.
    Stop,
}

/// A four-letter word a client sent.
#[derive(Debug)]
pub struct WordRequest {
    /// The shard's number.
    pub shard: ShardId,
    /// Its connection.
    pub conn: ConnId,
    /// The word.
    pub word: &'static str,
    /// stmk's mask.
    pub argument: i64,
}

/// State and addresses all threads know.
pub struct Shared {
    /// The tree; only the peer core takes it for writing.
    pub tree: TreeCell,
    /// Turns each core has made: what the watchdog looks at.
    pub turns: Vec<CachePadded<AtomicU64>>,
    /// Every shard's mailbox.
    pub shards: Vec<Sender<ShardMail>>,
    /// Which core has the peer, counted as in `turns`; core n has shard n.
    pub peer_core: usize,
    /// The peer core's mailbox.
    pub peer: Sender<PeerMail>,
    /// Connections per address and in all.
    pub conn_limits: ConnLimits,
    /// Four-letter words go here.
    pub words: channel::Sender<WordRequest>,
}

/// A core did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the server did not answer within {0:?}")]
pub struct NoAnswer(Duration);

/// How long an administrator waits for a core.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    /// The answer to a four-letter word.
    pub fn answer_word(&self, shard: ShardId, conn: ConnId, text: String) {
        let answer = Letter::WordAnswer { conn, text: text.into_bytes() };
        self.shards[shard.index()].send(ShardMail::Letter(answer));
    }

    /// A command to every shard.
    pub fn command_shards(&self, command: impl Fn() -> ShardCommand) {
        self.shards.iter().for_each(|shard| shard.send(ShardMail::Command(command())));
    }

    /// A command to the peer core.
    pub fn command_peer(&self, command: PeerCommand) {
        self.peer.send(PeerMail::Command(command));
    }

    /// An input for the peer.
    pub fn to_peer(&self, input: Input) {
        self.peer.send(PeerMail::Input(input));
    }

    /// Asks the peer for a snapshot of all that is applied.
    pub fn snapshot(&self, reply: SnapshotReply) {
        self.peer.send(PeerMail::Snapshot { reply });
    }

    /// A shard has answered everything up to `cursor`: the peer core is woken if it waits for that.
    pub fn moved_on(&self, shard: ShardId, cursor: Zxid) {
        if self.tree.moved_on(shard, cursor) {
            self.peer.ring();
        }
    }

    /// Every shard's figures.
    ///
    /// # Errors
    /// A core that is stuck.
    pub fn shard_statuses(&self, detail: Detail) -> Result<Vec<ShardStatus>, NoAnswer> {
        let (reply, answers) = channel::unbounded();
        self.command_shards(|| ShardCommand::Status { detail, reply: reply.clone() });
        let receive = |_| answers.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE));
        self.shards.iter().map(receive).collect()
    }

    /// Asks every core for a sign of life.
    ///
    /// # Errors
    /// One does not give it within `patience`.
    pub fn pulse(&self, patience: Duration) -> Result<(), NoAnswer> {
        let deadline = Instant::now() + patience;
        let (reply, shards) = channel::unbounded();
        self.command_shards(|| ShardCommand::Status { detail: Detail::default(), reply: reply.clone() });
        let (reply, peer) = channel::bounded(1);
        self.command_peer(PeerCommand::Status { with_sessions: false, reply });
        for _ in &self.shards {
            shards.recv_deadline(deadline).map_err(|_| NoAnswer(patience))?;
        }
        peer.recv_deadline(deadline).map(drop).map_err(|_| NoAnswer(patience))
    }

    /// The peer core's figures.
    ///
    /// # Errors
    /// A core that is stuck.
    pub fn peer_status(&self, with_sessions: bool) -> Result<PeerStatus, NoAnswer> {
        let (reply, answer) = channel::bounded(1);
        self.command_peer(PeerCommand::Status { with_sessions, reply });
        answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))
    }
}
