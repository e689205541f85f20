//! How the server ends connections: with FIN after what was queued, as ZooKeeper does. Only a client that does not read
//! gets a reset.

use std::io::Read;
use std::net::TcpStream;

use zabra::proto::ConnectResponse;

use super::server::{Home, Server};
use super::wire::{Client, Raw, new_session};

const BACK_ENDS: [&str; 2] = ["auto", "epoll"];

/// What the server sent until FIN; a reset fails the test.
fn until_fin(mut stream: &TcpStream, kind: &str) -> Vec<u8> {
    let mut sent = Vec::new();
    if let Err(e) = stream.read_to_end(&mut sent) {
        panic!("{kind}: {e} after {} bytes", sent.len());
    }
    sent
}

/// Sends these bytes on a new connection; returns what the server sent until FIN.
fn answer(server: &Server, bytes: &[u8], kind: &str) -> Vec<u8> {
    let mut raw = Raw::connect(server.addr());
    raw.send(bytes).expect("sent");
    until_fin(raw.stream(), kind)
}

fn handshake() -> Vec<u8> {
    let mut bytes = Vec::new();
    new_session(30_000).put(&mut bytes);
    bytes
}

#[test]
fn what_cannot_be_a_handshake_is_ended_with_fin() {
    for io in BACK_ENDS {
        let home = Home::new("").io(io);
        let server = home.start();
        for (kind, bytes) in [
            ("a handshake too short", &[0, 0, 0, 2, 1, 1][..]),
            ("an empty handshake", &[0, 0, 0, 0]),
            ("a negative length", &[0xff, 0xff, 0xff, 0x80]),
            ("a length beyond all bounds", &[0x7f, 0xff, 0xff, 0xff]),
            ("telnet's goodbye", &[0xff, 0xf4, 0xff, 0xfd, 6]),
        ] {
            assert_eq!(answer(&server, bytes, kind), b"", "{kind}");
        }
        server.stop();
    }
}

#[test]
fn queued_replies_go_out_before_the_fin() {
    for io in BACK_ENDS {
        let home = Home::new("").io(io);
        let server = home.start();
        for (kind, bad) in [
            ("a frame of length 0", &[0, 0, 0, 0][..]),
            ("a frame shorter than its header", &[0, 0, 0, 4, 0, 0, 0, 1]),
            ("a negative length", &[0xff, 0xff, 0xff, 0xff]),
        ] {
            let mut bytes = handshake();
            bytes.extend_from_slice(bad);
            let sent = answer(&server, &bytes, kind);
            let response = sent.get(4..).and_then(|frame| ConnectResponse::read(frame).ok());
            assert_eq!(response.map(|r| r.timeout_ms), Some(30_000), "{kind}: {} bytes", sent.len());
        }
        server.stop();
    }
}

#[test]
fn who_opens_no_session_in_time_is_ended_with_fin() {
    for io in BACK_ENDS {
        let home = Home::new("nio.sessionlessCnxnTimeout=200").io(io);
        let server = home.start();
        assert_eq!(answer(&server, &[], "nothing"), b"");
        assert_eq!(answer(&server, &handshake()[..20], "half a handshake"), b"");
        server.stop();
    }
}

#[test]
fn a_connection_too_many_is_ended_with_fin() {
    for io in BACK_ENDS {
        let home = Home::new("maxClientCnxns=1").io(io);
        let server = home.start();
        let mut first = loop {
            // The test's own previous connection may still be counted.
            match Client::handshake(server.addr(), &new_session(30_000)) {
                Ok(Some(client)) => break client,
                _ => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        for _ in 0..20 {
            assert_eq!(answer(&server, &handshake(), "above maxClientCnxns"), b"");
        }
        first.ping();
        server.stop();
    }
}
