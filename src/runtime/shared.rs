//! What the cores of one server share, and how anybody else speaks to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crossbeam::channel;
use crossbeam::sync::ShardedLock;
use crossbeam::utils::CachePadded;

use super::conn_limits::ConnLimits;
use super::mailbox::Sender;
use super::snapshot_requests::SnapshotReply;
use crate::limits;
use crate::peer::apply::Cursors;
use crate::peer::status::PeerStatus;
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::status::{Detail, ShardStatus};
use crate::tree::Tree;
use crate::types::{ConnId, ShardId, Zxid};
use crate::watch::interest::Interest;

/// A letter to a core.
pub enum CoreMail {
    /// To its shard, from the peer core.
    Stream(ToShard),
    /// To the peer core, from a shard.
    FromShard(ToPeer),
    /// To the peer core, from the log, the snapshot writer or an administrator.
    Peer(crate::peer::Input),
    /// To its shard: the answer to a four-letter word.
    WordAnswer {
        /// Who asked.
        conn: ConnId,
        /// What to send.
        text: Vec<u8>,
    },
    /// To its shard: show yourself.
    ShardStatus {
        /// What to list.
        detail: Detail,
        /// Where to.
        reply: channel::Sender<ShardStatus>,
    },
    /// To the peer core: take a snapshot of all that is applied.
    Snapshot {
        /// Told when it is durable.
        reply: SnapshotReply,
    },
    /// To the peer core: show yourself.
    PeerStatus {
        /// List sessions and ephemerals too.
        with_sessions: bool,
        /// Where to.
        reply: channel::Sender<PeerStatus>,
    },
    /// To its shard: `srst`.
    ResetStats {
        /// The counters of the metrics too.
        metrics: bool,
    },
    /// To the peer core: `srst`, for the counters of the metrics.
    ResetPeerStats,
    /// To its shard: `crst`.
    ResetConnectionStats,
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
    pub tree: ShardedLock<Tree>,
    /// The zxid each shard answers reads at.
    pub cursors: Vec<CachePadded<AtomicI64>>,
    /// The peer core has something to apply and waits for a shard to move on: whoever does wakes it.
    pub peer_waiting: CachePadded<AtomicBool>,
    /// Which shards watch what.
    pub interest: Arc<Interest>,
    /// Turns each core has made: what the watchdog looks at.
    pub turns: Vec<CachePadded<AtomicU64>>,
    /// Mailboxes, by core.
    pub mail: Vec<Sender<CoreMail>>,
    /// The core of each shard.
    pub shard_core: Vec<usize>,
    /// The peer's core.
    pub peer_core: usize,
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
    /// A letter to a shard's core.
    pub fn to_shard(&self, shard: ShardId, letter: CoreMail) {
        self.mail[self.shard_core[shard.index()]].send(letter);
    }

    /// A letter to the peer core.
    pub fn to_peer(&self, letter: CoreMail) {
        self.mail[self.peer_core].send(letter);
    }

    /// The shard has drained its stream up to `cursor`, and answered.
    pub fn moved_on(&self, shard: ShardId, cursor: Zxid) {
        self.cursors[shard.index()].store(cursor.0, Ordering::Release);
        // Against the swap in `peer_waits`: either the peer sees the cursor, or this sees that it waits.
        fence(Ordering::SeqCst);
        if self.peer_waiting.load(Ordering::Relaxed) && self.peer_waiting.swap(false, Ordering::SeqCst) {
            self.mail[self.peer_core].ring();
        }
    }

    /// The peer core says whether it waits for a shard. Returns whether that is news, so that it must look once more before
    /// it sleeps.
    pub fn peer_waits(&self, waits: bool) -> bool {
        if waits {
            let news = !self.peer_waiting.swap(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            return news;
        }
        if self.peer_waiting.load(Ordering::Relaxed) {
            self.peer_waiting.store(false, Ordering::Relaxed);
        }
        false
    }

    /// Whether every shard's stream has room for a burst (W5). A shard whose core stands still is the watchdog's affair.
    pub fn has_room(&self) -> bool {
        self.shard_core.iter().all(|core| self.mail[*core].len() < limits::STREAM_HIGH_WATER)
    }

    /// Every shard's figures.
    ///
    /// # Errors
    /// A core that is stuck.
    pub fn shard_statuses(&self, detail: Detail) -> Result<Vec<ShardStatus>, NoAnswer> {
        let (reply, answers) = channel::unbounded();
        for shard in 0..self.shard_core.len() {
            self.to_shard(ShardId(shard as u32), CoreMail::ShardStatus { detail, reply: reply.clone() });
        }
        let receive = |_| answers.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE));
        self.shard_core.iter().map(receive).collect()
    }

    /// Asks every core for a sign of life.
    ///
    /// # Errors
    /// One does not give it within `patience`.
    pub fn pulse(&self, patience: Duration) -> Result<(), NoAnswer> {
        let deadline = Instant::now() + patience;
        let (reply, shards) = channel::unbounded();
        for shard in 0..self.shard_core.len() {
            let letter = CoreMail::ShardStatus { detail: Detail::default(), reply: reply.clone() };
            self.to_shard(ShardId(shard as u32), letter);
        }
        let (reply, peer) = channel::bounded(1);
        self.to_peer(CoreMail::PeerStatus { with_sessions: false, reply });
        for _ in &self.shard_core {
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
        self.to_peer(CoreMail::PeerStatus { with_sessions, reply });
        answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))
    }
}

impl Cursors for Shared {
    fn cursor(&self, shard: ShardId) -> Zxid {
        Zxid(self.cursors[shard.index()].load(Ordering::Acquire))
    }
}
