//! `zabra ensemble`: an ensemble on this host in one command, to try one. It writes an ordinary zoo.cfg for each member, starts
//! the members as processes of this same program, and stops them all. There is nothing like it in ZooKeeper.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use self::layout::{Layout, Wanted};
use self::processes::{Begun, Started};
use super::Properties;
use super::output::{complain, line};
use crate::config::ExitCode;
use crate::runtime::signals::{Request, Signals};

mod layout;
mod processes;
mod table;

const OK: ExitCode = ExitCode::Finished;
const FAILED: ExitCode = ExitCode::Unexpected;

/// How long the members have to elect a leader and to serve. The server's own time-outs are longer, but nobody waits for them.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often members are looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Voting members of a new ensemble.
const MEMBERS: u8 = 3;
/// Client port of member 1 of a new ensemble.
const CLIENT_PORT: u16 = 2181;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EnsembleArgs {
    #[command(subcommand)]
    command: Option<EnsembleCommand>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, Subcommand)]
enum EnsembleCommand {
    /// Print the members with their roles
    Status(DirArg),
    /// Stop all members
    Stop(DirArg),
}

#[derive(Debug, Args)]
struct DirArg {
    /// The ensemble's directory
    #[arg(long, value_name = "DIR", default_value = "zabra-ensemble")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct StartArgs {
    /// Voting members of a new ensemble [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    members: Option<u8>,
    /// Observers of a new ensemble [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    observers: Option<u8>,
    /// Directory for configurations and data. If it holds an ensemble already, that one is started with its data
    #[arg(long, value_name = "DIR", default_value = "zabra-ensemble")]
    dir: PathBuf,
    /// Client port of the first member of a new ensemble; the others have the next ones [default: 2181]
    #[arg(long, value_name = "PORT")]
    client_port: Option<u16>,
    /// Return when the ensemble serves; without this it is stopped by Ctrl-C
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    properties: Properties,
}

pub(super) fn run(args: &EnsembleArgs) -> ExitCode {
    let done = match &args.command {
        None => start(&args.start),
        Some(EnsembleCommand::Status(dir)) => status(&dir.dir),
        Some(EnsembleCommand::Stop(dir)) => stop(&dir.dir),
    };
    done.unwrap_or_else(|(code, what)| {
        complain(&what);
        code
    })
}

/// An exit code, and what is said with it.
type Refusal = (ExitCode, String);

fn read(dir: &Path) -> Result<Layout, Refusal> {
    Layout::read(dir).map_err(|what| (ExitCode::InvalidInvocation, what))
}

fn start(args: &StartArgs) -> Result<ExitCode, Refusal> {
    let layout = prepare(args)?;
    // Before the first process is started, so that a signal never leaves members behind.
    let signals = Signals::install().map_err(|e| (FAILED, format!("signals cannot be handled: {e}")))?;
    signals.serving();
    let dir = layout.dir.display();
    line(&format!("Starting {} members in {dir} ...", layout.members.len()));
    let mut members = Started::all(&layout, &args.properties.pairs(), args.detach).map_err(|what| (FAILED, what))?;
    let begun = members.await_leader(START_LIMIT, || told_to_stop(&signals, PAUSE));
    if begun == Begun::ToldToStop {
        return Ok(stop_members(&layout, Some(&members)));
    }
    if let Begun::Failed(what) = begun {
        stop_members(&layout, Some(&members));
        return Err((FAILED, what));
    }
    line(&table::text(&layout.members.iter().map(processes::row).collect::<Vec<_>>()));
    line(&format!("Clients connect to {}", layout.connect_string()));
    if args.detach {
        line(&format!("`zabra ensemble status --dir {dir}` and `zabra ensemble stop --dir {dir}` ask and stop them."));
        return Ok(OK);
    }
    line("Ctrl-C stops all members.");
    while !told_to_stop(&signals, PAUSE) {
        members.ended().iter().for_each(|what| line(what));
        if members.are_gone() {
            return Err((FAILED, "all members have ended".into()));
        }
    }
    Ok(stop_members(&layout, Some(&members)))
}

/// Waits for a signal to stop, as long as `limit` at most.
fn told_to_stop(signals: &Signals, limit: Duration) -> bool {
    signals.within(limit) == Some(Request::Stop)
}

