//! The two stat records.

use super::{JuteError, Put, Reader};
use crate::types::{Stat, StatPersisted, Zxid};

/// Appends a client's `Stat`: 68 bytes.
#[inline]
pub fn put_stat(out: &mut Vec<u8>, s: &Stat) {
    let mut b = [0u8; 68];
    b[0..8].copy_from_slice(&s.czxid.0.to_be_bytes());
    b[8..16].copy_from_slice(&s.mzxid.0.to_be_bytes());
    b[16..24].copy_from_slice(&s.ctime.to_be_bytes());
    b[24..32].copy_from_slice(&s.mtime.to_be_bytes());
    b[32..36].copy_from_slice(&s.version.to_be_bytes());
    b[36..40].copy_from_slice(&s.cversion.to_be_bytes());
    b[40..44].copy_from_slice(&s.aversion.to_be_bytes());
    b[44..52].copy_from_slice(&s.ephemeral_owner.to_be_bytes());
    b[52..56].copy_from_slice(&s.data_length.to_be_bytes());
    b[56..60].copy_from_slice(&s.num_children.to_be_bytes());
    b[60..68].copy_from_slice(&s.pzxid.0.to_be_bytes());
    out.extend_from_slice(&b);
}

/// Reads a client's `Stat`.
pub fn read_stat(r: &mut Reader<'_>) -> Result<Stat, JuteError> {
    Ok(Stat {
        czxid: Zxid(r.i64()?),
        mzxid: Zxid(r.i64()?),
        ctime: r.i64()?,
        mtime: r.i64()?,
        version: r.i32()?,
        cversion: r.i32()?,
        aversion: r.i32()?,
        ephemeral_owner: r.i64()?,
        data_length: r.i32()?,
        num_children: r.i32()?,
        pzxid: Zxid(r.i64()?),
    })
}

/// Appends a `StatPersisted`: 60 bytes, snapshot order (pzxid last).
pub fn put_stat_persisted(out: &mut Vec<u8>, s: &StatPersisted) {
    out.put_i64(s.czxid.0);
    out.put_i64(s.mzxid.0);
    out.put_i64(s.ctime);
    out.put_i64(s.mtime);
    out.put_i32(s.version);
    out.put_i32(s.cversion);
    out.put_i32(s.aversion);
    out.put_i64(s.ephemeral_owner);
    out.put_i64(s.pzxid.0);
}

/// Reads a `StatPersisted`.
pub fn read_stat_persisted(r: &mut Reader<'_>) -> Result<StatPersisted, JuteError> {
    Ok(StatPersisted {
        czxid: Zxid(r.i64()?),
        mzxid: Zxid(r.i64()?),
        ctime: r.i64()?,
        mtime: r.i64()?,
        version: r.i32()?,
        cversion: r.i32()?,
        aversion: r.i32()?,
        ephemeral_owner: r.i64()?,
        pzxid: Zxid(r.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let s = Stat { czxid: Zxid(1), pzxid: Zxid(9), version: -3, num_children: 4, ..Stat::default() };
        let mut out = Vec::new();
        put_stat(&mut out, &s);
        assert_eq!(out.len(), 68);
        assert_eq!(read_stat(&mut Reader::new(&out)), Ok(s));
        let p = StatPersisted { mzxid: Zxid(5), ephemeral_owner: i64::MIN, pzxid: Zxid(7), ..StatPersisted::default() };
        let mut out = Vec::new();
        put_stat_persisted(&mut out, &p);
        assert_eq!(out.len(), 60);
        assert_eq!(read_stat_persisted(&mut Reader::new(&out)), Ok(p));
    }
}
