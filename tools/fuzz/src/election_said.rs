//! What servers, and strangers in their names, say on election connections; and the servers' configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use zabra::jute::Put;
use zabra::quorum::{Member, Members};
use zabra::types::{Epoch, ServerId, Zxid};
use zabra::zab::election::{Electorate, Timing};
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::messenger::Messenger;
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{ServerState, Vote};

use crate::input::Input;

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
