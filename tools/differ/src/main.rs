//! `zabra-differ`: sends the same requests to Apache ZooKeeper and Zabra and compares the answers. See `--help` and
//! README.md.

mod args;
mod compare;
mod conn;
mod known;
mod normal;
mod request;
mod run;
mod side;
mod stream;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use args::Args;
use known::{KNOWN, Treatment};
use run::{Compared, Found, Servers, run, shrink};
use stream::{Step, root, stream};
use zabra::types::Op;

/// The error is a text for the person who runs the program.
pub type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args = Args::parse();
    match differ(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("zabra-differ: {error}");
            ExitCode::from(1)
        }
    }
}

/// Returns the number of seeds with a difference.
fn differ(args: &Args) -> Result<u32> {
    let servers = Servers { apache: args.apache, zabra: args.zabra, patience: Duration::from_secs(args.patience) };
    let began = Instant::now();
    let mut total = Compared::default();
    let mut differences = 0;
    let mut seeds = 0;
    for seed in args.start_seed..args.start_seed.saturating_add(args.seeds) {
        let mut steps = stream(seed, args.ops);
        if args.ensembles {
            steps.iter_mut().for_each(Step::spare_apache_leaders);
        }
        if args.show {
            show(&steps);
        }
        let (compared, found) = run(servers, &root(seed), &steps).map_err(|e| format!("seed {seed}: {e}"))?;
        seeds += 1;
        let told = format!("{} requests, {} events", compared.requests, compared.events);
        total.add(compared);
        if let Some(found) = found {
            differences += 1;
            tell(args, servers, seed, &steps, found)?;
        } else {
            println!("seed {seed}: {told}, no difference");
        }
        if differences >= args.stop_after {
            println!("stopped after {differences} seeds with a difference");
            break;
        }
    }
    println!(
        "{seeds} seeds, {} requests, {} answers and {} events compared in {:.0} s; {differences} seeds with a difference",
        total.requests,
        total.answers,
        total.events,
        began.elapsed().as_secs_f64(),
    );
    tally(&total);
    for k in &KNOWN {
        let how = if k.treatment == Treatment::Translated { "translated" } else { "not asked" };
        println!("known, {how}: {} ({})", k.what, k.reason);
    }
    if total.requests == 0 {
        return Err("nothing was compared".to_owned());
    }
    Ok(differences)
}

/// Prints how often each request was answered with each code.
fn tally(total: &Compared) {
    let mut lines: BTreeMap<Op, String> = BTreeMap::new();
    for ((op, err), n) in total.tally.iter().rev() {
        let line = lines.entry(*op).or_insert_with(|| format!("  {op} ({}):", op.0));
        line.push_str(&format!(" {err}×{n}"));
    }
    println!("replies by error code:");
    lines.values().for_each(|l| println!("{l}"));
}

/// Prints a difference, a shorter stream that shows it, and the command that repeats it.
fn tell(args: &Args, servers: Servers, seed: u64, steps: &[Step], found: Found) -> Result<()> {
    println!("seed {seed}: DIFFERENCE at step {}", found.step);
    describe(&found);
    let through = if args.ensembles { "--through … " } else { "" };
    let replay = format!("tools/differ/run {through}--start-seed {seed} --seeds 1 --ops {}", args.ops);
    println!("  replay: {replay}");
    if args.shrink == 0 {
        return Ok(());
    }
    let (short, found) = shrink(steps, found, args.shrink, |s| Ok(run(servers, &root(seed), s)?.1))?;
    println!("  shortened to {} requests:", short.iter().map(Step::len).sum::<usize>());
    show(&short);
    describe(&found);
    Ok(())
}

fn describe(found: &Found) {
    let d = &found.difference;
    match &found.request {
        Some(request) => println!("  session {} asked: {request}", d.session),
        None => println!("  session {}:", d.session),
    }
    let text = |item: &Option<normal::Item>| item.as_ref().map_or("nothing more".to_owned(), |i| i.text.clone());
    println!("    apache: {}", text(&d.apache));
    println!("    zabra:  {}", text(&d.zabra));
    if d.request().is_none() || found.apache.len() != found.zabra.len() {
        for (who, list) in [("apache", &found.apache), ("zabra", &found.zabra)] {
            println!("    all that {who} said to this session in this step:");
            list.iter().for_each(|i| println!("      {}", i.text));
        }
    }
}

fn show(steps: &[Step]) {
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Burst(bursts) => {
                for b in bursts {
                    b.requests.iter().for_each(|r| println!("    {number}: session {}: {r}", b.session));
                }
            }
            Step::Away { session, meanwhile, back } => {
                println!("    {number}: session {session} loses its connection");
                for b in meanwhile {
                    b.requests.iter().for_each(|r| println!("    {number}: session {}: {r}", b.session));
                }
                println!("    {number}: session {session} comes back");
                back.iter().for_each(|r| println!("    {number}: session {session}: {r}"));
            }
            Step::WrongPassword(session) => println!("    {number}: a wrong password for session {session}"),
        }
    }
}
