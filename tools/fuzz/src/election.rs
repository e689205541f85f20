//! Election connections: any bytes on them, and servers that elect over a network that breaks while strangers speak in the
//! members' names. Mirrors what sockets pass to `QuorumCnxManager` and `FastLeaderElection`.
//!
//! * One connection: however the stream is split, the server does the same.
//! * Many servers: whatever is said, delayed or broken, all invariants hold, everything that is written can be read, and
//!   only members and the addresses that strangers came from are dialled. When the strangers are gone and nothing breaks
//!   any more, one server leads and all others follow it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use zabra::jute::Put;
use zabra::quorum::{Member, Members, Role};
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::{Candidate, Electorate, Timing};
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::messenger::{Messenger, Want};
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{ServerState, Vote};

use crate::election_world::World;
use crate::input::Input;
use crate::world::pieces;

/// Input: a byte of flags; then for one connection the places to split and the stream, for many servers a list of steps.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    if flags & 1 == 0 {
        one_stream(flags, &mut input);
    } else {
        World::new(flags, &mut input).run(&mut input);
    }
}

/// The configuration of `voters` voters and one observer.
pub(crate) fn configuration(voters: i64) -> Arc<Members> {
    let line = |id| {
        let role = if id > voters { "observer" } else { "participant" };
        Member::parse(&format!("h{id}:2888:388{id}:{role}")).expect("a member")
    };
    Arc::new(
        Members::majority((1..=voters + 1).map(|id| (ServerId(id), line(id))).collect(), Zxid::ZERO).expect("voters"),
    )
}

pub(crate) fn messenger(me: ServerId, members: Arc<Members>, reconfig: bool, all: bool) -> Messenger {
    Messenger::new(me, Timing::default(), Electorate { members, next: None }, reconfig, all, 1000)
}

/// Passes the pieces to a new connection of server 2, which looks or leads.
fn feed(pieces: &[&[u8]], leads: bool) -> Vec<Want> {
    let members = configuration(if leads { 2 } else { 3 });
    let mut two = messenger(ServerId(2), members, false, false);
    let mut wants = Vec::new();
    two.start(0, Candidate { role: Role::Participant, last: Zxid(5), epoch: Epoch(0) }, &mut wants);
    if leads {
        let vote = Vote { leader: ServerId(2), zxid: Zxid(5), peer_epoch: Epoch(0) };
        let mut said = Vec::new();
        Notification::put(&mut said, &vote, 1, ServerState::Looking, "version=0");
        let (message, _) = notification::split(&said).expect("a length").expect("whole");
        two.heard(0, ServerId(1), &Notification::read(message).expect("a notification"), &mut wants);
        two.tick(1000, &mut wants);
        assert_eq!(two.election().state(), ServerState::Leading);
    }
    wants.clear();
    two.accepted(1000, ConnId(1), IpAddr::from([10, 0, 0, 9]), &mut wants);
    for piece in pieces {
        two.bytes(1000, ConnId(1), piece, &mut wants);
        two.check();
    }
    wants
}

fn one_stream(flags: u8, input: &mut Input<'_>) {
    let cuts = input.piece();
    let mut stream = Vec::new();
    if flags & 2 == 0 {
        hello(input, &mut stream);
    }
    stream.extend_from_slice(input.rest());
    let leads = flags & 4 != 0;
    let whole = feed(&[&stream], leads);
    let cut = pieces(&stream, cuts);
    assert_eq!(whole, feed(&cut, leads), "cut into {cut:?}");
    for want in &whole {
        if let Want::Write { bytes, .. } = want {
            assert_readable(bytes, false);
        }
    }
}

/// What a server writes at once: a hello at first, or one notification.
pub(crate) fn assert_readable(bytes: &[u8], is_hello: bool) {
    if is_hello {
        let Ok(Some((_, taken))) = Hello::read(bytes) else { panic!("no hello: {bytes:02x?}") };
        assert_eq!(taken, bytes.len());
        return;
    }
    let Ok(Some((message, taken))) = notification::split(bytes) else { panic!("no message: {bytes:02x?}") };
    assert_eq!(taken, bytes.len());
    let read = Notification::read(message).expect("what is written can be read");
    assert!(read.config_version().is_some(), "a notification without a configuration");
}

/// A hello of some server.
pub(crate) fn hello(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let server = ServerId(*input.pick(&[1, 2, 3, 4, 5, 9, 0, i64::MAX, -7, i64::MIN]));
    let one = || ElectionAddress { host: "10.0.0.9".into(), port: 3888 };
    let addresses = match input.below(4) {
        0 if server.0 >= 0 => Addresses::Unsaid,
        1 => Addresses::Several(vec![one(), ElectionAddress { host: "::1".into(), port: 1 }]),
        2 => Addresses::One(ElectionAddress { host: "elsewhere".into(), port: 22 }),
        _ => Addresses::One(one()),
    };
    Hello { server, addresses }.put(out);
}

/// A notification with values that matter.
pub(crate) fn said(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let number = |input: &mut Input<'_>| *input.pick(&[0, 1, 2, 3, 4, 9, -1, i64::MIN, i64::MAX, 0x1_0000_0001]);
    let vote = Vote { leader: ServerId(number(input)), zxid: Zxid(number(input)), peer_epoch: Epoch(number(input)) };
    let round = number(input);
    let states = [ServerState::Looking, ServerState::Following, ServerState::Leading, ServerState::Observing];
    let state = *input.pick(&states);
    match input.below(8) {
        form @ (0 | 1) => {
            out.put_i32(if form == 0 { 28 } else { 40 });
            out.put_i32(state as i32);
            [vote.leader.0, vote.zxid.0, round].iter().for_each(|n| out.put_i64(*n));
            if form == 1 {
                out.put_i64(vote.peer_epoch.0);
                out.put_i32(0);
            }
        }
        2 => Notification::put(out, &vote, round, state, &String::from_utf8_lossy(input.piece())),
        3 => {
            let config = "server.1=h1:2888:3881\nserver.2=h2:2888:3882\nserver.3=h3:2888:3883\nversion=100000000";
            Notification::put(out, &vote, round, state, config);
        }
        _ => Notification::put(out, &vote, round, state, "version=0"),
    }
}

/// The members of a configuration's text, if it is one.
pub(crate) fn parse(text: &str, version: Zxid) -> Option<Members> {
    let line = |line: &str| {
        let (id, member) = line.strip_prefix("server.")?.split_once('=')?;
        Some((ServerId(id.parse().ok()?), Member::parse(member).ok()?))
    };
    let members: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    Members::majority(members, version).ok()
}
