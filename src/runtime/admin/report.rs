//! The data that words, admin commands and metrics show, gathered at one moment. Other modules format it.

use std::collections::HashSet;
use std::sync::Arc;

use super::host::Host;
use super::process::Process;
use crate::config::Config;
use crate::peer::role_status::Mode;
use crate::peer::status::{PeerStatus, SessionPlace};
use crate::quorum::Members;
use crate::runtime::clock::Clock;
use crate::runtime::shared::{NoAnswer, Shared};
use crate::session::tracker::ExpiryPlace;
use crate::shard::status::{ConnStatus, ResettableStats, ShardStats, ShardStatus};
use crate::types::{Distribution, Now, SessionId};
use crate::watch::Summary;

/// How long the lists of a report may be. Reports only wait for reports of the same length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// No lists.
    Short,
    /// A list of connections.
    Connections,
    /// Lists of watches, sessions or ephemerals.
    Long,
}

/// The lists that a report includes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wanted {
    /// Every connection.
    pub(super) connections: bool,
    /// Every watch.
    pub(super) watches: bool,
    /// The number of different watched paths. With several shards it takes a list of all watches.
    pub(super) watch_paths: bool,
    /// Every session with its time of expiry, and every ephemeral.
    pub(super) sessions: bool,
}

impl Wanted {
    /// How long the lists may be.
    pub(super) fn length(self) -> Length {
        match self {
            Wanted { watches: true, .. } | Wanted { watch_paths: true, .. } | Wanted { sessions: true, .. } => {
                Length::Long
            }
            Wanted { connections: true, .. } => Length::Connections,
            _ => Length::Short,
        }
    }
}

/// With more watches than this, a path that is watched on several shards is counted once for each of them, because
/// finding the different paths would delay clients.
const FEW_WATCHES: usize = 100_000;

/// The state of the server. The shards are asked first and then the peer core, so values of different cores may be some
/// requests apart.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) now: Now,
    pub(super) config: Arc<Config>,
    pub(super) shards: Vec<ShardStatus>,
    pub(super) peer: PeerStatus,
    /// (session, path), sorted; empty unless requested.
    pub(super) watches: Vec<(SessionId, String)>,
    /// Times of expiry in monotonic milliseconds, with the sessions that expire then (of a learner: timeouts, with the sessions
    /// that have them); empty unless requested.
    pub(super) expiry: Vec<(i64, Vec<SessionId>)>,
    /// The same of the sessions that only this server knows; `None` where there can be none.
    pub(super) local_expiry: Option<Vec<(i64, Vec<SessionId>)>>,
    /// Empty unless requested.
    pub(super) ephemerals: Vec<(SessionId, Vec<String>)>,
    pub(super) host: Host,
    pub(super) process: Option<Process>,
    pub(super) control: Figures,
    /// The state some minutes ago: quantiles are of the time since then. `None`: since the start.
    pub(super) earlier: Option<Arc<Report>>,
}

/// Values that the admin server itself keeps.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Figures {
    /// Stored and shown, with no other effect.
    pub(super) trace_mask: i64,
    /// `snapshot` commands refused for coming too fast.
    pub(super) snapshots_limited: u64,
    /// `snapshot` commands that failed.
    pub(super) snapshots_failed: u64,
    /// Connections refused by a limit.
    pub(super) connections_refused: u64,
    /// How long the start took.
    pub(super) startup: Startup,
}

/// How long the parts of the start took, and how much they read. Each has one value, or none if the part was not done,
/// and none after `srst`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Startup {
    /// Milliseconds for opening the directories and loading snapshot and logs.
    pub load_ms: Distribution,
    /// Milliseconds for loading the snapshot; 0 where there was none.
    pub snapshot_load_ms: Distribution,
    /// Milliseconds for replaying logs.
    pub log_load_ms: Distribution,
    /// Transactions replayed from logs.
    pub replayed: Distribution,
    /// Milliseconds for writing the first snapshot of a new database.
    pub first_snapshot_ms: Distribution,
}

