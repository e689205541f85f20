//! Random requests of clients.

use crate::limits;
use crate::oracle::server_model::ModelOp;
use crate::proto::multi::MultiReadOp;
use crate::proto::request::{self, Request, SetWatches, put_framed_body, xid};
use crate::types::{Acl, Id, Op, perms};
use crate::watch::WatcherType;

/// A request that a client has sent and whose reply it waits for.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(super) enum Asked {
    Write(ModelOp),
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    GetChildren {
        path: String,
        watch: bool,
    },
    GetAcl {
        path: String,
    },
    Sync {
        path: String,
    },
    /// Reads the data of each path.
    MultiRead(Vec<String>),
    AllChildrenNumber {
        path: String,
    },
    Ephemerals,
    AddWatch {
        path: String,
        recursive: bool,
    },
    RemoveWatches {
        path: String,
    },
    SetWatches(SetWatches),
    Ping,
}

impl Asked {
    fn opcode(&self) -> Op {
        match self {
            Asked::Write(w) => w.opcode(),
            Asked::Exists { .. } => Op::EXISTS,
            Asked::GetData { .. } => Op::GET_DATA,
            Asked::GetChildren { .. } => Op::GET_CHILDREN2,
            Asked::GetAcl { .. } => Op::GET_ACL,
            Asked::Sync { .. } => Op::SYNC,
            Asked::MultiRead(_) => Op::MULTI_READ,
            Asked::AllChildrenNumber { .. } => Op::GET_ALL_CHILDREN_NUMBER,
            Asked::Ephemerals => Op::GET_EPHEMERALS,
            Asked::AddWatch { .. } => Op::ADD_WATCH,
            Asked::RemoveWatches { .. } => Op::REMOVE_WATCHES,
            Asked::SetWatches(_) => Op::SET_WATCHES2,
            Asked::Ping => Op::PING,
        }
    }

    /// The xid with which it is sent; `next` if it has no fixed one.
    pub(super) fn xid(&self, next: i32) -> i32 {
        match self {
            Asked::SetWatches(_) => xid::SET_WATCHES,
            Asked::Ping => xid::PING,
            _ => next,
        }
    }

    /// Whether it names this path anywhere.
    pub(super) fn names(&self, path: &str) -> bool {
        format!("{self:?}").contains(path)
    }

    /// Appends the request as a frame.
    pub(super) fn put(&self, xid: i32, out: &mut Vec<u8>) {
        let request = match self {
            Asked::Write(write) => {
                let mut body = Vec::new();
                write.put(&mut body);
                return put_framed_body(out, xid, self.opcode(), &body);
            }
            Asked::Exists { path, watch } => Request::Exists { path: path.into(), watch: *watch },
            Asked::GetData { path, watch } => Request::GetData { path: path.into(), watch: *watch },
            Asked::GetChildren { path, watch } => Request::GetChildren { path: path.into(), watch: *watch },
            Asked::GetAcl { path } => Request::GetAcl { path: path.into() },
            Asked::Sync { path } => Request::Sync { path: Some(path.into()) },
            Asked::AllChildrenNumber { path } => Request::GetAllChildrenNumber { path: path.into() },
            Asked::MultiRead(paths) => {
                Request::MultiRead(paths.iter().map(|path| MultiReadOp::GetData { path: path.into() }).collect())
            }
            Asked::Ephemerals => Request::GetEphemerals { prefix: "/".into() },
            Asked::AddWatch { path, recursive } => Request::AddWatch { path: path.into(), mode: i32::from(*recursive) },
            Asked::RemoveWatches { path } => {
                Request::RemoveWatches { path: path.into(), kind: WatcherType::Any as i32 }
            }
            Asked::SetWatches(w) => Request::SetWatches(w.clone()),
            Asked::Ping => Request::Ping,
        };
        request.put_framed(xid, self.opcode(), out);
    }
}

/// Appends the auth packet of a `user:password` as a frame.
pub(super) fn put_auth(user_password: &str, out: &mut Vec<u8>) {
    request::put_auth(out, "digest", Some(user_password.as_bytes()));
}

