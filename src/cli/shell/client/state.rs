//! A session's state as others see it. Mirrors `ZooKeeper.States`.

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
    /// The name the prompt shows.
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

    /// Whether the session can still come back.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, State::Closed | State::AuthFailed)
    }
}

/// What others may see of the session.
pub(crate) struct Shared {
    /// The state, and whether the watcher was ever told of a connection that takes writes.
    seen: Mutex<(State, bool)>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared { seen: Mutex::new((State::Connecting, false)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (State, bool)> {
        // Two plain values: nothing is left half done by a panic elsewhere.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present state.
    pub(crate) fn state(&self) -> State {
        self.lock().0
    }

    /// Waits until the watcher was told of a connection that takes writes; false if that takes too long.
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

    /// The watcher was told of a connection that takes writes.
    pub(super) fn set_told(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }
}
