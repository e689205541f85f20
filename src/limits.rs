//! Every bound that no setting names, related to each other at compile time.

/// Bytes of the first packet of a connection: a handshake is 44 or 45, a long password makes it a little more.
pub const MAX_CONNECT_FRAME: usize = 4096;

/// Bytes a connection may have unread by its client before its own further requests wait.
pub const OUT_HIGH_WATER: usize = 1 << 20;

/// Bytes a connection may gain while its client does not read, before it is closed: mostly watch events. What was a single
/// reply before that may be longer.
pub const OUT_LIMIT: usize = 64 << 20;

/// Capacity a buffer of a connection may keep when it holds little or nothing: what it was for may not come again.
pub const KEPT_CAPACITY: usize = 64 << 10;

/// Bytes of requests a connection may have undecoded before its socket is no longer read (beyond one unfinished frame).
pub const IN_HIGH_WATER: usize = 64 << 10;

/// Requests of one connection that may be unanswered before its next ones stay undecoded.
pub const MAX_UNANSWERED: usize = 10_000;

/// Bytes of requests of one connection that may be unanswered before its next ones stay undecoded. One request more may be there.
pub const MAX_UNANSWERED_BYTES: usize = 1 << 20;

/// A write longer than this is large: see [`LARGE_WRITES_IN_PIPELINE`].
pub const LARGE_WRITE: usize = 64 << 10;

/// Bytes of large writes between shard and reply, in the whole process: further ones stay undecoded, in the order in which
/// their connections came. One alone may be longer. So a small write of somebody else waits for about a megabyte, however many
/// send how much.
pub const LARGE_WRITES_IN_PIPELINE: usize = 1 << 20;

/// Bytes of replies a shard makes in a turn before those whose last reply was longer than [`BULKY_REPLY`] wait for the next.
pub const TURN_REPLIES: usize = 256 << 10;

/// See [`TURN_REPLIES`].
pub const BULKY_REPLY: usize = 16 << 10;

/// Reads of one session between its unanswered writes: these must be answered when their turn comes, whether or not the client
/// reads, so further writes wait until they are. No more than [`OUT_HIGH_WATER`] bytes of replies, by what the tree holds when they come.
pub const MAX_READS_BETWEEN_WRITES: usize = 32;

/// Transactions applied while readers wait, in one go. Their answers leave before the next go: clients and server work side by
/// side.
pub const APPLY_BURST: usize = 128;

/// Proposals that are handed to the log at once: the disk begins with these while the next are prepared.
pub const APPEND_BURST: usize = 128;

/// Messages on a shard's stream that make the writer wait until the shard has taken them. One burst more may stand there.
pub const STREAM_HIGH_WATER: usize = 16 << 10;

/// Bytes of a snapshot made in one turn of the writer.
pub const IMAGE_CHUNK: usize = 32 << 10;

/// Bytes of a snapshot waiting to be written before the writer makes no more: also what it makes in one go once its writer
/// has caught up, and while it does (0.7 ms for a megabyte) what else wants that CPU waits.
pub const IMAGE_BACKLOG: usize = 512 << 10;

/// Administrators who may wait for a snapshot at a time.
pub const SNAPSHOTS_ASKED: usize = 64;

/// Requests the peer core takes in one turn.
pub const SUBMIT_BURST: usize = 4096;

const _: () = assert!(APPLY_BURST < STREAM_HIGH_WATER);
const _: () = assert!(OUT_HIGH_WATER < OUT_LIMIT);
const _: () = assert!(BULKY_REPLY < TURN_REPLIES && TURN_REPLIES < OUT_HIGH_WATER);
const _: () = assert!(LARGE_WRITE < LARGE_WRITES_IN_PIPELINE);
const _: () = assert!(IMAGE_CHUNK * 8 <= IMAGE_BACKLOG);
const _: () = assert!(MAX_CONNECT_FRAME < IN_HIGH_WATER);
