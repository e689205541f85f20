//! Requests as bytes, made once. For each request only the xid and the number in its path are filled in.

use zabra::proto::multi::MultiOp;
use zabra::proto::request::SetWatches;
use zabra::proto::{CreateRequest, Request};
use zabra::types::acl::{self, AclList};
use zabra::types::{Op, Zxid};

/// Number of digits at the end of a path.
const DIGITS: usize = 10;
/// The largest number with so many digits.
pub const MAX_NUMBER: u64 = 9_999_999_999;

/// Bytes of a Stat.
pub const STAT: usize = 68;

/// A frame with gaps for numbers.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the numbers go.
    holes: Vec<usize>,
}

/// A path without the number at its end: `/root/kxxx` with padding so that the whole path has `length` bytes.
pub fn stem(parent: &str, letter: char, length: Option<u16>) -> String {
    let mut stem = format!("{parent}/{letter}");
    while stem.len() + DIGITS < length.unwrap_or(0).into() {
        stem.push('x');
    }
    stem
}

/// The complete path.
pub fn path(stem: &str, number: u64) -> String {
    format!("{stem}{number:0DIGITS$}")
}

/// The znode under which one connection creates and deletes.
pub fn own_parent(run: &str, at: usize) -> String {
    format!("{run}/c{at:05}")
}

impl Template {
    /// The request with the paths of `stem`; the number of each path is a gap.
    fn new(op: Op, stem: &str, request: &Request<'_>) -> Template {
        let mut bytes = Vec::new();
        request.put_framed(0, op, &mut bytes);
        let path = path(stem, 0);
        let ends = (path.len()..=bytes.len()).filter(|end| bytes[..*end].ends_with(path.as_bytes()));
        let holes = ends.map(|end| end - DIGITS).collect();
        Template { bytes, holes }
    }

    /// getData.
    pub fn get(stem: &str, watch: bool) -> Template {
        Template::new(Op::GET_DATA, stem, &Request::GetData { path: path(stem, 0).into(), watch })
    }

    /// setData with version -1.
    pub fn set(stem: &str, data: &[u8]) -> Template {
        let request = Request::SetData { path: path(stem, 0).into(), data: Some(data), version: -1 };
        Template::new(Op::SET_DATA, stem, &request)
    }

    /// create with an open ACL.
    pub fn create(stem: &str, data: &[u8], flags: i32) -> Template {
        Template::new(Op::CREATE, stem, &create(&path(stem, 0), data, flags))
    }

    /// delete with version -1.
    pub fn delete(stem: &str) -> Template {
        Template::new(Op::DELETE, stem, &Request::Delete { path: path(stem, 0).into(), version: -1 })
    }

    /// A multi of `ops` setData.
    pub fn multi(stem: &str, data: &[u8], ops: u32) -> Template {
        let set = || MultiOp::SetData { path: path(stem, 0).into(), data: Some(data), version: -1 };
        Template::new(Op::MULTI, stem, &Request::Multi((0..ops).map(|_| set()).collect()))
    }

    /// The same frame for the bare echo server. It has the size of the answer (in bytes, including its length) in place
    /// of the opcode.
    pub fn asking(mut self, answer: u32) -> Template {
        self.bytes[8..12].copy_from_slice(&answer.to_be_bytes());
        self
    }

    /// Size in bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the frame; `number` is called once for each path.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, xid: i32, mut number: impl FnMut() -> u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        frame[4..8].copy_from_slice(&xid.to_be_bytes());
        for &hole in &self.holes {
            let mut n = number();
            for digit in frame[hole..hole + DIGITS].iter_mut().rev() {
                *digit = b'0' + (n % 10) as u8;
                n /= 10;
            }
        }
    }
}

/// create with an open ACL.
fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    let acl = AclList::Borrowed(acl::open());
    Request::Create(CreateRequest { path: path.into(), data: Some(data), acl, flags, ttl_ms: None })
}

/// Appends a create with an open ACL for a given path, for set-up.
pub fn put_create(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8]) {
    create(path, data, 0).put_framed(xid, Op::CREATE, out);
}

/// Appends a delete of a given path with version -1.
pub fn put_delete(out: &mut Vec<u8>, xid: i32, path: &str) {
    Request::Delete { path: path.into(), version: -1 }.put_framed(xid, Op::DELETE, out);
}

/// Appends an addWatch, persistent and not recursive.
pub fn put_add_watch(out: &mut Vec<u8>, xid: i32, path: &str) {
    Request::AddWatch { path: path.into(), mode: 0 }.put_framed(xid, Op::ADD_WATCH, out);
}

/// setWatches with data watches only.
pub fn put_set_watches(out: &mut Vec<u8>, xid: i32, relative_zxid: i64, paths: &[String]) {
    let watches = SetWatches { relative_zxid: Zxid(relative_zxid), data: paths.to_vec(), ..SetWatches::default() };
    Request::SetWatches(watches).put_framed(xid, Op::SET_WATCHES, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use zabra::jute::Reader;
    use zabra::proto::RequestHeader;

    #[test]
    fn the_server_reads_what_is_written() {
        let stem = stem("/root/a", 'k', Some(60));
        let mut next = 40..;
        let mut read = |t: &Template, check: &dyn Fn(Request<'_>)| {
            let mut out = vec![9, 9];
            t.put(&mut out, 7, || next.next().unwrap());
            let mut r = Reader::new(&out[2..]);
            assert_eq!(r.i32().unwrap() as usize, out.len() - 6);
            let header = RequestHeader::read(&mut r).unwrap();
            assert_eq!(header.xid, 7);
            check(Request::read(header.op, r.rest()).unwrap().unwrap());
        };
        assert_eq!(path(&stem, 40).len(), 60);
        read(&Template::get(&stem, true), &|r| {
            let Request::GetData { path: p, watch: true } = r else { panic!() };
            assert_eq!(p, path(&stem, 40));
        });
        read(&Template::create(&stem, b"data", 3), &|r| {
            let Request::Create(c) = r else { panic!() };
            assert_eq!((&*c.path, c.data, c.flags), (&*path(&stem, 41), Some(&b"data"[..]), 3));
        });
        read(&Template::delete(&stem), &|r| assert!(matches!(r, Request::Delete { version: -1, .. })));
        read(&Template::multi(&stem, b"d", 3), &|r| {
            let Request::Multi(ops) = r else { panic!() };
            let paths: Vec<_> =
                ops.iter().map(|o| if let MultiOp::SetData { path, .. } = o { &**path } else { "" }).collect();
            assert_eq!(paths, [path(&stem, 43), path(&stem, 44), path(&stem, 45)]);
        });
    }
}
