//! Znode paths. Mirrors `PathUtils.validatePath` and the parent and child path handling of `ZKUtil` and `DataTree`.

use thiserror::Error;

/// Why a path is not valid. The server answers each of these with `BADARGUMENTS`.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[allow(missing_docs)]
pub enum PathError {
    #[error("path is empty")]
    Empty,
    #[error("path must start with /")]
    NotAbsolute,
    #[error("path must not end with /")]
    TrailingSlash,
    #[error("empty node name")]
    EmptyName,
    #[error("relative paths (. and ..) are not allowed")]
    Relative,
    #[error("invalid character {0:#x}")]
    Character(u32),
}

/// The root.
pub const ROOT: &str = "/";
/// The system subtree.
pub const ZOOKEEPER: &str = "/zookeeper";
/// The znode that holds the ensemble's configuration.
pub const QUOTA: &str = "/zookeeper/quota";
/// Child of a quota znode that holds the limits.
pub const CONFIG: &str = "/zookeeper/config";
/// Child of a quota znode that holds the usage.
pub const LIMIT_NODE: &str = "zookeeper_limits";
/// Leaf below a quota node that holds the usage.
pub const STAT_NODE: &str = "zookeeper_stats";

/// Checks a path by ZooKeeper's rules.
///
/// Forbidden UTF-16 units: 0x0000–0x001f, 0x007f–0x009f, 0xd800–0xf8ff, 0xfff0–0xffff. A character above U+FFFF is a
/// surrogate pair in Java and therefore forbidden too.
pub fn validate(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    match bytes {
        [] => return Err(PathError::Empty),
        [b'/'] => return Ok(()),
        [b'/', ..] => {}
        _ => return Err(PathError::NotAbsolute),
    }
    if bytes[bytes.len() - 1] == b'/' {
        return Err(PathError::TrailingSlash);
    }
    let mut begin = 1;
    for end in memchr::memchr_iter(b'/', &bytes[1..]).map(|at| at + 1).chain([bytes.len()]) {
        match &bytes[begin..end] {
            b"" => return Err(PathError::EmptyName),
            b"." | b".." => return Err(PathError::Relative),
            _ => begin = end + 1,
        }
    }
    // Without a branch per byte the compiler can check sixteen bytes at a time.
    if bytes.iter().fold(true, |plain, b| plain & (0x20..0x7f).contains(b)) {
        return Ok(());
    }
    match path.chars().find(|c| banned(*c as u32)) {
        Some(c) => Err(PathError::Character(c as u32)),
        None => Ok(()),
    }
}

fn banned(c: u32) -> bool {
    matches!(c, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=u32::MAX)
}

/// Like [`validate`], for a sequential create: appends a `1` in place of the number that the server will append.
pub fn validate_sequential(path: &str) -> Result<(), PathError> {
    validate(&format!("{path}1"))
}

/// Index of the last slash.
#[inline]
pub fn last_slash(path: &str) -> Option<usize> {
    memchr::memrchr(b'/', path.as_bytes())
}

/// The parent's path: `/a` for `/a/b`, `/` for `/a`, none for `/`. `path` must be valid.
pub fn parent(path: &str) -> Option<&str> {
    match last_slash(path) {
        Some(0) if path.len() == 1 => None,
        Some(0) => Some(ROOT),
        Some(at) => Some(&path[..at]),
        None => None,
    }
}

/// The last component: `b` for `/a/b`, empty for `/`.
pub fn name(path: &str) -> &str {
    last_slash(path).map_or(path, |at| &path[at + 1..])
}

/// `parent` and `name` joined.
pub fn join(parent: &str, name: &str) -> String {
    if parent == ROOT { format!("/{name}") } else { format!("{parent}/{name}") }
}

/// Whether `path` is `prefix` or lies below it.
pub fn is_at_or_below(path: &str, prefix: &str) -> bool {
    prefix == ROOT || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid() {
        for p in ["/", "/a", "/a/b", "/a.b", "/...", "/a/.b", "/\u{4e2d}", "/a b", "/\u{fdd0}"] {
            assert_eq!(validate(p), Ok(()), "{p:?}");
        }
    }

    #[test]
    fn invalid() {
        for (p, e) in [
            ("", PathError::Empty),
            ("a", PathError::NotAbsolute),
            ("/a/", PathError::TrailingSlash),
            ("//", PathError::TrailingSlash),
            ("//a", PathError::EmptyName),
            ("/a//b", PathError::EmptyName),
            ("/.", PathError::Relative),
            ("/a/../b", PathError::Relative),
            ("/a\0", PathError::Character(0)),
            ("/a\u{1f}", PathError::Character(0x1f)),
            ("/a\u{7f}", PathError::Character(0x7f)),
            ("/a\u{e000}", PathError::Character(0xe000)),
            ("/a\u{fff0}", PathError::Character(0xfff0)),
            ("/a\u{1f600}", PathError::Character(0x1f600)),
        ] {
            assert_eq!(validate(p), Err(e), "{p:?}");
        }
        assert_eq!(validate_sequential("/a/"), Ok(()));
    }

    #[test]
    fn arithmetic() {
        assert_eq!((parent("/"), parent("/a"), parent("/a/b")), (None, Some("/"), Some("/a")));
        assert_eq!((name("/"), name("/a/b")), ("", "b"));
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".into(), "/a/b".into()));
        assert!(is_at_or_below("/a/b", "/a") && is_at_or_below("/a", "/a") && !is_at_or_below("/ab", "/a"));
    }
}
