//! Numbers and records as readable text.

use zabra::jute::Reader;
use zabra::peer::{Append, SnapshotPart};
use zabra::pipeline::WriteRequest;
use zabra::pipeline::messages::{Entry, Event, Outcome};
use zabra::proto::ReplyHeader;
use zabra::proto::multi::{MultiOp, MultiResult};
use zabra::proto::{CreateRequest, Request};
use zabra::txn::{CreateKind, Txn, TxnHeader};
use zabra::types::{Acl, CreateMode, Epoch, ErrorCode, EventType, Op, Stat, Zxid};

/// The counter alone in epoch 0, else both halves.
pub fn zxid(zxid: Zxid) -> String {
    match zxid.epoch() {
        Epoch(epoch) if epoch > 0 => format!("{epoch}.{:#x}", zxid.counter()),
        _ => zxid.to_string(),
    }
}

pub fn code(code: i32) -> String {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::Ok) => "ok".into(),
        Some(known) => format!("{known:?}"),
        None => code.to_string(),
    }
}

pub fn event(kind: i32) -> String {
    use EventType::*;
    let all = [NodeCreated, NodeDeleted, NodeDataChanged, NodeChildrenChanged];
    all.iter().find(|e| **e as i32 == kind).map_or_else(|| kind.to_string(), |e| format!("{e:?}"))
}

pub fn stat(stat: &Stat) -> String {
    let owner = if stat.ephemeral_owner == 0 { String::new() } else { format!(" owner {:#x}", stat.ephemeral_owner) };
    format!(
        "version {} czxid {} mzxid {} pzxid {}{owner}",
        stat.version,
        zxid(stat.czxid),
        zxid(stat.mzxid),
        zxid(stat.pzxid)
    )
}

pub fn data(data: Option<&[u8]>) -> String {
    match data {
        None => "no data".into(),
        Some(bytes) if bytes.len() > 40 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
    }
}

pub fn acl(acl: &[Acl]) -> String {
    acl.iter().map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms)).collect::<Vec<_>>().join(" ")
}

pub fn multi_result(result: &MultiResult<'_>) -> String {
    match result {
        MultiResult::Create { path } => format!("create {path}"),
        MultiResult::Create2 { path, stat: s } => format!("create2 {path}, {}", stat(s)),
        MultiResult::Delete => "delete".into(),
        MultiResult::SetData { stat: s } => format!("setData {}", stat(s)),
        MultiResult::Check => "check".into(),
        MultiResult::GetData { data: d, stat: s } => format!("{}, {}", data(*d), stat(s)),
        MultiResult::GetChildren { names } => format!("[{}]", names.join(" ")),
        MultiResult::Error(err) => code(*err),
    }
}

/// What a write asks for.
pub fn write(request: &WriteRequest) -> String {
    let name = request.op;
    match Request::read(request.op, &request.body) {
        Ok(Some(decoded)) => format!("{name} {}", arguments(&decoded)).trim_end().to_owned(),
        _ => format!("{name} undecodable"),
    }
}

/// What a request asks for, without its name.
pub fn arguments(request: &Request<'_>) -> String {
    match request {
        Request::Create(c) => create(c),
        Request::Delete { path, .. } => path.to_string(),
        Request::SetData { path, data: d, .. } => format!("{path} {}", data(*d)),
        Request::SetAcl { path, acl: list, .. } => format!("{path} {}", acl(list)),
        Request::Multi(ops) => {
            let one = |sub: &MultiOp<'_>| match sub {
                MultiOp::Create(_, c) => format!("create {}", create(c)),
                MultiOp::Delete { path, .. } => format!("delete {path}"),
                MultiOp::SetData { path, data: d, .. } => format!("setData {path} {}", data(*d)),
                MultiOp::Check { path, version } => format!("check {path} version {version}"),
            };
            format!("[{}]", ops.iter().map(one).collect::<Vec<_>>().join("; "))
        }
        _ => String::new(),
    }
}

