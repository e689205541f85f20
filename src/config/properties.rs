//! The `.properties` format of zoo.cfg, as `java.util.Properties.load` reads it: bytes are Latin-1; `=`, `:` or white
//! space separates key and value; `#` and `!` begin comments; a backslash escapes the next character and, at the end of
//! a line, continues the line on the next one.

use super::error::Problem;

/// One key and its value, with the number (from 1) of the line it begins on. The value is trimmed, as `QuorumPeerConfig` does.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Entry {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// The UTF-8 byte order mark, which some editors write before the text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether the text begins with a UTF-8 byte order mark; [`parse`] skips it.
pub(super) fn has_mark(text: &[u8]) -> bool {
    text.starts_with(MARK)
}

/// Parses `text`, the bytes of the file `name`, into entries in file order. A key that is given twice is returned
/// twice.
pub fn parse(name: &str, text: &[u8]) -> Result<Vec<Entry>, Problem> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(Problem::at(name, 1, "", "is UTF-16 text: save it as ASCII"));
    }
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let mut entries = Vec::new();
    for (line, logical) in logical_lines(text) {
        let key_end = end_of_key(&logical);
        let value_start = start_of_value(&logical, key_end);
        let undo = |bytes: &[u8]| {
            unescape(bytes).ok_or_else(|| {
                Problem::at(
                    name,
                    line,
                    "",
                    "a \\u escape needs four hexadecimal digits: correct it or double the backslash",
                )
            })
        };
        let key = undo(&logical[..key_end])?.trim().to_string();
        let value = undo(&logical[value_start..])?.trim().to_string();
        entries.push(Entry { key, value, line });
    }
    Ok(entries)
}

/// Logical lines with the number of their first line: continued lines are joined; comments, blank lines and leading
/// white space are dropped.
fn logical_lines(text: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, raw) in natural_lines(text).into_iter().enumerate() {
        let skip = raw.iter().take_while(|b| is_white(**b)).count();
        let content = &raw[skip..];
        if open.is_none() && matches!(content.first(), None | Some(b'#' | b'!')) {
            continue;
        }
        let backslashes = content.iter().rev().take_while(|b| **b == b'\\').count();
        let continues = backslashes % 2 == 1;
        let kept = if continues { &content[..content.len() - 1] } else { content };
        let (line, mut joined) = open.take().unwrap_or((index + 1, Vec::new()));
        joined.extend_from_slice(kept);
        if continues {
            open = Some((line, joined));
        } else if !joined.is_empty() {
            out.push((line, joined));
        }
    }
    out.extend(open.filter(|(_, joined)| !joined.is_empty()));
    out
}

/// The lines of the file; each ends with `\n`, `\r` or `\r\n`.
fn natural_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
        lines.push(&rest[..at]);
        let end = if rest[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 };
        rest = &rest[end..];
    }
    lines.push(rest);
    lines
}

fn is_white(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0c)
}

/// Index of the first unescaped separator, or the length of the line.
fn end_of_key(line: &[u8]) -> usize {
    let mut escaped = false;
    for (i, b) in line.iter().enumerate() {
        if !escaped && (matches!(b, b'=' | b':') || is_white(*b)) {
            return i;
        }
        escaped = *b == b'\\' && !escaped;
    }
    line.len()
}

/// Index of the value: after white space, at most one `=` or `:`, and white space again.
fn start_of_value(line: &[u8], key_end: usize) -> usize {
    let white = |from: usize| from + line[from..].iter().take_while(|b| is_white(**b)).count();
    let at = white(key_end);
    match line.get(at) {
        Some(b'=' | b':') => white(at + 1),
        _ => at,
    }
}

/// Decodes Latin-1 and escapes; `None` if a `\u` escape is broken. An unpaired surrogate becomes U+FFFD.
fn unescape(bytes: &[u8]) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            units.push(u16::from(*first));
            continue;
        }
        let [escape, tail @ ..] = rest else { break };
        rest = tail;
        units.push(match escape {
            b't' => 9,
            b'n' => 10,
            b'r' => 13,
            b'f' => 12,
            b'u' => {
                let digits = rest.get(..4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
                rest = &rest[4..];
                u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            other => u16::from(*other),
        });
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let entries = parse("t", text.as_bytes()).expect("parses");
        entries.into_iter().map(|e| (e.key, e.value)).collect()
    }

    #[test]
    fn java_rules() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("a=1", &[("a", "1")]),
            ("a:1", &[("a", "1")]),
            ("a 1", &[("a", "1")]),
            ("a\t=\x0c 1  ", &[("a", "1")]),
            ("  a = b = c", &[("a", "b = c")]),
            ("a==b", &[("a", "=b")]),
            ("a", &[("a", "")]),
            ("=v", &[("", "v")]),
            ("# c\n! c\n   # c\na=1#2", &[("a", "1#2")]),
            ("a=1\r\nb=2\rc=3\n\n", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a=1\\\n   2\\\n#3", &[("a", "12#3")]),
            ("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]),
            ("a=1\\\n\nb=2", &[("a", "1"), ("b", "2")]),
            ("# c\\\na=1", &[("a", "1")]),
            ("a\\=b\\:c\\ d=e", &[("a=b:c d", "e")]),
            ("a=\\u0041\\ud83d\\ude00", &[("a", "A\u{1f600}")]),
            ("a=x\\ty\\z", &[("a", "x\tyz")]),
            ("a=end\\", &[("a", "end")]),
            ("\\\n", &[]),
            ("a=1\na=2", &[("a", "1"), ("a", "2")]),
        ];
        for (text, want) in table {
            let want: Vec<(String, String)> = want.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            assert_eq!(pairs(text), want, "{text:?}");
        }
    }

    #[test]
    fn bytes_are_latin_1() {
        let entries = parse("t", b"a=\xe4").expect("parses");
        assert_eq!(entries[0].value, "\u{e4}");
    }

    #[test]
    fn lines_are_counted_in_the_file() {
        let entries = parse("t", b"#\n\na=1\\\n2\r\nb=3").expect("parses");
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn broken_unicode_escape_names_the_line() {
        for text in ["a=1\nb=\\u12", "a=1\nb=\\u12g4"] {
            let problem = parse("zoo.cfg", text.as_bytes()).expect_err("must fail");
            assert!(problem.to_string().starts_with("zoo.cfg:2: "), "{problem}");
        }
    }
}
