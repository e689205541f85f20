//! Learners: recorded terms with one of ours in place of Apache's, random ones, and what goes wrong.

mod chance;
mod mistakes;
mod terms;
mod walks;

use zabra::oracle::learner::txn;
use zabra::types::Zxid;
use zabra::zab::message::FromLeader;

/// A leader's packet as it is sent.
fn packet(said: FromLeader<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    said.put(&mut bytes);
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
