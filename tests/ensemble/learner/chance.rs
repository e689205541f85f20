//! Random terms: a leader with a random history, a stream that is cut anywhere, a disk that answers when it likes, connections
//! that break and bytes that change. `Server` watches throughout.

use std::collections::VecDeque;

use super::terms::leader_info;
use super::{commit, inform, packet, proposal};
use zabra::oracle::learner::{Server, history, image, signed};
use zabra::quorum::Role;
use zabra::types::{Epoch, Zxid};
use zabra::zab::learner::Why;
use zabra::zab::message::FromLeader;
use zabra::zab::packet::kind;

/// The epoch of the leader.
const EPOCH: i64 = 4;

/// What the leader sends, in parts: each is sent when the learner has answered the one before.
struct Script {
    parts: VecDeque<Vec<u8>>,
    /// The ACKs that follow, all of them.
    acks: Vec<Zxid>,
    /// The last transaction that is committed, and the last that is proposed.
    committed: Zxid,
    proposed: Zxid,
    /// The learner's history at the beginning.
    last: Zxid,
}

/// The history of a leader: some transactions of each epoch before, and perhaps of its own.
fn past(rng: &mut fastrand::Rng) -> Vec<Zxid> {
    let own = rng.bool();
    (1..=EPOCH)
        .flat_map(|epoch| (1..=rng.u32(0..5)).map(move |counter| Zxid::new(Epoch(epoch), counter)))
        .filter(|zxid| own || zxid.epoch() < Epoch(EPOCH))
        .collect()
}

impl Script {
    fn new(rng: &mut fastrand::Rng, role: Role) -> Script {
        let past = past(rng);
        let end = past.last().copied().unwrap_or_default();
        let known = rng.usize(0..=past.len());
        let common = if known == 0 { Zxid::ZERO } else { past[known - 1] };
        let mut first = Vec::new();
        let mut last = common;
        let how = rng.u32(0..3);
        // What the learner has to get behind DIFF, TRUNC or SNAP, and the last of it that counts.
        let mut missing = past[known..].to_vec();
        match how {
            0 => first.extend(packet(FromLeader::Diff(end))),
            1 => {
                // Its own end was committed by nobody.
                last = Zxid(common.0 + rng.i64(1..4));
                first.extend(packet(FromLeader::Trunc(common)));
            }
            _ => {
                last = Zxid(common.0 + rng.i64(0..4));
                // Transactions that were committed while the snapshot began come behind it, too.
                let begin = rng.usize(0..=past.len());
                let zxid = if begin == past.len() && rng.bool() { Zxid::new(Epoch(EPOCH), 0).max(end) } else { end };
                first.extend(packet(FromLeader::Snap(zxid)));
                first.extend(signed(image(&vec![1; rng.usize(0..200)])));
                missing = past[begin..].to_vec();
            }
        }
        missing.iter().for_each(|zxid| first.extend([proposal(*zxid), commit(*zxid)].concat()));
        let mut script = Script { parts: VecDeque::new(), acks: Vec::new(), committed: end, proposed: end, last };
        let next =
            |last: Zxid| if last.epoch() == Epoch(EPOCH) { Zxid(last.0 + 1) } else { Zxid::new(Epoch(EPOCH), 1) };
        let mut outstanding = VecDeque::new();
        let mut broadcast = |rng: &mut fastrand::Rng, script: &mut Script, out: &mut Vec<u8>, steps| {
            for _ in 0..steps {
                match (role, rng.u32(0..5)) {
                    (_, 0) => out.extend(packet(FromLeader::Ping(script.proposed))),
                    (Role::Observer, _) => {
                        script.proposed = next(script.proposed);
                        script.committed = script.proposed;
                        out.extend(inform(script.proposed));
                    }
                    (Role::Participant, 1 | 2) if !outstanding.is_empty() => {
                        script.committed = outstanding.pop_front().expect("an outstanding one");
                        out.extend(commit(script.committed));
                    }
                    (Role::Participant, _) => {
                        script.proposed = next(script.proposed);
                        outstanding.push_back(script.proposed);
                        script.acks.push(script.proposed);
                        out.extend(proposal(script.proposed));
                    }
                }
            }
            script.acks.len() - outstanding.len()
        };
        // What is committed before NEWLEADER has no ACK of its own.
        let steps = rng.u32(0..6);
        let without_ack = broadcast(rng, &mut script, &mut first, steps);
        script.acks.drain(..without_ack);
        let epoch = Zxid::new(Epoch(EPOCH), 0);
        first.extend(packet(FromLeader::NewLeader { zxid: epoch, config: None }));
        let steps = rng.u32(0..8);
        broadcast(rng, &mut script, &mut first, steps);
        let mut second = packet(FromLeader::UpToDate);
        let steps = rng.u32(0..12);
        broadcast(rng, &mut script, &mut second, steps);
        script.acks.splice(0..0, [epoch, epoch]);
        script.parts = [packet(leader_info(EPOCH)), first, second].into();
        script
    }
}

