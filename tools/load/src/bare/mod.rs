//! Bounds of the machine itself, measured with the same generator and the same sizes: a bare io_uring server that answers
//! frames (`echo`), and one synced append after another (`disk`).

pub mod disk;
pub mod echo;
pub mod ring;
pub mod server;
pub mod sizes;
