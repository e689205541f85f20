//! Which faults a world has, and how often. A world of members has a random part of all faults: faults hide each other, and a
//! world that has everything never comes far ("swarm testing", Groce et al. 2012).

/// A fault, or a check of what it would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// A process is killed, perhaps by a power failure.
    Kill,
    /// One of the next disk operations fails.
    Disk,
    /// The wall clock jumps.
    WallClock,
    /// Old files are purged.
    Purge,
    /// Recovery from a copy of the disk.
    Peek,
    /// The same, of a copy with a flipped bit.
    Rot,
    /// Administrators ask for a snapshot.
    Snapshot,
    /// A member's directory is lost.
    Wipe,
    /// A bit flips on a member's disk while no process runs.
    Damage,
    /// Nothing passes from one member to another.
    OneWay,
    /// The network falls into two parts.
    Split,
    /// Everything passes again.
    Heal,
    /// A connection between members breaks.
    Break,
    /// A process stands still while others go on.
    Pause,
    /// Nothing.
    Nothing,
}

/// What a server that is alone meets, of a hundred.
const ALONE: [(Trouble, u32); 8] = [
    (Trouble::Kill, 4),
    (Trouble::Disk, 12),
    (Trouble::WallClock, 6),
    (Trouble::Purge, 18),
    (Trouble::Peek, 10),
    (Trouble::Rot, 6),
    (Trouble::Snapshot, 14),
    (Trouble::Nothing, 30),
];

/// What a member meets in a world that has everything.
const MEMBER: [(Trouble, u32); 14] = [
    (Trouble::Kill, 8),
    (Trouble::Disk, 16),
    (Trouble::WallClock, 6),
    (Trouble::Purge, 12),
    (Trouble::Peek, 6),
    (Trouble::Rot, 4),
    (Trouble::Snapshot, 10),
    (Trouble::Wipe, 6),
    (Trouble::Damage, 4),
    (Trouble::OneWay, 8),
    (Trouble::Split, 6),
    (Trouble::Heal, 14),
    (Trouble::Break, 10),
    (Trouble::Pause, 6),
];

/// The faults of a world.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    weights: Vec<(Trouble, u32)>,
    total: u32,
}

impl Swarm {
    /// The faults of a server that is alone.
    pub(super) fn alone() -> Swarm {
        Swarm::new(ALONE.to_vec())
    }

    /// A random part of what members meet, in random proportions.
    pub(super) fn random(rng: &mut fastrand::Rng) -> Swarm {
        let mut weights = MEMBER.to_vec();
        for (trouble, weight) in &mut weights {
            *weight *= [0, 1, 1, 5][rng.usize(..4)];
            // What was broken can always be repaired.
            if *trouble == Trouble::Heal {
                *weight = (*weight).max(4);
            }
        }
        Swarm::new(weights)
    }

    fn new(weights: Vec<(Trouble, u32)>) -> Swarm {
        let total = weights.iter().map(|(_, weight)| weight).sum();
        Swarm { weights, total }
    }

    /// What happens next.
    pub(super) fn choose(&self, rng: &mut fastrand::Rng) -> Trouble {
        let mut at = rng.u32(..self.total);
        for (trouble, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *trouble,
            }
        }
        unreachable!("{at} is behind all of {self:?}")
    }
}
