//! Ids of sessions, servers, connections, shards and client calls; the session password. Mirrors `SessionTrackerImpl.initializeNextSessionId`
//! and `ZooKeeperServer.generatePasswd`.

use std::fmt;

/// A client session. The top byte is the id of the server that created it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

/// The id in `myid`: 1 to 255 in an ensemble. A standalone server is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub i64);

/// How often this server has changed its role since its process started. What is asked of disks and networks carries it, and
/// so does the answer: one of an earlier term is dropped. It says nothing about other servers and never leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Term(pub u64);

/// The number that a client gives to one of its requests (xid on the wire, cxid in a transaction).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Cxid(pub i32);

/// A client connection. A value is never used again while the process lives. Its lower 32 bits are the connection's
/// slot: a small number that no other open connection of the same shard has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// A shard, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u32);

impl ShardId {
    /// This shard's index in a list of all shards.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a request came from, which is where its reply goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// The server itself: there is no reply.
    Server,
    /// A client of another server, which forwards its requests to this one, the leader.
    Learner {
        /// The other server's connection.
        conn: ConnId,
    },
    /// A client of this server.
    Local {
        /// The shard that owns the connection.
        shard: ShardId,
        /// The connection.
        conn: ConnId,
    },
}

impl SessionId {
    /// No session: in the handshake of a client that asks for a new one, and in requests that the server makes itself.
    pub const NONE: SessionId = SessionId(0);

    /// The first id that a server process gives out; each later id is one higher. `mono_ms` is a monotonic clock, never
    /// wall time.
    pub fn first(server: ServerId, mono_ms: i64) -> SessionId {
        let id = (((mono_ms << 24) as u64 >> 8) as i64) | (server.0 << 56);
        // This value would be read as the owner of a container.
        SessionId(if id == i64::MIN { id + 1 } else { id })
    }

    /// The 16-byte password, which every server derives from the id alone: `java.util.Random(id ^ 0xB3415C00)`, words
    /// little-endian.
    pub fn passwd(self) -> [u8; 16] {
        const MULTIPLIER: u64 = 0x5_DEEC_E66D;
        const MASK: u64 = (1 << 48) - 1;
        let mut s = ((self.0 as u64 ^ 0xB341_5C00) ^ MULTIPLIER) & MASK;
        let mut out = [0u8; 16];
        for word in out.chunks_exact_mut(4) {
            s = s.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
            word.copy_from_slice(&((s >> 16) as u32).to_le_bytes());
        }
        out
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    /// `0x` and hexadecimal digits, as ZooKeeper prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_vector_from_a_jdk() {
        let hex: String = SessionId(0x0100_0000_0000_0001).passwd().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "054cc74a37327db215e702e20c73f005");
    }

    #[test]
    fn first_id_carries_the_server_in_its_top_byte() {
        let id = SessionId::first(ServerId(1), 0x1234_5678_9abc);
        assert_eq!(id.0 >> 56, 1);
        assert_eq!((id.0 >> 16) & 0xff_ffff_ffff, 0x34_5678_9abc);
        assert_eq!(SessionId::first(ServerId(0x80), 0).0, i64::MIN + 1);
    }
}
