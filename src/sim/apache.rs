//! Members that behave like Apache's where ours do not. They run the shipped machines; this changes what they write to others, and
//! their snapshots:
//!
//! * the newest notification is sent again on every new connection, however old it is;
//! * a PING comes between NEWLEADER and UPTODATE;
//! * a snapshot is fuzzy: what was walked late shows later transactions, and transactions that are in it are sent behind it;
//! * a zxid is used twice, as an Apache leader does behind a request that it cannot decode;
//! * what DIFF brought is acknowledged before NEWLEADER, as some releases do. Each proposal has its own ACK anyway.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use super::mesh::Mesh;
use super::options::PACKET_LIMIT;
use crate::oracle::test_disk::TestDisk;
use crate::oracle::tree_model::{Model, ModelNode};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, put_acl_table, put_node, put_sessions};
use crate::types::{Acl, AclId, ConnId, Cxid, ErrorCode, Op, SessionId, Zxid, path};
use crate::zab::message::{FromLeader, FromLearner};
use crate::zab::notification;
use crate::zab::packet::{Split, split};

/// Bytes that come from nobody's machine.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Before what the machine writes.
    pub(super) before: Vec<u8>,
    /// Behind it.
    pub(super) after: Vec<u8>,
}

/// What passes on a leader's connection to a learner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passing {
    Packets,
    /// A piece of a snapshot.
    Image,
    /// What ends it.
    EndOfImage,
}

/// What an Apache-like member remembers of its process.
#[derive(Clone, Debug, Default)]
pub(super) struct Apache {
    /// The newest notification to each member.
    told: BTreeMap<usize, Vec<u8>>,
    /// The zxid of the last snapshot on each connection.
    images: BTreeMap<ConnId, Zxid>,
    /// The zxid of its newest snapshot file.
    pub(super) newest: Option<Zxid>,
}

impl Apache {
    /// What the member writes for elections besides, when its machine writes this.
    pub(super) fn votes(&mut self, member: usize, conn: ConnId, bytes: &[u8], mesh: &mut Mesh) -> Extra {
        let mut extra = Extra::default();
        let Some((to, written)) = mesh.other(member, conn).zip(mesh.written(member, conn)) else { return extra };
        let old = self.told.get(&to).cloned().unwrap_or_default();
        if written == 0 && Mesh::dialled(conn) {
            // This is the hello.
            extra.after = old;
            return extra;
        }
        if written == 0 {
            extra.before = old;
        }
        let mut rest = bytes;
        while let Ok(Some((_, taken))) = notification::split(rest) {
            self.told.insert(to, rest[..taken].to_vec());
            rest = &rest[taken..];
        }
        extra
    }

    /// What it writes to a learner besides.
    pub(super) fn leads(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        passing: Passing,
        history: &History,
        rng: &mut fastrand::Rng,
    ) -> Extra {
        let mut extra = Extra::default();
        match passing {
            Passing::Image => {}
            Passing::EndOfImage => {
                let image = self.images.get(&conn).copied().unwrap_or(Zxid::ZERO);
                for (zxid, txn) in history.up_to(image, rng.usize(..4)) {
                    FromLeader::Proposal { zxid, txn: &txn }.put(&mut extra.after);
                    FromLeader::Commit(zxid).put(&mut extra.after);
                }
            }
            Passing::Packets => {
                let mut rest = bytes;
                while let Ok(Split::Whole(packet, taken)) = split(rest, PACKET_LIMIT) {
                    match FromLeader::read(&packet) {
                        Ok(FromLeader::NewLeader { zxid, .. }) => FromLeader::Ping(zxid).put(&mut extra.after),
                        Ok(FromLeader::Snap(zxid)) => _ = self.images.insert(conn, zxid),
                        Ok(FromLeader::Proposal { zxid, .. }) if rest.len() == taken && rng.u32(..200) == 0 => {
                            twice(zxid, &mut extra.after);
                        }
                        _ => {}
                    }
                    rest = &rest[taken..];
                }
            }
        }
        extra
    }
}

