//! The tree's digest: a wrapping sum of one CRC-32 per znode. Mirrors `DigestCalculator` and `AdHash`.
//!
//! A znode's CRC runs over path, data and 60 bytes of stat. The CRC up to the stat is kept with the znode, so that a change
//! of the stat alone costs the CRC of 60 bytes.

use crate::types::StatPersisted;
use crate::types::path;

/// Whether a znode counts: everything but what lies below `/zookeeper`, which servers write on their own.
pub fn is_digested(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The CRC of path and data; the root's path counts as empty.
pub fn prefix_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut h = crc32fast::Hasher::new();
    if path != path::ROOT {
        h.update(path.as_bytes());
    }
    h.update(data.unwrap_or_default());
    h.finalize()
}

/// A znode's share of the digest, if [`is_digested`].
pub fn node_digest(prefix_crc: u32, s: &StatPersisted) -> u64 {
    let mut b = [0u8; 60];
    b[0..8].copy_from_slice(&s.czxid.0.to_be_bytes());
    b[8..16].copy_from_slice(&s.mzxid.0.to_be_bytes());
    b[16..24].copy_from_slice(&s.pzxid.0.to_be_bytes());
    b[24..32].copy_from_slice(&s.ctime.to_be_bytes());
    b[32..40].copy_from_slice(&s.mtime.to_be_bytes());
    b[40..44].copy_from_slice(&s.version.to_be_bytes());
    b[44..48].copy_from_slice(&s.cversion.to_be_bytes());
    b[48..52].copy_from_slice(&s.aversion.to_be_bytes());
    b[52..60].copy_from_slice(&s.ephemeral_owner.to_be_bytes());
    let mut h = crc32fast::Hasher::new_with_initial(prefix_crc);
    h.update(&b);
    u64::from(h.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both numbers stood in a real log of Apache ZooKeeper.
    #[test]
    fn fresh_nodes() {
        let s = StatPersisted::default();
        assert_eq!(node_digest(prefix_crc("/", Some(b"")), &s), 68_323_592);
        assert_eq!(node_digest(prefix_crc("/zookeeper", None), &s), 1_303_661_912);
        assert!(is_digested("/zookeeper") && is_digested("/zookeeperx") && !is_digested("/zookeeper/quota"));
    }
}
