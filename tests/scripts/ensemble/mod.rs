//! Scripts of whole members of an ensemble: the shipped turn of the peer core with its log, its snapshot writer and the reader
//! of its disk, and a network of which every packet can be seen. Some of the servers may be played by the script.
//! `README.md` in the folder above explains the commands.

mod clients;
mod hand;
mod logs;
mod net;
mod run;
mod shards;
mod show;
mod world;

pub use world::World;
