//! The limits of the machine itself, measured with the same generator and the same sizes: a bare io_uring server that
//! answers frames (`echo`), and synced appends (`disk`).

pub mod disk;
pub mod echo;
pub mod ring;
pub mod server;
pub mod sizes;
