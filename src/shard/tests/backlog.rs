//! Clients that do not read.

use super::*;
use crate::limits::{OUT_HIGH_WATER, OUT_LIMIT};

fn backlog(world: &mut World, bytes: usize) -> bool {
    world.step(Input::Backlog { conn: ConnId(1), bytes });
    !world.closed.is_empty()
}

#[test]
fn a_single_reply_may_be_longer_than_the_limit() {
    let mut w = World::new(|_| ());
    w.open(1);
    let reply = 3 * OUT_LIMIT;
    assert!(!backlog(&mut w, reply));
    assert!(!backlog(&mut w, reply + OUT_LIMIT), "events");
    assert!(backlog(&mut w, reply + OUT_LIMIT + 1));
    assert_eq!(w.closed, [(1, CloseHow::Abort)]);
}

#[test]
fn what_is_added_is_counted_from_the_least_that_was_unread() {
    let mut w = World::new(|_| ());
    w.open(1);
    assert!(!backlog(&mut w, 3 * OUT_LIMIT));
    assert!(!backlog(&mut w, 2 * OUT_HIGH_WATER), "the client reads");
    assert!(backlog(&mut w, 2 * OUT_HIGH_WATER + OUT_LIMIT + 1), "and then no more");
    let mut w = World::new(|_| ());
    w.open(1);
    assert!(!backlog(&mut w, 2 * OUT_HIGH_WATER) && !backlog(&mut w, 0));
    assert!(!backlog(&mut w, 3 * OUT_LIMIT), "a new start");
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let mut w = World::gated(|t| t.max_requests = 3);
    (1..=2).for_each(|conn| w.open(conn));
    w.set(1, 1);
    (2..=3).for_each(|xid| w.get(1, xid));
    (1..=4).for_each(|xid| w.set(2, xid));
    assert_eq!(w.in_pipeline(), [(1, 1)], "one write and two reads after it");
    w.step(Input::Backlog { conn: ConnId(1), bytes: 2 * OUT_HIGH_WATER });
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 1), (2, 2), (2, 3)], "the reads wait for their own client only");
    assert_eq!(w.replies(1), [(1, OK)]);
    w.step(Input::Backlog { conn: ConnId(1), bytes: 0 });
    w.turn();
    assert_eq!(w.replies(1), [(2, OK), (3, OK)]);
    w.answer();
    assert_eq!(w.in_pipeline(), [(2, 2), (2, 3), (2, 4)]);
}

#[test]
fn who_leaves_while_its_reads_wait_is_forgotten() {
    let mut w = World::gated(|t| t.max_requests = 2);
    (1..=2).for_each(|conn| w.open(conn));
    w.set(1, 1);
    w.get(1, 2);
    w.step(Input::Backlog { conn: ConnId(1), bytes: 2 * OUT_HIGH_WATER });
    w.answer();
    w.step(Input::Disconnected { conn: ConnId(1) });
    (1..=3).for_each(|xid| w.set(2, xid));
    assert_eq!(w.in_pipeline(), [(2, 1), (2, 2)]);
}
