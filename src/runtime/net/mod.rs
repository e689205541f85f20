//! All TCP sockets of one core: connections of clients, and those to other servers. Plays the part of
//! `NIOServerCnxnFactory` and its selector threads.
//!
//! There are two back ends with the same behaviour: [`uring`] and [`epoll`]. [`Backend`] names the one to use, and
//! [`choose`] finds out which one this host allows.
//!
//! Everything happens on the thread that created the [`Net`]; only a [`Waker`] is used from other threads. A turn of a
//! core is: [`reap`](Net::reap) (handle what has arrived), the work of the state machines, which append replies to
//! [`out`](Net::out), then [`flush`](Net::flush) (one send per connection), and [`park`](Net::park) if there was
//! nothing to do.
//!
//! A connection begins with `Accepted`, with `Connected` after [`connect`](Net::connect), or with the return of
//! [`adopt`](Net::adopt). After that its owner gets any number of `Data` and at most one `Eof`, which means that the
//! peer sends no more but can still read: answer, then `close`. At the end either the owner calls [`close`](Net::close)
//! and gets no further events, or it gets `Closed`. From then on the id is invalid, and every call ignores it.
//!
//! Memory: a slot is reused only after the kernel has ended all operations on it, so a late completion cannot be taken
//! for one of the slot's next connection. Unsent bytes stay in the connection's buffers; their owner limits them by
//! watching [`queued`](Net::queued). Received bytes are limited by `NetOptions::buffers`, and the owner can limit them
//! further with [`pause_recv`](Net::pause_recv).

mod conn;
mod descriptors;
mod driver;
mod epoll;
mod error;
mod event;
mod listen;
mod probe;
mod socket;
mod table;
#[cfg(test)]
pub(in crate::runtime) mod tests;
mod transport;
mod uring;
mod waker;

pub use error::NetError;
pub use event::{Backend, Close, NetEvent, NetOptions, NetStats, Parked};
pub use listen::{BindError, ListenAddr, ListenOptions, listen, listen_now};
pub use probe::{Choice, choose};
pub use transport::Net;
pub use waker::Waker;
