//! What a learner says and wants, step by step, when nobody does anything wrong.

use super::{commit, inform, packet, proposal};
use bytes::Bytes;
use zabra::oracle::learner::{INIT_MS, SYNC_MS, Server, history, image, signed, txn};
use zabra::quorum::Role;
use zabra::types::{Cxid, Epoch, Id, Op, ServerId, SessionId, Zxid};
use zabra::zab::learner::{INSTALL_HIGH_WATER, LOG_HIGH_WATER, Learner, Want, Why};
use zabra::zab::message::{Forwarded, FromLeader};
use zabra::zab::packet::kind;

pub const EPOCH_2: Zxid = Zxid(0x2_0000_0000);
pub const Z1: Zxid = Zxid(0x2_0000_0001);
pub const Z2: Zxid = Zxid(0x2_0000_0002);
pub const Z3: Zxid = Zxid(0x2_0000_0003);
pub const OLD: Zxid = Zxid(0x1_0000_0005);

pub fn leader_info(epoch: i64) -> FromLeader<'static> {
    FromLeader::LeaderInfo { epoch: Epoch(epoch), protocol: 0x10000, extra: &[] }
}

pub const NEW_LEADER: FromLeader<'static> = FromLeader::NewLeader { zxid: EPOCH_2, config: None };

/// A server of epoch 1 with a history up to [`OLD`] that has promised epoch 2: it waits for DIFF, TRUNC or SNAP.
pub fn promised(role: Role) -> Server {
    let mut server = Server::with(role, history(OLD.0, 1, 1));
    server.hear(leader_info(2));
    server.finish();
    assert_eq!(server.zxids_of(kind::ACKEPOCH), [OLD]);
    server
}

/// Transactions that are missing come as PROPOSAL and COMMIT. The ACK of NEWLEADER waits for their sync, then for
/// `currentEpoch`; then that of UPTODATE; then one for each proposal whose COMMIT did not come before NEWLEADER.
#[test]
fn a_diff_is_durable_before_it_is_acknowledged() {
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(Z1));
    for bytes in [proposal(Z1), commit(Z1), proposal(Z2)] {
        server.bytes(&bytes);
    }
    server.hear(FromLeader::NewLeader { zxid: EPOCH_2, config: Some(b"server.1=a:1:2\nversion=0") });
    server.bytes(&[proposal(Z3), commit(Z2)].concat());
    assert_eq!(server.told, [Want::SeenConfig(Bytes::from_static(b"server.1=a:1:2\nversion=0"))]);
    server.sync(Z1);
    assert!(!server.has_job() && server.zxids_of(kind::ACK).is_empty());
    // Committed and durable, so it is applied although no client is served yet.
    assert_eq!(server.applied, Z1);
    server.sync(Z2);
    assert!(server.has_job() && server.zxids_of(kind::ACK).is_empty());
    server.finish();
    assert_eq!(server.zxids_of(kind::ACK), [EPOCH_2]);
    server.sync(Z3);
    assert_eq!(server.zxids_of(kind::ACK), [EPOCH_2]);
    server.hear(FromLeader::UpToDate);
    assert_eq!(server.zxids_of(kind::ACK), [EPOCH_2, EPOCH_2, Z2, Z3]);
    assert_eq!((server.applied, server.told.last()), (Z2, Some(&Want::Serve { epoch: Epoch(2) })));
    server.bytes(&commit(Z3));
    assert_eq!(server.applied, Z3);
    let exact: Vec<_> = server.log.iter().map(|l| l.exact).collect();
    assert_eq!(exact, [false, false, true], "what was proposed behind NEWLEADER has a digest that counts");
    assert_eq!(server.learner.caught_up().to_string(), "DIFF, transactions: 2");
}

/// For a proposal of an older epoch the ACK of NEWLEADER stands, whenever its COMMIT comes.
#[test]
fn proposals_of_older_epochs_have_no_ack_of_their_own() {
    let old = Zxid(OLD.0 + 1);
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(OLD));
    server.bytes(&[proposal(old), proposal(Z1), packet(NEW_LEADER)].concat());
    server.work();
    server.bytes(&[packet(FromLeader::UpToDate), commit(old), commit(Z1)].concat());
    assert_eq!((server.applied, server.zxids_of(kind::ACK)), (Z1, vec![EPOCH_2, EPOCH_2, Z1]));
}

