//! The built server as a process: it is started, used, stopped and killed as operators and clients do.

pub mod server;
pub mod wire;

mod clients;
mod confined;
mod damage;
mod ends;
mod ensemble;
mod hostile;
mod hostile_many;
mod limits;
mod logging;
mod member;
mod pipelines;
mod reliability;
mod sessions;
mod signals;
mod small_disk;
mod snapshots;
mod start;
mod stop_and_kill;
mod throttle;
mod verify;
mod words;
