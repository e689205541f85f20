//! Leaders, disks and connections that fail or do what they should not. The term ends, and nothing that is not durable counts.

use super::terms::{EPOCH_2, NEW_LEADER, OLD, Z1, Z2, Z3, leader_info, promised};
use super::{commit, inform, packet, proposal};
use zabra::jute::Put;
use zabra::oracle::learner::{LIMIT, Server, history, image, signed, txn};
use zabra::quorum::Role;
use zabra::types::{Epoch, SessionId, Zxid};
use zabra::zab::learner::{Install, MAX_UNCOMMITTED, Want, Why};
use zabra::zab::message::FromLeader;
use zabra::zab::packet::{PacketError, kind};

const ABANDON: Want = Want::Install(Install::Abandon);

/// An established leader of an older epoch does not notice by itself that its time is over.
#[test]
fn a_leader_of_an_older_epoch_is_left() {
    let mut server = Server::with(Role::Participant, history(OLD.0, 5, 1));
    server.hear(leader_info(4));
    assert_eq!(server.left, Some(Why::OldEpoch { epoch: Epoch(4), accepted: Epoch(5) }));
    assert!(server.zxids_of(kind::ACKEPOCH).is_empty() && !server.has_job());
    assert_eq!(server.learner.settled(), Some(history(OLD.0, 5, 1)));
    let mut server = Server::with(Role::Participant, history(OLD.0, 5, 1));
    server.hear(leader_info(-3));
    assert!(matches!(server.left, Some(Why::OldEpoch { .. })));
}

/// A leader of an older epoch is still there, because the newer one was given up. The observer's promise counts for nobody.
#[test]
fn an_observer_follows_a_leader_of_an_older_epoch_than_it_accepted_but_not_than_its_history() {
    let mut server = Server::with(Role::Observer, history(OLD.0, 5, 1));
    server.hear(leader_info(4));
    assert_eq!((server.left.clone(), server.zxids_of(kind::ACKEPOCH)), (None, vec![OLD]));
    server.learner.check();
    let mut server = Server::with(Role::Observer, history(OLD.0, 5, 5));
    server.hear(leader_info(4));
    assert_eq!(server.left, Some(Why::OldEpoch { epoch: Epoch(4), accepted: Epoch(5) }));
    assert!(server.zxids_of(kind::ACKEPOCH).is_empty());
}

#[test]
fn a_commit_that_is_not_for_the_oldest_proposal_ends_the_term() {
    let left = |server: &Server, zxid, oldest| assert_eq!(server.left, Some(Why::NotOldest { zxid, oldest }));
    // During the synchronisation, too, where Apache logs it and goes on.
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(Z2));
    server.bytes(&[proposal(Z1), proposal(Z2), commit(Z2)].concat());
    left(&server, Z2, Some(Z1));
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.bytes(&[proposal(Z2), commit(Z2), commit(Z2)].concat());
    left(&server, Z2, None);
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.bytes(&commit(Z1));
    left(&server, Z1, None);
    // Behind a snapshot those that are in it are passed over, but only until NEWLEADER.
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Snap(Z2));
    server.bytes(&signed(image(b"")));
    server.finish();
    server.bytes(&[commit(Z1), packet(NEW_LEADER)].concat());
    assert_eq!(server.left, None);
    server.bytes(&commit(Z2));
    left(&server, Z2, None);
}

/// Behind NEWLEADER there are proposals of its epoch only, before it none of a later one.
#[test]
fn what_is_proposed_is_of_the_leaders_epoch() {
    let left = |server: &Server, name, zxid| {
        assert_eq!(server.left, Some(Why::WrongEpoch { name, zxid, epoch: Epoch(2) }));
        assert_eq!(server.log, []);
    };
    let next = Zxid(OLD.0 + 1);
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(OLD));
    server.bytes(&[packet(NEW_LEADER), proposal(next)].concat());
    left(&server, "PROPOSAL", next);
    // Not even if it seems to be the next: it is no transaction's.
    let last = EPOCH_2.0 - 1;
    let mut server = Server::with(Role::Participant, history(last, 2, 1));
    server.hear(leader_info(2));
    server.hear(FromLeader::Diff(Zxid(last)));
    server.bytes(&proposal(EPOCH_2));
    left(&server, "PROPOSAL", EPOCH_2);
    let later = Zxid(0x3_0000_0001);
    let mut server = promised(Role::Observer);
    server.hear(FromLeader::Diff(OLD));
    server.bytes(&proposal(later));
    left(&server, "PROPOSAL", later);
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Snap(later));
    left(&server, "SNAP", later);
}

