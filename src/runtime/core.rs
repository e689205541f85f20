//! One core's loop: the shard's turn, the peer's turn, sleep. Both may run on the same core.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock::Clock;
use super::fatal::fatal;
use super::net::Net;
use super::peer_core::PeerCore;
use super::shard_core::ShardCore;
use super::shared::Shared;
use crate::config::ExitCode;
use crate::types::{Now, earliest};

/// An idle core makes a turn at least this often, so that the watchdog sees that it is alive.
const LONGEST_PARK_MS: i64 = 1000;

/// One core.
pub(super) struct Core {
    number: usize,
    net: Net,
    shard: Option<ShardCore>,
    peer: Option<PeerCore>,
    shared: Arc<Shared>,
}

impl Core {
    /// Creates a core on its own thread and starts to accept clients.
    pub(super) fn new(
        number: usize,
        mut net: Net,
        listener: Option<TcpListener>,
        shard: Option<ShardCore>,
        mut peer: Option<PeerCore>,
        shared: Arc<Shared>,
    ) -> io::Result<Core> {
        if let Some(listener) = listener {
            net.add_listener(listener)?;
        }
        if let Some(peer) = &mut peer {
            peer.start(Clock::now(), &mut net, &shared);
        }
        Ok(Core { number, net, shard, peer, shared })
    }

    /// Runs, as the only task of a glommio executor, until the shard or the peer of this core is told to stop.
    pub(super) async fn run_on_glommio(mut self) {
        while self.turn_and_park() {
            glommio::yield_if_needed().await;
        }
    }

    /// Runs on a plain thread until the shard or the peer of this core is told to stop.
    pub(super) fn run(mut self) {
        while self.turn_and_park() {}
    }

    /// One turn, and sleep if there was no work; returns false to stop.
    fn turn_and_park(&mut self) -> bool {
        let Some(busy) = self.turn(Clock::now()) else { return false };
        if !busy && self.is_idle() {
            self.park();
        }
        true
    }

    /// One turn of the shard and of the peer. `None`: stop. Otherwise whether there was work.
    fn turn(&mut self, now: Now) -> Option<bool> {
        let Core { number, net, shard, peer, shared } = self;
        shared.turns[*number].fetch_add(1, Ordering::Relaxed);
        let mut busy = match (&mut *shard, &mut *peer) {
            (Some(shard), peer) => shard.turn(now, net, shared, peer.as_mut().map(PeerCore::for_shard))?,
            (None, Some(peer)) => peer.reap(net) > 0,
            (None, None) => unreachable!("core {number} has neither a shard nor the peer"),
        };
        if let Some(peer) = peer {
            busy |= peer.turn(now, net, shared, shard.as_mut().map(ShardCore::stream))?;
        }
        Some(busy)
    }

    /// Whether there is no work that could be missed while sleeping: everything else wakes the core.
    fn is_idle(&self) -> bool {
        self.shard.as_ref().is_none_or(ShardCore::is_idle) && self.peer.as_ref().is_none_or(PeerCore::is_idle)
    }

    fn park(&mut self) {
        let now = Clock::now();
        let shard = self.shard.as_ref().and_then(ShardCore::deadline);
        let peer = self.peer.as_ref().and_then(PeerCore::deadline);
        let at = earliest([shard, peer]).unwrap_or(i64::MAX);
        let wait = at.saturating_sub(now.mono_ms).clamp(0, LONGEST_PARK_MS) as u64;
        if let Err(error) = self.net.park(Some(Duration::from_millis(wait))) {
            fatal(ExitCode::Unexpected, format!("{} cannot wait for events: {error}", self.net.backend()));
        }
    }
}
