//! Learners that send what no server sends. Their connection is closed with a reason; nothing else happens.

use super::super::recorded::{Kind, walks};
use super::{LIMIT, packet};
use bytes::Bytes;
use zabra::limits::{LEARNER_ANSWERS, MAX_CONNECT_FRAME};
use zabra::types::{Cxid, Epoch, Op, ServerId, SessionId, Zxid};
use zabra::zab::handler::{End, Fault, Fed, Feed, Handler, LearnerRoom, Outgoing, Want};
use zabra::zab::message::{Forwarded, FromLearner, LearnerInfo, Touched};
use zabra::zab::packet::PacketError;
use zabra::zab::sync_plan::Plan;

/// A handler and an owner that answers all it wants.
struct Stand {
    handler: Handler,
    wants: Vec<Want>,
    closed: Option<Fault>,
    heard: Vec<Want>,
    reads: bool,
    is_told: bool,
}

impl Stand {
    fn new() -> Stand {
        Stand {
            handler: Handler::new(LIMIT, LearnerRoom::default()),
            wants: Vec::new(),
            closed: None,
            heard: Vec::new(),
            reads: true,
            is_told: false,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.handler.heard(bytes, &mut self.wants);
        self.settle();
    }

    fn settle(&mut self) {
        while !self.wants.is_empty() {
            for want in std::mem::take(&mut self.wants) {
                assert!(self.closed.is_none(), "{want:?} is wanted behind the end");
                self.answer(want);
            }
        }
        assert_eq!(self.handler.is_closed(), self.closed.is_some());
        self.handler.check();
    }

    fn answer(&mut self, want: Want) {
        let (handler, wants) = (&mut self.handler, &mut self.wants);
        match want {
            Want::Write(bytes) if self.reads => handler.left(bytes.len(), wants),
            Want::Write(_) | Want::Heard => {}
            Want::Close(fault) => self.closed = Some(fault),
            Want::Info { accepted, .. } => handler.lead(Epoch(accepted.0.max(8) + 1), wants),
            Want::EpochAck { last, .. } if last < Zxid::ZERO => handler.sync(Plan::Snap { file: None }, wants),
            Want::EpochAck { last, .. } => handler.sync(Plan::Diff { from: last, upto: last }, wants),
            Want::Feed(Feed::Snapshot(_)) => handler.fed(Fed::Snapshot { zxid: Zxid::ZERO }, wants),
            Want::Feed(Feed::Piece) => handler.fed(Fed::Piece { bytes: Bytes::from_static(b"x"), last: true }, wants),
            Want::Feed(Feed::After(_)) => {
                let end = Some(End { outstanding: Vec::new(), config: b"version=0" });
                handler.fed(Fed::Proposals { list: Vec::new(), end }, wants);
            }
            Want::Ack(zxid) if zxid.counter() == 0 && !self.is_told => {
                handler.up_to_date(wants);
                self.is_told = true;
            }
            Want::SyncAsked { .. } => handler.sync_done(handler.sent().1, wants),
            Want::Revalidate { session, .. } => handler.revalidated(session, true, wants),
            other => self.heard.push(other),
        }
    }

    fn say(&mut self, said: &FromLearner<'_>) {
        self.hear(&packet(said));
    }

    /// A learner with an empty history, up to date.
    fn serving() -> Stand {
        let mut stand = Stand::new();
        let info = LearnerInfo::new(ServerId(2), Zxid::ZERO);
        stand.say(&FromLearner::Info { observer: false, accepted: Zxid::ZERO, info });
        stand.say(&FromLearner::AckEpoch { last: Zxid::ZERO, current: Some(Epoch(0)) });
        stand.say(&FromLearner::Ack(Zxid::new(Epoch(9), 0)));
        assert_eq!(std::mem::take(&mut stand.heard), [Want::NewLeaderSent]);
        assert!(stand.is_told, "{}", stand.reason());
        stand
    }

    fn reason(&self) -> String {
        self.closed.as_ref().map_or("open".to_owned(), Fault::to_string)
    }
}

const FIVE: Zxid = Zxid(0x9_0000_0005);

#[test]
fn packets_in_the_wrong_place_close_the_connection() {
    let info =
        || FromLearner::Info { observer: false, accepted: Zxid::ZERO, info: LearnerInfo::new(ServerId(2), FIVE) };
    let promise = FromLearner::AckEpoch { last: Zxid::ZERO, current: None };
    let revalidate = FromLearner::Revalidate { session: SessionId(1), timeout_ms: 1 };
    let mut room = Vec::new();
    let ping = FromLearner::Ping { zxid: FIVE, touched: Touched::write(&mut room, []) };
    let ack = FromLearner::Ack;
    let zeroth = Zxid::new(Epoch(9), 0);
    let rows: [(&[&FromLearner<'_>], &str); 9] = [
        (&[&ping], "it sent PING when FOLLOWERINFO or OBSERVERINFO was due"),
        (&[&ack(FIVE)], "it sent ACK when FOLLOWERINFO or OBSERVERINFO was due"),
        (&[&info(), &info()], "it sent FOLLOWERINFO when ACKEPOCH was due"),
        (&[&info(), &promise, &revalidate], "it sent REVALIDATE when the ACK of NEWLEADER was due"),
        (&[&info(), &promise, &promise], "it sent ACKEPOCH when the ACK of NEWLEADER was due"),
        (&[&info(), &promise, &ack(FIVE)], "it sent ACK of 0x900000005, which it was not sent"),
        (&[&info(), &promise, &ack(Zxid(-5))], "it sent ACK of 0xfffffffffffffffb, which is no transaction"),
        (&[&info(), &promise, &ack(zeroth), &ack(Zxid(0))], "it sent ACK of 0x0, which is no transaction"),
        (
            &[&info(), &promise, &ack(zeroth), &info()],
            "it sent FOLLOWERINFO when ACK, PING, REVALIDATE or REQUEST was due",
        ),
    ];
    for (said, reason) in rows {
        let mut stand = Stand::new();
        said.iter().for_each(|said| stand.say(said));
        assert_eq!(stand.reason(), reason);
    }
}

#[test]
fn an_unknown_type_is_passed_over_as_apache_does() {
    let mut stand = Stand::serving();
    let mut bytes = packet(&FromLearner::Ack(FIVE));
    bytes[..4].copy_from_slice(&0x5a01i32.to_be_bytes());
    stand.hear(&bytes);
    assert_eq!(stand.reason(), "open");
}

#[test]
fn nothing_long_is_taken_from_a_stranger() {
    let mut stand = Stand::new();
    let mut bytes = packet(&FromLearner::Ack(FIVE));
    bytes[12..16].copy_from_slice(&(MAX_CONNECT_FRAME as i32 + 1).to_be_bytes());
    stand.hear(&bytes);
    assert!(matches!(stand.closed, Some(Fault::Packet(PacketError::TooLong { .. }))), "{}", stand.reason());
    // A member may send more, up to the limit.
    let mut stand = Stand::serving();
    bytes[12..16].copy_from_slice(&(LIMIT as i32).to_be_bytes());
    stand.hear(&bytes);
    assert_eq!(stand.reason(), "open");
    bytes[12..16].copy_from_slice(&(LIMIT as i32 + 1).to_be_bytes());
    let mut stand = Stand::serving();
    stand.hear(&bytes);
    assert!(matches!(stand.closed, Some(Fault::Packet(PacketError::TooLong { .. }))), "{}", stand.reason());
}

#[test]
fn whoever_asks_and_does_not_read_is_closed() {
    let mut stand = Stand::serving();
    stand.reads = false;
    let ask = packet(&FromLearner::Revalidate { session: SessionId(1), timeout_ms: 1 });
    let mut asked = 0;
    while stand.closed.is_none() {
        stand.hear(&ask);
        asked += 1;
        assert!(asked * 29 <= LEARNER_ANSWERS + 29, "{asked} answers wait");
    }
    assert_eq!(stand.closed, Some(Fault::AnswersUnread));
}

#[test]
fn a_reconfig_cannot_be_told_to_a_learner_that_is_behind() {
    let mut stand = Stand::serving();
    stand.reads = false;
    let long = Bytes::from(vec![0; 3 << 20]);
    let mut zxid = Zxid::new(Epoch(9), 0);
    while stand.handler.is_live() {
        zxid = Zxid(zxid.0 + 1);
        assert!(zxid.counter() < 10, "more than 24 MiB wait for a learner that does not read");
        stand.handler.proposal(&Outgoing::new(zxid, long.clone()), &mut stand.wants);
        stand.settle();
    }
    stand.handler.activate(&Outgoing::new(zxid, long), ServerId(1), &mut stand.wants);
    stand.settle();
    assert_eq!(stand.closed, Some(Fault::BehindReconfig(zxid)));
}

/// Everything that learners were recorded to say, with one thing wrong in it.
#[test]
fn damaged_conversations_end_in_peace() {
    let mut conversations = Vec::new();
    for walk in walks() {
        let mut by_connection = std::collections::BTreeMap::<&str, Vec<u8>>::new();
        for message in walk.messages.iter().filter(|m| m.kind == Kind::Learner) {
            by_connection.entry(&message.connection).or_default().extend_from_slice(&message.bytes);
        }
        conversations.extend(by_connection.into_values());
    }
    assert!(conversations.len() > 50);
    let (mut open, mut closed) = (0, 0);
    for seed in 0..4_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = conversations[rng.usize(..conversations.len())].clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..5) {
                0 => bytes[at] ^= 1 << rng.u8(..8),
                1 => bytes[at] = rng.u8(..),
                2 => bytes.insert(at, rng.u8(..)),
                3 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes.splice(at..at, (0..rng.usize(1..40)).map(|_| rng.u8(..)).collect::<Vec<_>>()).for_each(drop),
            }
        }
        let mut stand = if rng.bool() { Stand::new() } else { Stand::serving() };
        for piece in bytes.chunks(rng.usize(1..60)) {
            stand.hear(piece);
        }
        *if stand.closed.is_some() { &mut closed } else { &mut open } += 1;
    }
    assert!(open > 100 && closed > 1000, "{open} {closed}");
}

