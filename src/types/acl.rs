//! Access control entries and identities. Mirrors `ACL`, `Id` and `ZooDefs.Ids`.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Permission bits.
#[allow(missing_docs)]
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// Who: an authentication scheme and a name inside it. Kept as text; a null string on the wire is read as empty where
/// ZooKeeper tolerates it and refused where it does not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

impl Id {
    /// Builds an identity.
    pub fn new(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }
    /// `world:anyone`.
    pub fn world() -> Id {
        Id::new("world", "anyone")
    }
    /// Whether this identity may do everything.
    pub fn is_super(&self) -> bool {
        self.scheme == "super"
    }
}

impl fmt::Debug for Id {
    /// A digest's hash is left out: identities reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme.as_str(), self.id.split_once(':')) {
            ("digest" | "super", Some((user, _))) => write!(f, "{}:{}:x", self.scheme, user),
            _ => write!(f, "{}:{}", self.scheme, self.id),
        }
    }
}

/// One entry: bits of [`perms`] for one [`Id`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub struct Acl {
    pub perms: i32,
    pub id: Id,
}

impl Acl {
    /// `world:anyone` with all permissions.
    pub fn world_all() -> Acl {
        Acl { perms: perms::ALL, id: Id::world() }
    }
}

/// Number of an interned ACL list, as snapshots store it. -1 is `world:anyone` with all permissions and never in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AclId(pub i64);

impl AclId {
    /// `world:anyone`, all permissions.
    pub const OPEN: AclId = AclId(-1);
}

/// A list as it was read. The one that most requests bring, [`open`]'s, is borrowed: it costs no allocation.
pub type AclList = Cow<'static, [Acl]>;

/// `world:anyone` with all permissions: `ZooDefs.Ids.OPEN_ACL_UNSAFE`.
pub fn open() -> &'static [Acl] {
    static OPEN: LazyLock<[Acl; 1]> = LazyLock::new(|| [Acl::world_all()]);
    &*OPEN
}

/// Whether a list is [`open`]'s.
pub fn is_open(acls: &[Acl]) -> bool {
    matches!(acls, [a] if a.perms == perms::ALL && a.id.scheme == "world" && a.id.id == "anyone")
}

/// An interned list, shared; `None` stands for [`AclId::OPEN`]'s list, so that the common case costs nothing.
pub type SharedAcl = Option<Arc<[Acl]>>;

/// Whether one of `ids` may do `wanted` (any of its bits) under `acl`. Mirrors `ZooKeeperServer.checkACL` without `skipACL`.
///
/// `None` and the empty list are open. A `super` identity may do everything. Schemes: `world`, `ip` (prefix match), the
/// rest by equality of scheme and id.
pub fn permits(acl: Option<&[Acl]>, ids: &[Id], wanted: i32) -> bool {
    let Some(acl) = acl else { return true };
    if acl.is_empty() || ids.iter().any(Id::is_super) {
        return true;
    }
    acl.iter().filter(|a| a.perms & wanted != 0).any(|a| {
        if a.id.scheme == "world" && a.id.id == "anyone" {
            return true;
        }
        ids.iter().any(|id| id.scheme == a.id.scheme && matches(&a.id, &id.id))
    })
}

fn matches(pattern: &Id, id: &str) -> bool {
    match pattern.scheme.as_str() {
        "ip" => IpPattern::parse(&pattern.id).is_some_and(|p| p.matches(id)),
        "sasl" => pattern.id == id || id == "super",
        _ => pattern.id == id,
    }
}

/// `addr` or `addr/bits` of the `ip` scheme. Mirrors `IPAuthenticationProvider`.
pub struct IpPattern {
    addr: std::net::IpAddr,
    bits: u32,
}

impl IpPattern {
    /// Reads `addr[/bits]`; `None` if it is neither IPv4 nor IPv6 or the bits do not fit.
    pub fn parse(text: &str) -> Option<IpPattern> {
        let (addr, bits) = match text.split_once('/') {
            Some((a, b)) => (a, Some(b)),
            None => (text, None),
        };
        let addr: std::net::IpAddr = addr.parse().ok()?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(b) => b.parse::<u32>().ok().filter(|b| *b <= max)?,
            None => max,
        };
        Some(IpPattern { addr, bits })
    }

    /// Whether the client address `id` lies in the pattern; families must agree.
    pub fn matches(&self, id: &str) -> bool {
        fn prefix_eq(a: &[u8], b: &[u8], bits: u32) -> bool {
            let whole = (bits / 8) as usize;
            let rest = bits % 8;
            a.len() == b.len() && a[..whole] == b[..whole] && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
        }
        match (self.addr, id.parse()) {
            (std::net::IpAddr::V4(p), Ok(std::net::IpAddr::V4(a))) => prefix_eq(&p.octets(), &a.octets(), self.bits),
            (std::net::IpAddr::V6(p), Ok(std::net::IpAddr::V6(a))) => prefix_eq(&p.octets(), &a.octets(), self.bits),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    #[test]
    fn permits_by_scheme() {
        let me = [Id::new("ip", "127.0.0.1"), Id::new("digest", "bob:hash")];
        assert!(permits(None, &[], perms::WRITE));
        assert!(permits(Some(&[]), &[], perms::WRITE));
        assert!(permits(Some(&[acl(perms::READ, "world", "anyone")]), &me, perms::READ));
        assert!(!permits(Some(&[acl(perms::READ, "world", "anyone")]), &me, perms::WRITE));
        assert!(permits(Some(&[acl(perms::ALL, "digest", "bob:hash")]), &me, perms::WRITE));
        assert!(!permits(Some(&[acl(perms::ALL, "digest", "eve:hash")]), &me, perms::WRITE));
        assert!(permits(Some(&[acl(perms::ALL, "ip", "127.0.0.0/8")]), &me, perms::WRITE));
        assert!(!permits(Some(&[acl(perms::ALL, "ip", "128.0.0.0/8")]), &me, perms::WRITE));
        assert!(permits(Some(&[acl(perms::ALL, "digest", "eve:h")]), &[Id::new("super", "")], perms::ADMIN));
        assert!(permits(Some(&[acl(perms::READ, "digest", "bob:hash")]), &me, perms::READ | perms::ADMIN));
    }

    #[test]
    fn ip_patterns() {
        assert!(IpPattern::parse("10.0.0.1/33").is_none());
        assert!(IpPattern::parse("host").is_none());
        assert!(IpPattern::parse("10.1.0.0/15").unwrap().matches("10.0.255.1"));
        assert!(!IpPattern::parse("10.1.0.0/16").unwrap().matches("10.2.0.1"));
        assert!(IpPattern::parse("fe80::/10").unwrap().matches("fe80::1"));
        assert!(!IpPattern::parse("::1").unwrap().matches("127.0.0.1"));
    }

    #[test]
    fn debug_hides_the_hash() {
        assert_eq!(format!("{:?}", Id::new("digest", "bob:secret=")), "digest:bob:x");
    }
}
