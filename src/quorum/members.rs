//! The ensemble's membership: servers, quorum system, version, and the text form that clients and other servers see.
//! Mirrors `toString` of ZooKeeper's quorum verifiers.

use super::error::QuorumError;
use super::hierarchical::Hierarchical;
use super::majority::Majority;
use super::member::{Member, Role, Servers};
use super::verifier::Verifier;
use crate::types::{ServerId, Zxid};
use std::collections::BTreeMap;

/// One version of the ensemble's membership, with its quorum system.
///
/// The version is the zxid of the reconfig that made it; 0 means that it comes from the configuration files. Servers
/// take two memberships with the same version for equal, so no version may be used for two different texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    members: BTreeMap<ServerId, Member>,
    verifier: Verifier,
    version: Zxid,
    standalone: bool,
}

impl Members {
    /// A single server without peers, which is a quorum by itself. Its text form is empty.
    pub fn standalone(server: ServerId) -> Members {
        let member = Member { addresses: Vec::new(), role: Role::Participant, client: None, secure_client: None };
        match Members::majority(BTreeMap::from([(server, member)]), Zxid::ZERO) {
            Ok(members) => Members { standalone: true, ..members },
            Err(e) => unreachable!("one participant is a membership: {e}"),
        }
    }

    /// An ensemble in which a majority of the participants is a quorum.
    pub fn majority(members: BTreeMap<ServerId, Member>, version: Zxid) -> Result<Members, QuorumError> {
        let verifier = Verifier::Majority(Majority::new(voters(&members))?);
        Ok(Members { members, verifier, version, standalone: false })
    }

    /// An ensemble whose quorums are formed by groups (`group.N=`) and weights (`weight.N=`).
    pub fn hierarchical(
        members: BTreeMap<ServerId, Member>,
        groups: BTreeMap<i64, Vec<ServerId>>,
        weights: BTreeMap<ServerId, i64>,
        version: Zxid,
    ) -> Result<Members, QuorumError> {
        let verifier = Verifier::Hierarchical(Hierarchical::new(voters(&members), groups, weights)?);
        Ok(Members { members, verifier, version, standalone: false })
    }

    /// Whether this is [`Members::standalone`].
    pub fn is_standalone(&self) -> bool {
        self.standalone
    }

    /// The version.
    pub fn version(&self) -> Zxid {
        self.version
    }

    /// The same membership under another version.
    pub fn with_version(self, version: Zxid) -> Members {
        Members { version, ..self }
    }

    /// Whether two memberships have the same servers and quorums.
    pub fn is_same_but_for_version(&self, other: &Members) -> bool {
        self.members == other.members && self.verifier == other.verifier && self.standalone == other.standalone
    }

    /// The quorum system.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Whether `set` is a quorum.
    pub fn contains_quorum(&self, set: &Servers) -> bool {
        self.verifier.contains_quorum(set)
    }

    /// All servers in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ServerId, &Member)> {
        self.members.iter().map(|(id, m)| (*id, m))
    }

    /// One server.
    pub fn get(&self, server: ServerId) -> Option<&Member> {
        self.members.get(&server)
    }

    /// The servers that vote.
    pub fn voters(&self) -> &Servers {
        self.verifier.voters()
    }

    /// The servers that do not vote.
    pub fn observers(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, m)| m.role == Role::Observer).map(|(id, _)| *id)
    }

    /// The text form: `server.`, `group.` and `weight.` lines and the version, without a newline at the end. It is the
    /// data of `/zookeeper/config`, is sent in NEWLEADER and is logged by a reconfig. Empty for a standalone server.
    pub fn text(&self) -> String {
        if self.standalone {
            return String::new();
        }
        let mut text = String::new();
        for (id, member) in &self.members {
            text += &format!("server.{}={member}\n", id.0);
        }
        if let Verifier::Hierarchical(h) = &self.verifier {
            for (gid, servers) in h.groups().filter(|(_, s)| !s.is_empty()) {
                let ids: Vec<_> = servers.iter().map(|s| s.0.to_string()).collect();
                text += &format!("group.{gid}={}\n", ids.join(":"));
            }
            for (server, weight) in h.weights() {
                text += &format!("weight.{}={weight}\n", server.0);
            }
        }
        text + &format!("version={:x}", self.version.0)
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        assert_eq!(*self.voters(), voters(&self.members), "the quorum system has other voters than the members");
        assert!(!self.standalone || self.members.len() == 1, "a standalone server has peers");
        self.verifier.check();
    }
}

fn voters(members: &BTreeMap<ServerId, Member>) -> Servers {
    members.iter().filter(|(_, m)| m.role == Role::Participant).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::{ClientAddress, PeerAddress};

    fn member(hosts: &[&str], role: Role, client: Option<(&str, u16)>) -> Member {
        let address = |h: &&str| PeerAddress { host: h.to_string(), quorum_port: 2888, election_port: 3888 };
        let client = client.map(|(host, port)| ClientAddress { host: host.to_string(), port });
        Member { addresses: hosts.iter().map(address).collect(), role, client, secure_client: None }
    }

    fn three() -> BTreeMap<ServerId, Member> {
        BTreeMap::from([
            (ServerId(10), member(&["::1"], Role::Observer, Some(("::", 2183)))),
            (ServerId(2), member(&["zb", "za"], Role::Participant, None)),
            (ServerId(1), member(&["127.0.0.1"], Role::Participant, Some(("0.0.0.0", 2181)))),
        ])
    }

    const SERVERS: &str = "server.1=127.0.0.1:2888:3888:participant;0.0.0.0:2181\n\
                           server.2=za:2888:3888|zb:2888:3888:participant\n\
                           server.10=[::1]:2888:3888:observer;[::]:2183\n";

    #[test]
    fn text_of_a_majority() {
        let m = Members::majority(three(), Zxid(0x1_0000_0abc)).unwrap();
        m.check();
        assert_eq!(m.text(), format!("{SERVERS}version=100000abc"));
        assert_eq!(m.voters().iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(m.observers().collect::<Vec<_>>(), [ServerId(10)]);
        assert!(!m.contains_quorum(&[ServerId(1), ServerId(10)].into()));
        assert!(m.with_version(Zxid::ZERO).text().ends_with("\nversion=0"));
    }

    #[test]
    fn text_of_a_hierarchy_shows_defaulted_weights() {
        let groups = BTreeMap::from([(2, vec![ServerId(2)]), (1, vec![ServerId(1)])]);
        let m = Members::hierarchical(three(), groups, [(ServerId(2), 5)].into(), Zxid(7)).unwrap();
        m.check();
        assert_eq!(m.text(), format!("{SERVERS}group.1=1\ngroup.2=2\nweight.1=1\nweight.2=5\nversion=7"));
    }

    #[test]
    fn standalone_is_a_quorum_of_itself_and_shows_nothing() {
        let m = Members::standalone(ServerId(1));
        m.check();
        assert_eq!(m.text(), "");
        assert!(m.contains_quorum(&[ServerId(1)].into()) && !m.contains_quorum(&Servers::new()));
        let observer = BTreeMap::from([(ServerId(1), member(&["a"], Role::Observer, None))]);
        assert_eq!(Members::majority(observer, Zxid::ZERO), Err(QuorumError::NoVoter));
    }
}
