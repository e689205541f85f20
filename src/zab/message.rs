//! The messages between learners and leader, one enum for each direction, read from and written to [`Packet`]s. Fields
//! are kept in the order of the protocol, so that what was read can be written back to the same bytes. Mirrors
//! `Leader`, `LearnerHandler`, `Learner`, `LearnerInfo`.

use super::packet::{Packet, PacketError, kind};
use crate::jute::{JuteError, Put, Reader};
use crate::types::{Cxid, Epoch, Id, Op, ServerId, SessionId, Zxid};

/// The protocol version that learners and leaders send each other.
pub const PROTOCOL_VERSION: i32 = 0x10000;

/// The version of an old learner, which sends none.
const OLDEST_PROTOCOL: i32 = 1;

/// Bytes of a session and its timeout in the answer to a PING.
const TOUCH: usize = 12;

/// A learner's introduction. The last fields may be missing, and unknown bytes may follow; Apache's leader ignores
/// them.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct LearnerInfo<'a> {
    /// The learner's id. A learner without one gets a negative number from the leader.
    pub server: Option<ServerId>,
    /// [`PROTOCOL_VERSION`] or an older version.
    pub protocol: Option<i32>,
    /// The version of the configuration that the learner has activated. A leader refuses one that is newer than its own.
    pub config_version: Option<Zxid>,
    /// Unknown bytes at the end.
    pub extra: &'a [u8],
}

impl<'a> LearnerInfo<'a> {
    /// The introduction of a server of this release.
    pub fn new(server: ServerId, config_version: Zxid) -> LearnerInfo<'a> {
        let protocol = Some(PROTOCOL_VERSION);
        LearnerInfo { server: Some(server), protocol, config_version: Some(config_version), extra: &[] }
    }

    /// The protocol version, also if it was not sent.
    pub fn protocol(&self) -> i32 {
        self.protocol.unwrap_or(OLDEST_PROTOCOL)
    }

    /// Reads as many complete fields as there are; the rest is `extra`. Never fails, as on Apache.
    fn read(data: Option<&'a [u8]>) -> LearnerInfo<'a> {
        let data = data.unwrap_or_default();
        let mut r = Reader::new(data);
        let server = r.i64().ok().map(ServerId);
        let protocol = server.and_then(|_| r.i32().ok());
        let config_version = protocol.and_then(|_| r.i64().ok()).map(Zxid);
        LearnerInfo { server, protocol, config_version, extra: r.rest() }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let gap = (self.server.is_none() && self.protocol.is_some())
            || (self.protocol.is_none() && self.config_version.is_some());
        assert!(!gap, "{self:?} has a field behind a missing one");
        // As long as the next field is missing, what stands behind must be too short for it.
        let missing = match (self.server, self.protocol, self.config_version) {
            (None, ..) | (.., Some(_), None) => 8,
            (_, None, _) => 4,
            _ => usize::MAX,
        };
        assert!(self.extra.len() < missing, "{self:?} would be read with a field more");
        self.server.iter().for_each(|server| out.put_i64(server.0));
        self.protocol.iter().for_each(|protocol| out.put_i32(*protocol));
        self.config_version.iter().for_each(|version| out.put_i64(version.0));
        out.extend_from_slice(self.extra);
    }
}

/// The sessions from which a learner has heard since the last PING, with their timeouts in milliseconds.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Touched<'a>(&'a [u8]);

impl<'a> Touched<'a> {
    /// Reads the entries; the bytes must be a whole number of them.
    fn read(data: Option<&'a [u8]>) -> Result<Touched<'a>, PacketError> {
        let data = data.unwrap_or_default();
        if data.len().is_multiple_of(TOUCH) {
            return Ok(Touched(data));
        }
        let missing = TOUCH - data.len() % TOUCH;
        Err(PacketError::Field { kind: kind::PING, error: JuteError::Truncated { at: data.len(), missing } })
    }

    /// Encodes `sessions` into `room`, for [`FromLearner::Ping`].
    pub fn write(room: &'a mut Vec<u8>, sessions: impl IntoIterator<Item = (SessionId, i32)>) -> Touched<'a> {
        room.clear();
        for (session, timeout_ms) in sessions {
            room.put_i64(session.0);
            room.put_i32(timeout_ms);
        }
        assert!(room.len().is_multiple_of(TOUCH), "sessions of {} bytes", room.len());
        Touched(room)
    }

    /// The entries, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + use<'a> {
        debug_assert!(self.0.len().is_multiple_of(TOUCH), "a part of a session would be passed over");
        self.0.as_chunks::<TOUCH>().0.iter().map(|[a, b, c, d, e, f, g, h, timeout @ ..]| {
            (SessionId(i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])), i32::from_be_bytes(*timeout))
        })
    }
}

