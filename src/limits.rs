//! Limits that no setting changes. Relations between them are checked at compile time.

/// Most bytes in the first packet of a connection: a handshake has 44 or 45, or a few more with a long password.
pub const MAX_CONNECT_FRAME: usize = 4096;

/// Bytes of replies and events that may wait for a client to read them. Above this, its further requests wait.
pub const OUT_HIGH_WATER: usize = 1 << 20;

/// Bytes by which the data waiting for a client may grow while it does not read; then the connection is closed. It is
/// mostly watch events that get there. A single long reply that was already waiting is not counted.
pub const OUT_LIMIT: usize = 64 << 20;

/// Capacity that a connection's buffer may keep while it is empty or nearly so. A larger one is freed, since it may not
/// be needed again.
pub const KEPT_CAPACITY: usize = 64 << 10;

/// Bytes of undecoded requests (besides one unfinished frame) above which a connection's socket is not read.
pub const IN_HIGH_WATER: usize = 64 << 10;

/// Number of unanswered requests above which further requests of the connection are not decoded.
pub const MAX_UNANSWERED: usize = 10_000;

/// Bytes of unanswered requests above which further requests of the connection are not decoded. The last one may exceed
/// it.
pub const MAX_UNANSWERED_BYTES: usize = 1 << 20;

/// A write longer than this is large: see [`LARGE_WRITES_IN_PIPELINE`].
pub const LARGE_WRITE: usize = 64 << 10;

/// Bytes of large writes that may be between shard and reply, in the whole process. Further large writes wait
/// undecoded, in the order in which their connections got them. A single write may be longer. So another client's small
/// write waits for about a megabyte at most, however many clients send large ones.
pub const LARGE_WRITES_IN_PIPELINE: usize = 1 << 20;

/// Bytes of replies that a shard makes in one turn. After that, connections whose last reply was longer than
/// [`BULKY_REPLY`] wait for the next turn.
pub const TURN_REPLIES: usize = 256 << 10;

/// A reply longer than this many bytes is bulky: see [`TURN_REPLIES`].
pub const BULKY_REPLY: usize = 16 << 10;

/// Most reads of one session between two of its unanswered writes; further writes wait until these reads are answered.
/// When the first write is answered these reads must be answered too, even if the client does not read its socket.
/// Their replies must also be no more than [`OUT_HIGH_WATER`] bytes, by the size of the data when the reads arrive.
pub const MAX_READS_BETWEEN_WRITES: usize = 32;

/// Most transactions applied at a time. Their replies are sent before the next are applied, so clients and server work
/// at the same time.
pub const APPLY_BURST: usize = 128;

/// Most proposals handed to the log at a time: the log writes these while the next are prepared.
pub const APPEND_BURST: usize = 128;

/// Messages on a shard's stream above which the peer core waits until the shard has read them. One burst more may be
/// added.
pub const STREAM_HIGH_WATER: usize = 16 << 10;

/// Bytes of a snapshot that the peer core makes in one turn.
pub const IMAGE_CHUNK: usize = 32 << 10;

/// Bytes of a snapshot that may wait to be written; then the peer core makes no more until some are. The peer core may
/// make this much at once when the snapshot thread has caught up, and other work on that CPU waits meanwhile (about 0.7
/// ms per megabyte).
pub const IMAGE_BACKLOG: usize = 512 << 10;

/// Most snapshot requests of administrators that may wait at the same time.
pub const SNAPSHOTS_ASKED: usize = 64;

/// Most watches or ephemerals that a core lists at once for an administrator. Longer lists are made in pieces, with the
/// core's other work between them.
pub const LIST_PIECE: usize = 4096;

/// Most requests that the peer core takes in one turn.
pub const SUBMIT_BURST: usize = 4096;

/// Bytes of committed proposals that a leader keeps in memory for learners, beside their number.
pub const HISTORY_BYTES: usize = 32 << 20;

/// Bytes of a snapshot or of missed proposals that a learner is given at a time. More are read for it when less than this
/// waits to be sent.
pub const LEARNER_CHUNK: usize = 256 << 10;

/// Bytes that may wait for a learner; then it is not sent what the leader broadcasts any more, until it has read what waits
/// and what it missed meanwhile. A single proposal may exceed it.
pub const LEARNER_QUEUE: usize = 8 << 20;

/// Bytes of answers (SYNC, REVALIDATE) that may wait for a learner. More close its connection: it asks without reading.
pub const LEARNER_ANSWERS: usize = 1 << 20;

/// Unanswered syncs of a learner. More close its connection.
pub const LEARNER_SYNCS: usize = 1 << 16;

const _: () = assert!(APPLY_BURST < STREAM_HIGH_WATER);
const _: () = assert!(OUT_HIGH_WATER < OUT_LIMIT);
const _: () = assert!(BULKY_REPLY < TURN_REPLIES && TURN_REPLIES < OUT_HIGH_WATER);
const _: () = assert!(LARGE_WRITE < LARGE_WRITES_IN_PIPELINE);
const _: () = assert!(IMAGE_CHUNK * 8 <= IMAGE_BACKLOG);
const _: () = assert!(MAX_CONNECT_FRAME < IN_HIGH_WATER);
const _: () = assert!(LEARNER_CHUNK < LEARNER_QUEUE && LEARNER_QUEUE < HISTORY_BYTES);
