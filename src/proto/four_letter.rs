//! The four-letter words' names. Mirrors `FourLetterCommands`; their output is made where the figures are.

/// Every word a server knows, in the order of ZooKeeper's table.
pub const WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "ruok", "stmk", "srst", "srvr", "stat", "wchc", "wchp",
    "wchs", "mntr", "isro", "hash",
];

/// What a telnet client sends when its user interrupts it: closes the connection.
pub const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// The word that the first four bytes of a fresh connection spell, if they spell one.
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
