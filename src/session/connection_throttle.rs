//! The token bucket that limits new connections. Mirrors `BlueThrottle`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Settings of [`ConnectionThrottle`], under the names of their properties (`zookeeper.connection_throttle_…`).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ThrottleSettings {
    /// `tokens`: size of the bucket; 0 (or less) switches the throttle off.
    pub tokens: i32,
    /// `fill_time` in milliseconds.
    pub fill_time_ms: i32,
    /// `fill_count`: tokens that come back per fill time.
    pub fill_count: i32,
    /// `freeze_time` in milliseconds between two changes of the drop probability; -1 switches random dropping off.
    pub freeze_time_ms: i32,
    /// `drop_increase`: added to the drop probability when the bucket is empty.
    pub drop_increase: f64,
    /// `drop_decrease`: taken from it when the bucket is nearly full.
    pub drop_decrease: f64,
    /// `decrease_ratio`: nearly full means that at most this share of the tokens is missing.
    pub decrease_ratio: f64,
    /// `weight_enabled`: connect requests cost different numbers of tokens.
    pub weighted: bool,
    /// Which, if so.
    pub weights: Weights,
}

impl Default for ThrottleSettings {
    fn default() -> ThrottleSettings {
        ThrottleSettings {
            tokens: 0,
            fill_time_ms: 1,
            fill_count: 1,
            freeze_time_ms: -1,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weighted: false,
            weights: Weights::DEFAULT,
        }
    }
}

/// Tokens each kind of connect request costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// `global_session_weight`.
    pub global: i32,
    /// `local_session_weight`.
    pub local: i32,
    /// `renew_session_weight`.
    pub renew: i32,
}

impl Weights {
    /// ZooKeeper's weights: a global session costs about three times as much as a local one.
    pub const DEFAULT: Weights = Weights { global: 3, local: 1, renew: 2 };

    /// The weights that the server uses if these are configured: a weight that is not positive is replaced by its
    /// default, and one below the local weight by the local weight.
    pub fn corrected(self) -> Weights {
        let local = if self.local <= 0 { Weights::DEFAULT.local } else { self.local };
        let fit = |asked: i32, default: i32| if asked <= 0 { default } else { asked.max(self.local) };
        Weights {
            global: fit(self.global, Weights::DEFAULT.global),
            local,
            renew: fit(self.renew, Weights::DEFAULT.renew),
        }
    }
}

/// What a connect request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A new global session.
    Global,
    /// A new local session.
    Local,
    /// A session that exists.
    Renew,
}

/// A token bucket that refills with time, with BLUE's random dropping in front of it.
#[derive(Clone, Debug)]
pub struct ConnectionThrottle {
    settings: ThrottleSettings,
    /// What each kind costs, if not one token.
    weights: Option<Weights>,
    max_tokens: i64,
    fill_count: i64,
    tokens: i64,
    filled_ms: i64,
    frozen_ms: i64,
    drop: f64,
}

impl ConnectionThrottle {
    /// A full bucket. With weights, tokens and fill count are understood as numbers of global sessions.
    pub fn new(settings: ThrottleSettings, now_ms: i64) -> ConnectionThrottle {
        let weights = settings.weighted.then(|| settings.weights.corrected());
        let unit = i64::from(weights.map_or(1, |w| w.global));
        let max_tokens = i64::from(settings.tokens.max(0)) * unit;
        ConnectionThrottle {
            settings,
            weights,
            max_tokens,
            fill_count: i64::from(settings.fill_count.max(0)) * unit,
            tokens: max_tokens,
            filled_ms: now_ms,
            frozen_ms: now_ms,
            drop: 0.0,
        }
    }

