//! Why a server could not start. Plays the part of the exceptions that `QuorumPeerMain.main` turns into exit codes.

use crate::config::ExitCode;

/// Why the server does not start: what, where and what to do, with the exit code of the process.
#[derive(Debug)]
pub struct StartError {
    /// The exit code.
    pub code: ExitCode,
    /// The message for the person who started it.
    pub message: String,
}

impl StartError {
    pub(super) fn new(code: ExitCode, message: impl std::fmt::Display) -> StartError {
        StartError { code, message: message.to_string() }
    }
}
