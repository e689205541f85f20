//! Reads zoo.cfg, `-D` properties, `myid` and the dynamic configuration file into one typed [`Config`]. Mirrors
//! `QuorumPeerConfig` and `ServerConfig`. Below `cli`, only this module and `runtime` read files or resolve names on
//! the host.

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
mod membership;
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
