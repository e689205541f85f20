//! The client protocol's records. Mirrors `org.apache.zookeeper.proto`.

pub mod connect;
pub mod four_letter;
pub mod multi;
pub mod reply;
pub mod request;

pub use connect::{ConnectRequest, ConnectResponse};
pub use request::{CreateRequest, Request, RequestHeader};
