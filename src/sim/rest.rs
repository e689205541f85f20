//! The end of a run: no more faults and no new requests. Everything that was begun must be finished now.

use super::client::{Client, Phase};
use super::options::Summary;
use super::process::{Process, Reached};
use super::requests::Asked;
use super::world::World;
use crate::oracle::test_disk::Fault;
use crate::types::{Zxid, path};

/// Within this time every session of a client that has left expires.
const EXPIRIES_MS: i64 = 40_000;

/// Within this time members that are left in peace have a leader and the same history.
const MEMBERS_REST_MS: i64 = 60_000;

/// Most leaders that are established then: one of a part of the servers, before the last ones come, and the one that stays.
const MOST_LEADERS: u64 = 3;

/// Most times that a member's history is cut or replaced then.
const MOST_REPLACED: u64 = 3;

/// Most that passes at once while members come to rest.
const MOST_MS: i64 = 50;

impl World {
    /// Brings the world to rest: no more faults and no new requests. Every request is answered, every event delivered,
    /// and every session of a client that has left ends.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.calm = true;
        self.trace.line(format_args!("no more faults: everything must be finished now"));
        self.nodes.iter().for_each(|n| n.disks().into_iter().for_each(|d| d.fault_at(u64::MAX, Fault::Crash, 0)));
        self.mesh_rest();
        let before = self.summary;
        self.settle("rest")?;
        self.was_direct(&before)?;
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
        let until = self.now_ms + EXPIRIES_MS;
        while self.now_ms < until && !(self.ensemble.is_some() && self.history.sessions().is_empty()) {
            let ms = if self.ensemble.is_some() { self.until_timer() } else { 200 };
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
        for n in 0..self.nodes.len() {
            self.holds(n, last)?;
            self.peek(n, if self.nodes[n].keeps_log() { last } else { self.least(n) })?;
        }
        Ok(())
    }

    /// Members that are left in peace do not elect and synchronise again and again.
    fn was_direct(&self, before: &Summary) -> Result<(), String> {
        let (leaders, replaced) = (self.summary.leaders - before.leaders, self.summary.replaced - before.replaced);
        if leaders > MOST_LEADERS || replaced > MOST_REPLACED * self.nodes.len() as u64 {
            return Err(format!("at rest {leaders} leaders were established, and {replaced} histories replaced"));
        }
        Ok(())
    }

    /// What a server has in memory is the history, and it shows the configuration.
    fn holds(&self, n: usize, last: Zxid) -> Result<(), String> {
        let Some(process) = &self.nodes[n].process else { return Err(format!("server {n} does not run")) };
        let sessions: Vec<_> = self.history.sessions().iter().map(|(session, ms)| (*session, *ms)).collect();
        self.history.compare(&process.tree(), &sessions, last).map_err(|e| format!("at rest, server {n}: {e}"))?;
        let Some(ensemble) = &self.ensemble else { return Ok(()) };
        let (shown, wanted) =
            (process.tree().get(path::CONFIG).and_then(|z| z.data().map(<[u8]>::to_vec)), ensemble.config());
        if shown.as_deref() != Some(wanted.as_bytes()) {
            return Err(format!("server {n} shows the configuration {shown:?}, not {wanted:?}"));
        }
        Ok(())
    }

    /// Lets everybody work until nothing is left to do.
    fn settle(&mut self, what: &str) -> Result<(), String> {
        let until = self.now_ms + if self.ensemble.is_some() { MEMBERS_REST_MS } else { 2000 };
        while self.now_ms < until {
            let ms = if self.ensemble.is_some() { self.until_timer() } else { 1 };
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

    /// True time until a timer of a member is due, in milliseconds. Between members things go on meanwhile, so it is never long.
    fn until_timer(&self) -> i64 {
        let busy = |p: &Process| !p.is_idle();
        if self.nodes.iter().any(|node| node.process.as_ref().is_none_or(busy)) {
            return 1;
        }
        let due =
            self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.deadline()? - node.clock.now().mono_ms));
        due.min().unwrap_or(MOST_MS).clamp(1, MOST_MS)
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
                    if self.nodes[n].process.as_ref().is_none_or(Process::is_idle) {
                        break;
                    }
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
