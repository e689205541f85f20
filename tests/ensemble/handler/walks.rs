//! Recorded connections between Apache's leader and its learners. Ours hears what the learner said, and the decisions of
//! Apache's leader (which epoch, which transactions, when it is established); it must write the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::recorded::{Kind, Message, Walk, walks};
use super::{LIMIT, hear_in_pieces, packet};
use bytes::Bytes;
use zabra::types::{Epoch, Op, ServerId, Zxid};
use zabra::zab::handler::{End, Fed, Feed, Handler, LearnerRoom, Outgoing, Request, Want};
use zabra::zab::history::Committed;
use zabra::zab::message::{FromLeader, FromLearner, LearnerInfo};
use zabra::zab::packet::{Packet, Split, split};
use zabra::zab::sync_plan::Plan;

const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

fn read(message: &Message) -> Packet<'_> {
    let Ok(Split::Whole(packet, len)) = split(&message.bytes, LIMIT) else { panic!("{}: no packet", message.place) };
    assert_eq!(len, message.bytes.len(), "{}", message.place);
    packet
}

fn from_leader(message: &Message) -> FromLeader<'_> {
    FromLeader::read(&read(message)).unwrap_or_else(|e| panic!("{}: {e}", message.place))
}

fn from_learner(message: &Message) -> FromLearner<'_> {
    FromLearner::read(read(message)).unwrap_or_else(|e| panic!("{}: {e}", message.place))
}

/// One connection, with our handler on the leader's side.
struct Stand {
    handler: Handler,
    wants: Vec<Want>,
    written: Vec<u8>,
    /// What Apache's leader wrote.
    expected: Vec<u8>,
    peer: Zxid,
    begun: bool,
    proposals: BTreeMap<Zxid, Outgoing>,
    /// What was sent before NEWLEADER.
    committed: Vec<Zxid>,
    rng: fastrand::Rng,
}