/// A client's request that a learner forwards to the leader.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Forwarded<'a> {
    /// The client's session.
    pub session: SessionId,
    /// The client's number for the request; 0 for createSession.
    pub cxid: Cxid,
    /// The opcode.
    pub op: Op,
    /// The request record, as the client sent it.
    pub body: &'a [u8],
    /// The client's identities; null for createSession.
    pub identities: Option<Vec<Id>>,
}

/// A message of a learner to a leader.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum FromLearner<'a> {
    /// FOLLOWERINFO or OBSERVERINFO: the first packet.
    Info {
        /// Whether it is OBSERVERINFO.
        observer: bool,
        /// The zxid with the accepted epoch in its upper half.
        accepted: Zxid,
        /// The introduction.
        info: LearnerInfo<'a>,
    },
    /// ACKEPOCH.
    AckEpoch {
        /// The last zxid of the learner's history.
        last: Zxid,
        /// The epoch of that history. `None` (-1 on the wire) if the learner had accepted the new epoch before; such an
        /// answer does not count for a quorum.
        current: Option<Epoch>,
    },
    /// ACK: of NEWLEADER, of UPTODATE, of a proposal.
    Ack(Zxid),
    /// The answer to a PING.
    Ping {
        /// The PING's own zxid.
        zxid: Zxid,
        /// The sessions heard from.
        touched: Touched<'a>,
    },
    /// REVALIDATE: a client wants to resume this session.
    Revalidate {
        /// The session.
        session: SessionId,
        /// The session's timeout in milliseconds.
        timeout_ms: i32,
    },
    /// REQUEST.
    Request(Forwarded<'a>),
    /// A type that learners do not send. Apache's leader logs a warning and continues.
    Unknown(i32),
}

/// A message of a leader to a learner.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum FromLeader<'a> {
    /// LEADERINFO: the new epoch.
    LeaderInfo {
        /// The epoch.
        epoch: Epoch,
        /// The leader's protocol version.
        protocol: i32,
        /// Bytes after it, which Apache's learners ignore.
        extra: &'a [u8],
    },
    /// DIFF up to this zxid.
    Diff(Zxid),
    /// TRUNC to this zxid.
    Trunc(Zxid),
    /// SNAP: the state as of this zxid follows the packet as a stream of its own.
    Snap(Zxid),
    /// NEWLEADER.
    NewLeader {
        /// The epoch's zeroth zxid.
        zxid: Zxid,
        /// The configuration's text.
        config: Option<&'a [u8]>,
    },
    /// UPTODATE.
    UpToDate,
    /// PROPOSAL.
    Proposal {
        /// The transaction's zxid.
        zxid: Zxid,
        /// Header, transaction and digest, as in a log record.
        txn: &'a [u8],
    },
    /// COMMIT.
    Commit(Zxid),
    /// COMMITANDACTIVATE.
    CommitAndActivate {
        /// The reconfig's zxid.
        zxid: Zxid,
        /// The server that leads from now on.
        designated: ServerId,
    },
    /// INFORM.
    Inform {
        /// The transaction's zxid.
        zxid: Zxid,
        /// As in a proposal.
        txn: &'a [u8],
    },
    /// INFORMANDACTIVATE.
    InformAndActivate {
        /// The reconfig's zxid.
        zxid: Zxid,
        /// The server that leads from now on.
        designated: ServerId,
        /// As in a proposal.
        txn: &'a [u8],
    },
    /// PING; the zxid is that of the last proposal.
    Ping(Zxid),
    /// The answer to a REVALIDATE.
    Revalidate {
        /// The session.
        session: SessionId,
        /// Whether the session exists and now belongs to the learner.
        valid: bool,
    },
    /// SYNC: the answer to the oldest unanswered sync request.
    Sync,
    /// A type that leaders do not send. Apache's learner logs a warning and continues.
    Unknown(i32),
}

