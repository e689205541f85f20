//! The reply to a write after it was applied. Mirrors the part of `FinalRequestProcessor` that answers writes.

use crate::jute::Put;
use crate::jute::stat::put_stat;
use crate::proto::multi::{MultiHeader, MultiResult};
use crate::proto::reply::{ReplyHeader, put_reply_header};
use crate::proto::response::{put_created, put_data};
use crate::tree::{Applied, SubApplied};
use crate::txn::Txn;
use crate::types::{ErrorCode, Op, Stat, Zxid};

/// What the shard has to do besides sending the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterReply {
    /// Nothing.
    Keep,
    /// The session is closed: close the connection after the bytes are sent.
    CloseAfterFlush,
    /// The session has moved to another server: close the connection now. No bytes were appended.
    Close,
    /// A session was created, which the handshake's response answers. No bytes were appended.
    Handshake,
}

/// Appends the reply to a write, as a frame. `op` is the request's opcode and `xid` its number; `zxid` is put into the
/// header; `txn` is the transaction that the request became and `applied` the result of applying it.
pub fn put_write_reply(out: &mut Vec<u8>, op: Op, xid: i32, zxid: Zxid, txn: &Txn, applied: &Applied) -> AfterReply {
    if op == Op::CREATE_SESSION && !matches!(txn, Txn::Error { .. }) {
        return AfterReply::Handshake;
    }
    let moved = |err: i32| err == ErrorCode::SessionMoved.code();
    let subs = applied.subs.as_deref().filter(|_| matches!(txn, Txn::Multi(_)));
    if moved(applied.err) || subs.is_some_and(|subs| subs.iter().any(|s| moved(s.err))) {
        return AfterReply::Close;
    }
    let frame = out.begin_frame();
    match subs {
        // The header of a failed multi has no error: the results contain it.
        Some(subs) => {
            put_reply_header(out, xid, zxid, ErrorCode::Ok);
            put_multi(out, subs);
        }
        None => {
            ReplyHeader { xid, zxid, err: applied.err }.put(out);
            if applied.err == ErrorCode::Ok.code() {
                put_body(out, op, txn, applied.stat.as_ref());
            }
        }
    }
    out.end_frame(frame);
    if op == Op::CLOSE_SESSION { AfterReply::CloseAfterFlush } else { AfterReply::Keep }
}

/// Appends what follows the header if the write succeeded.
fn put_body(out: &mut Vec<u8>, op: Op, txn: &Txn, stat: Option<&Stat>) {
    match txn {
        Txn::Create(create) => {
            if op == Op::CREATE {
                out.put_string(&create.path);
            } else {
                put_created(out, &create.path, stat.unwrap_or(&Stat::default()));
            }
        }
        Txn::SetData { data, .. } => {
            let none = Stat::default();
            let stat = stat.unwrap_or(&none);
            if op == Op::RECONFIG { put_data(out, data.as_deref(), stat) } else { put_stat(out, stat) }
        }
        Txn::SetAcl { .. } => put_stat(out, stat.unwrap_or(&Stat::default())),
        Txn::Delete { .. }
        | Txn::Check { .. }
        | Txn::Multi(_)
        | Txn::CreateSession { .. }
        | Txn::CloseSession { .. }
        | Txn::Error { .. } => {}
    }
}

