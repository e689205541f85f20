//! Why a call failed. Mirrors `KeeperException`.

use thiserror::Error;

use crate::jute::JuteError;

/// Error codes that the client itself generates; those of the server are in [`crate::types::ErrorCode`].
pub(crate) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const CONNECTION_LOSS: i32 = -4;
    pub(crate) const REQUEST_TIMEOUT: i32 = -122;
    pub(crate) const NO_NODE: i32 = -101;
    pub(crate) const NO_AUTH: i32 = -102;
    pub(crate) const BAD_VERSION: i32 = -103;
    pub(crate) const BAD_ARGUMENTS: i32 = -8;
    pub(crate) const NEW_CONFIG_NO_QUORUM: i32 = -13;
    pub(crate) const RECONFIG_IN_PROGRESS: i32 = -14;
    pub(crate) const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub(crate) const NODE_EXISTS: i32 = -110;
    pub(crate) const NOT_EMPTY: i32 = -111;
    pub(crate) const SESSION_EXPIRED: i32 = -112;
    pub(crate) const INVALID_ACL: i32 = -114;
    pub(crate) const AUTH_FAILED: i32 = -115;
    pub(crate) const NOT_READ_ONLY: i32 = -119;
    pub(crate) const EPHEMERAL_ON_LOCAL_SESSION: i32 = -120;
    pub(crate) const NO_WATCHER: i32 = -121;
    pub(crate) const QUOTA_EXCEEDED: i32 = -125;
}

/// Why a call failed.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub(crate) enum ClientError {
    /// The server answered with an error code, or the client generated one for a lost connection.
    #[error("{}", keeper_text(*code, path.as_deref()))]
    Keeper {
        code: i32,
        /// The user's path, if the call has one.
        path: Option<String>,
    },
    /// The arguments were refused before anything was sent.
    #[error("{0}")]
    Argument(String),
    /// The reply is not a valid record of the expected type.
    #[error("Unreadable reply: {0}")]
    Reply(#[from] JuteError),
}

fn keeper_text(code: i32, path: Option<&str>) -> String {
    let what = message(code).map_or_else(|| format!("Unknown error {code}"), str::to_owned);
    match path {
        None | Some("") => format!("KeeperErrorCode = {what}"),
        Some(p) => format!("KeeperErrorCode = {what} for {p}"),
    }
}

fn message(code: i32) -> Option<&'static str> {
    Some(match code {
        0 => "ok",
        -1 => "SystemError",
        -2 => "RuntimeInconsistency",
        -3 => "DataInconsistency",
        -4 => "ConnectionLoss",
        -5 => "MarshallingError",
        -6 => "Unimplemented",
        -7 => "OperationTimeout",
        -8 => "BadArguments",
        -13 => "NewConfigNoQuorum",
        -14 => "ReconfigInProgress",
        -100 => "APIError",
        -101 => "NoNode",
        -102 => "NoAuth",
        -103 => "BadVersion",
        -108 => "NoChildrenForEphemerals",
        -110 => "NodeExists",
        -111 => "Directory not empty",
        -112 => "Session expired",
        -113 => "Invalid callback",
        -114 => "InvalidACL",
        -115 => "AuthFailed",
        -118 => "Session moved",
        -119 => "Not a read-only call",
        -120 => "Ephemeral node on local session",
        -121 => "No such watcher",
        -122 => "RequestTimeout",
        -123 => "Reconfig is disabled",
        -124 => "Session closed because client failed to authenticate",
        -125 => "Quota has exceeded",
        -127 => "Op throttled due to high load",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let e = |code, path: Option<&str>| ClientError::Keeper { code, path: path.map(str::to_owned) }.to_string();
        assert_eq!(e(-121, Some("/a")), "KeeperErrorCode = No such watcher for /a");
        assert_eq!(e(-6, Some("")), "KeeperErrorCode = Unimplemented");
        assert_eq!(e(-112, None), "KeeperErrorCode = Session expired");
        assert_eq!(e(-999, None), "KeeperErrorCode = Unknown error -999");
    }
}