/// A zxid that is missing or comes twice. Apache logs it and goes on.
#[test]
fn a_proposal_that_does_not_follow_ends_the_term() {
    let cases = [(Z1, Z1), (Z1, Z3), (Z1, EPOCH_2), (Z1, OLD), (Z1, Zxid(0x3_0000_0002)), (OLD, Z2), (OLD, EPOCH_2)];
    for (last, zxid) in cases {
        for role in [Role::Participant, Role::Observer] {
            let mut server = Server::with(role, history(last.0, 3, 3));
            server.hear(leader_info(3));
            server.hear(FromLeader::Diff(last));
            server.bytes(&proposal(zxid));
            assert_eq!(server.left, Some(Why::Gap { last, zxid }));
            assert_eq!(server.log, []);
        }
    }
    let mut server = Server::in_broadcast(Role::Observer, Z1.0);
    server.bytes(&inform(Z3));
    assert_eq!(server.left, Some(Why::Gap { last: Z1, zxid: Z3 }));
    // Behind a snapshot, and behind NEWLEADER, what is in the snapshot is proposed too late.
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Snap(Z2));
    server.bytes(&signed(image(b"")));
    server.finish();
    server.bytes(&[packet(NEW_LEADER), proposal(Z2)].concat());
    assert_eq!(server.left, Some(Why::Gap { last: Z2, zxid: Z2 }));
}

#[test]
fn a_proposal_is_of_the_zxid_in_its_header() {
    for txn in [txn(Z3), Vec::new(), txn(Z2)[..31].to_vec()] {
        let mut server = Server::in_broadcast(Role::Participant, Z1.0);
        server.hear(FromLeader::Proposal { zxid: Z2, txn: &txn });
        assert_eq!((&server.left, server.log.len()), (&Some(Why::Header { zxid: Z2 }), 0));
    }
}

#[test]
fn newleader_must_fit_what_came_before() {
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(Z2));
    server.bytes(&[proposal(Z1), commit(Z1), packet(NEW_LEADER)].concat());
    server.work();
    assert_eq!(server.left, Some(Why::Short { last: Z1, promised: Z2 }));
    for zxid in [Z1, Zxid(0x1_0000_0000), Zxid(0x3_0000_0000), Zxid::NONE] {
        let mut server = promised(Role::Participant);
        server.hear(FromLeader::Diff(OLD));
        server.hear(FromLeader::NewLeader { zxid, config: None });
        server.work();
        assert_eq!(server.left, Some(Why::WrongEpoch { name: "NEWLEADER", zxid, epoch: Epoch(2) }));
        assert!(server.zxids_of(kind::ACK).is_empty());
    }
}

#[test]
fn a_log_is_not_cut_where_it_has_nothing() {
    for (said, name) in
        [(FromLeader::Trunc(Z1), "TRUNC"), (FromLeader::Trunc(Zxid(-1)), "TRUNC"), (FromLeader::Snap(Zxid(-2)), "SNAP")]
    {
        let mut server = promised(Role::Participant);
        server.hear(said);
        let Some(Why::Nowhere { name: of, last: OLD, .. }) = server.left else { panic!("{:?}", server.left) };
        assert!(of == name && !server.has_job() && server.image.is_none());
    }
}

/// Each packet in a place where it has none.
#[test]
fn packets_have_their_places() {
    let all = |epoch| {
        [
            leader_info(epoch),
            FromLeader::Diff(Z1),
            FromLeader::Trunc(Z1),
            FromLeader::Snap(Z1),
            FromLeader::NewLeader { zxid: EPOCH_2, config: None },
            FromLeader::UpToDate,
            FromLeader::Proposal { zxid: Z2, txn: &[] },
            FromLeader::Commit(Z2),
            FromLeader::Inform { zxid: Z2, txn: &[] },
            FromLeader::Revalidate { session: SessionId(1), valid: true },
            FromLeader::Sync,
        ]
    };
    let unexpected = |server: &Server| matches!(server.left, Some(Why::Unexpected { .. }));
    type Stage<'a> = (fn() -> Server, &'a [usize]);
    let stages: [Stage<'_>; 5] = [
        (|| Server::with(Role::Participant, history(OLD.0, 1, 1)), &[0]),
        (|| promised(Role::Participant), &[1, 2, 3]),
        (
            || {
                let mut server = promised(Role::Participant);
                server.hear(FromLeader::Diff(OLD));
                server
            },
            &[4, 6, 7],
        ),
        (
            || {
                let mut server = promised(Role::Participant);
                server.hear(FromLeader::Diff(OLD));
                server.hear(NEW_LEADER);
                server
            },
            &[6, 7],
        ),
        (|| Server::in_broadcast(Role::Participant, Z1.0), &[6, 7, 9, 10]),
    ];
    for (at, (stage, fits)) in stages.iter().enumerate() {
        for (number, said) in all(2).into_iter().enumerate() {
            let mut server = stage();
            server.hear(said);
            assert_eq!(unexpected(&server), !fits.contains(&number), "{said:?} at stage {at}: {:?}", server.left);
        }
    }
    // UPTODATE has its place only behind the ACK of NEWLEADER.
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(OLD));
    server.hear(NEW_LEADER);
    server.hear(FromLeader::UpToDate);
    assert!(unexpected(&server) && server.zxids_of(kind::ACK).is_empty() && !server.learner.is_serving());
}

