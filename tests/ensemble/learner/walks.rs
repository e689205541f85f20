//! Every recorded connection between an Apache learner and its leader, with one of ours in the learner's place. What Apache's
//! leader said goes in, what ours says must be what Apache's learner said, to the byte.

use std::collections::BTreeMap;

use super::super::recorded::{Kind, Message, Walk, walks};
use super::packet;
use zabra::oracle::learner::{INIT_MS, LIMIT, SYNC_MS, Server};
use zabra::quorum::Role;
use zabra::types::Zxid;
use zabra::zab::learner::{History, Options, Want, Why};
use zabra::zab::message::{FromLeader, FromLearner};
use zabra::zab::packet::{Packet, Split, kind, split};

/// Bytes of the signature behind a snapshot.
const SIGNATURE: usize = 14;

fn whole(message: &Message) -> Packet<'_> {
    let Ok(Split::Whole(packet, taken)) = split(&message.bytes, LIMIT) else { panic!("{}", message.place) };
    assert_eq!(taken, message.bytes.len(), "{}", message.place);
    packet
}

fn of_learner(message: &Message) -> FromLearner<'_> {
    FromLearner::read(whole(message)).unwrap_or_else(|e| panic!("{}: {e}", message.place))
}

/// The connections to leaders and observer masters in a recording.
fn connections<'a>(walk: &'a Walk) -> Vec<Vec<&'a Message>> {
    let mut connections = BTreeMap::<&str, Vec<&'a Message>>::new();
    for message in walk.messages.iter().filter(|m| m.connection.starts_with(['q', 'o'])) {
        // The tokens of SASL are exchanged before.
        if message.kind != Kind::Token {
            connections.entry(&message.connection).or_default().push(message);
        }
    }
    // What one side sends when the other has closed reaches nobody.
    let open = |all: Vec<&'a Message>| {
        let end = all.iter().position(|m| m.kind == Kind::End).map_or(all.len(), |end| end + 1);
        all[..end].to_vec()
    };
    connections.into_values().map(open).filter(|all| all.iter().any(|m| m.kind != Kind::End)).collect()
}

/// A server in the state in which Apache's was at the first message.
fn stand(messages: &[&Message]) -> Server {
    let learner = |m: &&&Message| m.kind == Kind::Learner;
    let first = messages.iter().find(learner).map(|m| of_learner(m));
    if let Some(FromLearner::Info { observer, accepted, info }) = &first {
        let role = if *observer { Role::Observer } else { Role::Participant };
        let options = Options {
            me: info.server.expect("an id"),
            role,
            config_version: info.config_version.expect("a version"),
            init_ms: INIT_MS,
            sync_ms: SYNC_MS,
            packet_limit: LIMIT,
        };
        let acked = messages.iter().filter(learner).map(|m| of_learner(m)).find_map(|said| match said {
            FromLearner::AckEpoch { last, current } => Some((last, current)),
            _ => None,
        });
        // The answer of a server that had accepted the epoch does not say which epoch its history is of.
        let (last, current) = acked.unwrap_or_default();
        let accepted = accepted.epoch();
        return Server::new(options, History { last, accepted, current: current.unwrap_or(accepted) });
    }
    // The recording begins in broadcast.
    let leaders = messages.iter().filter(|m| m.kind == Kind::Leader).map(|m| whole(m));
    let is_observer = leaders.clone().any(|p| matches!(p.kind, kind::INFORM | kind::INFORMANDACTIVATE));
    let proposed = leaders.clone().find(|p| matches!(p.kind, kind::PROPOSAL | kind::INFORM | kind::INFORMANDACTIVATE));
    let last = proposed.map_or(Zxid(0x1_0000_0000), |p| Zxid(p.zxid.0 - 1));
    let role = if is_observer { Role::Observer } else { Role::Participant };
    let epoch = last.epoch();
    let options = Options {
        me: zabra::types::ServerId(1),
        role,
        config_version: Zxid::ZERO,
        init_ms: INIT_MS,
        sync_ms: SYNC_MS,
        packet_limit: LIMIT,
    };
    let mut server = Server::new(options, History { last, accepted: epoch, current: epoch });
    server.hear(FromLeader::LeaderInfo { epoch, protocol: 0x10000, extra: &[] });
    server.hear(FromLeader::Diff(last));
    server.hear(FromLeader::NewLeader { zxid: Zxid::new(epoch, 0), config: None });
    server.hear(FromLeader::UpToDate);
    assert!(server.learner.is_serving());
    server.said.clear();
    server.told.clear();
    server
}

