//! `zabra-load`: sends many requests to a ZooKeeper server and reports how it answered. See `--help` and README.md.

mod args;
mod bare;
mod conn;
mod engine;
mod fanout;
mod frames;
mod hostile;
mod poll;
mod process;
mod record;
mod report;
mod steady;
mod storm;
#[cfg(test)]
mod tests;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Args, Load};
use engine::Engine;
use report::Report;

/// The error is a text for the person who runs the program.
pub type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(held) => ExitCode::from(if held { 0 } else { 3 }),
        Err(error) => {
            eprintln!("zabra-load: {error}");
            ExitCode::from(1)
        }
    }
}

/// Returns `false` if an open loop's rate was not held.
fn run(args: &Args) -> Result<bool> {
    if args.load == Load::EchoServer {
        return bare::server::run(args.echo_port).map(|()| true);
    }
    // Before this process is pinned, because a child process inherits that.
    let echo = (args.load == Load::Echo).then(|| bare::echo::Server::start(args.echo_port)).transpose()?;
    let args = &match &echo {
        Some(server) => Args { server: server.address, server_pid: Some(server.pid()), ..args.clone() },
        None => args.clone(),
    };
    if let Some(cpu) = args.pin {
        poll::pin(cpu).map_err(|e| format!("--pin {cpu}: {e}"))?;
    }
    poll::precise_timers();
    let files = poll::raise_open_files().map_err(|e| format!("limit on open files: {e}"))?;
    if files < u64::from(args.connections) + 32 {
        return Err(format!(
            "{} connections need more than the {files} open files allowed (ulimit -n)",
            args.connections
        ));
    }
    if args.seconds == 0.0 {
        return Err("--seconds 0 measures nothing".to_owned());
    }
    if args.rate.is_some() && args.depth > 1 && args.load != Load::Hostile {
        return Err("--rate is an open loop, --depth a closed one: not both".to_owned());
    }
    if let (Load::Hostile, Some(attack)) = (args.load, args.attack) {
        hostile::run(args, attack)?;
        return Ok(true);
    }
    let report = load(args)?;
    if let Some(path) = &args.hgrm {
        report.write_hgrm(path)?;
    }
    if args.json {
        println!("{:#}", report.json()?);
        eprint!("{}", if args.quiet { String::new() } else { report.text()? });
    } else {
        print!("{}", report.text()?);
    }
    Ok(report.held != Some(false))
}

/// Opens the sessions, runs the load, closes the sessions.
fn load(args: &Args) -> Result<Report> {
    if args.load == Load::Disk {
        return bare::disk::run(args);
    }
    let mut engine = Engine::new(Duration::from_secs_f64(args.stall))?;
    engine.open(args.server, args.connections as usize, args.session_timeout_ms)?;
    let report = match args.load {
        Load::Fanout => fanout::run(args, &mut engine)?,
        Load::Storm => storm::run(args, &mut engine)?,
        _ => steady::run(args, &mut engine)?,
    };
    engine.close()?;
    Ok(report)
}