/// Clients are served only when all that was committed before UPTODATE can be applied.
#[test]
fn clients_see_what_was_committed_before_uptodate() {
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Diff(OLD));
    server.hear(NEW_LEADER);
    server.work();
    server.bytes(&[proposal(Z1), commit(Z1), packet(FromLeader::UpToDate), proposal(Z2), commit(Z2)].concat());
    assert!(!server.learner.is_serving());
    server.sync(Z1);
    assert!(server.learner.is_serving());
    assert_eq!((server.applied, server.zxids_of(kind::ACK)), (Z1, vec![EPOCH_2, EPOCH_2, Z1]));
}

/// An observer acknowledges NEWLEADER and UPTODATE, and no proposal.
#[test]
fn an_observer_is_informed() {
    let mut server = promised(Role::Observer);
    server.hear(FromLeader::Diff(OLD));
    server.bytes(&[proposal(Z1), commit(Z1)].concat());
    server.hear(NEW_LEADER);
    server.bytes(&inform(Z2));
    server.work();
    server.hear(FromLeader::UpToDate);
    server.bytes(&inform(Z3));
    assert_eq!(server.applied, Z2);
    server.work();
    assert_eq!((server.applied, server.zxids_of(kind::ACK)), (Z3, vec![EPOCH_2, EPOCH_2]));
}

/// A follower that comes back to the leader whose epoch it has accepted gives no epoch in ACKEPOCH, and saves none.
#[test]
fn an_epoch_that_was_accepted_before_counts_for_no_quorum() {
    let mut server = Server::with(Role::Participant, history(Z1.0, 2, 2));
    server.hear(leader_info(2));
    assert!(!server.has_job());
    let (.., bytes) = server.said.last().expect("an answer");
    assert_eq!(bytes[16..20], [0xff; 4], "the epoch is -1");
    server.hear(FromLeader::Diff(Z1));
    server.hear(NEW_LEADER);
    assert_eq!(server.zxids_of(kind::ACK), [EPOCH_2]);
    // Accepted for another leader, and the history is older: it has to be saved.
    let mut server = Server::with(Role::Participant, history(OLD.0, 2, 1));
    server.hear(leader_info(2));
    assert_eq!(server.said.last().expect("an answer").2[16..20], [0xff; 4]);
    server.hear(FromLeader::Diff(OLD));
    server.hear(NEW_LEADER);
    assert!(server.has_job() && server.zxids_of(kind::ACK).is_empty());
}

/// What comes behind TRUNC is looked at when the log is cut.
#[test]
fn a_log_is_cut_before_it_grows() {
    let mut server = promised(Role::Participant);
    let to = Zxid(OLD.0 - 2);
    let behind = [packet(FromLeader::Trunc(to)), proposal(Z1), commit(Z1), packet(NEW_LEADER)].concat();
    server.bytes(&behind);
    assert!(server.has_job() && !server.learner.is_reading() && server.learner.deadline_ms().is_none());
    assert_eq!(server.appended(), OLD);
    server.finish();
    assert_eq!((server.base, server.appended()), (to, Z1));
    server.work();
    assert_eq!((server.zxids_of(kind::ACK), server.applied), (vec![EPOCH_2], Z1));
    assert_eq!(server.learner.caught_up().to_string(), "TRUNC to 0x100000003, transactions: 1");
}

/// A snapshot is handed on as it comes, however it is cut, and ends where it ends.
#[test]
fn a_snapshot_comes_in_pieces() {
    for size in [1, 2, 3, 7, 50, 1000] {
        let mut server = promised(Role::Participant);
        let image = image(b"some data");
        let by = format!("SNAP of {Z2} ({} bytes), transactions: 1", image.len());
        let mut stream = packet(FromLeader::Snap(Z2));
        stream.extend_from_slice(&signed(image.clone()));
        stream.extend([proposal(Z1), commit(Z1), proposal(Z2), proposal(Z3), commit(Z2)].concat());
        stream.extend([packet(NEW_LEADER), commit(Z3)].concat());
        for piece in stream.chunks(size) {
            server.bytes(piece);
        }
        assert!(!server.learner.is_reading());
        assert_eq!(server.image, Some((Z2, image)), "pieces of {size}");
        server.finish();
        // What is in the snapshot is neither logged nor applied again.
        assert_eq!((server.base, server.log.len(), server.appended()), (Z2, 1, Z3));
        assert!(!server.log[0].exact, "parts of it may be in the snapshot");
        server.work();
        server.hear(FromLeader::UpToDate);
        assert_eq!(server.zxids_of(kind::ACK), [EPOCH_2, EPOCH_2, Z3]);
        assert_eq!(server.applied, Z3);
        assert_eq!(server.learner.caught_up().to_string(), by);
    }
}

