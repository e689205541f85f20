//! Quorum systems and the ensemble's membership, as plain data. Mirrors `QuorumVerifier`.

mod error;
pub mod hierarchical;
pub mod majority;
mod member;
mod members;
mod verifier;

pub use error::QuorumError;
pub use hierarchical::Hierarchical;
pub use majority::Majority;
pub use member::{ClientAddress, Member, PeerAddress, Role, Servers};
pub use members::Members;
pub use verifier::Verifier;
