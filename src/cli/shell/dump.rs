//! Data as a hexadecimal dump. Mirrors netty's `ByteBufUtil.prettyHexDump`.

use std::fmt::Write;

const RULE: &str = "+--------+-------------------------------------------------+----------------+";

/// The table, without a line break at the end; empty if there are no data.
pub(crate) fn hex(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let mut out = String::from("         +-------------------------------------------------+\n");
    out.push_str("         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n");
    out.push_str(RULE);
    for (row, bytes) in data.chunks(16).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n|{:08x}|", row * 16);
        for b in bytes {
            let _ = write!(out, " {b:02x}");
        }
        let text: String = bytes.iter().map(|b| if (0x20..0x7f).contains(b) { *b as char } else { '.' }).collect();
        let _ = write!(out, "{:pad$} |{text:16}|", "", pad = (16 - bytes.len()) * 3);
    }
    out.push('\n');
    out.push_str(RULE);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        assert_eq!(hex(b""), "");
        let t = hex(b"0123456789abcdef\n\x7f~");
        let rows: Vec<&str> = t.lines().collect();
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[3], "|00000000| 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 |0123456789abcdef|");
        assert_eq!(rows[4], "|00000010| 0a 7f 7e                                        |..~             |");
        assert!(rows.iter().skip(2).all(|r| r.len() == RULE.len()));
    }
}
