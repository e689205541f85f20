//! The mailboxes between the cores of one server, and between them and the threads for log and snapshots.

use std::collections::VecDeque;

use super::MemoryTree;
use crate::peer::disk::DiskRequest;
use crate::peer::feed::FeedWant;
use crate::peer::net::NetWant;
use crate::peer::{self, Append, SnapshotAnswer, SnapshotPart};
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard;
use crate::shard::turn::Letter;
use crate::types::{ConnId, ShardId, Term, Zxid};

/// The mailboxes. Messages in `told` and `inbox` have reached the peer core; what a shard submitted reaches it only
/// when a scheduler moves it there.
#[derive(Debug, Default)]
pub struct Mail {
    /// Events of the log thread and the snapshot thread. The peer core handles them before all other messages, as on
    /// its own core.
    pub told: VecDeque<peer::Input>,
    /// From shards and administrators.
    pub inbox: VecDeque<peer::Input>,
    /// Proposals for the log, in bursts as the peer core sent them.
    pub appended: VecDeque<Burst>,
    /// Requests to the disk, to be done behind the proposals.
    pub disk: VecDeque<DiskRequest>,
    /// What is wanted of connections to other members.
    pub net: VecDeque<NetWant>,
    /// What is wanted of the reader of the disk.
    pub feed: VecDeque<FeedWant>,
    /// Parts of a snapshot for its writer.
    pub snapshot: VecDeque<SnapshotPart>,
    /// Answers to requests for a snapshot.
    pub snapshot_answers: Vec<SnapshotAnswer>,
    /// One for each shard.
    pub shards: Vec<ShardMail>,
    /// The peer core was woken since the scheduler last let it sleep.
    pub peer_is_rung: bool,
}

/// Proposals that the peer core handed to the log at once.
#[derive(Debug)]
pub struct Burst {
    /// The term in which they were appended.
    pub term: Term,
    /// The proposals, in order.
    pub appends: Vec<Append>,
}

/// The messages to and from one shard's core.
#[derive(Debug, Default)]
pub struct ShardMail {
    /// Its stream, and the answers to four-letter words.
    pub letters: VecDeque<Letter>,
    /// On their way to the peer core.
    pub submitted: VecDeque<peer::Input>,
    /// Four-letter words of clients, with stmk's argument.
    pub words: Vec<(ConnId, &'static str, i64)>,
    /// The core was woken since the scheduler last let it sleep.
    pub is_rung: bool,
    /// A message was added since the last [`ring`](peer::turn::Streams::ring).
    is_due: bool,
}

impl Mail {
    /// Empty mailboxes for this number of shards.
    pub fn new(shards: usize) -> Mail {
        Mail { shards: (0..shards).map(|_| ShardMail::default()).collect(), ..Mail::default() }
    }

    /// Moves everything that the shards submitted to the peer core, starting with the first shard.
    pub fn deliver(&mut self) {
        for shard in &mut self.shards {
            self.inbox.append(&mut shard.submitted);
        }
    }

    /// Whether something waits for the peer core, or is on its way there.
    pub fn is_for_peer(&self) -> bool {
        !self.told.is_empty() || !self.inbox.is_empty() || self.shards.iter().any(|shard| !shard.submitted.is_empty())
    }

    /// Takes what waits on a shard's stream, for a test that stands in for the shard.
    ///
    /// # Panics
    /// If the answer to a four-letter word is among it.
    pub fn take_stream(&mut self, shard: ShardId) -> Vec<ToShard> {
        let letters = self.shards[shard.index()].letters.drain(..);
        let messages = letters.map(|letter| match letter {
            Letter::Stream(message) => message,
            Letter::WordAnswer { conn, .. } => panic!("a word's answer for {conn} is no message of the peer core"),
        });
        messages.collect()
    }

    /// A shard's end of the mailboxes.
    pub fn of_shard<'a>(&'a mut self, number: ShardId, tree: &'a MemoryTree) -> ShardLinks<'a> {
        let Mail { shards, peer_is_rung, .. } = self;
        ShardLinks { number, mail: &mut shards[number.index()], tree, peer_is_rung }
    }
}

impl peer::turn::Links for Mail {
    fn next(&mut self) -> Option<peer::Input> {
        self.told.pop_front().or_else(|| self.inbox.pop_front())
    }

    fn append(&mut self, term: Term, batch: &mut Vec<Append>) {
        let mut appends = Vec::with_capacity(batch.len());
        appends.append(batch);
        self.appended.push_back(Burst { term, appends });
    }

    fn disk(&mut self, request: DiskRequest) {
        self.disk.push_back(request);
    }

    fn net(&mut self, want: NetWant) {
        self.net.push_back(want);
    }

    fn feed(&mut self, want: FeedWant) {
        self.feed.push_back(want);
    }

    fn snapshot(&mut self, part: SnapshotPart) {
        self.snapshot.push_back(part);
    }

    fn snapshot_answer(&mut self, answer: SnapshotAnswer) {
        self.snapshot_answers.push(answer);
    }
}

impl peer::turn::Streams for Mail {
    fn has_room(&self, high_water: usize) -> bool {
        self.shards.iter().all(|shard| shard.letters.len() < high_water)
    }

    fn push(&mut self, shard: ShardId, message: ToShard) {
        let mail = &mut self.shards[shard.index()];
        mail.letters.push_back(Letter::Stream(message));
        mail.is_due = true;
    }

    fn ring(&mut self) {
        for mail in &mut self.shards {
            mail.is_rung |= std::mem::take(&mut mail.is_due);
        }
    }
}

/// How a shard reaches the other cores.
pub struct ShardLinks<'a> {
    number: ShardId,
    mail: &'a mut ShardMail,
    tree: &'a MemoryTree,
    peer_is_rung: &'a mut bool,
}

impl shard::turn::Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        self.mail.letters.pop_front()
    }

    fn moved_on(&mut self, cursor: Zxid) {
        *self.peer_is_rung |= self.tree.moved_on(self.number, cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        self.mail.submitted.extend(messages.drain(..).map(peer::Input::FromShard));
        *self.peer_is_rung = true;
    }

    fn word(&mut self, conn: ConnId, word: &'static str, argument: i64) {
        self.mail.words.push((conn, word, argument));
    }
}
