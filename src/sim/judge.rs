//! What members do and say must be true: checked whenever one has had a turn, has written to its log, or has started.

use super::members::Member;
use super::mesh::Mesh;
use super::node::Booted;
use super::options::PACKET_LIMIT;
use super::process::{Process, Proposed};
use super::said::{self, Said};
use super::world::World;
use crate::peer::net::{ElectionWant, NetWant, QuorumWant};
use crate::txnlog::names::{ACCEPTED_EPOCH, CURRENT_EPOCH};
use crate::types::{ConnId, Epoch, Zxid};

/// The judge of members.
impl World {
    /// A process has started: it has kept what it promised.
    pub(super) fn member_started(&mut self, n: usize, booted: &Booted) -> Result<(), String> {
        let Some((ensemble, epochs)) = self.ensemble.as_mut().zip(booted.epochs) else { return Ok(()) };
        ensemble.mesh.up(n);
        let member = &mut ensemble.members[n];
        if epochs.accepted < member.accepted || epochs.current < member.kept_current {
            return Err(format!("server {n} starts with {epochs:?}, it promised {member:?}"));
        }
        // Without a log it may have forgotten that it was in a later one.
        member.current = member.current.min(epochs.current);
        (member.appended, member.durable, member.leads) = (booted.last, booted.last, None);
        (member.kept, member.kept_current) = (booted.last, epochs.current);
        member.is_cutting = false;
        member.ends.insert(booted.last);
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
            // From now on what is cut off may be there or not, and what comes instead too. A leader also cuts off what was
            // acknowledged to it on a connection that is gone, and proposes it again.
            let World { history, ensemble: Some(ensemble), .. } = self else { return Ok(()) };
            let member = &mut ensemble.members[n];
            for zxid in [&mut member.durable, &mut member.kept, &mut member.acknowledged] {
                *zxid = history.common(*zxid, to);
            }
            member.is_cutting = true;
        }
        let is_end = |want: &NetWant| matches!(want, NetWant::Quorum { want: QuorumWant::End, .. });
        self.ens().members[n].left = wants.iter().any(is_end);
        for want in wants {
            self.trace.line(format_args!("server {n} wants {want:?}"));
            let was_in_image = self.sends_image(n, &want);
            self.check_said(n, &want)?;
            if let (NetWant::Quorum { want: QuorumWant::Close { conn }, .. }, Some(process)) =
                (&want, &mut self.nodes[n].process)
            {
                process.forget(*conn);
            }
            self.pass_on(n, want, was_in_image);
        }
        let ens = self.ens();
        ens.mesh.check_waiting(n, ens.room)
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

    /// A leader has stepped down. In its last turn it may have committed more than it could be asked about: at most what
    /// a quorum has acknowledged in its epoch. What lies on disks without an acknowledgement may still be cut off.
    fn commit_what_is_chosen(&mut self, n: usize, epoch: Epoch) -> Result<(), String> {
        let World { ensemble: Some(ensemble), history, .. } = self else { return Ok(()) };
        let leader = &ensemble.members[n];
        let held = |member: &Member| if std::ptr::eq(member, leader) { member.durable } else { member.acknowledged };
        let mut ends: Vec<Zxid> = ensemble.members.iter().map(held).collect();
        ends.retain(|end| end.epoch() == epoch && history.contains(leader.appended, *end));
        ends.sort_unstable();
        let is_held = |member: &Member, end: Zxid| held(member).epoch() == epoch && history.contains(held(member), end);
        let chosen = ends.into_iter().rev().find(|end| ensemble.has_quorum(|member| is_held(member, *end)));
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
            (member.appended, member.durable, member.kept, member.is_cutting) = (last, last, last, false);
        }
        member.is_cutting &= !std::mem::take(&mut process.stays);
        if !member.is_cutting {
            member.durable = member.durable.max(process.durable());
        }
        if nodes[n].keeps_log() {
            member.kept = member.durable;
        }
        member.ends.insert(member.durable);
    }

    /// A member has a whole snapshot of this transaction.
    pub(super) fn snapshot_did(&mut self, n: usize, zxid: Zxid) {
        if let Some(ensemble) = &mut self.ensemble {
            let member = &mut ensemble.members[n];
            member.kept = member.kept.max(zxid);
            member.kept_current = member.kept_current.max(zxid.epoch());
        }
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
            NetWant::Quorum { want: QuorumWant::Write { conn, bytes }, .. } => {
                let sends = &mut self.ens().members[n].sends_image;
                let mut in_image = sends.remove(conn);
                let said = said::to_learner(bytes, PACKET_LIMIT, &mut in_image)?;
                if in_image {
                    sends.insert(*conn);
                }
                said
            }
            _ => return Ok(()),
        };
        said.iter().try_for_each(|said| self.check_one(n, *conn_of(want), said))
    }

    fn check_one(&mut self, n: usize, conn: ConnId, said: &Said) -> Result<(), String> {
        let false_ = |why: &str| Err(format!("server {n} says {said:?} on {conn:?}: {why}"));
        let World { ensemble: Some(ensemble), history, rng, nodes, .. } = self else { return Ok(()) };
        let member = &mut ensemble.members[n];
        // Without a log the epoch of its history is in memory only, as the history is.
        let keeps_log = nodes[n].keeps_log();
        let mut epoch = |name: &str| nodes[n].durable_epoch(name, rng);
        match *said {
            Said::Vote { .. } if member.lost => {}
            Said::Vote { zxid, epoch: current } => {
                let saved = epoch(CURRENT_EPOCH)?;
                let was_true = member.ends.iter().any(|end| history.same(*end, zxid));
                // Whoever was restarted, or cut its history, takes others' old votes for it, as long as they are the greater ones.
                if keeps_log && current > saved || !was_true && !history.contains(member.durable, zxid) {
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
                let is_given_up =
                    last == Zxid::NONE && nodes[n].process.as_ref().is_some_and(|process| process.is_uncut);
                if !is_given_up && !history.same(last, member.durable) {
                    return false_(&format!("its history ends at {}", member.durable));
                }
            }
            Said::Ack(zxid) if zxid.counter() == 0 => {
                member.current = zxid.epoch();
                let saved = epoch(CURRENT_EPOCH)?;
                if keeps_log && saved < zxid.epoch() {
                    return false_(&format!("only {saved:?} is durable"));
                }
                if keeps_log {
                    member.kept_current = saved;
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
                member.acknowledged = zxid;
            }
            Said::Leads(leads) => {
                member.named = leads;
                let saved = epoch(ACCEPTED_EPOCH)?;
                if saved < leads {
                    return false_(&format!("only {saved:?} is durable"));
                }
            }
            Said::UpToDate => {
                if member.leads.is_none() && member.left {
                    let last = history.before_epoch(member.appended, member.named);
                    history.established(member.named, nodes[n].server(), last)?;
                } else if member.leads.is_none() {
                    return false_("it is not established");
                }
            }
            // Before that it hands on what older leaders may have committed.
            Said::Committed(zxid) => {
                if member.leads == Some(zxid.epoch()) && !history.is_committed(zxid) {
                    return false_(&format!("only {} is committed", history.last()));
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
