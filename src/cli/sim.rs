//! `zabra sim`: runs the simulator over many seeds. Only in builds with the feature `sim`.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::ExitCode;
use crate::sim::{self, Crew, Options, Summary};

#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// Most seeds to run; 100 if --minutes is not given either
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Minutes after which no further seed is started
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// First seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    start_seed: u64,
    /// Number of random choices for each server before the simulation winds down; without it the seed says how many
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Number of voting members, 1 to 7, or `random`: the seed says how many members and observers there are. One without
    /// observers is a standalone server
    #[arg(long, value_name = "N|random", default_value = "random", value_parser = members)]
    members: Members,
    /// Observers of the ensemble
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=7))]
    observers: u8,
    /// Run every seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Print every event of the simulation
    #[arg(short, long)]
    verbose: bool,
}

/// `None`: the seed chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Members(Option<usize>);

fn members(text: &str) -> Result<Members, String> {
    match text.parse() {
        Ok(members @ 1..=7) => Ok(Members(Some(members))),
        _ if text == "random" => Ok(Members(None)),
        _ => Err("a number from 1 to 7, or random".into()),
    }
}

/// Prints a line. If nobody reads the output, the exit code still tells the result.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The command that reproduces a failure.
fn replay(seed: u64, options: Options) -> String {
    let mut more = String::new();
    if let Some(Crew { members, observers }) = options.crew {
        more += &format!(" --members {members} --observers {observers}");
    }
    if let Some(steps) = options.steps {
        more += &format!(" --steps {steps}");
    }
    format!("cargo run --release --features sim -- sim --seeds 1 --start-seed {seed}{more} -v")
}

/// Runs the seeds; stops at the first failure.
pub(super) fn run(args: &SimArgs) -> std::process::ExitCode {
    let observers = usize::from(args.observers);
    if args.members == Members(None) && observers > 0 {
        say("--observers without a number of --members: the seed says how many observers there are");
        return ExitCode::InvalidInvocation.into();
    }
    let crew = args.members.0.map(|members| Crew { members, observers });
    let options = Options { steps: args.steps, verbose: args.verbose, crew, ..Options::default() };
    let began = Instant::now();
    let until = args.minutes.map(|m| Duration::try_from_secs_f64(m * 60.0).unwrap_or(Duration::MAX));
    let mut told = began;
    let mut total = Summary::default();
    let mut seed = args.start_seed;
    let most = args.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 100 });
    let is_over = |seed: u64| seed - args.start_seed >= most || until.is_some_and(|limit| began.elapsed() >= limit);
    while !is_over(seed) {
        fail_as(seed, options);
        match one(seed, options, args.twice) {
            Ok(summary) => add(&mut total, &summary),
            Err(e) => {
                say(&format!("seed {seed}: {e}\n{}", replay(seed, options)));
                return std::process::ExitCode::from(1);
            }
        }
        let Some(next) = seed.checked_add(1) else { break };
        seed = next;
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            say(&progress(seed - args.start_seed, began.elapsed(), &total));
        }
    }
    say(&format!("{}: all is well", progress(seed - args.start_seed, began.elapsed(), &total)));
    ExitCode::Finished.into()
}

fn one(seed: u64, options: Options, twice: bool) -> Result<Summary, String> {
    let first = sim::run(seed, options)?;
    if twice {
        let again = sim::run(seed, Options { verbose: false, ..options })?;
        if again != first {
            return Err(format!("a second run differs: {first:?}, then {again:?}"));
        }
    }
    Ok(first)
}

/// A failed assertion ends the process; before that, print how to reproduce it.
fn fail_as(seed: u64, options: Options) {
    std::panic::set_hook(Box::new(move |info| {
        say(&format!("seed {seed}: {info}\n{}", replay(seed, options)));
        // The exit code means that a seed failed, not that the simulator itself did.
        std::process::exit(1);
    }));
}

fn add(total: &mut Summary, one: &Summary) {
    total.txns += one.txns;
    total.replies += one.replies;
    total.events += one.events;
    total.sessions += one.sessions;
    total.expired += one.expired;
    total.restarts += one.restarts;
    total.snapshots += one.snapshots;
    total.purged += one.purged;
    total.faults += one.faults;
    total.peeks += one.peeks;
    total.asked += one.asked;
    total.leaders += one.leaders;
    total.dropped += one.dropped;
    total.replaced += one.replaced;
    total.net_faults += one.net_faults;
    total.wiped += one.wiped;
    total.without_log += one.without_log;
}

fn progress(seeds: u64, took: Duration, t: &Summary) -> String {
    format!(
        "{seeds} seeds in {:.0} s: {} transactions, {} replies, {} events, {} sessions ({} refused as expired), {} starts, \
         {} disk faults, {} snapshots ({} administrators told), {} files purged, {} recoveries judged{}",
        took.as_secs_f64(),
        t.txns,
        t.replies,
        t.events,
        t.sessions,
        t.expired,
        t.restarts,
        t.faults,
        t.snapshots,
        t.asked,
        t.purged,
        t.peeks,
        ensemble(t)
    )
}

/// What happened between members, if there were several.
fn ensemble(t: &Summary) -> String {
    let Summary { leaders, dropped, replaced, net_faults, wiped, without_log, .. } = t;
    if *leaders + *net_faults == 0 {
        return String::new();
    }
    format!(
        ", {leaders} leaders, {dropped} proposals dropped, {replaced} histories replaced, {net_faults} network faults, \
         {wiped} directories lost, {without_log} starts without a log"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_line_says_all_that_matters() {
        let again = "cargo run --release --features sim -- sim --seeds 1 --start-seed 7";
        assert_eq!(replay(7, Options::default()), format!("{again} -v"));
        let crew = Some(Crew { members: 3, observers: 1 });
        let options = Options { steps: Some(5), crew, ..Options::default() };
        assert_eq!(replay(7, options), format!("{again} --members 3 --observers 1 --steps 5 -v"));
    }
}