/// A PING may come anywhere, and is answered in broadcast. So may, behind DIFF, a packet that nobody knows.
#[test]
fn pings_and_unknown_packets_have_no_place() {
    let ping = packet(FromLeader::Ping(Z1));
    let mut unknown = Vec::new();
    unknown.put_i32(77);
    unknown.put_i64(5);
    unknown.put_buffer(Some(b"?"));
    unknown.put_i32(-1);
    let mut server = Server::with(Role::Participant, history(OLD.0, 1, 1));
    let steps = [leader_info(2), FromLeader::Diff(OLD), NEW_LEADER, FromLeader::UpToDate];
    for (at, said) in steps.into_iter().enumerate() {
        server.bytes(&ping);
        if at >= 2 {
            server.bytes(&unknown);
        }
        server.hear(said);
        server.bytes(&ping);
        server.work();
    }
    assert_eq!((&server.left, server.pings.len(), server.learner.is_serving()), (&None, 1, true));
    assert_eq!(server.zxids_of(kind::PING), []);
    server.bytes(&unknown);
    assert_eq!(server.left, None);
    let mut server = promised(Role::Participant);
    server.bytes(&unknown);
    assert!(matches!(server.left, Some(Why::Unexpected { .. })));
}

/// A snapshot that does not come to its end never becomes the history.
#[test]
fn half_a_snapshot_is_no_state() {
    let whole = signed(image(b"data"));
    for cut in 0..whole.len() {
        let mut server = promised(Role::Participant);
        server.hear(FromLeader::Snap(Z1));
        server.bytes(&whole[..cut]);
        server.close();
        assert_eq!((&server.left, &server.told[..]), (&Some(Why::Closed), &[ABANDON][..]), "cut at {cut}");
        server.work();
        assert_eq!(server.learner.settled(), Some(history(OLD.0, 2, 1)));
    }
    let mut damaged = vec![(whole.len() - 1, 1), (whole.len() - 12, 1)];
    // The length of the root's path, and that of its data.
    let root = whole.windows(8).position(|w| w == [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).expect("the root");
    damaged.extend([(root, 0xff), (root + 7, 1)]);
    for (at, change) in damaged {
        let mut bytes = whole.clone();
        bytes[at] ^= change;
        let mut server = promised(Role::Participant);
        server.hear(FromLeader::Snap(Z1));
        server.bytes(&bytes);
        assert!(matches!(server.left, Some(Why::Image(_))), "{at}: {:?}", server.left);
        assert_eq!((server.has_job(), &server.told[..]), (false, &[ABANDON][..]));
    }
}

/// The next vote waits for the disk: for what was appended, and for every job.
#[test]
fn a_term_is_settled_when_the_disk_has_answered() {
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.bytes(&[proposal(Z2), proposal(Z3), commit(Z2)].concat());
    server.close();
    assert_eq!(server.learner.settled(), None);
    server.sync(Z2);
    assert_eq!((server.learner.settled(), server.applied), (None, Z1), "the term is over: nothing is applied for it");
    server.sync(Z3);
    assert_eq!(server.learner.settled(), Some(history(Z3.0, 2, 2)));
    // Whatever comes now comes too late.
    server.bytes(&proposal(Zxid(Z3.0 + 1)));
    server.step(|learner, _, wants| learner.revalidate(SessionId(1), 1, wants));
    server.step(|learner, _, wants| learner.pong(Z1, [], wants));
    assert!(server.said.is_empty() && server.log.len() == 2);

    let jobs: [(fn(&mut Server), _); 4] = [
        (|_| {}, history(OLD.0, 2, 1)),
        (|server| server.hear(FromLeader::Trunc(Zxid(OLD.0 - 1))), history(OLD.0 - 1, 2, 1)),
        (
            |server| {
                server.hear(FromLeader::Snap(Z1));
                server.bytes(&signed(image(b"")));
            },
            history(Z1.0, 2, 1),
        ),
        (
            |server| {
                server.hear(FromLeader::Diff(OLD));
                server.hear(NEW_LEADER);
            },
            history(OLD.0, 2, 2),
        ),
    ];
    for (at, (begin, after)) in jobs.into_iter().enumerate() {
        let mut server = Server::with(Role::Participant, history(OLD.0, 1, 1));
        server.hear(leader_info(2));
        if at > 0 {
            server.finish();
            begin(&mut server);
        }
        server.close();
        assert!(server.has_job() && server.learner.settled().is_none());
        server.finish();
        assert_eq!(server.learner.settled(), Some(after));
    }
}

/// The owner finds that a transaction cannot be decoded, or that its tree is not the leader's.
#[test]
fn the_owner_ends_a_term() {
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.bytes(&[proposal(Z2), proposal(Z3), commit(Z2), commit(Z3)].concat());
    server.log.pop();
    server.step(|learner, _, wants| learner.refuse(Z3, "what is that?".into(), wants));
    assert_eq!(server.left.as_ref().map(Why::to_string).as_deref(), Some("what is that?"));
    assert_eq!(server.learner.settled(), None);
    server.sync(Z2);
    assert_eq!(server.learner.settled(), Some(history(Z2.0, 2, 2)));
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.step(|learner, _, wants| learner.leave("another digest".into(), wants));
    assert_eq!(server.left, Some(Why::Refused("another digest".into())));
}

/// Lengths are judged before there is memory for what they promise.
#[test]
fn lengths_are_bounded_before_anything_is_kept() {
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    let mut bytes = packet(FromLeader::Proposal { zxid: Z2, txn: &[0; 40] });
    bytes[12..16].copy_from_slice(&(LIMIT as i32 + 1).to_be_bytes());
    server.bytes(&bytes);
    assert!(matches!(server.left, Some(Why::Packet(PacketError::TooLong { .. }))));
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    bytes[12..16].copy_from_slice(&(-7i32).to_be_bytes());
    server.bytes(&bytes);
    assert!(matches!(server.left, Some(Why::Packet(PacketError::Missing { .. }))));
    // A snapshot says that it has two thousand million of something. Nothing is set aside for that.
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Snap(Z1));
    server.bytes(&i32::MAX.to_be_bytes());
    server.bytes(&[0; 1000]);
    assert_eq!((&server.left, server.image.as_ref().map(|image| image.1.len())), (&None, Some(1004)));
}

