//! How a learner is brought to the leader's history: which transactions it misses, or must forget first. Mirrors
//! `LearnerHandler.syncFollower` and `queueCommittedProposals`.
//!
//! A plan never looks at more than names and sizes of files. If only the log on disk can tell where the two histories
//! part, the plan is [`Plan::Locate`], and [`located`] completes it.
//!
//! Differences from Apache, all of which its learners accept:
//! * Where the committed log in memory begins is known ([`History::base`]), so nothing is missing in it only because it
//!   is empty: after a restart of the leader, learners get DIFF or TRUNC where Apache sends SNAP.
//! * A former leader with proposals that nobody else has gets TRUNC also if the next epoch has transactions already.
//! * TRUNC never goes back to an older epoch than that of the learner's last transaction, and never to the zeroth zxid of
//!   an epoch: neither need be in its log.

use std::fmt;

use super::history::History;
use crate::types::{Epoch, Zxid};

/// What the leader tells a learner first, and what it sends after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// DIFF: the learner's history is the beginning of the leader's. The proposals after `from` follow.
    Diff {
        /// The learner's last position.
        from: Zxid,
        /// The zxid of the DIFF packet: the leader's newest transaction, or the learner's own zxid if nothing is
        /// missing.
        upto: Zxid,
    },
    /// TRUNC: the learner must forget what comes after `to`, which was never committed. The proposals after `to` follow.
    Trunc {
        /// The last transaction that both have.
        to: Zxid,
    },
    /// The log on disk must be asked for the newest transaction that is not newer than this; then [`located`].
    Locate {
        /// The learner's last position.
        peer: Zxid,
    },
    /// SNAP: a snapshot replaces what the learner has. The proposals after the snapshot follow.
    Snap {
        /// The snapshot to send; `None` if none is new enough for the log or for the learner, so that one must be taken first.
        file: Option<Zxid>,
    },
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Diff { from, upto } if from == upto => write!(f, "DIFF: {upto} is the newest"),
            Plan::Diff { from, upto } => write!(f, "DIFF behind {from}, up to {upto} and what comes meanwhile"),
            Plan::Trunc { to } => write!(f, "TRUNC to {to}, and DIFF behind that"),
            Plan::Locate { peer } => write!(f, "DIFF or TRUNC, as the log has {peer} or not"),
            Plan::Snap { file: Some(zxid) } => write!(f, "SNAP of {zxid}, and DIFF behind that"),
            Plan::Snap { file: None } => write!(f, "SNAP, which has to be taken first, and DIFF behind that"),
        }
    }
}

/// A log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// The zxid in its name, that of its first transaction.
    pub first: Zxid,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A snapshot that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The state is as of this zxid.
    pub zxid: Zxid,
    /// Its length in bytes, packed or not.
    pub bytes: u64,
}

/// What the disk holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnDisk<'a> {
    /// The oldest position that is known to be followed, without a gap, by all committed transactions up to those in
    /// memory. Records that are older than this must not be sent: below a snapshot that was received there may be some
    /// that were never committed. `None` if nothing in the log can be sent.
    pub chain: Option<Zxid>,
    /// The log files, oldest first.
    pub logs: &'a [LogFile],
    /// The newest whole snapshot.
    pub snapshot: Option<SnapshotFile>,
}

/// Settings.
#[derive(Debug, Clone, Copy)]
pub struct SyncPolicy {
    /// `zookeeper.forceSnapshotSync`: every learner gets SNAP.
    pub force_snapshot: bool,
    /// `zookeeper.snapshotSizeFactor`: the log is sent from disk only if the files behind the one where it begins are
    /// smaller than this part of the snapshot. Negative: never from disk.
    pub snapshot_size_factor: f64,
}

impl Default for SyncPolicy {
    fn default() -> SyncPolicy {
        SyncPolicy { force_snapshot: false, snapshot_size_factor: 0.33 }
    }
}