/// The zxid of an epoch's begin is that of a SNAP, and of no transaction.
#[test]
fn the_begin_of_an_epoch_is_a_zxid_of_a_snapshot() {
    let mut server = Server::with(Role::Participant, history(0, 0, 0));
    server.hear(leader_info(2));
    server.finish();
    server.hear(FromLeader::Snap(EPOCH_2));
    server.bytes(&signed(image(b"")));
    server.finish();
    server.bytes(&[packet(NEW_LEADER), proposal(Z1)].concat());
    server.work();
    server.hear(FromLeader::UpToDate);
    assert_eq!((server.base, server.appended()), (EPOCH_2, Z1));
    // It is a predecessor and a vote of the next term, too.
    server.close();
    server.work();
    assert_eq!(server.learner.settled(), Some(history(Z1.0, 2, 2)));
    let mut server = Server::with(Role::Participant, history(EPOCH_2.0, 2, 2));
    server.hear(leader_info(2));
    server.hear(FromLeader::Diff(EPOCH_2));
    server.bytes(&[packet(NEW_LEADER), proposal(Z1)].concat());
    assert_eq!(server.appended(), Z1);
}

/// Requests go out as they came. A sync is done behind what was committed before it.
#[test]
fn requests_are_forwarded_and_syncs_answered_in_order() {
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    let identities = Some(vec![Id::new("ip", "127.0.0.1")]);
    for (session, cxid, op) in [(5, 1, Op::SYNC), (6, 9, Op::CREATE), (6, 10, Op::SYNC)] {
        let identities = identities.clone();
        let request = Forwarded { session: SessionId(session), cxid: Cxid(cxid), op, body: b"body", identities };
        server.step(|learner, _, wants| learner.forward(request, wants));
    }
    assert_eq!(server.zxids_of(kind::REQUEST).len(), 3);
    server.bytes(&[proposal(Z2), commit(Z2), packet(FromLeader::Sync)].concat());
    assert_eq!(server.told, [], "it is not durable here, so it cannot be read here");
    server.sync(Z2);
    let done = |session, cxid| Want::SyncDone { session: SessionId(session), cxid: Cxid(cxid) };
    assert_eq!((server.applied, &server.told[..]), (Z2, &[done(5, 1)][..]));
    server.hear(FromLeader::Sync);
    // Nobody asked for this one.
    server.hear(FromLeader::Sync);
    assert_eq!(server.told, [done(5, 1), done(6, 10)]);
    assert_eq!(server.left, None);
}

#[test]
fn sessions_are_asked_for_and_touched() {
    let mut server = Server::in_broadcast(Role::Observer, Z1.0);
    server.step(|learner, _, wants| learner.revalidate(SessionId(5), 4000, wants));
    server.hear(FromLeader::Revalidate { session: SessionId(5), valid: true });
    assert_eq!(server.told, [Want::Revalidated { session: SessionId(5), valid: true }]);
    server.hear(FromLeader::Ping(Z1));
    assert_eq!((server.pings.pop_front(), server.zxids_of(kind::PING)), (Some(Z1), vec![]));
    server.step(|learner, _, wants| learner.pong(Z1, [(SessionId(5), 4000)], wants));
    let (kind, zxid, bytes) = server.said.last().expect("an answer");
    assert_eq!((*kind, *zxid, bytes.len()), (kind::PING, Z1, 20 + 12));
}

/// A reconfig is in force when it is applied, and not together with what is behind it.
#[test]
fn a_reconfig_is_activated_behind_its_commit() {
    let activate = |zxid| Want::Activate { zxid, designated: ServerId(3) };
    let mut server = Server::in_broadcast(Role::Participant, Z1.0);
    server.bytes(&[proposal(Z2), proposal(Z3)].concat());
    server.hear(FromLeader::CommitAndActivate { zxid: Z2, designated: ServerId(3) });
    server.bytes(&commit(Z3));
    assert_eq!(server.told, []);
    let mut wants = Vec::new();
    server.learner.synced(20, Z3, &mut wants);
    let commits: Vec<_> = wants.into_iter().filter(|want| !matches!(want, Want::Write(_))).collect();
    assert_eq!(commits, [Want::Commit { upto: Z2 }, activate(Z2), Want::Commit { upto: Z3 }]);
    let mut server = Server::in_broadcast(Role::Observer, Z1.0);
    server.hear(FromLeader::InformAndActivate { zxid: Z2, designated: ServerId(3), txn: &txn(Z2) });
    server.work();
    assert_eq!((server.applied, &server.told[..]), (Z2, &[activate(Z2)][..]));
}

