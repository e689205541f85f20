//! Members without a leader that let clients read (`readonlymode.enabled`).

use zabra::proto::ConnectRequest;
use zabra::proto::multi::MultiOp;
use zabra::types::{Op, SessionId};

use super::super::server::wait_until;
use super::super::wire::{Client, Raw, create_body, new_session, set_body, text};
use super::{Ensemble, QUICK, ask, sync};

const NOT_READ_ONLY: i32 = -119;

/// The handshake of a client that is content with a read-only server.
fn reader() -> ConnectRequest {
    ConnectRequest { read_only: Some(true), ..new_session(600_000) }
}

/// What a read-only server answers to everything that needs a leader, and that its clients read all it has.
fn only_reads(client: &mut Client, owner: SessionId) {
    let multi = zabra::proto::Request::Multi(vec![MultiOp::Check { path: "/kept".into(), version: 0 }]);
    for (op, body) in [
        (Op::CREATE, create_body("/new", b"", 0)),
        (Op::CREATE, create_body("/new", b"", 1)),
        (Op::SET_DATA, set_body("/kept", b"alone", -1)),
        (Op::MULTI, multi.body(Op::MULTI)),
        (Op::SYNC, text("/")),
    ] {
        let reply = client.call(op, &body);
        assert_eq!((reply.err, reply.body.len()), (NOT_READ_ONLY, 0), "{op}");
    }
    assert_eq!(client.delete("/kept", -1), Err(NOT_READ_ONLY));
    assert_eq!(client.get("/kept", true).expect("there").0, b"with three");
    assert_eq!(client.exists("/owned", false).map(|s| s.ephemeral_owner), Ok(owner.0));
    assert_eq!(client.children("/", true), Ok(vec!["kept".into(), "owned".into(), "zookeeper".into()]));
    client.ping();
}

/// Two of three members are killed: the third lets clients read that ask for no more. With the others all serve again, and nobody
/// has to know that there was a time without a leader but those who wrote in it.
#[test]
fn a_minority_lets_clients_read_and_a_quorum_lets_them_write_again() {
    let mut three = Ensemble::defining(3, QUICK, &["readonlymode.enabled=true"]).all_started();
    let leader = three.leader();
    let left = three.ids().find(|id| *id != leader).expect("a follower");
    let mut owner = three.client(left);
    owner.create("/kept", b"with three").expect("new");
    owner.create_mode("/owned", b"", 1).expect("new");
    let others: Vec<usize> = three.ids().filter(|id| *id != left).collect();
    others.iter().for_each(|id| three.kill(*id));
    assert_eq!(owner.raw().closed(), b"", "its clients are disconnected");
    wait_until("it lets clients read", || three.role(left).as_deref() == Some("read-only"));
    assert_eq!(ask(three.addr(left), "isro").as_deref(), Some("ro"));

    // Who wants to write, or goes on with a session that may be one of the others', is closed without an answer.
    let resumption = ConnectRequest { read_only: Some(true), ..owner.resumption() };
    for refused in [new_session(10_000), ConnectRequest { read_only: None, ..reader() }, owner.resumption(), resumption]
    {
        let mut raw = Raw::connect(three.addr(left));
        let mut bytes = Vec::new();
        refused.put(&mut bytes);
        raw.send(&bytes).expect("sent");
        assert_eq!(raw.closed(), b"", "{refused:?}");
    }
    let answer = Raw::connect(three.addr(left)).handshake(&reader()).expect("an answer");
    assert_eq!(answer.read_only, Some(true));
    let connect = |three: &Ensemble, request: &ConnectRequest| Client::handshake(three.addr(left), request);
    let mut client = connect(&three, &reader()).expect("an answer").expect("a session");
    only_reads(&mut client, owner.session);
    // Its session moves to another connection of this server.
    let resumption = ConnectRequest { read_only: Some(true), ..client.resumption() };
    let mut moved = connect(&three, &resumption).expect("an answer").expect("it lives");
    assert_eq!((moved.session, client.raw().closed()), (client.session, Vec::new()));
    only_reads(&mut moved, owner.session);
    connect(&three, &reader()).expect("an answer").expect("a session").close();

    others.iter().for_each(|id| three.start(*id));
    assert_eq!(moved.raw().closed(), b"", "with a leader it is disconnected");
    wait_until("all have a role", || {
        let roles: Vec<_> = three.ids().filter_map(|id| three.role(id)).filter(|role| role != "read-only").collect();
        roles.len() == 3
    });
    assert_eq!(ask(three.addr(left), "isro").as_deref(), Some("rw"));
    // Its session meant nothing to the others. A new one of the same client writes, and has seen nothing newer than there is.
    assert!(connect(&three, &moved.resumption()).expect("an answer").is_none(), "its session is unknown");
    let request = ConnectRequest { last_zxid_seen: moved.resumption().last_zxid_seen, ..reader() };
    let mut client = connect(&three, &request).expect("an answer").expect("a session");
    client.set("/kept", b"after", -1).expect("there is a leader");
    let mut owner = connect(&three, &owner.resumption()).expect("an answer").expect("the session lived on");
    sync(&mut owner);
    assert_eq!(owner.get("/kept", false).expect("there").0, b"after");
    assert_eq!(owner.exists("/owned", false).map(|s| s.ephemeral_owner), Ok(owner.session.0));
    owner.close();
    client.close();
}

/// The first start of one member of three: its tree is empty, and it says so.
#[test]
fn a_member_that_never_had_a_leader_lets_clients_read_what_it_has() {
    let mut three = Ensemble::defining(3, QUICK, &["readonlymode.enabled=true"]);
    three.start(2);
    wait_until("it lets clients read", || three.role(2).as_deref() == Some("read-only"));
    let mut client = Client::handshake(three.addr(2), &reader()).expect("an answer").expect("a session");
    assert_eq!(client.children("/", false), Ok(vec!["zookeeper".into()]));
    let answer = ask(three.addr(2), "srvr").expect("an answer");
    assert!(answer.contains("\nREAD-ONLY mode; serving only read-only clients\nLatency"), "{answer}");
    three.start(1);
    three.leader();
    let mut client = three.client(1);
    client.create("/first", b"").expect("new");
    client.close();
}
