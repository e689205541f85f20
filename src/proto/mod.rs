//! The records of the client protocol. Each can be both read and written: the server reads requests and writes replies;
//! the shell, the simulator's clients, tests and tools do the opposite. Mirrors `org.apache.zookeeper.proto`.

pub mod connect;
pub mod four_letter;
pub mod multi;
pub mod record;
pub mod reply;
pub mod request;
pub mod response;

pub use connect::{ConnectRequest, ConnectResponse};
pub use record::CreateRequest;
pub use reply::{ReplyHeader, WatcherEvent};
pub use request::{Request, RequestHeader};
