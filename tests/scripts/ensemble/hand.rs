//! Servers that the script speaks for, as leaders and as learners.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::oracle::test_disk::TestDisk;
use zabra::proto::Request;
use zabra::tree::{Tree, TreeOptions};
use zabra::txn::{CreateKind, CreateTxn, Txn, TxnDigest, TxnHeader};
use zabra::txnlog::feed::{Ask, Fed, Feeder};
use zabra::txnlog::snapshot::{SnapshotOptions, SnapshotWriter, put_acl_table, put_sessions};
use zabra::types::{Acl, ConnId, Cxid, Epoch, Op, ServerId, SessionId, Zxid};
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};
use zabra::zab::message::{Forwarded, FromLeader, FromLearner, LearnerInfo, Touched};
use zabra::zab::notification::{self, Notification};
use zabra::zab::packet::{Split, split};
use zabra::zab::vote::{Held, ServerState, Vote};

use super::show::{LIMIT, SIGNATURE};
use super::world::{World, ends, id};
use crate::scripts::command::{self, Args};
use crate::scripts::election;

/// A server that the script speaks for.
#[derive(Debug, Default)]
pub struct Hand {
    /// Whether it accepts learners.
    pub leads: bool,
    /// What it heard last from each server in elections.
    heard: BTreeMap<ServerId, Held>,
    /// Bytes of its election connections that are not whole messages.
    unread: BTreeMap<ConnId, Vec<u8>>,
    /// Connections that have said hello.
    known: Vec<ConnId>,
    /// Requests that learners have forwarded and that no proposal has answered.
    requests: VecDeque<Asked>,
}

/// A forwarded request.
#[derive(Debug)]
struct Asked {
    session: SessionId,
    cxid: Cxid,
    op: Op,
    body: Vec<u8>,
}

/// Elections.
impl World {
    /// `hand N...`
    pub(super) fn add_hands(&mut self, args: &mut Args<'_>) {
        while let Some(id) = args.next().map(id) {
            assert!(self.servers.get(&id).is_none_or(|server| server.member.is_none()), "{id:?} runs");
            self.hands.insert(id, Hand::default());
        }
    }

    /// What a server of the script hears.
    pub(super) fn hand_hears(&mut self, conn: ConnId, bytes: &[u8]) {
        let end = &self.net.ends[&conn];
        let (at, peer, accepted) = (end.at, end.peer, end.leads);
        if end.term.is_some() {
            return self.hand_is_asked(at, bytes);
        }
        let hand = self.hands.get_mut(&at).expect("a hand");
        let mut unread = hand.unread.remove(&conn).unwrap_or_default();
        unread.extend_from_slice(bytes);
        if accepted && !hand.known.contains(&conn) {
            let Ok(Some((hello, taken))) = Hello::read(&unread) else { return };
            hand.known.push(conn);
            unread.drain(..taken);
            if hello.server < at {
                // Of two servers the one with the larger id dials.
                self.hand_dials(at, peer);
            }
        }
        let hand = self.hands.get_mut(&at).expect("a hand");
        while let Ok(Some((message, taken))) = notification::split(&unread) {
            let said = Notification::read(message).expect("ours can be read");
            hand.heard.insert(peer, said.held);
            unread.drain(..taken);
        }
        hand.unread.insert(conn, unread);
    }

    fn hand_dials(&mut self, from: ServerId, to: ServerId) -> ConnId {
        let conn = self.dial_election_by_hand(from, to);
        let address = ElectionAddress { host: format!("10.0.0.{}", from.0), port: 3888 };
        let mut bytes = Vec::new();
        Hello { server: from, addresses: Addresses::One(address) }.put(&mut bytes);
        self.write(conn, bytes.into());
        conn
    }

