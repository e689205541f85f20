//! Why a start fails. Plays the part of the exceptions that `QuorumPeerMain.main` turns into exit codes.

use crate::config::ExitCode;

/// Why the server does not start: what, where and what to do, with the code the process exits with.
#[derive(Debug)]
pub struct StartError {
    /// The exit code.
    pub code: ExitCode,
    /// For the person who started it.
    pub message: String,
}

impl StartError {
    pub(super) fn new(code: ExitCode, message: impl std::fmt::Display) -> StartError {
        StartError { code, message: message.to_string() }
    }
}
