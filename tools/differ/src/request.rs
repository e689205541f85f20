//! Requests: what is asked of both servers, as data, as bytes and as words.

use std::fmt;

use zabra::proto::multi::MultiHeader;
use zabra::proto::request::SetWatches;
use zabra::proto::{CreateRequest, Request as Record};
use zabra::types::{Acl, Zxid, op};

/// Where a setWatches says that the client has seen everything up to; zxids differ between the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relative {
    /// What this session saw last.
    Seen,
    /// Nothing.
    Nothing,
    /// More than there ever is.
    Future,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The four opcodes that create; `ttl_ms` is written for createTTL only.
    Create {
        op: i32,
        path: String,
        data: Option<Vec<u8>>,
        acl: Vec<Acl>,
        flags: i32,
        ttl_ms: i64,
    },
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Vec<Acl>,
        version: i32,
    },
    Check {
        path: String,
        version: i32,
    },
    /// exists, getData, getChildren, getChildren2.
    Read {
        op: i32,
        path: String,
        watch: bool,
    },
    /// getACL, sync, getEphemerals, getAllChildrenNumber: a path and nothing else.
    Path {
        op: i32,
        path: Option<String>,
    },
    /// addWatch (mode), checkWatches and removeWatches (type).
    Watch {
        op: i32,
        path: String,
        kind: i32,
    },
    /// multi and multiRead.
    Multi {
        op: i32,
        ops: Vec<Request>,
    },
    Reconfig,
    Auth {
        scheme: String,
        auth: Vec<u8>,
    },
    /// setWatches and setWatches2: data, exist, child, persistent, persistent recursive.
    SetWatches {
        op: i32,
        relative: Relative,
        lists: [Vec<String>; 5],
    },
    /// An opcode and no body: whoAmI, closeSession, ping, numbers that mean nothing.
    Bare(i32),
    /// Another request without its last bytes.
    Cut {
        of: Box<Request>,
        bytes: usize,
    },
    /// Another request, four bytes of its body changed.
    Patched {
        of: Box<Request>,
        at: usize,
        with: i32,
    },
}

impl Request {
    /// The opcode.
    pub fn op(&self) -> i32 {
        match self {
            Request::Create { op, .. }
            | Request::Read { op, .. }
            | Request::Path { op, .. }
            | Request::Watch { op, .. }
            | Request::Multi { op, .. }
            | Request::SetWatches { op, .. }
            | Request::Bare(op) => *op,
            Request::Delete { .. } => op::DELETE,
            Request::SetData { .. } => op::SET_DATA,
            Request::SetAcl { .. } => op::SET_ACL,
            Request::Check { .. } => op::CHECK,
            Request::Reconfig => op::RECONFIG,
            Request::Auth { .. } => op::AUTH,
            Request::Cut { of, .. } | Request::Patched { of, .. } => of.op(),
        }
    }

    /// It is of this opcode or holds one that is.
    pub fn has(&self, op: i32) -> bool {
        match self {
            Request::Multi { ops, .. } => self.op() == op || ops.iter().any(|o| o.has(op)),
            Request::Cut { of, .. } | Request::Patched { of, .. } => of.has(op),
            _ => self.op() == op,
        }
    }

