//! Decides about each watch that a reconnecting client lists: fire it at once, because the client missed the change, or arm it
//! again. Mirrors `DataTree.setWatches`.

use crate::types::{EventType, Zxid};

/// Which list of a SetWatches record a path stands in. The persistent lists are not decided: they are always re-armed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Listed {
    /// `dataWatches`: the node existed when the client armed it (getData, or exists on a node that was there).
    Data,
    /// `existWatches`: the node was missing when the client armed it.
    Exist,
    /// `childWatches`: getChildren.
    Child,
}

/// The decision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Replay {
    /// Nothing was missed: arm it again, [`Listed::Data`] and [`Listed::Exist`] in the data table.
    Rearm,
    /// Missed: send this event, stamped [`Zxid::NONE`], before the reply, without an ACL check.
    Fire(EventType),
}

/// Decides one watch. `relative` is the last zxid the client has seen; `node` is the node's `(mzxid, pzxid)`, `None` when it
/// does not exist.
///
/// An exist watch on a node that is there fires whatever its zxid: the client only lists it there because it saw no node.
pub fn decide(listed: Listed, relative: Zxid, node: Option<(Zxid, Zxid)>) -> Replay {
    match (listed, node) {
        (Listed::Exist, None) => Replay::Rearm,
        (Listed::Exist, Some(_)) => Replay::Fire(EventType::NodeCreated),
        (Listed::Data | Listed::Child, None) => Replay::Fire(EventType::NodeDeleted),
        (Listed::Data, Some((mzxid, _))) if mzxid > relative => Replay::Fire(EventType::NodeDataChanged),
        (Listed::Child, Some((_, pzxid))) if pzxid > relative => Replay::Fire(EventType::NodeChildrenChanged),
        (Listed::Data | Listed::Child, Some(_)) => Replay::Rearm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_replay() {
        use EventType::*;
        use Replay::*;
        let (m, p) = (Zxid(10), Zxid(20));
        let node = Some((m, p));
        for (listed, relative, node, expected) in [
            (Listed::Data, 10, None, Fire(NodeDeleted)),
            (Listed::Data, 9, node, Fire(NodeDataChanged)),
            (Listed::Data, 10, node, Rearm),
            (Listed::Data, 15, node, Rearm),
            (Listed::Exist, 10, None, Rearm),
            (Listed::Exist, 0, node, Fire(NodeCreated)),
            (Listed::Exist, 99, node, Fire(NodeCreated)),
            (Listed::Child, 30, None, Fire(NodeDeleted)),
            (Listed::Child, 19, node, Fire(NodeChildrenChanged)),
            (Listed::Child, 20, node, Rearm),
        ] {
            assert_eq!(decide(listed, Zxid(relative), node), expected, "{listed:?} {relative} {node:?}");
        }
    }
}
