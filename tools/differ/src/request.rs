//! Requests as data, as bytes and as text.

use std::fmt;

use zabra::proto::multi::MultiHeader;
use zabra::proto::request::SetWatches;
use zabra::proto::{CreateRequest, Request as Record};
use zabra::types::{Acl, Op, Zxid};

/// The relative zxid of a setWatches. It cannot be a number, since zxids differ between the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relative {
    /// The last zxid that this session saw.
    Seen,
    /// Zero.
    Nothing,
    /// A zxid higher than any.
    Future,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The four opcodes that create znodes; `ttl_ms` is written for createTTL only.
    Create {
        op: Op,
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
        op: Op,
        path: String,
        watch: bool,
    },
    /// getACL, sync, getEphemerals, getAllChildrenNumber: the body is only a path.
    Path {
        op: Op,
        path: Option<String>,
    },
    /// addWatch (mode), checkWatches and removeWatches (type).
    Watch {
        op: Op,
        path: String,
        kind: i32,
    },
    /// multi and multiRead.
    Multi {
        op: Op,
        ops: Vec<Request>,
    },
    Reconfig,
    Auth {
        scheme: String,
        auth: Vec<u8>,
    },
    /// setWatches and setWatches2: data, exist, child, persistent, persistent recursive.
    SetWatches {
        op: Op,
        relative: Relative,
        lists: [Vec<String>; 5],
    },
    /// An opcode without a body: whoAmI, closeSession, ping, unknown opcodes.
    Bare(Op),
    /// Another request whose last bytes are missing.
    Cut {
        of: Box<Request>,
        bytes: usize,
    },
    /// Another request with four bytes of its body changed.
    Patched {
        of: Box<Request>,
        at: usize,
        with: i32,
    },
}

impl Request {
    /// The opcode.
    pub fn op(&self) -> Op {
        match self {
            Request::Create { op, .. }
            | Request::Read { op, .. }
            | Request::Path { op, .. }
            | Request::Watch { op, .. }
            | Request::Multi { op, .. }
            | Request::SetWatches { op, .. }
            | Request::Bare(op) => *op,
            Request::Delete { .. } => Op::DELETE,
            Request::SetData { .. } => Op::SET_DATA,
            Request::SetAcl { .. } => Op::SET_ACL,
            Request::Check { .. } => Op::CHECK,
            Request::Reconfig => Op::RECONFIG,
            Request::Auth { .. } => Op::AUTH,
            Request::Cut { of, .. } | Request::Patched { of, .. } => of.op(),
        }
    }

    /// Whether it has this opcode or contains an operation that has.
    pub fn has(&self, op: Op) -> bool {
        match self {
            Request::Multi { ops, .. } => self.op() == op || ops.iter().any(|o| o.has(op)),
            Request::Cut { of, .. } | Request::Patched { of, .. } => of.has(op),
            _ => self.op() == op,
        }
    }

    /// Its path, if it has one.
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

    /// Whether it uses up a zxid, even if it fails.
    pub fn is_write(&self) -> bool {
        const WRITES: [Op; 11] = [
            Op::CREATE,
            Op::CREATE2,
            Op::CREATE_CONTAINER,
            Op::CREATE_TTL,
            Op::DELETE,
            Op::SET_DATA,
            Op::SET_ACL,
            Op::MULTI,
            Op::RECONFIG,
            Op::CLOSE_SESSION,
            Op::DELETE_CONTAINER,
        ];
        WRITES.contains(&self.op())
    }

    /// A single write whose body is cut short. Known difference: its zxid. An Apache leader commits nothing more after one.
    pub fn is_undecodable_write(&self) -> bool {
        matches!(self, Request::Cut { .. }) && self.is_write() && self.op() != Op::MULTI
    }

    /// Whether nothing else may be in flight: its reply may overtake others, it may end the connection, or it depends
    /// on outstanding changes.
    pub fn is_alone(&self) -> bool {
        match self {
            Request::Auth { .. } | Request::Check { .. } | Request::Cut { .. } | Request::Patched { .. } => true,
            Request::Bare(op) => !matches!(*op, Op::WHO_AM_I),
            Request::Create { op: Op::CREATE_CONTAINER, flags: 1, .. } => true,
            Request::Multi { ops, .. } => ops.iter().any(|o| o.path().is_some_and(under_quota)),
            _ => self.path().is_some_and(under_quota) && self.is_write(),
        }
    }

