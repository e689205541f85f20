//! A whole term of a learner: what its leader sends, what its disk does meanwhile, and what its clients want.
//!
//! `zabra::oracle::learner` judges each step: nothing is said, saved or applied before what it stands for is durable, and
//! after the end the learner knows what the disk has. Whatever comes must be followed or end the term.

use zabra::oracle::learner::{Server, history, image, signed, txn};
use zabra::quorum::Role;
use zabra::types::{Cxid, Epoch, Id, Op, ServerId, SessionId, Zxid};
use zabra::zab::message::{Forwarded, FromLeader};
use zabra::zab::packet::kind;

use crate::input::Input;

/// Where histories end: some of them where an epoch does, or before its first transaction.
const LAST: [i64; 7] = [0, 1, 0x1_0000_0005, 0x2_0000_0000, 0x2_0000_0003, 0x2_ffff_fffe, 0x2_ffff_ffff];

/// Input: the role, the history, then steps.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let role = *input.pick(&[Role::Participant, Role::Observer]);
    let last = *input.pick(&LAST);
    let epoch = Zxid(last).epoch().0;
    let accepted = epoch + input.below(2) as i64;
    let mut server = Server::with(role, history(last, accepted, epoch));
    while !input.is_empty() && server.left.is_none() {
        step(&mut server, &mut input);
    }
    server.settle();
}

fn step(server: &mut Server, input: &mut Input<'_>) {
    match input.below(32) {
        0 => server.bytes(input.piece()),
        1..=4 => _ = server.work_a_little(&mut fastrand::Rng::with_seed(input.u8().into())),
        5 => {
            server.now_ms += i64::from(input.u16());
            server.step(|learner, now_ms, wants| learner.tick(now_ms, wants));
        }
        6 if server.learner.is_serving() => ask(server, input),
        6 => server.close(),
        7 => {
            while let Some(zxid) = server.pings.pop_front() {
                server.step(|learner, _, wants| learner.pong(zxid, [(SessionId(5), 4000)], wants));
            }
        }
        8 => {
            let stream = signed(image(input.piece()));
            send(server, input, &stream);
        }
        9 => server.work(),
        10..=20 => packet(server, input),
        _ => next(server, input),
    }
}

/// A client wants something.
fn ask(server: &mut Server, input: &mut Input<'_>) {
    let session = SessionId(input.u8().into());
    let op = *input.pick(&[Op::SYNC, Op::CREATE]);
    let identities = input.flag().then(|| vec![Id::new("ip", "::1")]);
    let body = input.piece();
    server.step(|learner, _, wants| match op {
        Op::SYNC => learner.forward(Forwarded { session, cxid: Cxid(1), op, body, identities }, wants),
        _ => learner.revalidate(session, 4000, wants),
    });
}

/// What a leader says next that makes no mistakes, or nearly none.
fn next(server: &mut Server, input: &mut Input<'_>) {
    server.work();
    let last = server.appended();
    let epoch = server.learner.epoch().unwrap_or(server.accepted);
    let begin = Zxid::new(epoch, 0);
    let after = |zxid: Zxid| Zxid(zxid.0.wrapping_add(1).max(begin.0 + 1));
    let txn = txn(after(last));
    let acks = server.zxids_of(kind::ACK).len();
    let said = match (server.zxids_of(kind::ACKEPOCH).len(), acks, input.below(4)) {
        (0, ..) => FromLeader::LeaderInfo { epoch: server.accepted, protocol: 0x10000, extra: &[] },
        (_, 0, 0 | 1) => FromLeader::Diff(last),
        (_, 0, _) => FromLeader::NewLeader { zxid: begin, config: None },
        (_, 1, 0 | 1) => FromLeader::UpToDate,
        (_, _, 0) if server.role() == Role::Observer => FromLeader::Inform { zxid: after(last), txn: &txn },
        (_, _, 0 | 1) => FromLeader::Proposal { zxid: after(last), txn: &txn },
        (_, _, 2) => FromLeader::Commit(after(server.learner.committed())),
        _ => FromLeader::Ping(last),
    };
    let mut bytes = Vec::new();
    said.put(&mut bytes);
    send(server, input, &bytes);
}

/// One packet, with numbers that are right or nearly.
fn packet(server: &mut Server, input: &mut Input<'_>) {
    let epoch = server.learner.epoch().unwrap_or(server.accepted);
    let begin = Zxid::new(epoch, 0);
    let (last, committed) = (server.appended(), server.learner.committed());
    let near =
        [Zxid(last.0.wrapping_add(1)), Zxid(begin.0 + 1), Zxid(committed.0.wrapping_add(1)), last, begin, server.base];
    let zxid = *input.pick(&near);
    let txn = txn(zxid);
    let designated = ServerId(3);
    let said = match input.below(16) {
        0 => {
            let epoch = Epoch(epoch.0 + [0, 1, 2, -1][input.below(4)]);
            FromLeader::LeaderInfo { epoch, protocol: 0x10000, extra: input.piece() }
        }
        1 => FromLeader::Diff(zxid),
        2 => FromLeader::Trunc(zxid),
        3 => FromLeader::Snap(zxid),
        4 => FromLeader::NewLeader { zxid: begin, config: input.flag().then_some(b"version=0") },
        5 => FromLeader::UpToDate,
        6 => FromLeader::Inform { zxid, txn: &txn },
        7 => FromLeader::InformAndActivate { zxid, designated, txn: &txn },
        8 => FromLeader::CommitAndActivate { zxid, designated },
        9 => FromLeader::Ping(zxid),
        10 => FromLeader::Revalidate { session: SessionId(5), valid: input.flag() },
        11 => FromLeader::Sync,
        12 | 13 => FromLeader::Commit(zxid),
        _ => FromLeader::Proposal { zxid, txn: &txn },
    };
    let mut bytes = Vec::new();
    said.put(&mut bytes);
    send(server, input, &bytes);
}

/// Sends bytes, in one piece or in two with something of the disk between them.
fn send(server: &mut Server, input: &mut Input<'_>, bytes: &[u8]) {
    let cut = usize::from(input.u8()).min(bytes.len());
    server.bytes(&bytes[..cut]);
    if cut > 0 && server.left.is_none() {
        server.work_a_little(&mut fastrand::Rng::with_seed(cut as u64));
    }
    server.bytes(&bytes[cut..]);
}
