//! Times of the hot paths, for a quiet machine: `cargo bench --bench hot`, or some of them with `cargo bench --bench
//! hot -- shard/get`. Times are per run; "elements" are operations.

#[path = "fixtures/mod.rs"]
mod fixtures;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn hot(c: &mut Criterion) {
    for (name, operations, make) in fixtures::CASES {
        let (group, name) = name.split_once('/').expect("names have two parts");
        let mut group = c.benchmark_group(group);
        group.throughput(Throughput::Elements(*operations));
        // Created only if the filter selects this bench.
        let mut run = None;
        group.bench_function(name, |b| b.iter(run.get_or_insert_with(make)));
        group.finish();
    }
}

criterion_group!(benches, hot);
criterion_main!(benches);
