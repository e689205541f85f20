//! What is wrong with a membership.

use crate::types::ServerId;
use thiserror::Error;

/// Why a membership is not valid.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[allow(missing_docs)]
pub enum QuorumError {
    #[error("no server is a participant: an ensemble needs at least one that votes")]
    NoVoter,
    #[error("server {} is in group {first} and in group {second}: every participant must be in exactly one", .server.0)]
    TwoGroups { server: ServerId, first: i64, second: i64 },
    #[error("server {} is a participant but in no group: add it to a group.N line", .0.0)]
    NoGroup(ServerId),
    #[error("server {} is in group {group} but is not a participant and has no weight: add a weight.N line or remove it from the group", .server.0)]
    NoWeight { server: ServerId, group: i64 },
    #[error("weight {weight} of server {} is negative: write 0 or more", .server.0)]
    NegativeWeight { server: ServerId, weight: i64 },
    #[error("the weights of group {0} add up to more than 2^63-1")]
    HeavyGroup(i64),
    #[error("no group has any weight, so no set of servers could be a quorum: give a server a positive weight")]
    NoWeightAtAll,
}