/// How a learner whose history ends at `peer` gets the leader's history. `epoch` is the leader's.
///
/// `peer` is what the learner says in ACKEPOCH; -1 means that it has no state at all. A learner that claims a newer epoch
/// than the leader's should have been refused before; here it gets SNAP, because nothing of it can be compared.
pub fn plan(peer: Zxid, epoch: Epoch, history: &History, disk: &OnDisk<'_>, policy: &SyncPolicy) -> Plan {
    assert!(history.last().epoch() <= epoch, "a leader of {epoch:?} has {}", history.last());
    assert!(disk.logs.is_sorted_by(|a, b| a.first < b.first), "the log files are not in order");
    assert!(disk.chain.is_none_or(|chain| chain <= history.base()), "the log lacks what follows {}", history.base());
    if policy.force_snapshot || peer < Zxid::ZERO || peer.epoch() > epoch {
        return snap(peer, history, disk);
    }
    if peer == history.last() {
        return Plan::Diff { from: peer, upto: peer };
    }
    if let Some(nearest) = history.nearest(peer) {
        return meet(peer, nearest, history).unwrap_or_else(|| snap(peer, history, disk));
    }
    let is_there = disk.chain.is_some_and(|chain| chain <= peer);
    if is_there && is_cheap(peer, disk, policy) { Plan::Locate { peer } } else { snap(peer, history, disk) }
}

/// Completes [`Plan::Locate`]. `nearest` is the newest transaction in the log that is not newer than `peer`, or the
/// position where the chain of its records begins; `None` if the log could not be read that far back.
pub fn located(peer: Zxid, nearest: Option<Zxid>, history: &History, disk: &OnDisk<'_>) -> Plan {
    assert!(peer >= Zxid::ZERO, "nothing in the log can be compared with {peer}");
    let met = nearest.and_then(|nearest| meet(peer, nearest, history));
    met.unwrap_or_else(|| snap(peer, history, disk))
}

/// DIFF or TRUNC, if a learner at `peer` can be led back to `nearest`, the newest transaction of the leader that is not
/// newer.
fn meet(peer: Zxid, nearest: Zxid, history: &History) -> Option<Plan> {
    assert!(nearest <= peer, "{nearest} is newer than {peer}");
    // The zeroth zxid of an epoch: a learner gets it from the leader of that epoch together with everything before, and
    // everything before is committed if that leader could lead. So nothing has to be forgotten.
    if nearest == peer || peer.counter() == 0 {
        assert!(nearest <= history.newest(), "{nearest} is behind the newest, {}", history.newest());
        return Some(Plan::Diff { from: peer, upto: history.newest() });
    }
    // A learner gets the proposals of an epoch in their order, so it has `nearest`, if that is of the same epoch.
    let is_in_its_log = nearest.epoch() == peer.epoch() && nearest.counter() > 0;
    is_in_its_log.then_some(Plan::Trunc { to: nearest })
}

/// SNAP of the newest snapshot, if what follows it can be read and it has all that the learner and this leader both have. With an
/// older one, the learner would lose for a while what it once acknowledged. If it died then, those transactions might be
/// missing in a quorum, although they are committed.
fn snap(peer: Zxid, history: &History, disk: &OnDisk<'_>) -> Plan {
    let is_usable = |zxid: Zxid| {
        // A snapshot that is newer than the history, or is none of its positions, is no beginning of it.
        let is_in_memory = history.has_position(zxid) && zxid <= history.last();
        let can_go_on = is_in_memory || (zxid < history.base() && disk.chain.is_some_and(|chain| chain <= zxid));
        can_go_on && zxid >= peer.min(history.newest())
    };
    Plan::Snap { file: disk.snapshot.map(|file| file.zxid).filter(|zxid| is_usable(*zxid)) }
}

