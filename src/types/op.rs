//! Operation codes. Mirrors `ZooDefs.OpCode` and `Request.op2String`.

use std::fmt;

/// The code of an operation: the number in a request header and in a transaction header. Clients may send any number;
/// those without a constant here are unknown operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Op(pub i32);

/// Declares each code with its name and its short name, once.
macro_rules! ops {
    ($($constant:ident = $code:literal, $name:literal, $short:literal;)*) => {
        #[allow(missing_docs)]
        impl Op {
            $(pub const $constant: Op = Op($code);)*
        }

        impl Op {
            /// Every known code.
            pub const ALL: &[Op] = &[$(Op::$constant),*];

            /// The name as ZooKeeper's tools print it; `None` for an unknown code.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Op::$constant => Some($name),)*
                    _ => None,
                }
            }

            /// The short name, as `cons` prints it.
            pub const fn short_name(self) -> &'static str {
                match self {
                    $(Op::$constant => $short,)*
                    _ => "UNKN",
                }
            }
        }
    };
}

ops! {
    NOTIFICATION = 0, "notification", "NOTI";
    CREATE = 1, "create", "CREA";
    DELETE = 2, "delete", "DELE";
    EXISTS = 3, "exists", "EXIS";
    GET_DATA = 4, "getData", "GETD";
    SET_DATA = 5, "setData", "SETD";
    GET_ACL = 6, "getACL", "GETA";
    SET_ACL = 7, "setACL", "SETA";
    GET_CHILDREN = 8, "getChildren", "GETC";
    SYNC = 9, "sync", "SYNC";
    PING = 11, "ping", "PING";
    GET_CHILDREN2 = 12, "getChildren2", "GETC";
    CHECK = 13, "check", "CHEC";
    MULTI = 14, "multi", "MULT";
    CREATE2 = 15, "create2", "CREA";
    RECONFIG = 16, "reconfig", "RECO";
    CHECK_WATCHES = 17, "checkWatches", "CHKW";
    REMOVE_WATCHES = 18, "removeWatches", "REMW";
    CREATE_CONTAINER = 19, "createContainer", "CREA";
    DELETE_CONTAINER = 20, "deleteContainer", "DELE";
    CREATE_TTL = 21, "createTTL", "CREA";
    MULTI_READ = 22, "multiRead", "MLTR";
    AUTH = 100, "auth", "AUTH";
    SET_WATCHES = 101, "setWatches", "SETW";
    SASL = 102, "sasl", "SASL";
    GET_EPHEMERALS = 103, "getEphemerals", "GETE";
    GET_ALL_CHILDREN_NUMBER = 104, "getAllChildrenNumber", "GETACN";
    SET_WATCHES2 = 105, "setWatches2", "STW2";
    ADD_WATCH = 106, "addWatch", "ADDW";
    WHO_AM_I = 107, "whoAmI", "HOMI";
    CREATE_SESSION = -10, "createSession", "SESS";
    CLOSE_SESSION = -11, "closeSession", "CLOS";
    ERROR = -1, "error", "UNKN";
}

impl fmt::Display for Op {
    /// The name, or `unknown` and the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "unknown {}", self.0),
        }
    }
}

impl fmt::Debug for Op {
    /// The same as its display.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_have_names_and_others_their_number() {
        assert_eq!(format!("{:?} {} {:?}", Op::SET_WATCHES2, Op(-11), Op(10)), "setWatches2 closeSession unknown 10");
        let names: std::collections::BTreeSet<_> = Op::ALL.iter().map(|op| op.name().expect("a known code")).collect();
        assert_eq!(names.len(), Op::ALL.len(), "two codes share a name");
    }
}
