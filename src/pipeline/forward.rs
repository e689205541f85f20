//! What a member forwards to its leader in the place of a client's write that would harm an Apache leader. The client is answered as
//! if this server led.
//!
//! - After a write that cannot be decoded an Apache leader commits nothing any more.
//! - It predicts the digest of a create from the flags and makes the znode by the opcode: with flags of another opcode every member
//!   gets another digest than predicted. A createTTL with a negative TTL and a mode without one stops every Apache server.
//!
//! What is refused is replaced by a request that every leader refuses, so that the client's answer has a zxid and a place among its
//! other answers.

use std::borrow::Cow;

use crate::proto::Request;
use crate::proto::multi::MultiOp;
use crate::proto::record::CreateRequest;
use crate::types::path::ROOT;
use crate::types::{CreateMode, Op};

/// Every leader refuses to delete the root, with `BADARGUMENTS`.
const REFUSED: (Op, Cow<'static, [u8]>) = (Op::DELETE, Cow::Borrowed(b"\0\0\0\x01/\xff\xff\xff\xff"));

/// The opcode and body that are forwarded for this write. `request` is its decoded body, `None` if that could not be decoded.
pub fn in_place_of<'a>(op: Op, body: &'a [u8], request: Option<Request<'a>>) -> (Op, Cow<'a, [u8]>) {
    let written = |request: Request<'_>| (op, Cow::Owned(request.body(op)));
    match request {
        None => REFUSED,
        Some(Request::Create(create)) if is_odd(op, &create) => {
            settled(op, create).map_or(REFUSED, |create| written(Request::Create(create)))
        }
        // One that Java cannot decode is refused whole by every leader.
        Some(Request::Multi(ops)) if ops.iter().any(is_odd_part) && ops.iter().all(MultiOp::is_readable) => {
            written(Request::Multi(ops.into_iter().map(settled_part).collect()))
        }
        Some(_) => (op, Cow::Borrowed(body)),
    }
}

/// Whether a create's flags are not those of its opcode.
fn is_odd(op: Op, create: &CreateRequest<'_>) -> bool {
    CreateMode::meant(op, create.flags).map(CreateMode::flag) != Ok(create.flags)
}

/// The same create with the flags of its opcode; `None` if there are none.
fn settled<'a>(op: Op, mut create: CreateRequest<'a>) -> Option<CreateRequest<'a>> {
    create.flags = CreateMode::meant(op, create.flags).ok()?.flag();
    Some(create)
}

fn is_odd_part(sub: &MultiOp<'_>) -> bool {
    matches!(sub, MultiOp::Create(_, create) if is_odd(sub.meant_op(), create))
}

fn settled_part(sub: MultiOp<'_>) -> MultiOp<'_> {
    let meant = sub.meant_op();
    let MultiOp::Create(op, create) = sub else { return sub };
    let refused = MultiOp::Delete { path: ROOT.into(), version: -1 };
    settled(meant, create).map_or(refused, |create| MultiOp::Create(op, create))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Acl;

    fn create(op: Op, flags: i32, ttl_ms: i64) -> CreateRequest<'static> {
        let ttl_ms = (op == Op::CREATE_TTL).then_some(ttl_ms);
        CreateRequest { path: "/a".into(), data: Some(b"d"), acl: vec![Acl::world_all()].into(), flags, ttl_ms }
    }

    /// What is forwarded, as the leader reads it.
    fn forwarded(op: Op, body: &[u8]) -> (Op, Vec<u8>) {
        let (to, sent) = in_place_of(op, body, Request::read(op, body).ok().flatten());
        (to, sent.into_owned())
    }

    fn refused() -> (Op, Vec<u8>) {
        let delete = Request::Delete { path: ROOT.into(), version: -1 };
        (Op::DELETE, delete.body(Op::DELETE))
    }

    /// Every opcode with every flag: the flag that is forwarded, `None` for a refusal. Apache 3.9.5 as a leader, asked for each: what is
    /// kept here gets the right digest or an error.
    #[test]
    fn a_create_goes_with_the_flags_of_its_opcode() {
        let rows = [
            (Op::CREATE, [Some(0), Some(1), Some(2), Some(3), Some(0), Some(5), Some(6), None]),
            (Op::CREATE2, [Some(0), Some(1), Some(2), Some(3), Some(0), Some(5), Some(6), None]),
            (Op::CREATE_CONTAINER, [Some(4), Some(4), None, None, Some(4), Some(5), Some(6), None]),
            (Op::CREATE_TTL, [None, None, None, None, None, Some(5), Some(6), None]),
        ];
        for (op, wanted) in rows {
            for (flags, wanted) in (0..).zip(wanted) {
                let body = Request::Create(create(op, flags, -1)).body(op);
                let wanted = wanted.map(|flags| (op, Request::Create(create(op, flags, -1)).body(op)));
                assert_eq!(forwarded(op, &body), wanted.unwrap_or_else(refused), "{op} {flags}");
            }
        }
    }

    /// In a multi the flag chooses the opcode first.
    #[test]
    fn in_a_multi_only_createcontainer_can_have_flags_of_another() {
        let multi = |ops: &[MultiOp<'static>]| Request::Multi(ops.to_vec()).body(Op::MULTI);
        let part = |op, flags| MultiOp::Create(op, create(op, flags, -1));
        let around = |part| {
            [MultiOp::Check { path: "/".into(), version: -1 }, part, MultiOp::Delete { path: "/b".into(), version: 3 }]
        };
        let root = MultiOp::Delete { path: ROOT.into(), version: -1 };
        let odd =
            [(0, part(Op::CREATE_CONTAINER, 4)), (1, part(Op::CREATE_CONTAINER, 4)), (2, root.clone()), (3, root)];
        for (flags, wanted) in odd {
            let sent = forwarded(Op::MULTI, &multi(&around(part(Op::CREATE_CONTAINER, flags))));
            assert_eq!(sent, (Op::MULTI, multi(&around(wanted))), "{flags}");
        }
        for op in [Op::CREATE, Op::CREATE2, Op::CREATE_TTL, Op::CREATE_CONTAINER] {
            for flags in if op == Op::CREATE_CONTAINER { 4..8 } else { 0..7 } {
                let body = multi(&around(part(op, flags)));
                assert_eq!(forwarded(Op::MULTI, &body), (Op::MULTI, body), "{op} {flags}");
            }
        }
        let unreadable = multi(&[part(Op::CREATE_CONTAINER, 0), part(Op::CREATE, 5)]);
        assert_eq!(forwarded(Op::MULTI, &unreadable), (Op::MULTI, unreadable), "its leader's refusal is of all of it");
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_and_all_else_goes_as_it_came() {
        assert_eq!(forwarded(Op::CREATE, &[0, 0]), refused());
        assert_eq!(forwarded(Op(99), &[]), refused());
        let mut set = Request::SetData { path: "/a".into(), data: None, version: 7 }.body(Op::SET_DATA);
        set.extend_from_slice(b"behind its end");
        assert_eq!(forwarded(Op::SET_DATA, &set), (Op::SET_DATA, set));
    }
}
