//! The writing of snapshots as a state machine: it takes the pieces that the server makes of its tree, writes them to a
//! file, and reports the result. The snapshot thread and the simulator both run it. Mirrors `FileTxnSnapLog.save`.

use std::fmt;
use std::io;

use super::disk::{Dir, Writer};
use super::epoch::raise_current_epoch;
use super::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
use super::space::SnapshotRoom;
use crate::tree::Tree;
use crate::txn::TxnDigest;
use crate::types::acl::SharedAcl;
use crate::types::{Acl, AclId, Now, SessionId, Zxid};

/// Bytes of znodes encoded at a time for a first snapshot.
const CHUNK: usize = 1 << 20;

/// A piece of a snapshot.
#[derive(Debug)]
pub enum SnapshotPart {
    /// The first piece.
    Begin {
        /// The zxid of the snapshot.
        zxid: Zxid,
        /// The tree's digest at `zxid`.
        digest: Option<TxnDigest>,
        /// The sessions at `zxid` with their timeouts in milliseconds.
        sessions: Vec<(SessionId, i32)>,
        /// The table of ACL lists.
        acls: Vec<(AclId, SharedAcl)>,
    },
    /// Encoded znodes.
    Nodes(Vec<u8>),
    /// The end; nothing follows.
    End,
    /// The history that the pieces belong to will be replaced: an unfinished snapshot is forgotten. Answered with
    /// [`SnapshotEvent::Abandoned`].
    Abandon,
    /// A tree that was replaced, to be dropped here: with millions of znodes that takes seconds, in which a core would serve
    /// nobody.
    Forget(Replaced),
}

/// A tree that nobody reads any more.
pub struct Replaced(pub Box<Tree>);

impl fmt::Debug for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replaced").field(&self.0.last_zxid()).finish()
    }
}

/// What the writer of a snapshot reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotEvent {
    /// This many bytes of znodes were written, so there is room for more.
    Took(usize),
    /// The snapshot is durable under its final name.
    Done {
        /// The zxid of the snapshot.
        zxid: Zxid,
        /// Milliseconds from its first piece to its end.
        took_ms: i64,
    },
    /// Nothing is being written, and the next snapshot may be of any zxid.
    Abandoned,
}

/// A snapshot that is being written.
struct Open<W: Writer> {
    writer: SnapshotWriter<W>,
    zxid: Zxid,
    digest: Option<TxnDigest>,
    began_ms: i64,
    /// From [`SnapshotRoom::begin_snapshot`].
    logged: u64,
}

/// The state machine. After an error it cannot be used any more: the file stays under its temporary name, and recovery
/// removes it.
pub struct Snapshotter<D: Dir> {
    dir: D,
    options: SnapshotOptions,
    open: Option<Open<D::Writer>>,
    /// The zxid of the last finished snapshot.
    last: Option<Zxid>,
    /// Space that the log leaves free.
    room: SnapshotRoom,
    /// A finished snapshot raises `currentEpoch` to its own.
    raises_epoch: bool,
}

impl<D: Dir> Snapshotter<D> {
    /// Writes to `dir` (`dataDir/version-2`).
    pub fn new(dir: D, options: SnapshotOptions) -> Snapshotter<D> {
        Snapshotter { dir, options, open: None, last: None, room: SnapshotRoom::default(), raises_epoch: false }
    }

    /// Whether a finished snapshot raises `currentEpoch` to its own, as Apache wants it that no start finds a history of a later
    /// epoch. That is for a member whose log keeps nothing; for others `currentEpoch` is never behind. Nobody else may write it
    /// while a snapshot is being finished.
    pub fn raising_epoch(self, raises_epoch: bool) -> Snapshotter<D> {
        Snapshotter { raises_epoch, ..self }
    }

    /// Tells the log on the same file system how much space the next snapshot is likely to need.
    pub fn sharing(self, room: SnapshotRoom) -> Snapshotter<D> {
        Snapshotter { room, ..self }
    }

