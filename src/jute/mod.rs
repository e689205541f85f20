//! Jute, ZooKeeper's serialization: big-endian fields one after another, without tags. Does no I/O and never panics on
//! input. Mirrors `BinaryInputArchive` and `BinaryOutputArchive`.

pub mod acl;
pub mod chunk;
pub mod read;
pub mod stat;
pub mod write;

pub use chunk::Chunk;
pub use read::{JuteError, Reader};
pub use write::Put;
