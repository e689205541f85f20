//! Reading. Every length is checked against the remaining bytes before anything is allocated or sliced.

use std::borrow::Cow;

use thiserror::Error;

/// Why bytes could not be decoded.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum JuteError {
    /// The record ends before its last field does.
    #[error("record ends {missing} bytes too early (at byte {at})")]
    Truncated {
        /// Position where the field starts.
        at: usize,
        /// Number of bytes missing.
        missing: usize,
    },
    /// A length below -1, or above the limit.
    #[error("unreasonable length {len} at byte {at}")]
    Length {
        /// Position of the length.
        at: usize,
        /// The length.
        len: i32,
    },
    /// A value that is not allowed in this record.
    #[error("unexpected {what} at byte {at}")]
    Unexpected {
        /// Position of the value.
        at: usize,
        /// What was found.
        what: &'static str,
    },
}

/// A cursor over one record's bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Number of bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Whether all bytes were read.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// An [`JuteError::Unexpected`] at the current position.
    pub fn unexpected(&self, what: &'static str) -> JuteError {
        JuteError::Unexpected { at: self.at, what }
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], JuteError> {
        let rest = self.rest();
        if rest.len() < n {
            return Err(JuteError::Truncated { at: self.at, missing: n - rest.len() });
        }
        self.at += n;
        Ok(&rest[..n])
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], JuteError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, JuteError> {
        Ok(self.array::<1>()?[0])
    }

    /// A boolean: any non-zero byte is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, JuteError> {
        Ok(self.u8()? != 0)
    }

    /// A 32-bit number.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, JuteError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A 64-bit number.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, JuteError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer; -1 is null.
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, JuteError> {
        let at = self.at;
        match self.i32()? {
            -1 => Ok(None),
            len if len < 0 => Err(JuteError::Length { at, len }),
            len => self.take(len as usize).map(Some),
        }
    }

    /// A string; -1 is null. Bytes that are not UTF-8 become U+FFFD, as in Java; path validation then refuses that
    /// character.
    #[inline]
    pub fn ustring(&mut self) -> Result<Option<Cow<'a, str>>, JuteError> {
        // The strict check handles sixteen ASCII bytes at a time, the lossy conversion one byte at a time.
        Ok(self.buffer()?.map(|bytes| match str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        }))
    }

    /// A string that should not be null; null is read as empty.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>, JuteError> {
        Ok(self.ustring()?.unwrap_or_default())
    }

    /// A string that may not be null.
    #[inline]
    pub fn some_string(&mut self) -> Result<Cow<'a, str>, JuteError> {
        self.ustring()?.ok_or(JuteError::Unexpected { at: self.at, what: "null string" })
    }

    /// The element count of a vector; `None` is a null vector. Counts below -1 are read as 0, as in Java. A count is
    /// refused if the rest of the record is too short for that many elements of at least `min_element` bytes, so
    /// callers may allocate by it.
    pub fn count(&mut self, min_element: usize) -> Result<Option<usize>, JuteError> {
        let at = self.at;
        match self.i32()? {
            -1 => Ok(None),
            n if n < 0 => Ok(Some(0)),
            n if (n as usize).saturating_mul(min_element.max(1)) > self.rest().len() => {
                Err(JuteError::Length { at, len: n })
            }
            n => Ok(Some(n as usize)),
        }
    }

    /// A vector of strings that may not be null.
    pub fn some_strings(&mut self) -> Result<Vec<String>, JuteError> {
        let n = self.count(4)?.ok_or(JuteError::Unexpected { at: self.at, what: "null vector" })?;
        (0..n).map(|_| self.string().map(Cow::into_owned)).collect()
    }

    /// A vector of strings; null reads as empty.
    pub fn strings(&mut self) -> Result<Vec<String>, JuteError> {
        let n = self.count(4)?.unwrap_or(0);
        (0..n).map(|_| self.string().map(Cow::into_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded_by_what_is_there() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9]).buffer(), Err(JuteError::Truncated { at: 4, missing: 1 }));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buffer(), Err(JuteError::Length { at: 0, len: -2 }));
        assert_eq!(Reader::new(&[0xff; 4]).buffer(), Ok(None));
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0]).count(4), Err(JuteError::Length { at: 0, len: i32::MAX }));
        assert_eq!(Reader::new(&[0x80, 0, 0, 0]).count(4), Ok(Some(0)));
        assert_eq!(Reader::new(&[0xff; 4]).count(4), Ok(None));
    }

    #[test]
    fn bad_utf8_reads_as_replacement() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, b'/', 0xff]).string().unwrap(), "/\u{fffd}");
    }
}