    /// `hands elect N [N...]`: servers of the script (those named after it, or all) vote for server N, as it does itself.
    /// `hands follow N [epoch=E] [last=Z]`: server N of the script leads, and the others follow it.
    /// `hands hear N`: shows what server N told them last in elections.
    pub(super) fn vote(&mut self, args: &mut Args<'_>) {
        let is_election = match args.need("what they do") {
            "elect" => true,
            "follow" => false,
            "hear" => return self.hands_hear(super::world::server_id(args)),
            other => panic!("hands never {other}"),
        };
        let leader = super::world::server_id(args);
        let (last, epoch) = (args.zxid("last").unwrap_or_default(), args.number("epoch").map(Epoch));
        let named: Vec<ServerId> = std::iter::from_fn(|| args.next()).map(id).collect();
        let hands: Vec<ServerId> = self.hands.keys().copied().collect();
        let members: Vec<ServerId> =
            self.servers.iter().filter(|(_, s)| s.member.is_some()).map(|(id, _)| *id).collect();
        let heard = self.hands.values().filter_map(|hand| hand.heard.get(&leader)).next_back().copied();
        for hand in hands.into_iter().filter(|hand| named.is_empty() || named.contains(hand)) {
            for to in &members {
                let (vote, round, state) = if is_election {
                    let held = heard.as_ref().expect("it has told its vote");
                    (held.vote, held.election_epoch, ServerState::Looking)
                } else {
                    let peer_epoch = epoch.unwrap_or(last.epoch());
                    let state = if hand == leader { ServerState::Leading } else { ServerState::Following };
                    (Vote { leader, zxid: last, peer_epoch }, 100, state)
                };
                let mut bytes = Vec::new();
                Notification::put(&mut bytes, &vote, round, state, "version=0");
                let conn = self.net.newest(hand, *to, false).unwrap_or_else(|| self.hand_dials(hand, *to));
                self.write(conn, bytes.into());
            }
            self.hands.get_mut(&hand).expect("a hand").leads = !is_election && hand == leader;
        }
    }
}

/// Leaders and learners.
impl World {
    fn hands_hear(&mut self, from: ServerId) {
        let held =
            self.hands.values().filter_map(|hand| hand.heard.get(&from)).next_back().expect("it has told a vote");
        let line = format!("{} is {}", from.0, election::show::held(held));
        self.say(line);
    }

    fn hand_is_asked(&mut self, at: ServerId, bytes: &[u8]) {
        let Ok(Split::Whole(packet, _)) = split(bytes, LIMIT) else { return };
        if let Ok(FromLearner::Request(Forwarded { session, cxid, op, body, .. })) = FromLearner::read(packet)
            && self.hands[&at].leads
        {
            let asked = Asked { session, cxid, op, body: body.to_vec() };
            self.hands.get_mut(&at).expect("a hand").requests.push_back(asked);
        }
    }

    fn hand_conn(&self, from: ServerId, to: ServerId) -> ConnId {
        self.net.newest(from, to, true).unwrap_or_else(|| panic!("{from:?} has no connection with {to:?}"))
    }

    /// `say A>B PACKET...`, several of them separated by ` ; `.
    pub(super) fn hand_says(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        for mut part in args.parts() {
            let kind = part.need("packet");
            let bytes = if self.hands[&from].leads {
                self.leader_packet(from, kind, &mut part)
            } else {
                self.learner_packet(from, kind, &mut part)
            };
            part.end();
            self.hand_writes(from, to, bytes);
        }
    }

    fn hand_writes(&mut self, from: ServerId, to: ServerId, bytes: Vec<u8>) {
        let conn = self.hand_conn(from, to);
        self.write(conn, bytes.into());
    }

    /// `bytes A>B HEX...`: each word arrives for itself.
    pub(super) fn hand_sends(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        while let Some(word) = args.next() {
            self.hand_writes(from, to, unhex(word));
        }
    }

    /// `close A>B`
    pub(super) fn hand_closes(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let conn = self.hand_conn(from, to);
        self.close(conn);
    }

    /// `welcome L>N epoch=E [last=Z]`: server L of the script leads, and takes N in without sending it anything.
    pub(super) fn welcome(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let epoch = Epoch(args.number("epoch").expect("epoch="));
        let last = args.zxid("last").unwrap_or_default();
        let zxid = Zxid::new(epoch, 0);
        self.settle();
        for said in [
            FromLeader::LeaderInfo { epoch, protocol: 0x10000, extra: &[] },
            FromLeader::Diff(last),
            FromLeader::NewLeader { zxid, config: None },
            FromLeader::UpToDate,
        ] {
            let mut bytes = Vec::new();
            said.put(&mut bytes);
            self.hand_writes(from, to, bytes);
            self.settle();
        }
    }

    /// `join N>L accepted=E epoch=E [last=Z]`: server N of the script learns from L, as soon as L is there for it, whose next
    /// epoch is `epoch`.
    pub(super) fn join(&mut self, args: &mut Args<'_>) {
        let (from, to) = ends(args);
        let accepted = Epoch(args.number("accepted").expect("accepted="));
        let epoch = Epoch(args.number("epoch").expect("epoch="));
        let last = args.zxid("last").unwrap_or_default();
        let info = LearnerInfo::new(from, Zxid::ZERO);
        self.dial_by_hand(from, to);
        for said in [
            FromLearner::Info { observer: false, accepted: Zxid::new(accepted, 0), info },
            FromLearner::AckEpoch { last, current: (accepted < epoch).then_some(accepted) },
            FromLearner::Ack(Zxid::new(epoch, 0)),
            FromLearner::Ack(Zxid::new(epoch, 0)),
        ] {
            let mut bytes = Vec::new();
            said.put(&mut bytes);
            self.hand_writes(from, to, bytes);
            self.settle();
        }
    }

