//! Ends the process when continuing could break a guarantee. Plays the part of `ServiceUtils.requestSystemExit`.

use super::logging;

/// Writing or syncing the log, or taking a snapshot, failed (`ExitCode.TXNLOG_ERROR_TAKING_SNAPSHOT`).
pub const TXN_LOG: i32 = 10;

/// Logs why, and ends the process with `code` even if nothing can be logged: it waits for the logger at most a second.
/// No destructor runs, and nothing is flushed to clients or to the disk. The caller must not continue meanwhile: what
/// it has not acknowledged yet must never be.
pub fn fatal(code: impl Into<i32>, message: impl std::fmt::Display) -> ! {
    let code = code.into();
    tracing::error!("FATAL, exiting with code {code}: {message}");
    // This line appears even if the log's filter lets nothing through.
    logging::say(&format!("zabra: FATAL, exiting with code {code}: {message}\n"));
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
