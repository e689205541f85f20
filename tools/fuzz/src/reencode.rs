//! Request records written from what was read: the server itself only reads them.

use zabra::jute::Put;
use zabra::jute::acl::put_acls;
use zabra::proto::multi::{MultiHeader, MultiOp, MultiReadOp};
use zabra::proto::{CreateRequest, Request};
use zabra::types::op;

/// The body of `request`, as opcode `op` has it.
pub(crate) fn put(op: i32, request: &Request<'_>) -> Vec<u8> {
    let out = &mut Vec::new();
    match request {
        Request::Create(create) => put_create(out, create),
        Request::Delete { path, version } | Request::Check { path, version } => put_with_i32(out, path, *version),
        Request::Exists { path, watch } | Request::GetData { path, watch } | Request::GetChildren { path, watch } => {
            put_with_bool(out, path, *watch);
        }
        Request::SetData { path, data, version } => put_set_data(out, path, *data, *version),
        Request::GetAcl { path }
        | Request::DeleteContainer { path }
        | Request::GetEphemerals { prefix: path }
        | Request::GetAllChildrenNumber { path } => out.put_string(path),
        Request::SetAcl { path, acl, version } => {
            out.put_string(path);
            put_acls(out, acl);
            out.put_i32(*version);
        }
        Request::Sync { path } => out.put_buffer(path.as_deref().map(str::as_bytes)),
        Request::Multi(ops) => put_multi(out, ops),
        Request::MultiRead(ops) => put_multi_read(out, ops),
        Request::Reconfig { joining, leaving, new_members, config_id } => {
            for text in [joining, leaving, new_members] {
                out.put_string(text);
            }
            out.put_i64(*config_id);
        }
        Request::CheckWatches { path, kind }
        | Request::RemoveWatches { path, kind }
        | Request::AddWatch { path, mode: kind } => put_with_i32(out, path, *kind),
        Request::Auth { kind, scheme, auth } => {
            out.put_i32(*kind);
            out.put_string(scheme);
            out.put_buffer(*auth);
        }
        Request::SetWatches(w) => {
            out.put_i64(w.relative_zxid.0);
            for paths in [&w.data, &w.exist, &w.child] {
                out.put_strings(paths);
            }
            if op == op::SET_WATCHES2 {
                out.put_strings(&w.persistent);
                out.put_strings(&w.persistent_recursive);
            }
        }
        Request::Sasl { token } => out.put_buffer(*token),
        Request::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
        Request::Ping | Request::WhoAmI | Request::CloseSession => {}
    }
    std::mem::take(out)
}

fn put_with_i32(out: &mut Vec<u8>, path: &str, number: i32) {
    out.put_string(path);
    out.put_i32(number);
}

fn put_with_bool(out: &mut Vec<u8>, path: &str, flag: bool) {
    out.put_string(path);
    out.put_bool(flag);
}

fn put_set_data(out: &mut Vec<u8>, path: &str, data: Option<&[u8]>, version: i32) {
    out.put_string(path);
    out.put_buffer(data);
    out.put_i32(version);
}

fn put_create(out: &mut Vec<u8>, create: &CreateRequest<'_>) {
    out.put_string(&create.path);
    out.put_buffer(create.data);
    put_acls(out, &create.acl);
    out.put_i32(create.flags);
    if let Some(ttl_ms) = create.ttl_ms {
        out.put_i64(ttl_ms);
    }
}

fn put_multi(out: &mut Vec<u8>, ops: &[MultiOp<'_>]) {
    for sub in ops {
        let op = match sub {
            MultiOp::Create(op, _) => *op,
            MultiOp::Delete { .. } => op::DELETE,
            MultiOp::SetData { .. } => op::SET_DATA,
            MultiOp::Check { .. } => op::CHECK,
        };
        MultiHeader { op, done: false, err: -1 }.put(out);
        match sub {
            MultiOp::Create(_, create) => put_create(out, create),
            MultiOp::Delete { path, version } | MultiOp::Check { path, version } => put_with_i32(out, path, *version),
            MultiOp::SetData { path, data, version } => put_set_data(out, path, *data, *version),
        }
    }
    MultiHeader::END.put(out);
}

fn put_multi_read(out: &mut Vec<u8>, ops: &[MultiReadOp<'_>]) {
    for sub in ops {
        let (op, path) = match sub {
            MultiReadOp::GetData { path } => (op::GET_DATA, path),
            MultiReadOp::GetChildren { path } => (op::GET_CHILDREN, path),
        };
        MultiHeader { op, done: false, err: -1 }.put(out);
        put_with_bool(out, path, false);
    }
    MultiHeader::END.put(out);
}