impl Stand {
    fn new(seed: u64) -> Stand {
        Stand {
            handler: Handler::new(LIMIT, LearnerRoom::default()),
            wants: Vec::new(),
            written: Vec::new(),
            expected: Vec::new(),
            peer: Zxid::NONE,
            begun: false,
            proposals: BTreeMap::new(),
            committed: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes what the handler wrote. Returns its other wants, without those that only report progress.
    fn settle(&mut self) -> Vec<Want> {
        let mut others = Vec::new();
        loop {
            let wants = std::mem::take(&mut self.wants);
            if wants.is_empty() {
                return others;
            }
            for want in wants {
                match want {
                    Want::Write(bytes) => {
                        self.written.extend_from_slice(&bytes);
                        self.handler.left(bytes.len(), &mut self.wants);
                    }
                    Want::Close(fault) => panic!("the connection is closed: {fault}"),
                    Want::Heard => {}
                    other => others.push(other),
                }
            }
            self.handler.check();
        }
    }

    fn learner_said(&mut self, message: &Message) {
        hear_in_pieces(&mut self.handler, &message.bytes, &mut self.rng, &mut self.wants);
        let wanted = match from_learner(message) {
            FromLearner::Info { observer, accepted, info } => {
                let (server, config_version) = (info.server, info.config_version);
                vec![Want::Info { server, observer, accepted: accepted.epoch(), config_version }]
            }
            FromLearner::AckEpoch { last, current } => {
                self.peer = last;
                vec![Want::EpochAck { current, last }]
            }
            FromLearner::Ack(zxid) => vec![Want::Ack(zxid)],
            FromLearner::Ping { touched, .. } => {
                touched.iter().map(|(session, timeout_ms)| Want::Touch { session, timeout_ms }).collect()
            }
            FromLearner::Revalidate { session, timeout_ms } => vec![Want::Revalidate { session, timeout_ms }],
            FromLearner::Request(said) if said.op == Op::SYNC => {
                vec![Want::SyncAsked { session: said.session, cxid: said.cxid }]
            }
            FromLearner::Request(said) => {
                let (session, cxid, op) = (said.session, said.cxid, said.op);
                let (body, identities) = (Bytes::copy_from_slice(said.body), said.identities);
                vec![Want::Request(Request { session, cxid, op, body, identities })]
            }
            FromLearner::Unknown(kind) => panic!("{}: type {kind}", message.place),
        };
        assert_eq!(self.settle(), wanted, "{}", message.place);
    }

    /// Apache's leader said this, so ours must be able to say it now.
    fn leader_said(&mut self, message: &Message) {
        self.expected.extend_from_slice(&message.bytes);
        match from_leader(message) {
            FromLeader::LeaderInfo { epoch, .. } => self.handler.lead(epoch, &mut self.wants),
            FromLeader::Diff(upto) => self.handler.sync(Plan::Diff { from: self.peer, upto }, &mut self.wants),
            FromLeader::Trunc(to) => self.handler.sync(Plan::Trunc { to }, &mut self.wants),
            FromLeader::Snap(zxid) => {
                self.handler.sync(Plan::Snap { file: Some(zxid) }, &mut self.wants);
                assert_eq!(self.settle(), [Want::Feed(Feed::Snapshot(Some(zxid)))], "{}", message.place);
                self.handler.fed(Fed::Snapshot { zxid }, &mut self.wants);
            }
            FromLeader::NewLeader { config, .. } => {
                self.begun = true;
                self.feed(config.unwrap_or_default());
                assert_eq!(self.settle(), [Want::NewLeaderSent], "{}", message.place);
            }
            FromLeader::UpToDate => self.handler.up_to_date(&mut self.wants),
            FromLeader::Proposal { zxid, txn } => {
                let outgoing = Outgoing::new(zxid, Bytes::copy_from_slice(txn));
                if self.begun {
                    self.handler.proposal(&outgoing, &mut self.wants);
                }
                self.proposals.insert(zxid, outgoing);
            }
            FromLeader::Commit(zxid) if !self.begun => self.committed.push(zxid),
            FromLeader::Commit(zxid) => {
                let outgoing = self.outgoing(zxid);
                self.handler.commit(&outgoing, &mut self.wants);
            }
            FromLeader::Inform { zxid, txn } => {
                self.handler.commit(&Outgoing::new(zxid, Bytes::copy_from_slice(txn)), &mut self.wants);
            }
            FromLeader::CommitAndActivate { zxid, designated } => {
                let outgoing = self.outgoing(zxid);
                self.handler.activate(&outgoing, designated, &mut self.wants);
            }
            FromLeader::InformAndActivate { zxid, designated, txn } => {
                let outgoing = Outgoing::new(zxid, Bytes::copy_from_slice(txn));
                self.handler.activate(&outgoing, designated, &mut self.wants);
            }
            FromLeader::Ping(zxid) => self.handler.ping(zxid, &mut self.wants),
            FromLeader::Revalidate { session, valid } => self.handler.revalidated(session, valid, &mut self.wants),
            FromLeader::Sync => self.handler.sync_done(self.handler.sent().1, &mut self.wants),
            FromLeader::Unknown(kind) => panic!("{}: type {kind}", message.place),
        }
        self.settle();
        if self.begun || matches!(from_leader(message), FromLeader::LeaderInfo { .. }) {
            assert_eq!(self.written, self.expected, "{}", message.place);
        }
    }

    fn outgoing(&self, zxid: Zxid) -> Outgoing {
        let unseen = || Outgoing::new(zxid, Bytes::from_static(b"proposed before the recording began"));
        self.proposals.get(&zxid).cloned().unwrap_or_else(unseen)
    }

    /// What was committed and what was outstanding before NEWLEADER.
    fn feed(&mut self, config: &[u8]) {
        let is_committed: BTreeSet<Zxid> = self.committed.iter().copied().collect();
        let (list, outstanding): (Vec<_>, Vec<_>) =
            self.proposals.values().partition(|outgoing| is_committed.contains(&outgoing.zxid()));
        let list = list.iter().map(|o| Committed { zxid: o.zxid(), txn: o.txn().clone() }).collect();
        self.handler.fed(Fed::Proposals { list, end: Some(End { outstanding, config }) }, &mut self.wants);
    }

    fn state(&mut self, message: &Message) {
        self.expected.extend_from_slice(&message.bytes);
        let body = message.bytes.strip_suffix(SIGNATURE).expect("a signature");
        let (first, second) = body.split_at(self.rng.usize(1..body.len()));
        for (bytes, last) in [(first, false), (second, true)] {
            let piece = Fed::Piece { bytes: Bytes::copy_from_slice(bytes), last };
            self.handler.fed(piece, &mut self.wants);
            self.settle();
        }
        assert_eq!(self.written, self.expected, "{}", message.place);
    }

    /// Brings a connection whose beginning was not recorded to where the recording begins.
    fn catch_up(&mut self, observer: bool, server: ServerId, messages: &[&Message]) {
        let of_leader = || messages.iter().filter(|m| m.kind == Kind::Leader).map(|m| from_leader(m));
        let proposal = of_leader().find_map(|said| match said {
            FromLeader::Proposal { zxid, .. } => Some(zxid),
            _ => None,
        });
        let commit = of_leader().find_map(|said| match said {
            FromLeader::Commit(zxid) | FromLeader::CommitAndActivate { zxid, .. } => Some(zxid),
            FromLeader::Inform { zxid, .. } | FromLeader::InformAndActivate { zxid, .. } => Some(zxid),
            _ => None,
        });
        let is_proposal =
            |m: &&&Message| m.kind == Kind::Leader && matches!(from_leader(m), FromLeader::Proposal { .. });
        let before = messages.iter().take_while(|m| !is_proposal(m));
        let ack = before.filter(|m| m.kind == Kind::Learner).filter_map(|m| match from_learner(m) {
            FromLearner::Ack(zxid) => Some(zxid),
            _ => None,
        });
        let ack = ack.max();
        let position = commit.or(proposal).map(|zxid| Zxid(zxid.0 - 1)).or(ack).unwrap_or(Zxid::new(Epoch(1), 0));
        let epoch = position.epoch();
        let newest = ack.into_iter().chain(commit.filter(|_| !observer)).max().unwrap_or(position);
        let newest = proposal.map_or(newest, |zxid| Zxid(zxid.0 - 1));
        let unseen: Vec<Outgoing> = (position.0 + 1..=newest.0).map(|zxid| self.outgoing(Zxid(zxid))).collect();

        let info = LearnerInfo::new(server, Zxid::ZERO);
        self.handler.heard(&packet(&FromLearner::Info { observer, accepted: position, info }), &mut self.wants);
        self.handler.lead(epoch, &mut self.wants);
        self.handler.heard(&packet(&FromLearner::AckEpoch { last: position, current: None }), &mut self.wants);
        self.handler.sync(Plan::Diff { from: position, upto: position }, &mut self.wants);
        self.settle();
        let end = End { outstanding: unseen.iter().collect(), config: b"" };
        self.handler.fed(Fed::Proposals { list: Vec::new(), end: Some(end) }, &mut self.wants);
        self.handler.heard(&packet(&FromLearner::Ack(Zxid::new(epoch, 0))), &mut self.wants);
        self.handler.up_to_date(&mut self.wants);
        self.settle();
        self.begun = true;
        self.written.clear();
    }
}

/// Whether the learner of a connection whose beginning was not recorded is an observer.
fn is_observer(walk: &Walk, learner: ServerId, messages: &[&Message]) -> bool {
    let of_leader = || messages.iter().filter(|m| m.kind == Kind::Leader).map(|m| from_leader(m));
    if of_leader().any(|said| matches!(said, FromLeader::Inform { .. } | FromLeader::InformAndActivate { .. })) {
        return true;
    }
    let line = format!("server.{}=", learner.0);
    let is_proposal = |said| matches!(said, FromLeader::Proposal { .. });
    walk.config.iter().any(|l| l.starts_with(&line) && l.contains(":observer")) && !of_leader().any(is_proposal)
}

/// Returns the number of packets.
fn replay(walk: &Walk, messages: &[&Message]) -> usize {
    let mut stand = Stand::new(messages.len() as u64);
    let first = messages[0];
    let begins = first.kind == Kind::Learner && matches!(from_learner(first), FromLearner::Info { .. });
    if !begins {
        let learner = if first.kind == Kind::Learner { first.from } else { first.to }.expect("a server");
        stand.catch_up(is_observer(walk, learner, messages), learner, messages);
    }
    for message in messages {
        match message.kind {
            Kind::Learner => stand.learner_said(message),
            Kind::Leader => stand.leader_said(message),
            Kind::State => stand.state(message),
            _ => unreachable!("filtered"),
        }
    }
    messages.len()
}

#[test]
fn ours_writes_what_apaches_leader_wrote() {
    let (mut connections, mut packets) = (0, 0);
    for walk in walks() {
        match walk.name.as_str() {
            // Apache's leader proposes two transactions with the same zxid.
            "apache-leader-undecodable-write" => continue,
            // Not a conversation.
            "interop-bytes-behind-known-fields-are-ignored" => continue,
            _ => {}
        }
        let mut by_connection: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
        for message in &walk.messages {
            if matches!(message.kind, Kind::Learner | Kind::Leader | Kind::State) {
                by_connection.entry(&message.connection).or_default().push(message);
            }
        }
        for messages in by_connection.values() {
            connections += 1;
            packets += replay(&walk, messages);
        }
    }
    assert_eq!((connections, packets), (118, 1053));
}

/// Twelve unknown bytes behind each side's known fields: ours ignores the learner's, and sends none.
#[test]
fn bytes_behind_the_known_fields_are_passed_over() {
    let walk = walks().into_iter().find(|w| w.name == "interop-bytes-behind-known-fields-are-ignored");
    let walk = walk.expect("the walk");
    let mut stand = Stand::new(1);
    stand.learner_said(&walk.messages[0]);
    let FromLeader::LeaderInfo { epoch, extra, .. } = from_leader(&walk.messages[1]) else { panic!("no LEADERINFO") };
    assert_eq!(extra.len(), 12);
    stand.handler.lead(epoch, &mut stand.wants);
    stand.settle();
    assert_eq!(stand.written.len(), walk.messages[1].bytes.len() - 12);
}
