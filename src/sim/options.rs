//! What a run is asked for, and what it tells of itself.

/// `tickTime` of members in milliseconds.
pub(super) const TICK_MS: i32 = 200;

/// Most bytes of the data of a packet between members.
pub(super) const PACKET_LIMIT: usize = 4 << 20;

/// Options of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Number of random choices for each server before the world is brought to rest; `None`: 3000 for a server that is alone,
    /// for members as many as the seed says.
    pub steps: Option<u64>,
    /// Print every event.
    pub verbose: bool,
    /// The log thread reports syncs that it did not do: a test that the simulator notices.
    pub lie_about_syncs: bool,
    /// The servers; `None`: the seed says how many.
    pub crew: Option<Crew>,
}

/// The servers of a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crew {
    /// Voting members. One without observers is a standalone server.
    pub members: usize,
    /// Observers of the ensemble.
    pub observers: usize,
}

impl Crew {
    /// A standalone server.
    pub const ALONE: Crew = Crew { members: 1, observers: 0 };

    /// Whether it is a standalone server.
    pub fn is_alone(self) -> bool {
        self == Crew::ALONE
    }

    /// The crew that a seed chooses: three and five members most often, as people run them.
    pub(super) fn random(rng: &mut fastrand::Rng) -> Crew {
        let members = [1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7][rng.usize(..11)];
        Crew { members, observers: [0, 0, 0, 1, 1, 2][rng.usize(..6)] }
    }
}

/// Counts of what happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Summary {
    /// The hash of all events, in order.
    pub hash: u64,
    pub txns: u64,
    pub replies: u64,
    pub events: u64,
    pub sessions: u64,
    pub expired: u64,
    /// Starts of the server process after the first.
    pub restarts: u64,
    /// Snapshots, then files removed by the purge, faults that occurred, and recoveries from copied disks that were
    /// checked.
    pub snapshots: u64,
    pub purged: u64,
    pub faults: u64,
    pub peeks: u64,
    /// Snapshots that administrators asked for and were told to be durable.
    pub asked: u64,
    /// Of an ensemble: leaders that were established, proposals that were never committed, histories that were cut or replaced,
    /// and faults of the network.
    pub leaders: u64,
    pub dropped: u64,
    pub replaced: u64,
    pub net_faults: u64,
    /// Directories that were lost, and starts of observers without a log.
    pub wiped: u64,
    pub without_log: u64,
}
