//! What the cores of one server share, and how other threads send them messages.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam::channel;
use crossbeam::utils::CachePadded;
use tokio::sync::oneshot;

use super::conn_limits::ConnLimits;
use super::mailbox::Sender;
use super::tree_cell::TreeCell;
use crate::peer::status::{PeerStatus, SessionPiece, SessionPlace};
use crate::peer::{Input, SnapshotRefused};
use crate::shard::status::{ShardStatus, WatchPiece};
use crate::shard::turn::Letter;
use crate::tree::{EphemeralPiece, EphemeralPlace};
use crate::types::{ConnId, SessionId, ShardId, Zxid};

/// A message to a shard's core.
pub enum ShardMail {
    /// For the shard, in its next turn.
    Letter(Letter),
    /// For the core itself.
    Command(ShardCommand),
}

/// What an administrator asks of a shard. It has no place in the order of replies.
pub enum ShardCommand {
    /// Report the state.
    Status {
        /// Include the connections.
        with_connections: bool,
        /// Receives the answer.
        reply: channel::Sender<ShardStatus>,
    },
    /// Report a piece of the list of watches.
    Watches {
        /// Where it begins.
        from: usize,
        /// Receives the answer.
        reply: channel::Sender<WatchPiece>,
    },
    /// `srst`.
    ResetStats {
        /// Reset the counters of the metrics too.
        metrics: bool,
    },
    /// `crst`.
    ResetConnectionStats,
    /// End the loop.
    Stop,
}

/// Receives the last transaction in the snapshot, once the snapshot is durable.
pub type SnapshotReply = oneshot::Sender<Result<Zxid, SnapshotRefused>>;

/// A message to the peer core.
pub enum PeerMail {
    /// For the peer, in its next turn.
    Input(Input),
    /// An administrator wants a snapshot of everything that is applied.
    Snapshot {
        /// Receives the answer when the snapshot is durable.
        reply: SnapshotReply,
    },
    /// For the core itself.
    Command(PeerCommand),
}

/// What an administrator asks of the peer core.
pub enum PeerCommand {
    /// Report the state.
    Status {
        /// Receives the answer.
        reply: channel::Sender<PeerStatus>,
    },
    /// Report a piece of the list of sessions.
    Sessions {
        /// Which, and where the piece begins.
        from: SessionPlace,
        /// Receives the answer.
        reply: channel::Sender<SessionPiece>,
    },
    /// Report a piece of the list of ephemerals.
    Ephemerals {
        /// The last one of the piece before.
        after: Option<EphemeralPlace>,
        /// Receives the answer.
        reply: channel::Sender<EphemeralPiece>,
    },
    /// `srst`, for the counters of the metrics.
    ResetStats,
    /// `orst`, for the counters of `observers`.
    ResetObservers,
    /// End the loop.
    Stop,
}

/// A four-letter word from a client.
#[derive(Debug)]
pub struct WordRequest {
    /// The shard's number.
    pub shard: ShardId,
    /// Its connection.
    pub conn: ConnId,
    /// The word.
    pub word: &'static str,
    /// The argument of stmk: its mask.
    pub argument: i64,
}

/// State and senders that all threads use.
pub struct Shared {
    /// The tree; only the peer core locks it for writing.
    pub tree: TreeCell,
    /// Number of turns that each core has made, for the watchdog.
    pub turns: Vec<CachePadded<AtomicU64>>,
    /// Every shard's mailbox.
    pub shards: Vec<Sender<ShardMail>>,
    /// The core that runs the peer, as an index into `turns`; core n runs shard n.
    pub peer_core: usize,
    /// The peer core's mailbox.
    pub peer: Sender<PeerMail>,
    /// Connections per address and in all.
    pub conn_limits: ConnLimits,
    /// Receives four-letter words.
    pub words: channel::Sender<WordRequest>,
}

/// A core did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the server did not answer within {0:?}")]
pub struct NoAnswer(Duration);

