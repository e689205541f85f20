//! The live sessions of a leader and when each expires. Mirrors `SessionTrackerImpl` and `ExpiryQueue`.
//!
//! A session last heard of at `t` expires at `((t + timeout) / tick + 1) * tick` on the monotonic clock: after its timeout, and
//! at most one tick later. Sessions that expire at the same time form a bucket. A touch only stores the new time. The session moves
//! to the bucket of that time when its old bucket is due. So a touch costs one hash lookup, and a session moves about once per
//! timeout, however often it is touched.
//!
//! # After a pause
//!
//! After a process was stopped (SIGSTOP, a stalled disk, a migrated machine) every session is overdue, while the clients' pings
//! are still unread in its sockets. Two rules keep these sessions alive. First, in each turn the caller handles all its inputs
//! (touches, pings of learners) before it calls [`expire`](SessionTracker::expire). Second, a call that comes [`LATE_TICKS`] late
//! expires no session, but gives all of them one more tick; if every call is that late, no session ever expires. A leader of others,
//! whose learners tell whom they heard from only when they are asked, calls [`hold`](SessionTracker::hold) already when it missed a
//! tick. When many
//! sessions expire, each call returns up to [`EXPIRE_BATCH`] of them, and [`deadline`](SessionTracker::deadline) is due at once
//! while more are left, so that touches are handled in between.

use super::ids::SessionIds;
use crate::types::{ErrorCode, Now, Origin, ServerId, SessionId};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};

/// The most sessions one [`SessionTracker::expire`] returns.
pub const EXPIRE_BATCH: usize = 1_000;

/// The most bucket entries one [`SessionTracker::expire`] looks at. Most belong to touched sessions, which move to a later bucket.
pub const EXPIRE_STEPS: usize = 8_000;

/// If a call comes this many ticks after it was due, and after the call before, the process was paused.
pub const LATE_TICKS: i64 = 2;

struct Session {
    timeout_ms: i32,
    /// When it expires, unless touched.
    expires_ms: i64,
    /// The bucket it is in, never after `expires_ms`; `i64::MAX` once it has been returned as expired.
    bucket_ms: i64,
    closing: bool,
    owner: Option<Origin>,
}

/// A place in the list of sessions: a bucket, and how many of its entries come before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpiryPlace {
    bucket_ms: i64,
    entry: usize,
}

/// Tracks sessions until they expire: on a leader the global ones, on a learner its local ones.
pub struct SessionTracker {
    tick_ms: i64,
    ids: SessionIds,
    sessions: HashMap<SessionId, Session, RandomState>,
    /// By time of expiry. An entry whose session is gone, or is in another bucket, is dropped when it is due.
    buckets: BTreeMap<i64, VecDeque<SessionId>>,
    /// When `expire` was last called.
    called_ms: i64,
    /// After a pause, no session expires before this.
    hold_until_ms: i64,
}

impl SessionTracker {
    /// A tracker without sessions. `tick_ms` must be positive.
    pub fn new(server: ServerId, now: Now, tick_ms: i32) -> SessionTracker {
        assert!(tick_ms > 0, "tickTime {tick_ms} must be positive");
        SessionTracker {
            tick_ms: i64::from(tick_ms),
            ids: SessionIds::new(server, now),
            sessions: HashMap::default(),
            buckets: BTreeMap::new(),
            called_ms: now.mono_ms,
            hold_until_ms: i64::MIN,
        }
    }

    /// A new session with an id of its own. `timeout_ms` is the negotiated one.
    pub fn create(&mut self, now: Now, timeout_ms: i32) -> SessionId {
        let id = self.new_id();
        self.insert(id, timeout_ms, now);
        id
    }

