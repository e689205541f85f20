//! One server of an ensemble: its addresses, whether it votes, and the `server.N` line that says so. Mirrors
//! `QuorumPeer.QuorumServer`. Host names stay text: they are resolved each time they are used, since their addresses
//! may change.

use crate::types::ServerId;
use std::collections::BTreeSet;
use std::fmt;

/// A set of servers.
pub type Servers = BTreeSet<ServerId>;

/// One address of a server for other servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// Host name or address as configured; an IPv6 address without brackets.
    pub host: String,
    /// Port on which a leader listens for learners.
    pub quorum_port: u16,
    /// Port for leader election.
    pub election_port: u16,
}

/// The address for clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Whether a server votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Votes, and may become leader.
    #[default]
    Participant,
    /// Follows the leader but does not vote.
    Observer,
}

impl Role {
    /// Parses `participant` or `observer`; upper and lower case do not matter.
    ///
    /// # Errors
    /// The text is anything else; the error says what to write.
    pub fn parse(text: &str) -> Result<Role, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "participant" => Ok(Role::Participant),
            "observer" => Ok(Role::Observer),
            _ => Err(format!("unrecognised peer type {text:?}: write participant or observer")),
        }
    }
}

/// One server of the ensemble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its addresses for other servers; at least one in an ensemble.
    pub addresses: Vec<PeerAddress>,
    /// Whether it votes.
    pub role: Role,
    /// Its client address if the server line has one. An address from a static `clientPort` is not kept here.
    pub client: Option<ClientAddress>,
    /// Its address for clients with TLS, if the server line has one. ZooKeeper 3.10 knows this part of the line, 3.9
    /// does not.
    pub secure_client: Option<ClientAddress>,
}

const FORM: &str = "write host:quorumPort:electionPort, then optionally :participant or :observer, further addresses after |, \
                    and ;clientPort or ;clientHost:clientPort";

impl Member {
    /// Parses the right side of a `server.N=` line: `host:port:port[:role][|…][;client[;secure client]]`.
    ///
    /// # Errors
    /// The line is not valid; the text says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Member, String> {
        let mut parts = text.split(';').map(str::trim);
        let servers = parts.next().unwrap_or("");
        let client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
        let secure_client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
        if parts.next().is_some() {
            return Err(format!("{text:?} has too many parts: {FORM}"));
        }
        let mut addresses = Vec::new();
        let mut role: Option<Role> = None;
        for server in servers.split('|') {
            let (address, its_role) = parse_server(server)?;
            if let Some(its_role) = its_role {
                if role.is_some_and(|r| r != its_role) {
                    return Err(format!("the addresses of {text:?} have different roles: give all the same"));
                }
                role = Some(its_role);
            }
            addresses.push(address);
        }
        Ok(Member { addresses, role: role.unwrap_or_default(), client, secure_client })
    }
}

fn parse_server(text: &str) -> Result<(PeerAddress, Option<Role>), String> {
    let parts = host_and_ports(text)?;
    let (host, quorum, election, role) = match parts.as_slice() {
        [host, quorum, election] => (host, quorum, election, None),
        [host, quorum, election, role] => (host, quorum, election, Some(Role::parse(role)?)),
        [_, _] => return Err(format!("{text:?} has no election port: {FORM}")),
        _ => return Err(format!("{text:?} is not a server address: {FORM}")),
    };
    if host.is_empty() {
        return Err(format!("{text:?} names no host: {FORM}"));
    }
    let address =
        PeerAddress { host: host.clone(), quorum_port: parse_port(quorum)?, election_port: parse_port(election)? };
    if address.quorum_port == address.election_port {
        return Err(format!("quorum and election port of {text:?} must be different"));
    }
    Ok((address, role))
}

fn parse_client(text: &str) -> Result<ClientAddress, String> {
    match host_and_ports(text)?.as_slice() {
        [port] => Ok(ClientAddress { host: "0.0.0.0".into(), port: parse_port(port)? }),
        [host, port] => Ok(ClientAddress { host: host.clone(), port: parse_port(port)? }),
        _ => Err(format!("{text:?} is not a client address: {FORM}")),
    }
}

