//! Throttles and the settings that belong to them, on a real server.

use zabra::auth::{DigestAlg, generate_digest};
use zabra::jute::Put;
use zabra::types::Op;

use super::server::{Home, Server};
use super::wire::{Client, Raw, framed, new_session, read_body, set_body};

fn figure(server: &Server, name: &str) -> i64 {
    let text = server.word("mntr");
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("zk_{name}\t")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

fn auth(client: &mut Client, scheme: &str, proof: &str) -> std::io::Result<i32> {
    let mut body = Vec::new();
    body.put_i32(0);
    body.put_string(scheme);
    body.put_buffer(Some(proof.as_bytes()));
    client.raw().send(&framed(-4, Op::AUTH, &body))?;
    client.try_reply().map(|r| r.err)
}

#[test]
fn handshakes_are_limited_over_all_shards() {
    let home = Home::new(
        "4lw.commands.whitelist=mntr\nzabra.shards=2\nconnection_throttle_tokens=2\nconnection_throttle_fill_time=2000000000",
    );
    let server = home.start();
    let mut first = Client::connect(server.addr());
    let second = Client::connect(server.addr());
    for _ in 0..6 {
        assert!(Client::handshake(server.addr(), &new_session(10_000)).is_err(), "no token is left");
    }
    assert_eq!(figure(&server, "connection_rejected"), 6);
    assert_eq!(figure(&server, "max_connection_token_deficit"), 2);
    first.create("/a", b"").expect("who is in stays in");
    second.close();
    server.stop();
}

#[test]
fn with_room_for_one_request_everything_is_still_answered_in_order() {
    let home = Home::new(
        "4lw.commands.whitelist=mntr\nrequest_throttle_max_requests=1\nmaxBatchSize=1\nflushDelay=3\nmaxWriteQueuePollTime=1",
    );
    let server = home.start();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.addr())).collect();
    clients[0].create("/a", b"").expect("new");
    for i in 0..25 {
        for client in &mut clients {
            client.send(Op::SET_DATA, &set_body("/a", &[i], -1));
            client.send(Op::GET_DATA, &read_body("/a", false));
        }
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let first = if n == 0 { 2 } else { 1 };
        for xid in first..first + 50 {
            let reply = client.reply();
            assert_eq!((reply.xid, reply.err), (xid, 0));
        }
    }
    assert!(figure(&server, "request_throttle_wait_count") > 0);
    assert_eq!((figure(&server, "throttled_ops"), figure(&server, "stale_requests_dropped")), (0, 0));
    server.stop();
}

#[test]
fn large_requests_are_refused_when_there_are_too_many_bytes() {
    let home =
        Home::new("4lw.commands.whitelist=mntr\nlargeRequestThreshold=1000\nlargeRequestMaxBytes=5000\nsnapCount=1000");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", &[1; 3000]).expect("fits");
    for i in 0..100 {
        client.set("/a", &[i; 4000], -1).expect("each fits, one after the other");
    }
    client.send(Op::SET_DATA, &set_body("/a", &[1; 6000], -1));
    assert_eq!(client.raw().closed(), b"");
    assert_eq!(figure(&server, "large_requests_rejected"), 1);
    server.stop();
}

#[test]
fn the_digest_algorithm_and_the_ensemble_name_are_as_configured() {
    let super_digest = generate_digest(DigestAlg::Sha512, "super:secret");
    let home = Home::new(&format!(
        "4lw.commands.whitelist=mntr\nDigestAuthenticationProvider.digestAlg=SHA-512\n\
         DigestAuthenticationProvider.superDigest={super_digest}\nensembleAuthName=blue, green\n\
         authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider"
    ));
    let server = home.start();
    let mut client = Client::connect(server.addr());
    assert_eq!(auth(&mut client, "digest", "super:secret").ok(), Some(0));
    let who = client.call(Op::WHO_AM_I, &[]).body;
    let shown = String::from_utf8_lossy(&who).into_owned();
    assert!(shown.contains("super") && shown.contains("digest"), "{shown}");
    let names = shown.matches("super").count();
    assert_eq!(names, 2, "the scheme super and the user of that name: {shown}");
    assert_eq!(auth(&mut client, "ensemble", "green").ok(), Some(0));
    assert_eq!(auth(&mut client, "ensemble", "").ok(), Some(0));
    assert!(auth(&mut client, "ensemble", "red").is_err(), "closed without an answer");
    let counts = ["success", "skip", "fail"].map(|what| figure(&server, &format!("ensemble_auth_{what}")));
    assert_eq!(counts, [1, 1, 1]);
    server.stop();
}

/// The limit of bytes that a client may leave unread is 64 MiB, but a single reply may be longer.
#[test]
fn a_reply_longer_than_the_limit_of_unread_bytes_arrives() {
    let len = 70 << 20;
    let home = Home::new("").define("jute.maxbuffer=80000000");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", &vec![7; len]).expect("new");
    let mut slow = Raw::connect(server.addr());
    slow.handshake(&new_session(30_000)).expect("a session");
    slow.send(&framed(1, Op::GET_DATA, &read_body("/a", false))).expect("sent");
    slow.send(&framed(2, Op::EXISTS, &read_body("/a", false))).expect("sent");
    // The client reads nothing for a while, which does not affect others.
    (0..20).for_each(|_| assert_eq!(client.exists("/a", false).map(|s| s.data_length), Ok(len as i32)));
    let frame = slow.frame().expect("the whole reply");
    assert_eq!(frame.len(), 16 + 4 + len + 68);
    assert!(frame[20..20 + len].iter().all(|b| *b == 7));
    assert_eq!(slow.frame().expect("and the next").len(), 16 + 68);
    server.stop();
}
