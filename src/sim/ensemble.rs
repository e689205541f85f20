//! What several servers of a world have with each other: their connections, the faults of these, and what each member has said
//! and must keep.

use std::collections::BTreeSet;

use super::clock::Clock;
use super::mesh::Mesh;
use super::node::Booted;
use super::process::{Process, Proposed, Reached};
use super::said::{self, Said};
use super::world::{Options, World};
use crate::peer::EnsembleOptions;
use crate::peer::net::{ElectionWant, NetWant, QuorumWant};
use crate::quorum::{Member as Line, Members, Role};
use crate::txnlog::epoch::read_epoch;
use crate::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::types::{ConnId, Epoch, ServerId, Zxid};
use crate::zab::election::{Electorate, Timing};
use crate::zab::history::HistoryLimits;
use crate::zab::leader::LeaderOptions;
use crate::zab::sync_plan::SyncPolicy;

/// `tickTime` of members in milliseconds.
pub(super) const TICK_MS: i32 = 200;

/// Most bytes of a packet's data.
const PACKET_LIMIT: usize = 4 << 20;

/// What the world knows of a member.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// The end of its log.
    appended: Zxid,
    /// Its history contains at least this, whatever happens.
    pub(super) durable: Zxid,
    /// Where its durable history has ended since the start: votes are sent late, and again.
    ends: BTreeSet<Zxid>,
    /// The epochs that it has said it accepted and is in.
    accepted: Epoch,
    current: Epoch,
    /// The epoch in which it is the established leader.
    leads: Option<Epoch>,
    /// Its process is stopped until then, in true time.
    stopped_until: i64,
}

/// All members.
pub(super) struct Ensemble {
    pub(super) mesh: Mesh,
    electorate: Electorate,
    pub(super) members: Vec<Member>,
    /// Settings that are the same everywhere.
    timing: Timing,
    sync: SyncPolicy,
    history: HistoryLimits,
    leader_serves: bool,
    /// One of so many chances for a fault is taken.
    calmness: u32,
}

impl Ensemble {
    /// Members that have done nothing yet.
    pub(super) fn new(options: Options, rng: &mut fastrand::Rng) -> Ensemble {
        let count = options.members + options.observers;
        let line = |n: usize| {
            let role = if n < options.members { "participant" } else { "observer" };
            let text = format!("10.0.0.{}:2888:3888:{role}", n + 1);
            (ServerId(n as i64 + 1), Line::parse(&text).expect("a line of a configuration"))
        };
        let members = Members::majority((0..count).map(line).collect(), Zxid::ZERO).expect("an ensemble");
        let electorate = Electorate { members: members.into(), next: None };
        let timing = Timing {
            min_interval_ms: rng.i64(10..60),
            max_interval_ms: rng.i64(100..600),
            finalize_ms: rng.i64(5..60),
        };
        let members = (0..count).map(|_| Member::default()).collect();
        let factor = [-1.0, 0.33, 100.0][rng.usize(..3)];
        let sync = SyncPolicy { force_snapshot: rng.u32(..8) == 0, snapshot_size_factor: factor };
        let history = HistoryLimits { count: rng.usize(1..60), bytes: 1 << rng.u32(8..20) };
        let leader_serves = rng.u32(..4) > 0;
        let (mesh, calmness) = (Mesh::new(count), 1 << rng.u32(..6));
        Ensemble { mesh, electorate, members, timing, sync, history, leader_serves, calmness }
    }

    /// The settings of a member.
    pub(super) fn options(&self, n: usize) -> EnsembleOptions {
        let role = if self.is_voter(n) { Role::Participant } else { Role::Observer };
        EnsembleOptions {
            role,
            electorate: self.electorate.clone(),
            timing: self.timing,
            all_addresses: false,
            hello_timeout_ms: 300,
            init_ms: 10 * i64::from(TICK_MS),
            sync_ms: 5 * i64::from(TICK_MS),
            packet_limit: PACKET_LIMIT,
            leader: LeaderOptions { tick_ms: i64::from(TICK_MS), ..LeaderOptions::default() },
            sync: self.sync,
            history: self.history,
            leader_serves: self.leader_serves,
            read_only_after_ms: None,
        }
    }

    fn is_voter(&self, n: usize) -> bool {
        self.electorate.members.voters().contains(&ServerId(n as i64 + 1))
    }

    fn has_quorum(&self, has: impl Fn(&Member) -> bool) -> bool {
        let members = &self.members;
        self.electorate.members.verifier().contains_quorum_by(|server| has(&members[server.0 as usize - 1]))
    }
}

