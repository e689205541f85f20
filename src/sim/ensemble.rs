//! What several servers of a world do that one alone does not: their connections, and the faults of these.

use super::apache::{self, Passing};
use super::clock::Clock;
use super::members::Ensemble;
use super::mesh::Mesh;
use super::process::Reached;
use super::swarm::Trouble;
use super::world::World;
use crate::peer::net::{ElectionWant, NetWant, QuorumWant};
use crate::txnlog::names::snapshot_name;
use crate::types::Zxid;

/// The steps of members.
impl World {
    pub(super) fn ens(&mut self) -> &mut Ensemble {
        self.ensemble.as_mut().expect("only members have an ensemble")
    }

    /// Something happens in an ensemble, perhaps to this member.
    pub(super) fn member_step(&mut self, n: usize) -> Result<(), String> {
        let Some(ensemble) = &self.ensemble else { return Ok(()) };
        let (is_stopped, calmness) = (ensemble.members[n].stopped_until > self.now_ms, ensemble.calmness);
        match self.rng.u32(..100) {
            0..12 => self.client_step(),
            12..38 => self.mesh_step(),
            38..46 => self.time_step(n),
            _ if is_stopped => Ok(()),
            46..60 => self.shard_step(n),
            60..82 => self.peer_turn(n, Reached::Some),
            82..93 => self.log_step(n),
            93..95 => self.snapshot_step(n),
            95..97 => self.feed_step(n),
            _ if self.rng.u32(..calmness) > 0 => Ok(()),
            _ => self.trouble(n),
        }
    }

    /// Something passes between members.
    fn mesh_step(&mut self) -> Result<(), String> {
        let World { ensemble, rng, .. } = self;
        ensemble.iter_mut().for_each(|ensemble| _ = ensemble.mesh.step(rng));
        self.spread();
        Ok(())
    }

    /// One step of the reader of a member's disk.
    pub(super) fn feed_step(&mut self, n: usize) -> Result<(), String> {
        let Some(process) = &mut self.nodes[n].process else { return Ok(()) };
        if let Err(why) = process.feed_step() {
            self.trace.line(format_args!("server {n} cannot read for a learner: {why}"));
        }
        // It only reads: no fault but the end of the process can meet it.
        self.after_disk(n, "feeder", Ok(()))
    }

    /// Everything passes that can.
    pub(super) fn mesh_all(&mut self) {
        let World { ensemble, rng, .. } = self;
        let Some(ensemble) = ensemble else { return };
        for _ in 0..10_000 {
            if !ensemble.mesh.step(rng) {
                break;
            }
        }
        self.spread();
    }

    /// Passes news of connections to the members.
    fn spread(&mut self) {
        let Some(ensemble) = &mut self.ensemble else { return };
        for (n, event) in std::mem::take(&mut ensemble.mesh.events) {
            self.trace.line(format_args!("server {n} is going to hear {event:?}"));
            if let Some(process) = &mut self.nodes[n].process {
                process.hear_net(event);
            }
        }
    }