/// The zxid field of packets in which it has no meaning, except SYNC.
const NO_ZXID: Zxid = Zxid::NONE;

/// A packet without data.
fn bare<'a>(kind: i32, zxid: Zxid) -> Packet<'a> {
    Packet { kind, zxid, data: None, identities: None }
}

/// The data of a packet that must have data.
fn data<'a>(packet: &Packet<'a>) -> Result<&'a [u8], PacketError> {
    packet.data.ok_or(PacketError::Missing { kind: packet.kind, what: "data" })
}

impl<'a> FromLearner<'a> {
    /// Reads a packet from a learner. As on Apache, bytes after the known fields are ignored.
    ///
    /// # Errors
    /// [`PacketError`]: the connection must be closed.
    pub fn read(packet: Packet<'a>) -> Result<FromLearner<'a>, PacketError> {
        let kind = packet.kind;
        let field = |error| PacketError::Field { kind, error };
        Ok(match kind {
            kind::FOLLOWERINFO | kind::OBSERVERINFO => FromLearner::Info {
                observer: kind == kind::OBSERVERINFO,
                accepted: packet.zxid,
                info: LearnerInfo::read(packet.data),
            },
            kind::ACKEPOCH => {
                let epoch = Reader::new(data(&packet)?).i32().map_err(field)?;
                FromLearner::AckEpoch { last: packet.zxid, current: (epoch != -1).then_some(Epoch(i64::from(epoch))) }
            }
            kind::ACK => FromLearner::Ack(packet.zxid),
            kind::PING => FromLearner::Ping { zxid: packet.zxid, touched: Touched::read(packet.data)? },
            kind::REVALIDATE => {
                let mut r = Reader::new(data(&packet)?);
                let session = SessionId(r.i64().map_err(field)?);
                FromLearner::Revalidate { session, timeout_ms: r.i32().map_err(field)? }
            }
            kind::REQUEST => {
                let mut r = Reader::new(data(&packet)?);
                let session = SessionId(r.i64().map_err(field)?);
                let (cxid, op) = (Cxid(r.i32().map_err(field)?), Op(r.i32().map_err(field)?));
                FromLearner::Request(Forwarded { session, cxid, op, body: r.rest(), identities: packet.identities })
            }
            other => FromLearner::Unknown(other),
        })
    }

    /// Appends the packet as it is sent.
    ///
    /// # Panics
    /// For [`FromLearner::Unknown`], which is never sent.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut room = Vec::new();
        let packet = match self {
            FromLearner::Info { observer, accepted, info } => {
                info.put(&mut room);
                let kind = if *observer { kind::OBSERVERINFO } else { kind::FOLLOWERINFO };
                let data = (info.server.is_some() || !info.extra.is_empty()).then_some(&room[..]);
                Packet { data, ..bare(kind, *accepted) }
            }
            FromLearner::AckEpoch { last, current } => {
                let epoch = current.map_or(-1, |epoch| epoch.0);
                room.put_i32(i32::try_from(epoch).unwrap_or_else(|_| panic!("{current:?} has no four bytes")));
                Packet { data: Some(&room), ..bare(kind::ACKEPOCH, *last) }
            }
            FromLearner::Ack(zxid) => bare(kind::ACK, *zxid),
            FromLearner::Ping { zxid, touched } => Packet { data: Some(touched.0), ..bare(kind::PING, *zxid) },
            FromLearner::Revalidate { session, timeout_ms } => {
                room.put_i64(session.0);
                room.put_i32(*timeout_ms);
                Packet { data: Some(&room), ..bare(kind::REVALIDATE, NO_ZXID) }
            }
            FromLearner::Request(Forwarded { session, cxid, op, body, identities }) => {
                room.reserve(16 + body.len());
                room.put_i64(session.0);
                room.put_i32(cxid.0);
                room.put_i32(op.0);
                room.extend_from_slice(body);
                Packet { data: Some(&room), identities: identities.clone(), ..bare(kind::REQUEST, NO_ZXID) }
            }
            FromLearner::Unknown(kind) => panic!("a learner says packet type {kind}"),
        };
        packet.put(out);
    }
}

