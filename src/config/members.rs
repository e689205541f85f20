//! `server.N`, `group.N` and `weight.N` lines. Mirrors `QuorumPeer.QuorumServer` and the parsing in `QuorumMaj` and
//! `QuorumHierarchical`. Host names stay text here: they are resolved where they are used, again and again.

use std::collections::BTreeMap;

use super::error::Problem;

/// Whether a server votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Role {
    #[default]
    Participant,
    Observer,
}

impl Role {
    /// `participant` or `observer`, in any case.
    pub fn parse(text: &str) -> Result<Role, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "participant" => Ok(Role::Participant),
            "observer" => Ok(Role::Observer),
            _ => Err(format!("unrecognised peer type {text:?}: write participant or observer")),
        }
    }
}

/// One `host:quorumPort:electionPort`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct PeerAddress {
    pub host: String,
    pub quorum_port: u16,
    pub election_port: u16,
}

/// A host, as text, and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// One `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// At least one.
    pub addresses: Vec<PeerAddress>,
    /// Whether it votes.
    pub role: Role,
    /// Its client port, if the line names one.
    pub client: Option<HostPort>,
    /// Its TLS client port, if the line names one.
    pub secure_client: Option<HostPort>,
}

/// All lines about members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// By server id.
    pub servers: BTreeMap<i64, Member>,
    /// Group id to server ids, as written.
    pub groups: BTreeMap<i64, Vec<i64>>,
    /// Server id to weight; a server not named weighs 1.
    pub weights: BTreeMap<i64, i64>,
    /// Version of the membership, 0 unless the dynamic file's name carries one.
    pub version: i64,
}

const FORM: &str = "write host:quorumPort:electionPort, then optionally :participant or :observer, further addresses after |, \
                    and ;clientPort or ;clientHost:clientPort";

impl Members {
    /// Whether a key is one of these lines. ZooKeeper looks at the beginning only.
    /// (`server.realm` is a property of Kerberos clients, told apart so that the message can say so.)
    pub fn owns(key: &str) -> bool {
        (key.starts_with("server.") || key.starts_with("group") || key.starts_with("weight")) && key != "server.realm"
    }

    /// Takes one line; `several` allows more than one address.
    pub fn take(&mut self, key: &str, value: &str, several: bool) -> Result<(), String> {
        let id = key.split_once('.').map_or("", |(_, id)| id);
        let id: i64 = id.parse().map_err(|_| format!("{id:?} is not a number: write server.1, group.1 or weight.1"))?;
        if key.starts_with("server.") {
            self.servers.insert(id, parse_member(id, value, several)?);
        } else if key.starts_with("group") {
            let sids: Result<Vec<i64>, _> = value.split(':').map(|s| s.trim().parse()).collect();
            let sids = sids.map_err(|_| format!("{value:?} is not a list of server numbers: write 1:2:3"))?;
            let others = self.groups.iter().filter(|(gid, _)| **gid != id);
            let taken: Vec<i64> = others.flat_map(|(_, sids)| sids).copied().collect();
            for (i, sid) in sids.iter().enumerate() {
                if taken.contains(sid) || sids[..i].contains(sid) {
                    return Err(format!("server {sid} is in multiple groups: name it once"));
                }
            }
            self.groups.insert(id, sids);
        } else {
            let weight = value.parse().map_err(|_| format!("{value:?} is not a number: write a weight such as 1"))?;
            self.weights.insert(id, weight);
        }
        Ok(())
    }

    /// Members that vote.
    pub fn participants(&self) -> usize {
        self.servers.values().filter(|m| m.role == Role::Participant).count()
    }

    /// Members that do not.
    pub fn observers(&self) -> usize {
        self.servers.len() - self.participants()
    }

    /// Whether groups or weights are given.
    pub fn is_hierarchical(&self) -> bool {
        !self.groups.is_empty() || !self.weights.is_empty()
    }

    /// What is wrong with the lines together. `place` names their file.
    pub fn check(&self, place: &str, standalone_enabled: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |what: String| problems.push(Problem::new(place, "", what));
        match (self.participants(), self.observers()) {
            (0, _) if !standalone_enabled => {
                wrong("standaloneEnabled=false needs at least one participant: add server.N lines".into());
            }
            (0, 1..) => wrong("observers without participants are an invalid configuration: add participants".into()),
            (1, 1..) if standalone_enabled => {
                wrong("observers without a quorum are an invalid configuration: add participants".into());
            }
            _ => {}
        }
        if self.is_hierarchical() {
            let grouped: Vec<&i64> = self.groups.values().flatten().collect();
            for (sid, member) in &self.servers {
                if member.role == Role::Participant && !grouped.contains(&sid) {
                    wrong(format!("server {sid} is not in a group: name it in a group.N line"));
                }
            }
        }
        problems
    }
}

