//! A znode's stat as clients see it and as the tree keeps it. Mirrors `Stat` and `StatPersisted`.

use super::Zxid;

/// Values of `ephemeral_owner` with a special meaning. Mirrors `EphemeralType`.
pub mod owner {
    /// A container node.
    pub const CONTAINER: i64 = i64::MIN;
    /// The longest TTL in milliseconds: it has 40 bits.
    pub const MAX_TTL_MS: i64 = (1 << 40) - 1;
    const EXTENDED: u64 = 0xff << 56;
    const FEATURE: u64 = 0xffff << 40;
    const EMULATE_353: i64 = i64::MIN;

    /// The kind of a znode, as its owner value says.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Kind {
        /// 0: an ordinary persistent node.
        Persistent,
        /// Owned by a session.
        Ephemeral,
        /// Deleted once it has had children and none are left.
        Container,
        /// Deleted when it has no children and was not modified for this many milliseconds.
        Ttl(i64),
    }

    /// How the special owner values are read: `zookeeper.extendedTypesEnabled` and `zookeeper.emulate353TTLNodes`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ExtendedTypes {
        /// TTL nodes are supported.
        pub enabled: bool,
        /// The encoding of ZooKeeper 3.5.3: any other negative owner is a TTL.
        pub emulate_353: bool,
    }

    /// The owner value of a TTL node, in the encoding of 3.5.4 and later. `ttl_ms` must be in `1..=MAX_TTL_MS`.
    pub fn of_ttl(ttl_ms: i64) -> i64 {
        EXTENDED as i64 | ttl_ms
    }

    /// The kind of an owner value. A special value of an unknown type is read as `Ephemeral` with an owner that no
    /// session has.
    pub fn kind(value: i64, types: ExtendedTypes) -> Kind {
        if value == CONTAINER {
            return Kind::Container;
        }
        if types.enabled && value as u64 & EXTENDED == EXTENDED && value as u64 & FEATURE == 0 {
            return Kind::Ttl(value & MAX_TTL_MS);
        }
        if types.enabled && types.emulate_353 && value < 0 {
            return Kind::Ttl(value & !EMULATE_353);
        }
        if value == 0 { Kind::Persistent } else { Kind::Ephemeral }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn kinds() {
            let on = ExtendedTypes { enabled: true, emulate_353: false };
            assert_eq!(kind(0, on), Kind::Persistent);
            assert_eq!(kind(CONTAINER, on), Kind::Container);
            assert_eq!(kind(0x0100_0000_0000_0001, on), Kind::Ephemeral);
            assert_eq!(kind(of_ttl(100), on), Kind::Ttl(100));
            assert_eq!(of_ttl(100) as u64, 0xff00_0000_0000_0064);
            assert_eq!(kind(of_ttl(100), ExtendedTypes::default()), Kind::Ephemeral);
            let old = ExtendedTypes { enabled: true, emulate_353: true };
            assert_eq!(kind(of_ttl(7), old), Kind::Ttl(7));
            assert_eq!(kind(i64::MIN | 9, old), Kind::Ttl(9));
        }
    }
}

/// The stat that a client gets: 68 bytes on the wire, in this field order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Stat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    /// Milliseconds since 1970, the leader's clock.
    pub ctime: i64,
    /// Milliseconds since 1970, the leader's clock.
    pub mtime: i64,
    pub version: i32,
    /// Number of creates and deletes of children: `2 * persisted - num_children`.
    pub cversion: i32,
    pub aversion: i32,
    /// The session that owns an ephemeral; 0 for all other znodes, including containers and TTL nodes.
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: Zxid,
}

/// The stat in the tree, the snapshot and the digest: 60 bytes, in this field order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct StatPersisted {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Number of creates of children; the number of the next sequential child.
    pub cversion: i32,
    pub aversion: i32,
    /// The raw value: session, container mark or encoded TTL (see [`owner`]).
    pub ephemeral_owner: i64,
    pub pzxid: Zxid,
}
