//! Watches: which connection gets events for which path. One [`WatchTable`] per shard, single-threaded; [`Interest`] is
//! shared by the shards and the tree's writer. Mirrors `IWatchManager`, `WatchManager` and the watch part of
//! `DataTree`.

pub mod interest;
mod link;
mod list;
pub mod modes;
mod paths;
pub mod report;
pub mod setwatches;
pub mod table;

#[cfg(test)]
mod random_tests;

pub use interest::Interest;
pub use modes::Modes;
pub use report::Summary;
pub use setwatches::{Listed, Replay, decide};
pub use table::{Fired, WatchTable};

/// Which of the two tables a one-shot watch is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Set by exists and getData. Fires on creation, deletion and new data.
    Data = 0,
    /// Set by getChildren. Fires when a child is created or deleted, and on deletion of the node itself.
    Child = 1,
}

impl Kind {
    /// Both, in the order a deletion fires them.
    pub const BOTH: [Kind; 2] = [Kind::Data, Kind::Child];
}

/// What removeWatches and checkWatches ask for. Mirrors `Watcher.WatcherType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum WatcherType {
    /// The one-shot child watch.
    Children = 1,
    /// The one-shot data watch.
    Data = 2,
    /// Every watch of the connection on the path, whatever its mode.
    Any = 3,
    /// The persistent watch (in both tables).
    Persistent = 4,
    /// The persistent recursive watch.
    PersistentRecursive = 5,
}

impl WatcherType {
    /// Reads the number of the wire; an unknown one is the client's error.
    pub fn from_code(code: i32) -> Option<WatcherType> {
        use WatcherType::*;
        [Children, Data, Any, Persistent, PersistentRecursive].into_iter().find(|t| *t as i32 == code)
    }

    /// The modes this type addresses in each table: data, child.
    pub(crate) fn modes(self) -> [(Kind, Modes); 2] {
        let (data, child) = match self {
            WatcherType::Children => (Modes::NONE, Modes::STANDARD),
            WatcherType::Data => (Modes::STANDARD, Modes::NONE),
            WatcherType::Any => (Modes::ALL, Modes::ALL),
            WatcherType::Persistent => (Modes::PERSISTENT, Modes::PERSISTENT),
            WatcherType::PersistentRecursive => (Modes::RECURSIVE, Modes::NONE),
        };
        [(Kind::Data, data), (Kind::Child, child)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_numbers_of_the_wire() {
        let read: Vec<_> = (0..=6).map(WatcherType::from_code).collect();
        use WatcherType::*;
        assert_eq!(
            read,
            [None, Some(Children), Some(Data), Some(Any), Some(Persistent), Some(PersistentRecursive), None]
        );
    }
}
