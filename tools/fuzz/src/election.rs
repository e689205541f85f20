//! Election connections: any bytes on them, and servers that elect over a network that breaks while strangers speak in the
//! members' names. Mirrors what sockets pass to `QuorumCnxManager` and `FastLeaderElection`.
//!
//! * One connection: however the stream is split, the server does the same.
//! * Many servers: whatever is said, delayed or broken, all invariants hold, everything that is written can be read, and
//!   only members and the addresses that strangers came from are dialled. When the strangers are gone and nothing breaks
//!   any more, one server leads and all others follow it.

use std::net::IpAddr;

use zabra::quorum::Role;
use zabra::types::{ConnId, Epoch, ServerId, Zxid};
use zabra::zab::election::Candidate;
use zabra::zab::links::ElectionWant;
use zabra::zab::messenger::Want;
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{ServerState, Vote};

use crate::election_said::{assert_readable, configuration, hello, messenger};
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
        if let Want::Net(ElectionWant::Write { bytes, .. }) = want {
            assert_readable(bytes, false);
        }
    }
}
