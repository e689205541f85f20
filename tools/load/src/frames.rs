//! Requests as bytes, made once; for each request only the xid and the number in its path are filled in.

use zabra::jute::Put;
use zabra::jute::acl::put_acls;
use zabra::proto::multi::MultiHeader;
use zabra::types::{Acl, op};

/// Digits of the number that ends a path.
const DIGITS: usize = 10;
/// Largest number that fits.
pub const MAX_NUMBER: u64 = 9_999_999_999;

/// A frame with holes.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where numbers go.
    holes: Vec<usize>,
}

/// A path that ends in a number, but for it: `/root/kxxx` + padding so that the whole is `length` bytes.
pub fn stem(parent: &str, letter: char, length: Option<u16>) -> String {
    let mut stem = format!("{parent}/{letter}");
    while stem.len() + DIGITS < length.unwrap_or(0).into() {
        stem.push('x');
    }
    stem
}

/// The whole path.
pub fn path(stem: &str, number: u64) -> String {
    format!("{stem}{number:0DIGITS$}")
}

impl Template {
    /// `body` writes what follows the header; paths in it are written by [`Body`], which notes the holes.
    fn new(op: i32, body: impl FnOnce(&mut Body)) -> Template {
        let mut b = Body { bytes: Vec::new(), holes: Vec::new() };
        let frame = b.bytes.begin_frame();
        b.bytes.put_i32(0);
        b.bytes.put_i32(op);
        body(&mut b);
        b.bytes.end_frame(frame);
        Template { bytes: b.bytes, holes: b.holes }
    }

    /// getData.
    pub fn get(stem: &str, watch: bool) -> Template {
        Template::new(op::GET_DATA, |b| {
            b.path(stem);
            b.bytes.put_bool(watch);
        })
    }

    /// setData, any version.
    pub fn set(stem: &str, data: &[u8]) -> Template {
        Template::new(op::SET_DATA, |b| b.set(stem, data))
    }

    /// create with an open ACL.
    pub fn create(stem: &str, data: &[u8], flags: i32) -> Template {
        Template::new(op::CREATE, |b| {
            b.path(stem);
            b.bytes.put_buffer(Some(data));
            put_acls(&mut b.bytes, &[Acl::world_all()]);
            b.bytes.put_i32(flags);
        })
    }

    /// delete, any version.
    pub fn delete(stem: &str) -> Template {
        Template::new(op::DELETE, |b| {
            b.path(stem);
            b.bytes.put_i32(-1);
        })
    }

    /// A multi of `ops` setData.
    pub fn multi(stem: &str, data: &[u8], ops: u32) -> Template {
        Template::new(op::MULTI, |b| {
            for _ in 0..ops {
                MultiHeader { op: op::SET_DATA, done: false, err: -1 }.put(&mut b.bytes);
                b.set(stem, data);
            }
            MultiHeader::END.put(&mut b.bytes);
        })
    }

    /// The same frame for the bare echo server, which takes the place of the operation for the size of its answer (bytes, with
    /// the length before it).
    pub fn asking(mut self, answer: u32) -> Template {
        self.bytes[8..12].copy_from_slice(&answer.to_be_bytes());
        self
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the frame; `number` is asked once for each path.
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

struct Body {
    bytes: Vec<u8>,
    holes: Vec<usize>,
}

impl Body {
    fn path(&mut self, stem: &str) {
        self.bytes.put_string(&path(stem, 0));
        self.holes.push(self.bytes.len() - DIGITS);
    }

    fn set(&mut self, stem: &str, data: &[u8]) {
        self.path(stem);
        self.bytes.put_buffer(Some(data));
        self.bytes.put_i32(-1);
    }
}

/// A frame with a plain path: create (open ACL), for set-up.
pub fn put_create(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8]) {
    let frame = out.begin_frame();
    out.put_i32(xid);
    out.put_i32(op::CREATE);
    out.put_string(path);
    out.put_buffer(Some(data));
    put_acls(out, &[Acl::world_all()]);
    out.put_i32(0);
    out.end_frame(frame);
}

/// delete of a plain path, any version.
pub fn put_delete(out: &mut Vec<u8>, xid: i32, path: &str) {
    let frame = out.begin_frame();
    out.put_i32(xid);
    out.put_i32(op::DELETE);
    out.put_string(path);
    out.put_i32(-1);
    out.end_frame(frame);
}

/// addWatch, persistent on this znode only.
pub fn put_add_watch(out: &mut Vec<u8>, xid: i32, path: &str) {
    let frame = out.begin_frame();
    out.put_i32(xid);
    out.put_i32(op::ADD_WATCH);
    out.put_string(path);
    out.put_i32(0);
    out.end_frame(frame);
}

/// setWatches with data watches only.
pub fn put_set_watches(out: &mut Vec<u8>, xid: i32, relative_zxid: i64, paths: &[String]) {
    let frame = out.begin_frame();
    out.put_i32(xid);
    out.put_i32(op::SET_WATCHES);
    out.put_i64(relative_zxid);
    out.put_strings(paths);
    out.put_strings::<String>(&[]);
    out.put_strings::<String>(&[]);
    out.end_frame(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use zabra::jute::Reader;
    use zabra::proto::multi::MultiOp;
    use zabra::proto::{Request, RequestHeader};

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