/// How long an administrator's request waits for a core.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    /// Sends the answer to a four-letter word.
    pub fn answer_word(&self, shard: ShardId, conn: ConnId, text: String) {
        let answer = Letter::WordAnswer { conn, text: text.into_bytes() };
        self.shards[shard.index()].send(ShardMail::Letter(answer));
    }

    /// Sends a command to every shard.
    pub fn command_shards(&self, command: impl Fn() -> ShardCommand) {
        self.shards.iter().for_each(|shard| shard.send(ShardMail::Command(command())));
    }

    /// Sends a command to the peer core.
    pub fn command_peer(&self, command: PeerCommand) {
        self.peer.send(PeerMail::Command(command));
    }

    /// Sends an input to the peer.
    pub fn to_peer(&self, input: Input) {
        self.peer.send(PeerMail::Input(input));
    }

    /// Asks the peer for a snapshot of all that is applied.
    pub fn snapshot(&self, reply: SnapshotReply) {
        self.peer.send(PeerMail::Snapshot { reply });
    }

    /// A shard has answered everything up to `cursor`: wakes the peer core if it waits for that.
    pub fn moved_on(&self, shard: ShardId, cursor: Zxid) {
        if self.tree.moved_on(shard, cursor) {
            self.peer.ring();
        }
    }

    /// The state of every shard.
    ///
    /// # Errors
    /// A core does not answer in time.
    pub fn shard_statuses(&self, with_connections: bool) -> Result<Vec<ShardStatus>, NoAnswer> {
        let (reply, answers) = channel::unbounded();
        self.command_shards(|| ShardCommand::Status { with_connections, reply: reply.clone() });
        let receive = |_| answers.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE));
        self.shards.iter().map(receive).collect()
    }

    /// Every watch of every shard as (session, path), sorted. Watches that come or go meanwhile may be missing.
    ///
    /// # Errors
    /// A core does not answer in time.
    pub fn watches(&self) -> Result<Vec<(SessionId, String)>, NoAnswer> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut next = Some(0);
            while let Some(from) = next {
                let (reply, answer) = channel::bounded(1);
                shard.send(ShardMail::Command(ShardCommand::Watches { from, reply }));
                let piece = answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))?;
                all.extend(piece.watches);
                next = piece.next;
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Every session from a place on, by the time at which it expires, in monotonic milliseconds; those of one time by id.
    /// Sessions that come or go meanwhile may be missing.
    ///
    /// # Errors
    /// The peer core does not answer in time.
    pub fn expiries(&self, from: SessionPlace) -> Result<Vec<(i64, Vec<SessionId>)>, NoAnswer> {
        let mut by_time: BTreeMap<i64, Vec<SessionId>> = BTreeMap::new();
        let mut next = Some(from);
        while let Some(from) = next {
            let (reply, answer) = channel::bounded(1);
            self.command_peer(PeerCommand::Sessions { from, reply });
            let piece = answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))?;
            piece.sessions.into_iter().for_each(|(at_ms, id)| by_time.entry(at_ms).or_default().push(id));
            next = piece.next;
        }
        by_time.values_mut().for_each(|ids| ids.sort_unstable());
        Ok(by_time.into_iter().collect())
    }

    /// Every ephemeral, by session; of one session in the order of their creation (those of one multi by path).
    ///
    /// # Errors
    /// The peer core does not answer in time.
    pub fn ephemerals(&self) -> Result<Vec<(SessionId, Vec<String>)>, NoAnswer> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let (reply, answer) = channel::bounded(1);
            self.command_peer(PeerCommand::Ephemerals { after, reply });
            let piece = answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))?;
            all.extend(piece.ephemerals);
            after = piece.last;
            if after.is_none() {
                break;
            }
        }
        all.sort_unstable();
        let mut by_session: Vec<(SessionId, Vec<String>)> = Vec::new();
        for (session, _, path) in all {
            match by_session.last_mut() {
                Some((last, paths)) if *last == session => paths.push(path),
                _ => by_session.push((session, vec![path])),
            }
        }
        Ok(by_session)
    }

    /// Checks that every core answers.
    ///
    /// # Errors
    /// One does not answer within `patience`.
    pub fn pulse(&self, patience: Duration) -> Result<(), NoAnswer> {
        let deadline = Instant::now() + patience;
        let (reply, shards) = channel::unbounded();
        self.command_shards(|| ShardCommand::Status { with_connections: false, reply: reply.clone() });
        let (reply, peer) = channel::bounded(1);
        self.command_peer(PeerCommand::Status { reply });
        for _ in &self.shards {
            shards.recv_deadline(deadline).map_err(|_| NoAnswer(patience))?;
        }
        peer.recv_deadline(deadline).map(drop).map_err(|_| NoAnswer(patience))
    }

    /// The state of the peer core.
    ///
    /// # Errors
    /// The core does not answer in time.
    pub fn peer_status(&self) -> Result<PeerStatus, NoAnswer> {
        let (reply, answer) = channel::bounded(1);
        self.command_peer(PeerCommand::Status { reply });
        answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer(PATIENCE))
    }
}
