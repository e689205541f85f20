//! Path rules with the messages of Java's client. Mirrors `PathUtils`.

/// Checks a path; the error is Java's message.
pub(crate) fn validate(path: &str) -> Result<(), String> {
    match path.as_bytes() {
        [] => return Err("Path length must be > 0".into()),
        [b'/'] => return Ok(()),
        [b'/', .., b'/'] => return Err("Path must not end with / character".into()),
        [b'/', ..] => {}
        _ => return Err("Path must start with / character".into()),
    }
    // Positions in the message count UTF-16 units, as in Java.
    let chars: Vec<u16> = path.encode_utf16().collect();
    match reason(&chars) {
        Some(reason) => Err(format!("Invalid path string \"{path}\" caused by {reason}")),
        None => Ok(()),
    }
}

/// Checks a path to which the server will append a number.
pub(crate) fn validate_sequential(path: &str) -> Result<(), String> {
    validate(&format!("{path}1"))
}

fn reason(chars: &[u16]) -> Option<String> {
    const SLASH: u16 = b'/' as u16;
    const DOT: u16 = b'.' as u16;
    for i in 1..chars.len() {
        let (last, c) = (chars[i - 1], chars[i]);
        let ends = i + 1 == chars.len() || chars[i + 1] == SLASH;
        match c {
            0 => return Some(format!("null character not allowed @{i}")),
            SLASH if last == SLASH => return Some(format!("empty node name specified @{i}")),
            DOT if ends && (last == SLASH || (last == DOT && i >= 2 && chars[i - 2] == SLASH)) => {
                return Some(format!("relative paths not allowed @{i}"));
            }
            1..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff => {
                return Some(format!("invalid character @{i}"));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_server_accepts() {
        for p in ["/", "/a", "/a/b.c", "/...", "/..a", "/a..", "/中", "/a b"] {
            assert_eq!(validate(p), Ok(()), "{p}");
            assert_eq!(crate::types::path::validate(p), Ok(()), "{p}");
        }
        assert_eq!(validate_sequential("/a/"), Ok(()));
    }

    #[test]
    fn sentences() {
        for (p, e) in [
            ("", "Path length must be > 0"),
            ("a", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            ("//", "Path must not end with / character"),
            ("//a", "Invalid path string \"//a\" caused by empty node name specified @1"),
            ("/.", "Invalid path string \"/.\" caused by relative paths not allowed @1"),
            ("/a/../b", "Invalid path string \"/a/../b\" caused by relative paths not allowed @4"),
            ("/a\u{1}", "Invalid path string \"/a\u{1}\" caused by invalid character @2"),
            ("/é😀", "Invalid path string \"/é😀\" caused by invalid character @2"),
            ("/a\0", "Invalid path string \"/a\0\" caused by null character not allowed @2"),
        ] {
            assert_eq!(validate(p).unwrap_err(), e);
            assert!(crate::types::path::validate(p).is_err(), "{p}");
        }
    }
}
