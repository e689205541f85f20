//! Requests, borrowed from their frame. Mirrors the request records of `zookeeper.jute`.

use std::borrow::Cow;

use super::multi::{MultiOp, MultiReadOp, read_multi, read_multi_read};
use crate::jute::acl::read_acls;
use crate::jute::{JuteError, Put, Reader};
use crate::types::acl::AclList;
use crate::types::{Zxid, op};

/// Text inside a frame; owned only when it was not UTF-8.
pub type Text<'a> = Cow<'a, str>;

/// What stands before every request after the handshake: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: i32,
}

/// Special xids of clients.
pub mod xid {
    /// Server → client: a watch event.
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
        Ok(RequestHeader { xid: r.i32()?, op: r.i32()? })
    }

    /// Appends the header.
    pub fn put(self, out: &mut Vec<u8>) {
        out.put_i32(self.xid);
        out.put_i32(self.op);
    }
}

/// Body of create, create2, createContainer and (with `ttl_ms`) createTTL.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct CreateRequest<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub acl: AclList,
    pub flags: i32,
    /// Only createTTL carries it.
    pub ttl_ms: Option<i64>,
}

impl<'a> CreateRequest<'a> {
    /// Reads the body of the create-class opcode `op`.
    pub fn read(r: &mut Reader<'a>, op: i32) -> Result<CreateRequest<'a>, JuteError> {
        Ok(CreateRequest {
            path: r.some_string()?,
            data: r.buffer()?,
            acl: read_acls(r)?,
            flags: r.i32()?,
            ttl_ms: if op == op::CREATE_TTL { Some(r.i64()?) } else { None },
        })
    }
}

/// Paths whose watches a reconnecting client wants back.
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

/// A decoded request body. Bytes behind a record are ignored, as Java does.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request<'a> {
    /// create, create2, createContainer, createTTL: the opcode tells which.
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
    /// Any path, even none: it is only echoed.
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
    Reconfig {
        joining: Text<'a>,
        leaving: Text<'a>,
        new_members: Text<'a>,
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
    /// Only the server itself sends it.
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
    /// Internal: body of a session's creation.
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
}

impl<'a> Request<'a> {
    /// Decodes the body of opcode `op`. `Ok(None)`: no such operation.
    pub fn read(op: i32, body: &'a [u8]) -> Result<Option<Request<'a>>, JuteError> {
        let r = &mut Reader::new(body);
        Ok(Some(match op {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                Request::Create(CreateRequest::read(r, op)?)
            }
            op::DELETE => Request::Delete { path: r.some_string()?, version: r.i32()? },
            op::EXISTS => Request::Exists { path: r.some_string()?, watch: r.bool()? },
            op::GET_DATA => Request::GetData { path: r.some_string()?, watch: r.bool()? },
            op::SET_DATA => Request::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            op::GET_ACL => Request::GetAcl { path: r.some_string()? },
            op::SET_ACL => Request::SetAcl { path: r.string()?, acl: read_acls(r)?, version: r.i32()? },
            op::GET_CHILDREN | op::GET_CHILDREN2 => Request::GetChildren { path: r.some_string()?, watch: r.bool()? },
            op::SYNC => Request::Sync { path: r.ustring()? },
            op::PING => Request::Ping,
            op::CHECK => Request::Check { path: r.string()?, version: r.i32()? },
            op::MULTI => Request::Multi(read_multi(r)?),
            op::MULTI_READ => Request::MultiRead(read_multi_read(r)?),
            op::RECONFIG => Request::Reconfig {
                joining: r.string()?,
                leaving: r.string()?,
                new_members: r.string()?,
                config_id: r.i64()?,
            },
            op::CHECK_WATCHES => Request::CheckWatches { path: r.string()?, kind: r.i32()? },
            op::REMOVE_WATCHES => Request::RemoveWatches { path: r.string()?, kind: r.i32()? },
            op::DELETE_CONTAINER => Request::DeleteContainer { path: r.string()? },
            op::AUTH => Request::Auth { kind: r.i32()?, scheme: r.string()?, auth: r.buffer()? },
            op::SET_WATCHES | op::SET_WATCHES2 => Request::SetWatches(read_set_watches(r, op)?),
            op::SASL => Request::Sasl { token: r.buffer()? },
            op::GET_EPHEMERALS => Request::GetEphemerals { prefix: r.string()? },
            op::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber { path: r.some_string()? },
            op::ADD_WATCH => Request::AddWatch { path: r.string()?, mode: r.i32()? },
            op::WHO_AM_I => Request::WhoAmI,
            op::CREATE_SESSION => Request::CreateSession { timeout_ms: r.i32()? },
            op::CLOSE_SESSION => Request::CloseSession,
            _ => return Ok(None),
        }))
    }
}

fn read_set_watches(r: &mut Reader<'_>, op: i32) -> Result<SetWatches, JuteError> {
    let mut w = SetWatches {
        relative_zxid: Zxid(r.i64()?),
        data: r.some_strings()?,
        exist: r.some_strings()?,
        child: r.some_strings()?,
        ..SetWatches::default()
    };
    if op == op::SET_WATCHES2 {
        w.persistent = r.some_strings()?;
        w.persistent_recursive = r.some_strings()?;
    }
    Ok(w)
}

/// Whether the opcode goes through consensus and gets a zxid even when it fails.
pub fn is_write(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::DELETE
            | op::SET_DATA
            | op::SET_ACL
            | op::MULTI
            | op::CREATE2
            | op::RECONFIG
            | op::CREATE_CONTAINER
            | op::DELETE_CONTAINER
            | op::CREATE_TTL
            | op::CREATE_SESSION
            | op::CLOSE_SESSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Acl;

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
        let Ok(Some(Request::Create(c))) = Request::read(op::CREATE, &body) else { panic!() };
        assert_eq!((c.path.as_ref(), c.data, c.flags), ("/a", Some(&b"x"[..]), 0));
        assert_eq!(c.acl[..], [Acl::world_all()]);
        for cut in 0..body.len() {
            assert!(Request::read(op::CREATE, &body[..cut]).is_err(), "{cut}");
        }
        assert!(Request::read(op::CREATE_TTL, &body).is_err());
        assert_eq!(Request::read(99, &body), Ok(None));
    }
}
