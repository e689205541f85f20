//! Sessions: ids, passwords, expiry, the throttle for new connections and the bound on large requests. Mirrors
//! `SessionTracker`.

pub mod connection_throttle;
pub mod ids;
pub mod large_requests;
pub mod passwd;
pub mod table;
pub mod tracker;

pub use connection_throttle::SharedConnectionThrottle;
pub use ids::SessionIds;
pub use large_requests::LargeRequests;
pub use passwd::passwd_matches;
pub use table::SessionTable;
pub use tracker::SessionTracker;

/// The timeout of a session in milliseconds: what the client asked for, but within the server's bounds. If the lower
/// bound is above the upper one, the upper one wins, as in ZooKeeper.
pub fn clamp(wish_ms: i32, min_ms: i32, max_ms: i32) -> i32 {
    wish_ms.max(min_ms).min(max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_is_kept_within_bounds() {
        let got = [i32::MIN, 0, 4_000, 10_000, 40_000, i32::MAX].map(|wish| clamp(wish, 4_000, 40_000));
        assert_eq!(got, [4_000, 4_000, 4_000, 10_000, 40_000, 40_000]);
        assert_eq!(clamp(10, 40, 20), 20, "crossed bounds do not panic");
    }
}
