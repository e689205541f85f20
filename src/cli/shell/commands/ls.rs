//! Listing children. Mirrors `LsCommand`.

use super::{Command, Context, Outcome, visit, watch_word};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Syntax, flag, parse};
use crate::cli::shell::stat;

pub(super) const LS: Command = Command { name: "ls", usage: "[-s] [-w] [-R] path", run: ls };

const SYNTAX: Syntax = Syntax::of(&[flag("?"), flag("s"), flag("w"), flag("R")]);
const HELP: &str = "usage: ls [options] path
 -?   help
 -R   recurse
 -s   stat
 -w   watch
";

fn ls(ctx: &Context<'_>, words: &[String]) -> Outcome {
    if parse(&SYNTAX, words)?.has("?") {
        ctx.console.out(HELP);
    }
    let p = watch_word(ctx, &LS, &SYNTAX, words, "[-w]")?;
    let path = p.args.get(1).ok_or_else(|| ShellError::new(LS.usage_text()))?;
    if p.has("R") {
        return visit::subtree(ctx.client, path, p.has("w"), |p| {
            ctx.console.out_line(p);
            Ok(!ctx.console.is_broken())
        });
    }
    let (mut children, stat) = ctx.client.get_children(path, p.has("w"))?;
    visit::sort(&mut children);
    ctx.console.out_line(&format!("[{}]", children.join(", ")));
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}
