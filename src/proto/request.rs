//! Requests, borrowed from their frames. Mirrors the request records of `zookeeper.jute`.

use super::multi::{MultiOp, MultiReadOp, put_multi, put_multi_read, read_multi, read_multi_read};
use super::record::{CreateRequest, Text, put_set_data};
use crate::jute::acl::{put_acls, read_acls};
use crate::jute::{JuteError, Put, Reader};
use crate::types::acl::AclList;
use crate::types::{Op, Zxid};

/// The header of every request after the handshake: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: Op,
}

/// Special xids.
pub mod xid {
    /// From server to client: a watch event.
    pub const NOTIFICATION: i32 = -1;
    /// A ping.
    pub const PING: i32 = -2;
    /// An auth packet.
    pub const AUTH: i32 = -4;
    /// setWatches and setWatches2.
    pub const SET_WATCHES: i32 = -8;
}

impl RequestHeader {
    /// Reads the header.
    pub fn read(r: &mut Reader<'_>) -> Result<RequestHeader, JuteError> {
        Ok(RequestHeader { xid: r.i32()?, op: Op(r.i32()?) })
    }

    /// Appends the header.
    pub fn put(self, out: &mut Vec<u8>) {
        out.put_i32(self.xid);
        out.put_i32(self.op.0);
    }
}

/// The watches that a reconnecting client wants to set again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SetWatches {
    pub relative_zxid: Zxid,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    /// Only in setWatches2.
    pub persistent: Vec<String>,
    /// Only in setWatches2.
    pub persistent_recursive: Vec<String>,
}

