//! Loads one snapshot file into a replica's builder.

use std::collections::HashMap;

use super::disk::Dir;
use super::names::Compression;
use super::recovered::Builder;
use super::snapshot::ZxidDigest;
use super::snapshot_read::{self, Node, Sink, Tail};
use crate::types::{Acl, AclId, SessionId, Zxid};

/// What is in a snapshot file.
pub(super) struct Loaded<R> {
    pub(super) state: R,
    pub(super) sessions: HashMap<SessionId, i32>,
    pub(super) zxid: Zxid,
    pub(super) digest: Option<ZxidDigest>,
}

struct Loading<B> {
    builder: B,
    sessions: HashMap<SessionId, i32>,
}

impl<B: Builder> Sink for Loading<B> {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        match self.sessions.insert(id, timeout_ms) {
            Some(_) => Err(format!("session {id} is in the snapshot twice")),
            None => Ok(()),
        }
    }
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.builder.acl(id, list)
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.builder.node(node)
    }
}

/// Loads one snapshot file, whatever its name; every seal is checked.
pub(super) fn load_file<D: Dir, B: Builder>(
    snap: &D,
    name: &str,
    zxid: Zxid,
    compression: Compression,
    builder: B,
) -> Result<Loaded<B::Replica>, String> {
    let file = snap.open(name).map_err(|e| e.to_string())?;
    let mut loading = Loading { builder, sessions: HashMap::new() };
    let tail: Tail = snapshot_read::read_file(file, zxid, compression, &mut loading).map_err(|e| e.to_string())?;
    let state = loading.builder.finish(zxid)?;
    // A digest for an earlier zxid than the snapshot's: a leader took the snapshot at the zxid of its epoch. It says
    // nothing about a fuzzy snapshot.
    let digest = tail.digest.filter(|d| d.zxid >= zxid);
    Ok(Loaded { state, sessions: loading.sessions, zxid, digest })
}
