//! The mark behind a log's last record: everything before it was durable when it was written. Apache has nothing like it.
//!
//! ```text
//! magic(8)  I 0  L last zxid  I chained CRC32C of the last record  I CRC32C(offset, all before)
//! ```
//! Without it a log's last record has no witness: rot in it looks like a write that a crash tore, and would be cut off though
//! it was acknowledged. A later record is a witness (its trailer says how much was durable), but the last one has none behind
//! it. So the log writes a mark, and syncs it, once it has had nothing to do for a moment, when a file is closed, and when a
//! recovery has made sure of the file.
//!
//! Apache takes the magic for a record's checksum and the zero behind it for a record's length: to it that is the end of the
//! file, like the zeros that it finds there otherwise. The next record is written over the mark, and is longer;
//! a crash that tears that write takes the mark away too, and the batch before it has no witness until recovery marks the end again.

use super::record::HEAD_LEN;
use crate::txn::TxnHeader;
use crate::types::Zxid;

/// Bytes on disk.
pub(super) const LEN: usize = 28;
const MAGIC: [u8; 8] = *b"ZBRSYNC1";
const _: () = assert!(LEN == MAGIC.len() + 4 + 8 + 4 + 4, "the layout above");
const _: () = assert!(LEN < HEAD_LEN + TxnHeader::LEN, "a record overwrites the mark that stands in its place");

/// What a mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The last transaction before it.
    pub(super) last: Zxid,
    /// The chained CRC after it.
    pub(super) chain: u32,
}

impl Mark {
    /// Its bytes at offset `at`.
    pub(super) fn bytes(self, at: u64) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[12..20].copy_from_slice(&self.last.0.to_be_bytes());
        out[20..24].copy_from_slice(&self.chain.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&at.to_be_bytes()), &out[..24]);
        out[24..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The mark that `bytes`, at offset `at` of a file, begin with.
    pub(super) fn read(bytes: &[u8], at: u64) -> Option<Mark> {
        let found = bytes.first_chunk::<LEN>().filter(|b| b[..8] == MAGIC)?;
        let last = Zxid(i64::from_be_bytes(*found[12..].first_chunk()?));
        let mark = Mark { last, chain: u32::from_be_bytes(*found[20..].first_chunk()?) };
        (mark.bytes(at) == *found).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_only_where_it_was_written_and_whole() {
        let mark = Mark { last: Zxid(0x1_0000_0007), chain: 0xdead_beef };
        let bytes = mark.bytes(4711);
        assert_eq!(Mark::read(&bytes, 4711), Some(mark));
        assert_eq!(Mark::read(&bytes, 4712), None);
        assert_eq!(Mark::read(&bytes[..LEN - 1], 4711), None);
        for at in 0..LEN {
            for bit in 0..8 {
                let mut hurt = bytes;
                hurt[at] ^= 1 << bit;
                assert_eq!(Mark::read(&hurt, 4711), None, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn apache_reads_the_end_of_the_file() {
        let bytes = Mark { last: Zxid(1), chain: 2 }.bytes(16);
        // Its reader: a checksum, then a length of zero.
        assert_ne!(bytes[..8], [0; 8]);
        assert_eq!(bytes[8..12], [0; 4]);
    }

    #[test]
    fn every_record_is_longer() {
        let least = super::super::record::Framed::len(&[0; crate::txn::TxnHeader::LEN]);
        assert!(least > LEN as u64);
    }
}
