//! Commands that delete znodes. Mirrors `DeleteCommand`, `DeleteAllCommand` and `ZKUtil.deleteRecursive`.

use std::collections::VecDeque;

use super::{Command, Context, Outcome, number};
use crate::cli::shell::client::{Client, ClientError, Pending};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Syntax, value};
use crate::types::path;

pub(super) const DELETE: Command = Command { name: "delete", usage: "[-v version] path", run: delete };
pub(super) const DELETE_ALL: Command = Command { name: "deleteall", usage: "path [-b batch size]", run: delete_all };

const DELETE_SYNTAX: Syntax = Syntax::of(&[value("v")]);
const DELETE_ALL_SYNTAX: Syntax = Syntax::of(&[value("b")]);
/// Most batches that wait for their replies at the same time.
const IN_FLIGHT: usize = 10;

fn delete(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = DELETE.parse(&DELETE_SYNTAX, words, 2)?;
    if p.args.len() > 2 {
        ctx.console
            .err_line("'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.");
    }
    ctx.client.delete(&p.args[1], number(&p, "v", -1)?)?;
    Ok(())
}

fn delete_all(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = DELETE_ALL.parse(&DELETE_ALL_SYNTAX, words, 2)?;
    let batch: i32 = number(&p, "b", 1000).map_err(|_| ShellError::new("-b argument must be an int value"))?;
    let tree = breadth_first(ctx.client, &p.args[1])?;
    match usize::try_from(batch) {
        Ok(batch) if batch > 0 => {
            if !in_batches(ctx.client, tree, batch)? {
                ctx.console.err_line("Failed to delete some node(s) in the subtree!");
            }
        }
        _ => {
            for path in tree.iter().rev() {
                ctx.client.delete(path, -1)?;
            }
        }
    }
    Ok(())
}

/// The znode and everything below it, parents first.
fn breadth_first(client: &Client, root: &str) -> Result<Vec<String>, ClientError> {
    let mut tree = vec![root.to_owned()];
    let mut next = 0;
    while next < tree.len() {
        let (children, _) = client.get_children(&tree[next], false)?;
        let parent = tree[next].clone();
        tree.extend(children.iter().map(|c| path::join(&parent, c)));
        next += 1;
    }
    Ok(tree)
}

/// Deletes children before parents; stops at the first batch that fails.
fn in_batches(client: &Client, mut tree: Vec<String>, size: usize) -> Result<bool, ClientError> {
    tree.reverse();
    let mut flying: VecDeque<Pending> = VecDeque::new();
    let mut success = true;
    for batch in tree.chunks(size) {
        if flying.len() == IN_FLIGHT
            && let Some(oldest) = flying.pop_front()
        {
            success &= oldest.wait()?;
        }
        if !success {
            break;
        }
        flying.push_back(client.delete_all(batch));
    }
    for p in flying {
        success &= p.wait()?;
    }
    Ok(success)
}