/// The ensemble that is to be started: the one in the directory, or a new one, whose files are then written.
fn prepare(args: &StartArgs) -> Result<Layout, Refusal> {
    let invalid = |what| (ExitCode::InvalidInvocation, what);
    let wanted = Wanted {
        members: args.members.unwrap_or(MEMBERS).into(),
        observers: args.observers.unwrap_or(0).into(),
        client_port: args.client_port.unwrap_or(CLIENT_PORT),
    };
    let is_there = Layout::is_in(&args.dir);
    let layout = if is_there {
        let layout = Layout::read(&args.dir).map_err(invalid)?;
        let Wanted { members, observers, client_port } = layout.wanted();
        let differs = args.members.is_some_and(|wanted| u16::from(wanted) != members)
            || args.observers.is_some_and(|wanted| u16::from(wanted) != observers)
            || args.client_port.is_some_and(|wanted| wanted != client_port);
        if differs {
            let what = format!(
                "{} holds an ensemble already, with --members {members} --observers {observers} --client-port {client_port}: leave \
                 these out to start it, or choose another --dir",
                args.dir.display()
            );
            return Err(invalid(what));
        }
        layout
    } else {
        Layout::planned(&args.dir, wanted).map_err(invalid)?
    };
    if let Some(member) = layout.members.iter().find(|m| processes::pid(m).is_some()) {
        let what = format!(
            "member {} runs already: stop the ensemble first (zabra ensemble stop --dir {})",
            member.id,
            layout.dir.display()
        );
        return Err((FAILED, what));
    }
    layout.check_ports().map_err(|taken| {
        let remedy = if is_there { "stop it" } else { "stop it or choose another --client-port" };
        (ExitCode::Bind, format!("in use by another process ({remedy}):\n{taken}"))
    })?;
    if !is_there {
        layout.write(wanted).map_err(|what| (ExitCode::DataDir, what))?;
    }
    Ok(layout)
}

fn status(dir: &Path) -> Result<ExitCode, Refusal> {
    let layout = read(dir)?;
    let rows: Vec<_> = layout.members.iter().map(processes::row).collect();
    line(&table::text(&rows));
    let serves = rows.iter().any(|row| row.role == "leader" || row.role == "standalone");
    if !serves {
        complain("no member leads: the ensemble does not serve");
    }
    Ok(if serves { OK } else { FAILED })
}

fn stop(dir: &Path) -> Result<ExitCode, Refusal> {
    Ok(stop_members(&read(dir)?, None))
}

fn stop_members(layout: &Layout, started: Option<&Started>) -> ExitCode {
    let (stopped, problems) = processes::stop(&layout.members, started);
    problems.iter().for_each(|what| complain(what));
    line(&match stopped {
        0 => "No member was running.".to_string(),
        1 => "Stopped 1 member.".to_string(),
        n => format!("Stopped {n} members."),
    });
    if problems.is_empty() { OK } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<EnsembleArgs, String> {
        match Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string())?.command {
            Command::Ensemble(args) => Ok(args),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn arguments() {
        let args = parse("zabra ensemble").expect("is good").start;
        assert_eq!((args.members, args.observers, args.client_port), (None, None, None));
        assert_eq!((args.dir.as_path(), args.detach), (Path::new("zabra-ensemble"), false));
        let line = "zabra ensemble --members 5 --observers 2 --dir /d --client-port 3000 --detach -Dzabra.io=epoll";
        let args = parse(line).expect("is good").start;
        assert_eq!((args.members, args.observers, args.client_port), (Some(5), Some(2), Some(3000)));
        assert_eq!(args.properties.pairs(), [("zabra.io".to_string(), "epoll".to_string())]);
        let args = parse("zabra ensemble status --dir /d").expect("is good");
        assert!(matches!(args.command, Some(EnsembleCommand::Status(DirArg { dir })) if dir == Path::new("/d")));
        assert!(matches!(parse("zabra ensemble stop").expect("is good").command, Some(EnsembleCommand::Stop(_))));
        for wrong in
            ["--members 0", "--members 10", "--observers 10", "--client-port 65536", "--members 3 stop", "start"]
        {
            assert!(parse(&format!("zabra ensemble {wrong}")).is_err(), "{wrong}");
        }
    }

    fn prepared(line: &str, dir: &Path) -> Result<Layout, Refusal> {
        prepare(&parse(format!("zabra ensemble --dir {} {line}", dir.display()).trim_end()).expect(line).start)
    }

    #[test]
    fn an_ensemble_that_is_there_is_taken_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let port = |n: u16| format!("--client-port {}", 26_000 + n);
        let new = prepared(&format!("--members 2 {}", port(0)), dir.path()).expect("written");
        assert_eq!(prepared("", dir.path()), Ok(new.clone()));
        assert_eq!(prepared(&format!("--members 2 --observers 0 {}", port(0)), dir.path()), Ok(new));
        for other in ["--members 3", "--observers 1", &port(1)] {
            let (code, what) = prepared(other, dir.path()).expect_err("refused");
            assert!(code == ExitCode::InvalidInvocation && what.contains("holds an ensemble already"), "{what}");
            assert!(what.contains("with --members 2 --observers 0 --client-port 26000: "), "{what}");
        }
    }

    #[test]
    fn a_port_in_use_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let (code, what) = prepared(&format!("--client-port {port}"), dir.path()).expect_err("refused");
        assert_eq!(code, ExitCode::Bind);
        assert!(what.contains(&format!("127.0.0.1:{port}, for clients of member 1")), "{what}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_member_that_runs_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = prepared("--client-port 26010", dir.path()).expect("written");
        let held = std::fs::File::open(&layout.members[1].data).expect("there");
        held.lock().expect("locked");
        let (code, what) = prepared("", dir.path()).expect_err("refused");
        assert!(code == FAILED && what.contains("member 2 runs already"), "{what}");
    }
}
