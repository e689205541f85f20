//! Multi requests and their results. Mirrors `MultiOperationRecord` and `MultiResponse`.

use super::record::{CreateRequest, Text, put_set_data};
use super::response::{put_data, read_data};
use crate::jute::stat::{put_stat, read_stat};
use crate::jute::{JuteError, Put, Reader};
use crate::types::{CreateMode, ErrorCode, Op, Stat};

/// One operation of a multi that writes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MultiOp<'a> {
    /// The opcode it was sent with, and the body. The create flag may change the opcode.
    Create(Op, CreateRequest<'a>),
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
    /// The opcode in its header.
    pub fn op(&self) -> Op {
        match self {
            MultiOp::Create(op, _) => *op,
            MultiOp::Delete { .. } => Op::DELETE,
            MultiOp::SetData { .. } => Op::SET_DATA,
            MultiOp::Check { .. } => Op::CHECK,
        }
    }

    /// The opcode that decides what it does: in a multi a create's flag may change the one that it was sent with. A createTTL whose
    /// mode has no TTL is an ordinary create.
    pub fn meant_op(&self) -> Op {
        let MultiOp::Create(op, create) = self else { return self.op() };
        match (*op, CreateMode::from_flag(create.flags)) {
            (Op::CREATE_TTL, Some(mode)) if mode.is_ttl() => Op::CREATE_TTL,
            (_, Some(CreateMode::Container)) => Op::CREATE_CONTAINER,
            (Op::CREATE_TTL, _) => Op::CREATE,
            (op, _) => op,
        }
    }

    /// Whether Java can decode the operation: a create without a TTL field must not have a TTL mode, and its flag must
    /// be known.
    pub fn is_readable(&self) -> bool {
        let MultiOp::Create(op, create) = self else { return true };
        *op == Op::CREATE_TTL || CreateMode::from_flag(create.flags).is_some_and(|mode| !mode.is_ttl())
    }
}

/// One operation of a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MultiReadOp<'a> {
    GetData { path: Text<'a> },
    GetChildren { path: Text<'a> },
}

/// The header in front of each operation and each result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct MultiHeader {
    pub op: Op,
    pub done: bool,
    pub err: i32,
}

impl MultiHeader {
    /// Reads one.
    pub fn read(r: &mut Reader<'_>) -> Result<MultiHeader, JuteError> {
        Ok(MultiHeader { op: Op(r.i32()?), done: r.bool()?, err: r.i32()? })
    }

    /// Appends one.
    pub fn put(self, out: &mut Vec<u8>) {
        out.put_i32(self.op.0);
        out.put_bool(self.done);
        out.put_i32(self.err);
    }

    /// The header of an operation in a request.
    pub const fn asking(op: Op) -> MultiHeader {
        MultiHeader { op, done: false, err: -1 }
    }

    /// The header of a successful result.
    pub const fn result(op: Op) -> MultiHeader {
        MultiHeader { op, done: false, err: 0 }
    }

    /// The end mark.
    pub const END: MultiHeader = MultiHeader { op: Op::ERROR, done: true, err: -1 };
}

/// Reads a multi that writes. As in Java, reads, setACL and all other operations in it are refused.
pub fn read_multi<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, JuteError> {
    let mut ops = Vec::new();
    loop {
        let h = MultiHeader::read(r)?;
        if h.done {
            return Ok(ops);
        }
        ops.push(match h.op {
            Op::CREATE | Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL => {
                MultiOp::Create(h.op, CreateRequest::read(r, h.op)?)
            }
            Op::DELETE => MultiOp::Delete { path: r.string()?, version: r.i32()? },
            Op::SET_DATA => MultiOp::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            Op::CHECK => MultiOp::Check { path: r.string()?, version: r.i32()? },
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
            Op::GET_DATA => {
                let path = r.string()?;
                r.bool()?;
                MultiReadOp::GetData { path }
            }
            Op::GET_CHILDREN => {
                let path = r.string()?;
                r.bool()?;
                MultiReadOp::GetChildren { path }
            }
            _ => return Err(r.unexpected("operation in multiRead")),
        });
    }
}

