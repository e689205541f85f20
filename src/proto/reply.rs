//! Replies and events, appended framed to a connection's output. Mirrors `ReplyHeader`, `WatcherEvent` and the response records.

use super::request::xid;
use crate::jute::Put;
use crate::types::code::STATE_SYNC_CONNECTED;
use crate::types::{ErrorCode, EventType, Zxid};

/// What stands before every reply: 16 bytes.
#[inline]
pub fn put_reply_header(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    let mut b = [0u8; 16];
    b[0..4].copy_from_slice(&xid.to_be_bytes());
    b[4..12].copy_from_slice(&zxid.0.to_be_bytes());
    b[12..16].copy_from_slice(&err.code().to_be_bytes());
    out.extend_from_slice(&b);
}

/// A whole framed reply without a body.
#[inline]
pub fn put_reply(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: ErrorCode) {
    let f = out.begin_frame();
    put_reply_header(out, xid, zxid, err);
    out.end_frame(f);
}

/// A framed watch event. `zxid` is the transaction's, or [`Zxid::NONE`] when a setWatches replay makes it.
pub fn put_event(out: &mut Vec<u8>, zxid: Zxid, event: EventType, path: &str) {
    let f = out.begin_frame();
    put_reply_header(out, xid::NOTIFICATION, zxid, ErrorCode::Ok);
    out.put_i32(event as i32);
    out.put_i32(STATE_SYNC_CONNECTED);
    out.put_string(path);
    out.end_frame(f);
}
