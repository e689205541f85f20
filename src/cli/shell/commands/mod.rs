//! The table of commands that need a session. Mirrors `CommandFactory` and `CliCommand`.

mod acl;
mod create;
mod delete;
mod get;
mod ls;
mod quota;
mod reconfig;
mod session;
mod visit;
mod watch;

use super::client::Client;
use super::console::Console;
use super::error::ShellError;
use super::options::{Parsed, Syntax, parse};

/// What a command gets to work with.
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) console: &'a Console,
}

type Outcome = Result<(), ShellError>;

/// One command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What the help shows after the name.
    pub(crate) usage: &'static str,
    pub(crate) run: fn(&Context<'_>, &[String]) -> Outcome,
}

/// All commands, sorted as the help lists them among the shell's own ones.
pub(crate) const COMMANDS: [&Command; 23] = [
    &watch::ADD_WATCH,
    &session::ADD_AUTH,
    &session::CLOSE,
    &reconfig::CONFIG,
    &create::CREATE,
    &delete::DELETE,
    &delete::DELETE_ALL,
    &quota::DEL_QUOTA,
    &get::GET,
    &acl::GET_ACL,
    &get::GET_ALL_CHILDREN_NUMBER,
    &get::GET_EPHEMERALS,
    &quota::LIST_QUOTA,
    &ls::LS,
    &reconfig::RECONFIG,
    &watch::REMOVE_WATCHES,
    &create::SET,
    &acl::SET_ACL,
    &quota::SET_QUOTA,
    &get::STAT,
    &session::SYNC,
    &session::VERSION,
    &session::WHO_AM_I,
];

/// The command with this name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.into_iter().find(|c| c.name == name)
}

impl Command {
    fn usage_text(&self) -> String {
        format!("{} {}", self.name, self.usage)
    }

    /// Parses the words, and requires at least `least` of them, including the name.
    fn parse(&self, syntax: &Syntax, words: &[String], least: usize) -> Result<Parsed, ShellError> {
        let parsed = parse(syntax, words)?;
        if parsed.args.len() < least { Err(ShellError::new(self.usage_text())) } else { Ok(parsed) }
    }
}

/// `get`, `ls` and `stat` formerly took the watch as a word after the path: warns, and reads that word as `-w`.
fn watch_word(
    ctx: &Context<'_>,
    command: &Command,
    syntax: &Syntax,
    words: &[String],
    instead: &str,
) -> Result<Parsed, ShellError> {
    let parsed = parse(syntax, words)?;
    if parsed.args.len() <= 2 {
        return Ok(parsed);
    }
    let name = command.name;
    ctx.console
        .err_line(&format!("'{name} path [watch]' has been deprecated. Please use '{name} {instead} path' instead."));
    let mut words = words.to_vec();
    words[2] = "-w".to_owned();
    parse(syntax, &words)
}

/// The number given to an option, or `default` if the option is absent.
fn number<T: std::str::FromStr>(parsed: &Parsed, option: &str, default: T) -> Result<T, ShellError> {
    match parsed.value(option) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| ShellError::new(format!("For input string: \"{text}\""))),
    }
}
