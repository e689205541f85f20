//! Scripts of elections: servers with the shipped election and links (`zab::messenger`), and a network between them of
//! which every step can be seen. `README.md` in the folder above explains the commands.

mod hand;
mod net;
pub mod show;
mod world;

pub use world::World;
