//! zoo.cfg, `-D` properties, `myid` and the dynamic file, made into one typed [`Config`]. Mirrors `QuorumPeerConfig` and
//! `ServerConfig`. This module and `runtime` are the only ones that read files and names from the host.

mod address;
mod check;
mod draft;
mod ensemble;
mod error;
mod exit;
mod files;
pub mod keys;
mod load;
mod member_lines;
mod properties;
mod settings;

pub use address::{HostAddr, host_and_port, socket_addresses};
pub use ensemble::Ensemble;
pub use error::{ConfigError, Problem, Warning};
pub use exit::ExitCode;
pub use files::{Files, HostFiles};
pub use keys::decode;
pub use properties::{Entry, parse as parse_properties};
pub use settings::*;
