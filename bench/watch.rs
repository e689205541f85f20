//! The cost of watches: setting them, triggering one or many, and checking a path that nobody watches. `cargo bench
//! --bench watch`.
//!
//! Times are per batch; "elements" are watches, so criterion's throughput is in watches per second.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use zabra::types::{ConnId, EventType, ShardId};
use zabra::watch::{Interest, Kind, WatchTable, WatcherType};

fn table() -> WatchTable {
    WatchTable::new(ShardId(0), Arc::new(Interest::new()))
}

fn crowd(watchers: u64) -> WatchTable {
    let mut t = table();
    for conn in 0..watchers {
        t.add(Kind::Data, "/app/config", ConnId(conn));
    }
    t
}

/// A change of a znode that 1, 100 or 2,000 connections watch.
fn fire(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch/fire");
    for watchers in [1, 100, 2_000] {
        group.throughput(Throughput::Elements(watchers));
        group.bench_function(BenchmarkId::new("one_shot", watchers), |b| {
            let mut out = Vec::with_capacity(watchers as usize);
            b.iter_batched_ref(
                || crowd(watchers),
                |t| {
                    out.clear();
                    t.fire(EventType::NodeDataChanged, "/app/config", &mut out);
                    assert_eq!(out.len(), watchers as usize);
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("persistent", watchers), |b| {
            let mut t = table();
            (0..watchers).for_each(|conn| assert!(t.add_persistent("/app/config", ConnId(conn), false)));
            let mut out = Vec::with_capacity(watchers as usize);
            b.iter(|| {
                out.clear();
                t.fire(EventType::NodeDataChanged, black_box("/app/config"), &mut out);
                assert_eq!(out.len(), watchers as usize);
            });
        });
    }
    group.finish();
}

/// The usual write: nobody watches the path, with and without a recursive watch elsewhere.
fn nobody(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch/nobody");
    let path = "/services/payments/instances/host-0000000042";
    for (name, recursive) in [("plain", false), ("recursive_elsewhere", true)] {
        let mut t = crowd(1_000);
        if recursive {
            t.add_persistent("/elsewhere", ConnId(7), true);
        }
        let mut out = Vec::new();
        group.bench_function(name, |b| b.iter(|| t.fire(EventType::NodeDataChanged, black_box(path), &mut out)));
    }
    let interest = Interest::new();
    group.bench_function("interest", |b| b.iter(|| interest.shards(black_box(path))));
    group.finish();
}

/// Setting and removing watches among 100,000 others.
fn arm(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch/arm");
    let paths: Vec<String> = (0..100_000).map(|n| format!("/services/s{:03}/n{n:010}", n % 1_000)).collect();
    let mut t = table();
    for (n, path) in paths.iter().enumerate() {
        t.add(Kind::Data, path, ConnId(n as u64 % 500));
    }
    group.bench_function("add_remove", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 7_919) % paths.len();
            t.add(Kind::Child, &paths[n], ConnId(1_000));
            t.remove(&paths[n], ConnId(1_000), WatcherType::Children)
        });
    });
    group.bench_function("fire_rearm", |b| {
        let mut n = 0;
        let mut out = Vec::new();
        b.iter(|| {
            n = (n + 7_919) % paths.len();
            out.clear();
            t.fire(EventType::NodeDataChanged, &paths[n], &mut out);
            t.add(Kind::Data, &paths[n], out[0])
        });
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("disconnect", |b| {
        // The watches of one connection are set up outside the measured time.
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                (0..1_000).for_each(|n| assert!(t.add(Kind::Child, &paths[n * 97], ConnId(2_000))));
                let start = std::time::Instant::now();
                assert_eq!(t.remove_conn(ConnId(2_000)), 1_000);
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, fire, nobody, arm);
criterion_main!(benches);
