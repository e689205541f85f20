//! Learners: recorded terms with one of ours in place of Apache's, random ones, and what goes wrong.

mod chance;
mod mistakes;
mod server;
mod terms;
mod walks;

use zabra::txn::TxnHeader;
use zabra::types::{Cxid, Op, SessionId, Zxid};
use zabra::zab::message::FromLeader;

/// A leader's packet as it is sent.
fn packet(said: FromLeader<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    said.put(&mut bytes);
    bytes
}

/// A refused write, which has a zxid like every other: the shortest transaction.
fn txn(zxid: Zxid) -> Vec<u8> {
    let mut bytes = Vec::new();
    TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid, time_ms: 0, op: Op::ERROR }.put(&mut bytes);
    bytes.extend_from_slice(&(-101i32).to_be_bytes());
    bytes
}

fn proposal(zxid: Zxid) -> Vec<u8> {
    packet(FromLeader::Proposal { zxid, txn: &txn(zxid) })
}

fn commit(zxid: Zxid) -> Vec<u8> {
    packet(FromLeader::Commit(zxid))
}

fn inform(zxid: Zxid) -> Vec<u8> {
    packet(FromLeader::Inform { zxid, txn: &txn(zxid) })
}
