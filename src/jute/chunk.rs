//! Copies of short byte strings that live for a short time. Many share one allocation.

use bytes::{Bytes, BytesMut};

/// An allocation that short byte strings are copied into, one after another.
#[derive(Debug, Default)]
pub struct Chunk(BytesMut);

impl Chunk {
    /// Bytes allocated at a time. A single string keeps the whole allocation alive until it is dropped.
    pub const LEN: usize = 64 << 10;
    /// A string longer than this has an allocation of its own.
    pub const LONG: usize = 4 << 10;

    /// A copy of `bytes`.
    pub fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > Chunk::LONG {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(Chunk::LEN);
        }
        self.0.extend_from_slice(bytes);
        let kept = self.0.split().freeze();
        debug_assert_eq!(kept.len(), bytes.len(), "a string is kept with another's");
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_share_chunks_and_long_ones_do_not() {
        let mut chunk = Chunk::default();
        let kept: Vec<Bytes> = (0..100u8).map(|n| chunk.keep(&vec![n; 1 + usize::from(n) * 41])).collect();
        for (n, bytes) in kept.iter().enumerate() {
            assert_eq!((bytes.len(), bytes.iter().all(|b| usize::from(*b) == n)), (1 + n * 41, true));
        }
        assert_eq!(kept[1].as_ptr(), kept[0].as_ptr().wrapping_add(1));
        assert!(chunk.keep(&[]).is_empty());
        assert!(chunk.0.capacity() <= Chunk::LEN);
        assert_eq!(chunk.keep(&vec![7; Chunk::LONG + 1]).len(), Chunk::LONG + 1);
    }
}
