//! The packets between a leader and its learners, and how they are separated in a byte stream. Mirrors `QuorumPacket`.
//! A packet does not begin with its length: its end is known only from its fields.

use thiserror::Error;

use crate::jute::acl::{put_id, read_id};
use crate::jute::{JuteError, Put, Reader};
use crate::types::{Id, Zxid};

/// Type numbers of packets, as in `Leader`.
pub mod kind {
    /// A learner forwards a client's write or sync.
    pub const REQUEST: i32 = 1;
    /// The leader proposes a transaction to a follower.
    pub const PROPOSAL: i32 = 2;
    /// A learner has logged everything up to this zxid durably.
    pub const ACK: i32 = 3;
    /// A quorum has acknowledged the proposal.
    pub const COMMIT: i32 = 4;
    /// The leader checks that a learner is alive; the answer contains the sessions it heard from.
    pub const PING: i32 = 5;
    /// A learner asks whether a session exists, and takes it over.
    pub const REVALIDATE: i32 = 6;
    /// Everything that was outstanding when the sync was requested is committed.
    pub const SYNC: i32 = 7;
    /// A committed transaction for an observer.
    pub const INFORM: i32 = 8;
    /// Commits a reconfig and activates it.
    pub const COMMITANDACTIVATE: i32 = 9;
    /// The learner now has the complete history: the epoch begins.
    pub const NEWLEADER: i32 = 10;
    /// A participant introduces itself.
    pub const FOLLOWERINFO: i32 = 11;
    /// A learner may serve clients.
    pub const UPTODATE: i32 = 12;
    /// The missing transactions follow as proposals and commits.
    pub const DIFF: i32 = 13;
    /// The learner must cut its log after this zxid.
    pub const TRUNC: i32 = 14;
    /// A complete snapshot follows.
    pub const SNAP: i32 = 15;
    /// An observer introduces itself.
    pub const OBSERVERINFO: i32 = 16;
    /// The leader names the new epoch.
    pub const LEADERINFO: i32 = 17;
    /// A learner promises to accept nothing from older epochs.
    pub const ACKEPOCH: i32 = 18;
    /// A committed reconfig for an observer.
    pub const INFORMANDACTIVATE: i32 = 19;
}

/// Most identities in a REQUEST. A connection has a few; a client can add more with `addauth`.
pub const MAX_IDENTITIES: usize = 1 << 16;

/// Bytes of a packet without data and identities: type, zxid, two lengths.
const EMPTY: usize = 20;

/// What is wrong with a packet. Its connection must be closed, because it is not known where the next packet begins.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum PacketError {
    /// A field that cannot be read.
    #[error("a {name} packet cannot be read: {error}", name = name(*kind))]
    Field {
        /// The packet's type number.
        kind: i32,
        /// What is wrong with the field.
        error: JuteError,
    },
    /// A field is longer than allowed.
    #[error("a {name} packet has {what} of {len}, more than {limit} are not taken", name = name(*kind))]
    TooLong {
        /// The packet's type number.
        kind: i32,
        /// The field.
        what: &'static str,
        /// The value of its length field.
        len: i32,
        /// The longest that is accepted.
        limit: usize,
    },
    /// A length below -1, or a missing part.
    #[error("a {name} packet has no usable {what}", name = name(*kind))]
    Missing {
        /// The packet's type number.
        kind: i32,
        /// What is missing.
        what: &'static str,
    },
}

/// The name of a packet type, as in ZooKeeper's documentation and logs.
pub fn name(kind: i32) -> &'static str {
    const NAMES: [&str; 19] = [
        "REQUEST",
        "PROPOSAL",
        "ACK",
        "COMMIT",
        "PING",
        "REVALIDATE",
        "SYNC",
        "INFORM",
        "COMMITANDACTIVATE",
        "NEWLEADER",
        "FOLLOWERINFO",
        "UPTODATE",
        "DIFF",
        "TRUNC",
        "SNAP",
        "OBSERVERINFO",
        "LEADERINFO",
        "ACKEPOCH",
        "INFORMANDACTIVATE",
    ];
    usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind.wrapping_sub(1))).copied().unwrap_or("unknown")
}