/// Whether the log files behind the one that holds `peer` are small beside the snapshot. Without a snapshot there is
/// nothing to compare with.
fn is_cheap(peer: Zxid, disk: &OnDisk<'_>, policy: &SyncPolicy) -> bool {
    if policy.snapshot_size_factor < 0.0 {
        return false;
    }
    let Some(snapshot) = disk.snapshot else { return true };
    let behind: u64 = disk.logs.iter().filter(|file| file.first > peer).map(|file| file.bytes).sum();
    // Files of 2^53 bytes and more are not counted exactly, which makes no difference here.
    let limit = snapshot.bytes as f64 * policy.snapshot_size_factor;
    behind as f64 <= limit
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::history::HistoryLimits;
    use super::*;

    fn at(epoch: i64, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    #[test]
    fn plans_in_the_log() {
        let (a, b) = (at(1, 4), at(1, 6));
        let said = |plan: Plan| plan.to_string();
        assert_eq!(said(Plan::Diff { from: a, upto: a }), "DIFF: 0x100000004 is the newest");
        let missing = "DIFF behind 0x100000004, up to 0x100000006 and what comes meanwhile";
        assert_eq!(said(Plan::Diff { from: a, upto: b }), missing);
        assert_eq!(said(Plan::Trunc { to: a }), "TRUNC to 0x100000004, and DIFF behind that");
        assert_eq!(said(Plan::Snap { file: Some(a) }), "SNAP of 0x100000004, and DIFF behind that");
        assert_eq!(said(Plan::Snap { file: None }), "SNAP, which has to be taken first, and DIFF behind that");
        assert_eq!(said(Plan::Locate { peer: a }), "DIFF or TRUNC, as the log has 0x100000004 or not");
    }

    /// Behind 1:4 there are 1:5, 1:6, 3:1, 3:2.
    fn history() -> History {
        let mut history = History::new(HistoryLimits::default(), at(1, 4));
        for zxid in [at(1, 5), at(1, 6), at(3, 1), at(3, 2)] {
            history.push(zxid, Bytes::from_static(b"txn"));
        }
        history
    }

    const LOGS: [LogFile; 3] = [
        LogFile { first: Zxid(0x1_0000_0001), bytes: 1000 },
        LogFile { first: Zxid(0x1_0000_0003), bytes: 300 },
        LogFile { first: Zxid(0x3_0000_0001), bytes: 30 },
    ];

    fn disk(chain: i64, snapshot: Zxid) -> OnDisk<'static> {
        let snapshot = Some(SnapshotFile { zxid: snapshot, bytes: 1000 });
        OnDisk { chain: Some(Zxid(chain)), logs: &LOGS, snapshot }
    }

    fn diff(from: Zxid, upto: Zxid) -> Plan {
        Plan::Diff { from, upto }
    }

    #[test]
    fn what_memory_can_tell() {
        let (history, disk) = (history(), disk(0x1_0000_0000, at(1, 3)));
        let rows = [
            // The same history.
            (at(3, 2), diff(at(3, 2), at(3, 2))),
            // Within the committed log, and at its edge.
            (at(3, 1), diff(at(3, 1), at(3, 2))),
            (at(1, 5), diff(at(1, 5), at(3, 2))),
            (at(1, 4), diff(at(1, 4), at(3, 2))),
            // Proposals that nobody else has: of the leader's last epoch with transactions, of an older one.
            (at(3, 5), Plan::Trunc { to: at(3, 2) }),
            (at(1, 9), Plan::Trunc { to: at(1, 6) }),
            // Of an epoch in which nothing was committed.
            (at(2, 1), Plan::Snap { file: None }),
            (at(4, 1), Plan::Snap { file: None }),
            // The zeroth zxid of an epoch, however new, is never truncated.
            (at(2, 0), diff(at(2, 0), at(3, 2))),
            (at(3, 0), diff(at(3, 0), at(3, 2))),
            (at(4, 0), diff(at(4, 0), at(3, 2))),
            (at(5, 0), diff(at(5, 0), at(3, 2))),
            // A newer epoch than the leader's, no state.
            (at(6, 0), Plan::Snap { file: None }),
            (Zxid::NONE, Plan::Snap { file: Some(at(1, 3)) }),
        ];
        for (peer, wanted) in rows {
            assert_eq!(plan(peer, Epoch(5), &history, &disk, &SyncPolicy::default()), wanted, "{peer}");
        }
        let force = SyncPolicy { force_snapshot: true, ..SyncPolicy::default() };
        // Only the first of them loses nothing that it has when it takes this snapshot.
        for (peer, file) in [(at(1, 3), Some(at(1, 3))), (at(1, 4), None), (at(3, 2), None)] {
            assert_eq!(plan(peer, Epoch(5), &history, &disk, &force), Plan::Snap { file }, "{peer}");
        }
    }

    #[test]
    fn a_new_leader_without_transactions_sends_what_its_history_ends_with() {
        let mut history = History::new(HistoryLimits::default(), at(1, 6));
        history.begin_epoch(at(2, 0));
        let disk = disk(0x1_0000_0000, at(1, 6));
        let rows = [
            (at(2, 0), diff(at(2, 0), at(2, 0))),
            (at(1, 6), diff(at(1, 6), at(1, 6))),
            // TRUNC names a transaction, not the epoch's zeroth zxid.
            (at(1, 8), Plan::Trunc { to: at(1, 6) }),
        ];
        for (peer, wanted) in rows {
            assert_eq!(plan(peer, Epoch(2), &history, &disk, &SyncPolicy::default()), wanted, "{peer}");
        }
        // Nor does it if the history ends with such a zxid: it is in nobody's log.
        let mut history = History::new(HistoryLimits::default(), at(2, 0));
        history.begin_epoch(at(3, 0));
        let disk = OnDisk { snapshot: Some(SnapshotFile { zxid: at(2, 0), bytes: 9 }), ..OnDisk::default() };
        let wanted = Plan::Snap { file: Some(at(2, 0)) };
        assert_eq!(plan(at(2, 7), Epoch(3), &history, &disk, &SyncPolicy::default()), wanted);
    }

    #[test]
    fn two_empty_servers_have_the_same_history() {
        let mut history = History::new(HistoryLimits::default(), Zxid::ZERO);
        let (disk, policy) = (OnDisk::default(), SyncPolicy::default());
        assert_eq!(plan(Zxid::ZERO, Epoch(1), &history, &disk, &policy), diff(Zxid::ZERO, Zxid::ZERO));
        // A server without `initialize` may not take its empty state for one.
        assert_eq!(plan(Zxid::NONE, Epoch(1), &history, &disk, &policy), Plan::Snap { file: None });
        history.begin_epoch(at(1, 0));
        assert_eq!(plan(Zxid::ZERO, Epoch(1), &history, &disk, &policy), diff(Zxid::ZERO, Zxid::ZERO));
    }

    #[test]
    fn the_log_is_asked_if_memory_is_too_short_and_the_log_is_small() {
        let (history, policy) = (history(), SyncPolicy::default());
        let chain = 0x1_0000_0001;
        let peer = at(1, 3);
        let plan = |peer, disk: &OnDisk<'_>, policy| plan(peer, Epoch(3), &history, disk, policy);
        let snap = Plan::Snap { file: Some(at(1, 3)) };
        // 30 bytes behind the file of the peer's zxid, of a snapshot's 1000: 330 are allowed.
        assert_eq!(plan(peer, &disk(chain, at(1, 3)), &policy), Plan::Locate { peer });
        // 330 bytes are just not too much; 331 would be.
        assert_eq!(plan(at(1, 2), &disk(chain, at(1, 3)), &policy), Plan::Locate { peer: at(1, 2) });
        let longer = [LOGS[0], LogFile { bytes: 301, ..LOGS[1] }, LOGS[2]];
        let big = OnDisk { logs: &longer, ..disk(chain, at(1, 3)) };
        assert_eq!(plan(at(1, 2), &big, &policy), snap);
        // Without a snapshot there is no limit; with a negative factor the log is never read.
        let none = OnDisk { snapshot: None, ..big };
        assert_eq!(plan(at(1, 2), &none, &policy), Plan::Locate { peer: at(1, 2) });
        let never = SyncPolicy { snapshot_size_factor: -1.0, ..policy };
        assert_eq!(plan(peer, &disk(chain, at(1, 3)), &never), snap);
        // What the log has is not known to be a part of the history.
        assert_eq!(plan(at(1, 2), &disk(0x1_0000_0003, at(1, 3)), &policy), snap);
        assert_eq!(plan(at(1, 2), &OnDisk { chain: None, ..disk(0, at(1, 2)) }, &policy), Plan::Snap { file: None });
    }

    #[test]
    fn the_log_tells_where_the_histories_part() {
        let (history, disk) = (history(), disk(0x1_0000_0000, at(1, 3)));
        let snap = Plan::Snap { file: Some(at(1, 3)) };
        let rows = [
            (at(1, 2), Some(at(1, 2)), diff(at(1, 2), at(3, 2))),
            (at(0, 9), Some(at(0, 7)), Plan::Trunc { to: at(0, 7) }),
            (at(1, 2), Some(at(0, 7)), snap),
            (at(1, 0), Some(at(0, 7)), diff(at(1, 0), at(3, 2))),
            (at(0, 9), Some(at(0, 0)), snap),
            (at(1, 2), None, snap),
        ];
        for (peer, nearest, wanted) in rows {
            assert_eq!(located(peer, nearest, &history, &disk), wanted, "{peer} {nearest:?}");
        }
    }

    #[test]
    fn a_snapshot_is_sent_only_if_its_successors_can_be_read() {
        let history = history();
        let snap = |disk: &OnDisk<'_>| plan(Zxid::NONE, Epoch(3), &history, disk, &SyncPolicy::default());
        for (chain, snapshot, usable) in [
            (0x1_0000_0001, at(1, 2), true),
            (0x1_0000_0003, at(1, 2), false),
            (0x1_0000_0003, at(1, 4), true),
            (0x1_0000_0003, at(3, 0), true),
            (0x1_0000_0003, at(3, 2), true),
            // Not a part of the history: never committed, or newer than all of it.
            (0x1_0000_0003, at(1, 7), false),
            (0x1_0000_0003, at(4, 0), false),
        ] {
            assert_eq!(snap(&disk(chain, snapshot)), Plan::Snap { file: usable.then_some(snapshot) }, "{snapshot}");
        }
    }
}