/// A decoded request body. As in Java, bytes after the record are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request<'a> {
    /// create, create2, createContainer or createTTL, depending on the opcode.
    Create(CreateRequest<'a>),
    Delete {
        path: Text<'a>,
        version: i32,
    },
    Exists {
        path: Text<'a>,
        watch: bool,
    },
    GetData {
        path: Text<'a>,
        watch: bool,
    },
    SetData {
        path: Text<'a>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    GetAcl {
        path: Text<'a>,
    },
    SetAcl {
        path: Text<'a>,
        acl: AclList,
        version: i32,
    },
    /// getChildren and getChildren2.
    GetChildren {
        path: Text<'a>,
        watch: bool,
    },
    /// The path is not checked and may be missing: it is only sent back.
    Sync {
        path: Option<Text<'a>>,
    },
    Ping,
    Check {
        path: Text<'a>,
        version: i32,
    },
    Multi(Vec<MultiOp<'a>>),
    MultiRead(Vec<MultiReadOp<'a>>),
    /// Missing parts are null.
    Reconfig {
        joining: Option<Text<'a>>,
        leaving: Option<Text<'a>>,
        new_members: Option<Text<'a>>,
        config_id: i64,
    },
    CheckWatches {
        path: Text<'a>,
        kind: i32,
    },
    RemoveWatches {
        path: Text<'a>,
        kind: i32,
    },
    /// Sent by the server itself only.
    DeleteContainer {
        path: Text<'a>,
    },
    Auth {
        kind: i32,
        scheme: Text<'a>,
        auth: Option<&'a [u8]>,
    },
    /// setWatches and setWatches2.
    SetWatches(SetWatches),
    Sasl {
        token: Option<&'a [u8]>,
    },
    GetEphemerals {
        prefix: Text<'a>,
    },
    GetAllChildrenNumber {
        path: Text<'a>,
    },
    AddWatch {
        path: Text<'a>,
        mode: i32,
    },
    WhoAmI,
    /// Internal: the body of createSession.
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
}

impl<'a> Request<'a> {
    /// Decodes the body of a request with opcode `op`. `Ok(None)` means that there is no such operation.
    pub fn read(op: Op, body: &'a [u8]) -> Result<Option<Request<'a>>, JuteError> {
        let r = &mut Reader::new(body);
        Ok(Some(match op {
            Op::CREATE | Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL => {
                Request::Create(CreateRequest::read(r, op)?)
            }
            Op::DELETE => Request::Delete { path: r.some_string()?, version: r.i32()? },
            Op::EXISTS => Request::Exists { path: r.some_string()?, watch: r.bool()? },
            Op::GET_DATA => Request::GetData { path: r.some_string()?, watch: r.bool()? },
            Op::SET_DATA => Request::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            Op::GET_ACL => Request::GetAcl { path: r.some_string()? },
            Op::SET_ACL => Request::SetAcl { path: r.string()?, acl: read_acls(r)?, version: r.i32()? },
            Op::GET_CHILDREN | Op::GET_CHILDREN2 => Request::GetChildren { path: r.some_string()?, watch: r.bool()? },
            Op::SYNC => Request::Sync { path: r.ustring()? },
            Op::PING => Request::Ping,
            Op::CHECK => Request::Check { path: r.string()?, version: r.i32()? },
            Op::MULTI => Request::Multi(read_multi(r)?),
            Op::MULTI_READ => Request::MultiRead(read_multi_read(r)?),
            Op::RECONFIG => Request::Reconfig {
                joining: r.ustring()?,
                leaving: r.ustring()?,
                new_members: r.ustring()?,
                config_id: r.i64()?,
            },
            Op::CHECK_WATCHES => Request::CheckWatches { path: r.string()?, kind: r.i32()? },
            Op::REMOVE_WATCHES => Request::RemoveWatches { path: r.string()?, kind: r.i32()? },
            Op::DELETE_CONTAINER => Request::DeleteContainer { path: r.string()? },
            Op::AUTH => Request::Auth { kind: r.i32()?, scheme: r.string()?, auth: r.buffer()? },
            Op::SET_WATCHES | Op::SET_WATCHES2 => Request::SetWatches(read_set_watches(r, op)?),
            Op::SASL => Request::Sasl { token: r.buffer()? },
            Op::GET_EPHEMERALS => Request::GetEphemerals { prefix: r.string()? },
            Op::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber { path: r.some_string()? },
            Op::ADD_WATCH => Request::AddWatch { path: r.string()?, mode: r.i32()? },
            Op::WHO_AM_I => Request::WhoAmI,
            Op::CREATE_SESSION => Request::CreateSession { timeout_ms: r.i32()? },
            Op::CLOSE_SESSION => Request::CloseSession,
            _ => return Ok(None),
        }))
    }

    /// Appends the body for opcode `op`. The opcode only matters for setWatches: setWatches2 has two more lists.
    pub fn put(&self, op: Op, out: &mut Vec<u8>) {
        match self {
            Request::Create(create) => create.put(out),
            Request::Delete { path, version: number }
            | Request::Check { path, version: number }
            | Request::CheckWatches { path, kind: number }
            | Request::RemoveWatches { path, kind: number }
            | Request::AddWatch { path, mode: number } => {
                out.put_string(path);
                out.put_i32(*number);
            }
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch } => {
                out.put_string(path);
                out.put_bool(*watch);
            }
            Request::SetData { path, data, version } => put_set_data(out, path, *data, *version),
            Request::SetAcl { path, acl, version } => {
                out.put_string(path);
                put_acls(out, acl);
                out.put_i32(*version);
            }
            Request::GetAcl { path }
            | Request::DeleteContainer { path }
            | Request::GetEphemerals { prefix: path }
            | Request::GetAllChildrenNumber { path } => out.put_string(path),
            Request::Sync { path } => put_text(out, path.as_deref()),
            Request::Multi(ops) => put_multi(out, ops),
            Request::MultiRead(ops) => put_multi_read(out, ops),
            Request::Reconfig { joining, leaving, new_members, config_id } => {
                for text in [joining, leaving, new_members] {
                    put_text(out, text.as_deref());
                }
                out.put_i64(*config_id);
            }
            Request::Auth { kind, scheme, auth } => {
                out.put_i32(*kind);
                out.put_string(scheme);
                out.put_buffer(*auth);
            }
            Request::SetWatches(watches) => put_set_watches(out, watches, op == Op::SET_WATCHES2),
            Request::Sasl { token } => out.put_buffer(*token),
            Request::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
        }
    }

    /// The body alone, see [`Request::put`].
    pub fn body(&self, op: Op) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(op, &mut out);
        out
    }

    /// Appends the request with opcode `op` as a frame.
    pub fn put_framed(&self, xid: i32, op: Op, out: &mut Vec<u8>) {
        let frame = out.begin_frame();
        RequestHeader { xid, op }.put(out);
        self.put(op, out);
        out.end_frame(frame);
    }
}

/// Appends a request as a frame, with any bytes as its body.
pub fn put_framed_body(out: &mut Vec<u8>, xid: i32, op: Op, body: &[u8]) {
    let frame = out.begin_frame();
    RequestHeader { xid, op }.put(out);
    out.extend_from_slice(body);
    out.end_frame(frame);
}

/// Appends a ping as a frame: an opcode without a body, with the xid of pings.
pub fn put_ping(out: &mut Vec<u8>) {
    Request::Ping.put_framed(xid::PING, Op::PING, out);
}

/// Appends an auth packet as a frame.
pub fn put_auth(out: &mut Vec<u8>, scheme: &str, auth: Option<&[u8]>) {
    Request::Auth { kind: 0, scheme: scheme.into(), auth }.put_framed(xid::AUTH, Op::AUTH, out);
}

fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.put_buffer(text.map(str::as_bytes));
}

