//! The 32-byte header and the 12-byte digest tail.

use crate::jute::{JuteError, Put, Reader};
use crate::types::{Cxid, Op, SessionId, Zxid};

/// The header of a transaction: session, client's request number, zxid, time (the leader's wall clock) and opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct TxnHeader {
    pub session: SessionId,
    pub cxid: Cxid,
    pub zxid: Zxid,
    pub time_ms: i64,
    /// What kind of transaction it is.
    pub op: Op,
}

impl TxnHeader {
    /// Bytes on disk and wire.
    pub const LEN: usize = 32;

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_i64(self.session.0);
        out.put_i32(self.cxid.0);
        out.put_i64(self.zxid.0);
        out.put_i64(self.time_ms);
        out.put_i32(self.op.0);
    }

    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<TxnHeader, JuteError> {
        Ok(TxnHeader {
            session: SessionId(r.i64()?),
            cxid: Cxid(r.i32()?),
            zxid: Zxid(r.i64()?),
            time_ms: r.i64()?,
            op: Op(r.i32()?),
        })
    }
}

/// The tree's digest after a transaction: a version (2 today) and an AdHash sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct TxnDigest {
    pub version: i32,
    pub digest: u64,
}

impl TxnDigest {
    /// Bytes on disk and wire.
    pub const LEN: usize = 12;
    /// The algorithm of ZooKeeper 3.6 to 3.10.
    pub const VERSION: i32 = 2;

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_i32(self.version);
        out.put_i64(self.digest as i64);
    }

    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<TxnDigest, JuteError> {
        Ok(TxnDigest { version: r.i32()?, digest: r.i64()? as u64 })
    }
}
