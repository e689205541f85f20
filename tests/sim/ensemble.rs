//! The members of an ensemble in a simulated world. More seeds:
//! `cargo run --release --features sim -- sim --members 3 --observers 1 --seeds N`.

use zabra::sim::{Crew, Options, Summary, run};

/// Options for members, and so many steps of each.
fn members(members: usize, observers: usize, steps: Option<u64>) -> Options {
    Options { crew: Some(Crew { members, observers }), steps, ..Options::default() }
}

/// Runs seeds and checks that enough happened in them.
fn seeds(options: Options, range: std::ops::Range<u64>) -> Summary {
    let mut total = Summary::default();
    let Crew { members, observers } = options.crew.expect("members");
    let steps = options.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
    let world = format!("--members {members} --observers {observers}{steps}");
    for seed in range {
        let again = format!("{} {world} --seeds 1 --start-seed {seed} -v", super::SIM);
        let s = run(seed, options).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{again}"));
        total.txns += s.txns;
        total.replies += s.replies;
        total.restarts += s.restarts;
        total.leaders += s.leaders;
        total.replaced += s.replaced;
        total.net_faults += s.net_faults;
        total.without_log += s.without_log;
    }
    total
}

#[test]
fn three_members() {
    let total = seeds(members(3, 0, None), 0..8);
    assert!(total.txns > 50 && total.replies > 50 && total.leaders > 6, "too little happened: {total:?}");
    assert!(total.restarts > 12 && total.net_faults > 5, "too little happened: {total:?}");
}

#[test]
fn five_members_and_an_observer() {
    let total = seeds(members(5, 1, Some(1000)), 0..4);
    assert!(total.txns > 5 && total.leaders > 2 && total.restarts > 12, "too little happened: {total:?}");
}

#[test]
fn observers_with_and_without_a_log() {
    let total = seeds(members(3, 2, Some(1500)), 0..8);
    assert!(total.without_log > 8 && total.replaced > 2 && total.txns > 20, "too little happened: {total:?}");
}

#[test]
fn a_seed_of_an_ensemble_replays_to_the_same_bytes() {
    let options = members(3, 1, Some(1000));
    let first = run(0, options).unwrap();
    assert_eq!(first, run(0, options).unwrap());
    assert_ne!(first.hash, run(1, options).unwrap().hash);
}
