//! Servers that the script speaks for, and the state of ours.

use zabra::jute::Put;
use zabra::types::{Epoch, ServerId};
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::notification::Notification;
use zabra::zab::vote::{ServerState, Vote};

use super::show;
use super::world::{World, ends, id};
use crate::scripts::command::Args;

impl World {
    /// `dial A>B [hello=one|all|bare|none] [at=HOST:PORT,...] [sid=N]`
    pub(super) fn hand_dials(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let at = args.value("at").map_or_else(|| format!("10.0.0.{}:3888", from.0), str::to_owned);
        let address = |text: &str| {
            let (host, port) = text.rsplit_once(':').expect("host:port");
            ElectionAddress { host: host.trim_matches(['[', ']']).to_owned(), port: port.parse().expect("a port") }
        };
        let mut all: Vec<_> = at.split(',').map(address).collect();
        let form = args.value("hello").unwrap_or("one");
        let said = args.value("sid").map_or(from, id);
        let conn = self.hand_connects(from, to);
        let addresses = match form {
            "one" => Addresses::One(all.swap_remove(0)),
            "all" => Addresses::Several(all),
            "bare" => Addresses::Unsaid,
            "none" => return,
            other => panic!("there is no hello {other}"),
        };
        let mut bytes = Vec::new();
        Hello { server: said, addresses }.put(&mut bytes);
        self.hand_writes(conn, bytes);
    }

    /// `say A>B STATE votes=N [epoch=E] [last=Z] [round=N] [form=28|40] [config=LINE,...] [conn=N]`,
    /// on the newest connection or on connection cN.
    pub(super) fn hand_says(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let state = match args.need("state") {
            "LOOKING" => ServerState::Looking,
            "FOLLOWING" => ServerState::Following,
            "LEADING" => ServerState::Leading,
            "OBSERVING" => ServerState::Observing,
            other => panic!("there is no state {other}"),
        };
        let vote = match args.value("votes").expect("votes=") {
            "nobody" => Vote::NOBODY,
            leader => {
                let zxid = args.zxid("last").unwrap_or_default();
                let peer_epoch = args.number("epoch").map_or(zxid.epoch(), Epoch);
                Vote { leader: id(leader), zxid, peer_epoch }
            }
        };
        let round = args.number("round").unwrap_or(1);
        let config = args.value("config").map_or_else(|| "version=0".to_owned(), |lines| lines.replace(',', "\n"));
        let mut bytes = Vec::new();
        match args.number("form") {
            None => Notification::put(&mut bytes, &vote, round, state, &config),
            Some(length) => {
                bytes.put_i32(length as i32);
                bytes.put_i32(state as i32);
                bytes.put_i64(vote.leader.0);
                bytes.put_i64(vote.zxid.0);
                bytes.put_i64(round);
                bytes.put_i64(vote.peer_epoch.0);
                bytes.resize(4 + length as usize, 0);
            }
        }
        let number = args.number("conn").map(|number| number as u64);
        let conn = number.map_or_else(|| self.net.newest(from, to), |number| self.net.numbered(from, number));
        self.hand_writes(conn.expect("a connection"), bytes);
    }

    /// `bytes A>B HEX...`, on the newest connection; each word arrives for itself.
    pub(super) fn hand_sends(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let conn = self.net.newest(from, to).expect("a connection");
        while let Some(word) = args.next() {
            let byte = |at| u8::from_str_radix(&word[at..at + 2], 16).expect("hexadecimal");
            self.hand_writes(conn, (0..word.len()).step_by(2).map(byte).collect());
        }
    }

    /// `show [N]`
    pub(super) fn show(&mut self, args: &mut Args<'_>) {
        let only = args.next().map(id);
        let all: Vec<ServerId> =
            self.servers.keys().copied().filter(|id| only.is_none_or(|only| only == *id)).collect();
        for id in all {
            let messenger = &self.servers[&id].messenger;
            let state = match messenger.election().state() {
                ServerState::Looking => "LOOKING".to_owned(),
                _ => show::held(&messenger.election().current()),
            };
            let ends = self.net.ends_at(id);
            let links =
                ends.iter().filter_map(|conn| Some((messenger.links().server(*conn)?, self.net.end(*conn).number)));
            let links: Vec<_> = links.map(|(server, number)| format!("{} (c{number})", server.0)).collect();
            let links = if links.is_empty() { "nobody".to_owned() } else { links.join(", ") };
            self.say(format!("{} is {state}; connected to {links}", id.0));
        }
    }
}
