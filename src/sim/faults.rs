//! Faults, and what must be true after each.

use std::io;

use super::apache::Apache;
use super::node;
use super::process::SnapshotTold;
use super::swarm::Trouble;
use super::world::World;
use crate::limits;
use crate::oracle::test_disk::{Fault, TestDisk};
use crate::peer::SnapshotRefused;
use crate::txnlog::disk::Dir;
use crate::txnlog::recovery::RecoveryError;
use crate::types::{SessionId, Zxid};

impl World {
    /// Injects a random fault, or checks the disks.
    pub(super) fn trouble(&mut self, n: usize) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        match self.swarm.choose(&mut self.rng) {
            Trouble::Kill => self.kill(n, "killed"),
            Trouble::Disk => {
                self.plan_fault(n);
                Ok(())
            }
            Trouble::WallClock => {
                let ms = if self.rng.bool() { self.rng.i64(-5000..5000) } else { self.rng.i64(-9_000_000..9_000_000) };
                self.nodes[n].clock.jump_wall(ms);
                self.trace.line(format_args!("the wall clock jumps by {ms} ms"));
                Ok(())
            }
            Trouble::Purge => self.purge(n),
            Trouble::Peek => self.peek(n, self.least(n)),
            Trouble::Rot => self.bit_rot(n),
            Trouble::Snapshot => self.ask_for_snapshots(n),
            Trouble::Wipe => self.wipe(n),
            Trouble::Damage => self.damage(n),
            trouble => {
                self.net_trouble(n, trouble);
                Ok(())
            }
        }
    }

    /// Plans a fault for one of the next disk operations.
    fn plan_fault(&mut self, n: usize) {
        let fault = match self.rng.u32(..10) {
            0 => Fault::NoSpace,
            1 | 2 => Fault::SyncFails,
            _ => Fault::Crash,
        };
        let seed = self.rng.u64(..);
        for disk in self.nodes[n].disks() {
            let at = disk.ops() + self.rng.u64(..60);
            disk.fault_at(at, fault, seed);
        }
        self.trace.line(format_args!("the disk of server {n} is going to fail: {fault:?}"));
    }

    /// Called after a disk operation: if the disk failed it, the process must have ended.
    pub(super) fn after_disk(&mut self, n: usize, who: &str, outcome: io::Result<()>) -> Result<(), String> {
        match (self.nodes[n].fault(), outcome) {
            (None, Ok(())) => Ok(()),
            (None, Err(e)) => Err(format!("the {who} thread fails without a fault: {e}")),
            (Some(Fault::Crash), _) => self.kill(n, "crashed"),
            (Some(_), Err(e)) => {
                self.trace.line(format_args!("the {who} thread of server {n} ends the process: {:?}", e.kind()));
                self.kill(n, "ended")
            }
            (Some(fault), Ok(())) => Err(format!("the {who} thread goes on after {fault:?}")),
        }
    }

    /// The process ends; what it had sent may still arrive.
    pub(super) fn kill(&mut self, n: usize, how: &str) -> Result<(), String> {
        if self.nodes[n].process.is_none() {
            return Ok(());
        }
        if self.nodes[n].fault().is_some() {
            self.summary.faults += 1;
        }
        let power = self.rng.bool().then(|| self.rng.u64(..));
        self.trace.line(format_args!("server {n} is {how}, power {power:?}"));
        let (rng, node) = (&mut self.rng, self.nodes[n].id);
        let mut keep = |len: usize| if rng.bool() { len } else { rng.usize(..=len) };
        self.net.server_gone(node, power.is_some() && self.ensemble.is_some(), &mut keep);
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.apache[n].iter_mut().for_each(|apache| *apache = Apache::default());
            ensemble.mesh.down(n, power.is_some(), &mut keep);
        }
        self.nodes[n].down(power);
        Ok(())
    }

    /// Starts a server, possibly into the next fault.
    pub(super) fn boot(&mut self, n: usize) -> Result<(), String> {
        if !self.calm && self.rng.u32(..4) == 0 {
            self.plan_fault(n);
        }
        if !self.calm && self.ensemble.is_none() && self.rng.u32(..3) == 0 {
            self.bit_rot(n)?;
        }
        let now = self.nodes[n].clock.now();
        if self.ensemble.as_ref().is_some_and(|ensemble| ensemble.without_log && !ensemble.is_voter(n)) {
            self.nodes[n].options.log.keeps = self.rng.bool();
            self.summary.without_log += u64::from(!self.nodes[n].keeps_log());
        }
        let seed = self.rng.u64(..);
        let outcome = self.nodes[n].boot(seed);
        let booted = match (self.nodes[n].fault(), outcome) {
            (None, Ok(booted)) => booted,
            (None, Err(e)) if self.nodes[n].is_damaged && !matches!(e, RecoveryError::Io { .. }) => {
                self.trace.line(format_args!("server {n} does not start, and gets empty disks: {e}"));
                self.nodes[n].down(None);
                self.nodes[n].wipe();
                return Ok(());
            }
            (None, Err(e)) => return Err(format!("server {n} does not start: {e}")),
            (Some(Fault::Crash), _) | (Some(_), Err(_)) => {
                self.summary.faults += 1;
                let power = self.rng.bool().then(|| self.rng.u64(..));
                self.trace.line(format_args!("the start of server {n} fails, power {power:?}"));
                self.nodes[n].down(power);
                return Ok(());
            }
            (Some(fault), Ok(_)) => return Err(format!("the server starts in spite of {fault:?}")),
        };
        self.nodes[n].is_damaged = false;
        self.summary.restarts += 1;
        self.trace.line(format_args!("server {n} started at {} with {} sessions", booted.last, booted.sessions.len()));
        let (least, node) = (self.least(n), &mut self.nodes[n]);
        node.marked = booted.last;
        let Some(process) = &mut node.process else { return Err("no process".into()) };
        self.history.recovered(&process.tree(), &booted.sessions, least)?;
        for (session, _) in &booted.sessions {
            self.history.heard(*session, now);
        }
        let proposed = process.start(now);
        if !proposed.is_empty() {
            return Err(format!("{} orphaned ephemerals' owners after a start", proposed.len()));
        }
        self.member_started(n, &booted)
    }

    /// What must be in this server's history when it starts.
    pub(super) fn least(&self, n: usize) -> Zxid {
        self.ensemble.as_ref().map_or(self.history.exposed(), |ensemble| ensemble.members[n].kept)
    }

    fn purge(&mut self, n: usize) -> Result<(), String> {
        if self.nodes[n].process.is_none() {
            return Ok(());
        }
        let outcome = self.nodes[n].purge();
        if let Ok(removed) = outcome {
            self.summary.purged += removed as u64;
            self.trace.line(format_args!("server {n} purged {removed} files"));
        }
        self.after_disk(n, "purge", outcome.map(drop))
    }

    /// Administrators ask for a snapshot; sometimes more of them than may wait.
    fn ask_for_snapshots(&mut self, n: usize) -> Result<(), String> {
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        let many = if self.rng.u32(..20) == 0 { limits::SNAPSHOTS_ASKED + 2 } else { self.rng.usize(1..3) };
        self.trace.line(format_args!("{many} administrators ask for a snapshot"));
        (0..many).for_each(|_| process.ask_for_snapshot());
        Ok(())
    }

    /// Checks the answer to an administrator: everything that was applied when the snapshot was asked for must survive a power
    /// failure from now on, even if the log is lost.
    pub(super) fn snapshot_told(&mut self, n: usize, told: &SnapshotTold) -> Result<(), String> {
        self.trace.line(format_args!("the administrators get their answers: {told:?}"));
        let zxid = match told.result {
            Ok(zxid) => zxid,
            Err(SnapshotRefused::TooMany) if told.waiting > limits::SNAPSHOTS_ASKED => return Ok(()),
            Err(SnapshotRefused::NoHistory) if told.applied == Zxid::NONE => return Ok(()),
            Err(e) => return Err(format!("{} wait for a snapshot, and one is told: {e}", told.waiting)),
        };
        // The disk of a member may forget what it has, if nobody committed it.
        if !told.is_same {
            return Ok(());
        }
        if zxid < told.applied {
            return Err(format!("a snapshot of {} was asked for, and one of {zxid} told", told.applied));
        }
        self.summary.asked += 1;
        if self.ensemble.is_none() {
            self.history.expose(zxid)?;
        }
        let (mut snap, log) = self.nodes[n].fork_disks();
        cycle(&snap, &log, self.rng.u64(..));
        let what = |e| format!("a snapshot of {zxid} was told to be durable, then power fails: {e}");
        for name in snap.names().iter().filter(|name| name.starts_with("log.")) {
            snap.remove(name).map_err(|e| what(e.to_string()))?;
        }
        let r = node::recover(&mut snap.clone(), &mut snap).map_err(|e| what(e.to_string()))?;
        let mut sessions: Vec<(SessionId, i32)> = r.sessions.into_iter().collect();
        sessions.sort_unstable();
        self.history.compare(&r.state, &sessions, zxid).map_err(what)
    }

    /// Checks what would happen if power failed now: recovers from a copy of the disks and compares.
    pub(super) fn peek(&mut self, n: usize, least: Zxid) -> Result<(), String> {
        self.summary.peeks += 1;
        let (mut snap, mut log) = self.nodes[n].fork_disks();
        if self.rng.bool() {
            let seed = self.rng.u64(..);
            cycle(&snap, &log, seed);
        } else {
            snap.restart();
            log.restart();
        }
        let r = node::recover(&mut snap, &mut log).map_err(|e| format!("power fails now: {e}"))?;
        let mut sessions: Vec<(SessionId, i32)> = r.sessions.into_iter().collect();
        sessions.sort_unstable();
        self.history.compare(&r.state, &sessions, least).map_err(|e| format!("power fails now: {e}"))?;
        if r.report.digest_mismatches.iter().any(|mismatch| !self.history.is_blurred(mismatch.zxid)) {
            return Err(format!("power fails now: digests differ in replay: {:?}", r.report.digest_mismatches));
        }
        Ok(())
    }
}

/// A power failure, for one directory or two.
fn cycle(snap: &TestDisk, log: &TestDisk, seed: u64) {
    snap.power_cycle(seed);
    // If both handles are of the same directory, the second failure loses nothing more: what is left is durable.
    log.power_cycle(seed.wrapping_add(1));
}