/// One packet. The meaning of `data` depends on `kind`: see [`super::message`].
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Packet<'a> {
    /// The type number, see [`kind`].
    pub kind: i32,
    /// A zxid, or what this type of packet has in its place (-1 if the field has no meaning).
    pub zxid: Zxid,
    /// The body; `None` is a null buffer, which is not the same as an empty one.
    pub data: Option<&'a [u8]>,
    /// The identities of the client in a REQUEST; `None` is a null vector.
    pub identities: Option<Vec<Id>>,
}

/// What the first bytes of a stream are.
#[derive(Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A complete packet, and the number of bytes it takes.
    Whole(Packet<'a>, usize),
    /// An incomplete packet: at least this many bytes, counted from its first, are needed.
    Need(usize),
}

/// The first packet in `bytes`. `limit` is the most bytes of its data and also, separately, of its identities: in
/// ZooKeeper it is `jute.maxbuffer` plus `zookeeper.jute.maxbuffer.extrasize`. Both are checked by the length fields,
/// before the bytes themselves have arrived.
///
/// # Errors
/// [`PacketError`]: the connection must be closed.
pub fn split(bytes: &[u8], limit: usize) -> Result<Split<'_>, PacketError> {
    // Shorter than the shortest packet.
    if bytes.len() < EMPTY {
        return Ok(Split::Need(EMPTY));
    }
    let mut r = Reader::new(bytes);
    let kind = bytes.first_chunk().map_or(0, |b| i32::from_be_bytes(*b));
    match read(&mut r, kind, limit) {
        Ok(packet) => {
            let taken = r.position();
            assert!((EMPTY..=bytes.len()).contains(&taken), "a packet takes {taken} of {} bytes", bytes.len());
            assert!(packet.data.is_none_or(|data| data.len() <= limit), "a packet with more data than {limit} bytes");
            Ok(Split::Whole(packet, taken))
        }
        Err(PacketError::Field { error: JuteError::Truncated { missing, .. }, .. }) => {
            // Or the same bytes would be looked at again and again.
            assert!(missing > 0, "a packet misses nothing and is not whole");
            Ok(Split::Need(bytes.len() + missing))
        }
        Err(e) => Err(e),
    }
}

fn read<'a>(r: &mut Reader<'a>, kind: i32, limit: usize) -> Result<Packet<'a>, PacketError> {
    let field = |error| PacketError::Field { kind, error };
    r.i32().map_err(field)?;
    let zxid = Zxid(r.i64().map_err(field)?);
    let data = match bounded(r.i32().map_err(field)?, limit, kind, "data")? {
        None => None,
        Some(len) => Some(r.take(len).map_err(field)?),
    };
    let identities = match bounded(r.i32().map_err(field)?, MAX_IDENTITIES, kind, "a list of identities")? {
        None => None,
        Some(count) => Some(read_identities(r, kind, count, limit)?),
    };
    Ok(Packet { kind, zxid, data, identities })
}

/// A length field as a number of bytes or elements; -1 means null.
fn bounded(len: i32, limit: usize, kind: i32, what: &'static str) -> Result<Option<usize>, PacketError> {
    match usize::try_from(len) {
        Err(_) if len == -1 => Ok(None),
        Err(_) => Err(PacketError::Missing { kind, what }),
        Ok(len_) if len_ > limit => Err(PacketError::TooLong { kind, what, len, limit }),
        Ok(len) => Ok(Some(len)),
    }
}

fn read_identities(r: &mut Reader<'_>, kind: i32, count: usize, limit: usize) -> Result<Vec<Id>, PacketError> {
    // Nothing is allocated for identities that have not arrived: the vector grows with those that are there.
    let mut identities = Vec::new();
    let begin = r.position();
    for _ in 0..count {
        after_string(after_string(r.clone(), kind, limit)?, kind, limit)?;
        identities.push(read_id(r).map_err(|error| PacketError::Field { kind, error })?);
        let len = r.position() - begin;
        if len > limit {
            let len = i32::try_from(len).unwrap_or(i32::MAX);
            return Err(PacketError::TooLong { kind, what: "identities", len, limit });
        }
    }
    Ok(identities)
}

