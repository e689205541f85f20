//! The bytes of a quorum connection, in both directions, SASL tokens, and the two kinds of election messages: whatever is
//! read can be written, and is then read as the same; a message that is cut anywhere is waited for.

use zabra::zab::auth_packet::AuthPacket;
use zabra::zab::hello::Hello;
use zabra::zab::message::{FromLeader, FromLearner};
use zabra::zab::notification::{self, Notification};
use zabra::zab::packet::{Packet, Split, split};

use crate::input::Input;

/// Most bytes of a packet's data; small, so that inputs can exceed it.
const LIMIT: usize = 1500;

/// Input: a byte that says what the rest is.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.below(5);
    let bytes = input.rest();
    match kind {
        0 | 1 => packets(bytes, kind == 1),
        2 => tokens(bytes),
        3 => hellos(bytes),
        _ => notifications(bytes),
    }
}

/// Reads packets until the stream is refused or ends.
fn packets(mut bytes: &[u8], of_leader: bool) {
    loop {
        match split(bytes, LIMIT) {
            Ok(Split::Whole(packet, taken)) => {
                for cut in (0..taken).rev().take(60) {
                    let Ok(Split::Need(need)) = split(&bytes[..cut], LIMIT) else {
                        panic!("whole at {cut} of {taken}")
                    };
                    assert!(need > cut && need <= taken, "{need} bytes of {taken} are wanted behind {cut}");
                }
                let mut out = Vec::new();
                packet.put(&mut out);
                assert_eq!(split(&out, LIMIT), Ok(Split::Whole(packet.clone(), out.len())));
                message(packet, of_leader);
                bytes = &bytes[taken..];
            }
            Ok(Split::Need(need)) => {
                assert!(need > bytes.len() && need <= bytes.len() + LIMIT + 20, "{need} bytes are wanted");
                return;
            }
            Err(e) => return assert!(!e.to_string().is_empty()),
        }
    }
}

fn again(bytes: &[u8]) -> Packet<'_> {
    match split(bytes, usize::MAX >> 1) {
        Ok(Split::Whole(packet, taken)) if taken == bytes.len() => packet,
        other => panic!("what was written is read as {other:?}"),
    }
}

fn message(packet: Packet<'_>, of_leader: bool) {
    let mut out = Vec::new();
    if of_leader {
        match FromLeader::read(&packet) {
            Err(_) | Ok(FromLeader::Unknown(_)) => {}
            Ok(message) => {
                message.put(&mut out);
                assert_eq!(FromLeader::read(&again(&out)), Ok(message));
            }
        }
    } else {
        match FromLearner::read(packet) {
            Err(_) | Ok(FromLearner::Unknown(_)) => {}
            Ok(message) => {
                message.put(&mut out);
                assert_eq!(FromLearner::read(again(&out)), Ok(message));
            }
        }
    }
}

fn tokens(mut bytes: &[u8]) {
    while let Ok(Some((token, taken))) = AuthPacket::read(bytes) {
        assert!(taken > 0 && AuthPacket::begins(bytes) == Some(true));
        let mut out = Vec::new();
        token.put(&mut out);
        assert_eq!(out, bytes[..taken], "a token has one form");
        for cut in (0..taken).rev().take(60) {
            assert_eq!(AuthPacket::read(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        bytes = &bytes[taken..];
    }
}

fn hellos(bytes: &[u8]) {
    let Ok(Some((hello, taken))) = Hello::read(bytes) else { return };
    for cut in 0..taken {
        assert_eq!(Hello::read(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let mut out = Vec::new();
    hello.put(&mut out);
    assert_eq!(Hello::read(&out), Ok(Some((hello, out.len()))));
}

fn notifications(mut bytes: &[u8]) {
    while let Ok(Some((message, taken))) = notification::split(bytes) {
        assert!(taken == message.len() + 4);
        if let Ok(Notification { held, config: Some(config) }) = Notification::read(message) {
            let mut out = Vec::new();
            Notification::put(&mut out, &held.vote, held.election_epoch, held.state, &config);
            let (message, taken) = notification::split(&out).expect("a length").expect("whole");
            assert_eq!(taken, out.len());
            let read = Notification::read(message).expect("it was read before");
            assert_eq!((read.held.vote, read.held.state), (held.vote, held.state));
            assert_eq!((read.held.election_epoch, read.config), (held.election_epoch, Some(config)));
        }
        bytes = &bytes[taken..];
    }
}