fn put_multi(out: &mut Vec<u8>, subs: &[SubApplied]) {
    for sub in subs {
        let path = sub.path.as_deref().unwrap_or_default().into();
        let stat = sub.stat.unwrap_or_default();
        let result = match sub.op {
            Op::CREATE => MultiResult::Create { path },
            Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL => MultiResult::Create2 { path, stat },
            Op::DELETE | Op::DELETE_CONTAINER => MultiResult::Delete,
            Op::SET_DATA => MultiResult::SetData { stat },
            Op::CHECK => MultiResult::Check,
            Op::ERROR => MultiResult::Error(sub.err),
            // No server writes such an operation, but a log of another server may contain one.
            op => {
                MultiHeader::result(op).put(out);
                continue;
            }
        };
        result.put(out);
    }
    MultiHeader::END.put(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Reader;
    use crate::jute::stat::read_stat;
    use crate::tree::{Tree, TreeOptions};
    use crate::txn::{CreateKind, CreateTxn, SubTxn, TxnHeader};
    use crate::types::{Cxid, SessionId};

    struct Replier {
        tree: Tree,
        zxid: i64,
    }

    impl Replier {
        fn new() -> Replier {
            Replier { tree: Tree::new(TreeOptions::default()), zxid: 0 }
        }

        /// Applies a transaction; returns the error code of the reply and the bytes after its header.
        fn reply(&mut self, op: Op, txn: Txn) -> (AfterReply, i32, Vec<u8>) {
            self.zxid += 1;
            let zxid = Zxid(self.zxid);
            let header_op = if matches!(txn, Txn::Error { .. }) { Op::ERROR } else { op };
            let header = TxnHeader { session: SessionId(1), cxid: Cxid(5), zxid, time_ms: 9, op: header_op };
            let applied = self.tree.apply(&header, &txn, &mut |_| {});
            let mut out = b"before".to_vec();
            let after = put_write_reply(&mut out, op, 5, zxid, &txn, &applied);
            let mut r = Reader::new(&out[6..]);
            if r.is_empty() {
                return (after, 0, vec![]);
            }
            assert_eq!(r.i32().unwrap() as usize, out.len() - 10);
            assert_eq!((r.i32().unwrap(), r.i64().unwrap()), (5, self.zxid));
            (after, r.i32().unwrap(), r.rest().to_vec())
        }

        fn stat(&self, path: &str) -> Stat {
            self.tree.get(path).unwrap().stat()
        }
    }

    fn create(path: &str, kind: CreateKind, parent_cversion: i32) -> Txn {
        Txn::Create(CreateTxn { path: path.to_owned(), data: None, acl: None, kind, parent_cversion })
    }

    const PLAIN: CreateKind = CreateKind::Plain { ephemeral: false };

    #[test]
    fn bodies_by_opcode() {
        let mut t = Replier::new();
        assert_eq!(t.reply(Op::CREATE, create("/a", PLAIN, 1)), (AfterReply::Keep, 0, b"\0\0\0\x02/a".to_vec()));
        for (op, kind, path, cversion) in
            [(Op::CREATE2, PLAIN, "/b", 2), (Op::CREATE_CONTAINER, CreateKind::Container, "/c", 3)]
        {
            let (_, err, body) = t.reply(op, create(path, kind, cversion));
            let mut r = Reader::new(&body);
            assert_eq!((err, r.string().unwrap().as_ref()), (0, path));
            assert_eq!(read_stat(&mut r), Ok(t.stat(path)));
            assert!(r.is_empty());
        }
        let set = |version| Txn::SetData { path: "/a".into(), data: Some("x".into()), version };
        let (_, err, body) = t.reply(Op::SET_DATA, set(1));
        assert_eq!((err, read_stat(&mut Reader::new(&body))), (0, Ok(t.stat("/a"))));
        let (_, _, body) = t.reply(Op::RECONFIG, set(2));
        let mut r = Reader::new(&body);
        assert_eq!((r.buffer(), read_stat(&mut r)), (Ok(Some(&b"x"[..])), Ok(t.stat("/a"))));
        let (_, _, body) = t.reply(Op::SET_ACL, Txn::SetAcl { path: "/a".into(), acl: None, version: 1 });
        assert_eq!(read_stat(&mut Reader::new(&body)), Ok(t.stat("/a")));
        assert_eq!(t.reply(Op::DELETE, Txn::Delete { path: "/a".into() }), (AfterReply::Keep, 0, vec![]));
    }

    #[test]
    fn errors_and_sessions() {
        let mut t = Replier::new();
        assert_eq!(t.reply(Op::CREATE2, Txn::Error { err: -110 }), (AfterReply::Keep, -110, vec![]));
        assert_eq!(t.reply(Op::MULTI, Txn::Error { err: -5 }), (AfterReply::Keep, -5, vec![]));
        // A code from another leader for which this server has no name is passed on.
        assert_eq!(t.reply(Op::DELETE, Txn::Error { err: -126 }), (AfterReply::Keep, -126, vec![]));
        assert_eq!(t.reply(Op::DELETE, Txn::Error { err: -118 }), (AfterReply::Close, 0, vec![]));
        assert_eq!(
            t.reply(Op::CREATE_SESSION, Txn::CreateSession { timeout_ms: 1 }),
            (AfterReply::Handshake, 0, vec![])
        );
        assert_eq!(
            t.reply(Op::CLOSE_SESSION, Txn::CloseSession { paths: Some(vec![]) }),
            (AfterReply::CloseAfterFlush, 0, vec![])
        );
    }

    #[test]
    fn multi_results() {
        let mut t = Replier::new();
        let sub = |op, txn| SubTxn { op, txn };
        let subs = vec![
            sub(Op::CREATE, create("/a", PLAIN, 1)),
            sub(Op::CREATE2, create("/b", PLAIN, 2)),
            sub(Op::CREATE_CONTAINER, create("/c", CreateKind::Container, 3)),
            sub(Op::CREATE_TTL, create("/t", CreateKind::Ttl { ttl_ms: 1 }, 4)),
            sub(Op::SET_DATA, Txn::SetData { path: "/a".into(), data: None, version: 1 }),
            sub(Op::CHECK, Txn::Check { path: "/a".into(), version: 2 }),
            sub(Op::DELETE, Txn::Delete { path: "/b".into() }),
        ];
        let (after, err, body) = t.reply(Op::MULTI, Txn::Multi(subs));
        assert_eq!((after, err), (AfterReply::Keep, 0));
        let mut r = Reader::new(&body);
        let mut next = |path: Option<&str>, stat: bool| {
            let h = MultiHeader::read(&mut r).unwrap();
            assert_eq!((h.done, h.err), (h.op == Op::ERROR, if h.op == Op::ERROR { -1 } else { 0 }));
            if let Some(path) = path {
                assert_eq!(r.string().unwrap(), path);
            }
            if stat {
                assert_eq!(read_stat(&mut r).unwrap().mzxid, Zxid(1));
            }
            (h.op, r.is_empty())
        };
        assert_eq!(next(Some("/a"), false), (Op::CREATE, false));
        for path in ["/b", "/c", "/t"] {
            assert_eq!(next(Some(path), true), (Op::CREATE2, false));
        }
        assert_eq!(next(None, true), (Op::SET_DATA, false));
        assert_eq!(next(None, false), (Op::CHECK, false));
        assert_eq!(next(None, false), (Op::DELETE, false));
        assert_eq!(next(None, false), (Op::ERROR, true));

        let (_, err, body) = t.reply(Op::MULTI, Txn::Multi(vec![]));
        assert_eq!((err, body), (0, vec![0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn a_failed_multi_has_a_clean_header() {
        let mut t = Replier::new();
        let error = |err| SubTxn { op: Op::ERROR, txn: Txn::Error { err } };
        let (_, err, body) = t.reply(Op::MULTI, Txn::Multi(vec![error(0), error(-101), error(-2)]));
        let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            (err, hex.as_str()),
            (0, "ffffffff000000000000000000ffffffff00ffffff9bffffff9bffffffff00fffffffefffffffeffffffff01ffffffff")
        );
        // Apache's leader logs the operations before the failing one in full.
        let foreign = vec![SubTxn { op: Op::CREATE, txn: create("/x", PLAIN, 1) }, error(-101)];
        let (_, _, body) = t.reply(Op::MULTI, Txn::Multi(foreign));
        assert_eq!(body[..13], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(t.tree.get("/x").is_none());
        let moved = t.reply(Op::MULTI, Txn::Multi(vec![error(-118), error(-2)]));
        assert_eq!(moved, (AfterReply::Close, 0, vec![]));
    }
}
