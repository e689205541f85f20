//! Records on their way to the log, in one buffer.

use crate::types::{Term, Zxid};

/// Records to append, one after the other in one buffer.
#[derive(Default, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<(Zxid, usize)>,
    /// The term in which the records were proposed.
    pub term: Term,
}

impl Batch {
    /// An empty batch for records of this term.
    pub fn new(term: Term) -> Batch {
        Batch { term, ..Batch::default() }
    }

    /// Adds a record: header, transaction and digest, as in a PROPOSAL.
    pub fn push(&mut self, zxid: Zxid, payload: &[u8]) {
        self.push_with(zxid, |bytes| bytes.extend_from_slice(payload));
    }

    /// Adds a record that `encode` appends to the buffer.
    ///
    /// # Panics
    /// If the zxid is not higher than that of the record before it, or if the record is empty.
    pub fn push_with(&mut self, zxid: Zxid, encode: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.ends.last().is_none_or(|(last, _)| *last < zxid), "{zxid} does not follow the last record");
        let before = self.bytes.len();
        encode(&mut self.bytes);
        assert!(self.bytes.len() > before, "the record of {zxid} is empty, or was encoded by shortening the batch");
        // A shortened buffer would be noticed here; a change of the earlier bytes would not.
        assert!(self.ends.last().is_none_or(|(_, end)| *end == before), "bytes of no record before the one of {zxid}");
        self.ends.push((zxid, self.bytes.len()));
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of bytes that the buffer can hold without growing.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The first record's zxid.
    pub(super) fn first(&self) -> Option<Zxid> {
        self.ends.first().map(|(zxid, _)| *zxid)
    }

    /// The record at `index`, counted from zero.
    pub(super) fn get(&self, index: usize) -> Option<(Zxid, &[u8])> {
        let &(zxid, end) = self.ends.get(index)?;
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        debug_assert!(begin < end, "the record of {zxid} ends at {end} and begins at {begin}");
        Some((zxid, &self.bytes[begin..end]))
    }

    /// Empties it; the buffers stay.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut batch = Batch::default();
        batch.push(Zxid(2), b"two");
        batch.push_with(Zxid(5), |out| out.extend_from_slice(b"a record"));
        assert_eq!((batch.len(), batch.bytes(), batch.first()), (2, 11, Some(Zxid(2))));
        assert_eq!(batch.get(0), Some((Zxid(2), &b"two"[..])));
        assert_eq!(batch.get(1), Some((Zxid(5), &b"a record"[..])));
        assert_eq!(batch.get(2), None);
        batch.clear();
        assert!(batch.is_empty() && batch.first().is_none() && batch.capacity() >= 11);
        // The capacity needed so far says nothing about the next batch.
        batch.push(Zxid(1), b"one");
        assert_eq!(batch.get(0), Some((Zxid(1), &b"one"[..])));
    }

    #[test]
    #[should_panic(expected = "does not follow the last record")]
    fn a_batch_is_in_order() {
        let mut batch = Batch::default();
        batch.push(Zxid(2), b"a");
        batch.push(Zxid(2), b"b");
    }

    #[test]
    #[should_panic(expected = "the record of 0x3 is empty")]
    fn a_record_has_bytes() {
        Batch::default().push(Zxid(3), b"");
    }
}
