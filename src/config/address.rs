//! Addresses as ZooKeeper's configuration writes them: `10.0.0.1`, `::1`, `[::1]`, `fe80::1%eth0`, a name. Mirrors
//! `InetAddress.getByName`.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

/// An IP address and, for IPv6, the network interface to use it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostAddr {
    /// The address.
    pub ip: IpAddr,
    /// Index of the interface (the zone after `%`), for IPv6 only; 0 means none.
    pub scope_id: u32,
}

impl HostAddr {
    /// The socket address of this address and `port`.
    pub fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }

    /// Whether this is the wildcard address (`0.0.0.0` or `::`), which binds every address of the host.
    pub fn is_unspecified(self) -> bool {
        self.ip.is_unspecified()
    }

    /// The first address of `text`, for binding a port.
    ///
    /// # Errors
    /// The name has no address, the zone is not an interface, or brackets enclose something other than an IPv6 address.
    pub fn parse(text: &str) -> Result<HostAddr, String> {
        HostAddr::resolve(text).map(|all| all[0])
    }

    /// All addresses of `text`, at least one: IPv4 before IPv6, as Java orders them. An empty text is the loopback
    /// address, as in Java.
    ///
    /// # Errors
    /// As for [`HostAddr::parse`].
    pub fn resolve(text: &str) -> Result<Vec<HostAddr>, String> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let (address, zone) = match inner.unwrap_or(text).split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (inner.unwrap_or(text), None),
        };
        if let Ok(ip) = address.parse::<Ipv6Addr>() {
            return Ok(vec![with_zone(ip, zone)?]);
        }
        if inner.is_some() {
            return Err(format!("{text:?} has brackets around something that is no IPv6 address: remove them"));
        }
        if text.is_empty() {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        look_up(text).map_err(|e| {
            format!(
                "{text:?} cannot be resolved ({e}): write an address of this host, or leave the key out to bind all"
            )
        })
    }
}

impl<A: Into<IpAddr>> From<A> for HostAddr {
    fn from(ip: A) -> HostAddr {
        HostAddr { ip: ip.into(), scope_id: 0 }
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope_id {
            0 => self.ip.fmt(f),
            zone => write!(f, "{}%{zone}", self.ip),
        }
    }
}

/// The addresses to connect to for `host`, which may be written in any of the forms above.
///
/// # Errors
/// The same as for [`HostAddr::resolve`].
pub fn socket_addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let all = HostAddr::resolve(host).map_err(|e| io::Error::new(io::ErrorKind::NotFound, e))?;
    Ok(all.into_iter().map(|a| a.at(port)).collect())
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn with_zone(ip: Ipv6Addr, zone: Option<&str>) -> Result<HostAddr, String> {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return Ok(ip.into());
    }
    let scope_id = match zone {
        Some(zone) => interface(zone).ok_or_else(|| {
            format!("{ip}%{zone}: this host has no network interface {zone:?}: write one that `ip link` lists")
        })?,
        // A link-local address cannot be bound without its interface, so look the interface up.
        None if ip.is_unicast_link_local() => {
            let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
            interface_of(ip, &interfaces).unwrap_or(0)
        }
        None => 0,
    };
    Ok(HostAddr { ip: ip.into(), scope_id })
}

/// The index of an interface, given by name or by index.
fn interface(zone: &str) -> Option<u32> {
    if let Ok(index) = zone.parse() {
        return Some(index);
    }
    let name = CString::new(zone).ok()?;
    // SAFETY: reads a string that ends with a zero byte and lives until the call returns.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|index| *index != 0)
}

/// The interface that has the address `ip`, according to the text of `/proc/net/if_inet6`.
fn interface_of(ip: Ipv6Addr, interfaces: &str) -> Option<u32> {
    let digits: String = ip.octets().iter().map(|b| format!("{b:02x}")).collect();
    let row = interfaces.lines().find(|line| line.starts_with(&digits))?;
    u32::from_str_radix(row.split_whitespace().nth(1)?, 16).ok()
}

fn look_up(name: &str) -> Result<Vec<HostAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|e| e.to_string())?;
    let mut all: Vec<HostAddr> = Vec::new();
    for address in found {
        let scope_id = if let SocketAddr::V6(a) = address { a.scope_id() } else { 0 };
        let one = HostAddr { ip: address.ip(), scope_id };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.sort_by_key(|a| a.ip.is_ipv6());
    if all.is_empty() { Err("no address".into()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are what the JDK's `InetAddress.getByName` returns for the same texts.
    #[test]
    fn forms_of_addresses() {
        for (text, shown, at) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:7"),
            ("0.0.0.0", "0.0.0.0", "0.0.0.0:7"),
            ("", "127.0.0.1", "127.0.0.1:7"),
            ("127.1", "127.0.0.1", "127.0.0.1:7"),
            ("::1", "::1", "[::1]:7"),
            ("[::1]", "::1", "[::1]:7"),
            ("::1%lo", "::1%1", "[::1%1]:7"),
            ("[::1%lo]", "::1%1", "[::1%1]:7"),
            ("fe80::1%1", "fe80::1%1", "[fe80::1%1]:7"),
            ("::", "::", "[::]:7"),
            ("[::]", "::", "[::]:7"),
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1:7"),
        ] {
            let address = HostAddr::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((address.to_string().as_str(), address.at(7).to_string().as_str()), (shown, at), "{text}");
            assert_eq!(socket_addresses(text, 7).expect("resolves"), [address.at(7)]);
        }
        let all = HostAddr::resolve("localhost").expect("resolves");
        assert!(all.iter().all(|a| a.ip.is_loopback()) && all.is_sorted_by_key(|a| a.ip.is_ipv6()), "{all:?}");
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, part) in [
            ("fe80::1%nope0", "has no network interface \"nope0\""),
            ("[127.0.0.1]", "brackets around something that is no IPv6 address"),
            ("[localhost]", "brackets around"),
            ("127.0.0.1:80", "cannot be resolved"),
            ("no such host", "cannot be resolved"),
        ] {
            let error = HostAddr::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_link_local_address_has_the_interface_that_bears_it() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe8000000000000000fc00fffe000001 1f 40 20 80     eth0\n";
        let of = |ip: &str| interface_of(ip.parse().expect("an address"), text);
        assert_eq!((of("fe80::fc:ff:fe00:1"), of("fe80::fc:ff:fe00:2")), (Some(0x1f), None));
    }

    #[test]
    fn brackets_where_a_port_follows() {
        let shown = [("h", "h:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")];
        for (host, want) in shown {
            assert_eq!(host_and_port(host, 1), want);
        }
    }
}