/// A random path, from few enough that clients affect each other.
fn path(r: &mut fastrand::Rng) -> String {
    if r.u32(..40) == 0 {
        let odd = ["/", "a", "//a", "/a/", "/a\0", "/.", "/zookeeper", "/zookeeper/config", "/é"];
        return odd[r.usize(..odd.len())].to_owned();
    }
    // Usually near the top, where znodes exist more often.
    let depth = [1, 1, 1, 2, 2, 3][r.usize(..6)];
    (0..depth).map(|_| ["/a", "/b", "/c"][r.usize(..3)]).collect()
}

fn acl(r: &mut fastrand::Rng) -> Vec<Acl> {
    let one = |perms, scheme: &str, id: &str| vec![Acl { perms, id: Id::new(scheme, id) }];
    match r.u32(..40) {
        0 => vec![],
        1 => one(perms::ALL, "nope", "x"),
        2 => one(perms::ALL & !(1 << r.u32(..5)), "world", "anyone"),
        3 | 4 => one(perms::ALL, "auth", ""),
        5 => [one(perms::READ, "world", "anyone"), one(perms::ALL, "digest", "bob:h")].concat(),
        _ => vec![Acl::world_all()],
    }
}

fn data(r: &mut fastrand::Rng, big: bool) -> Option<Vec<u8>> {
    if big && r.u32(..10) == 0 {
        // Each fills a piece of a snapshot, so that other transactions come between the pieces.
        return Some(vec![r.u8(..); limits::IMAGE_CHUNK + r.usize(..2000)]);
    }
    let most = if r.u32(..30) == 0 { 3000 } else { 20 };
    (r.u32(..10) != 0).then(|| (0..r.usize(..most)).map(|_| r.u8(..)).collect())
}

fn version(r: &mut fastrand::Rng) -> i32 {
    if r.u32(..4) == 0 { r.i32(0..3) } else { -1 }
}

fn node_op(r: &mut fastrand::Rng, in_multi: bool, big: bool) -> ModelOp {
    let path = path(r);
    match r.u32(..14) {
        0..=6 => {
            let (op, flags) = match r.u32(..18) {
                0..=5 => (Op::CREATE, 0),
                6..=8 => (Op::CREATE2, 1),
                9..=10 => (Op::CREATE, 2),
                11..=12 => (Op::CREATE2, 3),
                13..=14 => (Op::CREATE_CONTAINER, 4),
                15..=16 => (Op::CREATE_TTL, 5),
                _ => (Op::CREATE_TTL, 6),
            };
            let ttl_ms = [1, 50, 400, 3000, 0, -1][r.usize(..6)];
            ModelOp::Create { op, path, data: data(r, big), acl: acl(r), flags, ttl_ms }
        }
        7..=9 => ModelOp::Delete { path, version: version(r) },
        10..=12 => ModelOp::SetData { path, data: data(r, big), version: version(r) },
        _ if in_multi => ModelOp::Check { path, version: version(r) },
        _ => ModelOp::SetAcl { path, acl: acl(r), version: version(r) },
    }
}

/// A random request of an open session. With `big` some carry much data.
pub(super) fn random(r: &mut fastrand::Rng, big: bool) -> Asked {
    let watch = r.bool();
    match r.u32(..40) {
        0..=17 => Asked::Write(node_op(r, false, big)),
        18..=21 => Asked::Write(ModelOp::Multi((0..r.usize(..5)).map(|_| node_op(r, true, big)).collect())),
        22..=24 => Asked::Exists { path: path(r), watch },
        25..=28 => Asked::GetData { path: path(r), watch },
        29..=31 => Asked::GetChildren { path: path(r), watch },
        32 => Asked::GetAcl { path: path(r) },
        33 => Asked::Sync { path: path(r) },
        34 => Asked::MultiRead((0..r.usize(1..4)).map(|_| path(r)).collect()),
        35 => Asked::AllChildrenNumber { path: path(r) },
        36 => Asked::Ephemerals,
        37..=38 => Asked::AddWatch { path: path(r), recursive: watch },
        _ => Asked::RemoveWatches { path: path(r) },
    }
}