#[test]
fn requests_and_syncs_are_told_apart() {
    let mut stand = Stand::serving();
    let forwarded = |op, cxid| {
        FromLearner::Request(Forwarded { session: SessionId(5), cxid: Cxid(cxid), op, body: b"body", identities: None })
    };
    stand.say(&forwarded(Op::SYNC, 1));
    assert!(stand.heard.is_empty());
    stand.say(&forwarded(Op::CREATE, 2));
    let Some(Want::Request(request)) = stand.heard.pop() else { panic!("{:?}", stand.heard) };
    assert_eq!((request.op, request.cxid, &request.body[..]), (Op::CREATE, Cxid(2), &b"body"[..]));
}

/// What is long in coming is kept in parts, and handed on when it is whole.
#[test]
fn a_long_request_arrives_in_parts() {
    let mut stand = Stand::serving();
    let body = vec![7; 1 << 20];
    let (session, cxid, op) = (SessionId(5), Cxid(1), Op::SET_DATA);
    let bytes = packet(&FromLearner::Request(Forwarded { session, cxid, op, body: &body, identities: Some(vec![]) }));
    for piece in bytes.chunks(16 << 10) {
        assert!(stand.heard.is_empty());
        stand.hear(piece);
    }
    assert!(matches!(&stand.heard[..], [Want::Request(request)] if request.body == body));
    assert_eq!(stand.handler.unread(), 0);
}