/// The steps of members.
impl World {
    fn ens(&mut self) -> &mut Ensemble {
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
    pub(super) fn net_trouble(&mut self, n: usize) -> Result<(), String> {
        let count = self.nodes.len();
        let World { ensemble: Some(ensemble), rng, .. } = self else { return Ok(()) };
        self.summary.net_faults += 1;
        match rng.u32(..60) {
            0..3 => {
                let (from, to) = (rng.usize(..count), rng.usize(..count));
                self.trace.line(format_args!("nothing passes from {from} to {to}"));
                ensemble.mesh.block(from, to, true);
            }
            3..5 => {
                let side: Vec<bool> = (0..count).map(|_| rng.bool()).collect();
                self.trace.line(format_args!("the network falls apart: {side:?}"));
                for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
                    ensemble.mesh.block(from, to, side[from] != side[to]);
                }
            }
            5..12 => {
                self.trace.line(format_args!("everything passes again"));
                ensemble.mesh.heal();
            }
            12..15 => ensemble.mesh.break_one(rng),
            15..17 => {
                let ms = rng.i64(1..3000);
                self.trace.line(format_args!("the process of {n} stands still for {ms} ms"));
                ensemble.members[n].stopped_until = self.now_ms + ms;
            }
            _ => self.summary.net_faults -= 1,
        }
        self.spread();
        Ok(())
    }