    fn leader_packet(&mut self, from: ServerId, kind: &str, args: &mut Args<'_>) -> Vec<u8> {
        let (mut bytes, extra) = (Vec::new(), extra(args));
        let said = match kind {
            "LEADERINFO" => {
                let epoch = Epoch(args.number("epoch").expect("epoch="));
                FromLeader::LeaderInfo { epoch, protocol: 0x10000, extra: &extra }
            }
            "DIFF" => FromLeader::Diff(command::zxid(args.need("zxid"))),
            "TRUNC" => FromLeader::Trunc(command::zxid(args.need("zxid"))),
            "SNAP" => return snapshot(args),
            "NEWLEADER" => FromLeader::NewLeader { zxid: command::zxid(args.need("zxid")), config: None },
            "UPTODATE" => FromLeader::UpToDate,
            "COMMIT" => FromLeader::Commit(command::zxid(args.need("zxid"))),
            "PING" => FromLeader::Ping(command::zxid(args.need("zxid"))),
            "SYNC" => FromLeader::Sync,
            "REVALIDATE" => {
                let session = self.sessions.named(args.need("session"));
                FromLeader::Revalidate { session, valid: args.need("valid or unknown") == "valid" }
            }
            "PROPOSAL" | "INFORM" | "COMMITANDACTIVATE" | "INFORMANDACTIVATE" => {
                let zxid = command::zxid(args.need("zxid"));
                let designated = args.number("led").map(ServerId);
                let txn = if kind == "COMMITANDACTIVATE" { Vec::new() } else { self.txn(from, zxid, args) };
                let said = match (kind, designated) {
                    ("PROPOSAL", _) => FromLeader::Proposal { zxid, txn: &txn },
                    ("INFORM", _) => FromLeader::Inform { zxid, txn: &txn },
                    ("COMMITANDACTIVATE", Some(designated)) => FromLeader::CommitAndActivate { zxid, designated },
                    (_, Some(designated)) => FromLeader::InformAndActivate { zxid, designated, txn: &txn },
                    _ => panic!("{kind} needs led="),
                };
                said.put(&mut bytes);
                return bytes;
            }
            other => panic!("a leader never says {other}"),
        };
        said.put(&mut bytes);
        bytes
    }

    /// `create PATH [DATA] [ephemeral] [digest=wrong]`, `error`, `undecodable`, or `answer`: what the oldest request wants that was
    /// forwarded.
    fn txn(&mut self, from: ServerId, zxid: Zxid, args: &mut Args<'_>) -> Vec<u8> {
        let time_ms = self.now.wall_ms;
        let mut header = TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid, time_ms, op: Op::CREATE };
        let what = args.need("transaction");
        let txn = match what {
            "create" => {
                let is_ephemeral = args.flag("ephemeral");
                create(args.need("path"), args.next(), is_ephemeral)
            }
            "error" => Txn::Error { err: -101 },
            "undecodable" => Txn::Error { err: 0 },
            "answer" => {
                let hand = self.hands.get_mut(&from).expect("a hand");
                let asked = hand.requests.pop_front().expect("a request was forwarded");
                (header.session, header.cxid, header.op) = (asked.session, asked.cxid, asked.op);
                answer(&asked)
            }
            other => panic!("there is no transaction {other}"),
        };
        if let Txn::Error { .. } = txn {
            header.op = if what == "undecodable" { Op::CREATE } else { Op::ERROR };
        }
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        txn.put(&mut bytes);
        if args.value("digest").is_some_and(|digest| digest == "wrong") {
            TxnDigest { version: TxnDigest::VERSION, digest: 1 }.put(&mut bytes);
        }
        bytes
    }

    fn learner_packet(&mut self, from: ServerId, kind: &str, args: &mut Args<'_>) -> Vec<u8> {
        let (mut bytes, mut room, extra) = (Vec::new(), Vec::new(), extra(args));
        let said = match kind {
            "FOLLOWERINFO" | "OBSERVERINFO" => {
                let accepted = Zxid::new(Epoch(args.number("accepted").expect("accepted=")), 0);
                let info = LearnerInfo::new(from, args.zxid("config").unwrap_or_default());
                let info = LearnerInfo { extra: &extra, ..info };
                FromLearner::Info { observer: kind == "OBSERVERINFO", accepted, info }
            }
            "ACKEPOCH" => FromLearner::AckEpoch {
                last: args.zxid("last").unwrap_or_default(),
                current: args.number("current").map(Epoch),
            },
            "ACK" => FromLearner::Ack(command::zxid(args.need("zxid"))),
            "PING" => {
                let names = args.value("touching").map_or_else(Vec::new, |names| names.split(',').collect());
                let touched: Vec<_> = names.iter().map(|name| (self.sessions.named(name), 30_000)).collect();
                FromLearner::Ping { zxid: Zxid::ZERO, touched: Touched::write(&mut room, touched) }
            }
            "REVALIDATE" => {
                let session = self.sessions.named(args.need("session"));
                FromLearner::Revalidate { session, timeout_ms: 30_000 }
            }
            "REQUEST" => {
                let session = self.sessions.named(args.need("session"));
                let cxid = Cxid(args.number("cxid").unwrap_or(1) as i32);
                let is_garbage = args.flag("garbage");
                let (op, request) = command::request(args.need("request"), args);
                room = request.body(op);
                room.truncate(if is_garbage { 3 } else { room.len() });
                FromLearner::Request(Forwarded { session, cxid, op, body: &room, identities: None })
            }
            other => panic!("a learner never says {other}"),
        };
        said.put(&mut bytes);
        bytes
    }
}

