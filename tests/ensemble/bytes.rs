//! Every recorded message must be decoded and encoded to the same bytes. Incomplete and changed messages must do no
//! harm.

use std::collections::BTreeMap;

use super::recorded::{Kind, Message, walks};
use zabra::jute::Put;
use zabra::txnlog::snapshot::{put_acl_table, put_node, put_sessions};
use zabra::txnlog::snapshot_read::{Node, Sink, read_image};
use zabra::types::{Acl, AclId, Epoch, ServerId, SessionId, Zxid};
use zabra::zab::auth_packet::AuthPacket;
use zabra::zab::hello::Hello;
use zabra::zab::message::{FromLeader, FromLearner};
use zabra::zab::notification::{self, Notification};
use zabra::zab::packet::{Split, split};
use zabra::zab::vote::{ServerState, Vote};

/// Apache's default limit of a packet: twice `jute.maxbuffer`.
const LIMIT: usize = 2 * 0xf_ffff;

/// The end of a SNAP's stream.
const SIGNATURE: &str = "BenWasHere";

/// Decodes the first message in `bytes` and encodes it again; returns the bytes and how many were read. `None` if it is
/// incomplete, `Err` if it is refused.
fn again(kind: Kind, bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut out = Vec::new();
    let taken = match kind {
        Kind::Hello => {
            let Some((hello, taken)) = Hello::read(bytes).map_err(|e| e.to_string())? else { return Ok(None) };
            hello.put(&mut out);
            taken
        }
        Kind::Notification => {
            let Some((message, taken)) = notification::split(bytes).map_err(|e| e.to_string())? else {
                return Ok(None);
            };
            let Notification { held, config } = Notification::read(message).map_err(|e| e.to_string())?;
            // Messages of old releases are decoded but never encoded.
            let Some(config) = config else { return Ok(Some((bytes[..taken].to_vec(), taken))) };
            Notification::put(&mut out, &held.vote, held.election_epoch, held.state, &config);
            taken
        }
        Kind::Token => {
            let Some((token, taken)) = AuthPacket::read(bytes).map_err(|e| e.to_string())? else { return Ok(None) };
            token.put(&mut out);
            taken
        }
        Kind::Learner | Kind::Leader => {
            let Split::Whole(packet, taken) = split(bytes, LIMIT).map_err(|e| e.to_string())? else { return Ok(None) };
            if kind == Kind::Learner {
                match FromLearner::read(packet).map_err(|e| e.to_string())? {
                    FromLearner::Unknown(kind) => return Err(format!("type {kind}")),
                    message => message.put(&mut out),
                }
            } else {
                match FromLeader::read(&packet).map_err(|e| e.to_string())? {
                    FromLeader::Unknown(kind) => return Err(format!("type {kind}")),
                    message => message.put(&mut out),
                }
            }
            taken
        }
        Kind::State => {
            let (mut rest, mut state) = (bytes, State::default());
            read_image(&mut rest, &mut state).map_err(|e| e.to_string())?;
            let image = bytes.len() - rest.len();
            state.put(&mut out);
            (out.put_string(SIGNATURE), image + 4 + SIGNATURE.len()).1
        }
        Kind::End => unreachable!("an end has no bytes"),
    };
    Ok(Some((out, taken)))
}

/// The contents of a snapshot, in order.
#[derive(Default)]
struct State {
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(AclId, Vec<Acl>)>,
    nodes: Vec<u8>,
}

impl Sink for State {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.push((id, timeout_ms));
        Ok(())
    }

    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.acls.push((id, list));
        Ok(())
    }

    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        put_node(&mut self.nodes, node.path, node.data, node.acl, &node.stat);
        Ok(())
    }
}

impl State {
    fn put(&self, out: &mut Vec<u8>) {
        put_sessions(out, self.sessions.iter().copied());
        put_acl_table(out, self.acls.iter().map(|(id, list)| (*id, &list[..])));
        out.extend_from_slice(&self.nodes);
        out.put_string("/");
    }
}

fn messages() -> impl Iterator<Item = Message> {
    walks().into_iter().flat_map(|walk| walk.messages).filter(|message| message.kind != Kind::End)
}

#[test]
fn recorded_messages_come_back_to_the_byte() {
    let mut seen = BTreeMap::<Kind, usize>::new();
    for message in messages() {
        let came_back = again(message.kind, &message.bytes).unwrap_or_else(|e| panic!("{}: {e}", message.place));
        let whole = (message.bytes.clone(), message.bytes.len());
        assert!(came_back.as_ref() == Some(&whole), "{}: {:02x?}", message.place, came_back);
        *seen.entry(message.kind).or_default() += 1;
    }
    let expected = [
        (Kind::Hello, 66),
        (Kind::Notification, 241),
        (Kind::Token, 12),
        (Kind::Learner, 476),
        (Kind::Leader, 593),
        (Kind::State, 14),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
}

#[test]
fn every_packet_type_was_recorded() {
    let packets = messages().filter(|m| matches!(m.kind, Kind::Learner | Kind::Leader));
    let kinds: std::collections::BTreeSet<i32> =
        packets.map(|m| i32::from_be_bytes(*m.bytes.first_chunk().expect("a type"))).collect();
    assert_eq!(kinds, (1..=19).collect());
}

/// An incomplete message is waited for and never taken for another one. A changed one is decoded, refused or waited
/// for.
#[test]
fn parts_and_changed_messages_do_no_harm() {
    for message in messages().filter(|m| m.kind != Kind::State && m.bytes.len() < 400) {
        for cut in 0..message.bytes.len() {
            assert_eq!(again(message.kind, &message.bytes[..cut]), Ok(None), "{} cut at {cut}", message.place);
        }
        for at in 0..message.bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = message.bytes.clone();
                bytes[at] ^= change;
                if let Ok(Some((_, taken))) = again(message.kind, &bytes) {
                    assert!(taken <= bytes.len(), "{} changed at {at}", message.place);
                }
            }
        }
    }
}

/// The meaning of the first messages of a first start.
#[test]
fn a_first_start_is_understood() {
    let walk = walks().into_iter().find(|w| w.name == "election-first-start-of-three").expect("the walk");
    let votes = walk.messages.iter().filter(|m| m.kind == Kind::Notification).map(|m| {
        let (message, _) = notification::split(&m.bytes).expect("a length").expect("a whole one");
        (m.from, Notification::read(message).expect("a notification").held)
    });
    let votes: Vec<_> = votes.collect();
    let vote = |leader, peer_epoch| Vote { leader: ServerId(leader), zxid: Zxid::ZERO, peer_epoch: Epoch(peer_epoch) };
    let (from, first) = votes[0];
    assert_eq!((from, first.vote, first.election_epoch), (Some(ServerId(1)), vote(1, 0), 1));
    // The third comes late: the others tell it who leads, with the epoch that was established meanwhile.
    let settled: Vec<_> = votes.iter().filter(|(_, held)| held.state != ServerState::Looking).collect();
    assert!(settled.iter().any(|(from, h)| *from == Some(ServerId(2)) && h.state == ServerState::Leading));
    assert!(settled.iter().all(|(_, h)| h.vote == vote(2, 1)), "{settled:?}");
}
