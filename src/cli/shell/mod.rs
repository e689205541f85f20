//! `zabra shell`, with the commands, options and output of zkCli. Mirrors `org.apache.zookeeper.ZooKeeperMain`.

mod acl;
mod client;
mod commands;
mod console;
mod dump;
mod editor;
mod error;
mod interpreter;
mod line;
mod options;
mod path;
mod quota;

mod start;
mod stat;

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use client::Client;
use console::Console;
use editor::Editor;
use interpreter::{Flow, Shell};
use start::Start;

/// Arguments of `zabra shell`. They are zkCli's, whose long options have one dash.
#[derive(Debug, Clone, clap::Args)]
pub struct ShellArgs {
    /// [-server host:port[,host:port...][/chroot]] [-timeout ms] [-r] [-waitforconnection] [-client-configuration file]
    /// [command [argument...]]; without a command, reads commands from the terminal or from standard input
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub args: Vec<String>,
}

/// The current session, shared with the completion; `connect` replaces it.
#[derive(Clone, Default)]
struct SharedClient(Arc<Mutex<Option<Arc<Client>>>>);

impl SharedClient {
    fn get(&self) -> Option<Arc<Client>> {
        // The value is a single pointer, so a panic in another thread cannot leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, client: Arc<Client>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
    }
}

/// Runs one command, or all commands from the terminal or standard input. The exit code is that of the last command (1
/// for a failure, 127 for an unknown command), or 1 if the shell could not start or write its output. As in zkCli, only
/// `quit` and `close` close the session on the server; otherwise the session and its ephemerals live until it times out.
pub fn run(args: ShellArgs) -> ExitCode {
    let console = Console::process();
    match start(&args.args, &console) {
        Ok(code) => match console.lost() {
            Some(e) => {
                console.err_line(&format!("zabra: standard output: {e}"));
                ExitCode::FAILURE
            }
            None => ExitCode::from(code),
        },
        Err(message) => {
            console.err_line(&message);
            ExitCode::FAILURE
        }
    }
}

fn start(args: &[String], console: &Console) -> Result<u8, String> {
    let start = Start::parse(args)?;
    let options = start.client_options()?;
    console.out_line(&format!("Connecting to {}", start.server));
    let mut shell = Shell::new(console.clone(), options, start.wait_for_connection);
    shell.connect(&start.server).map_err(|e| e.message)?;
    if !start.command.is_empty() {
        shell.run(&start.command);
        return Ok(shell.exit_code());
    }
    console.out_line("Welcome to ZooKeeper!\nJLine support is enabled");
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        interactive(&mut shell, console).map_err(|e| format!("terminal: {e}"))?;
    } else {
        piped(&mut shell, console, &mut io::stdin().lock()).map_err(|e| format!("standard input: {e}"))?;
    }
    Ok(shell.exit_code())
}

fn interactive(shell: &mut Shell, console: &Console) -> io::Result<()> {
    let mut editor = Editor::new(shell.client(), console.clone());
    while let Some(line) = editor.read(shell.prompt())? {
        if shell.line(&line) == Flow::Quit || console.is_broken() {
            break;
        }
    }
    Ok(())
}

fn piped(shell: &mut Shell, console: &Console, input: &mut impl BufRead) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        console.out(&shell.prompt().to_string());
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&bytes);
        if shell.line(line.trim_end_matches(['\n', '\r'])) == Flow::Quit || console.is_broken() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        shell: ShellArgs,
    }

    #[test]
    fn single_dash_words_reach_the_shell() {
        let words = ["zabra", "-server", "h:1", "-r", "-timeout", "5", "get", "-s", "--", "-h", "/x"];
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.shell.args, words[1..]);
        assert_eq!(Cli::try_parse_from(["zabra", "ls", "-?", "/"]).unwrap().shell.args, ["ls", "-?", "/"]);
    }
}