impl Report {
    /// Asks every core.
    ///
    /// # Errors
    /// A core does not answer in time.
    pub(super) fn gather(
        shared: &Shared,
        config: &Arc<Config>,
        wanted: Wanted,
        control: Figures,
    ) -> Result<Report, NoAnswer> {
        let shards = shared.shard_statuses(wanted.connections)?;
        let watches: usize = shards.iter().map(|s| s.watch_count).sum();
        let tell_paths_apart = wanted.watch_paths && shards.len() > 1 && watches <= FEW_WATCHES;
        let watches = if wanted.watches || tell_paths_apart { shared.watches()? } else { Vec::new() };
        let peer = shared.peer_status()?;
        let list = |from| if wanted.sessions { shared.expiries(from) } else { Ok(Vec::new()) };
        let expiry = list(SessionPlace::Global(None))?;
        let local_expiry =
            peer.local_sessions.map(|_| list(SessionPlace::Local(ExpiryPlace::default()))).transpose()?;
        let ephemerals = if wanted.sessions { shared.ephemerals()? } else { Vec::new() };
        let host = Host::look(&config.data_dir.join("version-2"), &config.data_log_dir.join("version-2"));
        Ok(Report {
            now: Clock::now(),
            config: config.clone(),
            shards,
            peer,
            watches,
            expiry,
            local_expiry,
            ephemerals,
            host,
            process: Process::look(),
            control,
            earlier: None,
        })
    }

    /// The sums of the counters of all shards.
    pub(super) fn shard_stats(&self) -> ShardStats {
        let mut all = ShardStats::default();
        self.shards.iter().for_each(|s| all.merge(&s.stats));
        all
    }

    /// The counters that `srst` resets, summed over all shards.
    pub(super) fn since_reset(&self) -> ResettableStats {
        self.shard_stats().since_reset
    }

    /// Requests that are not answered yet.
    pub(super) fn outstanding(&self) -> usize {
        self.shards.iter().map(|s| s.outstanding).sum()
    }

    /// All connections by shard, in the order they were accepted.
    pub(super) fn connections(&self) -> impl Iterator<Item = &ConnStatus> {
        self.shards.iter().flat_map(|s| &s.connections)
    }

    /// The number of connections.
    pub(super) fn connection_count(&self) -> usize {
        self.shards.iter().map(|s| s.connection_count).sum()
    }

    /// The values of `wchs`, over all shards.
    pub(super) fn watch_summary(&self) -> Summary {
        let mut all = Summary::default();
        for s in self.shards.iter().map(|s| &s.watch_summary) {
            all.connections += s.connections;
            all.paths += s.paths;
            all.watches += s.watches;
        }
        if self.shards.len() > 1 && !self.watches.is_empty() {
            all.paths = self.watches.iter().map(|(_, path)| path).collect::<HashSet<_>>().len();
        }
        all
    }

    /// Converts a monotonic time to wall time.
    pub(super) fn wall_of(&self, mono_ms: i64) -> i64 {
        self.now.wall_ms.saturating_add(mono_ms.saturating_sub(self.now.mono_ms))
    }

    /// Milliseconds since the peer core started.
    pub(super) fn uptime_ms(&self) -> i64 {
        self.now.mono_ms - self.peer.stats.started.mono_ms
    }

    /// `server_state`, `Mode`.
    pub(super) fn mode(&self) -> &'static str {
        self.peer.role.mode.word()
    }

    /// The id that `conf` and `configuration` show: a standalone server has none.
    pub(super) fn shown_id(&self) -> i64 {
        self.peer.role.members.as_ref().map_or(0, |_| self.peer.role.me.0)
    }

    /// Whether `expiry` has times of expiry. Only a leader knows them; others have the sessions' timeouts there.
    pub(super) fn tracks_sessions(&self) -> bool {
        !matches!(self.peer.role.mode, Mode::Follower | Mode::Observer | Mode::ReadOnly)
    }

    /// The configuration in force of a member that is in touch with its ensemble. A read-only server shows as little of an ensemble
    /// as one without.
    pub(super) fn members(&self) -> Option<&Members> {
        self.peer.role.members.as_deref().filter(|_| !self.is_read_only())
    }

    /// The leader that an observer follows.
    pub(super) fn observed_leader(&self) -> Option<i64> {
        let role = &self.peer.role;
        role.leader.filter(|_| role.mode == Mode::Observer).map(|leader| leader.0)
    }

    /// Whether clients may only read.
    pub(super) fn is_read_only(&self) -> bool {
        self.peer.role.mode == Mode::ReadOnly
    }
}

/// ZooKeeper shows -1 for a size that is not known yet, which is 0 here.
pub(super) fn or_minus_one(size: i64) -> i64 {
    if size == 0 { -1 } else { size }
}
