//! A session's state as other threads see it. Mirrors `ZooKeeper.States`.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `ZooKeeper.States`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Connecting,
    Connected,
    ConnectedReadOnly,
    Closed,
    AuthFailed,
}

impl State {
    /// The name as the prompt shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Connecting => "CONNECTING",
            State::Connected => "CONNECTED",
            State::ConnectedReadOnly => "CONNECTEDREADONLY",
            State::Closed => "CLOSED",
            State::AuthFailed => "AUTH_FAILED",
        }
    }

    /// Whether there is a connection.
    pub(crate) fn is_connected(self) -> bool {
        matches!(self, State::Connected | State::ConnectedReadOnly)
    }

    /// Whether the session can still be resumed.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, State::Closed | State::AuthFailed)
    }
}

/// The part of the session that other threads see.
pub(crate) struct Shared {
    /// The state, and whether the watcher has been told of a connection to a server that accepts writes.
    seen: Mutex<(State, bool)>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared { seen: Mutex::new((State::Connecting, false)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (State, bool)> {
        // The values are two plain ones, so a panic in another thread cannot leave them half changed.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current state.
    pub(crate) fn state(&self) -> State {
        self.lock().0
    }

    /// Waits until the watcher has been told of a connection that accepts writes; false after `timeout`.
    pub(crate) fn wait_connected(&self, timeout: Duration) -> bool {
        let over = |s: &mut (State, bool)| !s.1 && s.0.is_alive();
        let (seen, _) =
            self.changed.wait_timeout_while(self.lock(), timeout, over).unwrap_or_else(PoisonError::into_inner);
        seen.1
    }

    pub(super) fn set(&self, state: State) {
        self.lock().0 = state;
        self.changed.notify_all();
    }

    /// Records that the watcher has been told of a connection that accepts writes.
    pub(super) fn set_told(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }
}