/// Proposals for which no COMMIT comes are not gathered for ever. The disk is fast here; it is the leader that commits nothing.
#[test]
fn proposals_without_commit_are_bounded() {
    let mut server = Server::in_broadcast(Role::Participant, EPOCH_2.0);
    let mut txn = txn(Z1);
    txn.resize(LIMIT, 0);
    let mut packets = packet(FromLeader::Proposal { zxid: Z1, txn: &txn });
    let mut bytes = 0;
    for number in 1.. {
        let zxid = Zxid(EPOCH_2.0 + number);
        packets[4..12].copy_from_slice(&zxid.0.to_be_bytes());
        packets[28..36].copy_from_slice(&zxid.0.to_be_bytes());
        server.bytes(&packets);
        if server.left.is_some() {
            break;
        }
        bytes += LIMIT;
        server.sync(zxid);
        server.log.clear();
        server.base = zxid;
        assert!(bytes <= MAX_UNCOMMITTED, "{bytes} bytes");
    }
    assert!(matches!(server.left, Some(Why::TooMuch { .. })), "{:?}", server.left);
}

/// Answers that nobody asked for are bugs of the owner.
#[test]
#[should_panic(expected = "was not asked for")]
fn a_job_is_answered_once() {
    promised(Role::Participant).step(|learner, now_ms, wants| learner.saved_accepted(now_ms, Epoch(2), wants));
}

#[test]
#[should_panic(expected = "clients are not served")]
fn nothing_is_forwarded_before_clients_are_served() {
    promised(Role::Participant).step(|learner, _, wants| learner.revalidate(SessionId(1), 1, wants));
}
