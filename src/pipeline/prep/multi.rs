//! multi: all or nothing under one zxid. Mirrors `PrepRequestProcessor`'s multi branch and `MultiOperationRecord`.

use super::state::{Sessions, State};
use super::{Outcome, Step};
use crate::proto::multi::MultiOp;
use crate::txn::{SubTxn, Txn};
use crate::types::{ErrorCode, Op};

impl<T: State, S: Sessions> Step<'_, T, S> {
    pub(super) fn multi(&mut self, ops: Vec<MultiOp<'_>>) -> Outcome {
        let ops = ops.into_iter().map(reselect).collect::<Result<Vec<_>, _>>()?;
        let count = ops.len();
        let mut subs = Vec::with_capacity(count);
        for sub in ops {
            let outcome = match sub {
                MultiOp::Create(op, create) => self.create(op, create),
                MultiOp::Delete { path, version } => self.delete(&path, version),
                MultiOp::SetData { path, data, version } => self.set_data(&path, data, version),
                MultiOp::Check { path, version } => self.check(&path, version),
            };
            match outcome {
                Ok((op, txn)) => subs.push(SubTxn { op, txn }),
                Err(code) => {
                    self.out.roll_back();
                    subs = failed(subs.len(), code, count);
                    break;
                }
            }
        }
        Ok((Op::MULTI, Txn::Multi(subs)))
    }
}

/// The log record of a multi whose operation `at` failed: one error code per operation.
fn failed(at: usize, code: ErrorCode, count: usize) -> Vec<SubTxn> {
    let error = |code: ErrorCode| SubTxn { op: Op::ERROR, txn: Txn::Error { err: code.code() } };
    (0..count)
        .map(|i| match i.cmp(&at) {
            std::cmp::Ordering::Less => error(ErrorCode::Ok),
            std::cmp::Ordering::Equal => error(code),
            std::cmp::Ordering::Greater => error(ErrorCode::RuntimeInconsistency),
        })
        .collect()
}