/// `extra=HEX`: bytes behind the fields of a packet's data.
fn extra(args: &mut Args<'_>) -> Vec<u8> {
    args.value("extra").map_or_else(Vec::new, unhex)
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn create(path: &str, data: Option<&str>, ephemeral: bool) -> Txn {
    let data = data.map(|data| Bytes::copy_from_slice(data.as_bytes()));
    let kind = CreateKind::Plain { ephemeral };
    Txn::Create(CreateTxn { path: path.into(), data, acl: None, kind, parent_cversion: -1 })
}

fn answer(asked: &Asked) -> Txn {
    match (asked.op, Request::read(asked.op, &asked.body)) {
        (Op::CREATE_SESSION, _) => {
            Txn::CreateSession { timeout_ms: Reader::new(&asked.body).i32().expect("a timeout") }
        }
        (Op::CLOSE_SESSION, _) => Txn::CloseSession { paths: Some(Vec::new()) },
        (_, Ok(Some(Request::Create(c)))) => {
            let data = c.data.map(Bytes::copy_from_slice);
            let kind = CreateKind::Plain { ephemeral: c.flags == 1 };
            Txn::Create(CreateTxn { path: c.path.to_string(), data, acl: None, kind, parent_cversion: -1 })
        }
        (op, request) => panic!("the script has no answer to {op}: {request:?}"),
    }
}

/// `SNAP Z [nodes=PATH@Z,...] [cut=BYTES]`: the packet and its stream, without its last bytes if it is cut.
fn snapshot(args: &mut Args<'_>) -> Vec<u8> {
    let zxid = command::zxid(args.need("zxid"));
    let mut tree = Tree::new(TreeOptions::default());
    for node in args.value("nodes").into_iter().flat_map(|nodes| nodes.split(',')) {
        let (path, at) = node.split_once('@').expect("path@zxid");
        let zxid = command::zxid(at);
        let header = TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid, time_ms: 0, op: Op::CREATE };
        tree.apply(&header, &create(path, None, false), &mut |_| {});
    }
    let image = tree.begin_image();
    let mut body = Vec::new();
    put_sessions(&mut body, [].into_iter());
    let acls = tree.image_acls(image);
    let lists: Vec<_> = acls.iter().filter_map(|(id, list)| Some((*id, list.as_deref()?))).collect();
    put_acl_table(&mut body, lists.into_iter().map(|(id, list): (_, &[Acl])| (id, list)));
    while !tree.image_chunk(image, 1 << 16, &mut body) {}
    let mut disk = TestDisk::new();
    let mut writer = SnapshotWriter::begin(&mut disk, zxid, SnapshotOptions::default()).expect("a disk without faults");
    writer.put(&body).expect("a disk without faults");
    writer.finish(&mut disk, None, zxid).expect("a disk without faults");
    let mut feeder = Feeder::new(disk.clone(), disk, 1 << 20);
    feeder.answer(ConnId(1), Ask::Snapshot(zxid)).expect("the snapshot is there");
    let Ok(Fed::Piece { bytes: stream, last: true }) = feeder.answer(ConnId(1), Ask::Piece) else {
        panic!("it is small")
    };
    let mut bytes = Vec::new();
    FromLeader::Snap(zxid).put(&mut bytes);
    bytes.extend_from_slice(&stream);
    bytes.extend_from_slice(SIGNATURE);
    bytes.truncate(bytes.len() - args.number("cut").unwrap_or(0) as usize);
    bytes
}
