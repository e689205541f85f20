//! The first message of an election connection: which server connects, and its election addresses. Mirrors
//! `QuorumCnxManager.InitialMessage`.

use thiserror::Error;

use crate::jute::{Put, Reader};
use crate::types::ServerId;

/// Most bytes of the addresses.
pub const MAX_ADDRESSES: usize = 2048;

/// The form with one address.
const V1: i64 = -0x10000;

/// The form with several addresses, joined by `|`.
const V2: i64 = -0xffff;

/// Why a hello is refused: its connection must be closed.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum HelloError {
    /// The first number is not that of a known form.
    #[error("a hello of version {0}, which is not known")]
    Version(i64),
    /// A length that the addresses cannot have.
    #[error("a hello with {0} bytes of addresses, not 1 to {MAX_ADDRESSES}")]
    Length(i32),
    /// An address is not of the form host:port.
    #[error("a hello with the address {0:?}, which is not host:port")]
    Address(String),
}

/// Where a server listens for election connections.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct ElectionAddress {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The addresses in a hello, which has three forms.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Addresses {
    /// Before 3.5: only the server's id.
    Unsaid,
    /// One address.
    One(ElectionAddress),
    /// `multiAddress.enabled`: one or more.
    Several(Vec<ElectionAddress>),
}

/// The first message.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Hello {
    /// The server that connects. `i64::MAX` is an observer of an old release; Apache numbers these from -1 downwards.
    pub server: ServerId,
    /// The addresses it claims to have. They prove nothing: only the configured addresses of members are connected to.
    pub addresses: Addresses,
}

impl Hello {
    /// Reads a hello from the first bytes of a connection and returns it with its length, or `None` if it is
    /// incomplete.
    ///
    /// # Errors
    /// [`HelloError`]
    pub fn read(bytes: &[u8]) -> Result<Option<(Hello, usize)>, HelloError> {
        let mut r = Reader::new(bytes);
        let Ok(first) = r.i64() else { return Ok(None) };
        if first >= 0 {
            let hello = Hello { server: ServerId(first), addresses: Addresses::Unsaid };
            return Ok(Some((hello, r.position())));
        }
        if first != V1 && first != V2 {
            return Err(HelloError::Version(first));
        }
        let (Ok(server), Ok(len)) = (r.i64(), r.i32()) else { return Ok(None) };
        let want = usize::try_from(len).ok().filter(|len| (1..=MAX_ADDRESSES).contains(len));
        let Ok(text) = r.take(want.ok_or(HelloError::Length(len))?) else { return Ok(None) };
        let text = String::from_utf8_lossy(text);
        let mut addresses = text.split('|').map(parse).collect::<Result<Vec<_>, _>>()?;
        let addresses = match addresses.pop() {
            Some(address) if first == V1 && addresses.is_empty() => Addresses::One(address),
            last => {
                addresses.extend(last);
                Addresses::Several(addresses)
            }
        };
        Ok(Some((Hello { server: ServerId(server), addresses }, r.position())))
    }

    /// Appends the hello. It must be sent with one write: Apache refuses one whose addresses arrive in two parts.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (version, addresses) = match &self.addresses {
            Addresses::Unsaid => {
                assert!(self.server.0 >= 0, "{:?} would be read as the version of a hello", self.server);
                return out.put_i64(self.server.0);
            }
            Addresses::One(address) => (V1, std::slice::from_ref(address)),
            Addresses::Several(addresses) => (V2, &addresses[..]),
        };
        out.put_i64(version);
        out.put_i64(self.server.0);
        let text: Vec<String> = addresses.iter().map(text).collect();
        let text = text.join("|");
        assert!((1..=MAX_ADDRESSES).contains(&text.len()), "a hello with {} bytes of addresses", text.len());
        out.put_string(&text);
    }
}

/// Whether a hello can contain all these addresses.
pub fn fits(addresses: &[ElectionAddress]) -> bool {
    let separators = addresses.len().saturating_sub(1);
    let len = addresses.iter().map(|address| text(address).len()).sum::<usize>() + separators;
    (1..=MAX_ADDRESSES).contains(&len)
}

fn text(address: &ElectionAddress) -> String {
    let ElectionAddress { host, port } = address;
    assert!(!host.is_empty() && !host.contains('|'), "{host:?} would be read as no address, or as two");
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn parse(text: &str) -> Result<ElectionAddress, HelloError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").unwrap_or_default(),
        None => text.split_once(':').unwrap_or_default(),
    };
    let refused = || HelloError::Address(text.to_owned());
    let port = port.parse().map_err(|_| refused())?;
    if host.is_empty() { Err(refused()) } else { Ok(ElectionAddress { host: host.to_owned(), port }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> ElectionAddress {
        ElectionAddress { host: host.to_owned(), port }
    }

    #[test]
    fn the_three_forms_come_back_and_wait_for_their_end() {
        let several = vec![address("::1", 1), address("zk.example", 65535)];
        for addresses in [
            Addresses::Unsaid,
            Addresses::One(address("127.0.0.1", 3888)),
            Addresses::Several(several),
            Addresses::Several(vec![address("a", 0)]),
        ] {
            let hello = Hello { server: ServerId(2), addresses };
            let mut bytes = Vec::new();
            hello.put(&mut bytes);
            let len = bytes.len();
            for cut in 0..len {
                assert_eq!(Hello::read(&bytes[..cut]), Ok(None), "{cut}");
            }
            bytes.extend_from_slice(b"more");
            assert_eq!(Hello::read(&bytes), Ok(Some((hello, len))));
        }
    }

    fn said(version: i64, text: &[u8]) -> Result<Option<(Hello, usize)>, HelloError> {
        let mut bytes = Vec::new();
        bytes.put_i64(version);
        bytes.put_i64(1);
        bytes.put_buffer(Some(text));
        Hello::read(&bytes)
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(said(-3, b"a:1"), Err(HelloError::Version(-3)));
        assert_eq!(said(V1, b""), Err(HelloError::Length(0)));
        assert_eq!(said(V1, &[b'a'; 2049]), Err(HelloError::Length(2049)));
        for text in ["a", "a:", ":1", "a:1:2", "a:65536", "a:-1", "[::1]", "[::1]1", "[]:1", "::1:3888", "a:1|", "|a:1"]
        {
            assert!(matches!(said(V2, text.as_bytes()), Err(HelloError::Address(_))), "{text}");
        }
        assert!(said(V1, b"\xff\xfe:1").is_ok());
    }
}
