//! The header of replies, and watch events. Mirrors `ReplyHeader` and `WatcherEvent`.

use super::record::Text;
use super::request::xid;
use crate::jute::{JuteError, Put, Reader};
use crate::types::code::STATE_SYNC_CONNECTED;
use crate::types::{ErrorCode, EventType, Zxid};

/// The header of every reply and event: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ReplyHeader {
    /// The xid of the request, or one of the special ones in [`xid`].
    pub xid: i32,
    pub zxid: Zxid,
    /// An [`ErrorCode`], or a number that this version does not know.
    pub err: i32,
}

impl ReplyHeader {
    /// Appends it.
    #[inline]
    pub fn put(self, out: &mut Vec<u8>) {
        let mut b = [0u8; 16];
        b[0..4].copy_from_slice(&self.xid.to_be_bytes());
        b[4..12].copy_from_slice(&self.zxid.0.to_be_bytes());
        b[12..16].copy_from_slice(&self.err.to_be_bytes());
        out.extend_from_slice(&b);
    }

    /// Reads it.
    ///
    /// # Errors
    /// There are fewer than 16 bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<ReplyHeader, JuteError> {
        Ok(ReplyHeader { xid: r.i32()?, zxid: Zxid(r.i64()?), err: r.i32()? })
    }
}

/// Appends the header of a reply.
#[inline]
pub fn put_reply_header(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    ReplyHeader { xid, zxid, err: err.code() }.put(out);
}

/// Appends a whole reply without a body, as a frame.
#[inline]
pub fn put_reply(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    let f = out.begin_frame();
    put_reply_header(out, xid, zxid, err);
    out.end_frame(f);
}

/// What follows the header of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct WatcherEvent<'a> {
    /// The number of an [`EventType`].
    pub kind: i32,
    /// The client's state (`Watcher.Event.KeeperState`): this server always sends SyncConnected.
    pub state: i32,
    pub path: Text<'a>,
}

impl<'a> WatcherEvent<'a> {
    /// Appends the event without a header.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.put_i32(self.kind);
        out.put_i32(self.state);
        out.put_string(&self.path);
    }

    /// Reads the event after its header.
    ///
    /// # Errors
    /// The bytes end too early.
    pub fn read(r: &mut Reader<'a>) -> Result<WatcherEvent<'a>, JuteError> {
        Ok(WatcherEvent { kind: r.i32()?, state: r.i32()?, path: r.string()? })
    }
}

/// Appends a watch event as a frame. `zxid` is that of the transaction, or [`Zxid::NONE`] for an event that setWatches
/// replays.
pub fn put_event(out: &mut Vec<u8>, zxid: Zxid, event: EventType, path: &str) {
    let f = out.begin_frame();
    put_reply_header(out, xid::NOTIFICATION, zxid, ErrorCode::Ok);
    WatcherEvent { kind: event as i32, state: STATE_SYNC_CONNECTED, path: path.into() }.put(out);
    out.end_frame(f);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_vector() {
        let mut out = Vec::new();
        put_event(&mut out, Zxid(2), EventType::NodeDataChanged, "/a");
        let expected = b"\0\0\0\x1e\xff\xff\xff\xff\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\x03\0\0\0\x02/a";
        assert_eq!(out, expected);
        let mut r = Reader::new(&out[4..]);
        let header = ReplyHeader::read(&mut r).unwrap();
        assert_eq!(header, ReplyHeader { xid: xid::NOTIFICATION, zxid: Zxid(2), err: 0 });
        assert_eq!(WatcherEvent::read(&mut r), Ok(WatcherEvent { kind: 3, state: 3, path: "/a".into() }));
        assert!(r.is_empty());
        assert!(ReplyHeader::read(&mut Reader::new(&out[4..19])).is_err());
        assert!(WatcherEvent::read(&mut Reader::new(&out[20..out.len() - 1])).is_err());
    }
}
