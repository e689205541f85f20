//! Finds empty containers and expired TTL nodes that can be deleted. It only submits requests: validation decides again
//! whether each may be deleted. Mirrors `ContainerManager`.

use std::collections::VecDeque;

use crate::tree::Tree;
use crate::types::Now;

/// Settings of the sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// `znode.container.checkIntervalMs`.
    pub interval_ms: i64,
    /// `znode.container.maxPerMinute`; at least 1.
    pub max_per_minute: i64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0: a container that never had a child stays.
    pub max_never_used_ms: i64,
}

/// When to search next, and the paths from the last search that are still to be proposed.
#[derive(Debug)]
pub(super) struct Sweep {
    options: SweepOptions,
    next_ms: i64,
    queue: VecDeque<String>,
}

impl Sweep {
    pub(super) fn new(options: SweepOptions, now: Now) -> Sweep {
        let next_ms = now.mono_ms + options.interval_ms;
        Sweep { options, next_ms, queue: VecDeque::new() }
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        (self.options.interval_ms > 0).then_some(self.next_ms)
    }

    /// Paths to propose now: searches at every interval, then returns as many as the rate allows.
    pub(super) fn due(&mut self, now: Now, tree: &Tree) -> Vec<String> {
        if self.options.interval_ms <= 0 || now.mono_ms < self.next_ms {
            return Vec::new();
        }
        if self.queue.is_empty() {
            self.queue.extend(tree.container_candidates(now.wall_ms, self.options.max_never_used_ms));
            self.queue.extend(tree.ttl_candidates(now.wall_ms));
        }
        // As many per step as the rate allows in ten milliseconds, but at least one.
        let per_step = (self.options.max_per_minute * 10 / 60_000).max(1);
        let step_ms = (60_000 * per_step / self.options.max_per_minute.max(1)).max(1);
        let take = self.queue.len().min(per_step as usize);
        let paths: Vec<String> = self.queue.drain(..take).collect();
        self.next_ms = now.mono_ms + if self.queue.is_empty() { self.options.interval_ms } else { step_ms };
        paths
    }
}
