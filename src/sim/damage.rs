//! Disks that lose what was durable: flipped bits, and members whose directory is lost. No ensemble survives more of that than its
//! quorums can bear, so a member loses something only while a quorum of the others has all of it.

use super::members::{Ensemble, Member};
use super::node;
use super::world::World;
use crate::oracle::test_disk::TestDisk;
use crate::txnlog::epoch::read_epoch;
use crate::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::txnlog::recovery::RecoveryError;
use crate::types::{Epoch, SessionId, Zxid};

impl World {
    /// Flips a bit of a file on a copy of the disks: recovery must report it, or succeed without that file. Only the
    /// very last batch of the log may be taken for a torn one, and only if no end mark follows.
    pub(super) fn bit_rot(&mut self, n: usize) -> Result<(), String> {
        self.summary.peeks += 1;
        let (mut snap, mut log) = self.nodes[n].fork_disks();
        snap.restart();
        log.restart();
        let disk = if self.rng.bool() { &snap } else { &log };
        let Some(flip) = flip(disk, &mut self.rng) else { return Ok(()) };
        let Flip { name, at, bit } = &flip;
        self.trace.line(format_args!("bit {bit} of byte {at} of {name} flips"));
        let r = match node::recover(&mut snap, &mut log) {
            Ok(r) => r,
            Err(RecoveryError::Io { path, error }) => return Err(format!("bit rot: {path}: {error}")),
            Err(_) => return Ok(()),
        };
        let torn = self.nodes[n].syncs.len().checked_sub(2).map_or(Zxid::ZERO, |i| self.nodes[n].syncs[i]);
        let known = torn.max(self.nodes[n].marked);
        let least = if name.starts_with("log.") { self.least(n).min(known) } else { self.least(n) };
        let mut sessions: Vec<(SessionId, i32)> = r.sessions.into_iter().collect();
        sessions.sort_unstable();
        let what = |e| format!("bit {bit} of byte {at} of {name} is flipped: {e}");
        self.history.compare(&r.state, &sessions, least).map_err(what)
    }

    /// A member's directory is lost, and it starts with an empty one.
    pub(super) fn wipe(&mut self, n: usize) -> Result<(), String> {
        if !self.may_lose(n) {
            return Ok(());
        }
        self.kill(n, "killed, and its directory is lost")?;
        self.lose(n);
        self.nodes[n].wipe();
        Ok(())
    }

    /// A bit flips on a member's disk while it is down. If it does not start any more, its directory is replaced by an empty one.
    pub(super) fn damage(&mut self, n: usize) -> Result<(), String> {
        if self.nodes[n].process.is_some() || !self.may_lose(n) {
            return Ok(());
        }
        let disk = if self.rng.bool() { &self.nodes[n].snap } else { &self.nodes[n].log };
        let Some(Flip { name, at, bit }) = flip(disk, &mut self.rng) else { return Ok(()) };
        self.trace.line(format_args!("bit {bit} of byte {at} of {name} of server {n} flips"));
        self.lose(n);
        self.nodes[n].is_damaged = true;
        Ok(())
    }

    /// From now on nothing is expected of this member's disks.
    fn lose(&mut self, n: usize) {
        self.summary.wiped += 1;
        let member = &mut self.ens().members[n];
        *member = Member { stopped_until: member.stopped_until, lost: true, ..Member::default() };
        let node = &mut self.nodes[n];
        node.syncs.clear();
        node.marked = Zxid::ZERO;
    }

    /// Whether everything that this member may have acknowledged or promised is with a quorum of the others, so that any future
    /// quorum knows it. An observer promises nothing.
    fn may_lose(&self, n: usize) -> bool {
        let Some(ensemble) = &self.ensemble else { return false };
        if !ensemble.is_voter(n) {
            return true;
        }
        let epoch = |name| read_epoch(&self.nodes[n].snap, name).map(|epoch| epoch.unwrap_or(Epoch(0)));
        let (Ok(accepted), Ok(current)) = (epoch(ACCEPTED_EPOCH), epoch(CURRENT_EPOCH)) else { return false };
        let Ensemble { members, .. } = ensemble;
        let (history, committed, mine) = (&self.history, self.history.last(), members[n].durable);
        ensemble.has_quorum(|other| {
            let leads = other.leads.unwrap_or(Epoch(0));
            // Whoever has no history and may not begin one has no vote either.
            let has_history = !other.lost || other.durable > Zxid::ZERO;
            !std::ptr::eq(other, &members[n])
                && has_history
                && history.contains(other.durable, mine)
                && history.contains(other.durable, committed)
                && other.accepted.max(leads) >= accepted
                && other.current.max(leads) >= current
        })
    }
}

/// A bit that has flipped.
struct Flip {
    name: String,
    at: usize,
    bit: u32,
}

/// Flips a bit somewhere. Files of epochs are spared: they are a number as text, and one digit is as good as another.
fn flip(disk: &TestDisk, rng: &mut fastrand::Rng) -> Option<Flip> {
    let names: Vec<String> = disk.names().into_iter().filter(|name| !name.contains("Epoch")).collect();
    if names.is_empty() {
        return None;
    }
    let name = names[rng.usize(..names.len())].clone();
    let len = disk.bytes(&name).len();
    if len == 0 {
        return None;
    }
    let (at, bit) = (rng.usize(..len), rng.u32(..8));
    disk.damage(&name, |bytes| bytes[at] ^= 1 << bit);
    Some(Flip { name, at, bit })
}
