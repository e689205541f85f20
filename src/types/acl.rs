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

/// An identity: an authentication scheme and an id within it, as text. A null string on the wire is read as empty where
/// ZooKeeper tolerates it and refused where ZooKeeper does not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

impl Id {
    /// An identity of this scheme and id.
    pub fn new(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.to_owned(), id: id.to_owned() }
    }
    /// `world:anyone`.
    pub fn world() -> Id {
        Id::new("world", "anyone")
    }
    /// Whether this identity is the super user, who may do everything.
    pub fn is_super(&self) -> bool {
        self.scheme == "super"
    }
}

impl fmt::Debug for Id {
    /// Omits the hash of a digest id, because identities are written to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme.as_str(), self.id.split_once(':')) {
            ("digest" | "super", Some((user, _))) => write!(f, "{}:{}:x", self.scheme, user),
            _ => write!(f, "{}:{}", self.scheme, self.id),
        }
    }
}

/// One entry: the permissions (bits of [`perms`]) of one [`Id`].
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

/// Number of an ACL list in the tree's table, as snapshots store it. -1 is `world:anyone` with all permissions, which
/// is never in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AclId(pub i64);

impl AclId {
    /// `world:anyone`, all permissions.
    pub const OPEN: AclId = AclId(-1);
}

/// An ACL list that was read. Most requests carry the list of [`open`]; that one is borrowed, without an allocation.
pub type AclList = Cow<'static, [Acl]>;

/// `world:anyone` with all permissions: `ZooDefs.Ids.OPEN_ACL_UNSAFE`.
pub fn open() -> &'static [Acl] {
    static OPEN: LazyLock<[Acl; 1]> = LazyLock::new(|| [Acl::world_all()]);
    &*OPEN
}

/// Whether a list equals that of [`open`].
pub fn is_open(acls: &[Acl]) -> bool {
    matches!(acls, [a] if a.perms == perms::ALL && a.id.scheme == "world" && a.id.id == "anyone")
}

/// A shared ACL list from the tree's table. `None` stands for the list of [`AclId::OPEN`], so that the common case
/// costs nothing.
pub type SharedAcl = Option<Arc<[Acl]>>;

/// Whether one of `ids` has at least one of the permissions `wanted` under `acl`. Mirrors `ZooKeeperServer.checkACL`
/// without `skipACL`.
///
/// `None` and the empty list allow everything, and so does a `super` identity. The scheme `world` matches everybody,
/// `ip` compares address prefixes, and all other schemes compare scheme and id for equality.
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

/// An id of the `ip` scheme: `addr` or `addr/bits`. Mirrors `IPAuthenticationProvider`.
pub struct IpPattern {
    addr: std::net::IpAddr,
    bits: u32,
}

impl IpPattern {
    /// Parses `addr[/bits]`; `None` if it is neither IPv4 nor IPv6, or if there are too many bits.
    ///
    /// Addresses follow ZooKeeper's rules, not those of other parsers, so that both servers accept the same ACLs:
    /// numbers may have leading zeros, and an IPv6 address may have neither an IPv4 part (`::ffff:127.0.0.1`) nor a
    /// zone.
    pub fn parse(text: &str) -> Option<IpPattern> {
        let (addr, bits) = match text.split_once('/') {
            Some((a, b)) => (a, Some(b)),
            None => (text, None),
        };
        let addr = if addr.contains(':') { parse_v6(addr)?.into() } else { parse_v4(addr)?.into() };
        let max = if matches!(addr, std::net::IpAddr::V4(_)) { 32 } else { 128 };
        let bits = match bits {
            Some(b) => b.parse::<i32>().ok().and_then(|b| u32::try_from(b).ok()).filter(|b| *b <= max)?,
            None => max,
        };
        Some(IpPattern { addr, bits })
    }

    /// Whether the client address `id` matches. An IPv4 address never matches an IPv6 pattern, nor the other way round.
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

/// Four numbers from 0 to 255, as `Integer.parseInt` reads them.
fn parse_v4(text: &str) -> Option<[u8; 4]> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parts.next()?.parse::<i32>().ok().and_then(|v| u8::try_from(v).ok())?;
    }
    parts.next().is_none().then_some(octets)
}

