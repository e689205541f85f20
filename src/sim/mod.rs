//! Simulates a whole server in one thread, from a seed, or the members of an ensemble. The shipped state machines
//! ([`Shard`](crate::shard::Shard), [`Peer`](crate::peer::Peer), [`LogWriter`](crate::txnlog::writer::LogWriter), the
//! appender, the snapshot writer, recovery, the purge) run with a virtual clock, a disk that loses data and fails, and
//! clients that check everything they receive. `zabra sim` runs it, in a build with the feature `sim`.
//!
//! * `world`: the scheduler, a sequence of random choices of what happens next; `swarm`: which faults a world has; `faults` and
//!   `damage`: the faults; `rest`: the end.
//! * `process`: the shipped turns of one server process, each a call; cores sleep until they are woken. `node`: its
//!   disks and its start. `net`, `clock`: connections of clients, and time.
//! * `members`: what the world knows of members; `ensemble`: their steps; `mesh`: the connections between them; `said`: what they
//!   say that must be true; `judge`: whether it is; `apache`: members that behave like Apache's.
//! * `client` with `requests` and `watches`: random requests; every reply and event is checked. `history`: what was proposed and
//!   committed, and what must survive; `proposals`: every proposal is compared with naive models.
//!
//! A seed chooses everything: how many members and observers there are (or one server alone), which faults it has and how often,
//! its settings and its length. Many short worlds with a part of the faults each find more than few long ones with all of them.
//!
//! # Faults
//!
//! The process is killed at any moment and at any disk operation, including those of a start. Power may fail at the
//! same time; then a random part survives of the sectors and names that were not synced. Disks are full, syncs take
//! long, and syncs fail once: their data is dropped, or kept in memory as if it were on the disk and readable by later
//! processes, until a page is evicted or power fails. Bits flip in logs and snapshots. The process is stopped for
//! seconds; the wall clock jumps by hours in both directions. Connections break with bytes on their way; clients come
//! back on other shards while the old connection is still served, do not read, half-close, fall silent, and close their
//! sessions. Anything may happen between any two steps of a server.
//!
//! Between members bytes leave and arrive in pieces, slowly, or not at all: one way or both ways from one member to another are
//! blocked, the network falls into two parts, connections break. A member whose power fails tells nobody, neither members nor
//! clients. Processes stand still while others go on, and every member's clock runs a little faster or slower than the others'.
//! Members lose their directory, or a bit flips in it while they are down, as long as a quorum of the others has all that they may
//! have acknowledged or promised. In some worlds sessions are local ones; in some a part of the members behaves like Apache's:
//! fuzzy snapshots and proposals that are in them, a zxid that is used twice, PING before UPTODATE, old votes on new connections,
//! early ACKs.
//!
//! # Checks
//!
//! * A proposal is what a naive server ([`oracle::server_model`](crate::oracle::server_model)) makes of the request on
//!   the state before it. Each request is proposed once, in the session's order, and never after the session has moved.
//!   The digest is that of a naive tree.
//! * A server proposes to end only sessions that were silent for their timeout, only containers and TTL znodes that are due.
//! * After every start, and on copies of the disks at any moment: every zxid that any client has seen is there, and
//!   there is nothing but proposals in their order; tree, sessions, ephemerals, ACLs and digest equal those of the
//!   naive tree ([`oracle::tree_model`](crate::oracle::tree_model)); the digests of the replay equal those in the log.
//!   A flipped bit is refused or does no harm. It may be taken for a torn write only in the last batch of the log, and
//!   not even there if an end mark follows.
//! * If the disk fails, the process ends.
//! * A snapshot that an administrator asked for holds everything that was applied when it was asked for. It is reported
//!   only when it survives a power failure: it is loaded from a copy of the disk without the logs. A request is refused
//!   only when too many wait.
//! * Clients get replies in order. Each byte of a write's reply and every field of a read's reply is what the naive
//!   tree has at the reply's zxid. That zxid never decreases, not even across reconnects. A read shows no later write
//!   of its session, and on a new connection it shows all writes that were on their way on the old one. Every watch
//!   event that is due arrives once, in order, before anything newer. The events that setWatches2 replays are exactly
//!   those that were missed.
//! * Session ids and sequence numbers are never given out twice. At the end every request is answered, every event is
//!   delivered, and every session of a client that has left has ended.
//!
//! Of an ensemble besides:
//!
//! * Each epoch has one established leader. A quorum is in that epoch when it is established, and has all of its history. What
//!   was committed before is in it.
//! * Only the established leader of an epoch makes proposals of it. Everywhere a zxid has the same bytes and follows the same
//!   one. What one leader commits and what another does are parts of one line; a quorum has it on its disks at that moment.
//!   Clients are shown nothing else, on whatever member: so what one was told is in the history of every later leader.
//! * LEADERINFO names an epoch that is durable at the leader, UPTODATE comes from an established one, and a COMMIT or INFORM of its
//!   epoch is of what a quorum has on its disks.
//! * A sync shows everything that was committed when it was sent to a member of the newest epoch.
//! * A vote and an ACKEPOCH show exactly the history that is durable, and the epoch that is. ACK comes only for what is
//!   durable, that of NEWLEADER only when the synchronised history is durable and then the epoch. What was promised is there
//!   after every start, and after a power failure at that moment (on a copy of the disk).
//! * Members with the same history have the digest of the naive tree. Every ephemeral belongs to an open global session.
//! * What waits for a learner is bounded, whether or not it reads. In many worlds that is little, so that learners often fall
//!   behind what is broadcast and read what they missed.
//! * Clients move between members. All that is checked of replies and events holds across members.
//! * Once there are no more faults, there is a leader, every member serves with everything that is committed, and every
//!   request is answered. Few leaders are established on the way, and few histories replaced. Every member has the tree of the
//!   naive one in memory and shows the configuration.
//!
//! # What these checks detect
//!
//! In November 2026 each of these guards was removed once. The table gives the first of 400 seeds that failed, and how:
//!
//! | guard removed | seed | noticed as |
//! |---|---|---|
//! | `LogWriter::sync_open`: the segment's sync (ack before sync) | 0 | lost: recovered up to 0x0, but 0x2 was acknowledged |
//! | `LogWriter::sync_open`: `sync_dir` for a new file | 0 | lost |
//! | `LogWriter::sync_open`: an error of the sync | 5 | the log thread goes on after SyncFails |
//! | `Peer::apply`: nothing before it is committed | 0 | lost |
//! | `Peer::apply`: `behind_read` | 0 | the shard's own assertion: applied out of its turn |
//! | `Shard`: a write's events before its reply | 1 | reply before event |
//! | `Peer::write`: not after the session moved | 48 | request 51 comes after its request 55 |
//! | `Peer`: `mark_closing` | 42 | closes a session that is not open |
//! | `Peer::tick`: `touch_lag_ms` | 1 | expires though heard |
//! | `SnapshotWriter::finish`: `sync_dir` after the rename | 0 | no snapshot found, but there are log entries |
//! | snapshot file: its sync before the rename | 0 | not able to find valid snapshots |
//! | `Images::before_change` | 14 | digests differ in replay |
//! | recovery: `make_durable` | 1 | a hole in the log |
//! | recovery: `follows` does not ask for the previous zxid | 2 | a flipped bit makes another history |
//! | purge: one log too many | 15 | a hole in the log |
//! | `rewrite_tail::make_durable`: the log's end is not written again | 3 | the server does not start: damage in what was durable |
//! | `LogReader`: a mark is no proof | 5 | a flipped bit: lost |
//! | `Peer`: a resumption is answered at once | 0 | stamp 0x25 on a new connection, its own 0x28 was under way before |
//! | `Imaging::done`: administrators are answered when the last piece is made, not when the file is durable | 0 | a snapshot of 0x17 was told to be durable: lost |
//! | `Imaging::done`: a snapshot answers requests that came after it began | 3 | a snapshot of 0xa was asked for, and one of 0x3 told |
//! | `Peer::begin_image`: all sessions but one are in a snapshot | 0 | recovered sessions |
//! | `setwatches::decide`: a missed change of the children is sent | 16 | missed events [], should be NodeChildrenChanged |
//! | `Outstanding::ephemerals_of`: a close takes ephemerals that are proposed and not applied | 18 | the naive tree has another digest |
//! | `Shard::read_request`: a read waits for its session's writes | 0 | reply 5 where 2 was due |
//!
//! Not detected in 175 seeds: that no session expires after a pause of the server before its touches are heard. The unit
//! tests of `session::tracker` notice it.
//!
//! Not detected, because nothing is lost without it: the purge's sync between removing snapshots and removing logs. It
//! only matters if all newer snapshots are damaged at the same time; `txnlog::purge` has its own test for that.
//!
//! Of ensembles, the first of seeds 0 to 344 that failed (November 2026, each with the members and faults that it chose; the last
//! row's of 0 to 1000):
//!
//! | guard removed | seed | noticed as |
//! |---|---|---|
//! | `zab::learner::sync`: `currentEpoch` is saved before NEWLEADER is acknowledged | 0 | says ACK: only epoch 0 is durable |
//! | `zab::learner::sync`: `acceptedEpoch` is saved before ACKEPOCH | 0 | the current epoch is newer than the accepted one |
//! | `Pipeline::next_ack`: a proposal is durable before its ACK | 2 | says ACK of 1:2: only 1:1 is durable |
//! | `Pipeline::propose`: nothing but the next zxid is appended (an Apache leader uses one twice) | 43 | 2:6 is proposed behind 2:6 |
//! | `Learner::heard`: a PING between NEWLEADER and UPTODATE is passed over (Apache) | 2 | rest never comes |
//! | `Leader::synced_by`: the leader's own epoch is durable too | 41 | epoch 1 is saved in broadcast |
//! | `Leader::tick`: a leader without a quorum steps down | 2 | rest never comes |
//! | `Quorums::held_by`: a quorum has what is committed | 1 | commits 1:1, a quorum does not have it |
//! | `Election::count_looking`: votes of older rounds do not count | 1 | a vote of another election is counted |
//! | `election::agreed`: a quorum votes for the leader | 9 | rest never comes |
//! | `sync_plan::meet`: TRUNC for a learner with transactions of its own | 2 | 3:1 is appended behind 1:7, it was proposed behind 1:4 |
//! | `CommitQueue::due`: what is applied is durable here too | 12 | 1:2 is applied, but only 0 is durable |
//! | `Peer::leave`: shards are suspended | 0 | rest never comes |
//! | `Peer::leave`: requests of clients are forgotten | 2 | requests of clients that are gone |
//! | `Peer::hear_quorum`: news of an older term is not heard | 0 | bytes of a server without a role |
//! | `Replicated::replaced`: the log is not known below a snapshot | 57 | the log is known from 1:2 on only |
//! | `Stream::proposal` and `commit`: a learner that does not read is not sent what is broadcast | 424 | 101605 bytes wait for a learner |
//!
//! Not detected in these 345 seeds: the history is durable before the ACK of NEWLEADER; an ACKEPOCH that repeats a promise counts
//! for no quorum; a leader gives way to a voter with a newer history; ACKs of a connection that is gone, early ones and those of
//! observers do not count; proposals that are in a received snapshot are passed over; a learner's own check of LEADERINFO and of
//! DIFF's zxid; a snapshot is no older than what the learner has; a vote waits for the disk's jobs; answers of an older term are
//! not heard; a learner refuses a write on a connection that its session has left.
//!
//! # What is not simulated
//!
//! io_uring and epoll, mailboxes and locks between threads (`tests/ordering` interleaves the shards' turns in more
//! ways), TLS, the admin port.
//!
//! Of an ensemble not yet: read-only mode, configurations that change, flipped bits in the files of the epochs (they are a number
//! as text, and one digit is as good as another), and how long a session must have been silent before it expires.

mod apache;
mod client;
mod clock;
mod damage;
mod ensemble;
mod faults;
mod history;
mod judge;
mod members;
mod mesh;
mod net;
mod node;
mod options;
mod process;
mod proposals;
mod requests;
mod rest;
mod said;
mod swarm;
mod trace;
mod watches;
mod world;

pub use options::{Crew, Options, Summary};

/// Runs one seed to its end.
///
/// # Errors
/// The first check that failed. The same seed and options reproduce it.
///
/// # Panics
/// If an assertion of a state machine fails.
pub fn run(seed: u64, options: Options) -> Result<Summary, String> {
    world::World::new(seed, options).run(options)
}
