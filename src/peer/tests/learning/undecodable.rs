//! What cannot be decoded: the write of a client, and a proposal of the leader.

use super::*;

#[test]
fn a_write_that_cannot_be_decoded_never_reaches_the_leader() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.write(A, session, 5, &[0, 0]);
    assert!(o.said.is_empty());
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
}

#[test]
fn a_proposal_that_cannot_be_decoded_ends_the_term() {
    let mut o = Observer::new();
    o.join();
    let mut bytes = Vec::new();
    TxnHeader { session: SessionId(9), cxid: Cxid(1), zxid: z(1), time_ms: 0, op: Op::CREATE }.put(&mut bytes);
    bytes.extend_from_slice(&[0, 0]);
    o.leader(&[FromLeader::Inform { zxid: z(1), txn: &bytes }]);
    assert_eq!((&o.wanted[..], o.w.peer().term()), (&["0 End".to_owned()][..], Term(1)));
    o.connect();
    assert_eq!(o.w.applied(), Zxid::ZERO);
}
