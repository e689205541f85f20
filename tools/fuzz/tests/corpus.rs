//! Runs everything that the fuzzers keep: inputs that once failed, inputs with a large coverage, and some random ones.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use zabra_fuzz::TARGETS;

zabra_fuzz::bounded_memory!();

fn inputs(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), fs::read(p).expect("readable"))).collect()
}

/// Runs every target with the inputs that `inputs` returns for it, and names those that fail.
fn all(mut inputs: impl FnMut(&str) -> Vec<(PathBuf, Vec<u8>)>) -> usize {
    let (mut ran, mut failed) = (0, Vec::new());
    for (name, run) in TARGETS {
        for (path, bytes) in inputs(name) {
            ran += 1;
            if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
                failed.push(format!("{name}: {}", path.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {ran} inputs fail:\n{}", failed.len(), failed.join("\n"));
    ran
}

#[test]
fn the_corpus_passes() {
    let ran = all(|target| {
        let found = inputs("corpus", target);
        assert!(found.len() >= 5, "corpus/{target} has {} files", found.len());
        found
    });
    assert!(ran >= 60, "only {ran} inputs");
}

#[test]
fn what_was_found_once_stays_mended() {
    assert!(all(|target| inputs("findings", target)) >= 2, "where are they?");
}

#[test]
fn any_bytes_pass() {
    let mut rng = fastrand::Rng::with_seed(3);
    all(|_| {
        let any = |i: usize| {
            let bytes = (0..rng.usize(..1 + i * 5)).map(|_| rng.u8(..)).collect();
            (PathBuf::from(format!("random input {i}")), bytes)
        };
        (0..40).map(any).collect()
    });
}

#[test]
fn the_corpus_stays_small() {
    let of = |target: &str| inputs("corpus", target).iter().map(|(_, b)| b.len()).sum::<usize>();
    let bytes: usize = TARGETS.iter().map(|(name, _)| of(name)).sum();
    assert!(bytes < 200 << 10, "the corpus has {bytes} bytes: run tools/fuzz/run, which minimises it");
}