    /// The xid that clients use for it; `None`: the next one.
    pub fn xid(&self) -> Option<i32> {
        match self.op() {
            Op::AUTH => Some(-4),
            Op::SET_WATCHES | Op::SET_WATCHES2 => Some(-8),
            _ => None,
        }
    }

    /// The body; `seen` is the last zxid that the session saw on this server.
    pub fn body(&self, seen: i64) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out, seen);
        out
    }

    fn put(&self, out: &mut Vec<u8>, seen: i64) {
        match self {
            // A multi may contain operations that servers refuse.
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

    /// The protocol's record. Opcodes whose bodies have the same form share one.
    fn record(&self, seen: i64) -> Record<'_> {
        match self {
            Request::Create { op, path, data, acl, flags, ttl_ms } => Record::Create(CreateRequest {
                path: path.into(),
                data: data.as_deref(),
                acl: acl.clone().into(),
                flags: *flags,
                ttl_ms: (*op == Op::CREATE_TTL).then_some(*ttl_ms),
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

/// Whether the path is below a quota: hard limits are checked against the applied state, without outstanding changes.
fn under_quota(path: &str) -> bool {
    path.starts_with("/zookeeper/quota") || path.split('/').nth(2) == Some("q")
}

/// Data as text.
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
        write!(f, "{}", self.op())?;
        match self {
            Request::Create { path, data, acl, flags, ttl_ms, op } => {
                write!(f, " {path:?} data {} acl [{}] flags {flags}", words(data.as_deref()), acls(acl))?;
                if *op == Op::CREATE_TTL { write!(f, " ttl {ttl_ms}") } else { Ok(()) }
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
            Request::Bare(_) => Ok(()),
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
        let body = Request::Multi { op: Op::MULTI, ops }.body(0);
        let Ok(Some(Record::Multi(read))) = Record::read(Op::MULTI, &body) else { panic!("not a multi") };
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_cut_request_lacks_its_end() {
        let whole = Request::Delete { path: "/a".to_owned(), version: 3 };
        let cut = Request::Cut { of: Box::new(whole.clone()), bytes: 3 };
        assert_eq!(cut.body(0).len() + 3, whole.body(0).len());
        assert!(Record::read(Op::DELETE, &cut.body(0)).is_err());
        let patched = Request::Patched { of: Box::new(whole.clone()), at: 0, with: -1 };
        assert_eq!(patched.body(0)[..4], [0xff; 4]);
        assert_eq!(patched.body(0)[4..], whole.body(0)[4..]);
        assert!(patched.is_alone() && patched.has(Op::DELETE) && !patched.has(Op::CREATE));
        assert!(cut.is_alone() && cut.is_undecodable_write() && !whole.is_undecodable_write());
    }

    #[test]
    fn set_watches_tells_what_this_server_said() {
        let lists = [vec!["/a".to_owned()], vec![], vec![], vec!["/p".to_owned()], vec![]];
        let r = Request::SetWatches { op: Op::SET_WATCHES, relative: Relative::Seen, lists };
        assert_eq!(Reader::new(&r.body(77)).i64(), Ok(77));
        assert!(Record::read(Op::SET_WATCHES2, &r.body(77)).is_err(), "setWatches has three lists");
    }

    #[test]
    fn what_depends_on_the_moment_goes_alone() {
        let set = |path: &str| Request::SetData { path: path.to_owned(), data: None, version: -1 };
        assert!(set("/d1/q/a").is_alone() && set("/zookeeper/quota/d1/q/zookeeper_limits").is_alone());
        assert!(!set("/d1/x/q").is_alone());
        assert!(Request::Multi { op: Op::MULTI, ops: vec![set("/d1/q")] }.is_alone());
        assert!(Request::Bare(Op(99)).is_alone() && !Request::Bare(Op::WHO_AM_I).is_alone());
    }
}
