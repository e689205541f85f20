//! A znode's numbers as clients see them and as the tree keeps them. Mirrors `Stat` and `StatPersisted`.

use super::Zxid;

/// Owner values with a meaning of their own, kept in `ephemeral_owner`. Mirrors `EphemeralType`.
pub mod owner {
    /// A container node.
    pub const CONTAINER: i64 = i64::MIN;
    /// Longest TTL, in milliseconds: 40 bits.
    pub const MAX_TTL_MS: i64 = (1 << 40) - 1;
    const EXTENDED: u64 = 0xff << 56;
    const FEATURE: u64 = 0xffff << 40;
    const EMULATE_353: i64 = i64::MIN;

    /// What kind of node an owner value says.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Kind {
        /// 0: an ordinary persistent node.
        Persistent,
        /// Owned by a session.
        Ephemeral,
        /// Removed when it has had children and has none left.
        Container,
        /// Removed when childless and unmodified for this many milliseconds.
        Ttl(i64),
    }

    /// How top bytes are read: `zookeeper.extendedTypesEnabled` and `zookeeper.emulate353TTLNodes`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ExtendedTypes {
        /// TTL nodes are understood at all.
        pub enabled: bool,
        /// 3.5.3's encoding: any other negative owner is a TTL.
        pub emulate_353: bool,
    }

    /// The owner value of a TTL node, in the encoding of 3.5.4 and later. `ttl_ms` must lie in `1..=MAX_TTL_MS`.
    pub fn of_ttl(ttl_ms: i64) -> i64 {
        EXTENDED as i64 | ttl_ms
    }

    /// Decodes an owner value. An extended value of an unknown feature reads as `Ephemeral`, owned by nobody's session.
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

/// What a client gets: 68 bytes on the wire, in this field order.
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
    /// Creates plus deletes of children: `2 * persisted - num_children`.
    pub cversion: i32,
    pub aversion: i32,
    /// The owning session of an ephemeral, else 0 (containers and TTL nodes too).
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: Zxid,
}

/// What the tree, the snapshot and the digest keep: 60 bytes, in this field order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct StatPersisted {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Creates of children only; the next sequential suffix.
    pub cversion: i32,
    pub aversion: i32,
    /// Raw: session, container mark or TTL encoding (see [`owner`]).
    pub ephemeral_owner: i64,
    pub pzxid: Zxid,
}
