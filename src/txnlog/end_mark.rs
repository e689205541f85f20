//! The end mark after the last record of a log: everything before it was durable when the mark was written. Apache has
//! nothing like it.
//!
//! ```text
//! magic(8)  I 0  L last zxid  I chained CRC32C of the last record  I CRC32C(offset, all before)
//! ```
//! Without a mark, damage to the last record of a log looks like a write that a crash tore, and an acknowledged record
//! would be cut off. A later record would prove that it was durable, since a record's trailer says how much of the file
//! was durable, but after the last record there is none. So the log writes a mark and syncs it when it has had nothing
//! to do for a moment, when a file is closed, and when recovery has made the file durable.
//! recovery has made sure of the file.
//!
//! Apache takes the magic for a record's checksum and the zero after it for a record's length, which it treats as the
//! end of the file, like the zeros that are usually there. The next record is longer than the mark and overwrites it.
//! If a crash tears that write the mark is lost, and nothing proves that the batch before it was durable until recovery
//! writes a new mark.

use super::record::HEAD_LEN;
use crate::txn::TxnHeader;
use crate::types::Zxid;

/// Number of bytes on disk.
pub(super) const LEN: usize = 28;
const MAGIC: [u8; 8] = *b"ZBRSYNC1";
const _: () = assert!(LEN == MAGIC.len() + 4 + 8 + 4 + 4, "the layout above");
const _: () = assert!(LEN < HEAD_LEN + TxnHeader::LEN, "a record overwrites the mark that stands in its place");

/// The contents of a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The zxid of the last transaction before it.
    pub(super) last: Zxid,
    /// The chained CRC up to the mark.
    pub(super) chain: u32,
}

impl Mark {
    /// The bytes of the mark at offset `at`.
    pub(super) fn bytes(self, at: u64) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[12..20].copy_from_slice(&self.last.0.to_be_bytes());
        out[20..24].copy_from_slice(&self.chain.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&at.to_be_bytes()), &out[..24]);
        out[24..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a mark at the beginning of `bytes`, which are at offset `at` of a file.
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
        // How Apache's reader sees it: a checksum, then a length of zero.
        assert_ne!(bytes[..8], [0; 8]);
        assert_eq!(bytes[8..12], [0; 4]);
    }

    #[test]
    fn every_record_is_longer() {
        let least = super::super::record::Framed::len(&[0; crate::txn::TxnHeader::LEN]);
        assert!(least > LEN as u64);
    }
}
