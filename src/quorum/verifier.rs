//! The two quorum systems behind one type. Mirrors `QuorumVerifier`.

use super::hierarchical::Hierarchical;
use super::majority::Majority;
use super::member::Servers;
use crate::types::ServerId;

/// Decides whether a set of servers is a quorum: any two quorums of one system share a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verifier {
    /// More than half of the voters.
    Majority(Majority),
    /// More than half of the weight in more than half of the groups.
    Hierarchical(Hierarchical),
}

impl Verifier {
    /// Whether the servers for which `has` returns true are a quorum. Calls `has` for voters only.
    pub fn contains_quorum_by(&self, has: impl FnMut(ServerId) -> bool) -> bool {
        match self {
            Verifier::Majority(m) => m.contains_quorum_by(has),
            Verifier::Hierarchical(h) => h.contains_quorum_by(has),
        }
    }

    /// Whether `set` is a quorum. Servers that do not vote are ignored.
    pub fn contains_quorum(&self, set: &Servers) -> bool {
        self.contains_quorum_by(|s| set.contains(&s))
    }

    /// The servers that vote.
    pub fn voters(&self) -> &Servers {
        match self {
            Verifier::Majority(m) => m.voters(),
            Verifier::Hierarchical(h) => h.voters(),
        }
    }

    /// A server's weight; a server with weight 0 cannot be elected leader. With a majority system every server has
    /// weight 1.
    pub fn weight(&self, server: ServerId) -> i64 {
        match self {
            Verifier::Majority(_) => 1,
            Verifier::Hierarchical(h) => h.weight(server),
        }
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        match self {
            Verifier::Majority(m) => m.check(),
            Verifier::Hierarchical(h) => h.check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::QuorumError;
    use std::collections::BTreeMap;

    fn subsets(n: i64) -> Vec<Servers> {
        (0..1u32 << n).map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).map(|i| ServerId(i + 1)).collect()).collect()
    }

    fn intersect(v: &Verifier, n: i64) {
        v.check();
        let quorums: Vec<_> = subsets(n).into_iter().filter(|s| v.contains_quorum(s)).collect();
        assert!(!quorums.is_empty());
        for a in &quorums {
            for b in &quorums {
                assert!(a.intersection(b).any(|s| v.voters().contains(s)), "{a:?} and {b:?} share no voter");
            }
        }
    }

    #[test]
    fn any_two_quorums_share_a_voter() {
        for n in 1..=6 {
            intersect(&Verifier::Majority(Majority::new((1..=n).map(ServerId).collect()).unwrap()), n);
        }
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..40 {
            let mut groups: BTreeMap<i64, Vec<ServerId>> = BTreeMap::new();
            let mut weights = BTreeMap::new();
            for s in (1..=6).map(ServerId) {
                groups.entry(rng.i64(1..=3)).or_default().push(s);
                weights.insert(s, rng.i64(0..4));
            }
            let voters = (1..=6).map(ServerId).collect();
            match Hierarchical::new(voters, groups, weights) {
                Ok(h) => intersect(&Verifier::Hierarchical(h), 6),
                Err(e) => assert_eq!(e, QuorumError::NoWeightAtAll),
            }
        }
    }
}
