//! More than half of the voters. Mirrors `QuorumMaj`.

use super::error::QuorumError;
use super::member::Servers;
use crate::types::ServerId;

/// The majority system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Majority {
    voters: Servers,
}

impl Majority {
    /// A majority system of these voters. Fails if there are none.
    pub fn new(voters: Servers) -> Result<Majority, QuorumError> {
        if voters.is_empty() { Err(QuorumError::NoVoter) } else { Ok(Majority { voters }) }
    }

    /// The servers that vote.
    pub fn voters(&self) -> &Servers {
        &self.voters
    }

    /// Whether the voters for which `has` returns true are a quorum.
    pub fn contains_quorum_by(&self, mut has: impl FnMut(ServerId) -> bool) -> bool {
        self.voters.iter().filter(|s| has(**s)).count() > self.voters.len() / 2
    }

    /// Whether `set` is a quorum. Servers that do not vote are ignored.
    pub fn contains_quorum(&self, set: &Servers) -> bool {
        self.contains_quorum_by(|s| set.contains(&s))
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        assert!(!self.voters.is_empty(), "a majority system without voters");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i64]) -> Servers {
        ids.iter().copied().map(ServerId).collect()
    }

    #[test]
    fn half_is_not_enough_and_strangers_do_not_count() {
        let four = Majority::new(set(&[1, 2, 3, 4])).unwrap();
        assert!(!four.contains_quorum(&set(&[1, 2])));
        assert!(four.contains_quorum(&set(&[1, 2, 4])));
        assert!(!four.contains_quorum(&set(&[1, 2, 7, 8])), "observers are no voters");
        let one = Majority::new(set(&[1])).unwrap();
        assert!(one.contains_quorum(&set(&[1])) && !one.contains_quorum(&set(&[])));
        assert_eq!(Majority::new(set(&[])), Err(QuorumError::NoVoter));
    }
}
