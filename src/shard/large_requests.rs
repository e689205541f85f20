//! The limits on large requests. One that would exceed `largeRequestMaxBytes` closes its connection; large writes wait
//! for each other, so that the pipeline never holds too many bytes. Mirrors
//! `ZooKeeperServer.checkRequestSizeWhenReceivingMessage` and `requestFinished`.

use std::collections::VecDeque;

use super::conn::{Conn, Phase};
use super::{CloseHow, Outbox, Shard};
use crate::session::large_requests::Admitted;
use crate::types::{CLIENT_LOG, ConnId, Now};

/// How often waiting large writes are checked while nothing happens in this shard, in milliseconds.
const LOOK_MS: i64 = 2;

/// The connections whose large writes wait.
#[derive(Debug, Default)]
pub(super) struct LargeWrites {
    /// In order of arrival; may contain connections that have ended meanwhile.
    queue: VecDeque<ConnId>,
    /// When the first of them is checked again.
    next_look_ms: i64,
}

impl LargeWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.queue.contains(&conn)
    }

    /// When waiting writes are checked again.
    pub(super) fn deadline(&self) -> Option<i64> {
        (!self.queue.is_empty()).then_some(self.next_look_ms)
    }

    /// Puts a connection at the end.
    pub(super) fn add(&mut self, now: Now, conn: ConnId) {
        self.queue.push_back(conn);
        self.next_look_ms = now.mono_ms + LOOK_MS;
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.queue.retain(|waiting| *waiting != conn);
    }
}

impl Shard {
    /// Whether a large write must wait for others. A connection that was called may go even if others came first: it
    /// was its turn.
    pub(super) fn large_must_wait(&self, c: &Conn, len: usize) -> bool {
        let Some(large) = &self.options.throttles.large else { return false };
        !large.has_room(len, 0) || !(self.large.is_empty() || c.called)
    }

    /// Calls the connections whose large writes wait, as long as there is room.
    pub(super) fn call_large(&mut self, now: Now) {
        let Some(large) = &self.options.throttles.large else { return };
        assert!(!self.throttler_is_serving(), "large writes are called while a connection is let through");
        // The writes of the connections called in this loop are not counted in the limit yet.
        let mut called = 0;
        while let Some(conn) = self.large.queue.front().copied() {
            let head = self.conns.get(conn).and_then(|c| c.input.first_chunk::<4>());
            let len = head.and_then(|b| usize::try_from(i32::from_be_bytes(*b)).ok()).unwrap_or(0);
            if !large.has_room(len, called) {
                break;
            }
            called += len;
            self.large.queue.pop_front();
            if let Some(c) = self.conns.get_mut(conn) {
                assert!(c.waits_large, "{conn} is called and did not wait");
                c.waits_large = false;
                c.called = true;
                self.ready.push(conn);
            }
        }
        // Large writes of other shards may occupy the room; nothing announces when they are done, so check again soon.
        self.large.next_look_ms = now.mono_ms + LOOK_MS;
    }

    /// The length of a large request has arrived (0: not yet known). Closes the connection if there is no room for the
    /// request.
    pub(super) fn announce(&mut self, conn: ConnId, len: usize, out: &mut Outbox) {
        let Some(large) = self.options.throttles.large.as_ref().filter(|_| len > 0) else { return };
        let Some(c) = self.conns.get_mut(conn).filter(|c| !c.announced && c.phase == Phase::Open) else { return };
        c.announced = true;
        if let Err(reason) = large.announce(len) {
            tracing::warn!(target: CLIENT_LOG, peer = %c.peer, session = %c.session, %reason, "closing: rejecting a large request");
            self.stats.large_requests_rejected += 1;
            self.end(conn, CloseHow::Flush, out);
        }
    }

    /// Counts a request if it is large. `Err`: there was no room, and the connection was closed.
    pub(super) fn admit_large(
        &mut self,
        conn: ConnId,
        len: usize,
        is_write: bool,
        out: &mut Outbox,
    ) -> Result<Option<Admitted>, ()> {
        let Some(large) = &self.options.throttles.large else { return Ok(None) };
        if let Some(c) = self.conns.get_mut(conn) {
            c.announced = false;
            c.called = false;
        }
        large.admit(len, is_write).map_err(|reason| {
            tracing::warn!(target: CLIENT_LOG, %conn, %reason, "closing: rejecting a large request");
            self.stats.large_requests_rejected += 1;
            self.end(conn, CloseHow::Flush, out);
        })
    }
}
