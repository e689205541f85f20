//! The `server.N`, `group.N` and `weight.N` lines, collected and then made into one [`Members`]. Mirrors the parsing in
//! `QuorumMaj` and `QuorumHierarchical`.

use std::collections::{BTreeMap, BTreeSet};

use super::address::host_and_port;
use crate::quorum::{Member, Members, Role};
use crate::types::{ServerId, Zxid};

/// The lines read so far.
#[derive(Clone, Debug)]
pub(super) struct MemberLines {
    servers: BTreeMap<ServerId, Member>,
    groups: BTreeMap<i64, Vec<ServerId>>,
    weights: BTreeMap<ServerId, i64>,
    /// Servers whose line cannot be read, which is a problem of its own.
    unread: BTreeSet<ServerId>,
    /// Version of the membership: from the name of the dynamic configuration file, else 0.
    pub(super) version: Zxid,
}

impl MemberLines {
    pub(super) fn new() -> MemberLines {
        MemberLines {
            servers: BTreeMap::new(),
            groups: BTreeMap::new(),
            weights: BTreeMap::new(),
            unread: BTreeSet::new(),
            version: Zxid::ZERO,
        }
    }

    /// Whether `key` is one of these lines. As in ZooKeeper only the beginning of the key decides. `server.realm` is
    /// the exception: it is a Kerberos property, and a different message refuses it.
    pub(super) fn owns(key: &str) -> bool {
        (key.starts_with("server.") || key.starts_with("group") || key.starts_with("weight")) && key != "server.realm"
    }

    /// Adds one line. `several` says whether a server may have more than one address.
    pub(super) fn take(&mut self, key: &str, value: &str, several: bool) -> Result<(), String> {
        let id = key.split_once('.').map_or("", |(_, id)| id);
        let id: i64 = id.parse().map_err(|_| format!("{id:?} is not a number: write server.1, group.1 or weight.1"))?;
        if key.starts_with("server.") {
            match server(id, value, several) {
                Ok(member) => drop(self.servers.insert(ServerId(id), member)),
                Err(what) => {
                    self.unread.insert(ServerId(id));
                    return Err(what);
                }
            }
        } else if key.starts_with("group") {
            let servers: Result<Vec<ServerId>, _> = value.split(':').map(|s| s.trim().parse().map(ServerId)).collect();
            let servers = servers.map_err(|_| format!("{value:?} is not a list of server numbers: write 1:2:3"))?;
            self.groups.insert(id, servers);
        } else {
            let weight = value.parse().map_err(|_| format!("{value:?} is not a number: write a weight such as 1"))?;
            self.weights.insert(ServerId(id), weight);
        }
        Ok(())
    }

    /// The line of one server.
    pub(super) fn get(&self, id: i64) -> Option<&Member> {
        self.servers.get(&ServerId(id))
    }

