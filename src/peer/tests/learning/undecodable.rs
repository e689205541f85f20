//! What would harm Apache's servers or cannot be decoded: writes of clients, and proposals of the leader.

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
    o.w.now.mono_ms += 100;
    o.connect();
    assert_eq!(o.w.applied(), Zxid::ZERO);
}

/// Apache's leader would make a persistent znode and predict the digest of a container.
#[test]
fn a_create_with_the_flags_of_another_opcode_goes_with_its_own() {
    let mut o = Observer::new();
    o.join();
    let session = o.session(A, z(1));
    let body = |flags| {
        let acl = vec![Acl::world_all()].into();
        Request::Create(CreateRequest { path: "/a".into(), data: None, acl, flags, ttl_ms: None }).body(Op::CREATE)
    };
    o.write(A, session, 5, &body(4));
    o.write(A, session, 6, &body(9));
    assert_eq!(o.forwarded[1..], [(Op::CREATE, body(0)), (Op::DELETE, b"\0\0\0\x01/\xff\xff\xff\xff".to_vec())]);
    o.inform(z(2), &create(z(2), session, 5, "/a"));
    let refused = Txn::Error { err: ErrorCode::BadArguments.code() };
    o.inform(z(3), &transaction(z(3), session, 6, Op::ERROR, &refused));
    let codes: Vec<i32> = o.told.iter().map(|(_, m)| code(m)).collect();
    assert_eq!(codes, [0, ErrorCode::BadArguments.code()]);
}

fn create_ttl(zxid: Zxid, ttl_ms: i64) -> Vec<u8> {
    let txn = Txn::Create(CreateTxn { kind: CreateKind::Ttl { ttl_ms }, ..plain("/ttl") });
    transaction(zxid, SessionId(9), 1, Op::CREATE_TTL, &txn)
}

/// An Apache leader proposes it, and stops once a quorum has it.
#[test]
fn a_proposal_that_stops_apache_servers_gets_no_ack_from_this_one() {
    let mut o = Observer::new();
    o.join();
    o.inform(z(1), &create_ttl(z(1), 5));
    assert_eq!((o.w.applied(), &o.wanted[..]), (z(1), &[][..]));
    o.leader(&[FromLeader::Inform { zxid: z(2), txn: &create_ttl(z(2), -1) }]);
    assert_eq!((&o.wanted[..], o.w.peer().term()), (&["0 End".to_owned()][..], Term(1)));
    // A leader that lives sends it again, as what it has not committed yet.
    o.elect();
    assert_eq!(o.wanted.len(), 1, "it is not dialled at once");
    o.w.now.mono_ms += 100;
    o.turns();
    o.reach();
    let txn = create_ttl(z(2), -1);
    o.leader(&[FromLeader::Diff(z(2)), FromLeader::Proposal { zxid: z(2), txn: &txn }]);
    assert_eq!((o.wanted.last().unwrap().as_str(), o.w.applied()), ("1 End", z(1)));
    // If a quorum had it nevertheless, it is the history of the next epoch, and changes nothing.
    o.w.now.mono_ms += 100;
    o.elect();
    o.quorum(QuorumEvent::Dialed { conn: QUORUM });
    o.leader(&[FromLeader::LeaderInfo { epoch: Epoch(2), protocol: 0x10000, extra: &[] }]);
    o.work();
    o.leader(&[FromLeader::Diff(z(2)), FromLeader::Proposal { zxid: z(2), txn: &txn }, FromLeader::Commit(z(2))]);
    o.work();
    assert_eq!((o.w.applied(), o.w.is_there("/ttl")), (z(2), true));
}
