//! Groups of weighted servers: more than half of the weight in more than half of the groups. Mirrors `QuorumHierarchical`.

use super::error::QuorumError;
use super::member::Servers;
use crate::types::ServerId;
use std::collections::BTreeMap;

/// The hierarchical system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchical {
    voters: Servers,
    weights: BTreeMap<ServerId, i64>,
    groups: BTreeMap<i64, Group>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    servers: Servers,
    weight: i64,
}

impl Hierarchical {
    /// A system of these voters. Each must be in exactly one group; one without a weight gets weight 1. As in ZooKeeper
    /// a group may also contain a server that does not vote, if it has a weight. That weight is part of the group's
    /// total, so it makes the group harder to win.
    pub fn new(
        voters: Servers,
        groups: BTreeMap<i64, Vec<ServerId>>,
        mut weights: BTreeMap<ServerId, i64>,
    ) -> Result<Hierarchical, QuorumError> {
        if voters.is_empty() {
            return Err(QuorumError::NoVoter);
        }
        if let Some((server, weight)) = weights.iter().find(|(_, w)| **w < 0) {
            return Err(QuorumError::NegativeWeight { server: *server, weight: *weight });
        }
        for voter in &voters {
            weights.entry(*voter).or_insert(1);
        }
        let mut group_of = BTreeMap::new();
        let mut built = BTreeMap::new();
        for (gid, servers) in groups {
            let mut group = Group { servers: Servers::new(), weight: 0 };
            for server in servers {
                if let Some(first) = group_of.insert(server, gid) {
                    return Err(QuorumError::TwoGroups { server, first, second: gid });
                }
                let weight = weights.get(&server).ok_or(QuorumError::NoWeight { server, group: gid })?;
                group.weight = group.weight.checked_add(*weight).ok_or(QuorumError::HeavyGroup(gid))?;
                group.servers.insert(server);
            }
            built.insert(gid, group);
        }
        if let Some(voter) = voters.iter().find(|v| !group_of.contains_key(v)) {
            return Err(QuorumError::NoGroup(*voter));
        }
        if built.values().all(|g| g.weight == 0) {
            return Err(QuorumError::NoWeightAtAll);
        }
        Ok(Hierarchical { voters, weights, groups: built })
    }

    /// The servers that vote.
    pub fn voters(&self) -> &Servers {
        &self.voters
    }

    /// A server's weight; 0 for an unknown server.
    pub fn weight(&self, server: ServerId) -> i64 {
        self.weights.get(&server).copied().unwrap_or(0)
    }

    /// The groups and their servers, in ascending order.
    pub fn groups(&self) -> impl Iterator<Item = (i64, &Servers)> {
        self.groups.iter().map(|(gid, g)| (*gid, &g.servers))
    }

    /// All weights, including the default ones, in ascending order of the servers.
    pub fn weights(&self) -> impl Iterator<Item = (ServerId, i64)> {
        self.weights.iter().map(|(s, w)| (*s, *w))
    }

    /// Whether the voters for which `has` returns true are a quorum. Groups without weight are not counted.
    pub fn contains_quorum_by(&self, mut has: impl FnMut(ServerId) -> bool) -> bool {
        let (mut groups, mut won) = (0, 0);
        for group in self.groups.values().filter(|g| g.weight > 0) {
            groups += 1;
            let voting = group.servers.iter().filter(|s| self.voters.contains(s) && has(**s));
            let weight: i64 = voting.map(|s| self.weight(*s)).sum();
            won += usize::from(weight > group.weight / 2);
        }
        won > groups / 2
    }

