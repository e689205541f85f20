//! Walking a subtree. Mirrors `ZKUtil.visitSubTreeDFS`.

use crate::cli::shell::client::{Client, ClientError, code};
use crate::cli::shell::error::ShellError;
use crate::types::path;

/// Visits `root`, then the children of each node in order before anything below them. A node that is deleted meanwhile
/// is skipped; if `root` does not exist, that is an error. `visit` ends the walk by returning `Ok(false)`.
pub(super) fn subtree(
    client: &Client,
    root: &str,
    watch: bool,
    mut visit: impl FnMut(&str) -> Result<bool, ShellError>,
) -> Result<(), ShellError> {
    client.get_data(root, watch)?;
    if !visit(root)? {
        return Ok(());
    }
    // The last node is listed next.
    let mut parents = vec![root.to_owned()];
    while let Some(parent) = parents.pop() {
        let mut children = match client.get_children(&parent, watch) {
            Ok((children, _)) => children,
            Err(ClientError::Keeper { code: code::NO_NODE, .. }) => continue,
            Err(e) => return Err(e.into()),
        };
        sort(&mut children);
        let paths: Vec<String> = children.iter().map(|c| path::join(&parent, c)).collect();
        for path in &paths {
            if !visit(path)? {
                return Ok(());
            }
        }
        parents.extend(paths.into_iter().rev());
    }
    Ok(())
}

/// Sorts in Java's string order: by UTF-16 units.
pub(super) fn sort(names: &mut [String]) {
    names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_order() {
        let mut names = ["\u{ffee}", "\u{1f600}", "b", "B", "a10", "a2"].map(str::to_owned);
        sort(&mut names);
        assert_eq!(names, ["B", "a10", "a2", "b", "\u{1f600}", "\u{ffee}"]);
    }
}