    /// An id for a session that is tracked elsewhere.
    pub fn new_id(&mut self) -> SessionId {
        loop {
            let id = self.ids.next_id();
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Forgets all sessions.
    pub fn clear(&mut self) {
        self.sessions.clear();
        self.buckets.clear();
    }

    /// Tracks a session made elsewhere or recovered from disk, with its full timeout from now. If it was tracked already, it is
    /// touched and gets this timeout, unless it is closing, and the result is `false`. No later [`create`](Self::create)
    /// returns this id.
    pub fn insert(&mut self, id: SessionId, timeout_ms: i32, now: Now) -> bool {
        self.ids.skip(id);
        let expires_ms = self.moment(now.mono_ms, timeout_ms);
        if let Some(session) = self.sessions.get_mut(&id) {
            if !session.closing {
                (session.timeout_ms, session.expires_ms) = (timeout_ms, expires_ms);
                if expires_ms < session.bucket_ms {
                    session.bucket_ms = expires_ms;
                    self.buckets.entry(expires_ms).or_default().push_back(id);
                }
            }
            return false;
        }
        let session = Session { timeout_ms, expires_ms, bucket_ms: expires_ms, closing: false, owner: None };
        self.sessions.insert(id, session);
        self.buckets.entry(expires_ms).or_default().push_back(id);
        true
    }

    /// The session was heard at `heard_ms` on the monotonic clock. `false` if it is unknown or closing. A time before
    /// the last known one changes nothing.
    pub fn touch(&mut self, id: SessionId, heard_ms: i64) -> bool {
        let tick_ms = self.tick_ms;
        match self.sessions.get_mut(&id) {
            Some(session) if !session.closing => {
                session.expires_ms = session.expires_ms.max(moment(heard_ms, session.timeout_ms, tick_ms));
                true
            }
            _ => false,
        }
    }

    /// Whether the session is tracked, closing or not.
    pub fn is_known(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Whether the session is tracked and closing.
    pub fn is_closing(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|s| s.closing)
    }

    /// The session's timeout in milliseconds.
    pub fn timeout_of(&self, id: SessionId) -> Option<i32> {
        self.sessions.get(&id).map(|s| s.timeout_ms)
    }

    /// From now on the session is refused: its closeSession is under way. `false` if it is unknown or was closing already.
    pub fn mark_closing(&mut self, id: SessionId) -> bool {
        self.sessions.get_mut(&id).is_some_and(|s| !std::mem::replace(&mut s.closing, true))
    }

    /// Forgets the session: its closeSession is applied. `false` if it is unknown.
    pub fn remove(&mut self, id: SessionId) -> bool {
        self.sessions.remove(&id).is_some()
    }

    /// Makes `owner` the connection that may write for this session: at createSession and when the session is resumed.
    /// `SESSIONEXPIRED` if it is unknown or closing.
    pub fn set_owner(&mut self, id: SessionId, owner: Origin) -> Result<(), ErrorCode> {
        match self.sessions.get_mut(&id) {
            Some(session) if !session.closing => {
                session.owner = Some(owner);
                Ok(())
            }
            _ => Err(ErrorCode::SessionExpired),
        }
    }

    /// The connection that may write for this session, once one has.
    pub fn owner(&self, id: SessionId) -> Option<Origin> {
        self.sessions.get(&id)?.owner
    }

    /// Whether a write of this session may come from `owner`, who becomes its owner if it has none (after a change of
    /// leader). `UNKNOWNSESSION` (which is `SESSIONEXPIRED` to a client of a global session), `SESSIONEXPIRED` when closing,
    /// `SESSIONMOVED` when another connection has taken the session over.
    pub fn check_owner(&mut self, id: SessionId, owner: Origin) -> Result<(), ErrorCode> {
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::UnknownSession)?;
        if session.closing {
            return Err(ErrorCode::SessionExpired);
        }
        if *session.owner.get_or_insert(owner) == owner { Ok(()) } else { Err(ErrorCode::SessionMoved) }
    }

    /// No session expires within the next tick. To be called after a pause in which other servers could not tell whom they heard
    /// from, however short it was.
    pub fn hold(&mut self, now: Now) {
        self.hold_until_ms = self.hold_until_ms.max(now.mono_ms + self.tick_ms);
    }

    /// Marks up to [`EXPIRE_BATCH`] sessions that are due as closing and returns them, earliest first; each once. The caller
    /// submits a closeSession for each, and has handled its touches before (see "After a pause" above). Sessions that are
    /// closing already are skipped. The work of one call is bounded, so sessions may be left even when the result is empty:
    /// [`deadline`](Self::deadline) tells.
    pub fn expire(&mut self, now: Now) -> Vec<SessionId> {
        let now_ms = now.mono_ms;
        let called_ms = std::mem::replace(&mut self.called_ms, now_ms);
        let mut expired = Vec::new();
        let Some((&first_ms, _)) = self.buckets.first_key_value() else { return expired };
        if now_ms < first_ms || now_ms < self.hold_until_ms {
            return expired;
        }
        if now_ms - first_ms.max(called_ms).max(self.hold_until_ms) >= LATE_TICKS * self.tick_ms {
            self.hold_until_ms = now_ms + self.tick_ms;
            return expired;
        }
        for _ in 0..EXPIRE_STEPS {
            let Some(mut entry) = self.buckets.first_entry() else { break };
            let due_ms = *entry.key();
            if due_ms > now_ms || expired.len() == EXPIRE_BATCH {
                break;
            }
            match entry.get_mut().pop_front() {
                None => drop(entry.remove()),
                Some(id) => expired.extend(self.due(id, due_ms)),
            }
        }
        expired
    }

    /// An entry is due: returns its session if that has expired.
    fn due(&mut self, id: SessionId, due_ms: i64) -> Option<SessionId> {
        let session = self.sessions.get_mut(&id).filter(|s| s.bucket_ms == due_ms)?;
        if session.closing {
            session.bucket_ms = i64::MAX;
            return None;
        }
        if session.expires_ms > due_ms {
            session.bucket_ms = session.expires_ms;
            self.buckets.entry(session.expires_ms).or_default().push_back(id);
            return None;
        }
        session.closing = true;
        session.bucket_ms = i64::MAX;
        Some(id)
    }

    /// When [`expire`](Self::expire) wants to be called next, on the monotonic clock in milliseconds; `None` while there is
    /// nothing to expire. May be earlier than the first expiry, to move touched sessions.
    pub fn deadline(&self) -> Option<i64> {
        let (&first_ms, _) = self.buckets.first_key_value()?;
        Some(first_ms.max(self.hold_until_ms))
    }

    /// When a session expires unless it is touched, in monotonic milliseconds. `None` if it is not known or has expired.
    pub fn expires_ms(&self, id: SessionId) -> Option<i64> {
        self.sessions.get(&id).filter(|s| s.bucket_ms != i64::MAX).map(|s| s.expires_ms)
    }

    /// A piece of the list of sessions that can expire, with their times of expiry in monotonic milliseconds: of at most `most`
    /// entries from `place` on. Also where the next piece begins, unless this is the last. Sessions that come, go or are touched
    /// between two pieces may be missing.
    pub fn list(&self, place: ExpiryPlace, most: usize) -> (Vec<(i64, SessionId)>, Option<ExpiryPlace>) {
        let (mut found, mut left) = (Vec::new(), most);
        for (&bucket_ms, ids) in self.buckets.range(place.bucket_ms..) {
            let begin = if bucket_ms == place.bucket_ms { place.entry.min(ids.len()) } else { 0 };
            for (entry, id) in ids.iter().enumerate().skip(begin) {
                let Some(rest) = left.checked_sub(1) else { return (found, Some(ExpiryPlace { bucket_ms, entry })) };
                left = rest;
                let here = self.sessions.get(id).filter(|s| s.bucket_ms == bucket_ms && !s.closing);
                found.extend(here.map(|s| (s.expires_ms, *id)));
            }
        }
        (found, None)
    }

    /// Number of tracked sessions, the closing ones among them.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    fn moment(&self, heard_ms: i64, timeout_ms: i32) -> i64 {
        moment(heard_ms, timeout_ms, self.tick_ms)
    }

