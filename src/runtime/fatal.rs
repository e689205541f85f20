//! Ending the process when going on could break a promise. Plays the part of `ServiceUtils.requestSystemExit`.

use std::io::Write;

/// Writing or syncing the log, or taking a snapshot, failed (`ExitCode.TXNLOG_ERROR_TAKING_SNAPSHOT`).
pub const TXN_LOG: i32 = 10;

/// Logs one line and ends the process at once with `code`: no destructor runs, nothing is flushed to clients or to the disk,
/// so nothing can be acknowledged any more by any thread.
pub fn fatal(code: impl Into<i32>, message: impl std::fmt::Display) -> ! {
    let code = code.into();
    tracing::error!("FATAL, exiting with code {code}: {message}");
    // Also where no subscriber is installed, and in one write so that lines of other threads do not mix in.
    let line = format!("zabra: FATAL, exiting with code {code}: {message}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    // SAFETY: ends the process; nothing is accessed.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::in_own_process;

    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            eprintln!("a destructor ran");
        }
    }

    #[test]
    fn it_says_why_and_ends_with_its_code() {
        let said = in_own_process!("ends", 10);
        assert!(said.contains("zabra: FATAL, exiting with code 10: the log is gone\n"), "{said}");
        assert!(!said.contains("a destructor ran"), "{said}");
    }

    #[test]
    #[ignore = "run by it_says_why_and_ends_with_its_code"]
    fn ends() {
        let _loud = Loud;
        fatal(TXN_LOG, "the log is gone");
    }
}