/// Splits at colons, but not inside the brackets of an IPv6 address, which are removed.
fn host_and_ports(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('[') else {
        return Ok(text.split(':').map(str::to_string).collect());
    };
    let Some((host, rest)) = inner.split_once(']') else {
        return Err(format!("{text:?} starts with [ but has no matching ]: {FORM}"));
    };
    let mut parts = vec![host.to_string()];
    match rest.strip_prefix(':') {
        Some("") => return Err(format!("{text:?} has no port after the colon: {FORM}")),
        Some(ports) => parts.extend(ports.split(':').map(str::to_string)),
        None if rest.is_empty() => {}
        None => return Err(format!("{text:?}: expected a colon after ]: {FORM}")),
    }
    Ok(parts)
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a port: write a number from 0 to 65535"))
}

impl fmt::Display for Member {
    /// The right side of a `server.N=` line. Several addresses are sorted by host, as in the list that parsing the line
    /// gives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        for (n, a) in addresses.into_iter().enumerate() {
            let separator = if n == 0 { "" } else { "|" };
            write!(f, "{separator}{}:{}:{}", Host(&a.host), a.quorum_port, a.election_port)?;
        }
        f.write_str(match self.role {
            Role::Participant => ":participant",
            Role::Observer => ":observer",
        })?;
        if let Some(client) = &self.client {
            write!(f, ";{}:{}", Host(&client.host), client.port)?;
        }
        match &self.secure_client {
            Some(secure) => {
                let empty = if self.client.is_none() { ";" } else { "" };
                write!(f, "{empty};{}:{}", Host(&secure.host), secure.port)
            }
            None => Ok(()),
        }
    }
}

/// Shows a host; an IPv6 address gets the brackets it needs in front of a port.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: &str, port: u16) -> Option<ClientAddress> {
        Some(ClientAddress { host: host.into(), port })
    }

    #[test]
    fn addresses() {
        let m = Member::parse("h1:2888:3888").expect("parses");
        assert_eq!(m.addresses, [PeerAddress { host: "h1".into(), quorum_port: 2888, election_port: 3888 }]);
        assert_eq!((m.role, m.client), (Role::Participant, None));
        let m = Member::parse("[::1]:2888:3888:observer;[fe80::1%eth0]:2181").expect("parses");
        assert_eq!(m.addresses[0].host, "::1");
        assert_eq!(m.role, Role::Observer);
        assert_eq!(m.client, client("fe80::1%eth0", 2181));
        let m = Member::parse("a:1:2|b:3:4:Participant;2181;s:2182").expect("parses");
        assert_eq!(m.addresses.len(), 2);
        assert_eq!((m.client, m.secure_client), (client("0.0.0.0", 2181), client("s", 2182)));
    }

    #[test]
    fn a_line_that_is_shown_reads_as_the_same_member() {
        for line in [
            "a:1:2:participant",
            "a:1:2|b:3:4:observer",
            "[::1]:1:2:participant;[fe80::1%eth0]:2181",
            "a:1:2:participant;0.0.0.0:2181;[::1]:2182",
            "a:1:2:participant;;s:2182",
        ] {
            assert_eq!(Member::parse(line).expect(line).to_string(), line);
        }
        assert_eq!(Member::parse("a:1:2;2181;").expect("parses").to_string(), "a:1:2:participant;0.0.0.0:2181");
    }

    #[test]
    fn bad_addresses() {
        for (text, part) in [
            ("", "not a server address"),
            ("h:2888", "has no election port"),
            ("h", "not a server address"),
            (":1:2", "names no host"),
            ("h:1:1", "must be different"),
            ("h:1:x", "not a port"),
            ("h:1:70000", "not a port"),
            ("h:1:2:leader", "unrecognised peer type"),
            ("h:1:2:observer|h:3:4:participant", "different roles"),
            ("h:1:2;a:b:1", "not a client address"),
            ("h:1:2;1;2;3", "too many parts"),
            ("[::1:1:2", "no matching ]"),
            ("[::1]:", "no port after the colon"),
            ("[::1]1:2", "expected a colon"),
        ] {
            let error = Member::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
