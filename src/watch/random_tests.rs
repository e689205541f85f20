//! Random operation lists on the table and on its naive [`Model`], which must agree.

use std::sync::Arc;

use super::{Interest, Kind, Modes, WatchTable, WatcherType};
use crate::oracle::watch_model::{Mode, Model};
use crate::types::{ConnId, EventType, ShardId};

const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/a/bc", "/x", ""];
/// More than a path's list can have without being indexed.
const CONNS: u64 = super::link::SHORT as u64 + 6;
const EVENTS: [EventType; 4] =
    [EventType::NodeCreated, EventType::NodeDeleted, EventType::NodeDataChanged, EventType::NodeChildrenChanged];

/// In a crowded run watches are armed much more often than fired, so that lists become long enough for the index.
fn step(rng: &mut fastrand::Rng, crowded: bool, table: &mut WatchTable, model: &mut Model) {
    let path = PATHS[rng.usize(..PATHS.len())];
    let conn = ConnId(rng.u64(..CONNS));
    let watcher = WatcherType::from_code(rng.i32(1..=5)).unwrap();
    match if crowded && rng.u32(..8) > 0 { 0 } else { rng.u32(..100) } {
        0..48 => {
            let kind = Kind::BOTH[rng.usize(..2)];
            assert_eq!(table.add(kind, path, conn), model.add(path, conn, kind, Mode::Standard));
        }
        48..56 => {
            let data = model.add(path, conn, Kind::Data, Mode::Persistent);
            let child = model.add(path, conn, Kind::Child, Mode::Persistent);
            assert_eq!(table.add_persistent(path, conn, false), data || child);
        }
        56..62 => {
            let new = model.add(path, conn, Kind::Data, Mode::Recursive);
            assert_eq!(table.add_persistent(path, conn, true), new);
        }
        62..74 => {
            let removed = model.retain(|w| !Model::addressed(w, path, conn, watcher));
            assert_eq!(table.remove(path, conn, watcher), removed, "{path} {conn:?} {watcher:?}");
        }
        74..78 => {
            let gone = model.order().iter().filter(|w| w.1 == conn).count();
            model.retain(|w| w.1 != conn);
            assert_eq!(table.remove_conn(conn), gone);
        }
        _ => {
            let event = EVENTS[rng.usize(..4)];
            let mut told = Vec::new();
            let fired = table.fire(event, path, &mut told);
            assert_eq!((told, fired), model.fire(event, path), "{event:?} {path}");
        }
    }
}

fn compare(table: &WatchTable, model: &Model) {
    table.check();
    assert_eq!(table.watch_count(), model.order().len());
    for path in PATHS {
        for conn in (0..CONNS).map(ConnId) {
            for code in 1..=5 {
                let watcher = WatcherType::from_code(code).unwrap();
                let expected = model.watches().iter().any(|w| Model::addressed(w, path, conn, watcher));
                assert_eq!(table.contains(path, conn, watcher), expected, "{path} {conn:?} {watcher:?}");
            }
        }
    }
    let data: Vec<_> = model.order().iter().filter(|w| w.2 == Kind::Data).collect();
    let mut paths: Vec<_> = data.iter().map(|w| &w.0).collect();
    paths.sort();
    paths.dedup();
    let mut conns: Vec<_> = data.iter().map(|w| w.1).collect();
    conns.sort();
    conns.dedup();
    let summary = table.summary();
    assert_eq!((summary.watches, summary.paths, summary.connections), (data.len(), paths.len(), conns.len()));
    for most in [1, 3, usize::MAX] {
        let (mut listed, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let (piece, after) = table.piece(from, most);
            listed.extend(piece.map(|(conn, path)| (path.to_owned(), conn)));
            next = after;
        }
        listed.sort();
        let mut expected: Vec<_> = data.iter().map(|w| (w.0.to_string(), w.1)).collect();
        expected.sort();
        assert_eq!(listed, expected);
    }
}

#[test]
fn the_table_and_the_model_are_not_to_be_told_apart() {
    let mut indexed = false;
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let interest = Arc::new(Interest::new());
        let mut table = WatchTable::new(ShardId(seed as u32 % 64), interest.clone());
        let mut model = Model::default();
        for n in 0..400 {
            step(&mut rng, seed % 2 == 1, &mut table, &mut model);
            indexed |= !table.index.is_empty();
            if n % 20 == 0 {
                compare(&table, &model);
            }
        }
        compare(&table, &model);
        for conn in 0..CONNS {
            table.remove_conn(ConnId(conn));
        }
        assert_eq!(PATHS.map(|p| interest.shards(p)), [0; 6], "seed {seed} leaves interest behind");
    }
    assert!(indexed, "no list grew long enough to be indexed");
}

#[test]
fn recursive_never_enters_the_child_table() {
    assert!(WatcherType::PersistentRecursive.modes().contains(&(Kind::Child, Modes::NONE)));
}
