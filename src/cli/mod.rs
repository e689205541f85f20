//! The commands of the binary. Mirrors the scripts in ZooKeeper's `bin/` and the `main` methods they run.

use std::io::Write;
use std::process;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ExitCode};

mod ask;
mod control;
mod daemon;
mod date;
mod ensemble;
mod log;
mod output;
mod script;
mod serve;
mod server_paths;
pub mod shell;
#[cfg(feature = "sim")]
mod sim;
mod snapshot;
mod txn_text;
mod version;

pub use version::version;

/// Runs a server until it stops. `main` passes it in, so that the commands do not depend on the runtime.
pub type RunServer = fn(Config) -> ExitCode;

/// A ZooKeeper server: ZooKeeper's protocol, configuration and data directory.
#[derive(Debug, Parser)]
#[command(name = "zabra", version = version(), after_long_help = exit_codes(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server in the foreground
    ///
    /// Without arguments it serves 127.0.0.1:2181 and keeps its data in ./zabra-data. With one argument it reads that
    /// zoo.cfg. With two to four it takes ZooKeeper's old form: port dir [tickTime] [maxClientCnxns].
    ///
    /// Logs go to standard error; RUST_LOG filters them, for example RUST_LOG=zabra=debug.
    #[command(visible_alias = "start-foreground", after_long_help = exit_codes())]
    Serve(ServeArgs),
    /// Start a server in the background and wait until it serves
    Start(ControlArgs),
    /// Stop the server that uses the configuration's data directory
    Stop(ControlArgs),
    /// Stop, then start
    Restart(ControlArgs),
    /// Ask a server for its mode
    Status(ControlArgs),
    /// Print the command that `start` runs
    PrintCmd(ControlArgs),
    /// Start an ensemble on this host, to try one
    ///
    /// It writes a zoo.cfg for each member, starts the members and waits until one leads. Ctrl-C stops them all; their data
    /// stay, and the same command starts them again.
    #[command(after_long_help = exit_codes())]
    Ensemble(ensemble::EnsembleArgs),
    /// ZooKeeper's shell (zkCli), interactive or for one command
    Shell(shell::ShellArgs),
    /// Print or check transaction logs
    Log(log::LogArgs),
    /// Print or check a snapshot
    Snapshot(snapshot::SnapshotArgs),
    /// Run the server's state machines in a simulated world from a seed, and check what clients and disks see
    #[cfg(feature = "sim")]
    Sim(sim::SimArgs),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// zoo.cfg, or port dir [tickTime] [maxClientCnxns]
    #[arg(num_args = 0..=4, value_name = "ZOO.CFG | PORT DIR [TICK] [MAX]")]
    arguments: Vec<String>,
    #[command(flatten)]
    properties: Properties,
    /// Log only warnings and errors (RUST_LOG has priority)
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more (RUST_LOG has priority)
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct ControlArgs {
    /// zoo.cfg; without it $ZOOCFGDIR/zoo.cfg, conf/zoo.cfg, ./zoo.cfg, or the built-in defaults
    #[arg(value_name = "ZOO.CFG")]
    file: Option<String>,
    /// Directory that contains zoo.cfg, like zkServer.sh's option
    #[arg(long, value_name = "DIR")]
    config: Option<std::path::PathBuf>,
    /// Directory for the output of a server that `start` starts, if $ZOO_LOG_DIR is not set [default: dataDir]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<std::path::PathBuf>,
    #[command(flatten)]
    properties: Properties,
}

#[derive(Debug, Args)]
struct Properties {
    /// Set a property (-Dzookeeper.snapCount=1000, -Djute.maxbuffer=2000000) or override a key of zoo.cfg (-DclientPort=2182)
    #[arg(short = 'D', value_name = "KEY=VALUE", action = clap::ArgAction::Append)]
    define: Vec<String>,
}

impl Properties {
    /// The properties as pairs; without `=` the value is empty, as in Java.
    fn pairs(&self) -> Vec<(String, String)> {
        let pair =
            |text: &String| text.split_once('=').map_or((text.clone(), String::new()), |(k, v)| (k.into(), v.into()));
        self.define.iter().map(pair).collect()
    }
}

/// The last part of `--help`: the table of exit codes.
fn exit_codes() -> String {
    let lines = ExitCode::ALL.iter().map(|e| format!("  {:>3}  {}", e.code(), e.meaning()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Runs the command that the process's arguments name; `run` is called for `serve`.
pub fn main(run: RunServer) -> process::ExitCode {
    let args = match script::translate(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(code) => return code.into(),
    };
    match Cli::parse_from(args).command {
        Command::Serve(args) => serve::serve(&args, run).into(),
        Command::Start(args) => control::start(&args).into(),
        Command::Stop(args) => control::stop(&args).into(),
        Command::Restart(args) => control::restart(&args).into(),
        Command::Status(args) => control::status(&args).into(),
        Command::PrintCmd(args) => control::print_cmd(&args).into(),
        Command::Ensemble(args) => ensemble::run(&args).into(),
        Command::Shell(args) => shell::run(args),
        Command::Log(args) => log::run(&args).into(),
        Command::Snapshot(args) => snapshot::run(&args).into(),
        #[cfg(feature = "sim")]
        Command::Sim(args) => sim::run(&args),
        Command::Version => {
            let mut out = std::io::stdout().lock();
            let said = writeln!(out, "Zabra version: {}", version()).and_then(|()| out.flush());
            log::report(said.map_err(log::Trouble::Output)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn serve_args(line: &str) -> ServeArgs {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        match cli.command {
            Command::Serve(args) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_properties_anywhere() {
        let args = serve_args("zabra serve -Da=1 zoo.cfg -Dzookeeper.b=c=d -De");
        assert_eq!(args.arguments, ["zoo.cfg"]);
        let pairs = [("a", "1"), ("zookeeper.b", "c=d"), ("e", "")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!(args.properties.pairs(), pairs);
        assert_eq!(serve_args("zabra serve 2181 /d 2000 10").arguments.len(), 4);
        assert!(Cli::try_parse_from("zabra serve 1 2 3 4 5".split(' ')).is_err());
        assert!(Cli::try_parse_from(["zabra"]).is_err());
    }

    #[test]
    fn help_explains_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for code in ExitCode::ALL {
            assert!(help.contains(&format!("{:>3}  {}", code.code(), code.meaning())), "{code:?}");
        }
    }
}
