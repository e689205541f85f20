//! What is logged and proposed: header, transaction, digest. Mirrors `TxnHeader`, `SerializeUtils.deserializeTxn` and
//! the records of `org.apache.zookeeper.txn`.

pub mod body;
pub mod header;

pub use body::{CreateKind, CreateTxn, SubTxn, Txn};
pub use header::{TxnDigest, TxnHeader};