/// What it writes to its leader besides: the ACK of NEWLEADER comes behind an ACK for the end of what was synchronised.
pub(super) fn follows(bytes: &[u8], durable: Zxid) -> Extra {
    let mut extra = Extra::default();
    if let Ok(Split::Whole(packet, _)) = split(bytes, PACKET_LIMIT)
        && let Ok(FromLearner::Ack(zxid)) = FromLearner::read(packet)
        && zxid.counter() == 0
        && durable > zxid
    {
        FromLearner::Ack(durable).put(&mut extra.before);
    }
    extra
}

/// A proposal with a zxid that another one has.
fn twice(zxid: Zxid, out: &mut Vec<u8>) {
    let mut txn = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Cxid(1), zxid, time_ms: 0, op: Op::ERROR }.put(&mut txn);
    Txn::Error { err: ErrorCode::MarshallingError.code() }.put(&mut txn);
    TxnDigest { version: TxnDigest::VERSION, digest: 0 }.put(&mut txn);
    FromLeader::Proposal { zxid, txn: &txn }.put(out);
}

/// Writes the snapshot of `zxid` again, as if the walk had begun at `first` and the rest of it had come at `later`.
pub(super) fn make_fuzzy(
    disk: &TestDisk,
    (zxid, options): (Zxid, SnapshotOptions),
    sessions: &BTreeMap<SessionId, i32>,
    (first, later): (&Model, &Model),
    rng: &mut fastrand::Rng,
) {
    let mut lists: Vec<Vec<Acl>> = Vec::new();
    let mut nodes = Vec::new();
    for (path, node) in walk(first, later, rng) {
        let acl = match node.acl.as_deref() {
            None => AclId::OPEN,
            Some(list) => {
                let at = lists.iter().position(|known| known == list).unwrap_or(lists.len());
                if at == lists.len() {
                    lists.push(list.to_vec());
                }
                AclId(at as i64 + 1)
            }
        };
        put_node(&mut nodes, if path == "/" { "" } else { path }, node.data.as_deref(), acl, &node.stat);
    }
    let mut head = Vec::new();
    put_sessions(&mut head, sessions.iter().map(|(session, timeout_ms)| (*session, *timeout_ms)));
    put_acl_table(&mut head, lists.iter().enumerate().map(|(at, list)| (AclId(at as i64 + 1), &list[..])));
    let mut scratch = TestDisk::new();
    let mut write = || {
        let mut writer = SnapshotWriter::begin(&mut scratch, zxid, options)?;
        writer.put(&head)?;
        writer.put(&nodes)?;
        writer.finish(&mut scratch, None, zxid)
    };
    let name = write().expect("a disk without faults");
    disk.put(&name, &scratch.bytes(&name));
}

/// The znodes that a walk finds, parents first: those up to some path as in `first`, then as in `later`. Whoever was listed as a
/// child before it was deleted is passed over, and whoever was created after that is not found.
fn walk<'a>(first: &'a Model, later: &'a Model, rng: &mut fastrand::Rng) -> Vec<(&'a str, &'a ModelNode)> {
    let early = rng.usize(1..=first.nodes().len());
    let mut found: Vec<(&str, &ModelNode)> = first.nodes().iter().take(early).map(|(p, n)| (&p[..], n)).collect();
    let mut paths: BTreeSet<&str> = found.iter().map(|(path, _)| *path).collect();
    let seen = paths.clone();
    for (path, node) in later.nodes() {
        let parent = path::parent(path).unwrap_or("/");
        let is_listed = if seen.contains(parent) { first.nodes().contains_key(path) } else { paths.contains(parent) };
        if is_listed && paths.insert(path) {
            found.push((path, node));
        }
    }
    found.sort_unstable_by_key(|(path, _)| *path);
    found
}
