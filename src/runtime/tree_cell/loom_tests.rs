//! Checks that no wake-up between shards and the waiting peer core is lost, in any order in which they may run.

use loom::sync::{Arc, Notify};
use loom::thread;

#[allow(clippy::duplicate_mod)] // The same code over other atomics is the point.
#[path = "handshake.rs"]
mod handshake;

use handshake::Handshake;

/// The atomics that [`handshake`] uses in this test.
mod atomics {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};

    /// In loom, cache lines do not matter.
    pub(super) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(super) fn new(word: T) -> CachePadded<T> {
            CachePadded(word)
        }
    }

    impl<T> std::ops::Deref for CachePadded<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}

/// A peer core as in its real loop: it sleeps only after it said that it waits and then looked again without finding
/// anything.
fn wait_for(handshake: &Handshake, bell: &Notify, wanted: &[i64]) {
    loop {
        let there = |(shard, cursor): (usize, &i64)| handshake.cursor(shard) >= *cursor;
        if wanted.iter().enumerate().all(there) {
            handshake.peer_waits(false);
            return;
        }
        if !handshake.peer_waits(true) {
            // A lost wake-up leaves it asleep for ever, which loom reports as a deadlock.
            bell.wait();
        }
    }
}

fn model(cursors: &'static [&'static [i64]]) {
    let mut builder = loom::model::Builder::new();
    // More preemptions than this find nothing new, and take minutes.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (handshake, bell) = (Arc::new(Handshake::new(cursors.len(), 0)), Arc::new(Notify::new()));
        let shards: Vec<_> = cursors
            .iter()
            .enumerate()
            .map(|(shard, steps)| {
                let (handshake, bell) = (handshake.clone(), bell.clone());
                thread::spawn(move || {
                    for cursor in *steps {
                        if handshake.moved_on(shard, *cursor) {
                            bell.notify();
                        }
                    }
                })
            })
            .collect();
        let wanted: Vec<i64> = cursors.iter().map(|steps| steps[steps.len() - 1]).collect();
        wait_for(&handshake, &bell, &wanted);
        shards.into_iter().for_each(|s| s.join().unwrap());
    });
}

#[test]
fn the_last_step_of_a_shard_wakes_the_peer_core() {
    model(&[&[1, 2]]);
}

#[test]
fn two_shards_that_move_at_once_leave_no_wait_behind() {
    model(&[&[1], &[1]]);
}