    /// Whether there are lines that cannot be read.
    pub(super) fn are_incomplete(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether there is a line of this server that cannot be read.
    pub(super) fn is_unread(&self, id: i64) -> bool {
        self.unread.contains(&ServerId(id))
    }

    /// Two servers with the same host and one of its ports, and that address.
    pub(super) fn with_equal_address(&self) -> Option<(i64, i64, String)> {
        let mut seen = BTreeMap::new();
        for (id, member) in &self.servers {
            let ports = member.addresses.iter().flat_map(|a| [(&a.host, a.quorum_port), (&a.host, a.election_port)]);
            for (host, port) in ports {
                if let Some(other) = seen.insert((host, port), id.0).filter(|other| *other != id.0) {
                    return Some((other, id.0, host_and_port(host, port)));
                }
            }
        }
        None
    }

    /// Whether there is no server line.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The ids of the servers, as text for messages.
    pub(super) fn ids(&self) -> String {
        let ids: Vec<String> = self.servers.keys().map(|id| id.0.to_string()).collect();
        ids.join(", ")
    }

    /// The ids of the servers, in ascending order.
    pub(super) fn all(&self) -> impl Iterator<Item = i64> {
        self.servers.keys().map(|id| id.0)
    }

    /// Two servers whose sessions may get the same id, since that has only the lowest byte of the server's.
    pub(super) fn with_equal_low_byte(&self) -> Option<(i64, i64)> {
        let mut seen = BTreeMap::new();
        self.all().find_map(|id| seen.insert(id as u8, id).map(|other| (other, id)))
    }

    /// The number of servers that vote.
    pub(super) fn participants(&self) -> usize {
        self.servers.values().filter(|m| m.role == Role::Participant).count()
    }

    /// The membership that all lines describe together; `None` if there is no `server.N` line.
    ///
    /// # Errors
    /// The lines do not form a valid membership; the text says why.
    pub(super) fn members(&self, standalone_enabled: bool) -> Result<Option<Members>, String> {
        let participants = self.participants();
        match (participants, self.servers.len() - participants) {
            (0, _) if !standalone_enabled => {
                return Err("standaloneEnabled=false needs at least one participant: add server.N lines".into());
            }
            (0, 0) => return Ok(None),
            (0, _) => {
                return Err("observers without participants are an invalid configuration: add participants".into());
            }
            (1, 1..) if standalone_enabled => {
                return Err("observers without a quorum are an invalid configuration: add participants".into());
            }
            _ => {}
        }
        let servers = self.servers.clone();
        let members = if self.groups.is_empty() && self.weights.is_empty() {
            Members::majority(servers, self.version)
        } else {
            Members::hierarchical(servers, self.groups.clone(), self.weights.clone(), self.version)
        };
        members.map(Some).map_err(|e| e.to_string())
    }
}

/// The server of one line.
fn server(id: i64, line: &str, several: bool) -> Result<Member, String> {
    let member = Member::parse(line)?;
    let addresses = member.addresses.len();
    if addresses > 1 && !several {
        return Err(format!(
            "multiple address feature is disabled, but server {id} has {addresses} addresses: set multiAddress.enabled=true or \
             keep one"
        ));
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: &[(&str, &str)]) -> MemberLines {
        let mut lines = MemberLines::new();
        for (key, value) in all {
            lines.take(key, value, false).unwrap_or_else(|e| panic!("{key}={value}: {e}"));
        }
        lines
    }

    #[test]
    fn the_lines_are_the_text_of_the_membership() {
        let majority = [("server.1", "a:1:2:participant"), ("server.3", "[::1]:1:2:observer;h:7")];
        let members = lines(&majority).members(false).expect("good").expect("some");
        assert_eq!(members.text(), "server.1=a:1:2:participant\nserver.3=[::1]:1:2:observer;h:7\nversion=0");
        let groups = [("server.1", "a:1:2"), ("server.2", "b:1:2"), ("group.1", "1:2"), ("weight.2", "3")];
        let members = lines(&groups).members(true).expect("good").expect("some");
        assert!(members.text().ends_with("\ngroup.1=1:2\nweight.1=1\nweight.2=3\nversion=0"), "{}", members.text());
        let none = lines(&[("weight.1", "3")]).members(true).expect("good");
        assert!(none.is_none(), "weights of nobody");
    }

    #[test]
    fn lines_that_are_wrong_alone() {
        for (key, value, part) in [
            ("server.1", "a:1:2|b:3:4", "multiple address feature is disabled"),
            ("server.x", "a:1:2", "\"x\" is not a number"),
            ("group.1", "1:x", "not a list of server numbers"),
            ("weight.1", "x", "write a weight"),
        ] {
            let error = MemberLines::new().take(key, value, false).expect_err(value);
            assert!(error.contains(part), "{key}={value}: {error}");
        }
        MemberLines::new().take("server.1", "a:1:2|b:3:4", true).expect("several are allowed");
    }

    #[test]
    fn lines_that_are_wrong_together() {
        let (voter, observer) = (("server.1", "a:1:2"), ("server.2", "b:1:2:observer"));
        let other = ("server.3", "c:1:2");
        for (all, standalone, part) in [
            (&[][..], false, "needs at least one participant"),
            (&[observer], true, "observers without participants"),
            (&[voter, observer], true, "observers without a quorum"),
            (&[voter, other, ("group.1", "1")], true, "server 3 is a participant but in no group"),
            (&[voter, ("group.1", "1"), ("group.2", "1")], true, "server 1 is in group 1 and in group 2"),
            (&[voter, ("group.1", "1:1")], true, "server 1 is in group 1 and in group 1"),
            (&[voter, ("group.1", "1"), ("weight.1", "-1")], true, "is negative"),
        ] {
            let error = lines(all).members(standalone).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert!(lines(&[voter, observer]).members(false).expect("good").is_some());
    }
}
