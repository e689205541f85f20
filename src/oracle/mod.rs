//! What the server is judged by, never part of the server: naive models of its parts, judges that compare, a disk that forgets.
//! For unit tests, the simulator, `tests/` and `tools/`; there only with the feature `sim`.
//!
//! * [`tree_model`]: the twin of the tree; [`server_model`]: of prep and apply together; [`watch_model`]: of a watch table.
//! * [`judge`]: requests made of bytes, and what prep and tree make of them beside the models.
//! * [`test_disk`]: a directory in memory with a disk's faults; [`replica`]: all that a recovery brings back, byte by byte.
//! * [`memory`]: what the shipped turns run over without threads, locks and sockets.

pub mod judge;
pub mod memory;
pub mod replica;
pub mod server_model;
pub mod test_disk;
pub mod tree_model;
pub mod watch_model;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tree_tests;