fn is_handshake(kind: i32, zxid: Zxid) -> bool {
    matches!(kind, kind::FOLLOWERINFO | kind::OBSERVERINFO | kind::ACKEPOCH)
        || (kind == kind::ACK && zxid.counter() == 0)
}

fn is_answer(kind: i32) -> bool {
    matches!(kind, kind::FOLLOWERINFO | kind::OBSERVERINFO | kind::ACKEPOCH | kind::ACK)
}

/// One replay. With `rng` the stream is cut anywhere and the disk is late; without, the disk answers at once.
struct Replay<'a> {
    server: Server,
    rng: Option<fastrand::Rng>,
    /// What Apache's learner said: on its own account, and for its clients and its leader's PINGs.
    answers: Vec<&'a Message>,
    others: Vec<&'a Message>,
}

impl<'a> Replay<'a> {
    fn of(messages: &[&'a Message], rng: Option<fastrand::Rng>) -> Replay<'a> {
        let mut replay = Replay { server: stand(messages), rng, answers: Vec::new(), others: Vec::new() };
        for message in messages {
            replay.server.now_ms = message.at_ms.map_or(0, |at| at as i64) + 10;
            match message.kind {
                Kind::Leader | Kind::State => replay.leader(message),
                Kind::Learner => replay.learner(message),
                Kind::End => {
                    replay.server.work();
                    replay.server.close();
                }
                other => panic!("{}: {other:?}", message.place),
            }
        }
        replay.server.work();
        replay
    }

    fn leader(&mut self, message: &Message) {
        // What it said after an answer of Apache's learner, it says to ours after the same answer.
        let is = |m: &&&Message| is_handshake(whole(m).kind, whole(m).zxid);
        let expected = self.answers.iter().filter(is).count();
        while self.server.left.is_none() && self.handshakes() < expected {
            let mut at_once = fastrand::Rng::with_seed(0);
            let rng = self.rng.as_mut().unwrap_or(&mut at_once);
            assert!(self.server.work_a_little(rng), "{}: an answer before this is missing", message.place);
        }
        let Some(rng) = &mut self.rng else {
            self.server.bytes(&message.bytes);
            return self.server.work();
        };
        let mut rest = &message.bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rng.usize(1..=rest.len()));
            self.server.bytes(piece);
            rest = behind;
            if rng.bool() {
                self.server.work_a_little(rng);
            }
        }
    }

    fn handshakes(&self) -> usize {
        self.server.said.iter().filter(|(kind, zxid, _)| is_handshake(*kind, *zxid)).count()
    }

    fn learner(&mut self, message: &'a Message) {
        let said = of_learner(message);
        if is_answer(whole(message).kind) {
            return self.answers.push(message);
        }
        self.others.push(message);
        self.server.work();
        match said {
            FromLearner::Request(request) => self.server.step(|learner, _, wants| learner.forward(request, wants)),
            FromLearner::Revalidate { session, timeout_ms } => {
                self.server.step(|learner, _, wants| learner.revalidate(session, timeout_ms, wants));
            }
            FromLearner::Ping { zxid, touched } => {
                if !self.server.pings.contains(&zxid) {
                    // Repeated PINGs are not in the recording, and some came before it.
                    self.server.bytes(&packet(FromLeader::Ping(zxid)));
                }
                self.server.pings.retain(|ping| *ping != zxid);
                self.server.step(|learner, _, wants| learner.pong(zxid, touched.iter(), wants));
            }
            other => panic!("{}: {other:?}", message.place),
        }
    }
}

/// Everything that Apache's learner said is what ours says. The recordings end before some of its ACKs.
fn compare(name: &str, messages: &[&Message], rng: Option<fastrand::Rng>) {
    let Replay { server, answers, others, .. } = Replay::of(messages, rng);
    let said = |wanted: bool| server.said.iter().filter(move |(kind, ..)| is_answer(*kind) == wanted);
    let is_broken = name == "apache-leader-undecodable-write" && matches!(server.left, Some(Why::Gap { .. }));
    let ours: Vec<_> = said(true).map(|(.., bytes)| bytes).collect();
    let both = answers.len().min(ours.len());
    assert!(is_broken || both == answers.len(), "{name}: {} answers of {}", ours.len(), answers.len());
    for (message, ours) in answers.iter().zip(&ours) {
        assert_eq!(&message.bytes, *ours, "{}", message.place);
    }
    for (kind, zxid, _) in said(true).skip(both) {
        assert!(*kind == kind::ACK && zxid.counter() > 0, "{name}: {zxid} of type {kind} is said too much");
    }
    let ours: Vec<_> = said(false).map(|(.., bytes)| bytes).collect();
    let theirs: Vec<_> = others.iter().map(|m| &m.bytes).collect();
    assert!(is_broken || ours == theirs, "{name}: {ours:02x?} {theirs:02x?}");
    outcome(name, messages, &server, is_broken);
}

