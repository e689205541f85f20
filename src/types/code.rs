//! Named codes: errors, create modes and event types. Mirrors `KeeperException.Code`, `CreateMode` and `Watcher.Event`.

use super::Op;

/// Error codes a server puts into replies and error transactions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum ErrorCode {
    Ok = 0,
    SystemError = -1,
    RuntimeInconsistency = -2,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    UnknownSession = -12,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    ReconfigDisabled = -123,
    SessionClosedRequireSaslAuth = -124,
    QuotaExceeded = -125,
    ThrottledOp = -127,
}

impl ErrorCode {
    /// All error codes.
    pub const ALL: [ErrorCode; 26] = {
        use ErrorCode::*;
        [
            Ok,
            SystemError,
            RuntimeInconsistency,
            MarshallingError,
            Unimplemented,
            BadArguments,
            UnknownSession,
            NewConfigNoQuorum,
            ReconfigInProgress,
            NoNode,
            NoAuth,
            BadVersion,
            NoChildrenForEphemerals,
            NodeExists,
            NotEmpty,
            SessionExpired,
            InvalidAcl,
            AuthFailed,
            SessionMoved,
            NotReadOnly,
            EphemeralOnLocalSession,
            NoWatcher,
            ReconfigDisabled,
            SessionClosedRequireSaslAuth,
            QuotaExceeded,
            ThrottledOp,
        ]
    };

    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The error code with this number, if a server may send it.
    pub fn from_code(code: i32) -> Option<ErrorCode> {
        Self::ALL.into_iter().find(|c| c.code() == code)
    }
}

/// Create flags. Mirrors `CreateMode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum CreateMode {
    Persistent = 0,
    Ephemeral = 1,
    PersistentSequential = 2,
    EphemeralSequential = 3,
    Container = 4,
    PersistentWithTtl = 5,
    PersistentSequentialWithTtl = 6,
}

impl CreateMode {
    /// The mode of a flag; `None` if the flag is unknown, which the server answers with `BADARGUMENTS`.
    pub fn from_flag(flag: i32) -> Option<CreateMode> {
        use CreateMode::*;
        [
            Persistent,
            Ephemeral,
            PersistentSequential,
            EphemeralSequential,
            Container,
            PersistentWithTtl,
            PersistentSequentialWithTtl,
        ]
        .into_iter()
        .find(|m| *m as i32 == flag)
    }
    /// The number on the wire.
    pub fn flag(self) -> i32 {
        self as i32
    }
    /// The mode that a create with the opcode `op` means by its flag. The opcode decides what is made, so a flag that belongs to
    /// another opcode is read as the one of `op` that makes the same: there is one mode for each znode.
    ///
    /// # Errors
    /// `BADARGUMENTS` for an unknown flag, and where there is no such mode: a sequential container, a createTTL without TTL.
    pub fn meant(op: Op, flag: i32) -> Result<CreateMode, ErrorCode> {
        use CreateMode::*;
        let mode = CreateMode::from_flag(flag).ok_or(ErrorCode::BadArguments)?;
        match (op, mode) {
            (Op::CREATE | Op::CREATE2, Container) => Ok(Persistent),
            (Op::CREATE_CONTAINER, Persistent | Ephemeral) => Ok(Container),
            (Op::CREATE_CONTAINER, PersistentSequential | EphemeralSequential) => Err(ErrorCode::BadArguments),
            (Op::CREATE_TTL, mode) if !mode.is_ttl() => Err(ErrorCode::BadArguments),
            (_, mode) => Ok(mode),
        }
    }
    /// Whether the parent's counter is appended to the name.
    pub fn is_sequential(self) -> bool {
        use CreateMode::*;
        matches!(self, PersistentSequential | EphemeralSequential | PersistentSequentialWithTtl)
    }
    /// Whether the znode is deleted when its session ends.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }
    /// Whether the create request carries a TTL.
    pub fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl)
    }
}

/// The type of a watch event. Mirrors `Watcher.Event.EventType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// The only state a server puts into an event: `SyncConnected`.
pub const STATE_SYNC_CONNECTED: i32 = 3;