fn put_set_watches(out: &mut Vec<u8>, w: &SetWatches, with_persistent: bool) {
    out.put_i64(w.relative_zxid.0);
    for paths in [&w.data, &w.exist, &w.child] {
        out.put_strings(paths);
    }
    if with_persistent {
        out.put_strings(&w.persistent);
        out.put_strings(&w.persistent_recursive);
    }
}

fn read_set_watches(r: &mut Reader<'_>, op: Op) -> Result<SetWatches, JuteError> {
    let mut w = SetWatches {
        relative_zxid: Zxid(r.i64()?),
        data: r.some_strings()?,
        exist: r.some_strings()?,
        child: r.some_strings()?,
        ..SetWatches::default()
    };
    if op == Op::SET_WATCHES2 {
        w.persistent = r.some_strings()?;
        w.persistent_recursive = r.some_strings()?;
    }
    Ok(w)
}

/// Whether requests with this opcode are proposed, so that they get a zxid even if they fail.
pub fn is_write(op: Op) -> bool {
    matches!(
        op,
        Op::CREATE
            | Op::DELETE
            | Op::SET_DATA
            | Op::SET_ACL
            | Op::MULTI
            | Op::CREATE2
            | Op::RECONFIG
            | Op::CREATE_CONTAINER
            | Op::DELETE_CONTAINER
            | Op::CREATE_TTL
            | Op::CREATE_SESSION
            | Op::CLOSE_SESSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Acl;

    /// Every opcode, with bodies that contain all its fields, null ones too.
    fn all() -> Vec<(Op, Request<'static>)> {
        let create = |ttl_ms| {
            let acl = vec![Acl { perms: 5, id: crate::types::Id::new("digest", "bob:h") }];
            CreateRequest { path: "/a".into(), data: Some(b"x"), acl: acl.into(), flags: 1, ttl_ms }
        };
        let list = |name: &str| vec![format!("/{name}"), "/é".to_owned()];
        let three = SetWatches {
            relative_zxid: Zxid(7),
            data: list("d"),
            exist: list("e"),
            child: vec![],
            ..SetWatches::default()
        };
        let five = SetWatches { persistent: list("p"), persistent_recursive: list("r"), ..three.clone() };
        let multi = vec![
            MultiOp::Create(Op::CREATE_TTL, create(Some(9))),
            MultiOp::Delete { path: "/a".into(), version: 3 },
            MultiOp::SetData { path: "/a".into(), data: None, version: -1 },
            MultiOp::Check { path: "/b".into(), version: 0 },
        ];
        let reads = vec![MultiReadOp::GetData { path: "/a".into() }, MultiReadOp::GetChildren { path: "/b".into() }];
        let path = || Text::from("/é");
        vec![
            (Op::CREATE, Request::Create(create(None))),
            (Op::CREATE_TTL, Request::Create(create(Some(i64::MAX)))),
            (Op::DELETE, Request::Delete { path: path(), version: -1 }),
            (Op::EXISTS, Request::Exists { path: path(), watch: true }),
            (Op::GET_DATA, Request::GetData { path: path(), watch: false }),
            (Op::SET_DATA, Request::SetData { path: path(), data: Some(b""), version: 4 }),
            (Op::GET_ACL, Request::GetAcl { path: path() }),
            (Op::SET_ACL, Request::SetAcl { path: path(), acl: vec![Acl::world_all()].into(), version: 2 }),
            (Op::GET_CHILDREN, Request::GetChildren { path: path(), watch: true }),
            (Op::GET_CHILDREN2, Request::GetChildren { path: path(), watch: false }),
            (Op::SYNC, Request::Sync { path: None }),
            (Op::SYNC, Request::Sync { path: Some(path()) }),
            (Op::PING, Request::Ping),
            (Op::CHECK, Request::Check { path: path(), version: 1 }),
            (Op::MULTI, Request::Multi(multi)),
            (Op::MULTI_READ, Request::MultiRead(reads)),
            (
                Op::RECONFIG,
                Request::Reconfig { joining: Some(path()), leaving: None, new_members: Some("".into()), config_id: -1 },
            ),
            (Op::CHECK_WATCHES, Request::CheckWatches { path: path(), kind: 3 }),
            (Op::REMOVE_WATCHES, Request::RemoveWatches { path: path(), kind: 1 }),
            (Op::DELETE_CONTAINER, Request::DeleteContainer { path: path() }),
            (Op::AUTH, Request::Auth { kind: 0, scheme: "digest".into(), auth: None }),
            (Op::SET_WATCHES, Request::SetWatches(three)),
            (Op::SET_WATCHES2, Request::SetWatches(five)),
            (Op::SASL, Request::Sasl { token: Some(b"t") }),
            (Op::GET_EPHEMERALS, Request::GetEphemerals { prefix: "".into() }),
            (Op::GET_ALL_CHILDREN_NUMBER, Request::GetAllChildrenNumber { path: path() }),
            (Op::ADD_WATCH, Request::AddWatch { path: path(), mode: 1 }),
            (Op::WHO_AM_I, Request::WhoAmI),
            (Op::CREATE_SESSION, Request::CreateSession { timeout_ms: 30_000 }),
            (Op::CLOSE_SESSION, Request::CloseSession),
        ]
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for (op, request) in all() {
            let mut out = vec![9];
            request.put_framed(5, op, &mut out);
            let mut r = Reader::new(&out[1..]);
            assert_eq!(r.i32().unwrap() as usize, out.len() - 5, "{request:?}");
            assert_eq!(RequestHeader::read(&mut r), Ok(RequestHeader { xid: 5, op }));
            let body = r.rest();
            assert_eq!(body, request.body(op));
            for cut in 0..body.len() {
                assert!(Request::read(op, &body[..cut]).is_err(), "{request:?} cut at {cut}");
            }
            assert_eq!(Request::read(op, body), Ok(Some(request)));
        }
    }

    #[test]
    fn ping_and_auth_vectors() {
        let mut out = Vec::new();
        put_ping(&mut out);
        assert_eq!(out, b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b");
        let mut out = Vec::new();
        put_auth(&mut out, "ip", Some(b"x"));
        assert_eq!(out, b"\0\0\0\x17\xff\xff\xff\xfc\0\0\0\x64\0\0\0\0\0\0\0\x02ip\0\0\0\x01x");
    }

    #[test]
    fn create_vector() {
        let body: Vec<u8> = [
            &[0, 0, 0, 2][..],
            b"/a",
            &[0, 0, 0, 1],
            b"x",
            &[0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 5],
            b"world",
            &[0, 0, 0, 6],
            b"anyone",
            &[0, 0, 0, 0],
        ]
        .concat();
        let Ok(Some(Request::Create(c))) = Request::read(Op::CREATE, &body) else { panic!() };
        assert_eq!((c.path.as_ref(), c.data, c.flags), ("/a", Some(&b"x"[..]), 0));
        assert_eq!(c.acl[..], [Acl::world_all()]);
        assert_eq!(Request::Create(c).body(Op::CREATE), body);
        for cut in 0..body.len() {
            assert!(Request::read(Op::CREATE, &body[..cut]).is_err(), "{cut}");
        }
        assert!(Request::read(Op::CREATE_TTL, &body).is_err());
        assert_eq!(Request::read(Op(99), &body), Ok(None));
    }
}
