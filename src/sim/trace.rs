//! A trace of everything that happened, as text and as a hash. Two runs of one seed must give the same trace to the
//! last byte.

use std::fmt;
use std::io::{self, Write};

/// The FNV-1a hash of all lines, which can also be printed.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: u64,
    /// Also print the lines to standard output.
    pub(super) print: bool,
}

impl Trace {
    /// An empty trace.
    pub(super) fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: 0, print }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, what: fmt::Arguments<'_>) {
        self.lines += 1;
        // Writing to a hash cannot fail.
        let _ = fmt::Write::write_fmt(&mut Hashing(&mut self.hash), what);
        self.bytes(b"\n");
        if self.print {
            // If nobody reads the output, the run continues all the same.
            let _ = writeln!(io::stdout(), "{:6} {what}", self.lines);
        }
    }

    /// Adds bytes that would not be readable as a line.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        Hashing(&mut self.hash).add(bytes);
    }

    /// The hash of everything so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

struct Hashing<'a>(&'a mut u64);

impl Hashing<'_> {
    fn add(&mut self, bytes: &[u8]) {
        for b in bytes {
            *self.0 = (*self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.add(s.as_bytes());
        Ok(())
    }
}
