//! What the world knows of the members of an ensemble, and their settings.

use std::collections::BTreeSet;

use super::apache::Apache;
use super::mesh::Mesh;
use super::options::{Crew, PACKET_LIMIT, TICK_MS};
use crate::peer::{EnsembleOptions, LocalSessionOptions};
use crate::quorum::{Member as Line, Members, Role};
use crate::types::{ConnId, Epoch, ServerId, Zxid};
use crate::zab::election::{Electorate, Timing};
use crate::zab::handler::LearnerRoom;
use crate::zab::history::HistoryLimits;
use crate::zab::leader::LeaderOptions;
use crate::zab::sync_plan::SyncPolicy;

/// What the world knows of a member.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// The end of its log.
    pub(super) appended: Zxid,
    /// Its history contains at least this. If it has a log, that holds whatever happens.
    pub(super) durable: Zxid,
    /// A start finds at least this: the same, but without a log only its last snapshot.
    pub(super) kept: Zxid,
    /// Its history is being cut or replaced.
    pub(super) is_cutting: bool,
    /// Where its durable history has ever ended: votes are sent late, and again.
    pub(super) ends: BTreeSet<Zxid>,
    /// The epochs that it has said it accepted and is in.
    pub(super) accepted: Epoch,
    pub(super) current: Epoch,
    /// A start finds it to be in at least this epoch.
    pub(super) kept_current: Epoch,
    /// The newest proposal that it has acknowledged.
    pub(super) acknowledged: Zxid,
    /// The epoch in which it is the established leader.
    pub(super) leads: Option<Epoch>,
    /// It has lost its disks once. Others may still vote for it with what it had, and it takes that for its own.
    pub(super) lost: bool,
    /// The connections on which it is sending a snapshot.
    pub(super) sends_image: BTreeSet<ConnId>,
    /// The epoch that it named as a leader.
    pub(super) named: Epoch,
    /// It has left its role in this turn, in which it may have been established too.
    pub(super) left: bool,
    /// Its process is stopped until then, in true time.
    pub(super) stopped_until: i64,
}

/// All members.
pub(super) struct Ensemble {
    pub(super) mesh: Mesh,
    electorate: Electorate,
    pub(super) members: Vec<Member>,
    /// Those that behave like Apache's.
    pub(super) apache: Vec<Option<Apache>>,
    /// Settings that are the same everywhere.
    timing: Timing,
    sync: SyncPolicy,
    pub(super) room: LearnerRoom,
    history: HistoryLimits,
    leader_serves: bool,
    /// When members without a leader let clients read. No client asks for that, but a role comes and goes with it.
    read_only_after_ms: Option<i64>,
    /// Observers may be without a log (`syncEnabled=false`); with each start one may have another setting.
    pub(super) without_log: bool,
    /// Whether new sessions are local ones, and how.
    pub(super) local: Option<LocalSessionOptions>,
    /// One of so many chances for a fault is taken.
    pub(super) calmness: u32,
}

impl Ensemble {
    /// Members that have done nothing yet.
    pub(super) fn new(crew: Crew, rng: &mut fastrand::Rng) -> Ensemble {
        let count = crew.members + crew.observers;
        let line = |n: usize| {
            let role = if n < crew.members { "participant" } else { "observer" };
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
        let chunk = rng.usize(100..2000);
        let room = LearnerRoom { chunk, queue: chunk + (1 << rng.u32(8..20)) };
        let leader_serves = rng.u32(..4) > 0;
        let (mesh, calmness) = (Mesh::new(count), 2 << rng.u32(..7));
        let some = rng.u32(..3) == 0;
        let apache = (0..count).map(|_| (some && rng.bool()).then(Apache::default)).collect();
        let local = (rng.u32(..4) == 0).then(|| LocalSessionOptions { upgrading: rng.u32(..4) > 0 });
        let read_only_after_ms = (rng.u32(..3) == 0).then(|| rng.i64(20..2000));
        let without_log = crew.observers > 0 && rng.bool();
        Ensemble {
            mesh,
            electorate,
            members,
            without_log,
            local,
            apache,
            timing,
            sync,
            room,
            history,
            leader_serves,
            read_only_after_ms,
            calmness,
        }
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
            room: self.room,
            history: self.history,
            leader_serves: self.leader_serves,
            read_only_after_ms: self.read_only_after_ms,
        }
    }

    /// The text of the configuration.
    pub(super) fn config(&self) -> String {
        self.electorate.members.text()
    }

    pub(super) fn is_voter(&self, n: usize) -> bool {
        self.electorate.members.voters().contains(&ServerId(n as i64 + 1))
    }

    pub(super) fn has_quorum(&self, has: impl Fn(&Member) -> bool) -> bool {
        let members = &self.members;
        self.electorate.members.verifier().contains_quorum_by(|server| has(&members[server.0 as usize - 1]))
    }
}