fn parse_member(sid: i64, text: &str, several: bool) -> Result<Member, String> {
    let mut parts = text.split(';').map(str::trim);
    let servers: Vec<&str> = parts.next().unwrap_or("").split('|').collect();
    let client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
    let secure_client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
    if parts.next().is_some() {
        return Err(format!("{text:?} has too many parts: {FORM}"));
    }
    if servers.len() > 1 && !several {
        return Err(format!(
            "multiple address feature is disabled, but server {sid} has {} addresses: set multiAddress.enabled=true or keep one",
            servers.len()
        ));
    }
    let mut addresses = Vec::new();
    let mut role: Option<Role> = None;
    for server in servers {
        let (address, its_role) = parse_server(sid, server)?;
        if let Some(its_role) = its_role {
            if role.is_some_and(|r| r != its_role) {
                return Err(format!("the addresses of server {sid} have different roles: give all the same"));
            }
            role = Some(its_role);
        }
        addresses.push(address);
    }
    Ok(Member { addresses, role: role.unwrap_or_default(), client, secure_client })
}

fn parse_server(sid: i64, text: &str) -> Result<(PeerAddress, Option<Role>), String> {
    let parts = host_and_ports(text)?;
    let (host, quorum, election, role) = match parts.as_slice() {
        [host, quorum, election] => (host, quorum, election, None),
        [host, quorum, election, role] => (host, quorum, election, Some(Role::parse(role)?)),
        [_, _] => return Err(format!("missing election port for server {sid}: {FORM}")),
        _ => return Err(format!("{text:?} is not a server address: {FORM}")),
    };
    if host.is_empty() {
        return Err(format!("{text:?} names no host: {FORM}"));
    }
    let address =
        PeerAddress { host: host.clone(), quorum_port: parse_port(quorum)?, election_port: parse_port(election)? };
    if address.quorum_port == address.election_port {
        return Err(format!("quorum and election port of server {sid} must be different"));
    }
    Ok((address, role))
}

fn parse_client(text: &str) -> Result<HostPort, String> {
    match host_and_ports(text)?.as_slice() {
        [port] => Ok(HostPort { host: "0.0.0.0".into(), port: parse_port(port)? }),
        [host, port] => Ok(HostPort { host: host.clone(), port: parse_port(port)? }),
        _ => Err(format!("{text:?} is not a client address: {FORM}")),
    }
}

/// Splits at colons, but not inside the brackets of an IPv6 address, which are taken off.
fn host_and_ports(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('[') else {
        return Ok(text.split(':').map(str::to_string).collect());
    };
    let Some((host, rest)) = inner.split_once(']') else {
        return Err(format!("{text:?} starts with [ but has no matching ]:"));
    };
    let mut parts = vec![host.to_string()];
    match rest.strip_prefix(':') {
        Some("") => return Err(format!("{text:?} has no port after the colon")),
        Some(ports) => parts.extend(ports.split(':').map(str::to_string)),
        None if rest.is_empty() => {}
        None => return Err(format!("{text:?}: expected a colon after ]")),
    }
    Ok(parts)
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a port: write a number from 0 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<Member, String> {
        let mut members = Members::default();
        members.take("server.1", text, true)?;
        Ok(members.servers.remove(&1).expect("taken"))
    }

    #[test]
    fn addresses() {
        let m = member("h1:2888:3888").expect("parses");
        assert_eq!(m.addresses, [PeerAddress { host: "h1".into(), quorum_port: 2888, election_port: 3888 }]);
        assert_eq!((m.role, m.client), (Role::Participant, None));
        let m = member("[::1]:2888:3888:observer;[fe80::1]:2181").expect("parses");
        assert_eq!(m.addresses[0].host, "::1");
        assert_eq!(m.role, Role::Observer);
        assert_eq!(m.client, Some(HostPort { host: "fe80::1".into(), port: 2181 }));
        let m = member("a:1:2|b:3:4:Participant;2181;s:2182").expect("parses");
        assert_eq!(m.addresses.len(), 2);
        assert_eq!(m.client, Some(HostPort { host: "0.0.0.0".into(), port: 2181 }));
        assert_eq!(m.secure_client, Some(HostPort { host: "s".into(), port: 2182 }));
    }

    #[test]
    fn bad_addresses() {
        for (text, part) in [
            ("", "not a server address"),
            ("h:2888", "missing election port"),
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
            let error = member(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = Members::default().take("server.1", "a:1:2|b:3:4", false).expect_err("must fail");
        assert!(error.contains("multiple address feature is disabled"), "{error}");
        assert!(Members::default().take("server.x", "a:1:2", false).is_err());
    }

    #[test]
    fn groups_and_weights() {
        let mut members = Members::default();
        for (key, value) in [("server.1", "a:1:2"), ("server.2", "b:1:2"), ("group.1", "1"), ("weight.1", "3")] {
            members.take(key, value, false).expect("taken");
        }
        assert!(members.is_hierarchical());
        let problems = members.check("f", true);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains("server 2 is not in a group"), "{}", problems[0]);
        assert!(members.take("group.2", "2:1", false).expect_err("taken").contains("multiple groups"));
        members.take("group.2", "2", false).expect("taken");
        assert!(members.check("f", true).is_empty());
        assert!(members.take("weight.1", "x", false).is_err());
    }

    #[test]
    fn counts() {
        let mut members = Members::default();
        assert!(members.check("f", true).is_empty());
        assert_eq!(members.check("f", false).len(), 1);
        members.take("server.2", "b:1:2:observer", false).expect("taken");
        assert_eq!(members.check("f", true).len(), 1);
        members.take("server.1", "a:1:2", false).expect("taken");
        assert_eq!(members.check("f", true).len(), 1, "one voter and an observer");
        assert!(members.check("f", false).is_empty());
    }
}