    /// Handles the next piece.
    ///
    /// # Errors
    /// I/O errors of the disk.
    ///
    /// # Panics
    /// If the pieces are not in order, or if a snapshot is of an older transaction than the last one.
    pub fn take(&mut self, now: Now, part: SnapshotPart) -> io::Result<Option<SnapshotEvent>> {
        match part {
            SnapshotPart::Begin { zxid, digest, sessions, acls } => {
                assert!(self.open.is_none(), "a snapshot of {zxid} begins inside another");
                assert!(self.last.is_none_or(|last| last <= zxid), "a snapshot of {zxid} after one of {:?}", self.last);
                let mut writer = SnapshotWriter::begin(&mut self.dir, zxid, self.options)?;
                writer.put(&head(&sessions, &acls))?;
                let logged = self.room.begin_snapshot();
                self.open = Some(Open { writer, zxid, digest, began_ms: now.mono_ms, logged });
                Ok(None)
            }
            SnapshotPart::Nodes(nodes) => {
                let open = self.open.as_mut().expect("nodes come inside a snapshot");
                let before = open.writer.bytes();
                open.writer.put(&nodes)?;
                assert_eq!(open.writer.bytes() - before, nodes.len() as u64, "bytes of a piece that were written");
                Ok(Some(SnapshotEvent::Took(nodes.len())))
            }
            SnapshotPart::End => {
                let open = self.open.take().expect("an end comes inside a snapshot");
                let Open { writer, zxid, digest, began_ms, logged } = open;
                let digest = digest.map(|d| ZxidDigest { zxid, version: d.version, digest: d.digest });
                assert!(now.mono_ms >= began_ms, "the monotonic clock went back from {began_ms} to {}", now.mono_ms);
                assert!(digest.is_none_or(|d| d.zxid == zxid), "the digest is not of {zxid}: {digest:?}");
                let name = writer.finish(&mut self.dir, digest, zxid)?;
                if self.raises_epoch {
                    raise_current_epoch(&mut self.dir, zxid.epoch()).map_err(io::Error::other)?;
                }
                self.last = Some(zxid);
                self.room.end_snapshot(file_len(&self.dir, &name)?, logged);
                Ok(Some(SnapshotEvent::Done { zxid, took_ms: now.mono_ms - began_ms }))
            }
            SnapshotPart::Forget(Replaced(tree)) => {
                assert!(self.open.is_none(), "the tree of {} is dropped while it is written", tree.last_zxid());
                drop(tree);
                Ok(None)
            }
            SnapshotPart::Abandon => {
                if let Some(open) = self.open.take() {
                    open.writer.abandon(&mut self.dir)?;
                }
                self.last = None;
                Ok(Some(SnapshotEvent::Abandoned))
            }
        }
    }
}

/// The length of a file of the directory; 0 if somebody has removed it.
pub fn file_len<D: Dir>(dir: &D, name: &str) -> io::Result<u64> {
    Ok(dir.list()?.iter().find(|(n, _)| n == name).map_or(0, |(_, len)| *len))
}