    /// The path it is about, where it is about one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Request::Create { path, .. }
            | Request::Delete { path, .. }
            | Request::SetData { path, .. }
            | Request::SetAcl { path, .. }
            | Request::Check { path, .. }
            | Request::Read { path, .. }
            | Request::Watch { path, .. } => Some(path),
            Request::Path { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// Takes a zxid, even when it fails.
    pub fn is_write(&self) -> bool {
        const WRITES: [i32; 11] = [
            op::CREATE,
            op::CREATE2,
            op::CREATE_CONTAINER,
            op::CREATE_TTL,
            op::DELETE,
            op::SET_DATA,
            op::SET_ACL,
            op::MULTI,
            op::RECONFIG,
            op::CLOSE_SESSION,
            op::DELETE_CONTAINER,
        ];
        WRITES.contains(&self.op())
    }

    /// A single write whose body breaks off (known difference: its zxid).
    pub fn is_undecodable_write(&self) -> bool {
        matches!(self, Request::Cut { .. }) && self.is_write() && self.op() != op::MULTI
    }

    /// Its answer may overtake others, end the connection or depend on what is under way: nothing else may be in flight.
    pub fn is_alone(&self) -> bool {
        match self {
            Request::Auth { .. } | Request::Check { .. } | Request::Cut { .. } | Request::Patched { .. } => true,
            Request::Bare(op) => !matches!(*op, op::WHO_AM_I),
            Request::Create { op: op::CREATE_CONTAINER, flags: 1 | 3, .. } => true,
            Request::Multi { ops, .. } => ops.iter().any(|o| o.path().is_some_and(under_quota)),
            _ => self.path().is_some_and(under_quota) && self.is_write(),
        }
    }

    /// The xid that clients give to it; `None`: the next one.
    pub fn xid(&self) -> Option<i32> {
        match self.op() {
            op::AUTH => Some(-4),
            op::SET_WATCHES | op::SET_WATCHES2 => Some(-8),
            _ => None,
        }
    }

    /// The body as bytes; `seen` is the last zxid that the session saw on this server.
    pub fn body(&self, seen: i64) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out, seen);
        out
    }

    fn put(&self, out: &mut Vec<u8>, seen: i64) {
        match self {
            // Whatever the operations are: a multi refuses some.
            Request::Multi { ops, .. } => {
                for o in ops {
                    MultiHeader::asking(o.op()).put(out);
                    o.put(out, seen);
                }
                MultiHeader::END.put(out);
            }
            Request::Bare(_) => {}
            Request::Cut { of, bytes } => {
                let start = out.len();
                of.put(out, seen);
                let whole = out.len() - start;
                out.truncate(start + whole.saturating_sub(*bytes));
            }
            Request::Patched { of, at, with } => {
                let start = out.len() + at;
                of.put(out, seen);
                if let Some(four) = out.get_mut(start..start + 4) {
                    four.copy_from_slice(&with.to_be_bytes());
                }
            }
            regular => regular.record(seen).put(self.op(), out),
        }
    }

    /// As the protocol's record, which is written the same for opcodes whose bodies look the same.
    fn record(&self, seen: i64) -> Record<'_> {
        match self {
            Request::Create { op, path, data, acl, flags, ttl_ms } => Record::Create(CreateRequest {
                path: path.into(),
                data: data.as_deref(),
                acl: acl.clone().into(),
                flags: *flags,
                ttl_ms: (*op == op::CREATE_TTL).then_some(*ttl_ms),
            }),
            Request::SetData { path, data, version } => {
                Record::SetData { path: path.into(), data: data.as_deref(), version: *version }
            }
            Request::SetAcl { path, acl, version } => {
                Record::SetAcl { path: path.into(), acl: acl.clone().into(), version: *version }
            }
            Request::Delete { path, version } => Record::Delete { path: path.into(), version: *version },
            Request::Check { path, version } => Record::Check { path: path.into(), version: *version },
            Request::Watch { path, kind, .. } => Record::AddWatch { path: path.into(), mode: *kind },
            Request::Read { path, watch, .. } => Record::GetData { path: path.into(), watch: *watch },
            Request::Path { path, .. } => Record::Sync { path: path.as_ref().map(Into::into) },
            Request::Reconfig => {
                let joining = Some("server.9=127.0.0.1:1:2:participant;3".into());
                Record::Reconfig { joining, leaving: None, new_members: None, config_id: -1 }
            }
            Request::Auth { scheme, auth } => Record::Auth { kind: 0, scheme: scheme.into(), auth: Some(auth) },
            Request::SetWatches { relative, lists, .. } => {
                let relative_zxid = Zxid(match relative {
                    Relative::Seen => seen,
                    Relative::Nothing => 0,
                    Relative::Future => i64::MAX,
                });
                let [data, exist, child, persistent, persistent_recursive] = lists.clone();
                Record::SetWatches(SetWatches { relative_zxid, data, exist, child, persistent, persistent_recursive })
            }
            Request::Multi { .. } | Request::Bare(_) | Request::Cut { .. } | Request::Patched { .. } => {
                unreachable!("written by put")
            }
        }
    }
}

/// Hard limits are checked against what is applied, not against what is under way.
fn under_quota(path: &str) -> bool {
    path.starts_with("/zookeeper/quota") || path.split('/').nth(2) == Some("q")
}

/// The opcode's name.
pub fn name(op: i32) -> &'static str {
    match op {
        op::CREATE => "create",
        op::DELETE => "delete",
        op::EXISTS => "exists",
        op::GET_DATA => "getData",
        op::SET_DATA => "setData",
        op::GET_ACL => "getACL",
        op::SET_ACL => "setACL",
        op::GET_CHILDREN => "getChildren",
        op::SYNC => "sync",
        op::PING => "ping",
        op::GET_CHILDREN2 => "getChildren2",
        op::CHECK => "check",
        op::MULTI => "multi",
        op::CREATE2 => "create2",
        op::RECONFIG => "reconfig",
        op::CHECK_WATCHES => "checkWatches",
        op::REMOVE_WATCHES => "removeWatches",
        op::CREATE_CONTAINER => "createContainer",
        op::CREATE_TTL => "createTTL",
        op::MULTI_READ => "multiRead",
        op::AUTH => "auth",
        op::SET_WATCHES => "setWatches",
        op::SET_WATCHES2 => "setWatches2",
        op::GET_EPHEMERALS => "getEphemerals",
        op::GET_ALL_CHILDREN_NUMBER => "getAllChildrenNumber",
        op::ADD_WATCH => "addWatch",
        op::WHO_AM_I => "whoAmI",
        op::CLOSE_SESSION => "closeSession",
        _ => "opcode",
    }
}