impl<'a> FromLeader<'a> {
    /// Reads a packet from a leader. As on Apache, bytes after the known fields are ignored.
    ///
    /// # Errors
    /// [`PacketError`]: the connection must be closed.
    pub fn read(packet: &Packet<'a>) -> Result<FromLeader<'a>, PacketError> {
        let (kind, zxid) = (packet.kind, packet.zxid);
        let field = |error| PacketError::Field { kind, error };
        Ok(match kind {
            kind::LEADERINFO => {
                let mut r = Reader::new(data(packet)?);
                let protocol = r.i32().map_err(field)?;
                FromLeader::LeaderInfo { epoch: zxid.epoch(), protocol, extra: r.rest() }
            }
            kind::DIFF => FromLeader::Diff(zxid),
            kind::TRUNC => FromLeader::Trunc(zxid),
            kind::SNAP => FromLeader::Snap(zxid),
            kind::NEWLEADER => FromLeader::NewLeader { zxid, config: packet.data },
            kind::UPTODATE => FromLeader::UpToDate,
            kind::PROPOSAL => FromLeader::Proposal { zxid, txn: data(packet)? },
            kind::COMMIT => FromLeader::Commit(zxid),
            kind::COMMITANDACTIVATE => {
                let designated = ServerId(Reader::new(data(packet)?).i64().map_err(field)?);
                FromLeader::CommitAndActivate { zxid, designated }
            }
            kind::INFORM => FromLeader::Inform { zxid, txn: data(packet)? },
            kind::INFORMANDACTIVATE => {
                let mut r = Reader::new(data(packet)?);
                let designated = ServerId(r.i64().map_err(field)?);
                FromLeader::InformAndActivate { zxid, designated, txn: r.rest() }
            }
            kind::PING => FromLeader::Ping(zxid),
            kind::REVALIDATE => {
                let mut r = Reader::new(data(packet)?);
                let session = SessionId(r.i64().map_err(field)?);
                FromLeader::Revalidate { session, valid: r.bool().map_err(field)? }
            }
            kind::SYNC => FromLeader::Sync,
            other => FromLeader::Unknown(other),
        })
    }

    /// Appends the packet as it is sent.
    ///
    /// # Panics
    /// For [`FromLeader::Unknown`], which is never sent.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut room = Vec::new();
        let packet = match *self {
            FromLeader::LeaderInfo { epoch, protocol, extra } => {
                assert_eq!(Zxid::new(epoch, 0).epoch(), epoch, "an epoch that does not fit into a zxid");
                room.put_i32(protocol);
                room.extend_from_slice(extra);
                Packet { data: Some(&room), ..bare(kind::LEADERINFO, Zxid::new(epoch, 0)) }
            }
            FromLeader::Diff(zxid) => bare(kind::DIFF, zxid),
            FromLeader::Trunc(zxid) => bare(kind::TRUNC, zxid),
            FromLeader::Snap(zxid) => bare(kind::SNAP, zxid),
            FromLeader::NewLeader { zxid, config } => Packet { data: config, ..bare(kind::NEWLEADER, zxid) },
            FromLeader::UpToDate => bare(kind::UPTODATE, NO_ZXID),
            FromLeader::Proposal { zxid, txn } => Packet { data: Some(txn), ..bare(kind::PROPOSAL, zxid) },
            FromLeader::Commit(zxid) => bare(kind::COMMIT, zxid),
            FromLeader::CommitAndActivate { zxid, designated } => {
                room.put_i64(designated.0);
                Packet { data: Some(&room), ..bare(kind::COMMITANDACTIVATE, zxid) }
            }
            FromLeader::Inform { zxid, txn } => Packet { data: Some(txn), ..bare(kind::INFORM, zxid) },
            FromLeader::InformAndActivate { zxid, designated, txn } => {
                room.reserve(8 + txn.len());
                room.put_i64(designated.0);
                room.extend_from_slice(txn);
                Packet { data: Some(&room), ..bare(kind::INFORMANDACTIVATE, zxid) }
            }
            FromLeader::Ping(zxid) => bare(kind::PING, zxid),
            FromLeader::Revalidate { session, valid } => {
                room.put_i64(session.0);
                room.put_bool(valid);
                Packet { data: Some(&room), ..bare(kind::REVALIDATE, NO_ZXID) }
            }
            FromLeader::Sync => bare(kind::SYNC, Zxid::ZERO),
            FromLeader::Unknown(kind) => panic!("a leader says packet type {kind}"),
        };
        packet.put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Split, split};
    use super::*;

