//! The transaction bodies.

use std::sync::Arc;

use bytes::Bytes;

use crate::jute::acl::{put_acls, put_open_acl, read_acls};
use crate::jute::{JuteError, Put, Reader};
use crate::types::Op;
use crate::types::acl::{AclList, SharedAcl, is_open};
use crate::types::stat::owner::MAX_TTL_MS;

/// What kind of znode a create makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateKind {
    /// create and create2: persistent, or an ephemeral of the session in the header.
    Plain {
        /// Whether the session owns it.
        ephemeral: bool,
    },
    /// createContainer.
    Container,
    /// createTTL.
    Ttl {
        /// The TTL in milliseconds.
        ttl_ms: i64,
    },
}

/// A create of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct CreateTxn {
    /// The full path, with the sequence number if there is one.
    pub path: String,
    pub data: Option<Bytes>,
    /// The ACL with `auth` already expanded; `None` is `world:anyone` with all permissions.
    pub acl: SharedAcl,
    pub kind: CreateKind,
    /// The parent's persisted cversion after this create; -1 in records of ZooKeeper 3.3, which means the current one
    /// plus 1.
    pub parent_cversion: i32,
}

/// One decoded transaction. Its versions are those after the change.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Txn {
    Create(CreateTxn),
    /// delete and deleteContainer.
    Delete {
        path: String,
    },
    /// setData, and reconfig's write of the configuration node.
    SetData {
        path: String,
        data: Option<Bytes>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: SharedAcl,
        version: i32,
    },
    /// Occurs only inside a multi.
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<SubTxn>),
    CreateSession {
        timeout_ms: i32,
    },
    /// The ephemerals to delete, in this order. `None` in logs of old servers: the applying server uses its own list.
    CloseSession {
        paths: Option<Vec<String>>,
    },
    /// A refused write, which uses up its zxid all the same.
    Error {
        err: i32,
    },
}

/// One operation inside a multi, with its own opcode.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SubTxn {
    pub op: Op,
    pub txn: Txn,
}

/// `None` for `world:anyone` with all permissions, else the list itself.
pub fn share(acls: impl Into<AclList>) -> SharedAcl {
    let acls = acls.into();
    if is_open(&acls) { None } else { Some(Arc::from(acls.into_owned())) }
}

fn put_shared_acl(out: &mut Vec<u8>, acl: &SharedAcl) {
    match acl {
        None => put_open_acl(out),
        Some(list) => put_acls(out, list),
    }
}

fn owned(b: Option<&[u8]>) -> Option<Bytes> {
    b.map(Bytes::copy_from_slice)
}

impl Txn {
    /// Whether Apache's servers can apply it. Their leader proposes a createTTL that has a negative TTL and a mode without one, and every
    /// Apache server stops when it applies it, and again each time it starts with it in its log.
    pub fn is_applicable(&self) -> bool {
        match self {
            Txn::Create(CreateTxn { kind: CreateKind::Ttl { ttl_ms }, .. }) => (1..=MAX_TTL_MS).contains(ttl_ms),
            _ => true,
        }
    }

    /// Appends the body, without the opcode, which is in the header.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Txn::Create(c) => {
                out.put_string(&c.path);
                out.put_buffer(c.data.as_deref());
                put_shared_acl(out, &c.acl);
                if let CreateKind::Plain { ephemeral } = c.kind {
                    out.put_bool(ephemeral);
                }
                out.put_i32(c.parent_cversion);
                if let CreateKind::Ttl { ttl_ms } = c.kind {
                    out.put_i64(ttl_ms);
                }
            }
            Txn::Delete { path } => out.put_string(path),
            Txn::SetData { path, data, version } => {
                out.put_string(path);
                out.put_buffer(data.as_deref());
                out.put_i32(*version);
            }
            Txn::SetAcl { path, acl, version } => {
                out.put_string(path);
                put_shared_acl(out, acl);
                out.put_i32(*version);
            }
            Txn::Check { path, version } => {
                out.put_string(path);
                out.put_i32(*version);
            }
            Txn::Multi(subs) => {
                out.put_i32(subs.len() as i32);
                for s in subs {
                    out.put_i32(s.op.0);
                    let f = out.begin_frame();
                    s.txn.put(out);
                    out.end_frame(f);
                }
            }
            Txn::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
            Txn::CloseSession { paths: Some(paths) } => out.put_strings(paths),
            Txn::CloseSession { paths: None } => {}
            Txn::Error { err } => out.put_i32(*err),
        }
    }

    /// Reads the body of a transaction with opcode `op`. What follows the body (digest, end mark) stays in `r`.
    ///
    /// # Errors
    /// The opcode is never logged, or the record ends too early.
    pub fn read(op: Op, r: &mut Reader<'_>) -> Result<Txn, JuteError> {
        Ok(match op {
            Op::CREATE | Op::CREATE2 => {
                let (path, data, acl) = read_create_head(r)?;
                let ephemeral = r.bool()?;
                // A `CreateTxnV0` of ZooKeeper 3.3 has no further field.
                let parent_cversion = if r.is_empty() { -1 } else { r.i32()? };
                Txn::Create(CreateTxn { path, data, acl, kind: CreateKind::Plain { ephemeral }, parent_cversion })
            }
            Op::CREATE_CONTAINER => {
                let (path, data, acl) = read_create_head(r)?;
                Txn::Create(CreateTxn { path, data, acl, kind: CreateKind::Container, parent_cversion: r.i32()? })
            }
            Op::CREATE_TTL => {
                let (path, data, acl) = read_create_head(r)?;
                let parent_cversion = r.i32()?;
                let kind = CreateKind::Ttl { ttl_ms: r.i64()? };
                Txn::Create(CreateTxn { path, data, acl, kind, parent_cversion })
            }
            Op::DELETE | Op::DELETE_CONTAINER => Txn::Delete { path: r.string()?.into_owned() },
            Op::SET_DATA | Op::RECONFIG => {
                Txn::SetData { path: r.string()?.into_owned(), data: owned(r.buffer()?), version: r.i32()? }
            }
            Op::SET_ACL => Txn::SetAcl { path: r.string()?.into_owned(), acl: share(read_acls(r)?), version: r.i32()? },
            Op::CHECK => Txn::Check { path: r.string()?.into_owned(), version: r.i32()? },
            Op::MULTI => Txn::Multi(read_multi(r)?),
            Op::CREATE_SESSION => Txn::CreateSession { timeout_ms: r.i32()? },
            Op::CLOSE_SESSION => Txn::CloseSession { paths: if r.is_empty() { None } else { Some(r.strings()?) } },
            Op::ERROR => Txn::Error { err: r.i32()? },
            _ => return Err(r.unexpected("transaction type")),
        })
    }
}

