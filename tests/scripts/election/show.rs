//! Messages of elections as text.

use zabra::types::{Epoch, ServerId, Zxid};
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::notification::{self, Notification};
use zabra::zab::vote::{Held, ServerState, Vote};

use crate::scripts::show::zxid;

pub fn server(id: ServerId) -> String {
    match id.0 {
        i64::MIN => "nobody".into(),
        n => n.to_string(),
    }
}

pub fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Looking => "LOOKING",
        ServerState::Following => "FOLLOWING",
        ServerState::Leading => "LEADING",
        ServerState::Observing => "OBSERVING",
    }
}

fn number(n: i64) -> String {
    if n == i64::MIN { "none".into() } else { n.to_string() }
}

/// A vote with its owner's state and round.
pub fn held(held: &Held) -> String {
    let Held { vote: Vote { leader, zxid: last, peer_epoch: Epoch(epoch) }, election_epoch, state: its, .. } = *held;
    let last = match last {
        Zxid(i64::MIN) => "none".into(),
        Zxid::NONE => "-1".into(),
        last => zxid(last),
    };
    let (leader, epoch) = (server(leader), number(epoch));
    format!("{}, votes for {leader} (epoch {epoch}, zxid {last}), round {election_epoch}", state(its))
}

pub fn address(address: &ElectionAddress) -> String {
    format!("{}:{}", address.host, address.port)
}

pub fn addresses(all: &[ElectionAddress]) -> String {
    let all: Vec<_> = all.iter().map(address).collect();
    all.join(" or ")
}

/// What one write contained. `first`: nothing was written on the connection before by the server that dialled it.
pub fn bytes(mut bytes: &[u8], first: bool, config_version: Zxid) -> Vec<String> {
    let mut said = Vec::new();
    if first && let Ok(Some((hello, taken))) = Hello::read(bytes) {
        bytes = &bytes[taken..];
        let at = match &hello.addresses {
            Addresses::Unsaid => "without address".into(),
            Addresses::One(one) => format!("at {}", address(one)),
            Addresses::Several(all) => format!("with all addresses: {}", addresses(all)),
        };
        said.push(format!("hello, server {} {at}", hello.server.0));
    }
    while let Ok(Some((message, taken))) = notification::split(bytes) {
        let read = Notification::read(message).expect("ours can be read");
        let version = read.config_version().filter(|version| *version != config_version);
        let config = version.map_or_else(String::new, |version| format!(", configuration {}", zxid(version)));
        said.push(held(&read.held) + &config);
        bytes = &bytes[taken..];
    }
    assert!(bytes.is_empty(), "{} bytes that are nothing", bytes.len());
    said
}