    /// Whether a connect request is accepted; if so, takes its tokens. `random` is a fresh random number in 0..1.
    pub fn admit(&mut self, now_ms: i64, wanted: Wanted, random: f64) -> bool {
        if self.max_tokens == 0 {
            return true;
        }
        let fill_time_ms = i64::from(self.settings.fill_time_ms.max(1));
        let since_ms = now_ms - self.filled_ms;
        if since_ms > fill_time_ms {
            let refill = since_ms.saturating_mul(self.fill_count) / fill_time_ms;
            self.tokens = self.tokens.saturating_add(refill).min(self.max_tokens);
            self.filled_ms = now_ms;
        }
        if self.settings.freeze_time_ms != -1 {
            self.adapt(now_ms);
            if random < self.drop {
                return false;
            }
        }
        let need = self.need(wanted);
        let enough = self.tokens >= need;
        if enough {
            self.tokens -= need;
        }
        enough
    }

    /// Adapts the drop probability, at most once per freeze time.
    fn adapt(&mut self, now_ms: i64) {
        if now_ms - self.frozen_ms <= i64::from(self.settings.freeze_time_ms) {
            return;
        }
        let nearly_full = (self.max_tokens as f64 * self.settings.decrease_ratio).round() as i64;
        if self.tokens == 0 {
            self.drop = (self.drop + self.settings.drop_increase).min(1.0);
        } else if self.deficit() <= nearly_full {
            self.drop = (self.drop - self.settings.drop_decrease).max(0.0);
        }
        self.frozen_ms = now_ms;
    }

    fn need(&self, wanted: Wanted) -> i64 {
        i64::from(self.weights.map_or(1, |w| match wanted {
            Wanted::Global => w.global,
            Wanted::Local => w.local,
            Wanted::Renew => w.renew,
        }))
    }

    /// Number of missing tokens: the `connection_token_deficit` metric.
    pub fn deficit(&self) -> i64 {
        self.max_tokens - self.tokens
    }

    /// The `connection_drop_probability` metric.
    pub fn drop_probability(&self) -> f64 {
        self.drop
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        assert!((0..=self.max_tokens).contains(&self.tokens), "{} of {} tokens", self.tokens, self.max_tokens);
        assert!((0.0..=1.0).contains(&self.drop), "drop probability {}", self.drop);
    }
}

/// A [`ConnectionThrottle`] shared by all shards of a process. Handshakes are rare, so a lock is fast enough.
#[derive(Debug)]
pub struct SharedConnectionThrottle {
    inner: Mutex<(ConnectionThrottle, fastrand::Rng)>,
}

impl SharedConnectionThrottle {
    /// A full bucket. `seed` decides which connections are dropped at random.
    pub fn new(settings: ThrottleSettings, now_ms: i64, seed: u64) -> SharedConnectionThrottle {
        let throttle = ConnectionThrottle::new(settings, now_ms);
        SharedConnectionThrottle { inner: Mutex::new((throttle, fastrand::Rng::with_seed(seed))) }
    }

    fn inner(&self) -> MutexGuard<'_, (ConnectionThrottle, fastrand::Rng)> {
        // A panic ends the process, so the lock is never found poisoned.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`ConnectionThrottle::admit`]; if accepted, returns the deficit after it.
    pub fn admit(&self, now_ms: i64, wanted: Wanted) -> Option<i64> {
        let (throttle, rng) = &mut *self.inner();
        let random = rng.f64();
        throttle.admit(now_ms, wanted, random).then(|| throttle.deficit())
    }

