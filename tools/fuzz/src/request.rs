//! The body of every operation: decoded, encoded and decoded again; then executed, a write by prep and tree, anything
//! else by a shard with an open session.
//!
//! A write must become a transaction that can be decoded again, has the digest that prep predicted, keeps the tree
//! sound, and is answered by one frame. Anything else must be answered by at most one frame, or end the connection.

use std::sync::Arc;

use bytes::Bytes;
use zabra::jute::Reader;
use zabra::oracle::judge::{self, Table, check_encoding};
use zabra::pipeline::{AfterReply, Prep, PrepOptions, Proposal, WriteRequest, put_write_reply};
use zabra::proto::ReplyHeader;
use zabra::proto::Request;
use zabra::proto::request::{is_write, put_framed_body};
use zabra::tree::Tree;
use zabra::types::{Cxid, Id, Now, Op, Origin, SessionId, Zxid};

use crate::frame::FIRST;
use crate::input::Input;
use crate::world::{EXTENDED, OWNER, World, frames, tree};

/// All opcodes, and some that do not exist.
const OPS: [Op; 36] = [
    Op::CREATE,
    Op::DELETE,
    Op::EXISTS,
    Op::GET_DATA,
    Op::SET_DATA,
    Op::GET_ACL,
    Op::SET_ACL,
    Op::GET_CHILDREN,
    Op::SYNC,
    Op::PING,
    Op::GET_CHILDREN2,
    Op::CHECK,
    Op::MULTI,
    Op::CREATE2,
    Op::RECONFIG,
    Op::CHECK_WATCHES,
    Op::REMOVE_WATCHES,
    Op::CREATE_CONTAINER,
    Op::DELETE_CONTAINER,
    Op::CREATE_TTL,
    Op::MULTI_READ,
    Op::AUTH,
    Op::SET_WATCHES,
    Op::SASL,
    Op::GET_EPHEMERALS,
    Op::GET_ALL_CHILDREN_NUMBER,
    Op::SET_WATCHES2,
    Op::ADD_WATCH,
    Op::WHO_AM_I,
    Op::CREATE_SESSION,
    Op::CLOSE_SESSION,
    Op::ERROR,
    Op(0),
    Op(10),
    Op(99),
    Op(i32::MIN),
];

const XID: i32 = 7;

/// Input: the opcode as an index into the table, flags, then the body.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let op = *input.pick(&OPS);
    let flags = input.u8();
    let body = input.rest();
    if let Ok(Some(request)) = Request::read(op, body) {
        let again = request.body(op);
        assert_eq!(Request::read(op, &again), Ok(Some(request)), "written again as {again:?}");
    }
    // Whatever the opcode is: prep refuses those it does not know.
    write(op, flags, body);
    if !is_write(op) || matches!(op, Op::CREATE_SESSION | Op::DELETE_CONTAINER) {
        read(op, flags, body);
    }
}

/// The index of an opcode in the table, for writing seeds.
pub fn number_of(op: Op) -> Option<u8> {
    OPS.iter().position(|o| *o == op).map(|at| at as u8)
}

fn write(op: Op, flags: u8, body: &[u8]) {
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

/// Applies a proposal: the tree must accept it, and the client must get one frame.
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

fn read(op: Op, flags: u8, body: &[u8]) {
    let mut world = World::new(false);
    world.open(FIRST);
    let mut bytes = Vec::new();
    if flags & 1 != 0 {
        // After a write of its own session, so that it waits in the fifo undecoded.
        put_framed_body(&mut bytes, XID - 1, Op::SYNC, &[0xff; 4]);
        put_framed_body(&mut bytes, XID - 1, Op::DELETE, b"\0\0\0\x02/x\0\0\0\0");
    }
    put_framed_body(&mut bytes, XID, op, body);
    if bytes.len() > crate::world::MAX_FRAME {
        return;
    }
    world.data(FIRST, &bytes);
    world.settle();
    let sent = world.sent.remove(&FIRST).unwrap_or_default();
    let answers = frames(&sent).into_iter().filter(|f| f.starts_with(&XID.to_be_bytes())).count();
    let ended = world.closed.contains_key(&FIRST);
    assert!(answers == 1 || answers == 0 && ended || has_own_xid(op), "{answers} answers, ended: {ended}");
    assert_eq!(world.outstanding(), 0);
}

/// Pings and auth packets may be answered with an xid of their own.
fn has_own_xid(op: Op) -> bool {
    matches!(op, Op::PING | Op::AUTH | Op::SASL)
}
