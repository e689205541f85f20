//! `zabra serve`. Mirrors `QuorumPeerMain.main`.

use std::path::Path;

use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::{RunServer, ServeArgs, version};
use crate::config::{Config, ConfigError, ExitCode, Warning};
use crate::runtime::logging;

/// Reads the configuration, starts logging and runs the server until it stops.
pub(super) fn serve(args: &ServeArgs, run: RunServer) -> ExitCode {
    if let Err((code, e)) = start_logging(args) {
        logging::say(&format!("zabra: {e}\n"));
        return code;
    }
    match load(args) {
        Ok((config, warnings)) => {
            tell(&warnings);
            info!("Zabra {}", version());
            match &config.source.file {
                Some(file) => info!("configuration from {}", file.display()),
                None => {
                    info!("no configuration file: {}", if args.arguments.is_empty() { "defaults" } else { "arguments" })
                }
            }
            run(config)
        }
        Err(e) => {
            tell(&e.warnings);
            logging::say(&format!("zabra: invalid configuration, the server does not start:\n{e}\n"));
            e.exit_code()
        }
    }
}

fn load(args: &ServeArgs) -> Result<(Config, Vec<Warning>), ConfigError> {
    let properties = args.properties.pairs();
    match args.arguments.as_slice() {
        [] => Config::embedded(&properties),
        [file] => Config::load(Path::new(file), &properties),
        several => Config::positional(several, &properties),
    }
}

fn tell(warnings: &[Warning]) {
    for warning in warnings {
        warn!("{warning}");
    }
}

/// Starts logging to standard error, filtered by RUST_LOG or else by the options.
fn start_logging(args: &ServeArgs) -> Result<(), (ExitCode, String)> {
    // glommio warns, over five lines, when it cannot register its buffers. Nothing is lost by that: our sockets do not use them.
    let level = match (args.quiet, args.verbose) {
        (true, _) => "warn,glommio=error",
        (_, true) => "debug",
        _ => "info,glommio=error",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text).map_err(|e| {
            let what = format!("RUST_LOG: {text:?}: {e}: write a filter such as info or zabra=debug");
            (ExitCode::InvalidInvocation, what)
        })?,
        _ => EnvFilter::new(level),
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    logging::start(filter, ansi).map_err(|e| (ExitCode::Unexpected, e.to_string()))
}
