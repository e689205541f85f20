//! The names of the four-letter words. Mirrors `FourLetterCommands`. Their output is made where the data are.

/// Declares each word as a constant and in the list of all, once.
macro_rules! words {
    ($($constant:ident = $word:literal),* $(,)?) => {
        $(#[allow(missing_docs)] pub const $constant: &str = $word;)*

        /// Every word a server knows, in the order of ZooKeeper's table. A client sends its four bytes and nothing else; only
        /// `stmk` is followed by eight bytes more, a trace mask.
        pub const WORDS: [&str; 18] = [$($constant),*];
    };
}

words! {
    CONF = "conf",
    CONS = "cons",
    CRST = "crst",
    DIRS = "dirs",
    DUMP = "dump",
    ENVI = "envi",
    GTMK = "gtmk",
    RUOK = "ruok",
    STMK = "stmk",
    SRST = "srst",
    SRVR = "srvr",
    STAT = "stat",
    WCHC = "wchc",
    WCHP = "wchp",
    WCHS = "wchs",
    MNTR = "mntr",
    ISRO = "isro",
    HASH = "hash",
}

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