/// Until the ACK of NEWLEADER the leader may be silent for `initLimit`, then for `syncLimit`. Whatever comes renews that.
#[test]
fn a_silent_leader_is_left() {
    let tick = |server: &mut Server| server.step(|learner, now_ms, wants| learner.tick(now_ms, wants));
    let mut server = Server::with(Role::Participant, history(OLD.0, 1, 1));
    assert_eq!(server.learner.deadline_ms(), Some(10 + INIT_MS));
    server.now_ms = 500;
    server.hear(leader_info(2));
    assert_eq!(server.learner.deadline_ms(), None, "the leader waits, not this server");
    server.now_ms = 100_000;
    tick(&mut server);
    server.finish();
    assert_eq!(server.learner.deadline_ms(), Some(100_000 + INIT_MS));
    server.bytes(&packet(FromLeader::Diff(OLD))[..9]);
    server.now_ms = 101_000;
    server.bytes(&packet(FromLeader::Diff(OLD))[9..]);
    assert_eq!(server.learner.deadline_ms(), Some(101_000 + INIT_MS));
    server.hear(NEW_LEADER);
    assert_eq!(server.learner.deadline_ms(), None, "the leader waits for the ACK");
    server.now_ms = 200_000;
    server.work();
    assert_eq!(server.learner.deadline_ms(), Some(200_000 + SYNC_MS));
    server.hear(FromLeader::UpToDate);
    server.now_ms = 200_000 + SYNC_MS - 1;
    tick(&mut server);
    assert_eq!(server.left, None);
    server.now_ms += 1;
    tick(&mut server);
    assert_eq!(server.left, Some(Why::Silent { ms: SYNC_MS }));
    assert_eq!(server.learner.deadline_ms(), None);
}

/// A log that is slow stops the leader's stream instead of filling the memory, and the leader is not blamed for it.
#[test]
fn a_slow_disk_holds_the_stream_back() {
    let mut server = Server::in_broadcast(Role::Participant, EPOCH_2.0);
    let mut zxid = EPOCH_2;
    while server.learner.is_reading() {
        zxid = Zxid(zxid.0 + 1);
        let mut txn = txn(zxid);
        txn.resize(1 << 20, 0);
        server.hear(FromLeader::Proposal { zxid, txn: &txn });
        assert!(server.log.len() <= LOG_HIGH_WATER >> 20, "nothing holds the stream back");
    }
    assert_eq!(server.learner.deadline_ms(), None);
    server.now_ms = 77_000;
    server.sync(zxid);
    assert!(server.learner.is_reading());
    assert_eq!(server.learner.deadline_ms(), Some(77_000 + SYNC_MS));
    let mut server = promised(Role::Participant);
    server.hear(FromLeader::Snap(Z1));
    let image = image(&vec![0; INSTALL_HIGH_WATER]);
    server.bytes(&image[..INSTALL_HIGH_WATER + 500]);
    assert!(!server.learner.is_reading());
    server.now_ms = 99_000;
    server.store();
    assert!(server.learner.is_reading());
    assert_eq!(server.learner.deadline_ms(), Some(99_000 + INIT_MS));
    assert_eq!(server.left, None);
}

/// What the owner gets to know from outside.
#[test]
fn the_state_can_be_asked_for() {
    let mut server = Server::with(Role::Participant, history(OLD.0, 1, 1));
    let state = |learner: &Learner| (learner.epoch(), learner.last(), learner.committed(), learner.settled());
    assert_eq!(state(&server.learner), (None, OLD, OLD, None));
    server.hear(leader_info(2));
    server.finish();
    server.hear(FromLeader::Diff(Z1));
    server.bytes(&[proposal(Z1), commit(Z1), proposal(Z2)].concat());
    assert_eq!(state(&server.learner), (Some(Epoch(2)), Z2, Z1, None));
}
