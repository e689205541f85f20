//! Servers among each other.

mod bytes;
mod election;
mod recorded;