/// The beginning of a snapshot: sessions and ACL lists.
fn head(sessions: &[(SessionId, i32)], acls: &[(AclId, SharedAcl)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_sessions(&mut out, sessions.iter().copied());
    let lists: Vec<(AclId, &[Acl])> = acls.iter().filter_map(|(id, list)| Some((*id, list.as_deref()?))).collect();
    put_acl_table(&mut out, lists.into_iter());
    out
}

/// Writes `snapshot.0` of the empty `tree` of a new database, before anything is served. Apache does not start from
/// logs without any snapshot, so without this one there would be no way back to Apache.
///
/// # Errors
/// I/O errors of the disk.
///
/// # Panics
/// If transactions were applied to the tree.
pub fn first_snapshot<D: Dir>(dir: &mut D, tree: &Tree, options: SnapshotOptions) -> io::Result<()> {
    assert_eq!(tree.last_zxid(), Zxid::ZERO, "the first snapshot is of an empty tree");
    // Making an image changes the tree, so use a copy.
    let mut copy = Tree::new(tree.options());
    let image = copy.begin_image();
    let mut body = head(&[], &copy.image_acls(image));
    while !copy.image_chunk(image, CHUNK, &mut body) {}
    assert_eq!(copy.last_zxid(), Zxid::ZERO, "an image of the empty tree changes nothing");
    let mut writer = SnapshotWriter::begin(dir, Zxid::ZERO, options)?;
    writer.put(&body)?;
    writer.finish(dir, None, Zxid::ZERO).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::test_disk::{Fault, TestDisk};
    use crate::tree::TreeOptions;
    use crate::txnlog::epoch::{self, read_epoch, write_epoch};
    use crate::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
    use crate::txnlog::recovery::RecoveryOptions;
    use crate::txnlog::restore::recover_tree;
    use crate::txnlog::snapshot::put_node;
    use crate::types::{Epoch, StatPersisted};

    fn begin(zxid: i64) -> SnapshotPart {
        SnapshotPart::Begin { zxid: Zxid(zxid), digest: None, sessions: vec![(SessionId(5), 4000)], acls: vec![] }
    }

    fn at(ms: i64) -> Now {
        Now { mono_ms: ms, ..Now::default() }
    }

    #[test]
    fn a_snapshot_has_its_name_once_its_last_piece_came() {
        let disk = TestDisk::new();
        let mut s = Snapshotter::new(disk.clone(), SnapshotOptions::default());
        for zxid in [7, 9] {
            let mut nodes = Vec::new();
            put_node(&mut nodes, "", Some(b""), AclId(-1), &StatPersisted::default());
            let len = nodes.len();
            assert_eq!(s.take(at(10), begin(zxid)).unwrap(), None);
            assert_eq!(s.take(at(20), SnapshotPart::Nodes(nodes)).unwrap(), Some(SnapshotEvent::Took(len)));
            assert!(!disk.names().contains(&format!("snapshot.{zxid}")));
            let done = s.take(at(35), SnapshotPart::End).unwrap();
            assert_eq!(done, Some(SnapshotEvent::Done { zxid: Zxid(zxid), took_ms: 25 }));
            assert!(disk.names().contains(&format!("snapshot.{zxid}")));
        }
        // Its name is durable.
        disk.power_cycle(1);
        let recovered =
            recover_tree(&mut disk.clone(), &mut disk.clone(), TreeOptions::default(), RecoveryOptions::default());
        let recovered = recovered.unwrap();
        assert_eq!((recovered.last, recovered.sessions.get(&SessionId(5))), (Zxid(9), Some(&4000)));
    }

    /// As without a log: the history is in memory only, and its epoch with it.
    #[test]
    fn a_snapshot_makes_its_epoch_durable() {
        let last = Zxid::new(Epoch(3), 7);
        let take = |disk: &TestDisk| {
            let mut s = Snapshotter::new(disk.clone(), SnapshotOptions::default()).raising_epoch(true);
            let mut nodes = Vec::new();
            put_node(&mut nodes, "", Some(b""), AclId(-1), &StatPersisted::default());
            s.take(at(0), begin(last.0))?;
            s.take(at(0), SnapshotPart::Nodes(nodes))?;
            s.take(at(0), SnapshotPart::End)
        };
        let begun = |current: i64| {
            let disk = TestDisk::new();
            write_epoch(&mut disk.clone(), ACCEPTED_EPOCH, Epoch(4)).unwrap();
            write_epoch(&mut disk.clone(), CURRENT_EPOCH, Epoch(current)).unwrap();
            disk
        };
        for (before, after) in [(1, 3), (3, 3), (4, 4)] {
            let disk = begun(before);
            assert!(take(&disk).unwrap().is_some());
            disk.power_cycle(1);
            assert_eq!(read_epoch(&disk, CURRENT_EPOCH).unwrap(), Some(Epoch(after)));
        }
        for op in 0..12 {
            for seed in 0..10 {
                let disk = begun(1);
                disk.crash_at(disk.ops() + op);
                let is_done = take(&disk).is_ok();
                disk.power_cycle(seed);
                let (mut snap, options) = (disk.clone(), RecoveryOptions { may_create: false, ..Default::default() });
                let r = recover_tree(&mut snap, &mut disk.clone(), TreeOptions::default(), options).unwrap();
                let epochs = epoch::load(&mut snap, r.last).unwrap();
                let wanted = if r.last == last { Epoch(3) } else { Epoch(1) };
                assert_eq!(epochs.current, wanted, "{op}/{seed}");
                assert!(r.last == last || !is_done, "{op}/{seed}: {} is left", r.last);
            }
        }
    }

    #[test]
    fn the_first_snapshot_is_of_a_new_database() {
        let disk = TestDisk::new();
        let load = || {
            recover_tree(&mut disk.clone(), &mut disk.clone(), TreeOptions::default(), RecoveryOptions::default())
                .unwrap()
        };
        let fresh = load();
        assert!(fresh.fresh);
        first_snapshot(&mut disk.clone(), &fresh.state, SnapshotOptions::default()).unwrap();
        assert_eq!(disk.names(), ["snapshot.0"]);
        disk.power_cycle(1);
        let again = load();
        assert!(!again.fresh);
        assert_eq!(again.state.node_count(), fresh.state.node_count());
        assert_eq!(again.state.digest(), fresh.state.digest());
    }

    #[test]
    fn a_tree_that_was_replaced_needs_no_answer() {
        let mut s = Snapshotter::new(TestDisk::new(), SnapshotOptions::default());
        let tree = || SnapshotPart::Forget(Replaced(Tree::new(TreeOptions::default()).into()));
        assert_eq!(format!("{:?}", tree()), "Forget(Replaced(0x0))");
        assert_eq!(s.take(at(0), tree()).unwrap(), None);
        s.take(at(0), begin(7)).unwrap();
    }

    #[test]
    fn an_abandoned_snapshot_leaves_nothing_and_an_older_one_may_follow() {
        let disk = TestDisk::new();
        let mut s = Snapshotter::new(disk.clone(), SnapshotOptions::default());
        for zxid in [9, 7] {
            s.take(at(0), begin(zxid)).unwrap();
            assert_eq!(disk.names(), [format!("tmp.snapshot.{zxid}")]);
            // Nothing more is written, so a full disk does no harm.
            disk.fault_at(0, Fault::NoSpace, 0);
            assert_eq!(s.take(at(0), SnapshotPart::Abandon).unwrap(), Some(SnapshotEvent::Abandoned));
            assert_eq!((disk.fired(), disk.names()), (None, vec![]));
            disk.restart();
            // Also when there is none.
            assert_eq!(s.take(at(0), SnapshotPart::Abandon).unwrap(), Some(SnapshotEvent::Abandoned));
        }
    }

    #[test]
    #[should_panic(expected = "a snapshot of 0x9 begins inside another")]
    fn two_snapshots_are_not_written_at_once() {
        let mut s = Snapshotter::new(TestDisk::new(), SnapshotOptions::default());
        s.take(at(0), begin(7)).unwrap();
        let _ = s.take(at(0), begin(9));
    }

    #[test]
    #[should_panic(expected = "nodes come inside a snapshot")]
    fn nodes_need_a_beginning() {
        let mut s = Snapshotter::new(TestDisk::new(), SnapshotOptions::default());
        let _ = s.take(at(0), SnapshotPart::Nodes(vec![1]));
    }
}