/// Appends a multi that writes.
pub fn put_multi(out: &mut Vec<u8>, ops: &[MultiOp<'_>]) {
    for sub in ops {
        MultiHeader::asking(sub.op()).put(out);
        match sub {
            MultiOp::Create(_, create) => create.put(out),
            MultiOp::Delete { path, version } | MultiOp::Check { path, version } => {
                out.put_string(path);
                out.put_i32(*version);
            }
            MultiOp::SetData { path, data, version } => put_set_data(out, path, *data, *version),
        }
    }
    MultiHeader::END.put(out);
}

/// Appends a multiRead. Its operations have a watch flag that has no effect.
pub fn put_multi_read(out: &mut Vec<u8>, ops: &[MultiReadOp<'_>]) {
    for sub in ops {
        let (op, path) = match sub {
            MultiReadOp::GetData { path } => (Op::GET_DATA, path),
            MultiReadOp::GetChildren { path } => (Op::GET_CHILDREN, path),
        };
        MultiHeader::asking(op).put(out);
        out.put_string(path);
        out.put_bool(false);
    }
    MultiHeader::END.put(out);
}

/// The result of one operation of a multi or multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MultiResult<'a> {
    Create {
        path: Text<'a>,
    },
    /// For create2, createContainer and createTTL.
    Create2 {
        path: Text<'a>,
        stat: Stat,
    },
    Delete,
    SetData {
        stat: Stat,
    },
    Check,
    GetData {
        data: Option<&'a [u8]>,
        stat: Stat,
    },
    GetChildren {
        names: Vec<String>,
    },
    /// The error code; 0 for an operation that was undone because another one failed.
    Error(i32),
}

impl<'a> MultiResult<'a> {
    /// Appends one result.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            MultiResult::Create { path } => {
                MultiHeader::result(Op::CREATE).put(out);
                out.put_string(path);
            }
            MultiResult::Create2 { path, stat } => {
                MultiHeader::result(Op::CREATE2).put(out);
                out.put_string(path);
                put_stat(out, stat);
            }
            MultiResult::Delete => MultiHeader::result(Op::DELETE).put(out),
            MultiResult::SetData { stat } => {
                MultiHeader::result(Op::SET_DATA).put(out);
                put_stat(out, stat);
            }
            MultiResult::Check => MultiHeader::result(Op::CHECK).put(out),
            MultiResult::GetData { data, stat } => {
                MultiHeader::result(Op::GET_DATA).put(out);
                put_data(out, *data, stat);
            }
            MultiResult::GetChildren { names } => {
                MultiHeader::result(Op::GET_CHILDREN).put(out);
                out.put_strings(names);
            }
            MultiResult::Error(err) => {
                MultiHeader { op: Op::ERROR, done: false, err: *err }.put(out);
                out.put_i32(*err);
            }
        }
    }

    /// Reads the results up to the end header.
    ///
    /// # Errors
    /// An unknown kind of result, or the bytes end too early.
    pub fn read_all(r: &mut Reader<'a>) -> Result<Vec<MultiResult<'a>>, JuteError> {
        let mut results = Vec::new();
        loop {
            let header = MultiHeader::read(r)?;
            if header.done {
                return Ok(results);
            }
            results.push(match header.op {
                Op::CREATE => MultiResult::Create { path: r.string()? },
                Op::CREATE2 => MultiResult::Create2 { path: r.string()?, stat: read_stat(r)? },
                Op::DELETE => MultiResult::Delete,
                Op::SET_DATA => MultiResult::SetData { stat: read_stat(r)? },
                Op::CHECK => MultiResult::Check,
                Op::GET_DATA => {
                    let (data, stat) = read_data(r)?;
                    MultiResult::GetData { data, stat }
                }
                Op::GET_CHILDREN => MultiResult::GetChildren { names: r.strings()? },
                Op::ERROR => MultiResult::Error(r.i32()?),
                _ => return Err(r.unexpected("result in multi")),
            });
        }
    }
}

/// Appends an error result; header and record contain the same code.
pub fn put_multi_error(out: &mut Vec<u8>, err: ErrorCode) {
    MultiResult::Error(err.code()).put(out);
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
    fn results_are_read_as_they_were_written() {
        let stat = Stat { version: 3, num_children: 2, ..Stat::default() };
        let results = vec![
            MultiResult::Create { path: "/a".into() },
            MultiResult::Create2 { path: "/b".into(), stat },
            MultiResult::Delete,
            MultiResult::SetData { stat },
            MultiResult::Check,
            MultiResult::GetData { data: None, stat },
            MultiResult::GetChildren { names: vec!["x".to_owned()] },
            MultiResult::Error(-101),
        ];
        let mut out = Vec::new();
        results.iter().for_each(|r| r.put(&mut out));
        MultiHeader::END.put(&mut out);
        assert_eq!(MultiResult::read_all(&mut Reader::new(&out)), Ok(results));
        for cut in 0..out.len() {
            assert!(MultiResult::read_all(&mut Reader::new(&out[..cut])).is_err(), "{cut}");
        }
        let unknown = [&1234i32.to_be_bytes()[..], &[0; 5]].concat();
        assert!(MultiResult::read_all(&mut Reader::new(&unknown)).is_err());
    }

    #[test]
    fn creates_with_a_flag_that_java_cannot_use_are_unreadable() {
        let acl = Vec::new();
        let readable = |op, flags| {
            let create = CreateRequest { path: "/a".into(), data: None, acl: acl.clone().into(), flags, ttl_ms: None };
            MultiOp::Create(op, create).is_readable()
        };
        assert!((0..5).all(|flags| readable(Op::CREATE, flags)) && readable(Op::CREATE_TTL, 7));
        assert!([5, 6, 7, -1].iter().all(|flags| !readable(Op::CREATE2, *flags)));
        assert!(MultiOp::Check { path: "/a".into(), version: 0 }.is_readable());
    }

    #[test]
    fn mixing_kinds_is_refused() {
        let mut body = Vec::new();
        put_multi_read(&mut body, &[MultiReadOp::GetData { path: "/a".into() }]);
        assert!(read_multi(&mut Reader::new(&body)).is_err());
        assert_eq!(read_multi_read(&mut Reader::new(&body)).unwrap().len(), 1);
        assert!(read_multi_read(&mut Reader::new(&body[..body.len() - 1])).is_err());
    }
}
