//! What happened, as text and as a hash: two runs of one seed must agree in it to the last byte.

use std::fmt;
use std::io::{self, Write};

/// FNV-1a over every line; optionally printed.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: u64,
    /// Lines go to standard output too.
    pub(super) print: bool,
}

impl Trace {
    /// An empty one.
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
            // Whether anybody reads changes nothing.
            let _ = writeln!(io::stdout(), "{:6} {what}", self.lines);
        }
    }

    /// Adds bytes that make no readable line.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        Hashing(&mut self.hash).add(bytes);
    }

    /// Of everything so far.
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