fn create(c: &CreateRequest<'_>) -> String {
    let mode = match CreateMode::from_flag(c.flags) {
        Some(CreateMode::Persistent) => String::new(),
        Some(mode) => format!(" {mode:?}"),
        None => format!(" mode {}", c.flags),
    };
    format!("{} {}{mode}", c.path, data(c.data))
}

/// A proposal, as its record has it.
pub fn append(append: &Append) -> String {
    let r = &mut Reader::new(&append.payload);
    let header = TxnHeader::read(r).expect("a header");
    assert_eq!(header.zxid, append.zxid, "a record under another zxid");
    let txn = Txn::read(header.op, r).expect("a transaction");
    format!("{} of session {} cxid {}: {}", zxid(append.zxid), header.session, header.cxid.0, show_txn(&txn, header.op))
}

/// A transaction's body.
pub fn show_txn(txn: &Txn, op: Op) -> String {
    match txn {
        Txn::Create(c) => {
            let kind = match c.kind {
                CreateKind::Plain { ephemeral: false } => String::new(),
                CreateKind::Plain { ephemeral: true } => " ephemeral".into(),
                CreateKind::Container => " container".into(),
                CreateKind::Ttl { ttl_ms } => format!(" ttl {ttl_ms} ms"),
            };
            format!("create {} {}{kind}", c.path, data(c.data.as_deref()))
        }
        Txn::Delete { path } => format!("{op} {path}"),
        Txn::SetData { path, data: d, version } => format!("setData {path} {} version {version}", data(d.as_deref())),
        Txn::SetAcl { path, acl: list, version } => {
            format!("setACL {path} {} version {version}", list.as_deref().map_or("open".into(), acl))
        }
        Txn::Check { path, version } => format!("check {path} version {version}"),
        Txn::Multi(subs) => {
            let all: Vec<String> = subs.iter().map(|s| show_txn(&s.txn, s.op)).collect();
            format!("multi [{}]", all.join("; "))
        }
        Txn::CreateSession { timeout_ms } => format!("createSession {timeout_ms} ms"),
        Txn::CloseSession { paths } => format!("closeSession [{}]", paths.as_deref().unwrap_or_default().join(" ")),
        Txn::Error { err } => format!("error {}", code(*err)),
    }
}

/// An applied transaction; `conn` names the connection that is answered.
pub fn entry(entry: &Entry, conn: impl Fn(zabra::types::ConnId) -> String) -> String {
    let mut said = zxid(entry.zxid);
    let events =
        |events: &[Event]| events.iter().map(|e| format!("{:?} {}", e.event, e.path)).collect::<Vec<_>>().join(", ");
    if !entry.events.is_empty() {
        said.push_str(&format!(", events [{}]", events(&entry.events)));
    }
    if let Some((to, outcome)) = &entry.outcome {
        let what = match outcome {
            Outcome::Reply(frame) => reply(frame),
            Outcome::Closed(frame) if frame.is_empty() => "the end".into(),
            Outcome::Closed(frame) => format!("{} and the end", reply(frame)),
            Outcome::SessionCreated { session, timeout_ms } => format!("session {session} for {timeout_ms} ms"),
        };
        said.push_str(&format!(", for {}: {what}", conn(*to)));
    }
    said
}

fn reply(frame: &[u8]) -> String {
    let header = ReplyHeader::read(&mut Reader::new(&frame[4..])).expect("a reply's header");
    format!("reply {} at {} {}", header.xid, zxid(header.zxid), code(header.err))
}

pub fn part(part: &SnapshotPart) -> String {
    match part {
        SnapshotPart::Begin { zxid: at, sessions, .. } => {
            format!("begin as of {}, sessions {}", zxid(*at), sessions.len())
        }
        SnapshotPart::Nodes(bytes) => format!("znodes, {} bytes", bytes.len()),
        SnapshotPart::End => "end".into(),
        SnapshotPart::Abandon => "abandon".into(),
        SnapshotPart::Forget(tree) => format!("drop {tree:?}"),
    }
}