/// Data as words.
pub fn words(data: Option<&[u8]>) -> String {
    data.map_or("null".to_owned(), |d| match std::str::from_utf8(d) {
        Ok(text) if text.len() <= 80 => format!("{text:?}"),
        _ => format!("{} bytes, first {:02x?}", d.len(), &d[..d.len().min(16)]),
    })
}

fn acls(list: &[Acl]) -> String {
    list.iter().map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms)).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", name(self.op()))?;
        match self {
            Request::Create { path, data, acl, flags, ttl_ms, op } => {
                write!(f, " {path:?} data {} acl [{}] flags {flags}", words(data.as_deref()), acls(acl))?;
                if *op == op::CREATE_TTL { write!(f, " ttl {ttl_ms}") } else { Ok(()) }
            }
            Request::SetData { path, data, version } => {
                write!(f, " {path:?} data {} version {version}", words(data.as_deref()))
            }
            Request::SetAcl { path, acl, version } => write!(f, " {path:?} acl [{}] version {version}", acls(acl)),
            Request::Delete { path, version } | Request::Check { path, version } => {
                write!(f, " {path:?} version {version}")
            }
            Request::Read { path, watch, .. } => write!(f, " {path:?}{}", if *watch { " watch" } else { "" }),
            Request::Path { path, .. } => write!(f, " {path:?}"),
            Request::Watch { path, kind, .. } => write!(f, " {path:?} {kind}"),
            Request::Multi { ops, .. } => {
                let ops: Vec<String> = ops.iter().map(Request::to_string).collect();
                write!(f, " [{}]", ops.join("; "))
            }
            Request::Reconfig => Ok(()),
            Request::Auth { scheme, auth } => write!(f, " {scheme} {}", words(Some(auth))),
            Request::SetWatches { relative, lists, .. } => write!(f, " {relative:?} {lists:?}"),
            Request::Bare(op) => write!(f, " ({op})"),
            Request::Cut { of, bytes } => write!(f, " cut by {bytes} bytes: {of}"),
            Request::Patched { of, at, with } => write!(f, " with {with} at byte {at}: {of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zabra::jute::Reader;

    #[test]
    fn a_multi_is_written_as_the_server_reads_it() {
        let ops = vec![
            Request::Check { path: "/a".to_owned(), version: 3 },
            Request::SetData { path: "/b".to_owned(), data: None, version: -1 },
        ];
        let body = Request::Multi { op: op::MULTI, ops }.body(0);
        let Ok(Some(Record::Multi(read))) = Record::read(op::MULTI, &body) else { panic!("not a multi") };
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_cut_request_lacks_its_end() {
        let whole = Request::Delete { path: "/a".to_owned(), version: 3 };
        let cut = Request::Cut { of: Box::new(whole.clone()), bytes: 3 };
        assert_eq!(cut.body(0).len() + 3, whole.body(0).len());
        assert!(Record::read(op::DELETE, &cut.body(0)).is_err());
        let patched = Request::Patched { of: Box::new(whole.clone()), at: 0, with: -1 };
        assert_eq!(patched.body(0)[..4], [0xff; 4]);
        assert_eq!(patched.body(0)[4..], whole.body(0)[4..]);
        assert!(patched.is_alone() && patched.has(op::DELETE) && !patched.has(op::CREATE));
        assert!(cut.is_alone() && cut.is_undecodable_write() && !whole.is_undecodable_write());
    }

    #[test]
    fn set_watches_tells_what_this_server_said() {
        let lists = [vec!["/a".to_owned()], vec![], vec![], vec!["/p".to_owned()], vec![]];
        let r = Request::SetWatches { op: op::SET_WATCHES, relative: Relative::Seen, lists };
        assert_eq!(Reader::new(&r.body(77)).i64(), Ok(77));
        assert!(Record::read(op::SET_WATCHES2, &r.body(77)).is_err(), "setWatches has three lists");
    }

    #[test]
    fn what_depends_on_the_moment_goes_alone() {
        let set = |path: &str| Request::SetData { path: path.to_owned(), data: None, version: -1 };
        assert!(set("/d1/q/a").is_alone() && set("/zookeeper/quota/d1/q/zookeeper_limits").is_alone());
        assert!(!set("/d1/x/q").is_alone());
        assert!(Request::Multi { op: op::MULTI, ops: vec![set("/d1/q")] }.is_alone());
        assert!(Request::Bare(99).is_alone() && !Request::Bare(op::WHO_AM_I).is_alone());
    }
}
