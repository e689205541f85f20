//! Why a command failed, with zkCli's messages. Mirrors `CliException` and `CliWrapperException`.

use super::client::{ClientError, code};

/// Exit code of an unknown command.
pub(crate) const NOT_FOUND: u8 = 127;

/// The text for the error stream, and the exit code if the shell runs a single command.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct ShellError {
    pub(crate) message: String,
    pub(crate) exit_code: u8,
}

impl ShellError {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> ShellError {
        ShellError { message: message.into(), exit_code: 1 }
    }

    /// The error of an unknown command.
    pub(crate) fn not_found(command: &str) -> ShellError {
        ShellError { message: format!("Command not found: Command not found {command}"), exit_code: NOT_FOUND }
    }
}

impl From<ClientError> for ShellError {
    fn from(e: ClientError) -> ShellError {
        let text = match &e {
            ClientError::Keeper { code, path } => keeper_text(*code, path.as_deref().unwrap_or("null")),
            _ => None,
        };
        ShellError::new(text.unwrap_or_else(|| e.to_string()))
    }
}

fn keeper_text(code: i32, path: &str) -> Option<String> {
    let words = match code {
        code::NO_NODE => "Node does not exist: ",
        code::NO_CHILDREN_FOR_EPHEMERALS => "Ephemerals cannot have children: ",
        code::NODE_EXISTS => "Node already exists: ",
        code::NOT_EMPTY => "Node not empty: ",
        code::NOT_READ_ONLY => "Not a read-only call: ",
        code::INVALID_ACL => "Acl is not valid : ",
        code::NO_AUTH => "Insufficient permission : ",
        code::BAD_ARGUMENTS => "Arguments are not valid : ",
        code::BAD_VERSION => "version No is not valid : ",
        code::QUOTA_EXCEEDED => "Quota has exceeded : ",
        code::RECONFIG_IN_PROGRESS => {
            return Some(
                "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned(),
            );
        }
        code::NEW_CONFIG_NO_QUORUM => {
            return Some(
                "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try \
                 invoking reconfiguration after new servers are connected and synced"
                    .to_owned(),
            );
        }
        _ => return None,
    };
    Some(format!("{words}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let text = |code, path: Option<&str>| {
            ShellError::from(ClientError::Keeper { code, path: path.map(str::to_owned) }).message
        };
        assert_eq!(text(code::NO_NODE, Some("/x")), "Node does not exist: /x");
        assert_eq!(text(code::INVALID_ACL, None), "Acl is not valid : null");
        assert_eq!(text(code::BAD_VERSION, Some("/x")), "version No is not valid : /x");
        assert_eq!(text(code::CONNECTION_LOSS, Some("/x")), "KeeperErrorCode = ConnectionLoss for /x");
        assert_eq!(ShellError::from(ClientError::Argument("no".into())).message, "no");
    }
}
