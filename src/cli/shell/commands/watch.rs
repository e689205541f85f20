//! Commands that add persistent watches and remove watches. Mirrors `AddWatchCommand` and `RemoveWatchesCommand`.

use super::{Command, Context, Outcome};
use crate::cli::shell::client::watches::WatcherType;
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Parsed, Syntax, flag, value};

pub(super) const ADD_WATCH: Command = Command {
    name: "addWatch",
    usage: "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is \
            PERSISTENT_RECURSIVE",
    run: add_watch,
};
pub(super) const REMOVE_WATCHES: Command =
    Command { name: "removewatches", usage: "path [-c|-d|-a] [-l]", run: remove_watches };

const ADD_SYNTAX: Syntax = Syntax::of(&[value("m")]);
const REMOVE_SYNTAX: Syntax = Syntax::of(&[flag("c"), flag("d"), flag("p"), flag("r"), flag("a"), flag("l")]);

fn add_watch(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = ADD_WATCH.parse(&ADD_SYNTAX, words, 2)?;
    let usage = || ShellError::new(ADD_WATCH.usage_text());
    if p.args.len() != 2 {
        return Err(usage());
    }
    let recursive = match p.value("m").map(str::to_uppercase).as_deref() {
        None | Some("PERSISTENT_RECURSIVE") => true,
        Some("PERSISTENT") => false,
        Some(_) => return Err(usage()),
    };
    ctx.client.add_watch(&p.args[1], recursive)?;
    Ok(())
}

fn kind(p: &Parsed) -> WatcherType {
    let kinds = [
        ("c", WatcherType::Children),
        ("d", WatcherType::Data),
        ("p", WatcherType::Persistent),
        ("r", WatcherType::PersistentRecursive),
    ];
    kinds.into_iter().find(|(o, _)| p.has(o)).map_or(WatcherType::Any, |(_, k)| k)
}

fn remove_watches(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = REMOVE_WATCHES.parse(&REMOVE_SYNTAX, words, 2)?;
    ctx.client.remove_watches(&p.args[1], kind(&p), p.has("l"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shell::options::parse;

    #[test]
    fn kinds() {
        let of = |words: &[&str]| kind(&parse(&REMOVE_SYNTAX, words).unwrap());
        assert_eq!(of(&["removewatches", "/a"]), WatcherType::Any);
        assert_eq!(of(&["removewatches", "/a", "-d", "-l"]), WatcherType::Data);
        assert_eq!(of(&["removewatches", "/a", "-r"]), WatcherType::PersistentRecursive);
        assert_eq!(of(&["removewatches", "/a", "-a", "-c"]), WatcherType::Children);
    }
}