/// The reader after the next string, whose length is checked before its bytes are waited for.
fn after_string<'a>(mut r: Reader<'a>, kind: i32, limit: usize) -> Result<Reader<'a>, PacketError> {
    let field = |error| PacketError::Field { kind, error };
    if let Some(len) = bounded(r.i32().map_err(field)?, limit, kind, "an identity")? {
        r.take(len).map_err(field)?;
    }
    Ok(r)
}

impl Packet<'_> {
    /// Appends the packet as it is sent.
    pub fn put(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.reserve(EMPTY + self.data.map_or(0, <[u8]>::len));
        out.put_i32(self.kind);
        out.put_i64(self.zxid.0);
        out.put_buffer(self.data);
        match &self.identities {
            None => out.put_i32(-1),
            Some(identities) => {
                assert!(identities.len() <= MAX_IDENTITIES, "a packet with {} identities", identities.len());
                out.put_i32(identities.len() as i32);
                identities.iter().for_each(|id| put_id(out, id));
            }
        }
        assert!(out.len() >= begin + EMPTY, "a packet of {} bytes", out.len() - begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn request() -> (Packet<'static>, Vec<u8>) {
        let identities = vec![Id::new("ip", "127.0.0.1"), Id::new("digest", "")];
        let packet =
            Packet { kind: kind::REQUEST, zxid: Zxid::NONE, data: Some(b"body"), identities: Some(identities) };
        let mut bytes = Vec::new();
        packet.put(&mut bytes);
        (packet, bytes)
    }

    #[test]
    fn a_packet_is_cut_out_wherever_the_stream_was_cut() {
        let (packet, mut bytes) = request();
        let len = bytes.len();
        bytes.extend_from_slice(b"the next one");
        assert_eq!(split(&bytes, LIMIT), Ok(Split::Whole(packet.clone(), len)));
        for cut in 0..len {
            let Ok(Split::Need(need)) = split(&bytes[..cut], LIMIT) else { panic!("{cut}") };
            assert!(need > cut && need <= len, "{cut} {need}");
        }
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        for (data, identities) in [(None, None), (Some(&b""[..]), Some(vec![])), (None, Some(vec![]))] {
            let packet = Packet { kind: kind::PING, zxid: Zxid(7), data, identities };
            let mut bytes = Vec::new();
            packet.put(&mut bytes);
            assert_eq!(split(&bytes, LIMIT), Ok(Split::Whole(packet, EMPTY)));
        }
    }

    #[test]
    fn lengths_are_judged_before_their_bytes_come() {
        let mut bytes = Vec::new();
        bytes.put_i32(kind::PROPOSAL);
        bytes.put_i64(1);
        bytes.put_i32(1001);
        bytes.put_i32(0);
        let error = split(&bytes, LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "a PROPOSAL packet has data of 1001, more than 1000 are not taken");
        bytes[12..16].copy_from_slice(&(-2i32).to_be_bytes());
        assert_eq!(split(&bytes, LIMIT), Err(PacketError::Missing { kind: kind::PROPOSAL, what: "data" }));
        bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        bytes[16..20].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(matches!(split(&bytes, LIMIT), Err(PacketError::TooLong { what: "a list of identities", .. })));
        // Many identities, none of which has arrived: only the first is waited for.
        bytes[16..20].copy_from_slice(&60_000i32.to_be_bytes());
        assert_eq!(split(&bytes, LIMIT), Ok(Split::Need(24)));
        bytes.put_i32(1001);
        assert!(matches!(split(&bytes, LIMIT), Err(PacketError::TooLong { what: "an identity", len: 1001, .. })));
        // Each is short enough, but not all together.
        bytes.truncate(20);
        (0..200).for_each(|_| put_id(&mut bytes, &Id::new("x", "y")));
        assert!(matches!(split(&bytes, LIMIT), Err(PacketError::TooLong { what: "identities", .. })));
    }

    #[test]
    fn every_type_has_its_name() {
        assert_eq!((name(kind::REQUEST), name(kind::INFORMANDACTIVATE)), ("REQUEST", "INFORMANDACTIVATE"));
        assert_eq!((name(0), name(20), name(-5), name(i32::MIN)), ("unknown", "unknown", "unknown", "unknown"));
    }
}
