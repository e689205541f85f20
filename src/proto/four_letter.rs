//! The names of the four-letter words. Mirrors `FourLetterCommands`. Their output is made where the data are.

/// Every word, in the order of ZooKeeper's table.
pub const WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "ruok", "stmk", "srst", "srvr", "stat", "wchc", "wchp",
    "wchs", "mntr", "isro", "hash",
];

/// The bytes that a telnet client sends when its user interrupts it; the connection is closed.
pub const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// The four-letter word in the first four bytes of a new connection, if it is one.
pub fn word(bytes: [u8; 4]) -> Option<&'static str> {
    WORDS.into_iter().find(|w| w.as_bytes() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(word(*b"ruok"), Some("ruok"));
        assert_eq!(word([0, 0, 0, 45]), None);
    }
}
