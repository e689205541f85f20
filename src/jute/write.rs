//! Writing: fields are appended to a `Vec<u8>`.

/// Jute's fields as methods of a byte vector.
pub trait Put {
    /// One byte.
    fn put_u8(&mut self, v: u8);
    /// A boolean.
    fn put_bool(&mut self, v: bool);
    /// A 32-bit number.
    fn put_i32(&mut self, v: i32);
    /// A 64-bit number.
    fn put_i64(&mut self, v: i64);
    /// A buffer; `None` is null. Panics if it is longer than 2^31-1 bytes.
    fn put_buffer(&mut self, v: Option<&[u8]>);
    /// A string.
    fn put_string(&mut self, v: &str);
    /// A vector of strings.
    fn put_strings<S: AsRef<str>>(&mut self, v: &[S]);
    /// Appends a placeholder for a frame's length and returns its position, for [`Put::end_frame`].
    fn begin_frame(&mut self) -> usize;
    /// Writes the number of bytes that follow the placeholder at `begin` into it.
    fn end_frame(&mut self, begin: usize);
}

impl Put for Vec<u8> {
    #[inline]
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }
    #[inline]
    fn put_bool(&mut self, v: bool) {
        self.push(u8::from(v));
    }
    #[inline]
    fn put_i32(&mut self, v: i32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    #[inline]
    fn put_i64(&mut self, v: i64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    #[inline]
    fn put_buffer(&mut self, v: Option<&[u8]>) {
        match v {
            None => self.put_i32(-1),
            Some(b) => {
                assert!(b.len() <= i32::MAX as usize, "buffer of {} bytes", b.len());
                self.put_i32(b.len() as i32);
                self.extend_from_slice(b);
            }
        }
    }
    #[inline]
    fn put_string(&mut self, v: &str) {
        self.put_buffer(Some(v.as_bytes()));
    }
    fn put_strings<S: AsRef<str>>(&mut self, v: &[S]) {
        self.put_i32(v.len() as i32);
        for s in v {
            self.put_string(s.as_ref());
        }
    }
    #[inline]
    fn begin_frame(&mut self) -> usize {
        let at = self.len();
        self.put_i32(0);
        at
    }
    #[inline]
    fn end_frame(&mut self, begin: usize) {
        let len = (self.len() - begin - 4) as i32;
        self[begin..begin + 4].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Reader;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        let frame = out.begin_frame();
        out.put_i64(-2);
        out.put_buffer(None);
        out.put_buffer(Some(&[]));
        out.put_string("é");
        out.put_strings(&["a", "b"]);
        out.put_bool(true);
        out.end_frame(frame);
        let mut r = Reader::new(&out);
        assert_eq!(r.i32().unwrap() as usize, out.len() - 4);
        assert_eq!(r.i64(), Ok(-2));
        assert_eq!(r.buffer(), Ok(None));
        assert_eq!(r.buffer(), Ok(Some(&[][..])));
        assert_eq!(r.string().unwrap(), "é");
        assert_eq!(r.strings().unwrap(), ["a", "b"]);
        assert_eq!(r.bool(), Ok(true));
        assert!(r.is_empty());
    }
}
