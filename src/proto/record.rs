//! Records that stand alone in a request and as parts of a multi: create and setData. Mirrors `CreateRequest`, `CreateTTLRequest` and
//! `SetDataRequest`.

use std::borrow::Cow;

use crate::jute::acl::{put_acls, read_acls};
use crate::jute::{JuteError, Put, Reader};
use crate::types::Op;
use crate::types::acl::AclList;

/// Text inside a frame; an owned copy only if it was not valid UTF-8.
pub type Text<'a> = Cow<'a, str>;

/// The body of create, create2, createContainer and (with `ttl_ms`) createTTL.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct CreateRequest<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub acl: AclList,
    pub flags: i32,
    /// The TTL in milliseconds; only in createTTL.
    pub ttl_ms: Option<i64>,
}

impl<'a> CreateRequest<'a> {
    /// Reads the body of the create-class opcode `op`.
    #[inline]
    pub fn read(r: &mut Reader<'a>, op: Op) -> Result<CreateRequest<'a>, JuteError> {
        Ok(CreateRequest {
            path: r.some_string()?,
            data: r.buffer()?,
            acl: read_acls(r)?,
            flags: r.i32()?,
            ttl_ms: if op == Op::CREATE_TTL { Some(r.i64()?) } else { None },
        })
    }

    /// Appends the body.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_string(&self.path);
        out.put_buffer(self.data);
        put_acls(out, &self.acl);
        out.put_i32(self.flags);
        if let Some(ttl_ms) = self.ttl_ms {
            out.put_i64(ttl_ms);
        }
    }
}

/// Appends the body of setData, for a request of its own or in a multi.
pub(super) fn put_set_data(out: &mut Vec<u8>, path: &str, data: Option<&[u8]>, version: i32) {
    out.put_string(path);
    out.put_buffer(data);
    out.put_i32(version);
}
