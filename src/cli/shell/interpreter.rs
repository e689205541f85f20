//! The shell's own commands (`history`, `redo`, `connect`, …); all others are passed to `commands`. Mirrors
//! `ZooKeeperMain.processZKCmd`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::SharedClient;
use super::client::hosts::ConnectString;
use super::client::{Client, ClientError, Options, WatchedEvent, code};
use super::commands::{self, COMMANDS, Context};
use super::console::Console;
use super::error::ShellError;
use super::line;

/// The shell's own commands and their usage. `exit` also works, as in later ZooKeeper versions, and so does `help`;
/// ZooKeeper 3.9 shows the help too, but adds that it does not know the command.
const OWN: [(&str, &str); 5] =
    [("connect", "host:port"), ("history", ""), ("printwatches", "on|off"), ("quit", ""), ("redo", "cmdno")];
const EXIT: &str = "exit";
const HELP: &str = "help";
/// Number of lines that `history` shows.
const HISTORY_LINES: usize = 10;

/// Whether to read another command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Continue,
    Quit,
}

/// A shell with its session.
pub(super) struct Shell {
    console: Console,
    options: Options,
    wait_for_connection: bool,
    client: SharedClient,
    host: String,
    print_watches: Arc<AtomicBool>,
    history: BTreeMap<usize, String>,
    /// Number of commands so far: the number in the prompt.
    count: usize,
    exit_code: u8,
}

/// `[zk: host(STATE) number] `, with the state at the time it is printed.
pub(super) struct Prompt {
    client: SharedClient,
    host: String,
    count: usize,
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.client.get().map_or("NOT_CONNECTED", |c| c.state().name());
        write!(f, "[zk: {}({state}) {}] ", self.host, self.count)
    }
}

/// The names of all commands, sorted.
pub(super) fn command_names() -> Vec<&'static str> {
    help_lines().into_iter().map(|(name, _)| name).collect()
}

fn help_lines() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = COMMANDS.iter().map(|c| (c.name, c.usage)).chain(OWN).collect();
    all.sort_unstable();
    all
}

fn help() -> String {
    let mut text = "ZooKeeper -server host:port -client-configuration properties-file cmd args".to_owned();
    for (name, usage) in help_lines() {
        text.push_str(&format!("\n\t{name} {usage}"));
    }
    text
}

impl Shell {
    pub(super) fn new(console: Console, options: Options, wait_for_connection: bool) -> Shell {
        Shell {
            console,
            options,
            wait_for_connection,
            client: SharedClient::default(),
            host: String::new(),
            print_watches: Arc::new(AtomicBool::new(true)),
            history: BTreeMap::new(),
            count: 0,
            exit_code: 0,
        }
    }

    /// The exit code of the last command.
    pub(super) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The current session.
    pub(super) fn client(&self) -> SharedClient {
        self.client.clone()
    }

    /// The prompt for the next command.
    pub(super) fn prompt(&self) -> Prompt {
        Prompt { client: self.client(), host: self.host.clone(), count: self.count }
    }

    /// Ends the current session and starts one with `host`.
    pub(super) fn connect(&mut self, host: &str) -> Result<(), ShellError> {
        let connect = ConnectString::parse(host).map_err(ShellError::new)?;
        if let Some(old) = self.client.get() {
            old.close();
        }
        self.host = host.to_owned();
        let (console, print) = (self.console.clone(), self.print_watches.clone());
        let watcher = Box::new(move |event: &WatchedEvent| {
            if print.load(Ordering::Relaxed) {
                console.interject(&format!("\nWATCHER::\n\n{event}\n"));
            }
        });
        let client =
            Client::start(connect, self.options.clone(), watcher).map_err(|e| ShellError::new(e.to_string()))?;
        let client = Arc::new(client);
        self.client.set(client.clone());
        let limit = Duration::from_millis(self.options.timeout_ms.max(0) as u64);
        if self.wait_for_connection && !client.wait_connected(limit) {
            client.close();
            return Err(ClientError::Keeper { code: code::CONNECTION_LOSS, path: None }.into());
        }
        Ok(())
    }

    /// Runs a line unless it is empty.
    pub(super) fn line(&mut self, line: &str) -> Flow {
        let words = line::words(line);
        if words.is_empty() {
            return Flow::Continue;
        }
        self.history.insert(self.count, line.to_owned());
        let flow = self.run(&words);
        self.count += 1;
        flow
    }

    /// Runs a command and reports its failure.
    pub(super) fn run(&mut self, words: &[String]) -> Flow {
        let done = self.process(words);
        if let Err(e) = &done {
            self.exit_code = e.exit_code;
            self.console.err_line(&e.message);
            return Flow::Continue;
        }
        // `quit` exits with the code of the command before it.
        if done != Ok(Flow::Quit) {
            self.exit_code = 0;
        }
        done.unwrap_or(Flow::Continue)
    }

