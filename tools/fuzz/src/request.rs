//! The body of every operation: decoded, written and decoded again; then executed, a write by prep and tree, anything else by
//! a shard with an open session.
//!
//! A write becomes a transaction that reads back as it was written, has the digest prep foretold, leaves the tree sound and is
//! answered by one frame. Anything else is answered by at most one frame of its own, or ends the connection.

use std::sync::Arc;

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::oracle::judge::{self, Table, check_encoding};
use zabra::pipeline::{AfterReply, Prep, PrepOptions, Proposal, WriteRequest, put_write_reply};
use zabra::proto::ReplyHeader;
use zabra::proto::Request;
use zabra::proto::request::{is_write, put_framed_body};
use zabra::shard::Input as Step;
use zabra::tree::Tree;
use zabra::types::{Cxid, Id, Now, Origin, SessionId, Zxid, op};

use crate::frame::FIRST;
use crate::input::Input;
use crate::world::{EXTENDED, OWNER, World, frames, tree};

/// Every opcode there is, and some there are not.
const OPS: [i32; 36] = [
    op::CREATE,
    op::DELETE,
    op::EXISTS,
    op::GET_DATA,
    op::SET_DATA,
    op::GET_ACL,
    op::SET_ACL,
    op::GET_CHILDREN,
    op::SYNC,
    op::PING,
    op::GET_CHILDREN2,
    op::CHECK,
    op::MULTI,
    op::CREATE2,
    op::RECONFIG,
    op::CHECK_WATCHES,
    op::REMOVE_WATCHES,
    op::CREATE_CONTAINER,
    op::DELETE_CONTAINER,
    op::CREATE_TTL,
    op::MULTI_READ,
    op::AUTH,
    op::SET_WATCHES,
    op::SASL,
    op::GET_EPHEMERALS,
    op::GET_ALL_CHILDREN_NUMBER,
    op::SET_WATCHES2,
    op::ADD_WATCH,
    op::WHO_AM_I,
    op::CREATE_SESSION,
    op::CLOSE_SESSION,
    op::ERROR,
    0,
    10,
    99,
    i32::MIN,
];

const XID: i32 = 7;

/// Input: which opcode, by its place in the table, flags, then the body.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let op = *input.pick(&OPS);
    let flags = input.u8();
    let body = input.rest();
    if let Ok(Some(request)) = Request::read(op, body) {
        let again = request.body(op);
        assert_eq!(Request::read(op, &again), Ok(Some(request)), "written again as {again:?}");
    }
    // Whatever the opcode: prep refuses what it does not know.
    write(op, flags, body);
    if !is_write(op) || matches!(op, op::CREATE_SESSION | op::DELETE_CONTAINER) {
        read(op, flags, body);
    }
}

/// The place of an opcode in the table: for those who write seeds.
pub fn number_of(op: i32) -> Option<u8> {
    OPS.iter().position(|o| *o == op).map(|at| at as u8)
}

fn write(op: i32, flags: u8, body: &[u8]) {
    let mut tree = tree();
    let enforce_quota = flags & 2 != 0;
    let mut prep = Prep::new(PrepOptions { extended: EXTENDED, enforce_quota, ..PrepOptions::default() });
    let ids = if flags & 4 != 0 { vec![Id::new("digest", "bob:h")] } else { vec![Id::new("ip", "10.0.0.1")] };
    let request = WriteRequest {
        session: if flags & 1 == 0 { OWNER } else { SessionId(0) },
        cxid: Cxid(XID),
        op,
        body: Bytes::copy_from_slice(body),
        auth: Arc::from(ids),
        moved: flags & 8 != 0,
        origin: Origin::Server,
    };
    let zxid = Zxid(tree.last_zxid().0 + 1);
    let now = Now { wall_ms: 2000, ..Now::default() };
    let proposal = prep.handle(&tree, &Table([OWNER].into()), now, zxid, &request);
    prep.check();
    check_encoding(&proposal);
    apply(&mut tree, &proposal);
    prep.applied(zxid);
    assert_eq!(prep.status().outstanding_changes, 0);
}

/// Applies what prep proposed: the tree must find nothing wrong with it, and the client is answered in one frame.
pub(crate) fn apply(tree: &mut Tree, p: &Proposal) {
    let applied = judge::apply(tree, p);
    tree.check().unwrap_or_else(|e| panic!("{e} after {:?}", p.txn));
    let mut out = Vec::new();
    match put_write_reply(&mut out, p.op, p.header.cxid.0, p.header.zxid, &p.txn, &applied) {
        AfterReply::Keep | AfterReply::CloseAfterFlush => {
            let [reply] = frames(&out)[..] else { panic!("not one frame: {out:?}") };
            let mut r = Reader::new(reply);
            let header = ReplyHeader::read(&mut r).expect("a header");
            assert_eq!((header.xid, header.zxid), (p.header.cxid.0, p.header.zxid));
            assert!(header.err == 0 || r.is_empty(), "an error with a body: {reply:?}");
        }
        AfterReply::Close | AfterReply::Handshake => assert!(out.is_empty()),
    }
}

fn read(op: i32, flags: u8, body: &[u8]) {
    let mut world = World::new(false);
    world.open(FIRST);
    let mut bytes = Vec::new();
    if flags & 1 != 0 {
        // Behind a write of its own session: it waits in the fifo, undecoded.
        put_framed_body(&mut bytes, XID - 1, op::SYNC, &[0xff; 4]);
        put_framed_body(&mut bytes, XID - 1, op::DELETE, b"\0\0\0\x02/x\0\0\0\0");
    }
    put_framed_body(&mut bytes, XID, op, body);
    if bytes.len() > crate::world::MAX_FRAME {
        return;
    }
    world.step(Step::Data { conn: FIRST, bytes: &bytes });
    world.settle();
    let sent = world.sent.remove(&FIRST).unwrap_or_default();
    let answers = frames(&sent).into_iter().filter(|f| f.starts_with(&XID.to_be_bytes())).count();
    let ended = world.closed.contains_key(&FIRST);
    assert!(answers == 1 || answers == 0 && ended || has_own_xid(op), "{answers} answers, ended: {ended}");
    assert_eq!(world.outstanding(), 0);
}

/// Pings and auth packets may be answered under a number of their own.
fn has_own_xid(op: i32) -> bool {
    matches!(op, op::PING | op::AUTH | op::SASL)
}
