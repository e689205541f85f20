//! Servers among each other.

mod bytes;
mod recorded;