fn read_create_head(r: &mut Reader<'_>) -> Result<(String, Option<Bytes>, SharedAcl), JuteError> {
    Ok((r.string()?.into_owned(), owned(r.buffer()?), share(read_acls(r)?)))
}

fn read_multi(r: &mut Reader<'_>) -> Result<Vec<SubTxn>, JuteError> {
    let n = r.count(8)?.unwrap_or(0);
    let mut subs = Vec::with_capacity(n);
    for _ in 0..n {
        let op = Op(r.i32()?);
        let body = r.buffer()?.unwrap_or_default();
        if matches!(op, Op::MULTI | Op::CREATE_SESSION | Op::CLOSE_SESSION) {
            return Err(r.unexpected("transaction type in multi"));
        }
        subs.push(SubTxn { op, txn: Txn::read(op, &mut Reader::new(body))? });
    }
    Ok(subs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Acl;
    use crate::types::Id;

    fn round_trip(op: Op, txn: &Txn) {
        let mut out = Vec::new();
        txn.put(&mut out);
        let mut r = Reader::new(&out);
        assert_eq!(Txn::read(op, &mut r).as_ref(), Ok(txn));
        assert!(r.is_empty());
    }

    #[test]
    fn bodies_round_trip() {
        let acl = share(vec![Acl { perms: 1, id: Id::new("digest", "a:b") }]);
        let create = |kind| {
            Txn::Create(CreateTxn {
                path: "/a".into(),
                data: Some(Bytes::from_static(b"x")),
                acl: acl.clone(),
                kind,
                parent_cversion: 3,
            })
        };
        round_trip(Op::CREATE, &create(CreateKind::Plain { ephemeral: true }));
        round_trip(Op::CREATE_CONTAINER, &create(CreateKind::Container));
        round_trip(Op::CREATE_TTL, &create(CreateKind::Ttl { ttl_ms: 5 }));
        round_trip(Op::SET_ACL, &Txn::SetAcl { path: "/a".into(), acl: None, version: 1 });
        round_trip(Op::CLOSE_SESSION, &Txn::CloseSession { paths: Some(vec![]) });
        round_trip(Op::CLOSE_SESSION, &Txn::CloseSession { paths: None });
        let subs = vec![
            SubTxn { op: Op::DELETE, txn: Txn::Delete { path: "/a".into() } },
            SubTxn { op: Op::ERROR, txn: Txn::Error { err: -101 } },
            SubTxn { op: Op::CHECK, txn: Txn::Check { path: "/b".into(), version: 2 } },
        ];
        round_trip(Op::MULTI, &Txn::Multi(subs));
    }

    #[test]
    fn create_of_3_3_has_no_parent_cversion() {
        let mut out = Vec::new();
        out.put_string("/a");
        out.put_buffer(None);
        put_acls(&mut out, &[Acl::world_all()]);
        out.put_bool(false);
        let Ok(Txn::Create(c)) = Txn::read(Op::CREATE, &mut Reader::new(&out)) else { panic!() };
        assert_eq!((c.parent_cversion, c.acl, c.data), (-1, None, None));
    }

    #[test]
    fn a_session_txn_inside_a_multi_is_refused() {
        let nested = Txn::Multi(vec![SubTxn { op: Op::CREATE_SESSION, txn: Txn::CreateSession { timeout_ms: 1 } }]);
        let mut out = Vec::new();
        nested.put(&mut out);
        assert!(Txn::read(Op::MULTI, &mut Reader::new(&out)).is_err());
    }
}
