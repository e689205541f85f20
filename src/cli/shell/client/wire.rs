//! Request bodies and reply records, the client's side of [`crate::proto`]. Mirrors `org.apache.zookeeper.proto`.

use crate::jute::acl::{put_acls, read_acls};
use crate::jute::stat::read_stat;
use crate::jute::{JuteError, Put, Reader};
use crate::proto::multi::MultiHeader;
use crate::proto::request::{RequestHeader, SetWatches, xid};
use crate::types::{Acl, Stat, op};

/// A framed request.
pub(crate) fn frame(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 12);
    let f = out.begin_frame();
    RequestHeader { xid, op }.put(&mut out);
    out.extend_from_slice(body);
    out.end_frame(f);
    out
}

/// A framed ping.
pub(crate) fn ping() -> Vec<u8> {
    frame(xid::PING, op::PING, &[])
}

/// A framed auth packet.
pub(crate) fn auth(scheme: &str, auth: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(0);
    body.put_string(scheme);
    body.put_buffer(auth);
    frame(xid::AUTH, op::AUTH, &body)
}

/// A framed setWatches, or setWatches2 where there are persistent ones: old servers know only the former.
pub(crate) fn set_watches(w: &SetWatches) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i64(w.relative_zxid.0);
    body.put_strings(&w.data);
    body.put_strings(&w.exist);
    body.put_strings(&w.child);
    if w.persistent.is_empty() && w.persistent_recursive.is_empty() {
        return frame(xid::SET_WATCHES, op::SET_WATCHES, &body);
    }
    body.put_strings(&w.persistent);
    body.put_strings(&w.persistent_recursive);
    frame(xid::SET_WATCHES, op::SET_WATCHES2, &body)
}

/// A body that is one path.
pub(crate) fn path_body(path: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(path.len() + 8);
    body.put_string(path);
    body
}

/// Path and watch flag: exists, getData, getChildren, getChildren2.
pub(crate) fn read_body(path: &str, watch: bool) -> Vec<u8> {
    let mut body = path_body(path);
    body.put_bool(watch);
    body
}

/// Path and a number: delete (version), removeWatches (type), addWatch (mode).
pub(crate) fn number_body(path: &str, number: i32) -> Vec<u8> {
    let mut body = path_body(path);
    body.put_i32(number);
    body
}

/// Body of the create requests; `ttl_ms` only for createTTL.
pub(crate) fn create_body(path: &str, data: Option<&[u8]>, acl: &[Acl], flags: i32, ttl_ms: Option<i64>) -> Vec<u8> {
    let mut body = path_body(path);
    body.put_buffer(data);
    put_acls(&mut body, acl);
    body.put_i32(flags);
    if let Some(ttl) = ttl_ms {
        body.put_i64(ttl);
    }
    body
}

/// Body of setData.
pub(crate) fn set_data_body(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    let mut body = path_body(path);
    body.put_buffer(Some(data));
    body.put_i32(version);
    body
}

/// Body of setACL.
pub(crate) fn set_acl_body(path: &str, acl: &[Acl], version: i32) -> Vec<u8> {
    let mut body = path_body(path);
    put_acls(&mut body, acl);
    body.put_i32(version);
    body
}

/// Body of reconfig; absent parts are null.
pub(crate) fn reconfig_body(
    joining: Option<&str>,
    leaving: Option<&str>,
    members: Option<&str>,
    version: i64,
) -> Vec<u8> {
    let mut body = Vec::new();
    for part in [joining, leaving, members] {
        body.put_buffer(part.map(str::as_bytes));
    }
    body.put_i64(version);
    body
}

/// Body of a multi of deletes, of any version.
pub(crate) fn multi_delete_body(paths: &[String]) -> Vec<u8> {
    let mut body = Vec::new();
    for path in paths {
        MultiHeader { op: op::DELETE, done: false, err: -1 }.put(&mut body);
        body.put_string(path);
        body.put_i32(-1);
    }
    MultiHeader::END.put(&mut body);
    body
}

/// The first failure among a multi's results, or 0. Only results of deletes and errors belong there.
pub(crate) fn read_multi_deletes(r: &mut Reader<'_>) -> Result<i32, JuteError> {
    let mut first = 0;
    loop {
        let h = MultiHeader::read(r)?;
        if h.done {
            return Ok(first);
        }
        match h.op {
            op::DELETE => {}
            op::ERROR => {
                let err = r.i32()?;
                if first == 0 {
                    first = err;
                }
            }
            _ => return Err(r.unexpected("result in multi")),
        }
    }
}

/// Data and stat: getData, reconfig.
pub(crate) fn read_data(r: &mut Reader<'_>) -> Result<(Option<Vec<u8>>, Stat), JuteError> {
    Ok((r.buffer()?.map(<[u8]>::to_vec), read_stat(r)?))
}

/// ACL and stat.
pub(crate) fn read_acl(r: &mut Reader<'_>) -> Result<(Vec<Acl>, Stat), JuteError> {
    Ok((read_acls(r)?.into_owned(), read_stat(r)?))
}

/// Names and stat.
pub(crate) fn read_children(r: &mut Reader<'_>) -> Result<(Vec<String>, Stat), JuteError> {
    Ok((r.strings()?, read_stat(r)?))
}

/// whoAmI's list of scheme and user.
pub(crate) fn read_client_infos(r: &mut Reader<'_>) -> Result<Vec<(String, String)>, JuteError> {
    let n = r.count(8)?.unwrap_or(0);
    (0..n).map(|_| Ok((r.string()?.into_owned(), r.string()?.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Request;
    use crate::proto::multi::{MultiOp, put_multi_error};
    use crate::types::ErrorCode;

    #[test]
    fn the_server_reads_what_the_client_writes() {
        let acl = [Acl::world_all()];
        let body = create_body("/a", None, &acl, 5, Some(9));
        let Ok(Some(Request::Create(c))) = Request::read(op::CREATE_TTL, &body) else { panic!() };
        assert_eq!((c.path.as_ref(), c.data, c.flags, c.ttl_ms), ("/a", None, 5, Some(9)));
        let body = set_acl_body("/a", &acl, 3);
        let Ok(Some(Request::SetAcl { path, acl: a, version })) = Request::read(op::SET_ACL, &body) else { panic!() };
        assert_eq!((path.as_ref(), &a[..], version), ("/a", &acl[..], 3));
        let body = multi_delete_body(&["/a".into(), "/b".into()]);
        let Ok(Some(Request::Multi(ops))) = Request::read(op::MULTI, &body) else { panic!() };
        assert_eq!(ops[1], MultiOp::Delete { path: "/b".into(), version: -1 });
        let w = SetWatches { data: vec!["/d".into()], persistent: vec!["/p".into()], ..SetWatches::default() };
        let f = set_watches(&w);
        assert_eq!(RequestHeader::read(&mut Reader::new(&f[4..])).unwrap().op, op::SET_WATCHES2);
        assert_eq!(Request::read(op::SET_WATCHES2, &f[12..]), Ok(Some(Request::SetWatches(w))));
    }

    #[test]
    fn the_first_failure_of_a_multi() {
        let mut body = Vec::new();
        put_multi_error(&mut body, ErrorCode::Ok);
        put_multi_error(&mut body, ErrorCode::NotEmpty);
        put_multi_error(&mut body, ErrorCode::RuntimeInconsistency);
        MultiHeader::END.put(&mut body);
        assert_eq!(read_multi_deletes(&mut Reader::new(&body)), Ok(-111));
        assert!(read_multi_deletes(&mut Reader::new(&body[..body.len() - 1])).is_err());
    }
}
