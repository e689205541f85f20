//! What commands say. Their output may be closed, a pipe that nobody reads, or a full disk. A command does its work all the
//! same, and its exit code tells how the work went.

use std::io::{self, Write};

/// Writes text to standard output; what cannot be written is lost.
pub(super) fn out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The same for a line.
pub(super) fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Writes text to standard error; what cannot be written is lost.
pub(super) fn err(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same for a message of this program.
pub(super) fn complain(what: &str) {
    err(&format!("zabra: {what}\n"));
}
