//! The standalone server in a simulated world: see `zabra::sim`. More seeds:
//! `cargo run --release --features sim -- sim --members 1 --seeds N`.

mod ensemble;

use zabra::sim::{Crew, Options, Summary, run};

/// The command that runs a seed again.
const SIM: &str = "cargo run --release --features sim -- sim";

/// A server that is alone.
const ALONE: Options = Options { steps: None, verbose: false, lie_about_syncs: false, crew: Some(Crew::ALONE) };

/// Runs seeds and checks that enough happened in them.
fn seeds(range: std::ops::Range<u64>) {
    let mut total = Summary::default();
    for seed in range {
        let s = run(seed, ALONE)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{SIM} --members 1 --seeds 1 --start-seed {seed} -v"));
        total.txns += s.txns;
        total.events += s.events;
        total.expired += s.expired;
        total.restarts += s.restarts;
        total.snapshots += s.snapshots;
        total.purged += s.purged;
        total.faults += s.faults;
        total.asked += s.asked;
    }
    assert!(total.txns > 1000 && total.events > 50 && total.restarts > 100, "too little happened: {total:?}");
    assert!(total.snapshots > 20 && total.purged > 20 && total.faults > 50 && total.expired > 0, "{total:?}");
    assert!(total.asked > 100, "{total:?}");
}

#[test]
fn some_seeds() {
    seeds(0..60);
}

#[test]
fn some_more_seeds() {
    seeds(60..120);
}

#[test]
fn a_seed_replays_to_the_same_bytes() {
    let runs = |seed| (run(seed, ALONE), run(seed, ALONE));
    let mut hashes = Vec::new();
    for seed in 0..10 {
        let (first, again) = runs(seed);
        assert_eq!(first, again, "seed {seed}");
        hashes.push(first.unwrap().hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 10, "seeds differ");
}

#[test]
fn a_log_that_lies_is_noticed() {
    let lies = Options { lie_about_syncs: true, ..ALONE };
    let said = (0..40).find_map(|seed| run(seed, lies).err()).expect("no seed noticed that nothing is synced");
    assert!(said.contains("lost: recovered up to"), "{said}");
}
