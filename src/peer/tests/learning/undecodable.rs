//! What cannot be decoded: the write of a client, and a proposal of the leader.

use super::*;

#[test]
fn instead_of_a_write_that_cannot_be_decoded_the_leader_gets_one_to_refuse() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    o.create(A, session, 5, "/before");
    o.write(A, session, 6, &[0, 0]);
    assert_eq!(o.said[1], format!("request {session} 6 {} Some(1)", Op::DELETE));
    o.inform(z(2), &create(z(2), session, 5, "/before"));
    let refused = Txn::Error { err: ErrorCode::BadArguments.code() };
    o.inform(z(3), &transaction(z(3), session, 6, Op::ERROR, &refused));
    let codes: Vec<i32> = o.told.iter().map(|(_, m)| code(m)).collect();
    assert_eq!(codes, [0, ErrorCode::MarshallingError.code()], "in their order, and this server knows why");
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
