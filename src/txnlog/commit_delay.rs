//! Decides whether the next sync waits a moment for the next writes of the clients that the last sync released.
//!
//! Clients that wait for each reply tend to split into two groups: while the records of one group are being synced,
//! those of the other queue up, so every write takes two syncs. Waiting until the first group has sent its next writes
//! joins them: there is one sync for all, and a write takes one sync and the wait. The wait ends as soon as all
//! expected records have arrived. It is never longer than half of the last sync, and if the expected records do not
//! come, the next syncs do not wait.

/// After failures, waiting is tried again after at most this many syncs.
const MOST_SKIPPED: u32 = 63;

/// The state machine. It counts records; a client may have several under way.
#[derive(Clone, Debug)]
pub(super) struct CommitDelay {
    /// The longest wait in nanoseconds; 0 means never.
    most_ns: u64,
    /// Number of records that the last sync made durable: their clients may send new ones.
    released: u64,
    /// Number of records that arrived during that sync; `None` until the mailbox was found empty once.
    queued: Option<u64>,
    until_ns: u64,
    has_waited: bool,
    /// Number of syncs that will not wait.
    skip: u32,
    failures: u32,
}

impl CommitDelay {
    pub(super) fn new(most_ns: u64) -> CommitDelay {
        CommitDelay { most_ns, released: 0, queued: None, until_ns: 0, has_waited: false, skip: 0, failures: 0 }
    }

    /// A sync of `records` records, which took `took_ns`, has just returned.
    pub(super) fn synced(&mut self, now_ns: u64, records: u64, took_ns: u64) {
        assert!(records > 0, "a sync that made no record durable");
        self.released = records;
        self.queued = None;
        self.has_waited = false;
        self.until_ns = now_ns + (took_ns / 2).min(self.most_ns);
        self.skip = self.skip.saturating_sub(1);
    }

    /// The mailbox is empty and `pending` records are waiting: returns whether their sync should wait for more.
    pub(super) fn is_expected(&mut self, now_ns: u64, pending: u64) -> bool {
        let queued = *self.queued.get_or_insert(pending);
        assert!(pending >= queued, "{queued} records waited, and now {pending} do: nothing was synced in between");
        if pending == 0 || self.skip > 0 {
            return false;
        }
        if now_ns < self.until_ns && pending < queued + self.released {
            self.has_waited = true;
            return true;
        }
        if self.has_waited {
            self.judge(pending - queued);
        }
        false
    }

    /// The time at which [`CommitDelay::is_expected`] returns false at the latest.
    pub(super) fn until_ns(&self) -> u64 {
        self.until_ns
    }

    /// Judges a wait. If it ended before nearly all expected records had come, the disk was idle for nothing.
    fn judge(&mut self, came: u64) {
        assert!(self.has_waited, "a wait is judged that was none");
        assert!(self.released > 0, "a wait for nobody is judged");
        self.has_waited = false;
        if came * 8 >= self.released * 7 {
            self.failures = 0;
        } else {
            self.failures = (self.failures * 2 + 1).min(MOST_SKIPPED);
            self.skip = self.failures + 1;
        }
    }

    /// Its invariants.
    pub(super) fn check(&self) {
        assert!(self.failures <= MOST_SKIPPED, "{} failures are counted", self.failures);
        assert!(self.skip <= MOST_SKIPPED + 1, "{} syncs are not to wait", self.skip);
        assert!(!self.has_waited || self.queued.is_some(), "it waited before the mailbox was empty");
        assert!(!self.has_waited || self.most_ns > 0, "it waited though it never may");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1_000;

    #[test]
    fn one_client_never_waits() {
        let mut c = CommitDelay::new(MOST);
        for n in 0..100 {
            c.synced(n * 1_000, 1, 600);
            assert!(!c.is_expected(n * 1_000, 0));
            assert!(!c.is_expected(n * 1_000 + 10, 1));
        }
    }

    #[test]
    fn two_groups_become_one() {
        let mut c = CommitDelay::new(MOST);
        // 32 records were synced while 32 others queued: wait until the clients of the first have sent again, and no
        // longer than that.
        c.synced(0, 32, 600);
        assert!(c.is_expected(1, 32));
        assert_eq!(c.until_ns(), 300);
        assert!(c.is_expected(100, 63));
        assert!(!c.is_expected(120, 64));
        // From then on none arrive during a sync, and the 64 wait for each other.
        c.synced(800, 64, 600);
        assert!(!c.is_expected(800, 0));
        assert!(c.is_expected(820, 10));
        assert!(!c.is_expected(900, 64));
    }

    #[test]
    fn the_wait_is_half_a_sync_and_bounded() {
        let mut c = CommitDelay::new(MOST);
        c.synced(0, 8, 600);
        assert!(c.is_expected(299, 1) && !c.is_expected(300, 7));
        let mut c = CommitDelay::new(MOST);
        c.synced(0, 8, 1_000_000);
        assert!(c.is_expected(999, 1) && !c.is_expected(1_000, 7));
        let mut never = CommitDelay::new(0);
        never.synced(0, 8, 600);
        assert!(!never.is_expected(0, 1));
    }

    #[test]
    fn it_gives_up_on_those_who_do_not_come_and_tries_again() {
        let mut c = CommitDelay::new(MOST);
        let mut waits = Vec::new();
        for n in 0..400u64 {
            let now = n * 10_000;
            c.synced(now, 10, 600);
            if c.is_expected(now, 1) {
                waits.push(n);
                assert!(!c.is_expected(now + 300, 2));
            }
        }
        assert_eq!(waits, [0, 2, 6, 14, 30, 62, 126, 190, 254, 318, 382]);
        // As soon as the records come again, every sync waits again.
        while !c.is_expected(0, 1) {
            c.synced(0, 10, 600);
        }
        assert!(!c.is_expected(10, 11));
        c.synced(1_000, 11, 600);
        assert!(c.is_expected(1_000, 1));
    }
}
