//! The multi requests' framing. Mirrors `MultiOperationRecord` and `MultiResponse`.

use super::request::{CreateRequest, Text};
use crate::jute::{JuteError, Put, Reader};
use crate::types::{CreateMode, ErrorCode, op};

/// One operation of a write multi.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MultiOp<'a> {
    /// The opcode it was sent with and the body; the create flag re-selects the opcode.
    Create(i32, CreateRequest<'a>),
    Delete {
        path: Text<'a>,
        version: i32,
    },
    SetData {
        path: Text<'a>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    Check {
        path: Text<'a>,
        version: i32,
    },
}

impl MultiOp<'_> {
    /// Whether Java can make an operation of it: a create without a TTL in its record cannot ask for one, and its flag
    /// must be known.
    pub fn is_readable(&self) -> bool {
        let MultiOp::Create(op, create) = self else { return true };
        *op == op::CREATE_TTL || CreateMode::from_flag(create.flags).is_some_and(|mode| !mode.is_ttl())
    }
}

/// One operation of a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MultiReadOp<'a> {
    GetData { path: Text<'a> },
    GetChildren { path: Text<'a> },
}

/// What stands before each operation and each result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct MultiHeader {
    pub op: i32,
    pub done: bool,
    pub err: i32,
}

impl MultiHeader {
    /// Reads one.
    pub fn read(r: &mut Reader<'_>) -> Result<MultiHeader, JuteError> {
        Ok(MultiHeader { op: r.i32()?, done: r.bool()?, err: r.i32()? })
    }

    /// Appends one.
    pub fn put(self, out: &mut Vec<u8>) {
        out.put_i32(self.op);
        out.put_bool(self.done);
        out.put_i32(self.err);
    }

    /// The end mark.
    pub const END: MultiHeader = MultiHeader { op: -1, done: true, err: -1 };
}

/// Reads a write multi. Read operations, setACL and anything else in it are refused, as Java does.
pub fn read_multi<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, JuteError> {
    let mut ops = Vec::new();
    loop {
        let h = MultiHeader::read(r)?;
        if h.done {
            return Ok(ops);
        }
        ops.push(match h.op {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                MultiOp::Create(h.op, CreateRequest::read(r, h.op)?)
            }
            op::DELETE => MultiOp::Delete { path: r.string()?, version: r.i32()? },
            op::SET_DATA => MultiOp::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            op::CHECK => MultiOp::Check { path: r.string()?, version: r.i32()? },
            _ => return Err(r.unexpected("operation in multi")),
        });
    }
}

/// Reads a multiRead.
pub fn read_multi_read<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, JuteError> {
    let mut ops = Vec::new();
    loop {
        let h = MultiHeader::read(r)?;
        if h.done {
            return Ok(ops);
        }
        ops.push(match h.op {
            op::GET_DATA => {
                let path = r.string()?;
                r.bool()?;
                MultiReadOp::GetData { path }
            }
            op::GET_CHILDREN => {
                let path = r.string()?;
                r.bool()?;
                MultiReadOp::GetChildren { path }
            }
            _ => return Err(r.unexpected("operation in multiRead")),
        });
    }
}

/// Appends an error result: header and record carry the same code.
pub fn put_multi_error(out: &mut Vec<u8>, err: ErrorCode) {
    MultiHeader { op: op::ERROR, done: false, err: err.code() }.put(out);
    out.put_i32(err.code());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_multi_vector() {
        let mut out = Vec::new();
        put_multi_error(&mut out, ErrorCode::Ok);
        put_multi_error(&mut out, ErrorCode::NoNode);
        put_multi_error(&mut out, ErrorCode::RuntimeInconsistency);
        MultiHeader::END.put(&mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "ffffffff000000000000000000ffffffff00ffffff9bffffff9bffffffff00fffffffefffffffeffffffff01ffffffff"
        );
    }

    #[test]
    fn creates_with_a_flag_that_java_cannot_use_are_unreadable() {
        let acl = Vec::new();
        let readable = |op, flags| {
            let create = CreateRequest { path: "/a".into(), data: None, acl: acl.clone().into(), flags, ttl_ms: None };
            MultiOp::Create(op, create).is_readable()
        };
        assert!((0..5).all(|flags| readable(op::CREATE, flags)) && readable(op::CREATE_TTL, 7));
        assert!([5, 6, 7, -1].iter().all(|flags| !readable(op::CREATE2, *flags)));
        assert!(MultiOp::Check { path: "/a".into(), version: 0 }.is_readable());
    }

    #[test]
    fn mixing_kinds_is_refused() {
        let mut body = Vec::new();
        MultiHeader { op: op::GET_DATA, done: false, err: -1 }.put(&mut body);
        body.put_string("/a");
        body.put_bool(false);
        MultiHeader::END.put(&mut body);
        assert!(read_multi(&mut Reader::new(&body)).is_err());
        assert_eq!(read_multi_read(&mut Reader::new(&body)).unwrap().len(), 1);
        assert!(read_multi_read(&mut Reader::new(&body[..body.len() - 1])).is_err());
    }
}