    /// No more faults of the network.
    pub(super) fn mesh_rest(&mut self) {
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.mesh.heal();
            ensemble.members.iter_mut().for_each(|member| member.stopped_until = 0);
        }
    }

    /// A process has started: it has kept what it promised.
    pub(super) fn member_started(&mut self, n: usize, booted: &Booted) -> Result<(), String> {
        let Some((ensemble, epochs)) = self.ensemble.as_mut().zip(booted.epochs) else { return Ok(()) };
        ensemble.mesh.up(n);
        let member = &mut ensemble.members[n];
        if epochs.accepted < member.accepted || epochs.current < member.current {
            return Err(format!("server {n} starts with {epochs:?}, it promised {member:?}"));
        }
        (member.appended, member.durable, member.leads) = (booted.last, booted.last, None);
        member.ends = [booted.last].into();
        Ok(())
    }

    /// A member has had a turn, in which it appended this.
    pub(super) fn member_did(&mut self, n: usize, proposed: &[Proposed]) -> Result<(), String> {
        let server = self.nodes[n].server();
        let now = self.nodes[n].clock.now();
        self.took_office(n)?;
        for p in proposed {
            let before = self.ens().members[n].appended;
            if self.history.append(p, server, before, now)? {
                self.note_proposal(n, p);
            }
            self.ens().members[n].appended = p.append.zxid;
        }
        self.committed(n)?;
        let process = self.nodes[n].process.as_mut().expect("it had a turn");
        let cut = process.cut.take();
        let wants = process.net_wants();
        if let Some(to) = cut {
            let member = &mut self.ens().members[n];
            member.durable = member.durable.min(to);
        }
        for want in wants {
            self.trace.line(format_args!("server {n} wants {want:?}"));
            self.check_said(n, &want)?;
            if let (NetWant::Quorum { want: QuorumWant::Close { conn }, .. }, Some(process)) =
                (&want, &mut self.nodes[n].process)
            {
                process.forget(*conn);
            }
            self.ens().mesh.want(n, now.mono_ms, want);
        }
        Ok(())
    }

    /// A member may have become the established leader in its turn, or have stepped down.
    fn took_office(&mut self, n: usize) -> Result<(), String> {
        let leads = self.nodes[n].process.as_ref().and_then(|process| process.peer().leads());
        let server = self.nodes[n].server();
        let member = &self.ens().members[n];
        let (before, appended) = (member.leads, member.appended);
        if leads == before {
            return Ok(());
        }
        if let Some(epoch) = before {
            self.trace.line(format_args!("server {n} leads no longer in {epoch:?}"));
            self.commit_what_is_chosen(n, epoch)?;
        }
        if let Some(epoch) = leads {
            self.trace.line(format_args!("server {n} is established in {epoch:?} with {appended}"));
            self.summary.leaders += 1;
            self.history.established(epoch, server, appended)?;
            let is_known = |member: &Member| member.current >= epoch;
            let least = self.history.last();
            let ens = self.ensemble.as_ref().expect("members");
            if !ens.has_quorum(|member| {
                is_known(member) || member.leads == Some(epoch) || std::ptr::eq(member, &ens.members[n])
            }) {
                return Err(format!(
                    "server {n} is established in {epoch:?}, a quorum is not in it: {:?}",
                    ens.members
                ));
            }
            if !ens.has_quorum(|member| self.history.contains(member.durable, least)) {
                return Err(format!("{least} is committed, a quorum does not have it: {:?}", ens.members));
            }
        }
        self.ens().members[n].leads = leads;
        Ok(())
    }

    /// A leader has stepped down. In its last turn it may have committed more than it could be asked about: that is in a
    /// quorum's logs.
    fn commit_what_is_chosen(&mut self, n: usize, epoch: Epoch) -> Result<(), String> {
        let World { ensemble: Some(ensemble), history, .. } = self else { return Ok(()) };
        let mut ends: Vec<Zxid> = ensemble.members.iter().map(|member| member.durable).collect();
        ends.retain(|end| end.epoch() == epoch && history.contains(ensemble.members[n].appended, *end));
        ends.sort_unstable();
        let chosen = ends.into_iter().rev().find(|end| ensemble.has_quorum(|m| history.contains(m.durable, *end)));
        chosen.map_or(Ok(()), |end| history.commit(end))
    }

    /// The leader may have committed something in its turn: a quorum has it on its disks.
    fn committed(&mut self, n: usize) -> Result<(), String> {
        let World { ensemble: Some(ensemble), history, nodes, .. } = self else { return Ok(()) };
        let Some(process) = nodes[n].process.as_ref().filter(|_| ensemble.members[n].leads.is_some()) else {
            return Ok(());
        };
        let zxid = process.peer().committed();
        if zxid <= history.last() {
            return history.commit(zxid);
        }
        if !ensemble.has_quorum(|member| history.contains(member.durable, zxid)) {
            return Err(format!("server {n} commits {zxid}, a quorum does not have it: {:?}", ensemble.members));
        }
        history.commit(zxid)
    }

    /// A member's log has had a step.
    pub(super) fn log_did(&mut self, n: usize, is_well: bool) {
        let World { ensemble: Some(ensemble), nodes, summary, .. } = self else { return };
        let Some(process) = nodes[n].process.as_mut().filter(|_| is_well) else { return };
        let member = &mut ensemble.members[n];
        if let Some(last) = process.replaced.take() {
            summary.replaced += 1;
            (member.appended, member.durable) = (last, last);
        }
        member.durable = member.durable.max(process.durable());
        member.ends.insert(member.durable);
    }

    /// What a member says to others must be true.
    fn check_said(&mut self, n: usize, want: &NetWant) -> Result<(), String> {
        let said = match want {
            NetWant::Election(ElectionWant::Write { conn, bytes }) => {
                match self.ens().mesh.written(n, *conn) {
                    // The hello.
                    Some(0) if Mesh::dialled(*conn) => return Ok(()),
                    Some(_) => said::vote(self.nodes[n].server(), bytes)?,
                    // It has broken meanwhile.
                    None => return Ok(()),
                }
            }
            NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. } if Mesh::dialled(*conn) => {
                said::to_leader(bytes, PACKET_LIMIT)?
            }
            _ => return Ok(()),
        };
        said.iter().try_for_each(|said| self.check_one(n, *conn_of(want), said))
    }

    fn check_one(&mut self, n: usize, conn: ConnId, said: &Said) -> Result<(), String> {
        let false_ = |why: &str| Err(format!("server {n} says {said:?} on {conn:?}: {why}"));
        let World { ensemble: Some(ensemble), history, rng, nodes, .. } = self else { return Ok(()) };
        let member = &mut ensemble.members[n];
        let mut epoch = |name: &str| {
            let disk = nodes[n].snap.fork();
            disk.power_cycle(rng.u64(..));
            read_epoch(&disk, name).map_err(|e| e.to_string()).map(|epoch| epoch.unwrap_or(Epoch(0)))
        };
        match *said {
            Said::Vote { zxid, epoch: current } => {
                let saved = epoch(CURRENT_EPOCH)?;
                let was_true = member.ends.iter().any(|end| history.same(*end, zxid));
                // A leader that was restarted before its followers noticed takes their old votes for it.
                if current > saved || !was_true && !history.contains(member.durable, zxid) {
                    return false_(&format!("it is in {saved:?} with {}", member.durable));
                }
            }
            Said::Accepted { accepted } => {
                member.accepted = member.accepted.max(accepted);
                let saved = epoch(ACCEPTED_EPOCH)?;
                if saved < accepted {
                    return false_(&format!("only {saved:?} is durable"));
                }
            }
            Said::EpochAck { last } => {
                member.accepted = epoch(ACCEPTED_EPOCH)?;
                if !history.same(last, member.durable) {
                    return false_(&format!("its history ends at {}", member.durable));
                }
            }
            Said::Ack(zxid) if zxid.counter() == 0 => {
                member.current = zxid.epoch();
                let saved = epoch(CURRENT_EPOCH)?;
                if saved < zxid.epoch() {
                    return false_(&format!("only {saved:?} is durable"));
                }
                let synced = history.before_epoch(member.appended, zxid.epoch());
                if !history.contains(member.durable, synced) {
                    return false_(&format!("of {synced} only {} is durable", member.durable));
                }
            }
            Said::Ack(zxid) => {
                if !history.contains(member.durable, zxid) {
                    return false_(&format!("only {} is durable", member.durable));
                }
            }
        }
        Ok(())
    }

    /// Whether every member serves, with everything that is committed.
    pub(super) fn is_in_step(&self) -> bool {
        let last = self.history.last();
        let serves = |process: &Process| process.is_serving() || process.peer().leads().is_some();
        let is_well = |process: &Process| serves(process) && self.history.same(process.tree().last_zxid(), last);
        self.ensemble.is_none() || self.nodes.iter().all(|node| node.process.as_ref().is_some_and(is_well))
    }
}

fn conn_of(want: &NetWant) -> &ConnId {
    match want {
        NetWant::Election(ElectionWant::Write { conn, .. })
        | NetWant::Quorum { want: QuorumWant::Write { conn, .. }, .. } => conn,
        other => panic!("{other:?} says nothing"),
    }
}
