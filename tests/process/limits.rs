//! `jute.maxbuffer` and other limits: one byte below, exactly at, and one byte above. Everything that was accepted must
//! be recoverable.

use zabra::types::Op;

use super::server::Home;
use super::wire::{Client, create_body, multi_body, set_body};

/// A body of exactly `len` bytes; the length of a znode's data is chosen so that it fits.
fn padded(len: usize, body: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let bare = body(b"").len();
    let made = body(&vec![b'x'; len.checked_sub(bare).expect("room for the data")]);
    assert_eq!(made.len(), len);
    made
}

/// Sends requests with packets of one byte less than `max`, of `max`, and of one byte more; the last one must close the
/// connection. Then kills and restarts the server and checks what was accepted.
fn limit(home: &Home, max: usize) {
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/set", b"").expect("new");
    // A packet consists of the header's 8 bytes and the body.
    let sizes = [max - 9, max - 8, max - 7];
    let create = |i: usize| move |data: &[u8]| create_body(&format!("/create{i}"), data, 0);
    let set = |data: &[u8]| set_body("/set", data, -1);
    let multi = |i: usize| {
        move |data: &[u8]| {
            multi_body(&[
                (Op::CREATE, create_body(&format!("/multi{i}"), data, 0)),
                (Op::SET_DATA, set_body(&format!("/multi{i}"), b"second", 0)),
                (Op::CREATE, create_body(&format!("/multi{i}/s-"), b"", 2)),
            ])
        }
    };
    let mut data_lengths = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let requests = [
            (Op::CREATE, padded(size, create(i))),
            (Op::SET_DATA, padded(size, set)),
            (Op::MULTI, padded(size, multi(i))),
        ];
        for (op, body) in requests {
            if i < 2 {
                let reply = client.call(op, &body);
                assert_eq!(reply.err, 0, "op {op}, packet of {} bytes", body.len() + 8);
            } else {
                // The server may close the connection before it has read everything.
                let _ = client.try_send(op, &body);
                assert_eq!(client.raw().closed(), b"", "op {op}, packet of {} bytes", body.len() + 8);
                let resumed = Client::handshake(server.addr(), &client.resumption()).expect("an answer");
                client = resumed.expect("the session lives");
            }
        }
        data_lengths.push(size - create_body("/create0", b"", 0).len());
    }
    let children = client.children("/", false).expect("served");
    assert_eq!(children, ["create0", "create1", "multi0", "multi1", "set", "zookeeper"]);
    server.kill();
    let server = home.start();
    let mut client = Client::handshake(server.addr(), &client.resumption()).expect("an answer").expect("it lives");
    assert_eq!(client.children("/", false), Ok(children));
    for (i, len) in data_lengths.iter().take(2).enumerate() {
        assert_eq!(client.get(&format!("/create{i}"), false).map(|(d, _)| d.len()), Ok(*len));
        assert_eq!(client.get(&format!("/multi{i}"), false).map(|(d, s)| (d, s.version)), Ok((b"second".into(), 1)));
    }
    assert_eq!(client.get("/set", false).map(|(_, s)| s.version), Ok(2));
    server.stop();
    home.start().stop();
}

#[test]
fn a_packet_as_long_as_jute_maxbuffer_is_taken_and_one_byte_more_is_not() {
    limit(&Home::new(""), 0xf_ffff);
}

#[test]
fn a_small_jute_maxbuffer_is_kept_to_the_byte() {
    limit(&Home::new("").define("jute.maxbuffer=4096"), 4096);
}

#[test]
fn a_large_jute_maxbuffer_takes_records_larger_than_a_segment() {
    limit(&Home::new("preAllocSize=64").define("jute.maxbuffer=5000000"), 5_000_000);
}

/// ZOOKEEPER-3496, ZOOKEEPER-4306: transactions made by the server are longer than what clients may send.
#[test]
fn a_session_with_more_ephemerals_than_fit_into_a_packet_closes_and_the_log_opens_again() {
    let home = Home::new("").define("jute.maxbuffer=4096").define("zookeeper.jute.maxbuffer.extrasize=1024");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let names: Vec<String> = (0..300).map(|i| format!("/{}{i:03}", "long-name-".repeat(10))).collect();
    for name in &names {
        client.create_mode(name, b"", 1).expect("new");
    }
    client.close();
    let mut other = Client::connect(server.addr());
    assert_eq!(other.children("/", false), Ok(vec!["zookeeper".to_string()]));
    server.kill();
    let server = home.start();
    let mut client = Client::connect(server.addr());
    assert_eq!(client.children("/", false), Ok(vec!["zookeeper".to_string()]));
    server.stop();
    home.start().stop();
}

#[test]
fn a_smaller_jute_maxbuffer_still_opens_what_a_larger_one_wrote() {
    let home = Home::new("");
    let server = home.start();
    Client::connect(server.addr()).create("/a", &[1; 100_000]).expect("new");
    server.kill();
    let home = home.define("jute.maxbuffer=4096");
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).get("/a", false).map(|(d, _)| d.len()), Ok(100_000));
    server.stop();
    home.start().stop();
}

#[test]
fn a_reply_longer_than_all_that_may_be_unread_arrives() {
    let home = Home::new("").define("jute.maxbuffer=90000000");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", &vec![3; 80_000_000]).expect("new");
    for _ in 0..2 {
        let (data, _) = client.get("/a", false).expect("there");
        assert_eq!((data.len(), data[79_999_999]), (80_000_000, 3));
    }
    server.stop();
}

#[test]
fn a_reply_may_be_longer_than_a_request() {
    let home = Home::new("").define("jute.maxbuffer=4096");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    let name = "n".repeat(200);
    for i in 0..100 {
        client.create(&format!("/{name}{i:03}"), b"").expect("new");
    }
    assert_eq!(client.children("/", false).map(|c| c.len()), Ok(101));
    server.stop();
}