/// What happens to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// It breaks at some time.
    Break,
    /// Some of its bytes change.
    Change,
}

/// Runs a term to its end; returns the script and the server.
fn run(seed: u64, fault: Fault) -> (Script, Server) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let role = if rng.u32(0..4) == 0 { Role::Observer } else { Role::Participant };
    let mut script = Script::new(&mut rng, role);
    let accepted = rng.i64(script.last.epoch().0.max(0)..=EPOCH);
    let mut server = Server::with(role, history(script.last.0, accepted, script.last.epoch().0));
    let mut sent = 0;
    loop {
        server.now_ms += 1;
        assert!(server.now_ms < 100_000, "seed {seed} does not end");
        let is_due = match script.parts.len() {
            3 => true,
            2 => !server.zxids_of(kind::ACKEPOCH).is_empty(),
            1 => !server.zxids_of(kind::ACK).is_empty(),
            _ => false,
        };
        if server.left.is_some() {
            break;
        }
        let part = script.parts.front_mut().filter(|_| is_due);
        let worked = if rng.bool() { server.work_a_little(&mut rng) } else { false };
        if let Some(part) = part
            && rng.bool()
        {
            let len = rng.usize(1..=part.len().min(120));
            let mut piece: Vec<u8> = part.drain(..len).collect();
            if part.is_empty() {
                script.parts.pop_front();
            }
            sent += len;
            if fault == Fault::Change && rng.u32(0..12) == 0 {
                let at = rng.usize(..len);
                piece[at] ^= 1 << rng.u32(0..8);
            }
            server.bytes(&piece);
        } else if script.parts.is_empty() && !worked && !server.work_a_little(&mut rng) {
            break;
        } else if fault != Fault::None && rng.u32(0..30) == 0 {
            server.close();
        }
        while let Some(ping) = server.pings.pop_front().filter(|_| server.left.is_none()) {
            server.step(|learner, _, wants| learner.pong(ping, [], wants));
        }
    }
    assert!(sent > 0 || fault != Fault::None);
    (script, server)
}

#[test]
fn a_late_disk_changes_nothing() {
    for seed in 0..4000 {
        let (script, mut server) = run(seed, Fault::None);
        assert_eq!(server.left, None, "seed {seed}");
        assert_eq!(server.zxids_of(kind::ACK), script.acks, "seed {seed}");
        assert_eq!(
            (server.applied.max(server.base), server.appended().max(server.base)),
            (script.committed.max(server.base), script.proposed.max(server.base)),
            "seed {seed}"
        );
        assert_eq!((server.accepted, server.current), (Epoch(EPOCH), Epoch(EPOCH)));
        assert!(server.learner.is_serving(), "seed {seed}");
        server.settle();
    }
}

#[test]
fn a_term_may_end_at_any_time() {
    let mut ended = 0;
    for seed in 0..4000 {
        let (_, mut server) = run(seed, Fault::Break);
        ended += u32::from(server.left == Some(Why::Closed));
        server.settle();
    }
    assert!(ended > 1000, "{ended} connections broke");
}

/// Whatever comes: no panic, and nothing is said or applied that is not durable.
#[test]
fn changed_bytes_do_no_harm() {
    let mut refused = 0;
    for seed in 0..4000 {
        let (_, mut server) = run(seed, Fault::Change);
        refused += u32::from(!matches!(server.left, None | Some(Why::Closed)));
        server.settle();
    }
    assert!(refused > 1000, "{refused} were refused");
}