/// The operation with the opcode that decides what it does. A create record without a TTL field cannot have a TTL mode, and one with
/// an unknown flag cannot be decoded. The TTL of a createTTL whose mode has none is ignored.
///
/// # Errors
/// `MarshallingError`, for the whole multi.
fn reselect(sub: MultiOp<'_>) -> Result<MultiOp<'_>, ErrorCode> {
    if !sub.is_readable() {
        return Err(ErrorCode::MarshallingError);
    }
    let op = sub.meant_op();
    let MultiOp::Create(_, mut create) = sub else { return Ok(sub) };
    create.ttl_ms = create.ttl_ms.filter(|_| op == Op::CREATE_TTL);
    Ok(MultiOp::Create(op, create))
}

#[cfg(test)]
mod tests {
    use crate::jute::Put;
    use crate::oracle::server_model::ModelOp;
    use crate::pipeline::prep::fixture::{Fixture, check, create, create_flag, delete, set};
    use crate::proto::multi::MultiHeader;
    use crate::txn::{CreateKind, SubTxn, Txn};
    use crate::types::Op;

    fn subs(txn: Txn) -> Vec<SubTxn> {
        let Txn::Multi(subs) = txn else { panic!("{txn:?}") };
        subs
    }

    fn codes(subs: &[SubTxn]) -> Vec<i32> {
        let code = |s: &SubTxn| match s.txn {
            Txn::Error { err } => {
                assert_eq!(s.op, Op::ERROR);
                err
            }
            _ => panic!("{s:?} in a failed multi"),
        };
        subs.iter().map(code).collect()
    }

    #[test]
    fn later_operations_see_earlier_ones() {
        let mut f = Fixture::new();
        let multi = ModelOp::Multi(vec![
            create("/a"),
            create_flag(Op::CREATE2, "/a/s", 2, -1),
            set("/a", b"1", 0),
            check("/a", 1),
            delete("/a/s0000000000", 0),
            delete("/a", 1),
            create("/a"),
        ]);
        let sent = f.send(&multi);
        assert_eq!(sent.header.op, Op::MULTI);
        f.apply(&sent);
        let ops: Vec<Op> = subs(sent.txn).iter().map(|s| s.op).collect();
        assert_eq!(ops, [Op::CREATE, Op::CREATE2, Op::SET_DATA, Op::CHECK, Op::DELETE, Op::DELETE, Op::CREATE]);
        assert_eq!(f.tree.get("/a").unwrap().persisted().cversion, 0);
    }

    #[test]
    fn a_failure_takes_everything_back() {
        let mut f = Fixture::new();
        f.taken(&create("/q"));
        f.taken(&set("/q", b"1", 0));
        let before = f.prep.status().outstanding_changes;
        let digest = f.send(&check("/q", 0)).digest;
        let seq = |path: &str| create_flag(Op::CREATE, path, 2, -1);
        let failing = [create("/x"), seq("/q/s"), set("/q", b"2", 1), delete("/none", -1), create("/y"), create("/z")];
        let sent = f.send(&ModelOp::Multi(failing.to_vec()));
        assert_eq!(sent.error(), None, "the header of a failed multi is clean");
        assert_eq!((sent.header.op, sent.digest), (Op::MULTI, digest));
        assert_eq!(codes(&subs(sent.txn)), [0, 0, 0, -101, -2, -2]);
        assert_eq!(f.prep.status().outstanding_changes, before);
        // Counter, version and nodes are as before, including the changes of requests that are still outstanding.
        let Txn::Create(c) = f.taken(&seq("/q/s")) else { panic!() };
        assert_eq!(c.path, "/q/s0000000000");
        assert_eq!(f.code(&set("/q", b"3", 1)), 0);
        assert_eq!(f.code(&create("/x")), 0);
        // An ephemeral whose create was rolled back is not in its session's list.
        let ephemeral = create_flag(Op::CREATE, "/e", 1, -1);
        f.taken(&ModelOp::Multi(vec![ephemeral, delete("/none", -1)]));
        assert_eq!(f.taken(&ModelOp::CloseSession), Txn::CloseSession { paths: Some(vec![]) });
    }

    #[test]
    fn changes_of_applied_transactions_do_not_come_back() {
        let mut f = Fixture::new();
        let first = f.send(&create("/a"));
        let second = f.send(&set("/a", b"1", 0));
        f.apply(&first);
        f.taken(&ModelOp::Multi(vec![set("/a", b"2", 1), delete("/none", -1)]));
        f.apply(&second);
        assert_eq!(f.prep.status().outstanding_changes, 0);
        assert_eq!(f.code(&set("/a", b"2", 1)), 0);
    }

    #[test]
    fn the_empty_multi_is_one() {
        let mut f = Fixture::new();
        assert_eq!(f.taken(&ModelOp::Multi(vec![])), Txn::Multi(vec![]));
    }

    #[test]
    fn the_session_is_each_operations_business() {
        let mut f = Fixture::new();
        f.session = crate::types::SessionId(9);
        let txn = f.taken(&ModelOp::Multi(vec![create("/a"), create("/b")]));
        assert_eq!(codes(&subs(txn)), [-112, -2]);
    }

    #[test]
    fn the_flag_reselects_the_opcode() {
        let mut f = Fixture::new();
        let plain = CreateKind::Plain { ephemeral: false };
        let ttl = CreateKind::Ttl { ttl_ms: 5 };
        for (sent, flags, logged, kind) in [
            (Op::CREATE, 0, Op::CREATE, plain),
            (Op::CREATE2, 0, Op::CREATE2, plain),
            (Op::CREATE, 4, Op::CREATE_CONTAINER, CreateKind::Container),
            (Op::CREATE2, 4, Op::CREATE_CONTAINER, CreateKind::Container),
            (Op::CREATE_CONTAINER, 0, Op::CREATE_CONTAINER, CreateKind::Container),
            (Op::CREATE_TTL, 5, Op::CREATE_TTL, ttl),
            (Op::CREATE_TTL, 0, Op::CREATE, plain),
            (Op::CREATE_TTL, 4, Op::CREATE_CONTAINER, CreateKind::Container),
        ] {
            let path = format!("/n{sent}-{flags}");
            let subs = subs(f.taken(&ModelOp::Multi(vec![create_flag(sent, &path, flags, 5)])));
            let Txn::Create(c) = &subs[0].txn else { panic!("{sent} {flags}: {subs:?}") };
            assert_eq!((subs[0].op, c.kind), (logged, kind), "{sent} {flags}");
        }
        let refused =
            |f: &mut Fixture, op, flags| f.code(&ModelOp::Multi(vec![create("/x"), create_flag(op, "/y", flags, 5)]));
        assert_eq!(refused(&mut f, Op::CREATE, 5), -5, "no TTL in its record");
        assert_eq!(refused(&mut f, Op::CREATE2, 7), -5, "no such flag");
        assert_eq!(f.code(&create("/x")), 0, "nothing of it stayed");
        let txn = f.taken(&ModelOp::Multi(vec![create_flag(Op::CREATE_TTL, "/y", 9, 5)]));
        assert_eq!(codes(&subs(txn)), [-8], "createTTL's flag is read late");
    }

    #[test]
    fn undecodable_multis_are_refused_whole() {
        let mut f = Fixture::new();
        for inner in [Op::SET_ACL, Op::GET_DATA, Op::CLOSE_SESSION, Op::MULTI, Op::DELETE_CONTAINER, Op(77)] {
            let mut body = Vec::new();
            MultiHeader { op: Op::CREATE, done: false, err: -1 }.put(&mut body);
            create("/x").put(&mut body);
            MultiHeader { op: inner, done: false, err: -1 }.put(&mut body);
            body.put_string("/x");
            body.put_i32(0);
            MultiHeader::END.put(&mut body);
            assert_eq!(f.raw(Op::MULTI, body).error(), Some(-5), "{inner}");
        }
        assert_eq!(f.raw(Op::MULTI, vec![]).error(), Some(-5));
        assert_eq!(f.code(&create("/x")), 0);
    }
}
