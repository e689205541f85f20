//! The tree's digest: a wrapping sum of one CRC-32 per znode. Mirrors `DigestCalculator` and `AdHash`.
//!
//! A znode's CRC, its share, runs over path, data and 60 bytes of stat. It is kept with the znode: taking it away costs nothing,
//! and a change of the stat alone costs the CRC of 60 bytes, because a CRC is linear.

use std::sync::LazyLock;

use crate::types::StatPersisted;
use crate::types::path;

/// A hasher that has seen nothing. A new one asks which instructions the processor has, which costs as much as the CRC of 30
/// bytes; a copy of this one does not.
static FRESH: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);

/// Whether a znode counts: everything but what lies below `/zookeeper`, which servers write on their own.
pub fn is_digested(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The CRC of path and data; the root's path counts as empty.
pub fn prefix_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut h = FRESH.clone();
    if path != path::ROOT {
        h.update(path.as_bytes());
    }
    h.update(data.unwrap_or_default());
    h.finalize()
}

/// A znode's share of the digest, if [`is_digested`].
pub fn share(prefix_crc: u32, s: &StatPersisted) -> u32 {
    continued(prefix_crc, stat_bytes(s))
}

/// The share of a znode whose path and data stay and whose stat goes from `before` to `after`.
pub fn share_restated(share: u32, before: &StatPersisted, after: &StatPersisted) -> u32 {
    let mut difference = stat_bytes(before);
    for (d, b) in difference.iter_mut().zip(stat_bytes(after)) {
        *d ^= b;
    }
    // A CRC register that starts at zero; the library inverts it on the way in and out.
    share ^ !continued(u32::MAX, difference)
}

/// The CRC of these bytes behind others, whose CRC is `before`. The register holds that of the others when the first four bytes
/// come, which are added to it: so it makes no difference if they bring it along.
fn continued(before: u32, mut bytes: [u8; 60]) -> u32 {
    for (byte, of_before) in bytes.iter_mut().zip(before.to_le_bytes()) {
        *byte ^= of_before;
    }
    let mut h = FRESH.clone();
    h.update(&bytes);
    h.finalize()
}

fn stat_bytes(s: &StatPersisted) -> [u8; 60] {
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
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both numbers stood in a real log of Apache ZooKeeper.
    #[test]
    fn fresh_nodes() {
        let s = StatPersisted::default();
        assert_eq!(share(prefix_crc("/", Some(b"")), &s), 68_323_592);
        assert_eq!(share(prefix_crc("/zookeeper", None), &s), 1_303_661_912);
        assert!(is_digested("/zookeeper") && is_digested("/zookeeperx") && !is_digested("/zookeeper/quota"));
    }

    #[test]
    fn a_restated_share_is_the_share_of_the_new_stat() {
        let before = StatPersisted { mtime: 7, version: 3, ephemeral_owner: -1, ..StatPersisted::default() };
        let after = StatPersisted { mtime: i64::MAX, version: 4, cversion: 9, aversion: -2, ..before };
        for prefix in [0, 1, u32::MAX, prefix_crc("/a", Some(b"data"))] {
            assert_eq!(share_restated(share(prefix, &before), &before, &after), share(prefix, &after));
        }
    }
}
