//! Runs one hot path under callgrind, which counts only the instructions inside `zabra_measured`. Started by the script
//! `bench/instructions/run`.

#[path = "fixtures/mod.rs"]
mod fixtures;

use std::process::ExitCode;

/// The same allocator as in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of counted runs. As many uncounted ones come first, so that caches of allocations are warm.
const RUNS: u64 = 20;

/// The script passes the name of this function to callgrind.
///
/// Not inlined and not renamed; `extern "C"` only keeps the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn zabra_measured(run: &mut Box<dyn FnMut()>) {
    for _ in 0..RUNS {
        run();
    }
}

fn main() -> ExitCode {
    // cargo bench adds --bench.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let case = |name: &String| fixtures::CASES.iter().find(|(n, ..)| n == name);
    match asked.as_slice() {
        [] => {
            eprintln!("instruction counts: run bench/instructions/run");
            ExitCode::SUCCESS
        }
        [list] if list == "--list" => {
            fixtures::CASES.iter().for_each(|(name, operations, _)| println!("{name} {}", operations * RUNS));
            ExitCode::SUCCESS
        }
        [name] if case(name).is_some() => {
            let Some((_, _, make)) = case(name) else { return ExitCode::FAILURE };
            let mut run = make();
            (0..RUNS).for_each(|_| run());
            zabra_measured(&mut run);
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("instructions: no such bench: {other:?} (see --list)");
            ExitCode::from(2)
        }
    }
}
