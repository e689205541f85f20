//! The end of a run: no more faults and no new requests. Everything that was begun must be finished now.

use super::client::{Client, Phase};
use super::process::{Process, Reached};
use super::requests::Asked;
use super::world::World;
use crate::oracle::test_disk::Fault;

impl World {
    /// Brings the world to rest: no more faults and no new requests. Every request is answered, every event delivered,
    /// and every session of a client that has left ends.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.calm = true;
        self.trace.line(format_args!("no more faults: everything must be finished now"));
        self.nodes.iter().for_each(|n| n.disks().into_iter().for_each(|d| d.fault_at(u64::MAX, Fault::Crash, 0)));
        self.mesh_rest();
        self.settle("rest")?;
        // A session that expires while the others are answered may add to it.
        let last = self.history.last();
        for c in 0..self.clients.len() {
            self.ask(c, Asked::Sync { path: "/".into() });
        }
        self.settle("last words")?;
        if let Some(c) = self.clients.iter().position(|c| c.phase == Phase::Open && c.at() < last) {
            return Err(format!("client {c} was told up to {}, the history ends at {last}", self.clients[c].at()));
        }
        self.over = true;
        (0..self.clients.len()).for_each(|c| self.leave(c));
        let (ms, times) = if self.ensemble.is_some() { (20, 400) } else { (200, 200) };
        for _ in 0..times {
            self.advance(ms);
            self.everybody()?;
        }
        let open = self.history.sessions();
        if !open.is_empty() {
            return Err(format!("sessions {open:?} never expire"));
        }
        // The last closeSession may just have been proposed.
        self.settle("expiries")?;
        let last = self.history.last();
        (0..self.nodes.len()).try_for_each(|n| self.peek(n, last))
    }

    /// Lets everybody work until nothing is left to do.
    fn settle(&mut self, what: &str) -> Result<(), String> {
        let (ms, times) = if self.ensemble.is_some() { (5, 12_000) } else { (1, 2000) };
        for _ in 0..times {
            self.advance(ms);
            self.everybody()?;
            let served = |c: &Client| self.over || c.phase == Phase::Open && c.pending() == 0;
            let idle = self.nodes.iter().all(|n| n.process.as_ref().is_some_and(Process::is_idle));
            if idle && self.is_in_step() && self.net.is_quiet() && self.clients.iter().all(served) {
                return Ok(());
            }
        }
        let phases: Vec<_> = self.clients.iter().map(|c| (c.phase, c.pending())).collect();
        Err(format!("{what} never comes: clients {phases:?}"))
    }

    fn everybody(&mut self) -> Result<(), String> {
        for n in 0..self.nodes.len() {
            if self.nodes[n].process.is_none() {
                self.boot(n)?;
            }
            self.mesh_all();
            let shards = self.nodes[n].process.as_ref().map_or(0, Process::shards);
            for shard in 0..shards {
                self.shard_turn(n, shard, true)?;
            }
            for _ in 0..8 {
                self.peer_turn(n, Reached::All)?;
                self.log_step(n)?;
                self.snapshot_step(n)?;
                if self.ensemble.is_some() {
                    self.feed_step(n)?;
                }
            }
            self.clocks(n)?;
        }
        for c in 0..self.clients.len() {
            self.deliver(c, Some(usize::MAX))?;
            if self.clients[c].phase == Phase::Down && self.clients[c].link.is_none() && !self.over {
                self.connect(c);
            }
        }
        Ok(())
    }
}