    fn process(&mut self, words: &[String]) -> Result<Flow, ShellError> {
        let name = words[0].as_str();
        if name == HELP {
            self.console.out_line(&help());
            return Ok(Flow::Continue);
        }
        let command = commands::find(name);
        if command.is_none() && name != EXIT && !OWN.iter().any(|(own, _)| *own == name) {
            self.console.err_line(&help());
            return Err(ShellError::not_found(name));
        }
        match name {
            "quit" | EXIT => {
                if let Some(client) = self.client.get() {
                    client.close();
                }
                return Ok(Flow::Quit);
            }
            "redo" => {
                if let Some(number) = words.get(1)
                    && self.redo(number)? == Flow::Quit
                {
                    return Ok(Flow::Quit);
                }
            }
            "history" => self.show_history(),
            "printwatches" => match words.get(1) {
                Some(word) => self.print_watches.store(word == "on", Ordering::Relaxed),
                None => {
                    let on = if self.print_watches.load(Ordering::Relaxed) { "on" } else { "off" };
                    self.console.out_line(&format!("printwatches is {on}"));
                }
            },
            "connect" => {
                let host = words.get(1).cloned().unwrap_or_else(|| self.host.clone());
                self.connect(&host)?;
            }
            _ => {}
        }
        match (self.client.get().filter(|c| c.state().is_alive()), command) {
            (None, _) => self.console.out_line("Not connected"),
            (Some(client), Some(command)) => {
                (command.run)(&Context { client: &client, console: &self.console }, words)?;
            }
            (Some(_), None) => {}
        }
        Ok(Flow::Continue)
    }

    fn redo(&mut self, number: &str) -> Result<Flow, ShellError> {
        let index = decode(number).ok_or_else(|| ShellError::new(format!("For input string: \"{number}\"")))?;
        let line = usize::try_from(index)
            .ok()
            .filter(|i| *i < self.count)
            .and_then(|i| self.history.get(&i).cloned())
            .ok_or_else(|| ShellError::new("Command index out of range"))?;
        let words = line::words(&line);
        if words.first().is_none_or(|w| w == "redo") {
            return Err(ShellError::new("No redoing redos"));
        }
        self.history.insert(self.count, line);
        Ok(self.run(&words))
    }

    fn show_history(&self) {
        for (i, line) in self.history.range(self.count.saturating_sub(HISTORY_LINES)..=self.count) {
            self.console.out_line(&format!("{i} - {line}"));
        }
    }
}

/// Parses a number as ZooKeeper's shell does.
fn decode(text: &str) -> Option<i32> {
    crate::config::decode(text).and_then(|n| i32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shell::start::Start;

    #[test]
    fn numbers_as_java_decodes_them() {
        for (text, n) in [("0", 0), ("12", 12), ("0x1f", 31), ("#A", 10), ("017", 15), ("-3", -3), ("+4", 4)] {
            assert_eq!(decode(text), Some(n), "{text}");
        }
        for text in ["", "x", "-", "0x", "--1", "08", "9999999999"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn help_is_sorted_and_complete() {
        let help = help();
        let lines: Vec<&str> = help.lines().collect();
        assert_eq!(lines.len(), 29);
        assert!(lines[1].starts_with("\taddWatch [-m mode] path # optional mode is one of [PERSISTENT, "));
        assert_eq!((lines[2], lines[3], lines[28]), ("\taddauth scheme auth", "\tclose ", "\twhoami "));
    }

    #[test]
    fn own_words() {
        let (console, seen) = Console::captured();
        let options = Start::parse(&[]).unwrap().client_options().unwrap();
        let mut shell = Shell::new(console, options, false);
        assert_eq!(shell.prompt().to_string(), "[zk: (NOT_CONNECTED) 0] ");
        for line in
            ["history", "", "  ", "nonsense x", "redo 0", "redo 7", "redo 3", "printwatches off", "printwatches"]
        {
            assert_eq!(shell.line(line), Flow::Continue);
        }
        assert_eq!(shell.exit_code(), 0);
        assert_eq!(
            seen.out(),
            "0 - history\nNot connected\n0 - history\n1 - nonsense x\n2 - history\nNot connected\nNot connected\n\
             Not connected\nprintwatches is off\nNot connected\n"
        );
        let err = seen.err();
        assert!(
            err.contains(
                "\nCommand not found: Command not found nonsense\nCommand index out of range\nNo redoing redos\n"
            ),
            "{err}"
        );
        shell.line("nonsense");
        assert_eq!(shell.exit_code(), 127);
        shell.line("help");
        assert!(
            shell.exit_code() == 0
                && seen.out().ends_with(&format!("{}\n", help()))
                && seen.err() == err + &help() + "\nCommand not found: Command not found nonsense\n"
        );
        shell.line("nonsense");
        assert_eq!(shell.line("quit"), Flow::Quit);
        assert_eq!(shell.exit_code(), 127);
        assert_eq!(shell.connect("a:x").unwrap_err().exit_code, 1);
    }
}
