//! Exit codes of the process. Mirrors `ExitCode`; 20 and above are Zabra's own.

/// Why the process ended. The numbers are part of the interface: scripts and unit files test them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitCode {
    /// Ended normally, or was stopped by SIGTERM.
    Finished = 0,
    /// An error that no other code describes.
    Unexpected = 1,
    /// Bad arguments or configuration.
    InvalidInvocation = 2,
    /// The data directory is missing, not readable or not writable.
    DataDir = 3,
    /// The admin server cannot start.
    AdminServer = 4,
    /// Writing or syncing the log, or taking a snapshot, failed.
    TxnLog = 10,
    /// A COMMIT names another transaction than the oldest pending one. Not used: such a member joins again.
    UnmatchedCommit = 12,
    /// An unexpected quorum packet, or a TRUNC that cannot be done. Not used: such a member joins again.
    QuorumPacket = 13,
    /// A port cannot be bound.
    Bind = 14,
    /// `zabra.io=io_uring`, and io_uring is not available or its limits are too small.
    IoUring = 20,
    /// The log or the snapshots are damaged, or transactions are missing in the middle.
    Corrupt = 21,
    /// Another process uses the data directory.
    DataDirInUse = 22,
    /// The shell does not know the command it was given.
    UnknownCommand = 127,
}

impl ExitCode {
    /// All codes, in ascending order.
    pub const ALL: [ExitCode; 13] = [
        ExitCode::Finished,
        ExitCode::Unexpected,
        ExitCode::InvalidInvocation,
        ExitCode::DataDir,
        ExitCode::AdminServer,
        ExitCode::TxnLog,
        ExitCode::UnmatchedCommit,
        ExitCode::QuorumPacket,
        ExitCode::Bind,
        ExitCode::IoUring,
        ExitCode::Corrupt,
        ExitCode::DataDirInUse,
        ExitCode::UnknownCommand,
    ];

    /// The exit status that the parent process gets.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit code with this number, if there is one: to explain how a child process ended.
    pub fn from_code(code: i32) -> Option<ExitCode> {
        ExitCode::ALL.into_iter().find(|e| i32::from(e.code()) == code)
    }

    /// One line of explanation, for `--help` and for "the server ended with code N".
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::Finished => "finished, or stopped by SIGTERM",
            ExitCode::Unexpected => "unexpected error",
            ExitCode::InvalidInvocation => "bad arguments or configuration",
            ExitCode::DataDir => "data directory missing or not accessible",
            ExitCode::AdminServer => "the admin server cannot start",
            ExitCode::TxnLog => "writing the log or a snapshot failed",
            ExitCode::UnmatchedCommit => "a COMMIT does not match the pending transaction",
            ExitCode::QuorumPacket => "unexpected quorum packet",
            ExitCode::Bind => "a port cannot be bound",
            ExitCode::IoUring => "zabra.io=io_uring, but io_uring is not available",
            ExitCode::Corrupt => "log or snapshot damaged, or transactions are missing",
            ExitCode::DataDirInUse => "another process uses the data directory",
            ExitCode::UnknownCommand => "unknown command (zabra shell only)",
        }
    }
}

impl From<ExitCode> for i32 {
    fn from(e: ExitCode) -> i32 {
        i32::from(e.code())
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(e: ExitCode) -> Self {
        std::process::ExitCode::from(e.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_zookeepers_and_distinct() {
        let codes: Vec<u8> = ExitCode::ALL.iter().map(|e| e.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 10, 12, 13, 14, 20, 21, 22, 127]);
        let meanings: std::collections::HashSet<_> = ExitCode::ALL.iter().map(|e| e.meaning()).collect();
        assert_eq!(meanings.len(), ExitCode::ALL.len());
    }

    #[test]
    fn a_number_finds_its_code() {
        assert_eq!(ExitCode::from_code(21), Some(ExitCode::Corrupt));
        assert_eq!(ExitCode::from_code(99), None);
        assert_eq!(ExitCode::from_code(256), None);
    }
}
