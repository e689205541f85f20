//! A logged transaction as one line of text. Mirrors `TxnLogToolkit.printTxn`, except for the time, which is in ISO
//! format.

use super::date;
use crate::jute::{JuteError, Reader};
use crate::txn::{CreateKind, CreateTxn, Txn};
use crate::txnlog::record::Record;
use crate::types::Acl;
use crate::types::acl::SharedAcl;

/// `time session 0x… cxid 0x… zxid 0x… type body`, and the tree's digest if the record has one.
pub(super) fn line(record: &Record<'_>) -> Result<String, JuteError> {
    let h = &record.header;
    let txn = Txn::read(h.op, &mut Reader::new(record.body))?;
    let digest = record.digest.map(|d| format!(" digest {},{:#x}", d.version, d.digest)).unwrap_or_default();
    Ok(format!(
        "{} session 0x{:x} cxid 0x{:x} zxid 0x{:x} {} {}{digest}",
        date::iso(h.time_ms),
        h.session.0,
        h.cxid.0,
        h.zxid.0,
        h.op,
        body(&txn)
    ))
}

fn body(txn: &Txn) -> String {
    match txn {
        Txn::Create(c) => create(c),
        Txn::Delete { path } => quoted(path),
        Txn::SetData { path, data, version } => {
            format!("{},{},{version}", text(path.as_bytes()), data_text(data.as_deref()))
        }
        Txn::SetAcl { path, acl, version } => format!("{},{},{version}", quoted(path), acls(acl)),
        Txn::Check { path, version } => format!("{},{version}", quoted(path)),
        Txn::Multi(subs) => {
            let parts = subs.iter().map(|s| format!("{}:{}", s.op, body(&s.txn)));
            parts.collect::<Vec<_>>().join(";")
        }
        Txn::CreateSession { timeout_ms } => timeout_ms.to_string(),
        Txn::CloseSession { paths } => {
            let paths = paths.iter().flatten().map(|p| quoted(p));
            format!("v{{{}}}", paths.collect::<Vec<_>>().join(","))
        }
        Txn::Error { err } => err.to_string(),
    }
}

fn create(c: &CreateTxn) -> String {
    let head = format!("{},{},{}", text(c.path.as_bytes()), data_text(c.data.as_deref()), acls(&c.acl));
    match c.kind {
        CreateKind::Plain { ephemeral } => format!("{head},{ephemeral},{}", c.parent_cversion),
        CreateKind::Container => format!("{head},{}", c.parent_cversion),
        CreateKind::Ttl { ttl_ms } => format!("{head},{},{ttl_ms}", c.parent_cversion),
    }
}

/// The ACL in jute's text format: `v{s{31,s{'world,'anyone}}}`.
fn acls(acl: &SharedAcl) -> String {
    let open = [Acl::world_all()];
    let list = acl.as_deref().unwrap_or(&open);
    let entry =
        |a: &Acl| format!("s{{{},s{{'{},'{}}}}}", a.perms, text(a.id.scheme.as_bytes()), text(a.id.id.as_bytes()));
    format!("v{{{}}}", list.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// A string as jute's text format writes it.
fn quoted(string: &str) -> String {
    format!("'{}", text(string.as_bytes()))
}

fn data_text(data: Option<&[u8]>) -> String {
    text(data.unwrap_or_default())
}

/// The bytes as UTF-8 text. Control characters and invalid bytes are escaped, so that a transaction stays on one line
/// and cannot change the state of a terminal.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Put;
    use crate::txn::{SubTxn, TxnDigest, TxnHeader};
    use crate::types::{Cxid, Id, Op, SessionId, Zxid};

    fn payload(op: Op, txn: &Txn) -> Vec<u8> {
        let mut bytes = Vec::new();
        TxnHeader { session: SessionId(0x1_0000), cxid: Cxid(3), zxid: Zxid(0x1_0000_0002), time_ms: 0, op }
            .put(&mut bytes);
        txn.put(&mut bytes);
        bytes
    }

    fn written(op: Op, txn: &Txn) -> String {
        let bytes = payload(op, txn);
        line(&Record::parse(&bytes).expect("parses")).expect("reads")
    }

    fn plain(path: &str, data: &'static [u8], acl: SharedAcl, kind: CreateKind) -> Txn {
        Txn::Create(CreateTxn { path: path.into(), data: Some(data.into()), acl, kind, parent_cversion: 1 })
    }

    #[test]
    fn every_kind_is_one_line() {
        let acl: SharedAcl = Some(std::sync::Arc::from([Acl { perms: 1, id: Id::new("ip", "::1") }]));
        let head = "1970-01-01T00:00:00.000Z session 0x10000 cxid 0x3 zxid 0x100000002 ";
        let create = plain("/a", b"x\ny\xff", None, CreateKind::Plain { ephemeral: true });
        let delete = Txn::Delete { path: "/a".into() };
        for (op, txn, want) in [
            (Op::CREATE, create.clone(), "create /a,x\\ny\\xff,v{s{31,s{'world,'anyone}}},true,1"),
            (
                Op::CREATE_CONTAINER,
                plain("/c", b"", acl.clone(), CreateKind::Container),
                "createContainer /c,,v{s{1,s{'ip,'::1}}},1",
            ),
            (
                Op::CREATE_TTL,
                plain("/t", b"", None, CreateKind::Ttl { ttl_ms: 9 }),
                "createTTL /t,,v{s{31,s{'world,'anyone}}},1,9",
            ),
            (Op::DELETE, delete.clone(), "delete '/a"),
            (Op::DELETE_CONTAINER, delete.clone(), "deleteContainer '/a"),
            (Op::SET_DATA, Txn::SetData { path: "/a".into(), data: None, version: 4 }, "setData /a,,4"),
            (Op::SET_ACL, Txn::SetAcl { path: "/a".into(), acl, version: 2 }, "setACL '/a,v{s{1,s{'ip,'::1}}},2"),
            (Op::CREATE_SESSION, Txn::CreateSession { timeout_ms: 6000 }, "createSession 6000"),
            (
                Op::CLOSE_SESSION,
                Txn::CloseSession { paths: Some(vec!["/a".into(), "/b".into()]) },
                "closeSession v{'/a,'/b}",
            ),
            (Op::ERROR, Txn::Error { err: -101 }, "error -101"),
            (
                Op::MULTI,
                Txn::Multi(vec![
                    SubTxn { op: Op::DELETE, txn: delete },
                    SubTxn { op: Op::CHECK, txn: Txn::Check { path: "/b".into(), version: 7 } },
                ]),
                "multi delete:'/a;check:'/b,7",
            ),
        ] {
            assert_eq!(written(op, &txn), format!("{head}{want}"));
        }
    }

    #[test]
    fn the_digest_comes_last() {
        let mut bytes = payload(Op::DELETE, &Txn::Delete { path: "/a".into() });
        bytes.put_i32(TxnDigest::VERSION);
        bytes.put_i64(0x1234);
        let line = line(&Record::parse(&bytes).expect("parses")).expect("reads");
        assert!(line.ends_with("delete '/a digest 2,0x1234"), "{line}");
    }
}
