//! The output of commands. It may be closed, a pipe that nobody reads, or a full disk. A command does its work in spite
//! of that, and its exit code says whether it succeeded.

use std::io::{self, Write};

/// Writes text to standard output; an error is ignored.
pub(super) fn out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard output; an error is ignored.
pub(super) fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Writes text to standard error; an error is ignored.
pub(super) fn err(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes a message of this program to standard error; an error is ignored.
pub(super) fn complain(what: &str) {
    err(&format!("zabra: {what}\n"));
}