    /// The `connection_drop_probability` metric.
    pub fn drop_probability(&self) -> f64 {
        self.inner().0.drop_probability()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(tokens: i32, fill_time_ms: i32, fill_count: i32) -> ThrottleSettings {
        ThrottleSettings { tokens, fill_time_ms, fill_count, ..ThrottleSettings::default() }
    }

    fn admitted(t: &mut ConnectionThrottle, now_ms: i64, tries: usize) -> usize {
        (0..tries).filter(|_| t.admit(now_ms, Wanted::Global, 0.5)).count()
    }

    #[test]
    fn no_tokens_means_no_throttle() {
        let mut t = ConnectionThrottle::new(bucket(0, 1, 1), 0);
        assert_eq!(admitted(&mut t, 0, 1_000), 1_000);
        let mut t = ConnectionThrottle::new(bucket(-5, 1, 1), 0);
        assert!(t.admit(0, Wanted::Renew, 0.0));
    }

    #[test]
    fn a_burst_empties_the_bucket_and_time_fills_it() {
        let mut t = ConnectionThrottle::new(bucket(10, 100, 2), 1_000);
        assert_eq!(admitted(&mut t, 1_000, 15), 10);
        assert_eq!(t.deficit(), 10);
        assert_eq!(admitted(&mut t, 1_100, 5), 0, "not before the fill time is over");
        assert_eq!(admitted(&mut t, 1_250, 5), 5);
        assert_eq!(admitted(&mut t, i64::MAX, 100), 10, "never more than the bucket holds");
        t.check();
        let mut zero = ConnectionThrottle::new(bucket(1, 0, 1), 0);
        assert_eq!(admitted(&mut zero, 5, 3), 1, "a fill time of 0 does not divide by it");
    }

    #[test]
    fn random_dropping_adapts_to_the_bucket() {
        let settings =
            ThrottleSettings { freeze_time_ms: 10, drop_increase: 0.4, drop_decrease: 0.3, ..bucket(1, 1_000_000, 1) };
        let mut t = ConnectionThrottle::new(settings, 0);
        assert!(t.admit(1, Wanted::Global, 0.0), "nothing is dropped at first");
        for (now_ms, probability) in [(5, 0.0), (11, 0.4), (15, 0.4), (22, 0.8), (33, 1.0), (44, 1.0)] {
            assert!(!t.admit(now_ms, Wanted::Global, 0.999));
            assert_eq!(t.drop_probability(), probability, "at {now_ms}");
            t.check();
        }
        assert!(!t.admit(3_000_000, Wanted::Global, 0.5), "the bucket is full, but most are still dropped");
        assert!((t.drop_probability() - 0.7).abs() < 1e-9);
        assert!(t.admit(3_000_001, Wanted::Global, 0.71));
    }

    #[test]
    fn weights_scale_bucket_and_cost() {
        let settings = ThrottleSettings { weighted: true, ..bucket(2, 1_000, 1) };
        let mut t = ConnectionThrottle::new(settings, 0);
        assert!(t.admit(0, Wanted::Global, 0.5) && t.admit(0, Wanted::Renew, 0.5) && t.admit(0, Wanted::Local, 0.5));
        assert!(!t.admit(0, Wanted::Local, 0.5));
        assert_eq!(t.deficit(), 6);
        assert_eq!(Weights { global: 2, local: 4, renew: 0 }.corrected(), Weights { global: 4, local: 4, renew: 2 });
        assert_eq!(Weights { global: -1, local: 0, renew: 5 }.corrected(), Weights { global: 3, local: 1, renew: 5 });
    }

    #[test]
    fn shards_share_one_bucket_and_the_same_seed_drops_the_same() {
        let shared = SharedConnectionThrottle::new(bucket(2, 1_000_000, 1), 0, 7);
        assert_eq!([0; 3].map(|_| shared.admit(1, Wanted::Global)), [Some(1), Some(2), None]);
        let adaptive =
            ThrottleSettings { freeze_time_ms: 0, drop_increase: 0.1, drop_decrease: 0.1, ..bucket(1, 2, 1) };
        let run = |seed| {
            let t = SharedConnectionThrottle::new(adaptive, 0, seed);
            let step = |ms| (t.admit(ms, Wanted::Global).is_some(), t.drop_probability() > 0.0);
            (1..300).map(step).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert!(run(1).iter().any(|(_, drops)| *drops));
        assert!((2..9).any(|seed| run(seed) != run(1)), "the seed decides nothing");
    }
}
