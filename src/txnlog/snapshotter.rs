//! Snapshots as one machine: the pieces that a server makes of its tree go in, a file grows, and what became of it comes out.
//! The snapshot thread and the simulator run it. Mirrors `FileTxnSnapLog.save`.

use std::io;

use super::disk::{Dir, Writer};
use super::snapshot::{SnapshotOptions, SnapshotWriter, ZxidDigest, put_acl_table, put_sessions};
use crate::tree::Tree;
use crate::txn::TxnDigest;
use crate::types::acl::SharedAcl;
use crate::types::{Acl, AclId, Now, SessionId, Zxid};

/// Bytes of nodes made at a time for a first snapshot.
const CHUNK: usize = 1 << 20;

/// A piece of a snapshot.
#[derive(Debug)]
pub enum SnapshotPart {
    /// The first.
    Begin {
        /// As of which transaction.
        zxid: Zxid,
        /// Of the tree as of `zxid`.
        digest: Option<TxnDigest>,
        /// Sessions as of `zxid` and their timeouts in milliseconds.
        sessions: Vec<(SessionId, i32)>,
        /// Every interned ACL list.
        acls: Vec<(AclId, SharedAcl)>,
    },
    /// Serialized znodes.
    Nodes(Vec<u8>),
    /// Nothing follows.
    End,
}

/// What the writer of a snapshot tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotEvent {
    /// So many bytes of nodes were written: there is room for more.
    Took(usize),
    /// The snapshot is durable under its name.
    Done {
        /// As of which transaction.
        zxid: Zxid,
        /// Milliseconds from its first piece to its end.
        took_ms: i64,
    },
}

/// A snapshot under way.
struct Open<W: Writer> {
    writer: SnapshotWriter<W>,
    zxid: Zxid,
    digest: Option<TxnDigest>,
    began_ms: i64,
}

/// The machine. After an error it is of no use: the file stays behind under its temporary name, and recovery removes it.
pub struct Snapshotter<D: Dir> {
    dir: D,
    options: SnapshotOptions,
    open: Option<Open<D::Writer>>,
    /// Of the last finished one.
    last: Option<Zxid>,
}

impl<D: Dir> Snapshotter<D> {
    /// Writes to `dir` (`dataDir/version-2`).
    pub fn new(dir: D, options: SnapshotOptions) -> Snapshotter<D> {
        Snapshotter { dir, options, open: None, last: None }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Panics
    /// If the pieces do not come in order, or a snapshot is as of an older transaction than the last one: a bug of ours.
    pub fn take(&mut self, now: Now, part: SnapshotPart) -> io::Result<Option<SnapshotEvent>> {
        match part {
            SnapshotPart::Begin { zxid, digest, sessions, acls } => {
                assert!(self.open.is_none(), "a snapshot of {zxid} begins inside another");
                assert!(
                    self.last.is_none_or(|last| last <= zxid),
                    "a snapshot of {zxid} behind one of {:?}",
                    self.last
                );
                let mut writer = SnapshotWriter::begin(&mut self.dir, zxid, self.options)?;
                writer.put(&head(&sessions, &acls))?;
                self.open = Some(Open { writer, zxid, digest, began_ms: now.mono_ms });
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
                let Open { writer, zxid, digest, began_ms } = self.open.take().expect("an end comes inside a snapshot");
                let digest = digest.map(|d| ZxidDigest { zxid, version: d.version, digest: d.digest });
                assert!(now.mono_ms >= began_ms, "the monotonic clock went back from {began_ms} to {}", now.mono_ms);
                assert!(digest.is_none_or(|d| d.zxid == zxid), "the digest is not of {zxid}: {digest:?}");
                writer.finish(&mut self.dir, digest, zxid)?;
                self.last = Some(zxid);
                Ok(Some(SnapshotEvent::Done { zxid, took_ms: now.mono_ms - began_ms }))
            }
        }
    }
}

/// Sessions and ACL lists, as a snapshot begins.
fn head(sessions: &[(SessionId, i32)], acls: &[(AclId, SharedAcl)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_sessions(&mut out, sessions.iter().copied());
    let lists: Vec<(AclId, &[Acl])> = acls.iter().filter_map(|(id, list)| Some((*id, list.as_deref()?))).collect();
    put_acl_table(&mut out, lists.into_iter());
    out
}

/// Writes `snapshot.0` of the empty `tree` of a new database, before anything is served: Apache refuses logs without any
/// snapshot, so the way back to it begins here.
///
/// # Errors
/// The disk's.
///
/// # Panics
/// If transactions were applied to the tree: a bug of ours.
pub fn first_snapshot<D: Dir>(dir: &mut D, tree: &Tree, options: SnapshotOptions) -> io::Result<()> {
    assert_eq!(tree.last_zxid(), Zxid::ZERO, "the first snapshot is of an empty tree");
    // A tree is changed while an image of it is made.
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
    use crate::oracle::test_disk::TestDisk;
    use crate::tree::TreeOptions;
    use crate::txnlog::recovery::RecoveryOptions;
    use crate::txnlog::restore::recover_tree;
    use crate::txnlog::snapshot::put_node;
    use crate::types::StatPersisted;

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