    fn packet<'a>(kind: i32, data: Option<&'a [u8]>) -> Packet<'a> {
        Packet { data, ..bare(kind, Zxid(5)) }
    }

    #[test]
    fn an_introduction_may_be_short_or_long() {
        let long: Vec<u8> = (0..32).collect();
        for len in 0..=32 {
            let data = (len > 0).then_some(&long[..len]);
            let Ok(message) = FromLearner::read(packet(kind::OBSERVERINFO, data)) else { panic!("{len}") };
            let FromLearner::Info { observer: true, info, .. } = &message else { panic!("{message:?}") };
            assert_eq!(info.server.is_some(), len >= 8);
            assert_eq!(info.protocol(), if len >= 12 { 0x0809_0a0b } else { OLDEST_PROTOCOL });
            assert_eq!(info.config_version.is_some(), len >= 20);
            let mut bytes = Vec::new();
            message.put(&mut bytes);
            let Ok(Split::Whole(again, _)) = split(&bytes, 100) else { panic!("{len}") };
            assert_eq!((again.data, again.kind), (data, kind::OBSERVERINFO));
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for (kind, whole) in [(kind::ACKEPOCH, 4), (kind::REVALIDATE, 12), (kind::REQUEST, 16)] {
            let bytes = vec![0; whole];
            assert!(FromLearner::read(packet(kind, Some(&bytes))).is_ok());
            assert!(FromLearner::read(packet(kind, Some(&bytes[1..]))).is_err(), "{kind}");
            assert!(FromLearner::read(packet(kind, None)).is_err(), "{kind}");
        }
        let leaders =
            [(kind::LEADERINFO, 4), (kind::COMMITANDACTIVATE, 8), (kind::INFORMANDACTIVATE, 8), (kind::REVALIDATE, 9)];
        for (kind, whole) in leaders {
            let bytes = vec![0; whole];
            assert!(FromLeader::read(&packet(kind, Some(&bytes))).is_ok());
            assert!(FromLeader::read(&packet(kind, Some(&bytes[1..]))).is_err(), "{kind}");
        }
        for kind in [kind::PROPOSAL, kind::INFORM] {
            assert!(FromLeader::read(&packet(kind, None)).is_err(), "{kind}");
        }
        assert!(FromLearner::read(packet(kind::PING, Some(&[0; 13]))).is_err());
        assert_eq!(FromLearner::read(packet(77, None)), Ok(FromLearner::Unknown(77)));
        assert_eq!(FromLeader::read(&packet(0x5a02, None)), Ok(FromLeader::Unknown(0x5a02)));
    }

    #[test]
    fn touched_sessions_come_back_in_order() {
        let sessions = [(SessionId(0x1_0000), 6000), (SessionId(-3), 4000)];
        let mut room = vec![9; 40];
        let touched = Touched::write(&mut room, sessions);
        assert_eq!(touched.iter().collect::<Vec<_>>(), sessions);
        let mut bytes = Vec::new();
        FromLearner::Ping { zxid: Zxid(8), touched }.put(&mut bytes);
        let Ok(Split::Whole(read, len)) = split(&bytes, 100) else { panic!() };
        assert_eq!(len, 20 + 24);
        assert_eq!(FromLearner::read(read), Ok(FromLearner::Ping { zxid: Zxid(8), touched }));
    }
}
