//! Translation of paths below the client's chroot. Mirrors `ZooKeeper.prependChroot` and `stripChroot`.

use crate::types::path;

/// The path on the server for the client's path `at`.
pub(crate) fn add(chroot: Option<&str>, at: &str) -> String {
    match chroot {
        None => at.to_owned(),
        Some(c) if at == path::ROOT => c.to_owned(),
        Some(c) => format!("{c}{at}"),
    }
}

/// The client's path for `at` on the server; a path outside the chroot is returned unchanged.
pub(crate) fn strip<'a>(chroot: Option<&str>, at: &'a str) -> &'a str {
    match chroot {
        Some(c) if path::is_at_or_below(at, c) => match &at[c.len()..] {
            "" => path::ROOT,
            rest => rest,
        },
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (client, server) in [("/", "/x/y"), ("/a", "/x/y/a")] {
            assert_eq!(add(Some("/x/y"), client), server);
            assert_eq!(strip(Some("/x/y"), server), client);
        }
        assert_eq!(strip(Some("/x"), "/xy"), "/xy");
        assert_eq!(strip(Some("/x"), "/zookeeper/config"), "/zookeeper/config");
        assert_eq!((add(None, "/a").as_str(), strip(None, "/a")), ("/a", "/a"));
    }
}
