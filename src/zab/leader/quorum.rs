//! Which quorums decide about a zxid, and what they have acknowledged. Mirrors `SyncedLearnerTracker` and the pairs of
//! verifier and ack set in `Leader.Proposal`.

use std::sync::Arc;

use crate::quorum::{Members, PeerAddress, Servers};
use crate::types::{ServerId, Zxid};
use crate::zab::election::Electorate;

/// A configuration and the zxids that need a quorum of it.
#[derive(Debug)]
struct Config {
    members: Arc<Members>,
    from: Zxid,
    /// The last one, if a newer configuration is in force.
    until: Option<Zxid>,
}

/// The configurations that decide, and how far each server has acknowledged. Acks are cumulative.
#[derive(Debug)]
pub(super) struct Quorums {
    /// Oldest first: those no longer in force that some outstanding proposals still need, the one in force, and perhaps one that
    /// is proposed.
    configs: Vec<Config>,
    /// Of those the one in force.
    active: usize,
    acked: Vec<(ServerId, Zxid)>,
}

impl Quorums {
    /// The configuration in force, and the one that may follow, decide about everything behind `last`.
    pub(super) fn new(electorate: &Electorate, last: Zxid) -> Quorums {
        let mut configs = vec![Config { members: Arc::clone(&electorate.members), from: last, until: None }];
        let version = electorate.members.version();
        let next = electorate.next.as_ref().filter(|next| next.version() > version);
        configs.extend(next.map(|next| Config { members: Arc::clone(next), from: last, until: None }));
        assert!(configs.len() <= 2, "{} configurations at the beginning", configs.len());
        Quorums { configs, active: 0, acked: Vec::new() }
    }

    /// The epoch begins with this zxid.
    pub(super) fn begin(&mut self, zeroth: Zxid) {
        assert!(self.configs.iter().all(|config| config.from < zeroth), "{zeroth} begins an epoch inside another");
        self.configs.iter_mut().for_each(|config| config.from = zeroth);
        assert!(self.acked.is_empty(), "something is acknowledged before the epoch begins: {:?}", self.acked);
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Members {
        &self.configs[self.active].members
    }

    /// The zxid of the configuration that is proposed and not in force.
    pub(super) fn pending(&self) -> Option<Zxid> {
        self.configs.get(self.active + 1).map(|config| config.from)
    }

    /// A configuration was proposed at `zxid`.
    pub(super) fn propose(&mut self, members: Arc<Members>, zxid: Zxid) {
        assert!(self.pending().is_none(), "a reconfig is proposed at {zxid} behind one that is not committed");
        assert!(
            members.version() > self.current().version(),
            "the version of the members falls to {}",
            members.version()
        );
        self.configs.push(Config { members, from: zxid, until: None });
    }

    /// The proposed configuration comes into force; what was proposed until now needs the old one too.
    pub(super) fn activate(&mut self, last_proposed: Zxid) {
        assert!(self.pending().is_some(), "no configuration is proposed that could come into force");
        self.configs[self.active].until = Some(last_proposed);
        self.active += 1;
    }

    /// Everything up to `zxid` is committed.
    pub(super) fn committed(&mut self, zxid: Zxid) {
        while self.active > 0 && self.configs[0].until.is_some_and(|until| until <= zxid) {
            self.configs.remove(0);
            self.active -= 1;
        }
    }

    /// Whether `set` is a quorum of the configuration in force and of the proposed one.
    pub(super) fn all_have(&self, set: &Servers) -> bool {
        self.configs[self.active..].iter().all(|config| config.members.contains_quorum(set))
    }

    /// A server has everything up to `zxid`. Returns whether that is new.
    pub(super) fn ack(&mut self, server: ServerId, zxid: Zxid) -> bool {
        match self.acked.iter_mut().find(|(known, _)| *known == server) {
            Some((_, acked)) if zxid <= *acked => false,
            Some((_, acked)) => {
                *acked = zxid;
                true
            }
            None => {
                self.acked.push((server, zxid));
                true
            }
        }
    }

    /// What a server acknowledged no longer counts.
    pub(super) fn forget(&mut self, server: ServerId) {
        self.acked.retain(|(known, _)| *known != server);
    }

    fn has(&self, server: ServerId, zxid: Zxid) -> bool {
        self.acked.iter().any(|(known, acked)| *known == server && *acked >= zxid)
    }

    /// The servers that have everything up to `zxid`.
    pub(super) fn holders(&self, zxid: Zxid) -> Servers {
        self.acked.iter().filter(|(_, acked)| *acked >= zxid).map(|(server, _)| *server).collect()
    }

    /// The greatest zxid such that it, and all between `committed` and it, are held by quorums of every configuration that
    /// decides about them; or `committed`.
    pub(super) fn commit_point(&self, committed: Zxid) -> Zxid {
        let points = self.configs.iter().map(|config| {
            let held = self.held_by(&config.members, committed);
            match config.until {
                Some(until) if held >= until => Zxid(i64::MAX),
                // Before its first zxid it has no say.
                _ => held.max(Zxid(config.from.0 - 1)),
            }
        });
        let point = points.min().unwrap_or(committed).max(committed);
        assert!(point < Zxid(i64::MAX), "no configuration decides: {self:?}");
        point
    }

    /// The greatest zxid that a quorum of these members has; `least` if that is not greater.
    fn held_by(&self, members: &Members, least: Zxid) -> Zxid {
        let mut point = least;
        for (_, zxid) in &self.acked {
            if *zxid > point && members.verifier().contains_quorum_by(|server| self.has(server, *zxid)) {
                point = *zxid;
            }
        }
        point
    }

    /// Who leads when the proposed configuration comes into force: `me`, if it votes there under the same address, or else of
    /// those that have it the one that has acknowledged most.
    pub(super) fn designated(&self, me: ServerId, holders: &Servers) -> ServerId {
        let Some(next) = self.configs.get(self.active + 1).map(|config| &config.members) else { return me };
        let address = |members: &Members| {
            let quorum_address = |a: &PeerAddress| (a.host.clone(), a.quorum_port);
            members.get(me).map(|member| member.addresses.iter().map(quorum_address).collect::<Vec<_>>())
        };
        if next.voters().contains(&me) && address(next) == address(self.current()) {
            return me;
        }
        let acked = |server: ServerId| self.acked.iter().find(|(known, _)| *known == server).map(|(_, acked)| *acked);
        let can_lead = |server: &ServerId| *server != me && next.verifier().weight(*server) > 0;
        let voters = holders.iter().copied().filter(|server| next.voters().contains(server) && can_lead(server));
        // Of several the smallest id.
        voters.rev().max_by_key(|server| acked(*server)).unwrap_or(me)
    }

    /// Its invariants.
    pub(super) fn check(&self, last_proposed: Zxid) {
        assert!(self.active < self.configs.len() && self.configs.len() <= self.active + 2, "{self:?}");
        for config in &self.configs {
            config.members.check();
            assert!(config.from <= last_proposed, "a configuration from {}, behind {last_proposed}", config.from);
        }
        let retired = &self.configs[..self.active];
        assert!(retired.iter().all(|config| config.until.is_some_and(|until| until >= config.from)), "{retired:?}");
        assert!(self.configs[self.active..].iter().all(|config| config.until.is_none()), "{self:?}");
        assert!(self.acked.iter().all(|(_, zxid)| *zxid <= last_proposed), "an ack of what was not proposed: {self:?}");
    }
}