    /// Whether `set` is a quorum. Servers that do not vote are ignored.
    pub fn contains_quorum(&self, set: &Servers) -> bool {
        self.contains_quorum_by(|s| set.contains(&s))
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        for (gid, group) in &self.groups {
            assert_eq!(
                group.servers.iter().map(|s| self.weight(*s)).sum::<i64>(),
                group.weight,
                "weight of group {gid}"
            );
        }
        for voter in &self.voters {
            let groups = self.groups.values().filter(|g| g.servers.contains(voter)).count();
            assert_eq!(groups, 1, "groups of server {}", voter.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i64]) -> Servers {
        ids.iter().copied().map(ServerId).collect()
    }

    fn groups(of: &[(i64, &[i64])]) -> BTreeMap<i64, Vec<ServerId>> {
        of.iter().map(|(gid, ids)| (*gid, ids.iter().copied().map(ServerId).collect())).collect()
    }

    fn weights(of: &[(i64, i64)]) -> BTreeMap<ServerId, i64> {
        of.iter().map(|(s, w)| (ServerId(*s), *w)).collect()
    }

    #[test]
    fn two_of_three_groups_of_three() {
        let voters = (1..=9).map(ServerId).collect();
        let three = groups(&[(1, &[1, 2, 3]), (2, &[4, 5, 6]), (3, &[7, 8, 9])]);
        let h = Hierarchical::new(voters, three, BTreeMap::new()).unwrap();
        h.check();
        assert!(h.contains_quorum(&set(&[1, 2, 4, 5])));
        assert!(!h.contains_quorum(&set(&[1, 2, 3, 4, 7])), "one group won, two with a third each");
        assert!(!h.contains_quorum(&set(&[])));
    }

    #[test]
    fn weight_decides_and_weightless_groups_are_left_out() {
        let three = groups(&[(1, &[1, 2]), (2, &[3]), (3, &[4])]);
        let w = weights(&[(1, 3), (2, 2), (3, 0), (4, 1)]);
        let h = Hierarchical::new((1..=4).map(ServerId).collect(), three, w).unwrap();
        assert!(h.contains_quorum(&set(&[1, 4])), "two groups count");
        assert!(!h.contains_quorum(&set(&[1, 2, 3])), "server 3's group does not");
        assert!(!h.contains_quorum(&set(&[2, 4])), "2 of 5 is not half");
        assert_eq!((h.weight(ServerId(3)), h.weight(ServerId(77))), (0, 0));
    }

    #[test]
    fn a_weighted_observer_weighs_on_its_group_without_voting() {
        let h = Hierarchical::new(set(&[1, 2]), groups(&[(1, &[1, 2, 3])]), weights(&[(3, 2)])).unwrap();
        assert!(!h.contains_quorum(&set(&[1, 3])));
        assert!(!h.contains_quorum(&set(&[1, 2])), "2 of 4");
    }

    #[test]
    fn what_is_no_system_is_refused() {
        let new = |g: &[(i64, &[i64])], w: &[(i64, i64)]| Hierarchical::new(set(&[1, 2]), groups(g), weights(w)).err();
        let (one, two) = (ServerId(1), ServerId(2));
        let e = QuorumError::TwoGroups { server: one, first: 1, second: 2 };
        assert_eq!(new(&[(1, &[1, 2]), (2, &[1])], &[]), Some(e));
        assert_eq!(new(&[(1, &[1])], &[]), Some(QuorumError::NoGroup(two)));
        assert_eq!(new(&[(1, &[1, 2, 3])], &[]), Some(QuorumError::NoWeight { server: ServerId(3), group: 1 }));
        assert_eq!(new(&[(1, &[1, 2])], &[(2, -1)]), Some(QuorumError::NegativeWeight { server: two, weight: -1 }));
        assert_eq!(new(&[(1, &[1, 2])], &[(1, i64::MAX)]), Some(QuorumError::HeavyGroup(1)));
        assert_eq!(new(&[(1, &[1, 2])], &[(1, 0), (2, 0)]), Some(QuorumError::NoWeightAtAll));
        assert_eq!(Hierarchical::new(set(&[]), groups(&[]), weights(&[])).err(), Some(QuorumError::NoVoter));
    }
}