    /// Asserts the invariants: every session that can still expire is in the bucket it names, and not in a later one than its own.
    pub fn check(&self) {
        let mut standing: HashMap<SessionId, usize> = HashMap::new();
        for (moment_ms, ids) in &self.buckets {
            assert_eq!(moment_ms.rem_euclid(self.tick_ms), 0, "bucket {moment_ms} is no whole tick");
            for id in ids {
                if self.sessions.get(id).is_some_and(|s| s.bucket_ms == *moment_ms) {
                    *standing.entry(*id).or_default() += 1;
                }
            }
        }
        for (id, session) in &self.sessions {
            let gone = session.bucket_ms == i64::MAX;
            assert!(!gone || session.closing, "{id} is alive but would never expire");
            assert!(gone || session.bucket_ms <= session.expires_ms, "{id} would expire late");
            assert!(gone != standing.contains_key(id), "{id} is in no bucket, or in one after its end");
        }
    }
}

fn moment(heard_ms: i64, timeout_ms: i32, tick_ms: i64) -> i64 {
    (heard_ms.saturating_add(i64::from(timeout_ms)).div_euclid(tick_ms) + 1) * tick_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnId, ShardId};

    const TICK: i64 = 2_000;

    fn at(mono_ms: i64) -> Now {
        // The wall clock runs backwards here: nothing may depend on it.
        Now { mono_ms, wall_ms: 1_700_000_000_000 - 7 * mono_ms, ..Now::default() }
    }

    fn client(conn: u64) -> Origin {
        Origin::Local { shard: ShardId(0), conn: ConnId(conn) }
    }

    fn tracker() -> SessionTracker {
        SessionTracker::new(ServerId(1), at(0), TICK as i32)
    }

    /// What a caller does in a turn: expires until nothing is due.
    fn drain(t: &mut SessionTracker, now_ms: i64) -> Vec<SessionId> {
        let mut all = Vec::new();
        while t.deadline().is_some_and(|due_ms| due_ms <= now_ms) {
            all.extend(t.expire(at(now_ms)));
        }
        t.check();
        all
    }

    #[test]
    fn a_session_lives_between_its_timeout_and_a_tick_more() {
        for heard_ms in [0, 1, 999, 1_999, 2_000, 2_001] {
            let mut t = tracker();
            let id = t.create(at(heard_ms), 5_000);
            let expired_ms = (heard_ms..).find(|ms| t.expire(at(*ms)) == [id]).unwrap();
            assert!((heard_ms + 5_001..=heard_ms + 5_000 + TICK).contains(&expired_ms), "{heard_ms}: {expired_ms}");
            assert_eq!(expired_ms, ((heard_ms + 5_000) / TICK + 1) * TICK);
        }
    }

    #[test]
    fn touches_prolong_and_never_shorten() {
        let mut t = tracker();
        let id = t.create(at(0), 5_000);
        assert!(t.touch(id, 4_000));
        assert!(t.touch(id, 1_000), "late news from a learner");
        assert_eq!(drain(&mut t, 6_000), []);
        assert_eq!(t.deadline(), Some(10_000));
        assert_eq!(t.expires_ms(id), Some(10_000));
        assert_eq!(drain(&mut t, 9_999), []);
        assert_eq!(drain(&mut t, 10_000), [id]);
        assert!(!t.touch(id, 10_000), "it is closing");
        assert_eq!(drain(&mut t, 12_000), [], "each is returned once");
        assert!(t.is_known(id) && t.is_closing(id) && t.expires_ms(id).is_none());
        assert!(t.remove(id) && !t.remove(id) && !t.is_known(id) && !t.touch(id, 12_000));
    }

    #[test]
    fn a_closing_session_does_not_expire() {
        let mut t = tracker();
        let id = t.create(at(0), 5_000);
        assert!(t.mark_closing(id) && !t.mark_closing(id));
        assert_eq!(t.set_owner(id, client(1)), Err(ErrorCode::SessionExpired));
        assert_eq!(drain(&mut t, 8_000), []);
        assert_eq!(t.count(), 1, "until its closeSession is applied");
        assert!(!t.mark_closing(SessionId(5)));
    }

    #[test]
    fn a_write_from_another_connection_is_refused_once_the_session_moved() {
        let mut t = tracker();
        let (a, b) = (client(1), client(2));
        let id = t.create(at(0), 5_000);
        assert_eq!(t.owner(id), None);
        assert_eq!(t.check_owner(id, a), Ok(()));
        assert_eq!(t.check_owner(id, b), Err(ErrorCode::SessionMoved));
        assert_eq!(t.set_owner(id, b), Ok(()));
        assert_eq!((t.check_owner(id, a), t.owner(id)), (Err(ErrorCode::SessionMoved), Some(b)));
        t.mark_closing(id);
        assert_eq!(t.check_owner(id, b), Err(ErrorCode::SessionExpired));
        t.remove(id);
        assert_eq!(t.check_owner(id, b), Err(ErrorCode::UnknownSession));
    }

    #[test]
    fn recovered_ids_are_never_given_again() {
        let mut t = tracker();
        let first = SessionId::first(ServerId(1), 0);
        assert!(t.insert(SessionId(first.0 + 3), 4_000, at(10)));
        assert!(!t.insert(SessionId(first.0 + 3), 6_000, at(10)));
        assert_eq!(t.timeout_of(SessionId(first.0 + 3)), Some(6_000));
        assert!(t.insert(SessionId(first.0 + (9 << 56) + 50), 4_000, at(10)));
        assert_eq!(t.create(at(10), 4_000), SessionId(first.0 + 4));
        t.check();
    }

    #[test]
    fn a_shorter_timeout_on_insert_is_kept() {
        let mut t = tracker();
        let id = t.create(at(0), 40_000);
        t.insert(id, 4_000, at(0));
        assert_eq!(drain(&mut t, 6_000), [id]);
        assert_eq!(drain(&mut t, 42_000), []);
    }

    #[test]
    fn entries_of_sessions_that_left_do_not_pile_up() {
        let mut t = tracker();
        let id = SessionId(77);
        for tick in 0..10 {
            t.insert(id, 5_000, at(tick * TICK));
            assert!(tick == 9 || t.remove(id));
        }
        assert_eq!(t.buckets.values().map(VecDeque::len).sum::<usize>(), 10);
        for tick in 3..12 {
            assert_eq!(drain(&mut t, tick * TICK), []);
        }
        assert_eq!(t.buckets.values().map(VecDeque::len).sum::<usize>(), 1, "its own");
        assert_eq!(drain(&mut t, 12 * TICK), [id]);
    }

    #[test]
    fn after_a_pause_everybody_gets_a_tick_to_be_heard() {
        let mut t = tracker();
        let (quiet, pinging) = (t.create(at(0), 5_000), t.create(at(0), 5_000));
        assert_eq!(t.expire(at(1_000_000)), [], "stopped for a quarter of an hour");
        assert_eq!(t.deadline(), Some(1_000_000 + TICK));
        assert_eq!(t.expire(at(1_001_999)), []);
        assert!(t.touch(pinging, 1_001_999), "its ping was in the socket all the while");
        assert_eq!(drain(&mut t, 1_002_000), [quiet]);
        assert_eq!(t.expire(at(2_000_000)), [], "stopped again");
        assert_eq!(drain(&mut t, 2_000_000 + TICK), [pinging]);
    }

    #[test]
    fn nobody_expires_while_others_are_asked() {
        let mut t = tracker();
        let (quiet, pinging) = (t.create(at(0), 5_000), t.create(at(0), 5_000));
        t.hold(at(6_500));
        assert_eq!((t.expire(at(6_500)), t.deadline()), (vec![], Some(6_500 + TICK)));
        assert!(t.touch(pinging, 7_000), "another server heard from it");
        assert_eq!(drain(&mut t, 6_500 + TICK), [quiet]);
    }

    #[test]
    fn long_quiet_is_no_pause() {
        let mut t = tracker();
        let id = t.create(at(0), 40_000);
        assert_eq!(t.expire(at(42_000)), [id], "called when due, though not before");
        assert_eq!(t.deadline(), None);
    }

    #[test]
    fn sessions_are_listed_in_pieces_by_expiry() {
        let mut t = tracker();
        let (first, last, gone, middle) =
            (t.create(at(0), 4_000), t.create(at(0), 40_000), t.create(at(0), 4_000), t.create(at(0), 10_000));
        t.remove(gone);
        t.touch(first, 1_000);
        let all = [(6_000, first), (12_000, middle), (42_000, last)];
        for most in 1..6 {
            let (mut listed, mut place) = (Vec::new(), Some(ExpiryPlace::default()));
            while let Some(from) = place {
                let (piece, next) = t.list(from, most);
                assert!(piece.len() <= most, "{piece:?}");
                listed.extend(piece);
                place = next;
            }
            assert_eq!(listed, all, "in pieces of {most}");
        }
        t.mark_closing(middle);
        assert_eq!(t.list(ExpiryPlace::default(), 9), (vec![all[0], all[2]], None));
    }

    #[test]
    fn a_flood_of_expiries_comes_in_batches_and_lets_touches_in() {
        let mut t = tracker();
        let ids: Vec<_> = (0..20_000).map(|_| t.create(at(0), 5_000)).collect();
        let mut expired = t.expire(at(6_000));
        assert_eq!(expired, ids[..EXPIRE_BATCH]);
        assert_eq!(t.deadline(), Some(6_000), "more are due at once");
        for id in &ids[EXPIRE_BATCH..15_000] {
            assert!(t.touch(*id, 6_000), "heard between two batches");
        }
        expired.extend(drain(&mut t, 6_001));
        assert_eq!(expired.len(), 6_000);
        assert!(expired[EXPIRE_BATCH..] == ids[15_000..]);
        assert_eq!(t.deadline(), Some(12_000));
    }

    #[test]
    fn the_work_of_one_call_is_bounded() {
        let mut t = tracker();
        let ids: Vec<_> = (0..3 * EXPIRE_STEPS).map(|_| t.create(at(0), 5_000)).collect();
        ids.iter().for_each(|id| assert!(t.touch(*id, 5_000)));
        assert_eq!(t.expire(at(6_000)), []);
        assert_eq!(t.buckets.values().map(VecDeque::len).collect::<Vec<_>>(), [2 * EXPIRE_STEPS, EXPIRE_STEPS]);
        assert_eq!(drain(&mut t, 6_000), []);
        assert_eq!(t.deadline(), Some(12_000));
    }

    /// The same sessions in a plain map, which is searched as a whole.
    #[derive(Default)]
    struct Model {
        sessions: BTreeMap<SessionId, (i32, i64, bool, Option<Origin>)>,
        given: Vec<SessionId>,
    }

    impl Model {
        fn due(&mut self, now_ms: i64) -> Vec<SessionId> {
            let due = self.sessions.iter_mut().filter(|(_, s)| s.1 <= now_ms && !s.2);
            due.map(|(id, s)| {
                s.2 = true;
                *id
            })
            .collect()
        }
    }

    fn step(rng: &mut fastrand::Rng, t: &mut SessionTracker, m: &mut Model, now_ms: i64) {
        let timeout_ms = rng.i32(1..20_000);
        let expires = |heard_ms: i64, timeout_ms: i32| ((heard_ms + i64::from(timeout_ms)) / TICK + 1) * TICK;
        if m.given.is_empty() || rng.u32(..10) == 0 {
            let id = t.create(at(now_ms), timeout_ms);
            assert!(!m.given.contains(&id), "{id} is given twice");
            m.given.push(id);
            m.sessions.insert(id, (timeout_ms, expires(now_ms, timeout_ms), false, None));
            return;
        }
        let id = m.given[rng.usize(..m.given.len())];
        let known = m.sessions.get_mut(&id);
        let owner = Origin::Local { shard: ShardId(rng.u32(..2)), conn: ConnId(rng.u64(..2)) };
        match rng.u32(..12) {
            0 => {
                assert_eq!(t.insert(id, timeout_ms, at(now_ms)), known.is_none());
                match known {
                    Some(s) if !s.2 => (s.0, s.1) = (timeout_ms, expires(now_ms, timeout_ms)),
                    Some(_) => {}
                    None => drop(m.sessions.insert(id, (timeout_ms, expires(now_ms, timeout_ms), false, None))),
                }
            }
            1 => assert_eq!(t.remove(id), m.sessions.remove(&id).is_some()),
            2 => {
                let open = known.is_some_and(|s| !std::mem::replace(&mut s.2, true));
                assert_eq!(t.mark_closing(id), open);
            }
            3 => {
                let open = known.filter(|s| !s.2);
                assert_eq!(t.set_owner(id, owner).is_ok(), open.is_some());
                open.into_iter().for_each(|s| s.3 = Some(owner));
            }
            4 => {
                let expected = match known {
                    None => Err(ErrorCode::UnknownSession),
                    Some(s) if s.2 => Err(ErrorCode::SessionExpired),
                    Some(s) if s.3.is_some_and(|o| o != owner) => Err(ErrorCode::SessionMoved),
                    Some(s) => {
                        s.3 = Some(owner);
                        Ok(())
                    }
                };
                assert_eq!(t.check_owner(id, owner), expected);
            }
            _ => {
                let heard_ms = now_ms - rng.i64(0..TICK).min(now_ms);
                let open = known.filter(|s| !s.2);
                assert_eq!(t.touch(id, heard_ms), open.is_some());
                open.into_iter().for_each(|s| s.1 = s.1.max(expires(heard_ms, s.0)));
            }
        }
    }

    #[test]
    fn the_tracker_and_the_model_are_not_to_be_told_apart() {
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut t, mut m) = (tracker(), Model::default());
            let mut now_ms = 0;
            for _ in 0..400 {
                step(&mut rng, &mut t, &mut m, now_ms);
                if rng.bool() {
                    now_ms += rng.i64(0..TICK);
                    let mut expired = drain(&mut t, now_ms);
                    expired.sort();
                    assert_eq!(expired, m.due(now_ms), "seed {seed} at {now_ms}");
                }
                assert_eq!(t.count(), m.sessions.len());
            }
            for (id, s) in &m.sessions {
                assert_eq!((t.timeout_of(*id), t.is_closing(*id), t.owner(*id)), (Some(s.0), s.2, s.3), "seed {seed}");
            }
            let open: Vec<_> = m.sessions.iter().filter(|(_, s)| !s.2).map(|(id, s)| (s.1, *id)).collect();
            assert!(open.iter().all(|(ms, id)| t.expires_ms(*id) == Some(*ms)), "seed {seed}");
        }
    }
}