    /// A member's dials that are not answered.
    pub(super) fn mesh_tick(&mut self, n: usize, clock: Clock) {
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.mesh.tick(n, clock.now().mono_ms);
            self.spread();
        }
    }

    /// A fault of the network, or of a member's process.
    pub(super) fn net_trouble(&mut self, n: usize, trouble: Trouble) {
        let count = self.nodes.len();
        let World { ensemble: Some(ensemble), rng, .. } = self else { return };
        self.summary.net_faults += 1;
        match trouble {
            Trouble::OneWay => {
                let (from, to) = (rng.usize(..count), rng.usize(..count));
                self.trace.line(format_args!("nothing passes from {from} to {to}"));
                ensemble.mesh.block(from, to, true);
            }
            Trouble::Split => {
                let side: Vec<bool> = (0..count).map(|_| rng.bool()).collect();
                self.trace.line(format_args!("the network falls apart: {side:?}"));
                for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
                    ensemble.mesh.block(from, to, side[from] != side[to]);
                }
            }
            Trouble::Heal => {
                self.trace.line(format_args!("everything passes again"));
                ensemble.mesh.heal();
            }
            Trouble::Break => ensemble.mesh.break_one(rng),
            Trouble::Pause => {
                let ms = rng.i64(1..3000);
                self.trace.line(format_args!("the process of {n} stands still for {ms} ms"));
                ensemble.members[n].stopped_until = self.now_ms + ms;
            }
            other => unreachable!("{other:?} is no fault of the network"),
        }
        self.spread();
    }

    /// Whether this is written on a connection on which a snapshot is being sent.
    pub(super) fn sends_image(&self, n: usize, want: &NetWant) -> bool {
        let NetWant::Quorum { want: QuorumWant::Write { conn, .. }, .. } = want else { return false };
        self.ensemble.as_ref().is_some_and(|ensemble| ensemble.members[n].sends_image.contains(conn))
    }

    /// What a member wants of its connections happens, or begins to. An Apache-like one says more than that.
    pub(super) fn pass_on(&mut self, n: usize, want: NetWant, was_in_image: bool) {
        let now_ms = self.nodes[n].clock.now().mono_ms;
        let is_in_image = self.sends_image(n, &want);
        let World { ensemble: Some(ensemble), history, rng, .. } = self else { return };
        let Ensemble { apache, mesh, members, .. } = ensemble;
        let (conn, extra) = match (&mut apache[n], &want) {
            (Some(apache), NetWant::Election(ElectionWant::Write { conn, bytes })) => {
                (*conn, apache.votes(n, *conn, bytes, mesh))
            }
            (Some(_), NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. }) if Mesh::dialled(*conn) => {
                (*conn, apache::follows(bytes, members[n].durable))
            }
            (Some(apache), NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. }) => {
                let passing = match (was_in_image, is_in_image) {
                    (false, _) => Passing::Packets,
                    (true, true) => Passing::Image,
                    (true, false) => Passing::EndOfImage,
                };
                (*conn, apache.leads(*conn, bytes, passing, history, rng))
            }
            _ => return mesh.want(n, now_ms, want),
        };
        mesh.add(n, conn, &extra.before);
        mesh.want(n, now_ms, want);
        mesh.add(n, conn, &extra.after);
    }

    /// The newest snapshot of an Apache-like member turns out to be fuzzy.
    pub(super) fn blur(&mut self, n: usize, done: Option<Zxid>) {
        let Some(ensemble) = &mut self.ensemble else { return };
        let Some(apache) = &mut ensemble.apache[n] else { return };
        apache.newest = done.or(apache.newest);
        let Some((zxid, process)) = apache.newest.zip(self.nodes[n].process.as_ref()) else { return };
        if self.rng.u32(..8) > 0 {
            return;
        }
        // It was walked while something was applied that a quorum has: nothing else is applied on Apache.
        let later = process.tree().last_zxid();
        if later <= zxid || !self.history.is_committed(later) || !self.history.contains(later, zxid) {
            return;
        }
        apache.newest = None;
        let options = self.nodes[n].options.snapshot();
        if self.nodes[n].snap.names().contains(&snapshot_name(zxid, options.compression)) {
            self.trace.line(format_args!("server {n} has a snapshot of {zxid} that shows some of {later}"));
            let at = if self.rng.bool() { zxid } else { later };
            let (sessions, trees) = (self.history.sessions_at(at), [zxid, later].map(|z| self.history.model_at(z)));
            apache::make_fuzzy(&self.nodes[n].snap, (zxid, options), &sessions, (&trees[0], &trees[1]), &mut self.rng);
            self.history.blurred(zxid, later);
        }
    }

    /// No more faults of the network.
    pub(super) fn mesh_rest(&mut self) {
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.mesh.heal();
            ensemble.members.iter_mut().for_each(|member| member.stopped_until = 0);
        }
    }
}