/// What the leader said has happened.
fn outcome(name: &str, messages: &[&Message], server: &Server, is_broken: bool) {
    let has_end = messages.iter().any(|m| m.kind == Kind::End);
    match &server.left {
        Some(Why::Closed) => assert!(has_end, "{name}"),
        Some(why) => assert!(is_broken, "{name}: {why}"),
        None => {}
    }
    let count = |kinds: &[i32]| {
        let packets = messages.iter().filter(|m| m.kind == Kind::Leader).map(|m| whole(m));
        packets.filter(|p| kinds.contains(&p.kind)).count()
    };
    let wanted = |is: fn(&Want) -> bool| server.told.iter().filter(|want| is(want)).count();
    assert_eq!(count(&[kind::SYNC]), wanted(|w| matches!(w, Want::SyncDone { .. })), "{name}");
    assert_eq!(count(&[kind::REVALIDATE]), wanted(|w| matches!(w, Want::Revalidated { .. })), "{name}");
    assert_eq!(count(&[kind::UPTODATE]), wanted(|w| matches!(w, Want::Serve { .. })), "{name}");
    let activating = [kind::COMMITANDACTIVATE, kind::INFORMANDACTIVATE];
    assert_eq!(count(&activating), wanted(|w| matches!(w, Want::Activate { .. })), "{name}");
    let commits = [kind::COMMIT, kind::INFORM, kind::COMMITANDACTIVATE, kind::INFORMANDACTIVATE];
    let packets = messages.iter().filter(|m| m.kind == Kind::Leader).map(|m| whole(m));
    let committed = packets.filter(|p| commits.contains(&p.kind)).map(|p| p.zxid).max();
    if let Some(committed) = committed.filter(|_| !is_broken) {
        assert_eq!(server.applied, committed, "{name}");
    }
    let state = messages.iter().find(|m| m.kind == Kind::State);
    let image = state.map(|m| &m.bytes[..m.bytes.len() - SIGNATURE]);
    assert_eq!(server.image.as_ref().map(|(_, bytes)| &bytes[..]), image, "{name}");
    if server.left.is_some() {
        let History { last, accepted, current } = server.learner.settled().expect("the disk has answered");
        assert_eq!((last, accepted, current), (server.durable, server.accepted, server.current), "{name}");
    }
}

/// All but what was written by hand, with bytes that ours does not send.
fn replays() -> Vec<Walk> {
    let by_hand = "interop-bytes-behind-known-fields-are-ignored";
    walks().into_iter().filter(|walk| walk.name != by_hand).collect()
}

#[test]
fn apaches_learners_and_ours_say_the_same() {
    let mut replayed = (0, 0);
    for walk in replays() {
        for messages in connections(&walk) {
            compare(&walk.name, &messages, None);
            let is_begin = matches!(messages.first(), Some(m) if m.kind == Kind::Learner && is_answer(whole(m).kind));
            replayed.0 += usize::from(is_begin);
            replayed.1 += 1;
        }
    }
    assert_eq!(replayed, (42, 120), "terms from their beginning, and all");
}

/// The stream is cut anywhere, and the disk answers when it likes.
#[test]
fn a_late_disk_and_pieces_change_nothing() {
    for walk in replays() {
        for (at, messages) in connections(&walk).iter().enumerate() {
            for seed in 0..8 {
                compare(&walk.name, messages, Some(fastrand::Rng::with_seed(seed * 100 + at as u64)));
            }
        }
    }
}

/// An Apache leader uses a zxid twice when it cannot decode a write, and commits nothing after that. Ours leaves it, which
/// frees the ensemble.
#[test]
fn a_leader_that_uses_a_zxid_twice_is_left() {
    let walk = replays().into_iter().find(|w| w.name == "apache-leader-undecodable-write").expect("the walk");
    let left = connections(&walk).into_iter().filter(|messages| {
        let server = Replay::of(messages, None).server;
        matches!(server.left, Some(Why::Gap { last, zxid }) if last == zxid)
    });
    assert_eq!(left.count(), 2);
}

/// Bytes behind the version in LEADERINFO, which an Apache follower took as well.
#[test]
fn bytes_behind_leaderinfo_are_ignored() {
    let walk = walks().into_iter().find(|w| w.name.starts_with("interop")).expect("the walk");
    let [info, said] = &walk.messages[..] else { panic!("two packets") };
    let mut server = stand(&[info]);
    server.bytes(&said.bytes);
    server.work();
    assert_eq!(server.zxids_of(kind::ACKEPOCH).len(), 1, "{:?}", server.left);
}
