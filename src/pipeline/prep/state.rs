//! What prep reads of the applied state. Mirrors `ZKDatabase.getNode` and `SessionTracker.checkSession`.

use crate::tree::Tree;
pub use crate::tree::{QuotaState, Record};
use crate::types::SessionId;

/// The part of the applied tree that validation reads.
pub trait State {
    /// The node at `path` (`/` is the root).
    fn record(&self, path: &str) -> Option<Record>;
    /// Every ephemeral of the session, in any order.
    fn ephemerals_of(&self, session: SessionId) -> Vec<String>;
    /// Limits and usage of the deepest quota that covers `path`.
    fn quota(&self, path: &str) -> Option<QuotaState>;
    /// The tree's digest.
    fn digest(&self) -> u64;
}

impl State for Tree {
    fn record(&self, path: &str) -> Option<Record> {
        Tree::record(self, path)
    }
    fn ephemerals_of(&self, session: SessionId) -> Vec<String> {
        Tree::ephemerals_of(self, session).collect()
    }
    fn quota(&self, path: &str) -> Option<QuotaState> {
        Tree::quota(self, path)
    }
    fn digest(&self) -> u64 {
        Tree::digest(self)
    }
}

/// The part of the session table that validation reads.
pub trait Sessions {
    /// Whether the session exists, global or local, and no applied transaction has closed it.
    fn is_known(&self, session: SessionId) -> bool;
    /// Whether its expiry or close has begun.
    fn is_closing(&self, session: SessionId) -> bool;
    /// Whether it is a local session of this server: it may write, but not own ephemerals.
    fn is_local(&self, _session: SessionId) -> bool {
        false
    }
    /// Whether it is known to every server. Another server's local session is neither this nor local here, and may write.
    fn is_global(&self, session: SessionId) -> bool {
        self.is_known(session) && !self.is_local(session)
    }
}

impl Sessions for crate::session::tracker::SessionTracker {
    fn is_known(&self, session: SessionId) -> bool {
        self.is_known(session)
    }
    fn is_closing(&self, session: SessionId) -> bool {
        self.is_closing(session)
    }
}