/// Eight groups of up to four characters, or fewer around one `::`. A group may have a sign, because `Integer.parseInt`
/// accepts one.
fn parse_v6(text: &str) -> Option<[u8; 16]> {
    let groups = |part: &str| -> Option<Vec<[u8; 2]>> {
        let read = |group: &str| {
            let value = i32::from_str_radix(group, 16).ok().filter(|_| group.len() <= 4)?;
            Some((value as u16).to_be_bytes())
        };
        if part.is_empty() { Some(Vec::new()) } else { part.split(':').map(read).collect() }
    };
    let (head, tail) = match text.split_once("::") {
        Some((head, tail)) => (groups(head)?, groups(tail)?),
        None => (groups(text)?, Vec::new()),
    };
    let fits = if text.contains("::") { head.len() + tail.len() < 8 } else { head.len() == 8 };
    if !fits {
        return None;
    }
    let mut octets = [0; 16];
    octets[..2 * head.len()].copy_from_slice(head.as_flattened());
    octets[16 - 2 * tail.len()..].copy_from_slice(tail.as_flattened());
    Some(octets)
}

/// An address as the `ip` scheme and `whoAmI` show it. Mirrors `InetAddress.getHostAddress`: an IPv6 address is not
/// shortened, and an IPv4 client on an IPv6 socket is shown as IPv4.
pub fn host_address(ip: std::net::IpAddr) -> String {
    match ip.to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => ip.segments().map(|s| format!("{s:x}")).join(":"),
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

    /// The expected results are those of `IPAuthenticationProvider.isValid` in Apache 3.9.5.
    #[test]
    fn ip_patterns_are_zookeepers() {
        for (text, valid) in [
            ("127.0.0.001", true),
            ("127.0.0.1/08", true),
            ("+127.0.0.-0/+8", true),
            ("127.0.0.1/", false),
            ("127.0.0.1/-1", false),
            ("127.0.0.1/8/8", false),
            ("1.2.3", false),
            ("1.2.3.4.", false),
            ("1.2.3.4.5", false),
            ("127..0.1", false),
            ("256.0.0.1", false),
            ("1", false),
            ("", false),
            ("/", false),
            ("::", true),
            ("1::", true),
            ("::ABCD/128", true),
            ("::1/129", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:7f00:1", true),
            ("::1%lo", false),
            ("[::1]", false),
            ("0:0:0:0:0:0:0:1", true),
            ("1:2:3:4:5:6:7::", true),
            ("::1:2:3:4:5:6:7", true),
            ("1:2:3:4:5:6:7:8::", false),
            ("1:2:3:4:5:6:7", false),
            ("1::2::3", false),
            (":1:2:3:4:5:6:7", false),
            (":::", false),
            ("0001::", true),
            ("00001::", false),
            ("::-1", true),
            ("g::", false),
            ("1.2:3", false),
        ] {
            assert_eq!(IpPattern::parse(text).is_some(), valid, "{text:?}");
        }
        let matches = |pattern, id| IpPattern::parse(pattern).is_some_and(|p| p.matches(id));
        assert!(matches("127.0.0.001", "127.0.0.1") && matches("::1", "0:0:0:0:0:0:0:1"));
        assert!(matches("128.0.0.1/0", "127.0.0.1") && matches("::0/0", "0:0:0:0:0:0:0:1"));
        assert!(matches("0:0:0:0:0:0:0:a/127", "0:0:0:0:0:0:0:b") && !matches("::a", "0:0:0:0:0:0:0:b"));
        assert!(!matches("::/0", "127.0.0.1") && !matches("127.0.0.1/0", "0:0:0:0:0:0:0:1"));
    }

    #[test]
    fn addresses_are_shown_as_java_does() {
        for (ip, shown) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("fe80::fc:ff:fe00:1", "fe80:0:0:0:fc:ff:fe00:1"),
        ] {
            assert_eq!(host_address(ip.parse().unwrap()), shown);
        }
    }

    #[test]
    fn debug_hides_the_hash() {
        assert_eq!(format!("{:?}", Id::new("digest", "bob:secret=")), "digest:bob:x");
    }
}
