//! Test oracles; never part of the shipped server: naive models of its parts, judges that compare the server with them,
//! and a disk with faults. For unit tests, the simulator, `tests/` and `tools/`. Only built with the feature `sim`.
//!
//! * [`tree_model`]: a model of the tree; [`server_model`]: of prep and apply together; [`watch_model`]: of a watch
//!   table.
//! * [`judge`]: makes requests out of bytes, and compares what prep and tree make of them with the models.
//! * [`test_disk`]: a directory in memory with a disk's faults; [`replica`]: everything that a recovery restores, byte
//!   by byte.
//! * [`learner`]: a learner's owner and disk, which judge what it wants.
//! * [`memory`]: what the shipped turns run over without threads, locks and sockets.

pub mod judge;
pub mod learner;
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
