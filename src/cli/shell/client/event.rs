//! The events that a session's watcher receives. Mirrors `WatchedEvent` and `Watcher.Event`.

use std::fmt;

use crate::jute::{JuteError, Reader};

/// `Watcher.Event.KeeperState`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeeperState {
    Unknown = -1,
    Disconnected = 0,
    NoSyncConnected = 1,
    SyncConnected = 3,
    AuthFailed = 4,
    ConnectedReadOnly = 5,
    SaslAuthenticated = 6,
    Closed = 7,
    Expired = -112,
}

/// `Watcher.Event.EventType`, including the types that only clients generate (5 to 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EventKind {
    None = -1,
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
    DataWatchRemoved = 5,
    ChildWatchRemoved = 6,
    PersistentWatchRemoved = 7,
}

/// One event; its text is what the shell prints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WatchedEvent {
    pub(crate) kind: EventKind,
    pub(crate) state: KeeperState,
    /// The path without the chroot; `None` for changes of the session.
    pub(crate) path: Option<String>,
    /// The transaction's zxid; -1 if it is not known.
    pub(crate) zxid: i64,
}

impl WatchedEvent {
    /// An event for a change of the session's state.
    pub(crate) fn session(state: KeeperState) -> WatchedEvent {
        WatchedEvent { kind: EventKind::None, state, path: None, zxid: -1 }
    }

    /// Reads a `WatcherEvent`, the body of a notification.
    pub(crate) fn read(r: &mut Reader<'_>, zxid: i64) -> Result<WatchedEvent, JuteError> {
        let kind = kind(r.i32()?).ok_or_else(|| r.unexpected("event type"))?;
        let state = state(r.i32()?).ok_or_else(|| r.unexpected("event state"))?;
        Ok(WatchedEvent { kind, state, path: r.ustring()?.map(|p| p.into_owned()), zxid })
    }
}

fn kind(code: i32) -> Option<EventKind> {
    use EventKind::*;
    let all = [
        None,
        NodeCreated,
        NodeDeleted,
        NodeDataChanged,
        NodeChildrenChanged,
        DataWatchRemoved,
        ChildWatchRemoved,
        PersistentWatchRemoved,
    ];
    all.into_iter().find(|k| *k as i32 == code)
}

fn state(code: i32) -> Option<KeeperState> {
    use KeeperState::*;
    let all = [
        Unknown,
        Disconnected,
        NoSyncConnected,
        SyncConnected,
        AuthFailed,
        ConnectedReadOnly,
        SaslAuthenticated,
        Closed,
        Expired,
    ];
    all.into_iter().find(|s| *s as i32 == code)
}

impl fmt::Display for WatchedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or("null");
        write!(f, "WatchedEvent state:{:?} type:{:?} path:{path} zxid: {}", self.state, self.kind, self.zxid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Put;

    #[test]
    fn text() {
        assert_eq!(
            WatchedEvent::session(KeeperState::SyncConnected).to_string(),
            "WatchedEvent state:SyncConnected type:None path:null zxid: -1"
        );
        let mut body = Vec::new();
        body.put_i32(3);
        body.put_i32(3);
        body.put_string("/a");
        let e = WatchedEvent::read(&mut Reader::new(&body), 5).unwrap();
        assert_eq!(e.to_string(), "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a zxid: 5");
    }

    #[test]
    fn unknown_numbers_are_errors() {
        let mut body = Vec::new();
        body.put_i32(9);
        body.put_i32(3);
        body.put_string("/a");
        assert!(WatchedEvent::read(&mut Reader::new(&body), 5).is_err());
        body[3] = 1;
        body[7] = 99;
        assert!(WatchedEvent::read(&mut Reader::new(&body), 5).is_err());
    }
}
